-- What guard_table does not take: relations that are no tables of runs, and tables that would refuse what a reaping writes.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA refused;
SET search_path = refused, public;
\getenv source PG_ABS_SRCDIR
\set schema refused
\set ECHO none
\set file :source '/sql/fixtures/outcome.sql'
\i :file
\set ECHO all
\pset format unaligned
\pset tuples_only on

--
-- Relations
--
CREATE TABLE runs (id int PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz);
CREATE VIEW runs_view AS TABLE runs;
CREATE MATERIALIZED VIEW runs_matview AS TABLE runs;
CREATE TEMPORARY TABLE runs_temporary (LIKE runs INCLUDING ALL);
CREATE FOREIGN DATA WRAPPER refused_wrapper;
CREATE SERVER refused_server FOREIGN DATA WRAPPER refused_wrapper;
CREATE FOREIGN TABLE runs_foreign (id int, status text, started_at timestamptz) SERVER refused_server;
CREATE SEQUENCE runs_sequence;
CREATE TYPE runs_type AS (id int, status text);
CREATE TABLE runs_parent (LIKE runs INCLUDING ALL);
CREATE TABLE runs_child () INHERITS (runs_parent);
CREATE TABLE runs_parts (LIKE runs INCLUDING ALL) PARTITION BY HASH (id);
CREATE TABLE runs_part PARTITION OF runs_parts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE runs_mixed (id int, status text, started_at timestamptz) PARTITION BY RANGE (started_at);
CREATE FOREIGN TABLE runs_mixed_foreign PARTITION OF runs_mixed DEFAULT SERVER refused_server;
CREATE TABLE runs_rule (LIKE runs INCLUDING ALL);
CREATE RULE redirected AS ON UPDATE TO runs_rule DO INSTEAD NOTHING;
SELECT outcome('guard_table', 'runs_view');
SELECT outcome('guard_table', 'runs_matview');
SELECT outcome('guard_table', 'runs_temporary');
SELECT outcome('guard_table', 'runs_foreign');
SELECT outcome('guard_table', 'runs_sequence');
SELECT outcome('guard_table', 'runs_type');
SELECT outcome('guard_table', 'runs_pkey');
SELECT outcome('guard_table', 'runs_parent');
SELECT outcome('guard_table', 'runs_child');
SELECT outcome('guard_table', 'runs_part');
SELECT outcome('guard_table', 'runs_mixed');
SELECT outcome('guard_table', 'runs_rule');
SELECT outcome('guard_table', 'pg_catalog.pg_class');
SELECT outcome('guard_table', 'information_schema.sql_parts');
SELECT outcome('guard_table', 'sync_guard.journal');
SELECT outcome('guard_table', 'nosuch');
-- An unlogged table and a table of a type are tables.
CREATE UNLOGGED TABLE runs_unlogged (LIKE runs INCLUDING ALL);
CREATE TYPE run AS (id int, status text, started_at timestamptz);
CREATE TABLE runs_typed OF run (PRIMARY KEY (id), status DEFAULT 'running');
SELECT outcome('guard_table', 'runs_unlogged');
SELECT outcome('guard_table', 'runs_typed');
-- Generated and identity columns.
CREATE TABLE runs_generated (id int PRIMARY KEY, done boolean, status text GENERATED ALWAYS AS (CASE WHEN done THEN 'done' ELSE 'running' END) STORED, started_at timestamptz);
SELECT outcome('guard_table', 'runs_generated');
SELECT outcome('guard_table', 'runs_generated', $$status_column => 'status', live_statuses => '{running}'$$);
-- Nor is one a number: there is no column to name.
CREATE TABLE runs_numbered (id int PRIMARY KEY, state boolean, status smallint NOT NULL, started_at timestamptz);
SELECT outcome('guard_table', 'runs_numbered');
CREATE TABLE runs_unmarked (id int PRIMARY KEY, started_at timestamptz);
SELECT outcome('guard_table', 'runs_unmarked');

