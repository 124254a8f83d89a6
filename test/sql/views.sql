-- The views: what they say, and to whom.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA views;
CREATE ROLE regress_esg_views_owner;
CREATE ROLE regress_esg_views_reader;
CREATE ROLE regress_esg_views_columns;
CREATE ROLE regress_esg_views_rls;
CREATE ROLE regress_esg_views_auditor IN ROLE pg_read_all_data;
CREATE ROLE regress_esg_views_stranger;
GRANT CREATE, USAGE ON SCHEMA views TO regress_esg_views_owner;
GRANT USAGE ON SCHEMA views TO regress_esg_views_reader, regress_esg_views_columns, regress_esg_views_rls;

SET ROLE regress_esg_views_owner;
CREATE TABLE views.runs (
    id integer PRIMARY KEY,
    sync_type varchar(50) NOT NULL,
    account_type varchar(10) NOT NULL,
    operation varchar(50) NOT NULL DEFAULT 'full_sync',
    status varchar(50) NOT NULL CHECK (status IN ('running', 'completed', 'failed')),
    total_items integer NOT NULL DEFAULT 0,
    processed_items integer NOT NULL DEFAULT 0,
    errors jsonb,
    duration_seconds double precision,
    started_at timestamp,
    completed_at timestamp,
    secret text DEFAULT 'not for all');
CREATE INDEX ON views.runs (status);
CREATE INDEX ON views.runs (started_at);

-- This long ago, as the application writes it: naive UTC.
CREATE FUNCTION views.ago(interval) RETURNS timestamp LANGUAGE sql STABLE RETURN (now() AT TIME ZONE 'UTC') - $1;

INSERT INTO views.runs (id, sync_type, account_type, status, started_at, total_items, processed_items) VALUES
    (1, 'products', 'main', 'running', views.ago('3 hours'), 200, 66),
    (2, 'products', 'main', 'running', views.ago('45 minutes'), 200, 31),
    (3, 'products', 'fbe', 'running', views.ago('5 minutes'), 0, 0),
    (4, 'orders', 'main', 'running', NULL, 0, 0),
    (5, 'orders', 'main', 'running', 'infinity', 10, 3),
    (6, 'orders', 'fbe', 'running', views.ago('3 days'), 10, 0);
INSERT INTO views.runs (id, sync_type, account_type, status, started_at, completed_at)
SELECT 100 + n, 'products', 'main', CASE WHEN n % 4 = 0 THEN 'failed' ELSE 'completed' END,
       views.ago(n * interval '20 minutes'), views.ago(n * interval '20 minutes' - interval '1 minute')
FROM generate_series(1, 48) AS n;
INSERT INTO views.runs (id, sync_type, account_type, status, started_at, completed_at) VALUES
    (201, 'returns', 'main', 'completed', views.ago('3 days'), views.ago('3 days') + interval '1 minute'),
    (202, 'old', 'main', 'completed', views.ago('30 days'), views.ago('30 days') + interval '1 minute'),
    (203, 'returns', 'main', 'failed', views.ago('2 days'), 'infinity');
SELECT sync_guard.guard_table('views.runs', scope_columns => '{sync_type,account_type}', max_silence => '1 hour',
                              summary_columns => '{operation,total_items}', time_zone => 'UTC');
GRANT SELECT ON views.runs TO regress_esg_views_reader;
GRANT SELECT (id, sync_type, account_type, operation, status, total_items, processed_items, errors, duration_seconds,
              started_at, completed_at) ON views.runs TO regress_esg_views_columns;
RESET ROLE;

-- Every view and each of its columns is explained.
SELECT count(*) AS views, count(*) FILTER (WHERE obj_description(oid, 'pg_class') IS NULL) AS unexplained
FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind = 'v';
SELECT attrelid::regclass AS view, attname
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid
WHERE relnamespace = 'sync_guard'::regnamespace AND relkind = 'v' AND attnum > 0
  AND col_description(attrelid, attnum) IS NULL;

--
-- Runs
--
SET ROLE regress_esg_views_reader;
SELECT relation, run_key, scope, status, done, total, percent, verdict, limit_used,
       age BETWEEN '45 minutes' AND '46 minutes' AS age_fits, silence = age AS silent_since_start,
       why ~ '^live: last sign of life 45 min .*ago, limit 1 h$' AS explained
