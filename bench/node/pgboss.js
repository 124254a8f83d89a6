// The real pg-boss. Usage: pgboss.js ROLE SCHEMA [default | fastest] [COUNT]
//   prepare     installs its schema, makes the queue
//   supervisor  an instance that only looks after the others; says "ready"
//   worker      fetches one job and works on it until it dies; says its id
//   claimed     claims COUNT jobs and leaves them claimed; says their ids and the statement of its heartbeat
// Fastest: heartbeats every 5 s that are missed after 10 s, the shortest time it accepts (they are off unless told), supervised
// every second, the shortest again. (expireInSeconds may be 1, and would end every job that takes longer, alive or not.) No retry,
// so that the dead job is one that failed.
import { PgBoss } from 'pg-boss';
import * as plans from 'pg-boss/dist/plans.js';
import { complain, connection, endWithInput, forEver, say } from './common.js';

const [role, schema, settings, count] = process.argv.slice(2);
const QUEUE = 'sync';
const fastest = settings === 'fastest';
const boss = new PgBoss({
  ...connection, schema, ...(fastest ? { superviseIntervalSeconds: 1, monitorIntervalSeconds: 1 } : {}),
});
boss.on('error', complain);

async function claim() {
  const wanted = Number(count);
  await boss.insert(QUEUE, Array.from({ length: wanted }, (_, n) => ({ data: { page: n } })));
  const jobs = await boss.fetch(QUEUE, { batchSize: wanted });
  say({ ids: jobs.map((job) => job.id), statement: plans.touchJobs(schema, 'job_common', true) });
}

const stays = role === 'supervisor' || role === 'worker';
if (stays) endWithInput();
await boss.start();
if (role === 'prepare') {
  await boss.createQueue(QUEUE, fastest ? { heartbeatSeconds: 10, retryLimit: 0 } : {});
} else if (role === 'worker') {
  // Sent by who works on it: each worker takes one, whichever.
  await boss.send(QUEUE, { sync_type: 'products' });
  await boss.work(QUEUE, { pollingIntervalSeconds: 0.5 }, async ([job]) => {
    say({ id: job.id });
    await forEver();
  });
} else if (role === 'claimed') {
  await claim();
} else {
  say({ ready: true });
}
if (!stays) {
  await boss.stop({ graceful: false });
  process.exit(0);
}
