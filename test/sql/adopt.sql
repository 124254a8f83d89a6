-- guard_table without a single option: what it finds on the tables it knows the habits of, and that it leaves them as they
-- were.
-- The zone that pg_regress sets has different names in different versions.
\setenv PGTZ UTC
\c -
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA adopt;
CREATE SCHEMA adopt_a;
CREATE SCHEMA adopt_b;
CREATE SCHEMA adopt_c;
CREATE SCHEMA adopt_d;
\getenv source PG_ABS_SRCDIR
\set fixtures :source '/sql/fixtures/'
\set ECHO none
\set schema adopt_a
\set file :fixtures 'emag_sync_logs_a.sql'
\i :file
\set schema adopt_b
\set file :fixtures 'emag_sync_logs_b.sql'
\i :file
\set schema adopt_c
\set file :fixtures 'emag_sync_logs_c.sql'
\i :file
\set schema adopt_d
\set file :fixtures 'emag_sync_logs_d.sql'
\i :file
\set schema adopt
\set file :fixtures 'siblings.sql'
\i :file
\set file :fixtures 'relatives.sql'
\i :file
\set ECHO all

CREATE TABLE adopt.tables (relation regclass, number int GENERATED ALWAYS AS IDENTITY, before jsonb, adopted jsonb);
INSERT INTO adopt.tables (relation) VALUES
    ('adopt_a.emag_sync_logs'), ('adopt_b.emag_sync_logs'), ('adopt_c.emag_sync_logs'), ('adopt_d.emag_sync_logs'),
    ('adopt.emag_offer_syncs'), ('adopt.import_logs'),
    ('adopt.data_sync_log'), ('adopt.external_sync_log'), ('adopt.sync_logs'), ('adopt.dataset_sync_log'),
    ('adopt.metrics_sync_log'), ('adopt.regfox_sync_log'), ('adopt.job_run_details'), ('adopt.etl_runs'),
    ('adopt."importRun"');

-- What the catalogs say of a table, its triggers apart: columns, defaults, constraints, indexes, policies, rights.
CREATE FUNCTION adopt.catalogs(regclass) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'table', (SELECT to_jsonb(c) - '{relhastriggers,relpages,reltuples,relallvisible,relfrozenxid,relminmxid}'::text[]
                  FROM pg_class AS c WHERE c.oid = $1),
        'columns', (SELECT jsonb_agg(to_jsonb(a) ORDER BY a.attnum) FROM pg_attribute AS a WHERE a.attrelid = $1),
        'defaults', (SELECT jsonb_agg(to_jsonb(d) ORDER BY d.adnum) FROM pg_attrdef AS d WHERE d.adrelid = $1),
        'constraints', (SELECT jsonb_agg(to_jsonb(n) ORDER BY n.oid) FROM pg_constraint AS n
                        WHERE n.conrelid = $1 OR n.confrelid = $1),
        'indexes', (SELECT jsonb_agg(to_jsonb(i) ORDER BY i.indexrelid) FROM pg_index AS i WHERE i.indrelid = $1),
        'policies', (SELECT jsonb_agg(to_jsonb(p) ORDER BY p.oid) FROM pg_policy AS p WHERE p.polrelid = $1),
        'rules', (SELECT jsonb_agg(to_jsonb(r) ORDER BY r.oid) FROM pg_rewrite AS r WHERE r.ev_class = $1),
        'statistics', (SELECT jsonb_agg(to_jsonb(s) ORDER BY s.oid) FROM pg_statistic_ext AS s WHERE s.stxrelid = $1),
        'triggers', (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.oid) FROM pg_trigger AS t
                     WHERE t.tgrelid = $1 AND t.tgname !~ 'emag_sync_guard')) $$;

UPDATE adopt.tables SET before = adopt.catalogs(relation);
SELECT count(*) AS adopted FROM (SELECT sync_guard.guard_table(relation) FROM adopt.tables ORDER BY number) AS g;
UPDATE adopt.tables SET adopted = adopt.catalogs(relation);

-- Found: the columns.
SELECT s.relation, key_column AS key, status_column AS status, start_column AS start, end_column AS "end",
       duration_column AS duration, error_column AS error, activity_column AS activity, updated_column AS updated,
       done_column AS done, total_column AS total
FROM sync_guard.settings AS s JOIN adopt.tables AS t USING (relation) ORDER BY t.number;
-- Found: the statuses and the scope. The first live status is the one that a fresh run gets.
SELECT s.relation, live_statuses, failed_status, scope_columns, summary_columns
FROM sync_guard.settings AS s JOIN adopt.tables AS t USING (relation) ORDER BY t.number;
-- The same for all: what no catalog tells.
SELECT DISTINCT scope_overlaps, time_zone, max_silence, max_age, max_stall, exclusive, exclusive_statuses, transitions,
       late_finish, mode, paused_until, adopted_at <= clock_timestamp() AS now, adopted_by = current_user AS me,
       relation_name = relation::text AS named
FROM sync_guard.settings AS s JOIN adopt.tables AS t USING (relation);

