-- What people and dashboards look at. The views on runs stand over VOLATILE functions, which judge at the instant of the
-- call and show a caller what he may read; those on the guard's own tables ask sync_guard.may_read_* of each row.

CREATE FUNCTION sync_guard.live_runs(
    OUT relation regclass, OUT run_key text, OUT scope jsonb, OUT status text, OUT started_at timestamptz,
    OUT age interval, OUT last_sign_of_life timestamptz, OUT silence interval, OUT done bigint, OUT total bigint,
    OUT percent numeric, OUT verdict text, OUT dead boolean, OUT why text, OUT limit_used interval,
    OUT uncommitted boolean, OUT lease text, OUT worker text, OUT progress_bar text, OUT rate_per_second numeric,
    OUT expected_end timestamptz, OUT expected_by text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20
AS 'MODULE_PATHNAME', 'emag_sync_guard_live_runs';
COMMENT ON FUNCTION sync_guard.live_runs() IS
    'behind the views running_syncs, stuck_syncs and long_running_syncs: every run in a live status, judged now';

CREATE FUNCTION sync_guard.recent_runs(
    per_table integer DEFAULT 10, OUT relation regclass, OUT run_key text, OUT scope jsonb, OUT status text,
    OUT state text, OUT started_at timestamptz, OUT ended_at timestamptz, OUT duration interval, OUT verdict text,
    OUT reaped boolean, OUT summary jsonb)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME', 'emag_sync_guard_recent_runs';
COMMENT ON FUNCTION sync_guard.recent_runs(integer) IS
    'behind the view recent_syncs: the newest runs of each table, newest first';

CREATE FUNCTION sync_guard.scope_counts(
    OUT relation regclass, OUT scope jsonb, OUT running bigint, OUT stuck bigint, OUT succeeded_1h bigint,
    OUT failed_1h bigint, OUT reaped_1h bigint, OUT succeeded_24h bigint, OUT failed_24h bigint, OUT reaped_24h bigint,
    OUT last_started timestamptz, OUT last_state text, OUT last_success timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20
AS 'MODULE_PATHNAME', 'emag_sync_guard_scope_counts';
COMMENT ON FUNCTION sync_guard.scope_counts() IS
    'behind the views sync_status_overview and failure_rates: a line per table and scope';

CREATE FUNCTION sync_guard.health_problems(
    OUT severity text, OUT relation regclass, OUT problem text, OUT detail text, OUT hint text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5
AS 'MODULE_PATHNAME', 'emag_sync_guard_health_problems';
COMMENT ON FUNCTION sync_guard.health_problems() IS 'behind the view guard_health';

CREATE FUNCTION sync_guard.may_read_settings(relation regclass)
RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'emag_sync_guard_may_read_settings';
COMMENT ON FUNCTION sync_guard.may_read_settings(regclass) IS 'behind the view guarded_tables: the caller may see the table';

CREATE FUNCTION sync_guard.may_read_journal(relation regclass, relation_name text, whole_rows boolean)
RETURNS boolean
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'emag_sync_guard_may_read_journal';
COMMENT ON FUNCTION sync_guard.may_read_journal(regclass, text, boolean) IS
    'behind the views reaped_syncs and late_finishes: the caller may see the lines on this table, and the rows in them';

CREATE FUNCTION sync_guard.settings_problem(relation regclass)
RETURNS text
LANGUAGE c STABLE STRICT PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'emag_sync_guard_settings_problem';
COMMENT ON FUNCTION sync_guard.settings_problem(regclass) IS
    'behind the view guarded_tables: why the settings do not fit the table any more';

-- Runs.

CREATE VIEW sync_guard.running_syncs AS
SELECT r.relation, r.run_key, r.scope, r.status, r.started_at, r.age, r.last_sign_of_life, r.silence, r.done, r.total,
       r.percent, r.verdict, r.why, r.limit_used, r.uncommitted, r.lease, r.worker, r.progress_bar,
       r.rate_per_second, r.expected_end, r.expected_by
FROM sync_guard.live_runs() AS r
WHERE NOT r.dead;
COMMENT ON VIEW sync_guard.running_syncs IS 'the runs that are alive now; a dead one is never among them, closed or not';

CREATE VIEW sync_guard.stuck_syncs AS
SELECT r.relation, r.run_key, r.scope, r.status, r.started_at, r.age, r.last_sign_of_life, r.silence, r.done, r.total,
       r.percent, r.verdict, r.why, r.limit_used, r.uncommitted, r.lease, r.worker, r.progress_bar,
       r.rate_per_second, r.expected_end, r.expected_by
FROM sync_guard.live_runs() AS r
WHERE r.dead;
COMMENT ON VIEW sync_guard.stuck_syncs IS 'the runs that say they are live and are dead; reap_stale_syncs() closes them';

CREATE VIEW sync_guard.long_running_syncs AS
SELECT r.relation, r.run_key, r.scope, r.status, r.started_at, r.age, r.last_sign_of_life, r.silence, r.done, r.total,
       r.percent, r.verdict, r.why, r.limit_used, r.uncommitted, r.lease, r.worker, r.progress_bar,
       r.rate_per_second, r.expected_end, r.expected_by
FROM sync_guard.live_runs() AS r
WHERE NOT r.dead AND r.age OPERATOR(pg_catalog.>) '30 minutes'::pg_catalog.interval;
COMMENT ON VIEW sync_guard.long_running_syncs IS 'the runs that are alive and started more than 30 minutes ago';

CREATE VIEW sync_guard.recent_syncs AS
SELECT r.relation, r.run_key, r.scope, r.status, r.state, r.started_at, r.ended_at, r.duration, r.verdict, r.reaped,
       r.summary
FROM sync_guard.recent_runs(10) AS r;
COMMENT ON VIEW sync_guard.recent_syncs IS
    'the last ten runs of each table by their start, newest first; recent_runs(n) shows more';
COMMENT ON COLUMN sync_guard.recent_syncs.status IS 'as it stands in the row';
COMMENT ON COLUMN sync_guard.recent_syncs.state IS
    'what is true of it: running, stuck (dead and not yet closed), or the status in which it ended';
COMMENT ON COLUMN sync_guard.recent_syncs.duration IS 'from start to end, of runs that have ended';
COMMENT ON COLUMN sync_guard.recent_syncs.verdict IS 'of runs that have not ended';
COMMENT ON COLUMN sync_guard.recent_syncs.reaped IS 'the guard closed it, and nothing has undone that';
COMMENT ON COLUMN sync_guard.recent_syncs.summary IS 'the table''s summary_columns';

CREATE VIEW sync_guard.sync_status_overview AS
SELECT c.relation, c.scope, c.running, c.stuck, c.succeeded_24h, c.failed_24h, c.reaped_24h, c.last_started,
       c.last_state, c.last_success
FROM sync_guard.scope_counts() AS c;
COMMENT ON VIEW sync_guard.sync_status_overview IS
    'a line per table and scope that has a live run or one that started within seven days';
COMMENT ON COLUMN sync_guard.sync_status_overview.running IS 'runs that are alive now';
COMMENT ON COLUMN sync_guard.sync_status_overview.stuck IS 'runs that are dead and not yet closed';
COMMENT ON COLUMN sync_guard.sync_status_overview.succeeded_24h IS 'ended well, of those that started within 24 hours';
COMMENT ON COLUMN sync_guard.sync_status_overview.failed_24h IS
    'ended otherwise, of those that started within 24 hours; reaped ones are among them';
COMMENT ON COLUMN sync_guard.sync_status_overview.reaped_24h IS
    'reaped within 24 hours, whenever they started; 0 for callers to whom row security applies';
COMMENT ON COLUMN sync_guard.sync_status_overview.last_state IS
    'of the run that started last: running, stuck, or the status in which it ended';
COMMENT ON COLUMN sync_guard.sync_status_overview.last_success IS
    'when the last run that ended well ended, of those that started within seven days';

CREATE VIEW sync_guard.failure_rates AS
SELECT c.relation, c.scope, s.span, s.succeeded, s.failed, s.reaped,
       CASE WHEN s.succeeded OPERATOR(pg_catalog.+) s.failed OPERATOR(pg_catalog.>) 0
            THEN pg_catalog.round(s.failed::pg_catalog.numeric
                     OPERATOR(pg_catalog./) (s.succeeded OPERATOR(pg_catalog.+) s.failed), 4) END AS rate
FROM sync_guard.scope_counts() AS c
CROSS JOIN LATERAL (VALUES
    ('1 hour'::pg_catalog.interval, c.succeeded_1h, c.failed_1h, c.reaped_1h),
    ('24 hours'::pg_catalog.interval, c.succeeded_24h, c.failed_24h, c.reaped_24h))
    AS s (span, succeeded, failed, reaped);
COMMENT ON VIEW sync_guard.failure_rates IS 'how many of the last hour''s and of the last day''s runs failed, by table and scope';
COMMENT ON COLUMN sync_guard.failure_rates.span IS 'runs that started within this time';
COMMENT ON COLUMN sync_guard.failure_rates.failed IS 'ended otherwise than well; reaped ones are among them';
COMMENT ON COLUMN sync_guard.failure_rates.reaped IS 'reaped within this time, whenever they started';
COMMENT ON COLUMN sync_guard.failure_rates.rate IS 'failed of all that ended, from 0 to 1; NULL where none has ended';

-- The journal.

CREATE VIEW sync_guard.reaped_syncs WITH (security_barrier) AS
SELECT j.id AS reaping, j.relation_name, j.run_key, j.scope, j.at AS reaped_at, j.verdict, j.reason, j.evidence,
       j.path, j.role, j.session_role,
       CASE WHEN j.event OPERATOR(pg_catalog.=) 'reaped' THEN 'guard' ELSE 'observe' END AS mode,
       m.event AS outcome, m.at AS outcome_at,
       j.false_positive OR COALESCE(m.false_positive, false) AS false_positive,
       CASE WHEN sync_guard.may_read_journal(j.relation, j.relation_name, true) THEN j.run END AS run,
       CASE WHEN sync_guard.may_read_journal(j.relation, j.relation_name, true) THEN m.wanted END AS wanted,
       j.relation
FROM sync_guard.journal AS j
LEFT JOIN LATERAL (
    SELECT pg_catalog.replace((pg_catalog.array_agg(l.event ORDER BY l.id DESC))[1], '_', ' ') AS event,
           (pg_catalog.array_agg(l.at ORDER BY l.id DESC))[1] AS at,
           (pg_catalog.array_agg(l.wanted ORDER BY l.id DESC) FILTER (WHERE l.wanted IS NOT NULL))[1] AS wanted,
           pg_catalog.bool_or(l.false_positive) AS false_positive
    FROM sync_guard.journal AS l
    WHERE l.relation OPERATOR(pg_catalog.=) j.relation AND l.run_key OPERATOR(pg_catalog.=) j.run_key
      AND l.id OPERATOR(pg_catalog.>) j.id AND l.reaping OPERATOR(pg_catalog.=) j.id) AS m ON true
WHERE j.event OPERATOR(pg_catalog.=) ANY ('{reaped,would_reap}'::pg_catalog.text[])
  AND sync_guard.may_read_journal(j.relation, j.relation_name, false)
ORDER BY j.id DESC;
COMMENT ON VIEW sync_guard.reaped_syncs IS
    'the journal: a line per run that the guard reaped or, observing, would have, newest first, and what became of it';
COMMENT ON COLUMN sync_guard.reaped_syncs.relation IS 'the table; a number where it is gone';
COMMENT ON COLUMN sync_guard.reaped_syncs.reaping IS 'number of the reaping';
COMMENT ON COLUMN sync_guard.reaped_syncs.relation_name IS 'the table, as it was called then';
COMMENT ON COLUMN sync_guard.reaped_syncs.verdict IS 'why the run was dead';
COMMENT ON COLUMN sync_guard.reaped_syncs.reason IS 'the text that was written into the row';
COMMENT ON COLUMN sync_guard.reaped_syncs.evidence IS 'what was known of the run, with the rule, the figure and the limit that decided';
COMMENT ON COLUMN sync_guard.reaped_syncs.path IS 'what closed it: call, pg_cron, start_sync, worker_started, or worker (at the end of a session)';
COMMENT ON COLUMN sync_guard.reaped_syncs.role IS 'who called';
COMMENT ON COLUMN sync_guard.reaped_syncs.mode IS 'guard: it was reaped; observe: it would have been';
COMMENT ON COLUMN sync_guard.reaped_syncs.outcome IS 'what came later: late finish, retried, overturned; NULL: nothing';
COMMENT ON COLUMN sync_guard.reaped_syncs.false_positive IS 'the run turned out to have been alive';
COMMENT ON COLUMN sync_guard.reaped_syncs.run IS 'the row as it was; NULL for callers who may not read all its columns, and in observe mode';
COMMENT ON COLUMN sync_guard.reaped_syncs.wanted IS 'the row as its late worker wanted it; NULL as above';

CREATE VIEW sync_guard.late_finishes WITH (security_barrier) AS
SELECT j.id, j.relation_name, j.run_key, j.scope, j.at, j.reason, j.role, j.session_role, j.reaping, j.false_positive,
       CASE WHEN sync_guard.may_read_journal(j.relation, j.relation_name, true) THEN j.run END AS run,
       CASE WHEN sync_guard.may_read_journal(j.relation, j.relation_name, true) THEN j.wanted END AS wanted
FROM sync_guard.journal AS j
WHERE (j.event OPERATOR(pg_catalog.=) 'late_finish' OR (j.event OPERATOR(pg_catalog.=) 'overturned' AND j.path OPERATOR(pg_catalog.=) 'trigger'))
  AND sync_guard.may_read_journal(j.relation, j.relation_name, false)
ORDER BY j.id DESC;
COMMENT ON VIEW sync_guard.late_finishes IS
    'what workers wrote to runs that were closed already, newest first; nothing they wanted to write is lost';
COMMENT ON COLUMN sync_guard.late_finishes.reaping IS 'the line of reaped_syncs; NULL where somebody else had closed the run';
COMMENT ON COLUMN sync_guard.late_finishes.run IS 'the row as it was; NULL for callers who may not read all its columns';
COMMENT ON COLUMN sync_guard.late_finishes.wanted IS 'the row as the worker wanted it; NULL as above';

-- Settings.

CREATE VIEW sync_guard.guarded_tables WITH (security_barrier) AS
SELECT s.relation, s.relation_name, s.mode, s.exclusive, s.max_silence, s.max_age, s.max_stall,
       (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_strip_nulls(pg_catalog.jsonb_build_object(
                   'scope', l.scope, 'max_silence', l.max_silence::pg_catalog.text, 'max_age', l.max_age::pg_catalog.text,
                   'max_stall', l.max_stall::pg_catalog.text)) ORDER BY l.scope)
        FROM sync_guard.scope_limits AS l WHERE l.relation OPERATOR(pg_catalog.=) s.relation) AS scope_limits,
       CASE WHEN s.paused_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp() THEN s.paused_until END AS paused_until,
       s.transitions,
       (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
                   'from', r.from_status, 'to', r.to_status, 'allowed', r.allowed) ORDER BY r.from_status, r.to_status)
        FROM sync_guard.transition_rules AS r WHERE r.relation OPERATOR(pg_catalog.=) s.relation) AS transition_rules,
       s.late_finish, s.live_statuses, s.failed_status, s.exclusive_statuses, s.time_zone, s.key_column,
       s.status_column, s.start_column, s.end_column, s.duration_column, s.error_column, s.activity_column,
       s.updated_column, s.done_column, s.total_column, s.scope_columns, s.scope_overlaps, s.summary_columns,
       s.adopted_at, s.adopted_by, sync_guard.settings_problem(s.relation) AS problem
