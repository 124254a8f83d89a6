-- reap_stale_syncs and its dry run: which runs, by which limit, how many; what an odd start, a pause, a trigger of the
-- application or a broken table make of it.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA reap;
SET search_path = reap;
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;
CREATE TABLE runs (
    id integer PRIMARY KEY,
    sync_type text NOT NULL DEFAULT 'products',
    account_type text DEFAULT 'main',
    status text NOT NULL DEFAULT 'running',
    started_at timestamp,
    completed_at timestamp,
    duration_seconds double precision,
    errors jsonb,
    last_heartbeat timestamp,
    processed_items integer NOT NULL DEFAULT 0,
    updated_at timestamp);
CREATE INDEX ON runs (status);
SELECT sync_guard.guard_table('runs', live_statuses => '{pending,running}', failed_status => 'failed', scope_columns => '{sync_type,account_type}', max_silence => '1 hour');
SELECT activity_column, updated_column, done_column FROM sync_guard.guarded_tables WHERE relation = 'runs'::regclass;

-- The dry run and the reaping must tell the same set: what would be reaped, what was, what is left.
CREATE FUNCTION compare(older_than interval DEFAULT NULL, even_if_alive boolean DEFAULT false, max_runs integer DEFAULT NULL,
    OUT would text, OUT reaped text, OUT same boolean, OUT told bigint) LANGUAGE plpgsql AS $$
DECLARE
    before bigint := (SELECT coalesce(max(id), 0) FROM sync_guard.journal);
BEGIN
    SELECT string_agg(run_key || ' ' || verdict, ', ' ORDER BY run_key::integer) INTO would FROM sync_guard.stale_syncs($1, 'runs', $2, $3);
    told := sync_guard.reap_stale_syncs($1, 'runs', $2, $3);
    SELECT string_agg(run_key || ' ' || verdict, ', ' ORDER BY run_key::integer) INTO reaped FROM sync_guard.journal WHERE id > before AND event = 'reaped';
    same := would IS NOT DISTINCT FROM reaped AND told = coalesce(array_length(string_to_array(reaped, ', '), 1), 0)
        AND NOT EXISTS (SELECT FROM sync_guard.stale_syncs($1, 'runs', $2) WHERE $3 IS NULL);
END $$;
CREATE FUNCTION fresh() RETURNS void LANGUAGE sql AS $$
    DELETE FROM runs;
    INSERT INTO runs (id, sync_type, account_type, status, started_at, last_heartbeat) VALUES
        (1, 'products', 'main', 'running', ago('61 minutes'), NULL),
        (2, 'products', 'main', 'running', ago('59 minutes'), NULL),
        (3, 'products', 'fbe', 'running', ago('1 day'), ago('59 minutes')),
        (4, 'products', 'fbe', 'running', ago('1 day'), ago('61 minutes')),
        (5, 'orders', 'main', 'pending', ago('2 days'), NULL),
        (6, 'orders', NULL, 'running', ago('100 days'), NULL),
        (7, 'orders', 'main', 'completed', ago('100 days'), NULL),
        (8, 'orders', 'main', 'failed', ago('100 days'), NULL),
        (9, 'orders', 'main', 'Running', ago('100 days'), NULL),
        (10, 'orders', 'main', 'running', ago('2 minutes'), NULL),
        (11, 'orders', 'main', 'running', ago('0'), ago('3 days')) $$;

-- By the table's own limit; a sign of life counts from when it was given, a start that is younger counts too.
SELECT fresh();
SELECT * FROM compare();
SELECT id, status FROM runs ORDER BY id;
-- older_than stands in for max_silence, longer or shorter; a month is 30 days, a day 24 hours.
SELECT fresh();
SELECT * FROM compare('36 hours');
SELECT * FROM compare('3 months 10 days 1 hour');
SELECT fresh();
SELECT * FROM compare('3 months');
SELECT * FROM compare('3 months', true);
SELECT fresh();
SELECT * FROM compare('1 minute');
-- even_if_alive counts from the start, signs of life do not help.
SELECT fresh();
SELECT * FROM compare('12 hours', true);
SELECT * FROM compare(NULL, true);
SELECT * FROM compare('1 minute', true);
SELECT id, status FROM runs ORDER BY id;
-- Oldest first, so many; what is left is done by the next calls.
SELECT fresh();
SELECT * FROM compare(NULL, false, 1);
SELECT * FROM compare(NULL, false, 2);
SELECT * FROM compare(NULL, false, 2);
SELECT * FROM compare(NULL, false, 2147483647);

