"""10 000 stale runs of a table of 1 000 000 are closed, in one statement and its commit: by reap_stale_syncs; by the UPDATE that
operators ran by hand; and by that UPDATE with a journal that says what the guard's says, the row as it was in it, in one statement
with it.

The stale runs are new ones in each round: rows that a server finds when it has been restarted, which is how they came to be. So
the module's memory knows nothing of them, and rows are believed no minute longer than they say (restart_grace).
"""
from aims import Ratio
from works._application import TABLE, add_runs, check, guard, make_schema, make_table

TITLE = "10 000 stale runs of 1 000 000 closed"
UNIT = "ms"
ROUNDS = (15, 3)
SETTINGS = ["emag_sync_guard.restart_grace = 0"]
RATIOS = [
    Ratio("guarded", "UPDATE by hand with the same journal", at_most=1.0),
    Ratio("guarded", "UPDATE by hand", at_most=1.5),
]

BY_HAND = """
UPDATE app.bare SET status = 'failed', completed_at = started_at + interval '5 minutes', duration_seconds = 300,
    errors = '["Sync interrupted by system restart or timeout"]'::jsonb
WHERE sync_type = 'products' AND status = 'running' AND started_at < (now() AT TIME ZONE 'UTC') - interval '1 hour'
"""
JOURNALED = """
WITH dead AS (
    SELECT id, to_jsonb(run) AS run, (now() AT TIME ZONE 'UTC') - started_at AS silence FROM app.bare AS run
    WHERE sync_type = 'products' AND status = 'running' AND started_at < (now() AT TIME ZONE 'UTC') - interval '1 hour'
    FOR NO KEY UPDATE SKIP LOCKED
), closed AS (
    UPDATE app.bare AS run SET status = 'failed', completed_at = now() AT TIME ZONE 'UTC',
        duration_seconds = extract(epoch FROM (now() AT TIME ZONE 'UTC') - started_at), updated_at = now() AT TIME ZONE 'UTC',
        errors = coalesce(errors, '[]') || jsonb_build_array(format('Sync interrupted by system restart or timeout: silent: '
                     'no sign of life for %s, limit 1 h', dead.silence))
    FROM dead WHERE run.id = dead.id
    RETURNING run.id, sync_type, account_type, started_at, processed_items, total_items, errors ->> -1 AS reason, dead.run,
        dead.silence
)
INSERT INTO app.journal (at, event, relation, relation_name, run_key, scope, verdict, reason, evidence,
    path, role, session_role, run)
SELECT now(), 'reaped', 'app.bare'::regclass, 'app.bare', id,
    jsonb_build_object('sync_type', sync_type, 'account_type', account_type), 'silent', reason,
    jsonb_build_object('done', processed_items, 'rule', 8, 'total', total_items, 'status', 'running', 'judged_at', now(),
        'started_at', started_at AT TIME ZONE 'UTC', 'age_seconds', extract(epoch FROM silence), 'limit_seconds', 3600,
        'silence_seconds', extract(epoch FROM silence), 'measured_seconds', extract(epoch FROM silence),
        'last_sign_of_life', started_at AT TIME ZONE 'UTC'),
    'call', current_user, session_user, run
FROM closed
"""


def prepare(bench):
    make_schema(bench)
    make_table(bench, "app.bare", history(bench))
    make_table(bench, "app.guarded", history(bench))
    bench.psql("DROP TABLE app.emag_sync_logs CASCADE; ALTER TABLE app.guarded RENAME TO emag_sync_logs;"
               "CREATE TABLE app.journal (LIKE sync_guard.journal INCLUDING ALL)")
    guard(bench)
    bench.settle()


def stale(bench):
    return bench.size(10_000, 1_000, 100)


def history(bench):
    return bench.size(990_000, 40_000, 400)


def close(bench, table, statement, journal):
    count = stale(bench)
    bench.psql(f"SET emag_sync_guard.enabled = off; DELETE FROM {table} WHERE operation LIKE 'sync %'")
    add_runs(bench, table, count, age="2 hours", seen=False)
    bench.psql(f"VACUUM (ANALYZE) {table}")
    bench.psql("CHECKPOINT")
    session = bench.connect()
    lines = f"SELECT count(*) FROM {journal}"
    before = bench.value(session, lines)
    # What a session does at its first call of the guard, or of these functions, is not what is measured.
    bench.execute(session, "SELECT sync_guard.sync_is_running()")
    seconds = bench.timed(session, statement)
    closed = f"SELECT count(*) FROM {table} WHERE operation LIKE 'sync %%' AND status = 'failed' AND errors IS NOT NULL"
    check("runs that were closed", bench.value(session, closed), count)
    if statement != BY_HAND:
        check("lines of the journal", bench.value(session, lines) - before, count)
    session.close()
    return seconds * 1000


def sides(bench):
    return {
        "guarded": lambda: close(bench, TABLE, "SELECT sync_guard.reap_stale_syncs()", "sync_guard.journal"),
        "UPDATE by hand with the same journal": lambda: close(bench, "app.bare", JOURNALED, "app.journal"),
        "UPDATE by hand": lambda: close(bench, "app.bare", BY_HAND, "app.journal"),
    }


def facts(bench):
    """The sizes of this form; and that the journals are alike: what they say, and bytes of a line."""
    session = bench.connect()
    told = [("stale runs closed at once", "", stale(bench)), ("runs of the table", "", history(bench) + stale(bench))]
    said = []
    for side, journal in (("guarded", "sync_guard.journal"), ("UPDATE by hand with the same journal", "app.journal")):
        said.append(bench.value(session, f"""SELECT array_agg(DISTINCT name ORDER BY name)
            FROM {journal}, LATERAL (SELECT jsonb_object_keys(evidence) UNION ALL SELECT jsonb_object_keys(scope)
                UNION ALL SELECT jsonb_object_keys(run)) AS field (name)"""))
        line = bench.value(session, f"SELECT round(avg(pg_column_size(j))) FROM {journal} AS j")
        told.append(("a line of the journal", side, line, "bytes"))
    check("what a line of the journal by hand says", said[1], said[0])
    session.close()
    return told
