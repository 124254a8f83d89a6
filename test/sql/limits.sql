-- set_limit, allow_transition, pause_reaping, resume_reaping: what they store, how it counts, what they refuse.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA limits;
SET search_path = limits, public;
\getenv source PG_ABS_SRCDIR
\set schema limits
\set ECHO none
\set file :source '/sql/fixtures/emag_sync_logs_b.sql'
\i :file
\set file :source '/sql/fixtures/outcome.sql'
\i :file
\set ECHO all
SELECT sync_guard.guard_table('emag_sync_logs');
CREATE FUNCTION ago(interval) RETURNS timestamp LANGUAGE sql VOLATILE RETURN (clock_timestamp() AT TIME ZONE 'UTC') - $1;
-- Six runs, 20, 40, … minutes old.
INSERT INTO emag_sync_logs (id, sync_type, account_type, operation, status, total_items, processed_items, created_items, updated_items,
                            failed_items, pages_processed, api_requests_made, rate_limit_hits, started_at)
SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, (ARRAY['products', 'orders'])[n % 2 + 1], (ARRAY['main', 'fbe', 'both'])[n % 3 + 1],
       'full_sync', 'running', 0, 0, 0, 0, 0, 0, 0, 0, ago(n * interval '20 minutes')
FROM generate_series(1, 6) AS n;
CREATE FUNCTION stale() RETURNS TABLE (scope text, limit_seconds numeric) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT s.scope ->> 'sync_type' || '/' || (s.scope ->> 'account_type'), (s.evidence ->> 'limit_seconds')::numeric
        FROM sync_guard.stale_syncs(relation => 'limits.emag_sync_logs') AS s ORDER BY run_key;
END $$;
CREATE FUNCTION stored() RETURNS TABLE (scope jsonb, max_silence interval, max_age interval, max_stall interval) LANGUAGE sql AS $$
    SELECT scope, max_silence, max_age, max_stall FROM sync_guard.scope_limits WHERE relation = 'limits.emag_sync_logs'::regclass
    UNION ALL SELECT '{}', max_silence, max_age, max_stall FROM sync_guard.settings WHERE relation = 'limits.emag_sync_logs'::regclass
    ORDER BY scope $$;

-- Per scope: the most specific wins, then the earlier scope column.
SELECT * FROM stale();
SELECT sync_guard.set_limit('emag_sync_logs', '{"sync_type": "products"}', max_silence => '10 minutes');
SELECT * FROM stale();
SELECT sync_guard.set_limit('emag_sync_logs', '{"account_type": "main"}', max_silence => '3 hours');
SELECT sync_guard.set_limit('emag_sync_logs', '{"account_type": "main", "sync_type": "products"}', max_silence => '30 minutes', max_age => '1 day');
SELECT * FROM stale();
SELECT * FROM stored();
-- NULL leaves, what is named changes, reset takes away; a scope that sets nothing is gone.
SELECT sync_guard.set_limit('emag_sync_logs', '{"sync_type": "products", "account_type": "main"}', max_stall => '1 hour', reset => '{max_silence}');
SELECT sync_guard.set_limit('emag_sync_logs', '{"account_type": "main"}', reset => '{max_silence}');
SELECT * FROM stored();
-- The table's own.
SELECT sync_guard.set_limit('emag_sync_logs', '{}', max_silence => '2 hours', max_age => '3 hours', max_stall => '1 hour');
SELECT * FROM stored() WHERE scope = '{}';
SELECT sync_guard.set_limit('emag_sync_logs', '{}', reset => '{max_silence,max_age,max_stall}');
SELECT * FROM stored() WHERE scope = '{}';
-- NULL is a value of its own.
SELECT sync_guard.set_limit('emag_sync_logs', '{"account_type": null}', max_silence => '1 day');
SELECT * FROM stored();

-- Values are kept as the column writes them, so that they match.
CREATE TYPE kind AS ENUM ('full', 'part');
CREATE TABLE typed (id int PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz DEFAULT now(), n int, u uuid, b boolean, c char(5), k kind, v varchar(3));
SELECT sync_guard.guard_table('typed', scope_columns => '{n,u,b,c,k,v}');
SELECT sync_guard.set_limit('typed', '{"n": 5}', max_age => '1 day');
SELECT sync_guard.set_limit('typed', '{"n": "05"}', max_age => '2 days');
SELECT sync_guard.set_limit('typed', '{"u": "{AAAAAAAA-0000-0000-0000-000000000000}"}', max_age => '1 day');
SELECT sync_guard.set_limit('typed', '{"b": "yes"}', max_age => '1 day');
SELECT sync_guard.set_limit('typed', '{"b": false}', max_age => '1 day');
SELECT sync_guard.set_limit('typed', '{"c": "ab", "k": "full", "v": "x\"y"}', max_age => '1 day');
SELECT scope, max_age FROM sync_guard.scope_limits WHERE relation = 'typed'::regclass ORDER BY scope;
INSERT INTO typed (id, n, b, started_at) VALUES (1, 5, true, now() - interval '25 hours'), (2, 5, true, now() - interval '49 hours'), (3, 6, false, now() - interval '25 hours');
SELECT sync_guard.guard_table('typed', max_silence => '1000 days');
SELECT run_key, verdict, evidence ->> 'limit_seconds' AS limit_seconds FROM sync_guard.stale_syncs(relation => 'typed') ORDER BY run_key;

