-- Time zones: whatever the session's, verdicts, end times and durations are the same; a naive column is read and written in
-- the zone that the table is said to keep, an aware one needs none.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA time_zones;
SET search_path = time_zones;
SET datestyle = 'ISO, YMD';

-- Zones of the session, one of them in summer and one in winter at any time of the year.
CREATE TABLE zones (n integer, zone text);
INSERT INTO zones VALUES (1, 'UTC'), (2, 'Europe/Bucharest'), (3, 'America/New_York'), (4, 'Asia/Kathmandu'), (5, 'Australia/Sydney'), (6, 'Pacific/Kiritimati'),
    (7, 'America/St_Johns'), (8, '<+05:45>-05:45'), (9, 'Etc/GMT+12');
CREATE FUNCTION utc_offset(zone text, month integer) RETURNS interval LANGUAGE sql STABLE AS
    $$ SELECT (make_timestamptz(2025, month, 15, 12, 0, 0, 'UTC') AT TIME ZONE zone) - make_timestamp(2025, month, 15, 12, 0, 0) $$;
SELECT zone, utc_offset(zone, 1) AS january, utc_offset(zone, 7) AS july FROM zones ORDER BY n;

-- Four tables: naive UTC, naive local time of three zones, aware.
CREATE TABLE naive (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamp, completed_at timestamp, duration_seconds double precision,
    last_heartbeat timestamp, updated_at timestamp, errors jsonb);
CREATE TABLE bucharest (LIKE naive INCLUDING ALL);
CREATE TABLE kathmandu (LIKE naive INCLUDING ALL);
CREATE TABLE sydney (LIKE naive INCLUDING ALL);
CREATE TABLE aware (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz, completed_at timestamptz, duration_seconds double precision,
    last_heartbeat timestamptz, updated_at timestamptz, errors jsonb);
-- One that starts naive and ends aware.
CREATE TABLE mixed (LIKE naive INCLUDING ALL);
ALTER TABLE mixed ALTER completed_at TYPE timestamptz, ALTER last_heartbeat TYPE timestamptz;
CREATE TABLE tables (relation regclass PRIMARY KEY, zone text);
INSERT INTO tables VALUES ('naive', 'UTC'), ('bucharest', 'Europe/Bucharest'), ('kathmandu', 'Asia/Kathmandu'), ('sydney', 'Australia/Sydney'), ('aware', 'UTC'), ('mixed', 'UTC');
SELECT count(sync_guard.guard_table(relation, live_statuses => '{running}', failed_status => 'failed', time_zone => zone)) FROM tables;

-- In one zone of the session: runs of each age, written by an application that keeps the table's zone; what the guard says
-- of them; what it wrote when it reaped, finished, started and started them again.
CREATE FUNCTION in_zone(session_zone text, relation regclass, zone text,
    OUT stale text, OUT running boolean, OUT reaped bigint, OUT ended text, OUT lasted text, OUT started text, OUT never_stale boolean) LANGUAGE plpgsql AS $$
DECLARE
    aware boolean := relation = 'aware'::regclass;
    at text := CASE WHEN aware THEN '%s' ELSE format('(%%s AT TIME ZONE %L)', zone) END;
    beats text := CASE WHEN aware OR relation = 'mixed'::regclass THEN '%s' ELSE at END;
    back text := CASE WHEN aware THEN '%1$s' ELSE format('(%%1$s AT TIME ZONE %L)', zone) END;
    ends text := CASE WHEN aware OR relation = 'mixed'::regclass THEN '%1$s' ELSE back END;
