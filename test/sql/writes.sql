-- Every way to write a row: COPY, upserts, MERGE, views, foreign keys, savepoints, prepared transactions; beside triggers of
-- the application; with the guard's triggers off; and when the settings do not fit the table any more.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA writes;
SET search_path = writes;
SET datestyle = 'ISO, YMD';
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;
CREATE TABLE runs (
    id integer PRIMARY KEY,
    sync_type text NOT NULL DEFAULT 'products',
    status text NOT NULL DEFAULT 'running',
    started_at timestamp,
    completed_at timestamp,
    duration_seconds double precision,
    errors jsonb,
    done integer NOT NULL DEFAULT 0,
    live_name text GENERATED ALWAYS AS (CASE WHEN status = 'running' THEN sync_type END) STORED);
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}');
CREATE VIEW shown AS SELECT id, status, started_at > ago('1 minute') AS started_now, completed_at > ago('1 minute') AS ended_now, duration_seconds IS NOT NULL AS lasted, jsonb_array_length(errors) AS errors, done, live_name
    FROM runs ORDER BY id;
-- A fresh start: run 1 alive, 2 reaped, 3 completed, 4 failed by its writer.
CREATE FUNCTION fresh() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE runs CASCADE;
    INSERT INTO runs (id, started_at) VALUES (1, ago('5 minutes')), (2, ago('2 hours')), (3, ago('5 minutes')), (4, ago('5 minutes'));
    UPDATE runs SET status = CASE id WHEN 3 THEN 'completed' ELSE 'failed' END WHERE id IN (3, 4);
    IF sync_guard.reap_stale_syncs(relation => 'writes.runs') <> 1 THEN RAISE 'not one was reaped'; END IF;
END $$;
CREATE FUNCTION lines() RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(event || ' ' || run_key, ', ' ORDER BY id) FROM sync_guard.journal WHERE relation = 'writes.runs'::regclass AND event <> 'reaped' AND at >= now() $$;
\set VERBOSITY terse

-- COPY: a live row gets its start, one that has ended is taken as it is, one without a status is refused.
SELECT fresh();
COPY runs (id, status, started_at, done) FROM stdin;
10	running	\N	1
11	running	2019-10-01 10:00	2
12	completed	\N	3
13	failed	2019-10-01 10:00	4
\.
SELECT * FROM shown WHERE id >= 10;
COPY runs (id, status) FROM stdin;
14	running
15	\N
\.
SELECT count(*) FROM runs WHERE id >= 14;

-- Upserts. What is not inserted starts nothing; what it becomes is judged as any update.
SELECT fresh();
BEGIN;
INSERT INTO runs (id, started_at) VALUES (1, '2019-10-01 10:00') ON CONFLICT DO NOTHING;
\echo :ROW_COUNT rows
INSERT INTO runs (id, status) VALUES (1, 'running'), (20, 'running') ON CONFLICT (id) DO UPDATE SET done = runs.done + 1;
\echo :ROW_COUNT rows
INSERT INTO runs (id, status, done) VALUES (1, 'completed', 5), (2, 'completed', 5), (4, 'failed', 5) ON CONFLICT (id) DO UPDATE SET status = excluded.status, done = excluded.done RETURNING id, status, done;
INSERT INTO runs (id, status) VALUES (3, 'running') ON CONFLICT (id) DO UPDATE SET done = 6 WHERE runs.status = 'running';
\echo :ROW_COUNT rows
SELECT lines();
COMMIT;
INSERT INTO runs (id, status) VALUES (3, 'running') ON CONFLICT (id) DO UPDATE SET status = excluded.status;
SELECT * FROM shown;

-- MERGE, with each of its actions.
SELECT fresh();
BEGIN;
MERGE INTO runs AS r USING (VALUES (1, 'completed'), (2, 'completed'), (3, 'completed'), (4, NULL), (30, 'running'), (31, 'completed')) AS v (id, status) ON r.id = v.id
    WHEN MATCHED AND v.status IS NULL THEN DELETE
    WHEN MATCHED THEN UPDATE SET status = v.status, done = r.done + 1
    WHEN NOT MATCHED THEN INSERT (id, status) VALUES (v.id, v.status);
\echo :ROW_COUNT rows
SELECT lines();
COMMIT;
SELECT * FROM shown;

