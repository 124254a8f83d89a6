-- suggested_limits: what a history suggests, to the figure; what the past would have been with it; and apply_suggested_limits.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA suggest;
SET search_path = suggest, public;
\getenv source PG_ABS_SRCDIR
\set schema suggest
\set ECHO none
\set file :source '/sql/fixtures/outcome.sql'
\i :file
\set ECHO all
-- A guarded table with these columns; what is suggested for it in brief.
CREATE FUNCTION make(name text, columns text, VARIADIC options text[] DEFAULT '{}') RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %I (id integer PRIMARY KEY, status text NOT NULL CHECK (status IN (''running'', ''completed'', ''failed'')), %s)', name, columns);
    EXECUTE format('SELECT sync_guard.guard_table(%s)', array_to_string(quote_literal(name) || options, ', '));
END $$;
CREATE FUNCTION brief(name regclass) RETURNS TABLE (scope jsonb, limit_name text, suggested interval, based_on text, sample bigint, longest interval)
LANGUAGE sql AS $$ SELECT scope, limit_name, suggested, based_on, sample, longest FROM sync_guard.limit_suggestions(name) $$;

--
-- Figures. 100 runs of 1 to 100 minutes; 1000 of 1 to 1000 seconds; 4 of a day, which suggest nothing.
--
SELECT make('runs', 'kind text, started_at timestamptz, completed_at timestamptz', $$scope_columns => '{kind}'$$);
INSERT INTO runs SELECT n, 'completed', 'minutes', now() - interval '240 hours', now() - interval '240 hours' + n * interval '1 minute' FROM generate_series(1, 100) AS n;
INSERT INTO runs SELECT 1000 + n, 'completed', 'seconds', now() - interval '240 hours', now() - interval '240 hours' + n * interval '1 second' FROM generate_series(1, 1000) AS n;
INSERT INTO runs SELECT 3000 + n, 'completed', 'few', now() - interval '240 hours', now() - interval '216 hours' FROM generate_series(1, 4) AS n;
-- What says nothing: failed ones, live ones, those without an end or with one before the start, infinite ones, those of
-- other days.
INSERT INTO runs SELECT 4000 + n, 'failed', 'minutes', now() - interval '240 hours', now() - interval '120 hours' FROM generate_series(1, 9) AS n;
INSERT INTO runs VALUES (5001, 'running', 'minutes', now(), NULL), (5002, 'completed', 'minutes', now() - interval '240 hours', NULL),
    (5003, 'completed', 'minutes', now() - interval '240 hours', now() - interval '264 hours'), (5004, 'completed', 'minutes', '-infinity', now()),
    (5005, 'completed', 'minutes', now() - interval '240 hours', 'infinity'), (5006, 'completed', 'minutes', 'infinity', 'infinity'),
    (5007, 'completed', 'minutes', now() - interval '2184 hours', now() - interval '24 hours'), (5008, 'completed', 'minutes', NULL, now()),
    (5009, 'completed', 'minutes', now() + interval '24 hours', now() + interval '216 hours'), (5010, 'completed', 'minutes', now(), now() + interval '216 hours');
