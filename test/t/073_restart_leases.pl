# The server goes down under fifty beating workers and comes up again: immediate shutdown, the crash of a backend, the promotion
# of a standby. What memory knew is lost; who comes back within emag_sync_guard.restart_grace goes on as if nothing had been,
# who does not is suspect until then, and then dead: server_restarted. An orderly stop tells nothing of anybody.
use strict;
use warnings;

use GuardNode;
use LeaseFleet;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => fleet_missing() if fleet_missing();

my ($workers, $lost) = (50, 5);

my $node = guard_node('restart_leases', preload => ['emag_sync_guard'], init => { allows_streaming => 1 }, conf => qq{
	emag_sync_guard.restart_grace = 30min
	restart_after_crash = on
	max_connections = 150
	hot_standby_feedback = on
});
my $standby;

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', max_silence => '1 hour')});
my $fleet;
my $generation = 0;

# Workers that beat, half of them bound to their sessions, and others who will not come back.
sub start_workers
{
	++$generation;
	for my $group ([ "kept$generation", $workers, '1 minute' ], [ "lost$generation", $lost, '3 seconds' ])
	{
		my ($name, $count, $ttl) = @$group;
		$fleet->ask("open $name $count");
		$fleet->ask(qq{do $name SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', ttl => '$ttl',
			bind_session => '{name}' ~ '[02468]\$')});
		$fleet->ask("keep $name 0.1 SELECT sync_guard.heartbeat({token})");
	}
	poll_until($node, "SELECT count(*) = $workers + $lost FROM sync_guard.running_syncs WHERE verdict = 'live'",
		"$_[0]: " . ($workers + $lost) . ' workers have live runs');
	return;
}

# Kills those who are not to come back, before they can.
sub lose { return $fleet->ask("signal lost$generation KILL"); }

# The grace, from now on.
sub set_grace
{
	my ($grace) = @_;
	sql("ALTER SYSTEM SET emag_sync_guard.restart_grace = '$grace'");
	$node->reload;
	poll_until($node, "SELECT current_setting('emag_sync_guard.restart_grace') = '$grace'", "the grace is $grace");
	return;
}

