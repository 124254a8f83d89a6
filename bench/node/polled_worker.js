// A worker with a heartbeat column: inserts its row and writes the time to it once a second.
// Usage: polled_worker.js NAME
import pg from 'pg';
import { connection, endWithInput, say } from './common.js';

endWithInput();
const client = new pg.Client(connection);
await client.connect();
const { rows: [{ id }] } = await client.query("INSERT INTO polled (name) VALUES ($1) RETURNING id", [process.argv[2]]);
setInterval(() => client.query({ name: 'beat', text: 'UPDATE polled SET heartbeat_at = now() WHERE id = $1', values: [id] }), 1000);
say({ id });
