# Ten thousand heartbeats leave no trace on disk: no WAL, no transaction number, no dead row. Only memory knows of them.
use strict;
use warnings;

use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $beats = 10_000;

# Nothing else writes: nothing is replicated (so that no snapshots of running transactions are logged), and nothing vacuumed.
my $node = guard_node('beats_write_nothing', preload => ['emag_sync_guard'], conf => qq{
	autovacuum = off
	checkpoint_timeout = 1h
	wal_level = minimal
	max_wal_senders = 0
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC')});

# Beats from one session, each in a transaction of its own.
sub beat
{
	my ($token, $transactions, $statement) = @_;
	my $script = PostgreSQL::Test::Utils::tempdir() . '/beat.sql';
	append_to_file($script, $statement // "SELECT sync_guard.heartbeat($token, :client_id + 7, 100)");
	my $out = '';
	IPC::Run::run([ 'pgbench', '--no-vacuum', '--client', 1, '--protocol', 'prepared', '--transactions', $transactions,
			'--file', $script, $node->connstr('postgres') ], '>', \$out, '2>&1') or die $out;
	my ($rate) = $out =~ /^tps = ([\d.]+)/m;
	return $rate;
}

# Where the WAL ends, the next transaction number, and what the tables have seen of updates, dead rows and inserts.
sub traces
{
	return sql(q{
		SELECT pg_stat_force_next_flush();
		SELECT pg_current_wal_insert_lsn(), pg_snapshot_xmax(pg_current_snapshot()),
			   (SELECT string_agg(format('%s:%s/%s/%s', relname, n_tup_upd, n_dead_tup, n_tup_ins), ' ' ORDER BY relname)
				FROM pg_stat_user_tables WHERE relname IN ('runs', 'leases', 'journal'))}) =~ s/^\n//r;
}

my $token = sql(q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "products"}', ttl => '1 minute')});
# What whoever reads a page of the catalog would clean up there is cleaned up.
sql('VACUUM');
sql('CHECKPOINT');
my $before = traces();
my $records = sql('SELECT wal_records FROM pg_stat_wal');
my $sign = sql('SELECT last_sign_of_life FROM sync_guard.running_syncs');
my $rate = beat($token, $beats);
is(traces(), $before, "$beats heartbeats: not a byte of WAL, no transaction number, no row written or dead");
is(sql('SELECT wal_records FROM pg_stat_wal'), $records, 'no WAL record');
is(sql("SELECT last_sign_of_life > '$sign', done, total FROM sync_guard.running_syncs"), 't|7|100', 'and they are known');
is(sql('SELECT last_beat IS NULL AND done IS NULL FROM sync_guard.leases'), 't', 'the lease\'s row has not been touched');

# In one transaction, many of them and no commit.
$before = traces();
sql("DO \$\$ BEGIN FOR i IN 1 .. $beats LOOP PERFORM sync_guard.heartbeat($token, i); END LOOP; END \$\$");
is(traces(), $before, 'nor from within one transaction');
is(sql('SELECT done FROM sync_guard.running_syncs'), $beats, 'whose last word is known');

# Reading costs nothing of the sort either.
sql('SELECT sync_guard.sync_is_running(), count(*) FROM sync_guard.live_runs(); SELECT count(*) FROM sync_guard.guard_health');
is(traces(), $before, 'nor does reading');

# What it stands in for: an UPDATE of the run's row.
my $other = beat($token, 1000, "UPDATE runs SET processed_items = processed_items + 1");
isnt(traces(), $before, 'an UPDATE leaves traces: they were looked for in the right place');
diag(sprintf('one client over a socket: %.0f heartbeats a second, %.0f updates of the row a second', $rate, $other));

$node->stop;
done_testing();
