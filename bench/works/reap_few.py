"""100 stale runs are closed, in histories that differ in length alone: the cost is to follow the runs that live, not those that
have ended. Timed is reap_stale_syncs with its commit. The stale runs are new ones in each round, as after a restart of the server.

With --huge there is a history a hundred times as long, in a table of 25 partitions and one for what comes; and the short one in
such a table too, which tells what the partitions cost and what the length. Without, what it would take is extrapolated, and said to
be: a search in an index grows with the logarithm of its length, so each tenfold is taken to add what the first one did.
"""
import statistics

from aims import Fact, Ratio
from works._application import INDEXES, TABLE, add_runs, check, guard, make_schema, make_table

TITLE = "100 stale runs closed in a long history"
UNIT = "ms"
ROUNDS = (25, 5)
DATABASE = False
SETTINGS = ["emag_sync_guard.restart_grace = 0", "max_wal_size = 8GB"]
# The names are those of the full form; the facts have the numbers of every form.
ONE, TEN = "1 000 000 runs", "10 000 000 runs"
ONE_PARTITIONED, HUNDRED = "1 000 000 runs, partitioned", "100 000 000 runs, partitioned"
HISTORIES = ONE, TEN, ONE_PARTITIONED, HUNDRED
RATIOS = [Ratio(TEN, ONE, at_most=1.2)]
PARTITIONS = 25
samples = {}


def lengths(bench):
    """{history: its number of runs}"""
    found = {ONE: bench.size(1_000_000, 20_000, 2_000), TEN: bench.size(10_000_000, 200_000, 20_000)}
    if bench.huge:
        found[ONE_PARTITIONED] = found[ONE]
        found[HUNDRED] = bench.size(100_000_000, 2_000_000, 200_000)
    return found


def database(bench, history):
    return f"{bench.name}_{HISTORIES.index(history)}"


def prepare(bench):
    if bench.huge:
        RATIOS.extend([Ratio(HUNDRED, ONE, at_most=1.2), Ratio(HUNDRED, ONE_PARTITIONED), Ratio(ONE_PARTITIONED, ONE)])
    for history, runs in lengths(bench).items():
        bench.note(f"making {runs} runs")
        name = database(bench, history)
        bench.create_database(name)
        make_schema(bench, name)
        bench.psql("DROP TABLE app.emag_sync_progress; ALTER TABLE app.emag_sync_logs RENAME TO shape", database=name)
        if history in (ONE_PARTITIONED, HUNDRED):
            make_partitioned(bench, name, runs)
        else:
            make_table(bench, TABLE, runs, like="app.shape", database=name)
        guard(bench, options=", key_column => 'id'", database=name)
        bench.settle(name)
        samples[history] = []


def make_partitioned(bench, name, runs):
    """Each partition is filled, indexed, and then attached; the last one is for what comes."""
    session = bench.connect(name)
    now = f"timestamp '{bench.value(session, 'SELECT localtimestamp(0)')}'"
    session.close()
    indexes = "".join(f"CREATE INDEX ON {TABLE} ({columns});" for columns in INDEXES)
    bench.psql(f"CREATE TABLE {TABLE} (LIKE app.shape INCLUDING ALL EXCLUDING INDEXES) PARTITION BY RANGE (started_at);"
               f"ALTER TABLE {TABLE} ADD PRIMARY KEY (id, started_at); {indexes}", database=name)
    each = runs // PARTITIONS
    for part in range(PARTITIONS + 1):
        bounds = [f"{now} - interval '10 minutes' - {part * each + rows} * interval '10 seconds'" for rows in (each, 0)]
        if part == PARTITIONS:
            bounds = [f"{now} - interval '10 minutes'", "'infinity'"]
        make_table(bench, f"app.part_{part}", each if part < PARTITIONS else 0, like="app.shape", database=name,
                   primary="id, started_at", first=part * each + 1, now=now)
        bench.psql(f"ALTER TABLE {TABLE} ATTACH PARTITION app.part_{part} FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})",
                   database=name)


def close(bench, history):
    count, name = bench.size(100, 100, 10), database(bench, history)
    add_runs(bench, TABLE, count, age="2 hours", seen=False, database=name)
    bench.psql("CHECKPOINT", database=name)
    session = bench.connect(name)
    bench.execute(session, "SELECT sync_guard.sync_is_running()")  # what a session does at its first call of the guard
    lines = "SELECT count(*) FROM sync_guard.journal"
    before = bench.value(session, lines)
    seconds = bench.timed(session, "SELECT sync_guard.reap_stale_syncs()")
    check("runs that still say they run", bench.value(session, f"SELECT count(*) FROM {TABLE} WHERE status = 'running'"), 0)
    check("lines of the journal", bench.value(session, lines) - before, count)
    session.close()
    samples[history].append(seconds * 1000)
    return seconds * 1000


def sides(bench):
    return {history: lambda history=history: close(bench, history) for history in lengths(bench)}


def facts(bench):
    told = [Fact("runs in it", history, runs) for history, runs in lengths(bench).items()]
    if not bench.huge:
        one, ten = (statistics.median(samples[history]) for history in (ONE, TEN))
        told.append(Fact("extrapolated, not measured", HUNDRED.split(",", maxsplit=1)[0], (ten + ten - one) / one, f"x {ONE}"))
    return told
