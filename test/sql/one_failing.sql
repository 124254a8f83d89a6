-- One guarded table that cannot be read does not stand in the way of the others; named, it raises.
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
SELECT sync_guard.sync_is_running('products'), sync_guard.sync_is_running('orders');
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

\c :home
DROP DATABASE regress_esg_one_failing;
DROP ROLE regress_esg_shut_out;
