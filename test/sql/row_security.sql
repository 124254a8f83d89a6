-- Row security of a guarded table: a reader sees through the guard what he sees without it, a reaper who is not the owner
-- is turned away, and FORCE holds for the owner.
SET client_min_messages = warning;
CREATE ROLE regress_esg_rls_owner;
CREATE ROLE regress_esg_rls_ana;                     -- each sees, and writes, his own runs
CREATE ROLE regress_esg_rls_bob;
CREATE ROLE regress_esg_rls_none;                    -- may SELECT; no policy is for him
CREATE ROLE regress_esg_rls_auditor BYPASSRLS;
CREATE ROLE regress_esg_rls_member;                  -- of the owner's role
GRANT regress_esg_rls_owner TO regress_esg_rls_member;
CREATE DATABASE regress_esg_rls;
ALTER DATABASE regress_esg_rls SET client_min_messages = notice;
\set home :DBNAME
\getenv source PG_ABS_SRCDIR
\c regress_esg_rls
CREATE EXTENSION emag_sync_guard;
\set file :source '/sql/fixtures/call_everything.sql'
\set ECHO none
\i :file
\set ECHO all
CREATE SCHEMA app AUTHORIZATION regress_esg_rls_owner;
GRANT USAGE ON SCHEMA app TO PUBLIC;
SET ROLE regress_esg_rls_owner;
SET client_min_messages = warning;
CREATE TABLE app.runs (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    sync_type text NOT NULL DEFAULT 'products',
    status text NOT NULL CHECK (status IN ('running', 'completed', 'failed')),
    started_at timestamptz,
    completed_at timestamptz,
    errors jsonb);
CREATE INDEX ON app.runs (status);
GRANT SELECT, INSERT, UPDATE ON app.runs TO regress_esg_rls_ana, regress_esg_rls_bob, regress_esg_rls_none, regress_esg_rls_auditor;
ALTER TABLE app.runs ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.runs TO regress_esg_rls_ana, regress_esg_rls_bob USING (tenant = current_user);
SELECT sync_guard.guard_table('app.runs', scope_columns => '{sync_type,tenant}', exclusive => false);
INSERT INTO app.runs (id, tenant, status, started_at, completed_at) VALUES
    ('ana-1', 'regress_esg_rls_ana', 'running', now() - interval '2 hours', NULL),
    ('ana-2', 'regress_esg_rls_ana', 'running', now() - interval '1 minute', NULL),
    ('ana-3', 'regress_esg_rls_ana', 'completed', now() - interval '20 minutes', now()),
    ('bob-1', 'regress_esg_rls_bob', 'running', now() - interval '3 hours', NULL),
    ('bob-2', 'regress_esg_rls_bob', 'running', now() - interval '45 minutes', NULL),
    ('bob-3', 'regress_esg_rls_bob', 'failed', now() - interval '30 minutes', now()),
    ('bob-4', 'regress_esg_rls_bob', 'running', now() - interval '4 hours', NULL),
    ('bob-5', 'regress_esg_rls_bob', 'running', 'infinity', NULL);
SELECT sync_guard.reap_stale_syncs('210 minutes');
RESET ROLE;
RESET client_min_messages;

-- Whatever is asked, in whatever way: the keys that the answers tell.
CREATE TABLE everything.answers (role name, what text, answer text);
GRANT INSERT ON everything.answers TO PUBLIC;
CREATE FUNCTION everything.ask(role name) RETURNS void LANGUAGE plpgsql SET client_min_messages = error AS $$
BEGIN
    EXECUTE format('SET LOCAL SESSION AUTHORIZATION %I', role);
    INSERT INTO everything.answers SELECT role, what, everything.answer(statement)
    FROM unnest(ARRAY['ana-1', 'bob-1', 'bob-4', 'carl-1']) AS run, everything.statements('app.runs', run, 'text');
    SET LOCAL SESSION AUTHORIZATION DEFAULT;
END $$;
SELECT everything.ask(rolname) FROM pg_roles WHERE rolname ~ '^regress_esg_rls_';
SELECT role,
       bool_or(answer ~ 'ana-[0-9]') AS learns_of_ana, bool_or(answer ~ 'bob-[0-9]') AS learns_of_bob,
       bool_or(what LIKE 'SELECT%' AND answer ~ 'bob-[0-9]') AS by_views
