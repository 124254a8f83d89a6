# pg_cron reaps as a superuser, and a table's owner has planted his code where the reaping meets it. He stays what he was, the
# superuser's own tables are as they were, and the other tables' runs are closed. It takes up to a minute to come round.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('hostile_owner', preload => ['pg_cron']);

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE EXTENSION pg_cron;
	CREATE ROLE thief LOGIN;
	CREATE SCHEMA thief AUTHORIZATION thief;
	CREATE TABLE trap (what text, who name);
	-- What ran, and as whom: a table of his own, written from wherever his code comes to.
	SET ROLE thief;
	CREATE TABLE thief.log (place text, who name);
	CREATE FUNCTION thief.spring(place text) RETURNS void LANGUAGE plpgsql AS $$
	DECLARE
		attempt text;
	BEGIN
		FOREACH attempt IN ARRAY ARRAY['INSERT INTO trap VALUES (%L, current_user)', 'ALTER ROLE thief SUPERUSER', 'RESET ROLE',
			'SET ROLE postgres', 'SET SESSION AUTHORIZATION DEFAULT', 'INSERT INTO trap VALUES (%L, current_user)', 'ALTER ROLE thief SUPERUSER',
			$a$SELECT cron.schedule('* * * * *', 'ALTER ROLE thief SUPERUSER')$a$, 'CREATE TEMP TABLE log (place text, who name)'] LOOP
			BEGIN
				EXECUTE format(attempt, place);
			EXCEPTION WHEN OTHERS THEN
				NULL;
			END;
		END LOOP;
		INSERT INTO thief.log VALUES (place, current_user);
	END $$;
	CREATE FUNCTION thief.trigger() RETURNS trigger LANGUAGE plpgsql AS
		'BEGIN PERFORM thief.spring(TG_ARGV[0]); RETURN NEW; END';
	CREATE FUNCTION thief.checks(text) RETURNS boolean LANGUAGE plpgsql AS
		$$BEGIN PERFORM thief.spring('check'); RETURN $1 IN ('running', 'completed', 'failed'); END$$;
	CREATE TYPE thief.state AS ENUM ('running', 'completed', 'failed');
	CREATE FUNCTION thief.state_text(thief.state) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		-- While it is read he can write nothing, not even his own log.
		BEGIN PERFORM thief.spring('cast'); EXCEPTION WHEN OTHERS THEN NULL; END;
		RETURN CASE WHEN $1 < 'completed' THEN 'running' WHEN $1 < 'failed' THEN 'completed' ELSE 'failed' END;
	END $$;
	CREATE CAST (thief.state AS text) WITH FUNCTION thief.state_text(thief.state);
	CREATE TABLE thief.triggers (id int PRIMARY KEY, status text CHECK (thief.checks(status)), started_at timestamptz);
	CREATE TRIGGER a BEFORE UPDATE ON thief.triggers FOR EACH ROW EXECUTE FUNCTION thief.trigger('before');
	CREATE TRIGGER b AFTER UPDATE ON thief.triggers FOR EACH ROW EXECUTE FUNCTION thief.trigger('after');
	CREATE TABLE thief.deferred (id int PRIMARY KEY, status text CHECK (status IN ('running', 'completed', 'failed')), started_at timestamptz);
	CREATE CONSTRAINT TRIGGER a AFTER UPDATE ON thief.deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION thief.trigger('deferred');
	CREATE TABLE thief.casts (id int PRIMARY KEY, status thief.state, started_at timestamptz)});

# He adopts them himself, in a session of his own, and starts runs that will be dead.
{
	local $ENV{PGUSER} = 'thief';
	sql(q{
		SELECT sync_guard.guard_table(t, live_statuses => '{running}', failed_status => 'failed') FROM unnest('{thief.triggers,thief.deferred,thief.casts}'::regclass[]) AS t;
		INSERT INTO thief.triggers VALUES (1, 'running', '2020-01-01');
		INSERT INTO thief.deferred VALUES (1, 'running', '2020-01-01');
		INSERT INTO thief.casts VALUES (1, 'running', '2020-01-01');
		TRUNCATE thief.log});
}
# An honest table, whose name comes last.
make_run_table($node, 'zz_honest');
sql(q{SELECT sync_guard.guard_table('zz_honest')});
start_run($node, 'zz_honest', 'products', '2 hours');

is(sql(q{SELECT sync_guard.schedule_reaping() > 0}), 't', 'a superuser schedules');
my $log = -s $node->logfile;
poll_until($node, q{SELECT count(*) = 1 FROM zz_honest WHERE status = 'failed'}, 'pg_cron reaps the honest table');
is(sql(q{SELECT path, role = 'postgres' FROM sync_guard.reaped_syncs WHERE relation_name = 'public.zz_honest'}), 'pg_cron|t', 'as the superuser');
is(sql(q{SELECT (SELECT status FROM thief.triggers), (SELECT status FROM thief.casts), (SELECT status FROM thief.deferred)}),
	'failed|failed|running', 'of the others, those that can be closed are');
is(sql(q{SELECT DISTINCT place, who FROM thief.log ORDER BY 1}), "after|thief\nbefore|thief\ncast|thief\ncheck|thief", 'what the owner planted ran as the owner');
is(sql('SELECT count(*) FROM trap'), '0', 'the trap is empty');
is(sql(q{SELECT rolsuper, (SELECT count(*) FROM pg_auth_members WHERE member = 'thief'::regrole), (SELECT count(*) FROM cron.job) FROM pg_roles WHERE rolname = 'thief'}),
	'f|0|1', 'he stays what he was');
$node->wait_for_log(qr/could not close run 1 of table thief\.deferred: cannot fire deferred trigger within security-restricted operation/, $log);
pass('what was refused is in the log');
is(sql(q{SELECT last_status FROM sync_guard.reaping_schedule}), 'succeeded', 'and does not fail the job');

$node->stop;
done_testing();
