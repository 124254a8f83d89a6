-- ALTER EXTENSION UPDATE in a database where someone may create in schema public, which is in the script's path as at the
-- creation: whatever he has planted since is not called, and he gets no right on what is new.
SET client_min_messages = warning;
CREATE ROLE regress_esg_planter;
CREATE DATABASE regress_esg_update;
ALTER DATABASE regress_esg_update SET client_min_messages = warning;
\set home :DBNAME
\getenv source PG_ABS_SRCDIR
\c regress_esg_update
CREATE EXTENSION emag_sync_guard VERSION '1.0.0';
CREATE SCHEMA app;
CREATE TABLE app.runs (id bigint PRIMARY KEY, status text CHECK (status IN ('running', 'completed', 'failed')), started_at timestamp, errors jsonb);
SELECT sync_guard.guard_table('app.runs');
INSERT INTO app.runs VALUES (1, 'running', '2020-01-01'), (2, 'running', '2020-01-01');
SELECT sync_guard.reap_stale_syncs(max_runs => 1);
GRANT CREATE ON SCHEMA public TO regress_esg_planter;
CREATE TABLE public.trap (what text);
GRANT SELECT, INSERT ON public.trap TO PUBLIC;
SET SESSION AUTHORIZATION regress_esg_planter;
\set file :source '/sql/fixtures/planted.sql'
\set ECHO none
\i :file
\set ECHO all
SELECT count(*) > 2000 AS planted FROM pg_proc WHERE pronamespace = 'public'::regnamespace;
BEGIN;
SELECT 1::pg_catalog.oid = 'pg_class'::pg_catalog.regclass AS trapped;
SELECT * FROM public.trap;
ROLLBACK;
-- Nobody but a superuser updates it, and nothing can be slipped into it.
\set VERBOSITY terse
ALTER EXTENSION emag_sync_guard UPDATE;
\echo :LAST_ERROR_SQLSTATE
ALTER EXTENSION emag_sync_guard ADD FUNCTION public.spring(pg_catalog.text);
\echo :LAST_ERROR_SQLSTATE
CREATE FUNCTION sync_guard.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1';
\echo :LAST_ERROR_SQLSTATE
RESET SESSION AUTHORIZATION;

-- The defaults that new objects would get from the one who updates.
ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO regress_esg_planter;
ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO regress_esg_planter, PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO regress_esg_planter;
SET search_path = public;
ALTER EXTENSION emag_sync_guard UPDATE;
-- What is asked here is not to fall into it either.
SET search_path = pg_catalog;
SELECT extversion = (SELECT default_version FROM pg_available_extensions WHERE name = 'emag_sync_guard') AS is_current FROM pg_extension WHERE extname = 'emag_sync_guard';
SELECT * FROM public.trap;
SELECT oid::regclass, relacl FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relacl::text ~ 'regress_esg_planter';
SELECT oid::regprocedure, proacl FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace AND proacl::text ~ 'regress_esg_planter';
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind IN ('r', 'S')
  AND EXISTS (SELECT FROM aclexplode(relacl) WHERE grantee = 0);
-- What the scripts made uses nothing of his.
SELECT c.classid::regclass, c.objid, d.refclassid::regclass, d.refobjid
FROM pg_depend AS c JOIN pg_depend AS d ON (d.classid, d.objid) = (c.classid, c.objid)
WHERE c.refclassid = 'pg_extension'::regclass AND c.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'emag_sync_guard') AND c.deptype = 'e'
  AND ((d.refclassid = 'pg_proc'::regclass AND (SELECT pronamespace FROM pg_proc WHERE oid = d.refobjid) = 'public'::regnamespace)
    OR (d.refclassid = 'pg_operator'::regclass AND (SELECT oprnamespace FROM pg_operator WHERE oid = d.refobjid) = 'public'::regnamespace)
    OR (d.refclassid = 'pg_type'::regclass AND (SELECT typnamespace FROM pg_type WHERE oid = d.refobjid) = 'public'::regnamespace)
    OR (d.refclassid = 'pg_class'::regclass AND (SELECT relnamespace FROM pg_class WHERE oid = d.refobjid) = 'public'::regnamespace));
-- It works among them.
RESET search_path;
SELECT sync_guard.reap_stale_syncs();
SELECT run_key, verdict FROM sync_guard.reaped_syncs ORDER BY run_key;
SELECT count(*) FROM public.trap;

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_update;
DROP ROLE regress_esg_planter;