# The server is there again: follows its runs to the end of the grace, which is when all that is to be seen within it has been.
sub check_return
{
	my ($what) = @_;
	my $kept = "scope ->> 'sync_type' LIKE 'kept${generation}\\_%'";
	my $gone = "scope ->> 'sync_type' LIKE 'lost${generation}\\_%'";
	my $beats = "SELECT count(*) = $workers FROM sync_guard.running_syncs WHERE verdict = 'live' AND $kept";

	# One look, of whoever comes first: nothing is dead, and nothing that was not heard of passes for alive.
	is(sql("SELECT count(*) FILTER (WHERE dead), count(*) FILTER (WHERE verdict = 'suspect' AND $gone) FROM sync_guard.live_runs()"), "0|$lost",
		"$what: those who are silent are suspect, and nobody is dead");
	is(sql('SELECT sync_guard.reap_stale_syncs()'), '0', "$what: nothing is reaped");
	like(sql("SELECT DISTINCT why FROM sync_guard.running_syncs WHERE $gone LIMIT 1"),
		qr/^suspect: no sign of life since the server started .* ago, grace 30 min$/, "$what: the reason says since when");
	is(sql(qq{SELECT bool_and(sync_guard.sync_is_running(sync_type)) FROM runs WHERE status = 'running'}), 't', "$what: all count as running");
	poll_until($node, $beats, "$what: the others are back within the grace");

	set_grace('5s');
	poll_until($node, "SELECT count(*) = $lost FROM sync_guard.stuck_syncs WHERE verdict = 'server_restarted' AND $gone", "$what: the grace ends, and who is not back is dead")
	  or diag(sql("SELECT verdict, why FROM sync_guard.live_runs() WHERE $gone"));
	is(sql('SELECT clock_timestamp() > life_began + $$5 seconds$$ FROM sync_guard.guard_memory'), 't', "$what: when it is over, not before");
	is(sql('SELECT sync_guard.reap_stale_syncs()'), $lost, "$what: those who have not come back are reaped");
	is(sql("SELECT verdict, path, count(*) FROM sync_guard.reaped_syncs WHERE $gone GROUP BY 1, 2"), "server_restarted|call|$lost",
		"$what: server_restarted");
	is(sql("SELECT count(*) FROM sync_guard.reaped_syncs WHERE $kept"), '0', "$what: none that came back is");
	poll_until($node, $beats, "$what: they are alive");
	my $answers = $fleet->counts("hush kept$generation");
	my ($true, $broken, $again) = map { delete $answers->{$_} // 0 } qw(t broken reconnected);
	is(join(' ', %$answers), '', "$what: no heartbeat was refused");
	cmp_ok($again, '>=', $workers, "$what: each has made a new connection") or diag("$true beats, $broken broken");
	note("$what: $true heartbeats, $again new connections");
	is_deeply($fleet->counts("do kept$generation SELECT sync_guard.finish_sync({token}, 'completed')"), { '' => $workers }, "$what: they finish");
	is($fleet->ask("close kept$generation"), $workers, "$what: and go");
	is(sql(q{SELECT count(*) FROM runs WHERE status = 'running'}), '0', "$what: no run is left");
	set_grace('30min');
	return;
}

# ---- immediate shutdown --------------------------------------------------------------------------------------------------------
$fleet = LeaseFleet->new($node);
start_workers('immediate shutdown');
$node->stop('immediate');
lose();
$node->start;
check_return('immediate shutdown');

# ---- a backend is killed: all sessions end, memory is made anew -----------------------------------------------------------------
start_workers('crash');
# (Those who are lost are frozen meanwhile: a server that is still there would find them dead.)
$fleet->ask("signal lost$generation STOP");
my $life = sql('SELECT life_began FROM sync_guard.guard_memory');
my $victim = sql(q{SELECT pid FROM pg_stat_activity WHERE application_name = 'kept2_0'});
kill 'KILL', $victim;
poll_until($node, "SELECT life_began > '$life' FROM sync_guard.guard_memory", 'the server comes back') or die;
lose();
check_return('crash');

# ---- an orderly stop ---------------------------------------------------------------------------------------------------------------
start_workers('fast shutdown');
$node->stop('fast');
lose();
$node->start;
is(sql(q{SELECT count(*) FROM runs WHERE status = 'running'}), $workers + $lost, 'fast shutdown: it has closed nothing');
check_return('fast shutdown');

# Its sessions ended one by one, in a server that stops: all the same.
++$generation;
$fleet->ask("open idle$generation $workers");
$fleet->ask(qq{do idle$generation SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', bind_session => true)});
$node->restart;
is(sql(q{SELECT count(*) FILTER (WHERE verdict = 'suspect'), count(*) FROM sync_guard.live_runs()}), "$workers|$workers",
	'sessions that a restart ended are no dead sessions: their runs are suspect');
is_deeply($fleet->counts("do idle$generation SELECT sync_guard.heartbeat({token})"), { broken => $workers }, 'their workers notice');
is_deeply($fleet->counts("do idle$generation SELECT sync_guard.heartbeat({token})"), { t => $workers }, 'come back, and are told true');
is(sql(q{SELECT count(*), string_agg(DISTINCT verdict, ' '), string_agg(DISTINCT lease, ' ') FROM sync_guard.live_runs()}), "$workers|live|heartbeat",
	'from then on they are heartbeat leases');
is_deeply($fleet->counts("do idle$generation SELECT sync_guard.finish_sync({token}, 'completed')"), { '' => $workers }, 'they finish');
$fleet->ask("close idle$generation");
is(sql(q{SELECT count(*) FROM sync_guard.reaped_syncs WHERE verdict <> 'server_restarted'}), '0', 'nothing was ever closed for another reason');
$fleet->end;

# ---- promotion -------------------------------------------------------------------------------------------------------------------
$node->backup('base');
$standby = PostgreSQL::Test::Cluster->new('restart_leases_standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$fleet = LeaseFleet->new($node, $standby);
start_workers('promotion');
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', q{SELECT count(*), count(*) FILTER (WHERE dead) FROM sync_guard.live_runs()}), $workers + $lost . '|0',
	'promotion: the standby shows all as alive');
$node->stop('immediate');
lose();
is($standby->safe_psql('postgres', q{SELECT count(*), count(*) FILTER (WHERE dead) FROM sync_guard.live_runs()}), $workers + $lost . '|0',
	'promotion: also while the primary is down');
$standby->promote;
$node = $standby;
check_return('promotion');

$fleet->end;
$node->stop;
done_testing();
