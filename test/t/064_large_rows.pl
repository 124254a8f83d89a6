# Large values: errors and progress of 10 MB pass through finish_sync, a reaping, a late finish, the journal; and many dead runs with
# large rows are closed in batches that fit into memory.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('large_rows', preload => ['emag_sync_guard'], conf => "shared_buffers = 16MB\nlog_statement = none");

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{
	ALTER TABLE runs ADD note text;
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC')});

my $text = q{repeat('0123456789abcdef', 655360)};    # 10 MB
my $ago = q{(now() AT TIME ZONE 'UTC') - interval '2 hours'};

my $token = sql(q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "finished"}')});
sql("SELECT sync_guard.finish_sync($token, 'failed', to_jsonb($text))");
is(sql(q{SELECT length(errors ->> 0) FROM runs WHERE sync_type = 'finished'}), '10485760', 'finish_sync takes an error of 10 MB');

my $key = sql("INSERT INTO runs (sync_type, started_at, errors, note) VALUES ('reaped', $ago, jsonb_build_array($text), $text) RETURNING id");
is(sql(q{SELECT sync_guard.reap_stale_syncs('1 hour', even_if_alive => true)}), '1', 'a row of 20 MB is reaped');
is(sql("SELECT status, length(errors ->> 0), jsonb_array_length(errors) FROM runs WHERE id = $key"), 'failed|10485760|2', 'its errors are kept');
is(sql("SELECT length(run ->> 'note'), length(run -> 'errors' ->> 0) FROM sync_guard.journal WHERE event = 'reaped' AND run_key = '$key'"), '10485760|10485760',
	'the journal has all of it');
my (undef, undef, $stderr) = $node->psql('postgres', "UPDATE runs SET status = 'completed', errors = jsonb_build_array(reverse($text)) WHERE id = $key");
like($stderr, qr/WARNING:  late finish/, 'a late finish that brings 10 MB is kept');
cmp_ok(length $stderr, '<', 1000, 'the warning does not repeat them');
is(sql("SELECT left(wanted -> 'errors' ->> 0, 4), length(wanted -> 'errors' ->> 0) FROM sync_guard.journal WHERE event = 'late_finish'"), 'fedc|10485760', 'the journal does');

# ---- many large rows ---------------------------------------------------------------------------------------------------------
# Batches are told by the subtransactions that wrote their lines.
sub reap_large
{
	my ($count, $size) = @_;
	sql(qq{
		TRUNCATE runs, sync_guard.journal;
		INSERT INTO runs (sync_type, started_at, note) SELECT 'many', $ago, repeat('0123456789abcdef', $size * 1024 / 16) FROM generate_series(1, $count)});
	my ($before, $reaped, $after) = split /\n/, sql(q{
		SELECT substring(pg_read_file('/proc/self/status', 0, 4000) FROM 'VmHWM:\s*(\d+) kB')::bigint / 1024;
		SELECT sync_guard.reap_stale_syncs('1 hour', even_if_alive => true);
		SELECT substring(pg_read_file('/proc/self/status', 0, 4000) FROM 'VmHWM:\s*(\d+) kB')::bigint / 1024});
	is($reaped, $count, "$count rows of $size kB are reaped");
	diag(sprintf '%d rows of %d kB: %d MB', $count, $size, $after - $before);
	return ($after - $before, sql(q{SELECT string_agg(n::text, ' ' ORDER BY first) FROM (SELECT count(*) AS n, min(id) AS first FROM sync_guard.journal GROUP BY xmin) AS b}));
}
my ($peak, $batches) = reap_large(60, 2048);
is($batches, '16 15 15 14', 'in batches that get no larger than the rows let them');
cmp_ok($peak, '<', 400, 'within 400 MB');
(undef, $batches) = reap_large(1500, 1);
is($batches, '16 64 256 1000 164', 'small rows in batches that grow');

$node->stop;
done_testing();
