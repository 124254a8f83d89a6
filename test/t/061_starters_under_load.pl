# Two hundred clients want one exclusive scope at the same moment, again and again: one gets it, the others are told at once
# and wait for nothing.
use strict;
use warnings;

use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $clients = 200;

# Every lock that is waited for longer than a moment stands in the log.
my $node = guard_node('starters_under_load', conf => qq{
	max_connections = 240
	fsync = off
	log_lock_waits = on
	deadlock_timeout = 10ms
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

# Starts pgbench with one script for all.
sub start_clients
{
	my ($script, %options) = @_;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	append_to_file("$folder/script.sql", $script);
	my %run = (out => '');
	local $ENV{PGOPTIONS} = $options{options} // '';
	$run{harness} = IPC::Run::start(
		[ 'pgbench', '--no-vacuum', '--client', $options{clients} // $clients, '--jobs', 2,
		  '--transactions', $options{transactions} // 1, '--file', "$folder/script.sql", '--define', "round=$options{round}",
		  $node->connstr('postgres') ],
		'>', \$run{out}, '2>&1', IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return \%run;
}

sub finish_clients
{
	my ($run) = @_;
	$run->{harness}->finish or die "pgbench failed: $run->{out}";
	return;
}

sql(q{
	CREATE TABLE runs (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, round text NOT NULL, account_type text NOT NULL,
		status text NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL DEFAULT clock_timestamp());
	CREATE INDEX ON runs (status);
	SELECT sync_guard.guard_table('runs', scope_columns => '{round,account_type}', exclusive => true, failed_status => 'failed',
		scope_overlaps => '{"account_type": {"both": ["main", "fbe"]}}');
	CREATE TABLE tries (round text, account_type text, result text);
	-- won, or the SQLSTATE of what was in the way
	CREATE FUNCTION try_start(round text, account_type text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		INSERT INTO runs (round, account_type) VALUES (round, account_type);
		RETURN 'won';
	EXCEPTION WHEN SQLSTATE 'SY002' OR serialization_failure THEN
		RETURN SQLSTATE;
	END $$;
});

# Gate 1 lets all start together; gate 2 keeps the winner's transaction open.
my $gate = $node->background_psql('postgres', on_error_stop => 1);

# How a round goes: behind gate 1 everybody tries; who has lost commits at once.
sub play
{
	my ($round, $account_types, $options) = @_;
	$gate->query_safe('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
	my $run = start_clients(qq{
		\\set which random(1, $account_types)
		SELECT pg_advisory_lock_shared(1);
		BEGIN;
		SELECT (try_start(':round', (ARRAY['main', 'fbe', 'both'])[:which]) = 'won')::int AS won \\gset
		\\if :won
		SELECT pg_advisory_lock_shared(2);
		\\endif
		INSERT INTO tries VALUES (':round', (ARRAY['main', 'fbe', 'both'])[:which], CASE WHEN :won = 1 THEN 'won' ELSE 'lost' END);
		COMMIT;
	}, round => $round, options => $options);
	poll_until($node, "SELECT count(*) = $clients FROM pg_locks WHERE locktype = 'advisory' AND objid = 1 AND objsubid = 1 AND NOT granted",
		"round $round: the clients come to the gate") or die;
	$gate->query_safe('SELECT pg_advisory_unlock(1)');
	return $run;
}

my $waiting = q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 2 AND objsubid = 1 AND NOT granted};

# The winner's transaction stays open until all the others have been told.
foreach my $round (1 .. 3)
{
	my $run = play($round, 1);
	poll_until($node, "SELECT count(*) = $clients - 1 FROM tries WHERE round = '$round'",
		"round $round: all but one have been told while the winner's transaction is open");
	is(sql($waiting), '1', "round $round: one has won");
	is(sql(q{SELECT count(*) FROM pg_locks WHERE NOT granted AND NOT (locktype = 'advisory' AND objid = 2 AND objsubid = 1)}), '0',
		"round $round: and nobody waits");
	$gate->query_safe('SELECT pg_advisory_unlock(2)');
	finish_clients($run);
	is(sql("SELECT count(*) FROM runs WHERE round = '$round'"), '1', "round $round: there is one run");
}

# The winner commits at once: some lose to a transaction, some to a run.
foreach my $round (4 .. 6)
{
	my $run = play($round, 1);
	$gate->query_safe('SELECT pg_advisory_unlock(2)');
	finish_clients($run);
	is(sql("SELECT count(*) FILTER (WHERE result = 'won'), count(*) FROM tries WHERE round = '$round'"), "1|$clients",
		"round $round: one of $clients has won");
	is(sql("SELECT count(*) FROM runs WHERE round = '$round'"), '1', "round $round: there is one run");
}

# Scopes that overlap: one run for both accounts, or at most one for each.
foreach my $round (7 .. 10)
{
	my $run = play($round, 3);
	$gate->query_safe('SELECT pg_advisory_unlock(2)');
	finish_clients($run);
	my $won = sql("SELECT string_agg(account_type, ' ' ORDER BY account_type) FROM runs WHERE round = '$round'");
	like($won, qr/^(both|fbe|main|fbe main)$/, "round $round: runs for $won");
	is(sql("SELECT count(*) FROM tries WHERE round = '$round'"), $clients, "round $round: and everybody has been told");
}

# The same from snapshots that are older than all runs.
foreach my $level ('repeatable read', 'serializable')
{
	my $round = $level =~ s/ /_/r;
	my $run = play($round, 1, "-c default_transaction_isolation=" . ($level =~ s/ /\\ /r));
	$gate->query_safe('SELECT pg_advisory_unlock(2)');
	finish_clients($run);
	# SERIALIZABLE may refuse the winner too, for reasons of its own.
	my $runs = sql("SELECT count(*) FROM runs WHERE round = '$round'");
	like($runs, $level eq 'serializable' ? qr/^[01]$/ : qr/^1$/, "$level: there is one run");
}

# One after the other as fast as they can: who has started is alone until he ends.
sql(q{
	CREATE TABLE inside (n int NOT NULL, entered int NOT NULL DEFAULT 0, crowded int NOT NULL DEFAULT 0);
	INSERT INTO inside VALUES (0)});
my $run = start_clients(q{
	SELECT (try_start('relay', 'main') = 'won')::int AS won \gset
	\if :won
	UPDATE inside SET n = n + 1, entered = entered + 1, crowded = crowded + (n > 0)::int;
	BEGIN;
	UPDATE inside SET n = n - 1;
	UPDATE runs SET status = 'completed' WHERE round = 'relay' AND status = 'running';
	COMMIT;
	\endif
}, round => 0, clients => 40, transactions => 50);
finish_clients($run);
my ($entered, $crowded, $left) = split /\|/, sql('SELECT entered, crowded, n FROM inside');
note("relay: $entered of 2000 tries got in");
cmp_ok($entered, '>', 0, 'in the relay somebody gets in');
is("$crowded|$left", '0|0', 'and is alone there');
is(sql(q{SELECT count(*) FROM runs WHERE round = 'relay'}), $entered, 'every run was somebody\'s');
is(sql(q{SELECT count(*) FROM runs WHERE round = 'relay' AND status <> 'completed'}), '0', 'and has ended');

# Nobody waited for the guard, nor for another's row. (The gates are ours; inside is.)
$gate->quit;
my @waits = grep { !/advisory lock \[\d+,0,[12],1\]/ } slurp_file($node->logfile) =~ /process \d+ still waiting for (.* on (?:transaction|tuple|relation|advisory).*)/g;
is(scalar(@waits), 0, 'nobody waited for a lock') or diag(join("\n", @waits[0 .. ($#waits > 9 ? 9 : $#waits)]));

$node->stop;
done_testing();
