# npm: yes
"""A sign of life that a worker gives through its connection, each in a statement and a transaction of its own, prepared.

* heartbeat(): in memory.
* HOT UPDATE: of a heartbeat column, as Solid Queue, db-scheduler and River Pro do; at its best: by primary key, no index on the
  column (those of Solid Queue and db-scheduler have one), room in the page (fillfactor 70), and each row in a page of its
  own, so that connections do not meet there. It waits for the disk, as their transactions do; and, as a second side, it does not
  (synchronous_commit off), which nobody does by default and which takes nothing away from a heartbeat.
* pg-boss renews all jobs that a worker has in hand in one UPDATE: its own tables, its own statement, and 100 jobs in each. The
  guard's side of that is one statement too, with 100 runs.
"""
from aims import Fact, Ratio
from server import BenchError
from works import _node
from works._leased import RUNS, start_runs

TITLE = "a heartbeat, through a client"
UNIT = "a second"
ROUNDS = (5, 2)
WARM = 0
SETTINGS = ["emag_sync_guard.max_tracked_runs = 2048"]  # the default: a server where nothing else writes
CONNECTIONS = (1, 4, 16)
BATCH = 100

GUARD, HOT, ASYNC = "heartbeat()", "HOT UPDATE", "HOT UPDATE that does not wait for the disk"
GUARD_BATCH, BOSS_BATCH = f"heartbeat() of {BATCH} runs at once", f"pg-boss's UPDATE of {BATCH} jobs"


def _on(side, connections):
    return f"{side}, {connections} connection{'s' if connections > 1 else ''}"


RATIOS = [Ratio(_on(side, n), _on(against, n), at_least=aim)
          for side, against, aim in [(GUARD, HOT, 7), (GUARD, ASYNC, None), (GUARD_BATCH, BOSS_BATCH, 7)] for n in CONNECTIONS]

TABLES = RUNS + f"""
    -- Of every 1000 rows one is running: none shares a page with another.
    CREATE TABLE jobs (
        id bigint PRIMARY KEY, sync_type text NOT NULL, status text NOT NULL, started_at timestamptz NOT NULL,
        completed_at timestamptz, processed_items integer NOT NULL DEFAULT 0, errors jsonb, heartbeat_at timestamptz NOT NULL
    ) WITH (fillfactor = 70);
    INSERT INTO jobs (id, sync_type, status, started_at, heartbeat_at)
    SELECT id, 'products', CASE WHEN id % 1000 = 0 THEN 'running' ELSE 'completed' END, now(), now()
    FROM generate_series(1, {max(CONNECTIONS) * 1000}) AS id;
    CREATE INDEX ON jobs (status);

    -- What each connection beats for: one run, or {BATCH} of them.
    CREATE TABLE mine (client integer PRIMARY KEY, token bigint, tokens bigint[], ids uuid[], attempts text[]);
"""
# A connection asks once for what it beats for; pgbench keeps a variable for all transactions of a client.
ASK = "\\if :known = 0\nSELECT {} FROM mine WHERE client = :client_id \\gset\n\\set known 1\n\\endif\n"
SCRIPTS = {
    GUARD: ASK.format("token") + "SELECT sync_guard.heartbeat(:token);\n",
    HOT: "\\set id (:client_id + 1) * 1000\nUPDATE jobs SET heartbeat_at = now() WHERE id = :id;\n",
    GUARD_BATCH: ASK.format("tokens") +
                 "SELECT count(*) FILTER (WHERE sync_guard.heartbeat(token)) FROM unnest(:tokens::bigint[]) AS token;\n",
}
SCRIPTS[ASYNC] = SCRIPTS[HOT]
PER_STATEMENT = {GUARD_BATCH: BATCH, BOSS_BATCH: BATCH}


def prepare(bench):
    bench.psql(TABLES)
    connection = bench.connect()
    with connection.cursor() as cursor:
        for client in range(max(CONNECTIONS)):
            tokens = start_runs(cursor, BATCH + 1)
            cursor.execute("INSERT INTO mine (client, token, tokens) VALUES (%s, %s, %s)", (client, tokens[0], tokens[1:]))
        _node.call(bench, "pgboss.js", "prepare", "pgboss", "fastest")
        jobs, = _node.call(bench, "pgboss.js", "claimed", "pgboss", "fastest", str(BATCH * max(CONNECTIONS)))
        for client in range(max(CONNECTIONS)):
            ids = jobs["ids"][client * BATCH:(client + 1) * BATCH]
            cursor.execute("UPDATE mine SET ids = %s::uuid[], attempts = %s WHERE client = %s",
                           (ids, [f"{job}:0" for job in ids], client))
    connection.close()
    # Its parameters, as its client passes them: the queue, the ids, and each id with its attempt.
    statement = jobs["statement"].replace("$1", "'sync'").replace("$2", ":ids").replace("$3", ":attempts")
    SCRIPTS[BOSS_BATCH] = ASK.format("ids, attempts") + statement.strip() + ";\n"
    bench.settle()
    _check(bench)


