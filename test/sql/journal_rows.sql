-- The row as it was, in the journal: the jsonb that row_to_json() and a cast give, whatever types its columns have.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA journal_rows;
SET search_path = journal_rows, public;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a integer, "B b" json);
CREATE DOMAIN share AS numeric CHECK (VALUE <> 2);
CREATE DOMAIN note AS json;
CREATE TABLE plain (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dropped text,
    status varchar(20) NOT NULL DEFAULT 'running',
    started_at timestamptz,
    b boolean, n numeric, f float8, r float4, s share, m mood, d date, t time, z timetz, i interval, u uuid, x bytea, c char(5), money money,
    j jsonb, ints integer[], texts text[], deep integer[][], span int4range, spans tstzmultirange, ip inet, p point, bits bit(3), name name, "One ""Odd"" név" text,
    doubled integer GENERATED ALWAYS AS (id * 2) STORED);
ALTER TABLE plain DROP COLUMN dropped;
CREATE TABLE odd (LIKE plain INCLUDING ALL, pair pair, pairs pair[], note note);
INSERT INTO plain (started_at, b, n, f, r, s, m, d, t, z, i, u, x, c, money, j, ints, texts, deep, span, spans, ip, p, bits, name, "One ""Odd"" név") VALUES
    ('2025-10-01 10:00+02', true, 1.50, 1e300, 0.1, 0.5, 'sad', '2025-10-01', '10:00', '10:00+02', '1 day 2 h', '00000000-0000-4000-8000-0000000000e9', '\x00ff', 'ab', 12.5,
     '{"b": 1, "a": [1e3, null, "\"x\\"]}', '{1,NULL,2}', '{"a b",NULL,"c\"\\"}', '{{1,2},{3,4}}', '[1,5)', '{[2025-10-01,2025-10-02)}', '10.0.0.1', '(1,2)', '101', 'n', E'tab\tnl\n"q" \\ \u00e9'),
    ('2025-10-01 10:00+02', NULL, 'NaN', 'Infinity', '-Infinity', 'NaN', NULL, '-infinity', NULL, NULL, '-1 s', NULL, '', '', NULL, 'null', '{}', '{}', NULL, 'empty', '{}', NULL, NULL, NULL, NULL, E'\x01'),
    ('2025-10-01 10:00+02', NULL, 12345678901234567890.123456789, -0.0, 1e-30, NULL, NULL, 'infinity', NULL, NULL, NULL, NULL, NULL, NULL, NULL, '"text"', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO odd (id, status, started_at, b, n, f, r, s, m, d, t, z, i, u, x, c, money, j, ints, texts, deep, span, spans, ip, p, bits, name, "One ""Odd"" név", pair, pairs, note)
    OVERRIDING SYSTEM VALUE SELECT id, status, started_at, b, n, f, r, s, m, d, t, z, i, u, x, c, money, j, ints, texts, deep, span, spans, ip, p, bits, name, "One ""Odd"" név",
    (1, '{"z": 1,  "a": 2}')::pair, ARRAY[(1, '[1e2]')::pair, NULL], '{"b":1, "b":2}' FROM plain;
CREATE TABLE before AS SELECT 'plain'::regclass AS relation, id::text AS run_key, row_to_json(r.*)::jsonb AS run FROM plain AS r
    UNION ALL SELECT 'odd'::regclass, id::text, row_to_json(r.*)::jsonb FROM odd AS r;
-- What no jsonb holds is kept as text, of that row alone.
INSERT INTO odd (id, started_at, note) OVERRIDING SYSTEM VALUE VALUES (4, '2025-10-01 10:00+02', '"\u0000"'), (5, '2025-10-01 10:00+02', '1e400000');
SELECT sync_guard.guard_table('plain', live_statuses => '{running}', failed_status => 'failed');
SELECT sync_guard.guard_table('odd', live_statuses => '{running}', failed_status => 'failed');
SELECT sync_guard.reap_stale_syncs(relation => 'plain'), sync_guard.reap_stale_syncs(relation => 'odd');
SELECT j.relation, j.run_key, jsonb_typeof(j.run) AS kept_as, j.run = b.run AS same, j.run::text = b.run::text AS to_the_letter
FROM sync_guard.journal AS j LEFT JOIN before AS b USING (relation, run_key)
WHERE j.relation IN ('plain'::regclass, 'odd'::regclass) ORDER BY j.relation, j.run_key;
-- A line of a late finish has both rows.
UPDATE plain SET status = 'completed', n = 7 WHERE id = 1;
\set VERBOSITY terse
SELECT run ->> 'status' AS was, wanted ->> 'status' AS wanted, run ->> 'n' AS n_was, wanted ->> 'n' AS n_wanted,
       (run - '{n,status,errors}'::text[]) = (wanted - '{n,status,errors}'::text[]) AS else_same
FROM sync_guard.journal WHERE relation = 'plain'::regclass AND event = 'late_finish';
DROP SCHEMA journal_rows CASCADE;
