-- What the guard fills must be what the table takes: a statement that would go through without the guard goes through with it,
-- whatever CHECKs and generated columns the table has. And a run that becomes live has a start.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA filling_checks;
SET search_path = filling_checks;
CREATE FUNCTION utc_now() RETURNS timestamp LANGUAGE sql VOLATILE RETURN clock_timestamp() AT TIME ZONE 'UTC';
\set VERBOSITY terse

-- A run that waits has no start, says the table: it gets one when it begins, and an end when it ends.
CREATE TABLE task (
    id bigserial PRIMARY KEY,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'succeeded', 'failed')),
    started_at timestamptz,
    finished_at timestamptz,
    error text,
    CONSTRAINT queued_has_no_start CHECK ((status = 'queued') = (started_at IS NULL)));
SELECT sync_guard.guard_table('task', live_statuses => '{running,queued}');
INSERT INTO task DEFAULT VALUES;
INSERT INTO task (status) VALUES ('running');
SELECT id, status, started_at IS NULL AS no_start FROM task ORDER BY id;
UPDATE task SET status = 'running' WHERE id = 1;
UPDATE task SET status = 'succeeded' WHERE id = 1;
SELECT id, status, started_at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS start_is_now, finished_at >= started_at AS has_end FROM task ORDER BY id;
-- What the table refuses in any case, it refuses in its own words.
INSERT INTO task (status, started_at) VALUES ('queued', now());
INSERT INTO task (status) VALUES ('succeeded');
UPDATE task SET status = 'running', error = 'x', started_at = NULL, finished_at = 'infinity', id = 1 WHERE id = 1;
-- Many at once, by COPY, and through an upsert.
INSERT INTO task (status) SELECT CASE WHEN n % 2 = 0 THEN 'queued' ELSE 'running' END FROM generate_series(1, 1000) AS n;
COPY task (status) FROM stdin;
queued
running
\.
INSERT INTO task (id, status) VALUES (9001, 'queued') ON CONFLICT (id) DO UPDATE SET status = 'running';
INSERT INTO task (id, status) VALUES (9001, 'queued') ON CONFLICT (id) DO UPDATE SET status = 'running';
SELECT status, count(*), count(started_at) AS started FROM task GROUP BY status ORDER BY status;
UPDATE task SET status = 'running' WHERE status = 'queued';
SELECT status, count(*), count(started_at) AS started FROM task GROUP BY status ORDER BY status;

-- A duration that the table does not take is left out, the end is not. (It is the first thing to go.)
CREATE TABLE short (
    id integer PRIMARY KEY,
    status text NOT NULL,
    started_at timestamp,
    ended_at timestamp,
    duration double precision,
    CHECK (duration < 6000),
    CHECK (ended_at >= started_at));
