-- explain_run: every rule with its figures, and which one decides; by text, uuid and bigint key.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA explain;
SET search_path = explain;
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;
CREATE TABLE runs (
    id uuid PRIMARY KEY,
    sync_type text,
    status text NOT NULL DEFAULT 'running',
    started_at timestamp,
    completed_at timestamp,
    errors jsonb,
    last_heartbeat timestamp,
    processed_items integer NOT NULL DEFAULT 0);
CREATE INDEX ON runs (status);
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}');
SELECT sync_guard.set_limit('runs', '{"sync_type": "orders"}', max_silence => '10 minutes', max_age => '1 day');
CREATE FUNCTION run(n integer, sync_type text, started_at timestamp, last_heartbeat timestamp DEFAULT NULL, status text DEFAULT 'running') RETURNS void LANGUAGE sql AS $$
    INSERT INTO explain.runs (id, sync_type, started_at, last_heartbeat, status) VALUES (('00000000-0000-4000-8000-00000000000' || n)::uuid, sync_type, started_at, last_heartbeat, status) $$;
ALTER TABLE runs DISABLE TRIGGER USER;
SELECT count(*) FROM (SELECT run(1, 'products', ago('20 minutes 30 seconds')) UNION ALL SELECT run(2, 'products', ago('2 hours 10 minutes 30 seconds')) UNION ALL
    SELECT run(3, 'products', ago('3 days 4 hours 30 minutes'), ago('5 minutes 30 seconds')) UNION ALL SELECT run(4, 'orders', ago('20 minutes 30 seconds')) UNION ALL
    SELECT run(5, 'orders', ago('1 day 1 hour 30 minutes'), ago('30 seconds')) UNION ALL SELECT run(6, 'orders', NULL) UNION ALL SELECT run(7, 'orders', ago('-2 hours -30 seconds')) UNION ALL
    SELECT run(8, 'orders', ago('3 hours'), NULL, 'completed') UNION ALL SELECT run(9, 'orders', 'infinity', '-infinity')) AS r;
ALTER TABLE runs ENABLE TRIGGER USER;

-- All ten rules, in their order.
SELECT * FROM sync_guard.explain_run('runs', '00000000-0000-4000-8000-000000000002');
-- Of the others those that apply, and the one that decides: rule 0 where none fits. (Seconds differ from call to call.)
CREATE VIEW decided AS
    SELECT right(r.id::text, 1) AS run, e.rule, regexp_replace(e.evidence, '\d+ s\M', 'some seconds') AS evidence, regexp_replace(e.measured, '\d+ s\M|\d+\.\d+ s', 'some seconds') AS measured, e.limit_used, e.verdict, e.fits, e.decides
    FROM explain.runs AS r, sync_guard.explain_run('explain.runs', r.id) AS e WHERE e.applies ORDER BY r.id, e.rule;
SELECT * FROM decided;
-- What it says is what the reaping does.
SELECT string_agg(run, ' ') FILTER (WHERE decides AND rule > 0) AS dead, (SELECT string_agg(right(run_key, 1), ' ' ORDER BY run_key) FROM sync_guard.stale_syncs(relation => 'runs')) AS stale FROM decided;
-- By the journal, once it was reaped.
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT rule, regexp_replace(evidence, 'line \d+', 'line <n>') AS evidence, measured, limit_used, verdict, decides FROM sync_guard.explain_run('runs', '00000000-0000-4000-8000-000000000002');
SELECT rule, evidence, verdict, decides FROM sync_guard.explain_run('runs', '00000000-0000-4000-8000-000000000008');
SELECT sync_guard.overturn_reap('runs', '00000000-0000-4000-8000-000000000002', 'completed');
SELECT rule, evidence, verdict, decides FROM sync_guard.explain_run('runs', '00000000-0000-4000-8000-000000000002');

-- The key as clients send it: untyped, text, uuid, bigint; prepared.
SELECT count(*) FROM sync_guard.explain_run('runs', '00000000-0000-4000-8000-000000000001'::text);
SELECT count(*) FROM sync_guard.explain_run('runs', '00000000-0000-4000-8000-000000000001'::uuid);
SELECT count(*) FROM sync_guard.explain_run('runs', '{00000000-0000-4000-8000-000000000001}');
PREPARE by_uuid(uuid) AS SELECT count(*) FROM sync_guard.explain_run('runs', $1);
EXECUTE by_uuid('00000000-0000-4000-8000-000000000001');
-- The only guarded table needs no name; of several, one is to be said.
SELECT count(*) FROM sync_guard.explain_run(NULL, '00000000-0000-4000-8000-000000000001');
CREATE TABLE numbered (id bigint PRIMARY KEY, code varchar(20) UNIQUE, status text NOT NULL, started_at timestamptz);
SELECT sync_guard.guard_table('numbered', key_column => 'id', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO numbered VALUES (9007199254740993, 'a run', 'running', now());
SELECT count(*) FROM sync_guard.explain_run('numbered', 9007199254740993);
SELECT count(*) FROM sync_guard.explain_run('numbered', '9007199254740993');
SELECT sync_guard.guard_table('numbered', key_column => 'code');
ALTER TABLE numbered ALTER code SET NOT NULL;
SELECT sync_guard.guard_table('numbered', key_column => 'code');
SELECT count(*) FROM sync_guard.explain_run('numbered', 'a run');
-- What is not there.
SELECT sync_guard.explain_run(NULL, 'a run');
SELECT sync_guard.explain_run('numbered', 'a ru');
SELECT sync_guard.explain_run('numbered', 9007199254740993);
SELECT sync_guard.explain_run('runs', 'no uuid');
SELECT sync_guard.explain_run('runs', NULL::text);
SELECT sync_guard.explain_run('pg_class', 'a');

-- The query by which live runs are found can be looked at; an index on the status serves it.
SELECT sync_guard.live_runs_query('numbered');
SET enable_seqscan = off;
SET enable_bitmapscan = off;
DO $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || sync_guard.live_runs_query('explain.runs') LOOP
        IF line ~ 'Index Scan' THEN RAISE WARNING '%', trim(line); END IF;
    END LOOP;
END $$;
RESET enable_seqscan;
RESET enable_bitmapscan;

DROP SCHEMA explain CASCADE;
