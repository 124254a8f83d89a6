-- guard_health: each problem is found, named, and gone once mended.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA health;
CREATE ROLE regress_esg_health_owner;
GRANT CREATE, USAGE ON SCHEMA health TO regress_esg_health_owner;

-- The problems of one table.
CREATE FUNCTION health.problems(regclass) RETURNS TABLE (severity text, problem text, detail text, hint text)
LANGUAGE sql VOLATILE AS $$ SELECT severity, problem, detail, hint FROM sync_guard.guard_health WHERE relation = $1 $$;
CREATE FUNCTION health.ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE
    RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;

CREATE TABLE health.runs (
    id integer PRIMARY KEY,
    sync_type text NOT NULL DEFAULT 'products',
    status varchar(50) NOT NULL CHECK (status IN ('running', 'pending', 'completed', 'failed')),
    started_at timestamp,
    completed_at timestamp,
    errors jsonb);
ALTER TABLE health.runs OWNER TO regress_esg_health_owner;
CREATE INDEX runs_status ON health.runs (status);
SELECT sync_guard.guard_table('health.runs', live_statuses => '{running,pending}', scope_columns => '{sync_type}',
                              time_zone => 'UTC');
SELECT * FROM health.problems('health.runs');

--
-- Times
--
INSERT INTO health.runs (id, status, started_at) VALUES (1, 'running', 'infinity');
SELECT * FROM health.problems('health.runs');
INSERT INTO health.runs (id, status, started_at) VALUES (2, 'running', '-infinity');
SELECT * FROM health.problems('health.runs');
DELETE FROM health.runs;
ALTER TABLE health.runs DISABLE TRIGGER USER;
INSERT INTO health.runs (id, status) VALUES (3, 'pending');
ALTER TABLE health.runs ENABLE TRIGGER USER;
SELECT * FROM health.problems('health.runs');
DELETE FROM health.runs;

-- A start in the future, and the time zone that it suggests: what the column would have to be read as.
CREATE FUNCTION health.suggests(zone text, after interval DEFAULT '10 seconds') RETURNS TABLE (problem text, told text, fits boolean)
LANGUAGE plpgsql AS $$
DECLARE
    suggested text;
BEGIN
    DELETE FROM health.runs;
    INSERT INTO health.runs (id, status, started_at) VALUES (10, 'running', (clock_timestamp() AT TIME ZONE zone) - after);
    FOR problem, told, suggested IN
        SELECT p.problem, split_part(p.detail, ',', 1), substring(p.hint FROM 'time_zone => ''(.*)''')
        FROM health.problems('health.runs') AS p
    LOOP
        fits := clock_timestamp() AT TIME ZONE suggested = clock_timestamp() AT TIME ZONE zone
             OR abs(extract(epoch FROM (clock_timestamp() AT TIME ZONE suggested) - (clock_timestamp() AT TIME ZONE zone))) < 1;
        RETURN NEXT;
    END LOOP;
    DELETE FROM health.runs;
END $$;
SELECT z.zone, s.* FROM unnest('{Europe/Bucharest,Asia/Kolkata,Asia/Kathmandu,Asia/Tokyo,Pacific/Auckland}'::text[]) AS z (zone)
LEFT JOIN LATERAL health.suggests(z.zone) AS s ON true;
-- West of what it is read as the start lies in the past, which is no sign of anything.
SELECT count(*) FROM health.suggests('America/New_York') WHERE problem = 'start_in_future';
-- A zone that the server or the session is set to comes before others of the same offset.
SET TIME ZONE 'Asia/Tashkent';
INSERT INTO health.runs (id, status, started_at)
VALUES (11, 'running', (clock_timestamp() AT TIME ZONE 'Asia/Tashkent') - interval '10 minutes');
SELECT problem, hint FROM health.problems('health.runs');
RESET TIME ZONE;
-- Too far ahead for any zone; and a clock that is a little fast is none.
UPDATE health.runs SET started_at = health.ago('-3 days');
SELECT problem, detail, hint FROM health.problems('health.runs');
UPDATE health.runs SET started_at = health.ago('-30 seconds');
SELECT count(*) FROM health.problems('health.runs');
-- With a time zone of its own a start says what it says.
ALTER TABLE health.runs ALTER started_at TYPE timestamptz USING started_at AT TIME ZONE 'UTC';
UPDATE health.runs SET started_at = clock_timestamp() + interval '2 hours 30 seconds';
SELECT problem, detail, hint FROM health.problems('health.runs');
DELETE FROM health.runs;
ALTER TABLE health.runs ALTER started_at TYPE timestamp USING started_at AT TIME ZONE 'UTC';

