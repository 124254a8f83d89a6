# Point-in-time recovery: from a base backup and archived WAL to a moment before some leases were given. What was live at
# that moment is judged as after any restart, the journal and the rows fit, and no token that was handed out after that
# moment is ever handed out again or taken for another's.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('original', preload => ['emag_sync_guard'], init => { has_archiving => 1, allows_streaming => 1 },
	conf => 'emag_sync_guard.restart_grace = 0');

sub sql { return $_[0]->safe_psql('postgres', $_[1]); }

# Journal lines of reapings whose run is not closed, and closed runs without one.
my $inconsistent = q{
	SELECT count(*) FILTER (WHERE (status = 'failed') IS DISTINCT FROM (run_key IS NOT NULL)),
		   count(*) FILTER (WHERE status = 'failed' AND (completed_at IS NULL OR jsonb_array_length(errors) <> 1))
	FROM runs LEFT JOIN (SELECT run_key FROM sync_guard.journal WHERE event = 'reaped') AS j ON run_key = id::text};

# Leases without a run, open leases of ended runs, and live runs with more than one open lease.
my $leases = q{
	SELECT count(*) FILTER (WHERE r.id IS NULL), count(*) FILTER (WHERE r.status <> 'running' AND ended_at IS NULL), count(*) - count(DISTINCT token)
	FROM sync_guard.leases LEFT JOIN runs AS r ON run_key = r.id::text};

make_run_table($node, 'runs');
sql($node, q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true)});
my ($early_key, $early_token) = start_leased($node, q{ttl => '1 hour'});
$node->backup('base');
my ($long_key, $long_token) = start_leased($node, q{ttl => '1 hour'});
my ($short_key, $short_token) = start_leased($node, q{ttl => '1 second'});
my ($finished_key, $finished_token) = start_leased($node, q{ttl => '1 hour'});
my $silent = start_run($node, 'runs', 'silent', '2 hours');
my $stale = start_run($node, 'runs', 'stale', '3 hours');
is(sql($node, q{SELECT sync_guard.reap_stale_syncs('150 minutes')}), '1', 'one is reaped before the moment');
is(sql($node, $inconsistent), '0|0', 'journal and rows fit');
my $last_line = sql($node, 'SELECT max(id) FROM sync_guard.journal');

sql($node, q{SELECT pg_create_restore_point('the moment')});

# After the moment: what the recovered server knows nothing of.
my @later = map { [ start_leased($node, q{ttl => '1 hour'}) ] } 1 .. 5;
my $greatest = (sort { $b <=> $a } map { $_->[1] } @later)[0];
sql($node, "SELECT sync_guard.finish_sync($finished_token, 'completed')");
sql($node, "SELECT sync_guard.finish_sync($later[0][1], 'completed')");
is(sql($node, q{SELECT sync_guard.reap_stale_syncs() > 0}), 't', 'more is reaped after it');
my $lines_after = sql($node, "SELECT count(*) FROM sync_guard.journal WHERE id > $last_line");
sql($node, 'SELECT pg_switch_wal()');
$node->stop;

my $recovered = PostgreSQL::Test::Cluster->new('recovered');
$recovered->init_from_backup($node, 'base', has_restoring => 1, standby => 0);
$recovered->append_conf('postgresql.conf', "recovery_target_name = 'the moment'\nrecovery_target_action = 'promote'");
$recovered->start;
poll_until($recovered, 'SELECT NOT pg_is_in_recovery()', 'the recovery ends') or die;

# ---- what there is --------------------------------------------------------------------------------------------------------------
is(sql($recovered, q{SELECT count(*), count(*) FILTER (WHERE status = 'running') FROM runs}), '6|5', 'the rows are those of the moment');
is(sql($recovered, $inconsistent), '0|0', 'journal and rows fit');
is(sql($recovered, 'SELECT max(id) FROM sync_guard.journal'), $last_line, 'the journal ends there');
is(sql($recovered, $leases), '0|0|0', 'leases and rows fit');
is(sql($recovered, q{SELECT count(*) FROM sync_guard.leases WHERE ended_at IS NULL}), '4', 'the leases of the moment are open');
cmp_ok(sql($recovered, 'SELECT max(token) FROM sync_guard.leases'), '<', $greatest, 'those of later are not there');

