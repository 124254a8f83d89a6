"""The table that the guard is built for, as demo/application.sql has it, with a history; shared by the works."""
import pathlib

from server import BenchError

TABLE = "app.emag_sync_logs"

# Without id, status, errors, end and duration: what each run has.
_COLUMNS = ("id, sync_type, account_type, operation, status, total_items, processed_items, created_items, updated_items,"
            " failed_items, pages_processed, api_requests_made, rate_limit_hits, started_at, completed_at, duration_seconds,"
            " triggered_by, sync_version, created_at, updated_at")

# A run each ten seconds back from now, which took two to nine minutes; 1 of 20 failed. Two of three are products.
_HISTORY = f"""
INSERT INTO {{table}} ({_COLUMNS})
SELECT gen_random_uuid(), (ARRAY['products', 'orders', 'products'])[1 + n % 3], (ARRAY['main', 'fbe', 'both'])[1 + n / 3 % 3],
    CASE WHEN n % 8 = 0 THEN 'full_sync' ELSE 'incremental_sync' END, CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'completed' END,
    2550, 2550, n % 5, 2550 - n % 5, 0, 26, 27, 0, began, began + took, extract(epoch FROM took), 'api', 'v4.4.8', began, began
FROM generate_series({{first}}::bigint, {{last}}) AS n,
    LATERAL (SELECT {{now}} - interval '10 minutes' - n * interval '10 seconds' AS began,
                    (120 + n * 97 % 420) * interval '1 second' AS took) AS run
"""

# Runs of one status, each of an operation of its own, a millisecond apart, the youngest {{age}} ago; such as have ended took five
# minutes.
_RUNS = f"""
INSERT INTO {{table}} ({_COLUMNS})
SELECT gen_random_uuid(), 'products', (ARRAY['main', 'fbe', 'both'])[1 + n % 3], 'sync ' || n, '{{status}}',
    2550, 100 + n % 1000, 0, n % 1000, 0, 10, 11, 0, began, began + took, extract(epoch FROM took), 'api', 'v4.4.8', began, began
FROM generate_series(1, {{count}}) AS n,
    LATERAL (SELECT now() AT TIME ZONE 'UTC' - interval '{{age}}' - n * interval '1 millisecond' AS began,
                    CASE '{{status}}' WHEN 'running' THEN NULL ELSE interval '5 minutes' END AS took) AS run
"""

NOW = "now() AT TIME ZONE 'UTC'"
INDEXES = ("sync_type, account_type", "status", "started_at")


def make_schema(bench, database=None):
    """The application's schema, as the demo has it."""
    path = pathlib.Path(__file__).parents[2] / "demo" / "application.sql"
    bench.psql(path.read_text(encoding="utf-8"), database=database)


def make_table(bench, table, history=0, like=TABLE, database=None, primary="id", first=1, now=NOW):
    """A table of that shape with so many runs that have ended, from the `first` on back; indexed when it is full, which takes a
    fraction of the time."""
    script = [f"CREATE TABLE {table} (LIKE {like} INCLUDING ALL EXCLUDING INDEXES);"]
    if history:
        script.append(_HISTORY.format(table=table, first=first, last=first + history - 1, now=now) + ";")
    script.append(f"ALTER TABLE {table} ADD PRIMARY KEY ({primary});")
    script += [f"CREATE INDEX ON {table} ({columns});" for columns in INDEXES]
    bench.psql("\n".join(script), database=database)


def add_runs(bench, table, count, status="running", age="1 second", seen=True, database=None):
    """Runs of that status; the guard sees them begin where the table is guarded already, but for those that are not to be seen:
    they are what a server finds that was restarted."""
    before = "" if seen else "SET emag_sync_guard.enabled = off;"
    bench.psql(before + _RUNS.format(table=table, count=count, status=status, age=age), database=database)


def guard(bench, table=TABLE, options="", database=None):
    bench.psql(f"SELECT sync_guard.guard_table('{table}'{options})", database=database)


def check(what, got, wanted):
    """A work that did not do what it says measures nothing."""
    if got != wanted:
        raise BenchError(f"{what}: expected {wanted}, found {got}")
