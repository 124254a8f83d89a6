"""A sync with SQLAlchemy (1.4 or 2), whose products are fenced: they are committed only while the run is still ours.

The application inserts its row itself, as it always did, and takes a lease for it. A thread beats through the engine's pool.
fence() is the last statement before each COMMIT of the products: a worker that was frozen, reaped and woke up again fails
there, and its products are rolled back.

Connects by the usual PG* variables. Usage: sqlalchemy_worker.py [seconds of work | fail]
"""
import contextlib
import json
import signal
import sys
import threading
import time

import sqlalchemy as sa

TTL = "3 seconds"
BEAT = 0.75  # seconds: four in a ttl
engine = sa.create_engine("postgresql+psycopg2://", future=True, pool_size=2)


class Reaped(Exception):
    """The guard has closed the run: its work must not go on."""


class Run:
    def __init__(self, key, token):
        self.key, self.token = key, token
        self.done = self.total = None
        self.reaped = threading.Event()
        self.ended = threading.Event()

    def beat(self):
        while not self.ended.wait(BEAT):
            try:
                with engine.begin() as connection:
                    alive = connection.scalar(sa.select(sa.func.sync_guard.heartbeat(self.token, self.done, self.total)))
            except sa.exc.OperationalError:
                continue  # the next beat may come through; the ttl has room for it
            if not alive:
                self.reaped.set()
                return

    @contextlib.contextmanager
    def products(self):
        """A transaction for a part of the work."""
        if self.reaped.is_set():
            raise Reaped(f"run {self.key} was reaped")
        with stale_is_reaped(), engine.begin() as connection:
            yield connection
            connection.execute(sa.select(sa.func.sync_guard.fence(self.token)))

    def finish(self, status, errors=None):
        self.ended.set()
        with stale_is_reaped(), engine.begin() as connection:
            connection.execute(sa.text("SELECT sync_guard.finish_sync(:token, :status, CAST(:errors AS jsonb))"),
                               {"token": self.token, "status": status, "errors": json.dumps(errors) if errors else None})


@contextlib.contextmanager
def stale_is_reaped():
    try:
        yield
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "pgcode", None) == "SY003":  # stale token
            raise Reaped(str(error.orig).strip()) from None
        raise


@contextlib.contextmanager
def guarded_run(**values):
    with engine.begin() as connection:
        key = connection.scalar(sa.text(
            "INSERT INTO app.emag_sync_logs (id, sync_type, account_type, operation, status, started_at, total_items,"
            " processed_items, created_items, updated_items, failed_items, pages_processed, api_requests_made, rate_limit_hits,"
            " created_at, updated_at)"
            " VALUES (gen_random_uuid(), :sync_type, :account_type, :operation, 'running', now() AT TIME ZONE 'UTC',"
            " 0, 0, 0, 0, 0, 0, 0, 0, now() AT TIME ZONE 'UTC', now() AT TIME ZONE 'UTC') RETURNING id"), values)
        token = connection.scalar(
            sa.text("SELECT sync_guard.take_lease('app.emag_sync_logs', CAST(:key AS uuid), ttl => CAST(:ttl AS interval))"),
            {"key": str(key), "ttl": TTL})
    run = Run(key, token)
    threading.Thread(target=run.beat, daemon=True).start()
    try:
        yield run
    except Reaped:
        raise
    except BaseException as error:  # KeyboardInterrupt and SystemExit too: the run ends, and is told why
        run.finish("failed", [f"{type(error).__name__}: {error}"])
        raise
    else:
        run.finish("completed")
    finally:
        run.ended.set()


def work(run, seconds, fail):
    run.total = max(int(seconds * 10), 1)
    for run.done in range(1, run.total + 1):
        time.sleep(0.1)
        if fail:
            raise ValueError("the shop refused the page")
        with run.products() as connection:
            connection.execute(sa.text("INSERT INTO app.products (sync_log_id) VALUES (:key)"), {"key": run.key})


def main(argument):
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end it by KeyboardInterrupt
    try:
        with guarded_run(sync_type="products", account_type="main", operation="full_sync") as run:
            print("started", run.key, flush=True)
            work(run, 1 if argument == "fail" else float(argument), argument == "fail")
        print("completed")
    except Reaped as error:
        print("stopped:", error)
        return 3
    except ValueError as error:
        print("failed:", error)
        return 1
    except KeyboardInterrupt:
        print("cancelled")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "1"))
