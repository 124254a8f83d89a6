-- Trigger functions for guarded tables, and what keeps settings and caches in step.

CREATE FUNCTION sync_guard.judge_row() RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_judge_row';
COMMENT ON FUNCTION sync_guard.judge_row() IS
'BEFORE INSERT and BEFORE UPDATE trigger of guarded tables: judges changes of status, fills start, end and duration, keeps a reaped run reaped. Created by guard_table.';

CREATE FUNCTION sync_guard.watch_row() RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_watch_row';
COMMENT ON FUNCTION sync_guard.watch_row() IS
'AFTER INSERT, UPDATE and DELETE trigger of guarded tables, for rows that are or were live: signs of life, the end of leases, exclusive scopes. Created by guard_table.';

CREATE FUNCTION sync_guard.settings_changed() RETURNS trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_settings_changed';
COMMENT ON FUNCTION sync_guard.settings_changed() IS
'Tells every session that the settings of a table have changed; with settings that are deleted goes what belongs to them.';

CREATE TRIGGER settings_changed AFTER INSERT OR UPDATE OR DELETE ON sync_guard.settings
    FOR EACH ROW EXECUTE FUNCTION sync_guard.settings_changed();
CREATE TRIGGER settings_changed AFTER INSERT OR UPDATE OR DELETE ON sync_guard.scope_limits
    FOR EACH ROW EXECUTE FUNCTION sync_guard.settings_changed();
CREATE TRIGGER settings_changed AFTER INSERT OR UPDATE OR DELETE ON sync_guard.transition_rules
    FOR EACH ROW EXECUTE FUNCTION sync_guard.settings_changed();

CREATE FUNCTION sync_guard.forget_dropped() RETURNS event_trigger LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_forget_dropped';
COMMENT ON FUNCTION sync_guard.forget_dropped() IS
'Event trigger on sql_drop: the settings of a dropped table go with it; its journal stays.';

-- Only on what takes a table along: without the library each command that it fires on would fail.
CREATE EVENT TRIGGER emag_sync_guard_forget_dropped ON sql_drop
    WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION', 'ALTER EXTENSION', 'DROP TYPE', 'DROP DOMAIN', 'DROP COLLATION',
        'DROP FUNCTION', 'DROP ROUTINE', 'DROP LANGUAGE', 'DROP OPERATOR', 'DROP OPERATOR CLASS', 'DROP OPERATOR FAMILY', 'DROP ACCESS METHOD')
    EXECUTE FUNCTION sync_guard.forget_dropped();
COMMENT ON EVENT TRIGGER emag_sync_guard_forget_dropped IS
'emag_sync_guard: the settings of a dropped table go with it';
