# The first minute after a start of the server: a table that is adopted then is judged by its rows at once, since nothing that
# was known of its runs can be lost; the runs of one that was guarded before are suspect, and no alarm is raised on their account.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

# (The grace is longer than this test may take.)
my $node = guard_node('restart_grace', preload => ['emag_sync_guard'], conf => 'emag_sync_guard.restart_grace = 30min');

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{ALTER TABLE runs ADD total_items integer; INSERT INTO runs (sync_type, started_at, processed_items, total_items) VALUES ('products', now() AT TIME ZONE 'UTC' - interval '2 hours', 100, 400)});

my ($status, undef, $notices) = $node->psql('postgres',
	q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', max_silence => '1 hour')});
is($status, 0, 'a table is adopted right after the start of the server');
like($notices, qr/NOTICE:  1 of 1 run with a live status would be reaped now/,
	'guard_table tells of its dead run');
is(sql('SELECT verdict, dead FROM sync_guard.live_runs()'), 'silent|t', 'its run is dead');
is(sql(q{SELECT rule, figure BETWEEN 3600 AND 4600 FROM sync_guard.alerts}), 'stuck|t', 'the alert is that it is stuck');
is(sql(q{SELECT sync_guard.sync_is_running('products')}), 'f', 'and no sync is running');

$node->restart;
is(sql('SELECT verdict, dead, expected_end IS NULL FROM sync_guard.live_runs()'), 'suspect|f|t',
	'after a restart it is suspect, and nobody says when it will end');
is(sql('SELECT count(*) FROM sync_guard.alerts'), '0', 'no alarm is raised');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '0', 'nothing is reaped');
is(sql('SELECT count(*) FROM sync_guard.alert_log WHERE cleared_at IS NULL'), '0', 'nor recorded');

$node->append_conf('postgresql.conf', 'emag_sync_guard.restart_grace = 0');
$node->reload;
poll_until($node, q{SELECT verdict = 'silent' FROM sync_guard.live_runs()}, 'without a grace it is silent');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '1', 'after the grace it is judged by its row again');

$node->stop;
done_testing();
