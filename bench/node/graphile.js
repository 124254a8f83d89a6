// The real graphile-worker. Usage: graphile.js ROLE SCHEMA [default | fastest]
//   prepare   installs its schema
//   survivor  an instance that has nothing to do but to look for locks that are too old; says "ready"
//   worker    adds one job and works on it until it dies; says its id
// Fastest: looks once a second. How old is too old, four hours, is fixed in its source.
import { makeWorkerUtils, run } from 'graphile-worker';
import { connection, endWithInput, forEver, say } from './common.js';

const [role, schema, settings] = process.argv.slice(2);
const fastest = settings === 'fastest' ? { minResetLockedInterval: 1000, maxResetLockedInterval: 1000 } : {};
const connectionString = `postgres://${connection.user}@/${connection.database}?host=${encodeURIComponent(connection.host)}`;

if (role === 'prepare') {
  const utils = await makeWorkerUtils({ connectionString, schema });
  await utils.migrate();
  await utils.release();
  process.exit(0);
}
endWithInput();
const task = role === 'worker' ? 'sync' : 'nothing';
const runner = await run({
  connectionString, schema, ...fastest, noHandleSignals: true,
  taskList: {
    [task]: async (payload, helpers) => {
      say({ id: String(helpers.job.id) });
      await forEver();
    },
  },
});
if (role === 'worker') {
  await runner.addJob('sync', { sync_type: 'products' });
} else {
  say({ ready: true });
}