-- Through a view; in a WITH; by a cursor; FROM another table; several rows of which one is late.
SELECT fresh();
CREATE VIEW live_runs AS SELECT id, status, started_at, done FROM runs WHERE status = 'running' WITH LOCAL CHECK OPTION;
INSERT INTO live_runs (id, status) VALUES (40, 'running') RETURNING started_at > ago('1 minute') AS started_now;
UPDATE live_runs SET status = 'completed' WHERE id = 40;
BEGIN;
WITH ended AS (UPDATE runs SET status = 'completed' WHERE id IN (1, 2, 4) RETURNING id, status, completed_at IS NOT NULL AS ended) SELECT * FROM ended ORDER BY id;
SELECT lines();
DECLARE one CURSOR FOR SELECT * FROM runs WHERE id = 2 FOR UPDATE;
FETCH one \gset
UPDATE runs SET status = 'completed', errors = NULL WHERE CURRENT OF one RETURNING status, jsonb_array_length(errors) AS errors;
UPDATE runs SET status = v.status FROM (VALUES (2, 'completed'), (40, 'failed')) AS v (id, status) WHERE runs.id = v.id;
\echo :ROW_COUNT rows
COMMIT;
SELECT * FROM shown;

-- Rows that are deleted, truncated, or go with what they refer to are no affair of the guard's.
SELECT fresh();
CREATE TABLE progress (id integer PRIMARY KEY, run_id integer REFERENCES runs ON DELETE SET NULL);
INSERT INTO progress VALUES (1, 1), (2, 2);
DELETE FROM runs WHERE id IN (1, 2);
\echo :ROW_COUNT rows
SELECT * FROM progress;
TRUNCATE runs CASCADE;
SELECT count(*) FROM runs;
DROP TABLE progress;
-- The same key again is another run; what the journal has of the first does not stand in the way of its end.
SELECT fresh();
DELETE FROM runs WHERE id = 2;
INSERT INTO runs (id, started_at) VALUES (2, ago('5 minutes'));
UPDATE runs SET status = 'completed', errors = '["mine"]' WHERE id = 2;
SELECT * FROM shown WHERE id = 2;

-- What a savepoint or a transaction takes back leaves no line; what it keeps does; a prepared one when it is committed.
SELECT fresh();
BEGIN;
SAVEPOINT a;
UPDATE runs SET status = 'completed' WHERE id = 2;
ROLLBACK TO a;
INSERT INTO runs (id, status) VALUES (50, NULL);
ROLLBACK TO a;
UPDATE runs SET status = 'completed', done = 77 WHERE id = 2;
RELEASE a;
PREPARE TRANSACTION 'esg_writes';
SELECT count(*) FROM sync_guard.late_finishes WHERE relation_name = 'writes.runs' AND run_key = '2' AND at > now() - interval '1 minute' AND wanted ->> 'done' = '77';
COMMIT PREPARED 'esg_writes';
SELECT count(*) FROM sync_guard.late_finishes WHERE relation_name = 'writes.runs' AND run_key = '2' AND at > now() - interval '1 minute' AND wanted ->> 'done' = '77';
SELECT * FROM shown WHERE id = 2;

--
-- Beside triggers of the application. They fire first; the guard judges what they made of the row.
--
SELECT fresh();
CREATE FUNCTION before_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.done = 100 THEN RETURN NULL; END IF;
    IF NEW.done = 101 THEN RAISE EXCEPTION 'the application refuses'; END IF;
    IF NEW.done = 102 THEN NEW.status := 'completed'; END IF;
    IF NEW.done = 103 THEN NEW.completed_at := '2019-10-01 10:00'; NEW.errors := '["application"]'; END IF;
    IF NEW.done = 104 THEN NEW.status := OLD.status; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER before_write BEFORE INSERT OR UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION before_write();
BEGIN;
INSERT INTO runs (id, done) VALUES (60, 100);
\echo :ROW_COUNT rows
INSERT INTO runs (id, done) VALUES (61, 102);
UPDATE runs SET status = 'completed', done = 100 WHERE id = 2;
\echo :ROW_COUNT rows
SELECT lines();
UPDATE runs SET done = 102 WHERE id = 2;
UPDATE runs SET status = 'failed', done = 103 WHERE id = 1;
UPDATE runs SET done = 103 WHERE id = 2;
UPDATE runs SET status = 'completed', done = 104 WHERE id = 4;
SELECT lines();
COMMIT;
UPDATE runs SET status = 'completed', done = 101 WHERE id = 2;
SELECT * FROM shown;
SELECT id, completed_at = '2019-10-01 10:00' AS of_the_application, errors FROM runs WHERE id = 1;
DROP TRIGGER before_write ON runs;
-- One that fires after the guard's is not seen by it: guard_health says so.
CREATE TRIGGER zzzz_last BEFORE UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION before_write();
UPDATE runs SET status = 'failed', done = 102 WHERE id = 2;
SELECT id, status FROM runs WHERE id = 2;
SELECT detail FROM sync_guard.guard_health WHERE relation = 'runs'::regclass AND problem = 'trigger_problem';
DROP TRIGGER zzzz_last ON runs;

