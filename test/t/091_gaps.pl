# What memory observed of a run is left behind when it ends: the longest silence, the longest stall. The sweep brings it into
# sync_guard.observed_gaps; the application's transactions write nothing for it.
use strict;
use warnings;

use File::Basename;
use GuardNode;
use List::Util 'max';
use PostgreSQL::Test::Utils;
use Test::More;

# Nothing else writes; a page is not logged whole, so that the same statement makes the same WAL each time.
my $quiet = "autovacuum = off\ncheckpoint_timeout = 1h\nfull_page_writes = off\nwal_level = minimal\nmax_wal_senders = 0\n";
my $node = guard_node('gaps', preload => ['emag_sync_guard'], conf => "${quiet}emag_sync_guard.restart_grace = 0");

sub sql { return $node->safe_psql('postgres', $_[0]); }

# A statement, and between which readings of the server's clock it was done: [result, from, to], in seconds.
sub timed
{
	my ($statement) = @_;
	my $clock = 'SELECT extract(epoch FROM clock_timestamp())';
	my @lines = split /\n/, sql("$clock; $statement; $clock");
	return [ $lines[1], $lines[0], $lines[-1] ];
}

# Until the server's clock is this much past the end of what was timed.
sub wait_past
{
	my ($timed, $seconds) = @_;
	poll_until($node, "SELECT extract(epoch FROM clock_timestamp()) > $timed->[2] + $seconds", "$seconds s have passed");
	return;
}

