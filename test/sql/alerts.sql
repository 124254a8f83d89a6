-- Alerts: each rule raised and cleared, by its figures; hysteresis; what set_alert_rule takes and refuses; who sees what; that
-- a reader records nothing. The rules about the server are in t/, where there are shared memory and pg_cron.
SET client_min_messages = warning;
CREATE ROLE regress_esg_alerts_owner;
CREATE ROLE regress_esg_alerts_reader;
CREATE ROLE regress_esg_alerts_stranger;
CREATE DATABASE regress_esg_alerts;
ALTER DATABASE regress_esg_alerts SET client_min_messages = warning;
\set home :DBNAME
\getenv source PG_ABS_SRCDIR
\c regress_esg_alerts
CREATE EXTENSION emag_sync_guard;
CREATE SCHEMA app AUTHORIZATION regress_esg_alerts_owner;
CREATE SCHEMA tools;
GRANT USAGE ON SCHEMA app, tools TO PUBLIC;
\set schema tools
\set file :source '/sql/fixtures/outcome.sql'
\set ECHO none
\i :file
\set ECHO all
CREATE FUNCTION tools.ago(interval) RETURNS timestamptz LANGUAGE sql VOLATILE RETURN clock_timestamp() - $1;
-- Spans without what a slow machine adds to them.
CREATE FUNCTION tools.plain(text) RETURNS text LANGUAGE sql IMMUTABLE RETURN regexp_replace($1, ' (min|h) \d+ (s|min)\M', ' \1', 'g');
SET ROLE regress_esg_alerts_owner;
CREATE TABLE app.runs (id serial PRIMARY KEY, sync_type text NOT NULL DEFAULT 'products', status text NOT NULL DEFAULT 'running',
    started_at timestamptz DEFAULT tools.ago('0'), completed_at timestamptz);
CREATE INDEX ON app.runs (status);
CREATE INDEX ON app.runs (started_at);
GRANT SELECT ON app.runs TO regress_esg_alerts_reader;
SELECT sync_guard.guard_table('app.runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}');
RESET ROLE;
-- What a reader is told now, and what sweeps have written down; seconds in minutes.
CREATE VIEW tools.now AS
    SELECT rule, severity, scope ->> 'sync_type' AS scope, since IS NOT NULL AS since, recorded,
           CASE unit WHEN 'seconds' THEN concat(floor(figure / 60), ' of ', floor(threshold / 60), ' min')
                ELSE concat(round(figure::numeric, 4), ' of ', threshold, ' ', unit) END AS figure, sample, tools.plain(detail) AS detail
    FROM sync_guard.alerts ORDER BY 1, 3;
CREATE VIEW tools.history AS
    SELECT rule, relation_name AS relation, scope ->> 'sync_type' AS scope, round(figure::numeric, CASE WHEN figure > 60 THEN -2 ELSE 4 END) AS figure,
           threshold, sample, cleared_at IS NOT NULL AS cleared, round(cleared_figure::numeric, CASE WHEN cleared_figure > 60 THEN -2 ELSE 4 END) AS at,
           tools.plain(cleared_detail) AS how
    FROM sync_guard.alert_history ORDER BY id;
CREATE FUNCTION tools.sweep(times integer DEFAULT 1) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE reaped bigint := 0;
BEGIN
    FOR i IN 1..times LOOP reaped := reaped + sync_guard.reap_stale_syncs(); END LOOP;
    RETURN reaped;
END $$;
GRANT SELECT ON tools.now, tools.history TO PUBLIC;

-- The rules as they come.
SELECT rule, severity, relation, scope, enabled, raise_above, clear_below, time_window, min_sample, unit, changed FROM sync_guard.alert_rules;
SELECT rule, meaning FROM sync_guard.alert_rules;
SELECT * FROM sync_guard.alerts;

