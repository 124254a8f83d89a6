-- The sweep on pg_cron's clock, where pg_cron has its jobs in this database: the server must preload it with
-- cron.database_name set to the database of the test. (Elsewhere and absent: see the TAP tests.)
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
\set VERBOSITY terse
SELECT current_setting('cron.database_name') = current_database() AS jobs_are_here;
CREATE ROLE regress_esg_schedule_app LOGIN;
CREATE ROLE regress_esg_schedule_group;
CREATE ROLE regress_esg_schedule_admin LOGIN SUPERUSER;
CREATE SCHEMA schedule;
CREATE TABLE schedule.runs (id integer PRIMARY KEY, status text, started_at timestamptz, completed_at timestamptz);
CREATE INDEX ON schedule.runs (status);
SELECT sync_guard.guard_table('schedule.runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{}');

-- What guard_health says of the server, not of a table.
CREATE FUNCTION schedule.problems() RETURNS TABLE (severity text, problem text, detail text, hint text) LANGUAGE sql AS
    $$ SELECT severity, problem, detail, hint FROM sync_guard.guard_health WHERE problem ~ '^(pg_cron|reaping)_' AND relation IS NULL $$;

-- Preloaded and not created.
SELECT sync_guard.unschedule_reaping();
\set VERBOSITY default
SELECT sync_guard.schedule_reaping();
\set VERBOSITY terse
SELECT * FROM schedule.problems();
SELECT count(*) FROM sync_guard.reaping_schedule;

CREATE EXTENSION pg_cron;
SELECT * FROM schedule.problems();

-- Twice changes the job. The hour is far from any in which this test runs.
SELECT sync_guard.schedule_reaping('0 0 1 1 *') AS id \gset
SELECT job_id = :id AS same_job, job_name, schedule, command, database = current_database() AS here, role = current_user AS mine,
       active, last_started, last_status
FROM sync_guard.reaping_schedule;
SELECT sync_guard.schedule_reaping('0 3 29 2 *', '1 hour') = :id AS same_job;
SELECT schedule, command, time_zone = coalesce(current_setting('cron.timezone', true), 'GMT') AS in_its_zone,
       next_expected > now() AS to_come, extract(month FROM next_expected AT TIME ZONE time_zone) AS month,
       extract(hour FROM next_expected AT TIME ZONE time_zone) AS hour
FROM sync_guard.reaping_schedule;
SELECT severity, problem, regexp_replace(detail, 'job \d+', 'job N') AS detail FROM schedule.problems();
-- The command means the same in every session.
SET intervalstyle = 'sql_standard';
SELECT sync_guard.schedule_reaping('0 3 29 2 *', '1 month 2 days 03:04:05.5') = :id AS same_job;
RESET intervalstyle;
SELECT command FROM sync_guard.reaping_schedule;
SELECT sync_guard.schedule_reaping('0 3 29 2 *', '90 minutes', 'another') <> :id AS other_job;
SELECT job_name, command FROM sync_guard.reaping_schedule;
SELECT sync_guard.unschedule_reaping('another');
SELECT sync_guard.unschedule_reaping('another');

-- What is refused.
\set VERBOSITY sqlstate
SELECT sync_guard.schedule_reaping(NULL);
SELECT sync_guard.schedule_reaping('* * * * *', '0');
SELECT sync_guard.schedule_reaping('* * * * *', '-1 hour');
SELECT sync_guard.schedule_reaping('* * * * *', job_name => NULL);
SELECT sync_guard.unschedule_reaping(NULL);
SELECT sync_guard.schedule_reaping('every noon');
SELECT sync_guard.schedule_reaping('* * * * *', job_name => '');
\set VERBOSITY default
SELECT sync_guard.schedule_reaping(NULL);
SELECT sync_guard.schedule_reaping('* * * * *', '-1 hour');
SELECT sync_guard.schedule_reaping('* * * * *', job_name => '');
SELECT sync_guard.unschedule_reaping(NULL);
SELECT sync_guard.unschedule_reaping('');
\set VERBOSITY terse
SELECT sync_guard.schedule_reaping('every noon');
SELECT schedule FROM sync_guard.reaping_schedule;
-- A job that does something else is left alone, whatever it is called.
SELECT cron.schedule('mine', '0 0 1 1 *', 'SELECT 1') AS mine \gset
SELECT sync_guard.schedule_reaping('* * * * *', job_name => 'mine');
SELECT sync_guard.unschedule_reaping('mine');
SELECT cron.unschedule('mine');

-- Another superuser changes the same job; the last word has its role.
SET client_min_messages = error;
SET ROLE regress_esg_schedule_admin;
SELECT sync_guard.schedule_reaping('0 4 29 2 *') = :id AS same_job;
SELECT sync_guard.schedule_reaping('every noon');
RESET ROLE;
SELECT job_id = :id AS same_job, schedule, role = current_user AS mine FROM sync_guard.reaping_schedule;

