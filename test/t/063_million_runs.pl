# A million runs that have ended and ten thousand dead ones: reaping them is one statement's work, found by an index on the
# status, plain or partial; a second call finds nothing; slices come to the same. The times are printed, beside that of the
# plain UPDATE by which people close such rows by hand.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $ended = 1_000_000;
my $dead = 10_000;

my $node = guard_node('million_runs', conf => qq{
	fsync = off
	max_wal_size = 4GB
	shared_buffers = 256MB
	autovacuum = off
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Runs a statement; returns its result and says how long it took.
sub timed
{
	my ($what, $statement) = @_;
	my $begun = time;
	my $result = sql($statement);
	my $took = 1000 * (time - $begun);
	note(sprintf('%-58s %7.0f ms', $what, $took));
	return wantarray ? ($result, $took) : $result;
}

# Among a hundred that ended one is dead; ten live ones come last.
sub make_runs
{
	my ($table) = @_;
	sql(qq{
		CREATE TABLE $table (
			id bigint PRIMARY KEY, sync_type varchar(50) NOT NULL, account_type varchar(10) NOT NULL, operation varchar(50) NOT NULL,
			status varchar(50) NOT NULL CHECK (status IN ('running', 'completed', 'failed', 'partial')),
			processed_items integer NOT NULL DEFAULT 0, errors jsonb, duration_seconds double precision,
			started_at timestamp NOT NULL, completed_at timestamp);
		INSERT INTO $table (id, sync_type, account_type, operation, status, processed_items, started_at, completed_at, duration_seconds)
		SELECT i, 'products', 'main', 'full_sync', CASE WHEN is_dead THEN 'running' ELSE 'completed' END, i % 1000,
		       started, CASE WHEN is_dead THEN NULL ELSE started + interval '5 minutes' END, CASE WHEN is_dead THEN NULL ELSE 300 END
		FROM (SELECT i, i % 101 = 0 AS is_dead, (now() AT TIME ZONE 'UTC') - interval '1 day' - i * interval '1 s' AS started
		      FROM generate_series(1, $ended + $dead) AS i) AS runs;
		INSERT INTO $table (id, sync_type, account_type, operation, status, started_at)
		SELECT 2000000 + i, 'orders', 'main', 'full_sync', 'running', now() AT TIME ZONE 'UTC' FROM generate_series(1, 10) AS i;
		CREATE INDEX ${table}_started_at ON $table (started_at)});
	return;
}

# The way to the candidates: the plan's scans of the table.
sub scans
{
	my ($table) = @_;
	my $query = sql("SELECT sync_guard.live_runs_query('$table')");
	my $plan = sql("EXPLAIN (COSTS OFF) $query");
	note($plan);
	return $plan;
}

# What must not be, counted.
sub violations
{
	my ($table) = @_;
	return sql(qq{
		WITH reaped AS (SELECT run_key::bigint AS id, count(*) AS lines FROM sync_guard.journal
		                WHERE relation = '$table'::regclass AND event = 'reaped' GROUP BY 1)
		SELECT count(*) FILTER (WHERE lines > 1), count(*) FILTER (WHERE (status = 'failed') <> (lines IS NOT NULL)),
		       count(*) FILTER (WHERE coalesce(jsonb_array_length(errors), 0) <> coalesce(lines, 0)),
		       count(*) FILTER (WHERE status = 'failed' AND (completed_at < started_at OR duration_seconds < 86400)),
		       count(*) FILTER (WHERE status = 'completed' AND duration_seconds <> 300),
		       count(*) FILTER (WHERE status = 'running') - 10
		FROM $table FULL JOIN reaped USING (id)});
}

# An index on the status, as the application has it.
make_runs('runs');
sql('CREATE INDEX runs_status ON runs (status); VACUUM ANALYZE runs');
make_runs('by_hand');
sql('CREATE INDEX by_hand_status ON by_hand (status); VACUUM ANALYZE by_hand; CHECKPOINT');
sql(q{SELECT sync_guard.guard_table('runs')});
like(scans('runs'), qr/Index Scan (using|on) runs_status/, 'the live runs are found by the index on the status');
unlike(scans('runs'), qr/Seq Scan on/, 'and by it alone');

is(timed('is a sync running, with ten thousand dead runs', q{SELECT sync_guard.sync_is_running(NULL, 'runs')}), 't', 'readers are right before');
is(timed('dry run', q{SELECT count(*) FROM sync_guard.stale_syncs()}), $dead, "the dry run tells of $dead");
my ($reaped, $took) = timed("reap_stale_syncs(): $dead runs of a million", 'SELECT sync_guard.reap_stale_syncs()');
is($reaped, $dead, "one statement reaps all $dead");
is(timed('a second call', 'SELECT sync_guard.reap_stale_syncs()'), '0', 'a second call has nothing to do');
is(violations('runs'), '0|0|0|0|0|0', 'rows and journal agree, the others are as they were');
my (undef, $by_hand) = timed('the plain UPDATE by hand, without triggers and journal', q{
	UPDATE by_hand SET status = 'failed', completed_at = started_at + interval '5 minutes', duration_seconds = 300,
		errors = '["Sync interrupted by system restart or timeout"]'::jsonb
	WHERE status = 'running' AND started_at < (now() AT TIME ZONE 'UTC') - interval '10 minutes'});
note(sprintf('reaping took %.1f times as long as the plain UPDATE', $took / $by_hand));
is(timed('is a sync running, afterwards', q{SELECT sync_guard.sync_is_running(NULL, 'runs')}), 't', 'readers are right after');

# A partial index, in slices.
sql('DROP TABLE by_hand');
make_runs('slices');
sql(q{CREATE INDEX slices_live ON slices (id) WHERE status = 'running'; VACUUM ANALYZE slices});
sql(q{SELECT sync_guard.guard_table('slices')});
like(scans('slices'), qr/Index Scan (using|on) slices_live/, 'the live runs are found by the partial index');
my $oldest = sql(q{SELECT min(started_at) FROM slices});
foreach my $slice (1 .. 4)
{
	is(timed("slice $slice of 4", q{SELECT sync_guard.reap_stale_syncs(relation => 'slices', max_runs => 2500)}), '2500', "slice $slice");
	if ($slice == 1)
	{
		is(sql(q{SELECT max(started_at) FILTER (WHERE status = 'failed')
				< min(started_at) FILTER (WHERE status = 'running') FROM slices}), 't', 'the oldest come first');
	}
}
is(timed('the next slice', q{SELECT sync_guard.reap_stale_syncs(relation => 'slices', max_runs => 2500)}), '0', 'and then there is none');
is(violations('slices'), '0|0|0|0|0|0', 'rows and journal agree, the others are as they were');

$node->stop;
done_testing();
