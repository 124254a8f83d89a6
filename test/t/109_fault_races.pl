# Races frozen at a named point inside a call (src/fault.h), where no lock and no statement of a test could hold them.
use strict;
use warnings;

use FaultNode;
use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = fault_node('fault_races', conf => qq{
	emag_sync_guard.restart_grace = 0
	max_worker_processes = 20
	client_min_messages = error
});

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', exclusive => true, time_zone => 'UTC')});

sub start { my ($subject, $terms) = @_; return qq{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "$subject"}', $terms)}; }

my $reap = q{SELECT sync_guard.reap_stale_syncs(relation => 'runs')};

# The rows of a subject, how often they were reaped and by what, its open leases, what is in memory.
sub state_of
{
	return sql(qq{
		WITH mine AS (SELECT id::text AS run_key, status FROM runs WHERE sync_type = '$_[0]')
		SELECT (SELECT string_agg(status, ',' ORDER BY run_key::bigint) FROM mine),
		       (SELECT string_agg(path, ',' ORDER BY id) FROM sync_guard.journal JOIN mine USING (run_key) WHERE event = 'reaped'),
		       (SELECT count(*) FROM sync_guard.leases JOIN mine USING (run_key) WHERE ended_at IS NULL),
		       (SELECT count(*) FROM sync_guard.tracked_runs JOIN mine USING (run_key))});
}

# A statement in a session of its own: its answer, or the SQLSTATE of its error.
sub answer
{
	my ($out, $err);
	$node->psql('postgres', "\\set VERBOSITY sqlstate\n$_[0];", stdout => \$out, stderr => \$err);
	return $err =~ /ERROR:  ([0-9A-Z]{5})/ ? $1 : $out;
}

# A run whose lease has lapsed, and its token.
sub lapsed { return sql(start($_[0], q{'1 ms'})); }

# ---- a reaper, and the worker gives a sign of life -----------------------------------------------------------------------------
my $token = lapsed('before the second look');
my $go_on = freeze($node, 'reap.candidates_found', $reap);
is(answer("SELECT sync_guard.heartbeat($token); SELECT sync_guard.take_lease('runs', id, '1 hour') IS NOT NULL FROM runs WHERE sync_type = 'before the second look'"), "t\nt",
	'a reaper has found a dead run; its worker comes back');
is($go_on->(), '0', 'the reaper looks again, and leaves it');
is(state_of('before the second look'), 'running||1|1', 'the run goes on');

$token = lapsed('between the looks');
$go_on = freeze($node, 'reap.rows_locked', $reap);
is(answer("SELECT sync_guard.heartbeat($token)"), 't', 'a reaper has judged a locked run; its worker beats');
is($go_on->(), '0', 'the reaper asks memory, and leaves it');
is(state_of('between the looks'), 'running||1|1', 'the run goes on');
sql('DELETE FROM runs');

$token = lapsed('after the second look');
$go_on = freeze($node, 'reap.looked_again', $reap);
is(answer("SET statement_timeout = '20s'; SELECT sync_guard.heartbeat($token)"), 't', 'a reaper is closing a run; its worker beats, and does not wait');
is($go_on->(), '1', 'the reaper closes it');
is(state_of('after the second look'), 'failed|call|0|0', 'once');
is(answer("SELECT sync_guard.heartbeat($token)"), 'f', 'the worker is told at its next beat');
is(answer("BEGIN; SELECT sync_guard.fence($token)"), 'SY003', 'and may commit nothing');

# ---- a reaper, and the worker ends the run itself --------------------------------------------------------------------------------
$token = lapsed('finishing');
$go_on = freeze($node, 'finish_sync.row_ended', "SELECT sync_guard.finish_sync($token, 'completed')");
is(answer($reap), '0', 'a worker is ending its run; a reaper leaves it');
$go_on->();
is(state_of('finishing'), 'completed||0|0', 'and it has ended well');

$token = lapsed('fencing');
$go_on = freeze($node, 'fence.locked', "SELECT sync_guard.fence($token)\\; SELECT sync_guard.finish_sync($token, 'completed')\\; COMMIT", 'BEGIN');
is(answer($reap), '0', 'a worker is fencing its run; a reaper leaves it');
$go_on->();
is(state_of('fencing'), 'completed||0|0', 'and the run has ended well');

$token = lapsed('reaped while fencing');
$go_on = freeze($node, 'reap.journal_written', $reap);
my $zombie = $node->background_psql('postgres', on_error_stop => 0);
$zombie->query_safe('BEGIN');
$zombie->{stdin} .= "\\set VERBOSITY sqlstate\nSELECT sync_guard.fence($token);\n\\echo answered\n";
$zombie->{run}->pump_nb;
poll_until($node, q{SELECT count(*) = 1 FROM pg_locks WHERE objsubid = 25860 AND NOT granted}, 'a fence waits for a reaper');
is($go_on->(), '1', 'which closes the run');
answers($zombie);
like($zombie->{stderr}, qr/SY003/, 'and the fence is refused');
($zombie->{stdout}, $zombie->{stderr}) = ('', '');
$zombie->quit;
is(state_of('reaped while fencing'), 'failed|call|0|0', 'closed once');

# ---- a reaper, and somebody has the lease's row locked -----------------------------------------------------------------------------
sub end_reason { return sql("SELECT end_reason FROM sync_guard.leases WHERE token = $_[0]"); }

$token = lapsed('locked for a moment');
my $other = $node->background_psql('postgres', on_error_stop => 1);
$other->query_safe("BEGIN; SELECT token FROM sync_guard.leases WHERE token = $token FOR UPDATE");
$go_on = freeze($node, 'reap.leases_ended', $reap);
$other->query_safe('ROLLBACK');
is($go_on->(), '1', 'a lease was locked when a reaper came by, and not when its run was closed');
is(end_reason($token), 'reaped', 'it was reaped, not finished');

$token = lapsed('ended by another');
$other->query_safe("BEGIN; UPDATE sync_guard.leases SET ended_at = now(), end_reason = 'finished' WHERE token = $token");
$go_on = freeze($node, 'reap.leases_ended', $reap);
$other->query_safe("COMMIT; BEGIN; SELECT token FROM sync_guard.leases WHERE token = $token FOR UPDATE");
is($go_on->(), '1', 'a lease is ended by another one, and locked again: the reaper waits for nobody');
$other->query_safe('COMMIT');
$other->quit;
is(end_reason($token), 'finished', 'as that one said');

# ---- a start between its lease and its memory --------------------------------------------------------------------------------------
$go_on = freeze($node, 'attach.lease_written', start('starting', q{'1 hour'}));
is(answer($reap), '0', 'a start has its row and its lease, not yet its place in memory; a reaper finds nothing');
is(answer(start('starting', q{'1 hour'})), 'SY002', 'another start is refused');
$token = $go_on->();
is(state_of('starting'), 'running||1|1', 'the run is there');
is(answer("SELECT sync_guard.heartbeat($token)"), 't', 'and its token is good');

lapsed('starting over');
$go_on = freeze($node, 'start_sync.row_inserted', start('starting over', q{'1 hour'}));
is(answer($reap), '0', 'a start has closed the dead run of its scope; a reaper leaves that');
$token = $go_on->();
is(state_of('starting over'), 'failed,running|start_sync|1|1', 'closed once, and the new one runs');

# Two starters over one dead run.
lapsed('two starters');
$go_on = freeze($node, 'reap.rows_closed', start('two starters', q{'1 hour'}));
my $second = answer("SET statement_timeout = '20s'; " . start('two starters', q{'1 hour'}));
my $first = $go_on->();
is(join(' ', sort map { /^\d{10,}$/ ? 'started' : $_ } $first, $second), 'SY002 started', 'of two starters over a dead run one starts');
is(sql(q{SELECT count(*) FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' = 'two starters'}), '1', 'there is one live run');
answer($reap);
is(state_of('two starters') =~ s/start_sync|call/once/r, 'failed,running|once|1|1', 'and the dead one was closed once');

# Who is in memory has the scope: else of many that start at once each may be refused for another one, and nobody starts.
$go_on = freeze($node, 'watch.memory_told', q{INSERT INTO runs (sync_type) VALUES ('told') RETURNING status});
is(sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 25857}), '1', 'a start has told memory of itself: it holds its scope');
is(answer(q{INSERT INTO runs (sync_type) VALUES ('told')}), 'SY002', 'another one is refused');
is($go_on->(), 'running', 'and the first one starts');
is(state_of('told'), 'running||0|1', 'one has started');

# ---- the end of a session, and of the worker -----------------------------------------------------------------------------------
die_bound($node, 'runs', 'session_end.entries_marked:wait', '');
ok(comes($node, 'session_end.entries_marked'), 'a session has died and has not yet asked for the worker');
is(sql(q{SELECT sync_guard.sync_is_running('runs', 'runs')}), 'f', 'readers know');
is(answer($reap), '1', 'a call closes the run');
let_go($node, 'session_end.entries_marked');
poll_until($node, q{SELECT requests_open = 0 AND workers_requested = workers_started FROM sync_guard.guard_memory}, 'the worker comes and goes');
is(state_of('runs'), 'failed|call|0|0', 'and there is nothing left for it');

# The worker has looked for the last time and is about to say so; then another session dies.
sub until_closed { my ($table, $what) = @_; return poll_until($node, "SELECT bool_and(status = 'failed') FROM $table", $what); }

foreach my $point ('worker.pass_done', 'worker.gives_back')
{
	my $table = $point =~ s/\./_/r;
	make_run_table($node, $table);
	sql("CREATE ROLE $table; ALTER TABLE $table OWNER TO $table; SELECT sync_guard.guard_table('$table', time_zone => 'UTC')");
	fault_for_all($node, "$point:wait");
	die_bound($node, $table, '', '');
	ok(comes($node, $point), "a session has died, and a worker stands at $point");
	fault_for_all($node, '');
	until_closed($table, 'which has closed the run');
	die_bound($node, $table, '', '');
	poll_until($node, "SELECT count(*) = 1 FROM sync_guard.stuck_syncs WHERE relation = '$table'::regclass", 'another dies') if $point eq 'worker.pass_done';
	let_go($node, $point) if $point eq 'worker.pass_done';
	until_closed($table, "a session dies while a worker stands at $point: its run is closed");
	let_go($node, $point) if $point eq 'worker.gives_back';
	poll_until($node, 'SELECT requests_open = 0 FROM sync_guard.guard_memory', 'no request stays open');
	is(sql("SELECT count(*), string_agg(DISTINCT path, ' ') FROM sync_guard.journal WHERE relation = '$table'::regclass"), '2|worker', 'each by the worker, once');
}

# ---- adoption, and the application writes ------------------------------------------------------------------------------------------
make_run_table($node, 'adopted');
$go_on = freeze($node, 'adopt.proved', q{SELECT sync_guard.guard_table('adopted', scope_columns => '{sync_type}', exclusive => true, time_zone => 'UTC')});
is(answer(q{SET statement_timeout = '20s'; INSERT INTO adopted (sync_type) VALUES ('a'), ('a') RETURNING status}), "running\nrunning",
	'a table is just being guarded, its settings are stored and its triggers are not: the application writes');
$go_on->();
is(answer(q{INSERT INTO adopted (sync_type) VALUES ('a')}), 'SY002', 'from the commit on the guard judges');
is(sql(q{SELECT count(*) FROM sync_guard.running_syncs WHERE relation = 'adopted'::regclass}), '2', 'and what was written meanwhile is seen');

is(sql(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid BETWEEN 25857 AND 25862}), '0', 'no lock is left');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'and no process has crashed');
$node->stop;
done_testing();
