# A lease is bound to its session as far as its transactions commit: one that was taken in a transaction that is rolled back is
# not, one that was given up there is bound still. A session that lives for long and ends its runs by its own UPDATE does not
# run out of leases to bind. Many that die at once are closed by one worker, whatever the database has as its defaults.
use strict;
use warnings;

use GuardNode;
use LeaseFleet;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => fleet_missing() if fleet_missing();

my $node = guard_node('bound_leases', preload => ['emag_sync_guard']);

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC')});
my $start = q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', bind_session => true)};
my $finish = q{SELECT sync_guard.finish_sync({token}, 'completed')};
my $fleet = LeaseFleet->new($node);

# How many canaries there are, of this client or of all (class 0x6503 in src/README.md).
sub canaries
{
	my ($name) = @_;
	my $whose = defined $name ? "application_name = '$name'" : 'true';
	return sql(qq{
		SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE locktype = 'advisory' AND objsubid = x'6503'::int AND $whose});
}

sub lease_of { return sql(qq{SELECT lease, verdict FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' = '$_[0]'}); }

# Kills a client and tells how its run stands in the end.
sub death_of
{
	my ($fleet_name) = @_;
	$fleet->ask("signal $fleet_name KILL");
	poll_until($node, "SELECT status <> 'running' FROM runs WHERE sync_type = '${fleet_name}_0'", "$fleet_name: killed, its run ends");
	return sql(qq{
		SELECT status, j.verdict, j.path FROM runs LEFT JOIN sync_guard.reaped_syncs AS j ON run_key = id::text
		WHERE sync_type = '${fleet_name}_0'});
}

# ---- given up, and not ----------------------------------------------------------------------------------------------------
$fleet->ask('open undone 1');
$fleet->ask("do undone $_") for $start, 'BEGIN', $finish, 'ROLLBACK';
is(lease_of('undone_0'), 'session|live', 'finished in a transaction that is rolled back: the lease is bound');
is(death_of('undone'), 'failed|session_gone|worker', 'and the run ends with the session');

$fleet->ask('open partly 1');
$fleet->ask("do partly $_") for $start, 'BEGIN', 'SAVEPOINT s', $finish, 'ROLLBACK TO s', 'COMMIT';
is(lease_of('partly_0'), 'session|live', 'finished in a savepoint that is rolled back: the same');
is(death_of('partly'), 'failed|session_gone|worker', 'and the run ends with the session');

$fleet->ask('open done 1');
$fleet->ask("do done $_") for $start, 'BEGIN', 'SAVEPOINT s', $finish, 'RELEASE s';
is(canaries('done_0'), '1', 'until the commit the lease is bound');
$fleet->ask('do done COMMIT');
is(canaries('done_0'), '0', 'finished and committed: it is not');

# ---- taken, and not -------------------------------------------------------------------------------------------------------
$fleet->ask('open never 1');
$fleet->ask("do never $_") for 'BEGIN', $start, 'ROLLBACK';
is(canaries('never_0'), '0', 'taken in a transaction that is rolled back: nothing is bound');
$fleet->ask("do never $_") for 'BEGIN', 'SAVEPOINT s', $start, 'ROLLBACK TO s';
is(canaries('never_0'), '0', 'nor in a savepoint');
$fleet->ask("do never $_") for 'SAVEPOINT t', $start, 'RELEASE t', 'COMMIT';
is(lease_of('never_0'), 'session|live', 'taken in one that is released: bound');
is(death_of('never'), 'failed|session_gone|worker', 'and the run ends with the session');

# ---- a long session --------------------------------------------------------------------------------------------------------
$fleet->ask('open long 1');
for (1 .. 600)
{
	$fleet->ask("do long $start");
	$fleet->ask(q{do long UPDATE runs SET status = 'completed' WHERE sync_type = 'long_0' AND status = 'running'});
}
cmp_ok(canaries('long_0'), '<=', 20, 'runs that their worker ends by his own UPDATE leave few canaries behind');
$fleet->ask("do long $start");
is(lease_of('long_0'), 'session|live', 'and the last is bound as the first');
$fleet->ask('signal long KILL');
poll_until($node, q{SELECT count(*) = 0 FROM runs WHERE status = 'running'}, 'killed: it is closed');

# ---- many at once, with the database's defaults against it --------------------------------------------------------------------
sql(q{
	ALTER SYSTEM SET emag_sync_guard.enabled = off;
	ALTER DATABASE postgres SET default_transaction_read_only = on;
	ALTER DATABASE postgres SET default_transaction_isolation = 'serializable'});
$node->reload;
poll_until($node, q{SELECT current_setting('emag_sync_guard.enabled') = 'off'}, 'the guard is off');
$fleet->ask('open many 6');
$fleet->ask("do many $_") for 'SET default_transaction_read_only = off', q{SET default_transaction_isolation = 'read committed'},
	'SET emag_sync_guard.enabled = on';
$fleet->ask(q{do many SELECT count(s.token) FROM generate_series(1, 200) AS i,
	LATERAL sync_guard.start_sync('runs', jsonb_build_object('sync_type', '{name}', 'processed_items', i), bind_session => true) AS s});
is(sql(q{SELECT count(*) FROM sync_guard.tracked_runs WHERE lease = 'session'}), '1200', 'more are bound than one pass closes');
$fleet->ask('signal many KILL');
poll_until($node, q{SELECT count(*) = 1200 FROM sync_guard.tracked_runs WHERE session_ended IS NOT NULL}, 'killed: their sessions have ended')
  or diag(sql('TABLE sync_guard.guard_memory'));
poll_until($node, q{SELECT requests_open = 0 FROM sync_guard.guard_memory}, 'what they asked the worker for is done with');
is(sql(q{SELECT count(*) FROM runs WHERE status = 'running'}), '1200', 'while the guard is off nothing is closed');
$node->safe_psql('postgres', 'SET default_transaction_read_only = off; ALTER SYSTEM RESET emag_sync_guard.enabled');
$node->reload;
poll_until($node, q{SELECT current_setting('emag_sync_guard.enabled') = 'on'}, 'it is on again');
$fleet->ask('open last 1');
$fleet->ask('do last SET default_transaction_read_only = off');
$fleet->ask("do last $start");
$fleet->ask('signal last KILL');
poll_until($node, q{SELECT count(*) = 0 FROM runs WHERE status = 'running'}, 'then all of them are, at the next death');
is(sql(q{SELECT count(*), string_agg(DISTINCT verdict || ' ' || path, ', ') FROM sync_guard.reaped_syncs WHERE scope ->> 'sync_type' ~ '^(many|last)'}),
	'1201|session_gone worker', 'by the worker');

$fleet->end;
$node->stop;
done_testing();
