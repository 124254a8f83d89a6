# Clients that are frozen (SIGSTOP): their connections stand, their sessions live, they do not. Past their ttl their runs are
# dead for every reader; thawed, they are told so and can write nothing more. In a fenced transaction the run is alive, and
# said to be fenced, until the server ends that transaction after the ttl.
use strict;
use warnings;

use GuardNode;
use LeaseFleet;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => fleet_missing() if fleet_missing();

my $node = guard_node('frozen', preload => ['emag_sync_guard']);

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC');
	CREATE TABLE products (run text NOT NULL)});
my $fleet = LeaseFleet->new($node);

sub state_of
{
	return sql(qq{
		SELECT status, j.verdict, j.path FROM runs LEFT JOIN sync_guard.reaped_syncs AS j ON run_key = id::text
		WHERE sync_type = '$_[0]_0'});
}

# What readers say of the run of a client: alive, as what; dead, as what.
sub verdict_of
{
	return sql(qq{
		SELECT (SELECT verdict FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' = '$_[0]_0'),
			   (SELECT verdict FROM sync_guard.stuck_syncs WHERE scope ->> 'sync_type' = '$_[0]_0')});
}

sub until_verdict
{
	my ($name, $verdict) = @_;
	poll_until($node, "SELECT verdict = '$verdict' FROM sync_guard.live_runs() WHERE scope ->> 'sync_type' = '${name}_0'", "$name becomes $verdict")
	  or diag(verdict_of($name));
	return;
}

# Opens a client and starts its run.
sub start_client
{
	my ($name, $terms) = @_;
	$fleet->ask("open $name 1");
	my $started = $fleet->counts(qq{do $name SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', $terms)});
	like(join(' ', keys %$started), qr/^\d{6,}$/, "$name: has started");
	return;
}

# What a call of a client is answered: its result, or the SQLSTATE.
sub answer { return join(' ', keys %{ $fleet->counts($_[0]) }); }

# ---- heartbeat leases ---------------------------------------------------------------------------------------------------------
# One is found by whoever reads, one by the reaping, one by its own heartbeat.
start_client($_, "ttl => '2 seconds'") for qw(read reaped);
start_client('awake', "ttl => '1 minute'");
$fleet->ask("keep awake 0.2 SELECT sync_guard.heartbeat({token})");
$fleet->ask("signal $_ STOP") for qw(read reaped);
until_verdict('read', 'heartbeat_lost');
is(verdict_of('read'), '|heartbeat_lost', 'frozen past its ttl: dead for every reader');
is(sql(q{SELECT sync_guard.sync_is_running('read_0'), sync_guard.sync_is_running('awake_0')}), 'f|t', 'and not running; who beats is');
is(sql(q{SELECT count(*) FROM sync_guard.running_syncs WHERE verdict = 'live'}), '1', 'one of the three is alive');
like(sql(q{SELECT why FROM sync_guard.stuck_syncs WHERE scope ->> 'sync_type' = 'read_0'}),
	qr/^heartbeat_lost: no heartbeat for [\d.]+ s, ttl 2 s$/, 'the reason has the figures');
until_verdict('reaped', 'heartbeat_lost');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE application_name IN ('read_0', 'reaped_0') AND state = 'idle'}), '2',
	'their sessions are there all the same');
is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '2', 'the reaping closes them');
is(state_of($_), 'failed|heartbeat_lost|call', "$_: closed, heartbeat_lost") for qw(read reaped);
is(state_of('awake'), 'running||', 'and not the third');

$fleet->ask("signal $_ CONT") for qw(read reaped);
for my $name (qw(read reaped))
{
	is(answer("do $name SELECT sync_guard.heartbeat({token}, 7, 10)"), 'f', "$name, thawed: its heartbeat says false");
	is(answer("do $name SELECT sync_guard.finish_sync({token}, 'completed')"), 'SY003', "$name: it cannot finish");
	is(answer("do $name SELECT sync_guard.fence({token})"), '25P01', "$name: a fence needs a transaction");
	$fleet->ask("do $name BEGIN");
	$fleet->ask("do $name INSERT INTO products VALUES ('{name}')");
	is(answer("do $name SELECT sync_guard.fence({token})"), 'SY003', "$name: a fence taken now fails");
	$fleet->ask("do $name COMMIT");
	is(answer("do $name SELECT sync_guard.heartbeat({token})"), 'f', "$name: and so it stays");
}
is(sql('SELECT count(*) FROM products'), '0', 'what they brought in is not there');
is(state_of($_), 'failed|heartbeat_lost|call', "$_: as it was closed") for qw(read reaped);
my $beats = $fleet->counts('hush awake');
is(join(' ', keys %$beats), 't', 'the third was told true each time');
is(answer("do awake SELECT sync_guard.finish_sync({token}, 'completed')"), '', 'and finishes');

