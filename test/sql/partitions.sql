-- Partitioned tables: by the start, by the status, one below the other; rows that move, partitions that come and go.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA partitions;
SET search_path = partitions;
SET datestyle = 'ISO, YMD';
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;

--
-- By the start. The primary key holds the partition key; the id names a run.
--
CREATE TABLE by_start (
    id integer NOT NULL,
    sync_type text NOT NULL DEFAULT 'products',
    status text NOT NULL DEFAULT 'running',
    started_at timestamp,
    completed_at timestamp,
    duration_seconds double precision,
    errors jsonb) PARTITION BY RANGE (started_at);
CREATE UNIQUE INDEX ON by_start (id, started_at);
CREATE INDEX ON by_start (status);
CREATE TABLE by_start_2019 PARTITION OF by_start FOR VALUES FROM ('2019-01-01') TO ('2020-01-01');
CREATE TABLE by_start_now PARTITION OF by_start FOR VALUES FROM ('2020-01-01') TO ('2200-01-01');
CREATE TABLE by_start_default PARTITION OF by_start DEFAULT;
SELECT sync_guard.guard_table('by_start', live_statuses => '{running}', failed_status => 'failed', exclusive => true);
SELECT key_column, scope_columns FROM sync_guard.guarded_tables WHERE relation = 'by_start'::regclass;

-- The start is not filled: it decides on the partition. The end is.
INSERT INTO by_start (id) VALUES (1) RETURNING tableoid::regclass, started_at;
UPDATE by_start SET status = 'completed' WHERE id = 1 RETURNING tableoid::regclass, completed_at > ago('1 minute') AS ended, duration_seconds;
-- One scope over all partitions, whichever name the row came in by.
INSERT INTO by_start (id, started_at) VALUES (2, ago('5 minutes'));
\set VERBOSITY sqlstate
INSERT INTO by_start (id, started_at) VALUES (3, '2019-05-01');
INSERT INTO by_start_2019 (id, started_at) VALUES (3, '2019-05-01');
INSERT INTO by_start_default (id) VALUES (3);
INSERT INTO by_start_2019 (id, started_at, status) VALUES (3, '2019-05-01', 'completed');
UPDATE by_start_2019 SET status = 'running' WHERE id = 3;
UPDATE by_start_2019 SET status = 'failed' WHERE id = 3;
\set VERBOSITY default
-- A start that is set anew moves the row: it holds its own scope still, and no other run's.
UPDATE by_start SET started_at = '2019-06-01' WHERE id = 2 RETURNING tableoid::regclass, id, status;
UPDATE by_start SET started_at = ago('2 hours') WHERE id = 2 RETURNING tableoid::regclass, id, status;
-- Dead: another may start; reaped, where it stands. Named by a partition it is the whole table.
INSERT INTO by_start (id, started_at) VALUES (4, ago('2 minutes'));
INSERT INTO by_start (id, sync_type, started_at) VALUES (5, 'orders', '2019-06-01'), (6, 'offers', NULL);
SELECT guarded_table, run_key, verdict FROM sync_guard.stale_syncs(relation => 'by_start_default') ORDER BY run_key;
SELECT sync_guard.sync_is_running('products', 'by_start_2019'), sync_guard.sync_is_running('orders', 'by_start_2019'), jsonb_array_length(sync_guard.sync_status(relation => 'by_start_now') -> 'recent_syncs') AS recent;
SELECT sync_guard.reap_stale_syncs(relation => 'by_start_2019');
SELECT tableoid::regclass, id, status, completed_at > ago('1 minute') AS ended_now, abs(duration_seconds - extract(epoch FROM completed_at - started_at)) < 1e-3 AS lasted, jsonb_array_length(errors) AS errors FROM by_start WHERE id IN (2, 4, 5, 6) ORDER BY id;
-- Late, through the table and through the partition.
UPDATE by_start SET status = 'completed', completed_at = '2025-10-01 10:00' WHERE id = 2;
UPDATE by_start_2019 SET errors = '["worker: timeout"]' WHERE id = 5;
SELECT id, status, completed_at > ago('1 minute') AS ended_now, jsonb_array_length(errors) AS errors FROM by_start WHERE id IN (2, 5) ORDER BY id;
SELECT run_key, event, relation, false_positive FROM sync_guard.journal WHERE relation = 'by_start'::regclass ORDER BY id;
-- A retry leaves the start, since that decides on the partition: the writer sets it, or is soon found silent.
SELECT sync_guard.allow_transition('by_start', 'failed', 'running');
UPDATE by_start SET status = 'running' WHERE id = 5 RETURNING tableoid::regclass, started_at, completed_at, duration_seconds;
UPDATE by_start SET status = 'completed' WHERE id = 4;
UPDATE by_start SET status = 'running', started_at = ago('0'), completed_at = NULL WHERE id = 2 RETURNING tableoid::regclass, completed_at;
SELECT run_key, verdict FROM sync_guard.stale_syncs(relation => 'by_start');
SELECT sync_guard.overturn_reap('by_start', 5, 'completed');
SELECT sync_guard.reap_stale_syncs(relation => 'by_start');
SELECT sync_guard.overturn_reap('by_start', 5, 'completed');
SELECT tableoid::regclass, id, status FROM by_start WHERE id IN (2, 5) ORDER BY id;

