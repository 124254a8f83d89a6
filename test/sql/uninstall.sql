-- DROP EXTENSION without CASCADE takes everything of the guard's along, and leaves the application's tables as they were
-- found; they can be adopted again.
SET client_min_messages = warning;
CREATE ROLE regress_esg_uninstall_owner;
CREATE DATABASE regress_esg_uninstall;
ALTER DATABASE regress_esg_uninstall SET client_min_messages = warning;
\set home :DBNAME
\c regress_esg_uninstall
CREATE SCHEMA app AUTHORIZATION regress_esg_uninstall_owner;
SET ROLE regress_esg_uninstall_owner;
CREATE TYPE app.state AS ENUM ('running', 'completed', 'failed');
CREATE TABLE app.plain (
    id uuid PRIMARY KEY, sync_type varchar(50) NOT NULL, status varchar(50) NOT NULL CHECK (status IN ('running', 'completed', 'failed')),
    started_at timestamp NOT NULL, completed_at timestamp, errors jsonb, twice text GENERATED ALWAYS AS (sync_type || sync_type) STORED);
CREATE INDEX ON app.plain (status);
CREATE FUNCTION app.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON app.plain FOR EACH ROW EXECUTE FUNCTION app.stamp();
CREATE TABLE app.child (id integer PRIMARY KEY, run uuid REFERENCES app.plain);
CREATE TABLE app.parts (id bigint, status app.state NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL, PRIMARY KEY (id))
    PARTITION BY RANGE (id);
CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES FROM (0) TO (10);
CREATE TABLE app.parts_2 PARTITION OF app.parts FOR VALUES FROM (10) TO (100) PARTITION BY RANGE (id);
CREATE TABLE app.parts_2_1 PARTITION OF app.parts_2 FOR VALUES FROM (10) TO (20);
CREATE TABLE app.attached (id bigint NOT NULL, status app.state NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL);
CREATE TABLE app.detached (id bigint NOT NULL, status app.state NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL);
CREATE TABLE app.hand_made (id integer PRIMARY KEY, status text, started_at timestamptz);
ALTER TABLE app.plain ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON app.plain USING (true);
ALTER TABLE app.plain ALTER COLUMN sync_type SET STATISTICS 500;
CREATE STATISTICS app.s ON sync_type, status FROM app.plain;
GRANT SELECT ON app.plain TO PUBLIC;
RESET ROLE;

-- All that the catalogs say of the tables, by everything that a migration tool or pg_dump could look at.
CREATE TABLE public.shapes (moment text, relation regclass, shape jsonb);
CREATE FUNCTION public.shape(relation regclass) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'table', (SELECT to_jsonb(c) - '{relhastriggers,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid}'::text[] FROM pg_class AS c WHERE oid = relation),
        'columns', (SELECT jsonb_agg(to_jsonb(a) ORDER BY attnum) FROM pg_attribute AS a WHERE attrelid = relation),
        'defaults', (SELECT jsonb_agg(to_jsonb(d) ORDER BY adnum) FROM pg_attrdef AS d WHERE adrelid = relation),
        'constraints', (SELECT jsonb_agg(to_jsonb(n) ORDER BY oid) FROM pg_constraint AS n WHERE relation IN (conrelid, confrelid)),
        'indexes', (SELECT jsonb_agg(pg_get_indexdef(indexrelid) ORDER BY indexrelid) FROM pg_index WHERE indrelid = relation),
        'triggers', (SELECT jsonb_agg(to_jsonb(t) ORDER BY oid) FROM pg_trigger AS t WHERE tgrelid = relation),
        'policies', (SELECT jsonb_agg(to_jsonb(p) ORDER BY oid) FROM pg_policy AS p WHERE polrelid = relation),
        'rules', (SELECT jsonb_agg(to_jsonb(r) ORDER BY oid) FROM pg_rewrite AS r WHERE ev_class = relation),
        'statistics', (SELECT jsonb_agg(to_jsonb(s) ORDER BY oid) FROM pg_statistic_ext AS s WHERE stxrelid = relation),
        'partition of', (SELECT jsonb_agg(to_jsonb(i) ORDER BY inhparent) FROM pg_inherits AS i WHERE relation IN (inhrelid, inhparent)),
        'depends', (SELECT jsonb_agg(jsonb_build_array(refclassid::regclass, refobjid, refobjsubid, deptype) ORDER BY refclassid, refobjid, refobjsubid)
                    FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = relation)) $$;
CREATE FUNCTION public.note(moment text) RETURNS bigint LANGUAGE sql AS $$
    WITH noted AS (INSERT INTO public.shapes SELECT moment, c.oid, public.shape(c.oid)
                   FROM pg_class AS c WHERE relnamespace = 'app'::regnamespace AND relkind IN ('r', 'p') RETURNING 1)
    SELECT count(*) FROM noted $$;
