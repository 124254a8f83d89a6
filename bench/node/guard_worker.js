// A worker of the guard: one run, its lease bound to this session; then it works, and tells its progress once a second.
// Usage: guard_worker.js NAME, the run's sync_type
import pg from 'pg';
import { connection, endWithInput, say } from './common.js';

const name = process.argv[2];
endWithInput();
const client = new pg.Client(connection);
await client.connect();
const { rows: [{ key, token, pid }] } = await client.query(
  `SELECT key, token, pg_backend_pid() AS pid FROM sync_guard.start_sync('runs', jsonb_build_object('sync_type', $1::text),
                                                                        bind_session => true)`, [name]);
let done = 0;
setInterval(() => client.query({ name: 'beat', text: 'SELECT sync_guard.heartbeat($1, $2, 100)', values: [token, ++done] }), 1000);
say({ id: key, pid });
