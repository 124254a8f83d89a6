# Leases that memory has to come to know in unusual ways: taken by the very statement that starts the run, and after a crash, when
# memory is empty and the first heartbeat brings the run back into it. On a table that is exclusive and on one that is not.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('leases_in_memory', preload => ['emag_sync_guard'], conf => q{emag_sync_guard.restart_grace = '10min'});

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub beat { return "SELECT sync_guard.heartbeat($_[0])"; }

my %exclusive = (shared => 'false', exclusive => 'true');
my @tables = sort keys %exclusive;
my (%key, %token, %later);
foreach my $table (@tables)
{
	make_run_table($node, $table);
	sql("SELECT sync_guard.guard_table('$table', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => $exclusive{$table})");

	# ---- the lease in the statement that starts the run ---------------------------------------------------------------------
	my $start = qq{WITH r AS (INSERT INTO $table (sync_type) VALUES ('at once') RETURNING id) SELECT sync_guard.take_lease('$table', (SELECT id FROM r), '10 min')};
	my $known = qq{FROM sync_guard.tracked_runs WHERE relation = '$table'::regclass};
	like(sql("BEGIN; $start; ROLLBACK"), qr/^\d+$/, "$table: a lease for a start that is rolled back");
	is(sql("SELECT count(*) $known"), '0', "$table: nothing is left of it in memory");
	is(sql("SELECT count(*) FROM sync_guard.live_runs() WHERE relation = '$table'::regclass"), '0', "$table: nobody is live");
	my $token = $token{$table} = sql($start);
	my $key = $key{$table} = sql("SELECT id FROM $table");
	is(sql(beat($token)), 't', "$table: the lease has its worker");
	is(sql("SELECT run_key, uncommitted, token, lease $known"), "$key|f|$token|heartbeat", "$table: memory knows it");
	is(sql("SELECT run_key, verdict, lease FROM sync_guard.live_runs() WHERE relation = '$table'::regclass"), "$key|live|heartbeat", "$table: as do readers");
	$later{$table} = sql("INSERT INTO $table (sync_type) VALUES ('later') RETURNING id");
	$later{$table} = sql("SELECT sync_guard.take_lease('$table', $later{$table}, '10 min')");
}

# ---- after a crash ----------------------------------------------------------------------------------------------------------------
$node->stop('immediate');
$node->start;
is(sql('SELECT count(*) FROM sync_guard.tracked_runs'), '0', 'memory is empty');
foreach my $table (@tables)
{
	is(sql("SELECT verdict FROM sync_guard.live_runs() WHERE relation = '$table'::regclass AND run_key = '$key{$table}'"), 'suspect', "$table: nothing was heard of the run since then");
	is(sql(beat($token{$table})), 't', "$table: its heartbeat is heard");
	is(sql("SELECT verdict FROM sync_guard.live_runs() WHERE relation = '$table'::regclass AND run_key = '$key{$table}'"), 'live', "$table: and it is live");

	# What is read is counted before and after the heartbeat in one transaction: the counts are passed on between transactions alone.
	my $worker = $node->background_psql('postgres', on_error_stop => 1);
	my $looks = qq{
		SELECT sum(seq_scan + coalesce(idx_scan, 0)) FROM pg_stat_xact_all_tables
		WHERE relid IN ('$table'::regclass, 'sync_guard.leases'::regclass, 'sync_guard.passed_over'::regclass)};
	my @reads;
	foreach my $number (1 .. 3)
	{
		$worker->query_safe('BEGIN');
		my $before = $worker->query_safe($looks);
		is($worker->query_safe(beat($later{$table})), 't', "$table: heartbeat $number of another one is heard");
		push @reads, $worker->query_safe($looks) - $before;
		$worker->query_safe('COMMIT');
	}
	$worker->quit;
	cmp_ok($reads[0], '>', 0, "$table: the first one looks into tables");
	is($reads[2], 0, "$table: the third one does not");
	is(sql("SELECT last_beat IS NULL FROM sync_guard.leases WHERE token = $later{$table}"), 't', "$table: none of them was written");
}
$node->stop;
done_testing();
