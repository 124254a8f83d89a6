-- What a writer leaves open on the way to an end: the end and the duration, in every type; what he writes himself stays.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA filling;
SET search_path = filling;
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';

CREATE DOMAIN short_seconds AS numeric CHECK (value < 3600);
CREATE DOMAIN any_seconds AS numeric(6,2);
CREATE TABLE runs (
    id integer PRIMARY KEY,
    status text NOT NULL DEFAULT 'running',
    started_at timestamp,
    completed_at timestamp,
    a_float double precision,
    a_real real,
    a_numeric numeric,
    a_numeric_8_1 numeric(8,1),
    a_rounded numeric(3,-2),
    an_integer_ms integer,
    some_seconds integer,
    a_bigint bigint,
    a_smallint_s smallint,
    a_float_ms double precision,
    an_interval interval,
    an_interval_0 interval(0),
    a_domain any_seconds,
    a_short_domain short_seconds,
    errors jsonb);
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', duration_column => 'a_float');

-- A run that took this long, finished by a writer who tells its end and leaves the duration open.
CREATE FUNCTION took(column_name name, start timestamp, took interval) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    duration text;
BEGIN
    DELETE FROM runs;
    INSERT INTO runs (id, started_at) VALUES (1, start);
    EXECUTE format('UPDATE runs SET status = ''completed'', completed_at = $1 RETURNING %I::text', column_name)
        INTO duration USING start + took;
    RETURN coalesce(duration, '-');
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION durations(column_name name, OUT seconds text, OUT days text, OUT month text, OUT years text, OUT backwards text, OUT infinite text)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sync_guard.guard_table('runs', duration_column => column_name);
    seconds := took(column_name, '2025-10-01 10:00', '90.5678 seconds');
    days := took(column_name, '2025-10-01 10:00', '4 days 1 second');
    month := took(column_name, '2025-10-01 10:00', '30 days');
    years := took(column_name, '0001-01-01', '2000 years');
    backwards := took(column_name, '2025-10-01 10:00', '-1 second');
    infinite := took(column_name, '-infinity', '1 second');
END $$;
SELECT a.attname, format_type(a.atttypid, a.atttypmod) AS type, d.*
FROM pg_attribute AS a, durations(a.attname) AS d
WHERE a.attrelid = 'runs'::regclass AND a.attnum > 4 AND a.attname <> 'a_short_domain' AND a.attname <> 'errors'
ORDER BY a.attnum;

-- The proof at adoption refuses a domain that has no room for a run of the limit; within the limit it is filled, beyond it
-- the finish goes through without.
SELECT sync_guard.guard_table('runs', duration_column => 'a_short_domain', max_silence => '30 minutes');
SELECT took('a_short_domain', '2025-10-01 10:00', '59 minutes') AS fits, took('a_short_domain', '2025-10-01 10:00', '1 hour') AS does_not;

-- The end is now where the writer leaves it open, and the duration goes with it.
SELECT sync_guard.guard_table('runs', duration_column => 'a_float', max_silence => '1 hour');
CREATE FUNCTION utc_now() RETURNS timestamp LANGUAGE sql VOLATILE RETURN clock_timestamp() AT TIME ZONE 'UTC';
DELETE FROM runs;
INSERT INTO runs (id, started_at) SELECT n, utc_now() - interval '10 minutes' FROM generate_series(1, 8) AS n;
UPDATE runs SET status = 'completed' WHERE id = 1;
UPDATE runs SET status = 'failed' WHERE id = 2;
-- His own end, his own duration, both, none that is known.
UPDATE runs SET status = 'completed', completed_at = '2025-10-01 10:00' WHERE id = 3;
UPDATE runs SET status = 'completed', a_float = 420 WHERE id = 4;
UPDATE runs SET status = 'completed', completed_at = '2025-10-01 10:00', a_float = -420 WHERE id = 5;
UPDATE runs SET status = 'completed', started_at = NULL WHERE id = 6;
UPDATE runs SET status = 'completed', completed_at = 'infinity' WHERE id = 7;
-- His own start in the same statement.
UPDATE runs SET status = 'completed', started_at = utc_now() - interval '20 minutes' WHERE id = 8;
SELECT id, status, CASE WHEN completed_at BETWEEN utc_now() - interval '1 minute' AND utc_now() THEN 'now' ELSE completed_at::text END AS ended,
       round(a_float / 60) AS minutes,
       CASE WHEN isfinite(completed_at) THEN a_float - extract(epoch FROM completed_at - started_at) BETWEEN -1e-6 AND 1e-6 END AS fits
FROM runs ORDER BY id;

