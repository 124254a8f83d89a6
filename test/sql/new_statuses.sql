-- A status that the application learns after the table was adopted: the guard does not know that it is an end, so it
-- fills nothing, keeps nothing back and refuses nothing on its account. What it knows as an end stays one.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA new_statuses;
SET search_path = new_statuses;
CREATE TABLE runs (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz, errors jsonb);
INSERT INTO runs VALUES (100, 'Archiviert', now(), now());
SELECT sync_guard.guard_table('runs');
SELECT ended_statuses FROM sync_guard.settings WHERE relation = 'runs'::regclass;

-- paused and back, and to a proper end.
INSERT INTO runs (id) VALUES (1);
UPDATE runs SET status = 'paused' WHERE id = 1 RETURNING status, completed_at IS NULL AS open;
UPDATE runs SET status = 'running' WHERE id = 1 RETURNING status, completed_at IS NULL AS open;
UPDATE runs SET status = 'paused' WHERE id = 1 RETURNING status;
UPDATE runs SET status = 'completed' WHERE id = 1 RETURNING status, completed_at IS NULL AS open;
-- An end that the guard knows by its word, and one that it saw at adoption, are late to be changed.
\set VERBOSITY terse
UPDATE runs SET status = 'failed' WHERE id = 1 RETURNING status;
UPDATE runs SET status = 'completed' WHERE id = 100 RETURNING status;
-- A run that has ended by itself may be put away; one that the guard closed stays as it is.
UPDATE runs SET status = 'stored' WHERE id = 1 RETURNING status;
INSERT INTO runs (id, started_at) VALUES (2, now() - interval '2 hours');
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
UPDATE runs SET status = 'stored' WHERE id = 2 RETURNING status;
-- Looked at anew when the owner says so: then it is one of the ends.
SELECT sync_guard.guard_table('runs', reset => '{failed_status}');
SELECT ended_statuses @> '{stored}' AS known FROM sync_guard.settings WHERE relation = 'runs'::regclass;
SELECT sync_guard.guard_table('runs', max_silence => '2 hours');
SELECT ended_statuses @> '{stored}' AS still_known FROM sync_guard.settings WHERE relation = 'runs'::regclass;

DROP SCHEMA new_statuses CASCADE;
