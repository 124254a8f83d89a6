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
            ('mass_death_runs', 'leases that fell silent together when that last happened; NULL: never'),
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
