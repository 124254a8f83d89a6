-- Leases end with their runs, by whatever statement and whoever writes it. Without shared memory: every end looks for a lease.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
CREATE SCHEMA lease_ends;
SET search_path = lease_ends, public;
CREATE VIEW leases AS SELECT relation_name AS relation, run_key AS key, coalesce(end_reason, 'open') AS lease
    FROM sync_guard.leases WHERE relation_name ~ '^lease_ends\.' ORDER BY relation_name COLLATE "C", run_key, token;

-- Finished, by an UPDATE that knows nothing of leases; deleted; taken back; another one's is left alone.
CREATE TABLE runs (id int PRIMARY KEY, status text NOT NULL, started_at timestamptz DEFAULT now(), items int DEFAULT 0);
SELECT sync_guard.guard_table('runs', live_statuses => '{running,pending}', failed_status => 'failed');
INSERT INTO runs SELECT i, 'running' FROM generate_series(1, 6) AS i;
SELECT id, sync_guard.take_lease('runs', id) AS token INTO tokens FROM generate_series(1, 6) AS id;
UPDATE runs SET status = 'pending', items = 1 WHERE id = 1;
UPDATE runs SET status = 'completed' WHERE id = 2;
DELETE FROM runs WHERE id = 3;
BEGIN;
SAVEPOINT here;
UPDATE runs SET status = 'failed' WHERE id = 4;
DELETE FROM runs WHERE id = 5;
ROLLBACK TO here;
COMMIT;
INSERT INTO runs VALUES (6, 'running') ON CONFLICT (id) DO UPDATE SET status = 'completed';
SELECT key, lease FROM leases;
SELECT id, sync_guard.heartbeat(token) AS mine FROM tokens ORDER BY id;

-- The same key again, in the same transaction and in the next one: another run, which is not the old token's.
BEGIN; DELETE FROM runs WHERE id = 1; INSERT INTO runs VALUES (1, 'running'); COMMIT;
INSERT INTO runs VALUES (3, 'running');
SELECT id, sync_guard.heartbeat(token) AS mine FROM tokens WHERE id IN (1, 3) ORDER BY id;
-- The key itself is changed.
UPDATE runs SET id = 44 WHERE id = 4;
SELECT key, lease FROM leases WHERE key IN ('1', '3', '4', '44');

-- A run that starts again is not the old token's, either, though its end was not seen.
SELECT sync_guard.allow_transition('runs', 'failed', 'running');
ALTER TABLE runs DISABLE TRIGGER USER;
UPDATE runs SET status = 'failed' WHERE id = 5;
ALTER TABLE runs ENABLE TRIGGER USER;
SELECT key, lease FROM leases WHERE key = '5';
UPDATE runs SET status = 'running' WHERE id = 5;
SELECT key, lease FROM leases WHERE key = '5';
SELECT sync_guard.heartbeat(token) AS mine FROM tokens WHERE id = 5;

-- Switched off, the guard does nothing; a heartbeat looks at the row, and the next reaping settles the lease.
SELECT sync_guard.take_lease('runs', 5) AS token \gset
SET emag_sync_guard.enabled = off;
UPDATE runs SET status = 'completed' WHERE id = 5;
RESET emag_sync_guard.enabled;
SELECT lease, sync_guard.heartbeat(:token) AS mine FROM leases WHERE key = '5' AND lease = 'open';
SELECT sync_guard.reap_stale_syncs(relation => 'runs');
SELECT count(*) AS left_open FROM leases WHERE key = '5' AND lease = 'open';

-- An application's role has no right to the leases. Observed tables end them too.
CREATE ROLE regress_esg_lease_writer;
GRANT USAGE ON SCHEMA lease_ends TO regress_esg_lease_writer;
GRANT UPDATE, SELECT ON runs TO regress_esg_lease_writer;
INSERT INTO runs VALUES (7, 'running');
SELECT sync_guard.guard_table('runs', mode => 'observe');
SET ROLE regress_esg_lease_writer;
SELECT sync_guard.take_lease('runs', 7) > 0 AS taken;
UPDATE runs SET status = 'completed' WHERE id = 7;
SELECT count(*) FROM sync_guard.leases;
RESET ROLE;
SELECT key, lease FROM leases WHERE key = '7';