-- A schema-migration tool sees nothing.
SELECT relation, before = adopted AS as_it_was FROM adopt.tables ORDER BY number;
-- The triggers, on a text, an enum and a quoted column.
SELECT pg_get_triggerdef(g.oid) FROM adopt.tables JOIN pg_trigger AS g ON tgrelid = relation
WHERE NOT tgisinternal AND number IN (5, 8, 15) ORDER BY number, tgname COLLATE "C";
SELECT count(*), bool_and(tgenabled = 'O') AS enabled,
       bool_and(EXISTS (SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = d.refobjid
                        WHERE d.classid = 'pg_trigger'::regclass AND d.objid = g.oid AND d.deptype = 'x'
                          AND d.refclassid = 'pg_extension'::regclass AND e.extname = 'emag_sync_guard')) AS go_with_extension
FROM adopt.tables JOIN pg_trigger AS g ON tgrelid = relation WHERE NOT tgisinternal AND tgname ~ '^zzz_emag_sync_guard_';

-- Adopting again changes nothing.
CREATE TEMPORARY TABLE first_time AS SELECT * FROM sync_guard.settings;
SELECT count(*) AS adopted FROM (SELECT sync_guard.guard_table(relation) FROM adopt.tables ORDER BY number) AS g;
SELECT count(*) AS changed FROM (TABLE first_time EXCEPT TABLE sync_guard.settings) AS x;
DROP TABLE first_time;

-- What it says: what was found, what it would reap now, whether the limit fits the history.
INSERT INTO adopt_d.emag_sync_logs (id, sync_type, account_type, operation, status, started_at, completed_at)
SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'products', 'main', 'full_sync', status,
       timestamp '2025-10-01 10:00' + n * interval '1 minute', timestamp '2025-10-01 10:00' + n * took
FROM (VALUES (1, 'running', NULL), (2, 'completed', interval '47 minutes'), (3, 'completed', '51 minutes'),
             (4, 'failed', '1 day')) AS v (n, status, took);
SET client_min_messages = notice;
\set VERBOSITY terse
SELECT sync_guard.guard_table('adopt_d.emag_sync_logs', max_silence => '1 hour');
SELECT sync_guard.unguard_table('adopt_d.emag_sync_logs');
SELECT sync_guard.guard_table('adopt_d.emag_sync_logs', max_silence => '1000 years');
\set VERBOSITY default
SELECT sync_guard.guard_table('adopt.import_logs');
-- What differs from the defaults is shown too; a table that is only observed is not called guarded.
SELECT sync_guard.guard_table('adopt.emag_offer_syncs', exclusive => true, exclusive_statuses => '{running}',
    scope_overlaps => '{"account_type": {"both": ["main", "fbe"], "all": ["main"]}}', transitions => 'warn',
    late_finish => 'accept', mode => 'observe', max_stall => '1 hour');
SELECT sync_guard.unguard_table('adopt.emag_offer_syncs');
SET emag_sync_guard.enabled = off;
\set VERBOSITY terse
SELECT sync_guard.guard_table('adopt.emag_offer_syncs', mode => 'observe');
\set VERBOSITY default
RESET emag_sync_guard.enabled;
-- The warning names the figure to pass. With signs of life, how long a run took says nothing.
SET client_min_messages = warning;
SELECT sync_guard.guard_table('adopt_d.emag_sync_logs', max_silence => '1 hour');
SELECT sync_guard.guard_table('adopt_d.emag_sync_logs', max_silence => '2 hours');
ALTER TABLE adopt_d.emag_sync_logs ADD seen_at timestamp;
SELECT sync_guard.guard_table('adopt_d.emag_sync_logs', max_silence => '1 hour', activity_column => 'seen_at');
ALTER TABLE adopt_d.emag_sync_logs DROP seen_at;

-- Released: nothing stays but the journal.
SELECT count(*) AS released FROM (SELECT sync_guard.unguard_table(relation) FROM adopt.tables ORDER BY number) AS g;
SELECT relation, before - 'columns' = adopt.catalogs(relation) - 'columns' AS as_it_was,
       before -> 'columns' = adopt.catalogs(relation) -> 'columns' AS columns_too
FROM adopt.tables WHERE relation <> 'adopt_d.emag_sync_logs'::regclass ORDER BY number;
SELECT count(*) AS triggers FROM pg_trigger WHERE tgrelid IN (SELECT relation FROM adopt.tables) AND tgname ~ 'emag_sync_guard';
SELECT count(*) AS settings FROM sync_guard.settings WHERE relation IN (SELECT relation FROM adopt.tables);

-- Those that keep nothing to guard, or times as text.
\set VERBOSITY default
SELECT sync_guard.guard_table('adopt.emag_sync_history');
SELECT sync_guard.guard_table('adopt.text_import_runs');
SELECT sync_guard.guard_table('adopt.text_import_runs', start_column => '');
SELECT sync_guard.guard_table('adopt.text_import_runs', start_column => '', end_column => '');
SELECT sync_guard.unguard_table('adopt.text_import_runs');

DROP SCHEMA adopt, adopt_a, adopt_b, adopt_c, adopt_d CASCADE;
