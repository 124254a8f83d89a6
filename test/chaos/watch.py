"""Who reaps and who reads, all the time, each in a process of its own."""

import random
import time

import links
from plan import ACCOUNTS, KINDS, TABLES, short

RELATIONS = [table[0] for table in TABLES.values()]

# Beside each answer: when many leases fell silent together last, which holds their verdicts back. A crash forgets it.
HELD = "(SELECT EXTRACT(epoch FROM mass_death_at)::float8 FROM sync_guard.guard_memory)"


class Watcher:
    def __init__(self, folder, facts, seed, user):
        self.folder, self.facts, self.user = folder, facts, user
        self.rng, self.link = random.Random(f"{seed}/{facts.name}"), None

    def ask(self, what, sql, *arguments, shape=lambda rows: rows, **values):
        """One statement with its facts; None where it was not answered."""
        if self.link is None:
            self.link = links.connect(self.folder, "psycopg2", self.facts.name, self.user, patience=120)
        number = self.facts.do(what, **values)
        try:
            rows = self.link.rows(sql, *arguments)
            told = shape([row[:-1] for row in rows] if HELD in sql else rows)
            self.facts.did(number, "yes", value=told, **({"held": rows[0][-1]} if HELD in sql and rows else {}))
            return told
        except links.Lost:
            self.facts.did(number, "unknown")
            self.link = None
        except links.Refused as error:
            self.facts.did(number, "no", code=error.code, text=str(error)[:300])
        return None

    def pause(self, least, most):
        time.sleep(self.rng.uniform(least, most))


def reap(folder, facts, seed, ends_at):
    """Sweeps: all tables most of the time; sometimes one, or some runs only."""
    watcher = Watcher(folder, facts, seed, "app" if facts.name.endswith("1") else "postgres")
    while time.monotonic() < ends_at.value:
        if time.time() % 60 > 57 or time.time() % 60 < 0.5:
            time.sleep(0.1)  # the turn of the minute is pg_cron's
            continue
        how = watcher.rng.random()
        if how < 0.7:
            watcher.ask("sweep", "SELECT sync_guard.reap_stale_syncs()", shape=first)
        elif how < 0.85:
            watcher.ask("sweep_some", "SELECT sync_guard.reap_stale_syncs(relation => $1::text::regclass)",
                        watcher.rng.choice(RELATIONS), shape=first)
        else:
            watcher.ask("sweep_some", "SELECT sync_guard.reap_stale_syncs(max_runs => 1)", shape=first)
        watcher.pause(0.1, 0.5)
    facts.fact("ends")


def first(rows):
    return rows[0][0]


def judged(rows):
    """[table, key, verdict, dead, uncommitted] of each run."""
    return [[short(row[0]), *row[1:]] for row in rows]


def listed(rows):
    return [[short(row[0]), row[1]] for row in rows]


def told(status):
    """Of sync_status: is anything running, and the keys that are shown as running."""
    runs = list(status["recent_syncs"] or [])
    return [status["is_running"], sorted({str(run["id"]) for run in runs if run["status"] == "running"}),
            str(status["current_sync"]["id"]) if status["current_sync"] else None]


def read(folder, facts, seed, ends_at):
    """Asks what is running, in every way there is."""
    watcher = Watcher(folder, facts, seed, "postgres")
    while time.monotonic() < ends_at.value:
        how = watcher.rng.random()
        table = watcher.rng.choice(list(TABLES))
        relation, kind = TABLES[table][0], watcher.rng.choice(KINDS)
        if how < 0.35:
            watcher.ask("see_live", f"SELECT relation::text, run_key, verdict, dead, uncommitted, {HELD} FROM sync_guard.live_runs()",
                        shape=judged)
        elif how < 0.5:
            watcher.ask("see_running", f"SELECT relation::text, run_key, {HELD} FROM sync_guard.running_syncs", shape=listed)
        elif how < 0.65:
            watcher.ask("see_stuck", f"SELECT relation::text, run_key, {HELD} FROM sync_guard.stuck_syncs", shape=listed)
        elif how < 0.8:
            watcher.ask("is_running", f"SELECT sync_guard.sync_is_running($1::text, $2::text::regclass), {HELD}", kind, relation,
                        shape=first, table=table, kind=kind)
        elif how < 0.85:
            account = watcher.rng.choice(ACCOUNTS)
            watcher.ask("is_running", "SELECT sync_guard.scope_is_running("
                        f"jsonb_build_object('kind', $1::text, 'account', $2::text), 'app.jobs'), {HELD}", kind, account,
                        shape=first, table="jobs", kind=kind, account=account)
        else:
            watcher.ask("status", f"SELECT sync_guard.sync_status($1::text, $2::text::regclass, 20), {HELD}", kind, relation,
                        shape=lambda rows: told(rows[0][0]), table=table, kind=kind)
        watcher.pause(0.02, 0.2)
    facts.fact("ends")
