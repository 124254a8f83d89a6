# The alert rules about no table: pg_cron's jobs that are late, fail or are not active, the worker on demand, the shared memory,
# mass death. Each is raised and cleared by its figures, once, whoever sweeps. And what a restart leaves of them.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

# With pg_cron's launcher and that of logical replication, no worker on demand has a place.
my $node = guard_node('server_alerts', preload => [ 'pg_cron', 'emag_sync_guard' ], init => { allows_streaming => 1 },
	conf => "max_worker_processes = 2\nemag_sync_guard.max_tracked_runs = 100");

sub sql { return $node->safe_psql('postgres', $_[0]); }
sub sweep { return sql('SELECT sync_guard.reap_stale_syncs()'); }

# What readers are told of a rule.
sub alerts
{
	return sql(qq{SELECT concat_ws(' ', subject, severity, CASE WHEN recorded THEN 'recorded' ELSE 'unseen' END)
				  FROM sync_guard.alerts WHERE rule = '$_[0]' ORDER BY 1});
}

# Lines of alert_history on a rule: how many were raised, how many of them have cleared.
sub recorded
{
	return sql(qq{SELECT count(*) || ' ' || count(cleared_at) FROM sync_guard.alert_history WHERE rule = '$_[0]'});
}

sql('CREATE EXTENSION pg_cron; CREATE ROLE reader; CREATE ROLE stranger');
make_run_table($node, 'runs');
sql(q{GRANT SELECT ON runs TO reader;
	  SELECT sync_guard.guard_table('runs', scope_columns => '{}', time_zone => 'UTC')});
sweep();
is(sql('SELECT count(*) FROM sync_guard.alerts'), '0', 'nothing is wrong');

# ---- reaping_overdue: jobs ---------------------------------------------------------------------------------------------------------
# They are due once a year, so that pg_cron itself does not meddle.
sub job
{
	my ($name, @runs) = @_;
	my $id = sql(qq{SELECT sync_guard.schedule_reaping('0 3 31 12 *', job_name => '$name')});
	sql(qq{INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status, start_time, end_time)
		   VALUES ($id, nextval('cron.runid_seq'), 'postgres', 'postgres', '', '$_->[0]', now() - interval '$_->[1]', now())}) for @runs;
	return $id;
}
my $late = job('late', [ 'succeeded', '400 days' ]);
my $fails = job('fails', [ 'succeeded', '400 days' ], [ 'failed', '0' ]);
my $always_fails = job('always fails', [ 'failed', '400 days' ], [ 'failed', '0' ]);
my $inactive = job('inactive', [ 'succeeded', '400 days' ]);
job('not yet', ());
job('good', [ 'failed', '400 days' ], [ 'succeeded', '0' ]);
sql("SELECT cron.alter_job($inactive, active => false)");
is(alerts('reaping_overdue'), "always fails critical unseen\nfails critical unseen\ninactive critical unseen\nlate critical unseen",
	'a job that does not run, one that fails, one that has never succeeded, one that is not active');
is(sql(q{SELECT bool_and(figure > 300 AND threshold = 300 AND unit = 'seconds' AND relation IS NULL) FROM sync_guard.alerts}), 't', 'by how late they are');
like(sql(q{SELECT detail FROM sync_guard.alerts WHERE subject = 'fails'}), qr/^job $fails .* has closed nothing since it was due .* ago: its runs fail; raised above 5 min$/, 'and why');
like(sql(q{SELECT hint FROM sync_guard.alerts WHERE subject = 'inactive'}), qr/^SELECT cron\.alter_job\($inactive, active => true\);/, 'with what to do');
is(sql(q{SET ROLE reader; SELECT count(*) FROM sync_guard.alerts}), '4', 'who may read a guarded table is told');
is(sql(q{SET ROLE stranger; SELECT count(*) FROM sync_guard.alerts}), '0', 'a stranger is not');
is(recorded('reaping_overdue'), '0 0', 'reading has recorded nothing');
sweep() for 1 .. 3;
is(recorded('reaping_overdue'), '4 0', 'sweeps record each once');
is(alerts('reaping_overdue'), "always fails critical recorded\nfails critical recorded\ninactive critical recorded\nlate critical recorded", 'and readers see that');
sql(qq{INSERT INTO cron.job_run_details (jobid, runid, database, username, command, status, start_time, end_time)
	   SELECT j, nextval('cron.runid_seq'), 'postgres', 'postgres', '', 'succeeded', now(), now() FROM unnest('{$late,$fails,$always_fails}'::bigint[]) AS j});
sql(q{SELECT sync_guard.unschedule_reaping('inactive')});
is(alerts('reaping_overdue'), '', 'they run well, one is gone');
sweep() for 1 .. 2;
is(recorded('reaping_overdue'), '4 4', 'all have cleared');
is(sql(q{SELECT cleared_figure || ': ' || cleared_detail FROM sync_guard.alert_history WHERE subject = 'inactive'}), '0: there is nothing left of it', 'a job that is gone too');
like(sql(q{SELECT cleared_figure || ': ' || cleared_detail FROM sync_guard.alert_history WHERE subject = 'late'}), qr/^0: job $late .* is not late$/, 'the others say so');
# Names that something else has, or could have.
my $worker = job('worker', [ 'succeeded', '400 days' ]);
my $other = job("job $worker", [ 'succeeded', '400 days' ]);
is(alerts('reaping_overdue'), "job $worker (job $other) critical unseen\nworker (job $worker) critical unseen",
	'a job that is called as the worker, or as a nameless job, is told by its number');
