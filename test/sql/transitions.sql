-- Changes of status: the whole matrix, enforced and warned of, with and without rules; what an INSERT may say.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA transitions;
SET search_path = transitions;

CREATE TABLE runs (
    id integer PRIMARY KEY,
    status varchar(20),
    started_at timestamp,
    completed_at timestamp,
    duration_seconds double precision,
    errors jsonb);
SELECT sync_guard.guard_table('runs', live_statuses => '{pending,running}', failed_status => 'failed', max_silence => '1 hour');

-- One change of status, from a row put there behind the guard's back. What comes of it: the status, and whether it got an
-- end (the run began 50 minutes ago; one that had ended took five of them).
CREATE FUNCTION attempt(from_status text, to_status text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    began timestamp := clock_timestamp() AT TIME ZONE 'UTC' - interval '50 minutes';
    ended timestamp;
    r runs;
BEGIN
    SET LOCAL session_replication_role = replica;
    DELETE FROM runs;
    IF from_status NOT IN ('pending', 'running') THEN ended := began + interval '5 minutes'; END IF;
    INSERT INTO runs VALUES (1, from_status, began, ended, extract(epoch FROM ended - began));
    SET LOCAL session_replication_role = origin;
    UPDATE runs SET status = to_status RETURNING * INTO r;
    RETURN concat_ws(' ', coalesce(r.status, 'NULL'),
        CASE WHEN r.started_at > began THEN 'begun anew' END,
        CASE WHEN r.completed_at IS NULL THEN NULL WHEN r.completed_at = ended THEN 'ended then' ELSE 'ended now' END,
        (r.duration_seconds / 60)::integer || ' min');
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE;
END $$;
CREATE VIEW matrix AS
    SELECT coalesce(f, 'NULL') AS "from", coalesce(t, 'NULL') AS "to", attempt(f, t) AS outcome
    FROM unnest(ARRAY['pending', 'running', 'completed', 'failed', 'partial', NULL]) WITH ORDINALITY AS v (f, m),
         unnest(ARRAY['pending', 'running', 'completed', 'failed', 'partial', NULL]) WITH ORDINALITY AS w (t, n)
    ORDER BY m, n;
-- Each pair gets the same rule; the one that closes dead runs cannot be forbidden.
CREATE FUNCTION rule_for_all(allowed boolean) RETURNS bigint LANGUAGE sql AS $$
    SELECT count(sync_guard.allow_transition('runs', f, t, $1))
    FROM unnest('{pending,running,completed,failed,partial}'::text[]) AS f,
         unnest('{pending,running,completed,failed,partial}'::text[]) AS t
    WHERE f <> t AND ($1 IS NOT false OR t <> 'failed' OR f IN ('completed', 'partial')) $$;

-- Enforced.
SET client_min_messages = error;
SELECT * FROM matrix \crosstabview
-- Every pair allowed: what has ended may start again, and ends as it is told to.
SELECT rule_for_all(true);
SELECT * FROM matrix \crosstabview
-- Every pair forbidden.
SELECT rule_for_all(false);
SELECT * FROM matrix \crosstabview
-- Left to the defaults again.
SELECT rule_for_all(NULL);
SELECT count(*) FROM sync_guard.transition_rules WHERE relation = 'runs'::regclass;

-- Warned of: the same, let through.
SELECT sync_guard.guard_table('runs', transitions => 'warn');
SELECT * FROM matrix \crosstabview
SELECT rule_for_all(false);
SELECT * FROM matrix \crosstabview
SELECT rule_for_all(NULL);

-- What the client sees.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SELECT attempt('completed', 'running');
SELECT attempt('running', NULL);
SELECT sync_guard.guard_table('runs', transitions => 'enforce');
INSERT INTO runs VALUES (2, 'completed', '2025-10-01 10:00', '2025-10-01 10:05');
UPDATE runs SET status = 'running' WHERE id = 2;
UPDATE runs SET status = NULL WHERE id = 2;
INSERT INTO runs VALUES (3, NULL);
SELECT sync_guard.allow_transition('runs', 'running', 'completed', false);
INSERT INTO runs VALUES (3, 'running', clock_timestamp() AT TIME ZONE 'UTC');
UPDATE runs SET status = 'completed' WHERE id = 3;
SELECT id, status, completed_at IS NULL AS open FROM runs ORDER BY id;
SELECT sync_guard.allow_transition('runs', 'running', 'completed', NULL);

-- A rule holds from its commit on, in this session too, and goes with its rollback.
\set VERBOSITY sqlstate
BEGIN;
SELECT sync_guard.allow_transition('runs', 'completed', 'running');
SAVEPOINT allowed;
UPDATE runs SET status = 'running' WHERE id = 2;
ROLLBACK TO SAVEPOINT allowed;
SELECT sync_guard.allow_transition('runs', 'completed', 'running', false);
SAVEPOINT forbidden;
UPDATE runs SET status = 'running' WHERE id = 2;
ROLLBACK TO SAVEPOINT forbidden;
ROLLBACK TO SAVEPOINT allowed;
UPDATE runs SET status = 'running' WHERE id = 2;
SELECT status, completed_at, started_at > '2025-10-01 10:00' AS begun_anew FROM runs WHERE id = 2;
ROLLBACK;
UPDATE runs SET status = 'running' WHERE id = 2;
\echo :SQLSTATE

-- INSERT: a run must have a status; a live one has a start.
INSERT INTO runs (id, status) VALUES (10, 'pending'), (11, 'running'), (12, 'completed'), (13, 'failed'), (14, 'sonstiges');
SELECT id, status, started_at IS NULL AS no_start, completed_at IS NULL AS no_end,
       started_at BETWEEN (now() AT TIME ZONE 'UTC') - interval '1 minute' AND clock_timestamp() AT TIME ZONE 'UTC' AS now
FROM runs WHERE id >= 10 ORDER BY id;
INSERT INTO runs (id, status, started_at) VALUES (15, 'running', '2025-10-01 10:00') RETURNING started_at;
INSERT INTO runs (id) VALUES (16);
\echo :SQLSTATE

-- Statuses are told apart by case and by blanks.
INSERT INTO runs (id, status) VALUES (20, 'Running'), (21, 'running ') RETURNING id, started_at IS NULL AS not_live;
-- The same status again is nothing, whatever else is written, and a row in no live status is none of ours.
UPDATE runs SET status = status, errors = '["note"]', completed_at = NULL WHERE id IN (11, 12, 13, 15);
SELECT id, status, errors, completed_at FROM runs WHERE id IN (11, 12, 13, 15) ORDER BY id;

\set VERBOSITY terse
-- A column char(n) is padded, an enum has its own output, a domain is looked through.
CREATE TYPE run_state AS ENUM ('running', 'completed', 'failed');
CREATE DOMAIN run_status AS text CHECK (value <> '');
CREATE TABLE chars (id integer PRIMARY KEY, status char(12) NOT NULL, started_at timestamptz, completed_at timestamptz);
CREATE TABLE enums (id integer PRIMARY KEY, status run_state NOT NULL, started_at timestamptz, completed_at timestamptz);
CREATE TABLE domains (id integer PRIMARY KEY, status run_status NOT NULL, started_at timestamptz, completed_at timestamptz);
SELECT sync_guard.guard_table(t, live_statuses => '{running}', failed_status => 'failed')
FROM unnest('{chars,enums,domains}'::regclass[]) AS t;
DO $$
DECLARE
    t regclass;
    ended integer;
BEGIN
    FOREACH t IN ARRAY '{chars,enums,domains}'::regclass[] LOOP
        EXECUTE format('INSERT INTO %s (id, status) VALUES (1, ''running''), (2, ''running'')', t);
        EXECUTE format('UPDATE %s SET status = ''completed'' WHERE id = 1', t);
        BEGIN
            EXECUTE format('UPDATE %s SET status = ''running'' WHERE id = 1', t);
        EXCEPTION WHEN SQLSTATE 'SY001' THEN
            EXECUTE format('SELECT count(*) FROM %s WHERE started_at IS NOT NULL AND completed_at IS NOT NULL', t) INTO ended;
            RAISE WARNING '%: refused, % ended', t, ended;
        END;
    END LOOP;
END $$;

-- A value of the enum that has another name now is no status that anybody knows: written unguarded, with a WARNING, until the
-- settings name it.
INSERT INTO enums (id, status) VALUES (3, 'running');
ALTER TYPE run_state RENAME VALUE 'running' TO 'active';
UPDATE enums SET status = 'completed' WHERE id = 3 RETURNING status, completed_at;
SELECT sync_guard.sync_is_running(relation => 'enums');
\echo :SQLSTATE
SELECT problem FROM sync_guard.guarded_tables WHERE relation = 'enums'::regclass;
SELECT sync_guard.guard_table('enums', live_statuses => '{active}');
INSERT INTO enums (id, status) VALUES (4, 'active');
UPDATE enums SET status = 'completed' WHERE id = 4 RETURNING status, completed_at IS NOT NULL AS ended;
UPDATE enums SET status = 'active' WHERE id = 4;
\echo :SQLSTATE

DROP SCHEMA transitions CASCADE;
