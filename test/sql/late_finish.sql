-- A worker comes back after his run was closed, and updates it by its key alone: what the row, the journal and the client
-- see, by each policy; and how a wrong reaping is taken back.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA late_finish;
SET search_path = late_finish;
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;
CREATE TABLE runs (
    id integer PRIMARY KEY,
    sync_type text NOT NULL DEFAULT 'products',
    status text NOT NULL DEFAULT 'running',
    started_at timestamp NOT NULL DEFAULT ago('2 hours'),
    completed_at timestamp,
    duration_seconds double precision,
    errors jsonb,
    processed_items integer NOT NULL DEFAULT 0,
    updated_at timestamp);
CREATE INDEX ON runs (status);
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}', summary_columns => '{id,status}');

-- The row as people see it.
CREATE VIEW shown AS
    SELECT id, status, to_char(completed_at, 'YYYY-MM-DD') IN (to_char(ago('0'), 'YYYY-MM-DD'), to_char(ago('1 minute'), 'YYYY-MM-DD')) AS ended_today,
           round(duration_seconds / 60) AS minutes,
           (SELECT array_agg(CASE WHEN e LIKE 'Sync interrupted%' THEN 'the guard' ELSE e END) FROM jsonb_array_elements_text(errors) AS e) AS errors,
           processed_items AS done
    FROM runs ORDER BY id;
CREATE VIEW journal AS
    SELECT run_key AS run, event, (SELECT event || ' ' || run_key FROM sync_guard.journal AS m WHERE m.id = j.reaping) AS marks, scope ->> 'sync_type' AS sync_type,
           reason, run ->> 'status' AS was, wanted ->> 'status' AS wanted, wanted ->> 'completed_at' = '2025-10-01T10:00:00' AS his_end, wanted -> 'errors' AS wanted_errors,
           wanted ->> 'processed_items' AS wanted_done, false_positive AS mistake, path, role = current_user AS me
    FROM sync_guard.journal AS j WHERE relation = 'runs'::regclass AND event <> 'reaped' ORDER BY id;
-- Ten runs reaped, of which each policy then gets the same ten writes.
CREATE FUNCTION reap_ten() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM runs;
    PERFORM sync_guard.purge_journal('0');
    INSERT INTO runs (id, errors) SELECT n, '["before"]' FROM generate_series(1, 10) AS n;
    UPDATE runs SET status = 'failed', completed_at = ago('1 minute'), duration_seconds = 7140, errors = '["a person"]' WHERE id IN (8, 9);
    UPDATE runs SET status = 'completed', completed_at = ago('1 minute'), duration_seconds = 7140 WHERE id = 10;
    RETURN sync_guard.reap_stale_syncs(relation => 'runs');
END $$;

\set VERBOSITY terse
--
-- keep: the statement succeeds, the outcome stays, everything is in the journal.
--
SELECT reap_ten();
-- A success, as an ORM writes it: all columns, by key.
UPDATE runs SET status = 'completed', completed_at = '2025-10-01 10:00', duration_seconds = 60, errors = NULL, processed_items = 77 WHERE id = 1;
\echo :ROW_COUNT row
-- A failure, the commonest: the same status, another end, other errors.
UPDATE runs SET status = 'failed', completed_at = '2025-10-01 10:00', duration_seconds = 60, errors = '["worker: timeout"]', processed_items = 78 WHERE id = 2;
\echo :ROW_COUNT row
-- The errors alone, the end alone, the duration alone; nothing of the outcome.
UPDATE runs SET errors = errors || '["worker: timeout"]' WHERE id = 3;
UPDATE runs SET completed_at = '2025-10-01 10:00' WHERE id = 3;
UPDATE runs SET duration_seconds = 60 WHERE id = 3;
UPDATE runs SET status = 'failed', processed_items = 79, updated_at = ago('0') WHERE id = 4;
-- Another end that is no success; one that is none of the usual words and so counts as one.
UPDATE runs SET status = 'cancelled', processed_items = 80 WHERE id = 5;
UPDATE runs SET status = 'partial', processed_items = 81 WHERE id = 6;
-- Through RETURNING, an upsert.
INSERT INTO runs (id, status, processed_items) VALUES (7, 'completed', 82)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, processed_items = excluded.processed_items RETURNING id, status, processed_items;
-- Closed by a person, or ended well: the first end stays, and it is no mistake of the guard's.
UPDATE runs SET status = 'completed', processed_items = 83 WHERE id = 8 RETURNING id, status, processed_items;
-- (What a person wrote, the same status may correct.)
UPDATE runs SET status = 'failed', errors = '["worker: timeout"]', processed_items = 84 WHERE id = 9;
UPDATE runs SET status = 'failed', processed_items = 85 WHERE id = 10;
SELECT * FROM shown;
SELECT run, event, marks, sync_type, reason, was, mistake, path, me FROM journal;
SELECT run, wanted, his_end, wanted_errors, wanted_done FROM journal;
-- Several at once: as many rows as the writer meant.
UPDATE runs SET status = 'completed' WHERE id IN (1, 2, 3);
\echo :ROW_COUNT rows
-- In full, with what to do.
\set VERBOSITY default
UPDATE runs SET status = 'completed' WHERE id = 1;
UPDATE runs SET status = 'failed', errors = '[]' WHERE id = 1;
UPDATE runs SET status = 'completed' WHERE id = 8;
\set VERBOSITY terse
-- What people are shown: one reaping each, what came of it, the guard's mistakes.
SELECT run_key, outcome, false_positive, wanted ->> 'processed_items' AS wanted_done
FROM sync_guard.reaped_syncs WHERE relation_name = 'late_finish.runs' ORDER BY run_key;
SELECT run_key, reason, reaping IS NOT NULL AS of_a_reaping FROM sync_guard.late_finishes WHERE relation_name = 'late_finish.runs' AND run_key IN ('8', '10');

