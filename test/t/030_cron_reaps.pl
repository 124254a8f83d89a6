# pg_cron itself reaps: in its own database as two roles, and in another database by the statement that the error there
# prints. One job fails, and guard_health says so. It takes two full minutes to come round.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('cron_reaps', preload => ['pg_cron']);
my $other = q{the "shop's" db};

sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]); }

# Each role has a table that it may update; both may read both.
sql(q{CREATE EXTENSION pg_cron;
	  CREATE ROLE worker LOGIN; CREATE ROLE broken LOGIN;
	  GRANT USAGE ON SCHEMA cron TO worker, broken});
make_run_table($node, 'ours');
make_run_table($node, 'theirs');
sql(q{ALTER TABLE theirs OWNER TO worker;
	  SELECT sync_guard.guard_table(t, scope_columns => '{sync_type}', time_zone => 'UTC')
	  FROM unnest('{ours,theirs}'::regclass[]) AS t});
my $dead = start_run($node, 'ours', 'products', '2 hours');
my $live = start_run($node, 'ours', 'products', '20 minutes');
my $theirs = start_run($node, 'theirs', 'orders', '2 hours');

# The other database: its name needs every kind of quoting there is.
sql(qq{CREATE DATABASE "${\($other =~ s/"/""/gr)}"});
sql('CREATE EXTENSION emag_sync_guard', $other);
sql(q{CREATE TABLE runs (id int PRIMARY KEY, status text CHECK (status IN ('running', 'completed', 'failed')),
						 started_at timestamptz, completed_at timestamptz);
	  CREATE INDEX ON runs (status);
	  SELECT sync_guard.guard_table('runs', scope_columns => '{}');
	  INSERT INTO runs VALUES (1, 'running', clock_timestamp() - interval '90 minutes'),
							  (2, 'running', clock_timestamp() - interval '15 minutes')}, $other);
my ($status, undef, $stderr) =
  $node->psql($other, q{SELECT sync_guard.schedule_reaping('* * * * *', '10 minutes')}, extra_params => ['-v', 'VERBOSITY=verbose']);
isnt($status, 0, 'where pg_cron is in another database, scheduling is an error');
like($stderr, qr/ERROR:  55000: pg_cron keeps its jobs in database "postgres", this is database "the "shop's" db"/, 'which names both');
like(sql(q{SELECT severity || ' ' || hint FROM sync_guard.guard_health WHERE problem = 'pg_cron_elsewhere'}, $other),
	qr/^info Run in database "postgres".*: SELECT cron\.schedule_in_database\(/, 'guard_health says the same');
my ($statement) = $stderr =~ /HINT:  Run in database "postgres": (SELECT cron\.schedule_in_database.*;)/;
isnt($statement, undef, 'and prints the statement to run there');
my ($job_elsewhere) = sql($statement) =~ /^(\d+)$/;
isnt($job_elsewhere, undef, 'which runs as it stands');
is(sql('SELECT count(*) FROM sync_guard.reaping_schedule'), '0', 'a job for another database is not shown as one of this');

sql('REVOKE EXECUTE ON FUNCTION sync_guard.reap_stale_syncs FROM PUBLIC;
	 GRANT EXECUTE ON FUNCTION sync_guard.reap_stale_syncs TO worker');
my $worker_job = sql('SET ROLE worker; SELECT sync_guard.schedule_reaping()');
my $broken_job = sql('SET ROLE broken; SELECT sync_guard.schedule_reaping()');
is(sql('SELECT count(DISTINCT job_id) FROM sync_guard.reaping_schedule'), '2', 'each role has its own job, the name is the same');

# (A job starts at each full minute, so the longest wait is a little more than one.)
poll_until($node, qq{SELECT status = 'failed' FROM theirs WHERE id = $theirs}, 'pg_cron reaps as the role that scheduled');
is(sql("SELECT path, role FROM sync_guard.reaped_syncs WHERE relation_name = 'public.theirs'"), 'pg_cron|worker',
	'the journal says by which path and as whom');
is(sql("SELECT status FROM ours WHERE id = $dead"), 'running', 'a role reaps what it may');
poll_until($node, q{SELECT (SELECT status FROM runs WHERE id = 1) = 'failed' AND (SELECT status FROM runs WHERE id = 2) = 'failed'},
	'pg_cron reaps in the other database, with the older_than that was asked for', $other);

poll_until($node, "SELECT last_status = 'failed' FROM sync_guard.reaping_schedule WHERE job_id = $broken_job", 'a run fails');
like(sql("SELECT severity || ' ' || detail FROM sync_guard.guard_health WHERE problem = 'reaping_failed'"),
	qr/^error the last run of job $broken_job .* failed: .*permission denied for function reap_stale_syncs/, 'and guard_health tells of it, with the message');
poll_until($node, "SELECT last_status = 'succeeded' FROM sync_guard.reaping_schedule WHERE job_id = $worker_job", 'another succeeds');
is(sql("SELECT last_started <= last_ended AND next_expected > last_started AND next_expected <= now() + interval '1 minute'
		FROM sync_guard.reaping_schedule WHERE job_id = $worker_job"), 't', 'with its times, and the next one in less than a minute');
is(sql("SELECT count(*) FROM sync_guard.guard_health WHERE detail LIKE '%job $worker_job %'"), '0', 'of which there is nothing to say');

# With the broken one gone and one of the superuser's, which may reap everything, all is well.
is(sql('SET ROLE broken; SELECT sync_guard.unschedule_reaping()'), 't', 'the role takes its job away');
(undef, undef, $stderr) = $node->psql('postgres', 'SELECT sync_guard.schedule_reaping()');
like($stderr, qr/NOTICE:  role "worker" has a job that reaps here too: job $worker_job, "\* \* \* \* \*"/, 'a superuser is told of the job of another');
poll_until($node, "SELECT status = 'failed' FROM ours WHERE id = $dead", 'the superuser\'s job reaps the other table');
is(sql("SELECT status FROM ours WHERE id = $live"), 'running', 'and leaves the live run alone');
poll_until($node, "SELECT count(*) = 2 FROM sync_guard.reaping_schedule WHERE last_status = 'succeeded'", 'both jobs have succeeded');
is(sql(q{SELECT string_agg(problem, ',') FROM sync_guard.guard_health WHERE severity <> 'info'}), '', 'guard_health has no complaint');

$node->stop;
done_testing();
