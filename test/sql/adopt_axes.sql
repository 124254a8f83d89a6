-- What varies from table to table, axis by axis: each is adopted, a run of each is reaped, and the row is shown.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
SET timezone = 'Asia/Kathmandu';
CREATE SCHEMA axes;
SET search_path = axes, public;

-- Reaps the table and shows what became of its runs: end as "now" or not, duration in hours.
CREATE FUNCTION axes.reaped(relation regclass, runs OUT bigint, rows OUT jsonb) LANGUAGE plpgsql AS $$
BEGIN
    runs := sync_guard.reap_stale_syncs(relation => relation);
    EXECUTE format('SELECT jsonb_agg(to_jsonb(t)) FROM %s AS t', relation) INTO rows;
END $$;

--
-- Keys
--
CREATE TABLE key_smallint (id smallint PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz);
CREATE TABLE key_bigint (id bigint PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz);
CREATE TABLE key_uuid (id uuid PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz);
CREATE TABLE key_varchar (id varchar(20) PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz);
CREATE TABLE key_char (id char(20) PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz);
CREATE DOMAIN run_number AS integer CHECK (VALUE > 0);
CREATE TABLE key_domain (id run_number PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz);
SELECT sync_guard.guard_table(t) FROM unnest('{key_smallint,key_bigint,key_uuid,key_varchar,key_char,key_domain}'::regclass[]) AS t;
INSERT INTO key_smallint VALUES (1, 'running', now() - interval '2 hours');
INSERT INTO key_bigint VALUES (9000000000, 'running', now() - interval '2 hours');
INSERT INTO key_uuid VALUES ('00000000-0000-0000-0000-000000000001', 'running', now() - interval '2 hours');
INSERT INTO key_varchar VALUES ('a "quoted" one', 'running', now() - interval '2 hours');
INSERT INTO key_char VALUES ('padded', 'running', now() - interval '2 hours');
INSERT INTO key_domain VALUES (7, 'running', now() - interval '2 hours');
SELECT relation, run_key FROM sync_guard.settings AS s,
    LATERAL (SELECT run_key FROM sync_guard.stale_syncs(relation => s.relation)) AS r
WHERE relation_name LIKE 'axes.key_%' ORDER BY relation_name COLLATE "C";
SELECT relation, r.runs, r.rows -> 0 ->> 'status' AS status
FROM sync_guard.settings AS s, LATERAL axes.reaped(s.relation) AS r WHERE relation_name LIKE 'axes.key_%' ORDER BY relation_name COLLATE "C";

-- The primary key first; else a unique index on one NOT NULL column, by the usual names.
CREATE TABLE key_second (pk timestamptz PRIMARY KEY, sync_id text NOT NULL UNIQUE, other integer NOT NULL UNIQUE,
                         status text DEFAULT 'running', started_at timestamptz);
CREATE TABLE key_choice (a integer NOT NULL UNIQUE, b integer NOT NULL UNIQUE, status text DEFAULT 'running', started_at timestamptz);
CREATE TABLE key_none (id integer NOT NULL, u integer UNIQUE, status text DEFAULT 'running', started_at timestamptz);
CREATE UNIQUE INDEX ON key_none (id) WHERE status = 'running';
SELECT sync_guard.guard_table('key_second');
SELECT key_column FROM sync_guard.settings WHERE relation = 'key_second'::regclass;
SELECT sync_guard.guard_table('key_choice');
SELECT sync_guard.guard_table('key_choice', key_column => 'b');
SELECT sync_guard.guard_table('key_none');
SELECT sync_guard.guard_table('key_none', key_column => 'id');
SELECT sync_guard.guard_table('key_none', key_column => 'u');
SELECT sync_guard.guard_table('key_none', key_column => 'started_at');

