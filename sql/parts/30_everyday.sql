-- What people, cron jobs and APIs call.

CREATE FUNCTION sync_guard.reap_stale_syncs(
    older_than interval DEFAULT NULL, relation regclass DEFAULT NULL,
    even_if_alive boolean DEFAULT false, max_runs integer DEFAULT NULL)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_reap_stale_syncs';
COMMENT ON FUNCTION sync_guard.reap_stale_syncs(interval, regclass, boolean, integer) IS
'Closes dead runs and returns how many. older_than replaces max_silence for this call; with even_if_alive it counts from the start and signs of life do not help. relation NULL: every guarded table that you may update. At most max_runs, oldest first. Rows locked by others are skipped and counted in a NOTICE. Errors: SY006 for an older_than or max_runs that is zero, negative or infinite; SY004 not guarded; 42501 no right.';

CREATE FUNCTION sync_guard.stale_syncs(
    older_than interval DEFAULT NULL, relation regclass DEFAULT NULL,
    even_if_alive boolean DEFAULT false, max_runs integer DEFAULT NULL,
    OUT guarded_table regclass, OUT run_key text, OUT scope jsonb, OUT status text, OUT started_at timestamptz,
    OUT verdict text, OUT reason text, OUT evidence jsonb, OUT action text)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_stale_syncs';
COMMENT ON FUNCTION sync_guard.stale_syncs(interval, regclass, boolean, integer) IS
'What reap_stale_syncs with the same arguments would reap, a row a run with verdict and evidence; changes nothing. action: reap, or observe where the table is only observed. Errors: as reap_stale_syncs.';

CREATE FUNCTION sync_guard.sync_is_running(scope_value text DEFAULT NULL, relation regclass DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_sync_is_running';
COMMENT ON FUNCTION sync_guard.sync_is_running(text, regclass) IS
'Whether a sync is running, judged at this instant: a dead run does not count. scope_value: a value of the first scope column. relation NULL: any guarded table that you may read; where none runs and one could not be asked it is an error, as it is for that table alone. Errors: SY006 for a scope object (see scope_is_running) or for a table without scope columns; SY004 not guarded; 42501 no right.';

CREATE FUNCTION sync_guard.scope_is_running(scope jsonb, relation regclass DEFAULT NULL)
RETURNS boolean LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_scope_is_running';
COMMENT ON FUNCTION sync_guard.scope_is_running(jsonb, regclass) IS
'Whether a sync is running in the scope {"column": "value", ...}; values that overlap count. Columns not named are not looked at. Errors: SY006 for a column that is none of the scope''s.';

CREATE FUNCTION sync_guard.sync_status(
    scope_value text DEFAULT NULL, relation regclass DEFAULT NULL, recent integer DEFAULT 10)
RETURNS jsonb LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_sync_status';
COMMENT ON FUNCTION sync_guard.sync_status(text, regclass, integer) IS
'The status for an API, to be handed on unchanged: is_running, current_sync (null or an object), recent_syncs (the last `recent` runs, 0 to 10000, with the table''s summary_columns). A dead run is shown with the failed status. With several tables each run also has "relation". Errors: as sync_is_running.';

CREATE FUNCTION sync_guard.explain_run(relation regclass, key text,
    OUT rule integer, OUT evidence text, OUT measured text, OUT limit_used text, OUT verdict text,
    OUT applies boolean, OUT fits boolean, OUT decides boolean)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_explain_run';
CREATE FUNCTION sync_guard.explain_run(relation regclass, key uuid,
    OUT rule integer, OUT evidence text, OUT measured text, OUT limit_used text, OUT verdict text,
    OUT applies boolean, OUT fits boolean, OUT decides boolean)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_explain_run';
CREATE FUNCTION sync_guard.explain_run(relation regclass, key bigint,
    OUT rule integer, OUT evidence text, OUT measured text, OUT limit_used text, OUT verdict text,
    OUT applies boolean, OUT fits boolean, OUT decides boolean)
RETURNS SETOF record LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_explain_run';
COMMENT ON FUNCTION sync_guard.explain_run(regclass, text) IS
'How every rule sees one run, in the order in which they are tried, with the figures; decides marks the one that gives the verdict (rule 0: none fits, the run is live). relation NULL: the only guarded table. Errors: P0002 no such run; SY005 several tables.';
COMMENT ON FUNCTION sync_guard.explain_run(regclass, uuid) IS 'As explain_run(regclass, text).';
COMMENT ON FUNCTION sync_guard.explain_run(regclass, bigint) IS 'As explain_run(regclass, text).';

CREATE FUNCTION sync_guard.overturn_reap(relation regclass, key text, status text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_overturn_reap';
CREATE FUNCTION sync_guard.overturn_reap(relation regclass, key uuid, status text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_overturn_reap';
CREATE FUNCTION sync_guard.overturn_reap(relation regclass, key bigint, status text)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_overturn_reap';
COMMENT ON FUNCTION sync_guard.overturn_reap(regclass, text, text) IS
'The guard was wrong: the run gets the given status, its errors are put back to what they were before the reaping (a run that is live again also loses end and duration), and the journal line is marked overturned. Errors: SY006 the run was not reaped; P0002 no such run; 55P03 locked; 42501 no right.';
COMMENT ON FUNCTION sync_guard.overturn_reap(regclass, uuid, text) IS 'As overturn_reap(regclass, text, text).';
COMMENT ON FUNCTION sync_guard.overturn_reap(regclass, bigint, text) IS 'As overturn_reap(regclass, text, text).';

CREATE FUNCTION sync_guard.purge_journal(older_than interval)
RETURNS bigint LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_purge_journal';
COMMENT ON FUNCTION sync_guard.purge_journal(interval) IS
'Deletes journal lines older than that, of the tables that you own (all, for a superuser), and returns how many; alerts that cleared and leases that ended before that go with them. Errors: SY006 for NULL, negative or infinite.';

CREATE FUNCTION sync_guard.live_runs_query(relation regclass)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_live_runs_query';
COMMENT ON FUNCTION sync_guard.live_runs_query(regclass) IS
'The statement by which the guard finds a table''s live runs, to be looked at with EXPLAIN.';