--
-- Dead runs that nothing closes
--
INSERT INTO health.runs (id, status, started_at) VALUES (20, 'running', health.ago('1 hour 10 minutes'));
SELECT count(*) FROM health.problems('health.runs');
INSERT INTO health.runs (id, status, started_at) VALUES (21, 'running', health.ago('3 hours 1 second'));
SELECT * FROM health.problems('health.runs');
SELECT sync_guard.pause_reaping('health.runs', '2099-01-01 00:00:00+00');
SELECT * FROM health.problems('health.runs');
SELECT sync_guard.pause_reaping('health.runs');
SELECT * FROM health.problems('health.runs');
SELECT sync_guard.resume_reaping('health.runs');
SELECT sync_guard.guard_table('health.runs', mode => 'observe');
SELECT count(*) FROM health.problems('health.runs');
SELECT sync_guard.guard_table('health.runs', mode => 'guard');
SELECT sync_guard.reap_stale_syncs(relation => 'health.runs');
SELECT count(*) FROM health.problems('health.runs');

--
-- False positives, and the limit that would have been long enough
--
-- Both were started, found dead and finished within moments: as if 3 h and 1 h 10 min had been too short.
UPDATE health.runs SET status = 'completed';
SELECT * FROM health.problems('health.runs');
-- A reaping that is taken back too is still one mistake.
SELECT sync_guard.overturn_reap('health.runs', 20, 'completed');
SELECT count(*) AS lines FROM sync_guard.journal WHERE relation_name = 'health.runs' AND run_key = '20' AND false_positive;
SELECT * FROM health.problems('health.runs');
-- Taking the advice ends the complaint; what stays says that there is nothing to change.
SELECT hint AS advice FROM health.problems('health.runs') WHERE problem = 'false_positives' \gset
:advice
SELECT * FROM health.problems('health.runs');
-- A limit that is longer than the one then and still too short for one of the two.
SELECT sync_guard.set_limit('health.runs', '{"sync_type": "products"}', max_silence => '2 hours');
SELECT * FROM health.problems('health.runs');
SELECT sync_guard.set_limit('health.runs', '{"sync_type": "products"}', reset => '{max_silence}');
-- And one that is long enough for all.
SELECT sync_guard.set_limit('health.runs', '{}', max_silence => '100 years');
SELECT severity, detail FROM health.problems('health.runs');
SELECT sync_guard.set_limit('health.runs', '{}', reset => '{max_silence}');
-- A failure that comes late speaks for the reaping.
UPDATE sync_guard.journal SET false_positive = false WHERE relation_name = 'health.runs' AND run_key = '21';
SELECT severity, problem, detail, hint FROM health.problems('health.runs');
UPDATE sync_guard.journal SET at = at - interval '8 days' WHERE relation_name = 'health.runs';
SELECT count(*) FROM health.problems('health.runs');
DELETE FROM health.runs;
-- Only taken back by hand: how long it lived is not known, twice the limit in force is advised.
INSERT INTO health.runs (id, status, started_at) VALUES (30, 'running', health.ago('70 minutes'));
SELECT sync_guard.reap_stale_syncs(relation => 'health.runs');
SELECT sync_guard.overturn_reap('health.runs', 30, 'completed');
SELECT severity, problem, detail, hint FROM health.problems('health.runs');
SELECT hint AS advice FROM health.problems('health.runs') WHERE problem = 'false_positives' \gset
:advice
SELECT severity, problem, detail, hint FROM health.problems('health.runs');
SELECT sync_guard.set_limit('health.runs', '{"sync_type": "products"}', reset => '{max_silence}');
UPDATE sync_guard.journal SET at = at - interval '8 days' WHERE relation_name = 'health.runs';
-- Reaped by a shorter older_than than the limit in force: the limit is not what was wrong.
INSERT INTO health.runs (id, status, started_at) VALUES (31, 'running', health.ago('20 minutes'));
SELECT sync_guard.reap_stale_syncs('10 minutes', 'health.runs');
UPDATE health.runs SET status = 'completed' WHERE id = 31;
SELECT severity, problem, detail, hint FROM health.problems('health.runs');
UPDATE sync_guard.journal SET at = at - interval '8 days' WHERE relation_name = 'health.runs';
DELETE FROM health.runs;