FROM everything.answers
-- What is asked about one run by its key repeats it, where it is not seen.
WHERE answer !~ '^P0002: table app.runs has no run ....?.?.? that you may see$'
GROUP BY role ORDER BY role;
-- The ones that answer at all, and those that tell a stranger's run: none.
SELECT role, what, answer FROM everything.answers
WHERE role IN ('regress_esg_rls_ana', 'regress_esg_rls_none') AND answer ~ 'bob' AND answer !~ '^P0002' ORDER BY role, what COLLATE "C";
-- A run that is not seen is answered for like one that is not there.
SELECT what, run, answer FROM everything.answers AS a, regexp_match(answer, 'run (bob-1|carl-1)') AS m, LATERAL (SELECT m[1] AS run) AS r
WHERE role = 'regress_esg_rls_ana' AND m IS NOT NULL ORDER BY what COLLATE "C", run;

-- The figures, as ana.
SET SESSION AUTHORIZATION regress_esg_rls_ana;
SELECT id FROM app.runs ORDER BY id;
SELECT run_key, verdict FROM sync_guard.running_syncs;
SELECT run_key, verdict FROM sync_guard.stuck_syncs;
SELECT run_key FROM sync_guard.long_running_syncs;
SELECT run_key, state FROM sync_guard.recent_syncs ORDER BY run_key;
SELECT scope, running, stuck, succeeded_24h, failed_24h, reaped_24h FROM sync_guard.sync_status_overview;
SELECT scope, span, failed, reaped, rate FROM sync_guard.failure_rates ORDER BY span;
SELECT count(*) FROM sync_guard.reaped_syncs;
SELECT count(*) FROM sync_guard.late_finishes;
SELECT relation_name FROM sync_guard.guarded_tables;
SELECT problem, detail FROM sync_guard.guard_health WHERE relation IS NOT NULL;
SELECT sync_guard.sync_is_running('products', 'app.runs');
SELECT sync_guard.scope_is_running('{"tenant": "regress_esg_rls_ana"}'), sync_guard.scope_is_running('{"tenant": "regress_esg_rls_bob"}');
SELECT s -> 'is_running' AS is_running, s #>> '{current_sync,id}' AS current, jsonb_path_query_array(s, '$.recent_syncs[*].id') AS recent
FROM sync_guard.sync_status() AS s;
SELECT rule, verdict FROM sync_guard.explain_run('app.runs', 'ana-1') WHERE decides;
SELECT sync_guard.explain_run('app.runs', 'bob-1');
-- She may update her run, but the guard's reaping and its taking back are the owner's.
SELECT sync_guard.reap_stale_syncs();
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
SELECT count(*) FROM sync_guard.stale_syncs();
SELECT sync_guard.overturn_reap('app.runs', 'ana-1', 'completed');
\echo :LAST_ERROR_SQLSTATE
-- With row security off the server refuses to answer with a part: so does the guard.
SET row_security = off;
\set SHOW_CONTEXT never
SELECT sync_guard.sync_is_running('products', 'app.runs');
\echo :LAST_ERROR_SQLSTATE
SELECT count(*) FROM sync_guard.running_syncs;
RESET row_security;
RESET SESSION AUTHORIZATION;

SET SESSION AUTHORIZATION regress_esg_rls_none;
SELECT sync_guard.sync_is_running(relation => 'app.runs');
SELECT count(*) FROM sync_guard.running_syncs;
SELECT sync_guard.sync_status(relation => 'app.runs');
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
RESET SESSION AUTHORIZATION;

-- Starting a run: an exclusive scope is looked at past row security, and the one who is refused is not told by whom.
SET ROLE regress_esg_rls_owner;
SET client_min_messages = warning;
SELECT sync_guard.guard_table('app.runs', scope_columns => '{sync_type}', exclusive => true);
RESET client_min_messages;
RESET ROLE;
SET SESSION AUTHORIZATION regress_esg_rls_ana;
INSERT INTO app.runs (id, tenant, status, started_at) VALUES ('ana-9', 'regress_esg_rls_ana', 'running', now());
\echo :LAST_ERROR_SQLSTATE
RESET SESSION AUTHORIZATION;

