# Two hundred clients die in the same instant, busy, idle in a transaction and idle, on a machine that is busy with something
# else and with as many background workers as the server has by default: every run is closed by the worker, and nothing is left.
# So it is where more owners of tables need a worker than there are.
#
# EMAG_SYNC_GUARD_ROUNDS: how often; 50 for the figures, a few to see that it holds.
use strict;
use warnings;

use GuardNode;
use LeaseFleet;
use POSIX ();
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => fleet_missing() if fleet_missing();

my $clients = 200;
my $rounds = $ENV{EMAG_SYNC_GUARD_ROUNDS} // 5;
my $loops = 2;

my $node = guard_node('mass_kill', preload => ['emag_sync_guard'], conf => qq{
	max_connections = 250
	track_commit_timestamp = on
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC');
	CREATE TABLE kills (round int PRIMARY KEY, killed_at timestamptz NOT NULL);
	ALTER TABLE runs ADD COLUMN round int NOT NULL DEFAULT 0});
is(sql('SHOW max_worker_processes'), '8', 'there are as many slots for workers as by default');

# The machine is busy.
my @loops;
END { kill 'KILL', @loops if @loops; }
for (1 .. $loops)
{
	my $pid = fork // die "fork: $!";
	if ($pid == 0)
	{
		1 while getppid() != 1;
		POSIX::_exit(0);
	}
	push @loops, $pid;
}

my $fleet = LeaseFleet->new($node);
for my $round (1 .. $rounds)
{
	$fleet->ask("open round$round $clients");
	$fleet->ask(qq{do round$round SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}", "round": $round}', bind_session => true)});
	# A third is in a statement, one in a transaction that has written its run's row, one idle.
	$fleet->ask("send round$round\[0::3] SELECT pg_sleep(3600)");
	$fleet->ask("do round$round\[1::3] BEGIN");
	$fleet->ask("do round$round\[1::3] UPDATE runs SET processed_items = 5 WHERE sync_type = '{name}'");
	poll_until($node, qq{SELECT count(*) = $clients FROM pg_stat_activity
		WHERE application_name LIKE 'round$round\\_%' AND state = (array['active', 'idle in transaction', 'idle'])[split_part(application_name, '_', 2)::int % 3 + 1]},
		"round $round: a third of the clients is in a statement, one in a transaction, one idle");
	is(sql(q{SELECT count(*) FROM sync_guard.running_syncs WHERE lease = 'session' AND verdict = 'live'}), $clients,
		"round $round: $clients runs are alive, bound to their sessions");

	my $at = $fleet->ask("signal round$round KILL");
	sql("INSERT INTO kills VALUES ($round, to_timestamp($at))");
	poll_until($node, q{SELECT NOT EXISTS (SELECT FROM runs WHERE status = 'running')}, "round $round: they are killed, and all runs end")
	  or diag(sql(q{SELECT string_agg(why, E'\n') FROM sync_guard.stuck_syncs}));
	is(sql(qq{SELECT j.verdict, j.path, r.status, count(*) FROM runs AS r LEFT JOIN sync_guard.reaped_syncs AS j ON run_key = id::text
			WHERE round = $round GROUP BY 1, 2, 3}), "session_gone|worker|failed|$clients", "round $round: all are closed by the worker, session_gone");
	is(sql('SELECT count(*) FROM sync_guard.tracked_runs'), '0', "round $round: nothing is left in memory");
}
kill 'KILL', splice @loops;

is(sql(q{SELECT count(*), count(*) FILTER (WHERE status <> 'failed') FROM runs}), $rounds * $clients . '|0', 'no row is left running');
is(sql('SELECT count(*), count(DISTINCT run_key) FROM sync_guard.reaped_syncs'), $rounds * $clients . '|' . $rounds * $clients,
	'each run was reaped once');
is(sql('SELECT count(*) FROM sync_guard.leases WHERE ended_at IS NULL'), '0', 'no lease is open');
poll_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name LIKE 'round%'}, 'no session is left');
poll_until($node, q{SELECT requests_open = 0 FROM sync_guard.guard_memory}, 'no request stays open');
is(sql('SELECT refused FROM sync_guard.guard_memory'), '0', 'every run found room');
is(sql(q{SELECT count(*) FROM sync_guard.guard_health WHERE severity <> 'info' AND problem <> 'no_schedule'}), '0', 'all is well')
  or diag(sql('SELECT severity, problem, detail FROM sync_guard.guard_health'));

