-- The caller's search path, and his temporary objects, are nothing to the guard: whatever is named there like the server's
-- own functions, operators, types and catalogs, or like the guard's tables, is never called nor read. The caller is a
-- superuser and owns the table, so that nothing else would keep it away.
SET client_min_messages = warning;
CREATE DATABASE regress_esg_path;
ALTER DATABASE regress_esg_path SET client_min_messages = warning;
\set home :DBNAME
\getenv source PG_ABS_SRCDIR
\c regress_esg_path
CREATE EXTENSION emag_sync_guard;
\set file :source '/sql/fixtures/call_everything.sql'
\set ECHO none
\i :file
\set ECHO all
CREATE SCHEMA app;
CREATE TABLE app.runs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    sync_type varchar(50) NOT NULL,
    account_type varchar(10),
    status varchar(50) NOT NULL CHECK (status IN ('running', 'completed', 'failed')),
    started_at timestamp DEFAULT (now() AT TIME ZONE 'UTC'),
    completed_at timestamp,
    duration_seconds numeric(10,2),
    errors json,
    heartbeat_at timestamptz,
    updated_at timestamp,
    processed_items bigint,
    total_items bigint);
CREATE INDEX ON app.runs (started_at);
CREATE TABLE app.parts (id integer, state char(10) DEFAULT 'running', started_at timestamptz, finished_at timestamptz,
    duration_ms integer, error_message varchar(200), PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE app.parts_1 PARTITION OF app.parts DEFAULT;

-- Look-alikes of everything in pg_catalog that can be made: they leave a lock behind and fail.
\set file :source '/sql/fixtures/look_alikes.sql'
\set ECHO none
\i :file
\set ECHO all
SELECT kind, count(*) > 50 AS many FROM evil.made GROUP BY kind ORDER BY kind;

-- A path on which even the server's own names come after.
ALTER DATABASE regress_esg_path SET search_path = evil, pg_catalog;
\c -
-- It works: what is not qualified is trapped.
\set SHOW_CONTEXT never
SELECT now();
SELECT 1 = 1;
SELECT pg_catalog.pg_advisory_unlock_all();

SELECT sync_guard.guard_table('app.runs', scope_columns => '{sync_type,account_type}', exclusive => true,
    scope_overlaps => '{"account_type": {"both": ["main", "fbe"]}}', activity_column => 'heartbeat_at', updated_column => 'updated_at',
    max_age => '3 days', max_stall => '1 day');
SELECT sync_guard.guard_table('app.parts', live_statuses => '{running}');
SELECT sync_guard.set_limit('app.runs', '{"sync_type": "orders"}', max_silence => '30 minutes');
SELECT sync_guard.allow_transition('app.runs', 'failed', 'running', false);
SELECT sync_guard.pause_reaping('app.parts');
SELECT sync_guard.resume_reaping('app.parts');
SELECT sync_guard.repair_triggers('app.runs');

-- The application's statements, and everything in between.
INSERT INTO app.runs (id, sync_type, account_type, status, started_at, errors) VALUES
    ('00000000-0000-0000-0000-000000000001', 'products', 'main', 'running', '2020-01-01', NULL),
    ('00000000-0000-0000-0000-000000000002', 'orders', 'both', 'running', '2020-01-01', '[{"error": "x"}]'),
    ('00000000-0000-0000-0000-000000000003', 'offers', 'fbe', 'running', '2020-01-01', '{"a": 1}');
INSERT INTO app.runs (id, sync_type, account_type, status) VALUES ('00000000-0000-0000-0000-000000000004', 'offers', 'both', 'running');
\set VERBOSITY sqlstate
INSERT INTO app.runs (sync_type, account_type, status) VALUES ('offers', 'main', 'running');
\set VERBOSITY default
INSERT INTO app.parts (id, started_at, error_message) VALUES (1, '2020-01-01', 'before'), (2, '2020-01-01', NULL);
SELECT sync_guard.sync_is_running('offers'), sync_guard.scope_is_running('{"account_type": "fbe"}', 'app.runs');
SELECT sync_guard.reap_stale_syncs(max_runs => 1);
SELECT sync_guard.reap_stale_syncs(older_than => '1 hour', even_if_alive => true);
UPDATE app.runs SET status = 'completed', errors = '[]', processed_items = 5 WHERE sync_type OPERATOR(pg_catalog.=) 'products';
UPDATE app.runs SET status = 'completed' WHERE sync_type OPERATOR(pg_catalog.=) 'offers';
\set VERBOSITY sqlstate
UPDATE app.runs SET status = 'running';
\set VERBOSITY default
SELECT sync_guard.overturn_reap('app.runs', '00000000-0000-0000-0000-000000000001'::pg_catalog.uuid, 'completed');
SELECT sync_guard.overturn_reap('app.parts', 1, 'running');
SELECT sync_guard.guard_table('app.parts', mode => 'observe');
SELECT sync_guard.reap_stale_syncs();

-- Everything there is, each for itself.
SET search_path = pg_catalog;
CREATE TABLE everything.results (what text, answer text);
CREATE FUNCTION everything.on_evil_path() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    s record;
    answer text;
BEGIN
    FOR s IN SELECT * FROM everything.statements('app.runs', '00000000-0000-0000-0000-000000000002', 'uuid')
             UNION ALL SELECT * FROM everything.statements('app.parts', '1', 'bigint') LOOP
        CONTINUE WHEN s.what ~ '^(next|set)val';
        -- What string_agg and the cast of the statement itself mean is said here, not on the path.
        s.statement := replace(replace(replace(s.statement, 'string_agg(', 'pg_catalog.string_agg('), '::text', '::pg_catalog.text'),
                               '::oid::regclass', '::pg_catalog.oid::pg_catalog.regclass');
        s.statement := regexp_replace(s.statement, '::(interval|jsonb|uuid|bigint)', '::pg_catalog.\1', 'g');
        s.statement := replace(s.statement, 'pg_catalog.bigint', 'pg_catalog.int8');
        PERFORM set_config('search_path', 'evil, pg_catalog', true);
        answer := everything.answer(s.statement);
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog', true);
        INSERT INTO everything.results VALUES (s.what, answer);
    END LOOP;
END $$;
SELECT everything.on_evil_path();
-- An SQLSTATE is one where it begins the answer or stands in quotes: clocks, process ids and OIDs have such digits, too.
SELECT what, answer FROM everything.results WHERE answer ~ 'trapped|evil|(^|")(42804|42883|42P01|42703)("|:)';
SELECT count(*) > 150 AS asked, bool_or(what ~ 'reaped_syncs' AND answer ~ 'silent') AS answered FROM everything.results;
-- Nothing was trapped, not even where an error was caught.
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 4242 AND pid = pg_backend_pid();

-- Temporary objects come before everything where nobody says pg_temp.
\c -
SET search_path = pg_catalog;
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace IN ('pg_catalog'::regnamespace, 'sync_guard'::regnamespace, 'app'::regnamespace)
                AND relkind IN ('r', 'v', 'p') LOOP
        EXECUTE format('CREATE TEMP TABLE %I (i pg_catalog.int4)', name);
    END LOOP;
    FOR name IN SELECT unnest('{text,regclass,jsonb,oid,uuid,timestamptz,name}'::pg_catalog.text[]) LOOP
        EXECUTE format('CREATE DOMAIN pg_temp.%I AS pg_catalog.%1$I CHECK (evil.mark(%L) IS NULL)', name, 'type ' || name);
    END LOOP;
END $$;
SET search_path = '';
SELECT sync_guard.sync_is_running('offers'), sync_guard.scope_is_running('{"account_type": "fbe"}', 'app.runs');
UPDATE app.runs SET status = 'failed', errors = '[]' WHERE id = '00000000-0000-0000-0000-000000000004';
UPDATE app.runs SET status = 'completed' WHERE id = '00000000-0000-0000-0000-000000000004';
INSERT INTO app.runs (sync_type, account_type, status, started_at) VALUES ('offers', 'main', 'running', '2020-01-01');
SELECT sync_guard.reap_stale_syncs(older_than => '1 hour');
SELECT count(*) > 0 AS counted FROM sync_guard.reaped_syncs;
SELECT count(*) > 0 AS counted FROM sync_guard.recent_syncs;
SELECT count(*) > 0 AS counted FROM sync_guard.sync_status_overview;
SELECT count(*) > 0 AS counted FROM sync_guard.guard_health;
SELECT sync_guard.sync_status(recent => 1) -> 'is_running' AS is_running;
SELECT sync_guard.guard_table('app.runs', reset => '{scope_columns,scope_overlaps,exclusive}');
SELECT sync_guard.unguard_table('app.runs');
SELECT sync_guard.purge_journal('0') > 0 AS purged;

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_path;
