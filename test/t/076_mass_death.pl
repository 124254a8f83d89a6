# Many heartbeat leases lapse together: it is rather the network than so many workers, so the verdict is held one further ttl
# and an alert raised; those who come back meanwhile go on, the others are reaped then. Ten that lapse, or a minority, are not
# many. And a worker that beats without getting on is stalled.
use strict;
use warnings;

use GuardNode;
use LeaseFleet;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => fleet_missing() if fleet_missing();

my $node = guard_node('mass_death', preload => ['emag_sync_guard']);

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC')});
my $fleet = LeaseFleet->new($node);

# Clients with heartbeat leases that beat.
sub start_group
{
	my ($group, $count, $ttl) = @_;
	$fleet->ask("open $group $count");
	$fleet->ask(qq{do $group SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', ttl => '$ttl seconds')});
	$fleet->ask("keep $group 0.1 SELECT sync_guard.heartbeat({token})");
	return;
}

# Ends a group's beats; true: none was refused.
sub hush { return join(' ', keys %{ $fleet->counts("hush $_[0]") }); }

sub verdicts
{
	return sql(q{SELECT string_agg(verdict || ' ' || count, ', ' ORDER BY verdict)
				 FROM (SELECT verdict, count(*) FROM sync_guard.live_runs() GROUP BY 1) AS v});
}

sub finish
{
	my ($group) = @_;
	$fleet->counts("do $group SELECT sync_guard.finish_sync({token}, 'completed')");
	$fleet->ask("close $group");
	return;
}

my $alert = q{SELECT severity, detail FROM sync_guard.guard_health WHERE problem = 'mass_death'};

# ---- few -------------------------------------------------------------------------------------------------------------------------
start_group('few', 10, 2);
is(verdicts(), 'live 10', 'ten workers beat');
is(hush('few'), 't', 'and then no more');
$node->poll_query_until('postgres', q{SELECT count(*) = 10 FROM sync_guard.stuck_syncs WHERE verdict = 'heartbeat_lost'});
is(sql('SELECT max(silence) < $$4 seconds$$ FROM sync_guard.stuck_syncs'), 't', 'ten are not many: dead when the ttl has passed');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '10', 'and reaped');
is(sql($alert), '', 'no alert');
$fleet->ask('close few');

# ---- a minority ------------------------------------------------------------------------------------------------------------------
start_group('most', 14, 2);
start_group('minor', 12, 2);
hush('minor');
$node->poll_query_until('postgres', q{SELECT count(*) = 12 FROM sync_guard.stuck_syncs WHERE verdict = 'heartbeat_lost'});
is(verdicts(), 'heartbeat_lost 12, live 14', 'twelve of twenty-six are not more than half: dead');
is(sql('SELECT max(silence) < $$4 seconds$$ FROM sync_guard.stuck_syncs'), 't', 'when the ttl has passed');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '12', 'and reaped');
is(sql($alert), '', 'no alert');
is(hush('most'), 't', 'the others were never refused');
finish('most');
$fleet->ask('close minor');

# ---- many ------------------------------------------------------------------------------------------------------------------------
my $ttl = 4;
start_group('back', 2, $ttl);
start_group('many', 12, $ttl);
start_group('well', 5, $ttl);
is(verdicts(), 'live 19', 'nineteen workers beat');
hush($_) for qw(back many);
# (It is weighed by whoever looks at the runs; the memory alone only shows.)
$node->poll_query_until('postgres', q{
	SELECT (SELECT count(*) FROM sync_guard.live_runs()) = 19 AND (SELECT count(*) FROM sync_guard.tracked_runs WHERE held) = 14})
  or diag(verdicts());
my ($count, $dead, $early) = split /\|/, sql(qq{
	SELECT count(*) FILTER (WHERE silence > '$ttl seconds'), count(*) FILTER (WHERE dead), max(silence) < '@{[2 * $ttl]} seconds' FROM sync_guard.live_runs()});
