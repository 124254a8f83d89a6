"""The server under attack: connections, what must not change, what it logged.

Where it is, libpq's environment tells; HOSTILE_LOG names the folder of its JSON log (log_destination = jsonlog).
"""

import glob
import json
import os
import time
import uuid

import psycopg2

# Seconds after which a call counts as hanging.
HANGS = 5

# Errors that are nobody's fault but the module's, or the server's: internal errors, corruption, out of what it has.
INTERNAL = ("XX", "58", "53", "F0")

# What a server writes when something broke that no statement may break.
BROKEN = ("terminated by signal", "TRAP:", "server process (PID", "AddressSanitizer", "runtime error:")


def connect(role="postgres", database="hostile"):
    connection = psycopg2.connect(dbname=database, user=role, application_name="hostile_" + role)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '%ds'; SET client_min_messages = warning" % HANGS)
    return connection


def rows(connection, statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall()


def start_time(connection):
    return rows(connection, "SELECT pg_postmaster_start_time()::text")[0][0]


def tables_sum(connection):
    """A checksum of every table of the guard's and of the scene's, and of the catalog's own objects: triggers, rights, owners."""
    names = [r[0] for r in rows(connection, """
        SELECT c.oid::regclass::text FROM pg_class AS c WHERE relkind IN ('r', 'm')
          AND relnamespace IN ('sync_guard'::regnamespace, 'app'::regnamespace, 'odd'::regnamespace, 'hostile'::regnamespace)
        ORDER BY c.oid""")]
    sums = ["SELECT %s AS name, md5(string_agg(t::text, E'\\n' ORDER BY t::text COLLATE \"C\")) AS sum FROM %s AS t"
            % (psycopg2.extensions.QuotedString(name).getquoted().decode(), name.replace("%", "%%")) for name in names]
    sums += ["SELECT 'relations', md5(string_agg(concat_ws(' ', oid, relname, relowner, relacl, relhastriggers), ',' ORDER BY oid))"
             " FROM pg_class WHERE relpersistence <> 't'",
             "SELECT 'triggers', md5(string_agg(concat_ws(' ', oid, tgname, tgenabled, tgqual), ',' ORDER BY oid)) FROM pg_trigger",
             "SELECT 'functions', md5(string_agg(concat_ws(' ', oid, proname, proowner, proacl), ',' ORDER BY oid)) FROM pg_proc",
             "SELECT 'roles', md5(string_agg(r::text, ',' ORDER BY rolname)) FROM pg_roles AS r"]
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0; " + " UNION ALL ".join(s.replace("%%", "%") for s in sums) + " ORDER BY 1")
        return dict(cursor.fetchall())


def session_sum(connection):
    """Who the session is, how it is set, and what it holds beyond its transactions."""
    return rows(connection, """
        SELECT current_user::text, session_user::text,
               (SELECT md5(string_agg(name || '=' || coalesce(setting, ''), ',' ORDER BY name)) FROM pg_settings),
               (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'),
               (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors)""")[0]


class Log:
    """The lines that the server wrote since this object was made."""

    def __init__(self):
        self.folder = os.environ.get("HOSTILE_LOG")
        self.begin = {f: os.path.getsize(f) for f in self.files()}

    def files(self):
        return sorted(glob.glob(os.path.join(self.folder, "*"))) if self.folder else []

    def lines(self):
        for file in self.files():
            with open(file, encoding="utf-8", errors="replace") as text:
                text.seek(self.begin.get(file, 0))
                yield from text

    def settle(self):
        """Waits until everything that was logged before now is in the files: the collector writes in the order of its pipe."""
        mark, ends = uuid.uuid4().hex, time.monotonic() + 30
        rows(connect(), "DO $$ BEGIN RAISE LOG '%s'; END $$; SELECT 1" % mark)
        while not any(mark in line for line in self.lines()):
            if time.monotonic() > ends:
                raise RuntimeError("the server does not log")

    def entries(self):
        """Its JSON lines as dictionaries; what is none of JSON comes as {"raw": line}."""
        for line in self.lines():
            try:
                yield json.loads(line)
            except ValueError:
                yield {"raw": line.rstrip()}

    def breaks(self):
        """What tells of a crash or a failed assertion."""
        found = []
        for entry in self.entries():
            text = entry.get("raw") or entry.get("message", "")
            if entry.get("error_severity") == "PANIC" or any(b in text for b in BROKEN):
                found.append(text[:300])
        return found


def report(outcome, name, reason=""):
    """A line for the suite: what is tested, and how it went."""
    print("%s\t%s%s" % ("ok" if outcome else "not ok", name, ("\t" + " ".join(reason.split())[:1500]) if reason and not outcome else ""), flush=True)
