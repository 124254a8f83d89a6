# Leases through PgBouncer in transaction mode, where a session is nobody's: each statement may reach the server through
# another connection, and connections end while the workers go on. Heartbeat leases do not care. A lease that was bound to
# such a session becomes a heartbeat lease as soon as something proves that the session is shared. docs/pooling.md has the
# table of what ends how; this is where it was seen.
#
# POOL_SECONDS=60 lets the workers work for so long at each pooler, instead of a few seconds.
use strict;
use warnings;

use File::Basename;
use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $python = -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';
my $workers = dirname(__FILE__) . '/../clients/pool_workers.py';
my $seconds = $ENV{POOL_SECONDS} // 7;
my ($bouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
plan skip_all => 'PgBouncer is not installed' unless $bouncer;
plan skip_all => 'PgBouncer does not run as root' if $> == 0;
# The signal at which it ends at once: since 1.23 TERM waits until all clients have gone.
my $at_once = `$bouncer --version` =~ /^PgBouncer 1\.(\d+)/ && $1 < 23 ? 'TERM' : 'QUIT';
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

my $node = guard_node('pgbouncer', preload => ['emag_sync_guard'], conf => 'max_connections = 50');
sub sql { return $node->safe_psql('postgres', $_[0]); }
$ENV{PGUSER} = sql('SELECT current_user');
$ENV{PGDATABASE} = 'postgres';

make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', exclusive => true);
	CREATE TABLE products (run text)});

# ---- the pooler ------------------------------------------------------------------------------------------------------------
my $folder = PostgreSQL::Test::Utils::tempdir_short;
my $port = PostgreSQL::Test::Cluster::get_free_port();
append_to_file("$folder/users.txt", qq{"$ENV{PGUSER}" ""\n});
my $pooler;
END { $pooler->kill_kill if $pooler; }

# Its settings beyond those that every test here has.
sub configure_pooler
{
	unlink "$folder/pgbouncer.ini";
	append_to_file("$folder/pgbouncer.ini", join("\n",
		'[databases]',
		'postgres = host=' . $node->host . ' port=' . $node->port . ' dbname=postgres',
		'[pgbouncer]',
		"unix_socket_dir = $folder", 'listen_addr =', "listen_port = $port", 'auth_type = trust', "auth_file = $folder/users.txt",
		"admin_users = $ENV{PGUSER}", 'pool_mode = transaction', "logfile = $folder/log", "pidfile = $folder/pid", @_, '') . "\n");
	return;
}

sub psql_of
{
	my ($database, $statement) = @_;
	local $ENV{PGHOST} = $folder;
	local $ENV{PGPORT} = $port;
	my ($out, $err) = ('', '');
	my $well = IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $database, '-c', $statement ], '>', \$out, '2>', \$err);
	chomp $out;
	return ($well, $out, $err);
}

# A statement through the pooler.
sub pooled
{
	my ($well, $out, $err) = psql_of('postgres', $_[0]);
	die "$_[0]: $err" unless $well;
	return $out;
}

sub start_pooler
{
	$pooler = IPC::Run::start([ $bouncer, '-q', "$folder/pgbouncer.ini" ], '<', \undef, '>', '/dev/null', '2>', '/dev/null');
	for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if (psql_of('pgbouncer', 'SHOW VERSION'))[0];
		select(undef, undef, undef, 0.05);
	}
	die 'PgBouncer does not answer';
}

# Ends it: the signals TERM or QUIT, and KILL; INT (which waits until transactions have ended), or its own command SHUTDOWN.
sub end_pooler
{
	my ($how) = @_;
	if   ($how eq 'SHUTDOWN') { psql_of('pgbouncer', 'SHUTDOWN'); }
	else                      { $pooler->signal($how); }
	eval { $pooler->finish; };
	undef $pooler;
	return;
}