\x on
SELECT * FROM sync_guard.suggested_limits WHERE relation = 'runs'::regclass;
\x off
-- From further back, and from less far.
SELECT limit_name, suggested, sample, longest, wrong_share FROM sync_guard.limit_suggestions('runs', '92 days') WHERE scope ->> 'kind' = 'minutes';
SELECT scope, limit_name, sample, suggested, wrong_share, statement FROM sync_guard.limit_suggestions('runs', '1 day');
SELECT count(*) FROM sync_guard.limit_suggestions('runs', '6500 years');
-- The table's own fits the scope that needs most, though its runs are few among many.
DELETE FROM runs WHERE kind = 'minutes' AND id > 5;
SELECT * FROM brief('runs') WHERE limit_name = 'max_silence';
-- An outlier of a large sample is left out, and counted.
DELETE FROM runs WHERE kind <> 'seconds';
UPDATE runs SET completed_at = started_at + interval '192 hours' WHERE id = 2000;
SELECT limit_name, suggested, sample, p99, longest, wrong_share, replay_wrong FROM sync_guard.limit_suggestions('runs') WHERE scope = '{}';
-- Half again of 20 minutes is 30; a little more is rounded up.
DELETE FROM runs WHERE id > 1012;
UPDATE runs SET completed_at = started_at + interval '20 minutes' WHERE id = 1012;
SELECT suggested, wrong_share, statement FROM sync_guard.limit_suggestions('runs') WHERE scope = '{}' AND limit_name = 'max_silence';
UPDATE runs SET completed_at = started_at + interval '20 minutes 0.000001 seconds' WHERE id = 1012;
SELECT suggested, wrong_share, statement FROM sync_guard.limit_suggestions('runs') WHERE scope = '{}' AND limit_name = 'max_silence';
-- A limit in force already has no statement.
SELECT sync_guard.set_limit('runs', '{}', max_silence => '35 minutes');
SELECT scope, present, suggested, statement FROM sync_guard.limit_suggestions('runs') WHERE limit_name = 'max_silence';

--
-- What memory observed comes before durations.
--
TRUNCATE runs;
INSERT INTO runs SELECT n, 'completed', 'a', now() - interval '48 hours', now() - interval '24 hours' FROM generate_series(1, 10) AS n;
INSERT INTO sync_guard.observed_gaps SELECT 'runs'::regclass, n::text, now(), n * interval '1 minute', CASE WHEN n <= 6 THEN n * interval '2 minutes' END FROM generate_series(1, 9) AS n;
SELECT * FROM brief('runs');
INSERT INTO sync_guard.observed_gaps VALUES ('runs'::regclass, '10', now(), '10 minutes', NULL), ('runs'::regclass, '10', now(), '5 minutes', NULL), ('runs'::regclass, '11', now(), '9 hours', '9 hours');
SELECT * FROM brief('runs');
-- Ended badly, they say nothing.
DELETE FROM runs WHERE id = 10;
INSERT INTO runs VALUES (10, 'failed', 'a', now() - interval '48 hours', now());
SELECT * FROM brief('runs') WHERE scope = '{}';
-- With a column for signs of life, how long a run took says nothing about its silence.
SELECT make('active', 'started_at timestamptz, completed_at timestamptz, heartbeat_at timestamptz');
INSERT INTO active SELECT n, 'completed', now() - interval '48 hours', now() - interval '24 hours' FROM generate_series(1, 10) AS n;
SELECT * FROM brief('active');
INSERT INTO sync_guard.observed_gaps SELECT 'active'::regclass, n::text, now(), interval '40 seconds', NULL FROM generate_series(1, 5) AS n;
SELECT * FROM brief('active');

--
-- The replay: runs that were found dead, and those that were not.
--
TRUNCATE runs;
DELETE FROM sync_guard.observed_gaps;
INSERT INTO runs SELECT n, 'completed', 'a', now() - interval '240 hours', now() - interval '240 hours' + n * interval '1 minute' FROM generate_series(1, 40) AS n;
CREATE FUNCTION journaled(run_key text, event text, verdict text, evidence jsonb, ago interval DEFAULT '24 hours', scope jsonb DEFAULT '{"kind": "a"}') RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO sync_guard.journal (at, event, relation, relation_name, run_key, scope, verdict, evidence, path, role, session_role)
    VALUES (now() - ago, event, 'suggest.runs'::regclass, 'suggest.runs', run_key, scope, verdict, evidence, 'call', 'x', 'x') RETURNING id $$;
CREATE FUNCTION marked(run_key text, event text, reaping bigint, false_positive boolean, path text DEFAULT 'trigger', ago interval DEFAULT '24 hours') RETURNS void LANGUAGE sql AS $$
    INSERT INTO sync_guard.journal (at, event, relation, relation_name, run_key, reaping, path, role, session_role, false_positive)
    VALUES (now() - ago, event, 'suggest.runs'::regclass, 'suggest.runs', run_key, reaping, path, 'x', 'x', false_positive) $$;
