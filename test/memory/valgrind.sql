-- What runs under valgrind: every trigger, the worker's calls, a reaping by hand, one by the worker on demand, and what readers
-- ask. Each step asserts that it did what it is there for. The server is preloaded, and its restart_grace is 0.
SET client_min_messages = warning;
CREATE FUNCTION planted_fault(text) RETURNS integer LANGUAGE c STRICT AS 'planted';
CREATE EXTENSION emag_sync_guard;
CREATE TABLE runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sync_type text NOT NULL,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')),
    started_at timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    duration_seconds double precision,
    processed_items integer NOT NULL DEFAULT 0,
    total_items integer,
    errors jsonb);
SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', max_silence => '1 hour', late_finish => 'keep',
                              scope_overlaps => '{"sync_type": {"all": ["products", "orders"]}}');

-- Triggers: a life, a refused retry, a late finish.
INSERT INTO runs (sync_type) SELECT 'products' FROM generate_series(1, 20);
UPDATE runs SET processed_items = id, total_items = 100;
UPDATE runs SET status = 'completed' WHERE id % 2 = 0;
UPDATE runs SET status = 'failed', errors = '["no answer"]' WHERE id = 1;
DO $$
BEGIN
    UPDATE runs SET status = 'running' WHERE id = 2;
    ASSERT false, 'a retry was let through';
EXCEPTION WHEN OTHERS THEN
    ASSERT SQLSTATE LIKE 'SY%', SQLSTATE;
END $$;
DELETE FROM runs WHERE id = 3;

-- The reaper; what its victims say afterwards is a late finish, with a warning each.
SET client_min_messages = error;
INSERT INTO runs (sync_type, started_at) SELECT 'orders', now() - interval '3 hours' FROM generate_series(1, 10);
SELECT count(*) FROM sync_guard.stale_syncs();
DO $$ BEGIN ASSERT sync_guard.reap_stale_syncs() = 10; END $$;
UPDATE runs SET status = 'completed' WHERE sync_type = 'orders' AND id % 2 = 0;
DO $$
BEGIN
    ASSERT (SELECT count(*) FROM sync_guard.journal) >= 10;
    ASSERT (SELECT count(*) FROM runs WHERE status = 'failed' AND sync_type = 'orders') = 10;
END $$;

-- A worker, one whose session ends in good order, and one whose session is ended.
SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "returns"}', ttl => '1 minute') \gset
SELECT sync_guard.heartbeat(:token, 7, 100);
BEGIN;
SELECT sync_guard.fence(:token);
COMMIT;
SELECT sync_guard.finish_sync(:token, 'completed', '["a warning"]', '{"processed_items": 100}');
\! psql -qXAt -c "SELECT key FROM sync_guard.start_sync('runs', '{\"sync_type\": \"orderly\"}', bind_session => true)" postgres
\! psql -qXAt -c "SELECT key FROM sync_guard.start_sync('runs', '{\"sync_type\": \"bound\"}', bind_session => true)" -c "SELECT pg_terminate_backend(pg_backend_pid())" postgres 2>/dev/null
SELECT set_config('runs.bound', (SELECT id::text FROM runs WHERE sync_type = 'bound'), false);
DO $$
BEGIN
    FOR i IN 1 .. 1200 LOOP
        EXIT WHEN (SELECT status = 'failed' FROM runs WHERE id = current_setting('runs.bound')::bigint);
        PERFORM pg_sleep(0.1);
    END LOOP;
    ASSERT (SELECT status = 'failed' FROM runs WHERE id = current_setting('runs.bound')::bigint), 'no worker came';
    ASSERT (SELECT status = 'running' FROM runs WHERE sync_type = 'orderly'), 'an orderly end is no death';
END $$;

-- Readers.
SELECT sync_guard.sync_is_running(), sync_guard.sync_is_running('products');
SELECT length(sync_guard.sync_status()::text) > 100, length(sync_guard.report_html()) > 1000;
SELECT count(*) FROM sync_guard.explain_run('runs', 5);
DO $$
DECLARE
    view name;
    rows bigint;
BEGIN
    FOR view IN SELECT viewname FROM pg_views WHERE schemaname = 'sync_guard' LOOP
        EXECUTE format('SELECT count(v::text) FROM sync_guard.%I AS v', view) INTO rows;
    END LOOP;
END $$;
SELECT sync_guard.reap_stale_syncs('1 microsecond', even_if_alive => true) > 0;
SELECT sync_guard.unguard_table('runs');
DROP EXTENSION emag_sync_guard;