# ---- single runs -------------------------------------------------------------------------------------------------------------
# Starts a run through the pooler; returns its token.
sub start_bound
{
	my ($name) = @_;
	return pooled(qq{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "$name"}', bind_session => true)});
}

# What memory has of a run's lease, and its ttl.
sub lease_of { return sql("SELECT lease, extract(epoch FROM ttl)::integer FROM sync_guard.tracked_runs WHERE token = $_[0]"); }

# A run as whoever asks is told: its status, whether it is judged dead, as what its lease counts.
sub seen
{
	return sql(qq{
		SELECT status, dead, r.lease FROM sync_guard.live_runs() AS r WHERE run_key = (SELECT run_key FROM sync_guard.leases WHERE token = $_[0])
		UNION ALL
		SELECT 'reaped', true, verdict FROM sync_guard.reaped_syncs WHERE run_key = (SELECT run_key FROM sync_guard.leases WHERE token = $_[0])});
}

# Waits until no connection of the pooler is there.
sub until_connections_ended
{
	poll_until($node, q{
		SELECT count(*) = 0 FROM pg_stat_activity
		WHERE backend_type = 'client backend' AND datname = 'postgres' AND pid <> pg_backend_pid()}, 'the pooler\'s connections end');
	return;
}

# Each way to an end: what it does to the session that the lease is bound to.
configure_pooler('default_pool_size = 1', 'server_idle_timeout = 5');
start_pooler();
my $token = start_bound('closed_by_pooler');
is(lease_of($token), 'session|', 'a lease that was bound through the pooler is bound to its connection');
until_connections_ended();
is(lease_of($token), 'heartbeat|60', 'the pooler closed the idle connection in good order: a heartbeat lease');
is(seen($token), 'running|f|heartbeat', 'the run is alive');
is(pooled("SELECT sync_guard.heartbeat($token)"), 't', 'its worker beats on through another connection');
end_pooler('KILL');
until_connections_ended();
is(seen($token), 'running|f|heartbeat', 'once it is a heartbeat lease, the violent end of the pooler is nothing to it');
start_pooler();
is(pooled("SELECT sync_guard.finish_sync($token, 'completed')"), '', 'and its worker finishes');

# A lifetime that is over, and what an administrator does.
configure_pooler('default_pool_size = 1', 'server_lifetime = 1');
end_pooler('INT');
start_pooler();
$token = start_bound('server_lifetime');
until_connections_ended();
is(lease_of($token), 'heartbeat|60', 'server_lifetime: a heartbeat lease');
configure_pooler('default_pool_size = 1');
end_pooler('INT');
start_pooler();
for my $command ('RECONNECT', 'PAUSE', 'INT')
{
	$token = start_bound($command);
	if   ($command eq 'INT') { end_pooler('INT'); }
	else                     { psql_of('pgbouncer', $command); }
	until_connections_ended();
	is(lease_of($token), 'heartbeat|60', ($command eq 'INT' ? 'the signal INT' : $command) . ': a heartbeat lease');
	psql_of('pgbouncer', 'RESUME') if $command eq 'PAUSE';
}
start_pooler();

# The limit: as long as nothing tells that the session is shared, its violent end is the end of the run.
for my $how ('KILL', $at_once, 'SHUTDOWN')
{
	$token = start_bound("limit_$how");
	is(pooled("SELECT sync_guard.heartbeat($token)"), 't', 'a beat through the same connection proves nothing');
	end_pooler($how);
	poll_until($node, "SELECT status <> 'running' FROM runs WHERE sync_type = 'limit_$how'", "$how: the run ends");
	is(seen($token), 'reaped|t|session_gone', "$how ends PgBouncer and its connections without a word: a lease that is still bound dies with it");
	start_pooler();
	is(pooled("SELECT sync_guard.heartbeat($token)"), 'f', 'which its worker learns at its next beat');
}

# A beat from elsewhere proves nothing while the canary lives, and everything when it is gone.
$token = start_bound('elsewhere');
is(sql("SELECT sync_guard.heartbeat($token)"), 't', 'a beat from another session');
is(lease_of($token), 'session|', 'the session that the lease is bound to holds its canary: it stays bound');
is(seen($token), 'running|f|session', 'to readers too, though that session is idle');
pooled('SELECT pg_advisory_unlock_all()');
is(seen($token), 'running|f|heartbeat', 'somebody else at that connection gave back all its locks: it counts as a heartbeat lease');
is(sql("SELECT sync_guard.heartbeat($token)"), 't', 'another beat from elsewhere');
is(lease_of($token), 'heartbeat|60', 'now it is one');
end_pooler('KILL');
until_connections_ended();
is(seen($token), 'running|f|heartbeat', 'the violent end of the pooler is nothing to it');

# With DISCARD ALL after each transaction the first COMMIT gives the canary back.
configure_pooler('default_pool_size = 1', 'server_reset_query = DISCARD ALL', 'server_reset_query_always = 1');
start_pooler();
$token = start_bound('discarded');
is(pooled('SELECT 1'), '1', 'the connection was reset');
is(seen($token), 'running|f|heartbeat', 'DISCARD ALL: without its canary it counts as a heartbeat lease, before any beat');
end_pooler('KILL');
until_connections_ended();
is(seen($token), 'running|f|heartbeat', 'the violent end of the pooler is nothing to it, nor then');
start_pooler();
is(pooled("SELECT sync_guard.heartbeat($token)"), 't', 'its worker beats on');
is(lease_of($token), 'heartbeat|60', 'and it is a heartbeat lease');
$token = start_bound('discarded_quietly');
my ($well, $out, $err) = psql_of('postgres', "SELECT sync_guard.heartbeat($token)");
is("$out|$err", 't|', 'where the beat comes from the same connection the change is quiet');
is(lease_of($token), 'heartbeat|60', 'and takes place');
is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '0', 'nothing of all this is dead');
end_pooler('INT');