--
-- accept: the worker's word wins.
--
SELECT sync_guard.guard_table('runs', late_finish => 'accept');
SELECT reap_ten();
UPDATE runs SET status = 'completed', completed_at = '2025-10-01 10:00', duration_seconds = 60, errors = NULL, processed_items = 77 WHERE id = 1;
\echo :ROW_COUNT row
UPDATE runs SET status = 'failed', completed_at = '2025-10-01 10:00', duration_seconds = 60, errors = '["worker: timeout"]', processed_items = 78 WHERE id = 2;
UPDATE runs SET errors = errors || '["worker: timeout"]' WHERE id = 3;
UPDATE runs SET status = 'failed', processed_items = 79, updated_at = ago('0') WHERE id = 4;
UPDATE runs SET status = 'cancelled', processed_items = 80 WHERE id = 5;
UPDATE runs SET status = 'partial', processed_items = 81 WHERE id = 6;
UPDATE runs SET status = 'completed', processed_items = 83 WHERE id = 8;
UPDATE runs SET status = 'failed', errors = '["worker: timeout"]', processed_items = 84 WHERE id = 9;
UPDATE runs SET status = 'failed', processed_items = 85 WHERE id = 10;
SELECT * FROM shown;
SELECT run, event, marks, was, wanted, mistake FROM journal;
-- Taken at his word once, he may go on.
UPDATE runs SET status = 'failed', errors = '["worker: and another"]' WHERE id = 2;
SELECT run, event FROM journal WHERE run = '2';

--
-- reject: the statement fails.
--
SELECT sync_guard.guard_table('runs', late_finish => 'reject');
SELECT reap_ten();
\set VERBOSITY sqlstate
UPDATE runs SET status = 'completed', processed_items = 77 WHERE id = 1;
UPDATE runs SET status = 'failed', errors = '["worker: timeout"]', processed_items = 78 WHERE id = 2;
UPDATE runs SET status = 'failed', processed_items = 79, updated_at = ago('0') WHERE id = 4;
UPDATE runs SET status = 'cancelled', processed_items = 80 WHERE id = 5;
UPDATE runs SET status = 'completed', processed_items = 83 WHERE id = 8;
UPDATE runs SET status = 'failed', errors = '["worker: timeout"]', processed_items = 84 WHERE id = 9;
UPDATE runs SET status = 'failed', processed_items = 85 WHERE id = 10;
SELECT * FROM shown;
SELECT count(*) FROM journal;
\set VERBOSITY default
UPDATE runs SET status = 'completed' WHERE id = 1;
UPDATE runs SET status = 'completed' WHERE id = 8;
\set VERBOSITY terse

--
-- For one transaction, or a session, whatever the table says.
--
BEGIN;
SET LOCAL emag_sync_guard.late_finish = 'accept';
UPDATE runs SET status = 'completed', processed_items = 77 WHERE id = 1;
COMMIT;
SHOW emag_sync_guard.late_finish;
UPDATE runs SET status = 'completed', processed_items = 78 WHERE id = 2;
SET emag_sync_guard.late_finish = 'keep';
UPDATE runs SET status = 'completed', processed_items = 78 WHERE id = 2;
RESET emag_sync_guard.late_finish;
SET emag_sync_guard.late_finish = 'whatever';
SELECT * FROM shown WHERE id <= 2;
SELECT run, event, mistake FROM journal;