-- A role needs USAGE on schema cron, and has a job of its own, which reaps what it may.
SET ROLE regress_esg_schedule_app;
\set VERBOSITY default
SELECT sync_guard.schedule_reaping('0 5 29 2 *');
SELECT sync_guard.unschedule_reaping();
\set VERBOSITY terse
RESET ROLE;
GRANT USAGE ON SCHEMA cron TO regress_esg_schedule_app, regress_esg_schedule_group;
SET ROLE regress_esg_schedule_app;
SELECT sync_guard.schedule_reaping('0 5 29 2 *') <> :id AS own_job;
SELECT job_name, schedule, role FROM sync_guard.reaping_schedule;
RESET ROLE;
SELECT job_name, schedule, role = current_user AS mine FROM sync_guard.reaping_schedule ORDER BY schedule;
-- Another role's job, which reaps what that role may, is no superuser's to change by its name alone.
SELECT sync_guard.unschedule_reaping();
SELECT sync_guard.unschedule_reaping();
SELECT sync_guard.schedule_reaping('0 6 29 2 *') AS id \gset
SELECT schedule, role = current_user AS mine FROM sync_guard.reaping_schedule ORDER BY schedule;
SET ROLE regress_esg_schedule_app;
SELECT sync_guard.unschedule_reaping(), sync_guard.unschedule_reaping();
RESET ROLE;
-- Nobody runs a job as a role that may not log in.
SET client_min_messages = warning;
SET ROLE regress_esg_schedule_group;
SELECT sync_guard.schedule_reaping('0 5 29 2 *') IS NOT NULL AS scheduled;
SELECT sync_guard.unschedule_reaping();
RESET ROLE;
-- Who may read no guarded table learns nothing of the schedule from guard_health.
SET ROLE regress_esg_schedule_app;
SELECT count(*) FROM sync_guard.guard_health WHERE problem ~ '^(pg_cron|reaping)_';
RESET ROLE;

-- What the last run says. Runs are written here as pg_cron would, so that nothing has to wait for a minute to pass.
CREATE FUNCTION schedule.last_run(job_id bigint, status text, message text, ago interval, schedule text) RETURNS void LANGUAGE sql AS $$
    UPDATE cron.job SET schedule = $5 WHERE jobid = $1;
    INSERT INTO cron.job_run_details (jobid, status, return_message, start_time, end_time)
    VALUES ($1, $2, $3, clock_timestamp() - $4, clock_timestamp() - $4 + interval '1 second')
$$;
SELECT schedule.last_run(:id, 'succeeded', '1 row', '20 seconds', '0 3 29 2 *');
SELECT last_status, last_message, last_started < last_ended AS ended FROM sync_guard.reaping_schedule;
SELECT * FROM schedule.problems();
SELECT schedule.last_run(:id, 'failed', 'ERROR: no room', '10 seconds', '0 3 29 2 *');
SELECT severity, problem, regexp_replace(detail, 'job \d+', 'job N') AS detail FROM schedule.problems();
-- An every-minute job that has not run for twelve minutes: due eleven minutes ago, to the minute.
BEGIN;
SELECT schedule.last_run(:id, 'succeeded', '1 row', '12 minutes', '* * * * *');
SELECT severity, problem, detail ~ 'was due 1[12] min.* ago; its last run began at .* and is succeeded$' AS explained FROM schedule.problems();
SELECT schedule.last_run(:id, 'running', NULL, '3 minutes', '* * * * *');
SELECT count(*) FROM schedule.problems();
ROLLBACK;
-- The message is for those who may see the job.
GRANT SELECT ON schedule.runs TO regress_esg_schedule_app;
GRANT USAGE ON SCHEMA schedule TO regress_esg_schedule_app;
SET ROLE regress_esg_schedule_app;
SELECT severity, problem, detail LIKE '%no room%' AS message_shown FROM schedule.problems();
SELECT count(*) FROM sync_guard.reaping_schedule;
RESET ROLE;
GRANT pg_read_all_stats TO regress_esg_schedule_app;
SET ROLE regress_esg_schedule_app;
SELECT severity, problem, detail LIKE '%no room%' AS message_shown FROM schedule.problems();
SELECT count(*) FROM sync_guard.reaping_schedule;
RESET ROLE;
-- Inactive.
UPDATE cron.job SET active = false WHERE jobid = :id;
SELECT severity, problem FROM schedule.problems();
SELECT next_expected FROM sync_guard.reaping_schedule;
SET client_min_messages = error;
SELECT sync_guard.schedule_reaping('0 3 29 2 *') = :id AS same_job;
SET client_min_messages = warning;

-- pg_cron's jobs are read as the extension's owner: only where they are pg_cron's.
SELECT sync_guard.unschedule_reaping();
DROP EXTENSION pg_cron;
CREATE SCHEMA cron;
CREATE FUNCTION cron.trap() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'trapped'; END $$;
CREATE VIEW cron.job AS SELECT cron.trap() AS jobid, 'x'::text AS jobname, ''::text AS schedule, 'reap_stale_syncs'::text AS command,
    current_database()::text AS database, current_user::text AS username, true AS active;
SELECT count(*) FROM sync_guard.reaping_schedule;
SELECT problem FROM schedule.problems();
DROP SCHEMA cron CASCADE;

DROP SCHEMA schedule CASCADE;
DROP ROLE regress_esg_schedule_app, regress_esg_schedule_group, regress_esg_schedule_admin;