# ---- how it is judged -----------------------------------------------------------------------------------------------------------
is(sql($recovered, qq{SELECT string_agg(run_key || ' ' || verdict, ', ' ORDER BY run_key::int) FROM sync_guard.live_runs() WHERE run_key::int IN ($early_key, $long_key)}),
	"$early_key suspect, $long_key suspect", 'who had promised to beat within the hour is suspect, which is live, until that is over');
like(sql($recovered, qq{SELECT why FROM sync_guard.running_syncs WHERE run_key = '$early_key'}), qr/server/, 'and the server\'s start is named as the reason');
poll_until($recovered, qq{SELECT verdict = 'server_restarted' FROM sync_guard.stuck_syncs WHERE run_key = '$short_key'},
	'who had promised to beat within a second is dead when that is over');
is(sql($recovered, qq{SELECT verdict FROM sync_guard.stuck_syncs WHERE run_key = '$silent'}), 'silent', 'a run without lease is judged by its row');
is(sql($recovered, qq{SELECT sync_guard.heartbeat($early_token)}), 't', 'a worker whose run is there goes on');
is(sql($recovered, q{SELECT sync_guard.reap_stale_syncs()}), '2', 'the dead ones are reaped');
is(sql($recovered, $inconsistent), '0|0', 'journal and rows fit after it');
is(sql($recovered, "SELECT count(*) FROM sync_guard.journal WHERE id > $last_line"), '2', 'the numbers of the journal go on');
is(sql($recovered, "SELECT sync_guard.heartbeat($short_token)"), 'f', 'a worker who was reaped is told');

# ---- workers whose runs are lost -------------------------------------------------------------------------------------------------
# Their tokens were committed once, elsewhere; here nobody knows them. It is an error each time, and touches nothing.
for my $lost (@later)
{
	my ($key, $token) = @$lost;
	is(sqlstate_of($recovered, "SELECT sync_guard.heartbeat($token)"), 'P0002', "token of run $key, which is not there: a heartbeat is refused");
	is(sqlstate_of($recovered, "SELECT sync_guard.finish_sync($token, 'completed')"), 'P0002', 'so is its end');
	is(sqlstate_of($recovered, "BEGIN; SELECT sync_guard.fence($token)"), 'P0002', 'and its fence');
}
# The application's keys may come back, after a recovery those of a sequence do not by themselves.
sql($recovered, "ALTER TABLE runs ALTER id RESTART WITH $later[1][0]");
my @again = map { [ start_leased($recovered, q{ttl => '1 hour'}) ] } 1 .. 20;
is(scalar(grep { $_->[1] <= $greatest } @again), 0, 'tokens go on growing: 20 new ones are greater than any that was handed out after the moment');
is(scalar(grep { my $token = $_->[1]; grep { $_->[1] == $token } @later } @again), 0, 'so none comes back');
my %taken = map { $_->[0] => 1 } @again;
is(scalar(grep { $taken{ $_->[0] } } @later), 4, 'though keys do: 4 of the lost runs have namesakes');
is(sqlstate_of($recovered, "SELECT sync_guard.finish_sync($later[1][1], 'completed')"), 'P0002', 'a lost worker does not end the run that has its key now');
is(sql($recovered, qq{SELECT count(*) FROM runs WHERE id = $later[1][0] AND status = 'running'}), '1', 'it runs on');
is(sql($recovered, q{SELECT count(*) FROM sync_guard.guard_health WHERE severity = 'error'}), '0', 'guard_health has no error to tell');

# The clock of the restored server is behind: tokens still grow by those that are there.
my $top = sql($recovered, 'SELECT max(token) FROM sync_guard.leases');
sql($recovered, "UPDATE sync_guard.leases SET token = token + 3600000000 WHERE token = $top");
my (undef, $after) = start_leased($recovered, q{ttl => '1 hour'});
cmp_ok($after, '>', $top + 3600000000, 'where the last token is ahead of the clock, the next one is greater still');

$recovered->stop;
done_testing();