-- long_running: the oldest living run of each scope. A read shows it, and records nothing; a sweep records it once.
INSERT INTO app.runs (sync_type, started_at) VALUES ('products', tools.ago('45 minutes')), ('products', tools.ago('35 minutes')), ('orders', tools.ago('20 minutes'));
SELECT * FROM tools.now;
SELECT * FROM tools.now;
SELECT count(*) AS recorded FROM sync_guard.alert_log;
BEGIN READ ONLY;
SELECT rule, recorded FROM sync_guard.alerts;
SELECT count(*) AS rules FROM sync_guard.alert_rules;
COMMIT;
SELECT tools.sweep(3);
SELECT * FROM tools.now;
SELECT * FROM tools.history;
SELECT bool_and(raised_at BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp()) AS just_now, bool_and(cleared_at IS NULL) AS open FROM sync_guard.alert_history;
SELECT hint FROM sync_guard.alerts;
-- The younger run is old enough; then there is none.
UPDATE app.runs SET status = 'completed', completed_at = tools.ago('0') WHERE id = 1;
SELECT tools.sweep(2);
SELECT figure FROM tools.now;
UPDATE app.runs SET status = 'completed', completed_at = tools.ago('0') WHERE id = 2;
SELECT * FROM tools.now;
SELECT tools.sweep(2);
SELECT * FROM tools.history;
-- One that has come down to the threshold clears with what it came down to.
INSERT INTO app.runs (sync_type, started_at) VALUES ('offers', tools.ago('31 minutes'));
SELECT tools.sweep();
UPDATE app.runs SET started_at = tools.ago('10 minutes') WHERE sync_type = 'offers';
SELECT tools.sweep(2);
SELECT * FROM tools.history WHERE scope = 'offers';
DELETE FROM app.runs;
TRUNCATE sync_guard.alert_log;

-- failure_rate: above ten percent of at least ten. One failure of one is none.
CREATE FUNCTION tools.ended(sync_type text, status text, runs integer, age interval DEFAULT '1 hour') RETURNS void LANGUAGE sql AS $$
    INSERT INTO app.runs (sync_type, status, started_at, completed_at) SELECT $1, $2, tools.ago($4), tools.ago($4) FROM generate_series(1, $3) $$;
SELECT tools.ended('products', 'failed', 1);
SELECT * FROM tools.now;
SELECT tools.ended('products', 'failed', 8);
SELECT * FROM tools.now;
SELECT tools.sweep();
SELECT tools.ended('products', 'completed', 81);
SELECT * FROM tools.now;
SELECT tools.ended('products', 'failed', 2), tools.ended('orders', 'completed', 50), tools.ended('orders', 'failed', 4), tools.ended('offers', 'failed', 20, '25 hours');
SELECT * FROM tools.now;
SELECT tools.sweep(2);
SELECT * FROM tools.now;
-- Nine percent: it stays. Seven: it clears. Nine again: nothing is raised anew.
SELECT tools.ended('products', 'completed', 30);
SELECT tools.sweep(3);
SELECT * FROM tools.now;
SELECT * FROM tools.history;
SELECT tools.ended('products', 'completed', 36);
SELECT * FROM tools.now;
SELECT tools.sweep(3);
SELECT tools.ended('products', 'failed', 4);
SELECT tools.sweep(3);
SELECT * FROM tools.now;
SELECT * FROM tools.history;
-- Raised, it stays until there is less than half of the sample.
TRUNCATE app.runs, sync_guard.alert_log;
SELECT tools.ended('products', 'failed', 10);
SELECT tools.sweep();
DELETE FROM app.runs WHERE id % 2 = 0;
SELECT tools.sweep();
SELECT recorded, figure, sample FROM tools.now;
DELETE FROM app.runs WHERE id = (SELECT min(id) FROM app.runs);
SELECT tools.sweep();
SELECT * FROM tools.history;
TRUNCATE app.runs, sync_guard.alert_log;

