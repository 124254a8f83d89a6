-- No one gains rights through the guard: a table's owner plants his code wherever the guard's work may meet it, and tries
-- from there to become more than he is. It is met when a superuser adopts, reads and reaps, and when a stranger does.
--
-- Whatever ran leaves a lock behind that tells where and as whom, so that an attack that was never tried shows.
SET client_min_messages = warning;
CREATE ROLE regress_esg_victim;                      -- may read and update every table, and has a treasure
CREATE ROLE regress_esg_thief;                       -- owns the tables
CREATE DATABASE regress_esg_rights;
ALTER DATABASE regress_esg_rights SET client_min_messages = warning;
\set home :DBNAME
\getenv source PG_ABS_SRCDIR
\c regress_esg_rights
CREATE EXTENSION emag_sync_guard;
\set file :source '/sql/fixtures/call_everything.sql'
\set ECHO none
\i :file
\set ECHO all
CREATE SCHEMA thief AUTHORIZATION regress_esg_thief;
CREATE SCHEMA trap;
GRANT USAGE ON SCHEMA thief, trap TO PUBLIC;
GRANT CREATE ON SCHEMA public TO regress_esg_thief;
CREATE TABLE trap.superuser (who name, what text);
CREATE TABLE trap.victim (who name, what text);
ALTER TABLE trap.victim OWNER TO regress_esg_victim;

SET SESSION AUTHORIZATION regress_esg_thief;