FROM sync_guard.settings AS s
WHERE sync_guard.may_read_settings(s.relation)
ORDER BY s.relation_name;
COMMENT ON VIEW sync_guard.guarded_tables IS 'the settings of every guarded table that the caller may read';
COMMENT ON COLUMN sync_guard.guarded_tables.scope_limits IS 'limits of single scopes, by set_limit';
COMMENT ON COLUMN sync_guard.guarded_tables.paused_until IS 'by pause_reaping; NULL where reaping is not paused now';
COMMENT ON COLUMN sync_guard.guarded_tables.transition_rules IS 'exceptions to the default transitions, by allow_transition';
COMMENT ON COLUMN sync_guard.guarded_tables.exclusive_statuses IS 'in which a run excludes others of its scope; empty: all live ones';
COMMENT ON COLUMN sync_guard.guarded_tables.problem IS 'why the settings do not fit the table any more; NULL: they do';

CREATE VIEW sync_guard.guard_health AS
SELECT p.severity, p.relation, p.problem, p.detail, p.hint
FROM sync_guard.health_problems() AS p
ORDER BY CASE WHEN p.severity OPERATOR(pg_catalog.=) 'error' THEN 0
              WHEN p.severity OPERATOR(pg_catalog.=) 'warning' THEN 1 ELSE 2 END;
