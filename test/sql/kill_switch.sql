-- emag_sync_guard.enabled: off, every write goes through as if nothing stood there, and nothing is reaped; no DDL is needed.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA kill_switch;
SET search_path = kill_switch;
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;
CREATE TABLE runs (id integer PRIMARY KEY, status text DEFAULT 'running', started_at timestamp, completed_at timestamp, errors jsonb);
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{}', exclusive => true);
INSERT INTO runs VALUES (1, 'completed', '2025-10-01 10:00', '2025-10-01 10:05', NULL), (2, 'running', ago('2 hours'), NULL, NULL);
SELECT sync_guard.reap_stale_syncs(relation => 'runs');

SHOW emag_sync_guard.enabled;
SET emag_sync_guard.enabled = off;
-- Illegal, late, a second run of the scope, without a start, without a status.
UPDATE runs SET status = 'running' WHERE id = 1;
UPDATE runs SET status = 'completed' WHERE id = 2;
INSERT INTO runs (id) VALUES (3), (4);
INSERT INTO runs (id, status) VALUES (5, NULL);
INSERT INTO runs (id, started_at) VALUES (6, ago('2 hours'));
SELECT id, status, started_at IS NULL AS no_start, completed_at IS NULL AS no_end FROM runs ORDER BY id;
SELECT count(*) FROM sync_guard.journal WHERE relation = 'runs'::regclass AND event <> 'reaped';
-- Nothing is reaped, and the dry run says so; who asks is told the truth all the same.
SET client_min_messages = notice;
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT count(*) FROM sync_guard.stale_syncs(relation => 'runs');
SET client_min_messages = warning;
SELECT sync_guard.sync_is_running(relation => 'runs');
SELECT count(*) AS stuck FROM sync_guard.stuck_syncs WHERE relation = 'runs'::regclass;
SELECT count(*) AS explained FROM sync_guard.explain_run('runs', 6) WHERE decides AND verdict = 'silent';
RESET emag_sync_guard.enabled;
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT id, status FROM runs WHERE id IN (1, 6) ORDER BY id;
-- For one transaction.
BEGIN;
SET LOCAL emag_sync_guard.enabled = off;
UPDATE runs SET status = 'completed' WHERE id = 6;
COMMIT;
\set VERBOSITY sqlstate
UPDATE runs SET status = 'running' WHERE id = 6;
SELECT id, status FROM runs WHERE id = 6;

-- It is the superuser's, or his to whom he gives it; for a role or a database it needs no session.
CREATE ROLE regress_esg_kill_switch;
GRANT USAGE ON SCHEMA kill_switch TO regress_esg_kill_switch;
GRANT ALL ON runs TO regress_esg_kill_switch;
SET ROLE regress_esg_kill_switch;
SET emag_sync_guard.enabled = off;
UPDATE runs SET status = 'running' WHERE id = 6;
RESET ROLE;
GRANT SET ON PARAMETER emag_sync_guard.enabled TO regress_esg_kill_switch;
SET ROLE regress_esg_kill_switch;
SET emag_sync_guard.enabled = off;
UPDATE runs SET status = 'running' WHERE id = 6;
RESET emag_sync_guard.enabled;
-- The switch by which overturn_reap speaks to the triggers is nobody's but the superuser's.
SET emag_sync_guard.overturning = on;
RESET ROLE;
SELECT id, status FROM runs WHERE id = 6;
-- Names under emag_sync_guard that do not exist are refused.
SET emag_sync_guard.enabld = off;
\set VERBOSITY default

DROP SCHEMA kill_switch CASCADE;
DROP OWNED BY regress_esg_kill_switch;
DROP ROLE regress_esg_kill_switch;