--
-- Status types; the set of live ones
--
CREATE TYPE sync_state AS ENUM ('PENDING', 'In Progress', 'DONE', 'ERROR');
CREATE DOMAIN state_text AS varchar(12) CHECK (VALUE IN ('running', 'queued', 'done', 'error'));
CREATE DOMAIN state_enum AS sync_state CHECK (VALUE <> 'PENDING');
CREATE TABLE status_enum (id int PRIMARY KEY, state sync_state, started_at timestamptz);
CREATE TABLE status_domain (id int PRIMARY KEY, status state_text, started_at timestamptz);
CREATE TABLE status_enum_domain (id int PRIMARY KEY, status state_enum, started_at timestamptz);
CREATE TABLE status_char (id int PRIMARY KEY, status char(10) NOT NULL DEFAULT 'running', started_at timestamptz);
CREATE TABLE status_letter (id int PRIMARY KEY, jlgstatus char(1) CHECK (jlgstatus IN ('r', 's', 'f', 'i', 'd')), started_at timestamptz);
CREATE TABLE "Quoted Runs" ("Run Id" int PRIMARY KEY, "Run.Status" text DEFAULT 'it''s "running"\', "Started At" timestamptz);
SELECT sync_guard.guard_table('status_enum');
SELECT sync_guard.guard_table('status_domain');
SELECT sync_guard.guard_table('status_enum_domain');
SELECT sync_guard.guard_table('status_char');
SELECT sync_guard.guard_table('status_letter');
SELECT sync_guard.guard_table('status_letter', status_column => 'jlgstatus', live_statuses => '{r}', failed_status => 'd');
SELECT sync_guard.guard_table('"Quoted Runs"', status_column => 'Run.Status', live_statuses => ARRAY['it''s "running"\'], failed_status => 'it''s failed');
SELECT relation, key_column, status_column, live_statuses, failed_status, start_column FROM sync_guard.settings
WHERE relation IN ('status_enum'::regclass, 'status_domain', 'status_enum_domain', 'status_char', 'status_letter', '"Quoted Runs"') ORDER BY relation_name COLLATE "C";
INSERT INTO status_enum VALUES (1, 'In Progress', now() - interval '2 hours'), (2, 'PENDING', now() - interval '3 hours'), (3, 'DONE', now());
INSERT INTO status_domain VALUES (1, 'queued', now() - interval '2 hours');
INSERT INTO status_enum_domain VALUES (1, 'In Progress', now() - interval '2 hours');
INSERT INTO status_char VALUES (1, 'running', now() - interval '2 hours'), (2, 'success', now() - interval '2 hours');
INSERT INTO status_letter VALUES (1, 'r', now() - interval '2 hours'), (2, 'i', now() - interval '2 hours');
INSERT INTO "Quoted Runs" VALUES (1, DEFAULT, now() - interval '2 hours');
SELECT relation, r.runs, jsonb_path_query_array(r.rows, '$[*].*') @? '$[*] ? (@ like_regex "(?i)^ *(error|failed|d|it.s failed) *$")' AS failed
FROM sync_guard.settings AS s, LATERAL axes.reaped(s.relation) AS r
WHERE relation_name ~ '^axes.("Q|status_)' ORDER BY relation_name COLLATE "C";
SELECT id, state FROM status_enum ORDER BY id;
SELECT id, status FROM status_char ORDER BY id;
-- Only a waiting word is known: there will be a working one, written alike. The rows say which, where they do.
CREATE TABLE status_waiting (id int PRIMARY KEY, status text DEFAULT 'PENDING', started_at timestamptz);
CREATE TABLE status_rows (id int PRIMARY KEY, status text DEFAULT 'queued', started_at timestamptz);
INSERT INTO status_rows SELECT n, (ARRAY['queued', 'processing', 'done', 'error', NULL])[n % 5 + 1], now() FROM generate_series(1, 100) AS n;
CREATE TABLE status_index (LIKE status_rows INCLUDING ALL);
INSERT INTO status_index TABLE status_rows;
CREATE INDEX ON status_index (status);
CREATE TABLE status_closed (id int PRIMARY KEY, status text CHECK (status = 'queued' OR status = 'done' OR status = 'aborted'), started_at timestamptz);
CREATE TABLE status_open (id int PRIMARY KEY, status text, started_at timestamptz);
CREATE TABLE status_cancelled (id int PRIMARY KEY, status text CHECK (status IN ('running', 'success', 'cancelled')), started_at timestamptz);
SELECT sync_guard.guard_table(t) FROM unnest('{status_waiting,status_rows,status_index,status_closed}'::regclass[]) AS t;
SELECT relation, live_statuses, failed_status FROM sync_guard.settings
WHERE relation IN ('status_waiting'::regclass, 'status_rows', 'status_index', 'status_closed') ORDER BY relation_name COLLATE "C";
SELECT sync_guard.guard_table('status_open');
SELECT sync_guard.guard_table('status_cancelled');
SELECT sync_guard.guard_table('status_open', live_statuses => '{running}');
SELECT sync_guard.guard_table('status_cancelled', failed_status => 'cancelled');

--
-- Times, durations, errors
--
CREATE TABLE ends (id int PRIMARY KEY, status text DEFAULT 'running', started_at timestamp, finished_at timestamptz,
                   duration_ms integer, errors json, last_heartbeat timestamp, modified_at timestamptz);
CREATE TABLE ends_interval (id int PRIMARY KEY, status text DEFAULT 'running', start_time timestamptz, end_time timestamp,
                            elapsed interval, last_error varchar(30));
CREATE TABLE ends_numeric (id int PRIMARY KEY, status text DEFAULT 'running', created_at timestamp, ended_at timestamp(0),
                           duration_s numeric(8,1), error_details jsonb);
CREATE TABLE ends_integer (id int PRIMARY KEY, status text DEFAULT 'running', started timestamp, completed timestamp,
                           duration_seconds integer, error char(60));
CREATE TABLE ends_float (id int PRIMARY KEY, status text DEFAULT 'running', begun_at timestamp, stopped_at timestamp,
                         "durationSeconds" real, "errorLog" text);
CREATE TABLE ends_generated (id int PRIMARY KEY, status text DEFAULT 'running', started_at timestamp, finished_at timestamp,
                             duration interval GENERATED ALWAYS AS (finished_at - started_at) STORED);
CREATE TABLE ends_nowhere (id int PRIMARY KEY, status text DEFAULT 'running', started_at timestamp);
SELECT sync_guard.guard_table(t) FROM unnest('{ends,ends_interval,ends_numeric,ends_integer,ends_float,ends_generated,ends_nowhere}'::regclass[]) AS t;
SELECT relation, start_column, end_column, duration_column, error_column, activity_column, updated_column
FROM sync_guard.settings WHERE relation_name LIKE 'axes.ends%' ORDER BY relation_name COLLATE "C";
INSERT INTO ends (id, started_at, errors) VALUES (1, clock_timestamp() AT TIME ZONE 'UTC' - interval '2 hours', '{"code":1}');
INSERT INTO ends_interval (id, start_time, last_error) VALUES (1, clock_timestamp() - interval '2 hours', 'was here before');
INSERT INTO ends_numeric (id, created_at) VALUES (1, clock_timestamp() AT TIME ZONE 'UTC' - interval '2 hours');
INSERT INTO ends_integer (id, started) VALUES (1, clock_timestamp() AT TIME ZONE 'UTC' - interval '2 hours');
INSERT INTO ends_float (id, begun_at) VALUES (1, clock_timestamp() AT TIME ZONE 'UTC' - interval '2 hours');
INSERT INTO ends_generated (id, started_at) VALUES (1, clock_timestamp() AT TIME ZONE 'UTC' - interval '2 hours');
INSERT INTO ends_nowhere (id, started_at) VALUES (1, clock_timestamp() AT TIME ZONE 'UTC' - interval '2 hours');
SELECT relation, r.runs FROM sync_guard.settings AS s, LATERAL axes.reaped(s.relation) AS r WHERE relation_name LIKE 'axes.ends%' ORDER BY relation_name COLLATE "C";
SELECT status, clock_timestamp() - finished_at < '1 minute' AS ended_now, duration_ms BETWEEN 7200000 AND 7260000 AS took, errors::jsonb -> 0 AS first_error,
       json_array_length(errors), modified_at = finished_at AS touched FROM ends;
SELECT status, clock_timestamp() AT TIME ZONE 'UTC' - end_time < '1 minute' AS ended_now, elapsed BETWEEN '2 hours' AND '2:01' AS took, last_error FROM ends_interval;
SELECT status, clock_timestamp() AT TIME ZONE 'UTC' - ended_at < '1 minute' AS ended_now, duration_s BETWEEN 7200 AND 7260 AS took, jsonb_typeof(error_details) FROM ends_numeric;
SELECT status, clock_timestamp() AT TIME ZONE 'UTC' - completed < '1 minute' AS ended_now, duration_seconds BETWEEN 7200 AND 7260 AS took, error FROM ends_integer;
SELECT status, clock_timestamp() AT TIME ZONE 'UTC' - stopped_at < '1 minute' AS ended_now, "durationSeconds" BETWEEN 7200 AND 7260 AS took, "errorLog" <> '' AS told FROM ends_float;
SELECT status, clock_timestamp() AT TIME ZONE 'UTC' - finished_at < '1 minute' AS ended_now, duration BETWEEN '2 hours' AND '2:01' AS took FROM ends_generated;
SELECT status FROM ends_nowhere;

--
-- Names: exact words before endings, in the documented order; several endings are open
--
CREATE TABLE names_order (id int PRIMARY KEY, status text DEFAULT 'running', state text DEFAULT 'running', created_at timestamptz, start_time timestamptz,
                          end_time timestamptz, finished_at timestamptz, old_status text, last_ping timestamptz, last_seen_at timestamptz);
CREATE TABLE names_endings (id int PRIMARY KEY, "importStatus" text DEFAULT 'running', sync_started_at timestamptz, restarted_at timestamptz,
                            "syncCompletedAt" timestamptz, updated_at timestamptz);
CREATE TABLE names_several (id int PRIMARY KEY, import_status text DEFAULT 'running', export_status text DEFAULT 'running', started_at timestamptz);
CREATE TABLE names_no_start (id int PRIMARY KEY, status text DEFAULT 'running', beginning timestamptz, "when" timestamp);
CREATE TABLE names_no_status (id int PRIMARY KEY, phase text DEFAULT 'running', note text, started_at timestamptz);
SELECT sync_guard.guard_table(t) FROM unnest('{names_order,names_endings}'::regclass[]) AS t;
SELECT relation, status_column, start_column, end_column, activity_column, updated_column
FROM sync_guard.settings WHERE relation_name LIKE 'axes.names_%' ORDER BY relation_name COLLATE "C";
SELECT sync_guard.guard_table('names_several');
SELECT sync_guard.guard_table('names_no_start');
SELECT sync_guard.guard_table('names_no_status');
SELECT sync_guard.guard_table('names_no_start', start_column => 'beginning');
SELECT sync_guard.guard_table('names_no_status', status_column => 'phase');

--
-- Partitioned tables
--
CREATE TABLE by_time (id uuid, status text NOT NULL CHECK (status IN ('running', 'completed', 'failed')), started_at timestamptz NOT NULL,
                      completed_at timestamptz, PRIMARY KEY (id, started_at)) PARTITION BY RANGE (started_at);
CREATE TABLE by_time_old PARTITION OF by_time FOR VALUES FROM (MINVALUE) TO ('2025-01-01');
CREATE TABLE by_time_new (completed_at timestamptz, extra int, started_at timestamptz NOT NULL, id uuid NOT NULL, status text NOT NULL,
                          CONSTRAINT by_time_status_check CHECK (status IN ('running', 'completed', 'failed')));
ALTER TABLE by_time_new DROP extra;
ALTER TABLE by_time ATTACH PARTITION by_time_new FOR VALUES FROM ('2025-01-01') TO (MAXVALUE);
SELECT sync_guard.guard_table('by_time');
SELECT key_column, status_column, start_column, end_column FROM sync_guard.settings WHERE relation = 'by_time'::regclass;
INSERT INTO by_time VALUES ('00000000-0000-0000-0000-000000000001', 'running', '2024-05-05'), ('00000000-0000-0000-0000-000000000002', 'running', now() - interval '2 hours'),
                           ('00000000-0000-0000-0000-000000000003', 'running', now());
SELECT sync_guard.reap_stale_syncs(relation => 'by_time');
SELECT tableoid::regclass, id, status, completed_at IS NOT NULL AS ended FROM by_time ORDER BY id;
-- The same key in two partitions: no key at all.
SELECT sync_guard.unguard_table('by_time');
INSERT INTO by_time VALUES ('00000000-0000-0000-0000-000000000001', 'completed', '2025-05-05');
SELECT sync_guard.guard_table('by_time');
SELECT sync_guard.guard_table('by_time', key_column => 'started_at');

CREATE TABLE by_status (id int, status text NOT NULL, started_at timestamptz, completed_at timestamptz, PRIMARY KEY (id, status)) PARTITION BY LIST (status);
CREATE TABLE by_status_live PARTITION OF by_status FOR VALUES IN ('running', 'pending');
CREATE TABLE by_status_done PARTITION OF by_status FOR VALUES IN ('completed');
SELECT sync_guard.guard_table('by_status', live_statuses => '{running,pending}');
CREATE TABLE by_status_failed PARTITION OF by_status FOR VALUES IN ('failed');
SELECT sync_guard.guard_table('by_status', live_statuses => '{running,pending}');
INSERT INTO by_status VALUES (1, 'running', now() - interval '2 hours'), (2, 'pending', now()), (3, 'completed', now());
SELECT sync_guard.reap_stale_syncs(relation => 'by_status');
SELECT tableoid::regclass, id, status, completed_at IS NOT NULL AS ended FROM by_status ORDER BY id;

RESET search_path;
DROP SCHEMA axes CASCADE;