def _pgbench(bench, side, connections, **how):
    if side == ASYNC:
        how["settings"] = {"synchronous_commit": "off"}
    figures = bench.pgbench(SCRIPTS[side], clients=connections, variables={"known": 0}, **how)
    if figures.failed:
        raise BenchError(f"{side}: {figures.failed} transactions failed")
    return figures


def _check(bench):
    """Each statement does what it says: so many runs have a newer sign of life."""
    for side, moved in ((GUARD, "SELECT count(*) FROM sync_guard.tracked_runs WHERE last_sign_of_life > %s"),
                        (GUARD_BATCH, "SELECT count(*) FROM sync_guard.tracked_runs WHERE last_sign_of_life > %s"),
                        (HOT, "SELECT count(*) FROM jobs WHERE heartbeat_at > %s"),
                        (BOSS_BATCH, "SELECT count(*) FROM pgboss.job WHERE heartbeat_on > %s AND state = 'active'")):
        connection = bench.connect()
        before = bench.value(connection, "SELECT clock_timestamp()")
        _pgbench(bench, side, 2, transactions=1)
        found, wanted = bench.value(connection, moved, (before,)), 2 * PER_STATEMENT.get(side, 1)
        connection.close()
        if found != wanted:
            raise BenchError(f"{side}: {found} of {wanted} beats counted")


def sides(bench):
    seconds = bench.size(5, 1, 1)
    return {_on(side, n): lambda side=side, n=n: _pgbench(bench, side, n, seconds=seconds).tps * PER_STATEMENT.get(side, 1)
            for n in CONNECTIONS for side in (GUARD, HOT, ASYNC, GUARD_BATCH, BOSS_BATCH)}


# Row versions written, those of them in the same page, dead rows that are left for a vacuum: of all tables that a side writes to.
TRACES = """
    SELECT pg_stat_force_next_flush();
    SELECT coalesce(sum(n_tup_upd), 0), coalesce(sum(n_tup_hot_upd), 0), coalesce(sum(n_dead_tup), 0)
    FROM pg_stat_user_tables WHERE {}"""
TABLES_OF = {GUARD: "schemaname = 'sync_guard' OR relname = 'runs'", HOT: "relname = 'jobs'", BOSS_BATCH: "schemaname = 'pgboss'"}
TABLES_OF[GUARD_BATCH] = TABLES_OF[GUARD]


def _traces(connection, side):
    with connection.cursor() as cursor:
        cursor.execute(TRACES.format(TABLES_OF[side]))
        return [int(number) for number in cursor.fetchone()]


def _written(bench, connection, side):
    """What some thousand beats write: bytes of WAL, row versions, those in the same page, dead rows left; per beat."""
    transactions = bench.size(2000, 500, 20) // (10 if side in PER_STATEMENT else 1)
    bench.settle()
    before, position = _traces(connection, side), bench.wal_position(connection)
    beats = _pgbench(bench, side, 4, transactions=transactions).transactions * PER_STATEMENT.get(side, 1)
    position = bench.wal_position(connection) - position
    return [number / beats for number in [position] + [a - b for a, b in zip(_traces(connection, side), before)]]


def facts(bench):
    connection = bench.connect()
    told = []
    for side in (GUARD, GUARD_BATCH, HOT, BOSS_BATCH):
        # The server writes a record of its own now and then (of running transactions, of a checkpoint). What the beats
        # write they write each time: the least of three.
        wal, rows, hot, dead = min(_written(bench, connection, side) for _ in range(3))
        aim = 0 if side in (GUARD, GUARD_BATCH) else None
        told += [Fact("WAL for each", side, wal, "bytes", at_most=aim),
                 Fact("row versions written for each", side, rows, at_most=aim),
                 Fact("dead rows left for each", side, dead, at_most=aim)]
        if rows:
            told.append(Fact("updates that were HOT", side, 100 * hot / rows, "%"))
    connection.close()
    return told
