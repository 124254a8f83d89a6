"""Sessions that call the guard at random, by a seed: any function with any arguments, in every place where SQL calls functions;
between them the application's statements, transactions of every kind, settings, DDL, cancels, ends of sessions without a word.

usage: generator.py SEED SECONDS FOLDER: each session's statements go into FOLDER, so that a fault can be looked up. Which
statements a session runs depends on the seed alone, when they meet does not.
"""

import collections
import os
import random
import socket
import sys
import threading
import time

import psycopg2
import psycopg2.extensions

import internal
import server
import values
from arguments import FUNCTIONS, Function

ROLES = ("postgres", "hostile_owner", "hostile_caller", "hostile_caller", "hostile_nobody")

# %s is a call of a function in FROM; where one stands that returns rows, the server says what it cannot be.
PLACES = (
    "SELECT * FROM %s AS r", "SELECT count(r::text) FROM %s AS r", "SELECT (SELECT r::text FROM %s AS r LIMIT 1)",
    "VALUES ((SELECT count(*) FROM %s AS r))", "SELECT r.* FROM generate_series(1, 3) AS i, LATERAL %s AS r",
    "SELECT 1 WHERE EXISTS (SELECT FROM %s AS r)",
    "SELECT j.id, r::text FROM odd.jobs AS j LEFT JOIN LATERAL %s AS r ON true LIMIT 5", "SELECT to_jsonb(r) FROM %s AS r",
    "WITH w AS MATERIALIZED (SELECT r::text FROM %s AS r) SELECT * FROM w, w AS v",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM %s AS r", "CREATE TEMP TABLE kept ON COMMIT DROP AS SELECT r::text FROM %s AS r",
    "SELECT max(r::text) OVER () FROM %s AS r ORDER BY r::text LIMIT 3",
    "DO $do$ BEGIN PERFORM r FROM %s AS r; EXCEPTION WHEN OTHERS THEN PERFORM 1; END $do$",
    "DO $do$ BEGIN FOR i IN 1..3 LOOP BEGIN PERFORM r FROM %s AS r; RAISE EXCEPTION 'back'; EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $do$",
    "UPDATE odd.jobs SET extra = to_jsonb((SELECT count(*) FROM %s AS r)) WHERE id = 1",
    "DECLARE c CURSOR FOR SELECT * FROM %s AS r", "DECLARE c SCROLL CURSOR WITH HOLD FOR SELECT * FROM %s AS r",
    "PREPARE p AS SELECT * FROM %s AS r", "DELETE FROM odd.jobs WHERE EXISTS (SELECT FROM %s AS r) AND id < 0",
    "INSERT INTO odd.jobs (queue, error) SELECT 'new' || random(), left(r::text, 20) FROM %s AS r LIMIT 2",
    "MERGE INTO odd.parts AS p USING (SELECT count(*) AS n FROM %s AS r) AS s ON p.id = s.n WHEN MATCHED THEN UPDATE SET status = 'failed' WHEN NOT MATCHED THEN DO NOTHING")

CONTROL = (
    "BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "BEGIN READ ONLY",
    "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "COMMIT", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN",
    "SAVEPOINT s", "SAVEPOINT t", "ROLLBACK TO s", "ROLLBACK TO t", "RELEASE s", "PREPARE TRANSACTION 'hostile'",
    "ROLLBACK PREPARED 'hostile'", "COMMIT PREPARED 'hostile'", "FETCH 2 FROM c", "MOVE BACKWARD ALL IN c", "CLOSE c",
    "EXECUTE p", "DEALLOCATE ALL", "DISCARD ALL", "DISCARD TEMP", "LISTEN sync_guard", "CHECKPOINT",
    "SET CONSTRAINTS ALL DEFERRED")