--
-- Live runs that share an exclusive scope
--
INSERT INTO health.runs (id, sync_type, status, started_at)
VALUES (40, 'orders', 'running', health.ago('1 minute')), (41, 'products', 'running', health.ago('2 minutes')),
       (42, 'both', 'pending', health.ago('3 minutes')), (43, 'products', 'running', health.ago('2 hours'));
SELECT sync_guard.guard_table('health.runs', exclusive => true, mode => 'observe');
SELECT count(*) FROM health.problems('health.runs');
SELECT sync_guard.guard_table('health.runs', scope_overlaps => '{"sync_type": {"both": ["products", "stock"]}}');
SELECT * FROM health.problems('health.runs');
-- Not while waiting; and not any more.
SELECT sync_guard.guard_table('health.runs', exclusive_statuses => '{running}');
SELECT count(*) FROM health.problems('health.runs');
SELECT sync_guard.guard_table('health.runs', reset => '{exclusive_statuses}');
UPDATE health.runs SET status = 'completed' WHERE id = 42;
SELECT count(*) FROM health.problems('health.runs');
SELECT sync_guard.guard_table('health.runs', reset => '{exclusive,scope_overlaps,mode}');
DELETE FROM health.runs;

--
-- Triggers and settings
--
ALTER TABLE health.runs DISABLE TRIGGER zzz_emag_sync_guard_update;
SELECT severity, problem, detail FROM health.problems('health.runs');
ALTER TABLE health.runs ENABLE TRIGGER zzz_emag_sync_guard_update;
DROP TRIGGER zzz_emag_sync_guard_watch ON health.runs;
SELECT severity, problem, detail FROM health.problems('health.runs');
SELECT sync_guard.repair_triggers('health.runs') > 0 AS repaired;
SELECT count(*) FROM health.problems('health.runs');
-- An application's trigger that has the last word is not the guard's to mend.
CREATE FUNCTION health.last_word() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER zzzz_last BEFORE UPDATE ON health.runs FOR EACH ROW EXECUTE FUNCTION health.last_word();
SELECT severity, problem, detail FROM health.problems('health.runs');
DROP TRIGGER zzzz_last ON health.runs;
ALTER TABLE health.runs RENAME COLUMN completed_at TO ended_at;
SELECT severity, problem, detail FROM health.problems('health.runs');
ALTER TABLE health.runs RENAME COLUMN ended_at TO completed_at;
ALTER TABLE health.runs ALTER started_at TYPE text;
SELECT severity, problem, detail FROM health.problems('health.runs');
ALTER TABLE health.runs ALTER started_at TYPE timestamp USING started_at::timestamp;
SELECT count(*) FROM health.problems('health.runs');

--
-- Row security, kind of table
--
ALTER TABLE health.runs ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
SELECT * FROM health.problems('health.runs');
ALTER TABLE health.runs DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY;
ALTER TABLE health.runs SET UNLOGGED;
SELECT * FROM health.problems('health.runs');
ALTER TABLE health.runs SET LOGGED;
-- A subscriber's copy; the subscription is made without a publisher.
BEGIN;
SET LOCAL client_min_messages = error;
CREATE SUBSCRIPTION regress_esg_health CONNECTION 'dbname=none' PUBLICATION none WITH (connect = false, slot_name = NONE);
INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate)
SELECT oid, 'health.runs'::regclass, 'r' FROM pg_subscription WHERE subname = 'regress_esg_health';
SELECT * FROM health.problems('health.runs');
ROLLBACK;

--
-- Indexes: what is said is what the planner does
--
DROP INDEX health.runs_status;
SELECT * FROM health.problems('health.runs');
-- With the index made in a transaction that is rolled back: seen by guard_health, used by the planner?
CREATE FUNCTION health.with_index(ddl text) RETURNS TABLE (seen boolean, used boolean) LANGUAGE plpgsql AS $$
DECLARE
    line text;
    plan text := '';
