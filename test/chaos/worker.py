"""A worker: an operating system process of its own that carries out one planned run after the other, and notes what it does.
It kills and stops itself where the plan says so (a signal from within is as deadly as one from without, and comes when it
was decided); the driver wakes it, and puts another in its place.
"""

import os
import signal
import threading
import time

import links
from plan import plan_run

PATIENCE = 25.0  # seconds in which a broken connection is tried anew


class Over(Exception):
    """Nothing more is to be done for this run."""


class Worker:
    def __init__(self, folder, facts, seed, slot, wake_at):
        self.folder, self.facts, self.seed, self.slot = folder, facts, seed, slot
        self.wake_at = wake_at  # tells the driver when to wake us
        self.links, self.serial = {}, 0

    # ---- connections -------------------------------------------------------------------------------------------------
    def link(self, via):
        if via not in self.links:
            link = links.connect(self.folder, via, self.facts.name, patience=PATIENCE)
            self.serial += 1
            link.number = f"{self.facts.name}/{self.serial}"
            self.links[via] = link
            self.facts.fact("linked", link=link.number, via=via)
        return self.links[via]

    def drop(self, via, what):
        link = self.links.pop(via, None)
        if link is not None:
            self.facts.fact(what, link=link.number)

    def step(self, what, sql, *arguments, **values):
        """One statement, with its facts. Raises Lost or Refused."""
        link = self.link(self.plan.via)
        number = self.facts.do(what, run=self.plan.name, link=link.number, **values)
        try:
            rows = link.rows(sql, *arguments)
        except links.Lost as error:
            self.facts.did(number, "unknown", code=str(error)[:120])
            self.drop(self.plan.via, "lost")
            raise
        except links.Refused as error:
            self.facts.did(number, "no", code=error.code, **({} if error.code.startswith("SY") else {"text": str(error)[:300]}))
            raise
        value = [str(cell) for cell in rows[0]] if rows else link.touched
        self.facts.did(number, "yes", value=value)
        return rows[0] if rows else link.touched

    # ---- the end of this process ---------------------------------------------------------------------------------------
    def die(self):
        self.facts.fact("dies", run=self.plan.name)
        os.kill(os.getpid(), signal.SIGKILL)

    def freeze(self, seconds):
        self.facts.fact("freezes", run=self.plan.name, seconds=seconds)
        self.wake_at.value = time.monotonic() + seconds
        os.kill(os.getpid(), signal.SIGSTOP)
        self.facts.fact("wakes", run=self.plan.name)

    # ---- a run ---------------------------------------------------------------------------------------------------------
    def insert(self):
        """The row, as an application inserts it; returns the key."""
        plan = self.plan
        if plan.table == "logs":
            sql = ("INSERT INTO app.emag_sync_logs (id, sync_type, account_type, operation, status, total_items, processed_items,"
                   " created_items, updated_items, failed_items, pages_processed, api_requests_made, rate_limit_hits, started_at)"
                   " VALUES ($1::text::uuid, $2::text, $3::text, $4::text, 'running', 0, 0, 0, 0, 0, 0, 0, 0,"
                   " clock_timestamp() AT TIME ZONE 'UTC') RETURNING id::text")
            arguments = (plan.key, plan.kind, plan.account, plan.name)
        elif plan.table == "jobs":
            sql = ("INSERT INTO app.jobs (id, name, kind, account, status) VALUES ($1::text::uuid, $2::text, $3::text, $4::text,"
                   " 'running') RETURNING id::text")
            arguments = (plan.key, plan.name, plan.kind, plan.account)
        else:
            sql = (f"INSERT INTO {plan.relation} (name, kind, status, started_at) VALUES ($1::text, $2::text, 'running',"
                   " clock_timestamp()) RETURNING id::text")
            arguments = (plan.name, plan.kind)
        return self.step("start", sql, *arguments)[0]

    def terms(self):
        """ttl, bind_session, worker, incarnation, as arguments 3 to 6; and as facts."""
        plan = self.plan
        name, incarnation = (self.slot, self.facts.name) if plan.named else (None, None)
        return f"{plan.ttl} seconds" if plan.ttl else None, plan.lease == "bound", name, incarnation

    def start(self):
        plan = self.plan
        self.token = None
        if plan.started_by == "start_sync":
            names = '"kind": "%s"' % plan.kind + (', "account": "%s"' % plan.account if plan.table == "jobs" else "")
            self.key, self.token = self.step(
                "start", "SELECT key, token FROM sync_guard.start_sync($1::text::regclass, $2::text::jsonb, $3::text::interval,"
                " $4::boolean, $5::text, $6::text)", plan.relation, '{"name": "%s", %s}' % (plan.name, names), *self.terms())
            return
        self.key = self.insert()
        if plan.lease != "none":
            self.token = self.step(
                "lease", "SELECT sync_guard.take_lease($1::text::regclass, $2::text, $3::text::interval, $4::boolean, $5::text,"
                " $6::text)", plan.relation, self.key, *self.terms())[0]

    def beat(self):
        if self.token is not None:
            if not self.step("beat", "SELECT sync_guard.heartbeat($1::bigint)", self.token)[0]:
                raise Over
            return
        activity = self.plan.table == "imports" and int(self.plan.key[0], 16) % 2 == 0
        counter = "processed_items" if self.plan.table == "logs" else "processed"
        what = "heartbeat_at = clock_timestamp()" if activity else f"{counter} = {counter} + 1"
        self.step("touch", f"UPDATE {self.plan.relation} SET {what} WHERE id = {self.key_sql()} AND status = 'running'",
                  self.key, activity=activity)

    def key_sql(self):
        return "$1::text::uuid" if self.plan.table in ("logs", "jobs") else "$1::text::bigint"

    def product(self):
        self.batch += 1
        self.step("product", "INSERT INTO app.products VALUES ($1::text, $2::bigint, $3::text, $4::boolean)", self.plan.name,
                  self.token, f"{self.plan.name}/{self.batch}", self.token is not None, batch=f"{self.plan.name}/{self.batch}")

    def roll_back(self):
        if self.plan.via in self.links:
            self.step("rollback", "ROLLBACK")

    def transaction(self, *within, then=lambda: None):
        """BEGIN, the steps, COMMIT; ROLLBACK where one is refused."""
        self.step("begin", "BEGIN")
        try:
            for step in within:
                step()
            then()
            self.step("commit", "COMMIT")
        except (links.Refused, Over):
            self.roll_back()
            raise

    def fence(self):
        if self.token is not None:
            self.step("fence", "SELECT sync_guard.fence($1::bigint)", self.token)

    def batch_of_products(self):
        self.transaction(self.product, self.fence)

    def finish(self, status="completed", by="finish_sync"):
        if by == "finish_sync" and self.token is not None:
            self.step("finish", "SELECT sync_guard.finish_sync($1::bigint, $2::text)", self.token, status, status=status)
        else:
            self.step("update", f"UPDATE {self.plan.relation} SET status = $2::text WHERE id = {self.key_sql()}", self.key,
                      status, status=status)

    def surely(self, call, *arguments):
        """Until it is answered: a beat or an end can be said again."""
        while True:
            try:
                return call(*arguments)
            except links.Lost:
                self.link(self.plan.via)

    # ---- how it ends -----------------------------------------------------------------------------------------------------
    def end(self):
        plan = self.plan
        if plan.end in ("completed", "failed"):
            self.surely(self.finish, plan.end, plan.end_by)
        elif plan.end == "twice":
            self.surely(self.finish, "completed", plan.end_by)
            self.finish("failed" if self.batch % 2 else "completed", "update")
        elif plan.end == "killed":
            if plan.in_midst is None:
                self.die()
            threading.Timer(plan.in_midst, self.die).start()
            self.try_all(("batch", "finish"))
            self.die()
        elif plan.end in ("frozen", "late"):
            self.be_silent(plan.beyond * plan.limit, plan.end == "frozen")
            self.try_all(plan.after if plan.end == "frozen" else ("finish",))
        elif plan.end == "open":
            self.abandon_in_transaction()
        elif plan.end == "closed":
            link = self.link(plan.via)
            number = self.facts.do("close", run=plan.name, link=link.number)
            del self.links[plan.via]
            link.close()
            self.facts.did(number, "yes")
        elif plan.end == "terminated":
            self.be_terminated()

    def be_silent(self, seconds, frozen):
        if frozen:
            self.freeze(seconds)
        else:
            time.sleep(seconds)

    def try_all(self, what):
        """What a zombie does: one thing after the other, whatever it is told."""
        tries = {"beat": self.beat, "batch": self.batch_of_products, "finish": self.finish,
                 "update": lambda: self.finish("completed", "update")}
        for one in what:
            try:
                tries[one]()
            except (links.Lost, links.Refused, Over):
                continue

    def be_terminated(self):
        if self.plan.via == "pooled":
            return  # the session is nobody's
        pid, link = self.link(self.plan.via).pid(), self.link(self.plan.via).number
        other = links.connect(self.folder, "psycopg2", self.facts.name + "/other", patience=PATIENCE)
        number = self.facts.do("terminate", run=self.plan.name, link=link)
        try:
            done = other.rows("SELECT pg_terminate_backend($1::integer)", pid)[0][0]
            self.facts.did(number, "yes", value=done)
            other.close()
        except (links.Lost, links.Refused):
            self.facts.did(number, "unknown")
        self.beat_dead_session()

    def beat_dead_session(self):
        """Notices that its session is gone; does not come back for the run."""
        try:
            self.step("noticed", "SELECT 1")
        except links.Lost:
            pass

    def touch_row(self):
        counter = "processed_items" if self.plan.table == "logs" else "processed"
        self.step("locked", f"UPDATE {self.plan.relation} SET {counter} = {counter} + 1 WHERE id = {self.key_sql()}", self.key)

    def abandon_in_transaction(self):
        plan = self.plan
        if plan.opened == "insert":
            within = [self.start]
        elif plan.opened == "fence" and self.token is not None:
            within = [self.product, self.fence]
        else:
            within = [self.touch_row]
        self.transaction(*within, then=self.leave_open)

    def leave_open(self):
        then = self.plan.then
        if then == "killed":
            self.die()
        if then == "frozen":
            self.freeze(self.plan.beyond * self.plan.limit)
        if then == "rollback":
            raise Over
        time.sleep(self.plan.pause)

    # ---- all of it -------------------------------------------------------------------------------------------------------
    def carry_out(self, number):
        self.plan = plan = plan_run(self.seed, self.slot, number)
        self.batch = 0
        self.facts.fact("plan", run=plan.name, table=plan.table, key=plan.key, kind=plan.kind, account=plan.account, via=plan.via,
                        lease=plan.lease, ttl=plan.ttl, named=plan.named, end=plan.end, started_by=plan.started_by,
                        opened=plan.opened, then=plan.then)
        try:
            if plan.end != "open" or plan.opened != "insert":
                self.start()
                for pause, what in plan.work:
                    time.sleep(pause)
                    if what == "beat":
                        self.surely(self.beat)
                    else:
                        self.batch_of_products()
                time.sleep(plan.pause)
            self.end()
        except (links.Lost, links.Refused, Over) as why:
            self.facts.fact("given_up", run=plan.name, why=type(why).__name__)

    def announce(self):
        """A new process under the old name: what the last one ran is dead."""
        link = links.connect(self.folder, "psycopg2", self.facts.name + "/boot", patience=PATIENCE)
        number = self.facts.do("announce", worker=self.slot)
        try:
            self.facts.did(number, "yes", value=link.rows(
                "SELECT sync_guard.worker_started($1::text, $2::text)", self.slot, self.facts.name)[0][0])
            link.close()
        except links.Lost:
            self.facts.did(number, "unknown")
        except links.Refused as error:
            self.facts.did(number, "no", code=error.code, text=str(error)[:300])

    def work(self, first, ends_at):
        try:
            if first > 1:
                self.announce()
            number = first
            while time.monotonic() < ends_at:
                self.carry_out(number)
                number += 1
        except links.Lost:
            pass  # a server that does not come back in so long: the driver starts another worker
        for via in list(self.links):
            link = self.links[via]
            self.drop(via, "closes")
            link.close()
        self.facts.fact("ends", next=number if first else 1)