# Dead, but not closed yet: its own sign of life brings it back.
start_client('revived', "ttl => '1 second'");
$fleet->ask('signal revived STOP');
until_verdict('revived', 'heartbeat_lost');
$fleet->ask('signal revived CONT');
is(answer('do revived SELECT sync_guard.heartbeat({token})'), 't', 'lapsed and not reaped: a heartbeat says true');
$fleet->ask('keep revived 0.1 SELECT sync_guard.heartbeat({token})');
until_verdict('revived', 'live');
is(answer('hush revived'), 't', 'and is alive as long as it beats');
is(answer("do revived SELECT sync_guard.finish_sync({token}, 'completed')"), '', 'it finishes');

# A bound lease with a ttl: the session is there, the client is not.
start_client('bound', "ttl => '2 seconds', bind_session => true");
$fleet->ask('signal bound STOP');
until_verdict('bound', 'heartbeat_lost');
is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '1', 'bound, with a ttl: closed when that has passed');
is(state_of('bound'), 'failed|heartbeat_lost|call', 'heartbeat_lost');
$fleet->ask('signal bound CONT');
is(answer('do bound SELECT sync_guard.heartbeat({token})'), 'f', 'thawed, it is told');

# Without one it is alive as long as its session is, up to max_silence.
start_client('patient', "bind_session => true");
$fleet->ask('signal patient STOP');
is(verdict_of('patient'), 'live|', 'bound, without a ttl: alive while its session is');
sql(q{SELECT sync_guard.set_limit('runs', '{"sync_type": "patient_0"}', max_silence => '2 seconds')});
until_verdict('patient', 'silent');
is(verdict_of('patient'), '|silent', 'until max_silence has passed');
$fleet->ask('signal patient CONT');
is(answer("do patient SELECT sync_guard.heartbeat({token})"), 't', 'a sign of life in time');
$fleet->ask("do patient SELECT sync_guard.finish_sync({token}, 'completed')");

# ---- in a fenced transaction -----------------------------------------------------------------------------------------------------
# (Each is looked at within its ttl, before the server ends its transaction.)
my %pid;
for my $case (
	[ 'fenced', "ttl => '10 seconds'" ],
	[ 'fenced_bound', "ttl => '10 seconds', bind_session => true" ])
{
	my ($name, $terms) = @$case;
	start_client($name, $terms);
	$fleet->ask("do $name BEGIN");
	$fleet->ask("do $name INSERT INTO products VALUES ('{name}')");
	is(answer("do $name SELECT sync_guard.fence({token})"), '', "$name: is in a fenced transaction");
	is(answer("do $name SELECT current_setting('idle_in_transaction_session_timeout')"), '10s', "$name: which may idle for its ttl");
	$fleet->ask("signal $name STOP");
	my $pid = $pid{$name} = sql("SELECT pid FROM pg_stat_activity WHERE application_name = '${name}_0'");
	is(verdict_of($name), 'fenced|', "$name: frozen, its run is alive, fenced");
	like(sql("SELECT why FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' = '${name}_0'"), qr/^fenced: .*\b$pid\b/,
		"$name: and the reason names the process");
	is(sql(q{SELECT sync_guard.reap_stale_syncs('1 microsecond', even_if_alive => true)}), '0', "$name: nobody can reap it");
	is(sql("SELECT sync_guard.sync_is_running('${name}_0')"), 't', "$name: it is running");
}
# (The bound one first, which the worker is to close, and not the reaping.)
for my $name (qw(fenced_bound fenced))
{
	poll_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid{$name}", "$name: its session ends");
	like(slurp_file($node->logfile), qr/\[$pid{$name}\] .*FATAL:  terminating connection due to idle-in-transaction timeout/,
		"$name: the server ends the transaction");
	if ($name eq 'fenced')
	{
		until_verdict($name, 'heartbeat_lost');
		is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '1', "$name: then the run is dead, and reaped");
		is(state_of($name), 'failed|heartbeat_lost|call', "$name: heartbeat_lost");
	}
	else
	{
		poll_until($node, "SELECT status <> 'running' FROM runs WHERE sync_type = '${name}_0'", "$name: its run ends");
		is(state_of($name), 'failed|session_gone|worker', "$name: and the worker closes it, as its session is gone");
	}
}
is(sql('SELECT count(*) FROM products'), '0', 'what they wrote is rolled back');
for my $name (qw(fenced fenced_bound))
{
	$fleet->ask("signal $name CONT");
	is(answer("do $name COMMIT"), 'broken', "$name, thawed: its connection is gone");
	is(answer("do $name SELECT sync_guard.heartbeat({token})"), 'f', "$name: over a new one it is told");
}

# A fence that ends in time changes nothing for what follows.
start_client('in_time', "ttl => '1 minute'");
$fleet->ask('do in_time BEGIN');
$fleet->ask(q{do in_time INSERT INTO products VALUES ('{name}')});
$fleet->ask('do in_time SELECT sync_guard.fence({token})');
$fleet->ask('do in_time COMMIT');
is(sql('SELECT string_agg(run, $$ $$) FROM products'), 'in_time_0', 'who commits under a fence has committed');
is(answer(q{do in_time SELECT current_setting('idle_in_transaction_session_timeout')}), '0', 'and may idle as before');
is(verdict_of('in_time'), 'live|', 'its run is alive');

$fleet->end;
$node->stop;
done_testing();