-- A partition whose columns stand in another order, with some dropped; it comes, is guarded, and goes.
CREATE TABLE by_start_odd (errors jsonb, gone integer, duration_seconds double precision, completed_at timestamp, started_at timestamp, status text NOT NULL, sync_type text NOT NULL DEFAULT 'products', gone_too text, id integer NOT NULL);
ALTER TABLE by_start_odd DROP gone, DROP gone_too;
INSERT INTO by_start_odd (id, sync_type, status, started_at) VALUES (50, 'odd', 'running', '1990-05-01'), (51, 'odd', 'running', '1990-06-01');
ALTER TABLE by_start ATTACH PARTITION by_start_odd FOR VALUES FROM ('1990-01-01') TO ('1991-01-01');
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'by_start_odd'::regclass AND tgname ~ 'emag_sync_guard';
UPDATE by_start SET status = 'completed', completed_at = '1990-05-01 00:05' WHERE id = 50 RETURNING tableoid::regclass, duration_seconds;
UPDATE by_start SET status = 'failed' WHERE id = 50 RETURNING status;
SELECT run_key, scope, verdict FROM sync_guard.stale_syncs(relation => 'by_start_odd');
SELECT sync_guard.reap_stale_syncs(relation => 'by_start');
UPDATE by_start_odd SET status = 'completed', errors = '[]' WHERE id = 51;
SELECT id, status, completed_at > ago('1 minute') AS ended_now, jsonb_array_length(errors) AS errors FROM by_start_odd ORDER BY id;
SELECT wanted ->> 'status' AS wanted, run ->> 'sync_type' AS sync_type FROM sync_guard.journal WHERE relation = 'by_start'::regclass AND run_key = '51' AND event = 'late_finish';
ALTER TABLE by_start DETACH PARTITION by_start_odd;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid = 'by_start_odd'::regclass AND tgname ~ 'emag_sync_guard';
UPDATE by_start_odd SET status = 'running';
UPDATE by_start_odd SET status = 'whatever';
\set VERBOSITY sqlstate
SELECT sync_guard.sync_is_running(relation => 'by_start_odd');
\set VERBOSITY default
-- A new one below, of which part is split again.
CREATE TABLE by_start_split PARTITION OF by_start FOR VALUES FROM ('1990-01-01') TO ('1991-01-01') PARTITION BY HASH (id);
CREATE TABLE by_start_split_0 PARTITION OF by_start_split FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE by_start_split_1 PARTITION OF by_start_split FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO by_start (id, sync_type, started_at) SELECT n, 'split ' || n, '1990-03-01' FROM generate_series(60, 65) AS n;
SELECT sync_guard.reap_stale_syncs(relation => 'by_start');
SELECT count(DISTINCT tableoid) AS partitions, count(*) FILTER (WHERE status = 'failed') AS failed FROM by_start_split;
UPDATE by_start_split SET status = 'completed' WHERE id = 60;
-- What is known of the table is known anew when it has another name, another owner, another schema.
INSERT INTO by_start (id, sync_type, started_at) VALUES (70, 'renamed', ago('1 minute'));
CREATE SCHEMA partitions_too;
ALTER TABLE by_start RENAME TO by_begin;
ALTER TABLE by_begin SET SCHEMA partitions_too;
\set VERBOSITY sqlstate
INSERT INTO by_start_now (id, sync_type, started_at) VALUES (71, 'renamed', ago('1 minute'));
ALTER SCHEMA partitions_too RENAME TO partitions_as_well;
INSERT INTO by_start_now (id, sync_type, started_at) VALUES (71, 'renamed', ago('1 minute'));
\set VERBOSITY default
SELECT guarded_table FROM sync_guard.stale_syncs('1 second', 'partitions_as_well.by_begin', true) WHERE run_key = '70';
DROP TABLE partitions_as_well.by_begin;
DROP SCHEMA partitions_as_well;