BEGIN
    PERFORM set_config('timezone', session_zone, true);
    EXECUTE format('DELETE FROM %s', relation);
    EXECUTE format('INSERT INTO %s (id, started_at, last_heartbeat) SELECT n, %s, %s FROM (VALUES (1, ''61 minutes''::interval, NULL::interval), (2, ''59 minutes'', NULL), (3, ''0'', NULL),
        (4, ''1 day'', ''61 minutes''), (5, ''1 day'', ''59 minutes''), (6, ''30 hours'', NULL)) AS v (n, s, h)', relation,
        format(at, '(clock_timestamp() - s)'), format(beats, '(clock_timestamp() - h)'));
    -- The start left to the guard.
    EXECUTE format('INSERT INTO %s (id) VALUES (7)', relation);
    SELECT string_agg(run_key, ' ' ORDER BY run_key) INTO stale FROM sync_guard.stale_syncs(NULL, relation);
    running := sync_guard.sync_is_running(relation => relation);
    SELECT count(*) = 0 INTO never_stale FROM sync_guard.stale_syncs('30 seconds', relation, true) WHERE run_key IN ('3', '7');
    reaped := sync_guard.reap_stale_syncs(relation => relation);
    EXECUTE format('UPDATE %s SET status = ''completed'' WHERE id IN (2, 7)', relation);
    EXECUTE format('SELECT string_agg(CASE WHEN %s BETWEEN clock_timestamp() - interval ''1 minute'' AND clock_timestamp() THEN ''now'' ELSE completed_at::text END, '' '' ORDER BY id),
            string_agg(round(duration_seconds / 60)::text, '' '' ORDER BY id) FROM %s WHERE status <> ''running''', format(ends, 'completed_at'), relation) INTO ended, lasted;
    EXECUTE format('SELECT CASE WHEN %s BETWEEN clock_timestamp() - interval ''1 minute'' AND clock_timestamp() AND %s = %s THEN ''now, updated too'' ELSE t.started_at::text END FROM %s AS t, %s AS r
        WHERE t.id = 7 AND r.id = 6', format(back, 't.started_at'), format(back, 'r.updated_at'), format(ends, 'r.completed_at'), relation, relation) INTO started;
END $$;
-- The same in all zones: one line a table.
SELECT t.relation, r.*, count(*) AS zones
FROM zones AS z, tables AS t, in_zone(z.zone, t.relation, t.zone) AS r
GROUP BY t.relation, r.stale, r.running, r.reaped, r.ended, r.lasted, r.started, r.never_stale ORDER BY t.relation::text;

-- What people do by hand goes wrong where the session is not in UTC: this is why.
SET TIME ZONE 'Europe/Bucharest';
INSERT INTO naive (id, started_at) VALUES (100, clock_timestamp() AT TIME ZONE 'UTC');
SELECT started_at < now() - interval '10 minutes' AS older_than_ten_minutes FROM naive WHERE id = 100;
SELECT count(*) AS by_the_guard FROM sync_guard.stale_syncs('10 minutes', 'naive', true) WHERE run_key = '100';
RESET TIME ZONE;

--
-- Winter and summer, with times that stand still.
--
CREATE VIEW starts AS
    SELECT 'naive' AS table_name, run_key, started_at AT TIME ZONE 'UTC' AS start_in_utc FROM sync_guard.stale_syncs(relation => 'naive')
    UNION ALL SELECT 'bucharest', run_key, started_at AT TIME ZONE 'UTC' FROM sync_guard.stale_syncs(relation => 'bucharest')
    UNION ALL SELECT 'sydney', run_key, started_at AT TIME ZONE 'UTC' FROM sync_guard.stale_syncs(relation => 'sydney')
    UNION ALL SELECT 'aware', run_key, started_at AT TIME ZONE 'UTC' FROM sync_guard.stale_syncs(relation => 'aware');
TRUNCATE naive, bucharest, sydney, aware;
-- In January and in July; in the hour that summer time leaves out, in the hour that comes twice when it ends.
INSERT INTO naive (id, started_at) VALUES (1, '2025-01-15 12:00'), (2, '2025-07-15 12:00'), (3, '2025-03-30 03:30'), (4, '2025-10-26 03:30'), (5, '2025-10-26 04:30');
INSERT INTO bucharest SELECT * FROM naive;
INSERT INTO sydney SELECT * FROM naive;
INSERT INTO aware (id, started_at) SELECT id, started_at AT TIME ZONE 'UTC' FROM naive;
SELECT run_key, naive, bucharest, sydney, aware FROM (SELECT run_key, max(start_in_utc) FILTER (WHERE table_name = 'naive') AS naive, max(start_in_utc) FILTER (WHERE table_name = 'bucharest') AS bucharest,
    max(start_in_utc) FILTER (WHERE table_name = 'sydney') AS sydney, max(start_in_utc) FILTER (WHERE table_name = 'aware') AS aware FROM starts GROUP BY run_key) AS s ORDER BY run_key;
CREATE TABLE in_utc AS SELECT * FROM starts;
SET TIME ZONE 'America/New_York';
SELECT count(*) AS differ FROM ((TABLE starts EXCEPT TABLE in_utc) UNION ALL (TABLE in_utc EXCEPT TABLE starts)) AS d;
SET TIME ZONE 'Asia/Kathmandu';
SELECT count(*) AS differ FROM ((TABLE starts EXCEPT TABLE in_utc) UNION ALL (TABLE in_utc EXCEPT TABLE starts)) AS d;

-- A run over a change of the clocks lasts as long as it lasted, not as the clock on the wall says.
CREATE FUNCTION lasted(relation regclass, session_zone text, start timestamp, ended timestamp) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    seconds double precision;
BEGIN
    PERFORM set_config('timezone', session_zone, true);
    EXECUTE format('DELETE FROM %s', relation);
    EXECUTE format('INSERT INTO %s (id, started_at) VALUES (1, $1)', relation) USING start;
    EXECUTE format('UPDATE %s SET status = ''completed'', completed_at = $1 RETURNING duration_seconds', relation) INTO seconds USING ended;
    RETURN make_interval(secs => seconds)::text;
END $$;
SELECT change, lasted('naive', zone, start, ended) AS "UTC", lasted('bucharest', zone, start, ended) AS "Europe/Bucharest", lasted('sydney', zone, start, ended) AS "Australia/Sydney", count(*) AS zones
FROM zones, (VALUES (1, 'forward', timestamp '2025-03-30 02:30', timestamp '2025-03-30 04:30'), (2, 'back', '2025-10-26 02:30', '2025-10-26 04:30'),
    (3, 'none', '2025-07-01 02:30', '2025-07-01 04:30'), (4, 'forward, down under', '2025-10-05 01:30', '2025-10-05 03:30')) AS c (k, change, start, ended)
GROUP BY 1, 2, 3, 4, k ORDER BY k;

-- The JSON shows a naive time as it stands in the row, an aware one in the session's zone.
TRUNCATE naive, aware;
INSERT INTO naive (id, status, started_at, completed_at) VALUES (1, 'completed', '2025-10-01 15:05:11', '2025-10-01 15:10:11');
INSERT INTO aware (id, status, started_at, completed_at) VALUES (1, 'completed', '2025-10-01 15:05:11+00', '2025-10-01 15:10:11+00');
SET TIME ZONE 'Europe/Bucharest';
SELECT sync_guard.sync_status(relation => 'naive') #>> '{recent_syncs,0,started_at}' AS naive, sync_guard.sync_status(relation => 'aware') #>> '{recent_syncs,0,started_at}' AS aware;
SET TIME ZONE 'UTC';
SELECT sync_guard.sync_status(relation => 'naive') #>> '{recent_syncs,0,started_at}' AS naive, sync_guard.sync_status(relation => 'aware') #>> '{recent_syncs,0,started_at}' AS aware;
RESET TIME ZONE;

-- A zone that does not exist is refused; another one is taken from then on.
\set VERBOSITY sqlstate
SELECT sync_guard.guard_table('naive', time_zone => 'Europe/Bukarest');
SELECT sync_guard.guard_table('naive', time_zone => '');
\set VERBOSITY default
TRUNCATE naive;
INSERT INTO naive (id, started_at) VALUES (1, (clock_timestamp() AT TIME ZONE 'Asia/Kathmandu') - interval '2 hours');
SELECT count(*) AS stale FROM sync_guard.stale_syncs(relation => 'naive');
SELECT sync_guard.guard_table('naive', time_zone => 'Asia/Kathmandu');
SELECT count(*) AS stale FROM sync_guard.stale_syncs(relation => 'naive');
SELECT sync_guard.reap_stale_syncs(relation => 'naive');
SELECT clock_timestamp() - completed_at AT TIME ZONE 'Asia/Kathmandu' BETWEEN '0' AND '1 minute' AS ended_there FROM naive;

DROP SCHEMA time_zones CASCADE;
