-- What a reaping adds to the errors of a run: what was there stays, the application's reader works on the result, a text
-- gets a line.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA errors_column;
SET search_path = errors_column;
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;

CREATE DOMAIN error_list AS jsonb CHECK (jsonb_typeof(value) = 'array');
CREATE TABLE runs (
    id integer PRIMARY KEY,
    status text NOT NULL DEFAULT 'running',
    started_at timestamp NOT NULL DEFAULT ago('2 hours'),
    completed_at timestamp,
    duration_seconds double precision,
    was text,
    jsonb_errors jsonb,
    json_errors json,
    list_errors error_list,
    text_error text,
    short_error varchar(40),
    char_error char(40),
    tiny_error varchar(10));
SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', error_column => 'jsonb_errors');

-- What can stand there.
CREATE VIEW values_there AS SELECT n::integer AS id, was FROM unnest(ARRAY[
    NULL, '[]', '["offer 1: timeout"]', '["a", "b"]', '[{"error": "offer 1", "timestamp": "2025-10-01T15:05:11"}]', '["a", {"error": "b"}]',
    '[{"error": "a"}, "b"]', '[null]', '[1, 2.50]', '[[]]', '"offer 1: timeout"', '""', '7', '2.50', 'true', 'null', '{}', '{"error": "offer 1"}',
    '{"b": 1, "a": {"c": [1, 2]}}']) WITH ORDINALITY AS v (was, n);
CREATE FUNCTION reap(column_name name) RETURNS TABLE (id integer, was text, "is" text) LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM runs;
    PERFORM sync_guard.guard_table('runs', error_column => column_name);
    EXECUTE format('INSERT INTO runs (id, was, %I) SELECT id, was, CASE WHEN was IS NOT NULL THEN was::%s END FROM values_there', column_name,
        (SELECT atttypid::regtype FROM pg_attribute WHERE attrelid = 'runs'::regclass AND attname = column_name));
    PERFORM sync_guard.reap_stale_syncs(relation => 'runs');
    RETURN QUERY EXECUTE format($q$SELECT id, was, regexp_replace(replace(%I::text, 'Sync interrupted by system restart or timeout: silent: no sign of life for 2 h, limit 1 h', 'REASON'),
        '\d{4}-\d\d-\d\dT[0-9:]+\.\d+', 'NOW') FROM runs WHERE status = 'failed' ORDER BY id$q$, column_name);
END $$;

-- jsonb. The application's own reader works over all of them, and finds all that was there.
SELECT was, "is" FROM reap('jsonb_errors');
SELECT count(*) AS runs, sum((SELECT count(*) FROM jsonb_array_elements_text(jsonb_errors))) AS errors_read,
       count(*) FILTER (WHERE jsonb_typeof(jsonb_errors) <> 'array') AS no_array,
       count(*) FILTER (WHERE was IS NOT NULL AND NOT jsonb_errors @> CASE WHEN was LIKE '[%' THEN was::jsonb ELSE jsonb_build_array(was::jsonb) END) AS lost,
       count(*) FILTER (WHERE (jsonb_errors -> -1)::text NOT LIKE '%Sync interrupted%') AS without_reason
FROM runs;
-- The end is when it was reaped, no five minutes after the start; the duration goes with it.
SELECT count(*), bool_and(completed_at BETWEEN ago('1 minute') AND ago('0')) AS ended_now, bool_and(completed_at - started_at >= interval '2 hours') AS no_five_minutes,
       bool_and(abs(duration_seconds - extract(epoch FROM completed_at - started_at)) < 1e-5) AS lasted
FROM runs;
-- What the guard writes into an object is naive UTC, as the application's own times are.
SELECT count(*), bool_and((jsonb_errors -> -1 ->> 'timestamp')::timestamp = completed_at) AS naive_utc FROM runs WHERE jsonb_typeof(jsonb_errors -> -1) = 'object';
-- A run that comes back and is reaped again gets another line.
SELECT sync_guard.allow_transition('runs', 'failed', 'running');
UPDATE runs SET status = 'running', started_at = ago('3 hours');
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT count(*) AS runs, sum((SELECT count(*) FROM jsonb_array_elements_text(jsonb_errors))) AS errors_read FROM runs;

