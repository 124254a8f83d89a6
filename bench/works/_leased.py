"""A guarded table of runs, small, with what a run has: the works about leases use it."""

RUNS = """
    CREATE TABLE runs (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sync_type text NOT NULL,
        status text NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'partial')),
        started_at timestamptz NOT NULL, completed_at timestamptz, processed_items integer NOT NULL DEFAULT 0, errors jsonb);
    CREATE INDEX ON runs (status);
    SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}');
"""


def start_runs(cursor, count):
    """So many runs with heartbeat leases that outlive the bench; their tokens. (In FROM, a function that does not name n would be
    called once for all.)"""
    cursor.execute("""
        SELECT array_agg((sync_guard.start_sync('runs', '{"sync_type": "products"}', ttl => '1 day')).token)
        FROM generate_series(1, %s) AS n""", (count,))
    return cursor.fetchone()[0]


# The same as a script of pgbench, for many: `count` of them in a transaction.
START = """
SELECT count((sync_guard.start_sync('runs', '{"sync_type": "products"}', ttl => '1 day')).token)
FROM generate_series(1, :count) AS n;
"""