is($early, 't', 'before twice the ttl');
is("$count|$dead", '14|0', 'fourteen of nineteen have lapsed together, and none of them counts as dead');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '0', 'none is reaped');
is(sql('SELECT bool_and(sync_guard.sync_is_running(sync_type)) FROM runs WHERE completed_at IS NULL'), 't', 'all count as running');
like(sql($alert), qr/^warning\|14 heartbeat leases, more than half of this database's, lapsed together/, 'guard_health raises the alarm');
is(sql('SELECT mass_death_runs, mass_death_at < clock_timestamp() FROM sync_guard.guard_memory'), '14|t', 'and guard_memory has the figures');
is_deeply($fleet->counts('do back SELECT sync_guard.heartbeat({token})'), { t => 2 }, 'two come back');
$fleet->ask('keep back 0.1 SELECT sync_guard.heartbeat({token})');

$node->poll_query_until('postgres', q{SELECT count(*) = 12 FROM sync_guard.stuck_syncs});
is(verdicts(), 'heartbeat_lost 12, live 7', 'a further ttl later the others are dead');
is(sql(qq{SELECT min(silence) > '@{[2 * $ttl]} seconds' FROM sync_guard.stuck_syncs}), 't', 'after twice the ttl');
is(sql('SELECT min(limit_used), max(limit_used) FROM sync_guard.stuck_syncs'), '00:00:08|00:00:08', 'which is the limit that is told');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '12', 'they are reaped');
is(sql(q{SELECT string_agg(DISTINCT verdict, ' ') FROM sync_guard.reaped_syncs WHERE scope ->> 'sync_type' LIKE 'many%'}), 'heartbeat_lost', 'heartbeat_lost');
is(hush($_), 't', "$_: was never refused") for qw(back well);
like(sql($alert), qr/^warning\|14 heartbeat leases/, 'the alarm stands for a while');
is_deeply($fleet->counts('do many SELECT sync_guard.heartbeat({token})'), { f => 12 }, 'those who come now are told');
finish($_) for qw(back well);
$fleet->ask('close many');

# ---- stalled -----------------------------------------------------------------------------------------------------------------------
sql(q{SELECT sync_guard.guard_table('runs', max_stall => '2 seconds')});
$fleet->ask('open worker 4');
$fleet->ask(qq{do worker SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', ttl => '10 seconds')});
# One gets on, one stands still, one tells of no progress at all, one has never begun.
$fleet->ask('keep worker[0] 0.1 SELECT sync_guard.heartbeat({token}, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)');
$fleet->ask('keep worker[1] 0.1 SELECT sync_guard.heartbeat({token}, 500, 1000)');
$fleet->ask('keep worker[2] 0.1 SELECT sync_guard.heartbeat({token})');
$fleet->ask('keep worker[3] 0.1 SELECT sync_guard.heartbeat({token}, 0, 1000)');
$node->poll_query_until('postgres', q{SELECT count(*) > 0 FROM sync_guard.stuck_syncs});
is(sql(q{SELECT scope ->> 'sync_type', verdict, done, total, limit_used FROM sync_guard.stuck_syncs}), 'worker_1|stalled|500|1000|00:00:02',
	'beats without progress: stalled');
like(sql('SELECT why FROM sync_guard.stuck_syncs'), qr/^stalled: no progress for [\d.]+ s, limit 2 s$/, 'the reason says so');
is(sql(q{SELECT silence < '1 second' FROM sync_guard.stuck_syncs}), 't', 'although it has just given a sign of life');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '1', 'it is reaped');
is(sql('SELECT verdict, count(*) FROM sync_guard.reaped_syncs WHERE scope ->> $$sync_type$$ LIKE $$worker%$$ GROUP BY 1'), 'stalled|1', 'stalled');
is(sql('SELECT count(*) FROM sync_guard.running_syncs'), '3', 'the others are not');
$fleet->ask('hush worker[1]');
is_deeply($fleet->counts('do worker[1] SELECT sync_guard.heartbeat({token}, 501)'), { f => 1 }, 'and told so at its next heartbeat');
is(hush("worker[$_]"), 't', "worker $_ was never refused") for 0, 2, 3;

$fleet->end;
$node->stop;
done_testing();