CREATE FUNCTION replay() RETURNS TABLE (scope jsonb, limit_name text, suggested interval, sample bigint, dead bigint, reaped bigint, wrong bigint, sooner interval) LANGUAGE sql AS $$
    SELECT scope, limit_name, suggested, sample, replay_dead, replay_reaped, replay_wrong, replay_sooner FROM sync_guard.limit_suggestions('suggest.runs') $$;
-- The suggestion is an hour. Reaped after 2, 3 and 10 hours of silence, started 4, 5 and 12 hours before.
SELECT journaled('d1', 'reaped', 'silent', '{"silence_seconds": 7200, "age_seconds": 14400, "measured_seconds": 7200}') > 0;
SELECT journaled('d2', 'would_reap', 'silent', '{"silence_seconds": 10800, "age_seconds": 18000, "measured_seconds": 10800}') > 0;
SELECT journaled('d3', 'reaped', 'silent', '{"silence_seconds": 36000, "age_seconds": 43200, "measured_seconds": 36000}') > 0;
SELECT * FROM replay();
-- A lease with a ttl is none of max_silence's; one that was reaped sooner would be reaped later; one whose time has not come is
-- not counted; nor is one of another scope, or of scope columns of another day, but for the table's own.
SELECT journaled('d4', 'reaped', 'heartbeat_lost', '{"silence_seconds": 70, "age_seconds": 7200, "ttl_seconds": 60}') > 0;
SELECT journaled('d5', 'reaped', 'session_gone', '{"silence_seconds": 600, "age_seconds": 600}') > 0;
SELECT journaled('d6', 'reaped', 'session_gone', '{"silence_seconds": 0, "age_seconds": 0}', '50 minutes') > 0;
SELECT journaled('d7', 'reaped', 'session_gone', '{"silence_seconds": 360000, "age_seconds": 360000}', scope => '{"kind": "b"}') > 0;
SELECT journaled('d8', 'reaped', 'session_gone', '{"silence_seconds": 360000, "age_seconds": 360000}', scope => '{"sort": "a"}') > 0;
SELECT journaled('d9', 'reaped', 'session_gone', '{"silence_seconds": 360000, "age_seconds": 360000}', scope => NULL) > 0;
SELECT * FROM replay();
DELETE FROM sync_guard.journal WHERE relation = 'runs'::regclass AND run_key > 'd3';
-- A stall is measured from when progress last moved.
INSERT INTO sync_guard.observed_gaps SELECT 'runs'::regclass, n::text, now(), interval '1 minute', interval '20 minutes' FROM generate_series(1, 5) AS n;
SELECT journaled('d4', 'reaped', 'stalled', jsonb_build_object('silence_seconds', 10, 'age_seconds', 7200, 'progress_changed', now() - interval '25 hours', 'measured_seconds', 3600)) > 0;
SELECT * FROM replay() WHERE limit_name = 'max_stall';
DELETE FROM sync_guard.journal WHERE relation = 'runs'::regclass AND run_key > 'd3';
DELETE FROM sync_guard.observed_gaps;
-- Undone, or older than the look: not counted. A run is dead once, by its newest reaping.
SELECT marked('d1', 'retried', (SELECT id FROM sync_guard.journal WHERE run_key = 'd1' AND relation = 'runs'::regclass), false);
SELECT journaled('d2', 'reaped', 'silent', '{"silence_seconds": 14400, "age_seconds": 21600, "measured_seconds": 14400}') > 0;
SELECT journaled('d10', 'reaped', 'silent', '{"silence_seconds": 360000, "age_seconds": 360000}', '91 days') > 0;
SELECT * FROM replay() WHERE limit_name = 'max_silence';
-- Late with a failure it stays dead; late with a success it was alive, for as long as it is known to have lived: 10 hours
-- of silence and 2 more; 12 hours of age and 2 more.
SELECT marked('d2', 'late_finish', max(id), false) FROM sync_guard.journal WHERE run_key = 'd2' AND relation = 'runs'::regclass;
SELECT * FROM replay() WHERE limit_name = 'max_silence';
SELECT marked('d3', 'late_finish', (SELECT id FROM sync_guard.journal WHERE run_key = 'd3' AND relation = 'runs'::regclass), true, ago => '22 hours');
SELECT * FROM replay();
SELECT limit_name, suggested, based_on, sample, date_trunc('minute', longest) AS longest FROM brief('runs') WHERE scope = '{}';
-- Taken back by hand as well: once a mistake. Where the row tells of it, the row counts.
SELECT marked('d3', 'overturned', (SELECT min(id) FROM sync_guard.journal WHERE run_key = 'd3' AND relation = 'runs'::regclass), true, 'call', '1 hour');
SELECT limit_name, suggested, based_on, sample, date_trunc('minute', longest) AS longest FROM brief('runs') WHERE scope = '{}';
UPDATE sync_guard.journal SET run_key = '40' WHERE run_key = 'd3' AND relation = 'runs'::regclass;
SELECT * FROM brief('runs') WHERE scope = '{}';
DELETE FROM sync_guard.journal WHERE relation = 'runs'::regclass;
-- In earnest: two runs are reaped, one of them reports success.
INSERT INTO runs VALUES (101, 'running', 'a', now() - interval '5 hours'), (102, 'running', 'a', now() - interval '3 hours');
SELECT sync_guard.reap_stale_syncs(relation => 'suggest.runs');
SELECT limit_name, sample, dead, reaped, wrong, date_trunc('minute', sooner) AS sooner FROM replay() WHERE scope = '{}';
UPDATE runs SET status = 'completed' WHERE id = 101;
SELECT limit_name, suggested, sample, dead, reaped, wrong, date_trunc('minute', sooner) AS sooner FROM replay() WHERE scope = '{}';
SELECT date_trunc('minute', longest) FROM brief('runs') WHERE scope = '{}';
SELECT sync_guard.overturn_reap('runs', '101', 'completed');
SELECT sample, dead FROM replay() WHERE scope = '{}';

