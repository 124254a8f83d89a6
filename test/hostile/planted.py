"""What the checks of this folder look for, planted: they find it. A check that finds nothing must be able to."""

import contextlib
import io
import select
import tempfile
import time
import types

import psycopg2

import arguments
import generator
import internal
import server


def verdicts(log):
    """What internal.report says of the log: True for each test case that passes."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        internal.report(log, "planted")
    return [line.startswith("ok") for line in said.getvalue().splitlines() if not line.startswith("#")]


def after(connection, statement):
    log = server.Log()
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    except psycopg2.Error:
        pass
    return verdicts(log)


def session(connection, role, end):
    """One of the generator's sessions; once it asks, `end` is told its backend's pid. What is said of it afterwards."""
    log = server.Log()
    with tempfile.TemporaryDirectory() as folder:
        one = generator.Session(1, generator.ROLES.index(role), generator.functions_of(connection), time.monotonic() + 2, folder)
        one.start()
        while one.is_alive() and one.counts.total() < 10:
            time.sleep(0.01)
        end(one)
        one.join()
    return generator.died_and_lost([one], log)


def timed_out():
    """A session that ends by a timeout of its own. What is said of it afterwards."""
    log, ended = server.Log(), server.connect()
    lost = [(ended.info.backend_pid, "at COMMIT")]
    with ended.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = '1ms'; BEGIN")
    select.select([ended], [], [], 30)
    return generator.died_and_lost([types.SimpleNamespace(role="postgres", failure=None, lost=lost)], log)


def terminate(connection):
    return lambda one: server.rows(connection, "SELECT pg_terminate_backend(%s)", one.pid)


def break_off(one):
    one.random = None


def main():
    connection = server.connect()
    raised = "DO $$ BEGIN RAISE %s 'planted: %s' USING ERRCODE = '%s'; END $$"
    server.report(after(connection, "SELECT 1 / 0") == [True, True], "planted: a division by zero is no internal error")
    server.report(after(connection, raised % ("EXCEPTION", "cache lookup failed", "XX000")) == [True, False], "planted: an internal error is found")
    server.report(after(connection, raised % ("LOG", "was terminated by signal 11", "00000")) == [False, True], "planted: a crash is found")
    with connection.cursor() as cursor:
        for code, message in (("XX000", "SQLSTATE XX000"), ("42601", "SQLSTATE 42601"), ("SY006", "SY006 without a DETAIL")):
            statement = raised % ("EXCEPTION", "planted", code)
            answer, faults = arguments.try_call(connection, statement)
            server.report(answer == code and any(f.startswith(message) for f in faults), "planted: an argument answered with %s is a fault" % code)
        answer, faults = arguments.try_call(connection, "SET LOCAL statement_timeout = '10ms'; SELECT pg_sleep(5)")
        server.report(answer == "57014" and faults != [], "planted: a call that hangs is a fault")
        function = arguments.Function("f()", "f", False, 0, [], [])
        server.report(list(arguments.unanswered(function, {"55000", "42501"})) != [] and not list(arguments.unanswered(function, {"42501", "answers"})),
                      "planted: a function that answers no call is a fault")
        died, lost = session(connection, "hostile_nobody", terminate(connection))
        server.report(not died and lost != [], "planted: a session of the generator's that is terminated is noticed", "%s, %s" % (died, lost))
        server.report(timed_out() == ([], []), "planted: a session that ends by its own timeout is no fault")
        died, lost = session(connection, "hostile_nobody", break_off)
        server.report(died != [], "planted: a session of the generator's that breaks off is noticed")
        tables = server.tables_sum(connection)
        cursor.execute("UPDATE sync_guard.settings SET max_silence = '2 hours' WHERE relation = 'odd.parts'::regclass")
        now = server.tables_sum(connection)
        server.report([n for n in now if now[n] != tables[n]] == ["sync_guard.settings"], "planted: a changed setting is seen")
        cursor.execute("UPDATE sync_guard.settings SET max_silence = '1 hour' WHERE relation = 'odd.parts'::regclass")
        before = server.session_sum(connection)
        cursor.execute("SET work_mem = '65kB'; SELECT pg_advisory_lock(1)")
        was, now = before, server.session_sum(connection)
        server.report([i for i in range(len(was)) if was[i] != now[i]] == [2, 3], "planted: a setting and a lock left behind are seen")


if __name__ == "__main__":
    main()