-- What a moment differs in from another.
CREATE FUNCTION public.differences(one text, other text) RETURNS TABLE (relation regclass, differs text) LANGUAGE sql STABLE AS $$
    SELECT relation, k.key FROM public.shapes AS a JOIN public.shapes AS b USING (relation), jsonb_each(a.shape) AS k
    WHERE a.moment = one AND b.moment = other AND b.shape -> k.key IS DISTINCT FROM k.value ORDER BY relation::text COLLATE "C", k.key $$;
SELECT public.note('found');

CREATE EXTENSION emag_sync_guard;
SELECT sync_guard.guard_table('app.plain', scope_columns => '{sync_type}', exclusive => true);
SELECT sync_guard.guard_table('app.parts');
INSERT INTO app.plain (id, sync_type, status, started_at) VALUES ('00000000-0000-0000-0000-000000000001', 'products', 'running', '2020-01-01');
INSERT INTO app.parts VALUES (1, 'running', '2020-01-01'), (11, 'running', '2020-01-01');
SELECT sync_guard.reap_stale_syncs();
-- Partitions that come and go, and guard triggers made by hand.
ALTER TABLE app.parts ATTACH PARTITION app.attached FOR VALUES FROM (100) TO (200);
ALTER TABLE app.parts ATTACH PARTITION app.detached FOR VALUES FROM (200) TO (300);
ALTER TABLE app.parts DETACH PARTITION app.detached;
CREATE TABLE app.later PARTITION OF app.parts FOR VALUES FROM (300) TO (400);
SELECT public.note('guarded');
-- Adoption adds triggers and nothing else. (Attaching and detaching left their own marks.)
SELECT * FROM public.differences('found', 'guarded')
WHERE relation NOT IN ('app.attached'::regclass, 'app.detached'::regclass) AND differs <> 'partition of';
SELECT tgrelid::regclass, count(*) FROM pg_trigger WHERE tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace)
  AND tgrelid NOT IN (SELECT oid FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace) GROUP BY 1 ORDER BY 1::text COLLATE "C";

DROP EXTENSION emag_sync_guard;
SELECT public.note('left');
SELECT * FROM public.differences('found', 'left')
WHERE relation NOT IN ('app.attached'::regclass, 'app.detached'::regclass) AND differs <> 'partition of';
SELECT * FROM public.differences('guarded', 'left');
SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname ~ 'emag_sync_guard' AND NOT tgisinternal;
SELECT count(*) FROM pg_namespace WHERE nspname = 'sync_guard';
SELECT count(*) FROM pg_event_trigger;
SELECT count(*) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND refobjid NOT IN (SELECT oid FROM pg_extension);
-- Rows are as they are; writes go on without it, in sessions that had it loaded too.
SELECT id, status, jsonb_array_length(errors) AS errors FROM app.plain;
UPDATE app.plain SET status = 'completed';
INSERT INTO app.plain (id, sync_type, status, started_at)
    SELECT gen_random_uuid(), 'products', 'running', now() FROM generate_series(1, 2);
INSERT INTO app.parts VALUES (301, 'running', '2020-01-01');
DROP TABLE app.later;

-- And again; with the table's own triggers made by hand, which hold it back as the server's rules are.
CREATE EXTENSION emag_sync_guard;
SELECT count(*) FROM sync_guard.guarded_tables;
UPDATE app.plain SET status = 'running';
SELECT sync_guard.guard_table('app.plain', scope_columns => '{sync_type}');
SELECT sync_guard.guard_table('app.parts');
SELECT sync_guard.reap_stale_syncs();
SELECT id, status FROM app.parts ORDER BY id;
CREATE TRIGGER by_hand BEFORE UPDATE ON app.hand_made FOR EACH ROW EXECUTE FUNCTION sync_guard.judge_row();
\set VERBOSITY terse
DROP EXTENSION emag_sync_guard;
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM sync_guard.guarded_tables;
DROP TRIGGER by_hand ON app.hand_made;
-- Release first, then drop: the same.
SELECT sync_guard.unguard_table(relation) FROM sync_guard.guarded_tables;
SELECT public.note('released');
SELECT * FROM public.differences('left', 'released') WHERE differs <> 'partition of';
DROP EXTENSION emag_sync_guard;
SELECT count(*) FROM pg_namespace WHERE nspname = 'sync_guard';

-- A drop that is rolled back leaves everything guarded.
CREATE EXTENSION emag_sync_guard;
SELECT sync_guard.guard_table('app.plain', scope_columns => '{sync_type}', exclusive => true, max_silence => '100 years');
BEGIN;
DROP EXTENSION emag_sync_guard;
INSERT INTO app.plain (id, sync_type, status, started_at) SELECT gen_random_uuid(), 'orders', 'running', now() FROM generate_series(1, 2);
ROLLBACK;
\set VERBOSITY sqlstate
INSERT INTO app.plain (id, sync_type, status, started_at) SELECT gen_random_uuid(), 'orders', 'running', now() FROM generate_series(1, 2);
\set VERBOSITY default
-- With its owner's whole belongings.
DROP OWNED BY regress_esg_uninstall_owner;
SELECT count(*) FROM sync_guard.guarded_tables;

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_uninstall;
DROP ROLE regress_esg_uninstall_owner;