-- stuck: dead, and nothing closes it. One that the sweep closes is none.
INSERT INTO app.runs (started_at) VALUES (tools.ago('90 minutes'));
SELECT * FROM tools.now;
SELECT tools.sweep();
SELECT * FROM tools.now;
SELECT count(*) AS recorded FROM sync_guard.alert_log;
CREATE FUNCTION app.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON app.runs FOR EACH ROW EXECUTE FUNCTION app.refuse();
INSERT INTO app.runs (started_at) VALUES (tools.ago('61 minutes')), (tools.ago('90 minutes'));
SET client_min_messages = error;
SELECT tools.sweep(2);
SELECT * FROM tools.now;
SELECT hint FROM sync_guard.alerts;
-- The kill switch: readers are told what is so, nothing is recorded.
SET emag_sync_guard.enabled = off;
UPDATE sync_guard.alert_log SET cleared_at = clock_timestamp();
SELECT tools.sweep();
SELECT rule, recorded FROM tools.now;
SELECT count(*) AS recorded FROM sync_guard.alert_log WHERE cleared_at IS NULL;
RESET emag_sync_guard.enabled;
SELECT tools.sweep();
-- Paused, or observed, nothing is expected to close it: quiet.
SELECT sync_guard.pause_reaping('app.runs');
SELECT * FROM tools.now;
SELECT tools.sweep(2);
SELECT rule, cleared, at, how FROM tools.history;
SELECT sync_guard.resume_reaping('app.runs');
SELECT tools.sweep();
SELECT rule, recorded FROM tools.now;
SELECT sync_guard.guard_table('app.runs', mode => 'observe');
SELECT * FROM tools.now;
SELECT tools.sweep();
SELECT sync_guard.guard_table('app.runs', mode => 'guard');
SELECT tools.sweep();
DROP TRIGGER refuse ON app.runs;
SELECT tools.sweep();
SELECT * FROM tools.now;
SELECT rule, cleared, at, how FROM tools.history;
RESET client_min_messages;
TRUNCATE app.runs, sync_guard.alert_log, sync_guard.journal;

-- false_positives: a run that was found dead reports success.
INSERT INTO app.runs (id, sync_type, started_at) VALUES (1001, 'orders', tools.ago('90 minutes')), (1002, 'orders', tools.ago('90 minutes')), (1003, 'offers', tools.ago('90 minutes'));
SELECT tools.sweep();
SET client_min_messages = error;
UPDATE app.runs SET status = 'completed' WHERE id IN (1001, 1002);
UPDATE app.runs SET status = 'failed' WHERE id = 1003;
RESET client_min_messages;
SELECT * FROM tools.now;
SELECT tools.sweep(2);
SELECT rule, recorded FROM tools.now;
UPDATE sync_guard.journal SET at = at - interval '25 hours';
SELECT tools.sweep();
SELECT * FROM tools.now;
SELECT * FROM tools.history;
TRUNCATE app.runs, sync_guard.alert_log, sync_guard.journal, sync_guard.scope_rhythms;

-- not_completed: products complete each hour, the last one two and a half hours ago; orders only four times.
WITH last (at) AS MATERIALIZED (SELECT tools.ago('150 minutes'))
INSERT INTO app.runs (sync_type, status, started_at, completed_at)
SELECT s, 'completed', at - n * interval '1 hour' - interval '5 minutes', at - n * interval '1 hour'
FROM last, (VALUES ('products', 9), ('orders', 3)) AS scopes (s, most), generate_series(0, most) AS n;
SELECT * FROM tools.now;
SELECT tools.sweep(2);
SELECT rule, scope, recorded, regexp_replace(figure, '^2.50\d\d', '2.5') AS figure, sample, detail FROM tools.now;
-- One of an hour and a half ago: it stays. One of now: it clears, though the rhythm was learned before.
SELECT tools.ended('products', 'completed', 1, '90 minutes');
SELECT tools.sweep(2);
SELECT rule, scope, recorded, regexp_replace(figure, '^1.50\d\d', '1.5') AS figure FROM tools.now;
SELECT tools.ended('products', 'completed', 1, '0');
SELECT * FROM tools.now;
SELECT tools.sweep(2);
SELECT rule, scope, threshold, sample, cleared, at < 0.1 AS at FROM tools.history;
TRUNCATE app.runs, sync_guard.alert_log, sync_guard.scope_rhythms;

