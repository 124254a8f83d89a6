-- One guarded table that cannot be read does not stand in the way of the others; named, it raises. That nothing is running can
-- only be said when all could be asked.
SET client_min_messages = warning;
CREATE DATABASE regress_esg_one_failing;
\set home :DBNAME
\c regress_esg_one_failing
SET client_min_messages = warning;
CREATE EXTENSION emag_sync_guard;
CREATE ROLE regress_esg_shut_out;
CREATE SCHEMA shut;
GRANT USAGE, CREATE ON SCHEMA shut TO regress_esg_shut_out;
CREATE TABLE shut.runs (id integer PRIMARY KEY, sync_type text, status text DEFAULT 'running', started_at timestamptz DEFAULT now());
ALTER TABLE shut.runs OWNER TO regress_esg_shut_out;
CREATE TABLE public.runs (LIKE shut.runs INCLUDING ALL);
SELECT sync_guard.guard_table('shut.runs'), sync_guard.guard_table('public.runs');
INSERT INTO shut.runs VALUES (1, 'orders', 'running', now() - interval '2 hours');
INSERT INTO public.runs VALUES (1, 'products', 'running', now()), (2, 'products', 'running', now() - interval '2 hours');
-- From now on the owner cannot reach his own table, nor can anybody who works as him.
REVOKE USAGE ON SCHEMA shut FROM regress_esg_shut_out;

\set VERBOSITY terse
SELECT sync_guard.sync_is_running('products');
SELECT sync_guard.sync_is_running('orders');
\echo :LAST_ERROR_SQLSTATE
SELECT sync_guard.scope_is_running('{"sync_type": "products"}');
SELECT sync_guard.sync_status() ->> 'is_running' AS is_running, jsonb_array_length(sync_guard.sync_status() -> 'recent_syncs') AS recent;
SELECT guarded_table, run_key FROM sync_guard.stale_syncs();
SELECT relation, run_key FROM sync_guard.running_syncs;
SELECT sync_guard.reap_stale_syncs();
SELECT relation, problem FROM sync_guard.guard_health WHERE severity = 'error';
-- Named.
SELECT sync_guard.sync_is_running(relation => 'shut.runs');
SELECT sync_guard.sync_status(relation => 'shut.runs');
SELECT sync_guard.reap_stale_syncs(relation => 'shut.runs');

-- The same of a table whose settings do not fit it any more. A run that is alive elsewhere is an answer.
GRANT USAGE ON SCHEMA shut TO regress_esg_shut_out;
UPDATE shut.runs SET started_at = now();
ALTER TABLE public.runs RENAME sync_type TO kind;
SELECT sync_guard.sync_is_running('orders');
SELECT sync_guard.scope_is_running('{"sync_type": "orders"}');
SELECT sync_guard.sync_status('orders') ->> 'is_running' AS is_running;
\set VERBOSITY default
SELECT sync_guard.sync_is_running('products');
\echo :LAST_ERROR_SQLSTATE
\set VERBOSITY terse
SELECT sync_guard.sync_is_running(relation => 'public.runs');
\echo :LAST_ERROR_SQLSTATE
SELECT sync_guard.scope_is_running('{"sync_type": "products"}');
SELECT sync_guard.sync_status('products');
-- It may be the one that has this scope column.
SELECT sync_guard.scope_is_running('{"kind": "products"}');
-- A named one that fits is asked alone.
SELECT sync_guard.sync_is_running('products', 'shut.runs'), sync_guard.sync_status('products', 'shut.runs') ->> 'is_running' AS is_running;
-- Views skip it.
SELECT relation, run_key FROM sync_guard.running_syncs;
-- Who may read the columns that the guard shows is told too; who may not, is told of nothing but how many he was not asked about.
CREATE ROLE regress_esg_columns;
GRANT USAGE ON SCHEMA shut TO regress_esg_columns;
GRANT SELECT ON shut.runs TO regress_esg_columns;
GRANT SELECT (id, status, started_at, kind) ON public.runs TO regress_esg_columns;
SET ROLE regress_esg_columns;
SET client_min_messages = notice;
SELECT sync_guard.sync_is_running('products');
SELECT sync_guard.sync_is_running('products', 'public.runs');
RESET ROLE;
REVOKE SELECT (status) ON public.runs FROM regress_esg_columns;
SET ROLE regress_esg_columns;
SELECT sync_guard.sync_is_running('products');
SELECT sync_guard.sync_is_running('products', 'public.runs');
RESET ROLE;
SET client_min_messages = warning;
-- Several, for several reasons.
REVOKE USAGE ON SCHEMA shut FROM regress_esg_shut_out;
CREATE TABLE public.well (LIKE shut.runs INCLUDING ALL);
SELECT sync_guard.guard_table('public.well');
\set VERBOSITY default
SELECT sync_guard.sync_is_running('orders');
\set VERBOSITY terse
INSERT INTO public.well VALUES (1, 'orders');
SELECT sync_guard.sync_is_running('orders');
-- Put right, there is an answer.
GRANT USAGE ON SCHEMA shut TO regress_esg_shut_out;
SELECT sync_guard.guard_table('public.runs', scope_columns => '{kind}');
SELECT sync_guard.sync_is_running('products'), sync_guard.sync_status('products') ->> 'is_running' AS is_running;

\c :home
DROP DATABASE regress_esg_one_failing;
DROP ROLE regress_esg_shut_out, regress_esg_columns;