-- What cannot be meant.
\set VERBOSITY default
SELECT sync_guard.reap_stale_syncs('0', 'runs');
SELECT sync_guard.reap_stale_syncs('-1 hour', 'runs');
SELECT sync_guard.reap_stale_syncs('1 month -30 days', 'runs');
SELECT sync_guard.reap_stale_syncs('1 hour', 'runs', max_runs => 0);
SELECT sync_guard.stale_syncs('-1 us', 'runs');
SELECT sync_guard.stale_syncs('1 hour', 'runs', max_runs => -1);
SELECT fresh();
\set VERBOSITY sqlstate
SELECT sync_guard.reap_stale_syncs(relation => 'pg_class');
SELECT sync_guard.reap_stale_syncs(relation => 0::oid::regclass);
BEGIN READ ONLY;
SELECT count(*) FROM sync_guard.stale_syncs(relation => 'runs');
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
ROLLBACK;
SELECT sync_guard.reap_stale_syncs('178000000 years', 'runs'), sync_guard.reap_stale_syncs('2147483647 days', 'runs', true);
SELECT sync_guard.reap_stale_syncs(NULL, 'runs', NULL, NULL);
\set VERBOSITY terse

--
-- Limits: per scope, the most specific one; three kinds.
--
SELECT fresh();
SELECT sync_guard.set_limit('runs', '{"sync_type": "orders"}', max_silence => '1 minute');
SELECT sync_guard.set_limit('runs', '{"account_type": "fbe"}', max_silence => '2 days');
SELECT sync_guard.set_limit('runs', '{"account_type": null}', max_silence => '1 year', max_age => '99 days');
SELECT run_key, verdict, evidence ->> 'limit_seconds' AS limit_used, evidence ->> 'rule' AS rule FROM sync_guard.stale_syncs(relation => 'runs') ORDER BY run_key::integer;
-- {} is the table's own, and all can be off.
SELECT sync_guard.set_limit('runs', '{}', max_age => '23 hours');
SELECT run_key, verdict, evidence ->> 'limit_seconds' AS limit_used, evidence ->> 'rule' AS rule FROM sync_guard.stale_syncs(relation => 'runs') ORDER BY run_key::integer;
SELECT * FROM compare();
SELECT count(sync_guard.set_limit('runs', l.scope, reset => '{max_silence,max_age}')) FROM sync_guard.scope_limits AS l WHERE l.relation = 'runs'::regclass;
SELECT sync_guard.set_limit('runs', '{}', reset => '{max_age}');
-- What the row and the journal say of it.
DELETE FROM runs;
INSERT INTO runs (id, started_at, processed_items, last_heartbeat) VALUES (1, ago('3 hours 5 minutes 10 seconds'), 0, NULL), (2, ago('3 days 4 hours'), 5, ago('2 hours 10 minutes'));
SELECT run_key, reason, action, status, started_at < now() AS started, scope FROM sync_guard.stale_syncs(relation => 'runs') ORDER BY run_key;
SELECT * FROM compare();
SELECT id, errors, updated_at = completed_at AS updated, abs(duration_seconds - extract(epoch FROM completed_at - started_at)) < 1e-5 AS lasted,
       completed_at BETWEEN ago('1 minute') AND ago('0') AS now FROM runs ORDER BY id;
\x on
SELECT run_key, event, relation, relation_name, verdict, reason, path, role = current_user AS me, session_role = session_user AS my_session, scope, reaping, wanted,
       false_positive, (evidence - '{judged_at,started_at,last_sign_of_life,age_seconds,silence_seconds,measured_seconds}'::text[]) AS evidence,
       floor((evidence ->> 'measured_seconds')::numeric / 60) AS measured_minutes, evidence ->> 'measured_seconds' = evidence ->> 'silence_seconds' AS of_silence,
       run ->> 'status' AS was, run ->> 'completed_at' AS was_ended, at BETWEEN now() - interval '1 minute' AND clock_timestamp() AS now
FROM sync_guard.journal WHERE relation = 'runs'::regclass ORDER BY id DESC LIMIT 2;
\x off

--
-- A start that is NULL, infinite or in the future never makes a run dead for its age.
--
DELETE FROM runs;
ALTER TABLE runs DISABLE TRIGGER zzz_emag_sync_guard_insert;
INSERT INTO runs (id, started_at, last_heartbeat) VALUES (1, NULL, NULL), (2, 'infinity', NULL), (3, '-infinity', NULL), (4, ago('-2 hours'), NULL), (5, ago('-1 minute'), NULL),
    (6, NULL, 'infinity'), (7, NULL, '-infinity'), (8, '-infinity', 'infinity'),
    (10, NULL, ago('2 hours')), (11, 'infinity', ago('2 hours')), (12, ago('-2 hours'), ago('2 hours')), (13, ago('2 hours'), 'infinity'), (14, ago('2 hours'), ago('-2 hours'));
