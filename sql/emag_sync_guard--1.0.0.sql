\echo Use "CREATE EXTENSION emag_sync_guard" to load this file. \quit

CREATE SCHEMA sync_guard;
COMMENT ON SCHEMA sync_guard IS 'emag_sync_guard: keeps tables of background runs honest';
-- The guard's own tables. Only its functions write them; the cache reads them by position, so new columns go to the end.
-- None has a foreign key: pg_restore loads the tables of an extension side by side, in any order. What belongs to a table's
-- settings goes with them by a trigger (settings_changed).

CREATE TABLE sync_guard.settings (
    relation           regclass PRIMARY KEY,
    relation_name      text NOT NULL,
    key_column         name NOT NULL,
    status_column      name NOT NULL,
    live_statuses      text[] NOT NULL CHECK (pg_catalog.cardinality(live_statuses) OPERATOR(pg_catalog.>) 0),
    failed_status      text NOT NULL,
    start_column       name,
    end_column         name,
    duration_column    name,
    error_column       name,
    activity_column    name,
    updated_column     name,
    done_column        name,
    total_column       name,
    scope_columns      name[] NOT NULL,
    scope_overlaps     jsonb NOT NULL,
    summary_columns    name[] NOT NULL,
    time_zone          text NOT NULL,
    max_silence        interval,
    max_age            interval,
    max_stall          interval,
    exclusive          boolean NOT NULL,
    exclusive_statuses text[] NOT NULL,
    transitions        text NOT NULL CHECK (transitions OPERATOR(pg_catalog.=) ANY ('{enforce,warn}'::pg_catalog.text[])),
    late_finish        text NOT NULL CHECK (late_finish OPERATOR(pg_catalog.=) ANY ('{keep,accept,reject}'::pg_catalog.text[])),
    mode               text NOT NULL CHECK (mode OPERATOR(pg_catalog.=) ANY ('{guard,observe}'::pg_catalog.text[])),
    paused_until       timestamptz,
    adopted_at         timestamptz NOT NULL,
    adopted_by         name NOT NULL,
    ended_statuses     text[] NOT NULL
);
COMMENT ON TABLE sync_guard.settings IS 'one line per guarded table; written by guard_table, read through the view guarded_tables';
COMMENT ON COLUMN sync_guard.settings.ended_statuses IS 'statuses known at adoption (enum, CHECK, rows) that are not live; with the usual words for an end: what a late finish is told by';
COMMENT ON COLUMN sync_guard.settings.exclusive_statuses IS 'empty: the live statuses';

CREATE TABLE sync_guard.scope_limits (
    relation    regclass NOT NULL,
    scope       jsonb NOT NULL,
    max_silence interval,
    max_age     interval,
    max_stall   interval,
    PRIMARY KEY (relation, scope)
);
COMMENT ON TABLE sync_guard.scope_limits IS 'limits of single scopes; written by set_limit';

CREATE TABLE sync_guard.transition_rules (
    relation    regclass NOT NULL,
    from_status text NOT NULL,
    to_status   text NOT NULL,
    allowed     boolean NOT NULL,
    PRIMARY KEY (relation, from_status, to_status)
);
COMMENT ON TABLE sync_guard.transition_rules IS 'exceptions to the default transitions; written by allow_transition';

CREATE TABLE sync_guard.journal (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL,
    event          text NOT NULL CHECK (event OPERATOR(pg_catalog.=) ANY
                       ('{reaped,would_reap,late_finish,retried,overturned}'::pg_catalog.text[])),
    relation       regclass NOT NULL,
    relation_name  text NOT NULL,
    run_key        text NOT NULL,
    reaping        bigint,
    scope          jsonb,
    verdict        text,
    reason         text,
    evidence       jsonb,
    path           text NOT NULL,
    role           name NOT NULL,
    session_role   name NOT NULL,
    run            jsonb,
    wanted         jsonb,
    false_positive boolean NOT NULL DEFAULT false
);
CREATE INDEX journal_run ON sync_guard.journal (relation, run_key, id);
CREATE INDEX journal_at ON sync_guard.journal (at);
COMMENT ON TABLE sync_guard.journal IS 'append-only: every run the guard reaped (or, observing, would have), and what became of it; read through the view reaped_syncs';
COMMENT ON COLUMN sync_guard.journal.event IS 'reaped, would_reap (observe mode); late_finish, retried, overturned tell what happened to a run afterwards';
COMMENT ON COLUMN sync_guard.journal.reaping IS 'id of the reaped or would_reap line that this line marks; NULL where the guard had not closed the run';
COMMENT ON COLUMN sync_guard.journal.path IS 'what closed it: call, pg_cron, start_sync, worker_started, worker (at the end of a session); trigger for what a writer did';
COMMENT ON COLUMN sync_guard.journal.run IS 'the row as it was before; a string of its JSON where jsonb cannot hold that';
COMMENT ON COLUMN sync_guard.journal.wanted IS 'late finish: the row as the writer wanted it';
COMMENT ON COLUMN sync_guard.journal.false_positive IS 'the run turned out to have been alive';

