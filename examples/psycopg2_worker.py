"""A sync in a script or a cron job, with psycopg2 and a lease that is bound to its own connection.

No beats are needed: when the process dies, however it dies, the server sees its connection end and the run is closed within
milliseconds. It needs a connection of its own to the server itself (not through a pooler in transaction mode). Heartbeats
carry the progress, and tell when the run was reaped all the same.

Connects by the usual PG* variables. Usage: psycopg2_worker.py [seconds of work | fail]
"""
import contextlib
import json
import signal
import sys
import time

import psycopg2

TABLE = "app.emag_sync_logs"


class Reaped(Exception):
    """The guard has closed the run: its work must not go on."""


class Run:
    def __init__(self, connection, key, token):
        self.connection, self.key, self.token = connection, key, token

    def call(self, statement, *values):
        with self.connection.cursor() as cursor:
            try:
                cursor.execute(statement, (self.token, *values))
            except psycopg2.Error as error:
                if error.pgcode == "SY003":  # stale token
                    raise Reaped(str(error).strip()) from None
                raise
            return cursor.fetchone()[0]

    def progress(self, done, total):
        """A sign of life. Raises Reaped where the run is not ours any more."""
        if not self.call("SELECT sync_guard.heartbeat(%s, %s, %s)", done, total):
            raise Reaped(f"run {self.key} was reaped")

    def finish(self, status, errors=None):
        self.call("SELECT sync_guard.finish_sync(%s, %s, %s)", status, json.dumps(errors) if errors else None)


@contextlib.contextmanager
def guarded_run(values):
    connection = psycopg2.connect("")  # this run's own
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM sync_guard.start_sync(%s, %s, bind_session => true)", (TABLE, json.dumps(values)))
            run = Run(connection, *cursor.fetchone())
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
        connection.close()


def work(run, seconds, fail):
    total = max(int(seconds * 10), 1)
    for done in range(1, total + 1):
        time.sleep(0.1)
        if fail:
            raise ValueError("the shop refused the page")
        run.progress(done, total)


def main(argument):
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end it by KeyboardInterrupt
    try:
        with guarded_run({"sync_type": "products", "account_type": "main", "operation": "full_sync"}) as run:
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
