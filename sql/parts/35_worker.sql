-- What workers call: optional, for more evidence and a faster truth.

CREATE FUNCTION sync_guard.start_sync(
    relation regclass, initial_values jsonb, ttl interval DEFAULT NULL, bind_session boolean DEFAULT false,
    worker text DEFAULT NULL, incarnation text DEFAULT NULL, OUT key text, OUT token bigint)
RETURNS record LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_start_sync';
COMMENT ON FUNCTION sync_guard.start_sync(regclass, jsonb, interval, boolean, text, text) IS
'Starts a run and takes its lease, in one statement. Where the scope is exclusive, a dead run that holds it is closed on the way, a live one refuses. initial_values: {"column": value, ...} of the new row; else the table''s defaults, a uuid key without default is made, the status is the first live one, the start is now, counters that may not be NULL are 0. ttl: within which each heartbeat must follow the last (NULL: 60 s, none where the lease is bound). bind_session: the run ends with this session. worker, incarnation: see worker_started. Commit it before the work begins. Errors: SY002 the scope is running; SY004 not guarded; SY006 bad option; 42501 no right.';

CREATE FUNCTION sync_guard.take_lease(
    relation regclass, key text, ttl interval DEFAULT NULL, bind_session boolean DEFAULT false,
    worker text DEFAULT NULL, incarnation text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_take_lease';
CREATE FUNCTION sync_guard.take_lease(
    relation regclass, key uuid, ttl interval DEFAULT NULL, bind_session boolean DEFAULT false,
    worker text DEFAULT NULL, incarnation text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_take_lease';
CREATE FUNCTION sync_guard.take_lease(
    relation regclass, key bigint, ttl interval DEFAULT NULL, bind_session boolean DEFAULT false,
    worker text DEFAULT NULL, incarnation text DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_take_lease';
COMMENT ON FUNCTION sync_guard.take_lease(regclass, text, interval, boolean, text, text) IS
'Takes the lease of a live run that the application inserted itself, and returns its token. Arguments as in start_sync. Taking it again with the same owner (worker and incarnation, or the same session) re-attaches and returns the same token; the lease of a dead owner is replaced. Errors: SY002 somebody else holds it; SY006 the run is not live, or a bad option; P0002 no such run; 55P03 the row is locked; 42501 no right.';
COMMENT ON FUNCTION sync_guard.take_lease(regclass, uuid, interval, boolean, text, text) IS 'As take_lease(regclass, text, ...).';
COMMENT ON FUNCTION sync_guard.take_lease(regclass, bigint, interval, boolean, text, text) IS 'As take_lease(regclass, text, ...).';

CREATE FUNCTION sync_guard.heartbeat(token bigint, done bigint DEFAULT NULL, total bigint DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_heartbeat';
COMMENT ON FUNCTION sync_guard.heartbeat(bigint, bigint, bigint) IS
'A sign of life, with the progress if you know it; writes nothing to disk. True: the run is still yours. False: it was reaped or has ended, stop. Counts at once, also within an open transaction. Errors: P0002 a token never seen committed (commit start_sync first); SY006 NULL; 42501 no right.';

CREATE FUNCTION sync_guard.fence(token bigint)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_fence';
COMMENT ON FUNCTION sync_guard.fence(bigint) IS
'The last statement before COMMIT of a transaction with a run''s products: it commits only while the run is still yours, and the run is not reaped meanwhile. The session''s idle_in_transaction_session_timeout is lowered to the ttl for this transaction. Errors: SY003 the run was reaped or has ended; 25P01 outside a transaction block; P0002 a token never seen committed.';

CREATE FUNCTION sync_guard.finish_sync(
    token bigint, status text, errors jsonb DEFAULT NULL, final_values jsonb DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_finish_sync';
COMMENT ON FUNCTION sync_guard.finish_sync(bigint, text, jsonb, jsonb) IS
'Ends the run: its row gets the status, end and duration, the errors (appended to those that are there) and final_values {"column": value, ...}; its lease ends. Errors: SY003 the run was reaped or has ended; SY006 a status that is no end, an unknown column; P0002 a token never seen committed; 42501 no right.';

CREATE FUNCTION sync_guard.worker_started(worker text, incarnation text)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_worker_started';
COMMENT ON FUNCTION sync_guard.worker_started(text, text) IS
'What a container calls first when it boots: every run leased under this worker name by another incarnation is dead for certain; returns how many were reaped. worker is the name of one replica, never of a deployment; incarnation differs at each start. Only runs of tables that you may update. Errors: SY006 NULL or empty.';
