"""A hundred thousand runs that are alive, each with a sign of life every 10 s, and sweeps over all of them that find nothing to
close: what such a sweep takes, while the heartbeats go on.

* guarded: heartbeat leases, the beats in memory; the sweep is reap_stale_syncs().
* rows: the same table with a heartbeat column, not indexed, and room in the pages (fillfactor 50, so that a batch fits beside what
  it replaces); the sweep is the UPDATE that closes what has not beaten, in one statement.

Both are beaten for through eight connections, in statements of 100 runs. Each side beats only while it is measured: the ttl, and
the limit of the UPDATE, is a day, so that nothing dies in between; it is one comparison for each run whatever it says.
"""
import concurrent.futures
import statistics
import time

from aims import Fact, Limit, Ratio
from server import BenchError
from works._leased import RUNS, START

TITLE = "heartbeats of 100 000 runs every 10 s, and a sweep over all"
UNIT = "ms for 100 000 runs"  # in a shorter form there are fewer: as many times as long
ROUNDS = (3, 1)
WARM = 0
SETTINGS = ["emag_sync_guard.max_tracked_runs = 110000"]

GUARDED, ROWS = "sweep, guarded", "sweep, rows with a heartbeat column"
RATIOS = [Limit(GUARDED, at_most=1000), Ratio(GUARDED, ROWS)]

CONNECTIONS = 8
PERIOD = 10  # seconds from one beat of a run to its next

TABLES = RUNS + """
    CREATE TABLE jobs (
        id bigint PRIMARY KEY, sync_type text NOT NULL, status text NOT NULL, started_at timestamptz NOT NULL,
        completed_at timestamptz, processed_items integer NOT NULL DEFAULT 0, errors jsonb, heartbeat_at timestamptz NOT NULL
    ) WITH (fillfactor = 50);
    INSERT INTO jobs (id, sync_type, status, started_at, heartbeat_at)
    SELECT id, 'products', 'running', now(), now() FROM generate_series(0, {runs} - 1) AS id;
    CREATE INDEX ON jobs (status);
"""
TOKENS = """
    CREATE TABLE mine (id bigint PRIMARY KEY, token bigint NOT NULL);
    INSERT INTO mine SELECT row_number() OVER (ORDER BY token) - 1, token FROM sync_guard.leases;
"""
# Each connection goes round its own share of the runs.
SCRIPT = "\\set at (:at + {batch}) % :share\n\\set first :client_id * :share + :at\n{statement};\n"
BEATS = {
    GUARDED: "SELECT count(*) FILTER (WHERE sync_guard.heartbeat(token)) FROM mine WHERE id BETWEEN :first AND :first + {last}",
    ROWS: "UPDATE jobs SET heartbeat_at = now() WHERE id BETWEEN :first AND :first + {last}",
}
SWEEPS = {
    GUARDED: "SELECT sync_guard.reap_stale_syncs()",
    ROWS: """
        WITH closed AS (
            UPDATE jobs SET status = 'failed', completed_at = now(), errors = '["no sign of life"]'
            WHERE status = 'running' AND heartbeat_at < now() - interval '1 day' RETURNING id)
        SELECT count(*) FROM closed""",
}
TABLES_OF = {GUARDED: "schemaname = 'sync_guard' OR relname = 'runs'", ROWS: "relname = 'jobs'"}
VACUUMED = """
    SELECT pg_stat_force_next_flush();
    SELECT sum(autovacuum_count), sum(n_tup_upd), sum(n_tup_hot_upd), sum(n_dead_tup) FROM pg_stat_user_tables WHERE {}"""

# Of each side: sweeps, beats a second, WAL, the most dead rows seen.
state = {}


def _runs(bench):
    return bench.size(100000, 8000, 800)


def _batch(bench):
    return bench.size(100, 100, 10)


def _seconds(bench):
    return bench.size(30, 10, 5)


