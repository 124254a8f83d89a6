"""Every function of the guard, as pg_proc lists them, with every kind of bad argument in each place.

Each call answers, or fails with an SQLSTATE that says what was wrong, at once; after it the session and the guard's tables are
what they were. Functions are test cases: a line each, with the counts by SQLSTATE. usage: arguments.py [soak]
"""

import collections
import sys
import time

import psycopg2

import server
import values

# What a bad argument may be answered with. Not among them: 42601, 42883, 42804 and their like, which would be the guard's own
# SQL broken by what was passed.
CLEAR = set("""
    SY001 SY002 SY003 SY004 SY005 SY006 SY007 SY008
    0A000 22001 22003 22004 22007 22008 22023 22P02 22P05 23502 23505 23514 25006 25P01 428C9 42501 42703 42704 42809 42P01 42P17
    54000 54001 54011 55000 55P03 P0002""".split())

# What a failure leaves unsaid is a fault of the guard's own errors.
OWN = "SY"

FUNCTIONS = """
    SELECT p.oid::regprocedure::text, p.proname, p.prorettype::regtype::text IN ('trigger', 'event_trigger'), pronargs - pronargdefaults,
           coalesce(proargnames[1:pronargs], '{}'),
           ARRAY(SELECT format_type(t, NULL) FROM unnest(proargtypes) WITH ORDINALITY AS a (t, n) ORDER BY n)
    FROM pg_proc AS p WHERE pronamespace = 'sync_guard'::regnamespace ORDER BY p.oid::regprocedure::text COLLATE "C" """

ROLES = ("postgres", "hostile_caller")
SOAK_ROLES = ("postgres", "hostile_owner", "hostile_caller", "hostile_nobody")


class Function:
    def __init__(self, signature, name, is_trigger, required, names, types):
        self.signature, self.name, self.is_trigger = signature, name, is_trigger
        self.required, self.names, self.types = required, names, types

    def call(self, arguments):
        if self.is_trigger:
            return "SELECT sync_guard.%s()" % self.name
        return "SELECT count(r::text) FROM sync_guard.%s(%s) AS r" % (self.name, ", ".join('"%s" => %s' % a for a in arguments))

    def calls(self, version, soak):
        """Statements: meant well; each place with each bad value; bad values in all places at once."""
        good = [(n, values.good_value(self.name, n, t, self.signature)) for place, (n, t) in enumerate(zip(self.names, self.types))
                if place < self.required or n in values.NEEDED.get(self.name, ())]
        yield self.call(good)
        bad = [values.bad_values(t, version, soak) for t in self.types]
        for place, name in enumerate(self.names):
            others = [a for a in good if a[0] != name]
            for value in bad[place]:
                yield self.call(others + [(name, value)])
        for turn in range(max(map(len, bad), default=0)):
            yield self.call([(n, bad[i][turn % len(bad[i])]) for i, n in enumerate(self.names)])


# What a trigger's function says to who calls it as another one.
NO_TRIGGER = {"39P01", "39P03"}

# What a call that is meant well is answered with here, where that is an error: there is no pg_cron on this server.
MEANT_WELL = {"schedule_reaping": {"55000"}}


def unanswered(function, answers):
    """Of a function none of whose calls is answered every call fails at the same place, and the bad arguments tell nothing."""
    if not answers & (NO_TRIGGER if function.is_trigger else MEANT_WELL.get(function.name, {"answers"})):
        yield "meant well, it is answered with %s" % ", ".join(sorted(answers))


def faults_of(error, seconds, clear):
    code, diag = error.pgcode, error.diag
    if code is None:
        yield "the connection is gone: %s" % error
        return
    if code not in clear:
        yield "SQLSTATE %s" % code
    if not (diag.message_primary or "").strip():
        yield "no message"
    if code.startswith(OWN):
        if not diag.message_detail:
            yield "%s without a DETAIL" % code
        if not diag.message_hint:
            yield "%s without a HINT" % code
    if seconds > server.HANGS:
        yield "%.1f s" % seconds


def try_call(connection, statement, clear=frozenset(CLEAR)):
    """How one call was answered: (SQLSTATE or "answers", faults). It is taken back, whatever it did."""
    began = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        try:
            cursor.execute(statement)
            return "answers", []
        except psycopg2.Error as error:
            faults = list(faults_of(error, time.monotonic() - began, clear))
            where = "%s: %s" % (error.pgcode, (error.diag.message_primary or "")[:160])
            return error.pgcode or "broken", ["%s (%s)" % (f, where) for f in faults]
        finally:
            del connection.notices[:]
            if not connection.closed:
                cursor.execute("ROLLBACK")


class Attack:
    def __init__(self, soak):
        self.soak, self.watch = soak, server.connect()
        self.version, self.roles = self.watch.server_version, SOAK_ROLES if soak else ROLES
        self.began = server.start_time(self.watch)
        self.connections = {}
        self.totals = collections.Counter()
        # A temporary table of another session's.
        self.others = server.connect()
        with self.others.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE of_others (id integer PRIMARY KEY, status text, started_at timestamptz)")

    def session(self, role):
        if role not in self.connections or self.connections[role].closed:
            self.connections[role] = connection = server.connect(role)
            with connection.cursor() as cursor:
                # With the library comes what it sets.
                cursor.execute("SELECT count(*) FROM sync_guard.guarded_tables")
                # A caller with temporary objects is refused more than others are.
                if role == "postgres":
                    cursor.execute("CREATE TEMP TABLE mine (id integer PRIMARY KEY, status text, started_at timestamptz)")
        return self.connections[role]

    def run(self, function):
        counts, faults, meant_well = collections.Counter(), [], set()
        tables = server.tables_sum(self.watch)
        for role in self.roles:
            before = server.session_sum(self.session(role))
            for number, statement in enumerate(function.calls(self.version, self.soak)):
                connection = self.session(role)
                answer, wrong = try_call(connection, statement, CLEAR | NO_TRIGGER if function.is_trigger else CLEAR)
                counts[answer] += 1
                if number == 0:
                    meant_well.add(answer)
                faults += ["%s as %s: %s" % (w, role, statement) for w in wrong]
            after = server.session_sum(self.session(role))
            # A lease bound to the session keeps its canary and its session settings, ended or not.
            if function.name not in ("start_sync", "take_lease") and after != before:
                faults.append("the session of %s was %s, is %s" % (role, before, after))
        faults += unanswered(function, meant_well)
        now = server.tables_sum(self.watch)
        faults += ["%s changed" % name for name in now if now[name] != tables.get(name)]
        self.totals += counts
        told = ", ".join("%s %d" % c for c in sorted(counts.items()))
        server.report(not faults, function.signature, " | ".join(faults[:8]))
        print("#\t%s: %s" % (function.signature, told))
        for fault in faults[8:200]:
            print("#\t%s" % fault[:400])


def main():
    attack = Attack("soak" in sys.argv[1:])
    only = [a for a in sys.argv[1:] if a != "soak"]
    log = server.Log()
    for row in server.rows(attack.watch, FUNCTIONS):
        function = Function(*row)
        if not only or function.name in only:
            attack.run(function)
    log.settle()
    breaks = log.breaks()
    server.report(not breaks and server.start_time(server.connect()) == attack.began, "the server stood through it", " | ".join(breaks))
    told = ", ".join("%s %d" % c for c in sorted(attack.totals.items()))
    print("# %d calls as %d roles: %s" % (sum(attack.totals.values()), len(attack.roles), told))


if __name__ == "__main__":
    main()
