-- How fast a run goes, when it may be expected to end, what is usual, and the lines for a terminal.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA progress;
CREATE ROLE regress_esg_progress_reader;
CREATE ROLE regress_esg_progress_stranger;
GRANT USAGE ON SCHEMA progress TO regress_esg_progress_reader, regress_esg_progress_stranger;
CREATE TABLE progress.runs (
    id text PRIMARY KEY,
    sync_type text,
    account text,
    status text NOT NULL DEFAULT 'running',
    started_at timestamptz,
    completed_at timestamptz,
    heartbeat_at timestamptz,
    processed_items bigint,
    total_items bigint);
CREATE INDEX ON progress.runs (started_at);
SELECT sync_guard.guard_table('progress.runs', scope_columns => '{sync_type,account}', max_silence => '10 days');

--
-- Rhythms
--
CREATE FUNCTION progress.sweep() RETURNS integer LANGUAGE sql
RETURN sync_guard.reap_stale_syncs(relation => 'progress.runs');
CREATE VIEW progress.learned AS
SELECT scope ->> 'sync_type' AS sync_type, scope ->> 'account' AS account, completed, usual_duration, long_duration,
       usual_gap, long_gap, date_trunc('second', now() - last_completed) AS last_completed_ago
FROM sync_guard.scope_rhythms WHERE relation = 'progress.runs'::regclass ORDER BY scope;
CREATE FUNCTION progress.make_older(interval) RETURNS void LANGUAGE sql
BEGIN ATOMIC UPDATE sync_guard.scope_rhythms SET learned_at = learned_at - $1 WHERE relation = 'progress.runs'::regclass; END;

-- In one transaction, in which now() stands still. Products: 30 runs an hour apart, of 1 to 30 minutes, each ends on the hour; one
-- is missing, two are. Orders: 5 runs. What failed, is older than 30 days, starts after now or does not tell when it was is left out.
BEGIN;
INSERT INTO progress.runs (id, sync_type, account, status, started_at, completed_at)
SELECT 'p' || n, 'products', 'main', 'completed', now() - n * interval '1 hour' - n * interval '1 minute', now() - n * interval '1 hour'
FROM generate_series(1, 30) AS n WHERE n NOT IN (5, 10, 11);
INSERT INTO progress.runs (id, sync_type, account, status, started_at, completed_at)
SELECT 'o' || n, 'orders', NULL, 'completed', now() - n * interval '1 day', now() - n * interval '1 day' + n * interval '1 minute'
FROM generate_series(1, 5) AS n;
INSERT INTO progress.runs (id, sync_type, account, status, started_at, completed_at) VALUES
    ('f1', 'products', 'main', 'failed', now() - interval '2 hours', now()),
    ('f2', 'products', 'main', 'CANCELLED', now() - interval '2 hours', now()),
    ('x1', 'old', 'main', 'completed', now() - interval '31 days', now() - interval '1 day'),
    ('x2', 'future', 'main', 'completed', now() + interval '1 day', now() + interval '2 days'),
    ('x3', 'infinite', 'main', 'completed', 'infinity', 'infinity'),
    ('x4', 'endless', 'main', 'completed', now() - interval '3 hours', NULL),
    ('x5', 'backwards', 'main', 'completed', now() - interval '3 hours', now() - interval '4 hours'),
    ('x6', 'fast clock', 'main', 'completed', now() - interval '3 hours', now() + interval '4 hours');
SELECT progress.sweep();
SELECT * FROM progress.learned WHERE sync_type IS DISTINCT FROM 'fast clock';
SELECT completed, usual_duration, last_completed_ago BETWEEN '-1 minute' AND '0' AS not_after_now
FROM progress.learned WHERE sync_type = 'fast clock';
-- Not again within an hour. Then what is gone is gone, and the table's own line stays, whatever there is.
DELETE FROM progress.runs WHERE sync_type <> 'orders';
SELECT progress.sweep();
SELECT count(*) FROM progress.learned;
SELECT progress.make_older('59 minutes');
SELECT progress.sweep();
SELECT count(*) FROM progress.learned;
SELECT progress.make_older('1 minute');
SELECT progress.sweep();
SELECT * FROM progress.learned;
-- Only once a day where reading the history is costly: many rows, and no index begins with the start.
UPDATE pg_class SET reltuples = 100001 WHERE oid = 'progress.runs'::regclass;
DROP INDEX progress.runs_started_at_idx;
DELETE FROM progress.runs;
SELECT progress.make_older('23 hours');
SELECT progress.sweep();
SELECT count(*) FROM progress.learned;
CREATE INDEX ON progress.runs (started_at);
UPDATE pg_class SET reltuples = 100001 WHERE oid = 'progress.runs'::regclass;
SAVEPOINT with_an_index;
SELECT progress.sweep();
SELECT * FROM progress.learned;
ROLLBACK TO with_an_index;
DROP INDEX progress.runs_started_at_idx;
SELECT progress.make_older('1 hour');
SELECT progress.sweep();
SELECT * FROM progress.learned;
-- A clock that was set back does not stop it.
SELECT progress.make_older('-2 hours');
INSERT INTO progress.runs (id, sync_type, account, status, started_at, completed_at)
VALUES ('back', 'orders', 'x', 'completed', now() - interval '2 hours', now() - interval '1 hour');
SELECT progress.sweep();
SELECT * FROM progress.learned;
ROLLBACK;