-- Locks of the class 4242: who ran, and where.
CREATE FUNCTION thief.mark(place text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_lock(4242, (SELECT oid::bigint::int FROM pg_roles WHERE rolname = current_user));
    PERFORM pg_advisory_lock(hashtext(place), (SELECT oid::bigint::int FROM pg_roles WHERE rolname = current_user));
END $$;

-- Everything he can think of, each by itself. (Not while the test sets things up in his name: its session's own role is
-- a superuser, and anyone's code may go back to that.)
CREATE FUNCTION thief.spring(place text) RETURNS void LANGUAGE plpgsql AS $spring$
DECLARE
    attempt text;
BEGIN
    PERFORM thief.mark(place);
    IF current_setting('trap.armed', true) IS DISTINCT FROM 'on' THEN
        RETURN;
    END IF;
    FOREACH attempt IN ARRAY ARRAY[
        'INSERT INTO trap.superuser VALUES (current_user, %1$L)',
        'INSERT INTO trap.victim VALUES (current_user, %1$L)',
        'ALTER ROLE regress_esg_thief SUPERUSER',
        'GRANT regress_esg_victim TO regress_esg_thief',
        'GRANT ALL ON trap.superuser, trap.victim TO regress_esg_thief',
        'RESET ROLE',
        'SET ROLE NONE',
        'SET SESSION AUTHORIZATION DEFAULT',
        $set$DO $do$ BEGIN PERFORM set_config('role', 'none', false); END $do$$set$,
        $set$DO $do$ BEGIN PERFORM set_config('session_authorization', 'default', false); END $do$$set$,
        'INSERT INTO trap.superuser VALUES (current_user, %1$L)',
        'INSERT INTO trap.victim VALUES (current_user, %1$L)',
        'ALTER ROLE regress_esg_thief SUPERUSER',
        'CREATE TEMP TABLE pg_class_2 (i int)',
        'PREPARE later AS SELECT 1',
        'LISTEN something',
        $set$DO $do$ BEGIN PERFORM set_config('search_path', 'thief', false); END $do$$set$,
        $set$DO $do$ BEGIN PERFORM set_config('work_mem', '64', false); END $do$$set$,
        'SET transaction_read_only = off',
        'SET TRANSACTION READ WRITE',
        'SET emag_sync_guard.overturning = on',
        'SET emag_sync_guard.enabled = off',
        $set$UPDATE sync_guard.settings SET max_silence = '1 year'$set$,
        'DELETE FROM sync_guard.journal'
    ] LOOP
        BEGIN
            EXECUTE format(attempt, place);
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
END $spring$;

-- "Immutable", as indexes and generated columns want it: what it calls is not.
CREATE FUNCTION thief.immutable(place text, value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    PERFORM thief.spring(place);
    RETURN value;
END $$;

CREATE FUNCTION thief.trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM thief.spring(TG_ARGV[0]);
    RETURN NEW;
END $$;

-- A table of runs with a dead run; further columns and clauses as given.
CREATE PROCEDURE thief.make(name text, status_type text DEFAULT 'text', columns text DEFAULT '', clause text DEFAULT '')
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TABLE thief.%I (id integer PRIMARY KEY, sync_type text DEFAULT %L, status %s NOT NULL,
                    started_at timestamptz DEFAULT clock_timestamp() - interval %L, completed_at timestamptz, errors jsonb %s) %s',
                   name, name, status_type, '2 hours', columns, clause);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON thief.%I TO regress_esg_victim', name);
END $$;

-- Triggers of every kind.
CALL thief.make('row_triggers');
CREATE TRIGGER a BEFORE UPDATE ON thief.row_triggers FOR EACH ROW EXECUTE FUNCTION thief.trigger('before row');
CREATE TRIGGER b AFTER UPDATE ON thief.row_triggers FOR EACH ROW EXECUTE FUNCTION thief.trigger('after row');
CREATE TRIGGER c BEFORE UPDATE ON thief.row_triggers EXECUTE FUNCTION thief.trigger('before statement');
CREATE TRIGGER d AFTER UPDATE ON thief.row_triggers EXECUTE FUNCTION thief.trigger('after statement');
CREATE CONSTRAINT TRIGGER e AFTER UPDATE ON thief.row_triggers DEFERRABLE INITIALLY IMMEDIATE
    FOR EACH ROW EXECUTE FUNCTION thief.trigger('deferrable');
CALL thief.make('when_triggers');
CREATE TRIGGER a BEFORE UPDATE ON thief.when_triggers FOR EACH ROW
    WHEN (thief.immutable('when', NEW.sync_type) IS NOT NULL) EXECUTE FUNCTION thief.trigger('before row');
CALL thief.make('deferred');
CREATE CONSTRAINT TRIGGER a AFTER UPDATE ON thief.deferred DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION thief.trigger('deferred');
-- Casts of his types, to text and to JSON.
CREATE TYPE thief.status AS ENUM ('running', 'completed', 'failed');
CREATE TYPE thief.extra AS (a integer);
CREATE FUNCTION thief.status_text(thief.status) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM thief.spring('cast to text');
    RETURN CASE WHEN $1 < 'completed' THEN 'running' WHEN $1 < 'failed' THEN 'completed' ELSE 'failed' END;
END $$;
CREATE FUNCTION thief.extra_json(thief.extra) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    PERFORM thief.spring('cast to json');
    RETURN '{}';
END $$;
CREATE CAST (thief.status AS text) WITH FUNCTION thief.status_text(thief.status) AS ASSIGNMENT;
CREATE CAST (thief.extra AS json) WITH FUNCTION thief.extra_json(thief.extra);
CALL thief.make('casts', 'thief.status', ', extra thief.extra DEFAULT ROW(1)');
-- CHECKs, of the table and of a domain.
CALL thief.make('checks', 'text', $$, CHECK (thief.immutable('check', status) IN ('running', 'completed', 'failed'))$$);
CREATE DOMAIN thief.error AS jsonb CHECK (thief.immutable('domain', 'x') IS NOT NULL);
CREATE DOMAIN thief.word AS text CHECK (thief.immutable('status domain', VALUE) IN ('running', 'completed', 'failed'));
CALL thief.make('domains', 'thief.word', ', error_message thief.error');
-- Indexes: expressions, predicates, and what the planner works out beforehand.
CALL thief.make('indexes');
CREATE INDEX ON thief.indexes (thief.immutable('index expression', status));
CREATE INDEX ON thief.indexes (status) WHERE thief.immutable('index predicate', status) IS NOT NULL;
CREATE UNIQUE INDEX ON thief.indexes (id) WHERE thief.immutable('index constant', 'x') = 'x';
CREATE UNIQUE INDEX ON thief.indexes (id, thief.immutable('index expression constant', 'x'));
-- Generated columns, rules, partitions.
CALL thief.make('generated', 'text', $$, twice text GENERATED ALWAYS AS (thief.immutable('generated', status)) STORED$$);
CALL thief.make('rules');
CREATE TABLE thief.ruled (s text);
CALL thief.make('instead');
CREATE TABLE thief.expression_key (id integer NOT NULL, status text NOT NULL, started_at timestamptz)
    PARTITION BY LIST ((thief.immutable('partition key', 'x') || status));
CREATE TABLE thief.expression_partition PARTITION OF thief.expression_key DEFAULT;
CALL thief.make('partitioned', 'text', '', 'PARTITION BY RANGE (id)');
CREATE TABLE thief.partition PARTITION OF thief.partitioned DEFAULT;
CREATE TRIGGER a BEFORE UPDATE ON thief.partition FOR EACH ROW EXECUTE FUNCTION thief.trigger('partition trigger');
-- Row security: its policies ask for the reader, so they run as the reader.
CALL thief.make('policies');
ALTER TABLE thief.policies ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON thief.policies USING (thief.immutable('policy', status) IS NOT NULL);
-- Errors that look like a cancel, a shutdown, a failure of the whole transaction.
CREATE FUNCTION thief.pretend() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'pretended' USING ERRCODE = TG_ARGV[0];
END $$;
CALL thief.make('cancels');
CREATE TRIGGER a BEFORE UPDATE ON thief.cancels FOR EACH ROW EXECUTE FUNCTION thief.pretend('57014');
CALL thief.make('shutdowns');
CREATE TRIGGER a BEFORE UPDATE ON thief.shutdowns FOR EACH ROW EXECUTE FUNCTION thief.pretend('57P01');
CALL thief.make('serializes');
CREATE TRIGGER a BEFORE UPDATE ON thief.serializes FOR EACH ROW EXECUTE FUNCTION thief.pretend('40001');
-- And an honest one, whose name comes last.
CALL thief.make('zz_honest');

-- What he could name his things.
CREATE TABLE thief."a""b'c\d$e%s;--" ("i""d'\%s" integer PRIMARY KEY, "st'a\t%1$s" text, started_at timestamptz, "sc""ope'" text);
RESET SESSION AUTHORIZATION;

-- A dead run more in each of his tables.
CREATE FUNCTION trap.fill() RETURNS void LANGUAGE plpgsql SET trap.armed = off AS $$
DECLARE
    name text;
BEGIN
    SET LOCAL ROLE regress_esg_thief;
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'thief'::regnamespace AND relkind IN ('r', 'p')
                AND NOT relispartition AND relname !~ '^(ruled|expression|a"b)' LOOP
        EXECUTE format('INSERT INTO thief.%I (id, status) SELECT coalesce(max(id), 0) + 1, ''running'' FROM thief.%1$I', name);
    END LOOP;
    SET LOCAL ROLE NONE;
    PERFORM pg_advisory_unlock_all();
END $$;

-- What happened since the last call: who ran (the places only where asked), what is in the traps, and whether the thief is
-- more than he was.
CREATE FUNCTION trap.look(OUT ran_as name[], OUT caught bigint, OUT risen boolean) LANGUAGE plpgsql AS $$
BEGIN
    SELECT array_agg(pg_get_userbyid(objid) ORDER BY pg_get_userbyid(objid)) INTO ran_as
    FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = 4242;
    caught := (SELECT count(*) FROM trap.superuser) + (SELECT count(*) FROM trap.victim);
    risen := (SELECT rolsuper FROM pg_roles WHERE rolname = 'regress_esg_thief')
          OR (SELECT count(*) FROM pg_auth_members WHERE member = 'regress_esg_thief'::regrole) > 0
          OR has_table_privilege('regress_esg_thief', 'trap.superuser', 'INSERT')
          OR has_table_privilege('regress_esg_thief', 'trap.victim', 'INSERT');
    PERFORM pg_advisory_unlock_all();
END $$;
CREATE VIEW trap.places AS
SELECT place, pg_get_userbyid(l.objid) AS ran_as
FROM unnest('{before row,after row,before statement,after statement,deferrable,when,deferred,cast to text,cast to json,check,
             domain,status domain,index expression,index predicate,index constant,index expression constant,generated,rule,
             instead,partition key,partition trigger,policy}'::text[]) AS place
JOIN pg_locks AS l ON l.locktype = 'advisory' AND l.pid = pg_backend_pid() AND l.classid = hashtext(place)::bit(32)::bigint::oid;
SELECT trap.fill();

-- From here on he means it. A new session has evaluated nothing of his yet, as before each of the steps below.
ALTER DATABASE regress_esg_rights SET trap.armed = on;
\c -
CREATE TABLE trap.settings AS SELECT name, setting FROM pg_settings;
SELECT * FROM trap.look();

-- The attacks are real: they work where a superuser writes without the guard.
BEGIN;
UPDATE thief.row_triggers SET sync_type = 'x';
SELECT ran_as = ARRAY[session_user] AS ran_as_superuser, caught > 0 AS caught, risen FROM trap.look();
ROLLBACK;

-- A superuser adopts.
\c -
CREATE FUNCTION trap.adopt(regclass) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM sync_guard.guard_table($1, scope_columns => '{sync_type}');
    RETURN 'guarded';
EXCEPTION WHEN OTHERS THEN
    RETURN SQLSTATE || ': ' || SQLERRM;
END $$;
SELECT relname, trap.adopt(oid)
FROM pg_class WHERE relnamespace = 'thief'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
  AND relname !~ '^(ruled|a"b)' ORDER BY relname COLLATE "C";
SELECT place, ran_as FROM trap.places ORDER BY place COLLATE "C", ran_as;
SELECT * FROM trap.look();
SELECT sync_guard.set_limit('thief.domains', '{"sync_type": "domains"}', max_age => '1 day');
SELECT sync_guard.allow_transition('thief.checks', 'completed', 'failed');
SELECT sync_guard.allow_transition('thief.domains', 'completed', 'failed');
SELECT * FROM trap.look();

-- Rules, which adoption would have refused.
SET SESSION AUTHORIZATION regress_esg_thief;
CREATE RULE also AS ON UPDATE TO thief.rules DO ALSO INSERT INTO thief.ruled VALUES (thief.immutable('rule', NEW.status));
CREATE RULE instead AS ON UPDATE TO thief.instead DO INSTEAD SELECT thief.immutable('instead', NEW.status);
RESET SESSION AUTHORIZATION;

-- Names are names.
SELECT sync_guard.guard_table(c.oid::regclass, status_column => $$st'a\t%1$s$$, scope_columns => ARRAY[$$sc"ope'$$],
                              live_statuses => ARRAY[$$'run"ning\$$, '%s'], failed_status => $$f'ai\led"%n$$)
FROM pg_class AS c WHERE relname ~ '^a"b' AND relkind = 'r';
INSERT INTO thief."a""b'c\d$e%s;--" VALUES (1, $$'run"ning\$$, now() - interval '2 hours', $$'"\;--$$), (2, '%s', now(), '%s');
SET standard_conforming_strings = off;
SET backslash_quote = on;
SELECT sync_guard.set_limit(s.relation, $j${"sc\"ope'": "'\"\\;--"}$j$::jsonb, max_age => '1 hour') FROM sync_guard.settings AS s
WHERE s.key_column LIKE '%"%';
SELECT run_key, status, scope, verdict FROM sync_guard.stale_syncs(relation => (SELECT relation FROM sync_guard.settings WHERE key_column LIKE '%"%'));
SELECT sync_guard.reap_stale_syncs(relation => (SELECT relation FROM sync_guard.settings WHERE key_column LIKE '%"%'));
RESET standard_conforming_strings;
RESET backslash_quote;
SELECT "i""d'\%s", "st'a\t%1$s" FROM thief."a""b'c\d$e%s;--" ORDER BY 1;
SELECT sync_guard.unguard_table(s.relation) FROM sync_guard.settings AS s WHERE s.key_column LIKE '%"%';
DROP TABLE thief."a""b'c\d$e%s;--";
DELETE FROM sync_guard.journal;

-- A superuser reads: every view, every function.
CREATE FUNCTION trap.read_everything() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    view_name text;
    n bigint;
    total bigint := 0;
BEGIN
    FOR view_name IN SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind = 'v'
                     AND has_table_privilege(oid, 'SELECT') LOOP
        EXECUTE format('SELECT count(v::text) FROM %s AS v', view_name) INTO n;
        total := total + n;
    END LOOP;
    PERFORM sync_guard.sync_is_running();
    PERFORM sync_guard.sync_is_running('zz_honest');
    PERFORM sync_guard.scope_is_running('{"sync_type": "zz_honest"}');
    PERFORM sync_guard.sync_status();
    PERFORM * FROM sync_guard.stale_syncs();
    PERFORM sync_guard.explain_run(t.relation, '1'::text) FROM sync_guard.guarded_tables AS t;
    PERFORM sync_guard.live_runs_query(t.relation) FROM sync_guard.guarded_tables AS t;
    RETURN total;
END $$;
\c -
SELECT trap.read_everything() > 0 AS read;
SELECT place, ran_as FROM trap.places ORDER BY place COLLATE "C", ran_as;
SELECT * FROM trap.look();

-- And calls whatever else there is, as the catalog lists it, on each table; every call is taken back, so that what counts is
-- who ran. (start_sync is left out: it is the superuser's own INSERT.)
\c -
SET client_min_messages = error;
SELECT count(*) > 500 AS called, count(*) FILTER (WHERE everything.kind(everything.answer(statement)) = 'answers') > 300 AS answered
FROM sync_guard.guarded_tables AS t, everything.statements(t.relation, '1', 'bigint')
WHERE t.relation_name ~ 'casts|checks|domains|indexes|row_triggers|partitioned' AND what NOT LIKE 'sync_guard.start_sync%';
SELECT ran_as FROM trap.look();

-- A superuser reaps, whatever his search path. What cannot be done fails for that table alone.
\c -
SET search_path = thief, public;
SELECT sync_guard.reap_stale_syncs();
RESET search_path;
SELECT place, ran_as FROM trap.places ORDER BY place COLLATE "C", ran_as;
SELECT * FROM trap.look();
SELECT relation_name, run_key, status, started_at < now() AS past
FROM sync_guard.stuck_syncs JOIN sync_guard.guarded_tables USING (relation) ORDER BY 1;
SELECT sync_guard.overturn_reap('thief.casts', 1, 'completed');
SELECT * FROM trap.look();
SELECT name, pg_settings.setting, s.setting AS before FROM pg_settings JOIN trap.settings AS s USING (name)
WHERE pg_settings.setting IS DISTINCT FROM s.setting;
-- The owner reaps them all himself, deferred triggers too: what he does in his own name, he may. (Row security: none.)
SET trap.armed = off;
SET SESSION AUTHORIZATION regress_esg_thief;
SELECT sync_guard.reap_stale_syncs();
RESET SESSION AUTHORIZATION;
SET trap.armed = on;
SELECT * FROM trap.look();

-- A stranger, who may read and update: reads, reaps, overturns.
SELECT trap.fill();
\c -
SET SESSION AUTHORIZATION regress_esg_victim;
SELECT trap.read_everything() > 0 AS read;
RESET SESSION AUTHORIZATION;
SELECT place, ran_as FROM trap.places ORDER BY place COLLATE "C", ran_as;
SELECT * FROM trap.look();
SET SESSION AUTHORIZATION regress_esg_victim;
SET client_min_messages = error;
SELECT count(*) > 500 AS called
FROM sync_guard.guarded_tables AS t, everything.statements(t.relation, '1', 'bigint'), everything.answer(statement)
WHERE t.relation_name ~ 'casts|checks|domains|indexes|row_triggers|partitioned';
RESET client_min_messages;
RESET SESSION AUTHORIZATION;
SELECT ran_as FROM trap.look();
SET SESSION AUTHORIZATION regress_esg_victim;
SELECT sync_guard.reap_stale_syncs();
SELECT sync_guard.overturn_reap('thief.row_triggers', 1, 'completed');
RESET SESSION AUTHORIZATION;
SELECT place, ran_as FROM trap.places ORDER BY place COLLATE "C", ran_as;
SELECT * FROM trap.look();

-- A deferrable trigger that the caller defers.
SELECT trap.fill();
BEGIN;
SET CONSTRAINTS ALL DEFERRED;
SELECT sync_guard.reap_stale_syncs(relation => 'thief.row_triggers');
COMMIT;
SELECT * FROM trap.look();

-- Inside the application's statements: a live run is started by a superuser and by a stranger in an exclusive scope, which
-- the guard looks at as the owner.
SELECT sync_guard.guard_table(t.relation, exclusive => true) FROM sync_guard.guarded_tables AS t WHERE relation_name = 'thief.casts';
SELECT trap.look() IS NOT NULL AS cleared;
INSERT INTO thief.casts (id, status, started_at) VALUES (100, 'running', now());
SELECT * FROM trap.look();
SET SESSION AUTHORIZATION regress_esg_victim;
\set VERBOSITY sqlstate
INSERT INTO thief.casts (id, status, started_at) VALUES (101, 'running', now());
\set VERBOSITY default
RESET SESSION AUTHORIZATION;
SELECT * FROM trap.look();

-- The other way round: a caller who would have the owner's triggers run in his name. They name a table without its schema,
-- as triggers do; he brings one of that name.
SET SESSION AUTHORIZATION regress_esg_thief;
CREATE TABLE thief.log (entry text);
CREATE FUNCTION thief.logs() RETURNS trigger LANGUAGE plpgsql SET search_path = thief AS $$
BEGIN
    INSERT INTO log VALUES (NEW.status);
    RETURN NEW;
END $$;
CALL thief.make('careless');
CREATE TRIGGER a BEFORE UPDATE ON thief.careless FOR EACH ROW EXECUTE FUNCTION thief.logs();
INSERT INTO thief.careless (id, status) VALUES (1, 'running');
SELECT sync_guard.guard_table('thief.careless');
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_esg_victim;
CREATE TEMP TABLE log (entry text);
GRANT ALL ON log TO PUBLIC;
CREATE FUNCTION pg_temp.mine() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'GRANT ALL ON thief.log TO regress_esg_victim';
    RETURN NEW;
END $$;
CREATE TRIGGER mine BEFORE INSERT ON log FOR EACH ROW EXECUTE FUNCTION pg_temp.mine();
SELECT sync_guard.reap_stale_syncs(relation => 'thief.careless');
\echo :LAST_ERROR_SQLSTATE
SELECT sync_guard.sync_is_running(relation => 'thief.careless');
SELECT has_table_privilege('thief.log', 'INSERT') AS gained;
DISCARD TEMP;
SELECT sync_guard.reap_stale_syncs(relation => 'thief.careless');
RESET SESSION AUTHORIZATION;
TABLE thief.log;

SELECT * FROM trap.look();

-- A partition of someone else's: what he put on it would run as the table's owner.
CREATE TABLE trap.parts (id integer, status text DEFAULT 'running', started_at timestamptz, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE trap.parts_1 PARTITION OF trap.parts FOR VALUES FROM (1) TO (100);
CREATE TABLE trap.parts_2 PARTITION OF trap.parts FOR VALUES FROM (100) TO (200);
SELECT sync_guard.guard_table('trap.parts');
ALTER TABLE trap.parts_2 OWNER TO regress_esg_thief;
GRANT USAGE, CREATE ON SCHEMA trap TO regress_esg_thief;
SET SESSION AUTHORIZATION regress_esg_thief;
CREATE TRIGGER a BEFORE UPDATE ON trap.parts_2 FOR EACH ROW EXECUTE FUNCTION thief.trigger('partition trigger');
-- He owns no more than his partition.
SELECT sync_guard.set_limit('trap.parts_2', '{}', max_silence => '1 year');
SELECT sync_guard.pause_reaping('trap.parts_2');
SELECT sync_guard.allow_transition('trap.parts_2', 'completed', 'running');
SELECT sync_guard.repair_triggers('trap.parts_2');
SELECT sync_guard.unguard_table('trap.parts_2');
SELECT sync_guard.guard_table('trap.parts_2');
SELECT sync_guard.sync_is_running(relation => 'trap.parts_2');
RESET SESSION AUTHORIZATION;
REVOKE CREATE ON SCHEMA trap FROM regress_esg_thief;
INSERT INTO trap.parts VALUES (1, 'running', now() - interval '2 hours'), (150, 'running', now() - interval '2 hours');
\set VERBOSITY terse
SELECT sync_guard.reap_stale_syncs(relation => 'trap.parts');
\set VERBOSITY default
\echo :LAST_ERROR_SQLSTATE
SELECT * FROM trap.look();
ALTER TABLE trap.parts_2 OWNER TO CURRENT_USER;
DROP TRIGGER a ON trap.parts_2;
SELECT sync_guard.reap_stale_syncs(relation => 'trap.parts');

-- The owner changes under a session that knows the table: what the new one plants does not run as the old one.
CREATE TABLE thief.given (id integer, sync_type text, status thief.status, started_at timestamptz, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE thief.given_1 PARTITION OF thief.given DEFAULT;
GRANT SELECT, INSERT ON thief.given, thief.given_1 TO regress_esg_victim;
SELECT sync_guard.guard_table('thief.given', exclusive => true, scope_columns => '{sync_type}');
SELECT trap.look() IS NOT NULL AS cleared;
INSERT INTO thief.given_1 VALUES (1, 'a', 'running', now());
SELECT trap.look() IS NOT NULL AS cleared;
ALTER TABLE thief.given OWNER TO regress_esg_thief;
INSERT INTO thief.given_1 VALUES (2, 'b', 'running', now());
SELECT * FROM trap.look();
SELECT sync_guard.sync_is_running('b', 'thief.given');
SELECT * FROM trap.look();
-- As with the name.
ALTER TABLE thief.given RENAME TO taken;
\set VERBOSITY sqlstate
INSERT INTO thief.given_1 VALUES (3, 'b', 'running', now());
\set VERBOSITY default

-- A table without settings may have the guard's triggers: they do nothing there.
SET SESSION AUTHORIZATION regress_esg_thief;
CALL thief.make('on_his_own');
CREATE TRIGGER a BEFORE INSERT OR UPDATE OR DELETE ON thief.on_his_own FOR EACH ROW EXECUTE FUNCTION sync_guard.judge_row();
CREATE TRIGGER b AFTER INSERT OR UPDATE OR DELETE ON thief.on_his_own FOR EACH ROW EXECUTE FUNCTION sync_guard.watch_row();
CREATE CONSTRAINT TRIGGER c AFTER INSERT OR UPDATE OR DELETE ON thief.on_his_own DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION sync_guard.watch_row();
INSERT INTO thief.on_his_own (id, status) VALUES (1, 'running');
UPDATE thief.on_his_own SET status = 'completed';
UPDATE thief.on_his_own SET status = 'running';
DELETE FROM thief.on_his_own;
-- Nor do they where they do not belong.
CREATE TRIGGER d BEFORE UPDATE ON thief.on_his_own EXECUTE FUNCTION sync_guard.judge_row();
UPDATE thief.on_his_own SET status = 'running';
DROP TRIGGER d ON thief.on_his_own;
CREATE TRIGGER d BEFORE TRUNCATE ON thief.on_his_own EXECUTE FUNCTION sync_guard.watch_row();
TRUNCATE thief.on_his_own;
CREATE VIEW thief.a_view AS SELECT * FROM thief.on_his_own;
CREATE TRIGGER d INSTEAD OF INSERT ON thief.a_view FOR EACH ROW EXECUTE FUNCTION sync_guard.judge_row();
INSERT INTO thief.a_view (id, status) VALUES (1, 'running');
CREATE EVENT TRIGGER mine ON sql_drop EXECUTE FUNCTION sync_guard.forget_dropped();
CREATE TRIGGER e BEFORE UPDATE ON thief.on_his_own FOR EACH ROW EXECUTE FUNCTION sync_guard.settings_changed();
RESET SESSION AUTHORIZATION;
SELECT sync_guard.judge_row();

-- Triggers that do odd things to the reaping that fires them: begin another one, drop or release the table that comes next,
-- change settings, delete or change the row, undo the closing. What cannot be done fails for that run, and the call ends.
SET SESSION AUTHORIZATION regress_esg_thief;
SET trap.armed = off;
CREATE FUNCTION thief.odd() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE NEW.id
        WHEN 1 THEN PERFORM sync_guard.reap_stale_syncs();
        WHEN 2 THEN DELETE FROM thief.odd WHERE id = 2;
        WHEN 3 THEN UPDATE thief.odd SET sync_type = 'changed' WHERE id = 3;
        WHEN 4 THEN DROP TABLE thief.odd_next;
        WHEN 5 THEN PERFORM sync_guard.unguard_table('thief.odd_last');
        WHEN 6 THEN PERFORM sync_guard.guard_table('thief.odd', max_silence => '1 year');
        WHEN 7 THEN TRUNCATE thief.odd;
        WHEN 8 THEN RETURN NULL;
        WHEN 9 THEN NEW.status := 'completed';
        ELSE NULL;
    END CASE;
    RETURN NEW;
END $$;
CALL thief.make('odd');
CALL thief.make('odd_next');
CALL thief.make('odd_last');
CALL thief.make('events', 'text', $$, CHECK (status IN ('running', 'completed', 'failed'))$$);
CREATE TRIGGER a BEFORE UPDATE ON thief.odd FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION thief.odd();
SELECT sync_guard.guard_table(t, live_statuses => '{running}', failed_status => 'failed') FROM unnest('{thief.odd,thief.odd_next,thief.odd_last}'::regclass[]) AS t;
INSERT INTO thief.odd (id, status) SELECT i, 'running' FROM generate_series(1, 10) AS i;
INSERT INTO thief.odd_next (id, status) VALUES (1, 'running');
INSERT INTO thief.odd_last (id, status) VALUES (1, 'running');
RESET trap.armed;
RESET SESSION AUTHORIZATION;
SELECT sync_guard.pause_reaping(relation) FROM sync_guard.guarded_tables WHERE relation_name !~ 'odd';
SET client_min_messages = warning;
SELECT sync_guard.reap_stale_syncs();
SELECT id, status FROM thief.odd ORDER BY id;
SELECT relation_name FROM sync_guard.guarded_tables WHERE relation_name ~ 'odd' ORDER BY 1;
SELECT run_key FROM sync_guard.reaped_syncs WHERE relation_name = 'thief.odd' ORDER BY run_key;
SELECT status FROM thief.odd_last;

-- Event triggers of others: one of the administrator's that forbids what adoption does makes it fail and leaves nothing.
CREATE FUNCTION trap.no_triggers() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_tag = 'CREATE TRIGGER' THEN
        RAISE EXCEPTION 'no triggers here' USING ERRCODE = 'ZZ001';
    END IF;
END $$;
CREATE EVENT TRIGGER no_triggers ON ddl_command_end EXECUTE FUNCTION trap.no_triggers();
SELECT trap.adopt('thief.events');
SELECT count(*) FROM sync_guard.settings WHERE relation_name = 'thief.events';
DROP EVENT TRIGGER no_triggers;
-- What it runs, it runs as the table's owner, like every DDL that he does himself.
CREATE OR REPLACE FUNCTION trap.no_triggers() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE WARNING '% by %', tg_tag, current_user;
END $$;
CREATE EVENT TRIGGER who ON ddl_command_end EXECUTE FUNCTION trap.no_triggers();
SELECT trap.adopt('thief.events');
DROP EVENT TRIGGER who;
SELECT * FROM trap.look();

-- The switches are not for everyone, not even before the library is loaded.
\c -
SET trap.armed = off;
SET SESSION AUTHORIZATION regress_esg_thief;
SET emag_sync_guard.enabled = off;
SET emag_sync_guard.overturning = on;
SELECT sync_guard.sync_is_running(relation => 'thief.zz_honest');
SHOW emag_sync_guard.enabled;
SHOW emag_sync_guard.overturning;
SET emag_sync_guard.enabled = off;
SET emag_sync_guard.overturning = on;
ALTER ROLE regress_esg_thief SET emag_sync_guard.enabled = off;
RESET SESSION AUTHORIZATION;
SELECT * FROM trap.look();

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_rights;
DROP ROLE regress_esg_thief, regress_esg_victim;