# An observed figure is the longest time from one of these moments to the next, as far as the readings tell. (Observed on a
# clock of its own, so a millisecond is let go.)
sub is_longest
{
	my ($got, $name, @moments) = @_;
	my ($least, $most) = (0, 0);
	for my $i (1 .. $#moments)
	{
		my ($from, $to) = @moments[ $i - 1, $i ];
		$least = max($least, $to->[1] - $from->[2] - 0.001);
		$most = max($most, $to->[2] - $from->[1] + 0.001);
	}
	ok($got >= $least && $got <= $most, $name) or diag("$got is not within $least and $most");
	return;
}

sub sweep { return sql('SELECT sync_guard.reap_stale_syncs()'); }

# What is observed of a run after a sweep: longest silence and stall in seconds; '' where there is none.
sub gaps_of
{
	my ($key) = @_;
	sweep();
	return sql(qq{SELECT extract(epoch FROM longest_silence), extract(epoch FROM longest_stall) FROM sync_guard.observed_gaps WHERE run_key = '$key'});
}

my $insert = q{INSERT INTO runs (sync_type) VALUES ('products') RETURNING id};
sub finish { my ($key) = @_; return timed("UPDATE runs SET status = 'completed' WHERE id = $key"); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC')});

# ---- the figures ---------------------------------------------------------------------------------------------------------------
# Progress at once, later a sign of life without any, then progress, then the end.
my $start = timed($insert);
my $key = $start->[0];
my $first = timed("UPDATE runs SET processed_items = 1 WHERE id = $key");
wait_past($first, 0.5);
my $sign = timed("UPDATE runs SET errors = '[]' WHERE id = $key");
wait_past($sign, 0.1);
my $second = timed("UPDATE runs SET processed_items = 2 WHERE id = $key");
my $end = finish($key);
is(sql('SELECT count(*) FROM sync_guard.observed_gaps'), '0', 'the end itself writes nothing');
my ($silence, $stall) = split /\|/, gaps_of($key);
is_longest($silence, 'the longest silence: between two signs of life', $start, $first, $sign, $second, $end);
is_longest($stall, 'the longest stall: from one progress to the next, over a sign of life without any', $first, $second, $end);
is(sql(qq{SELECT relation, ended_at BETWEEN to_timestamp($end->[1] - 0.001) AND to_timestamp($end->[2] + 0.001) FROM sync_guard.observed_gaps}), 'runs|t',
	'with the table and the moment of the end');
sweep();
is(sql('SELECT count(*) FROM sync_guard.observed_gaps'), '1', 'another sweep brings it in no second time');

# Neither signs nor progress: start and end count as signs, and what never moved never stood still.
$start = timed($insert);
$key = $start->[0];
wait_past($start, 0.3);
$end = finish($key);
($silence, $stall) = split /\|/, gaps_of($key), -1;
is_longest($silence, 'without signs of life: from the start to the end', $start, $end);
is($stall, '', 'without progress: no stall');

# Heartbeats, and a stall that lasts to the end.
$start = timed(q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "products"}', ttl => '1 minute')});
my ($started_key, $token) = split /\|/, $start->[0];
$first = timed("SELECT sync_guard.heartbeat($token, 5)");
wait_past($first, 0.2);
my $beat = timed("SELECT sync_guard.heartbeat($token, 5)");
wait_past($beat, 0.3);
$end = timed("SELECT sync_guard.finish_sync($token, 'failed')");
($silence, $stall) = split /\|/, gaps_of($started_key);
is_longest($silence, 'of a run with a lease: from its last beat to its end', $start, $first, $beat, $end);
is_longest($stall, 'a stall that lasts to the end', $first, $end);

# ---- what is noted and what is not -----------------------------------------------------------------------------------------------
# An end that is rolled back is none; the run goes on as it was.
$key = sql($insert);
sql("BEGIN; UPDATE runs SET status = 'completed' WHERE id = $key; ROLLBACK");
is(gaps_of($key), '', 'an end that is rolled back leaves nothing');
is(sql('SELECT used FROM sync_guard.guard_memory'), '1', 'the run is still in memory');
finish($key);
isnt(gaps_of($key), '', 'its end that commits does');
my $lines_before = sql('SELECT count(*) FROM sync_guard.observed_gaps');
sql("BEGIN; SAVEPOINT s; INSERT INTO runs (sync_type) VALUES ('orders'); UPDATE runs SET status = 'completed' WHERE sync_type = 'orders'; ROLLBACK TO s; COMMIT");
sweep();
is(sql('SELECT used, (SELECT count(*) FROM sync_guard.observed_gaps) FROM sync_guard.guard_memory'), "0|$lines_before", 'nor does a run that was rolled back whole');

# What the guard closes says nothing of how long runs may be silent.
$key = start_run($node, 'runs', 'products', '2 hours');
is(sweep(), '1', 'a dead run is reaped');
is(gaps_of($key), '', 'and leaves nothing');
is(sql("SET client_min_messages = error; UPDATE runs SET status = 'completed' WHERE id = $key; SELECT status FROM runs WHERE id = $key"), 'failed', 'its worker finishes late');
is(gaps_of($key), '', 'which leaves nothing either');
# (Seen by memory from its start, so that its reaping alone can be why.)
$key = sql($insert);
sql(q{SELECT sync_guard.guard_table('runs', max_silence => '1 microsecond')});
is(sweep(), '1', 'one that memory knows from its start is reaped');
sql(q{SELECT sync_guard.guard_table('runs', max_silence => '1 hour')});
is(gaps_of($key), '', 'and leaves nothing');

# A reaping that is rolled back is none: the run's own end counts.
$key = sql($insert);
sql(q{BEGIN; SELECT sync_guard.guard_table('runs', max_silence => '1 microsecond'); SELECT sync_guard.reap_stale_syncs(); ROLLBACK});
finish($key);
isnt(gaps_of($key), '', 'a reaping that is rolled back does not keep the run\'s own end from being noted');

$key = sql($insert);
sql("DELETE FROM runs WHERE id = $key");
is(gaps_of($key), '', 'a deleted run leaves nothing');
$key = start_run($node, 'runs', 'products', '20 minutes');
finish($key);
is(gaps_of($key), '', 'one that began before memory heard of it leaves nothing');
sql(q{
	CREATE TABLE long_keys (id text PRIMARY KEY, status text, started_at timestamptz DEFAULT now());
	SELECT sync_guard.guard_table('long_keys', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{}')});
sql(q{INSERT INTO long_keys SELECT repeat('k', n), 'running' FROM unnest('{63,64}'::int[]) AS n});
sql(q{UPDATE long_keys SET status = 'completed'});
sweep();
is(sql(q{SELECT string_agg(length(run_key)::text, ' ') FROM sync_guard.observed_gaps WHERE relation = 'long_keys'::regclass}), '63', 'a key that memory has not in full leaves nothing');

# A run that is started again is one of its own.
sql(q{SELECT sync_guard.allow_transition('runs', 'completed', 'running')});
$first = timed($insert);
$key = $first->[0];
wait_past($first, 0.3);
finish($key);
my $again = timed("UPDATE runs SET status = 'running', started_at = clock_timestamp() AT TIME ZONE 'UTC' WHERE id = $key");
$end = finish($key);
sweep();
my @silences = split /\n/, sql(qq{SELECT extract(epoch FROM longest_silence) FROM sync_guard.observed_gaps WHERE run_key = '$key' ORDER BY ended_at});
is(@silences, 2, 'a run that is started again leaves its gaps twice');
is_longest($silences[1], 'the second time those since it was started again', $again, $end);

# ---- the sweep -------------------------------------------------------------------------------------------------------------------
# One that is rolled back takes nothing with it; and two at once bring in nothing twice.
$key = sql($insert);
finish($key);
my $count = "SELECT count(*) FROM sync_guard.observed_gaps WHERE run_key = '$key'";
is(sql("BEGIN; SELECT sync_guard.reap_stale_syncs(); $count; ROLLBACK; $count"), "0\n1\n0", 'a sweep that is rolled back has brought in nothing');
my $other = $node->background_psql('postgres', on_error_stop => 1);
$other->query_safe('BEGIN; SELECT sync_guard.reap_stale_syncs()');
is($other->query_safe($count), '1', 'what it had noted is still there for the next');
sweep();
is(sql($count), '0', 'which another one meanwhile leaves to it');
$other->query_safe('COMMIT');
sweep();
is(sql($count), '1', 'once');

# At most ten thousand of a table, the newest.
sql(q{INSERT INTO sync_guard.observed_gaps SELECT 'runs', 'old', now() - n * interval '1 minute', '1 s', NULL FROM generate_series(1, 10050) AS n});
my $of_others = sql(q{SELECT count(*) FROM sync_guard.observed_gaps WHERE relation = 'long_keys'::regclass});
my $observed = sql(q{SELECT count(*) FROM sync_guard.observed_gaps WHERE relation = 'runs'::regclass AND run_key <> 'old'});
$key = sql($insert);
finish($key);
sweep();
is(sql(q{SELECT count(*), count(*) FILTER (WHERE run_key <> 'old') FROM sync_guard.observed_gaps WHERE relation = 'runs'::regclass}),
	'10000|' . ($observed + 1), 'the newest ten thousand of a table are kept');
is(sql(q{SELECT count(*) FROM sync_guard.observed_gaps WHERE relation = 'long_keys'::regclass}), $of_others, 'of each');
sql('DELETE FROM sync_guard.observed_gaps');

# ---- what it costs ---------------------------------------------------------------------------------------------------------------
# The WAL that a run's end makes, in bytes; twice, so that the second finds everything warm.
my $lsn = 'pg_current_wal_insert_lsn()';
sub wal_of_an_end
{
	my ($server) = @_;
	my $bytes;
	for (1 .. 3)
	{
		my $id = $server->safe_psql('postgres', $insert);
		$server->safe_psql('postgres', 'VACUUM');
		my ($before, $after) = split /\n/, $server->safe_psql('postgres', "SELECT $lsn; UPDATE runs SET status = 'completed' WHERE id = $id; SELECT $lsn");
		$bytes = $server->safe_psql('postgres', "SELECT pg_wal_lsn_diff('$after', '$before')");
	}
	return $bytes;
}
sub wal_position { return sql("SELECT $lsn"); }

my $with_memory = wal_of_an_end($node);
is(sql('SELECT used FROM sync_guard.guard_memory'), '0', 'every entry is given up');
$key = sql($insert);
finish($key);
sql('VACUUM');
my $before = wal_position();
is(sql('SELECT used FROM sync_guard.guard_memory'), '0', 'the entry is met and given up');
is(wal_position(), $before, 'to note it makes not a byte of WAL');
isnt(gaps_of($key), '', 'and noted it was');
isnt(wal_position(), $before, 'the sweep writes');

is(sql('SELECT max_tracked_runs FROM sync_guard.guard_memory'), '2048', 'the memory has its usual size');
my $bytes = sql('SELECT bytes_per_run FROM sync_guard.guard_memory');
my @told = map { slurp_file($_) =~ /(\d+) bytes\s+each/g } glob(dirname(__FILE__) . '/../../{README.md,docs/*.md}');
ok(@told > 0, 'the documentation tells how much memory a run takes');
is_deeply([ grep { $_ != $bytes } @told ], [], "$bytes bytes");

# ---- more than there is room for --------------------------------------------------------------------------------------------------
# Where no sweep comes and entries give way to new runs, the newest thousand ends are known.
$node->append_conf('postgresql.conf', 'emag_sync_guard.max_tracked_runs = 16');
$node->restart;
sql('DELETE FROM sync_guard.observed_gaps');
my $last = sql($insert);
sql(q{
	DO $$ DECLARE run bigint; BEGIN
		FOR i IN 1 .. 1200 LOOP
			INSERT INTO runs (sync_type) VALUES ('products') RETURNING id INTO run; COMMIT;
			UPDATE runs SET status = 'completed' WHERE id = run; COMMIT;
		END LOOP;
	END $$});
sweep();
my ($lines, $newest, $oldest) = split /\|/, sql(qq{
	SELECT count(*), count(*) FILTER (WHERE run_key::bigint > $last + 200), count(*) FILTER (WHERE run_key::bigint <= $last + 140)
	FROM sync_guard.observed_gaps});
is($newest, '1000', '1200 ends without a sweep: the newest thousand are known');
is($oldest, '0', 'the oldest have given way');
cmp_ok($lines, '<=', 1024 + 16, 'no more than there is room for');
is(sql('SELECT count(DISTINCT run_key) FROM sync_guard.observed_gaps'), $lines, 'each once');
is(sql('SELECT refused FROM sync_guard.guard_memory'), '0', 'every run found room');
$node->stop;

# ---- without shared memory --------------------------------------------------------------------------------------------------------
$node = guard_node('gaps_unloaded', conf => $quiet);
make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC')});
is(wal_of_an_end($node), $with_memory, "an end makes as much WAL as it does without memory: $with_memory bytes");
sweep();
is(sql('SELECT count(*) FROM sync_guard.observed_gaps'), '0', 'not preloaded: nothing is observed');
is(sql(q{SELECT count(*) FROM runs WHERE status = 'completed'}), '3', 'of runs that ended');

$node->stop;
done_testing();
