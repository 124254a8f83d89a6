# sync_is_running() asks an index and one entry in memory where it can, and plans are kept per session: the answer is the one that a
# look at all rows gives, nobody's code runs as the caller, and what is planned or opened on the way is given back.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('quick_answers', preload => ['emag_sync_guard']);

sub sql { return $node->safe_psql('postgres', "SET statement_timeout = '1min'; $_[0]"); }

# What a new session prints, warnings too.
sub all_of
{
	my (undef, $stdout, $stderr) = $node->psql('postgres', "SET statement_timeout = '1min'; $_[0]");
	return join "\n", grep { $_ ne '' } $stdout, $stderr;
}

sql(q{
	CREATE TABLE runs (id integer PRIMARY KEY, sync_type text, status text NOT NULL, started_at timestamptz DEFAULT now(), finished_at timestamptz);
	CREATE INDEX runs_status ON runs (status);
	SELECT sync_guard.guard_table('runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}')});

# ---- a savepoint that took a run up again, and was rolled back, in a transaction that goes on ----------------------------------
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe(q{
	BEGIN;
	INSERT INTO runs VALUES (1, 'products', 'running');
	SAVEPOINT s;
	DELETE FROM runs WHERE id = 1;
	INSERT INTO runs VALUES (1, 'products', 'running');
	ROLLBACK TO s});
is(sql(q{SELECT sync_guard.sync_is_running('products')}), 't', 'it is running for who asks first');
is(sql(q{SELECT sync_guard.sync_is_running('products'), sync_guard.sync_is_running('orders')}), 't|f', 'and for who asks then');
is($session->query_safe(q{SELECT sync_guard.sync_is_running('products')}), 't', 'and for its own session');
$session->query_safe('ROLLBACK');
is(sql(q{SELECT sync_guard.sync_is_running('products')}), 'f', 'rolled back, it is not');

# ---- an index that somebody keeps for himself ----------------------------------------------------------------------------------
sql(q{CREATE INDEX runs_later ON runs (sync_type); INSERT INTO runs VALUES (2, 'products', 'running')});
$session->query_safe('BEGIN; REINDEX INDEX runs_later');
is(all_of(q{SELECT sync_guard.sync_is_running('products')}), 't', 'a later index that is locked does not matter');
$session->query_safe('ROLLBACK; BEGIN; REINDEX INDEX runs_status');
is(all_of(q{SELECT 1}), '1', 'who asks nothing waits for nothing');
$session->query_safe('ROLLBACK');
$session->quit;
is(all_of(q{SELECT sync_guard.sync_is_running('products')}), 't', 'and nothing was left open');

# ---- values that are equal though their bytes are not --------------------------------------------------------------------------
sql(q{
	CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE TABLE loose_runs (id integer PRIMARY KEY, sync_type text COLLATE loose, status text COLLATE loose NOT NULL, started_at timestamptz DEFAULT now(),
		finished_at timestamptz);
	SELECT sync_guard.guard_table('loose_runs', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}');
	INSERT INTO loose_runs VALUES (1, 'Products', 'running')});
is(sql(q{SELECT sync_guard.sync_is_running('PRODUCTS', 'loose_runs')}), 't', 'a loose collation finds it without an index');
sql('CREATE INDEX ON loose_runs (status)');
is(sql(q{SELECT sync_guard.sync_is_running('PRODUCTS', 'loose_runs'), sync_guard.sync_is_running('orders', 'loose_runs')}), 't|f', 'and with one');

# ---- code of a table's owner ---------------------------------------------------------------------------------------------------
sql(q{
	CREATE ROLE thief LOGIN;
	CREATE SCHEMA thief AUTHORIZATION thief;
	CREATE TABLE trap (who name);
	GRANT INSERT ON trap TO PUBLIC;
	SET ROLE thief;
	CREATE TABLE thief.runs (id integer PRIMARY KEY, sync_type text, status text NOT NULL, started_at timestamptz DEFAULT now(), finished_at timestamptz);
	CREATE TABLE thief.others (LIKE thief.runs INCLUDING ALL);
	SELECT sync_guard.guard_table(t, live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}')
		FROM unnest('{thief.runs,thief.others}'::regclass[]) AS t;
	INSERT INTO thief.runs VALUES (1, 'products', 'running');
	CREATE FUNCTION thief.boost() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF current_user <> 'thief' THEN
			EXECUTE 'ALTER ROLE thief SUPERUSER';
		END IF;
	END $$;
	CREATE FUNCTION thief.evil(integer) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM thief.boost(); RETURN true; END';
	CREATE INDEX runs_status ON thief.runs (status) WHERE thief.evil(1)});
is(sql(q{SELECT sync_guard.sync_is_running('products', 'thief.runs'), rolsuper FROM pg_roles WHERE rolname = 'thief'}), 't|f', 'an index with a predicate is asked');
is(sql(q{SELECT rolsuper FROM pg_roles WHERE rolname = 'thief'}), 'f', 'and its function did not run as a superuser');

# A function that planning calls asks so much itself that its session gives kept plans back: not the one that is being planned.
sql(q{
	SET ROLE thief;
	CREATE OR REPLACE FUNCTION thief.boost() RETURNS void LANGUAGE plpgsql AS $$
	BEGIN
		IF current_setting('thief.asks', true) = 'on' THEN
			PERFORM pg_advisory_lock(4711);  -- stays, whatever is set back
			FOR i IN 1 .. 240 LOOP
				PERFORM sync_guard.scope_is_running(jsonb_build_object('sync_type', 'x' || i / 3), 'thief.others');
			END LOOP;
		END IF;
	END $$});
my $superuser = $node->background_psql('postgres', on_error_stop => 1);
my $explain = q{SELECT count(*) > 0 FROM sync_guard.explain_run('thief.runs', '1')};
is($superuser->query_safe($explain), 't', "plan $_ is made") for 1 .. 3;
sql(q{SET ROLE thief; ALTER TABLE thief.runs SET (fillfactor = 90); REINDEX INDEX thief.runs_status});
$superuser->query_safe(q{SET thief.asks = on});
is($superuser->query_safe($explain), 't', 'a statement whose planning asks the guard much is that statement still');
is(sql(q{SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711}), 't', 'it did ask');
$superuser->query_safe(q{SET thief.asks = off});
is($superuser->query_safe($explain), 't', 'and after it');
$superuser->quit;

$node->stop;
done_testing();
