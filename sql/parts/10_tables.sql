-- The guard's own tables. Only its functions write them; the cache reads them by position, so new columns go to the end.
-- None has a foreign key: pg_restore loads the tables of an extension side by side, in any order. What belongs to a table's
-- settings goes with them by a trigger (settings_changed).
-- Each has a primary key or REPLICA IDENTITY FULL: where a publication is FOR ALL TABLES, rows of a table with neither can be
-- neither changed nor deleted, and the application's statement fails with them.

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

-- Here and below: a vacuum that gives the end of a table back to the system locks it against reading, and the application's
-- statements wait for nobody (vacuum_truncate).
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
) WITH (vacuum_truncate = off);
CREATE INDEX journal_run ON sync_guard.journal (relation, run_key, id);
CREATE INDEX journal_at ON sync_guard.journal (at);
-- Every sweep counts the mistakes; they are few, and the journal is long.
CREATE INDEX journal_mistakes ON sync_guard.journal (relation, at) WHERE false_positive;
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
) WITH (vacuum_truncate = off);
CREATE UNIQUE INDEX leases_open ON sync_guard.leases (relation, run_key) WHERE ended_at IS NULL;
CREATE INDEX leases_worker ON sync_guard.leases (worker) WHERE ended_at IS NULL AND worker IS NOT NULL;
COMMENT ON TABLE sync_guard.leases IS 'a line per leased run, written when the lease is taken and when it ends; signs of life are kept in memory';
COMMENT ON COLUMN sync_guard.leases.attached_at IS 'when the session that holds it took it, or came back to it';
COMMENT ON COLUMN sync_guard.leases.last_beat IS 'written only where the library is not preloaded, or its memory is full';
COMMENT ON COLUMN sync_guard.leases.superseded_at IS 'another incarnation of its worker has announced itself';
COMMENT ON COLUMN sync_guard.leases.end_reason IS 'finished, reaped, deleted, retried, replaced';

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
ALTER TABLE sync_guard.scope_rhythms REPLICA IDENTITY FULL;
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
ALTER TABLE sync_guard.observed_gaps REPLICA IDENTITY FULL;
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
ALTER TABLE sync_guard.alert_settings REPLICA IDENTITY FULL;
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
SELECT pg_catalog.pg_extension_config_dump('sync_guard.passed_over', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.journal', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.journal_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.observed_gaps', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.alert_settings', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.alert_log', '');
SELECT pg_catalog.pg_extension_config_dump('sync_guard.alert_log_id_seq', '');
