# A host is lost without a word: its link goes down, no FIN and no RST ever comes. The runs whose leases are bound to its
# sessions are closed within emag_sync_guard.detect_lost_host, whatever the session does at that time; a host whose link is
# up notices nothing. The hosts are network namespaces within a user namespace of our own, which need no privilege.
use strict;
use warnings;

# Before anything else is loaded, since the test starts anew within its namespaces, with the output that it was given.
BEGIN
{
	# Ends the file where it cannot run, and says why.
	sub not_here { print "1..0 # SKIP $_[0]\n"; exit 0; }

	if (!$ENV{ESG_IN_NAMESPACE} && !$^C)
	{
		not_here('network namespaces are of Linux') if $^O ne 'linux';
		not_here('PostgreSQL does not run as root') if $> == 0;
		for my $program (qw(ip unshare nsenter setpriv))
		{
			not_here("$program is not installed") unless grep { -x "$_/$program" } split(/:/, $ENV{PATH}), '/usr/sbin', '/sbin';
		}
		my @unshare = qw(unshare --user --map-current-user --keep-caps --net);
		$ENV{PATH} .= ':/usr/sbin:/sbin';
		not_here('this machine lets no user make a network namespace with virtual links')
		  if system("@unshare sh -c 'ip link set lo up && ip link add esg0 type veth peer name esg1' >/dev/null 2>&1") != 0;
		$ENV{ESG_IN_NAMESPACE} = 1;
		exec @unshare, $^X, (map { "-I$_" } @INC), $0 or not_here("unshare does not start: $!");
	}
}

use File::Basename;
use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $python = -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';
my $client = dirname(__FILE__) . '/../clients/net_client.py';
plan skip_all => 'Python has no psycopg2' if system("$python -c 'import psycopg2' >/dev/null 2>&1") != 0;
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

# Seconds: what is asked for, and what a loaded machine may need beyond it until the run is closed.
my ($lost_host, $margin) = (3, 10);

# ---- hosts -----------------------------------------------------------------------------------------------------------------
my %hosts;    # name => pid of the process that keeps its namespace
END { kill 'KILL', values %hosts if %hosts; }

sub run_or_die { system(@_) == 0 or die "@_ failed"; return; }

sub on_host { return ('nsenter', "--net=/proc/$hosts{$_[0]}/ns/net"); }

# A host that is linked to the server's: 10.77.N.2, the server being 10.77.N.1 there.
sub make_host
{
	my ($name, $n) = @_;
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		exec qw(unshare --net setpriv --pdeathsig KILL sleep 600) or die "unshare: $!";
	}
	$hosts{$name} = $pid;
	my $own = readlink('/proc/self/ns/net');
	for (1 .. 1000)
	{
		last if (readlink("/proc/$pid/ns/net") // $own) ne $own;
		select(undef, undef, undef, 0.01);
	}
	run_or_die('ip', 'link', 'add', "esg$n", 'type', 'veth', 'peer', 'name', 'up0', 'netns', $pid);
	run_or_die('ip', 'address', 'add', "10.77.$n.1/24", 'dev', "esg$n");
	run_or_die('ip', 'link', 'set', "esg$n", 'up');
	run_or_die(on_host($name), 'ip', 'address', 'add', "10.77.$n.2/24", 'dev', 'up0');
	run_or_die(on_host($name), 'ip', 'link', 'set', 'up0', 'up');
	return;
}

run_or_die('ip', 'link', 'set', 'lo', 'up');
make_host('lost', 1);
make_host('near', 2);
my %address = (lost => '10.77.1.1', near => '10.77.2.1');

# ---- the server, and clients on the hosts ------------------------------------------------------------------------------------
my $node = guard_node('network_cut', preload => ['emag_sync_guard'], conf => "listen_addresses = '10.77.1.1,10.77.2.1'");
append_to_file($node->data_dir . '/pg_hba.conf', "host all all 10.77.0.0/16 trust\n");
$node->reload;
sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}')});