sql(qq{SELECT sync_guard.unschedule_reaping('worker'), sync_guard.unschedule_reaping('job $worker')});

# ---- memory_nearly_full ------------------------------------------------------------------------------------------------------------
sql(q{INSERT INTO runs (sync_type) SELECT 'products' FROM generate_series(1, 90)});
is(alerts('memory_nearly_full'), '', 'ninety percent is not above ninety');
sql(q{INSERT INTO runs (sync_type) SELECT 'products' FROM generate_series(1, 3)});
is(sql(q{SELECT figure || ' ' || threshold || ' ' || severity FROM sync_guard.alerts WHERE rule = 'memory_nearly_full'}), '0.93 0.9 warning', 'ninety-three is');
sweep() for 1 .. 2;
sql(q{UPDATE runs SET status = 'completed' WHERE id <= 8});
is(sql(q{SELECT figure || ' ' || recorded FROM sync_guard.alerts WHERE rule = 'memory_nearly_full'}), '0.85 true', 'at eighty-five it stays');
sweep();
is(recorded('memory_nearly_full'), '1 0', 'which is recorded once');
sql(q{UPDATE runs SET status = 'completed' WHERE id <= 13});
sweep() for 1 .. 2;
is(sql(q{SELECT cleared_figure || ': ' || cleared_detail FROM sync_guard.alert_history WHERE rule = 'memory_nearly_full'}),
	'0.8: 80 of the 100 live runs that there is room for in shared memory are there', 'and clears at eighty');
sql(q{SELECT sync_guard.set_alert_rule(NULL, 'memory_nearly_full', raise_above => '50 %')});
is(alerts('memory_nearly_full'), 'warning unseen', 'a threshold that was changed holds at once');
sql(q{SELECT sync_guard.set_alert_rule(NULL, 'memory_nearly_full', enabled => false)});
is(alerts('memory_nearly_full'), '', 'and a rule that was switched off is quiet');
sql('DELETE FROM runs');

# ---- mass_death ----------------------------------------------------------------------------------------------------------------------
sql(q{SELECT count(sync_guard.start_sync('runs', '{"sync_type": "orders"}', ttl => '1 second')) FROM generate_series(1, 12)});
poll_until($node, q{SELECT EXISTS (SELECT FROM sync_guard.alerts WHERE rule = 'mass_death')}, 'twelve leases fall silent together');
sweep() for 1 .. 2;
is(sql(q{SELECT severity || ' ' || figure || ' ' || recorded FROM sync_guard.alerts WHERE rule = 'mass_death'}), 'critical 12 true', 'which is told with their number');
is(recorded('mass_death'), '1 0', 'once');
sql(q{SELECT sync_guard.set_alert_rule(NULL, 'mass_death', time_window => '1 microsecond')});
sql('DELETE FROM runs');
sweep() for 1 .. 2;
is(recorded('mass_death'), '1 1', 'past the window it clears');

# ---- reaping_overdue: the worker -----------------------------------------------------------------------------------------------------
sql(q{SELECT sync_guard.set_alert_rule(NULL, 'reaping_overdue', raise_above => '1 second')});
$node->psql('postgres', q{SELECT sync_guard.start_sync('runs', '{"sync_type": "orders"}', bind_session => true);
						  SELECT pg_terminate_backend(pg_backend_pid())});
poll_until($node, q{SELECT EXISTS (SELECT FROM sync_guard.alerts WHERE subject = 'worker')}, 'no worker comes for a dead session');
is(alerts('reaping_overdue'), 'worker critical unseen', 'which is a path that is late');
sweep() for 1 .. 2;
is(alerts('reaping_overdue'), 'worker critical recorded', 'a sweep records it');
$node->restart;
is(alerts('reaping_overdue'), '', 'a restart forgets the request');
sweep() for 1 .. 2;
is(recorded('reaping_overdue'), '5 5', 'and the alert, which memory knew of, clears');
is(sql('SELECT count(*) FROM sync_guard.alert_log WHERE cleared_at IS NULL'), '0', 'nothing is left open');

# ---- a standby -------------------------------------------------------------------------------------------------------------------------
# It evaluates by itself, what the primary has recorded is known there, and nothing is written.
$node->backup('alerts');
my $standby = PostgreSQL::Test::Cluster->new('server_alerts_standby');
$standby->init_from_backup($node, 'alerts', has_streaming => 1);
$standby->start;
start_run($node, 'runs', 'products', '45 minutes');
$node->wait_for_catchup($standby);
my $on_standby = q{SELECT rule || ' ' || floor(figure / 60) || ' ' || recorded FROM sync_guard.alerts WHERE relation IS NOT NULL};
is($standby->safe_psql('postgres', $on_standby), 'long_running 45 false', 'a standby evaluates by itself');
sweep();
$node->wait_for_catchup($standby);
is($standby->safe_psql('postgres', $on_standby), 'long_running 45 true', 'and knows what the primary has recorded');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM sync_guard.alert_rules'), '8', 'it shows the rules');
my (undef, undef, $stderr) = $standby->psql('postgres', q{SELECT sync_guard.set_alert_rule(NULL, 'stuck', enabled => false)});
like($stderr, qr/ERROR:  cannot execute set_alert_rule\(\) in a read-only transaction/, 'which are changed on the primary');
$standby->stop;

$node->stop;
done_testing();