# ---- many workers ------------------------------------------------------------------------------------------------------------
# Twenty workers on three connections, which time out all the time; the pooler ends meanwhile as told, and comes back.
sub many_workers
{
	my ($title, $bind, $ends, @settings) = @_;
	sql(q{UPDATE runs SET status = 'completed' WHERE status = 'running'; SELECT sync_guard.purge_journal('0')});
	configure_pooler('default_pool_size = 3', 'server_lifetime = 2', 'server_idle_timeout = 1', @settings);
	start_pooler();
	my ($printed, $trouble) = ('', '');
	local $ENV{DIRECT_HOST} = $node->host;
	local $ENV{DIRECT_PORT} = $node->port;
	my $load;
	{
		local $ENV{PGHOST} = $folder;
		local $ENV{PGPORT} = $port;
		$load = IPC::Run::start([ $python, $workers, $seconds, 20, $bind, '5s' ], '<', \undef, '>', \$printed, '2>', \$trouble,
			IPC::Run::timeout($seconds + 2 * $PostgreSQL::Test::Utils::timeout_default));
	}
	my $most = 0;
	for my $nth (1 .. @$ends)
	{
		my $second = int($seconds * $nth / (@$ends + 1));
		$load->pump until $printed =~ /^second $second$/m || !$load->pumpable;
		my $now = sql(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND query NOT LIKE '%stuck_syncs%' AND query NOT LIKE '%reap_stale%'}) - 1;
		$most = $now if $now > $most;
		end_pooler($ends->[ $nth - 1 ]);
		start_pooler();
	}
	ok($load->finish, "$title: the workers come to their end") or diag("$printed\n$trouble");
	end_pooler('INT');
	my ($line) = $printed =~ /^(runs=.*)$/m;
	my %figures = ($line // '') =~ /(\w+)=(\d+)/g;
	my ($unsure, $false) = map { my ($names) = $printed =~ /^$_: ?(.*)$/m; $names // 'nothing said' } qw(unsure false);
	note("$title: $line; unsure: " . scalar(split(/ /, $unsure)));
	cmp_ok($figures{runs} // 0, '>=', 2 * $seconds, "$title: runs in plenty");
	cmp_ok($figures{reconnects} // 0, '>=', scalar @$ends, "$title: connections broke");
	cmp_ok($most, '<=', 4, "$title: they shared a few connections");
	is($false, '', "$title: no run of a worker that lives was judged dead, at any time");
	is($figures{$_}, 0, "$title: $_ 0") for qw(stopped stale lost errors hanging);
	my $names = join(', ', "''", map { "'$_'" } split(/ /, $unsure));
	is(sql(qq{
		SELECT count(*) FILTER (WHERE event = 'reaped' AND sync_type NOT IN ($names)),
		       count(*) FILTER (WHERE event = 'late_finish'), count(*) FILTER (WHERE false_positive)
		FROM sync_guard.journal JOIN runs ON run_key = runs.id::text}), '0|0|0', "$title: none was reaped, none finished late, no false positive")
	  or diag($printed);
	is(sql(qq{SELECT count(*) FROM runs WHERE sync_type LIKE 'worker%' AND status <> 'completed' AND sync_type NOT IN ($names)}), '0',
		"$title: each ended as its worker wanted");
	sql('TRUNCATE runs');
	return;
}

SKIP:
{
	skip 'Python has no psycopg2', 1 if system("$python -c 'import psycopg2' >/dev/null 2>&1") != 0;
	many_workers('heartbeat leases', 'false', [ $at_once, 'KILL', 'SHUTDOWN' ]);
	many_workers('bound, DISCARD ALL', 'true', [ $at_once, 'KILL', 'SHUTDOWN' ], 'server_reset_query = DISCARD ALL', 'server_reset_query_always = 1');
	many_workers('bound, no reset', 'true', [ 'INT', 'INT' ]);
}

$node->stop;
done_testing();
