-- What a sweep does beside reaping, where tables are not as usual: scopes that no index holds, no start column, a history that
-- there is no time to read, a backlog that max_runs leaves.
SET client_min_messages = warning;
CREATE DATABASE regress_esg_alert_edges;
ALTER DATABASE regress_esg_alert_edges SET client_min_messages = warning;
\set home :DBNAME
\c regress_esg_alert_edges
CREATE EXTENSION emag_sync_guard;
CREATE SCHEMA app;
CREATE FUNCTION app.ago(interval) RETURNS timestamptz LANGUAGE sql VOLATILE RETURN clock_timestamp() - $1;
-- Ten thousand characters that do not compress.
CREATE FUNCTION app.long() RETURNS text LANGUAGE sql IMMUTABLE RETURN (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 320) AS n);

-- One scope of 10 kB does not keep the guard from telling of the others, nor of itself.
CREATE TABLE app.long (id serial PRIMARY KEY, sync_type text, account text, status text NOT NULL DEFAULT 'running', started_at timestamptz, completed_at timestamptz);
CREATE INDEX ON app.long (started_at);
SELECT sync_guard.guard_table('app.long', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}');
INSERT INTO app.long (sync_type, status, started_at, completed_at)
SELECT scope, CASE WHEN n <= 12 THEN 'failed' ELSE 'completed' END, app.ago(n * interval '1 hour'), app.ago(n * interval '1 hour')
FROM (VALUES ('short'), (app.long())) AS s (scope), generate_series(8, 20) AS n, generate_series(1, 2);
SELECT sync_guard.reap_stale_syncs();
SELECT rule, left(scope ->> 'sync_type', 5) AS scope, recorded, sample FROM sync_guard.alerts ORDER BY 1, 2;
SELECT left(scope ->> 'sync_type', 5) AS scope, completed FROM sync_guard.scope_rhythms ORDER BY 1;
SELECT sync_guard.reap_stale_syncs();
SELECT count(*) FROM sync_guard.alert_log;
-- Once the scope is made of other columns, what was learned of the old ones says nothing.
BEGIN;
SELECT sync_guard.guard_table('app.long', scope_columns => '{account}');
SELECT DISTINCT rule FROM sync_guard.alerts;
ROLLBACK;
-- Learned anew, in place of what was.
UPDATE sync_guard.scope_rhythms SET learned_at = learned_at - interval '2 hours';
SELECT sync_guard.reap_stale_syncs();
SELECT left(scope ->> 'sync_type', 5) AS scope, completed, learned_at > now() - interval '1 hour' AS anew FROM sync_guard.scope_rhythms ORDER BY 1;
-- It can have no settings of its own: who gives them is told; what is suggested is left.
\set SHOW_CONTEXT never
DO $$
DECLARE message text; state text; detail text; hint text; call text;
BEGIN
    FOREACH call IN ARRAY ARRAY['set_alert_rule(''app.long'', ''long_running'', $1, raise_above => ''1 hour'')', 'set_limit(''app.long'', $1, max_age => ''1 day'')'] LOOP
        BEGIN
            EXECUTE 'SELECT sync_guard.' || call USING jsonb_build_object('sync_type', app.long());
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, state = RETURNED_SQLSTATE, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
            RAISE WARNING USING MESSAGE = format('%s %s', state, message), DETAIL = detail, HINT = hint;
        END;
    END LOOP;
END $$;
INSERT INTO app.long (sync_type, status, started_at, completed_at)
SELECT scope, 'completed', app.ago(n * interval '1 hour'), app.ago(n * interval '1 hour' - minutes * interval '1 minute')
FROM (VALUES ('short', 45), (app.long(), 10)) AS s (scope, minutes), generate_series(1, 20) AS n;
SELECT left(scope ->> 'sync_type', 5) AS scope, limit_name, suggested IS NOT NULL AS suggested, left(statement, 27) AS statement
FROM sync_guard.suggested_limits WHERE scope <> '{}' ORDER BY 1, 2;
SELECT applied_scope, limit_name FROM sync_guard.apply_suggested_limits('app.long', limits => '{max_age}');
SELECT sync_guard.unguard_table('app.long');

-- No start column: what has completed is known by its end. The rhythm was learned half an hour ago, all is well since.
CREATE TABLE app.endings (id serial PRIMARY KEY, status text NOT NULL DEFAULT 'running', completed_at timestamptz);
SELECT sync_guard.guard_table('app.endings', live_statuses => '{running}', failed_status => 'failed', start_column => '', scope_columns => '{}');
INSERT INTO app.endings (status, completed_at) SELECT 'completed', app.ago(n * interval '5 minutes') FROM generate_series(8, 30) AS n;
SELECT sync_guard.reap_stale_syncs();
SELECT rule, floor(figure) AS figure, recorded FROM sync_guard.alerts;
UPDATE sync_guard.scope_rhythms SET learned_at = learned_at - interval '35 minutes' WHERE relation = 'app.endings'::regclass;
INSERT INTO app.endings (status, completed_at) SELECT 'completed', app.ago(n * interval '5 minutes') FROM generate_series(0, 7) AS n;
SELECT rule, figure FROM sync_guard.alerts;
SELECT sync_guard.reap_stale_syncs();
SELECT relation_name, rule, cleared_at IS NOT NULL AS cleared, cleared_figure < 1 AS little FROM sync_guard.alert_history WHERE relation = 'app.endings'::regclass;
SELECT sync_guard.unguard_table('app.endings');

