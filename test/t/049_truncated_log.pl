# The server cuts off its log of what has become of transactions. What memory still holds of older ones hides no living run, keeps
# nobody from starting and fails no statement; a sweep in any database settles what it holds before it comes to that.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $segment = 1048576;  # transactions in one file of the log

my $node = guard_node('truncated_log', preload => ['emag_sync_guard'], conf => qq{
	autovacuum = off
	emag_sync_guard.restart_grace = 0
	fsync = off
});

sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]); }

# As if so many transactions had been made that the first file of the log is nearly full.
$node->stop;
my $log = $node->data_dir . '/pg_xact/0000';
truncate($log, $segment / 4) or die "cannot make $log longer: $!";
$node->command_ok([ 'pg_resetwal', '-x', $segment - 2000, $node->data_dir ], 'near the end of the first file of the log');
$node->start;

sub make_tables
{
	my ($database) = @_;
	sql(q{CREATE TABLE runs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sync_type text NOT NULL, done integer NOT NULL DEFAULT 0,
		status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')), started_at timestamptz DEFAULT now());
		SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', exclusive => true);
		SELECT sync_guard.allow_transition('runs', 'failed', 'running')}, $database);
	return;
}
make_tables('postgres');
sql('CREATE DATABASE other');
sql('CREATE EXTENSION emag_sync_guard', 'other');
make_tables('other');

sub start { my ($scope, $end, $database) = @_; return sql("BEGIN; INSERT INTO runs (sync_type) VALUES ('$scope') RETURNING id; " . ($end // 'COMMIT'), $database); }

# A bound lease: its session goes on. `$then` is what it does before.
sub bound_session
{
	my ($database, $then) = @_;
	my $session = $node->background_psql($database, on_error_stop => 1);
	my ($key, $token) = split /\|/, $session->query_safe(q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "bound"}', bind_session => true)});
	$session->query_safe($then =~ s/KEY/$key/gr);
	return ($session, $key, $token);
}
my $retry_undone = q{BEGIN; UPDATE runs SET status = 'failed' WHERE id = KEY; UPDATE runs SET status = 'running' WHERE id = KEY; ROLLBACK};

# ---- a sweep, of this database alone -------------------------------------------------------------------------------------------
my ($other_session, $other_key, $other_token) = bound_session('other', $retry_undone);
start('refused', 'ROLLBACK', 'other');
sql('SELECT sync_guard.reap_stale_syncs()');

# ---- nobody meets what follows while it can be told ----------------------------------------------------------------------------------
start('undone', 'ROLLBACK');
my $live = start('live');
my ($leased, $leased_token) = split /\|/, sql(q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "leased"}')});
my ($session, $bound, $bound_token) = bound_session('postgres', q{BEGIN; UPDATE runs SET status = 'completed' WHERE id = KEY; ROLLBACK});
my $retaken = start('retaken');
my $retaken_token = sql("SELECT sync_guard.take_lease('runs', '$retaken')");
my $ended = start('ended');
sql("UPDATE runs SET status = 'completed' WHERE id = $ended");
my ($over, $over_token) = split /\|/, sql(q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "over"}', '100 milliseconds')});
poll_until($node, "SELECT verdict = 'heartbeat_lost' FROM sync_guard.stuck_syncs WHERE run_key = '$over'", 'one is dead');
my $successor = start('over');
my $made = sql(q{SELECT pg_current_xact_id()});

# ---- the log is cut off ---------------------------------------------------------------------------------------------------------
sql(q{CREATE TABLE junk (i integer)});
sql(q{DO $$ BEGIN FOR i IN 1 .. 2500 LOOP BEGIN INSERT INTO junk VALUES (i); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$});
sql(q{ALTER DATABASE template0 ALLOW_CONNECTIONS true});
$node->command_ok([ 'vacuumdb', '--all', '--freeze', '--quiet', '-p', $node->port, '-h', $node->host ], 'everything is frozen');
ok(!-e $log, 'the first file of the log is gone');
is(sql("SELECT pg_xact_status('$made') IS NULL"), 't', 'what those transactions came to is known no more');

# ---- nobody is hidden, and nobody kept out -------------------------------------------------------------------------------------------
my @running = sort { $a <=> $b } $live, $leased, $bound, $retaken, $successor;
my $running = q{SELECT string_agg(run_key, ' ' ORDER BY run_key::bigint) FROM sync_guard.running_syncs};
is(sql($running), "@running", 'the living are shown, and nothing else');
is(sql(q{SELECT sync_guard.sync_is_running('undone', 'runs')}), 'f', 'a start that was undone is no run');
is(sql(q{SELECT sync_guard.sync_is_running('live', 'runs')}), 't', 'one that was not is');
is(sqlstate_of($node, q{INSERT INTO runs (sync_type) VALUES ('live')}), 'SY002', 'its scope is taken');
my ($status, $started, $warning) = $node->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('undone') RETURNING id});
is($status, 0, 'the other scope is free') or diag($warning);
is($warning, '', 'and the start is checked');
is(sqlstate_of($node, q{INSERT INTO runs (sync_type) VALUES ('undone')}), 'SY002', 'taken from then on');
is(sql("UPDATE runs SET done = 5 WHERE id IN ($live, $leased, $bound) RETURNING done"), "5\n5\n5", 'the living write their rows');
is(sql("SELECT sync_guard.heartbeat($leased_token)"), 't', 'a token is good');
is(sql("SELECT sync_guard.heartbeat($retaken_token)"), 't', 'so is one that was taken later');
is($session->query_safe("SELECT sync_guard.heartbeat($bound_token)"), 't', 'so is that of a session');
is(sql("SELECT lease FROM sync_guard.tracked_runs WHERE token = $bound_token AND run_key = '$bound' AND relation = 'runs'::regclass"), 'session', 'which the run is bound to still');
is(sql("SELECT sync_guard.heartbeat($over_token)"), 'f', 'and not that of a run that was passed over');
my (undef, undef, $told) = $node->psql('postgres', q{SELECT sync_guard.reap_stale_syncs()});
unlike($told, qr/WARNING|ERROR/, 'a sweep goes through');
is(sql("SELECT run_key, verdict FROM sync_guard.reaped_syncs"), "$over|heartbeat_lost", 'and closes that one alone');
@running = sort { $a <=> $b } @running, $started;
is(sql($running), "@running", 'the living live');
sql('SELECT sync_guard.reap_stale_syncs()');
is(sql('SELECT used FROM sync_guard.guard_memory'), scalar(@running) + 1, 'memory holds them and nothing of the others');

is(sql($running, 'other'), $other_key, 'in the other database too');
is(sql(q{SELECT run_key, token, lease FROM sync_guard.tracked_runs WHERE relation = 'runs'::regclass}, 'other'), "$other_key|$other_token|session", 'all that memory knew of it is there');
is(sql('SELECT sync_guard.sync_is_running($$refused$$, $$runs$$)', 'other'), 'f', 'and no more than that');
sql("SELECT pg_terminate_backend(pid) FROM sync_guard.tracked_runs WHERE token = $bound_token");
poll_until($node, "SELECT count(*) = 1 FROM sync_guard.reaped_syncs WHERE run_key = '$bound' AND verdict = 'session_gone'", 'whose session ends is closed');
eval { $session->quit };
$other_session->quit;

unlike(slurp_file($node->logfile), qr/could not access status of transaction/, 'nobody asked for what was cut off');
$node->stop;
done_testing();
