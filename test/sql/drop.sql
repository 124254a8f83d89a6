-- A guarded table that goes, or goes elsewhere: its settings go with it or follow it, its journal stays.
SET client_min_messages = warning;
CREATE ROLE regress_esg_drop_owner;
CREATE ROLE regress_esg_drop_heir;
CREATE DATABASE regress_esg_drop;
ALTER DATABASE regress_esg_drop SET client_min_messages = warning;
\set home :DBNAME
\c regress_esg_drop
CREATE EXTENSION emag_sync_guard;
CREATE SCHEMA app;
GRANT CREATE, USAGE ON SCHEMA app TO regress_esg_drop_owner, regress_esg_drop_heir;

-- A guarded table with a limit, a rule and a line in the journal.
CREATE PROCEDURE public.make(name text, more text DEFAULT '') LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE %s (id integer PRIMARY KEY, sync_type text, status text NOT NULL CHECK (status IN (''running'', ''completed'', ''failed'')),
                    started_at timestamptz, errors jsonb) %s', name, more);
    IF more <> '' THEN
        EXECUTE format('CREATE TABLE %s_1 PARTITION OF %1$s FOR VALUES FROM (0) TO (10)', name);
        EXECUTE format('CREATE TABLE %s_2 PARTITION OF %1$s FOR VALUES FROM (10) TO (20)', name);
    END IF;
    PERFORM sync_guard.guard_table(name::regclass, scope_columns => '{sync_type}');
    PERFORM sync_guard.set_limit(name::regclass, '{"sync_type": "products"}', max_age => '1 day');
    PERFORM sync_guard.allow_transition(name::regclass, 'failed', 'running');
    EXECUTE format('INSERT INTO %s VALUES (1, ''products'', ''running'', ''2020-01-01''), (2, ''orders'', ''running'', now())', name);
    PERFORM sync_guard.reap_stale_syncs(relation => name::regclass);
END $$;
CREATE VIEW public.known AS
SELECT (SELECT coalesce(string_agg(relation_name, ', ' ORDER BY relation_name), 'none') FROM sync_guard.settings) AS settings,
       (SELECT count(*) FROM sync_guard.scope_limits) AS limits, (SELECT count(*) FROM sync_guard.transition_rules) AS rules,
       (SELECT count(*) FROM sync_guard.journal) AS journal,
       (SELECT count(*) FROM sync_guard.guard_health WHERE problem = 'settings_orphaned') AS orphans;

-- DROP TABLE; what is dropped and rolled back stays guarded.
CALL public.make('app.runs');
SELECT * FROM public.known;
BEGIN;
DROP TABLE app.runs;
SELECT * FROM public.known;
ROLLBACK;
SELECT * FROM public.known;
SELECT sync_guard.sync_is_running('orders', 'app.runs');
BEGIN;
SAVEPOINT a;
DROP TABLE app.runs;
ROLLBACK TO a;
UPDATE app.runs SET status = 'completed' WHERE id = 1;
COMMIT;
DROP TABLE app.runs;
SELECT * FROM public.known;
-- The journal still tells what was done, under the name it had.
SELECT relation_name, run_key, verdict, outcome FROM sync_guard.reaped_syncs;
-- A new table of that name is another one.
CREATE TABLE app.runs (id integer PRIMARY KEY, status text, started_at timestamptz);
SELECT sync_guard.sync_is_running(relation => 'app.runs');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO app.runs VALUES (1, 'running', now());
SELECT sync_guard.guard_table('app.runs', live_statuses => '{running}');
SELECT reaped FROM sync_guard.recent_syncs WHERE relation = 'app.runs'::regclass;
DROP TABLE app.runs;

-- Its schema, with a quoted name; several at once; a partitioned one; one of its partitions.
CREATE SCHEMA "Odd ""one""";
CALL public.make('"Odd ""one"""."Runs"');
CALL public.make('"Odd ""one""".others');
CALL public.make('app.parts', 'PARTITION BY RANGE (id)');
SELECT * FROM public.known;
DROP SCHEMA "Odd ""one""" CASCADE;
SELECT * FROM public.known;
DROP TABLE app.parts_2;
INSERT INTO app.parts VALUES (3, 'offers', 'running', now());
SELECT * FROM public.known;
DROP TABLE app.parts;
SELECT * FROM public.known;

