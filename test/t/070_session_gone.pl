# A client whose lease is bound to its session is killed: the run is closed by the worker, session_gone, in a moment. How long
# a moment is, from just before the kill to the commit by the server's own log of commits, is printed and not judged. What
# else ends a session, and what does not end a run.
use strict;
use warnings;

use GuardNode;
use LeaseFleet;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => fleet_missing() if fleet_missing();

my $clients = 200;

my $node = guard_node('session_gone', preload => ['emag_sync_guard'], conf => qq{
	max_connections = 250
	track_commit_timestamp = on
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC');
	CREATE TABLE kills (name text PRIMARY KEY, killed_at timestamptz NOT NULL)});
my $start = q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', bind_session => true)};
my $fleet = LeaseFleet->new($node);

# How the run of a client stands, and what closed it.
sub state_of
{
	return sql(qq{
		SELECT status, j.verdict, j.path FROM runs LEFT JOIN sync_guard.reaped_syncs AS j ON run_key = id::text
		WHERE sync_type = '$_[0]'});
}

sub until_closed
{
	poll_until($node, "SELECT status <> 'running' FROM runs WHERE sync_type = '$_[0]'", "$_[0]: its run ends");
	return;
}

# ---- one after the other -----------------------------------------------------------------------------------------------------
is($fleet->ask("open one $clients"), $clients, "$clients clients are connected");
$fleet->ask("do one $start");
is(sql(q{SELECT count(*), count(DISTINCT worker), string_agg(DISTINCT lease, ' '), string_agg(DISTINCT verdict, ' ') FROM sync_guard.running_syncs}),
	"$clients|0|session|live", 'each has a live run, bound to its session');
is($fleet->ask('kill_each one'), $clients, 'all are killed, one after the other');
is(sql(q{SELECT verdict, path, count(*) FROM sync_guard.reaped_syncs GROUP BY 1, 2}), "session_gone|worker|$clients",
	'each run is closed by the worker, session_gone');
is(sql(q{SELECT count(*) FROM runs WHERE status = 'failed' AND completed_at IS NOT NULL AND jsonb_array_length(errors) = 1}), $clients,
	'and each row says so');
is(sql(q{SELECT count(*) FROM sync_guard.tracked_runs}), '0', 'nothing is left in memory');
is(sql(q{SELECT count(*) FILTER (WHERE ended_at IS NULL), string_agg(DISTINCT end_reason, ' ') FROM sync_guard.leases}), '0|reaped',
	'nor an open lease');
my $took = q{extract(epoch FROM pg_xact_commit_timestamp(r.xmin) - killed_at) * 1000};
is(sql(qq{SELECT count(*) FROM kills JOIN runs AS r ON sync_type = name WHERE $took > 0}), $clients, 'after its kill, not before');
my @figures = split /\|/, sql(qq{
	SELECT round(percentile_disc(0.5) WITHIN GROUP (ORDER BY ms), 1), round(percentile_disc(0.95) WITHIN GROUP (ORDER BY ms), 1),
		   round(percentile_disc(0.99) WITHIN GROUP (ORDER BY ms), 1), round(max(ms), 1)
	FROM (SELECT $took AS ms FROM kills JOIN runs AS r ON sync_type = name) AS t});
diag(sprintf('%d clients killed one after the other, from the kill to the commit: p50 %s ms, p95 %s ms, p99 %s ms, max %s ms',
		$clients, @figures));
my ($asked, $started, $refused) = split /\|/, sql(q{SELECT workers_requested, workers_started, workers_refused FROM sync_guard.guard_memory});
diag("workers: asked for $asked times, started $started, no slot $refused times");
cmp_ok($asked, '>=', $clients, 'each death asked for the worker');
cmp_ok($started, '>=', 1, 'which came');
is($refused, '0', 'there was always a slot');
poll_until($node, q{SELECT requests_open = 0 FROM sync_guard.guard_memory}, 'and no request stays open');

# ---- what else ends a session --------------------------------------------------------------------------------------------------
$fleet->ask('open ended 1');
$fleet->ask("do ended $start");
sql(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ended_0'});
until_closed('ended_0');
is(state_of('ended_0'), 'failed|session_gone|worker', 'terminated: closed');

$fleet->ask('open timed_out 1');
$fleet->ask("do timed_out $start");
$fleet->ask("do timed_out SET idle_session_timeout = '10ms'");
until_closed('timed_out_0');
is(state_of('timed_out_0'), 'failed|session_gone|worker', 'ended by the server for idling: closed');

# ---- what does not end a run ---------------------------------------------------------------------------------------------------
$fleet->ask('open orderly 2');
$fleet->ask("do orderly $start");
is($fleet->ask('close orderly'), '2', 'two clients end their sessions as libpq does');
# (So long as the backends are there, theirs are bound leases.)
poll_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'orderly%'}, 'and they end');
is(sql(q{SELECT count(*), string_agg(DISTINCT lease, ' '), string_agg(DISTINCT verdict, ' ') FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' LIKE 'orderly%'}),
	'2|heartbeat|live', 'an orderly end: the runs live on, as heartbeat leases');
is(sql(q{SELECT string_agg(DISTINCT ttl::text, ' ') FROM sync_guard.tracked_runs WHERE lease = 'heartbeat'}), '00:01:00', 'of 60 s');

$fleet->ask('open reset 1');
$fleet->ask("do reset $start");
$fleet->ask('do reset SELECT pg_advisory_unlock_all()');
is(sql(q{SELECT lease, verdict FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' = 'reset_0'}), 'heartbeat|live',
	'the session was reset: a heartbeat lease from then on');
$fleet->ask('signal reset KILL');
poll_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'reset_0'}, 'killed, it ends');
is(sql(q{SELECT lease, verdict FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' = 'reset_0'}), 'heartbeat|live',
	'whose run does not end with the session');

$fleet->ask('open finished 1');
$fleet->ask("do finished $start");
is_deeply($fleet->counts("do finished SELECT sync_guard.finish_sync({token}, 'completed')"), { '' => 1 }, 'one finishes');
$fleet->ask('signal finished KILL');
$fleet->ask('open rolled_back 1');
$fleet->ask('do rolled_back BEGIN');
$fleet->ask("do rolled_back $start");
$fleet->ask('do rolled_back ROLLBACK');
$fleet->ask('signal rolled_back KILL');
# One that dies after them has been served, so they would have been.
$fleet->ask('open last 1');
$fleet->ask("do last $start");
$fleet->ask('signal last KILL');
until_closed('last_0');
is(state_of('last_0'), 'failed|session_gone|worker', 'the last one is closed');
is(state_of('finished_0'), 'completed||', 'who had finished before has finished');
is(sql(q{SELECT count(*) FROM runs WHERE sync_type = 'rolled_back_0'}), '0', 'and who had rolled back has no run');
is(sql(q{SELECT count(*) FROM sync_guard.stuck_syncs}), '0', 'nothing is stuck');

$fleet->end;
$node->stop;
done_testing();
