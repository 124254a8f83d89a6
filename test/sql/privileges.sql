-- Who may do what, by his rights on the guarded table: learn of it, reap, set up. Everything the extension has is called as
-- each role, whatever the catalog lists.
SET client_min_messages = warning;
CREATE ROLE regress_esg_priv_owner;
CREATE ROLE regress_esg_priv_reader;                      -- SELECT
CREATE ROLE regress_esg_priv_reaper;                      -- SELECT, UPDATE
CREATE ROLE regress_esg_priv_column_reader;               -- SELECT on the columns that the guard knows, no other
CREATE ROLE regress_esg_priv_column_reaper;               -- and UPDATE on those that a reaping writes
CREATE ROLE regress_esg_priv_updater;                     -- UPDATE alone
CREATE ROLE regress_esg_priv_writer;                      -- INSERT and UPDATE of two columns
CREATE ROLE regress_esg_priv_some_columns;                -- SELECT on some columns
CREATE ROLE regress_esg_priv_other_schema;                -- everything on the table, nothing on its schema
CREATE ROLE regress_esg_priv_nobody;
CREATE DATABASE regress_esg_privileges;
ALTER DATABASE regress_esg_privileges SET client_min_messages = warning;
\set home :DBNAME
\getenv source PG_ABS_SRCDIR
\c regress_esg_privileges
CREATE EXTENSION emag_sync_guard;
\set file :source '/sql/fixtures/call_everything.sql'
\set ECHO none
\i :file
\set ECHO all
CREATE SCHEMA app AUTHORIZATION regress_esg_priv_owner;
GRANT USAGE ON SCHEMA app TO regress_esg_priv_reader, regress_esg_priv_reaper, regress_esg_priv_column_reader, regress_esg_priv_column_reaper,
    regress_esg_priv_updater, regress_esg_priv_writer, regress_esg_priv_some_columns, regress_esg_priv_nobody;
SET ROLE regress_esg_priv_owner;
CREATE TABLE app.runs (
    id bigint PRIMARY KEY,
    sync_type text NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'completed', 'failed')),
    started_at timestamptz NOT NULL,
    completed_at timestamptz,
    errors jsonb,
    processed_items integer,
    secret text DEFAULT 'hidden');
GRANT SELECT ON app.runs TO regress_esg_priv_reader;
GRANT SELECT, UPDATE ON app.runs TO regress_esg_priv_reaper;
GRANT SELECT (id, sync_type, status, started_at, completed_at, errors, processed_items) ON app.runs
    TO regress_esg_priv_column_reader, regress_esg_priv_column_reaper;
GRANT UPDATE (status, completed_at, errors) ON app.runs TO regress_esg_priv_column_reaper;
GRANT UPDATE ON app.runs TO regress_esg_priv_updater;
GRANT INSERT, UPDATE (status, completed_at) ON app.runs TO regress_esg_priv_writer;
GRANT SELECT (id, sync_type, secret), UPDATE ON app.runs TO regress_esg_priv_some_columns;
GRANT ALL ON app.runs TO regress_esg_priv_other_schema;
SELECT sync_guard.guard_table('app.runs', scope_columns => '{sync_type}', exclusive => true);
RESET ROLE;