COMMENT ON VIEW sync_guard.guard_health IS 'a line per problem of the guard, of its tables and of its schedule, the worst first; empty: all is well';
COMMENT ON COLUMN sync_guard.guard_health.severity IS 'error: the guard cannot do its work; warning: it will go wrong; info: good to know';
COMMENT ON COLUMN sync_guard.guard_health.relation IS 'NULL: it is about no single table';
COMMENT ON COLUMN sync_guard.guard_health.problem IS 'a code that stays the same';
COMMENT ON COLUMN sync_guard.guard_health.hint IS 'what to do, often the statement to run';

-- Memory.

CREATE FUNCTION sync_guard.tracked_run_entries(
    OUT database oid, OUT relation oid, OUT run_key text, OUT status text, OUT started_at timestamptz,
    OUT last_sign_of_life timestamptz, OUT done bigint, OUT total bigint, OUT progress_changed timestamptz,
    OUT uncommitted boolean, OUT token bigint, OUT lease text, OUT ttl interval, OUT pid integer,
    OUT session_ended timestamptz, OUT held boolean)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 50
AS 'MODULE_PATHNAME', 'emag_sync_guard_tracked_run_entries';
COMMENT ON FUNCTION sync_guard.tracked_run_entries() IS 'behind the view tracked_runs: every entry in shared memory';