CREATE TABLE sync_guard.leases (
    token            bigint PRIMARY KEY,
    relation         regclass NOT NULL,
    relation_name    text NOT NULL,
    run_key          text NOT NULL,
    ttl              interval,
    bind_session     boolean NOT NULL,
    worker           text,
    incarnation      text,
    taken_at         timestamptz NOT NULL,
    taken_by         name NOT NULL,
    attached_at      timestamptz NOT NULL,
    session_pid      integer NOT NULL,
    session_start    timestamptz NOT NULL,
    last_beat        timestamptz,
    done             bigint,
    total            bigint,
    progress_changed timestamptz,
    superseded_at    timestamptz,
    ended_at         timestamptz,
    end_reason       text
);
CREATE UNIQUE INDEX leases_open ON sync_guard.leases (relation, run_key) WHERE ended_at IS NULL;
CREATE INDEX leases_worker ON sync_guard.leases (worker) WHERE ended_at IS NULL AND worker IS NOT NULL;
COMMENT ON TABLE sync_guard.leases IS 'a line per leased run, written when the lease is taken and when it ends; signs of life are kept in memory';
COMMENT ON COLUMN sync_guard.leases.attached_at IS 'when the session that holds it took it, or came back to it';
COMMENT ON COLUMN sync_guard.leases.last_beat IS 'written only where the library is not preloaded, or its memory is full';
COMMENT ON COLUMN sync_guard.leases.superseded_at IS 'another incarnation of its worker has announced itself';
COMMENT ON COLUMN sync_guard.leases.end_reason IS 'finished, reaped, deleted, retried, replaced';

CREATE TABLE sync_guard.scope_rhythms (
    relation         regclass NOT NULL,
    scope            jsonb NOT NULL,
    learned_at       timestamptz NOT NULL,
    completed        bigint NOT NULL,
    usual_duration   interval,
    long_duration    interval,
    usual_gap        interval,
    long_gap         interval,
    last_completed   timestamptz
);
-- Scopes of applications are of any length, keys of a btree are not.
CREATE UNIQUE INDEX scope_rhythms_scope ON sync_guard.scope_rhythms
    (relation, pg_catalog.jsonb_hash_extended(scope, 0), pg_catalog.jsonb_hash_extended(scope, 1));
COMMENT ON TABLE sync_guard.scope_rhythms IS 'how long the runs of a scope usually take and how far apart they complete; learned from the history by the sweep';
COMMENT ON COLUMN sync_guard.scope_rhythms.scope IS '{}: all runs of the table';
COMMENT ON COLUMN sync_guard.scope_rhythms.completed IS 'runs that ended well, of the last 30 days: the sample';
COMMENT ON COLUMN sync_guard.scope_rhythms.usual_duration IS 'median of their durations';
COMMENT ON COLUMN sync_guard.scope_rhythms.long_duration IS '95th percentile of the same';
COMMENT ON COLUMN sync_guard.scope_rhythms.usual_gap IS 'median time from one completion to the next';
COMMENT ON COLUMN sync_guard.scope_rhythms.long_gap IS 'the longest such time but for outliers: the third longest of 50 or more, the second of 20 or more; those that make up most of the time are none';

CREATE TABLE sync_guard.observed_gaps (
    relation        regclass NOT NULL,
    run_key         text NOT NULL,
    ended_at        timestamptz NOT NULL,
    longest_silence interval NOT NULL,
    longest_stall   interval
);
CREATE INDEX observed_gaps_run ON sync_guard.observed_gaps (relation, run_key);
COMMENT ON TABLE sync_guard.observed_gaps IS 'of runs that ended while they were in shared memory: what only memory knew; brought in by the sweep';
COMMENT ON COLUMN sync_guard.observed_gaps.longest_silence IS 'the longest time between two signs of life, start and end among them';
COMMENT ON COLUMN sync_guard.observed_gaps.longest_stall IS 'the longest time in which its progress stood still once it had moved, the end counted; NULL: it never moved';

CREATE TABLE sync_guard.alert_settings (
    rule        text NOT NULL,
    relation    regclass,
    scope       jsonb NOT NULL DEFAULT '{}',
    enabled     boolean,
    raise_above double precision,
    clear_below double precision,
    time_window interval,
    min_sample  integer,
    UNIQUE NULLS NOT DISTINCT (rule, relation, scope)
);
COMMENT ON TABLE sync_guard.alert_settings IS 'what set_alert_rule changed; the defaults are the library''s own. Read through the view alert_rules';
COMMENT ON COLUMN sync_guard.alert_settings.relation IS 'NULL: all tables, and the rules that are about no table';
COMMENT ON COLUMN sync_guard.alert_settings.scope IS '{}: every scope of the table';