# Starts a client and returns when its run is there: { token => …, run => harness, in, out }.
sub start_client
{
	my ($host, $name, $what) = @_;
	local $ENV{PGHOST} = $address{$host};
	local $ENV{PGPORT} = $node->port;
	local $ENV{PGUSER} = sql('SELECT current_user');
	local $ENV{PGDATABASE} = 'postgres';
	local $ENV{LOST_HOST} = "${lost_host}s";
	local $ENV{PAUSE} = 2 * $lost_host + 1;
	my %started = (name => $name, in => '', out => '');
	$started{run} = IPC::Run::start([ on_host($host), $python, $client, $name, $what ],
		'<', \$started{in}, '>', \$started{out}, '2>', \$started{err}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	output_of(\%started, qr/(?:token|refused|finished).*\n/);
	($started{token}) = $started{out} =~ /token (\d+)/;
	return \%started;
}

# Waits until the client has said this.
sub output_of
{
	my ($started, $pattern) = @_;
	$started->{run}->pump until $started->{out} =~ $pattern || !$started->{run}->pumpable;
	$started->{out} =~ $pattern or die "$started->{name} says: $started->{out}\n$started->{err}";
	return;
}

sub end_client
{
	my ($started) = @_;
	$started->{run}->finish;
	return $started->{out};
}

# How the run of a client stands: its status, and what closed it.
sub state_of
{
	my ($started) = @_;
	return sql(qq{
		SELECT status, j.verdict, j.path FROM runs LEFT JOIN sync_guard.reaped_syncs AS j ON run_key = id::text
		WHERE sync_type = '$started->{name}'});
}

# ---- what the session's options are --------------------------------------------------------------------------------------------
my $settings = start_client('near', 'settings', 'settings');
my %options = end_client($settings) =~ /^(before|bound|rolled_back|after) ([\d ]+)$/mg;
my ($idle, $interval, $count, $check, $unacknowledged) = split / /, $options{bound};
ok($idle > 0 && $idle + $interval * $count <= $lost_host && $check > 0 && $check <= 1000 * $lost_host,
	'with the lease the connection is probed so that a lost host shows in time')
  or diag($options{bound});
is($options{rolled_back}, $options{bound}, 'after a rollback the next heartbeat sets it again');
is($options{after}, $options{before}, 'the lease ended: as it was');
# It would tell of a lost host while rows are under way to it, which hold the probes up; and it ends living clients too.
is($unacknowledged, (split / /, $options{before})[4], 'tcp_user_timeout is left alone');

# ---- the cut -------------------------------------------------------------------------------------------------------------------
my @lost = map { start_client('lost', "lost_$_", $_) } qw(idle statement);
my @near = map { start_client('near', "near_$_", $_) } qw(idle statement receiving beating pausing);
output_of($near[4], qr/pauses/);
poll_until($node, q{
	SELECT count(*) = 3 FROM pg_stat_activity
	WHERE state = 'active' AND (application_name LIKE '%\_statement' OR application_name LIKE '%\_receiving')}, 'the long statements run');

my $cut = sql('SELECT clock_timestamp()');
run_or_die(on_host('lost'), 'ip', 'link', 'set', 'up0', 'down');
for my $session (@lost)
{
	poll_until($node, "SELECT status <> 'running' FROM runs WHERE sync_type = '$session->{name}'", "$session->{name}: its run ends");
	is(state_of($session), 'failed|session_gone|worker', "$session->{name}: the run is closed by the worker, session_gone");
	my $took = sql(qq{
		SELECT round(extract(epoch FROM reaped_at - '$cut'), 2) FROM sync_guard.reaped_syncs JOIN runs ON run_key = id::text
		WHERE sync_type = '$session->{name}'});
	$took = 1e9 if $took eq '';
	cmp_ok($took, '<=', $lost_host + $margin, "$session->{name}: within ${lost_host} s and a margin of ${margin} s");
	note(sprintf('%-16s the cut to the run closed: %6.2f s', $session->{name}, $took));
	poll_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = '$session->{name}'", "$session->{name}: the session is gone");
}

# ---- who is near ---------------------------------------------------------------------------------------------------------------
# One that is not ready to read for longer than the time after which a host counts as lost is not lost.
like(end_client($near[4]), qr/^finished$/m, 'near: a client that pauses in the midst of its rows gets them all and finishes')
  or diag($near[4]{err});
is(state_of($near[4]), 'completed||', 'its run is completed');
is(sql(q{SELECT string_agg(sync_type, ' ' ORDER BY sync_type) FROM runs WHERE status = 'running'}),
	'near_beating near_idle near_receiving near_statement', 'near: the others run on');
is(sql(q{SELECT count(*) FROM sync_guard.stuck_syncs}), '0', 'none is judged dead');
for my $session (@near[0, 3])
{
	like(end_client($session), qr/^finished$/m, "near: $session->{name} finishes");
	is(state_of($session), 'completed||', 'its run is completed');
}
like($near[3]{out}, qr/^beats [1-9]\d* 0$/m, 'near: no heartbeat was refused');

# A client that is killed is gone at once, on the host that is near.
for my $session (@near[1, 2])
{
	$cut = sql('SELECT clock_timestamp()');
	$session->{run}->signal('KILL');
	$session->{run}->finish;
	poll_until($node, "SELECT status <> 'running' FROM runs WHERE sync_type = '$session->{name}'", "$session->{name}: killed, its run ends");
	is(state_of($session), 'failed|session_gone|worker', "$session->{name}: closed by the worker, session_gone");
}

# ---- the link comes back -----------------------------------------------------------------------------------------------------
run_or_die(on_host('lost'), 'ip', 'link', 'set', 'up0', 'up');
my $late = start_client('lost', $lost[0]{token}, 'finish');
like($late->{out}, qr/^refused SY003$/m, 'the link is up again: what the lost worker wants to finish is not its run any more');
end_client($late);
is(state_of($lost[0]), 'failed|session_gone|worker', 'which stays as it was closed');

$_->{run}->kill_kill for @lost;
$node->stop;
done_testing();
