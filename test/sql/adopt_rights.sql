-- Who may set up a table: its owner, who owns it through a role, a superuser; nobody else, and as nobody else.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE ROLE regress_esg_adopt_owner;
CREATE ROLE regress_esg_adopt_member IN ROLE regress_esg_adopt_owner;
CREATE ROLE regress_esg_adopt_writer;
CREATE ROLE regress_esg_adopt_other;
CREATE SCHEMA adopt_rights;
GRANT USAGE, CREATE ON SCHEMA adopt_rights TO PUBLIC;
SET search_path = adopt_rights, public;
\getenv source PG_ABS_SRCDIR
\set schema adopt_rights
\set ECHO none
\set file :source '/sql/fixtures/outcome.sql'
\i :file
\set ECHO all
\pset format unaligned
\pset tuples_only on

SET ROLE regress_esg_adopt_owner;
CREATE TABLE runs (id int PRIMARY KEY, status text DEFAULT 'running' CHECK (status IN ('running', 'done', 'failed')), started_at timestamptz DEFAULT now());
GRANT ALL ON runs TO regress_esg_adopt_writer;

-- All rights on a table do not make an owner.
SET ROLE regress_esg_adopt_writer;
SELECT outcome('guard_table', 'runs');
RESET ROLE;
SELECT outcome('guard_table', 'runs');
SET ROLE regress_esg_adopt_writer;
SELECT outcome('guard_table', 'runs', $$mode => 'observe'$$);
SELECT outcome('unguard_table', 'runs');
SELECT outcome('repair_triggers', 'runs');
SELECT outcome('set_limit', 'runs', $$'{}', '2 hours'$$);
SELECT outcome('allow_transition', 'runs', $$'failed', 'running'$$);
SELECT outcome('pause_reaping', 'runs');
SELECT outcome('resume_reaping', 'runs');

-- The owner, and who has his rights. He needs none on the guard's tables, and has none.
SET ROLE regress_esg_adopt_owner;
SELECT outcome('unguard_table', 'runs');
SELECT outcome('guard_table', 'runs');
SELECT outcome('guard_table', 'runs', $$live_statuses => '{running,done}'$$);
SELECT outcome('set_limit', 'runs', $$'{}', '2 hours'$$);
SELECT outcome('allow_transition', 'runs', $$'failed', 'running'$$);
SELECT outcome('pause_reaping', 'runs');
SELECT outcome('resume_reaping', 'runs');
UPDATE sync_guard.settings SET mode = 'observe';
DELETE FROM sync_guard.scope_limits;
SET ROLE regress_esg_adopt_member;
SELECT outcome('guard_table', 'runs', $$live_statuses => '{running}'$$);
SELECT outcome('repair_triggers', 'runs');
RESET ROLE;
SELECT adopted_by, max_silence, live_statuses FROM sync_guard.settings WHERE relation = 'runs'::regclass;

-- Called by someone else with the owner's rights, the triggers are the owner's doing: what watches DDL sees him.
CREATE TABLE seen (tag text, who name);
GRANT INSERT, SELECT ON seen TO PUBLIC;
CREATE FUNCTION see() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO adopt_rights.seen VALUES (tg_tag, current_user); END $$;
CREATE EVENT TRIGGER regress_esg_adopt_see ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER', 'DROP TRIGGER', 'ALTER TRIGGER', 'ALTER TABLE')
    EXECUTE FUNCTION see();
SELECT outcome('unguard_table', 'runs');
SELECT outcome('guard_table', 'runs');
DROP EVENT TRIGGER regress_esg_adopt_see;
SELECT tag, who, count(*) FROM seen GROUP BY tag, who ORDER BY tag;

-- An owner who took the TRIGGER right from himself has none made.
SET ROLE regress_esg_adopt_owner;
SELECT outcome('unguard_table', 'runs');
REVOKE TRIGGER ON runs FROM regress_esg_adopt_owner;
SELECT outcome('guard_table', 'runs');
GRANT TRIGGER ON runs TO regress_esg_adopt_owner;
-- In a transaction that may not write.
BEGIN READ ONLY;
SELECT outcome('guard_table', 'runs');
COMMIT;

-- Row security: the owner's own rows are all there, whether it is forced on him or not.
CREATE TABLE secured (id int PRIMARY KEY, status text, started_at timestamptz DEFAULT now());
INSERT INTO secured VALUES (1, 'processing'), (2, 'failed');
ALTER TABLE secured ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT outcome('guard_table', 'secured');
RESET ROLE;
SELECT live_statuses FROM sync_guard.settings WHERE relation = 'secured'::regclass;

-- A partition of another owner: what he put on it would run as the table's owner.
SET ROLE regress_esg_adopt_owner;
CREATE TABLE parts (id int, status text DEFAULT 'running', started_at timestamptz) PARTITION BY RANGE (started_at);
RESET ROLE;
CREATE TABLE parts_1 PARTITION OF parts (PRIMARY KEY (id)) DEFAULT;
ALTER TABLE parts_1 OWNER TO regress_esg_adopt_other;
SELECT outcome('guard_table', 'parts');

-- What the table's owner wrote into it is asked without his being able to write by way of it.
SET ROLE regress_esg_adopt_owner;
CREATE TABLE written (i int);
CREATE FUNCTION writes(text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN INSERT INTO adopt_rights.written VALUES (1); RETURN true; END $$;
CREATE TABLE checked (id int PRIMARY KEY, status text DEFAULT 'running' CHECK (writes(status)), started_at timestamptz);
RESET ROLE;
SELECT outcome('guard_table', 'checked');
SELECT count(*) FROM written;

RESET search_path;
DROP SCHEMA adopt_rights CASCADE;
DROP ROLE regress_esg_adopt_owner, regress_esg_adopt_member, regress_esg_adopt_writer, regress_esg_adopt_other;