CREATE TABLE sync_guard.alert_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule           text NOT NULL,
    relation       regclass,
    relation_name  text,
    scope          jsonb,
    subject        text,
    raised_at      timestamptz NOT NULL,
    figure         double precision NOT NULL,
    threshold      double precision NOT NULL,
    sample         bigint,
    detail         text NOT NULL,
    cleared_at     timestamptz,
    cleared_figure double precision,
    cleared_detail text
);
CREATE UNIQUE INDEX alert_log_open ON sync_guard.alert_log
    (rule, relation, pg_catalog.jsonb_hash_extended(scope, 0), pg_catalog.jsonb_hash_extended(scope, 1),
     pg_catalog.hashtextextended(subject, 0), pg_catalog.hashtextextended(subject, 1))
    NULLS NOT DISTINCT WHERE cleared_at IS NULL;
CREATE INDEX alert_log_raised ON sync_guard.alert_log (raised_at);
COMMENT ON TABLE sync_guard.alert_log IS 'a line per alert that a sweep has raised; read through the view alert_history';
COMMENT ON COLUMN sync_guard.alert_log.subject IS 'of rules that are about no table: the job or the path; NULL: the server, or the scope';
COMMENT ON COLUMN sync_guard.alert_log.cleared_at IS 'NULL: it is still raised';

CREATE TABLE sync_guard.outbox (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payload text NOT NULL
);
COMMENT ON TABLE sync_guard.outbox IS 'notifications of reapings on paths that must send none themselves; the next sweep sends them';

SELECT pg_catalog.pg_extension_config_dump('sync_guard.settings', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.scope_limits', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.transition_rules', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.leases', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.journal', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.journal_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.observed_gaps', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.alert_settings', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.alert_log', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.alert_log_id_seq', '');
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
'Whether a sync is running, judged at this instant: a dead run does not count. scope_value: a value of the first scope column. relation NULL: any guarded table that you may read. Errors: SY006 for a scope object (see scope_is_running) or for a table without scope columns; SY004 not guarded; 42501 no right.';

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
'Deletes journal lines older than that, of the tables that you own (all, for a superuser), and returns how many; alerts that cleared before that go with them. Errors: SY006 for NULL, negative or infinite.';

CREATE FUNCTION sync_guard.live_runs_query(relation regclass)
RETURNS text LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_live_runs_query';
COMMENT ON FUNCTION sync_guard.live_runs_query(regclass) IS
'The statement by which the guard finds a table''s live runs, to be looked at with EXPLAIN.';
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

CREATE EVENT TRIGGER emag_sync_guard_forget_dropped ON sql_drop
    EXECUTE FUNCTION sync_guard.forget_dropped();
COMMENT ON EVENT TRIGGER emag_sync_guard_forget_dropped IS
'emag_sync_guard: the settings of a dropped table go with it';
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
-- The runs of now for a person at a terminal: SELECT * FROM sync_guard.watch_80 \watch 1