-- json keeps its text: blanks, the order of keys, keys that stand twice, and what no jsonb can hold.
SELECT was, "is" FROM reap('json_errors');
DELETE FROM runs;
INSERT INTO runs (id, json_errors) VALUES
    (1, '[ {"b":1,  "a":2, "a":3} ,1e5]'), (2, E'{ "b" : 1,\n "a":2 }'), (3, '["\u0000 and \ud800"]'), (4, '"\u0000"'), (5, '[1e400000]');
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT id, status, position('REASON' IN r) > 0 AS told, regexp_replace(r, '\d{4}-\d\d-\d\dT[0-9:.]+', 'NOW') AS json_errors
FROM runs, replace(json_errors::text, 'Sync interrupted by system restart or timeout: silent: no sign of life for 2 h, limit 1 h', 'REASON') AS r ORDER BY id;
-- A row that jsonb cannot hold stands in the journal as a string of its JSON; a late finish of it goes through.
UPDATE runs SET status = 'completed' WHERE id = 3;
SELECT run_key, event, jsonb_typeof(run) AS run, jsonb_typeof(wanted) AS wanted, position('\u0000 and \ud800' IN run #>> '{}') > 0 AS whole
FROM sync_guard.journal WHERE relation = 'runs'::regclass AND run_key IN ('1', '3', '5') AND at > now() - interval '1 minute' ORDER BY id DESC LIMIT 4;
-- Taken back, its errors stay as they are, with the guard's line.
SELECT sync_guard.overturn_reap('runs', 3, 'completed'), sync_guard.overturn_reap('runs', 2, 'completed');
SELECT id, status, json_array_length(CASE json_typeof(json_errors) WHEN 'array' THEN json_errors END) AS errors FROM runs WHERE id IN (2, 3) ORDER BY id;

-- A domain is looked through.
DELETE FROM runs;
SELECT sync_guard.guard_table('runs', error_column => 'list_errors');
INSERT INTO runs (id, list_errors) VALUES (1, NULL), (2, '[]'), (3, '["a"]');
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT id, status, jsonb_array_length(list_errors) AS errors FROM runs ORDER BY id;

-- text: a line more.
SELECT was, "is" FROM reap('text_error') WHERE id IN (1, 2, 11, 12);
-- A column with a length: what was there stays whole, the reason has what is left.
CREATE FUNCTION reap_text(column_name name, OUT was_length integer, OUT "is" text, OUT is_length integer) RETURNS SETOF record LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM runs;
    PERFORM sync_guard.guard_table('runs', error_column => column_name);
    EXECUTE format('INSERT INTO runs (id, %1$I) SELECT n, left(repeat(''țiuș '', 10), n) FROM generate_series(0, 40) AS n WHERE n %% 10 IN (0, 8, 9) AND n <= %2$s', column_name,
        (SELECT atttypmod - 4 FROM pg_attribute WHERE attrelid = 'runs'::regclass AND attname = column_name));
    INSERT INTO runs (id) VALUES (99);
    PERFORM sync_guard.reap_stale_syncs(relation => 'runs');
    RETURN QUERY EXECUTE format('SELECT nullif(id, 99), %1$I::text, length(%1$I) FROM runs WHERE status = ''failed'' ORDER BY id', column_name);
END $$;
SELECT * FROM reap_text('short_error');
SELECT * FROM reap_text('char_error') WHERE was_length IN (0, 8, 38, 39, 40) OR was_length IS NULL;
SELECT * FROM reap_text('tiny_error');
-- Nothing of it is lost: the journal has the reason whole.
SELECT DISTINCT reason FROM sync_guard.journal WHERE relation = 'runs'::regclass AND run_key = '99';

-- No column for errors at all; one that nobody may write.
DELETE FROM runs;
SELECT sync_guard.guard_table('runs', error_column => '');
INSERT INTO runs (id, jsonb_errors) VALUES (1, '"as it was"');
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT status, jsonb_errors FROM runs;
ALTER TABLE runs ADD generated_error text GENERATED ALWAYS AS ('run ' || status) STORED;
SELECT sync_guard.guard_table('runs', error_column => 'generated_error');
INSERT INTO runs (id) VALUES (2);
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT id, status, generated_error FROM runs ORDER BY id;

-- The errors of a sibling table may not be NULL; those of a table in observe mode, and of a run that is not reaped, are as they were.
CREATE TABLE offers (id integer PRIMARY KEY, status text NOT NULL, started_at timestamp, completed_at timestamp, errors jsonb NOT NULL DEFAULT '[]');
SELECT sync_guard.guard_table('offers', live_statuses => '{pending,running}', failed_status => 'failed');
INSERT INTO offers (id, status, started_at) VALUES (1, 'pending', ago('2 hours')), (2, 'running', ago('2 hours')), (3, 'running', ago('2 minutes'));
SELECT sync_guard.reap_stale_syncs(relation => 'offers');
SELECT id, status, jsonb_array_length(errors) AS errors FROM offers ORDER BY id;

DROP SCHEMA errors_column CASCADE;