-- Two times that are further apart than can be counted have no duration, whichever comes first.
INSERT INTO runs (id, started_at) VALUES (10, '294276-12-31'), (11, '4713-01-01 BC'), (12, '2000-01-01');
UPDATE runs SET status = 'completed', completed_at = '4713-01-01 BC' WHERE id = 10;
UPDATE runs SET status = 'completed', completed_at = '294276-12-31' WHERE id IN (11, 12);
SELECT id, status, a_float > 0 AS positive FROM runs WHERE id BETWEEN 10 AND 12 ORDER BY id;
-- (The view is over other tests' tables too, which change meanwhile.)
SET client_min_messages = error;
SELECT run_key, duration IS NULL AS unknown, duration > '0' AS positive FROM sync_guard.recent_syncs
WHERE relation = 'runs'::regclass AND run_key IN ('10', '11', '12') ORDER BY run_key;
SET client_min_messages = warning;

-- A transaction that has been open for long ends its run when it ends it, not when it began.
BEGIN;
INSERT INTO runs (id, started_at) VALUES (20, utc_now());
UPDATE runs SET status = 'completed' WHERE id = 20;
SELECT completed_at > now() AT TIME ZONE 'UTC' AS later_than_now FROM runs WHERE id = 20;
COMMIT;

-- Times have the column's own precision.
CREATE TABLE coarse (id integer PRIMARY KEY, status text NOT NULL, started_at timestamp(0), completed_at timestamptz(3), duration interval);
SELECT sync_guard.guard_table('coarse', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO coarse (id, status) SELECT n, 'running' FROM generate_series(1, 20) AS n;
UPDATE coarse SET status = 'completed';
SELECT count(*), bool_and(started_at = date_trunc('second', started_at)) AS whole_seconds,
       bool_and(completed_at = date_trunc('milliseconds', completed_at)) AS milliseconds,
       bool_and(duration = greatest(completed_at - started_at AT TIME ZONE 'UTC', '0')) AS durations_fit
FROM coarse;

-- Columns that nobody may write are left alone: generated ones, an identity, the partition key.
CREATE TABLE generated (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    status text NOT NULL,
    started_at timestamp NOT NULL,
    completed_at timestamp,
    duration_seconds double precision GENERATED ALWAYS AS (extract(epoch FROM completed_at - started_at)) STORED,
    is_live boolean GENERATED ALWAYS AS (status = 'running') STORED);
SELECT sync_guard.guard_table('generated', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO generated (status, started_at) VALUES ('running', utc_now() - interval '10 minutes'), ('running', utc_now() - interval '2 hours');
UPDATE generated SET status = 'completed' WHERE id = 1;
SELECT sync_guard.reap_stale_syncs(relation => 'generated');
UPDATE generated SET status = 'completed', completed_at = NULL WHERE id = 2;
SELECT id, status, round((duration_seconds / 60)::numeric) AS minutes, is_live FROM generated ORDER BY id;

CREATE TABLE by_end (id integer NOT NULL, status text NOT NULL, started_at timestamp, completed_at timestamp, duration_seconds real)
    PARTITION BY LIST (completed_at);
CREATE UNIQUE INDEX ON by_end (id, completed_at);
CREATE TABLE by_end_open PARTITION OF by_end FOR VALUES IN (NULL);
CREATE TABLE by_end_rest PARTITION OF by_end DEFAULT;
SELECT sync_guard.guard_table('by_end', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO by_end VALUES (1, 'running', NULL), (2, 'running', utc_now() - interval '2 hours'), (3, 'running', utc_now() - interval '5 minutes');
UPDATE by_end SET status = 'completed' WHERE id = 1;
UPDATE by_end SET status = 'completed', completed_at = started_at + interval '1 minute' WHERE id = 3;
SELECT sync_guard.reap_stale_syncs(relation => 'by_end');
SELECT tableoid::regclass, id, status, started_at IS NULL AS no_start, completed_at IS NULL AS no_end, round((duration_seconds / 60)::numeric) AS minutes FROM by_end ORDER BY id;

-- A domain that may not be NULL, a start that may not be refused: a retry leaves what it cannot write.
CREATE DOMAIN some_time AS timestamp NOT NULL DEFAULT '2025-10-01 10:05';
CREATE DOMAIN long_ago AS timestamp CHECK (value < '2020-01-01');
CREATE TABLE stubborn (id integer PRIMARY KEY, status text NOT NULL, started_at long_ago, completed_at some_time);
SELECT sync_guard.guard_table('stubborn', live_statuses => '{running}', failed_status => 'failed');
SELECT sync_guard.allow_transition('stubborn', 'failed', 'running');
INSERT INTO stubborn VALUES (1, 'failed', '2019-10-01 10:00'), (2, 'running', NULL);
UPDATE stubborn SET status = 'running' WHERE id = 1;
SELECT * FROM stubborn ORDER BY id;

DROP SCHEMA filling CASCADE;