# From the one kill to each commit; those in a statement are found by client_connection_check_interval.
for my $part ([ 'idle', 2 ], [ 'idle in transaction', 1 ], [ 'in a statement', 0 ])
{
	my ($what, $rest) = @$part;
	diag(sprintf('%-20s from the kill to the commit: p50 %s ms, p95 %s ms, p99 %s ms, max %s ms', $what, split /\|/, sql(qq{
		SELECT round(percentile_disc(0.5) WITHIN GROUP (ORDER BY ms)), round(percentile_disc(0.95) WITHIN GROUP (ORDER BY ms)),
			   round(percentile_disc(0.99) WITHIN GROUP (ORDER BY ms)), round(max(ms))
		FROM (SELECT extract(epoch FROM pg_xact_commit_timestamp(r.xmin) - killed_at) * 1000 AS ms FROM kills JOIN runs AS r USING (round)
			  WHERE split_part(sync_type, '_', 2)::int % 3 = $rest) AS t})));
}
diag(sprintf('%d rounds of %d clients, %d busy loops; workers: asked for %s times, started %s, no slot %s times', $rounds, $clients, $loops,
		split /\|/, sql('SELECT workers_requested, workers_started, workers_refused FROM sync_guard.guard_memory')));

# ---- more owners than slots ------------------------------------------------------------------------------------------------------
# Each owner's runs need a worker of their own. Those for whom there is no slot at first are served by and by.
my ($owners, $each) = (40, 4);
for my $owner (1 .. $owners)
{
	make_run_table($node, "runs_of_$owner");
	sql(qq{
		CREATE ROLE owner_$owner;
		GRANT CREATE ON SCHEMA public TO owner_$owner;
		ALTER TABLE runs_of_$owner OWNER TO owner_$owner;
		SELECT sync_guard.guard_table('runs_of_$owner', scope_columns => '{sync_type}', time_zone => 'UTC')});
}
$fleet->ask('open owned ' . $owners * $each);
for my $owner (1 .. $owners)
{
	$fleet->ask(sprintf(q{do owned[%d::%d] SELECT token FROM sync_guard.start_sync('runs_of_%d', '{"sync_type": "{name}"}', bind_session => true)},
			$owner - 1, $owners, $owner));
}
is(sql(q{SELECT count(*) FROM sync_guard.running_syncs WHERE lease = 'session'}), $owners * $each, "$owners owners: " . $owners * $each . ' runs are alive');
$fleet->ask('signal owned KILL');
poll_until($node, q{SELECT count(*) = 0 FROM sync_guard.live_runs()}, "$owners owners: all runs are closed");
is(sql(q{SELECT verdict, path, count(*), count(DISTINCT relation_name) FROM sync_guard.reaped_syncs WHERE relation_name LIKE '%runs\_of\_%' GROUP BY 1, 2}),
	"session_gone|worker|" . $owners * $each . "|$owners", "$owners owners: by the worker of each");
poll_until($node, q{SELECT requests_open = 0 FROM sync_guard.guard_memory}, "$owners owners: no request stays open");
diag(sprintf('%d owners at once; workers in all: asked for %s times, started %s, no slot %s times', $owners,
		split /\|/, sql('SELECT workers_requested, workers_started, workers_refused FROM sync_guard.guard_memory')));

$fleet->end;
$node->stop;
done_testing();