-- set_alert_rule: for all tables, for a table, for a scope. The most specific wins; clear_below follows where it is not given.
CREATE VIEW tools.changed AS SELECT rule, relation, scope, enabled, raise_above, clear_below, time_window, min_sample FROM sync_guard.alert_rules WHERE changed;
SELECT sync_guard.set_alert_rule(NULL, 'failure_rate', raise_above => '20 %');
SELECT sync_guard.set_alert_rule('app.runs', 'failure_rate', raise_above => '0.25', clear_below => '5%');
SELECT sync_guard.set_alert_rule('app.runs', 'failure_rate', '{"sync_type": "orders"}', raise_above => '50 %', time_window => '2 days', min_sample => 4);
SELECT sync_guard.set_alert_rule('app.runs', 'long_running', '{"sync_type": "orders"}', raise_above => '1 hour 30 minutes');
SELECT sync_guard.set_alert_rule('app.runs', 'stuck', enabled => false);
SELECT sync_guard.set_alert_rule('app.runs', 'not_completed', raise_above => '2.5', min_sample => 20);
SELECT sync_guard.set_alert_rule(NULL, 'memory_nearly_full', raise_above => '95 %', clear_below => '90 %');
SELECT * FROM tools.changed;
-- A window of its own: three of four within two days, one of them within one.
SELECT tools.ended('orders', 'failed', 2, '30 hours'), tools.ended('orders', 'failed', 1), tools.ended('orders', 'completed', 1, '30 hours'),
       tools.ended('products', 'failed', 3), tools.ended('products', 'completed', 9), tools.ended('offers', 'failed', 4), tools.ended('offers', 'completed', 8);
SELECT scope, figure, sample, detail FROM tools.now WHERE rule = 'failure_rate';
SELECT tools.sweep();
-- Switched off, or given back, what was raised clears.
SELECT sync_guard.set_alert_rule('app.runs', 'failure_rate', '{"sync_type": "orders"}', enabled => false);
SELECT scope FROM tools.now WHERE rule = 'failure_rate';
SELECT tools.sweep();
SELECT scope, cleared, at, how FROM tools.history WHERE rule = 'failure_rate';
SELECT sync_guard.set_alert_rule('app.runs', 'failure_rate', '{"sync_type": "orders"}', reset => '{enabled,raise_above,time_window,min_sample}');
SELECT sync_guard.set_alert_rule('app.runs', 'failure_rate', reset => '{clear_below}');
SELECT * FROM tools.changed WHERE rule = 'failure_rate';
SELECT sync_guard.set_alert_rule('app.runs', 'failure_rate', reset => '{raise_above}');
SELECT sync_guard.set_alert_rule(NULL, 'failure_rate', reset => '{raise_above}');
SELECT * FROM tools.changed WHERE rule = 'failure_rate';
-- A rule of no scope whatever is off: its alert clears.
SELECT sync_guard.set_alert_rule('app.runs', 'failure_rate', enabled => false);
SELECT tools.sweep();
SELECT scope, cleared, how FROM tools.history WHERE rule = 'failure_rate';
SELECT sync_guard.set_alert_rule('app.runs', 'failure_rate', reset => '{enabled}');
SELECT sync_guard.set_alert_rule('app.runs', 'long_running', '{"sync_type": "orders"}', reset => '{raise_above}');

\pset format unaligned
\pset tuples_only on
-- Refused.
SELECT tools.outcome('set_alert_rule', 'app.runs', $$NULL, enabled => false$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'failures', enabled => false$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', NULL, enabled => false$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', '{"id": 1}', enabled => false$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', '[]', enabled => false$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', raise_above => '10 %'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', raise_above => '45'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', raise_above => '-1 minute'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', raise_above => 'soon'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', raise_above => '1 minute', clear_below => '2 minutes'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', clear_below => '1 hour'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', time_window => '1 hour'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', min_sample => 5$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'failure_rate', raise_above => '15'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'failure_rate', raise_above => '100 %'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'failure_rate', raise_above => 'ten percent'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'failure_rate', raise_above => 'nan'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'failure_rate', time_window => '0'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'failure_rate', min_sample => 0$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'not_completed', raise_above => '2 times'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'not_completed', time_window => '1 day'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'false_positives', raise_above => '1e999'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', reset => '{limit}'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', enabled => true, reset => '{enabled}'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', reset => '{min_sample}'$$);
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'reaping_overdue', enabled => false$$);
SELECT tools.outcome('set_alert_rule', NULL, $$'failure_rate', '{"sync_type": "orders"}', enabled => false$$);
SELECT tools.outcome('set_alert_rule', NULL, $$'mass_death', min_sample => 1$$);
CREATE TABLE app.other (id int PRIMARY KEY);
SELECT tools.outcome('set_alert_rule', 'app.other', $$'stuck', enabled => false$$);
BEGIN READ ONLY;
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', enabled => true$$);
SELECT tools.outcome('set_alert_rule', NULL, $$'stuck', enabled => true$$);
COMMIT;
-- Nothing of it was kept.
SELECT rule, relation, scope, enabled, raise_above, clear_below, min_sample FROM tools.changed;