BEGIN
    BEGIN
        EXECUTE ddl;
        seen := NOT EXISTS (SELECT FROM health.problems('health.runs') WHERE problem = 'status_index_missing');
        SET LOCAL enable_seqscan = off;
        FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || sync_guard.live_runs_query('health.runs') LOOP
            plan := plan || line;
        END LOOP;
        used := plan !~ 'Seq Scan';
        RAISE SQLSTATE 'ZZ001';
    EXCEPTION WHEN SQLSTATE 'ZZ001' THEN
        RETURN NEXT;
    END;
END $$;
SELECT i.ddl, w.* FROM unnest(ARRAY[
    'CREATE INDEX ON health.runs (status)',
    'CREATE INDEX ON health.runs USING hash (status)',
    'CREATE INDEX ON health.runs (status varchar_pattern_ops)',
    'CREATE INDEX ON health.runs (status COLLATE "C")',
    'CREATE INDEX ON health.runs (lower(status))',
    'CREATE INDEX ON health.runs (started_at) WHERE status = ''running''',
    'CREATE INDEX ON health.runs (started_at) WHERE status IN (''running'', ''pending'')',
    'CREATE INDEX ON health.runs (started_at) WHERE status IN (''pending'', ''running'', ''queued'')',
    'CREATE INDEX ON health.runs (started_at) WHERE status NOT IN (''completed'', ''failed'')',
    'CREATE INDEX ON health.runs (started_at) WHERE completed_at IS NULL',
    'CREATE INDEX ON health.runs (status) WHERE sync_type = ''products''']) WITH ORDINALITY AS i (ddl, n)
CROSS JOIN LATERAL health.with_index(i.ddl) AS w ORDER BY i.n;
-- Taking the advice ends the complaint.
SELECT hint AS advice FROM health.problems('health.runs') WHERE problem = 'status_index_missing' \gset
:advice
SELECT count(*) FROM health.problems('health.runs');
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'health.runs_started_at_idx'::regclass;
SELECT problem FROM health.problems('health.runs');
UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'health.runs_started_at_idx'::regclass;

-- Names that need quotes, an enum, a large table.
CREATE TYPE health.state AS ENUM ('Queued', 'Running', 'Done', 'Failed');
CREATE TABLE health."Sync Runs" (
    "Id" integer PRIMARY KEY, "State" health.state, "startedAt" timestamptz, "finishedAt" timestamptz, filler text);
SELECT sync_guard.guard_table('health."Sync Runs"', key_column => 'Id', status_column => 'State',
    live_statuses => '{Queued,Running}', failed_status => 'Failed', start_column => 'startedAt',
    end_column => 'finishedAt', scope_columns => '{}');
SELECT severity, problem, hint FROM health.problems('health."Sync Runs"');
INSERT INTO health."Sync Runs"
SELECT n, 'Done', now() - interval '1 year', now() - interval '1 year', repeat('x', 1500) FROM generate_series(1, 6000) AS n;
SELECT severity, problem, hint FROM health.problems('health."Sync Runs"');
CREATE INDEX ON health."Sync Runs" ("startedAt");
CREATE INDEX ON health."Sync Runs" ("startedAt") WHERE "State" IN ('Queued', 'Running');
SELECT count(*) FROM health.problems('health."Sync Runs"');

-- Without any time there is nothing to judge by.
CREATE TABLE health.timeless (id integer PRIMARY KEY, status text);
CREATE INDEX ON health.timeless (status);
SELECT sync_guard.guard_table('health.timeless', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{}',
                              start_column => '');
SELECT * FROM health.problems('health.timeless');

-- Partitions: each needs one, unless its bounds say enough.
CREATE TABLE health.by_status (
    id integer, status text, started_at timestamptz, completed_at timestamptz, PRIMARY KEY (id, status))
    PARTITION BY LIST (status);
CREATE TABLE health.by_status_live PARTITION OF health.by_status FOR VALUES IN ('running');
CREATE TABLE health.by_status_ended PARTITION OF health.by_status FOR VALUES IN ('completed', 'failed');
CREATE TABLE health.by_time (
    id uuid, status text, started_at timestamptz, completed_at timestamptz, PRIMARY KEY (id, started_at))
    PARTITION BY RANGE (started_at);
