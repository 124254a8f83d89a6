-- Rights: nothing to anyone first; then what checks its caller's rights itself, to all.

REVOKE ALL ON ALL TABLES IN SCHEMA sync_guard FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA sync_guard FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA sync_guard FROM PUBLIC;

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