-- Other tables: naive times in a zone, no end, no times at all, no scope, a partitioned one.
CREATE TABLE progress.naive (id integer PRIMARY KEY, status text, started_at timestamp, completed_at timestamp);
CREATE TABLE progress.endless (id integer PRIMARY KEY, status text, started_at timestamptz);
CREATE TABLE progress.timeless (id integer PRIMARY KEY, status text);
CREATE TABLE progress.parted (id integer, status text, started_at timestamptz, completed_at timestamptz, PRIMARY KEY (id))
    PARTITION BY RANGE (id);
CREATE TABLE progress.parted_low PARTITION OF progress.parted FOR VALUES FROM (0) TO (5);
CREATE TABLE progress.parted_high PARTITION OF progress.parted FOR VALUES FROM (5) TO (100);
SELECT sync_guard.guard_table(t::regclass, live_statuses => '{running}', failed_status => 'failed', scope_columns => '{}',
                              time_zone => 'Asia/Kathmandu', start_column => CASE t WHEN 'progress.timeless' THEN '' END)
FROM unnest('{progress.naive,progress.endless,progress.timeless,progress.parted}'::text[]) AS t;
BEGIN;
INSERT INTO progress.naive SELECT n, 'completed', at, at + interval '5 minutes'
FROM generate_series(1, 3) AS n, LATERAL (SELECT (now() - n * interval '1 hour') AT TIME ZONE 'Asia/Kathmandu') AS t (at);
INSERT INTO progress.endless SELECT n, 'completed', now() - n * interval '1 hour' FROM generate_series(1, 3) AS n;
INSERT INTO progress.timeless SELECT n, 'completed' FROM generate_series(1, 3) AS n;
INSERT INTO progress.parted SELECT n, 'completed', now() - n * interval '1 hour', now() - n * interval '30 minutes'
FROM generate_series(1, 8) AS n;
SELECT sync_guard.reap_stale_syncs(relation => t::regclass)
FROM unnest('{progress.naive,progress.endless,progress.timeless,progress.parted}'::text[]) AS t;
SELECT relation, scope, completed, usual_duration, usual_gap, long_gap, date_trunc('second', now() - last_completed) AS last_completed_ago
FROM sync_guard.scope_rhythms WHERE relation <> 'progress.runs'::regclass ORDER BY relation::text;
ROLLBACK;
SELECT sync_guard.unguard_table(t::regclass)
FROM unnest('{progress.naive,progress.endless,progress.timeless,progress.parted}'::text[]) AS t;

--
-- What is expected
--
CREATE FUNCTION progress.ago(interval) RETURNS timestamptz LANGUAGE sql RETURN clock_timestamp() - $1;
INSERT INTO sync_guard.scope_rhythms (relation, scope, learned_at, completed, usual_duration, long_duration) VALUES
    ('progress.runs', '{"sync_type": "offers", "account": "fbe"}', now(), 9, '20 minutes', '40 minutes'),
    ('progress.runs', '{}', now(), 9, '3 days', '4 days');