SETTINGS = (
    "statement_timeout = '1ms'", "statement_timeout = '20ms'", "statement_timeout = '5s'", "lock_timeout = '1ms'",
    "lock_timeout = 0", "search_path = ''", "search_path = odd, pg_catalog", "search_path = pg_temp, odd, app",
    "TimeZone = 'Pacific/Chatham'", "TimeZone = 'America/Los_Angeles'", "DateStyle = 'SQL, DMY'",
    "IntervalStyle = 'sql_standard'", "IntervalStyle = 'postgres_verbose'", "standard_conforming_strings = off",
    "max_stack_depth = '100kB'", "max_stack_depth = '2MB'", "work_mem = '64kB'", "plan_cache_mode = force_generic_plan",
    "plan_cache_mode = force_custom_plan", "enable_seqscan = off", "enable_indexscan = off",
    "default_transaction_read_only = on", "default_transaction_read_only = off",
    "default_transaction_isolation = 'serializable'", "row_security = off", "check_function_bodies = off",
    "session_replication_role = replica", "session_replication_role = origin", "extra_float_digits = -15", "lc_messages = 'C'",
    "bytea_output = escape", "emag_sync_guard.enabled = off", "emag_sync_guard.enabled = on",
    "emag_sync_guard.late_finish = 'accept'", "emag_sync_guard.late_finish = 'reject'", "ROLE hostile_owner",
    "ROLE hostile_nobody", "ROLE NONE", "SESSION AUTHORIZATION hostile_caller", "SESSION AUTHORIZATION DEFAULT",
    "client_encoding = 'LATIN1'", "client_encoding = 'UTF8'", "jit_above_cost = 0", "jit = off", "transaction_timeout = '30ms'",
    "idle_in_transaction_session_timeout = '1s'")

WRITES = (
    "INSERT INTO odd.jobs (queue, state) VALUES ({text}, 'running')",
    "INSERT INTO odd.jobs (queue, started_at, done) VALUES ({text}, {time}, {number})",
    "UPDATE odd.jobs SET state = {status}::odd.state WHERE id % 7 = {digit}",
    "UPDATE odd.jobs SET done = {number}, heartbeat_at = {time} WHERE id = {digit}",
    "UPDATE odd.jobs SET started_at = {time}, finished_at = {time}, error = {text} WHERE id = {digit}",
    "DELETE FROM odd.jobs WHERE id > 60 AND id % 3 = 0", "UPDATE odd.jobs SET id = -id WHERE id = {digit}",
    "INSERT INTO odd.parts (id, started_at) VALUES ({number} % 100000, {time}) ON CONFLICT (id) DO UPDATE SET status = 'running'",
    "UPDATE odd.parts SET id = 3000 - id WHERE id BETWEEN 0 AND 3000",
    "UPDATE odd.parts SET status = {status}, errors = {json}", "TRUNCATE odd.parts",
    "INSERT INTO app.emag_sync_logs SELECT * FROM app.emag_sync_logs LIMIT 1 ON CONFLICT DO NOTHING",
    "UPDATE app.emag_sync_logs SET status = {status}, errors = {json}",
    "UPDATE app.emag_sync_logs SET started_at = {time}, duration_seconds = 'NaN' WHERE status = 'running'",
    "SELECT * FROM odd.jobs FOR UPDATE SKIP LOCKED", "INSERT INTO odd.observed (started_at) VALUES ({time})",
    "UPDATE odd.observed SET status = {status}", "DELETE FROM odd.observed",
    "INSERT INTO odd.\"t\"\"a'b\\le %s\" VALUES ({text}, 'running', {text}, {time})",
    "UPDATE odd.\"t\"\"a'b\\le %s\" SET \"s\"\"t'a\\t %s\" = {status}")

