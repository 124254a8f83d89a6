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