-- Ages are half a minute more than a figure says, so that it stays what it is while this test runs.
INSERT INTO progress.runs (id, sync_type, account, started_at, heartbeat_at, processed_items, total_items) VALUES
    ('half', 'products', 'main', progress.ago('2:05:30'), NULL, 753, 1506),
    ('none done', 'products', 'fbe', progress.ago('3:00:30'), NULL, 0, 40000),
    ('no total', 'offers', 'fbe', progress.ago('0:10:00'), NULL, 60, 0),
    ('late', 'offers', 'fbe', progress.ago('0:30:00'), NULL, NULL, NULL),
    ('later', 'offers', 'fbe', progress.ago('0:50:00'), NULL, NULL, 10),
    ('all done', 'orders', 'main', progress.ago('1 day 2:00:30'), NULL, 10, 10),
    ('more done', 'orders', 'main', progress.ago('1 day 2:10:30'), NULL, 12, 10),
    ('nearly', 'orders', 'main', progress.ago('1 day 3:00:30'), NULL, 99999, 100000),
    ('no start', 'orders', 'main', NULL, progress.ago('2:00:30'), 5, 10),
    ('future', 'orders', 'main', progress.ago('-3:00:30'), NULL, 5, 10),
    ('dead', 'offers', 'fbe', progress.ago('20 days 0:00:30'), NULL, 5, 10),
    ('huge', 'orders', 'main', progress.ago('4:00:30'), NULL, 1, 9223372036854775807);
-- An INSERT without a start gets one.
UPDATE progress.runs SET started_at = NULL WHERE id = 'no start';
SELECT run_key, done, total, percent, progress_bar, round(rate_per_second, 3) AS rate_per_second,
       date_trunc('minute', expected_end - clock_timestamp()) AS minutes_left, expected_by
FROM sync_guard.running_syncs WHERE run_key NOT IN ('no total', 'late', 'future') ORDER BY run_key;
SELECT run_key, percent, progress_bar, round(rate_per_second, 3) AS rate_per_second,
       round(extract(epoch FROM expected_end - clock_timestamp()) / 60) AS minutes_left, expected_by
FROM sync_guard.running_syncs WHERE run_key IN ('no total', 'late', 'future') ORDER BY run_key;
-- Four digits that count. A dead run has no end to be expected.
SELECT run_key, percent, progress_bar, rate_per_second::text ~ '^0\.00000[1-9][0-9]{3}$' AS rate_fits, expected_end, expected_by
FROM sync_guard.stuck_syncs;
SELECT run_key, progress_bar, expected_by FROM sync_guard.long_running_syncs WHERE run_key = 'half';
-- For a client that has no blocks.
SET client_encoding = 'LATIN1';
SELECT run_key, progress_bar FROM sync_guard.running_syncs WHERE run_key IN ('half', 'nearly', 'all done') ORDER BY run_key;
SELECT sync, progress FROM sync_guard.watch_80 WHERE progress <> '-' ORDER BY 1, 2 LIMIT 1;
RESET client_encoding;

--
-- For a terminal
--
DELETE FROM progress.runs WHERE id IN ('no total', 'late', 'later');
INSERT INTO progress.runs (id, sync_type, account, started_at, heartbeat_at, processed_items, total_items) VALUES
    ('00000000-0000-0000-0000-000000000000', 'reference data', 'of everything', progress.ago('4 days 4:00:30'),
     progress.ago('1:01:30'), 123456, 1000000);
SELECT * FROM sync_guard.watch_80;
SELECT * FROM sync_guard.watch_120;

-- Hostile values: whatever they are, every column is as wide as it is. Counted in cells: letters of two cells count twice, marks
-- not at all.
CREATE FUNCTION progress.cells(text) RETURNS integer LANGUAGE sql
RETURN length($1) + length(regexp_replace($1, '[^一-鿿゠-ヿ🀀-🿿]', '', 'g')) - length(regexp_replace($1, U&'[^\0300-\036F]', '', 'g'));
BEGIN;
DELETE FROM progress.runs;
INSERT INTO progress.runs (id, sync_type, account, started_at, heartbeat_at, processed_items, total_items)
SELECT v.text || '#' || row_number() OVER (), v.text, repeat(v.text, 3), s.started_at, s.started_at + interval '1 hour', c.done, c.total
FROM (VALUES (''), (' '), (E'a\nb\r\tc'), (E'\x1b[31mred\x1b[0m\b\b\b\x7f'), (repeat('long ', 1000)), ('商品カタログ'),
             (U&'e' || repeat(U&'\0301', 50)), (U&'\202Ereversed\2066'), (U&'\0085\009Bx'), ('🚀🚀'), ('" | ; \ '' --')) AS v (text),
     (VALUES (0, 0), (9223372036854775807, 9223372036854775807), (-9223372036854775808, 1), (NULL, NULL), (1, NULL),
             (99999, 9999999999)) AS c (done, total),
     (VALUES (timestamptz '0001-01-01'), ('200000-01-01'), (now() - interval '5 minutes'), (now()), (now() - interval '3 hours')) AS s (started_at);