\pset format unaligned
\pset tuples_only on
-- Refused.
SELECT outcome('set_limit', 'emag_sync_logs', $$'{"operation": "full_sync"}', '1 hour'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'[]', '1 hour'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'"products"', '1 hour'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'{"sync_type": ["products"]}', '1 hour'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'{"sync_type": {"a": "products"}}', '1 hour'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'{"account_type": "much longer than ten"}', '1 hour'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$NULL, '1 hour'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'{"sync_type": "products"}'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'{"sync_type": "products"}', '0'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'{"sync_type": "products"}', max_age => '-1 s'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'{}', max_silence => '-20 minutes'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'{"sync_type": "products"}', reset => '{nosuch}'$$);
SELECT outcome('set_limit', 'emag_sync_logs', $$'{"sync_type": "products"}', '1 hour', reset => '{max_silence}'$$);
SELECT outcome('set_limit', 'emag_sync_progress', $$'{}', '1 hour'$$);
SELECT outcome('set_limit', 'typed', $$'{"n": "five"}', '1 hour'$$);
SELECT outcome('set_limit', 'typed', $$'{"k": "half"}', '1 hour'$$);

--
-- Transitions
--
SELECT outcome('allow_transition', 'emag_sync_logs', $$'failed', 'running'$$);
SELECT outcome('allow_transition', 'emag_sync_logs', $$'completed', 'partial', false$$);
SELECT outcome('allow_transition', 'emag_sync_logs', $$'running', 'failed'$$);
SELECT outcome('allow_transition', 'emag_sync_logs', $$'running', 'partial', false$$);
SELECT from_status, to_status, allowed FROM sync_guard.transition_rules WHERE relation = 'emag_sync_logs'::regclass ORDER BY 1, 2;
SELECT outcome('allow_transition', 'emag_sync_logs', $$'failed', 'running', false$$);
SELECT outcome('allow_transition', 'emag_sync_logs', $$'running', 'failed', NULL$$);
SELECT from_status, to_status, allowed FROM sync_guard.transition_rules WHERE relation = 'emag_sync_logs'::regclass ORDER BY 1, 2;
-- What closes dead runs cannot be forbidden; not by way of a new live status either.
SELECT outcome('allow_transition', 'emag_sync_logs', $$'running', 'failed', false$$);
SELECT outcome('allow_transition', 'emag_sync_logs', $$'partial', 'failed', false$$);
SELECT outcome('guard_table', 'emag_sync_logs', $$live_statuses => '{running,partial}'$$);
SELECT outcome('allow_transition', 'emag_sync_logs', $$'partial', 'failed', NULL$$);
SELECT outcome('allow_transition', 'emag_sync_logs', $$'running', 'running'$$);
SELECT outcome('allow_transition', 'emag_sync_logs', $$'running', 'cancelled'$$);
SELECT outcome('allow_transition', 'emag_sync_logs', $$NULL, 'cancelled'$$);
SELECT outcome('allow_transition', 'emag_sync_progress', $$'running', 'failed'$$);

--
-- Pauses
--
SELECT outcome('pause_reaping', 'emag_sync_logs');
SELECT paused_until FROM sync_guard.settings WHERE relation = 'emag_sync_logs'::regclass;
SELECT sync_guard.reap_stale_syncs(relation => 'emag_sync_logs');
SELECT outcome('pause_reaping', 'emag_sync_logs', $$'2100-01-01 00:00+00'$$);
SELECT paused_until = '2100-01-01 00:00+00' FROM sync_guard.settings WHERE relation = 'emag_sync_logs'::regclass;
SELECT outcome('pause_reaping', 'emag_sync_logs', $$'2000-01-01 00:00+00'$$);
SELECT outcome('pause_reaping', 'emag_sync_logs', $$'-infinity'$$);
SELECT outcome('pause_reaping', 'emag_sync_progress');
SELECT outcome('resume_reaping', 'emag_sync_logs');
SELECT outcome('resume_reaping', 'emag_sync_logs');
SELECT paused_until IS NULL FROM sync_guard.settings WHERE relation = 'emag_sync_logs'::regclass;
SELECT sync_guard.reap_stale_syncs(relation => 'emag_sync_logs') > 0;
\pset format aligned
\pset tuples_only off

-- A scope that loses a column leaves limits behind that no run has: guard_table says so.
SELECT sync_guard.guard_table('emag_sync_logs', scope_columns => '{sync_type}');
SELECT count(*) FROM stored();
-- The settings of a released table are gone with it.
SELECT sync_guard.unguard_table('emag_sync_logs');
SELECT * FROM stored();
SELECT count(*) FROM sync_guard.transition_rules WHERE relation = 'emag_sync_logs'::regclass;

RESET search_path;
DROP SCHEMA limits CASCADE;