-- A rule that allows the pair comes before the policy; where the guard had closed the run, it was overruled.
SELECT sync_guard.allow_transition('runs', 'failed', 'completed');
UPDATE runs SET status = 'completed', processed_items = 5, errors = '[]' WHERE id IN (3, 8);
SELECT * FROM shown WHERE id IN (3, 8);
SELECT run, event, mistake FROM journal WHERE run IN ('3', '8');
SELECT sync_guard.allow_transition('runs', 'failed', 'completed', NULL);
SELECT sync_guard.guard_table('runs', late_finish => 'keep');

-- What a transaction takes back was not.
BEGIN;
UPDATE runs SET status = 'completed' WHERE id = 4;
ROLLBACK;
BEGIN;
SAVEPOINT s;
UPDATE runs SET status = 'completed' WHERE id = 4;
ROLLBACK TO s;
COMMIT;
SELECT count(*) FROM journal WHERE run = '4';

--
-- overturn_reap: the guard was wrong.
--
SELECT reap_ten();
SELECT sync_guard.overturn_reap('runs', '1', 'completed');
SELECT sync_guard.overturn_reap('runs', 2, 'partial');
SELECT sync_guard.overturn_reap(NULL, 3::bigint, 'cancelled');
SELECT * FROM shown WHERE id <= 3;
SELECT run, event, marks, reason, mistake, me FROM journal;
-- From then on the run is its writer's again.
UPDATE runs SET errors = '["note"]' WHERE id = 1;
-- Live again: without an end. It is judged by its start, as before.
SELECT sync_guard.overturn_reap('runs', 4, 'running');
SELECT * FROM shown WHERE id IN (1, 4);
SELECT run_key, verdict FROM sync_guard.stale_syncs(relation => 'runs');
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT sync_guard.overturn_reap('runs', 4, 'completed');
SELECT outcome, false_positive FROM sync_guard.reaped_syncs WHERE relation_name = 'late_finish.runs' AND run_key = '4' ORDER BY reaping;
-- What cannot be.
\set VERBOSITY default
SELECT sync_guard.overturn_reap('runs', 1, 'completed');
SELECT sync_guard.overturn_reap('runs', 8, 'completed');
SELECT sync_guard.overturn_reap('runs', 5, 'failed');
SELECT sync_guard.overturn_reap('runs', 5, NULL);
SELECT sync_guard.overturn_reap('runs', NULL::text, 'completed');
SELECT sync_guard.overturn_reap('runs', 4711, 'completed');
SELECT sync_guard.overturn_reap('runs', 'no number', 'completed');
SELECT sync_guard.overturn_reap('runs', '99999999999999999999', 'completed');
SELECT sync_guard.overturn_reap('runs', '8a7f0c6e-0000-4000-8000-000000000001'::uuid, 'completed');
\set VERBOSITY terse
ALTER TABLE runs ADD CONSTRAINT known CHECK (status IN ('running', 'completed', 'failed', 'partial', 'cancelled'));
SELECT sync_guard.overturn_reap('runs', 5, 'done');
SELECT status FROM runs WHERE id = 5;
BEGIN READ ONLY;
SELECT sync_guard.overturn_reap('runs', 5, 'completed');
ROLLBACK;
-- Not into a scope where another run is.
SELECT sync_guard.guard_table('runs', exclusive => true);
INSERT INTO runs (id, started_at) VALUES (20, ago('0'));
\set VERBOSITY sqlstate
SELECT sync_guard.overturn_reap('runs', 5, 'running');
\set VERBOSITY terse
SELECT status FROM runs WHERE id = 5;
SELECT sync_guard.guard_table('runs', exclusive => false);

--
-- Whose writer left end and duration as the reaping had set them ended when he came; what he gave is his.
--
ALTER TABLE runs DROP CONSTRAINT known;
SELECT sync_guard.guard_table('runs', late_finish => 'accept');
CREATE TABLE reaped (id integer, at timestamp, seconds double precision);
CREATE FUNCTION reap_ended_before() RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM reap_ten();
    -- As if an hour had gone by since; the reaping is the guard's.
    SET LOCAL session_replication_role = 'replica';
    UPDATE runs SET started_at = started_at - interval '1 hour', completed_at = completed_at - interval '1 hour';
    DELETE FROM reaped;
    INSERT INTO reaped SELECT id, completed_at, duration_seconds FROM runs WHERE id < 8;
    RETURN (SELECT count(*) FROM reaped);