-- Enums, char(n), domains; a status of NULL is an end, where the transitions let it through.
CREATE TYPE state AS ENUM ('running', 'completed', 'failed');
CREATE DOMAIN state_domain AS state;
CREATE TABLE enums (id int PRIMARY KEY, status state, started_at timestamptz DEFAULT now());
CREATE TABLE enum_domains (id int PRIMARY KEY, status state_domain, started_at timestamptz DEFAULT now());
CREATE TABLE chars (id int PRIMARY KEY, status char(12), started_at timestamptz DEFAULT now());
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{enums,enum_domains,chars}'::text[] LOOP
        PERFORM sync_guard.guard_table(name::regclass, live_statuses => '{running}', transitions => 'warn');
        EXECUTE format($f$
            INSERT INTO %1$I VALUES (1, 'running'), (2, 'running'), (3, 'running'), (4, 'running');
            SELECT sync_guard.take_lease('%1$I', id) FROM %1$I;
            UPDATE %1$I SET status = 'completed' WHERE id = 1;
            UPDATE %1$I SET status = NULL WHERE id = 2;
            DELETE FROM %1$I WHERE id = 3;
            UPDATE %1$I SET started_at = started_at - interval '1 second' WHERE id = 4 $f$, name);
    END LOOP;
END $$;
SELECT * FROM leases WHERE relation !~ 'runs';

-- Partitions: a run that moves keeps its lease. One that ends by moving is settled by the next reaping.
CREATE TABLE parts (id int NOT NULL, status text NOT NULL, started_at timestamptz NOT NULL DEFAULT now(), items int DEFAULT 0, part int NOT NULL DEFAULT 1, PRIMARY KEY (id, part))
    PARTITION BY LIST (part);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