CREATE TABLE health.by_time_1 PARTITION OF health.by_time FOR VALUES FROM ('2025-01-01 00:00+00') TO ('2025-02-01 00:00+00');
CREATE TABLE health.by_time_2 PARTITION OF health.by_time FOR VALUES FROM ('2025-02-01 00:00+00') TO ('2025-03-01 00:00+00');
CREATE INDEX ON health.by_time_1 (status);
SELECT sync_guard.guard_table(t, key_column => 'id', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{}')
FROM unnest('{health.by_status,health.by_time}'::regclass[]) AS t;
SELECT problem, detail, hint FROM health.problems('health.by_status');
SELECT problem, detail, hint FROM health.problems('health.by_time');
CREATE TABLE health.by_status_rest PARTITION OF health.by_status DEFAULT;
SELECT problem, detail, hint FROM health.problems('health.by_status');

--
-- The guard as a whole. (Preloading and pg_cron depend on the server: see the schedule test and the TAP tests.)
--
SET emag_sync_guard.enabled = off;
SELECT severity, problem, detail FROM sync_guard.guard_health WHERE problem = 'guard_disabled';
RESET emag_sync_guard.enabled;
SELECT count(*) FROM sync_guard.guard_health WHERE problem = 'guard_disabled';

-- Settings whose number names no table, as a restore can leave them.
INSERT INTO sync_guard.settings
SELECT (jsonb_populate_record(s, '{"relation": "4294967290", "relation_name": "health.lost"}')).*
FROM sync_guard.settings AS s WHERE relation = 'health.runs'::regclass;
SELECT severity, relation, problem, detail, hint FROM sync_guard.guard_health WHERE detail LIKE '%health.lost%';
GRANT USAGE ON SCHEMA health TO PUBLIC;
SET ROLE regress_esg_health_owner;
SELECT count(*) FROM sync_guard.guard_health WHERE problem = 'settings_orphaned';
SELECT count(*) FROM sync_guard.guarded_tables WHERE relation_name = 'health.lost';
RESET ROLE;
SELECT relation_name, problem FROM sync_guard.guarded_tables WHERE relation_name = 'health.lost';
DELETE FROM sync_guard.settings WHERE relation_name = 'health.lost';

-- Triggers without settings, as a dump without the guard's schema leaves them. Who may not read the table is not told; partitions are
-- not named beside their table.
BEGIN;
DELETE FROM sync_guard.settings WHERE relation IN ('health.runs'::regclass, 'health.by_time'::regclass);
SELECT severity, relation, problem, detail, hint FROM sync_guard.guard_health WHERE problem = 'settings_missing' ORDER BY relation::text;
SET LOCAL ROLE regress_esg_health_owner;
SELECT relation FROM sync_guard.guard_health WHERE problem = 'settings_missing';
RESET ROLE;
-- Where no other table is guarded, whoever asks for all is not told "no".
DELETE FROM sync_guard.settings;
SAVEPOINT asked;
SELECT sync_guard.sync_is_running();
ROLLBACK TO asked;
SELECT sync_guard.scope_is_running('{"kind": "x"}');
ROLLBACK TO asked;
SELECT sync_guard.sync_status();
ROLLBACK TO asked;
SELECT sync_guard.sync_is_running(relation => 'health.runs');
ROLLBACK TO asked;
-- Without them, nothing runs that the guard would know of.
SELECT count(sync_guard.unguard_table(relation)) > 1 AS released FROM sync_guard.guard_health WHERE problem = 'settings_missing';
SELECT count(*) FROM sync_guard.guard_health WHERE problem = 'settings_missing';
SELECT sync_guard.sync_is_running();
ROLLBACK;

-- Tables that inherit from a guarded one, which came after it was adopted.
CREATE TABLE health.parent (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz DEFAULT now());
CREATE INDEX ON health.parent (status);
SELECT sync_guard.guard_table('health.parent');
CREATE UNLOGGED TABLE health.child () INHERITS (health.parent);
SELECT * FROM health.problems('health.parent');
CREATE TABLE health.grandchild () INHERITS (health.child);
SELECT detail FROM health.problems('health.parent');
ALTER TABLE health.child NO INHERIT health.parent;
SELECT count(*) FROM health.problems('health.parent');

-- A journal that has grown very long.
BEGIN;
UPDATE pg_class SET reltuples = 2500000 WHERE oid = 'sync_guard.journal'::regclass;
SELECT severity, problem, detail, hint FROM sync_guard.guard_health WHERE problem = 'journal_large';
ROLLBACK;

DELETE FROM sync_guard.journal WHERE relation_name LIKE 'health.%';
DROP SCHEMA health CASCADE;
DROP ROLE regress_esg_health_owner;