--
-- Tables as they are. Ten runs of 1 to 10 minutes suggest 15, whatever tells of it.
--
SELECT make('empty', 'started_at timestamptz, completed_at timestamptz');
SELECT * FROM sync_guard.limit_suggestions('empty');
SELECT make('naive', 'started_at timestamp, completed_at timestamp');
INSERT INTO naive SELECT n, 'completed', (now() AT TIME ZONE 'UTC') - interval '1 hour', (now() AT TIME ZONE 'UTC') - interval '1 hour' + n * interval '1 minute' FROM generate_series(1, 10) AS n;
SELECT * FROM brief('naive');
-- They started an hour ago by UTC.
SELECT sample FROM sync_guard.limit_suggestions('naive', '61 minutes');
SELECT sample FROM sync_guard.limit_suggestions('naive', '59 minutes');
SELECT make('half', 'started_at timestamp, completed_at timestamptz');
INSERT INTO half SELECT n, 'completed', (now() AT TIME ZONE 'UTC') - interval '1 hour', now() - interval '1 hour' + n * interval '1 minute' FROM generate_series(1, 10) AS n;
SELECT * FROM brief('half');
-- The hour that comes twice: of a run from 03:30 to 03:10 in Bucharest the duration tells; one from 02:30 to 04:30 took three
-- hours.
SELECT make('autumn', 'started_at timestamp, completed_at timestamp, duration_seconds double precision', $$time_zone => 'Europe/Bucharest'$$);
INSERT INTO autumn SELECT n, 'completed', '2025-10-26 03:30', '2025-10-26 03:10', 2400 FROM generate_series(1, 5) AS n;
INSERT INTO autumn SELECT n, 'completed', '2025-10-26 02:30', '2025-10-26 04:30' FROM generate_series(6, 9) AS n;
SELECT limit_name, suggested, sample, p50, longest FROM sync_guard.limit_suggestions('autumn', '100 years');
-- By its duration alone: in seconds, milliseconds, as an interval, and what is none.
SELECT make('seconds', 'started_at timestamptz, duration_seconds numeric', 'end_column => ''''');
INSERT INTO seconds SELECT n, 'completed', now() - interval '1 hour', n * 60 FROM generate_series(1, 10) AS n;
INSERT INTO seconds SELECT 10 + n, 'completed', now() - interval '1 hour', d FROM unnest('{NaN,-1,NULL,1e30,1e9,86400}'::numeric[]) WITH ORDINALITY AS u (d, n);
SELECT * FROM brief('seconds');
SELECT make('milliseconds', 'started_at timestamp, duration_ms bigint', 'end_column => ''''');
INSERT INTO milliseconds SELECT n, 'completed', (now() AT TIME ZONE 'UTC') - interval '1 hour', n * 60000 FROM generate_series(1, 10) AS n;
INSERT INTO milliseconds VALUES (11, 'completed', (now() AT TIME ZONE 'UTC') - interval '1 hour', 9223372036854775807);
SELECT * FROM brief('milliseconds');
SELECT make('intervals', 'finished_at timestamptz, elapsed interval', 'start_column => ''''', 'duration_column => ''elapsed''');
INSERT INTO intervals SELECT n, 'completed', now() - interval '1 hour', n * interval '1 minute' FROM generate_series(1, 10) AS n;
INSERT INTO intervals VALUES (11, 'completed', now(), '-1 hour'), (12, 'completed', now(), '178000000 years');
SELECT * FROM brief('intervals');
-- Neither: only what memory observed. Nor a time that says when a run was: nothing.
SELECT make('start_only', 'started_at timestamptz');
INSERT INTO start_only SELECT n, 'completed', now() - interval '1 hour' FROM generate_series(1, 10) AS n;
SELECT * FROM brief('start_only');
INSERT INTO sync_guard.observed_gaps SELECT 'start_only'::regclass, n::text, now(), n * interval '1 minute', NULL FROM generate_series(1, 10) AS n;
SELECT * FROM brief('start_only');
SELECT make('timeless', 'heartbeat_at timestamptz', 'start_column => ''''', 'end_column => ''''');
INSERT INTO timeless SELECT n, 'completed', now() FROM generate_series(1, 10) AS n;
SELECT * FROM brief('timeless');
-- Partitioned; a partition stands for its table.
CREATE TABLE parted (id integer, kind text, status text CHECK (status IN ('running', 'completed', 'failed')), started_at timestamptz, completed_at timestamptz, PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE parted_a PARTITION OF parted FOR VALUES IN ('a');
CREATE TABLE parted_b PARTITION OF parted FOR VALUES IN ('b', 'c"''\');
SELECT sync_guard.guard_table('parted', key_column => 'id', scope_columns => '{kind}');
INSERT INTO parted SELECT n, 'a', 'completed', now() - interval '1 hour', now() - interval '1 hour' + n * interval '1 minute' FROM generate_series(1, 10) AS n;
INSERT INTO parted SELECT 10 + n, 'c"''\', 'completed', now() - interval '1 hour', now() - interval '1 hour' + n * interval '1 second' FROM generate_series(1, 10) AS n;
SELECT scope, limit_name, suggested, sample FROM sync_guard.limit_suggestions('parted_b') WHERE limit_name = 'max_silence';
-- The statement does what it says.
SELECT statement FROM sync_guard.limit_suggestions('parted') WHERE scope ->> 'kind' = 'c"''\' AND limit_name = 'max_silence' \gexec
SELECT scope, present, statement FROM sync_guard.limit_suggestions('parted') WHERE scope ->> 'kind' = 'c"''\' AND limit_name = 'max_silence';
-- NULL is a value of a scope.
SELECT make('nulls', 'a text, b integer, started_at timestamptz, completed_at timestamptz', $$scope_columns => '{a,b}'$$);
INSERT INTO nulls SELECT n, 'completed', CASE WHEN n % 2 = 0 THEN 'x' END, CASE WHEN n % 4 < 2 THEN 1 END, now() - interval '1 hour', now() FROM generate_series(1, 20) AS n;
SELECT scope, suggested, sample FROM sync_guard.limit_suggestions('nulls') WHERE limit_name = 'max_age';
SELECT * FROM sync_guard.apply_suggested_limits('nulls', min_sample => 5, limits => '{max_age}', scope => '{"b": null, "a": null}');
SELECT scope, present FROM sync_guard.limit_suggestions('nulls') WHERE limit_name = 'max_age';

--
-- Applied.
--
TRUNCATE runs;
DELETE FROM sync_guard.journal WHERE relation = 'runs'::regclass;
SELECT sync_guard.set_limit('runs', '{}', reset => '{max_silence}');
INSERT INTO runs SELECT n, 'completed', 'long', now() - interval '240 hours', now() - interval '240 hours' + interval '48 hours' FROM generate_series(1, 20) AS n;
INSERT INTO runs SELECT 100 + n, 'completed', 'middling', now() - interval '240 hours', now() - interval '240 hours' + interval '40 minutes' FROM generate_series(1, 20) AS n;
INSERT INTO runs SELECT 200 + n, 'completed', 'short', now() - interval '240 hours', now() - interval '240 hours' + interval '1 second' FROM generate_series(1, 20) AS n;
INSERT INTO runs SELECT 300 + n, 'completed', 'few', now() - interval '240 hours', now() - interval '240 hours' + interval '3 hours' FROM generate_series(1, 19) AS n;
CREATE FUNCTION limits_in_force() RETURNS TABLE (scope jsonb, max_silence interval, max_age interval) LANGUAGE sql AS $$
    SELECT scope, max(present) FILTER (WHERE limit_name = 'max_silence'), max(present) FILTER (WHERE limit_name = 'max_age') FROM sync_guard.limit_suggestions('suggest.runs') GROUP BY scope ORDER BY scope $$;
-- Between floor and ceiling, from enough runs; middling has its hour already, until the table's own has another. The ceiling
-- cuts what the long ones need.
SELECT scope, present, suggested FROM sync_guard.limit_suggestions('runs') WHERE limit_name = 'max_silence';
BEGIN;
SELECT * FROM sync_guard.apply_suggested_limits('runs');
SELECT * FROM limits_in_force();
-- The second time there is nothing to do.
SELECT * FROM sync_guard.apply_suggested_limits('runs');
ROLLBACK;
-- One scope alone; other limits; other bounds.
SELECT * FROM sync_guard.apply_suggested_limits('runs', scope => '{"kind": "middling"}');
SELECT * FROM sync_guard.apply_suggested_limits('runs', scope => '{"kind": "few"}');
SELECT * FROM sync_guard.apply_suggested_limits('runs', scope => '{"kind": "few"}', min_sample => 19);
SELECT * FROM sync_guard.apply_suggested_limits('runs', scope => '{}', ceiling => '100 days');
SELECT * FROM sync_guard.apply_suggested_limits('runs', "floor" => '90 seconds', ceiling => '30 minutes', limits => '{max_age,max_silence,max_age}');
SELECT * FROM limits_in_force();
-- max_stall: with the word that nothing tells of it here.
INSERT INTO sync_guard.observed_gaps SELECT 'runs'::regclass, n::text, now(), interval '1 minute', interval '4 minutes' FROM generate_series(1, 20) AS n;
SET client_min_messages = notice;
SELECT * FROM sync_guard.apply_suggested_limits('runs', limits => '{max_stall}');
SET client_min_messages = warning;
SELECT max_silence, max_age, max_stall FROM sync_guard.settings WHERE relation = 'runs'::regclass;
SELECT scope, max_silence, max_age, max_stall FROM sync_guard.scope_limits WHERE relation = 'runs'::regclass ORDER BY scope;
-- A limit by fewer scope columns holds where no other does.
SELECT sync_guard.set_limit('nulls', '{"a": "x"}', max_age => '90 minutes');
SELECT scope, present FROM sync_guard.limit_suggestions('nulls') WHERE limit_name = 'max_age';
SELECT * FROM sync_guard.apply_suggested_limits('nulls', min_sample => 5, limits => '{max_age}');
SELECT * FROM sync_guard.apply_suggested_limits('empty');

\pset format unaligned
\pset tuples_only on
-- Refused.
SELECT outcome('apply_suggested_limits', 'runs', arguments) FROM unnest(ARRAY[
    'NULL', '0', '-1',
    '"floor" => NULL', '"floor" => ''0''', '"floor" => ''-1 minute''', '"floor" => ''178000000 years''',
    'ceiling => NULL', 'ceiling => ''0''', 'ceiling => ''-1 minute''', 'ceiling => ''4 minutes''', '"floor" => ''2 days''',
    'limits => NULL', 'limits => ''{}''', 'limits => ''{NULL}''', 'limits => ''{max_silence,nosuch}''', 'limits => ''{""}''',
    'scope => ''[]''', 'scope => ''null''', 'scope => ''{"sort": "a"}''', 'scope => ''{"kind": []}''', 'scope => ''{"kind": "none"}''']) AS arguments;
SELECT outcome('apply_suggested_limits', 'nulls', 'scope => ''{"a": "x"}''');
SELECT outcome('apply_suggested_limits', 'nulls', 'scope => ''{"a": "x", "b": "one"}''');
SELECT outcome('limit_suggestions', 'runs', arguments) FROM unnest(ARRAY['NULL', '''0''', '''-1 day''', '''178000000 years''']) AS arguments;
CREATE TABLE unguarded (id integer);
SELECT outcome('limit_suggestions', 'unguarded');
SELECT outcome('apply_suggested_limits', 'unguarded');
DO $$ BEGIN PERFORM sync_guard.apply_suggested_limits(NULL); EXCEPTION WHEN null_value_not_allowed THEN RAISE WARNING '% %', SQLSTATE, SQLERRM; END $$;
BEGIN READ ONLY;
SELECT count(*) > 0 FROM sync_guard.suggested_limits;
SELECT sync_guard.apply_suggested_limits('runs');
ROLLBACK;
\pset format aligned
\pset tuples_only off

--
-- Rights. A reader sees figures of what he may read; row security shows him what it shows him of the rows, and nothing of
-- the journal; who does not own a table sets nothing.
--
CREATE ROLE regress_esg_suggest_owner;
CREATE ROLE regress_esg_suggest_reader;
CREATE ROLE regress_esg_suggest_columns;
CREATE ROLE regress_esg_suggest_tenant;
CREATE ROLE regress_esg_suggest_nobody;
GRANT USAGE ON SCHEMA suggest TO PUBLIC;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA suggest TO PUBLIC;
CREATE TABLE owned (id integer PRIMARY KEY, tenant text, secret text, status text CHECK (status IN ('running', 'completed', 'failed')), started_at timestamptz, completed_at timestamptz);
ALTER TABLE owned OWNER TO regress_esg_suggest_owner;
SET SESSION AUTHORIZATION regress_esg_suggest_owner;
SELECT sync_guard.guard_table('owned', scope_columns => '{}', summary_columns => '{status}');
INSERT INTO owned SELECT n, CASE WHEN n <= 10 THEN 'regress_esg_suggest_tenant' ELSE 'another' END, 'x', 'completed', now() - interval '24 hours', now() - interval '24 hours' + n * interval '1 minute' FROM generate_series(1, 20) AS n;
INSERT INTO owned VALUES (21, 'another', 'x', 'running', now() - interval '5 hours'), (22, 'another', 'x', 'running', now() - interval '5 hours');
SELECT sync_guard.reap_stale_syncs(relation => 'owned');
UPDATE owned SET status = 'completed' WHERE id = 22;
GRANT SELECT ON owned TO regress_esg_suggest_reader, regress_esg_suggest_tenant;
GRANT SELECT (id, status, started_at, completed_at) ON owned TO regress_esg_suggest_columns;
RESET SESSION AUTHORIZATION;
INSERT INTO sync_guard.observed_gaps VALUES ('owned'::regclass, '20', now(), '3 hours', '1 hour');
CREATE FUNCTION asked(role name) RETURNS TABLE (limit_name text, suggested interval, sample bigint, longest interval, dead bigint, reaped bigint, wrong bigint, judged boolean) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', role);
    RETURN QUERY SELECT l.limit_name, l.suggested, l.sample, date_trunc('minute', l.longest), l.replay_dead, l.replay_reaped, l.replay_wrong, l.replay_sooner IS NOT NULL
        FROM sync_guard.suggested_limits AS l WHERE relation = 'suggest.owned'::regclass;
    SET LOCAL SESSION AUTHORIZATION DEFAULT;
END $$;
SELECT * FROM asked('regress_esg_suggest_owner');
SELECT * FROM asked('regress_esg_suggest_reader');
SELECT * FROM asked('regress_esg_suggest_columns');
SELECT * FROM asked('regress_esg_suggest_nobody');
SET SESSION AUTHORIZATION regress_esg_suggest_nobody;
SELECT * FROM sync_guard.limit_suggestions('owned');
SELECT * FROM sync_guard.apply_suggested_limits('owned');
SET SESSION AUTHORIZATION regress_esg_suggest_reader;
SELECT * FROM sync_guard.apply_suggested_limits('owned');
RESET SESSION AUTHORIZATION;
ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON owned USING (tenant = current_user);
SELECT * FROM asked('regress_esg_suggest_tenant');
SELECT * FROM asked('regress_esg_suggest_reader');
SELECT * FROM asked('regress_esg_suggest_owner');
SET SESSION AUTHORIZATION regress_esg_suggest_owner;
SELECT * FROM sync_guard.apply_suggested_limits('owned');
RESET SESSION AUTHORIZATION;

-- What a table's owner put in the way of reading runs as nobody but him, and writes nothing.
CREATE TABLE lent (id integer PRIMARY KEY, kind text, status text CHECK (status IN ('running', 'completed', 'failed')), started_at timestamptz, completed_at timestamptz);
CREATE TABLE noted (by name);
GRANT INSERT, SELECT ON noted TO PUBLIC;
CREATE FUNCTION note() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO suggest.noted VALUES (current_user); RETURN true; END $$;
INSERT INTO lent SELECT n, 'a', 'completed', now() - interval '24 hours', now() FROM generate_series(1, 10) AS n;
SELECT sync_guard.guard_table('lent', scope_columns => '{kind}');
ALTER TABLE lent OWNER TO regress_esg_suggest_owner;
ALTER TABLE lent ENABLE ROW LEVEL SECURITY;
CREATE POLICY noting ON lent USING (suggest.note());
GRANT SELECT ON lent TO regress_esg_suggest_reader;
SET SESSION AUTHORIZATION regress_esg_suggest_reader;
SELECT count(*) FROM lent;
\set SHOW_CONTEXT never
SELECT count(*) FROM sync_guard.limit_suggestions('lent');
\set SHOW_CONTEXT errors
RESET SESSION AUTHORIZATION;
SELECT DISTINCT by FROM noted;

RESET search_path;
SET client_min_messages = error;
DROP SCHEMA suggest CASCADE;
DELETE FROM sync_guard.journal WHERE relation_name LIKE 'suggest.%';
DROP ROLE regress_esg_suggest_owner, regress_esg_suggest_reader, regress_esg_suggest_columns, regress_esg_suggest_tenant, regress_esg_suggest_nobody;