SELECT sync_guard.guard_table('parts', key_column => 'id', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO parts SELECT i, 'running' FROM generate_series(1, 4) AS i;
SELECT id, sync_guard.take_lease('parts', id) AS token INTO part_tokens FROM parts;
UPDATE parts SET part = 2 WHERE id = 1;
DELETE FROM parts WHERE id = 2;
UPDATE parts SET part = 2, status = 'completed' WHERE id = 3;
UPDATE parts SET status = 'completed' WHERE id = 4;
SELECT key, lease FROM leases WHERE relation ~ 'parts';
SELECT id, sync_guard.heartbeat(token) AS mine FROM part_tokens ORDER BY id;
SELECT sync_guard.reap_stale_syncs(relation => 'parts');
SELECT key, lease FROM leases WHERE relation ~ 'parts';
-- The same key again is another run there too.
INSERT INTO parts VALUES (2, 'running');
BEGIN; DELETE FROM parts WHERE id = 1; INSERT INTO parts VALUES (1, 'running'); COMMIT;
SELECT id, sync_guard.heartbeat(token) AS mine FROM part_tokens WHERE id < 3 ORDER BY id;
SELECT key, lease FROM leases WHERE relation ~ 'parts' AND key < '3';

-- A worker that was silent for too long and beats again: its run lives on, unless another one has taken its place meanwhile.
CREATE TABLE alone (id int PRIMARY KEY, status text NOT NULL, started_at timestamptz NOT NULL DEFAULT now());
SELECT sync_guard.guard_table('alone', live_statuses => '{running}', failed_status => 'failed', exclusive => true);
INSERT INTO alone VALUES (1, 'running', '2020-01-01');
SELECT sync_guard.take_lease('alone', 1, ttl => '1 microsecond') AS token \gset
SELECT run_key, verdict FROM sync_guard.stuck_syncs WHERE relation = 'alone'::regclass;
SELECT sync_guard.heartbeat(:token) AS mine;
INSERT INTO alone VALUES (2, 'running');
SELECT sync_guard.heartbeat(:token) AS mine;
SELECT run_key, verdict FROM sync_guard.running_syncs WHERE relation = 'alone'::regclass;
SELECT sync_guard.reap_stale_syncs(relation => 'alone');
SELECT key, lease FROM leases WHERE relation ~ 'alone';

-- Runs that were taken away unseen: what they have left is none of the next one's, by whatever statement that comes. An INSERT
-- that is taken back ends nothing.
CREATE TABLE counted (id int PRIMARY KEY, status text NOT NULL, started_at timestamptz DEFAULT now());
SELECT sync_guard.guard_table('counted', live_statuses => '{running}', failed_status => 'failed');
INSERT INTO counted SELECT i, 'running' FROM generate_series(1, 6) AS i;
SELECT id, sync_guard.take_lease('counted', id) AS token INTO counted_tokens FROM counted;
TRUNCATE counted;
INSERT INTO counted VALUES (1, 'running');
COPY counted (id, status) FROM stdin;
2	running
\.
INSERT INTO counted VALUES (3, 'running') ON CONFLICT (id) DO UPDATE SET status = 'completed';
INSERT INTO counted VALUES (9, 'running');
UPDATE counted SET id = 4 WHERE id = 9;
BEGIN; INSERT INTO counted VALUES (5, 'running'); ROLLBACK;
SELECT key, lease FROM leases WHERE relation ~ 'counted';
SELECT id, sync_guard.heartbeat(token) AS mine FROM counted_tokens WHERE id < 5 ORDER BY id;
SELECT token FROM counted_tokens WHERE id = 1 \gset
\set VERBOSITY sqlstate
BEGIN; SELECT sync_guard.fence(:token); ROLLBACK;
SELECT sync_guard.finish_sync(:token, 'completed');
\set VERBOSITY default
SELECT id, status FROM counted ORDER BY id;
-- The lease that is taken in the statement of the start is its own: of an INSERT, of one after another run, of a retry.
SELECT sync_guard.allow_transition('counted', 'failed', 'running');
WITH r AS (INSERT INTO counted VALUES (7, 'running') RETURNING id)
    SELECT sync_guard.take_lease('counted', (SELECT id FROM r)) AS token \gset
SELECT sync_guard.heartbeat(:token) AS mine;
WITH r AS (INSERT INTO counted VALUES (6, 'running') RETURNING id)
    SELECT sync_guard.take_lease('counted', (SELECT id FROM r)) AS token \gset
SELECT sync_guard.heartbeat(:token) AS mine;
SELECT sync_guard.heartbeat(token) AS mine FROM counted_tokens WHERE id = 6;
UPDATE counted SET status = 'failed' WHERE id = 7;
WITH r AS (UPDATE counted SET status = 'running' WHERE id = 7 RETURNING id)
    SELECT sync_guard.take_lease('counted', (SELECT id FROM r)) AS token \gset
SELECT sync_guard.heartbeat(:token) AS mine;
SELECT token FROM sync_guard.start_sync('counted', '{"id": 5}') \gset
SELECT sync_guard.heartbeat(:token) AS mine;
SELECT key, lease FROM leases WHERE relation ~ 'counted' AND key >= '5';

-- Somebody has put triggers on the leases: they run, as the extension's owner, and nothing is left open.
CREATE FUNCTION seen() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE WARNING '% % % by the owner: %', TG_OP, TG_WHEN, TG_LEVEL, current_user =
    (SELECT extowner::regrole::text FROM pg_extension WHERE extname = 'emag_sync_guard'); RETURN NEW; END$$;
CREATE TRIGGER a BEFORE INSERT OR UPDATE ON sync_guard.leases FOR EACH ROW EXECUTE FUNCTION seen();
CREATE TRIGGER b AFTER INSERT OR UPDATE ON sync_guard.leases FOR EACH ROW EXECUTE FUNCTION seen();
CREATE TRIGGER c AFTER INSERT OR UPDATE ON sync_guard.leases FOR EACH STATEMENT EXECUTE FUNCTION seen();
SELECT token FROM sync_guard.start_sync('counted', '{"id": 8}') \gset
SELECT sync_guard.finish_sync(:token, 'completed');
DROP TRIGGER a ON sync_guard.leases;
DROP TRIGGER b ON sync_guard.leases;
DROP TRIGGER c ON sync_guard.leases;

SELECT sync_guard.unguard_table(t) FROM unnest('{runs,counted,enums,enum_domains,chars,parts,alone}'::regclass[]) AS t;
DROP SCHEMA lease_ends CASCADE;
DROP ROLE regress_esg_lease_writer;
DELETE FROM sync_guard.leases WHERE relation_name ~ '^lease_ends\.';
