# More leased runs are dead than the server's lock table has room for: a call closes what fits, says what is left, and the next one
# goes on. Nobody else runs out of locks meanwhile, and other tables are reaped.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('many_leases', preload => ['emag_sync_guard'],
	conf => "max_connections = 10\nmax_worker_processes = 4\nmax_locks_per_transaction = 10\nmax_wal_senders = 0\nmax_prepared_transactions = 0\nautovacuum = off");

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
make_run_table($node, 'others');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC');
	SELECT sync_guard.guard_table('others', scope_columns => '{sync_type}', time_zone => 'UTC');
	INSERT INTO others (sync_type) SELECT 'plain' FROM generate_series(1, 400)});
my $dead = 400;
sql(qq{DO \$\$ BEGIN FOR i IN 1..$dead LOOP PERFORM sync_guard.start_sync('runs', '{"sync_type": "leased"}'); COMMIT; END LOOP; END \$\$});

my ($calls, $left) = (0, $dead);
while ($left > 0 && $calls < 50)
{
	my ($status, $stdout, $stderr) = $node->psql('postgres', q{SELECT sync_guard.reap_stale_syncs('1 microsecond', even_if_alive => true)});
	is($status, 0, "call $calls went through");
	my $open = sql(q{SELECT count(*) FROM runs WHERE status = 'running'});
	is($stdout, $left - $open + ($calls == 0 ? 400 : 0), 'it closed as many as it says, and the other table at once') or last;
	is(scalar($stderr =~ /NOTICE:  $open dead runs? (?:is|are) left for the next call/), $open > 0 ? 1 : '', "it says that $open are left");
	cmp_ok($open, '<', $left, 'fewer than before') or last;
	($left, $calls) = ($open, $calls + 1);
}
is($left, 0, 'all are closed in the end');
cmp_ok($calls, '>', 2, 'by several calls');
is(sql(q{SELECT count(*), count(DISTINCT run_key) FROM sync_guard.journal WHERE event = 'reaped' AND relation_name ~ 'runs$'}), "$dead|$dead", 'one line for each');
is(sql(q{SELECT count(*) FROM sync_guard.leases WHERE ended_at IS NULL}), 0, 'no lease is open');
unlike(slurp_file($node->logfile), qr/out of shared memory/, 'nobody ran out of locks');

done_testing();