-- Who is not subject to row security: BYPASSRLS, the owner, a member of his role, a superuser.
SET SESSION AUTHORIZATION regress_esg_rls_auditor;
SELECT count(*) FROM sync_guard.stuck_syncs;
SELECT count(*) FROM sync_guard.reaped_syncs;
BEGIN;
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
ROLLBACK;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_esg_rls_member;
SELECT count(*) FROM sync_guard.stuck_syncs;
BEGIN;
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
ROLLBACK;
RESET SESSION AUTHORIZATION;

-- FORCE: the owner sees what a policy shows him, and reaps no more; who is not subject to it works on the whole table.
ALTER TABLE app.runs FORCE ROW LEVEL SECURITY;
CREATE POLICY owner_sees_ana ON app.runs TO regress_esg_rls_owner USING (tenant = 'regress_esg_rls_ana');
SET SESSION AUTHORIZATION regress_esg_rls_owner;
SELECT run_key FROM sync_guard.stuck_syncs ORDER BY 1;
SELECT count(*) FROM sync_guard.reaped_syncs;
SELECT problem FROM sync_guard.guard_health WHERE relation = 'app.runs'::regclass ORDER BY 1;
BEGIN;
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
SELECT id, status FROM app.runs ORDER BY id;
ROLLBACK;
RESET SESSION AUTHORIZATION;
SET SESSION AUTHORIZATION regress_esg_rls_member;
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
RESET SESSION AUTHORIZATION;
-- A superuser's reaping is done as the owner, whom FORCE does not bind there.
SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');
SELECT id, status, jsonb_array_length(errors) AS errors FROM app.runs WHERE errors IS NOT NULL ORDER BY id;

-- The policy of a partitioned table is the one of the table, not of its partitions.
CREATE TABLE app.parts (id integer, tenant name, status text DEFAULT 'running', started_at timestamptz, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE app.parts_1 PARTITION OF app.parts DEFAULT;
ALTER TABLE app.parts OWNER TO regress_esg_rls_owner;
ALTER TABLE app.parts_1 OWNER TO regress_esg_rls_owner;
SET client_min_messages = warning;
SELECT sync_guard.guard_table('app.parts', live_statuses => '{running}');
RESET client_min_messages;
INSERT INTO app.parts VALUES (1, 'regress_esg_rls_ana', DEFAULT, now()), (2, 'regress_esg_rls_bob', DEFAULT, now());
GRANT SELECT, UPDATE ON app.parts, app.parts_1 TO regress_esg_rls_ana;
ALTER TABLE app.parts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.parts USING (tenant = current_user);
SET SESSION AUTHORIZATION regress_esg_rls_ana;
SELECT relation, run_key FROM sync_guard.running_syncs WHERE relation = 'app.parts'::regclass;
SELECT jsonb_path_query_array(sync_guard.sync_status(relation => 'app.parts_1'), '$.recent_syncs[*].id');
SELECT sync_guard.reap_stale_syncs(relation => 'app.parts_1');
RESET SESSION AUTHORIZATION;
-- The columns alone are enough to read.
REVOKE SELECT, UPDATE ON app.parts, app.parts_1 FROM regress_esg_rls_ana;
GRANT SELECT (id, tenant, status, started_at) ON app.parts TO regress_esg_rls_ana;
SET SESSION AUTHORIZATION regress_esg_rls_ana;
SELECT relation, run_key FROM sync_guard.running_syncs WHERE relation = 'app.parts'::regclass;
SELECT sync_guard.sync_is_running(relation => 'app.parts');
SELECT jsonb_path_query_array(sync_guard.sync_status(relation => 'app.parts'), '$.recent_syncs[*].id');
RESET SESSION AUTHORIZATION;

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_rls;
DROP ROLE regress_esg_rls_member, regress_esg_rls_owner, regress_esg_rls_ana, regress_esg_rls_bob, regress_esg_rls_none, regress_esg_rls_auditor;