CREATE FUNCTION sync_guard.watch_lines(
    wide boolean,
    OUT dead boolean, OUT started_at timestamptz, OUT sync text, OUT key text, OUT age text, OUT progress text,
    OUT done text, OUT rate text, OUT "left" text, OUT sign text, OUT verdict text, OUT why text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20
AS 'MODULE_PATHNAME', 'emag_sync_guard_watch_lines';
COMMENT ON FUNCTION sync_guard.watch_lines(boolean) IS
'behind the views watch_80 and watch_120: live_runs() in texts of fixed widths';

CREATE VIEW sync_guard.watch_80 AS
SELECT w.sync, w.age, w.progress, w.done, w."left", w.sign, w.verdict
FROM sync_guard.watch_lines(false) AS w
ORDER BY w.dead DESC, w.started_at, w.key;
COMMENT ON VIEW sync_guard.watch_80 IS
'the runs of now in lines of 80 characters, for psql: SELECT * FROM sync_guard.watch_80 LIMIT 17 \watch 1 (so many leave the head on a terminal of 24 lines). Stuck ones first, then the oldest';

CREATE VIEW sync_guard.watch_120 AS
SELECT w.sync, w.key, w.age, w.progress, w.done, w.rate, w."left", w.sign, w.why
FROM sync_guard.watch_lines(true) AS w
ORDER BY w.dead DESC, w.started_at, w.key;
COMMENT ON VIEW sync_guard.watch_120 IS
'the runs of now in lines of 120 characters, for psql: SELECT * FROM sync_guard.watch_120 LIMIT 23 \watch 1 (so many leave the head on a terminal of 30 lines). Stuck ones first, then the oldest';

COMMENT ON COLUMN sync_guard.watch_80.sync IS 'the values of its scope columns, or its table where there are none; cut to fit';
COMMENT ON COLUMN sync_guard.watch_80.age IS 'since the start; -: it has none';
COMMENT ON COLUMN sync_guard.watch_80.progress IS 'done of total; -: it cannot be said';
COMMENT ON COLUMN sync_guard.watch_80.done IS 'done/total: k thousands, M millions, G, T, P, E';
COMMENT ON COLUMN sync_guard.watch_80."left" IS 'until its expected end; ~: by the usual duration of its scope; -: not known';
COMMENT ON COLUMN sync_guard.watch_80.sign IS 'since its last sign of life';
COMMENT ON COLUMN sync_guard.watch_80.verdict IS 'as in live_runs; cut to fit';
COMMENT ON COLUMN sync_guard.watch_120.sync IS 'the values of its scope columns, or its table where there are none; cut to fit';
COMMENT ON COLUMN sync_guard.watch_120.key IS 'its key; cut to fit';
COMMENT ON COLUMN sync_guard.watch_120.age IS 'since the start; -: it has none';
COMMENT ON COLUMN sync_guard.watch_120.progress IS 'done of total; -: it cannot be said';
COMMENT ON COLUMN sync_guard.watch_120.done IS 'done/total: k thousands, M millions, G, T, P, E';
COMMENT ON COLUMN sync_guard.watch_120.rate IS 'by the second, minute, hour or day';
COMMENT ON COLUMN sync_guard.watch_120."left" IS 'until its expected end; ~: by the usual duration of its scope; -: not known';
COMMENT ON COLUMN sync_guard.watch_120.sign IS 'since its last sign of life';
COMMENT ON COLUMN sync_guard.watch_120.why IS 'the verdict with its figures: what was measured, and the limit';
-- Alerts: rules, what is raised now, what was.

CREATE FUNCTION sync_guard.set_alert_rule(
    relation regclass,
    rule text,
    scope jsonb DEFAULT '{}',
    enabled boolean DEFAULT NULL,
    raise_above text DEFAULT NULL,
    clear_below text DEFAULT NULL,
    time_window interval DEFAULT NULL,
    min_sample integer DEFAULT NULL,
    reset text[] DEFAULT NULL)
RETURNS void LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_set_alert_rule';
COMMENT ON FUNCTION sync_guard.set_alert_rule(regclass, text, jsonb, boolean, text, text, interval, integer, text[]) IS
'Changes an alert rule for a table, or for one of its scopes; relation NULL: for all tables, and the rules that are about no table. raise_above and clear_below are in the rule''s unit: a time (''45 minutes''), a share (''15 %'' or ''0.15''), a number. NULL leaves; reset names what goes back (enabled, raise_above, clear_below, time_window, min_sample). Owner of the table only, with NULL the owner of the extension. Errors: SY004 not guarded, SY006 no such rule, scope or figure, 42501 no right.';

CREATE FUNCTION sync_guard.effective_alert_rules(
    OUT rule text, OUT severity text, OUT relation regclass, OUT scope jsonb, OUT enabled boolean, OUT raise_above text,
    OUT clear_below text, OUT time_window interval, OUT min_sample integer, OUT unit text, OUT changed boolean,
    OUT meaning text)
RETURNS SETOF record
LANGUAGE c STABLE PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME', 'emag_sync_guard_effective_alert_rules';
COMMENT ON FUNCTION sync_guard.effective_alert_rules() IS 'behind the view alert_rules';

CREATE FUNCTION sync_guard.current_alerts(
    OUT rule text, OUT severity text, OUT relation regclass, OUT scope jsonb, OUT subject text, OUT since timestamptz,
    OUT recorded boolean, OUT figure double precision, OUT threshold double precision, OUT unit text, OUT sample bigint,
    OUT detail text, OUT hint text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 5
AS 'MODULE_PATHNAME', 'emag_sync_guard_current_alerts';
COMMENT ON FUNCTION sync_guard.current_alerts() IS 'behind the view alerts: the rules, evaluated now';

CREATE FUNCTION sync_guard.may_read_alert(relation regclass, relation_name text)
RETURNS boolean
LANGUAGE c STABLE PARALLEL RESTRICTED
AS 'MODULE_PATHNAME', 'emag_sync_guard_may_read_alert';
COMMENT ON FUNCTION sync_guard.may_read_alert(regclass, text) IS
    'behind the view alert_history: the caller may see the alerts on this table; relation NULL: he may read any guarded table';

CREATE VIEW sync_guard.alert_rules AS
SELECT r.rule, r.severity, r.relation, r.scope, r.enabled, r.raise_above, r.clear_below, r.time_window, r.min_sample,
       r.unit, r.changed, r.meaning
FROM sync_guard.effective_alert_rules() AS r;

CREATE VIEW sync_guard.alerts AS
SELECT a.rule, a.severity, a.relation, a.scope, a.subject, a.since, a.recorded, a.figure, a.threshold, a.unit, a.sample,
       a.detail, a.hint
FROM sync_guard.current_alerts() AS a;

CREATE VIEW sync_guard.alert_history WITH (security_barrier) AS
SELECT l.id, l.rule, l.relation, l.relation_name, l.scope, l.subject, l.raised_at, l.cleared_at, l.figure, l.threshold,
       l.sample, l.detail, l.cleared_figure, l.cleared_detail
FROM sync_guard.alert_log AS l
WHERE sync_guard.may_read_alert(l.relation, l.relation_name)
ORDER BY l.id DESC;

COMMENT ON VIEW sync_guard.alert_rules IS
    'the rules of alerting: a line per rule with what holds for all tables, and one per table or scope for which set_alert_rule changed it';
COMMENT ON VIEW sync_guard.alerts IS 'what is wrong now, by the alert rules, evaluated at this instant; empty: nothing is';
COMMENT ON VIEW sync_guard.alert_history IS 'the alerts that sweeps have raised, newest first, and when and by what figure they cleared';
COMMENT ON COLUMN sync_guard.alert_rules.rule IS 'its name, for set_alert_rule';
COMMENT ON COLUMN sync_guard.alert_rules.severity IS 'critical or warning';
COMMENT ON COLUMN sync_guard.alert_rules.relation IS 'NULL: what holds for all tables, or the rule is about none';
COMMENT ON COLUMN sync_guard.alert_rules.scope IS '{}: for every scope of the table; NULL with relation';
COMMENT ON COLUMN sync_guard.alert_rules.enabled IS 'the rule is asked';
COMMENT ON COLUMN sync_guard.alert_rules.raise_above IS 'an alert is raised where the figure is above this; in the rule''s unit';
COMMENT ON COLUMN sync_guard.alert_rules.clear_below IS 'one that is raised clears where the figure is not above this';
COMMENT ON COLUMN sync_guard.alert_rules.time_window IS 'how far back the rule looks; NULL: it looks at this instant';
COMMENT ON COLUMN sync_guard.alert_rules.min_sample IS 'of fewer runs none is raised, and one that is raised clears at less than half of them; NULL: it takes no sample';
COMMENT ON COLUMN sync_guard.alert_rules.unit IS 'of figure: seconds, share (0 to 1), times, runs';
COMMENT ON COLUMN sync_guard.alert_rules.changed IS 'set_alert_rule has changed something of it here';
COMMENT ON COLUMN sync_guard.alert_rules.meaning IS 'what the rule measures';
COMMENT ON COLUMN sync_guard.alerts.rule IS 'by which rule of alert_rules';
COMMENT ON COLUMN sync_guard.alerts.severity IS 'critical or warning';
COMMENT ON COLUMN sync_guard.alerts.relation IS 'the guarded table; NULL: it is about the server';
COMMENT ON COLUMN sync_guard.alerts.subject IS 'of reaping_overdue: the job, or worker';
COMMENT ON COLUMN sync_guard.alerts.since IS 'when a sweep raised it; NULL: none has seen it yet';
COMMENT ON COLUMN sync_guard.alerts.recorded IS 'a sweep has raised it, and told who listens; false: the next one will';
COMMENT ON COLUMN sync_guard.alerts.figure IS 'what the rule measures now, in unit';
COMMENT ON COLUMN sync_guard.alerts.threshold IS 'raised above this, in unit';
COMMENT ON COLUMN sync_guard.alerts.unit IS 'seconds, share (0 to 1), times, runs';
COMMENT ON COLUMN sync_guard.alerts.sample IS 'of how many runs the figure is; NULL: of no sample';
COMMENT ON COLUMN sync_guard.alerts.detail IS 'the alert in words, with its figures';
COMMENT ON COLUMN sync_guard.alerts.hint IS 'what to do about it';
COMMENT ON COLUMN sync_guard.alert_history.rule IS 'by which rule of alert_rules';
COMMENT ON COLUMN sync_guard.alert_history.relation IS 'the table; NULL: it was about the server';
COMMENT ON COLUMN sync_guard.alert_history.subject IS 'of reaping_overdue: the job, or worker';
COMMENT ON COLUMN sync_guard.alert_history.raised_at IS 'when a sweep raised it';
COMMENT ON COLUMN sync_guard.alert_history.cleared_at IS 'when a sweep saw that it was over; NULL: it is still raised';
COMMENT ON COLUMN sync_guard.alert_history.figure IS 'what the rule measured then, in its unit';
COMMENT ON COLUMN sync_guard.alert_history.threshold IS 'raised above this';
COMMENT ON COLUMN sync_guard.alert_history.sample IS 'of how many runs the figure was; NULL: of no sample';
COMMENT ON COLUMN sync_guard.alert_history.detail IS 'the alert in words, with its figures';
COMMENT ON COLUMN sync_guard.alert_history.cleared_figure IS 'what the rule measured when it cleared; 0: there was nothing left to measure';
COMMENT ON COLUMN sync_guard.alert_history.cleared_detail IS 'the same in words';
-- Limits learned from the history: what would fit, and what it would have meant. Nothing is applied by itself.

CREATE FUNCTION sync_guard.limit_suggestions(
    relation regclass DEFAULT NULL, look_back interval DEFAULT '90 days',
    OUT guarded_table regclass, OUT scope jsonb, OUT limit_name text, OUT present interval, OUT suggested interval,
    OUT based_on text, OUT sample bigint, OUT p50 interval, OUT p95 interval, OUT p99 interval, OUT longest interval,
    OUT wrong_share numeric, OUT replay_dead bigint, OUT replay_reaped bigint, OUT replay_wrong bigint,
    OUT replay_sooner interval, OUT statement text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20
AS 'MODULE_PATHNAME', 'emag_sync_guard_limit_suggestions';
COMMENT ON FUNCTION sync_guard.limit_suggestions(regclass, interval) IS
'Limits that would fit the runs of the last look_back, per table, scope and limit, with the sample, its quantiles, the share of live runs that they are expected to reap wrongly, and a replay of the past: of how many dead runs and how many live ones they would have reaped, and by how much sooner. relation NULL: every guarded table that you may read. Errors: SY004 not guarded; SY006 a look_back that is not positive; 42501 no right.';

CREATE FUNCTION sync_guard.apply_suggested_limits(
    relation regclass,
    min_sample integer DEFAULT 20,
    "floor" interval DEFAULT '5 minutes',
    ceiling interval DEFAULT '1 day',
    limits text[] DEFAULT '{max_silence}',
    scope jsonb DEFAULT NULL,
    OUT applied_scope jsonb, OUT limit_name text, OUT before interval, OUT after interval)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
AS 'MODULE_PATHNAME', 'emag_sync_guard_apply_suggested_limits';
COMMENT ON FUNCTION sync_guard.apply_suggested_limits(regclass, integer, interval, interval, text[], jsonb) IS
'Sets the limits that suggested_limits shows for a table and its scopes, as set_limit would one after the other, the table''s own first, and returns what it changed: a limit that is in force already is left. Suggestions from fewer runs than min_sample are left; one below floor becomes floor, one above ceiling becomes ceiling; limits: which of max_silence, max_age, max_stall; scope: only this one ({}: the table''s own). Owner only. Errors: SY004 not guarded, SY006 an argument that does not fit, 42501 not the owner.';

CREATE VIEW sync_guard.suggested_limits AS
SELECT s.guarded_table AS relation, s.scope, s.limit_name, s.present, s.suggested, s.based_on, s.sample, s.p50, s.p95, s.p99,
       s.longest, s.wrong_share, s.replay_dead, s.replay_reaped, s.replay_wrong, s.replay_sooner, s.statement
FROM sync_guard.limit_suggestions() AS s;
COMMENT ON VIEW sync_guard.suggested_limits IS
    'limits that would fit the history of the last 90 days, by table, scope and limit; apply_suggested_limits() sets them';
COMMENT ON COLUMN sync_guard.suggested_limits.scope IS 'whose limit it is; {}: the table''s own, for every scope that has none';
COMMENT ON COLUMN sync_guard.suggested_limits.limit_name IS 'max_silence, max_age, or max_stall where progress has been observed';
COMMENT ON COLUMN sync_guard.suggested_limits.present IS 'what is in force for the scope now; NULL: off';
COMMENT ON COLUMN sync_guard.suggested_limits.suggested IS
    'half again the longest of the sample (of 200 and more without outliers beyond a gap, one in 200 at most), rounded up; of the table''s own, what the scope that needs most needs; NULL where the sample is under 5';
COMMENT ON COLUMN sync_guard.suggested_limits.based_on IS
    'what was measured: durations; gaps between signs of life, as memory observed them; both: the one of some runs, the other of others; gaps between progress';
COMMENT ON COLUMN sync_guard.suggested_limits.sample IS
    'runs that ended well, and reaped ones that turned out to be alive, of which this is known; of the newest 100000';
COMMENT ON COLUMN sync_guard.suggested_limits.p50 IS 'median of what was measured';
COMMENT ON COLUMN sync_guard.suggested_limits.p95 IS '95th percentile';
COMMENT ON COLUMN sync_guard.suggested_limits.p99 IS '99th percentile';
COMMENT ON COLUMN sync_guard.suggested_limits.longest IS 'the longest of the sample';
COMMENT ON COLUMN sync_guard.suggested_limits.wrong_share IS
    'share of live runs to come that the suggestion is expected to reap: (replay_wrong + 1) / (sample + 2), never 0';
COMMENT ON COLUMN sync_guard.suggested_limits.replay_dead IS
    'runs that the guard reaped or, observing, would have, which nothing has undone and nothing speaks against; NULL where row security applies to you';
COMMENT ON COLUMN sync_guard.suggested_limits.replay_reaped IS
    'how many of these the suggestion would have reaped by now; of runs whose leases have a ttl max_silence reaps none';
COMMENT ON COLUMN sync_guard.suggested_limits.replay_wrong IS 'how many of the sample it would have reaped, which were alive';
COMMENT ON COLUMN sync_guard.suggested_limits.replay_sooner IS
    'by how much sooner than they were reaped, the median of replay_reaped; negative: later';
COMMENT ON COLUMN sync_guard.suggested_limits.statement IS 'what sets it; NULL where there is nothing to set';
-- The report: one self-contained page.

CREATE FUNCTION sync_guard.report_html(since interval DEFAULT '24 hours', relation regclass DEFAULT NULL)
RETURNS text
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_report_html';
COMMENT ON FUNCTION sync_guard.report_html(interval, regclass) IS
'A self-contained HTML page on the runs of the last `since`: what runs and what is stuck, a timeline per scope, failure rate and durations, reaped runs with their evidence, alerts, health, suggested limits. Times are in the session''s TimeZone. psql -At -c "SELECT sync_guard.report_html()" > report.html. relation NULL: every guarded table that you may read. Errors: SY004 not guarded; SY006 a since that is not positive, or longer than 100 years; 42501 no right.';
-- The sweep on pg_cron's clock.

CREATE FUNCTION sync_guard.schedule_reaping(
    schedule text DEFAULT '* * * * *', older_than interval DEFAULT NULL, job_name text DEFAULT 'emag_sync_guard')
RETURNS bigint
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_schedule_reaping';
COMMENT ON FUNCTION sync_guard.schedule_reaping(text, interval, text) IS
    'lets pg_cron call reap_stale_syncs(older_than) on a schedule, as the caller; again, it changes the job; returns pg_cron''s job id';

CREATE FUNCTION sync_guard.unschedule_reaping(job_name text DEFAULT 'emag_sync_guard')
RETURNS boolean
LANGUAGE c VOLATILE PARALLEL UNSAFE
AS 'MODULE_PATHNAME', 'emag_sync_guard_unschedule_reaping';
COMMENT ON FUNCTION sync_guard.unschedule_reaping(text) IS
    'removes the job that schedule_reaping made; false where there is none';

CREATE FUNCTION sync_guard.cron_jobs(
    OUT job_id bigint, OUT job_name text, OUT schedule text, OUT time_zone text, OUT command text, OUT database text,
    OUT role text, OUT active boolean, OUT last_started timestamptz, OUT last_ended timestamptz, OUT last_status text,
    OUT last_message text, OUT next_expected timestamptz)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 1
AS 'MODULE_PATHNAME', 'emag_sync_guard_cron_jobs';
COMMENT ON FUNCTION sync_guard.cron_jobs() IS 'behind the view reaping_schedule';

CREATE VIEW sync_guard.reaping_schedule AS
SELECT j.job_id, j.job_name, j.schedule, j.time_zone, j.command, j.database, j.role, j.active, j.last_started,
       j.last_ended, j.last_status, j.last_message, j.next_expected
FROM sync_guard.cron_jobs() AS j;
COMMENT ON VIEW sync_guard.reaping_schedule IS
    'the jobs of pg_cron that reap in this database: those of the caller''s roles, all for members of pg_read_all_stats';
COMMENT ON COLUMN sync_guard.reaping_schedule.job_id IS 'pg_cron''s number of the job';
COMMENT ON COLUMN sync_guard.reaping_schedule.time_zone IS
    'in which pg_cron reads the schedule: its setting cron.timezone, GMT where it has none';
COMMENT ON COLUMN sync_guard.reaping_schedule.role IS 'as whom the job runs: it reaps what this role may';
COMMENT ON COLUMN sync_guard.reaping_schedule.last_started IS 'of its last run that pg_cron remembers';
COMMENT ON COLUMN sync_guard.reaping_schedule.last_status IS 'of its last run, in pg_cron''s words: succeeded, failed, running, ...';
COMMENT ON COLUMN sync_guard.reaping_schedule.last_message IS 'what its last run returned, or its error';
COMMENT ON COLUMN sync_guard.reaping_schedule.next_expected IS
    'when it is due next; NULL where it is not active or the schedule is of a kind not known here';
-- A column of one name means the same in every view. Those that a view explains itself are left as they are.

DO $do$
DECLARE
    statement text;
BEGIN
    FOR statement IN
        SELECT pg_catalog.format('COMMENT ON COLUMN %s.%I IS %L', a.attrelid::pg_catalog.regclass, a.attname, w.means)
        FROM pg_catalog.pg_class AS c
        JOIN pg_catalog.pg_attribute AS a ON a.attrelid OPERATOR(pg_catalog.=) c.oid
        JOIN (VALUES
            ('relation', 'the guarded table'),
            ('relation_name', 'what the table was called when this was written, qualified'),
            ('id', 'number of the line'),
            ('false_positive', 'the run turned out to have been alive'),
            ('run_key', 'the run''s key, as text'),
            ('scope', 'the run''s values in the scope columns; NULL where the table has none'),
            ('status', 'as it stands in the row'),
            ('started_at', 'NULL where the row has no start or an infinite one'),
            ('ended_at', 'NULL where the row has no end or an infinite one'),
            ('age', 'since the start'),
            ('last_sign_of_life', 'the newest of the start and every later sign'),
            ('silence', 'since the last sign of life'),
            ('done', 'the progress counter'),
            ('total', 'what the progress counter counts up to'),
            ('percent', 'done of total; NULL where it cannot be said'),
            ('progress_bar', 'the same, drawn; in ASCII where the client has no blocks'),
            ('rate_per_second', 'how fast it counted, from its start to its last progress; NULL: it has not counted yet'),
            ('expected_end', 'when it may be expected to end; NULL: not known, or the run is dead'),
            ('expected_by', 'what that follows from: own rate, or usual duration (of its scope)'),
            ('verdict', 'what the evidence says: live, or why the run is dead (silent, overdue, ...)'),
            ('why', 'the verdict in words, with its figures'),
            ('limit_used', 'the limit that it was judged by'),
            ('uncommitted', 'the transaction that inserted it is still open: its row cannot be seen yet'),
            ('lease', 'session: it is bound to its worker''s session; heartbeat: it beats; NULL: none'),
            ('worker', 'under which name its lease was taken'),
            ('token', 'of its lease'),
            ('ttl', 'within which a heartbeat must follow the last'),
            ('progress_changed', 'when its progress last moved'),
            ('max_tracked_runs', 'how many live runs there is room for'),
            ('used', 'how many there are'),
            ('bytes', 'shared memory in all'),
            ('bytes_per_run', 'the same, for each run there is room for'),
            ('workers_requested', 'how often dead sessions asked for a worker, since the server started'),
            ('workers_started', 'how many workers that took'),
            ('mass_death_runs', 'leases that lapsed together when that last happened; NULL: never'),
            ('mass_death_at', 'when that was'),
            ('succeeded', 'ended well'),
            ('last_started', 'when the last run started'),
            ('reaped_at', 'when the guard closed it, or would have'),
            ('at', 'when it happened'),
            ('role', 'as whom it was done'),
            ('session_role', 'who had logged in'),
            ('outcome_at', 'when that happened'),
            ('reason', 'in words'),
            ('severity', 'error, warning or info'),
            ('detail', 'the problem in words'),
            ('mode', 'guard, or observe: judge and journal, change nothing'),
            ('exclusive', 'one live run in a scope at a time'),
            ('max_silence', 'how long a run may go without a sign of life; NULL: for ever'),
            ('max_age', 'how long ago it may have started, whatever the signs; NULL: no limit'),
            ('max_stall', 'how long its progress may stand still; NULL: no limit'),
            ('transitions', 'enforce: illegal changes of status are errors; warn: they are warnings'),
            ('late_finish', 'what becomes of a write to a closed run: keep, accept or reject'),
            ('live_statuses', 'in which a run works'),
            ('failed_status', 'which a reaped run gets'),
            ('time_zone', 'of the table''s times without time zone'),
            ('key_column', 'names a run'),
            ('status_column', 'tells whether it works'),
            ('start_column', 'when it started; NULL: the table has none'),
            ('end_column', 'when it ended; NULL: the table has none'),
            ('duration_column', 'how long it took; NULL: the table has none'),
            ('error_column', 'where the reason of a reaping is written; NULL: the table has none'),
            ('activity_column', 'the worker''s sign of life; NULL: the table has none'),
            ('updated_column', 'when the row was last written; NULL: the table has none'),
            ('done_column', 'the progress counter; NULL: the table has none'),
            ('total_column', 'what it counts up to; NULL: the table has none'),
            ('scope_columns', 'in which runs belong together'),
            ('scope_overlaps', 'values of a scope column that stand for others'),
            ('summary_columns', 'what recent_syncs and sync_status show of a run'),
            ('adopted_at', 'when guard_table was first called for it'),
            ('adopted_by', 'by whom'),
            ('job_name', 'pg_cron''s name of the job'),
            ('schedule', 'when it runs, as pg_cron writes it'),
            ('command', 'what it runs'),
            ('database', 'where it runs'),
            ('active', 'pg_cron runs it'),
            ('last_ended', 'when its last run ended')
        ) AS w (name, means) ON w.name OPERATOR(pg_catalog.=) a.attname::pg_catalog.text
        WHERE c.relnamespace OPERATOR(pg_catalog.=) 'sync_guard'::pg_catalog.regnamespace
          AND c.relkind OPERATOR(pg_catalog.=) 'v' AND a.attnum OPERATOR(pg_catalog.>) 0
          AND pg_catalog.col_description(c.oid, a.attnum) IS NULL
    LOOP
        EXECUTE statement;
    END LOOP;
END
$do$;
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
