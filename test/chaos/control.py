"""Control runs: chaos whose guard is broken on purpose, so that the invariants must fail. Each way to break it names those that
are broken by it for certain; the oracle has to find every one of them, by violations. (That it had nothing to look at is none.)
"""

import time

import psycopg2

import links
import oracle
from history import load
from plan import TABLES

# What is broken, and which invariants (functions of oracle.py) cannot hold then.
BREAKS = {
    "off": ("dead_are_closed", "scopes_are_exclusive", "nothing_is_lost"),
    "triggers": ("scopes_are_exclusive", "nothing_is_lost", "reaped_stay_reaped"),
    "limits": ("reaped_only_if_dead", "no_ghost_blocks", "no_dead_run_was_shown", "no_living_run_was_hidden",
               "is_running_is_right"),
    "tables": ("one_line_per_reaping", "late_finishes_are_noted", "fences_hold", "nothing_is_lost", "reaped_stay_reaped",
               "verdicts_fit", "leases_end", "left_open_at_the_end", "servers_were_well"),
    "grace": ("reaped_only_if_dead",),
}
# Nothing that can be done to a live server makes a token that is smaller than an earlier one: test_oracle.py makes it up.
ONLY_BY_STORY = ("tokens_grow",)

# The tables as a guard would leave them that does not do its work. Of each kind more than one, should a run be unknown to the oracle.
TAMPERED = (
    # Products of a run are committed once more, under its fence, after it was reaped.
    "UPDATE app.products SET batch = batch WHERE fenced AND token IN (SELECT token FROM sync_guard.leases WHERE end_reason = 'reaped')",
    # Acknowledged products are gone.
    "DELETE FROM app.products WHERE ctid IN (SELECT ctid FROM app.products LIMIT 3)",
    # Verdicts that a run without a lease cannot have.
    "UPDATE sync_guard.journal SET verdict = 'session_gone' WHERE id IN (SELECT id FROM sync_guard.journal AS j"
    " WHERE event = 'reaped' AND verdict = 'silent'"
    " AND NOT EXISTS (SELECT FROM sync_guard.leases AS l WHERE l.relation = j.relation AND l.run_key = j.run_key) LIMIT 3)",
    # Reapings without their lines.
    "DELETE FROM sync_guard.journal WHERE id IN (SELECT max(id) FROM sync_guard.journal WHERE event = 'reaped' GROUP BY relation)",
    # Late finishes without theirs.
    "DELETE FROM sync_guard.journal WHERE event = 'late_finish'",
    # Leases of ended runs that go on.
    "UPDATE sync_guard.leases SET ended_at = NULL, end_reason = NULL WHERE token IN"
    " (SELECT token FROM sync_guard.leases WHERE end_reason = 'finished' LIMIT 3)",
    # Reaped runs that are running again: dead, and open in the end.
    "UPDATE app.imports SET status = 'running', finished_at = NULL WHERE id IN (SELECT run_key::bigint FROM sync_guard.journal"
    " WHERE event = 'reaped' AND relation = 'app.imports'::regclass ORDER BY id LIMIT 3)",
)
INTERNAL_ERROR = "DO $$ BEGIN RAISE EXCEPTION 'planted' USING ERRCODE = 'XX000'; END $$"


class Breaker:
    """Takes the guard away for the middle of the time, in the process of the faults."""

    def __init__(self, folder, server, facts):
        self.folder, self.server, self.facts = folder, server, facts

    def work(self, how, ends_at):
        quarter = (ends_at - time.monotonic()) / 4
        time.sleep(quarter)
        number = self.facts.do("broken", how=how)
        getattr(self, how)(2 * quarter)
        self.facts.did(number, "yes")

    def off(self, seconds):
        """By its switch."""
        for value in ("off", "on"):
            self.server.sql(f"ALTER SYSTEM SET emag_sync_guard.enabled = {value}")
            self.server.sql("SELECT pg_reload_conf()")
            time.sleep(seconds if value == "off" else 0)

    def triggers(self, seconds):
        for what in ("DISABLE", "ENABLE"):
            for relation in self.relations():
                self.server.sql(f"ALTER TABLE {relation} {what} TRIGGER USER")
            time.sleep(seconds if what == "DISABLE" else 0)

    def limits(self, seconds):
        """Other limits than the runs have by the plan: first they are far too long, then far too short."""
        for factor, bait in ((20, "ghost"), (0.2, "alive"), (1, None)):
            for relation, _, silence, _, _ in TABLES.values():
                self.server.sql(f"UPDATE sync_guard.settings SET max_silence = interval '1 second' * {silence * factor}"
                                f" WHERE relation = '{relation}'::regclass")
            if bait:
                self.lay(bait, TABLES["jobs"][2] * (1.2 if bait == "ghost" else 0.5), seconds / 2)

    def lay(self, kind, silent, seconds):
        """What the workers meet by chance happens here for certain: a run is silent for so long in a scope of its own; then it is
        asked for, and another one wants to start there."""
        begun, link = time.monotonic(), links.connect(self.folder, "psycopg2", kind)
        self.start(link, kind, kind + "-1")
        time.sleep(silent)
        number = self.facts.do("is_running", table="jobs", kind=kind)
        self.facts.did(number, "yes", value=link.rows("SELECT sync_guard.sync_is_running($1::text, 'app.jobs')", kind)[0][0])
        self.start(link, kind, kind + "-2")
        link.close()
        time.sleep(max(0, begun + seconds - time.monotonic()))

    def start(self, link, kind, name):
        self.facts.fact("plan", run=name, table="jobs", key=None, kind=kind, account="main", via="psycopg2", lease="none", ttl=None,
                        named=False, end="left", started_by="insert", opened=None, then=None)
        number = self.facts.do("start", run=name, link=name)
        try:
            rows = link.rows("INSERT INTO app.jobs (name, kind, account, status) VALUES ($1::text, $2::text, 'main', 'running')"
                             " RETURNING id::text", name, kind)
            self.facts.did(number, "yes", value=list(rows[0]))
        except links.Refused as refused:
            self.facts.did(number, "no", code=refused.code)

    def relations(self):
        return [table[0] for table in TABLES.values()]


def tamper(server):
    """When all is over, before it is collected; as a superuser whom no trigger stops."""
    for statement in TAMPERED:
        server.sql("SET session_replication_role = replica; " + statement)
    try:
        server.sql(INTERNAL_ERROR)
    except psycopg2.Error:
        pass


def check(folder, grace, breaks, out):
    """One line for each invariant that must have been found broken; True where all were."""
    h, good = load(folder, grace), True
    expected = [(how, name) for how in breaks for name in BREAKS[how]]
    print(f"1..{len(expected)}", file=out)
    for number, (how, name) in enumerate(expected, 1):
        function = getattr(oracle, name)
        looked, wrong = function(h)
        good = good and bool(wrong)
        print(f"{'ok' if wrong else 'not ok'} {number} - {how}: {function.__doc__.strip()}: {len(wrong)} of {looked} are found not to",
              file=out)
    out.flush()
    return good