-- Who may: the owner for his table, the extension's for all.
SELECT tools.ended('products', 'failed', 10);
SELECT tools.sweep();
INSERT INTO sync_guard.alert_log (rule, raised_at, cleared_at, figure, threshold, detail) VALUES ('mass_death', tools.ago('0'), tools.ago('0'), 12, 0, 'it was the network');
SET ROLE regress_esg_alerts_owner;
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', raise_above => '3 minutes', reset => '{enabled}'$$);
SELECT tools.outcome('set_alert_rule', NULL, $$'stuck', enabled => false$$);
SELECT rule, recorded FROM sync_guard.alerts;
SET ROLE regress_esg_alerts_reader;
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', enabled => false$$);
SELECT rule, recorded FROM sync_guard.alerts;
SELECT rule, relation, detail FROM sync_guard.alert_history WHERE rule = 'mass_death' OR cleared_at IS NULL;
SELECT count(*) > 0 AS rules_of_the_table FROM sync_guard.alert_rules WHERE relation IS NOT NULL;
SELECT count(*) FROM sync_guard.alert_log;
-- A stranger is told of no table, not even whether there is one.
SET ROLE regress_esg_alerts_stranger;
SELECT tools.outcome('set_alert_rule', 'app.runs', $$'stuck', enabled => false$$);
SELECT count(*) FROM sync_guard.alerts;
SELECT count(*) FROM sync_guard.alert_history;
SELECT count(*) FROM sync_guard.alert_rules WHERE relation IS NOT NULL;
RESET ROLE;
-- Nor one to whom row security shows only some of the runs.
ALTER TABLE app.runs ENABLE ROW LEVEL SECURITY;
CREATE POLICY orders_only ON app.runs USING (sync_type = 'orders');
SET ROLE regress_esg_alerts_reader;
SELECT count(*) FROM sync_guard.alerts;
SELECT count(*) FROM sync_guard.alert_history;
RESET ROLE;
SELECT rule, recorded FROM sync_guard.alerts;
-- Whoever sweeps, the evaluation is the table's: a role that may reap, and is shown nothing else.
ALTER TABLE app.runs DISABLE ROW LEVEL SECURITY;
GRANT UPDATE ON app.runs TO regress_esg_alerts_reader;
TRUNCATE sync_guard.alert_log;
SET ROLE regress_esg_alerts_reader;
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
RESET ROLE;
SELECT rule, scope, cleared FROM tools.history;

-- A rolled back sweep has recorded nothing.
TRUNCATE sync_guard.alert_log;
BEGIN;
SELECT tools.sweep();
SELECT count(*) FROM sync_guard.alert_history;
ROLLBACK;
SELECT count(*) FROM sync_guard.alert_history;
SELECT tools.sweep();

-- What a table leaves behind when it is guarded no more.
SELECT sync_guard.unguard_table('app.runs');
SELECT count(*) FROM sync_guard.alert_settings WHERE relation IS NOT NULL;
SELECT * FROM sync_guard.alerts;
SELECT tools.sweep();
SELECT rule, relation, scope, cleared, at, how FROM tools.history;
DROP TABLE app.runs;
SELECT rule, relation, scope, cleared FROM tools.history;
SET ROLE regress_esg_alerts_reader;
SELECT count(*) FROM sync_guard.alert_history;
RESET ROLE;
-- purge_journal takes those with it that have cleared.
INSERT INTO sync_guard.alert_log (rule, raised_at, figure, threshold, detail) VALUES ('mass_death', tools.ago('100 days'), 12, 0, 'still there');
UPDATE sync_guard.alert_log SET cleared_at = tools.ago('91 days') WHERE rule = 'failure_rate' AND scope ->> 'sync_type' = 'products';
SELECT rule, scope ->> 'sync_type' AS scope FROM sync_guard.alert_log ORDER BY id;
SELECT sync_guard.purge_journal('90 days');
SELECT rule, scope ->> 'sync_type' AS scope FROM sync_guard.alert_log ORDER BY id;
\c :home
DROP DATABASE regress_esg_alerts;
DROP ROLE regress_esg_alerts_owner, regress_esg_alerts_reader, regress_esg_alerts_stranger;