CREATE FUNCTION sync_guard.guard_memory_state(
    OUT max_tracked_runs integer, OUT used integer, OUT refused bigint, OUT bytes bigint, OUT bytes_per_run integer,
    OUT life_began timestamptz, OUT workers_requested bigint, OUT workers_started bigint, OUT workers_refused bigint,
    OUT requests_open integer, OUT mass_death_runs integer, OUT mass_death_at timestamptz)
RETURNS record
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_guard_memory_state';
COMMENT ON FUNCTION sync_guard.guard_memory_state() IS 'behind the view guard_memory: the shared memory and the workers on demand';

CREATE VIEW sync_guard.tracked_runs AS
SELECT e.database, e.relation, e.run_key, e.status, e.started_at, e.last_sign_of_life, e.done, e.total,
       e.progress_changed, e.uncommitted, e.token, e.lease, e.ttl, e.pid, e.session_ended, e.held
FROM sync_guard.tracked_run_entries() AS e;
COMMENT ON VIEW sync_guard.tracked_runs IS
    'the runs in shared memory, of every database; for members of pg_monitor. Empty where the library is not preloaded';
COMMENT ON COLUMN sync_guard.tracked_runs.uncommitted IS 'the transaction that inserted it is still open or prepared';
COMMENT ON COLUMN sync_guard.tracked_runs.lease IS 'heartbeat, session; NULL: none';
COMMENT ON COLUMN sync_guard.tracked_runs.pid IS 'of the session that holds the lease, else of the one that inserted the row';
COMMENT ON COLUMN sync_guard.tracked_runs.session_ended IS 'when the session that the lease is bound to died';
COMMENT ON COLUMN sync_guard.tracked_runs.held IS 'silent together with many others: held back as a mass death';

CREATE VIEW sync_guard.guard_memory AS
SELECT m.max_tracked_runs, m.used, m.refused, m.bytes, m.bytes_per_run, m.life_began, m.workers_requested,
       m.workers_started, m.workers_refused, m.requests_open, m.mass_death_runs, m.mass_death_at
FROM sync_guard.guard_memory_state() AS m;
COMMENT ON VIEW sync_guard.guard_memory IS
    'one line on the shared memory and the workers on demand, for members of pg_monitor; max_tracked_runs 0: not preloaded';
COMMENT ON COLUMN sync_guard.guard_memory.refused IS 'runs that found no room since the server started';
COMMENT ON COLUMN sync_guard.guard_memory.life_began IS 'start of the server, crash restarts and promotion included';
COMMENT ON COLUMN sync_guard.guard_memory.workers_refused IS 'times that no slot for a background worker was free';
COMMENT ON COLUMN sync_guard.guard_memory.requests_open IS 'owners of this database''s tables whose dead sessions are not served yet';