--
-- By the status: each change of it moves the row.
--
CREATE TABLE by_status (
    id integer NOT NULL,
    sync_type text NOT NULL DEFAULT 'products',
    status text NOT NULL DEFAULT 'running',
    started_at timestamp,
    completed_at timestamp,
    duration_seconds double precision,
    errors jsonb,
    processed_items integer NOT NULL DEFAULT 0) PARTITION BY LIST (status);
CREATE UNIQUE INDEX ON by_status (id, status);
CREATE TABLE by_status_live PARTITION OF by_status FOR VALUES IN ('running', 'pending');
CREATE TABLE by_status_failed PARTITION OF by_status FOR VALUES IN ('failed');
CREATE TABLE by_status_rest PARTITION OF by_status DEFAULT;
SELECT sync_guard.guard_table('by_status', live_statuses => '{pending,running}', failed_status => 'failed', exclusive => true);
CREATE VIEW moved AS SELECT id, tableoid::regclass AS partition, status, started_at > ago('1 minute') AS started_now, completed_at > ago('1 minute') AS ended_now, round((duration_seconds / 60)::numeric) AS minutes,
    jsonb_array_length(errors) AS errors, processed_items AS done FROM by_status ORDER BY id, status;
-- The writer moves it: filled on the way.
INSERT INTO by_status (id) VALUES (1);
UPDATE by_status SET started_at = ago('10 minutes') WHERE id = 1;
UPDATE by_status SET status = 'completed', processed_items = 7 WHERE id = 1 RETURNING tableoid::regclass, status, completed_at IS NOT NULL AS ended;
\echo :ROW_COUNT row
-- Reaping moves it; ten in one statement.
INSERT INTO by_status (id, sync_type, started_at) SELECT n, 'type ' || n, ago('2 hours') FROM generate_series(11, 20) AS n;
SELECT sync_guard.reap_stale_syncs(relation => 'by_status');
SELECT partition, status, count(*), bool_and(ended_now) AS ended_now, min(minutes) AS minutes, sum(errors) AS errors FROM moved GROUP BY partition, status ORDER BY 1, 2;
-- A late finish would move it, and does not; what else was written is.
UPDATE by_status SET status = 'completed', completed_at = '2025-10-01 10:00', processed_items = 70 WHERE id = 11 RETURNING tableoid::regclass, status, processed_items;
UPDATE by_status SET status = 'failed', errors = '[]', processed_items = 71 WHERE id = 12 RETURNING tableoid::regclass, status, processed_items;
SELECT * FROM moved WHERE id IN (11, 12);
-- Accepted, it moves.
BEGIN;
SET LOCAL emag_sync_guard.late_finish = 'accept';
UPDATE by_status SET status = 'completed' WHERE id = 13 RETURNING tableoid::regclass, status;
COMMIT;
-- A retry moves it back; it begins anew, and finds its scope free or not.
SELECT sync_guard.allow_transition('by_status', 'failed', 'running');
UPDATE by_status SET status = 'running' WHERE id IN (14, 15);
INSERT INTO by_status (id, sync_type) VALUES (30, 'type 16');
\set VERBOSITY sqlstate
UPDATE by_status SET status = 'running' WHERE id = 16;
INSERT INTO by_status (id, sync_type) VALUES (31, 'type 14');
UPDATE by_status SET status = 'running' WHERE id = 1;
\set VERBOSITY default
SELECT * FROM moved WHERE id IN (1, 13, 14, 15, 16, 30);
SELECT run_key, event, false_positive FROM sync_guard.journal WHERE relation = 'by_status'::regclass AND event <> 'reaped' ORDER BY id;
-- Taken back, it moves as well.
SELECT sync_guard.overturn_reap('by_status', 17, 'completed'), sync_guard.overturn_reap('by_status', 18, 'running');
SELECT * FROM moved WHERE id IN (17, 18);
-- By MERGE and by upsert.
MERGE INTO by_status AS t USING (VALUES (30, 'completed'), (40, 'running')) AS v (id, status) ON t.id = v.id
    WHEN MATCHED THEN UPDATE SET status = v.status WHEN NOT MATCHED THEN INSERT (id, sync_type, status) VALUES (v.id, 'type 40', v.status);
