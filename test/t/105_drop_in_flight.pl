# The extension is dropped, and whole databases, with everything in flight: bound leases, open transactions, sweeps, readers,
# listeners, workers that were asked for. Nothing hangs, nothing crashes, nothing internal is shown, what shared memory
# holds of them goes, and a new extension begins anew. A database is copied and renamed.
use strict;
use warnings;

use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes 'time';

my $node = guard_node('in_flight', extension => 0, preload => ['emag_sync_guard'], conf => qq{
	emag_sync_guard.restart_grace = 0
	max_connections = 60
	max_prepared_transactions = 5
});

sub sql { return $node->safe_psql($_[0], $_[1]); }

# No longer than this may anything here wait; what it took is printed.
my $bound = 90;

sub takes_no_longer
{
	my ($name, $what) = @_;
	my $began = time;
	my $answer = $what->();
	my $took = time - $began;
	diag(sprintf '%s: %.2f s', $name, $took);
	cmp_ok($took, '<', $bound, "$name: it does not hang");
	return $answer;
}

sub make_database
{
	my ($name) = @_;
	sql('postgres', "CREATE DATABASE $name");
	sql($name, q{
		CREATE EXTENSION emag_sync_guard;
		CREATE TABLE runs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sync_type text NOT NULL,
			status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')), started_at timestamptz NOT NULL DEFAULT now(),
			completed_at timestamptz, errors jsonb, processed_items integer NOT NULL DEFAULT 0);
		CREATE INDEX ON runs (status);
		SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', exclusive => true)});
	return;
}

# Sessions of every kind in that database.
sub open_sessions
{
	my ($database) = @_;
	my @sessions;
	for my $number (1 .. 6)
	{
		my $bound_one = $node->background_psql($database, on_error_stop => 0);
		$bound_one->query(qq{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "bound $number"}', bind_session => true)});
		push @sessions, $bound_one;
	}
	my $uncommitted = $node->background_psql($database, on_error_stop => 0);
	$uncommitted->query(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('uncommitted')});
	my $listener = $node->background_psql($database, on_error_stop => 0);
	$listener->query('LISTEN emag_sync_guard');
	$_->set_query_timer_restart() for @sessions, $uncommitted, $listener;
	return (@sessions, $uncommitted, $listener);
}

# Clients that start, beat, end, reap and read as fast as they can, each statement a transaction, and count what they get. They
# go on to ask where there is no extension any more, until they are told to stop or their database goes.
sub start_clients
{
	my ($database, $clients) = @_;
	sql('postgres', q{CREATE TABLE IF NOT EXISTS stop (stopped boolean)});
	sql($database, q{
		DROP TABLE IF EXISTS outcomes, stop;
		CREATE UNLOGGED TABLE outcomes (state text, message text);
		CREATE TABLE stop (stopped boolean);
		CREATE OR REPLACE PROCEDURE work(client integer) LANGUAGE plpgsql AS $$
		DECLARE
			statements text[] := ARRAY[
				format('INSERT INTO runs (sync_type) VALUES (%L)', 'client ' || client),
				format('UPDATE runs SET processed_items = processed_items + 1 WHERE sync_type = %L AND status = ''running''', 'client ' || client),
				format('UPDATE runs SET status = ''completed'' WHERE sync_type = %L AND status = ''running''', 'client ' || client),
				format('SELECT sync_guard.heartbeat(token) FROM sync_guard.start_sync(''runs'', ''{"sync_type": "leased %s"}'')', client),
				format('INSERT INTO runs (sync_type, started_at) VALUES (%L, ''2020-01-01'')', 'dead ' || client),
				'SELECT sync_guard.reap_stale_syncs()',
				'SELECT sync_guard.sync_status()', 'SELECT count(*) FROM sync_guard.guard_health', 'SELECT count(*) FROM sync_guard.sync_status_overview',
				'SELECT count(*) FROM sync_guard.alerts', 'SELECT count(*) FROM sync_guard.tracked_runs', 'SELECT sync_guard.repair_triggers(''runs'')'];
			state text;
			message text;
		BEGIN
			SET client_min_messages = error;
			WHILE NOT EXISTS (SELECT FROM stop) LOOP
				FOR i IN 1 .. cardinality(statements) LOOP
					state := 'ok';
					message := NULL;
					BEGIN
						EXECUTE statements[i];
					EXCEPTION WHEN OTHERS THEN
						state := SQLSTATE;
						message := SQLERRM;
					END;
					INSERT INTO outcomes VALUES (state, message);
					COMMIT;
				END LOOP;
			END LOOP;
		END $$});
	my @running = map {
		my %client = (out => '');
		$client{run} = IPC::Run::start([ 'psql', '-Xq', '-d', $node->connstr($database), '-c', "CALL work($_)" ], '>', \$client{out}, '2>&1',
			IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
		\%client
	} 1 .. $clients;
	poll_until($node, 'SELECT count(*) > 50 FROM outcomes', 'the clients work', $database) or die;
	return @running;
}

sub memory_of
{
	my ($database) = @_;
	return "SELECT count(*) FROM sync_guard.tracked_runs WHERE database = $database";
}

# It locks what clients lock in another order: the server may end either side of such a deadlock, as with other DDL. Who is
# ended tries again.
sub drop_extension
{
	my ($database) = @_;
	my ($tries, $stderr) = (0, '40P01');
	while ($stderr =~ /40P01/ && $tries < 20)
	{
		++$tries;
		$node->psql($database, 'SET client_min_messages = error; DROP EXTENSION emag_sync_guard', stderr => \$stderr, extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	}
	diag("the extension was dropped at try $tries");
	return $stderr;
}

# ---- DROP EXTENSION ------------------------------------------------------------------------------------------------------------
make_database('app');
my $app = sql('postgres', q{SELECT oid FROM pg_database WHERE datname = 'app'});
my @sessions = open_sessions('app');
my @clients = start_clients('app', 3);
is(sql('app', q{SELECT count(*) FROM sync_guard.tracked_runs WHERE lease = 'session'}), '6', 'six runs are bound to their sessions');
my (undef, undef, $stderr) = $node->psql('app', q{SET lock_timeout = '1s'; DROP EXTENSION emag_sync_guard}, extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
like($stderr, qr/ERROR:  55P03/, 'DROP EXTENSION waits for who has an open transaction on a guarded table, as any DDL does');
$sessions[6]->query('COMMIT');
is(takes_no_longer('DROP EXTENSION while clients work', sub { drop_extension('app') }), '', 'it is dropped');
is(sql('app', q{SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal}), '0', 'no trigger is left');
my $seen = sql('app', 'SELECT count(*) FROM outcomes');
poll_until($node, "SELECT count(*) > $seen + 200 FROM outcomes", 'the clients go on', 'app');
sql('app', q{CREATE EXTENSION emag_sync_guard; SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', exclusive => true)});
$seen = sql('app', 'SELECT count(*) FROM outcomes');
poll_until($node, "SELECT count(*) > $seen + 100 FROM outcomes", 'the clients go on with the new one', 'app');
is(takes_no_longer('DROP EXTENSION again', sub { drop_extension('app') }), '', 'it is dropped again');
sql('app', 'INSERT INTO stop VALUES (true)');
$_->{run}->finish for @clients;
is(join('', map { $_->{out} } @clients), '', 'all clients came through');
diag('what their statements got: ' . sql('app', q{SELECT string_agg(state || ' ' || n, ', ' ORDER BY n DESC) FROM (SELECT state, count(*) AS n FROM outcomes GROUP BY 1) AS o}));
is(sql('app', q{SELECT string_agg(DISTINCT state || ' ' || message, E'\n') FROM outcomes WHERE state LIKE 'XX%'}), '', 'none was told of anything internal');
is(sql('app', q{SELECT string_agg(DISTINCT state, ' ') FROM outcomes WHERE state NOT IN ('ok', '3F000', '42P01', '42883', 'SY002', '40P01', '55P03', 'SY004')}), '',
	'only of what is not there, locked, or running already');
is(sql('app', q{SELECT count(*) > 0 FROM outcomes WHERE state = 'ok'}), 't', 'and of success');

# Who waits for the guard's tables while it is dropped: it is not installed any more; or it is, the old one or a new one.
my $drop = 'DROP EXTENSION emag_sync_guard';
for my $way ([ $drop, 'ROLLBACK', qr/^f$/ ], [ $drop, 'COMMIT', qr/^ERROR:  (3F000|42P01|42883)$/ ],
	[ "$drop; CREATE EXTENSION emag_sync_guard", 'COMMIT', qr/^ERROR:  SY004$/ ])
{
	my ($ddl, $end, $expected) = @$way;
	sql('app', q{SET client_min_messages = error; CREATE EXTENSION IF NOT EXISTS emag_sync_guard;
		SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', exclusive => true)});
	my $dropper = $node->background_psql('app', on_error_stop => 1);
	$dropper->query_safe("SET client_min_messages = error; BEGIN; $ddl");
	my $answer = '';
	my $asking = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=sqlstate', '-d', $node->connstr('app'), '-c', q{SELECT sync_guard.sync_is_running('nothing', 'runs')} ],
		'>', \$answer, '2>&1', IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	poll_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT sync_guard.%'}, "$ddl, $end: somebody waits for it");
	$dropper->query_safe($end);
	$asking->finish;
	like($answer, $expected, "$ddl, $end: who waited for it is told what there is then");
	$dropper->quit;
}
sql('app', "SET client_min_messages = error; DROP EXTENSION IF EXISTS emag_sync_guard");

# Bound sessions go on without it, and end.
is($sessions[0]->query(q{INSERT INTO runs (sync_type) VALUES ('after') RETURNING sync_type}), 'after', 'a session that had a bound lease works on');
$_->quit for @sessions[1, 2];
kill 'KILL', $_->{run}->{KIDS}[0]{PID} for @sessions[3, 4, 5];
poll_until($node, q{SELECT count(*) = 3 FROM pg_stat_activity WHERE datname = 'app' AND backend_type = 'client backend'}, 'five sessions end');
sql('app', q{CREATE EXTENSION emag_sync_guard; SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', exclusive => true)});
poll_until($node, 'SELECT requests_open = 0 FROM sync_guard.guard_memory', 'workers that they asked for find nothing to do, and no request stays open', 'app');
is(sql('app', q{SELECT count(*) FROM sync_guard.leases}), '0', 'of the leases of before nothing is left');
sql('app', q{SELECT sync_guard.reap_stale_syncs(NULL, 'runs')});
is(sql('app', q{SELECT count(*) FROM runs AS r WHERE status = 'running' AND sync_type LIKE 'bound%'}), '6', 'runs that had them are judged by their rows alone');
sql('app', q{SELECT sync_guard.reap_stale_syncs('1 microsecond', 'runs', true)});
is(sql('app', q{SELECT count(*) FROM runs WHERE status = 'running'}), '0', 'and reaped by them');
is(sql('app', memory_of($app)), '0', 'nothing of them stays in memory');
$_->quit for grep { defined } @sessions[0, 6, 7];

# ---- DROP DATABASE -------------------------------------------------------------------------------------------------------------
@sessions = open_sessions('app');
is(sql('app', memory_of($app)), '7', 'seven runs are in memory');
@clients = start_clients('app', 3);
takes_no_longer('DROP DATABASE WITH (FORCE) while clients work', sub { sql('postgres', 'DROP DATABASE app WITH (FORCE)') });
$_->{run}->finish for @clients;
is(scalar(grep { $_->{out} =~ /terminating connection due to administrator command/ } @clients), 3, 'its clients are ended');
make_database('other');
sql('postgres', 'CREATE EXTENSION emag_sync_guard');
poll_until($node, 'SELECT requests_open = 0 FROM sync_guard.guard_memory', 'no request of a worker for it stays open');
poll_until($node, 'SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE \'%emag_sync_guard%\'', 'no worker stays');
cmp_ok(sql('postgres', 'SELECT used FROM sync_guard.guard_memory'), '>=', 7, 'its runs are in memory');
sql('other', 'SELECT sync_guard.reap_stale_syncs()');
is(sql('postgres', 'SELECT used FROM sync_guard.guard_memory'), '0', 'until a sweep of any other database forgets them');

# Again, of the same name.
make_database('app');
sql('app', q{INSERT INTO runs (sync_type, started_at) VALUES ('x', '2020-01-01')});
is(sql('app', 'SELECT sync_guard.reap_stale_syncs()'), '1', 'a new database of its name begins anew');

# ---- copied and renamed --------------------------------------------------------------------------------------------------------
my ($key, $token) = split /\|/, sql('app', q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "leased"}', ttl => '1 hour')});
sql('postgres', 'CREATE DATABASE copy TEMPLATE app');
is(sql('copy', q{SELECT string_agg(relation::text, ' ') FROM sync_guard.guarded_tables}), 'runs', 'a database made from a guarded one is guarded');
is(sql('copy', q{SELECT count(*) FROM sync_guard.guard_health WHERE severity IN ('error', 'warning')}), '0', 'and well');
is(sql('copy', q{SELECT sync_guard.reap_stale_syncs('1 microsecond', even_if_alive => true)}), '1', 'what it closes');
is(sql('app', "SELECT verdict FROM sync_guard.live_runs() WHERE run_key = '$key'"), 'live', 'is live in the one it was made from');
is(sql('app', "SELECT sync_guard.heartbeat($token)"), 't', 'to its worker, too');
is(sql('copy', "SELECT sync_guard.heartbeat($token)"), 'f', 'who would be told in the copy that it was reaped');
sql('postgres', 'ALTER DATABASE app RENAME TO renamed');
is(sql('renamed', "SELECT sync_guard.heartbeat($token), (SELECT verdict FROM sync_guard.live_runs() WHERE run_key = '$key')"), 't|live', 'renamed, its leases and memory are its own');
my $bound_one = $node->background_psql('renamed', on_error_stop => 1);
my ($bound_key) = split /\|/, $bound_one->query_safe(q{SELECT key FROM sync_guard.start_sync('runs', '{"sync_type": "bound"}', bind_session => true)});
kill 'KILL', $bound_one->{run}->{KIDS}[0]{PID};
poll_until($node, "SELECT status = 'failed' FROM runs WHERE id = $bound_key", 'and its workers come', 'renamed');

unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|terminated by signal|server process .* exited|XX000/, 'the server\'s log tells of no crash and no internal error');
$node->stop;
done_testing();
