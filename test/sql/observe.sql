-- Observing: a table is judged and its runs' deaths are written down, and nothing in it is changed or refused.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA observe;
SET search_path = observe;
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;
CREATE TABLE runs (
    id integer PRIMARY KEY,
    sync_type text NOT NULL DEFAULT 'products',
    status text DEFAULT 'running',
    started_at timestamp,
    completed_at timestamp,
    duration_seconds double precision,
    errors jsonb);
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}', exclusive => true, mode => 'observe');
CREATE VIEW journal AS
    SELECT run_key AS run, event, (SELECT m.event || ' ' || m.run_key FROM sync_guard.journal AS m WHERE m.id = j.reaping) AS marks, verdict, wanted ->> 'status' AS wanted, false_positive AS mistake
    FROM sync_guard.journal AS j WHERE relation = 'runs'::regclass ORDER BY id;

-- Nothing is filled, refused or kept; two runs of one scope are let through; what would have been refused is warned of.
\set VERBOSITY terse
INSERT INTO runs (id) VALUES (1);
INSERT INTO runs (id, started_at) VALUES (2, ago('5 minutes')), (3, ago('5 minutes'));
UPDATE runs SET status = 'completed' WHERE id = 2;
UPDATE runs SET status = 'failed', errors = '["late"]' WHERE id = 2;
UPDATE runs SET status = 'running' WHERE id = 2;
UPDATE runs SET status = NULL WHERE id = 2;
INSERT INTO runs (id, status) VALUES (4, NULL);
\set VERBOSITY default
SELECT id, status, started_at IS NULL AS no_start, completed_at IS NULL AS no_end, duration_seconds, errors FROM runs ORDER BY id;
SELECT count(*) FROM journal;

-- Dead runs: said so by everybody who is asked, written down once each, left as they are.
DELETE FROM runs;
INSERT INTO runs (id, started_at) SELECT n, ago('2 hours') FROM generate_series(1, 5) AS n;
INSERT INTO runs (id, started_at) VALUES (6, ago('5 minutes'));
SELECT run_key, verdict, action FROM sync_guard.stale_syncs(relation => 'runs');
SET client_min_messages = notice;
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SET client_min_messages = warning;
SELECT count(*) FILTER (WHERE status = 'running' AND completed_at IS NULL AND errors IS NULL) AS untouched FROM runs;
SELECT * FROM journal;
SELECT sync_guard.sync_is_running('products', 'runs'), jsonb_path_query_array(sync_guard.sync_status('products', 'runs'), '$.recent_syncs[*].status');
SELECT run_key, mode, outcome FROM sync_guard.reaped_syncs WHERE relation_name = 'observe.runs' ORDER BY run_key;
SELECT DISTINCT rule, verdict, decides FROM sync_guard.explain_run('runs', 1) WHERE decides;
-- What was only said cannot be taken back.
\set VERBOSITY sqlstate
SELECT sync_guard.overturn_reap('runs', 1, 'completed');
\set VERBOSITY default

-- What becomes of them: a success is the guard's mistake, a failure none; a run that nobody spoke of leaves no line.
UPDATE runs SET status = 'completed' WHERE id = 1;
UPDATE runs SET status = 'failed', errors = '["worker: timeout"]' WHERE id = 2;
UPDATE runs SET status = 'completed' WHERE id = 6;
SELECT * FROM journal WHERE event <> 'would_reap';
SELECT run_key, outcome, false_positive, wanted ->> 'status' AS wanted FROM sync_guard.reaped_syncs WHERE relation_name = 'observe.runs' ORDER BY run_key;
SELECT id, status, errors FROM runs WHERE id IN (1, 2, 6) ORDER BY id;

-- From now on it is guarded: what was observed is reaped, with a line of its own; and back.
SELECT sync_guard.guard_table('runs', mode => 'guard', exclusive => false);
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT run, event FROM journal WHERE run IN ('3', '4', '5');
UPDATE runs SET status = 'completed' WHERE id = 3;
SELECT sync_guard.guard_table('runs', mode => 'observe');
UPDATE runs SET status = 'completed' WHERE id = 4;
SELECT id, status FROM runs WHERE id IN (3, 4, 5) ORDER BY id;
SELECT * FROM journal WHERE run IN ('3', '4', '5') AND event NOT IN ('reaped', 'would_reap');
-- (Nobody holds it for reaped any more.) A retry is written down, so that its next death is too.
UPDATE runs SET status = 'failed' WHERE id = 4;
UPDATE runs SET status = 'running' WHERE id IN (2, 3);
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT run, event, marks FROM journal WHERE run IN ('2', '3');
-- A policy of the session is not asked.
SET emag_sync_guard.late_finish = 'reject';
UPDATE runs SET status = 'completed' WHERE id = 5;
RESET emag_sync_guard.late_finish;
SELECT id, status FROM runs WHERE id = 5;

DROP SCHEMA observe CASCADE;
