-- guard_table's options: named ones win, a second call changes only what it names, reset puts back what a first call finds;
-- each value that cannot be is refused with what would be possible.
-- The zone that pg_regress sets has different names in different versions.
\setenv PGTZ Europe/Bucharest
\c -
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA options;
\getenv source PG_ABS_SRCDIR
\set schema options
\set ECHO none
\set file :source '/sql/fixtures/emag_sync_logs_b.sql'
\i :file
\set file :source '/sql/fixtures/outcome.sql'
\i :file
\set ECHO all

-- What a call changed of the settings, as option: before -> after.
CREATE TABLE options.was AS SELECT '{}'::jsonb AS settings;
CREATE FUNCTION options.changed() RETURNS TABLE (option text, before text, after text) LANGUAGE plpgsql AS $$
DECLARE
    now jsonb := coalesce((SELECT to_jsonb(s) - 'adopted_at' FROM sync_guard.settings AS s
                           WHERE relation = 'options.emag_sync_logs'::regclass), '{}');
BEGIN
    RETURN QUERY SELECT key, w.settings ->> key, now ->> key FROM options.was AS w, jsonb_object_keys(w.settings || now) AS key
        WHERE w.settings -> key IS DISTINCT FROM now -> key ORDER BY key COLLATE "C";
    UPDATE options.was SET settings = now;
END $$;
-- Every option at once.
ALTER TABLE options.emag_sync_logs ADD beat_at timestamptz, ADD legacy_id bigint NOT NULL UNIQUE;
SELECT sync_guard.guard_table('options.emag_sync_logs',
    key_column => 'legacy_id', status_column => 'status', live_statuses => '{running,partial}', failed_status => 'failed',
    start_column => 'created_at', end_column => '', duration_column => '', error_column => 'warnings', activity_column => 'beat_at',
    updated_column => '', done_column => 'pages_processed', total_column => '', scope_columns => '{account_type,sync_type}',
    scope_overlaps => '{"account_type": {"both": ["main", "fbe"]}}', summary_columns => '{status,legacy_id}',
    time_zone => 'Europe/Bucharest', max_silence => '10 minutes', max_age => '1 day', max_stall => '1 hour', exclusive => true,
    exclusive_statuses => '{running}', transitions => 'warn', late_finish => 'accept', mode => 'observe', lock_timeout => '1 minute');
SELECT option, after FROM options.changed();
-- A call that names nothing changes nothing.
SELECT sync_guard.guard_table('options.emag_sync_logs');
SELECT * FROM options.changed();
-- A call changes what it names.
SELECT sync_guard.guard_table('options.emag_sync_logs', max_silence => '15 minutes', updated_column => 'updated_at', scope_columns => '{account_type}');
SELECT * FROM options.changed();
-- Reset, one and all.
SELECT sync_guard.guard_table('options.emag_sync_logs', reset => '{max_age}');
SELECT * FROM options.changed();
SELECT sync_guard.guard_table('options.emag_sync_logs', reset => ARRAY['key_column', 'status_column', 'live_statuses', 'failed_status',
    'start_column', 'end_column', 'duration_column', 'error_column', 'activity_column', 'updated_column', 'done_column', 'total_column',
    'scope_columns', 'scope_overlaps', 'summary_columns', 'time_zone', 'max_silence', 'max_age', 'max_stall', 'exclusive',
    'exclusive_statuses', 'transitions', 'late_finish', 'mode']);
SELECT * FROM options.changed();
-- None at all.
SELECT sync_guard.guard_table('options.emag_sync_logs', end_column => '', duration_column => '', error_column => '', activity_column => '',
    updated_column => '', done_column => '', total_column => '', scope_columns => '{}', summary_columns => '{}');
SELECT * FROM options.changed();
-- Options are arguments with names and an order; both are part of the interface.
SELECT a.n, a.argument FROM pg_proc, unnest(string_to_array(pg_get_function_arguments(oid), ', ')) WITH ORDINALITY AS a (argument, n)
WHERE pronamespace = 'sync_guard'::regnamespace AND proname = 'guard_table';

-- A release and a new adoption start afresh; so does a table that took a released one's place.
SELECT sync_guard.unguard_table('options.emag_sync_logs');
SELECT sync_guard.guard_table('options.emag_sync_logs');
SELECT option, after FROM options.changed();
ALTER TABLE options.emag_sync_logs RENAME TO renamed;
SELECT sync_guard.guard_table('options.renamed', mode => 'observe');
ALTER TABLE options.renamed RENAME TO emag_sync_logs;
SELECT sync_guard.guard_table('options.emag_sync_logs', mode => 'guard');
SELECT * FROM options.changed();

\pset format unaligned
\pset tuples_only on
-- Refused: names.
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$key_column => 'nosuch'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$key_column => ''$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$key_column => 'sync_type'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$status_column => ''$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$status_column => 'total_items'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$start_column => 'errors'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$end_column => 'started_at'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$duration_column => 'status'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$error_column => 'total_items'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$activity_column => 'pages_processed'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$activity_column => 'updated_at'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$activity_column => 'completed_at'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$done_column => 'duration_seconds'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$total_column => 'processed_items'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$summary_columns => '{id,nosuch}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$summary_columns => '{id,id}'$$);
-- Statuses.
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$live_statuses => '{}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$live_statuses => '{running,NULL}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$live_statuses => '{running,running}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$live_statuses => '{running,failed}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$live_statuses => '{in_progress}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$failed_status => 'cancelled'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$failed_status => ''$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$failed_status => 'a status that is longer than fifty characters, which the column holds'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$exclusive_statuses => '{completed}'$$);
-- Scopes.
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_columns => '{errors}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_columns => '{status}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_columns => '{sync_type,sync_type}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_columns => '{sync_type,account_type,operation,triggered_by,sync_version,total_items,created_items,updated_items,failed_items}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '{"operation": {"a": ["b"]}}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '[]'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '"both"'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '{"account_type": ["main"]}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '{"account_type": {"both": "main"}}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '{"account_type": {"both": []}}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '{"account_type": {"both": [1]}}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '{"account_type": {"both": [["main"]]}}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '{"account_type": {"both": {"x": ["main"]}}}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$scope_overlaps => '{"account_type": {"both": ["main"], "all": ["both", "fbe"]}}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', format('scope_overlaps => %L', jsonb_build_object('account_type', (SELECT jsonb_object_agg(n, '["x"]'::jsonb) FROM generate_series(1, 65) AS n))));
-- Times.
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$time_zone => 'Europe/Bukarest'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$time_zone => ''$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$max_silence => '0'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$max_silence => '-1 hour'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$max_age => '1 month -31 days'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$max_stall => '300000 years'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$lock_timeout => '-1 s'$$);
-- Words.
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$transitions => 'strict'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$late_finish => 'drop'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$mode => ''$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$reset => '{max_silence,nosuch}'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$reset => '{max_silence}', max_silence => '1 hour'$$);
SELECT sync_guard.guard_table(NULL);
SELECT sync_guard.guard_table(1::regclass::oid::regclass);
-- None of it left a trace; the one that was accepted did.
SELECT * FROM options.changed();

-- A stored column that is gone: the call that names another one mends it, others say what is missing.
ALTER TABLE options.emag_sync_logs DROP COLUMN duration_seconds;
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$mode => 'observe'$$);
SELECT options.outcome('guard_table', 'options.emag_sync_logs', $$reset => '{duration_column}'$$);
SELECT * FROM options.changed();

DROP SCHEMA options CASCADE;
