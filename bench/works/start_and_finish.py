"""A run that starts and finishes, each in a transaction of its own, through a client with prepared statements: start_sync and
finish_sync, which take and end a lease besides, against the INSERT and the UPDATE by primary key that a careful application
writes. Timed is both together, as pgbench does it one after the other.

The server waits for the disk at each commit, as it does by default; beside it, what it takes where it does not (synchronous_commit
off), which is all processor: nothing of the guard hides behind the disk there. Both tables have the application's indexes.
"""
from aims import Ratio
from works._application import TABLE, check, guard, make_schema, make_table

TITLE = "start and finish of a run"
UNIT = "us"
ROUNDS = (9, 3)
RATIOS = [
    Ratio("guarded, 1 client", "bare, 1 client", at_most=1.5),
    Ratio("guarded, 2 clients", "bare, 2 clients", at_most=1.5),
    Ratio("guarded, bound to the session, 1 client", "bare, 1 client"),
    Ratio("guarded, no lease, 1 client", "bare, 1 client"),
    Ratio("guarded, 1 client, no wait for the disk", "bare, 1 client, no wait for the disk"),
    Ratio("guarded, 2 clients, no wait for the disk", "bare, 2 clients, no wait for the disk"),
]

START = """SELECT token FROM sync_guard.start_sync('app.emag_sync_logs', '{{"sync_type": "products", "account_type": "main",
    "operation": "full_sync", "triggered_by": "api", "sync_version": "v4.4.8"}}'{options}) \\gset
"""
FINISH = """SELECT sync_guard.finish_sync(:token, 'completed', NULL, '{"total_items": 2550, "processed_items": 2550}');
"""
INSERT = """INSERT INTO {table} (id, sync_type, account_type, operation, status, total_items, processed_items, created_items,
    updated_items, failed_items, pages_processed, api_requests_made, rate_limit_hits, started_at, triggered_by, sync_version)
VALUES (gen_random_uuid(), 'products', 'main', 'full_sync', 'running', 0, 0, 0, 0, 0, 0, 0, 0, now() AT TIME ZONE 'UTC',
    'api', 'v4.4.8')
RETURNING id \\gset
"""
UPDATE = """UPDATE {table} SET status = 'completed', completed_at = now() AT TIME ZONE 'UTC',
    duration_seconds = extract(epoch FROM now() AT TIME ZONE 'UTC' - started_at), total_items = 2550, processed_items = 2550,
    updated_at = now() AT TIME ZONE 'UTC' WHERE id = :id;
"""
SCRIPTS = {
    "guarded": START.format(options="") + FINISH,
    "guarded, bound to the session": START.format(options=", bind_session => true") + FINISH,
    "guarded, no lease": (INSERT + UPDATE).format(table=TABLE),
    "bare": (INSERT + UPDATE).format(table="app.bare"),
}


def prepare(bench):
    make_schema(bench)
    history = bench.size(100_000, 10_000)
    make_table(bench, "app.bare", history)
    make_table(bench, "app.guarded", history)
    bench.psql("DROP TABLE app.emag_sync_logs CASCADE; ALTER TABLE app.guarded RENAME TO emag_sync_logs")
    guard(bench)
    bench.settle()


def measure(bench, what, clients, wait):
    transactions = bench.size(3_000, 150, 10) if wait else bench.size(10_000, 500, 10)
    session = bench.connect()
    table = "app.bare" if what == "bare" else TABLE
    count = f"SELECT count(*) FROM {table} WHERE status = 'completed' AND completed_at IS NOT NULL"
    before = bench.value(session, count)
    figures = bench.pgbench(SCRIPTS[what], clients=clients, transactions=transactions,
                            settings={"synchronous_commit": "on" if wait else "off"})
    check(f"{what}: runs that have finished", bench.value(session, count) - before, clients * transactions)
    session.close()
    return figures.latency_ms * 1000


def sides(bench):
    result = {}
    for what in SCRIPTS:
        for clients in (1, 2):
            for wait in (True, False):
                name = f"{what}, {clients} client{'s' if clients > 1 else ''}{'' if wait else ', no wait for the disk'}"
                if what in ("guarded", "bare") or (clients == 1 and wait):
                    result[name] = lambda what=what, clients=clients, wait=wait: measure(bench, what, clients, wait)
    return result


def facts(bench):
    session = bench.connect()
    left = bench.value(session, "SELECT count(*) FROM sync_guard.running_syncs")
    check("runs that still run", left, 0)
    session.close()
    return []
