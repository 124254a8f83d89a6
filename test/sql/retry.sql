-- A run that has ended starts again, where that is allowed: what becomes of its times, and of the journal where the guard
-- had closed it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA retry;
SET search_path = retry;
CREATE FUNCTION utc_now() RETURNS timestamp LANGUAGE sql VOLATILE RETURN clock_timestamp() AT TIME ZONE 'UTC';
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;
CREATE TABLE runs (
    id integer PRIMARY KEY,
    sync_type text NOT NULL DEFAULT 'products',
    status text NOT NULL DEFAULT 'running',
    started_at timestamp,
    completed_at timestamp,
    duration_seconds double precision,
    errors jsonb,
    attempts integer NOT NULL DEFAULT 1);
CREATE INDEX ON runs (status);
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}', late_finish => 'reject');
CREATE VIEW times AS
    SELECT id, status, attempts, CASE WHEN started_at > ago('1 minute') THEN 'now' ELSE started_at::text END AS started,
           completed_at IS NOT NULL AS ended, duration_seconds, jsonb_array_length(errors) AS errors FROM runs ORDER BY id;
CREATE VIEW journal AS
    SELECT run_key, event, reaping IS NOT NULL AS marks, scope, reason, false_positive, path
    FROM sync_guard.journal WHERE relation = 'runs'::regclass ORDER BY id;

-- Reaped, then retried. Not until it is allowed; then it comes before any policy for late finishes.
INSERT INTO runs (id, started_at) SELECT n, ago('3 hours') FROM generate_series(1, 6) AS n;
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
\set VERBOSITY terse
UPDATE runs SET status = 'running' WHERE id = 1;
SELECT sync_guard.allow_transition('runs', 'failed', 'running');
-- The writer changes nothing but the status: begun now, not ended.
UPDATE runs SET status = 'running', attempts = attempts + 1 WHERE id = 1;
-- He sets a start of his own: it is his; the end, which he left, goes.
UPDATE runs SET status = 'running', started_at = '2025-10-01 10:00', attempts = attempts + 1 WHERE id = 2;
-- He clears the end himself, and leaves the old start: begun now all the same.
UPDATE runs SET status = 'running', completed_at = NULL, duration_seconds = NULL, attempts = attempts + 1 WHERE id = 3;
-- He empties the errors: that is no time.
UPDATE runs SET status = 'running', errors = '[]', attempts = attempts + 1 WHERE id = 4;
-- He sets start and end to what they are: he has left them as they were.
UPDATE runs SET status = 'running', started_at = started_at, completed_at = completed_at WHERE id = 5;
SELECT id, status, attempts, CASE started WHEN 'now' THEN started WHEN 'Wed Oct 01 10:00:00 2025' THEN started ELSE 'then' END AS started,
       ended, duration_seconds IS NOT NULL AS lasted, errors FROM times;
SELECT * FROM journal WHERE event <> 'reaped';

-- It is a run like any other: not stale at once where it began anew, reaped again when it is, finished without a word.
SELECT run_key, verdict FROM sync_guard.stale_syncs(relation => 'runs') ORDER BY run_key;
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
UPDATE runs SET status = 'completed' WHERE id = 1;
UPDATE runs SET status = 'completed' WHERE id = 2;
\echo :SQLSTATE
UPDATE runs SET status = 'failed', errors = '["mine"]' WHERE id = 4;
-- Closed by its writer this time: what he writes to it now is his own affair.
UPDATE runs SET errors = '["mine", "too"]', completed_at = '2025-10-01 10:00' WHERE id = 4;
UPDATE runs SET errors = '["mine", "too"]', completed_at = '2025-10-01 10:00' WHERE id = 6;
\echo :SQLSTATE
SELECT id, status, errors, ended FROM times WHERE id IN (1, 2, 4, 6);
SELECT run_key, event, count(*) FROM journal GROUP BY run_key, event ORDER BY run_key, event;

-- Retried by an upsert, and by MERGE.
INSERT INTO runs (id, status) VALUES (6, 'running') ON CONFLICT (id) DO UPDATE SET status = excluded.status, attempts = runs.attempts + 1;
UPDATE runs SET status = 'failed' WHERE id = 6;
MERGE INTO runs USING (VALUES (6, 'running')) AS v (id, status) ON runs.id = v.id
    WHEN MATCHED AND runs.status = 'failed' THEN UPDATE SET status = v.status, attempts = attempts + 1
    WHEN NOT MATCHED THEN INSERT (id, status) VALUES (v.id, v.status);
SELECT * FROM times WHERE id = 6;
SELECT run_key, event, count(*) FROM journal WHERE run_key = '6' GROUP BY run_key, event ORDER BY event;