--
-- Scopes: locks and memory tell texts apart by their bytes. (Made by hand, since not every encoding has ICU's collations.)
--
CREATE COLLATION same_letters FROM "C";
UPDATE pg_collation SET collisdeterministic = false WHERE oid = 'same_letters'::regcollation;
CREATE DOMAIN kind AS varchar(20) COLLATE same_letters;
CREATE TABLE runs_collated (LIKE runs INCLUDING ALL, shop integer, "Sort" varchar(20) COLLATE same_letters, kind kind, exact text COLLATE "C");
SELECT outcome('guard_table', 'runs_collated', $$exclusive => true, scope_columns => '{Sort}'$$);
SELECT outcome('guard_table', 'runs_collated', $$exclusive => true, scope_columns => '{shop,kind}'$$);
SELECT outcome('guard_table', 'runs_collated', $$exclusive => true, scope_columns => '{shop,exact}'$$);
-- Where scopes only have limits of their own it does no harm; until they become exclusive.
SELECT outcome('guard_table', 'runs_collated', $$exclusive => false, scope_columns => '{Sort}'$$);
SELECT outcome('guard_table', 'runs_collated', $$exclusive => true$$);
SELECT sync_guard.unguard_table('runs_collated');

--
-- The proof: what a reaping would write, against types, domains and CHECKs. What is not known of a row is not held against it.
--
CREATE TABLE good (
    id int PRIMARY KEY,
    status varchar(10) NOT NULL DEFAULT 'running' CHECK (status <> ''),
    started_at timestamptz NOT NULL,
    completed_at timestamptz,
    duration_seconds float,
    error_message text,
    total integer,
    kind text,
    CHECK (total IS NOT NULL),
    CHECK (kind IS DISTINCT FROM 'x' AND coalesce(total, -1) >= 0),
    CHECK (num_nonnulls(total, kind) = 2),
    CHECK (CASE WHEN kind = 'a' THEN total > 0 ELSE total < 0 END),
    CHECK (CASE WHEN status = 'running' THEN completed_at IS NULL ELSE completed_at IS NOT NULL END),
    CHECK ((status = 'running') = (completed_at IS NULL)),
    CHECK (completed_at >= started_at),
    CHECK (status <> 'failed' OR error_message IS NOT NULL),
    CHECK (duration_seconds >= 0),
    CHECK ((good IS NOT NULL) OR id > 0),
    CHECK (status <> 'completed' OR total IS NOT NULL));
SELECT outcome('guard_table', 'good');
-- What the guard is told not to write is as unknown as the rest.
SELECT outcome('guard_table', 'good', $$error_column => ''$$);
SELECT outcome('guard_table', 'good', $$end_column => ''$$);

CREATE FUNCTION bad(definition text, options text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answer text;
BEGIN
    EXECUTE 'CREATE TABLE refused.t (id int PRIMARY KEY, ' || definition || ')';
    answer := refused.outcome('guard_table', 'refused.t', options);
    DROP TABLE refused.t;
    RETURN definition || E'\n  -> ' || answer;
END $$;
CREATE DOMAIN short_text AS text CHECK (length(VALUE) < 20);
CREATE DOMAIN array_of_errors AS jsonb CONSTRAINT an_array CHECK (jsonb_typeof(VALUE) = 'array');
CREATE DOMAIN object_of_errors AS jsonb CONSTRAINT an_object CHECK (jsonb_typeof(VALUE) = 'object');
CREATE DOMAIN past AS timestamptz CHECK (VALUE < '2020-01-01');
CREATE DOMAIN state AS text CHECK (VALUE IN ('running', 'done'));
CREATE FUNCTION known_status(text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN IF $1 NOT IN ('running', 'done') THEN RAISE 'status % is not in the list', $1; END IF; RETURN true; END $$;
-- The status: by CHECK, in one or several, by domain, enum and length; negations, functions, constraints not validated.
SELECT bad($$status text DEFAULT 'running' CONSTRAINT one_of CHECK (status IN ('running', 'done')), started_at timestamptz$$);
SELECT bad($$status text DEFAULT 'running' CONSTRAINT one_of CHECK (status IN ('running', 'done')), started_at timestamptz$$, $$failed_status => 'failed'$$);
SELECT bad($$status text DEFAULT 'running' CONSTRAINT not_failed CHECK (status <> ALL ('{failed,error}')), started_at timestamptz$$);
SELECT bad($$status text DEFAULT 'running' CONSTRAINT pattern CHECK (status ~ '^(running|done)$'), started_at timestamptz$$);
SELECT bad($$status text DEFAULT 'running' CONSTRAINT by_function CHECK (refused.known_status(status)), started_at timestamptz$$);
SELECT bad($$status refused.state DEFAULT 'running', started_at timestamptz$$, $$failed_status => 'failed'$$);
SELECT bad($$status varchar(7) DEFAULT 'running', started_at timestamptz$$, $$failed_status => 'interrupted'$$);
SELECT bad($$status char(7) DEFAULT 'running', started_at timestamptz$$, $$live_statuses => '{in_progress}'$$);
-- The other columns, each alone to blame.
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, duration_seconds float CONSTRAINT short CHECK (duration_seconds < 600)$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, duration_seconds float CONSTRAINT short CHECK (duration_seconds < 600)$$, $$max_silence => '5 minutes'$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, duration_s numeric(5,2)$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, errors jsonb CONSTRAINT object CHECK (jsonb_typeof(errors) = 'object')$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, errors json CONSTRAINT empty CHECK (json_array_length(errors) = 0)$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, errors refused.array_of_errors$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, errors refused.object_of_errors$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, error_message refused.short_text$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, error_message varchar(10)$$);
SELECT regexp_replace(bad($$status text DEFAULT 'running', started_at timestamptz, finished_at refused.past$$), '"20[^"]*"', '"<now>"');
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, finished_at timestamptz, CONSTRAINT never CHECK (finished_at IS NULL)$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, finished_at timestamptz, CONSTRAINT never_failed CHECK (finished_at IS NULL OR status = 'done')$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, updated_at timestamp CONSTRAINT old CHECK (updated_at < '2020-01-01')$$);
SELECT bad($$status text DEFAULT 'running', started_at timestamptz, error_message text, closed_by text, CONSTRAINT whole CHECK (status = 'running' OR error_message IS NULL)$$);
-- A CHECK that was never validated holds for what is written from now on.
CREATE TABLE unvalidated (id int PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz);
INSERT INTO unvalidated VALUES (1, 'failed', now());
ALTER TABLE unvalidated ADD CONSTRAINT from_now_on CHECK (status <> 'failed') NOT VALID;
SELECT outcome('guard_table', 'unvalidated');
-- A CHECK of a partition alone.
CREATE TABLE parts (id int PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_1 (started_at timestamptz, status text, id int NOT NULL, CONSTRAINT in_this_one CHECK (status IN ('running', 'done')));
ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
SELECT outcome('guard_table', 'parts');
-- Nothing was left behind.
SELECT relation FROM sync_guard.settings WHERE relation_name LIKE 'refused.%' ORDER BY 1;
SELECT DISTINCT tgrelid::regclass FROM pg_trigger WHERE tgname ~ 'emag_sync_guard' AND tgrelid::regclass::text !~ '\.' ORDER BY 1;

RESET search_path;
DROP SCHEMA refused CASCADE;
DROP FOREIGN DATA WRAPPER refused_wrapper CASCADE;
