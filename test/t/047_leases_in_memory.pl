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

# ---- runs with the key of an earlier one ----------------------------------------------------------------------------------
sql(q{
	CREATE TABLE parts (id text, status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')),
		started_at timestamptz DEFAULT now(), part int DEFAULT 1, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2);
	SELECT sync_guard.guard_table('parts', key_column => 'id', live_statuses => '{running}', failed_status => 'failed')});
my @old = ('moved', 'deleted', 'replaced', 'truncated');
my %old = map { $_ => sql(qq{SELECT token FROM sync_guard.start_sync('parts', '{"id": "$_"}', ttl => '10 min')}) } @old;
sql(q{UPDATE parts SET part = 2 WHERE id IN ('moved', 'truncated')});
is(sql(q{SELECT string_agg(sync_guard.heartbeat(token)::text, ' ') FROM sync_guard.leases WHERE relation = 'parts'::regclass}), 'true true true true', 'a run that has moved keeps its lease');
sql(q{DELETE FROM parts WHERE id = 'deleted'});
sql(q{INSERT INTO parts VALUES ('deleted')});
sql(q{BEGIN; DELETE FROM parts WHERE id = 'replaced'; INSERT INTO parts VALUES ('replaced'); COMMIT});
sql(q{BEGIN; CREATE TEMP TABLE kept AS SELECT * FROM parts_2 WHERE id = 'moved'; TRUNCATE parts_2; SET LOCAL session_replication_role = replica;
	INSERT INTO parts SELECT * FROM kept; COMMIT});
sql(q{INSERT INTO parts VALUES ('truncated')});
# One whose lease was locked by another session is left to the next sweep, which knows by memory whose it is.
my $locked = sql(qq{SELECT token FROM sync_guard.start_sync('parts', '{"id": "locked"}', ttl => '10 min')});
my $locker = $node->background_psql('postgres', on_error_stop => 1);
$locker->query_safe("BEGIN; SELECT FROM sync_guard.leases WHERE token = $locked FOR UPDATE");
sql(q{DELETE FROM parts WHERE id = 'locked'});
sql(q{INSERT INTO parts VALUES ('locked')});
$locker->quit;
my $lease_of = sub { return sql("SELECT coalesce(end_reason, 'open') FROM sync_guard.leases WHERE token = $_[0]") };
is($lease_of->($locked), 'open', 'a lease that was locked is left open');
is(sql(q{SELECT sync_guard.reap_stale_syncs(relation => 'parts')}), '0', 'a sweep reaps nothing');
is($lease_of->($locked), 'finished', 'and ends it');
$old{locked} = $locked;

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
foreach my $name (sort keys %old)
{
	my $own = $name eq 'moved';
	is(sql("SELECT lease FROM sync_guard.live_runs() WHERE relation = 'parts'::regclass AND run_key = '$name'"), $own ? 'heartbeat' : '', "$name: the lease of the run");
	is(sql(beat($old{$name})), $own ? 't' : 'f', "$name: the heartbeat of the old token");
	next if $own;
	isnt($node->psql('postgres', "BEGIN; SELECT sync_guard.fence($old{$name}); COMMIT", on_error_stop => 1), 0, "$name: its fence is refused");
	isnt($node->psql('postgres', "SELECT sync_guard.finish_sync($old{$name}, 'completed')"), 0, "$name: it ends nothing");
	is(sql("SELECT status FROM parts WHERE id = '$name'"), 'running', "$name: the other run goes on");
}
$node->stop;
done_testing();
