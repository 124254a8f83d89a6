-- The guard's own SQLSTATEs, each raised once, each with what happened and what to do next.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA sqlstates;
SET search_path = sqlstates;
CREATE TABLE runs (id integer PRIMARY KEY, kind text, status text NOT NULL, started_at timestamptz, completed_at timestamptz);
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{kind}', exclusive => true, late_finish => 'reject');
INSERT INTO runs VALUES (1, 'products', 'running', clock_timestamp(), NULL), (2, 'orders', 'completed', '2025-10-01 10:00', '2025-10-01 10:05');
CREATE TABLE two_keys (a integer NOT NULL UNIQUE, b integer NOT NULL UNIQUE, status text DEFAULT 'running', started_at timestamptz);

CREATE FUNCTION raised(statement text) RETURNS TABLE (state text, message text, detail boolean, hint boolean) LANGUAGE plpgsql AS $$
DECLARE
    detail_text text;
    hint_text text;
BEGIN
    EXECUTE statement;
    RETURN QUERY VALUES ('00000', 'nothing was raised', false, false);
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail_text = PG_EXCEPTION_DETAIL, hint_text = PG_EXCEPTION_HINT;
    detail := detail_text <> '';
    hint := hint_text <> '';
    RETURN NEXT;
END $$;

-- SY001, an illegal transition.
SELECT * FROM raised('UPDATE sqlstates.runs SET status = ''running'' WHERE id = 2');
-- SY002, a run of this scope is running.
SELECT * FROM raised('INSERT INTO sqlstates.runs VALUES (3, ''products'', ''running'', now())');
-- SY003, a stale token, belongs to leases.
-- SY004, not a guarded table.
SELECT * FROM raised('SELECT sync_guard.sync_is_running(relation => ''sqlstates.two_keys'')');
-- SY005, it cannot be told which.
SELECT * FROM raised('SELECT sync_guard.guard_table(''sqlstates.two_keys'')');
-- SY006, an option or an argument that cannot be meant.
SELECT * FROM raised('SELECT sync_guard.reap_stale_syncs(''-1 hour'')');
-- SY007, a late finish that the table rejects.
SELECT * FROM raised('UPDATE sqlstates.runs SET status = ''failed'' WHERE id = 2');
-- SY008, the table's lock was not free: here a prepared transaction has it.
BEGIN;
LOCK TABLE two_keys IN SHARE MODE;
PREPARE TRANSACTION 'esg_sqlstates';
SELECT * FROM raised('SELECT sync_guard.guard_table(''sqlstates.two_keys'', key_column => ''a'', lock_timeout => ''0'')');
ROLLBACK PREPARED 'esg_sqlstates';

DROP SCHEMA sqlstates CASCADE;