DEFINITIONS = (
    "ALTER TABLE odd.parts ADD COLUMN more integer", "ALTER TABLE odd.parts DROP COLUMN more",
    "ALTER TABLE odd.observed RENAME COLUMN started_at TO begun", "ALTER TABLE odd.observed RENAME COLUMN begun TO started_at",
    "ALTER TABLE odd.observed RENAME TO seen", "ALTER TABLE odd.seen RENAME TO observed",
    "ALTER TABLE odd.observed SET SCHEMA app", "ALTER TABLE app.observed SET SCHEMA odd",
    "ALTER TABLE odd.parts DETACH PARTITION odd.parts_1",
    "ALTER TABLE odd.parts ATTACH PARTITION odd.parts_1 FOR VALUES FROM (0) TO (1000)", "DROP TABLE odd.observed",
    "CREATE TABLE odd.observed (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), status text DEFAULT 'running', started_at timestamptz DEFAULT now())",
    "SELECT sync_guard.guard_table('odd.observed', live_statuses => '{running}', failed_status => 'failed')",
    "SELECT sync_guard.guard_table('odd.parts', live_statuses => '{running}', failed_status => 'failed')",
    "SELECT sync_guard.guard_table('odd.jobs', live_statuses => '{waiting,running}', failed_status => 'failed', scope_columns => '{queue}', exclusive => {boolean})",
    "ALTER TABLE odd.jobs ALTER COLUMN queue TYPE varchar(2000000)", "ALTER TABLE odd.jobs ALTER COLUMN queue TYPE text",
    "ALTER TYPE odd.state ADD VALUE IF NOT EXISTS 'partial'", "ALTER TABLE odd.jobs DISABLE TRIGGER ALL",
    "ALTER TABLE odd.jobs ENABLE TRIGGER ALL", "CREATE INDEX IF NOT EXISTS i ON odd.jobs (state)", "DROP INDEX IF EXISTS odd.i",
    "ALTER TABLE odd.jobs ENABLE ROW LEVEL SECURITY", "ALTER TABLE odd.jobs DISABLE ROW LEVEL SECURITY", "VACUUM odd.jobs",
    "ANALYZE odd.jobs", "REINDEX TABLE odd.jobs", "CLUSTER odd.jobs USING jobs_pkey", "VACUUM FULL sync_guard.leases",
    "LOCK TABLE odd.jobs IN ACCESS EXCLUSIVE MODE NOWAIT", "REVOKE UPDATE ON odd.jobs FROM hostile_caller",
    "GRANT UPDATE ON odd.jobs TO hostile_caller", "ALTER TABLE odd.parts OWNER TO hostile_caller",
    "ALTER TABLE odd.parts OWNER TO hostile_owner", "DELETE FROM sync_guard.settings WHERE relation = 'odd.observed'::regclass",
    "UPDATE sync_guard.settings SET start_column = 'no_such' WHERE relation = 'odd.parts'::regclass",
    "UPDATE sync_guard.settings SET relation = 4242, relation_name = 'x' WHERE relation_name ~ 'observed'",
    "DELETE FROM sync_guard.leases WHERE token % 2 = 0", "UPDATE sync_guard.leases SET run_key = {text}",
    "UPDATE sync_guard.scope_limits SET scope = {json}", "TRUNCATE sync_guard.journal",
    "INSERT INTO sync_guard.scope_limits VALUES ('odd.jobs', {json}, '1 hour')",
    "INSERT INTO sync_guard.outbox (payload) VALUES ({text})")


# With these the server ends a session that has asked for it: idle_in_transaction_session_timeout, transaction_timeout. Its log
# tells, for the client may find the connection closed before it has read why.
OWN_ENDS = ("25P03", "25P04")


class Session(threading.Thread):
    def __init__(self, seed, number, functions, ends, folder):
        super().__init__(daemon=True)
        self.random, self.role = random.Random(seed * 1000 + number), ROLES[number % len(ROLES)]
        self.functions, self.ends, self.counts, self.connection = functions, ends, collections.Counter(), None
        self.pid, self.journal = None, open(os.path.join(folder, "session_%d.sql" % number), "w", encoding="utf-8")
        self.version, self.lost, self.failure = functions[0].version, [], None

    def value(self, type_name):
        bad = values.bad_values(type_name, self.version)
        # The megabytes are of the last ones; they cost more than they find.
        return self.random.choice(bad if self.random.random() < 0.05 else [v for v in bad if "000000" not in v])

    def call(self):
        pick, function = self.random, self.random.choice(self.functions)
        arguments = []
        for place, (name, type_name) in enumerate(zip(function.names, function.types)):
            if place < function.required and pick.random() < 0.6:
                arguments.append((name, values.good_value(function.name, name, type_name, function.signature)))
            elif place < function.required or pick.random() < 0.3:
                arguments.append((name, self.value(type_name)))
        text = ", ".join('"%s" => %s' % a for a in arguments)
        if pick.random() < 0.1:
            after = pick.choice(["", " FROM generate_series(1, 2)", " IS NULL", "::text COLLATE \"C\""])
            return "SELECT sync_guard.%s(%s)%s" % (function.name, text, after)
        return pick.choice(PLACES).replace("%s", "sync_guard.%s(%s)" % (function.name, text))

    def filled(self, statement):
        for mark, value in (("{text}", lambda: self.value("text")), ("{time}", lambda: self.value("timestamptz")),
                            ("{json}", lambda: self.value("jsonb")),
                            ("{status}", lambda: self.random.choice(values.STATUSES)), ("{number}", lambda: self.value("integer")),
                            ("{digit}", lambda: str(self.random.randrange(0, 50))),
                            ("{boolean}", lambda: self.random.choice(["true", "false"]))):
            while mark in statement:
                statement = statement.replace(mark, value(), 1)
        return statement

    def statement(self):
        if self.connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_INERROR and self.random.random() < 0.8:
            return self.random.choice(("ROLLBACK", "ROLLBACK TO s", "ROLLBACK TO t", "COMMIT"))
        kind = self.random.random()
        if kind < 0.50:
            return self.call()
        if kind < 0.68:
            return self.random.choice(CONTROL)
        if kind < 0.86:
            return self.filled(self.random.choice(WRITES))
        if kind < 0.93:
            return self.random.choice(["SET ", "SET LOCAL "]) + self.random.choice(SETTINGS)
        return self.filled(self.random.choice(DEFINITIONS))

    def leave(self):
        """Ends the connection in one of three ways: as a client does, without a word, or by another's hand."""
        how = self.random.random()
        if how < 0.5 and not self.connection.closed:
            socket.socket(fileno=os.dup(self.connection.fileno())).shutdown(socket.SHUT_RDWR)
        self.connection.close()
        self.connection = None

    def run(self):
        try:
            self.work()
        except Exception as error:  # pylint: disable=broad-except
            # Whatever it is: one that no longer asks finds nothing.
            self.failure = "%s: %s" % (type(error).__name__, error)
        finally:
            self.journal.close()

    def work(self):
        while time.monotonic() < self.ends:
            if self.connection is None or self.connection.closed:
                self.connection = server.connect(self.role)
                self.pid = self.connection.info.backend_pid
            statement = self.statement()
            self.journal.write(statement + ";\n")
            try:
                with self.connection.cursor() as cursor:
                    cursor.execute(statement)
                self.counts["answers"] += 1
            except psycopg2.Error as error:
                self.counts[error.pgcode or "broken"] += 1
                if self.connection.closed:
                    self.lost.append((self.pid, "%s at %s" % (error, statement[:200])))
            except (UnicodeError, OverflowError, ValueError):
                # An answer in the encoding or the date style of the session's own making that the client cannot read.
                self.counts["unreadable"] += 1
            del self.connection.notices[:]
            if self.random.random() < 0.01:
                self.leave()