-- The answers of everything to a role, in each phase.
CREATE TABLE everything.answers (role name, phase integer, what text, answer text, PRIMARY KEY (role, phase, what));
GRANT INSERT ON everything.answers TO PUBLIC;
CREATE TABLE everything.roles AS SELECT rolname AS role FROM pg_roles WHERE rolname ~ '^regress_esg_priv_';
-- Who has no right to the schema cannot even name the table; its number he may know.
CREATE TABLE everything.table_id AS SELECT 'app.runs'::regclass::oid AS id;
GRANT SELECT ON everything.table_id TO PUBLIC;
CREATE FUNCTION everything.ask(role name, phase integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', role);
    INSERT INTO everything.answers SELECT role, phase, what, everything.answer(statement)
    FROM everything.statements((SELECT id::regclass FROM everything.table_id), '4', 'bigint');
    SET LOCAL SESSION AUTHORIZATION DEFAULT;
END $$;

-- Phase 1: the table is guarded and empty. Phase 2: it has runs of every kind, and the journal has lines.
SELECT count(everything.ask(role, 1)) FROM everything.roles;
SET ROLE regress_esg_priv_owner;
SELECT sync_guard.guard_table('app.runs', exclusive => false);
INSERT INTO app.runs VALUES
    (1, 'products', 'running', now() - interval '2 hours'),
    (2, 'products', 'running', now() - interval '3 hours'),
    (3, 'orders', 'running', now() - interval '4 hours');
SELECT sync_guard.reap_stale_syncs();
UPDATE app.runs SET status = 'completed' WHERE id = 1;
SELECT sync_guard.overturn_reap('app.runs', 2, 'completed');
INSERT INTO app.runs VALUES
    (4, 'products', 'running', now() - interval '5 hours'),
    (5, 'offers', 'running', now() - interval '1 minute'),
    (6, 'offers', 'running', 'infinity'),
    (7, 'offers', 'running', now() + interval '3 hours');
SELECT sync_guard.set_limit('app.runs', '{"sync_type": "offers"}', max_age => '3 days');
SELECT sync_guard.allow_transition('app.runs', 'failed', 'running');
RESET ROLE;
SELECT count(everything.ask(role, 2)) FROM everything.roles;

-- Who may not read the table learns nothing: whatever is in it, he gets the same answers.
SELECT role, count(*) > 100 AS asked, bool_or(a.answer IS DISTINCT FROM b.answer) AS learned
FROM everything.answers AS a JOIN everything.answers AS b USING (role, what) WHERE a.phase = 1 AND b.phase = 2
GROUP BY role ORDER BY role;
-- And none that tells its name, its columns or its key.
SELECT role, what, answer FROM everything.answers
WHERE role IN ('regress_esg_priv_updater', 'regress_esg_priv_writer', 'regress_esg_priv_some_columns', 'regress_esg_priv_other_schema', 'regress_esg_priv_nobody')
  AND answer ~ 'app\.|sync_type|products' ORDER BY role, what COLLATE "C";
-- What they get.
\pset format unaligned
SELECT what, everything.kind(answer) FROM everything.answers WHERE role = 'regress_esg_priv_nobody' AND phase = 2 ORDER BY what COLLATE "C";
-- The others of them the same, but for what the guard has nothing to do with: nobody of them owns the table.
SELECT a.role, a.what, a.answer, b.answer FROM everything.answers AS a JOIN everything.answers AS b USING (phase, what)
WHERE b.role = 'regress_esg_priv_nobody'
  AND a.role IN ('regress_esg_priv_updater', 'regress_esg_priv_writer', 'regress_esg_priv_some_columns', 'regress_esg_priv_other_schema')
  AND a.answer IS DISTINCT FROM b.answer ORDER BY a.role, a.what COLLATE "C";

-- Who may read does, and changes nothing; who may update reaps; nobody writes the guard's own tables. (By kind of answer:
-- the answers themselves are other tests' work.)
SELECT what,
       max(everything.kind(answer)) FILTER (WHERE role = 'regress_esg_priv_reader') AS reader,
       max(everything.kind(answer)) FILTER (WHERE role = 'regress_esg_priv_column_reader') AS column_reader,
       max(everything.kind(answer)) FILTER (WHERE role = 'regress_esg_priv_reaper') AS reaper,
       max(everything.kind(answer)) FILTER (WHERE role = 'regress_esg_priv_column_reaper') AS column_reaper,
       max(everything.kind(answer)) FILTER (WHERE role = 'regress_esg_priv_owner') AS owner
FROM everything.answers WHERE phase = 2 GROUP BY what ORDER BY what COLLATE "C";
\pset format aligned

-- Figures for a few of them.
SELECT role, answer AS runs_reaped FROM everything.answers
WHERE phase = 2 AND what = 'sync_guard.reap_stale_syncs(interval,regclass,boolean,integer) of it' ORDER BY role;
SELECT role, count(*) FROM everything.answers, regexp_split_to_table(answer, E'\n')
WHERE phase = 2 AND what = 'SELECT sync_guard.reaped_syncs' GROUP BY role ORDER BY role;
-- Rows in the journal are for those who may read all columns; the column readers see the lines, but not these.
SELECT role, answer ~ 'hidden' AS sees_rows FROM everything.answers
WHERE phase = 2 AND what IN ('SELECT sync_guard.reaped_syncs', 'SELECT sync_guard.late_finishes') ORDER BY role, what;

-- A right that is taken back is gone at once, in the same session.
SET SESSION AUTHORIZATION regress_esg_priv_reader;
SELECT sync_guard.sync_is_running('offers', 'app.runs');
RESET SESSION AUTHORIZATION;
REVOKE SELECT ON app.runs FROM regress_esg_priv_reader;
SET SESSION AUTHORIZATION regress_esg_priv_reader;
SELECT sync_guard.sync_is_running('offers', 'app.runs');
SELECT count(*) FROM sync_guard.reaped_syncs;
RESET SESSION AUTHORIZATION;
-- Rights of groups count, and so do pg_read_all_data and pg_write_all_data.
GRANT regress_esg_priv_reaper TO regress_esg_priv_reader;
SET SESSION AUTHORIZATION regress_esg_priv_reader;
SELECT sync_guard.sync_is_running('offers', 'app.runs');
RESET SESSION AUTHORIZATION;
GRANT pg_read_all_data TO regress_esg_priv_nobody;
SET SESSION AUTHORIZATION regress_esg_priv_nobody;
SELECT sync_guard.sync_is_running('offers', 'app.runs');
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
RESET SESSION AUTHORIZATION;
GRANT pg_write_all_data TO regress_esg_priv_nobody;
SET SESSION AUTHORIZATION regress_esg_priv_nobody;
BEGIN;
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
-- The journal tells who it was.
SELECT role, session_role FROM sync_guard.reaped_syncs WHERE run_key = '4';
ROLLBACK;
RESET SESSION AUTHORIZATION;
REVOKE pg_read_all_data, pg_write_all_data FROM regress_esg_priv_nobody;

-- A worker's calls, with the token of a run that lives: for who may update the table, or the columns that a reaping writes.
-- (fence asks for a transaction block, which this is not.)
SET SESSION AUTHORIZATION regress_esg_priv_owner;
SELECT sync_guard.take_lease('app.runs', 5) AS token \gset
RESET SESSION AUTHORIZATION;
CREATE TABLE everything.worker_calls AS SELECT what, format(statement, :token, (SELECT id FROM everything.table_id)) AS statement FROM (VALUES
    (1, 'heartbeat', 'SELECT sync_guard.heartbeat(%1$s)'), (2, 'fence', 'SELECT sync_guard.fence(%1$s)'),
    (3, 'finish_sync', $$SELECT sync_guard.finish_sync(%1$s, 'completed')$$), (4, 'take_lease', 'SELECT sync_guard.take_lease(%2$s::regclass, 5)'),
    (5, 'take_lease of none', 'SELECT sync_guard.take_lease(%2$s::regclass, 99)'),
    (6, 'start_sync', $$SELECT sync_guard.start_sync(%2$s::regclass, '{"id": 50, "sync_type": "new"}')$$),
    (7, 'worker_started', $$SELECT sync_guard.worker_started('worker', 'incarnation')$$)) AS c (n, what, statement) ORDER BY n;
GRANT SELECT ON everything.worker_calls TO PUBLIC;
CREATE FUNCTION everything.ask_worker(role name) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    answers text;
BEGIN
    EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', role);
    answers := (SELECT string_agg(what || ' ' || everything.kind(everything.answer(statement)), ', ') FROM everything.worker_calls);
    SET LOCAL SESSION AUTHORIZATION DEFAULT;
    RETURN answers;
END $$;
\pset format unaligned
SELECT role, everything.ask_worker(role) FROM everything.roles ORDER BY role;
\pset format aligned

-- Who may not read the table does not lock it either, however long his transaction lasts.
CREATE FUNCTION everything.locks_after(role name) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', role);
    PERFORM sync_guard.reap_stale_syncs();
    BEGIN
        PERFORM sync_guard.sync_is_running(), sync_guard.sync_status();
    EXCEPTION WHEN insufficient_privilege THEN   -- of none of the tables can it be said
    END;
    PERFORM count(*) FROM sync_guard.running_syncs;
    PERFORM count(*) FROM sync_guard.reaped_syncs;
    PERFORM count(*) FROM sync_guard.guard_health;
    PERFORM count(*) FROM sync_guard.guarded_tables;
    PERFORM count(*) FROM sync_guard.stale_syncs();
    SET LOCAL SESSION AUTHORIZATION DEFAULT;
    RETURN (SELECT count(*) FROM pg_locks WHERE relation = 'app.runs'::regclass AND pid = pg_backend_pid());
END $$;
SELECT everything.locks_after('regress_esg_priv_nobody') AS nobody, everything.locks_after('regress_esg_priv_updater') AS updater;
SELECT everything.locks_after('regress_esg_priv_reaper') > 0 AS reaper;

-- The triggers, too, tell a writer who may not read nothing of other runs, nor of what the row held.
SELECT sync_guard.guard_table('app.runs', exclusive => true);
SELECT sync_guard.allow_transition('app.runs', 'failed', 'running', NULL);
SET SESSION AUTHORIZATION regress_esg_priv_writer;
INSERT INTO app.runs (id, sync_type, status, started_at) VALUES (10, 'offers', 'running', now());
\echo :LAST_ERROR_SQLSTATE
SET emag_sync_guard.late_finish = 'reject';
UPDATE app.runs SET status = 'completed';
\echo :LAST_ERROR_SQLSTATE
UPDATE app.runs SET status = 'running';
\echo :LAST_ERROR_SQLSTATE
RESET emag_sync_guard.late_finish;
RESET SESSION AUTHORIZATION;

-- A number that names no guarded table: 0, catalogs, indexes, sequences, views, types, a table dropped; NULL for everything.
CREATE SEQUENCE app.a_sequence;
CREATE VIEW app.a_view AS SELECT 1 AS id;
CREATE TYPE app.a_type AS (id integer);
CREATE TABLE app.gone (id integer PRIMARY KEY);
CREATE TABLE app.bare (id integer PRIMARY KEY);
CREATE TABLE everything.odd AS SELECT name, oid FROM (VALUES ('no table', 0::oid), ('no number', 4294967295::oid),
    ('catalog', 'pg_class'::regclass), ('index', 'app.runs_pkey'::regclass), ('sequence', 'app.a_sequence'::regclass),
    ('view', 'app.a_view'::regclass), ('type', 'app.a_type'::regclass), ('gone', 'app.gone'::regclass), ('not guarded', 'app.bare'::regclass),
    ('of the guard', 'sync_guard.journal'::regclass), ('view of the guard', 'sync_guard.reaped_syncs'::regclass),
    ('toast', (SELECT reltoastrelid FROM pg_class WHERE oid = 'app.runs'::regclass))) AS o (name, oid);
DROP TABLE app.gone;
GRANT SELECT ON everything.odd TO PUBLIC;
\pset format unaligned
SELECT name, everything.kind(answer), count(*) > 0 AS some FROM everything.odd, everything.statements(oid, '4', 'bigint'), everything.answer(statement)
WHERE what LIKE '% of it' GROUP BY name, 2 ORDER BY name COLLATE "C", 2;
SET SESSION AUTHORIZATION regress_esg_priv_nobody;
SELECT name, what, answer FROM everything.odd, everything.statements(oid, '4', 'bigint'), everything.answer(statement)
WHERE what LIKE '% of it' AND everything.kind(answer) NOT IN ('42501', '42P01') ORDER BY name COLLATE "C", what COLLATE "C";
RESET SESSION AUTHORIZATION;
-- Everything with NULLs.
SELECT p.oid::regprocedure, everything.kind(everything.answer(format('SELECT count(*) FROM %s(%s)', p.oid::regproc,
           (SELECT string_agg('NULL::' || format_type(t, NULL), ', ') FROM unnest(proargtypes) AS t))))
FROM pg_proc AS p WHERE pronamespace = 'sync_guard'::regnamespace AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
ORDER BY p.oid::regprocedure::text COLLATE "C";

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_privileges;
DROP ROLE regress_esg_priv_owner, regress_esg_priv_reader, regress_esg_priv_reaper, regress_esg_priv_column_reader, regress_esg_priv_column_reaper,
    regress_esg_priv_updater, regress_esg_priv_writer, regress_esg_priv_some_columns, regress_esg_priv_other_schema, regress_esg_priv_nobody;
