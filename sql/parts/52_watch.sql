-- The runs of now for a person at a terminal: SELECT * FROM sync_guard.watch_80 \watch 1

CREATE FUNCTION sync_guard.watch_lines(
    wide boolean,
    OUT dead boolean, OUT started_at timestamptz, OUT sync text, OUT key text, OUT age text, OUT progress text,
    OUT done text, OUT rate text, OUT "left" text, OUT sign text, OUT verdict text, OUT why text)
RETURNS SETOF record
LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 20
AS 'MODULE_PATHNAME', 'emag_sync_guard_watch_lines';
COMMENT ON FUNCTION sync_guard.watch_lines(boolean) IS
'behind the views watch_80 and watch_120: live_runs() in texts of fixed widths';

CREATE VIEW sync_guard.watch_80 AS
SELECT w.sync, w.age, w.progress, w.done, w."left", w.sign, w.verdict
FROM sync_guard.watch_lines(false) AS w
ORDER BY w.dead DESC, w.started_at, w.key;
COMMENT ON VIEW sync_guard.watch_80 IS
'the runs of now in lines of 80 characters, for psql: SELECT * FROM sync_guard.watch_80 LIMIT 17 \watch 1 (so many leave the head on a terminal of 24 lines). Stuck ones first, then the oldest';

CREATE VIEW sync_guard.watch_120 AS
SELECT w.sync, w.key, w.age, w.progress, w.done, w.rate, w."left", w.sign, w.why
FROM sync_guard.watch_lines(true) AS w
ORDER BY w.dead DESC, w.started_at, w.key;
COMMENT ON VIEW sync_guard.watch_120 IS
'the runs of now in lines of 120 characters, for psql: SELECT * FROM sync_guard.watch_120 LIMIT 23 \watch 1 (so many leave the head on a terminal of 30 lines). Stuck ones first, then the oldest';

COMMENT ON COLUMN sync_guard.watch_80.sync IS 'the values of its scope columns, or its table where there are none; cut to fit';
COMMENT ON COLUMN sync_guard.watch_80.age IS 'since the start; -: it has none';
COMMENT ON COLUMN sync_guard.watch_80.progress IS 'done of total; -: it cannot be said';
COMMENT ON COLUMN sync_guard.watch_80.done IS 'done/total: k thousands, M millions, G, T, P, E';
COMMENT ON COLUMN sync_guard.watch_80."left" IS 'until its expected end; ~: by the usual duration of its scope; -: not known';
COMMENT ON COLUMN sync_guard.watch_80.sign IS 'since its last sign of life';
COMMENT ON COLUMN sync_guard.watch_80.verdict IS 'as in live_runs; cut to fit';
COMMENT ON COLUMN sync_guard.watch_120.sync IS 'the values of its scope columns, or its table where there are none; cut to fit';
COMMENT ON COLUMN sync_guard.watch_120.key IS 'its key; cut to fit';
COMMENT ON COLUMN sync_guard.watch_120.age IS 'since the start; -: it has none';
COMMENT ON COLUMN sync_guard.watch_120.progress IS 'done of total; -: it cannot be said';
COMMENT ON COLUMN sync_guard.watch_120.done IS 'done/total: k thousands, M millions, G, T, P, E';
COMMENT ON COLUMN sync_guard.watch_120.rate IS 'by the second, minute, hour or day';
COMMENT ON COLUMN sync_guard.watch_120."left" IS 'until its expected end; ~: by the usual duration of its scope; -: not known';
COMMENT ON COLUMN sync_guard.watch_120.sign IS 'since its last sign of life';
COMMENT ON COLUMN sync_guard.watch_120.why IS 'the verdict with its figures: what was measured, and the limit';
