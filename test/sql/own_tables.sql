-- What a superuser changes about the guard's own tables: columns, CHECKs and indexes that he adds are served, as the tables' owner;
-- what can no longer be read or written is told, by guard_health too, and fails no statement of the application's.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA own_tables;
SET search_path = own_tables;
CREATE TABLE runs (id integer PRIMARY KEY, sync_type text, status text NOT NULL, started_at timestamptz DEFAULT now(), completed_at timestamptz, errors jsonb);
CREATE INDEX ON runs (status);
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', max_age => '3 hours');
CREATE ROLE regress_esg_own_tables;
GRANT USAGE ON SCHEMA own_tables TO regress_esg_own_tables;
GRANT SELECT, INSERT, UPDATE ON runs TO regress_esg_own_tables;
-- A run with a lease that is completed, one that is reaped and finished late; ids 1 and 2.
CREATE PROCEDURE work() LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sync_guard.start_sync('runs', '{"id": 1}', ttl => '10 minutes');
    INSERT INTO runs VALUES (2, 'x', 'running', now() - interval '4 hours');
    UPDATE runs SET status = 'completed' WHERE id = 1;
    PERFORM sync_guard.reap_stale_syncs(relation => 'runs');
    UPDATE runs SET status = 'completed' WHERE id = 2;
END $$;

-- Columns get their defaults.
BEGIN;
ALTER TABLE sync_guard.journal ADD COLUMN site text NOT NULL DEFAULT 'here', ADD COLUMN twice bigint GENERATED ALWAYS AS (id * 2) STORED, ADD COLUMN empty integer, ADD COLUMN gone integer NOT NULL DEFAULT 1;
ALTER TABLE sync_guard.journal DROP COLUMN gone;
ALTER TABLE sync_guard.leases ADD COLUMN site text NOT NULL DEFAULT current_user = 'regress_esg_own_tables';
SET LOCAL ROLE regress_esg_own_tables;
CALL work();
RESET ROLE;
SELECT event, site, twice = id * 2 AS twice, empty FROM sync_guard.journal WHERE relation = 'runs'::regclass ORDER BY id;
SELECT run_key, end_reason, site AS as_caller FROM sync_guard.leases WHERE relation = 'runs'::regclass;
SELECT problem, detail FROM sync_guard.guard_health WHERE problem IN ('own_table_changed', 'check_failed');
ROLLBACK;

-- CHECKs and indexes call what only their owner may call; numbers come from wherever the column has them from.
BEGIN;
CREATE FUNCTION fits(text) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN current_user <> 'regress_esg_own_tables'; END $$;
REVOKE ALL ON FUNCTION fits FROM PUBLIC;
ALTER TABLE sync_guard.leases ADD CHECK (fits(taken_by::text));
CREATE INDEX ON sync_guard.leases (fits(run_key));
ALTER TABLE sync_guard.journal ADD CHECK (fits(run_key));
CREATE INDEX ON sync_guard.journal (fits(run_key)) WHERE fits(path);
ALTER SEQUENCE sync_guard.journal_id_seq RENAME TO numbers;
SET LOCAL ROLE regress_esg_own_tables;
CALL work();
RESET ROLE;
SELECT event FROM sync_guard.journal WHERE relation = 'runs'::regclass ORDER BY id;
SELECT run_key, end_reason FROM sync_guard.leases WHERE relation = 'runs'::regclass;
ROLLBACK;

-- Columns of other types, and values that are not there: never taken for what they were.
INSERT INTO runs VALUES (3, 'x', 'running', now() - interval '4 hours'), (4, 'x', 'running', now() - interval '4 hours');
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT key FROM sync_guard.start_sync('runs', '{"id": 5}', ttl => '10 minutes');
CREATE PROCEDURE application() LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO runs VALUES (6, 'x', 'running');
    UPDATE runs SET errors = '[]' WHERE id IN (3, 5, 6);
    UPDATE runs SET status = 'completed' WHERE id IN (3, 5, 6);
    DELETE FROM runs WHERE id IN (4, 6);
END $$;
BEGIN;
ALTER TABLE sync_guard.leases ALTER COLUMN taken_by TYPE text;
CALL application();
SELECT id, status FROM runs ORDER BY id;
SELECT severity, relation, problem, detail, hint FROM sync_guard.guard_health WHERE problem = 'own_table_changed';
SAVEPOINT asked;
SELECT sync_guard.start_sync('runs', '{"id": 7}', ttl => '10 minutes');
ROLLBACK TO asked;
SELECT count(*) FROM sync_guard.running_syncs WHERE relation = 'runs'::regclass;
ROLLBACK TO asked;
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
ROLLBACK;
BEGIN;
ALTER TABLE sync_guard.leases ALTER COLUMN taken_by DROP NOT NULL;
UPDATE sync_guard.leases SET taken_by = NULL;
SELECT detail FROM sync_guard.guard_health WHERE problem = 'own_table_changed';
SELECT count(*) FROM sync_guard.running_syncs WHERE relation = 'runs'::regclass;
ROLLBACK;
BEGIN;
ALTER TABLE sync_guard.leases DROP COLUMN taken_by;
SELECT detail FROM sync_guard.guard_health WHERE problem = 'own_table_changed';
SELECT sync_guard.take_lease('runs', 5);
ROLLBACK;
BEGIN;
ALTER TABLE sync_guard.journal ALTER COLUMN path DROP NOT NULL;
CALL application();
SELECT id, status FROM runs ORDER BY id;
SELECT detail FROM sync_guard.guard_health WHERE problem = 'own_table_changed';
ROLLBACK;
BEGIN;
DROP INDEX sync_guard.passed_over_relation;
ALTER TABLE sync_guard.passed_over ALTER COLUMN relation TYPE text;
CALL application();
SELECT detail FROM sync_guard.guard_health WHERE problem = 'own_table_changed';
ROLLBACK;
BEGIN;
ALTER TABLE sync_guard.settings ALTER COLUMN transitions DROP NOT NULL;
UPDATE sync_guard.settings SET transitions = NULL WHERE relation = 'runs'::regclass;
SAVEPOINT asked;
SELECT sync_guard.sync_is_running(relation => 'runs');
ROLLBACK TO asked;
CALL application();
SELECT id, status FROM runs ORDER BY id;
ROLLBACK;
BEGIN;
ALTER TABLE sync_guard.transition_rules ALTER COLUMN allowed DROP NOT NULL;
UPDATE sync_guard.settings SET mode = mode;
CALL application();
SELECT id, status FROM runs ORDER BY id;
ROLLBACK;

DROP SCHEMA own_tables CASCADE;
DROP ROLE regress_esg_own_tables;
DELETE FROM sync_guard.journal WHERE relation_name LIKE 'own_tables.%';
DELETE FROM sync_guard.leases WHERE relation_name LIKE 'own_tables.%';
