"""The answer of a status endpoint: sync_status() makes the whole JSON; the application asks three statements (is one running, which
one, the last ten) and makes the JSON itself, which is not in its figure. Timed with the ways between client and server, as an
endpoint has them; beside it as in is_running, twenty times in a pipeline, which spares the application two of its three ways and
leaves the server's time.
"""
from aims import Ratio
from server import BenchError
from works._application import TABLE, add_runs, check, guard, make_schema, make_table
from works._pipeline import BATCH, microseconds

TITLE = "sync_status(), the JSON of a status endpoint"
UNIT = "us"
ROUNDS = (9, 3)
SETTINGS = ["emag_sync_guard.max_tracked_runs = 2048"]  # the default: a server in whose memory is nothing of other works
RATIOS = [Ratio("guarded, each with its way", "three statements, each with its way", at_most=1.0),
          Ratio("guarded", "three statements")]

GUARDED = "SELECT sync_guard.sync_status('products', 'app.emag_sync_logs');\n"
THREE = """SELECT EXISTS (SELECT FROM app.emag_sync_logs WHERE sync_type = 'products' AND status = 'running');
SELECT id, account_type, operation, started_at, total_items, processed_items FROM app.emag_sync_logs
    WHERE sync_type = 'products' AND status = 'running' ORDER BY started_at DESC LIMIT 1;
SELECT id, account_type, operation, status, started_at, completed_at, duration_seconds, total_items, created_items, updated_items,
    failed_items FROM app.emag_sync_logs WHERE sync_type = 'products' ORDER BY started_at DESC LIMIT 10;
"""


def prepare(bench):
    make_schema(bench)
    make_table(bench, "app.history", bench.size(100_000, 20_000))
    bench.psql("DROP TABLE app.emag_sync_logs CASCADE; ALTER TABLE app.history RENAME TO emag_sync_logs")
    guard(bench)
    add_runs(bench, TABLE, 10)
    bench.settle()
    told = bench.psql("SELECT s ->> 'is_running', s #>> '{current_sync,operation}', jsonb_array_length(s -> 'recent_syncs')"
                      f" FROM ({GUARDED.rstrip().rstrip(';')} AS s) AS asked")
    check("what sync_status says", told, "true|sync 1|10")
    check("rows of the three statements", len(bench.psql(THREE).splitlines()), 12)


def with_ways(bench, script):
    figures = bench.pgbench(script, seconds=bench.size(5, 1, 1))
    if figures.failed or not figures.transactions:
        raise BenchError(f"{figures.failed} of {figures.transactions} transactions failed")
    return figures.latency_ms * 1000


def sides(bench):
    return {
        "guarded": lambda: microseconds(bench, GUARDED * BATCH),
        "three statements": lambda: microseconds(bench, THREE * BATCH),
        "guarded, each with its way": lambda: with_ways(bench, GUARDED),
        "three statements, each with its way": lambda: with_ways(bench, THREE),
    }