INSERT INTO progress.runs (id, started_at) VALUES ('', now());
UPDATE progress.runs SET started_at = NULL WHERE started_at < now() AND started_at > now() - interval '1 hour';
SELECT count(*), count(*) FILTER (WHERE verdict = 'silent  ') AS stuck, count(*) FILTER (WHERE age = '     -') AS no_start,
       array_agg(DISTINCT progress.cells(sync)) AS sync, array_agg(DISTINCT progress.cells(age)) AS age,
       array_agg(DISTINCT progress.cells(progress)) AS progress, array_agg(DISTINCT progress.cells(done)) AS done,
       array_agg(DISTINCT progress.cells("left")) AS left, array_agg(DISTINCT progress.cells(sign)) AS sign,
       array_agg(DISTINCT progress.cells(verdict)) AS verdict,
       max(2 + 6 * 3 + progress.cells(concat(sync, age, progress, done, "left", sign, verdict))) AS line,
       count(*) FILTER (WHERE concat(sync, age, progress, done, "left", sign, verdict) ~ U&'[\0001-\001F\007F-\009F\202E\2066]') AS moves_the_cursor
FROM sync_guard.watch_80;
SELECT count(*), array_agg(DISTINCT progress.cells(sync)) AS sync, array_agg(DISTINCT progress.cells(key)) AS key,
       array_agg(DISTINCT progress.cells(age)) AS age, array_agg(DISTINCT progress.cells(progress)) AS progress,
       array_agg(DISTINCT progress.cells(done)) AS done, array_agg(DISTINCT progress.cells(rate)) AS rate,
       array_agg(DISTINCT progress.cells("left")) AS left, array_agg(DISTINCT progress.cells(sign)) AS sign,
       array_agg(DISTINCT progress.cells(why)) AS why,
       max(2 + 8 * 3 + progress.cells(concat(sync, key, age, progress, done, rate, "left", sign, why))) AS line,
       max(length(concat(sync, key))) AS characters,
       count(*) FILTER (WHERE concat(sync, key, why) ~ U&'[\0001-\001F\007F-\009F\202E\2066]') AS moves_the_cursor
FROM sync_guard.watch_120;
SELECT DISTINCT sync FROM sync_guard.watch_120 ORDER BY 1;
ROLLBACK;

-- A table without scope columns goes by its name.
CREATE TABLE progress.jobs (id integer PRIMARY KEY, status text, started_at timestamptz);
INSERT INTO progress.jobs VALUES (1, 'running', progress.ago('5:00:30'));
SELECT sync_guard.guard_table('progress.jobs', scope_columns => '{}', failed_status => 'failed', max_silence => '1 day');
SELECT * FROM sync_guard.watch_80 WHERE sync LIKE 'jobs%';
SELECT sync_guard.unguard_table('progress.jobs');

--
-- To whom
--
GRANT SELECT ON progress.runs TO regress_esg_progress_reader;
SET ROLE regress_esg_progress_stranger;
SELECT (SELECT count(*) FROM sync_guard.watch_80) AS w80, (SELECT count(*) FROM sync_guard.watch_120) AS w120;
SELECT has_table_privilege('sync_guard.scope_rhythms', 'SELECT') AS reads_rhythms;
SET ROLE regress_esg_progress_reader;
SELECT (SELECT count(*) FROM sync_guard.watch_80) AS w80, (SELECT count(*) FROM sync_guard.watch_120) AS w120,
       (SELECT count(*) FROM sync_guard.live_runs()) AS live_runs;
RESET ROLE;
ALTER TABLE progress.runs ENABLE ROW LEVEL SECURITY;
CREATE POLICY offers ON progress.runs FOR SELECT TO regress_esg_progress_reader USING (sync_type = 'offers');
SET ROLE regress_esg_progress_reader;
SELECT sync, verdict FROM sync_guard.watch_80;
RESET ROLE;

SELECT sync_guard.unguard_table('progress.runs');
SELECT count(*) FROM sync_guard.scope_rhythms;
DROP SCHEMA progress CASCADE;
DROP ROLE regress_esg_progress_reader, regress_esg_progress_stranger;
