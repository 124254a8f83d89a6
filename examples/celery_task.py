"""A sync as a Celery task. The worker announces itself when it boots: whatever its former life left running is closed then.

WORKER is the name of this one replica (a StatefulSet's pod name, a systemd unit), the same after each restart; the incarnation
differs each time. A thread beats while the task runs. When the run was reaped, the task stops with Reaped.

Connects by the usual PG* variables; CELERY_BROKER_URL names the broker.
Usage: celery -A celery_task worker --pool=solo; then sync.delay(seconds) or sync.delay("fail")
"""
import contextlib
import json
import os
import threading
import time
import uuid

import celery
import psycopg2
from celery.signals import worker_init

WORKER = os.environ.get("WORKER", "sync-worker-0")
INCARNATION = str(uuid.uuid4())
TTL = "3 seconds"
BEAT = 0.75  # seconds: four in a ttl

app = celery.Celery("syncs", broker=os.environ.get("CELERY_BROKER_URL", "memory://"))
app.conf.broker_transport_options = {"data_folder_in": os.environ.get("BROKER_FOLDER", "."),
                                     "data_folder_out": os.environ.get("BROKER_FOLDER", ".")}
app.conf.task_ignore_result = True


class Reaped(Exception):
    """The guard has closed the run: its work must not go on."""


def ask(statement, *values):
    """One statement in a transaction of its own."""
    connection = psycopg2.connect("")
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement, values)
            return cursor.fetchone()
    finally:
        connection.close()


@worker_init.connect
def announce(**_):
    closed = ask("SELECT sync_guard.worker_started(%s, %s)", WORKER, INCARNATION)[0]
    print(f"announced {WORKER}: {closed} runs of its former life are closed", flush=True)


class Run:
    def __init__(self, key, token):
        self.key, self.token, self.done, self.total = key, token, None, None
        self.reaped, self.ended = threading.Event(), threading.Event()

    def beat(self):
        while not self.ended.wait(BEAT):
            with contextlib.suppress(psycopg2.OperationalError):  # the next beat may come through
                if not ask("SELECT sync_guard.heartbeat(%s, %s, %s)", self.token, self.done, self.total)[0]:
                    self.reaped.set()
                    return

    def check(self):
        if self.reaped.is_set():
            raise Reaped(f"run {self.key} was reaped")

    def finish(self, status, errors=None):
        self.ended.set()
        try:
            ask("SELECT sync_guard.finish_sync(%s, %s, %s)", self.token, status, json.dumps(errors) if errors else None)
        except psycopg2.Error as error:
            if error.pgcode == "SY003":  # stale token
                raise Reaped(str(error).strip()) from None
            raise


@contextlib.contextmanager
def guarded_run(values):
    run = Run(*ask("SELECT * FROM sync_guard.start_sync('app.emag_sync_logs', %s, ttl => %s, worker => %s, incarnation => %s)",
                   json.dumps(values), TTL, WORKER, INCARNATION))
    threading.Thread(target=run.beat, daemon=True).start()
    try:
        yield run
    except Reaped:
        raise
    except BaseException as error:  # a worker that shuts down at once raises SystemExit
        run.finish("failed", [f"{type(error).__name__}: {error}"])
        raise
    else:
        run.finish("completed")
    finally:
        run.ended.set()


@app.task(name="syncs.sync")
def sync(argument="1"):
    try:
        with guarded_run({"sync_type": "products", "account_type": "main", "operation": "full_sync"}) as run:
            print(f"started {run.key}", flush=True)
            run.total = 10 if argument == "fail" else max(int(float(argument) * 10), 1)
            for run.done in range(1, run.total + 1):
                time.sleep(0.1)
                if argument == "fail":
                    raise ValueError("the shop refused the page")
                run.check()
        print("completed", flush=True)
    except Reaped as error:
        print(f"stopped: {error}", flush=True)
