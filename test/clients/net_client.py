"""A worker on a host of its own: starts a run whose lease is bound to its session, says its token, and then does one thing.

  net_client.py NAME idle       nothing, until its input ends
  net_client.py NAME statement  is in one long statement
  net_client.py NAME receiving  is being sent rows without end
  net_client.py NAME pausing    reads some of its rows, pauses for PAUSE seconds, reads the rest and finishes
  net_client.py NAME beating    beats ten times a second, until its input ends
  net_client.py NAME settings   says what the options of its connection are: with the lease, after a rollback, without it
  net_client.py TOKEN finish    finishes somebody's run

The server is taken from PGHOST, PGPORT, PGUSER and PGDATABASE; LOST_HOST is emag_sync_guard.detect_lost_host.
"""

import os
import select
import sys
import time

import psycopg2

name, what = sys.argv[1:3]
connection = psycopg2.connect("", application_name=name)
connection.autocommit = True
cursor = connection.cursor()


def one(statement, *parameters):
    cursor.execute(statement, parameters)
    return cursor.fetchone()[0]


def say(*words):
    print(*words, flush=True)


def input_ends(seconds):
    return bool(select.select([sys.stdin], [], [], seconds)[0]) and sys.stdin.read() == ""


def finish(token):
    try:
        cursor.execute("SELECT sync_guard.finish_sync(%s, 'completed')", (token,))
        say("finished")
    except psycopg2.Error as error:
        say("refused", error.pgcode)


class Pausing:
    """What COPY writes to: after some megabytes it is not ready for more, for a while."""

    def __init__(self, pause):
        self.pause, self.bytes = pause, 0

    def write(self, data):
        self.bytes += len(data)
        if self.pause and self.bytes > 4_000_000:
            say("pauses")
            time.sleep(self.pause)
            self.pause = 0
        return len(data)


def options():
    return [one("SELECT setting::integer FROM pg_settings WHERE name = %s", option)
            for option in ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count", "client_connection_check_interval",
                           "tcp_user_timeout")]


if what == "finish":
    finish(int(name))
    sys.exit()

cursor.execute("SELECT set_config('emag_sync_guard.detect_lost_host', %s, false)", (os.environ["LOST_HOST"],))
if what == "settings":
    say("before", *options())
token = one("SELECT token FROM sync_guard.start_sync('runs', jsonb_build_object('sync_type', %s::text), bind_session => true)", name)
say("token", token)
if what == "idle":
    while not input_ends(60):
        pass
    finish(token)
elif what == "statement":
    cursor.execute("SELECT pg_sleep(600)")
elif what == "receiving":
    with open(os.devnull, "w") as sink:
        cursor.copy_expert("COPY (SELECT repeat('x', 100000), pg_sleep(0.01) FROM generate_series(1, 1000000)) TO STDOUT", sink)
elif what == "pausing":
    cursor.copy_expert("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 30000)) TO STDOUT", Pausing(float(os.environ["PAUSE"])))
    finish(token)
elif what == "beating":
    beats = refused = 0
    while not input_ends(0.1):
        beats += 1
        refused += not one("SELECT sync_guard.heartbeat(%s, %s, 1000000)", token, beats)
    say("beats", beats, refused)
    finish(token)
elif what == "settings":
    say("bound", *options())
    cursor.execute("BEGIN")
    cursor.execute("SELECT sync_guard.heartbeat(%s)", (token,))
    cursor.execute("ROLLBACK")
    one("SELECT sync_guard.heartbeat(%s)", token)
    say("rolled_back", *options())
    finish(token)
    say("after", *options())
