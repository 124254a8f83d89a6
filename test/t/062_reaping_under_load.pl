# Reapings in the midst of workers, of each other, of triggers that all write the same row, and of violent ends: each run
# that was reaped has one line in the journal and one error in its row, each run that was not has none, nothing that a
# worker wrote is lost, and no worker is a deadlock's victim.
use strict;
use warnings;

use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('reaping_under_load', conf => qq{
	max_connections = 60
	restart_after_crash = on
	deadlock_timeout = 5s
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Starts a program on the server.
sub start_program
{
	my %run = (out => '');
	$run{harness} = IPC::Run::start([@_], '<', \'', '>', \$run{out}, '2>&1',
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%run;
}

sub start_clients
{
	my ($clients, $seconds, $script) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir() . '/script.sql';
	append_to_file($file, $script);
	return start_program('pgbench', '--no-vacuum', '--client', $clients, '--time', $seconds, '--file', $file, $node->connstr('postgres'));
}

sub start_psql { return start_program('psql', '-XAtq', '-d', $node->connstr('postgres') . " application_name=$_[0]", '-c', $_[1]); }

# What must not be, counted.
my $violations = q{
	WITH reaped AS (SELECT run_key::bigint AS id, count(*) AS lines FROM sync_guard.journal
	                WHERE relation = 'runs'::regclass AND event = 'reaped' GROUP BY 1)
	SELECT count(*) FILTER (WHERE lines > 1), count(*) FILTER (WHERE (status = 'failed') <> (lines IS NOT NULL)),
	       count(*) FILTER (WHERE coalesce(jsonb_array_length(errors), 0) <> coalesce(lines, 0)),
	       count(*) FILTER (WHERE (completed_at IS NULL) <> (status = 'running'))
	FROM runs FULL JOIN reaped USING (id)};

make_run_table($node, 'runs');
sql(q{
	CREATE TABLE totals (ended bigint NOT NULL);
	INSERT INTO totals VALUES (0);
	CREATE FUNCTION count_ended() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE public.totals SET ended = ended + 1;
		RETURN NULL;
	END $$;
	CREATE TRIGGER count_ended AFTER UPDATE ON runs FOR EACH ROW WHEN (OLD.status = 'running' AND NEW.status <> 'running')
		EXECUTE FUNCTION count_ended();
	SELECT sync_guard.guard_table('runs');
	CREATE TABLE finishes (id bigint PRIMARY KEY);
	CREATE TABLE reapings (n bigint NOT NULL)});

# Workers take the row that the trigger writes after their run's row or, now and then, before it, as no reaping does: where
# that meets a reaping it would be a deadlock, if the reaping waited for long. One worker in ten gives up.
my $workers = start_clients(6, 6, q{
	INSERT INTO runs (sync_type) VALUES ('products') RETURNING id AS run \gset
	\set abandons random(1, 10)
	\set first random(0, 19)
	\if :abandons > 1
	BEGIN;
	\if :first = 1
	UPDATE totals SET ended = ended;
	\endif
	UPDATE runs SET status = 'completed', processed_items = 77 WHERE id = :run;
	INSERT INTO finishes VALUES (:run);
	COMMIT;
	\endif
});
my $reapers = start_clients(3, 6, q{
	\sleep 10 ms
	\set most random(1, 40)
	INSERT INTO reapings SELECT sync_guard.reap_stale_syncs('1 millisecond', 'runs', max_runs => :most);
});
my $sweep = start_clients(1, 6, q{
	\sleep 10 ms
	INSERT INTO reapings SELECT sync_guard.reap_stale_syncs('5 milliseconds');
});
$_->{harness}->finish foreach ($workers, $reapers, $sweep);
unlike($workers->{out}, qr/aborted|ERROR/, 'no worker meets an error');
unlike($reapers->{out} . $sweep->{out}, qr/aborted|ERROR/, 'nor does a reaping');
unlike(slurp_file($node->logfile), qr/deadlock detected/, 'there is no deadlock');

my $reaped = sql(q{SELECT count(*) FROM sync_guard.journal WHERE event = 'reaped'});
my $late = sql(q{SELECT count(*) FROM sync_guard.journal WHERE event = 'late_finish'});
note(sql('SELECT count(*) FROM runs') . " runs, $reaped reaped, $late late finishes, "
	  . sql('SELECT count(*) FROM reapings') . ' reapings');
cmp_ok($reaped, '>', 0, 'runs were reaped');
cmp_ok($late, '>', 0, 'some under the hands of their workers');
is(sql($violations), '0|0|0|0', 'rows and journal agree');
is(sql('SELECT sum(n) FROM reapings'), $reaped, 'the reapings returned how many they closed');
is(sql(q{SELECT count(*) FROM finishes JOIN runs USING (id) WHERE processed_items = 77}), sql('SELECT count(*) FROM finishes'),
	'what workers wrote besides the outcome is there');
is(sql(q{SELECT count(*) FROM finishes JOIN runs USING (id) WHERE status = 'failed'}), $late,
	'every end that came too late is in the journal, once');
is(sql(q{SELECT count(*) FROM runs WHERE status <> 'running'}), sql('SELECT ended FROM totals'),
	'the application\'s own trigger has seen every end once');

# A reaping that ends in the middle, in every way: what it had closed is not closed.
sql(q{
	DROP TRIGGER count_ended ON runs;
	TRUNCATE runs;
	CREATE FUNCTION stop_here() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_sleep(600);
		RETURN NEW;
	END $$;
	CREATE TRIGGER stop_here BEFORE UPDATE ON runs FOR EACH ROW WHEN (NEW.sync_type = 'stop') EXECUTE FUNCTION stop_here();
	INSERT INTO runs (sync_type, started_at) SELECT CASE WHEN i = 1500 THEN 'stop' ELSE 'products' END, '2025-10-01'::timestamp + i * interval '1 s'
	FROM generate_series(1, 3000) AS i});
my $lines = sql('SELECT count(*) FROM sync_guard.journal');
my $oracle = q{SELECT count(*) FILTER (WHERE status <> 'running' OR errors IS NOT NULL OR completed_at IS NOT NULL) FROM runs};

# Starts a reaping and returns its process when it has come to the row at which it stays.
sub start_reaping
{
	my ($name, $settings) = @_;
	my $run = start_psql($name, "$settings SELECT sync_guard.reap_stale_syncs()");
	poll_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '$name' AND wait_event = 'PgSleep'",
		"$name: the reaping comes to its row") or die $run->{out};
	return ($run, sql("SELECT pid FROM pg_stat_activity WHERE application_name = '$name'"));
}

my ($run, $pid) = start_reaping('cancelled', '');
sql("SELECT pg_cancel_backend($pid)");
$run->{harness}->finish;
like($run->{out}, qr/canceling statement due to user request/, 'cancelled in the middle');
is(sql($oracle) . '|' . (sql('SELECT count(*) FROM sync_guard.journal') - $lines), '0|0', 'nothing is closed, nothing in the journal');

($run, $pid) = start_reaping('timed_out', q{SET statement_timeout = '3s';});
$run->{harness}->finish;
like($run->{out}, qr/canceling statement due to statement timeout/, 'its time is over in the middle');
is(sql($oracle) . '|' . (sql('SELECT count(*) FROM sync_guard.journal') - $lines), '0|0', 'nothing is closed, nothing in the journal');

($run, $pid) = start_reaping('terminated', '');
sql("SELECT pg_terminate_backend($pid)");
$run->{harness}->finish;
like($run->{out}, qr/terminating connection due to administrator command/, 'terminated in the middle');
is(sql($oracle) . '|' . (sql('SELECT count(*) FROM sync_guard.journal') - $lines), '0|0', 'nothing is closed, nothing in the journal');

# While one stays in the middle another one closes what the first has not come to, and a worker ends its own.
($run, $pid) = start_reaping('killed', '');
is(sql(q{UPDATE runs SET status = 'completed' WHERE id = (SELECT max(id) FROM runs) RETURNING status}), 'completed',
	'a worker ends a run that the reaping has not come to');
my $offset = -s $node->logfile;
kill 'KILL', $pid;
eval { $run->{harness}->finish };
$node->wait_for_log(qr/database system is ready to accept connections/, $offset);
wait_for_server($node);
is(sql($oracle) . '|' . (sql('SELECT count(*) FROM sync_guard.journal') - $lines), '1|0', 'killed in the middle: nothing is closed, nothing in the journal');

# With the obstacle gone it is one call's work.
sql('DROP TRIGGER stop_here ON runs');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '2999', 'the next reaping closes them all');
is(sql(q{WITH reaped AS (SELECT run_key::bigint AS id, count(*) AS lines FROM sync_guard.journal AS j JOIN runs ON run_key = runs.id::text
	WHERE event = 'reaped' GROUP BY 1)
	SELECT count(*) FILTER (WHERE lines > 1), count(*) FILTER (WHERE (status = 'failed') <> (lines IS NOT NULL)),
	       count(*) FILTER (WHERE coalesce(jsonb_array_length(errors), 0) <> coalesce(lines, 0)) FROM runs FULL JOIN reaped USING (id)}),
	'0|0|0', 'rows and journal agree');

# More rows than it takes to lose patience cannot be closed, and they are the oldest: the others are closed all the same.
sql(q{
	TRUNCATE runs;
	ALTER TABLE runs ADD CONSTRAINT poison CHECK (sync_type <> 'poison' OR status = 'running');
	INSERT INTO runs (sync_type, started_at) SELECT CASE WHEN i <= 25 THEN 'poison' ELSE 'products' END, '2025-10-01'::timestamp + i * interval '1 s'
	FROM generate_series(1, 2500) AS i});
my ($status, $out, $err) = $node->psql('postgres', 'SELECT sync_guard.reap_stale_syncs()');
is($out, '2475', 'rows that cannot be closed do not stand in the way of the others');
my $named = () = $err =~ /WARNING:  could not close run \d+ of table public\.runs: new row for relation "runs" violates check constraint "poison"/g;
my ($left) = $err =~ /WARNING:  left (\d+) runs of table public\.runs for this time/;
cmp_ok($named, '>=', 10, 'some of them are named');
is($named + ($left // 0), 25, 'the rest is counted');
like($err, qr/NOTICE:  25 dead runs could not be closed/, 'and so are all together');

$node->stop;
done_testing();
