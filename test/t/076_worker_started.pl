# A worker announces itself under another incarnation: what it ran before is dead for certain, and closed; nobody else's is.
# The old incarnation, if it is there after all, is told at its next word.
use strict;
use warnings;

use GuardNode;
use LeaseFleet;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => fleet_missing() if fleet_missing();

my $node = guard_node('worker_started', preload => ['emag_sync_guard']);

sub sql { return $node->safe_psql('postgres', $_[0]); }

for my $table (qw(runs others))
{
	make_run_table($node, $table);
	sql("SELECT sync_guard.guard_table('$table', scope_columns => '{sync_type}', time_zone => 'UTC')");
}
sql(q{
	CREATE ROLE app LOGIN; GRANT SELECT, INSERT, UPDATE ON runs TO app; GRANT USAGE ON SCHEMA sync_guard TO app});
my $fleet = LeaseFleet->new($node);

sub answer { return join(' ', keys %{ $fleet->counts($_[0]) }); }

# Clients of a worker's incarnation, each with a run.
sub start_group
{
	my ($group, $count, $worker, $terms, $table) = @_;
	$table //= 'runs';
	$fleet->ask("open $group $count");
	$fleet->ask(qq{do $group SELECT token FROM sync_guard.start_sync('$table', '{"sync_type": "{name}"}', worker => '$worker', $terms)});
	return;
}

start_group('old', 3, 'importer-1', "incarnation => 'monday'");
start_group('old_bound', 2, 'importer-1', "incarnation => 'monday', bind_session => true");
start_group('nameless', 1, 'importer-1', 'incarnation => NULL');
start_group('other', 2, 'importer-2', "incarnation => 'monday'");
start_group('elsewhere', 1, 'importer-1', "incarnation => 'monday'", 'others');
$fleet->ask('open alone 1');
$fleet->ask(q{do alone SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}')});
$fleet->ask('open opening 1');
$fleet->ask('do opening BEGIN');
start_group('fenced', 1, 'importer-1', "incarnation => 'monday'");
$fleet->ask('do fenced BEGIN');
is(answer('do fenced SELECT sync_guard.fence({token})'), '', 'one of them is just committing');
is(sql('SELECT count(*) FROM sync_guard.running_syncs'), '11', 'eleven runs are alive');

# The next start of the same replica. Whoever may not update a table closes nothing there.
is(sql(q{SET ROLE app; SELECT sync_guard.worker_started('importer-1', 'tuesday')}), '6',
	'another incarnation: six runs are reaped at once, all but the one that is committing');
is(sql(q{SELECT verdict, path, role, count(*) FROM sync_guard.reaped_syncs GROUP BY 1, 2, 3}), 'worker_restarted|worker_started|app|6',
	'worker_restarted');
is(sql(q{SELECT string_agg(regexp_replace(sync_type, '_\d$', ''), ' ' ORDER BY sync_type) FROM runs WHERE status = 'failed'}),
	'nameless old old old old_bound old_bound', 'those are the ones');
is(sql(q{SELECT string_agg(regexp_replace(scope ->> 'sync_type', '_\d$', '') || ':' || verdict, ' ' ORDER BY scope) FROM sync_guard.running_syncs}),
	'alone:live elsewhere:live fenced:fenced other:live other:live', 'and no others: those are alive');
like(sql(q{SELECT reason FROM sync_guard.reaped_syncs LIMIT 1}),
	qr/^Sync interrupted.*: worker_restarted: its worker has started anew, last sign of life /, 'the reason says it');

# The old incarnation.
for my $group (qw(old old_bound nameless))
{
	is(answer("do $group SELECT sync_guard.heartbeat({token})"), 'f', "$group: its next heartbeat says false");
	is(answer("do $group SELECT sync_guard.finish_sync({token}, 'completed')"), 'SY003', "$group: it cannot finish");
	$fleet->ask("do $group BEGIN");
	is(answer("do $group SELECT sync_guard.fence({token})"), 'SY003', "$group: nor fence");
	$fleet->ask("do $group ROLLBACK");
	is(answer(qq{do $group SELECT sync_guard.take_lease('runs', (SELECT id FROM runs WHERE sync_type = '{name}'), worker => 'importer-1', incarnation => 'monday')}),
		'SY006', "$group: nor take its lease again");
}
is(answer('do fenced COMMIT'), '', 'the one that was committing has committed');
is(sql(q{SELECT verdict FROM sync_guard.stuck_syncs}), 'worker_restarted', 'now it is dead, too');
is(answer('do fenced SELECT sync_guard.heartbeat({token})'), 'f', 'its next heartbeat says so before anything has closed it');
is(answer(q{do fenced SELECT sync_guard.finish_sync({token}, 'completed')}), 'SY003', 'and it cannot finish');
is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '1', 'the next reaping closes it');
is(sql(q{SELECT path FROM sync_guard.reaped_syncs ORDER BY reaping DESC LIMIT 1}), 'call', 'whoever calls it');
is(answer('do other SELECT sync_guard.heartbeat({token})'), 't', 'another worker goes on');
is(answer('do elsewhere SELECT sync_guard.heartbeat({token})'), 't', 'so does one on a table that the caller may not update');

# The new incarnation's own runs are not its past.
start_group('new', 2, 'importer-1', "incarnation => 'tuesday'");
is(sql(q{SET ROLE app; SELECT sync_guard.worker_started('importer-1', 'tuesday')}), '0', 'announced again: nothing to reap');
is_deeply($fleet->counts('do new SELECT sync_guard.heartbeat({token})'), { t => 2 }, 'its runs are alive');
is(sql(q{SELECT sync_guard.worker_started('importer-1', 'tuesday')}), '1', 'the owner of the other table closes what is left there');
is(answer('do elsewhere SELECT sync_guard.heartbeat({token})'), 'f', 'which is told');
is_deeply($fleet->counts('do new SELECT sync_guard.heartbeat({token})'), { t => 2 }, 'and the new ones are still alive');

# A run whose start is not committed when its worker announces itself: its lease is nowhere yet.
$fleet->ask('open early 1');
$fleet->ask('do early BEGIN');
$fleet->ask(q{do early SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', worker => 'importer-1', incarnation => 'tuesday')});
is(sql(q{SELECT sync_guard.worker_started('importer-1', 'wednesday')}), '2', 'it is not waited for');
$fleet->ask('do early COMMIT');
is(answer('do early SELECT sync_guard.heartbeat({token})'), 't', 'committed afterwards it lives');
is(sql(q{SELECT sync_guard.worker_started('importer-1', 'wednesday')}), '1', 'until its worker announces itself again');
is(answer('do early SELECT sync_guard.heartbeat({token})'), 'f', 'and then it is told');

is(sql(q{SELECT count(*) FROM sync_guard.leases WHERE ended_at IS NULL AND worker = 'importer-1'}), '0', 'no lease of the worker is open');
is(sql(q{SELECT count(*), count(DISTINCT run_key) FROM sync_guard.reaped_syncs WHERE relation_name LIKE '%runs'}), '10|10', 'each run was reaped once');

$fleet->end;
$node->stop;
done_testing();