END $$;
CREATE VIEW times AS
    SELECT id, status,
           CASE WHEN completed_at = reaped.at THEN 'the reaping' WHEN completed_at > ago('1 minute') THEN 'the late finish' ELSE to_char(completed_at, 'YYYY-MM-DD HH24:MI') END AS ended_with,
           CASE WHEN duration_seconds = reaped.seconds THEN 'of the reaping' WHEN duration_seconds IS NULL THEN 'none' WHEN abs(duration_seconds - extract(epoch FROM completed_at - started_at)) < 1e-5 THEN 'fits' ELSE duration_seconds::text END AS duration
    FROM runs JOIN reaped USING (id) ORDER BY id;
SELECT reap_ended_before();
UPDATE runs SET status = 'completed' WHERE id = 1;
UPDATE runs SET status = 'completed', completed_at = NULL, duration_seconds = NULL WHERE id = 2;
UPDATE runs SET status = 'completed', completed_at = '2025-10-01 10:00' WHERE id = 3;
UPDATE runs SET status = 'completed', duration_seconds = 60 WHERE id = 4;
UPDATE runs SET status = 'completed', completed_at = '2025-10-01 10:00', duration_seconds = 60 WHERE id = 5;
UPDATE runs SET status = 'failed', errors = '["worker: timeout"]' WHERE id = 6;
-- What is no end is given none.
UPDATE runs SET status = 'paused' WHERE id = 7;
SELECT * FROM times;
SELECT run_key, event, false_positive, at AT TIME ZONE 'UTC' = completed_at AS at_this_time FROM sync_guard.journal AS j JOIN runs ON runs.id = run_key::integer
WHERE relation = 'runs'::regclass AND run_key IN ('1', '6') AND event <> 'reaped' ORDER BY j.id;
-- The same by the setting, and by overturn_reap after a late finish that was kept: the time is the journal's.
SELECT sync_guard.guard_table('runs', late_finish => 'keep');
SELECT reap_ended_before();
BEGIN;
SET LOCAL emag_sync_guard.late_finish = 'accept';
UPDATE runs SET status = 'completed' WHERE id = 1;
COMMIT;
UPDATE runs SET status = 'completed' WHERE id = 2;
UPDATE runs SET status = 'completed', completed_at = '2025-10-01 10:00' WHERE id = 3;
UPDATE runs SET status = 'completed', duration_seconds = 60 WHERE id = 4;
UPDATE runs SET status = 'completed', completed_at = '2025-10-01 10:00', duration_seconds = 60 WHERE id = 5;
UPDATE runs SET status = 'completed' WHERE id = 6;
SELECT * FROM times;
SELECT sync_guard.overturn_reap('runs', id, 'completed') FROM generate_series(2, 5) AS id;
-- Not the status that he came with, or nobody came: the end is the one that is known.
SELECT sync_guard.overturn_reap('runs', id, 'partial') FROM generate_series(6, 7) AS id;
SELECT * FROM times;
SELECT run_key, event, at AT TIME ZONE 'UTC' = completed_at AS at_this_time FROM sync_guard.journal AS j JOIN runs ON runs.id = run_key::integer
WHERE relation = 'runs'::regclass AND run_key = '2' AND event <> 'reaped' ORDER BY j.id;
-- What the table does not take: the duration is none then, rather than that of another end; the end is that of the reaping.
SELECT reap_ended_before();
ALTER TABLE runs ADD CONSTRAINT short CHECK (id <> 1 OR duration_seconds < 7300) NOT VALID, ADD CONSTRAINT early CHECK (id <> 2 OR completed_at < '2025-10-01' OR completed_at < ago('30 minutes')) NOT VALID;
SET emag_sync_guard.late_finish = 'accept';
UPDATE runs SET status = 'completed' WHERE id IN (1, 2);
RESET emag_sync_guard.late_finish;
SELECT * FROM times WHERE id <= 2;
ALTER TABLE runs DROP CONSTRAINT short, DROP CONSTRAINT early;
-- A column that is too narrow for the duration then has none.
CREATE TABLE narrow (id integer PRIMARY KEY, status text NOT NULL, started_at timestamp, completed_at timestamp, duration_s smallint);
SELECT sync_guard.guard_table('narrow', live_statuses => '{running}', failed_status => 'failed', late_finish => 'accept');
INSERT INTO narrow VALUES (1, 'running', ago('32000 seconds'));
SELECT sync_guard.reap_stale_syncs(relation => 'narrow');
SET session_replication_role = 'replica';
UPDATE narrow SET started_at = started_at - interval '1 hour';
RESET session_replication_role;
UPDATE narrow SET status = 'completed';
SELECT status, completed_at > ago('1 minute') AS ended_now, duration_s FROM narrow;
SELECT sync_guard.unguard_table('narrow');