SELECT sync_guard.guard_table('short', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO short VALUES (1, 'running', utc_now() - interval '50 minutes'), (2, 'running', utc_now() - interval '200 minutes'),
    (3, 'running', utc_now() + interval '1 hour'), (4, 'running', utc_now() - interval '200 minutes'), (5, 'running', utc_now() - interval '200 minutes');
UPDATE short SET status = 'done' WHERE id IN (1, 2, 3);
UPDATE short SET status = 'done', ended_at = started_at + interval '99 minutes' WHERE id = 4;
UPDATE short SET status = 'done', ended_at = started_at + interval '101 minutes' WHERE id = 5;
SELECT id, status, ended_at IS NOT NULL AS has_end, round(duration / 60) AS minutes FROM short ORDER BY id;
-- A new CHECK counts from then on, one that is not validated too; and one that is gone does not.
ALTER TABLE short ADD CONSTRAINT no_end CHECK (ended_at IS NULL OR id < 6) NOT VALID;
INSERT INTO short VALUES (6, 'running', utc_now() - interval '10 minutes');
UPDATE short SET status = 'done' WHERE id = 6;
SELECT id, status, ended_at, duration FROM short WHERE id = 6;
ALTER TABLE short DROP CONSTRAINT no_end;
INSERT INTO short VALUES (7, 'running', utc_now() - interval '10 minutes');
UPDATE short SET status = 'done' WHERE id = 7;
SELECT id, status, ended_at IS NOT NULL AS has_end, round(duration / 60) AS minutes FROM short WHERE id = 7;

-- A CHECK that raises an error is as one that is false; what it wrote before that is gone.
CREATE TABLE strict (id integer PRIMARY KEY, status text NOT NULL, started_at timestamp, ended_at timestamp, duration numeric);
CREATE TABLE heard (what text);
CREATE FUNCTION sober(row_is strict) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO heard VALUES (row_is.id || ' ' || row_is.status);
    IF row_is.id % 2 = 1 AND (row_is.duration IS NOT NULL OR row_is.status = 'running' AND row_is.started_at IS NOT NULL) THEN
        RAISE 'run % is not sober', row_is.id USING ERRCODE = 'XX123';
    END IF;
    IF row_is.id = 10 THEN
        RAISE 'run % is never sober', row_is.id;
    END IF;
    RETURN true;
END $$;
ALTER TABLE strict ADD CHECK (sober(strict));
SELECT sync_guard.guard_table('strict', live_statuses => '{running}', failed_status => 'failed');
TRUNCATE heard;
INSERT INTO strict (id, status) VALUES (1, 'running'), (2, 'running');
SELECT id, started_at IS NULL AS no_start FROM strict ORDER BY id;
UPDATE strict SET status = 'done', started_at = utc_now() WHERE id IN (1, 2);
SELECT id, status, started_at IS NULL AS no_start, ended_at IS NULL AS no_end, duration IS NULL AS no_duration FROM strict ORDER BY id;
SELECT what, count(*) FROM heard GROUP BY what ORDER BY what;
INSERT INTO strict (id, status) VALUES (10, 'running');
-- An error without a column of the row in it, a division, a cast.
CREATE FUNCTION never() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'never'; END $$;
CREATE TABLE raising (id integer PRIMARY KEY, status text NOT NULL, started_at timestamp, ended_at timestamp, duration integer);
SELECT sync_guard.guard_table('raising', live_statuses => '{running}', failed_status => 'failed');
ALTER TABLE raising
    ADD CHECK (CASE WHEN started_at IS NOT NULL AND id = 1 THEN never() ELSE true END),
    ADD CHECK (id <> 2 OR 1 / (CASE WHEN ended_at IS NULL THEN 1 ELSE 0 END) = 1),
    ADD CHECK (id <> 3 OR duration::smallint >= 0);
INSERT INTO raising (id, status) VALUES (1, 'running'), (2, 'running'), (4, 'running');
INSERT INTO raising (id, status, started_at) VALUES (3, 'running', utc_now() - interval '100 minutes');
UPDATE raising SET status = 'done';
SELECT id, status, started_at IS NULL AS no_start, ended_at IS NULL AS no_end, duration IS NULL AS no_duration FROM raising ORDER BY id;

-- Evaluated as the statement's role, as the server evaluates it.
CREATE ROLE regress_esg_filler;
GRANT USAGE ON SCHEMA filling_checks TO regress_esg_filler;
CREATE FUNCTION known_role(timestamp) RETURNS boolean LANGUAGE sql VOLATILE RETURN $1 IS NULL OR current_user <> 'regress_esg_filler';
CREATE TABLE by_role (id integer PRIMARY KEY, status text NOT NULL, started_at timestamp CHECK (known_role(started_at)));
GRANT SELECT, INSERT ON by_role TO regress_esg_filler;
SELECT sync_guard.guard_table('by_role', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO by_role VALUES (1, 'running');
SET ROLE regress_esg_filler;
INSERT INTO by_role VALUES (2, 'running');
RESET ROLE;
SELECT id, started_at IS NULL AS no_start FROM by_role ORDER BY id;

-- Partitions have CHECKs of their own, and other numbers for their columns.
CREATE TABLE parts (id integer NOT NULL, status text NOT NULL, started_at timestamp, ended_at timestamp, duration double precision, PRIMARY KEY (id))
    PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 (duration double precision, gone text, ended_at timestamp, status text NOT NULL, id integer NOT NULL, started_at timestamp);
ALTER TABLE parts_2 DROP COLUMN gone;
ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20);
SELECT sync_guard.guard_table('parts', live_statuses => '{running}', failed_status => 'failed');
ALTER TABLE parts_2 ADD CONSTRAINT no_times CHECK (started_at IS NULL AND duration IS NULL);
INSERT INTO parts (id, status) VALUES (1, 'running'), (2, 'running'), (11, 'running');
UPDATE parts SET status = 'done' WHERE id <> 2;
SELECT id, status, started_at IS NULL AS no_start, ended_at IS NULL AS no_end, duration IS NULL AS no_duration FROM parts ORDER BY id;
-- One that moves, and is live where it comes to.
UPDATE parts SET id = 12, started_at = NULL, status = 'queued' WHERE id = 2;
UPDATE parts SET id = 3, status = 'running' WHERE id = 12;
UPDATE parts SET id = 13, started_at = NULL WHERE id = 3;
SELECT tableoid::regclass, id, status, started_at IS NULL AS no_start, ended_at IS NULL AS no_end FROM parts ORDER BY id;

-- Generated columns are computed from what is filled: CHECKs on them, and they themselves, have their say.
CREATE TABLE made (
    id integer PRIMARY KEY,
    status text NOT NULL,
    started_at timestamp,
    ended_at timestamp,
    seconds double precision GENERATED ALWAYS AS (extract(epoch FROM ended_at - started_at)) STORED CHECK (seconds < 6000),
    few smallint GENERATED ALWAYS AS ((CASE WHEN id = 3 THEN extract(epoch FROM ended_at) ELSE 0 END)::smallint) STORED,
    is_open boolean GENERATED ALWAYS AS (CASE WHEN id <> 4 OR ended_at IS NULL THEN true END) STORED NOT NULL);
SELECT sync_guard.guard_table('made', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO made (id, status, started_at) VALUES (1, 'running', utc_now() - interval '50 minutes'), (2, 'running', utc_now() - interval '200 minutes'),
    (3, 'running', utc_now() - interval '50 minutes'), (4, 'running', utc_now() - interval '50 minutes');
UPDATE made SET status = 'done';
SELECT id, status, ended_at IS NULL AS no_end, round(seconds / 60) AS minutes, few, is_open FROM made ORDER BY id;
-- Virtual ones, where the server has them, are asked too: in a CHECK, and for NOT NULL, on a partition whose columns have other numbers.
SELECT CASE WHEN current_setting('server_version_num')::integer >= 180000 THEN 'VIRTUAL' ELSE 'STORED' END AS kind \gset
CREATE TABLE virtually (
    id integer NOT NULL,
    status text NOT NULL,
    started_at timestamp,
    ended_at timestamp,
    seconds double precision GENERATED ALWAYS AS (extract(epoch FROM ended_at - started_at)) :kind CHECK (seconds < 6000),
    is_open boolean GENERATED ALWAYS AS (CASE WHEN id % 10 <> 3 OR ended_at IS NULL THEN true END) :kind NOT NULL,
    PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE virtually_1 PARTITION OF virtually FOR VALUES FROM (0) TO (10);
CREATE TABLE virtually_2 (gone text, LIKE virtually INCLUDING ALL);
ALTER TABLE virtually_2 DROP COLUMN gone;
ALTER TABLE virtually ATTACH PARTITION virtually_2 FOR VALUES FROM (10) TO (20);
SELECT sync_guard.guard_table('virtually', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO virtually (id, status, started_at) SELECT n, 'running', utc_now() - CASE n % 10 WHEN 2 THEN interval '200 minutes' ELSE '50 minutes' END
FROM unnest('{1,2,3,11,12,13}'::integer[]) AS n;
UPDATE virtually SET status = 'done';
SELECT id, status, ended_at IS NULL AS no_end, round(seconds / 60) AS minutes, is_open FROM virtually ORDER BY id;
-- What is NULL in any case, the table refuses in its own words.
UPDATE virtually SET ended_at = started_at WHERE id = 3;
-- One that was computed from the row as it was says nothing of the row as it will be.
CREATE TABLE late_made (id integer PRIMARY KEY, status text NOT NULL, started_at timestamp, ended_at timestamp,
    is_live boolean GENERATED ALWAYS AS (status = 'running') STORED, CHECK (is_live = (ended_at IS NULL)));
SELECT sync_guard.guard_table('late_made', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO late_made (id, status) VALUES (1, 'running');
UPDATE late_made SET status = 'done' WHERE id = 1;
SELECT id, status, started_at IS NULL AS no_start, ended_at IS NULL AS no_end, is_live FROM late_made;

-- A retry: what the table does not take is left as it was.
CREATE TABLE again (id integer PRIMARY KEY, status text NOT NULL, started_at timestamp, ended_at timestamp, duration double precision,
    CHECK (id <> 1 OR started_at < '2026-01-01'), CHECK (id <> 2 OR status <> 'running' OR duration IS NOT NULL), CHECK (id <> 3 OR ended_at IS NOT NULL));
SELECT sync_guard.guard_table('again', live_statuses => '{running}', failed_status => 'failed');
SELECT sync_guard.allow_transition('again', 'failed', 'running');
INSERT INTO again SELECT n, 'failed', '2025-10-01 10:00', '2025-10-01 10:05', 300 FROM generate_series(1, 4) AS n;
UPDATE again SET status = 'running';
SELECT id, status, started_at <> '2025-10-01 10:00' AS starts_now, ended_at IS NULL AS no_end, duration IS NULL AS no_duration FROM again ORDER BY id;

-- From a status that is no live one, or from one live status to another, a run gets the start that it has not.
CREATE TABLE s2 (id integer PRIMARY KEY, status varchar(20) NOT NULL, started_at timestamptz, finished_at timestamptz);
SELECT sync_guard.guard_table('s2', live_statuses => '{running,retrying}', failed_status => 'failed', max_silence => '1 hour');
INSERT INTO s2 (id, status, started_at) VALUES (1, 'queued', NULL), (2, 'queued', NULL), (3, 'running', NULL), (4, 'queued', '2025-10-01 10:00'), (5, 'queued', NULL), (6, 'queued', NULL);
UPDATE s2 SET started_at = NULL WHERE id = 3;
UPDATE s2 SET status = 'running' WHERE id = 1 RETURNING started_at BETWEEN now() AND clock_timestamp() AS start_is_now;
UPDATE s2 SET status = 'running', started_at = '2025-10-01 11:00' WHERE id = 2;
UPDATE s2 SET status = 'retrying' WHERE id = 3 RETURNING started_at BETWEEN now() AND clock_timestamp() AS start_is_now;
UPDATE s2 SET status = 'running' WHERE id = 4;
UPDATE s2 SET status = 'paused' WHERE id = 5;
SELECT id, status, CASE WHEN started_at > '2026-01-01' THEN 'now' ELSE to_char(started_at, 'HH24:MI') END AS start FROM s2 ORDER BY id;
-- It is what the guard counts from. (The view is over other tests' tables too, which change meanwhile.)
SET client_min_messages = error;
SELECT run_key, r.started_at = s2.started_at AS from_this_start FROM sync_guard.running_syncs AS r JOIN s2 ON s2.id = r.run_key::integer
WHERE relation = 's2'::regclass AND id = 1;
SET client_min_messages = warning;
-- Observed, nothing is filled.
SELECT sync_guard.guard_table('s2', mode => 'observe');
UPDATE s2 SET status = 'running' WHERE id = 6 RETURNING started_at;

DROP OWNED BY regress_esg_filler;
DROP ROLE regress_esg_filler;
DROP SCHEMA filling_checks CASCADE;
