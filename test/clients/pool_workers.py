"""Many workers behind a transaction pooler, and a reaper beside it, for a while. Each worker starts one run after the other,
beats, commits products under a fence, and finishes; where its connection breaks it comes back and asks again.

  pool_workers.py SECONDS WORKERS BIND TTL      BIND: bind_session, true or false

The pooler is at PGHOST and PGPORT; the reaper goes to the server itself, at DIRECT_HOST and DIRECT_PORT. Says "second N" as
time goes by, and at its end one line of figures. A run is *unsure* where its worker cannot know that it has it: the answer
to its start was lost, or the connection broke before the run was seen alive by its first heartbeat.
"""

import os
import sys
import threading
import time

import psycopg2

seconds, workers, bind, ttl = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
ends = time.monotonic() + seconds
lock = threading.Lock()
figures = dict.fromkeys(("runs", "beats", "reconnects", "stopped", "stale", "lost", "errors"), 0)
unsure, dead, troubles = set(), set(), []


def count(what, trouble=None):
    with lock:
        figures[what] += 1
        if trouble:
            troubles.append(trouble)


class Worker(threading.Thread):
    def __init__(self, number):
        super().__init__(daemon=True)
        self.name, self.connection = f"worker_{number}", None

    def connect(self):
        while True:
            try:
                self.connection = psycopg2.connect("")
                self.connection.autocommit = True
                return
            except psycopg2.OperationalError:
                time.sleep(0.02)

    def call(self, statement, *parameters, once=False):
        """The first value of the answer, and how often the connection broke until it came. `once`: give up at the first."""
        broken = 0
        while True:
            try:
                with self.connection.cursor() as cursor:
                    cursor.execute(statement, parameters)
                    return (cursor.fetchone()[0] if cursor.description else None), broken
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                count("reconnects")
                broken += 1
                self.connect()
                if once:
                    return None, broken

    def products(self, token, run):
        """A transaction of its own, closed by a fence."""
        while True:
            try:
                with self.connection.cursor() as cursor:
                    cursor.execute("BEGIN")
                    cursor.execute("INSERT INTO products VALUES (%s)", (run,))
                    cursor.execute("SELECT sync_guard.heartbeat(%s)", (token,))
                    cursor.execute("SELECT sync_guard.fence(%s)", (token,))
                    cursor.execute("COMMIT")
                return
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                count("reconnects")
                self.connect()
            except psycopg2.Error:
                self.call("ROLLBACK")
                raise

    def work(self, run):
        token, broken = self.call(
            "SELECT token FROM sync_guard.start_sync('runs', jsonb_build_object('sync_type', %s::text), ttl => %s, bind_session => %s)",
            run, ttl, bind, once=True)
        if token is None:
            unsure.add(run)
            return
        count("runs")
        for beat in range(12):
            alive, broken = self.call("SELECT sync_guard.heartbeat(%s, %s, 12)", token, beat)
            if broken and beat == 0:
                unsure.add(run)
            count("beats")
            if not alive:
                if run in unsure:
                    return
                count("stopped", f"{run}: stop at beat {beat}")
                return
            time.sleep(0.1)
        self.products(token, run)
        try:
            _, broken = self.call("SELECT sync_guard.finish_sync(%s, 'completed')", token)
        except psycopg2.Error as error:
            # Asked a second time, it was perhaps the first time that finished it.
            if error.pgcode != "SY003" or self.call("SELECT status FROM runs WHERE sync_type = %s", run)[0] != "completed":
                raise
        if self.call("SELECT status FROM runs WHERE sync_type = %s", run)[0] != "completed":
            count("lost", f"{run}: finished, and is not completed")

    def run(self):
        self.connect()
        number = 0
        while time.monotonic() < ends:
            number += 1
            run = f"{self.name}_{number}"
            try:
                self.work(run)
            except psycopg2.Error as error:
                if run not in unsure:
                    count("stale" if error.pgcode == "SY003" else "errors", f"{run}: {error.pgcode} {error}")


def reap(stop):
    """Reads and reaps all the time: whom it finds dead is noted."""
    connection = psycopg2.connect("", host=os.environ["DIRECT_HOST"], port=os.environ["DIRECT_PORT"])
    connection.autocommit = True
    cursor = connection.cursor()
    while not stop.is_set():
        cursor.execute("SELECT scope ->> 'sync_type' FROM sync_guard.stuck_syncs")
        dead.update(row[0] for row in cursor.fetchall())
        cursor.execute("SELECT sync_guard.reap_stale_syncs()")
        stop.wait(0.05)


stop = threading.Event()
reaper = threading.Thread(target=reap, args=(stop,), daemon=True)
reaper.start()
threads = [Worker(number) for number in range(1, workers + 1)]
for thread in threads:
    thread.start()
for second in range(1, int(seconds) + 1):
    time.sleep(max(0, ends - seconds + second - time.monotonic()))
    print("second", second, flush=True)
for thread in threads:
    thread.join(60)
stop.set()
reaper.join(60)
for trouble in troubles[:20]:
    print("trouble:", trouble)
print("unsure:", *sorted(unsure))
print("false:", *sorted(dead - unsure))
print(" ".join(f"{what}={figure}" for what, figure in figures.items()), f"hanging={sum(thread.is_alive() for thread in threads)}", flush=True)
