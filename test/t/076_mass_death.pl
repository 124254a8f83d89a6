# Many heartbeat leases fall silent together: it is rather the network than so many workers, so the verdict is held one further ttl
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

# Who is to lapse has so short a ttl; who goes on has a minute, so that no pause of the machine makes him one who has lapsed.
my ($short, $long) = (2, 60);

# Clients with heartbeat leases.
sub start_runs
{
	my ($group, $count, $ttl) = @_;
	$fleet->ask("open $group $count");
	my $started = $fleet->counts(qq{do $group SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', ttl => '$ttl seconds')});
	is(scalar(grep { /^\d{6,}$/ } keys %$started), $count, "$group: $count workers start");
	return;
}

# The same, and they beat.
sub start_group
{
	my ($group, $count, $ttl) = @_;
	start_runs($group, $count, $ttl);
	$fleet->ask("keep $group 0.1 SELECT sync_guard.heartbeat({token})");
	return;
}

# Ends a group's beats; what each was answered, t: none was refused.
sub hush { return join(' ', keys %{ $fleet->counts("hush $_[0]") }); }

# The verdicts are these, how often each.
sub until_verdicts
{
	my ($verdicts, $what) = @_;
	poll_until($node, qq{SELECT string_agg(verdict || ' ' || count, ', ' ORDER BY verdict) = '$verdicts'
		FROM (SELECT verdict, count(*) FROM sync_guard.live_runs() GROUP BY 1) AS v}, $what)
	  or diag(sql('SELECT verdict, why FROM sync_guard.live_runs()'));
	return;
}

# The limits by which those died who are stuck.
sub limits { return sql('SELECT DISTINCT limit_used FROM sync_guard.stuck_syncs'); }

sub finish
{
	my ($group) = @_;
	$fleet->counts("do $group SELECT sync_guard.finish_sync({token}, 'completed')");
	$fleet->ask("close $group");
	return;
}

my $alert = q{SELECT severity, detail FROM sync_guard.guard_health WHERE problem = 'mass_death'};

# ---- few -------------------------------------------------------------------------------------------------------------------------
start_group('few', 10, $short);
until_verdicts('live 10', 'ten workers beat');
is(hush('few'), 't', 'and then no more');
until_verdicts('heartbeat_lost 10', 'ten are not many: dead');
is(limits(), "00:00:0$short", 'when the ttl has passed');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '10', 'and reaped');
is(sql($alert), '', 'no alert');
$fleet->ask('close few');

# ---- a minority ------------------------------------------------------------------------------------------------------------------
start_group('most', 14, $long);
start_group('minor', 12, $short);
until_verdicts('live 26', 'twenty-six workers beat');
is(hush('minor'), 't', 'twelve of them no more');
until_verdicts('heartbeat_lost 12, live 14', 'twelve of twenty-six are not more than half: dead');
is(limits(), "00:00:0$short", 'when the ttl has passed');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '12', 'and reaped');
is(sql($alert), '', 'no alert');
is(hush('most'), 't', 'the others were never refused');
finish('most');
$fleet->ask('close minor');

# ---- many ------------------------------------------------------------------------------------------------------------------------
# From one ttl to two after their last beat their verdict is held. What is asked then is asked at once, and counts if their second
# ttl was not over after that; a machine that does not get there in time is given more of it.
my ($back, $gone) = ('many[0:2]', 'many[2:14]');
my ($ttl, $dead, $held, $reaped, $running, $in_time);
for (6, 18, 54)
{
	$ttl = $_;
	start_group('well', 5, $long);
	start_runs('many', 14, $ttl);
	is_deeply($fleet->counts('do many SELECT sync_guard.heartbeat({token})'), { t => 14 }, 'fourteen of nineteen workers beat for the last time');
	poll_until($node, qq{SELECT count(*) FILTER (WHERE silence > '$ttl seconds') = 14 FROM sync_guard.live_runs()}, 'they lapse');
	# (It is weighed by whoever looks at the runs; the memory alone only shows.)
	($dead, $held, $reaped, $running, $in_time) = split /\n/, sql(qq{
		SELECT count(*) FILTER (WHERE dead) FROM sync_guard.live_runs();
		SELECT count(*) FROM sync_guard.tracked_runs WHERE held;
		SELECT sync_guard.reap_stale_syncs();
		SELECT bool_and(sync_guard.sync_is_running(sync_type)) FROM runs WHERE completed_at IS NULL;
		SELECT max(silence) < '@{[2 * $ttl]} seconds' FROM sync_guard.live_runs()});
	last if $in_time eq 't';
	note("a ttl of $ttl s is too short for this machine");
	finish($_) for qw(well many);
}
my $limit = sprintf('%02d:%02d:%02d', 2 * $ttl / 3600, 2 * $ttl / 60 % 60, 2 * $ttl % 60);
is($in_time, 't', 'before twice the ttl');
is("$held|$dead", '14|0', 'fourteen of nineteen are silent together, and none of them counts as dead');
is($reaped, '0', 'none is reaped');
is($running, 't', 'all count as running');
like(sql($alert), qr/^warning\|14 heartbeat leases, more than half of this database's, fell silent together/, 'guard_health raises the alarm');
is(sql('SELECT mass_death_runs, mass_death_at < clock_timestamp() FROM sync_guard.guard_memory'), '14|t', 'and guard_memory has the figures');
is_deeply($fleet->counts("do $back SELECT sync_guard.heartbeat({token})"), { t => 2 }, 'two come back');
$fleet->ask("keep $back 0.1 SELECT sync_guard.heartbeat({token})");

until_verdicts('heartbeat_lost 12, live 7', 'a further ttl later the others are dead');
is(sql(qq{SELECT min(silence) > '$limit' FROM sync_guard.stuck_syncs}), 't', 'after twice the ttl');
is(limits(), $limit, 'which is the limit that is told');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '12', 'they are reaped');
is(sql(q{SELECT string_agg(DISTINCT verdict, ' ') FROM sync_guard.reaped_syncs WHERE scope ->> 'sync_type' LIKE 'many%'}), 'heartbeat_lost', 'heartbeat_lost');
is(hush($_), 't', "$_: was never refused") for $back, 'well';
like(sql($alert), qr/^warning\|14 heartbeat leases/, 'the alarm stands for a while');
is_deeply($fleet->counts("do $gone SELECT sync_guard.heartbeat({token})"), { f => 12 }, 'those who come now are told');
finish($_) for $back, 'well';
$fleet->ask('close many');