-- A history that statement_timeout leaves no time for is not read: that would cost the sweep what it reaps, each time.
CREATE TABLE app.large (id serial PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz, completed_at timestamptz);
SELECT sync_guard.guard_table('app.large', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{}', max_age => '1 hour');
INSERT INTO app.large (status, started_at, completed_at) VALUES ('running', app.ago('2 hours'), NULL), ('completed', app.ago('2 hours'), app.ago('1 hour'));
UPDATE pg_class SET reltuples = 1e9 WHERE oid = 'app.large'::regclass;
SET statement_timeout = '10min';
SELECT sync_guard.reap_stale_syncs();
SELECT count(*) FROM sync_guard.scope_rhythms WHERE relation = 'app.large'::regclass;
SET statement_timeout = '3h';
SELECT sync_guard.reap_stale_syncs();
SELECT completed FROM sync_guard.scope_rhythms WHERE relation = 'app.large'::regclass;
RESET statement_timeout;
SELECT sync_guard.unguard_table('app.large');

-- Tables that max_runs leaves for the next sweep are looked after.
CREATE TABLE app.a (id serial PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz);
CREATE TABLE app.b (LIKE app.a INCLUDING ALL);
SELECT sync_guard.guard_table(t::regclass, live_statuses => '{running}', failed_status => 'failed', scope_columns => '{}', max_age => '1 hour')
FROM unnest('{app.a,app.b}'::text[]) AS t;
INSERT INTO app.a (started_at) VALUES (app.ago('2 hours')), (app.ago('2 hours'));
INSERT INTO app.b (started_at) VALUES (app.ago('2 hours'));
SELECT sync_guard.reap_stale_syncs(max_runs => 1);
SELECT relation_name, rule, floor(figure / 60) AS minutes FROM sync_guard.alert_history WHERE relation_name IN ('app.a', 'app.b') ORDER BY 1;

-- Who has no table here does not hold what the server is looked after under.
CREATE ROLE regress_esg_edges_nobody;
BEGIN;
SET LOCAL ROLE regress_esg_edges_nobody;
SELECT sync_guard.reap_stale_syncs();
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid = 25862;
RESET ROLE;
SELECT sync_guard.reap_stale_syncs(max_runs => 1);
SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' AND objsubid = 25862 AND classid = 0 AND objid = 0;
ROLLBACK;
DROP ROLE regress_esg_edges_nobody;

-- Scopes with windows of their own, however many; windows that begin before all times.
CREATE TABLE app.many (id serial PRIMARY KEY, sync_type text, status text NOT NULL DEFAULT 'running', started_at timestamp, completed_at timestamp);
SELECT sync_guard.guard_table('app.many', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}', time_zone => 'Europe/Bucharest');
INSERT INTO app.many (sync_type, status, started_at, completed_at)
SELECT 's' || n % 50, CASE WHEN n <= 500 THEN 'failed' ELSE 'completed' END, now() AT TIME ZONE 'Europe/Bucharest' - interval '1 minute', now() AT TIME ZONE 'Europe/Bucharest' FROM generate_series(1, 1000) AS n;
SELECT count(*) FROM (SELECT sync_guard.set_alert_rule('app.many', 'failure_rate', jsonb_build_object('sync_type', 's' || n), time_window => make_interval(hours => 24 + n)) FROM generate_series(1, 40) AS n) AS s;
SELECT sync_guard.set_alert_rule('app.many', 'failure_rate', '{"sync_type": "s41"}', time_window => '7000 years');
SELECT sync_guard.set_alert_rule('app.many', 'failure_rate', '{"sync_type": "s42"}', time_window => '200000 years');
SELECT count(*), min(figure), max(figure) FROM sync_guard.alerts WHERE relation = 'app.many'::regclass AND rule = 'failure_rate';
SELECT sync_guard.reap_stale_syncs(relation => 'app.many');
SELECT count(*) FROM sync_guard.alert_history WHERE relation_name = 'app.many';
SELECT sync_guard.unguard_table('app.many');

-- "-0" is zero.
SELECT sync_guard.set_alert_rule('app.a', 'not_completed', raise_above => '-0');
SELECT raise_above, clear_below FROM sync_guard.alert_rules WHERE relation = 'app.a'::regclass;
\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_alert_edges;