ALTER TABLE runs ENABLE TRIGGER zzz_emag_sync_guard_insert;
SELECT sync_guard.set_limit('runs', '{}', max_age => '10 minutes', max_stall => '10 minutes');
-- (10 and 11 are dead for want of the sign of life that they gave once; 13 and 14 are too old, whatever their signs.)
SELECT * FROM compare('1 minute', true);
SELECT id FROM runs WHERE status = 'running' ORDER BY id;
SELECT problem, count(*) FROM sync_guard.guard_health WHERE relation = 'runs'::regclass AND problem IN ('run_without_start', 'start_in_future') GROUP BY problem ORDER BY problem;
SELECT sync_guard.set_limit('runs', '{}', reset => '{max_age,max_stall}');

-- Without a start column there are the signs of life; without either no run is dead; without a limit for silence none is for it.
SELECT sync_guard.guard_table('runs', start_column => '');
DELETE FROM runs;
INSERT INTO runs (id, started_at, last_heartbeat) VALUES (1, ago('2 hours'), NULL), (2, ago('2 hours'), ago('61 minutes'));
SELECT * FROM compare('1 minute', true);
SET client_min_messages = error;
SELECT sync_guard.guard_table('runs', activity_column => '');
SET client_min_messages = warning;
SELECT * FROM compare('1 minute', true);
SELECT sync_guard.guard_table('runs', reset => '{start_column,activity_column}');
UPDATE sync_guard.settings SET max_silence = NULL WHERE relation = 'runs'::regclass;
SELECT fresh();
SELECT * FROM compare();
SELECT * FROM compare(NULL, true);
SELECT * FROM compare('1 hour');
SELECT sync_guard.guard_table('runs', reset => '{max_silence}');

--
-- Paused: nothing is reaped, and the verdicts stay as they are.
--
SELECT fresh();
SELECT sync_guard.pause_reaping('runs');
SET client_min_messages = notice;
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT count(*) FROM sync_guard.stale_syncs(relation => 'runs');
SET client_min_messages = warning;
SELECT sync_guard.sync_is_running('products', 'runs');
SELECT count(*) FROM sync_guard.stuck_syncs WHERE relation = 'runs'::regclass;
SELECT sync_guard.resume_reaping('runs');
SELECT sync_guard.pause_reaping('runs', clock_timestamp() + interval '1 hour');
SELECT * FROM compare();
UPDATE sync_guard.settings SET paused_until = clock_timestamp() - interval '1 second' WHERE relation = 'runs'::regclass;
SELECT * FROM compare();

--
-- Triggers of the application: they fire, they may rewrite the row, and where they keep a run from being closed, the others
-- are closed all the same.
--
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.sync_type
    WHEN 'drops' THEN RETURN NULL;
    WHEN 'raises' THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'P4711', DETAIL = 'The application says so.';
    WHEN 'turns back' THEN NEW.status := 'running';
    WHEN 'turns' THEN NEW.status := 'completed';
    WHEN 'rewrites' THEN NEW.errors := '["rewritten"]'; NEW.account_type := 'rewritten'; NEW.completed_at := '2025-10-01 10:00';
    ELSE NULL;
    END CASE;
    RETURN NEW;
END $$;
CREATE FUNCTION note_closing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO reap.closed VALUES (NEW.id, NEW.status, current_user::text, pg_trigger_depth());
    IF NEW.sync_type = 'undone' THEN UPDATE reap.runs SET status = 'running' WHERE id = NEW.id; END IF;
    RETURN NULL;
