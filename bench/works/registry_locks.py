"""How much sessions get into each other's way at the registry in shared memory: each of them beats in a loop inside the server,
10 000 heartbeats in a statement, for a run of its own. That is some hundred times what workers do that have a client between
two beats. Beside them, readers who go over all runs in memory, one call after the other.

Meanwhile everybody's wait event is sampled. Waits for the registry's locks (emag_sync_guard_runs) are stated as the share of
samples of the sessions that beat. With more sessions than processors a session that is not running can be one that was taken
off its processor while it held a lock.
"""
import concurrent.futures
import time

from aims import Fact, Ratio
from works._leased import RUNS, START, start_runs

TITLE = "heartbeats inside the server, together"
UNIT = "a second"
ROUNDS = (5, 2)
WARM = 0
SETTINGS = ["emag_sync_guard.max_tracked_runs = 12000"]
BEATS = 10_000
READERS = "2 sessions, beside 2 that read"
SESSIONS = {"1 session": (1, 0), "2 sessions": (2, 0), "16 sessions": (16, 0), READERS: (2, 2)}
RATIOS = [Ratio(side, "1 session") for side in list(SESSIONS)[1:]]

BEAT = f"""\\if :known = 0
SELECT tokens[:client_id + 1] AS token FROM mine \\gset
\\set known 1
\\endif
SELECT count(*) FILTER (WHERE sync_guard.heartbeat(:token)) AS beaten, count(n) FROM generate_series(1, {BEATS}) AS n;
"""
# Of a table that has none of the runs, which costs going over them and no more.
READ = "SELECT sync_guard.scope_is_running('{}', 'others');\n"
SAMPLE = """
    SELECT count(*), count(*) FILTER (WHERE wait_event = 'emag_sync_guard_runs') FROM pg_stat_activity
    WHERE state = 'active' AND query LIKE '%heartbeat%' AND pid <> pg_backend_pid()"""
state = {}


def prepare(bench):
    bench.psql(RUNS + "CREATE TABLE others (LIKE runs INCLUDING ALL);"
               " SELECT sync_guard.guard_table('others', scope_columns => '{sync_type}');"
               " CREATE TABLE mine (tokens bigint[]);")
    bench.pgbench(START, clients=1, transactions=bench.size(100, 10, 1), variables={"count": 100})
    connection = bench.connect()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO mine VALUES (%s)", (start_runs(cursor, 16),))
    connection.close()
    state.update({side: [0, 0] for side in SESSIONS})
    bench.settle()


def measure(bench, side):
    beating, reading = SESSIONS[side]
    seconds = bench.size(5, 2, 1)
    connection = bench.connect()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        beats = pool.submit(bench.pgbench, BEAT, clients=beating, seconds=seconds, variables={"known": 0})
        reads = [pool.submit(bench.pgbench, READ, clients=reading, seconds=seconds)] if reading else []
        while not beats.done():
            with connection.cursor() as cursor:
                cursor.execute(SAMPLE)
                state[side] = [before + now for before, now in zip(state[side], cursor.fetchone())]
            time.sleep(0.01)
        for one in reads:
            one.result()
    connection.close()
    return beats.result().tps * BEATS


def sides(bench):
    return {side: lambda side=side: measure(bench, side) for side in SESSIONS}


def facts(bench):
    del bench
    return [Fact("runs in memory", "", 10_000)] + [
        Fact("samples in which a session that beats waits for the registry", side, 100 * waiting / max(seen, 1), "%")
        for side, (seen, waiting) in state.items()]