FROM sync_guard.running_syncs WHERE relation = 'views.runs'::regclass AND run_key = '2';
SELECT run_key, started_at IS NULL AS no_start, age IS NULL AS no_age, percent, verdict, why LIKE '%no time is known%' AS no_time
FROM sync_guard.running_syncs WHERE relation = 'views.runs'::regclass;
SELECT run_key, scope, verdict, limit_used, why ~ '^silent: no sign of life for 3 (h|d).*, limit 1 h$' AS explained
FROM sync_guard.stuck_syncs WHERE relation = 'views.runs'::regclass;
SELECT run_key FROM sync_guard.long_running_syncs WHERE relation = 'views.runs'::regclass;

-- Progress is shown only where it can be said.
SELECT run_key, done, total, percent FROM sync_guard.live_runs() WHERE relation = 'views.runs'::regclass ORDER BY run_key;

-- A session's time zone changes nothing.
SET TIME ZONE 'Asia/Kathmandu';
SELECT run_key, verdict, age BETWEEN '2 hours 59 minutes' AND '3 hours 1 minute' AS age_fits
FROM sync_guard.stuck_syncs WHERE relation = 'views.runs'::regclass AND run_key = '1';
SET TIME ZONE 'America/New_York';
SELECT run_key, verdict, age BETWEEN '2 hours 59 minutes' AND '3 hours 1 minute' AS age_fits
FROM sync_guard.stuck_syncs WHERE relation = 'views.runs'::regclass AND run_key = '1';
RESET TIME ZONE;

SELECT run_key, scope ->> 'sync_type' AS sync_type, status, state, duration, verdict, reaped, summary
FROM sync_guard.recent_syncs WHERE relation = 'views.runs'::regclass;
-- The dead one is among the newest forty: stuck, not running.
SELECT run_key, status, state, duration, verdict
FROM sync_guard.recent_runs(40) WHERE relation = 'views.runs'::regclass AND verdict IS NOT NULL;
SELECT count(*) FROM sync_guard.recent_runs(0);
SELECT run_key, ended_at IS NULL AS no_end, duration FROM sync_guard.recent_runs(100)
WHERE relation = 'views.runs'::regclass AND run_key = '203';

-- 48 runs twenty minutes apart, each fourth of which has failed: two are of the last hour, all of the last day.
SELECT scope ->> 'sync_type' AS sync_type, scope ->> 'account_type' AS account_type, running, stuck, succeeded_24h,
       failed_24h, reaped_24h, last_state,
       floor(extract(epoch FROM clock_timestamp() - last_started) / 60) AS minutes_ago,
       floor(extract(epoch FROM clock_timestamp() - last_success) / 60) AS success_minutes_ago
FROM sync_guard.sync_status_overview WHERE relation = 'views.runs'::regclass;
SELECT scope ->> 'sync_type' AS sync_type, span, succeeded, failed, reaped, rate
FROM sync_guard.failure_rates
WHERE relation = 'views.runs'::regclass AND scope IN ('{"sync_type": "products", "account_type": "main"}',
                                                      '{"sync_type": "returns", "account_type": "main"}');
RESET ROLE;

--
-- The journal
--
SELECT sync_guard.reap_stale_syncs(relation => 'views.runs');
SELECT sync_guard.reap_stale_syncs('1 minute', 'views.runs', even_if_alive => true, max_runs => 1);
SET ROLE regress_esg_views_owner;
-- A late success, a late failure, a retry.
UPDATE views.runs SET status = 'completed', completed_at = views.ago('0'), processed_items = 200 WHERE id = 1;
UPDATE views.runs SET status = 'failed', errors = '["worker: gone"]' WHERE id = 6;
SELECT sync_guard.overturn_reap('views.runs', 2, 'completed');
RESET ROLE;
SET ROLE regress_esg_views_reader;
SELECT relation_name, run_key, scope ->> 'sync_type' AS sync_type, verdict, reason LIKE 'Sync interrupted%' AS told,
       evidence ->> 'rule' AS rule, path, role = session_user AS by_us, mode, outcome, outcome_at >= reaped_at AS later, false_positive,
       run ->> 'status' AS was, run ->> 'processed_items' AS done, wanted ->> 'status' AS wanted,
       wanted ->> 'processed_items' AS wanted_done
FROM sync_guard.reaped_syncs WHERE relation_name = 'views.runs';
SELECT run_key, role, reaping IS NOT NULL AS of_reaping, false_positive, run ->> 'status' AS status,
       wanted ->> 'status' AS wanted, wanted ->> 'secret' AS secret
