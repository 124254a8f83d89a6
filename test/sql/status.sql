-- What an API asks: is it running, and the status as JSON, in the operators' shape and in the application's.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA status;
SET search_path = status;
\getenv source PG_ABS_SRCDIR
\set ECHO none
\set schema status
\set file :source '/sql/fixtures/emag_sync_logs_b.sql'
\i :file
\set ECHO all
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;
SELECT sync_guard.guard_table('emag_sync_logs', scope_overlaps => '{"account_type": {"both": ["main", "fbe"]}}');
-- The day of the incident: four of the runs that stood there.
CREATE FUNCTION run(n integer, account_type text, operation text, status text, started_at timestamp, completed_at timestamp DEFAULT NULL, sync_type text DEFAULT 'products') RETURNS integer LANGUAGE sql AS $$
    INSERT INTO emag_sync_logs (id, sync_type, account_type, operation, status, started_at, completed_at, duration_seconds, total_items, processed_items, created_items, updated_items, failed_items,
        pages_processed, api_requests_made, rate_limit_hits)
    VALUES (('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, sync_type, account_type, operation, status, started_at, completed_at, extract(epoch FROM completed_at - started_at), n * 100, n * 10, n, n + 1, n + 2, 1, 2, 3) RETURNING n $$;
SELECT count(run(n, 'main', 'full_sync', 'completed', timestamp '2025-09-29 10:00' + n * interval '1 hour', timestamp '2025-09-29 10:05' + n * interval '1 hour')) FROM generate_series(1, 12) AS n;
SELECT run(21, 'main', 'full_sync', 'failed', '2025-10-01 14:38:57', '2025-10-01 15:11:00'), run(22, 'both', 'incremental_sync', 'running', '2025-10-01 14:46:30'),
       run(23, 'main', 'incremental_sync', 'running', '2025-10-01 15:05:11');

-- A dead run is not running, whether or not anything has closed it; nor is it shown so.
SELECT sync_guard.sync_is_running() AS any_table, sync_guard.sync_is_running('products'), sync_guard.sync_is_running('orders'), sync_guard.sync_is_running(relation => 'emag_sync_logs'),
       sync_guard.sync_is_running('products', 'emag_sync_logs'), sync_guard.scope_is_running('{"sync_type": "products", "account_type": "main"}');
SELECT jsonb_pretty(sync_guard.sync_status('products', recent => 3));
-- Reaped, it says the same but for the end.
CREATE FUNCTION without_ends() RETURNS jsonb LANGUAGE sql AS $$
    SELECT jsonb_agg(e - '{completed_at,duration_seconds}'::text[] ORDER BY n) FROM jsonb_array_elements(sync_guard.sync_status('products', recent => 30) -> 'recent_syncs') WITH ORDINALITY AS v (e, n) $$;
CREATE TABLE before_reaping AS SELECT without_ends() AS shown;
SELECT sync_guard.reap_stale_syncs(relation => 'emag_sync_logs');
SELECT without_ends() = shown AS same FROM before_reaping;
SELECT e ->> 'status' AS status, count(*), count(e ->> 'completed_at') AS ended FROM jsonb_array_elements(sync_guard.sync_status('products', recent => 30) -> 'recent_syncs') AS e GROUP BY 1 ORDER BY 1;

-- The application's endpoint: these keys and no others, these types, naive times without Z.
SELECT run(31, 'fbe', 'selective_sync', 'running', ago('5 minutes')), run(32, 'main', 'full_sync', 'running', ago('2 minutes')), run(33, 'main', 'full_sync', 'running', ago('1 minute'), NULL, 'orders');
SELECT array_agg(k) FROM jsonb_object_keys(sync_guard.sync_status('products')) AS k;
SELECT k, jsonb_typeof(v) AS type FROM jsonb_each(sync_guard.sync_status('products') -> 'current_sync') AS e (k, v) ORDER BY k COLLATE "C";
SELECT (sync_guard.sync_status('products') -> 'current_sync') - 'started_at' AS current_sync,
       sync_guard.sync_status('products') #>> '{current_sync,started_at}' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.?\d*$' AS naive_iso,
       sync_guard.sync_status('orders') #>> '{current_sync,id}' AS of_orders, sync_guard.sync_status() #>> '{current_sync,id}' AS newest_of_all;
SELECT string_agg(DISTINCT (SELECT string_agg(k, ', ' ORDER BY k COLLATE "C") FROM jsonb_object_keys(e) AS k), ' | ') AS the_eleven, count(*) AS runs
FROM jsonb_array_elements(sync_guard.sync_status('products') -> 'recent_syncs') AS e;
SELECT e FROM jsonb_array_elements(sync_guard.sync_status('products') -> 'recent_syncs') WITH ORDINALITY AS v (e, n) WHERE n IN (5, 10) ORDER BY n;
-- The last ten by default, newest first; as many as asked for.
SELECT jsonb_array_length(sync_guard.sync_status('products') -> 'recent_syncs') AS by_default, jsonb_array_length(sync_guard.sync_status('products', recent => NULL) -> 'recent_syncs') AS null,
       jsonb_array_length(sync_guard.sync_status('products', recent => 0) -> 'recent_syncs') AS none, jsonb_array_length(sync_guard.sync_status('products', recent => 1) -> 'recent_syncs') AS one,
       jsonb_array_length(sync_guard.sync_status('products', recent => 10000) -> 'recent_syncs') AS all_there_are, jsonb_array_length(sync_guard.sync_status() -> 'recent_syncs') AS any_scope;
SELECT bool_and(started > next) AS newest_first FROM (SELECT e ->> 'started_at' AS started, lead(e ->> 'started_at') OVER (ORDER BY n) AS next
    FROM jsonb_array_elements(sync_guard.sync_status('products', recent => 100) -> 'recent_syncs') WITH ORDINALITY AS v (e, n)) AS s WHERE next IS NOT NULL;

-- The operators' shape is a matter of summary_columns.
SELECT sync_guard.guard_table('emag_sync_logs', summary_columns => '{operation,status,started_at}');
SELECT sync_guard.sync_status('products', recent => 5) - 'current_sync' #- '{recent_syncs,0,started_at}' #- '{recent_syncs,1,started_at}' AS status;
SELECT string_agg(k, ', ' ORDER BY k COLLATE "C") AS current_sync FROM jsonb_object_keys(sync_guard.sync_status('products') -> 'current_sync') AS k;
-- None: no list. Without the status there is nothing to show otherwise.
SELECT sync_guard.guard_table('emag_sync_logs', summary_columns => '{}');
SELECT sync_guard.sync_status('products') -> 'recent_syncs' AS recent_syncs;
SELECT sync_guard.guard_table('emag_sync_logs', summary_columns => '{id,errors}');
SELECT jsonb_array_length(sync_guard.sync_status('products') -> 'recent_syncs') AS recent_syncs, sync_guard.sync_status('products') #> '{recent_syncs,2}' ? 'errors' AS errors;
SELECT sync_guard.guard_table('emag_sync_logs', reset => '{summary_columns}');

-- Runs without a start stand in no list, and count as running: nothing is known against them.
CREATE TABLE offers (id integer PRIMARY KEY, kind text, status text NOT NULL, started_at timestamptz, completed_at timestamptz);
SELECT sync_guard.guard_table('offers', live_statuses => '{pending,running}', failed_status => 'failed', scope_columns => '{kind}');
ALTER TABLE offers DISABLE TRIGGER USER;
INSERT INTO offers VALUES (1, 'a', 'running', NULL, NULL), (2, 'a', 'pending', 'infinity', NULL), (3, 'b', 'failed', '-infinity', NULL), (4, 'b', 'completed', '2025-10-01 10:00+00', 'infinity'),
    (5, 'b', 'running', clock_timestamp() + interval '1 hour', NULL);
ALTER TABLE offers ENABLE TRIGGER USER;
SELECT sync_guard.sync_is_running('a', 'offers'), sync_guard.sync_is_running('b', 'offers'), sync_guard.sync_is_running('c', 'offers');
SELECT sync_guard.sync_status('a', 'offers');
SELECT s -> 'is_running' AS is_running, s #> '{current_sync,id}' AS current, jsonb_path_query_array(s, '$.recent_syncs[*].id') AS recent FROM sync_guard.sync_status('b', 'offers') AS s;
DELETE FROM offers;

-- Several tables: each run tells whose it is; the newest of all, so many of all.
INSERT INTO offers VALUES (1, 'products', 'running', clock_timestamp() - interval '3 minutes', NULL), (2, 'products', 'completed', '2025-10-01 14:50+00', '2025-10-01 14:55+00');
SELECT s #> '{current_sync,relation}' AS relation, s #> '{current_sync,operation}' AS operation, jsonb_array_length(s -> 'recent_syncs') AS recent FROM sync_guard.sync_status('products', recent => 4) AS s;
SELECT e ->> 'relation' AS relation, e ->> 'status' AS status, e ->> 'id' AS id FROM jsonb_array_elements(sync_guard.sync_status('products', recent => 7) -> 'recent_syncs') WITH ORDINALITY AS v (e, n) ORDER BY n;
SELECT sync_guard.sync_status('products', 'offers') #> '{current_sync}' ? 'relation' AS told_of_one;
UPDATE emag_sync_logs SET status = 'completed' WHERE status = 'running';
SELECT sync_guard.sync_is_running('products'), sync_guard.sync_is_running('products', 'emag_sync_logs'), sync_guard.sync_is_running('products', 'offers');

-- A scope object is for scope_is_running; there overlapping values count, and what is not named is not looked at.
SELECT run(41, 'both', 'full_sync', 'running', ago('1 minute'));
SELECT s, sync_guard.scope_is_running(s::jsonb) FROM unnest(ARRAY['{}', '{"sync_type": "products"}', '{"account_type": "fbe"}', '{"sync_type": "products", "account_type": "main"}', '{"sync_type": "orders"}',
    '{"sync_type": "products", "account_type": "hu"}', '{"sync_type": null}', '{"kind": "products"}', '{"kind": "a"}']) AS s;
UPDATE offers SET status = 'completed';
-- A number and a boolean are texts here.
CREATE TABLE shops (id integer PRIMARY KEY, shop integer, test boolean, status text NOT NULL, started_at timestamptz);
SELECT sync_guard.guard_table('shops', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{shop,test}');
INSERT INTO shops VALUES (1, 7, true, 'running', now());
SELECT s, sync_guard.scope_is_running(s::jsonb, 'shops') FROM unnest(ARRAY['{"shop": 7}', '{"shop": "7"}', '{"shop": 8}', '{"test": true}', '{"test": "true"}', '{"test": false}', '{"shop": 7, "test": true}', '{"shop": null}']) AS s;
SELECT sync_guard.sync_is_running('7', 'shops') AS shop_7, sync_guard.sync_is_running('8', 'shops') AS shop_8;

-- What cannot be meant is told, with the next step.
\set VERBOSITY default
SELECT sync_guard.sync_is_running('{"sync_type": "products"}');
SELECT sync_guard.sync_status('  {"sync_type": "products"}');
SELECT sync_guard.scope_is_running('{"sync_typ": "products"}');
SELECT sync_guard.scope_is_running('{"kind": "a"}', 'emag_sync_logs');
SELECT sync_guard.scope_is_running('["products"]');
SELECT sync_guard.scope_is_running(NULL);
SELECT sync_guard.scope_is_running('{"sync_type": ["products"]}');
SELECT sync_guard.sync_status(recent => -1);
SELECT sync_guard.sync_status(recent => 10001);
SELECT sync_guard.sync_is_running(relation => 'emag_sync_progress');
SELECT sync_guard.guard_table('offers', scope_columns => '{}');
SELECT sync_guard.sync_is_running('a', 'offers');
SELECT sync_guard.sync_status('a', 'offers');

-- An empty table, an odd name, a value with quotes in it.
CREATE TABLE "Odd ""Table" ("The Id" integer PRIMARY KEY, "it's kind" text, "Status" text NOT NULL, "Started At" timestamp);
SELECT sync_guard.guard_table('"Odd ""Table"', key_column => 'The Id', status_column => 'Status', start_column => 'Started At', live_statuses => '{on ''air''}', failed_status => 'o"ff', scope_columns => '{it''s kind}');
SELECT sync_guard.sync_status(relation => '"Odd ""Table"');
INSERT INTO "Odd ""Table" VALUES (1, 'a ''b'' \ "c"', 'on ''air''', ago('1 minute')), (2, 'x', 'on ''air''', ago('2 hours'));
SELECT sync_guard.sync_is_running('a ''b'' \ "c"', '"Odd ""Table"'), sync_guard.scope_is_running('{"it''s kind": "a ''b'' \\ \"c\""}', '"Odd ""Table"'), sync_guard.sync_is_running('x', '"Odd ""Table"');
SELECT sync_guard.reap_stale_syncs(relation => '"Odd ""Table"');
SELECT s #- '{current_sync,Started At}' #- '{recent_syncs,0,Started At}' #- '{recent_syncs,1,Started At}' FROM sync_guard.sync_status(relation => '"Odd ""Table"') AS s;

-- A json column of the summary takes values that no jsonb holds: such a one is shown as text, and hides no run.
CREATE TABLE worded (id integer PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz DEFAULT now(), detail json);
SELECT sync_guard.guard_table('worded', summary_columns => '{id,status,detail}');
INSERT INTO worded VALUES (1, 'running', now() - interval '5 minutes', '{"a": 1e5}'), (2, 'completed', now() - interval '6 minutes', '["\ud83d\ude00", 12]'), (3, 'completed', now() - interval '7 minutes', NULL),
    (4, 'completed', now() - interval '8 minutes', '{"b": [true, "e 5"]}');
SELECT sync_guard.sync_status(relation => 'worded') #>> '{current_sync,detail,a}' AS current, jsonb_path_query_array(sync_guard.sync_status(relation => 'worded'), '$.recent_syncs[*].detail') AS recent;
INSERT INTO worded VALUES (5, 'completed', now() - interval '1 minute', '{"bad": "\u0000"}'), (6, 'completed', now() - interval '2 minutes', '1e400000'), (7, 'completed', now() - interval '3 minutes', '"\ud800"');
SELECT jsonb_path_query_array(sync_guard.sync_status(relation => 'worded'), '$.recent_syncs[*].detail') AS recent;
SELECT run_key, summary -> 'detail' AS detail FROM sync_guard.recent_syncs WHERE relation = 'worded'::regclass;
UPDATE worded SET detail = '"\u0000"' WHERE id = 1;
SET standard_conforming_strings = off;
SELECT sync_guard.sync_status(relation => 'worded', recent => 1) - 'recent_syncs' #- '{current_sync,started_at}' AS status;
RESET standard_conforming_strings;

-- So is one within an array or a row.
CREATE TYPE note AS (n integer, of json);
CREATE DOMAIN noted AS note;
CREATE TABLE wordy (id integer PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz DEFAULT now(), many json[], note note, notes note[], noted noted);
SELECT sync_guard.guard_table('wordy', summary_columns => '{id,many,note,notes,noted}');
INSERT INTO wordy VALUES (1, 'running', now() - interval '5 minutes', ARRAY['"\u0000"', '12']::json[], (1, '{"a": "\u0000"}'), ARRAY[(2, '"\u0000"')::note], (3, '"\u0000"')),
    (2, 'running', now() - interval '6 minutes', '{"[1, true]"}', (1, '{"a": 5}'), NULL, NULL);
SELECT jsonb_path_query_array(sync_guard.sync_status(relation => 'wordy'), '$.recent_syncs[*]') #- '{0,started_at}' #- '{1,started_at}' AS recent;
SELECT sync_guard.sync_status() -> 'is_running' AS is_running;
SELECT run_key, summary -> 'many' AS many FROM sync_guard.recent_syncs WHERE relation = 'wordy'::regclass;

-- Values of whatever type are in the answer what to_jsonb() makes of them.
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN small AS smallint CHECK (value > 0);
CREATE DOMAIN code AS varchar(9);
CREATE DOMAIN facts AS jsonb;
CREATE TABLE typed (id bigint PRIMARY KEY, status code NOT NULL, started_at timestamptz NOT NULL, i2 small, i4 integer, i8 bigint, f4 real, f8 double precision,
    n numeric, n2 numeric(10,2), b boolean, d date, t time, ts timestamp, tz timestamptz, iv interval, vc varchar(20), c char(5), nm name, u uuid, e mood, j json, jb jsonb, f facts,
    a integer[], ip inet, by bytea, r int4range, o oid);
SELECT sync_guard.guard_table('typed', live_statuses => '{running}', failed_status => 'failed', summary_columns => (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = 'typed'::regclass AND attnum > 0));
INSERT INTO typed VALUES (1, 'running', now() - interval '1 minute', 1, -2, 9223372036854775807, 1.1, 1e100, 1.50, 2.50, true, '2024-02-29', '12:00', '2024-02-29 01:02:03.4', '2024-02-29 01:02:03.4+01', '1 day 2 hours', '"q" \ a', 'ab', 'n',
        '00000000-0000-0000-0000-000000000001', 'bad', '{"a": [1, {"b": null}]}', '[1, {"b": "c"}]', '"scalar"', '{1,NULL}', '10.0.0.1/8', '\xdead', '[1,3)', 7),
    (2, 'failed', now() - interval '2 minutes', 2, 0, -1, 'NaN', '-Infinity', 'NaN', 0, false, 'infinity', '24:00', '-infinity', '0044-03-15 BC', '-1 second', '', '', '', NULL, 'good', '1', 'null', '[]', '{}', '::1', '', 'empty', 0),
    (3, 'failed', now() - interval '3 minutes', 3, 1, 2, -0.0, 0.1, 'Infinity', 1e5, NULL, '0001-01-01 BC', NULL, '294276-12-31 23:59:59.999999', 'infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
SELECT count(*), bool_and(shown = to_jsonb(t.*)) AS as_to_jsonb, bool_and(shown::text = to_jsonb(t.*)::text) AS to_the_letter
FROM jsonb_array_elements(sync_guard.sync_status(relation => 'typed') -> 'recent_syncs') AS shown JOIN typed AS t ON t.id = (shown ->> 'id')::bigint;
SELECT k, current_sync -> k AS shown FROM typed AS t, jsonb_to_record(sync_guard.sync_status(relation => 'typed')) AS s (current_sync jsonb), jsonb_object_keys(current_sync) AS k
WHERE t.id = 1 AND current_sync -> k IS DISTINCT FROM to_jsonb(t.*) -> k;
UPDATE typed SET started_at = '2020-01-01' WHERE id = 1;
SELECT shown ->> 'status' AS status, shown - 'status' = to_jsonb(t.*) - 'status' AS as_to_jsonb
FROM jsonb_array_elements(sync_guard.sync_status(relation => 'typed') -> 'recent_syncs') AS shown JOIN typed AS t ON t.id = (shown ->> 'id')::bigint WHERE t.id = 1;

DROP SCHEMA status CASCADE;
