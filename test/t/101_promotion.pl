# A standby is promoted that had not received all (073_restart_leases.pl has the workers that it knew): leases that were
# given on the primary afterwards are lost with their runs, and their tokens stay nobody's. The new primary guards with all
# that it has, its background worker too. The old one comes back as a standby of the new, without what it knew alone.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $old = guard_node('old', preload => ['emag_sync_guard'], init => { allows_streaming => 1 },
	conf => "emag_sync_guard.restart_grace = 0\nwal_log_hints = on\nwal_keep_size = 128MB");

sub sql { return $_[0]->safe_psql('postgres', $_[1]); }

make_run_table($old, 'runs');
sql($old, q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true)});
$old->backup('base');
my $new = PostgreSQL::Test::Cluster->new('new');
$new->init_from_backup($old, 'base', has_streaming => 1);
$new->start;
my ($known_key, $known) = start_leased($old, q{ttl => '1 hour'});
$old->wait_for_catchup($new);
$new->stop;

# What the standby does not receive: leases, one bound to a session, and the end of a run that it knows.
my @lost = map { [ start_leased($old, q{ttl => '1 hour'}) ] } 1 .. 3;
my $greatest = (sort { $b <=> $a } map { $_->[1] } @lost)[0];
my $bound_there = $old->background_psql('postgres', on_error_stop => 0);
$bound_there->query(q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "bound there"}', bind_session => true)});
sql($old, "SELECT sync_guard.finish_sync($known, 'completed')");
is(sql($old, 'SELECT count(*) FROM sync_guard.tracked_runs'), '4', 'the primary has four runs in memory that the standby knows nothing of');
$old->stop('immediate');
$new->start;
$new->promote;

is(sql($new, q{SELECT run_key || ' ' || verdict FROM sync_guard.live_runs()}), "$known_key suspect", 'the run whose end was lost is suspect, which is live');
is(sql($new, "SELECT sync_guard.heartbeat($known)"), 't', 'its worker, had he not finished, would go on');
is(sqlstate_of($new, "SELECT sync_guard.heartbeat($_->[1])"), 'P0002', "the token of lost run $_->[0] is an error") for @lost;
my @given = map { [ start_leased($new, q{ttl => '1 hour'}) ] } 1 .. 10;
is(scalar(grep { $_->[1] <= $greatest } @given), 0, 'ten new tokens are greater than any that was lost');
is(sqlstate_of($new, "SELECT sync_guard.finish_sync($_->[1], 'completed')"), 'P0002', "whoever has the lost token of run $_->[0] ends nobody's run") for @lost;
is(sql($new, q{SELECT count(*) FROM runs WHERE status = 'running'}), '11', 'all run on');

# Its own sessions die: the worker comes.
my $bound = $new->background_psql('postgres', on_error_stop => 1);
my ($bound_key) = split /\|/, $bound->query_safe(q{SELECT key FROM sync_guard.start_sync('runs', '{"sync_type": "bound here"}', bind_session => true)});
kill 'KILL', $bound->{run}->{KIDS}[0]{PID};
poll_until($new, "SELECT status = 'failed' FROM runs WHERE id = $bound_key", 'a session that dies on the new primary is missed');
is(sql($new, "SELECT verdict || ' ' || path FROM sync_guard.reaped_syncs WHERE run_key = '$bound_key'"), 'session_gone worker', 'by the background worker');

# The old primary comes back.
$old->start;
is(sql($old, 'SELECT count(*) FROM sync_guard.tracked_runs'), '0', 'the old primary, started again, has nothing in memory');
$old->stop;
sql($new, 'CHECKPOINT');	# up to 15, pg_rewind learns of a promotion from this
command_ok([ 'pg_rewind', '--target-pgdata', $old->data_dir, '--source-server', $new->connstr('postgres') ], 'it is rewound');
# (With the new primary's configuration, which names another socket.)
$old->append_conf('postgresql.conf', "port = " . $old->port . "\nunix_socket_directories = '" . $old->host . "'");
$old->enable_streaming($new);
$old->set_standby_mode;
$old->start;
$new->wait_for_catchup($old, 'replay', $new->lsn('insert'));
my $rows = q{SELECT id, status FROM runs ORDER BY id};
is(sql($old, $rows), sql($new, $rows), 'and shows what the new primary has');
is(sql($old, q{SELECT count(*), count(*) FILTER (WHERE dead) FROM sync_guard.live_runs()}), '11|0', 'with the same verdicts: nobody is dead');
is(sql($old, q{SELECT count(*) FROM sync_guard.leases WHERE token = } . $lost[0][1]), '0', 'what it alone knew is gone');
is(sqlstate_of($old, 'SELECT sync_guard.reap_stale_syncs()'), '25006', 'it does not reap');

$old->stop;
$new->stop;
done_testing();