# ---- one after another -------------------------------------------------------------------------------------------------------------
# So it is when the network goes away: they lapse as they last beat, here by their ttl, and a sweep comes between any two. At no
# instant have many of those lapsed that are still open.
for my $n (1 .. 15)
{
	$fleet->ask("open row$n 1");
	$fleet->counts(sprintf(q{do row%d SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', ttl => '%.1f seconds')}, $n, 8 + 0.2 * $n));
}
sql('CREATE TABLE sweeps (reaped int)');
poll_until($node, q{WITH sweep AS (INSERT INTO sweeps SELECT sync_guard.reap_stale_syncs() RETURNING reaped)
	SELECT (SELECT reaped > 0 FROM sweep) OR count(*) FILTER (WHERE held) = 15 FROM sync_guard.tracked_runs}, 'fifteen lapse, one after another');
is(sql('SELECT sum(reaped) FROM sweeps'), '0', 'none is reaped by the sweeps meanwhile');
cmp_ok(sql('SELECT count(*) FROM sweeps'), '>', 15, 'of which there were many');
is_deeply($fleet->counts("do row$_ SELECT sync_guard.heartbeat({token})"), { t => 1 }, "row$_ goes on") foreach 1 .. 15;
finish("row$_") foreach 1 .. 15;

# ---- stalled -----------------------------------------------------------------------------------------------------------------------
sql(q{SELECT sync_guard.guard_table('runs', max_stall => '5 seconds')});
start_runs('worker', 4, $long);
# One gets on, one stands still, one tells of no progress at all, one has never begun.
$fleet->ask('keep worker[0] 0.1 SELECT sync_guard.heartbeat({token}, (extract(epoch FROM clock_timestamp()) * 1000)::bigint)');
$fleet->ask('keep worker[1] 0.1 SELECT sync_guard.heartbeat({token}, 500, 1000)');
$fleet->ask('keep worker[2] 0.1 SELECT sync_guard.heartbeat({token})');
$fleet->ask('keep worker[3] 0.1 SELECT sync_guard.heartbeat({token}, 0, 1000)');
poll_until($node, q{SELECT string_agg(scope ->> 'sync_type', ' ') = 'worker_1' FROM sync_guard.stuck_syncs}, 'the one that stands still is stuck');
is(sql(q{SELECT verdict, done, total, limit_used FROM sync_guard.stuck_syncs}), 'stalled|500|1000|00:00:05', 'beats without progress: stalled');
like(sql('SELECT why FROM sync_guard.stuck_syncs'), qr/^stalled: no progress for [\d.]+ s, limit 5 s$/, 'the reason says so');
is(sql(q{SELECT silence < limit_used FROM sync_guard.stuck_syncs}), 't', 'although it has given a sign of life since');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '1', 'it is reaped');
is(sql('SELECT verdict, count(*) FROM sync_guard.reaped_syncs WHERE scope ->> $$sync_type$$ LIKE $$worker%$$ GROUP BY 1'), 'stalled|1', 'stalled');
is(sql('SELECT count(*) FROM sync_guard.running_syncs'), '3', 'the others are not');
$fleet->ask('hush worker[1]');
is_deeply($fleet->counts('do worker[1] SELECT sync_guard.heartbeat({token}, 501)'), { f => 1 }, 'and told so at its next heartbeat');
is(hush("worker[$_]"), 't', "worker $_ was never refused") for 0, 2, 3;

$fleet->end;
$node->stop;
done_testing();
