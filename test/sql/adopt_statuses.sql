-- Which statuses guard_table takes for an end: an end is refused to go on, so a status in which a run waits or pauses must not
-- be one.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA adopt_statuses;
SET search_path = adopt_statuses;
\set VERBOSITY terse

-- Goes through the statuses one by one: which were refused or not taken, and whether the end was filled there.
CREATE FUNCTION walk(relation regclass, VARIADIC statuses text[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    said text := '';
    status text;
    now_in text;
    ended boolean;
BEGIN
    FOREACH status IN ARRAY statuses LOOP
        BEGIN
            EXECUTE format('UPDATE %s AS t SET status = %L WHERE id = 1 RETURNING t.status::text, to_jsonb(t) ->> ''finished_at'' IS NOT NULL', relation, status) INTO now_in, ended;
            said := concat_ws(', ', nullif(said, ''), concat(status, CASE WHEN now_in <> status THEN ' (stays ' || now_in || ')' END, CASE WHEN ended THEN ' (ended)' END));
        EXCEPTION WHEN SQLSTATE 'SY001' THEN
            said := concat_ws(', ', nullif(said, ''), status || ' (refused)');
        END;
    END LOOP;
    RETURN said;
END $$;
CREATE FUNCTION ended(relation regclass) RETURNS text[] LANGUAGE sql AS
    $$ SELECT array(SELECT unnest(ended_statuses) ORDER BY 1) FROM sync_guard.settings WHERE settings.relation = $1 $$;

-- An enum with states that no list of live words has.
CREATE TYPE celery_state AS ENUM ('PENDING', 'RECEIVED', 'STARTED', 'RETRY', 'SUCCESS', 'FAILURE', 'REVOKED', 'Timed Out');
CREATE TABLE celery (id integer PRIMARY KEY, status celery_state NOT NULL DEFAULT 'PENDING', started_at timestamptz, finished_at timestamptz);
SET client_min_messages = notice;
\set VERBOSITY default
SELECT sync_guard.guard_table('celery');
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT ended('celery');
INSERT INTO celery VALUES (1);
SELECT walk('celery', 'RECEIVED', 'STARTED', 'RETRY', 'STARTED', 'SUCCESS', 'STARTED');
-- REVOKED is no usual word, but nothing speaks against it.
INSERT INTO celery VALUES (2);
UPDATE celery SET status = 'REVOKED' WHERE id = 2 RETURNING finished_at IS NOT NULL AS ended;

-- A CHECK, and a default that means waiting.
CREATE TABLE paused (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'scheduled' CHECK (status IN ('scheduled', 'running', 'paused', 'done', 'failed')),
    started_at timestamptz, finished_at timestamptz);
SELECT sync_guard.guard_table('paused');
SELECT ended('paused');
INSERT INTO paused VALUES (1);
SELECT walk('paused', 'running', 'paused', 'running', 'paused', 'done', 'running');

-- An open set: a word in a row, a word of one's own as the default, a row without an end time, and one with it; a usual word for
-- an end is one whatever the rows say.
CREATE TABLE open_set (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'angelegt', started_at timestamptz, finished_at timestamptz);
INSERT INTO open_set VALUES (2, 'new'), (3, 'running'), (4, 'wartend'), (7, 'completed'), (8, 'Timed-Out'), (9, 'aufgegeben');
INSERT INTO open_set VALUES (5, 'C', now(), now()), (6, 'fertig', now(), now()), (10, 'aufgegeben', now(), now());
SET client_min_messages = notice;
\set VERBOSITY default
SELECT sync_guard.guard_table('open_set', start_column => '', max_silence => '10 years');
\set VERBOSITY terse
SET client_min_messages = warning;
SELECT ended('open_set');
INSERT INTO open_set (id) VALUES (1);
SELECT walk('open_set', 'new', 'angelegt', 'running', 'wartend', 'running', 'wartend', 'fertig', 'running');
-- Rows are looked at where the set is closed too, on a table in parts, and where an index finds the newest ones.
CREATE TABLE closed_set (id integer, status char(10) NOT NULL CHECK (status IN ('running', 'failed', 'wartend', 'fertig')), started_at timestamptz, finished_at timestamptz,
    PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE closed_set_1 PARTITION OF closed_set DEFAULT;
CREATE INDEX ON closed_set (started_at);
INSERT INTO closed_set VALUES (2, 'wartend');
INSERT INTO closed_set VALUES (3, 'fertig', now(), now());
SELECT sync_guard.guard_table('closed_set');
SELECT ended('closed_set');
-- Without an end column rows tell nothing.
CREATE TABLE no_end (LIKE open_set INCLUDING ALL);
ALTER TABLE no_end DROP finished_at;
INSERT INTO no_end VALUES (2, 'running'), (3, 'wartend');
SELECT sync_guard.guard_table('no_end');
SELECT ended('no_end');

-- The same where live statuses are named: what usually is live is then neither.
CREATE TYPE queue_state AS ENUM ('QUEUED', 'STARTING', 'RUNNING', 'BUSY', 'DONE', 'FAILED');
CREATE TABLE queue (id integer PRIMARY KEY, status queue_state NOT NULL, started_at timestamptz, finished_at timestamptz);
SET client_min_messages = notice;
SELECT sync_guard.guard_table('queue', live_statuses => '{RUNNING}');
SET client_min_messages = warning;
SELECT ended('queue');
INSERT INTO queue VALUES (1, 'QUEUED');
SELECT started_at IS NULL AS no_start FROM queue;
SELECT walk('queue', 'STARTING', 'RUNNING', 'QUEUED', 'RUNNING', 'BUSY', 'RUNNING', 'DONE', 'QUEUED');

-- A table that was adopted by the old rule keeps what it has until statuses are named or looked for again.
UPDATE sync_guard.settings SET ended_statuses = '{QUEUED,DONE}' WHERE relation = 'queue'::regclass;
SET client_min_messages = notice;
\set VERBOSITY default
SELECT sync_guard.guard_table('queue', max_silence => '2 hours');
SELECT ended('queue');
SELECT sync_guard.guard_table('queue', reset => '{failed_status}');
SELECT ended('queue');

-- Jobs that wait for a worker count as running where nobody says otherwise; the words to pass are the table's own.
CREATE TABLE waiting (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'queued', 'in progress', 'starting', 'done', 'failed')),
    started_at timestamptz, finished_at timestamptz);
SELECT sync_guard.guard_table('waiting');
CREATE TABLE only_waiting (id integer PRIMARY KEY, status text NOT NULL CHECK (status IN ('Waiting', 'done', 'failed')), started_at timestamptz, finished_at timestamptz);
SELECT sync_guard.guard_table('only_waiting');
-- Said once, and not to who has named them.
SELECT sync_guard.guard_table('only_waiting', max_silence => '2 hours');
SELECT sync_guard.guard_table('waiting', live_statuses => '{"in progress",starting,pending}');

-- Rows without a status: who goes on writing them is about to be refused, and is told so before.
CREATE TABLE without_status (id integer PRIMARY KEY, status text, started_at timestamptz DEFAULT now(), finished_at timestamptz);
INSERT INTO without_status VALUES (1, NULL), (2, 'running'), (3, NULL), (4, 'completed');
SET client_min_messages = warning;
SELECT sync_guard.guard_table('without_status');
INSERT INTO without_status VALUES (5, NULL);
SELECT sync_guard.guard_table('without_status', transitions => 'warn');
INSERT INTO without_status VALUES (5, NULL);
SELECT sync_guard.guard_table('without_status', mode => 'observe', reset => '{transitions}');
SELECT sync_guard.guard_table('without_status', reset => '{mode}');
DELETE FROM without_status WHERE status IS NULL;
SELECT sync_guard.guard_table('without_status');

DROP SCHEMA adopt_statuses CASCADE;
