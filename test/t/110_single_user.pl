# Single-user mode, in which servers are repaired: a guarded table works as ever, though there is no postmaster, nobody to ask for
# a worker, and nobody else to wait for.
use strict;
use warnings;

use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('single_user', preload => ['emag_sync_guard'], conf => 'emag_sync_guard.restart_grace = 0');
make_run_table($node, 'runs');
$node->safe_psql('postgres', q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', exclusive => true, time_zone => 'UTC')});
$node->stop;

# Each statement on a line of its own. Returns what is answered and what goes to the log.
sub single
{
	my ($out, $err);
	IPC::Run::run([ 'postgres', '--single', '-D', $node->data_dir, 'postgres' ], '<', \join("\n", @_, ''), '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return ($out, $err, $?);
}

my ($out, $err, $status) = single(
	q{INSERT INTO runs (sync_type) VALUES ('a')},
	q{INSERT INTO runs (sync_type) VALUES ('a')},
	q{UPDATE runs SET status = 'completed' WHERE sync_type = 'a'},
	q{SELECT count(token) AS started FROM sync_guard.start_sync('runs', '{"sync_type": "b"}', bind_session => true)},
	q{SELECT sync_guard.heartbeat(max(token)) AS beaten FROM sync_guard.leases WHERE ended_at IS NULL},
	q{SELECT string_agg(run_key || ' ' || lease, ',') AS in_memory FROM sync_guard.tracked_runs},
	q{SELECT sync_guard.reap_stale_syncs('1 microsecond', even_if_alive => true) AS reaped},
	q{SELECT count(*) AS amiss FROM sync_guard.guard_health WHERE severity IN ('error', 'warning')},
	q{SELECT count(token) AS started FROM sync_guard.start_sync('runs', '{"sync_type": "c"}', bind_session => true)});
is($status, 0, 'a session in single-user mode ends well');
is(join(' ', $err =~ /ERROR:  ([^\n]*)/g), 'a run of this scope of table public.runs is running already', 'a second run of a scope is refused, nothing else');
is(join(' ', $out =~ /\t 1: (\w+ = "[^"]*")/g), 'started = "1" beaten = "t" in_memory = "3 session" reaped = "1" amiss = "0" started = "1"', 'leases, memory, reaping and health');

# Its end as that of a session that died: it asks whether the server is stopping, and for a worker, in vain.
(undef, $err) = single(
	q{SELECT count(token) AS started FROM sync_guard.start_sync('runs', '{"sync_type": "d"}', bind_session => true)},
	q{COPY (SELECT 1) TO PROGRAM 'kill -TERM $PPID'});
like($err, qr/FATAL:  terminating connection due to administrator command/, 'a session that is terminated ends');
unlike($err, qr/PANIC|TRAP|ERROR|postmaster/, 'with no further word');

$node->start;
is($node->safe_psql('postgres', q{SELECT sync_type, status, completed_at IS NOT NULL FROM runs ORDER BY id}), "a|completed|t\nb|failed|t\nc|running|f\nd|running|f",
	'what was written in single-user mode is there');
is($node->safe_psql('postgres', q{SELECT string_agg(DISTINCT verdict, ',') FROM sync_guard.running_syncs}), 'suspect', 'the bound runs are in doubt after the start');
$node->stop;
done_testing();
