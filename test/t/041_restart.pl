# The server goes down in the middle of a reaping: a run is closed and in the journal, or neither. The same where only the
# reaping session goes, and where its transaction is rolled back.
use strict;
use warnings;

use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('restart', conf => "max_prepared_transactions = 5\nautovacuum = off");

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', max_silence => '1 hour')});

# The table's own trigger waits at one run, as long as somebody holds the lock 1; lock 2 says that it does. Not for the lock
# itself, unless it is told to: a reaping soon gives up what waits for a lock.
sql(q{
	CREATE FUNCTION wait_at() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM pg_advisory_xact_lock_shared(2);
		WHILE current_setting('gate.locks', true) IS DISTINCT FROM 'on' AND NOT pg_try_advisory_xact_lock_shared(1) LOOP
			PERFORM pg_sleep(0.01);
		END LOOP;
		PERFORM pg_advisory_xact_lock_shared(1);
		RETURN NEW;
	END $$;
	CREATE TRIGGER wait_at BEFORE UPDATE ON runs FOR EACH ROW WHEN (OLD.sync_type = 'gate') EXECUTE FUNCTION wait_at()});

# 4000 dead runs, oldest first in the order of their keys; the one at the gate is in the third thousand.
sub fill
{
	sql(q{
		TRUNCATE runs; SELECT sync_guard.purge_journal('0');
		INSERT INTO runs (sync_type, started_at) OVERRIDING SYSTEM VALUE
		SELECT CASE WHEN i = 2500 THEN 'gate' ELSE 'products' END, timestamp '2020-01-01' + i * interval '1 second' FROM generate_series(1, 4000) AS i});
	return;
}

# Closed runs, journal lines, and how many of either have no counterpart.
sub state
{
	return sql(q{
		SELECT count(*) FILTER (WHERE status = 'failed'), count(run_key),
			   count(*) FILTER (WHERE (status = 'failed') IS DISTINCT FROM (run_key IS NOT NULL) OR id IS NULL),
			   count(*) FILTER (WHERE status = 'failed' AND (completed_at IS NULL OR jsonb_array_length(errors) <> 1))
		FROM runs FULL JOIN (SELECT run_key FROM sync_guard.journal WHERE event = 'reaped') AS j ON run_key = id::text});
}

# A psql that runs these statements and is not waited for.
sub start_psql
{
	my %run = (out => '', err => '');
	$run{handle} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr('postgres'), map { ('-c', $_) } @_ ],
		'<', \undef, '>', \$run{out}, '2>', \$run{err});
	return \%run;
}

my $at_the_gate = q{SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = 0 AND objid = 2 AND granted};

sub until_it_waits
{
	poll_until($node, qq{SELECT count(*) = 1 FROM ($at_the_gate) AS g}, 'a reaping comes to the gate') or die;
	return;
}

# Closes the gate, starts a reaping, and returns when it stands there.
sub reap_up_to_the_gate
{
	my $holder = $node->background_psql('postgres', on_error_stop => 1);
	$holder->query_safe('SELECT pg_advisory_lock(1)');
	my $reaper = start_psql(@_);
	until_it_waits();
	return ($holder, $reaper);
}

fill();
my ($holder, $reaper) = reap_up_to_the_gate('SELECT sync_guard.reap_stale_syncs()');
$node->stop('immediate');
$reaper->{handle}->finish;
$node->start;
is(state(), '0|0|0|0', 'one transaction: after an immediate shutdown nothing is closed and nothing in the journal');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '4000', 'after the restart all are reaped');
is(state(), '4000|4000|0|0', 'each closed run has its line');

# In transactions of its own size the caller keeps what was committed.
fill();
($holder, $reaper) = reap_up_to_the_gate(('SELECT sync_guard.reap_stale_syncs(max_runs => 1000)') x 4);
$node->stop('immediate');
$reaper->{handle}->finish;
is($reaper->{out}, "1000\n1000\n", 'two calls were answered');
$node->start;
is(state(), '2000|2000|0|0', 'what they had closed is closed and in the journal, the third is as if it had not been');

# Prepared: it survives, with both halves.
sql(q{BEGIN; SELECT sync_guard.reap_stale_syncs(max_runs => 500); PREPARE TRANSACTION 'reaping'});
$node->stop('immediate');
$node->start;
is(state(), '2000|2000|0|0', 'a reaping that was prepared is not there before it is committed');
is(sql(q{SELECT sync_guard.reap_stale_syncs(max_runs => 100)}), '100', 'its runs are locked: another reaping goes on with the next');
sql(q{COMMIT PREPARED 'reaping'});
is(state(), '2600|2600|0|0', 'and is wholly there afterwards');

# The session goes, not the server.
fill();
($holder, $reaper) = reap_up_to_the_gate('SELECT sync_guard.reap_stale_syncs()');
sql(qq{SELECT pg_terminate_backend(pid) FROM ($at_the_gate) AS g});
$reaper->{handle}->finish;
like($reaper->{err}, qr/terminating connection due to administrator command/, 'a reaping whose session is ended is no warning but an end');
is(state(), '0|0|0|0', 'nothing of it is left');

# A cancel is for the whole call too, not for the table at hand.
$reaper = start_psql('SELECT sync_guard.reap_stale_syncs()');
until_it_waits();
sql(qq{SELECT pg_cancel_backend(pid) FROM ($at_the_gate) AS g});
$reaper->{handle}->finish;
like($reaper->{err}, qr/^ERROR:  canceling statement due to user request/, 'a cancel ends the call');
is(state(), '0|0|0|0', 'nothing of it is left');
$reaper = start_psql("SET statement_timeout = '100ms'", 'SELECT sync_guard.reap_stale_syncs()');
$reaper->{handle}->finish;
like($reaper->{err}, qr/^ERROR:  canceling statement due to statement timeout/, 'so does a timeout');
is(state(), '0|0|0|0', 'nothing of it is left');
$reaper = start_psql("SET gate.locks = on; SET lock_timeout = '500ms'", 'SELECT sync_guard.reap_stale_syncs()');
$reaper->{handle}->finish;
like($reaper->{err}, qr/^WARNING:  could not close run \d+ of table public\.runs: canceling statement due to lock timeout/m,
	'a lock that the table\'s own trigger waits for in vain fails for that run');
is($reaper->{out}, "3999\n", 'and the others are closed');
is(state(), '3999|3999|0|0', 'each with its line');
$holder->quit;

$node->stop;
done_testing();