def functions_of(connection):
    found = [Function(*row) for row in server.rows(connection, FUNCTIONS)]
    for function in found:
        function.version = connection.server_version
    return [f for f in found if not f.is_trigger]


def died_and_lost(sessions, log):
    """Of sessions that are over: what ended their threads before the time, and what else than themselves their connections."""
    log.settle()
    ends = {entry["pid"]: entry.get("state_code") for entry in log.entries() if entry.get("error_severity") == "FATAL"}
    return (["%s: %s" % (s.role, s.failure) for s in sessions if s.failure],
            ["%s (%s)" % (text, ends.get(pid, "without a word")) for s in sessions for pid, text in s.lost if ends.get(pid) not in OWN_ENDS])


def main():
    seed, seconds, folder = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    watch, log, chance = server.connect(), server.Log(), random.Random(seed)
    began, functions = server.start_time(watch), functions_of(watch)
    sessions = [Session(seed, n, functions, time.monotonic() + seconds, folder) for n in range(len(ROLES))]
    for session in sessions:
        session.start()
    cancels = 0
    while any(s.is_alive() for s in sessions):
        time.sleep(chance.uniform(0, 0.03))
        connection = chance.choice(sessions).connection
        if connection is not None and not connection.closed and chance.random() < 0.3:
            try:
                connection.cancel()
                cancels += 1
            except psycopg2.Error:
                pass
    counts = sum((s.counts for s in sessions), collections.Counter())
    print("# seed %d: %d statements in %d sessions, %d cancels: %s" % (seed, sum(counts.values()), len(sessions), cancels,
                                                                       ", ".join("%s %d" % c for c in sorted(counts.items()))))
    name = "random calls, seed %d" % seed
    internal.report(log, name)
    stood = server.connect()
    server.report(server.start_time(stood) == began, name + ": the server stood through it")
    server.rows(stood, "SET statement_timeout = 0; SELECT sync_guard.reap_stale_syncs(), count(*) FROM sync_guard.guard_health")
    died, lost = died_and_lost(sessions, log)
    server.report(not died, name + ": every session went on to the end", " | ".join(died))
    server.report(not lost, name + ": no session was lost but by its own timeouts", " | ".join(lost[:5]))
    server.report(min(s.counts["answers"] for s in sessions) > 40, name + ": of each session's statements enough were answered",
                  ", ".join("%s %d" % (s.role, s.counts["answers"]) for s in sessions))


if __name__ == "__main__":
    main()
