\echo Use "ALTER EXTENSION emag_sync_guard UPDATE TO '1.1.0'" to load this file. \quit

CREATE TABLE sync_guard.passed_over (
    relation       regclass NOT NULL,
    run_key        text NOT NULL,
    passed_over_at timestamptz NOT NULL
) WITH (vacuum_truncate = off);
ALTER TABLE sync_guard.passed_over REPLICA IDENTITY FULL;
-- Not unique: who starts a run must not wait for another starter.
CREATE INDEX passed_over_relation ON sync_guard.passed_over (relation);
COMMENT ON TABLE sync_guard.passed_over IS 'dead runs whose exclusive scope another run has taken, until they are closed or have it again; memory knows it too, but not after a restart';
COMMENT ON COLUMN sync_guard.passed_over.passed_over_at IS 'when that run started';
SELECT pg_catalog.pg_extension_config_dump('sync_guard.passed_over', '');

-- Nothing to anyone; the default privileges of who updates the extension may have given some to his other roles.
REVOKE ALL ON TABLE sync_guard.passed_over FROM PUBLIC;
DO $rights$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                             ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
        FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
        WHERE c.oid OPERATOR(pg_catalog.=) 'sync_guard.passed_over'::pg_catalog.regclass
          AND a.grantee OPERATOR(pg_catalog.<>) c.relowner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON TABLE sync_guard.passed_over FROM %s', grantee);
    END LOOP;
END
$rights$;

-- They have no primary key: where a publication is FOR ALL TABLES, their rows could be neither changed nor deleted.
ALTER TABLE sync_guard.scope_rhythms REPLICA IDENTITY FULL;
ALTER TABLE sync_guard.observed_gaps REPLICA IDENTITY FULL;
ALTER TABLE sync_guard.alert_settings REPLICA IDENTITY FULL;

-- Every sweep counts the mistakes; they are few, and the journal is long.
CREATE INDEX journal_mistakes ON sync_guard.journal (relation, at) WHERE false_positive;

-- A vacuum that gives the end of the table back to the system locks it against reading; the application's statements wait for nobody.
ALTER TABLE sync_guard.journal SET (vacuum_truncate = off);
ALTER TABLE sync_guard.leases SET (vacuum_truncate = off);

COMMENT ON FUNCTION sync_guard.sync_is_running(text, regclass) IS
'Whether a sync is running, judged at this instant: a dead run does not count. scope_value: a value of the first scope column. relation NULL: any guarded table that you may read; where none runs and one could not be asked it is an error, as it is for that table alone. Errors: SY006 for a scope object (see scope_is_running) or for a table without scope columns; SY004 not guarded; 42501 no right.';

COMMENT ON FUNCTION sync_guard.purge_journal(interval) IS
'Deletes journal lines older than that, of the tables that you own (all, for a superuser), and returns how many; alerts that cleared and leases that ended before that go with them. Errors: SY006 for NULL, negative or infinite.';

COMMENT ON COLUMN sync_guard.guard_memory.mass_death_runs IS 'leases that fell silent together when that last happened; NULL: never';

-- Only on what takes a table along: without the library each command that it fires on would fail.
DROP EVENT TRIGGER emag_sync_guard_forget_dropped;
CREATE EVENT TRIGGER emag_sync_guard_forget_dropped ON sql_drop
    WHEN TAG IN ('DROP TABLE', 'DROP SCHEMA', 'DROP OWNED', 'DROP EXTENSION', 'ALTER EXTENSION', 'DROP TYPE', 'DROP DOMAIN', 'DROP COLLATION',
        'DROP FUNCTION', 'DROP ROUTINE', 'DROP LANGUAGE', 'DROP OPERATOR', 'DROP OPERATOR CLASS', 'DROP OPERATOR FAMILY', 'DROP ACCESS METHOD')
    EXECUTE FUNCTION sync_guard.forget_dropped();
COMMENT ON EVENT TRIGGER emag_sync_guard_forget_dropped IS
'emag_sync_guard: the settings of a dropped table go with it';
