-- Setting up: what the owner of a table calls. Each of these functions asks for ownership of the table itself.

CREATE FUNCTION sync_guard.guard_table(
    relation regclass,
    key_column name DEFAULT NULL,
    status_column name DEFAULT NULL,
    live_statuses text[] DEFAULT NULL,
    failed_status text DEFAULT NULL,
    start_column name DEFAULT NULL,
    end_column name DEFAULT NULL,
    duration_column name DEFAULT NULL,
    error_column name DEFAULT NULL,
    activity_column name DEFAULT NULL,
    updated_column name DEFAULT NULL,
    done_column name DEFAULT NULL,
    total_column name DEFAULT NULL,
    scope_columns name[] DEFAULT NULL,
    scope_overlaps jsonb DEFAULT NULL,
    summary_columns name[] DEFAULT NULL,
    time_zone text DEFAULT NULL,
    max_silence interval DEFAULT NULL,
    max_age interval DEFAULT NULL,
    max_stall interval DEFAULT NULL,
    exclusive boolean DEFAULT NULL,
    exclusive_statuses text[] DEFAULT NULL,
    transitions text DEFAULT NULL,
    late_finish text DEFAULT NULL,
    mode text DEFAULT NULL,
    lock_timeout interval DEFAULT NULL,
    reset text[] DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_guard_table';
COMMENT ON FUNCTION sync_guard.guard_table(regclass, name, name, text[], text, name, name, name, name, name, name, name, name, name[], jsonb, name[], text, interval, interval, interval, boolean, text[], text, text, text, interval, text[]) IS
'Adopts a table of runs, or changes the settings of one already guarded; owner only. NULL finds an option by the catalog and the usual names (first call) or leaves it (later calls); an empty string or array says that the table has none; reset puts the options it names back to what a first call finds. NOTICEs tell what was found and what would be reaped now. Waits at most lock_timeout (10 s) for the table''s locks, 0.1 s at a time; zero means a single try. Errors: SY005 an option cannot be told, SY006 an option does not fit, SY008 the table''s lock was not free, 42809 no such table can be guarded, 42501 not the owner.';

CREATE FUNCTION sync_guard.unguard_table(relation regclass, lock_timeout interval DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_unguard_table';
COMMENT ON FUNCTION sync_guard.unguard_table(regclass, interval) IS
'Releases a guarded table: triggers and settings go, the journal stays; owner only. Waits at most lock_timeout (10 s) for an ACCESS EXCLUSIVE lock, 0.1 s at a time. Errors: SY004 not guarded, SY008 the lock was not free, 42501 not the owner.';

CREATE FUNCTION sync_guard.repair_triggers(relation regclass, lock_timeout interval DEFAULT NULL)
RETURNS integer LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_repair_triggers';
COMMENT ON FUNCTION sync_guard.repair_triggers(regclass, interval) IS
'Makes the guard''s triggers anew where they are missing, disabled or differ, on the table or on a partition; returns how many were made; owner only. What it cannot mend, triggers of the application that fire after the guard''s, is told in WARNINGs. Errors: as guard_table.';

CREATE FUNCTION sync_guard.set_limit(
    relation regclass,
    scope jsonb,
    max_silence interval DEFAULT NULL,
    max_age interval DEFAULT NULL,
    max_stall interval DEFAULT NULL,
    reset text[] DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_set_limit';
COMMENT ON FUNCTION sync_guard.set_limit(regclass, jsonb, interval, interval, interval, text[]) IS
'Sets limits for the runs of one scope, given by values of scope columns; {} is the table''s own; the most specific scope wins. NULL leaves a limit as it is; reset names limits that the scope no longer sets ({}: that go back to their defaults, 1 hour of max_silence and no others). Owner only. Errors: SY004 not guarded, SY006 not a scope of the table or not a limit, 42501 not the owner.';

CREATE FUNCTION sync_guard.allow_transition(
    relation regclass,
    from_status text,
    to_status text,
    allowed boolean DEFAULT true)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_allow_transition';
COMMENT ON FUNCTION sync_guard.allow_transition(regclass, text, text, boolean) IS
'Allows one change of status, or forbids it (allowed false), or leaves it to the defaults again (NULL). Owner only. Errors: SY004 not guarded, SY006 the table cannot hold the status, or the change is the one that closes dead runs, 42501 not the owner.';

CREATE FUNCTION sync_guard.pause_reaping(relation regclass, until timestamptz DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_pause_reaping';
COMMENT ON FUNCTION sync_guard.pause_reaping(regclass, timestamptz) IS
'Has no run of the table reaped until then, or until resume_reaping() where it is NULL; verdicts stay as they are. Owner only. Errors: SY004 not guarded, SY006 the time is not in the future, 42501 not the owner.';

CREATE FUNCTION sync_guard.resume_reaping(relation regclass)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_resume_reaping';
COMMENT ON FUNCTION sync_guard.resume_reaping(regclass) IS
'Ends a pause of reaping. Owner only. Errors: SY004 not guarded, 42501 not the owner.';
