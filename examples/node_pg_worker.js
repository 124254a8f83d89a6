// A sync in Node.js, with pg and a pool: `guardedRun(pool, values, work)`.
//
// A heartbeat lease, so that it works through PgBouncer too. A timer beats while the work goes on; when the guard says that the
// run is not ours any more, the work's AbortSignal is aborted. Every other way out writes how the run ended.
//
// Connects by the usual PG* variables. Usage: node node_pg_worker.js [seconds of work | fail]
'use strict';
const { Pool } = require('pg');
const { setTimeout: sleep } = require('timers/promises');

const TABLE = 'app.emag_sync_logs';
const TTL_MS = 3000;

class Reaped extends Error {}
class Cancelled extends Error {}

async function guardedRun(pool, values, cancelled, work) {
  const { rows: [{ key, token }] } = await pool.query(
    'SELECT * FROM sync_guard.start_sync($1::text::regclass, $2::jsonb, ttl => $3::interval)',
    [TABLE, JSON.stringify(values), `${TTL_MS} milliseconds`]);
  const run = { key, done: null, total: null };
  const stop = new AbortController();
  cancelled.addEventListener('abort', () => stop.abort(new Cancelled('cancelled')));
  const beats = setInterval(async () => {
    try {
      const { rows: [{ alive }] } = await pool.query(
        'SELECT sync_guard.heartbeat($1, $2, $3) AS alive', [token, run.done, run.total]);
      if (!alive) stop.abort(new Reaped(`run ${key} was reaped`));
    } catch {
      // The next beat may come through; the ttl has room for it.
    }
  }, TTL_MS / 4);
  const finish = async (status, errors) => {
    try {
      await pool.query('SELECT sync_guard.finish_sync($1, $2, $3::jsonb, $4::jsonb)',
        [token, status, errors && JSON.stringify(errors), JSON.stringify({ processed_items: run.done || 0 })]);
    } catch (error) {
      throw error.code === 'SY003' ? new Reaped(error.message) : error; // stale token
    }
  };
  try {
    await work(run, stop.signal);
    stop.signal.throwIfAborted();
  } catch (error) {
    clearInterval(beats);
    const reason = stop.signal.aborted ? stop.signal.reason : error;
    if (!(reason instanceof Reaped)) await finish('failed', [`${reason.constructor.name}: ${reason.message}`]);
    throw reason;
  }
  clearInterval(beats);
  await finish('completed');
}

async function main(argument) {
  const pool = new Pool({ max: 2 });
  const cancelled = new AbortController();
  process.once('SIGTERM', () => cancelled.abort());
  const values = { sync_type: 'products', account_type: 'main', operation: 'full_sync' };
  try {
    await guardedRun(pool, values, cancelled.signal, async (run, signal) => {
      console.log('started', run.key);
      run.total = argument === 'fail' ? 10 : Math.max(Math.trunc(argument * 10), 1);
      for (run.done = 1; run.done <= run.total; run.done++) {
        await sleep(100, undefined, { signal });
        if (argument === 'fail') throw new Error('the shop refused the page');
      }
      run.done = run.total;
    });
    console.log('completed');
    return 0;
  } catch (error) {
    if (error instanceof Reaped) { console.log('stopped:', error.message); return 3; }
    if (error instanceof Cancelled) { console.log('cancelled'); return 2; }
    console.log('failed:', error.message);
    return 1;
  } finally {
    await pool.end();
  }
}

main(process.argv[2] || '1').then((code) => { process.exitCode = code; });