-- DROP OWNED.
SET ROLE regress_esg_drop_owner;
CALL public.make('app.owned');
RESET ROLE;
SELECT settings FROM public.known;
DROP OWNED BY regress_esg_drop_owner;
SELECT * FROM public.known;
GRANT CREATE, USAGE ON SCHEMA app TO regress_esg_drop_owner;

-- Renamed, in another schema, another owner's; the schema renamed: it stays guarded, under its new name and in its new
-- owner's rights. Sessions that know it follow at once (this one does).
SET ROLE regress_esg_drop_owner;
CALL public.make('app.moves');
RESET ROLE;
SELECT count(*) FROM sync_guard.reaped_syncs WHERE relation_name = 'app.moves';
ALTER TABLE app.moves RENAME TO moved;
INSERT INTO app.moved VALUES (3, 'products', 'running', '2020-01-01');
SELECT sync_guard.reap_stale_syncs(relation => 'app.moved');
CREATE SCHEMA elsewhere;
ALTER TABLE app.moved SET SCHEMA elsewhere;
UPDATE elsewhere.moved SET status = 'completed' WHERE id = 3;
ALTER SCHEMA elsewhere RENAME TO nowhere;
SELECT sync_guard.sync_is_running('orders', 'nowhere.moved');
SELECT relation, relation_name, problem FROM sync_guard.guarded_tables;
SELECT problem, detail FROM sync_guard.guard_health WHERE relation = 'nowhere.moved'::regclass AND severity <> 'info';
ALTER TABLE nowhere.moved OWNER TO regress_esg_drop_heir;
GRANT USAGE ON SCHEMA nowhere TO regress_esg_drop_heir, regress_esg_drop_owner;
SET ROLE regress_esg_drop_owner;
SELECT sync_guard.set_limit('nowhere.moved', '{}', max_age => '2 days');
SELECT sync_guard.sync_is_running('orders', 'nowhere.moved');
SET ROLE regress_esg_drop_heir;
SELECT sync_guard.set_limit('nowhere.moved', '{}', max_age => '2 days');
SELECT sync_guard.sync_is_running('orders', 'nowhere.moved');
RESET ROLE;
ALTER TABLE nowhere.moved RENAME COLUMN status TO state;
SELECT problem FROM sync_guard.guarded_tables;
UPDATE nowhere.moved SET state = 'completed' WHERE id = 2;
ALTER TABLE nowhere.moved RENAME COLUMN state TO status;
SELECT problem FROM sync_guard.guarded_tables;
SELECT run_key, relation_name, outcome FROM sync_guard.reaped_syncs WHERE relation_name ~ 'move' ORDER BY reaping;
DROP TABLE nowhere.moved;
SELECT * FROM public.known;

-- Who drops a table need not know of the guard, nor have any right to its tables; and a drop does not wait for it.
SET ROLE regress_esg_drop_owner;
CREATE TABLE app.mine (id integer);
DROP TABLE app.mine;
CREATE TABLE app.mine (id integer, other integer);
ALTER TABLE app.mine DROP COLUMN other;
DROP TABLE app.mine;
RESET ROLE;

-- TRUNCATE and DELETE pass; a column that goes breaks the settings, not the writes.
CALL public.make('app.columns');
TRUNCATE app.columns;
ALTER TABLE app.columns DROP COLUMN sync_type;
INSERT INTO app.columns VALUES (1, 'running', now());
INSERT INTO app.columns VALUES (2, 'running', now());
DELETE FROM app.columns;
SELECT problem FROM sync_guard.guarded_tables;
SELECT sync_guard.unguard_table('app.columns');
SELECT * FROM public.known;

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_drop;
DROP ROLE regress_esg_drop_owner, regress_esg_drop_heir;
