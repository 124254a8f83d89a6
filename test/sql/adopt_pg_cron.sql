-- pg_cron's own history of runs, adopted as it is. The server must preload pg_cron for this database.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE EXTENSION pg_cron;
SELECT sync_guard.guard_table('cron.job_run_details');
SELECT key_column, status_column, live_statuses, failed_status, start_column, end_column, duration_column, error_column, scope_columns, summary_columns
FROM sync_guard.settings WHERE relation = 'cron.job_run_details'::regclass;
-- A run that its launcher lost, one that waits for its turn (it gets a start), one that has ended.
INSERT INTO cron.job_run_details (jobid, runid, job_pid, database, username, command, status, start_time, end_time) VALUES
    (1, 1001, 4711, 'db', current_user, 'SELECT 1', 'running', now() - interval '2 hours', NULL),
    (1, 1002, NULL, 'db', current_user, 'SELECT 1', 'starting', NULL, NULL),
    (1, 1003, 4712, 'db', current_user, 'SELECT 1', 'succeeded', now() - interval '3 hours', now() - interval '3 hours');
SELECT sync_guard.reap_stale_syncs(relation => 'cron.job_run_details');
SELECT runid, status, start_time IS NOT NULL AS started, end_time - now() < '1 minute' AS ended, return_message ~ '^Sync interrupted' AS told
FROM cron.job_run_details WHERE runid > 1000 ORDER BY runid;
SELECT sync_guard.unguard_table('cron.job_run_details');
DROP EXTENSION pg_cron;