def prepare(bench):
    runs, batch = _runs(bench), _batch(bench)
    bench.psql(TABLES.replace("{runs}", str(runs)))
    bench.pgbench(START, clients=2, transactions=runs // 2 // batch, variables={"count": batch})
    bench.psql(TOKENS)
    bench.settle()
    connection = bench.connect()
    leased = bench.value(connection, "SELECT count(*) FROM sync_guard.tracked_runs WHERE lease = 'heartbeat'")
    if leased != runs:
        raise BenchError(f"{leased} of {runs} runs have a lease in memory")
    beaten = bench.value(connection, BEATS[GUARDED].replace(":first", "0").format(last=batch - 1))
    if beaten != batch:
        raise BenchError(f"{beaten} of {batch} heartbeats were accepted")
    for side in (GUARDED, ROWS):
        state[side] = {"beats": [], "wal": [], "dead": 0, "sweeps": 0, "before": _vacuumed(connection, side),
                       "size": _size(connection, side)}
    connection.close()


def _vacuumed(connection, side):
    with connection.cursor() as cursor:
        cursor.execute(VACUUMED.format(TABLES_OF[side]))
        return [int(number) for number in cursor.fetchone()]


def _size(connection, side):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables WHERE {TABLES_OF[side]}")
        return int(cursor.fetchone()[0])


def _beat(bench, side):
    """As many statements as it takes for all runs in each period; how many beats a second it has come to."""
    runs, batch = _runs(bench), _batch(bench)
    script = SCRIPT.format(batch=batch, statement=BEATS[side].format(last=batch - 1))
    figures = bench.pgbench(script, clients=CONNECTIONS, seconds=_seconds(bench),
                            variables={"at": 0, "share": runs // CONNECTIONS}, options=["--rate", str(runs / PERIOD / batch)])
    if figures.failed:
        raise BenchError(f"{side}: {figures.failed} statements failed")
    return figures.tps * batch


def _measure(bench, side):
    """The median of the sweeps while all runs are beaten for."""
    sweeps, kept = [], state[side]
    connection = bench.connect()
    position = bench.wal_position(connection)
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        beats = pool.submit(_beat, bench, side)
        time.sleep(1)
        while not sweeps or not beats.done():
            sweeps.append(_sweep(bench, connection, side))
            concurrent.futures.wait([beats], timeout=2)
        kept["beats"].append(beats.result())
    kept["wal"].append((bench.wal_position(connection) - position) / (time.monotonic() - begun))
    kept["sweeps"] += len(sweeps)
    kept["dead"] = max(kept["dead"], _vacuumed(connection, side)[3])
    connection.close()
    return statistics.median(sweeps)


def _sweep(bench, connection, side):
    """One sweep, in the unit."""
    begun = time.perf_counter()
    closed = bench.value(connection, SWEEPS[side])
    taken = 1000 * (time.perf_counter() - begun)
    if closed != 0:
        raise BenchError(f"{side}: a sweep closed {closed} runs that were alive")
    return taken * 100000 / _runs(bench)


def sides(bench):
    return {side: lambda side=side: _measure(bench, side) for side in (GUARDED, ROWS)}


def facts(bench):
    connection = bench.connect()
    wanted, told = _runs(bench) / PERIOD, []
    for side, name in ((GUARDED, "guarded"), (ROWS, "rows")):
        kept = state[side]
        vacuumed, updates, hot, _ = (after - before for after, before in zip(_vacuumed(connection, side), kept["before"]))
        nothing = 0 if side == GUARDED else None
        told += [
            # 3 %: pgbench starts its statements at random times, so many on the average.
            Fact(f"heartbeats, of {wanted:.0f} wanted", name, statistics.median(kept["beats"]), "a second", at_least=0.97 * wanted),
            Fact("WAL, sweeps included", name, statistics.median(kept["wal"]), "bytes a second"),
            Fact("row versions written", name, updates, at_most=nothing),
            Fact("of them HOT", name, f"{100 * hot / updates:.1f}" if updates else "-", "%"),
            Fact("dead rows, at most", name, kept["dead"], at_most=nothing),
            Fact("vacuums by autovacuum", name, vacuumed, at_most=nothing),
            Fact("sweeps", name, kept["sweeps"]),
            Fact("sweep while nobody beats", name, statistics.median(_sweep(bench, connection, side) for _ in range(3)), UNIT),
            Fact("the tables have grown by", name, _size(connection, side) - kept["size"], "bytes")]
    memory = int(bench.value(connection, "SELECT size FROM pg_shmem_allocations WHERE name = 'emag_sync_guard runs'"))
    room = int(bench.value(connection, "SHOW emag_sync_guard.max_tracked_runs"))
    told += [Fact("memory for each run", "guarded", memory / room, "bytes"),
             Fact("disk for each run", "rows", _size(connection, ROWS) / _runs(bench), "bytes")]
    connection.close()
    return told