INSERT INTO by_status (id, sync_type, status) VALUES (40, 'type 40', 'running') ON CONFLICT (id, status) DO UPDATE SET processed_items = 9;
SELECT * FROM moved WHERE id IN (30, 40);
-- Where a row cannot go where it should, the run is told and left, and the others are closed.
ALTER TABLE by_status_failed ADD CHECK (id <> 41);
INSERT INTO by_status (id, sync_type, started_at) VALUES (41, 'type 41', ago('2 hours')), (42, 'type 42', ago('2 hours'));
\set VERBOSITY terse
SELECT sync_guard.reap_stale_syncs(relation => 'by_status');
SELECT id, partition, status FROM moved WHERE id IN (41, 42);
\set VERBOSITY default

--
-- A key that only the partition key makes unique: two runs of one name are not taken for one.
--
CREATE TABLE twins (id integer NOT NULL, tenant text NOT NULL, status text NOT NULL DEFAULT 'running', started_at timestamp, completed_at timestamp, errors jsonb) PARTITION BY LIST (tenant);
CREATE UNIQUE INDEX ON twins (id, tenant);
CREATE TABLE twins_a PARTITION OF twins FOR VALUES IN ('a');
CREATE TABLE twins_b PARTITION OF twins FOR VALUES IN ('b');
INSERT INTO twins VALUES (1, 'a', 'running', ago('2 hours')), (1, 'b', 'running', ago('2 hours'));
\set VERBOSITY terse
SELECT sync_guard.guard_table('twins', live_statuses => '{running}', failed_status => 'failed');
\set VERBOSITY default
DELETE FROM twins WHERE tenant = 'b';
SELECT sync_guard.guard_table('twins', live_statuses => '{running}', failed_status => 'failed');
-- Once it has happened, both are closed, each with its line.
INSERT INTO twins VALUES (1, 'b', 'running', ago('3 hours')), (2, 'b', 'running', ago('1 minute'));
SELECT sync_guard.reap_stale_syncs(relation => 'twins');
SELECT id, tenant, status FROM twins ORDER BY id, tenant;
SELECT run_key, run ->> 'tenant' AS tenant, event FROM sync_guard.journal WHERE relation = 'twins'::regclass ORDER BY 2;

DROP SCHEMA partitions CASCADE;
