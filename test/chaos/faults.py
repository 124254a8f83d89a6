"""What is done to the servers, one fault after the other, in a process of its own. Each is a step among the facts: from when
on the server was attacked, and when it was there again."""

import os
import random
import re
import signal
import time

import psycopg2

import links

KINDS = ("fast", "immediate", "backend", "guard_worker", "postmaster", "promote")


def order(seed, count):
    """Every kind in turn, shuffled each time."""
    rng, kinds = random.Random(f"{seed}/faults"), []
    while len(kinds) < count:
        kinds += rng.sample(KINDS, len(KINDS))
    return kinds[:count]


class Injector:
    def __init__(self, pair, facts, seed):
        self.pair, self.facts = pair, facts
        self.rng, self.baits = random.Random(f"{seed}/injector"), 0

    def lives(self):
        """How often the primary has said that it is ready."""
        with open(self.pair.primary.log, encoding="utf-8", errors="replace") as file:
            return len(re.findall("database system is ready to accept connections", file.read()))

    def crash(self, pid):
        """Kills one of its processes, and waits until the server has been through it."""
        before = self.lives()
        self.facts.fact("kills", pid=pid)
        os.kill(pid, signal.SIGKILL)
        ends = time.monotonic() + 60
        while self.lives() == before:
            if time.monotonic() > ends:
                raise RuntimeError("the server does not come back from a crash")
            time.sleep(0.02)

    # ---- the faults ----------------------------------------------------------------------------------------------------
    def fast(self):
        self.pair.primary.stop("fast")
        self.pair.primary.start()

    def immediate(self):
        self.pair.primary.stop("immediate")
        self.pair.primary.start()

    def postmaster(self):
        os.kill(self.pair.primary.postmaster(), signal.SIGKILL)
        self.pair.primary.start()

    def backend(self):
        rows = self.pair.primary.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
                                     " AND application_name LIKE 'w%' ORDER BY backend_start, pid")
        self.crash(self.rng.choice(rows)[0] if rows else self.any_backend())

    def any_backend(self):
        return self.pair.primary.sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")[0][0]

    def promote(self):
        self.pair.in_step()
        if self.rng.random() < 0.5:
            os.kill(self.pair.primary.postmaster(), signal.SIGKILL)
            self.wait_for_end()
        else:
            self.pair.primary.stop(self.rng.choice(("fast", "immediate")))
        self.pair.swap()

    def wait_for_end(self):
        """Until the processes of a server without postmaster are gone: one that went on would be a second primary."""
        folder = self.pair.primary.data
        ends = time.monotonic() + 60
        while any(cwd_of(pid) == folder for pid in os.listdir("/proc") if pid.isdigit()):
            if time.monotonic() > ends:
                raise RuntimeError("processes of the killed server stay")
            time.sleep(0.02)

    def guard_worker(self):
        """A run dies with its session, but its row is locked: the guard's worker has to wait for it, and is killed there."""
        self.baits += 1
        name = f"bait-{self.baits}"
        self.facts.fact("plan", run=name, table="imports", key=None, kind="bait", account=None, via="psycopg2", lease="bound",
                        ttl=None, named=False, end="terminated", started_by="start_sync", opened=None, then=None)
        bound = links.connect(self.pair.folder, "psycopg2", "bait")
        holder = links.connect(self.pair.folder, "psycopg2", "holder")
        number = self.facts.do("start", run=name, link=name)
        rows = bound.rows("SELECT key, token FROM sync_guard.start_sync('app.imports', $1::text::jsonb, bind_session => true)",
                          '{"name": "%s", "kind": "bait"}' % name)
        self.facts.did(number, "yes", value=[str(value) for value in rows[0]])
        number = self.facts.do("begin", run=name, link=name + "/holder")
        holder.rows("BEGIN")
        holder.rows("SELECT FROM app.imports WHERE id = $1::text::bigint FOR UPDATE", str(rows[0][0]))
        ended = self.facts.do("terminate", run=name, link=name)
        self.pair.primary.sql(f"SELECT pg_terminate_backend({bound.pid()}, 5000)")
        self.facts.did(ended, "yes", value=True)
        self.crash(self.find_guard_worker())
        self.facts.did(number, "unknown")

    def find_guard_worker(self):
        connection = psycopg2.connect(host=self.pair.primary.folder, user="postgres", dbname="postgres")
        connection.autocommit = True
        ends = time.monotonic() + 20
        with connection.cursor() as cursor:
            while time.monotonic() < ends:
                cursor.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'emag_sync_guard worker'")
                row = cursor.fetchone()
                if row:
                    return row[0]
        raise RuntimeError("no worker of the guard came")

    # ---- all of it -----------------------------------------------------------------------------------------------------
    def inject(self, kind):
        number = self.facts.do("fault", kind=kind)
        getattr(self, kind)()
        self.pair.primary.wait_for("SELECT NOT pg_is_in_recovery()")
        self.facts.did(number, "yes")
        if kind == "promote":
            number = self.facts.do("rebuild")
            self.pair.follow()
            self.facts.did(number, "yes")

    def work(self, kinds, ends_at):
        """So many faults, spread over the time."""
        begun = time.monotonic()
        step = (ends_at - begun) / (len(kinds) + 1)
        for number, kind in enumerate(kinds, 1):
            time.sleep(max(0, begun + step * number - time.monotonic()))
            self.inject(kind)
        self.facts.fact("ends", primary=self.pair.primary.name)


def cwd_of(pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None
