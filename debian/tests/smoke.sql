-- A table as an application has it, guarded; of two runs the dead one is closed, the live one is not.
\set ON_ERROR_STOP on
SET client_min_messages = warning;
CREATE TABLE runs (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    sync_type    text NOT NULL,
    status       text NOT NULL DEFAULT 'running',
    started_at   timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz,
    errors       jsonb
);
INSERT INTO runs (sync_type, started_at) VALUES ('products', now() - interval '2 hours'), ('orders', now());

CREATE EXTENSION emag_sync_guard;
DO $$
BEGIN
    PERFORM sync_guard.guard_table('runs', scope_columns => '{sync_type}');
    ASSERT NOT sync_guard.sync_is_running('products'), 'a dead run is not shown as running';
    ASSERT sync_guard.sync_is_running('orders'), 'a live one is';
    ASSERT sync_guard.reap_stale_syncs() = 1, 'one is reaped';
    ASSERT (SELECT status = 'failed' AND completed_at IS NOT NULL AND jsonb_array_length(errors) = 1
            FROM runs WHERE sync_type = 'products'), 'it has a status, an end and a reason';
    ASSERT (SELECT status = 'running' FROM runs WHERE sync_type = 'orders'), 'the live one is as it was';
    ASSERT (SELECT count(*) = 1 FROM sync_guard.reaped_syncs), 'the journal has a line';
END
$$;