END $$;
CREATE TABLE closed (id integer, status text, by_whom text, depth integer);
CREATE TRIGGER meddle BEFORE UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION meddle();
CREATE TRIGGER note_closing AFTER UPDATE OF status ON runs FOR EACH ROW EXECUTE FUNCTION note_closing();
DELETE FROM runs;
INSERT INTO runs (id, sync_type, started_at) SELECT n, 'products', ago('2 hours') FROM generate_series(1, 20) AS n;
ALTER TABLE runs DISABLE TRIGGER meddle;
UPDATE runs SET sync_type = (ARRAY['drops', 'raises', 'turns back', 'turns', 'rewrites', 'undone'])[id - 4] WHERE id BETWEEN 5 AND 10;
ALTER TABLE runs ENABLE TRIGGER meddle;
SET client_min_messages = notice;
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SET client_min_messages = warning;
SELECT status, array_agg(id ORDER BY id) FROM runs GROUP BY status ORDER BY status;
SELECT errors, account_type, completed_at FROM runs WHERE id = 9;
SELECT count(*), min(id), max(id), array_agg(DISTINCT status) AS statuses, array_agg(DISTINCT depth) AS depths FROM closed;
SELECT run_key, event FROM sync_guard.journal WHERE relation = 'runs'::regclass ORDER BY id DESC LIMIT 1;
SELECT count(*) AS wrong_lines FROM runs AS r JOIN sync_guard.journal AS j ON run_key = r.id::text AND relation = 'runs'::regclass
WHERE r.status = 'running' AND (j.run ->> 'sync_type' <> 'products' OR j.run ->> 'started_at' = to_jsonb(r.started_at) #>> '{}');
-- Where one after the other fails, the rest is not tried one by one any more; what can be closed together still is.
DELETE FROM closed;
ALTER TABLE runs DISABLE TRIGGER meddle;
UPDATE runs SET sync_type = 'raises' WHERE status = 'running';
INSERT INTO runs (id, sync_type, started_at) SELECT 100 + n, CASE WHEN n <= 12 THEN 'raises' ELSE 'products' END, ago('3 hours') + n * interval '1 second' FROM generate_series(1, 30) AS n;
ALTER TABLE runs ENABLE TRIGGER meddle;
SET client_min_messages = error;
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SET client_min_messages = warning;
SELECT count(*) FROM closed;
DROP TRIGGER meddle ON runs;
SELECT sync_guard.reap_stale_syncs(relation => 'runs', max_runs => 10);
DROP TRIGGER note_closing ON runs;

--
-- Several tables: each by its own limits, the broken one told and passed over.
--
DELETE FROM runs;
CREATE TABLE a_first (id integer PRIMARY KEY, status text NOT NULL, started_at timestamptz, completed_at timestamptz, errors jsonb);
CREATE TABLE b_broken (LIKE a_first INCLUDING ALL);
CREATE TABLE c_refusing (LIKE a_first INCLUDING ALL);
CREATE TABLE d_observed (LIKE a_first INCLUDING ALL);
CREATE TABLE e_paused (LIKE a_first INCLUDING ALL);
CREATE TABLE "F ""last" (LIKE a_first INCLUDING ALL);
SELECT sync_guard.guard_table(t, live_statuses => '{running}', failed_status => 'failed') FROM unnest('{a_first,b_broken,c_refusing,d_observed,e_paused}'::regclass[] || '"F ""last"'::regclass) AS t;
SELECT sync_guard.guard_table('d_observed', mode => 'observe');
SELECT sync_guard.guard_table('a_first', max_silence => '3 hours');
DO $$ DECLARE t regclass; BEGIN
    FOREACH t IN ARRAY '{a_first,b_broken,c_refusing,d_observed,e_paused}'::regclass[] || '"F ""last"'::regclass LOOP
        EXECUTE format('INSERT INTO %s SELECT n, ''running'', clock_timestamp() - n * interval ''2 hours'' FROM generate_series(1, 3) AS n', t);
    END LOOP;
END $$;
SELECT sync_guard.pause_reaping('e_paused');
ALTER TABLE b_broken RENAME COLUMN started_at TO begun_at;
ALTER TABLE c_refusing ADD CHECK (id = 2 OR status = 'running');
CREATE VIEW states AS
    SELECT 'a_first' AS name, id, status FROM a_first UNION ALL SELECT 'b_broken', id, status FROM b_broken UNION ALL SELECT 'c_refusing', id, status FROM c_refusing
    UNION ALL SELECT 'd_observed', id, status FROM d_observed UNION ALL SELECT 'e_paused', id, status FROM e_paused UNION ALL SELECT 'F "last', id, status FROM "F ""last";
SET client_min_messages = notice;
SELECT guarded_table, array_agg(run_key ORDER BY run_key) AS runs, action FROM sync_guard.stale_syncs() GROUP BY guarded_table, action ORDER BY guarded_table::text COLLATE "C";
SELECT guarded_table, array_agg(run_key ORDER BY run_key) AS runs, action FROM sync_guard.stale_syncs(max_runs => 3) GROUP BY guarded_table, action ORDER BY guarded_table::text COLLATE "C";
SELECT sync_guard.reap_stale_syncs();
SELECT name, array_agg(status ORDER BY id) FROM states GROUP BY name ORDER BY name COLLATE "C";
SELECT sync_guard.reap_stale_syncs();
-- A table that has gone by the time; one named by the partition of another is for partitions.sql.
DROP TABLE "F ""last" CASCADE;
SELECT sync_guard.reap_stale_syncs(relation => 'b_broken');
SET client_min_messages = warning;

DROP SCHEMA reap CASCADE;
