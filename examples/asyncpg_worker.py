"""A sync in an asyncio application, with asyncpg and a pool: `async with guarded_run(...)`.

A heartbeat lease, so that it works through PgBouncer too: nothing is tied to one connection. A task beats while the work
goes on; when the guard says that the run is not ours any more, the work is cancelled and Reaped is raised. Every other way
out writes how the run ended: success, an exception, cancellation.

Connects by the usual PG* variables. Usage: asyncpg_worker.py [seconds of work | fail]
"""
import asyncio
import contextlib
import datetime
import json
import signal
import sys

import asyncpg

TABLE = "app.emag_sync_logs"
TTL = datetime.timedelta(seconds=3)


class Reaped(Exception):
    """The guard has closed the run: its work must not go on."""


class Run:
    def __init__(self, pool, key, token):
        self.pool, self.key, self.token = pool, key, token
        self.done = self.total = None
        self.reaped = False

    async def beat(self, worker):
        while True:
            await asyncio.sleep(TTL.total_seconds() / 4)
            try:
                alive = await self.pool.fetchval(
                    "SELECT sync_guard.heartbeat($1, $2, $3)", self.token, self.done, self.total)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                continue  # the next beat may come through; the ttl has room for it
            if not alive:
                self.reaped = True
                worker.cancel()
                return

    async def finish(self, status, errors=None):
        try:
            await self.pool.execute(
                "SELECT sync_guard.finish_sync($1, $2, $3::jsonb, $4::jsonb)", self.token, status,
                json.dumps(errors) if errors else None, json.dumps({"processed_items": self.done or 0}))
        except asyncpg.PostgresError as error:
            if error.sqlstate == "SY003":  # stale token
                raise Reaped(str(error)) from None
            raise


@contextlib.asynccontextmanager
async def guarded_run(pool, values):
    key, token = await pool.fetchrow(
        "SELECT * FROM sync_guard.start_sync($1::text::regclass, $2::jsonb, ttl => $3)", TABLE, json.dumps(values), TTL)
    run = Run(pool, key, token)
    beats = asyncio.create_task(run.beat(asyncio.current_task()))
    try:
        yield run
    except asyncio.CancelledError:
        if run.reaped:
            raise Reaped(f"run {key} was reaped") from None
        await asyncio.shield(run.finish("failed", ["cancelled"]))
        raise
    except Exception as error:
        await run.finish("failed", [f"{type(error).__name__}: {error}"])
        raise
    else:
        await run.finish("completed")
    finally:
        beats.cancel()


async def work(run, seconds, fail):
    run.total = max(int(seconds * 10), 1)
    for run.done in range(1, run.total + 1):
        await asyncio.sleep(0.1)
        if fail:
            raise ValueError("the shop refused the page")


async def main(argument):
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with asyncpg.create_pool(min_size=1, max_size=2) as pool:
        try:
            async with guarded_run(pool, {"sync_type": "products", "account_type": "main", "operation": "full_sync"}) as run:
                print("started", run.key, flush=True)
                await work(run, 1 if argument == "fail" else float(argument), argument == "fail")
            print("completed")
        except Reaped as error:
            print("stopped:", error)
            return 3
        except ValueError as error:
            print("failed:", error)
            return 1
        except asyncio.CancelledError:
            print("cancelled")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "1")))