--
-- With the guard's triggers off: the owner's ALTER TABLE, replicated rows. Nothing is judged, and the verdicts stay true.
--
SELECT fresh();
ALTER TABLE runs DISABLE TRIGGER USER;
UPDATE runs SET status = 'running', completed_at = NULL WHERE id = 3;
INSERT INTO runs (id) VALUES (70);
ALTER TABLE runs ENABLE TRIGGER USER;
SET session_replication_role = replica;
UPDATE runs SET status = 'completed' WHERE id = 2;
UPDATE runs SET status = 'running', started_at = ago('2 hours'), completed_at = NULL WHERE id = 4;
INSERT INTO runs (id, status) VALUES (71, 'completed');
RESET session_replication_role;
SELECT * FROM shown;
SELECT run_key, verdict FROM sync_guard.stale_syncs(relation => 'runs');
SELECT count(*) AS problems FROM sync_guard.guard_health WHERE relation = 'runs'::regclass AND problem = 'trigger_problem';
-- From here on it is judged again.
UPDATE runs SET status = 'running' WHERE id = 71;
\echo :SQLSTATE
UPDATE runs SET status = 'completed' WHERE id = 70;
SELECT * FROM shown WHERE id IN (70, 71);

--
-- Settings that do not fit the table any more: one WARNING per session, and the write goes through unjudged.
--
SELECT fresh();
\set VERBOSITY default
ALTER TABLE runs RENAME COLUMN completed_at TO ended_at;
UPDATE runs SET status = 'running' WHERE id = 3;
UPDATE runs SET status = 'completed' WHERE id = 2;
INSERT INTO runs (id) VALUES (80);
ANALYZE runs;
INSERT INTO runs (id) VALUES (81);
ALTER TABLE runs ADD unrelated integer;
UPDATE runs SET status = 'running' WHERE id = 4;
SELECT id, status, started_at IS NULL AS no_start FROM runs ORDER BY id;
-- Whoever asks is told; who asks for all tables is told of the others.
SELECT sync_guard.sync_is_running(relation => 'runs');
SELECT sync_guard.sync_is_running();
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT sync_guard.explain_run('runs', 2);
SELECT problem FROM sync_guard.guarded_tables WHERE relation = 'runs'::regclass;
SELECT severity, problem, detail FROM sync_guard.guard_health WHERE relation = 'runs'::regclass AND severity = 'error';
-- Put right, it is guarded again; broken again, there is a WARNING again.
SELECT sync_guard.guard_table('runs', end_column => 'ended_at');
\set VERBOSITY terse
UPDATE runs SET status = 'running' WHERE id = 2;
ALTER TABLE runs RENAME COLUMN ended_at TO completed_at;
UPDATE runs SET status = 'running' WHERE id = 2;
UPDATE runs SET status = 'completed' WHERE id = 2;
-- Each of the columns that the guard knows of, gone or of another type; a view stands in the way of none.
SELECT sync_guard.guard_table('runs', end_column => 'completed_at');
DROP VIEW shown, live_runs;
CREATE FUNCTION broken_by(change text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    problem_text text;
BEGIN
    BEGIN
        EXECUTE change;
        INSERT INTO runs (id, status) VALUES (90, 'running');
        UPDATE runs SET status = 'completed' WHERE id = 90;
        UPDATE runs SET status = 'running' WHERE id = 90;
        SELECT g.problem INTO problem_text FROM sync_guard.guarded_tables AS g WHERE relation = 'writes.runs'::regclass;
        RAISE EXCEPTION USING ERRCODE = 'P9999', MESSAGE = coalesce(problem_text, 'nothing is broken');
    EXCEPTION WHEN SQLSTATE 'P9999' THEN
        RETURN SQLERRM;
    END;
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SET client_min_messages = error;
SELECT c AS change, broken_by('ALTER TABLE writes.runs ' || c) FROM unnest(ARRAY[
    'ADD more integer', 'DROP done', 'RENAME id TO key', 'RENAME sync_type TO kind', 'RENAME started_at TO begun', 'DROP started_at', 'DROP completed_at', 'DROP duration_seconds', 'DROP errors',
    'ALTER started_at TYPE text', 'ALTER completed_at TYPE date', 'ALTER completed_at TYPE timestamptz', 'ALTER duration_seconds TYPE text', 'ALTER errors TYPE text', 'ALTER errors TYPE jsonb[] USING NULL',
    'DROP status', 'DROP status CASCADE', 'ALTER status TYPE varchar(20)', 'RENAME status TO state']) AS c;
SET client_min_messages = warning;
-- Another session has a WARNING of its own.
ALTER TABLE runs RENAME COLUMN completed_at TO ended_at;
UPDATE runs SET status = 'running' WHERE id = 3;
\connect -
UPDATE writes.runs SET status = 'completed' WHERE id = 3;
UPDATE writes.runs SET status = 'running' WHERE id = 3;
SET client_min_messages = warning;

DROP SCHEMA writes CASCADE;
