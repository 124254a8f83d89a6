-- More of who gains nothing: a reader who looks through the views at what he may not read; code of a table's owner where a run
-- is started, leased and finished; statistics; what only superusers may make.
SET client_min_messages = warning;
CREATE ROLE regress_esg_peeper;                      -- may read and write the open table only
CREATE ROLE regress_esg_thief;                       -- owns a table with code of his
CREATE ROLE regress_esg_worker;                      -- starts runs in it
CREATE DATABASE regress_esg_more;
ALTER DATABASE regress_esg_more SET client_min_messages = warning;
\set home :DBNAME
\c regress_esg_more
CREATE EXTENSION emag_sync_guard;

-- Two tables of the same kind, with runs that live, are dead, were reaped, came back, and alerts.
CREATE SCHEMA app;
GRANT USAGE ON SCHEMA app TO PUBLIC;
CREATE FUNCTION app.make(name text, word text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE app.%I (id text PRIMARY KEY, sync_type text, status text NOT NULL, started_at timestamptz, completed_at timestamptz, errors jsonb)', name);
    PERFORM sync_guard.guard_table(('app.' || name)::regclass, live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}');
    EXECUTE format('INSERT INTO app.%I SELECT %L || i, %L, %L, %L FROM generate_series(1, 5) AS i', name, word, word || ' scope', 'running', '2020-01-01');
    PERFORM sync_guard.reap_stale_syncs(relation => ('app.' || name)::regclass, max_runs => 3);
    EXECUTE format('UPDATE app.%I SET status = %L, errors = %L WHERE id = %L', name, 'completed', to_jsonb(word), word || 1);
    EXECUTE format('INSERT INTO app.%I SELECT %L || i, %L, %L, now() FROM generate_series(6, 8) AS i', name, word, word || ' live', 'running');
    PERFORM sync_guard.set_alert_rule(('app.' || name)::regclass, 'stuck', jsonb_build_object('sync_type', word), raise_above => '1 hour');
    PERFORM sync_guard.set_limit(('app.' || name)::regclass, jsonb_build_object('sync_type', word), max_age => '1 day');
    PERFORM sync_guard.take_lease(('app.' || name)::regclass, word || 6, worker => word, incarnation => '1');
END $$;
SET client_min_messages = error;
SELECT app.make('open', 'visible');
SELECT app.make('secret', 'concealed');
SELECT sync_guard.reap_stale_syncs(max_runs => 1) > 0 AS swept;
RESET client_min_messages;
GRANT SELECT, INSERT, UPDATE ON app.open TO regress_esg_peeper;

-- A function that looks cheap and tells whoever made it of each row that it is shown.
CREATE SCHEMA peeper AUTHORIZATION regress_esg_peeper;
SET SESSION AUTHORIZATION regress_esg_peeper;
CREATE TABLE peeper.seen (view_name text, row_text text);
CREATE FUNCTION peeper.leak(view_name text, row_text text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS $$
BEGIN
    INSERT INTO peeper.seen VALUES (view_name, row_text);
    RETURN true;
END $$;
CREATE OPERATOR peeper.~~~ (LEFTARG = text, RIGHTARG = text, FUNCTION = peeper.leak, RESTRICT = eqsel, JOIN = eqjoinsel);
CREATE FUNCTION peeper.look(view_name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    attempt text;
    said text := '';
BEGIN
    FOREACH attempt IN ARRAY ARRAY[
        'SELECT count(*) FROM %1$s AS v WHERE peeper.leak(%2$L, v::text)',
        'SELECT count(*) FROM %1$s AS v WHERE peeper.leak(%2$L, v.run_key)',
        'SELECT count(*) FROM %1$s AS v WHERE peeper.leak(%2$L, v.relation_name)',
        'SELECT count(*) FROM %1$s AS v WHERE %2$L OPERATOR(peeper.~~~) v::text AND v IS NULL',
        'SELECT count(*) FROM %1$s AS v JOIN %1$s AS w ON peeper.leak(%2$L, w::text) AND v = w',
        'SELECT count(*) FROM (SELECT v::text AS t FROM %1$s AS v ORDER BY peeper.leak(%2$L, v::text)) AS s',
        'SELECT count(*) FROM %1$s AS v WHERE v::text::date IS NULL',
        'SELECT count(*) FROM %1$s AS v WHERE length(v::text) / (length(v::text) - length(v::text)) = 1',
        'DELETE FROM %1$s AS v WHERE peeper.leak(%2$L, v::text)'] LOOP
        BEGIN
            EXECUTE format(attempt, view_name, view_name);
        EXCEPTION WHEN OTHERS THEN
            said := concat(said, SQLERRM, '; ');
        END;
    END LOOP;
    RETURN said;
END $$;
RESET SESSION AUTHORIZATION;
-- It works where nothing keeps it off: a view with no barrier.
CREATE VIEW app.no_barrier AS SELECT * FROM sync_guard.journal WHERE upper(lower(upper(lower(upper(relation_name))))) = 'APP.OPEN';
GRANT SELECT ON app.no_barrier TO regress_esg_peeper;
SET SESSION AUTHORIZATION regress_esg_peeper;
SELECT peeper.look('app.no_barrier') ~ 'concealed' AS told;
SELECT count(*) > 0 AS seen FROM peeper.seen WHERE row_text ~ 'concealed';
TRUNCATE peeper.seen;
-- Of the guard's own views he sees what he may, and of the other table nothing: not by a function, an operator, an error.
SELECT v.oid::regclass AS view, peeper.look(v.oid::regclass::text) ~ 'concealed' AS told
FROM pg_class AS v WHERE relnamespace = 'sync_guard'::regnamespace AND relkind = 'v' ORDER BY v.oid::regclass::text COLLATE "C";
SELECT view_name, count(*) FROM peeper.seen WHERE row_text ~ 'concealed|secret' GROUP BY 1;
SELECT count(DISTINCT view_name) > 8 AS many_views, bool_or(row_text ~ 'visible') AS of_his_own FROM peeper.seen;
-- Nor does the planner tell, nor what it knows of the guard's own tables.
SELECT count(*) FROM pg_stats WHERE schemaname = 'sync_guard';
RESET SESSION AUTHORIZATION;

-- The owner's code, where a worker starts, leases, beats, finishes a run: it is the worker's own INSERT and UPDATE, so it runs
-- as he does and as nobody else; what the guard looks at on the way, it looks at as the owner.
CREATE SCHEMA thief AUTHORIZATION regress_esg_thief;
GRANT USAGE ON SCHEMA thief TO PUBLIC;
SET SESSION AUTHORIZATION regress_esg_thief;
CREATE FUNCTION thief.spring(place text, value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $spring$
DECLARE
    attempt text;
BEGIN
    PERFORM pg_advisory_lock(hashtext(place), (SELECT oid::bigint::int FROM pg_roles WHERE rolname = current_user));
    IF current_setting('trap.armed', true) = 'on' THEN
        FOREACH attempt IN ARRAY ARRAY['RESET ROLE', 'SET ROLE NONE', 'SET SESSION AUTHORIZATION DEFAULT', 'SET SESSION AUTHORIZATION regress_esg_thief',
            $a$DO $do$ BEGIN PERFORM set_config('role', 'regress_esg_thief', false); END $do$$a$,
            $a$DO $do$ BEGIN PERFORM set_config('session_authorization', 'default', false); END $do$$a$, 'SET ROLE regress_esg_thief',
            'DELETE FROM sync_guard.leases', 'ALTER ROLE regress_esg_thief SUPERUSER'] LOOP
            BEGIN
                EXECUTE attempt;
            EXCEPTION WHEN OTHERS THEN
                NULL;
            END;
        END LOOP;
        PERFORM pg_advisory_lock(hashtext(place), (SELECT oid::bigint::int FROM pg_roles WHERE rolname = current_user));
    END IF;
    RETURN value;
END $spring$;
CREATE FUNCTION thief.trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM thief.spring(TG_ARGV[0], 'x');
    RETURN NEW;
END $$;
CREATE DOMAIN thief.word AS text DEFAULT thief.spring('domain default', 'x') CHECK (thief.spring('domain', VALUE) IS NOT NULL);
CREATE TABLE thief.runs (
    id bigint DEFAULT length(thief.spring('key default', '12')) + 100 PRIMARY KEY,
    sync_type text DEFAULT thief.spring('default', 'x'), word thief.word,
    status text NOT NULL CHECK (thief.spring('check', status) IN ('running', 'completed', 'failed')), started_at timestamptz, completed_at timestamptz,
    errors jsonb, twice text GENERATED ALWAYS AS (thief.spring('generated', status)) STORED);
CREATE INDEX ON thief.runs (thief.spring('index', sync_type));
CREATE TRIGGER a BEFORE INSERT OR UPDATE ON thief.runs FOR EACH ROW EXECUTE FUNCTION thief.trigger('before');
CREATE TRIGGER zz AFTER INSERT OR UPDATE ON thief.runs FOR EACH ROW EXECUTE FUNCTION thief.trigger('after');
CREATE STATISTICS thief.of_expressions ON (thief.spring('statistics', sync_type)), (thief.spring('statistics', status)) FROM thief.runs;
GRANT SELECT, INSERT, UPDATE ON thief.runs TO regress_esg_worker;
SELECT sync_guard.guard_table('thief.runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}', exclusive => true);
RESET SESSION AUTHORIZATION;
CREATE FUNCTION app.ran() RETURNS TABLE (place text, ran_as name) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT p, pg_get_userbyid(l.objid) FROM unnest('{key default,default,domain default,domain,check,generated,index,before,after,statistics}'::text[]) AS p
        JOIN pg_locks AS l ON l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.classid = hashtext(p)::bit(32)::bigint::oid ORDER BY p COLLATE "C", 2;
    PERFORM pg_advisory_unlock_all();
END $$;
SELECT count(*) > 0 AS cleared FROM app.ran();
-- Without the guard: the same.
SET SESSION AUTHORIZATION regress_esg_worker;
INSERT INTO thief.runs (id, status) VALUES (1, 'completed');
RESET SESSION AUTHORIZATION;
SELECT * FROM app.ran();
SET SESSION AUTHORIZATION regress_esg_worker;
SELECT token FROM sync_guard.start_sync('thief.runs', '{}') \gset
RESET SESSION AUTHORIZATION;
SELECT * FROM app.ran();
SET SESSION AUTHORIZATION regress_esg_worker;
SELECT current_user, sync_guard.heartbeat(:token, 1, 2);
BEGIN;
SELECT sync_guard.fence(:token);
COMMIT;
SELECT sync_guard.take_lease('thief.runs', 102) = :token AS same;
RESET SESSION AUTHORIZATION;
SELECT * FROM app.ran();
SET SESSION AUTHORIZATION regress_esg_worker;
SELECT sync_guard.finish_sync(:token, 'completed', '["x"]', '{"word": "y"}');
SELECT current_user, session_user;
RESET SESSION AUTHORIZATION;
SELECT * FROM app.ran();

-- A dead run that holds the scope is closed on the way, as its table's owner.
SET SESSION AUTHORIZATION regress_esg_thief;
INSERT INTO thief.runs (id, sync_type, status, started_at) VALUES (2, 'y', 'running', '2020-01-01');
RESET SESSION AUTHORIZATION;
SELECT count(*) > 0 AS cleared FROM app.ran();
SET SESSION AUTHORIZATION regress_esg_worker;
SELECT key FROM sync_guard.start_sync('thief.runs', '{"id": 3, "sync_type": "y", "word": "z"}');
RESET SESSION AUTHORIZATION;
SELECT * FROM app.ran();
SELECT id, status FROM thief.runs WHERE sync_type = 'y' ORDER BY id;

-- Statistics of expressions are made by ANALYZE, as the owner; whoever reads and reaps plans with them and calls nothing.
ANALYZE thief.runs;
SELECT * FROM app.ran();
SET trap.armed = on;
SELECT count(*) > 0 AS answered FROM sync_guard.running_syncs;
SELECT sync_guard.sync_is_running('y', 'thief.runs');
SELECT place, ran_as FROM app.ran() WHERE place = 'statistics' OR ran_as <> 'regress_esg_thief';
RESET trap.armed;
SELECT current_user = session_user AS is_himself, rolsuper AS risen FROM pg_roles WHERE rolname = 'regress_esg_thief';
SELECT count(*) FROM sync_guard.leases;

-- The other way round: a caller who would have his code run as the owner, who is read for by the owner's casts. One names a
-- table without its schema; he brings one of that name, a view with his code in it.
SET SESSION AUTHORIZATION regress_esg_thief;
CREATE TABLE thief.own_secret AS SELECT 'concealed' AS word;
CREATE TABLE thief.labels AS SELECT s AS state FROM unnest('{running,completed,failed}'::text[]) AS s;
CREATE TYPE thief.state AS ENUM ('running', 'completed', 'failed');
CREATE FUNCTION thief.label(thief.state) RETURNS text LANGUAGE plpgsql STABLE SET search_path = thief AS $$
BEGIN
    RETURN (SELECT state FROM labels WHERE state = enum_out($1)::text);
END $$;
CREATE CAST (thief.state AS text) WITH FUNCTION thief.label(thief.state) AS ASSIGNMENT;
CREATE TABLE thief.by_cast (id integer PRIMARY KEY, sync_type text, status thief.state, started_at timestamptz DEFAULT clock_timestamp());
GRANT SELECT, INSERT ON thief.by_cast TO regress_esg_worker;
SELECT sync_guard.guard_table('thief.by_cast', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}', exclusive => true);
INSERT INTO thief.by_cast VALUES (1, 'a', 'running');
RESET SESSION AUTHORIZATION;
SELECT sync_guard.sync_is_running('a', 'thief.by_cast');
SET SESSION AUTHORIZATION regress_esg_worker;
SELECT sync_guard.sync_is_running('a', 'thief.by_cast');
CREATE FUNCTION pg_temp.mine() RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING 'as %: %', current_user, (SELECT word FROM thief.own_secret);
    RETURN 'running';
END $$;
CREATE TEMP VIEW labels AS SELECT pg_temp.mine() AS state;
GRANT SELECT ON labels TO PUBLIC;
\set VERBOSITY terse
SELECT sync_guard.sync_is_running('a', 'thief.by_cast');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) > 0 AS of_others FROM sync_guard.running_syncs WHERE relation <> 'thief.by_cast'::regclass;
SELECT count(*) FROM sync_guard.stale_syncs(relation => 'thief.by_cast');
\echo :LAST_ERROR_SQLSTATE
-- The application's own statements pass.
INSERT INTO thief.by_cast VALUES (2, 'b', 'running');
-- A table without such casts is read as ever.
SELECT sync_guard.sync_is_running('y', 'thief.runs');
DISCARD TEMP;
SELECT sync_guard.sync_is_running('a', 'thief.by_cast');
\set VERBOSITY default
RESET SESSION AUTHORIZATION;

-- What a superuser alone may make is no way in.
GRANT CREATE ON DATABASE regress_esg_more TO regress_esg_thief;
SET SESSION AUTHORIZATION regress_esg_thief;
\set VERBOSITY terse
ALTER FUNCTION thief.spring(text, text) LEAKPROOF;
CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION sync_guard.forget_dropped();
CREATE FUNCTION thief.out(internal) RETURNS cstring LANGUAGE internal AS 'textout';
CREATE TYPE thief.base (INPUT = textin, OUTPUT = textout);
CREATE PUBLICATION mine FOR TABLE thief.runs WHERE (thief.spring('row filter', status) = 'x');
CREATE OPERATOR CLASS thief.mine FOR TYPE text USING btree AS OPERATOR 3 =(text, text), FUNCTION 1 bttextcmp(text, text);
RESET SESSION AUTHORIZATION;

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_more;
DROP ROLE regress_esg_peeper, regress_esg_thief, regress_esg_worker;
