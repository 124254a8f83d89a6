-- Rights: nothing to anyone first; then what checks its caller's rights itself, to all.

-- Everyone who has any, since the default privileges of who creates the extension may have given some to his other roles.
DO $rights$
DECLARE
    grantee text;
BEGIN
    FOR grantee IN
        SELECT DISTINCT CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC'
                             ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
        FROM (SELECT n.nspowner, n.nspacl FROM pg_catalog.pg_namespace AS n WHERE n.nspname OPERATOR(pg_catalog.=) 'sync_guard'
              UNION ALL
              SELECT c.relowner, c.relacl
              FROM pg_catalog.pg_class AS c WHERE c.relnamespace OPERATOR(pg_catalog.=) 'sync_guard'::pg_catalog.regnamespace
              UNION ALL
              SELECT p.proowner, COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner))
              FROM pg_catalog.pg_proc AS p WHERE p.pronamespace OPERATOR(pg_catalog.=) 'sync_guard'::pg_catalog.regnamespace) AS o (owner, acl),
            pg_catalog.aclexplode(o.acl) AS a
        WHERE a.grantee OPERATOR(pg_catalog.<>) o.owner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA sync_guard FROM %s', grantee);
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL TABLES IN SCHEMA sync_guard FROM %s', grantee);
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA sync_guard FROM %s', grantee);
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sync_guard FROM %s', grantee);
    END LOOP;
END
$rights$;

GRANT USAGE ON SCHEMA sync_guard TO PUBLIC;

-- CREATE TRIGGER, in guard_table and when a dump is restored, asks the table's owner for it; called otherwise they refuse.
GRANT EXECUTE ON FUNCTION
    sync_guard.judge_row(),
    sync_guard.watch_row()
TO PUBLIC;

GRANT EXECUTE ON FUNCTION
    sync_guard.guard_table(regclass, name, name, text[], text, name, name, name, name, name, name, name, name, name[], jsonb,
        name[], text, interval, interval, interval, boolean, text[], text, text, text, interval, text[]),
    sync_guard.unguard_table(regclass, interval),
    sync_guard.repair_triggers(regclass, interval),
    sync_guard.set_limit(regclass, jsonb, interval, interval, interval, text[]),
    sync_guard.allow_transition(regclass, text, text, boolean),
    sync_guard.pause_reaping(regclass, timestamptz),
    sync_guard.resume_reaping(regclass)
TO PUBLIC;

GRANT EXECUTE ON FUNCTION
    sync_guard.reap_stale_syncs(interval, regclass, boolean, integer),
    sync_guard.stale_syncs(interval, regclass, boolean, integer),
    sync_guard.sync_is_running(text, regclass),
    sync_guard.scope_is_running(jsonb, regclass),
    sync_guard.sync_status(text, regclass, integer),
    sync_guard.explain_run(regclass, text),
    sync_guard.explain_run(regclass, uuid),
    sync_guard.explain_run(regclass, bigint),
    sync_guard.overturn_reap(regclass, text, text),
    sync_guard.overturn_reap(regclass, uuid, text),
    sync_guard.overturn_reap(regclass, bigint, text),
    sync_guard.purge_journal(interval),
    sync_guard.live_runs_query(regclass)
TO PUBLIC;

GRANT EXECUTE ON FUNCTION
    sync_guard.start_sync(regclass, jsonb, interval, boolean, text, text),
    sync_guard.take_lease(regclass, text, interval, boolean, text, text),
    sync_guard.take_lease(regclass, uuid, interval, boolean, text, text),
    sync_guard.take_lease(regclass, bigint, interval, boolean, text, text),
    sync_guard.heartbeat(bigint, bigint, bigint),
    sync_guard.fence(bigint),
    sync_guard.finish_sync(bigint, text, jsonb, jsonb),
    sync_guard.worker_started(text, text)
TO PUBLIC;

-- Runs of every database and table: for those who watch the server.
GRANT EXECUTE ON FUNCTION sync_guard.tracked_run_entries(), sync_guard.guard_memory_state() TO pg_monitor;
GRANT SELECT ON sync_guard.tracked_runs, sync_guard.guard_memory TO pg_monitor;

-- The views, the functions behind them, and pg_cron's schedule: each shows a caller what he may read, and acts as him.
GRANT EXECUTE ON FUNCTION
    sync_guard.live_runs(),
    sync_guard.recent_runs(integer),
    sync_guard.scope_counts(),
    sync_guard.health_problems(),
    sync_guard.may_read_settings(regclass),
    sync_guard.may_read_journal(regclass, text, boolean),
    sync_guard.settings_problem(regclass),
    sync_guard.cron_jobs(),
    sync_guard.schedule_reaping(text, interval, text),
    sync_guard.unschedule_reaping(text)
TO PUBLIC;

GRANT SELECT ON
    sync_guard.running_syncs,
    sync_guard.stuck_syncs,
    sync_guard.long_running_syncs,
    sync_guard.recent_syncs,
    sync_guard.sync_status_overview,
    sync_guard.failure_rates,
    sync_guard.reaped_syncs,
    sync_guard.late_finishes,
    sync_guard.guarded_tables,
    sync_guard.guard_health,
    sync_guard.reaping_schedule
TO PUBLIC;

-- Alerts, suggested limits, the report: each shows a caller what he may read; what changes settings asks for ownership.
GRANT EXECUTE ON FUNCTION
    sync_guard.set_alert_rule(regclass, text, jsonb, boolean, text, text, interval, integer, text[]),
    sync_guard.effective_alert_rules(),
    sync_guard.current_alerts(),
    sync_guard.may_read_alert(regclass, text),
    sync_guard.limit_suggestions(regclass, interval),
    sync_guard.apply_suggested_limits(regclass, integer, interval, interval, text[], jsonb),
    sync_guard.report_html(interval, regclass)
TO PUBLIC;

GRANT SELECT ON
    sync_guard.alert_rules,
    sync_guard.alerts,
    sync_guard.alert_history,
    sync_guard.suggested_limits
TO PUBLIC;

-- For a terminal: what live_runs shows the caller.
GRANT EXECUTE ON FUNCTION sync_guard.watch_lines(boolean) TO PUBLIC;

GRANT SELECT ON
    sync_guard.watch_80,
    sync_guard.watch_120
TO PUBLIC;
