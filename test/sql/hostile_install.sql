-- CREATE EXTENSION in a database where someone may create in schema public, which comes into the script's path: whatever he
-- has planted there is not called, and what stands in the extension's way makes it fail and leaves nothing.
SET client_min_messages = warning;
CREATE ROLE regress_esg_planter;
CREATE DATABASE regress_esg_hostile;
ALTER DATABASE regress_esg_hostile SET client_min_messages = warning;
\set home :DBNAME
\getenv source PG_ABS_SRCDIR
\c regress_esg_hostile
GRANT CREATE ON SCHEMA public TO regress_esg_planter;
GRANT CREATE ON DATABASE regress_esg_hostile TO regress_esg_planter;
CREATE TABLE public.trap (what text);
GRANT SELECT, INSERT ON public.trap TO PUBLIC;
SET SESSION AUTHORIZATION regress_esg_planter;

-- Operators and functions that match better than the server's own; types and tables by the names that the script uses.
\set file :source '/sql/fixtures/planted.sql'
\set ECHO none
\i :file
\set ECHO all
-- An operator class that would be the default one for its type is a superuser's to make; he is none.
CREATE OPERATOR CLASS public.mine DEFAULT FOR TYPE pg_catalog.regclass USING btree AS OPERATOR 3 =(oid, oid), FUNCTION 1 btoidcmp(oid, oid);
SELECT count(*) > 2000 AS planted FROM pg_proc WHERE pronamespace = 'public'::regnamespace;
BEGIN;
SELECT 1::pg_catalog.oid = 'pg_class'::pg_catalog.regclass AS trapped;
SELECT * FROM public.trap;
ROLLBACK;

-- A schema of the extension's name: it fails cleanly.
CREATE SCHEMA sync_guard;
CREATE TABLE sync_guard.settings (relation regclass);
CREATE FUNCTION sync_guard.judge_row() RETURNS pg_catalog.trigger LANGUAGE plpgsql AS 'BEGIN PERFORM public.spring(''judge_row''); RETURN NEW; END';
RESET SESSION AUTHORIZATION;
\set VERBOSITY terse
CREATE EXTENSION emag_sync_guard;
\echo :LAST_ERROR_SQLSTATE
CREATE EXTENSION emag_sync_guard SCHEMA sync_guard;
\echo :LAST_ERROR_SQLSTATE
CREATE EXTENSION IF NOT EXISTS emag_sync_guard CASCADE;
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM pg_extension WHERE extname = 'emag_sync_guard';
SELECT count(*) FROM pg_event_trigger;
SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'sync_guard';
DROP SCHEMA sync_guard CASCADE;

-- An event trigger of the extension's name, too.
CREATE FUNCTION public.nothing() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER emag_sync_guard_forget_dropped ON sql_drop EXECUTE FUNCTION public.nothing();
CREATE EXTENSION emag_sync_guard;
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM pg_namespace WHERE nspname = 'sync_guard';
DROP EVENT TRIGGER emag_sync_guard_forget_dropped;
DROP FUNCTION public.nothing();

-- Nobody but a superuser creates it.
SET SESSION AUTHORIZATION regress_esg_planter;
CREATE EXTENSION emag_sync_guard;
\echo :LAST_ERROR_SQLSTATE
RESET SESSION AUTHORIZATION;

-- Among the look-alikes, whoever's path it is, and with rights that new objects would get from the creator's defaults.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_esg_planter;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_esg_planter, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_esg_planter;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO regress_esg_planter;
SET search_path = public;
CREATE EXTENSION emag_sync_guard;
-- What is asked here is not to fall into it either.
SET search_path = pg_catalog;
SELECT * FROM public.trap;
SELECT has_schema_privilege('regress_esg_planter', 'sync_guard', 'CREATE') AS may_create;
SELECT oid::regclass, relacl FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relacl::text ~ 'regress_esg_planter';
SELECT oid::regprocedure, proacl FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace AND proacl::text ~ 'regress_esg_planter';

-- What the script made uses nothing of theirs.
SELECT c.classid::regclass, c.objid, d.refclassid::regclass, d.refobjid
FROM pg_depend AS c JOIN pg_depend AS d ON (d.classid, d.objid) = (c.classid, c.objid)
WHERE c.refclassid = 'pg_extension'::regclass AND c.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'emag_sync_guard') AND c.deptype = 'e'
  AND ((d.refclassid = 'pg_proc'::regclass AND (SELECT pronamespace FROM pg_proc WHERE oid = d.refobjid) = 'public'::regnamespace)
    OR (d.refclassid = 'pg_operator'::regclass AND (SELECT oprnamespace FROM pg_operator WHERE oid = d.refobjid) = 'public'::regnamespace)
    OR (d.refclassid = 'pg_type'::regclass AND (SELECT typnamespace FROM pg_type WHERE oid = d.refobjid) = 'public'::regnamespace)
    OR (d.refclassid = 'pg_class'::regclass AND (SELECT relnamespace FROM pg_class WHERE oid = d.refobjid) = 'public'::regnamespace));
-- And works among them, on the path that has them.
RESET search_path;
CREATE SCHEMA app;
CREATE TABLE app.runs (id bigint PRIMARY KEY, status pg_catalog.text CHECK (status IN ('running', 'completed', 'failed')), started_at timestamp, errors pg_catalog.jsonb);
SELECT sync_guard.guard_table('app.runs');
INSERT INTO app.runs VALUES (1, 'running', '2020-01-01');
SELECT sync_guard.reap_stale_syncs();
UPDATE app.runs SET status = 'completed' WHERE id = 1;
SELECT sync_guard.sync_is_running();
SELECT verdict, outcome FROM sync_guard.reaped_syncs;
SELECT count(*) > 0 AS counted FROM sync_guard.sync_status_overview;
SELECT count(*) FROM public.trap;

-- A second time is refused by the server, and does no harm.
CREATE EXTENSION emag_sync_guard;
\echo :LAST_ERROR_SQLSTATE
DROP EXTENSION emag_sync_guard;
SELECT count(*) FROM pg_namespace WHERE nspname = 'sync_guard';

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_hostile;
DROP ROLE regress_esg_planter;
