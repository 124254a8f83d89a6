-- A start without time zone whose default is now(): written in the zone of the session, read in the table's.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA start_zones;
CREATE TABLE start_zones.local (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamp DEFAULT now(), finished_at timestamp);
CREATE TABLE start_zones.rounded (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamp(3) DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE start_zones.utc (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamp DEFAULT (now() AT TIME ZONE 'UTC'));
CREATE TABLE start_zones.aware (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz DEFAULT now());
CREATE TABLE start_zones.bare (id integer PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamp, created_at timestamp DEFAULT now());
CREATE VIEW start_zones.told AS SELECT relation, detail, hint FROM sync_guard.guard_health WHERE problem = 'start_default_local' ORDER BY relation::text COLLATE "C";

-- West of UTC.
\setenv PGTZ America/New_York
\c -
SET client_min_messages = warning;
SET search_path = start_zones;
SELECT sync_guard.guard_table('local');
SELECT sync_guard.guard_table('rounded');
SELECT sync_guard.guard_table('utc');
SELECT sync_guard.guard_table('aware');
SELECT sync_guard.guard_table('bare');
INSERT INTO local VALUES (1);
SELECT count(*) AS stale_at_once FROM sync_guard.stale_syncs(relation => 'local');
\x
TABLE told;
\x
-- What the hint says mends it.
SELECT sync_guard.guard_table('local', time_zone => 'America/New_York');
SELECT count(*) AS stale_at_once FROM sync_guard.stale_syncs(relation => 'local');
SELECT relation FROM told;

-- Zones that are always UTC are UTC, whatever they are called; London is not.
\setenv PGTZ Etc/UTC
\c -
SET client_min_messages = warning;
SET search_path = start_zones;
SELECT sync_guard.guard_table('rounded');
SELECT relation FROM told;
SELECT sync_guard.guard_table('local', time_zone => 'GMT');
SELECT relation FROM told;
\setenv PGTZ Etc/GMT+5
\c -
SET client_min_messages = warning;
SET search_path = start_zones;
SELECT sync_guard.guard_table('local', time_zone => '<-05>+05');
SELECT relation FROM told;
\setenv PGTZ Europe/London
\c -
SET client_min_messages = warning;
SET search_path = start_zones;
SELECT relation FROM told;

DROP SCHEMA start_zones CASCADE;