-- The errors are what they were before the reaping, whatever they were.
CREATE TABLE kinds (id uuid PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamp NOT NULL DEFAULT ago('2 hours'), jsonb_errors jsonb, json_errors json, text_error text, strict_errors jsonb NOT NULL DEFAULT 'null');
INSERT INTO kinds (id, jsonb_errors, json_errors, text_error)
SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, e::jsonb, e::json, e
FROM unnest(ARRAY[NULL, '[]', '["a"]', '[{"error": "a"}]', '"a"', '7', 'null', '{"error": "a"}']) WITH ORDINALITY AS v (e, n);
CREATE TABLE former AS SELECT * FROM kinds;
CREATE FUNCTION as_before(column_name name) RETURNS TABLE (reaped bigint, changed bigint, as_before bigint) LANGUAGE plpgsql AS $$
BEGIN
    TRUNCATE kinds;
    INSERT INTO kinds SELECT * FROM former;
    PERFORM sync_guard.guard_table('kinds', live_statuses => '{running}', failed_status => 'failed', error_column => column_name);
    reaped := sync_guard.reap_stale_syncs(relation => 'kinds');
    EXECUTE format('SELECT count(*) FROM kinds JOIN former USING (id) WHERE kinds.%1$I::text IS DISTINCT FROM former.%1$I::text', column_name) INTO changed;
    PERFORM sync_guard.overturn_reap('kinds', id, 'completed') FROM kinds;
    EXECUTE format('SELECT count(*) FROM kinds JOIN former USING (id) WHERE kinds.status = ''completed'' AND kinds.%1$I::text IS NOT DISTINCT FROM former.%1$I::text', column_name) INTO as_before;
    RETURN NEXT;
END $$;
SELECT c, b.* FROM unnest('{json_errors,text_error,strict_errors,jsonb_errors}'::name[]) AS c, as_before(c) AS b;
-- (A JSON null is NULL afterwards, where the column may be that.)
SELECT count(*) FROM kinds JOIN former USING (id) WHERE former.jsonb_errors = 'null' AND kinds.jsonb_errors IS NULL;

-- Where the table takes the writer's other columns with his outcome alone, the row stays as it is; the journal has all of it.
CREATE TABLE mixed (
    id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL DEFAULT now() - interval '2 hours', ended_at timestamptz, errors jsonb, note text, result jsonb,
    CHECK ((result IS NOT NULL) = (status = 'completed')));
SELECT sync_guard.guard_table('mixed', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO mixed (id) VALUES (1), (2);
SELECT sync_guard.reap_stale_syncs(relation => 'mixed');
UPDATE mixed SET status = 'completed', note = 'late', result = '{"rows": 5}' WHERE id = 1;
UPDATE mixed SET status = 'cancelled', note = 'late' WHERE id = 2;
SELECT m.id, m.status, m.note, m.result, j.wanted ->> 'status' AS wanted, j.wanted -> 'result' AS wanted_result, j.false_positive FROM mixed AS m JOIN sync_guard.journal AS j ON j.relation = 'mixed'::regclass AND j.run_key = m.id::text AND j.event = 'late_finish' ORDER BY m.id;
SELECT sync_guard.overturn_reap('mixed', 2, 'cancelled');
BEGIN;
SET LOCAL emag_sync_guard.late_finish = 'accept';
UPDATE mixed SET status = 'completed', result = '{"rows": 5}' WHERE id = 1;
COMMIT;
SELECT id, status, result FROM mixed ORDER BY id;

-- Lines that were purged are no longer known: what is then written to a failed run is its writer's affair.
SELECT reap_ten();
SELECT sync_guard.purge_journal('0') > 0 AS purged;
UPDATE runs SET errors = '["worker: timeout"]' WHERE id = 1;
UPDATE runs SET status = 'completed' WHERE id = 2;
SELECT * FROM shown WHERE id <= 2;
SELECT run, event, marks, mistake FROM journal;

DROP SCHEMA late_finish CASCADE;