FROM sync_guard.late_finishes WHERE relation_name = 'views.runs';
SELECT run_key, status, state, reaped FROM sync_guard.recent_runs(100)
WHERE relation = 'views.runs'::regclass AND run_key IN ('1', '2', '6') ORDER BY run_key;
SELECT scope ->> 'sync_type' AS sync_type, scope ->> 'account_type' AS account_type, running, stuck, reaped_24h, last_state
FROM sync_guard.sync_status_overview WHERE relation = 'views.runs'::regclass AND reaped_24h > 0;
RESET ROLE;

--
-- Settings
--
SET ROLE regress_esg_views_owner;
SELECT sync_guard.set_limit('views.runs', '{"sync_type": "orders"}', max_silence => '2 hours', max_age => '1 day');
SELECT sync_guard.allow_transition('views.runs', 'failed', 'running');
RESET ROLE;
SET ROLE regress_esg_views_reader;
SELECT relation, mode, exclusive, max_silence, max_age, scope_limits, paused_until, transition_rules, live_statuses,
       failed_status, time_zone, key_column, start_column, scope_columns, adopted_by, problem
FROM sync_guard.guarded_tables WHERE relation = 'views.runs'::regclass;
RESET ROLE;

--
-- Rights
--
-- What a role learns about the table from each view.
CREATE FUNCTION views.learns() RETURNS TABLE (view text, lines bigint) LANGUAGE sql AS $$
    SELECT 'live_runs', count(*) FROM sync_guard.live_runs() WHERE relation = 'views.runs'::regclass::oid
    UNION ALL SELECT 'recent_syncs', count(*) FROM sync_guard.recent_syncs WHERE relation = 'views.runs'::regclass::oid
    UNION ALL SELECT 'overview', count(*) FROM sync_guard.sync_status_overview WHERE relation = 'views.runs'::regclass::oid
    UNION ALL SELECT 'failure_rates', count(*) FROM sync_guard.failure_rates WHERE relation = 'views.runs'::regclass::oid
    UNION ALL SELECT 'guarded_tables', count(*) FROM sync_guard.guarded_tables WHERE relation_name = 'views.runs'
    UNION ALL SELECT 'reaped_syncs', count(*) FROM sync_guard.reaped_syncs WHERE relation_name = 'views.runs'
    UNION ALL SELECT 'rows in it', count(run) FROM sync_guard.reaped_syncs WHERE relation_name = 'views.runs'
    UNION ALL SELECT 'late_finishes', count(*) FROM sync_guard.late_finishes WHERE relation_name = 'views.runs'
    UNION ALL SELECT 'guard_health', count(*) FROM sync_guard.guard_health WHERE relation = 'views.runs'::regclass::oid
    UNION ALL SELECT 'problem', count(sync_guard.settings_problem('views.runs'::regclass::oid))
$$;
GRANT USAGE ON SCHEMA views TO PUBLIC;
SET ROLE regress_esg_views_stranger;
SELECT * FROM views.learns() WHERE lines > 0;
SELECT sync_guard.may_read_settings('views.runs'), sync_guard.may_read_journal('views.runs', 'views.runs', false);
SELECT count(*) FROM sync_guard.guard_health WHERE problem LIKE 'pg_cron%' OR problem LIKE 'reaping%';
SELECT * FROM sync_guard.journal;
SELECT * FROM sync_guard.settings;
RESET ROLE;
-- Some of its columns: the runs, but not the rows in the journal.
SET ROLE regress_esg_views_columns;
SELECT * FROM views.learns() WHERE view IN ('live_runs', 'reaped_syncs', 'rows in it', 'late_finishes');
SELECT count(*) AS lines, count(wanted) AS rows_in_them FROM sync_guard.late_finishes WHERE relation_name = 'views.runs';
RESET ROLE;
-- SELECT without USAGE on the schema is not enough.
REVOKE USAGE ON SCHEMA views FROM PUBLIC, regress_esg_views_reader;
SET ROLE regress_esg_views_reader;
SELECT (SELECT count(*) FROM sync_guard.live_runs()) + (SELECT count(*) FROM sync_guard.recent_syncs)
     + (SELECT count(*) FROM sync_guard.reaped_syncs) + (SELECT count(*) FROM sync_guard.guarded_tables) AS lines;
RESET ROLE;
GRANT USAGE ON SCHEMA views TO PUBLIC;

