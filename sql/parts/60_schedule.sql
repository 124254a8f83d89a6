-- The sweep on pg_cron's clock.

CREATE FUNCTION sync_guard.schedule_reaping(
    schedule text DEFAULT '* * * * *', older_than interval DEFAULT NULL, job_name text DEFAULT 'emag_sync_guard')
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_schedule_reaping';
COMMENT ON FUNCTION sync_guard.schedule_reaping(text, interval, text) IS
    'lets pg_cron call reap_stale_syncs(older_than) on a schedule, as the caller; again, it changes the job; returns pg_cron''s job id';

CREATE FUNCTION sync_guard.unschedule_reaping(job_name text DEFAULT 'emag_sync_guard')
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_unschedule_reaping';
COMMENT ON FUNCTION sync_guard.unschedule_reaping(text) IS
    'removes the job that schedule_reaping made; false where there is none';

CREATE FUNCTION sync_guard.cron_jobs(
    OUT job_id bigint, OUT job_name text, OUT schedule text, OUT time_zone text, OUT command text, OUT database text,
    OUT role text, OUT active boolean, OUT last_started timestamptz, OUT last_ended timestamptz, OUT last_status text,
    OUT last_message text, OUT next_expected timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME', 'emag_sync_guard_cron_jobs';
COMMENT ON FUNCTION sync_guard.cron_jobs() IS 'behind the view reaping_schedule';

CREATE VIEW sync_guard.reaping_schedule AS
SELECT j.job_id, j.job_name, j.schedule, j.time_zone, j.command, j.database, j.role, j.active, j.last_started,
       j.last_ended, j.last_status, j.last_message, j.next_expected
FROM sync_guard.cron_jobs() AS j;
COMMENT ON VIEW sync_guard.reaping_schedule IS
    'the jobs of pg_cron that reap in this database: those of the caller''s roles, all for members of pg_read_all_stats';
COMMENT ON COLUMN sync_guard.reaping_schedule.job_id IS 'pg_cron''s number of the job';
COMMENT ON COLUMN sync_guard.reaping_schedule.time_zone IS
    'in which pg_cron reads the schedule: its setting cron.timezone, GMT where it has none';
COMMENT ON COLUMN sync_guard.reaping_schedule.role IS 'as whom the job runs: it reaps what this role may';
COMMENT ON COLUMN sync_guard.reaping_schedule.last_started IS 'of its last run that pg_cron remembers';
COMMENT ON COLUMN sync_guard.reaping_schedule.last_status IS 'of its last run, in pg_cron''s words: succeeded, failed, running, ...';
COMMENT ON COLUMN sync_guard.reaping_schedule.last_message IS 'what its last run returned, or its error';
COMMENT ON COLUMN sync_guard.reaping_schedule.next_expected IS
    'when it is due next; NULL where it is not active or the schedule is of a kind not known here';
