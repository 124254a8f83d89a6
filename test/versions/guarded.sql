-- A guarded database with what may be in one, some of it alive: settings, limits, rules, a pause, mistakes, alerts, leases,
-- pg_cron's job. crossing.pl carries it to another version.
-- (In the schema that later versions of pg_cron insist on; those of 15 do not.)
CREATE EXTENSION pg_cron WITH SCHEMA pg_catalog;
CREATE EXTENSION emag_sync_guard;
CREATE SCHEMA app AUTHORIZATION app_owner;
CREATE SCHEMA "Odd ""one""" AUTHORIZATION "Other ""role";

SET ROLE app_owner;
CREATE TYPE app.state AS ENUM ('running', 'completed', 'failed');
CREATE TABLE app.runs (
    id uuid PRIMARY KEY, sync_type varchar(50) NOT NULL, account_type varchar(10),
    status varchar(50) NOT NULL CONSTRAINT known_status CHECK (status::text IN ('running', 'completed', 'failed')),
    started_at timestamp NOT NULL, completed_at timestamp, duration_seconds float, processed_items int NOT NULL DEFAULT 0,
    errors jsonb, updated_at timestamp);
CREATE INDEX ON app.runs (status);
CREATE FUNCTION app.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := now(); RETURN NEW; END';
CREATE TRIGGER stamp BEFORE UPDATE ON app.runs FOR EACH ROW EXECUTE FUNCTION app.stamp();
CREATE TABLE app.parts (
    id bigint PRIMARY KEY, status app.state NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL, error text)
    PARTITION BY RANGE (id);
CREATE INDEX ON app.parts (status);
CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES FROM (0) TO (10);
CREATE TABLE app.parts_2 PARTITION OF app.parts FOR VALUES FROM (10) TO (100) PARTITION BY RANGE (id);
CREATE TABLE app.parts_2_1 PARTITION OF app.parts_2 FOR VALUES FROM (10) TO (20);
CREATE TABLE app.leased (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job text NOT NULL, status text NOT NULL DEFAULT 'running'
        CHECK (status IN ('running', 'completed', 'failed')),
    started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz, done bigint NOT NULL DEFAULT 0);
CREATE INDEX ON app.leased (status);
CREATE TABLE app.gone (id int PRIMARY KEY, status app.state, started_at timestamptz);
SET ROLE "Other ""role";
CREATE TABLE "Odd ""one"""."Sync Logs" (
    "Id" serial PRIMARY KEY, "Status" text CHECK ("Status" IN ('In_Progress', 'Done', 'Failed')),
    "startedAt" timestamptz, "finishedAt" timestamptz);
CREATE INDEX ON "Odd ""one"""."Sync Logs" ("Status");
RESET ROLE;

SELECT sync_guard.guard_table('app.runs', scope_columns => '{sync_type,account_type}', exclusive => true,
    scope_overlaps => '{"account_type": {"both": ["main", "fbe"]}}', time_zone => 'Europe/Bucharest', max_age => '3 days');
SELECT sync_guard.guard_table('app.parts', late_finish => 'accept');
SELECT sync_guard.guard_table('app.leased', scope_columns => '{job}', done_column => 'done', exclusive => true);
SELECT sync_guard.guard_table('"Odd ""one"""."Sync Logs"');
SELECT sync_guard.guard_table('app.gone');
SELECT sync_guard.set_limit('app.runs', '{"sync_type": "orders"}', max_silence => '5 minutes', max_stall => '1 day');
SELECT sync_guard.set_limit('app.runs', '{"account_type": "fbe", "sync_type": "orders"}', max_age => '2 hours');
SELECT sync_guard.allow_transition('app.runs', 'failed', 'running');
SELECT sync_guard.allow_transition('app.parts', 'completed', 'failed', false);

-- Runs that were reaped, one of them wrongly, one of a table that is gone.
INSERT INTO app.runs (id, sync_type, account_type, status, started_at, errors) VALUES
    ('00000000-0000-0000-0000-000000000001', 'products', 'main', 'running', '2020-01-01', '["before", {"a": 1}]'),
    ('00000000-0000-0000-0000-000000000002', 'orders', 'fbe', 'running', '2020-01-01', NULL);
INSERT INTO app.parts (id, started_at) VALUES (1, '2020-01-01'), (11, '2020-01-01');
INSERT INTO "Odd ""one"""."Sync Logs" ("Status", "startedAt") VALUES ('In_Progress', '2020-01-01');
INSERT INTO app.gone VALUES (1, 'running', '2020-01-01');
SELECT sync_guard.reap_stale_syncs();
UPDATE app.runs SET status = 'completed' WHERE id = '00000000-0000-0000-0000-000000000001';
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
SELECT sync_guard.overturn_reap('app.parts', 1, 'completed');
DROP TABLE app.gone;

-- Dead and not closed yet, alive by its row, and leased: finished; alive for an hour; to be found dead soon.
INSERT INTO app.runs (id, sync_type, account_type, status, started_at) VALUES
    ('00000000-0000-0000-0000-000000000003', 'products', 'main', 'running', '2020-01-01'),
    ('00000000-0000-0000-0000-000000000004', 'products', 'fbe', 'running', (now() AT TIME ZONE 'Europe/Bucharest'));
SELECT sync_guard.finish_sync(token, 'completed') FROM sync_guard.start_sync('app.leased', '{"job": "finished"}', ttl => '1 hour');
SELECT sync_guard.heartbeat(token, 7, 100) FROM sync_guard.start_sync('app.leased', '{"job": "alive"}', ttl => '1 hour', worker => 'w', incarnation => '1');
SELECT count(*) FROM sync_guard.start_sync('app.leased', '{"job": "dying"}', ttl => '1 second');
-- Its session ends in good order, as a pool ends one: it is held by heartbeats from then on, for a minute.
SELECT count(*) FROM sync_guard.start_sync('app.leased', '{"job": "bound"}', bind_session => true);

SELECT sync_guard.set_alert_rule('app.runs', 'long_running', '{"sync_type": "orders"}', raise_above => '10 minutes');
SELECT sync_guard.set_alert_rule(NULL, 'failure_rate', min_sample => 3);
INSERT INTO sync_guard.observed_gaps VALUES ('app.runs', '00000000-0000-0000-0000-000000000001', now(), '4 minutes', NULL);
SELECT sync_guard.pause_reaping('"Odd ""one"""."Sync Logs"');
SELECT sync_guard.schedule_reaping('0 3 31 12 *', '1 hour');
GRANT EXECUTE ON FUNCTION sync_guard.reap_stale_syncs TO app_owner;
REVOKE EXECUTE ON FUNCTION sync_guard.purge_journal FROM PUBLIC;
ALTER DATABASE app SET emag_sync_guard.enabled = on;
ALTER ROLE app_owner SET emag_sync_guard.late_finish = 'keep';