-- One that ended by itself leaves no line. From another status it is not allowed by this rule.
INSERT INTO runs (id, status, started_at, completed_at, duration_seconds) VALUES
    (20, 'failed', '2025-10-01 10:00', '2025-10-01 10:05', 300), (21, 'completed', '2025-10-01 10:00', '2025-10-01 10:05', 300);
UPDATE runs SET status = 'running' WHERE id = 20;
UPDATE runs SET status = 'running' WHERE id = 21;
SELECT * FROM times WHERE id >= 20;
SELECT count(*) FROM journal WHERE run_key IN ('20', '21');

-- Let through with a warning, it is written down all the same.
SELECT sync_guard.allow_transition('runs', 'failed', 'running', NULL);
SELECT sync_guard.guard_table('runs', transitions => 'warn');
INSERT INTO runs (id, started_at) VALUES (30, ago('3 hours')), (31, ago('3 hours'));
SELECT sync_guard.reap_stale_syncs(relation => 'runs') >= 2 AS reaped;
UPDATE runs SET status = 'running' WHERE id = 30;
-- A change to another end that is forbidden, too: the guard's reaping was overruled.
SELECT sync_guard.allow_transition('runs', 'failed', 'completed', false);
UPDATE runs SET status = 'completed' WHERE id = 31;
SELECT * FROM times WHERE id >= 30 AND started = 'now';
SELECT id, status FROM runs WHERE id = 31;
SELECT * FROM journal WHERE run_key IN ('30', '31') AND event <> 'reaped';
SELECT sync_guard.allow_transition('runs', 'failed', 'completed', NULL);
SELECT sync_guard.guard_table('runs', transitions => 'enforce');

-- A column that may not be NULL keeps what it has.
CREATE TABLE strict (id integer PRIMARY KEY, status text NOT NULL, started_at timestamp NOT NULL,
    completed_at timestamp NOT NULL DEFAULT '-infinity', duration_seconds integer NOT NULL DEFAULT 0);
SELECT sync_guard.guard_table('strict', live_statuses => '{running}', failed_status => 'failed');
SELECT sync_guard.allow_transition('strict', 'failed', 'running');
INSERT INTO strict VALUES (1, 'failed', '2025-10-01 10:00', '2025-10-01 10:05', 300);
UPDATE strict SET status = 'running' WHERE id = 1 RETURNING status, started_at > ago('1 minute') AS now, completed_at, duration_seconds;

-- In a scope that is occupied there is no room for it.
SELECT sync_guard.allow_transition('runs', 'failed', 'running');
UPDATE runs SET status = 'completed' WHERE status = 'running';
SELECT sync_guard.guard_table('runs', exclusive => true);
INSERT INTO runs (id, sync_type, status, started_at) VALUES (40, 'orders', 'failed', '2025-10-01 10:00'), (41, 'orders', 'running', NULL);
\set VERBOSITY sqlstate
UPDATE runs SET status = 'running' WHERE id = 40;
UPDATE runs SET status = 'completed' WHERE id = 41;
UPDATE runs SET status = 'running' WHERE id = 40;
\set VERBOSITY terse
SELECT id, status FROM runs WHERE id >= 40 ORDER BY id;

-- A trigger of the table's own that sets a run back as soon as it is closed.
CREATE TABLE untiring (id integer PRIMARY KEY, status text NOT NULL, started_at timestamptz NOT NULL);
SELECT sync_guard.guard_table('untiring', live_statuses => '{running}', failed_status => 'failed');
SELECT sync_guard.allow_transition('untiring', 'failed', 'running');
CREATE FUNCTION start_again() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE untiring SET status = 'running' WHERE id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER a AFTER UPDATE ON untiring FOR EACH ROW WHEN (NEW.status = 'failed' AND NEW.id < 3) EXECUTE FUNCTION start_again();
INSERT INTO untiring SELECT i, 'running', '2025-10-01 10:00' FROM generate_series(1, 3) AS i;
SELECT sync_guard.reap_stale_syncs(relation => 'untiring');
SELECT id, status, started_at > now() - interval '1 minute' AS now FROM untiring ORDER BY id;
SELECT run_key, outcome, false_positive FROM sync_guard.reaped_syncs WHERE relation = 'untiring'::regclass ORDER BY run_key;
-- It starts again as often as it dies, and may finish.
UPDATE untiring SET started_at = '2025-10-01 10:00' WHERE id = 1;
UPDATE untiring SET status = 'completed' WHERE id = 2;
SELECT sync_guard.reap_stale_syncs(relation => 'untiring');
SELECT id, status FROM untiring ORDER BY id;
SELECT run_key, outcome, false_positive FROM sync_guard.reaped_syncs WHERE relation = 'untiring'::regclass ORDER BY run_key, reaping;

DROP SCHEMA retry CASCADE;