-- Row security shows a role its own runs, and nothing of the journal, where a line does not tell whose it is.
ALTER TABLE views.runs ENABLE ROW LEVEL SECURITY;
CREATE POLICY orders ON views.runs FOR SELECT TO regress_esg_views_rls USING (sync_type = 'orders');
GRANT SELECT ON views.runs TO regress_esg_views_rls;
SET ROLE regress_esg_views_rls;
SELECT run_key FROM sync_guard.live_runs() WHERE relation = 'views.runs'::regclass ORDER BY run_key;
SELECT run_key, reaped FROM sync_guard.recent_syncs WHERE relation = 'views.runs'::regclass;
SELECT scope ->> 'account_type' AS account_type, running, failed_24h, reaped_24h
FROM sync_guard.sync_status_overview WHERE relation = 'views.runs'::regclass;
SELECT view, lines FROM views.learns() WHERE view IN ('reaped_syncs', 'rows in it', 'late_finishes', 'guarded_tables');
RESET ROLE;
SET ROLE regress_esg_views_owner;
SELECT view, lines FROM views.learns() WHERE view IN ('live_runs', 'reaped_syncs');
RESET ROLE;
ALTER TABLE views.runs DISABLE ROW LEVEL SECURITY;

-- A condition that tells what it is given is not given what the view does not show.
CREATE FUNCTION views.leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS
    $$ BEGIN RAISE WARNING 'leaked %', $1; RETURN true; END $$;
SET ROLE regress_esg_views_stranger;
SELECT count(*) FROM sync_guard.reaped_syncs WHERE views.leak(run_key);
SELECT count(*) FROM sync_guard.guarded_tables WHERE views.leak(relation_name);
RESET ROLE;

--
-- A table that fails keeps no other from being shown
--
CREATE TYPE views.kind AS ENUM ('a', 'b');
CREATE FUNCTION views.fails(views.kind) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'no text for you'; END $$;
CREATE TABLE views.bad (id integer PRIMARY KEY, kind views.kind, status text, started_at timestamptz, completed_at timestamptz);
INSERT INTO views.bad VALUES (1, 'a', 'running', clock_timestamp());
CREATE TABLE views.gone (id integer PRIMARY KEY, status text, started_at timestamptz, completed_at timestamptz, beat timestamptz);
SELECT sync_guard.guard_table('views.bad', scope_columns => '{kind}', live_statuses => '{running}', failed_status => 'failed');
SELECT sync_guard.guard_table('views.gone', scope_columns => '{}', live_statuses => '{running}', failed_status => 'failed',
                              activity_column => 'beat');
CREATE CAST (views.kind AS text) WITH FUNCTION views.fails(views.kind);
ALTER TABLE views.gone DROP COLUMN beat;
SELECT count(*) > 0 AS others_are_shown FROM sync_guard.running_syncs WHERE relation = 'views.runs'::regclass;
SELECT count(*) > 0 AS others_are_shown FROM sync_guard.recent_syncs WHERE relation = 'views.runs'::regclass;
SELECT count(*) > 0 AS others_are_shown FROM sync_guard.sync_status_overview WHERE relation = 'views.runs'::regclass;
SELECT relation, problem FROM sync_guard.guarded_tables WHERE problem IS NOT NULL AND relation_name LIKE 'views.%';
SELECT severity, relation, problem, detail FROM sync_guard.guard_health
WHERE relation IN ('views.bad'::regclass, 'views.gone'::regclass) AND severity = 'error';
-- Nor does a table of which nobody knows any more what of it is public.
GRANT SELECT (id) ON views.gone TO regress_esg_views_stranger;
SET ROLE regress_esg_views_stranger;
SELECT count(*) FROM sync_guard.guarded_tables WHERE relation_name = 'views.gone';
RESET ROLE;
DROP TABLE views.bad, views.gone;

--
-- What is left of a table that is gone
--
SET ROLE regress_esg_views_owner;
DROP TABLE views.runs;
SELECT count(*) FROM sync_guard.reaped_syncs WHERE relation_name = 'views.runs';
RESET ROLE;
SET ROLE regress_esg_views_reader;
SELECT count(*) FROM sync_guard.late_finishes WHERE relation_name = 'views.runs';
RESET ROLE;
SET ROLE regress_esg_views_auditor;
SELECT run_key, outcome, run ->> 'secret' AS secret FROM sync_guard.reaped_syncs WHERE relation_name = 'views.runs';
RESET ROLE;

DELETE FROM sync_guard.journal WHERE relation_name = 'views.runs';
DROP SCHEMA views CASCADE;
DROP ROLE regress_esg_views_owner, regress_esg_views_reader, regress_esg_views_columns, regress_esg_views_rls,
    regress_esg_views_auditor, regress_esg_views_stranger;
