-- The guard's triggers: what is found to be wrong with them, and mended; on partitions too; gone with the extension.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA guarding;
SET search_path = guarding, public;
CREATE FUNCTION problems() RETURNS TABLE (relation regclass, detail text, hint text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT h.relation, h.detail, h.hint FROM sync_guard.guard_health AS h
        WHERE h.problem = 'trigger_problem' AND h.relation::text !~ '\.';
END $$;
CREATE VIEW triggers AS SELECT tgrelid::regclass AS relation, tgname AS trigger, tgenabled AS enabled, tgparentid <> 0 AS copy
    FROM pg_trigger WHERE tgname ~ '^zzz_emag_sync_guard' AND tgrelid::regclass::text !~ '\.' ORDER BY tgrelid::regclass::text COLLATE "C", tgname;

CREATE TABLE runs (id int PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz DEFAULT now(), completed_at timestamptz);
SELECT sync_guard.guard_table('runs');
SELECT * FROM triggers;
SELECT * FROM problems();
SELECT sync_guard.repair_triggers('runs');

-- Missing, disabled, for replicated rows alone; always is well.
DROP TRIGGER zzz_emag_sync_guard_watch ON runs;
ALTER TABLE runs DISABLE TRIGGER zzz_emag_sync_guard_insert;
ALTER TABLE runs ENABLE REPLICA TRIGGER zzz_emag_sync_guard_update;
SELECT * FROM problems();
-- guard_table makes what is missing, and leaves what someone has switched off.
SELECT sync_guard.guard_table('runs');
SELECT * FROM triggers;
-- repair_triggers mends all.
SELECT sync_guard.repair_triggers('runs');
SELECT * FROM triggers;
ALTER TABLE runs ENABLE ALWAYS TRIGGER zzz_emag_sync_guard_update;
SELECT * FROM problems();

-- Other statuses in the settings: the triggers are made anew, without any lock that readers feel.
BEGIN;
SELECT sync_guard.guard_table('runs', live_statuses => '{running,pending}', failed_status => 'error');
SELECT mode FROM pg_locks WHERE relation = 'runs'::regclass AND pid = pg_backend_pid() ORDER BY mode;
COMMIT;
SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'runs'::regclass ORDER BY tgname;
-- Settings that leave the triggers as they are take no lock.
BEGIN;
SELECT sync_guard.guard_table('runs', max_silence => '2 hours');
SELECT mode FROM pg_locks WHERE relation = 'runs'::regclass AND pid = pg_backend_pid() ORDER BY mode;
COMMIT;
-- One that someone made otherwise.
CREATE OR REPLACE TRIGGER zzz_emag_sync_guard_insert BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION sync_guard.judge_row();
CREATE OR REPLACE TRIGGER zzz_emag_sync_guard_update BEFORE UPDATE OF status ON runs FOR EACH ROW WHEN (old.status = 'running') EXECUTE FUNCTION sync_guard.judge_row();
CREATE OR REPLACE TRIGGER zzz_emag_sync_guard_watch AFTER INSERT OR UPDATE ON runs FOR EACH ROW WHEN (new.status = 'running') EXECUTE FUNCTION sync_guard.watch_row();
SELECT * FROM problems();
SELECT sync_guard.repair_triggers('runs');
SELECT * FROM problems();
-- One that would stay behind when the extension goes.
ALTER TRIGGER zzz_emag_sync_guard_watch ON runs NO DEPENDS ON EXTENSION emag_sync_guard;
SELECT * FROM problems();
SELECT sync_guard.repair_triggers('runs');
SELECT * FROM problems();
-- The application's own that fire after the guard's: told, not mended. AFTER, statement and disabled ones do not matter.
CREATE FUNCTION application() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER a_before BEFORE INSERT OR UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION application();
CREATE TRIGGER zzzz_after AFTER INSERT OR UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION application();
CREATE TRIGGER zzzz_statement BEFORE UPDATE ON runs EXECUTE FUNCTION application();
CREATE TRIGGER zzzz_delete BEFORE DELETE ON runs FOR EACH ROW EXECUTE FUNCTION application();
CREATE TRIGGER zzzz_before BEFORE UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION application();
SELECT * FROM problems();
SELECT sync_guard.repair_triggers('runs');
ALTER TRIGGER zzzz_before ON runs RENAME TO aaaa_before;
SELECT * FROM problems();
-- A trigger of the application that bears the guard's name.
SELECT sync_guard.unguard_table('runs');
SELECT * FROM triggers;
CREATE TRIGGER zzz_emag_sync_guard_insert BEFORE INSERT ON runs FOR EACH ROW EXECUTE FUNCTION application();
SELECT sync_guard.guard_table('runs');
DROP TRIGGER zzz_emag_sync_guard_insert ON runs;

-- A status that is no label any more.
CREATE TYPE state AS ENUM ('running', 'done', 'failed');
CREATE TABLE labels (id int PRIMARY KEY, status state NOT NULL DEFAULT 'running', started_at timestamptz DEFAULT now());
SELECT sync_guard.guard_table('labels');
ALTER TYPE state RENAME VALUE 'running' TO 'live';
SELECT problem, detail FROM sync_guard.guard_health WHERE relation = 'labels'::regclass;
SELECT sync_guard.repair_triggers('labels');
SELECT sync_guard.guard_table('labels', live_statuses => '{live}');
SELECT * FROM problems();
-- A renamed column: the triggers follow by themselves, the settings when told.
ALTER TABLE labels RENAME status TO state;
SELECT sync_guard.guard_table('labels', status_column => 'state');
SELECT * FROM problems();

--
-- Partitions
--
CREATE TABLE parts (id int, kind int NOT NULL DEFAULT 0, status text NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (id, kind, started_at)) PARTITION BY RANGE (started_at);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM ('2020-01-01') TO ('2025-01-01') PARTITION BY LIST (kind);
CREATE TABLE parts_2_1 PARTITION OF parts_2 DEFAULT;
SELECT sync_guard.guard_table('parts');
-- A new partition and an attached one, with columns in another order.
CREATE TABLE parts_3 PARTITION OF parts FOR VALUES FROM ('2025-01-01') TO ('2030-01-01');
CREATE TABLE parts_4 (started_at timestamptz NOT NULL, gone int, status text NOT NULL, kind int NOT NULL, id int NOT NULL);
ALTER TABLE parts_4 DROP gone;
ALTER TABLE parts ATTACH PARTITION parts_4 FOR VALUES FROM ('2030-01-01') TO (MAXVALUE);
SELECT * FROM triggers WHERE relation::text LIKE 'parts%';
SELECT * FROM problems();
-- Disabled on one partition; the application's own on one partition.
ALTER TABLE parts_4 DISABLE TRIGGER zzz_emag_sync_guard_update;
CREATE TRIGGER zzzz_before BEFORE INSERT ON parts_2_1 FOR EACH ROW EXECUTE FUNCTION application();
SELECT * FROM problems();
SELECT sync_guard.repair_triggers('parts');
DROP TRIGGER zzzz_before ON parts_2_1;
SELECT * FROM problems();
SELECT count(*), count(DISTINCT relation), bool_and(enabled = 'O') AS enabled FROM triggers WHERE relation::text LIKE 'parts%';
SELECT sync_guard.guard_table('parts', live_statuses => '{running,pending}');
SELECT * FROM problems();
INSERT INTO parts (id, status, started_at) VALUES (1, 'pending', '2019-01-01'), (2, 'pending', '2022-01-01'), (3, 'pending', '2026-01-01'), (4, 'pending', '2031-01-01');
SELECT sync_guard.reap_stale_syncs(relation => 'parts');
SELECT tableoid::regclass, id, status FROM parts ORDER BY id;
-- A partition is guarded with the whole; detached, it is a table like any other.
SELECT sync_guard.unguard_table('parts_1');
ALTER TABLE parts DETACH PARTITION parts_1;
SELECT * FROM triggers WHERE relation::text LIKE 'parts_1';
ALTER TABLE parts_1 ADD UNIQUE (id);
SELECT sync_guard.guard_table('parts_1');
ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
SELECT sync_guard.unguard_table('parts_1');
ALTER TABLE parts ATTACH PARTITION parts_1 FOR VALUES FROM (MINVALUE) TO ('2020-01-01');
SELECT sync_guard.unguard_table('parts');
SELECT * FROM triggers WHERE relation::text LIKE 'parts%';

-- Released twice, and what never was guarded; a table whose settings are gone and whose triggers stayed is released too.
SELECT sync_guard.unguard_table('parts');
CREATE VIEW parts_view AS TABLE parts;
SELECT sync_guard.unguard_table('parts_view');
SELECT sync_guard.unguard_table('pg_class');
SELECT sync_guard.repair_triggers('pg_class');
SELECT sync_guard.repair_triggers('parts');
SELECT sync_guard.purge_journal(NULL);
SELECT sync_guard.purge_journal('-90 days');
SELECT sync_guard.guard_table('runs');
DELETE FROM sync_guard.settings WHERE relation = 'runs'::regclass;
SELECT sync_guard.unguard_table('runs');
SELECT * FROM triggers WHERE relation::text = 'runs';

-- Where the guard's schema was renamed, writes go through and one WARNING says why; afterwards it guards again.
SELECT sync_guard.guard_table('runs');
BEGIN;
ALTER SCHEMA sync_guard RENAME TO guarding_renamed;
INSERT INTO runs (id) VALUES (9001);
UPDATE runs SET status = 'completed' WHERE id = 9001 RETURNING completed_at IS NULL AS open;
UPDATE runs SET status = 'running' WHERE id = 9001;
ALTER SCHEMA guarding_renamed RENAME TO sync_guard;
UPDATE runs SET status = 'completed' WHERE id = 9001 RETURNING completed_at IS NULL AS open;
UPDATE runs SET status = 'running' WHERE id = 9001;
ROLLBACK;

-- DROP EXTENSION without CASCADE takes the triggers along and nothing else.
SELECT sync_guard.guard_table('runs');
SELECT sync_guard.guard_table('parts');
BEGIN;
DROP EXTENSION emag_sync_guard;
SELECT * FROM triggers;
SELECT count(*) AS functions FROM pg_depend WHERE refclassid = 'pg_namespace'::regclass AND refobjid = to_regnamespace('sync_guard');
SELECT count(*) FROM parts;
ROLLBACK;
SELECT count(*) FROM triggers WHERE relation::text IN ('runs', 'parts');

RESET search_path;
DROP SCHEMA guarding CASCADE;
