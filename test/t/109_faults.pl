# Memory that is out, a process that ends, a crash at each point of the source where something could be left half-done: what is
# done is done as a whole or not at all, whatever follows completes it, and nothing of it stays locked, open or in memory.
#
# The points are those of the source (src/fault.h). Each scenario names the points it comes by; a point that none comes by is a
# failure.
use strict;
use warnings;

use FaultNode;
use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = fault_node('faults', conf => qq{
	emag_sync_guard.restart_grace = 0
	restart_after_crash = on
	max_worker_processes = 20
});

# What asks and sets up is one session: it is faster.
my $asker;
my $asker_pid;    # of its backend

sub sql { return $asker->query_safe($_[0]); }

# After a crash: until the server has noticed it it takes connections still, and then it ends them, as it does the one we have.
sub connect_again
{
	my ($after_crash) = @_;
	if ($after_crash)
	{
		my $gone = 0;
		for (1 .. 20 * $PostgreSQL::Test::Utils::timeout_default)
		{
			last if $gone = !kill 0, $asker_pid;
			select(undef, undef, undef, 0.05);
		}
		$gone or die 'the server does not notice the crash';
		$asker->{run}->kill_kill;
	}
	wait_for_server($node);
	$asker = $node->background_psql('postgres', on_error_stop => 1);
	$asker_pid = $asker->query_safe('SELECT pg_backend_pid()');
	$asker->query_safe('SET client_min_messages = error');
	return;
}
connect_again();

# ---- the oracle ------------------------------------------------------------------------------------------------------------
make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', exclusive => true, time_zone => 'UTC');
	CREATE TABLE calm AS SELECT problem FROM sync_guard.guard_health;
	CREATE VIEW row_of AS SELECT 'runs'::regclass AS relation, id::text AS run_key, sync_type AS subject, status FROM runs;
	CREATE VIEW amiss AS
	WITH leased AS (SELECT relation, run_key, token FROM sync_guard.leases WHERE ended_at IS NULL AND relation = 'runs'::regclass),
	     known AS (SELECT relation::regclass, run_key, token, uncommitted FROM sync_guard.tracked_runs WHERE relation = 'runs'::regclass),
	     told AS (SELECT relation, run_key, count(*) FILTER (WHERE event = 'reaped') AS reaped,
	                     count(*) FILTER (WHERE event IN ('overturned', 'retried')) AS undone
	              FROM sync_guard.journal GROUP BY 1, 2)
	SELECT 'an open lease, and the run is ' || coalesce(status, 'gone') AS what, run_key AS of
	FROM leased LEFT JOIN row_of USING (relation, run_key) WHERE status IS DISTINCT FROM 'running'
	UNION ALL SELECT 'in memory, and the run is ' || coalesce(status, 'gone'), run_key
	FROM known LEFT JOIN row_of USING (relation, run_key) WHERE status IS DISTINCT FROM 'running'
	UNION ALL SELECT 'in memory with a token of no open lease', run_key
	FROM known LEFT JOIN leased USING (relation, run_key, token) WHERE known.token IS NOT NULL AND leased.token IS NULL
	UNION ALL SELECT 'uncommitted for ever', run_key FROM known WHERE uncommitted
	UNION ALL SELECT format('%s, reaped %s times, undone %s times', status, reaped, undone), run_key
	FROM row_of LEFT JOIN told USING (relation, run_key)
	WHERE coalesce(reaped - undone, 0) <> (status = 'failed')::int
	UNION ALL SELECT 'in not just one of the views of live and of dead runs', r.run_key FROM row_of AS r WHERE r.status = 'running' AND 1 <>
	    (SELECT count(*) FROM (SELECT relation, run_key FROM sync_guard.running_syncs UNION ALL
	                           SELECT relation, run_key FROM sync_guard.stuck_syncs) AS s WHERE (s.relation, s.run_key) = (r.relation, r.run_key))
	UNION ALL SELECT 'locked, class ' || to_hex(objsubid::int), pid::text FROM pg_locks
	WHERE locktype = 'advisory' AND objsubid BETWEEN 25857 AND 25862
	UNION ALL SELECT 'health: ' || problem, detail FROM sync_guard.guard_health
	WHERE severity <> 'info' AND problem <> ALL ('{dead_runs_not_closed,false_positives}'::text[]) AND problem <> ALL (SELECT problem FROM calm)});

# Nothing is left half-done; what ends in a moment may do so.
sub is_whole
{
	my ($name) = @_;
	my $amiss;
	for (1 .. 100)
	{
		$amiss = sql(q{SELECT string_agg(what || ': ' || of, '; ') FROM amiss});
		return 1 if $amiss eq '';
		select(undef, undef, undef, 0.05);
	}
	diag("$name: $amiss");
	return 0;
}

# Everything that is to be known of a subject's runs: rows, open leases and by whom, journal, memory.
sub state_of
{
	my ($subject, $asked) = @_;
	return sql(filled($asked, $subject)) if $asked;
	return sql(qq{
		WITH mine AS (SELECT * FROM row_of WHERE subject = '$subject')
		SELECT (SELECT string_agg(status, ',' ORDER BY run_key::bigint) FROM mine),
		       (SELECT string_agg(coalesce(worker, '-'), ',' ORDER BY token) FROM sync_guard.leases JOIN mine USING (relation, run_key)
		        WHERE ended_at IS NULL),
		       (SELECT string_agg(event, ',' ORDER BY id) FROM sync_guard.journal JOIN mine USING (relation, run_key)),
		       (SELECT count(*) FROM sync_guard.tracked_runs AS t JOIN mine ON t.relation::regclass = mine.relation AND t.run_key = mine.run_key)});
}

# ---- what a session does ---------------------------------------------------------------------------------------------------
my $subject = 0;
my $insert = q{INSERT INTO runs (sync_type, started_at) VALUES ('{s}', (now() AT TIME ZONE 'UTC') - interval '2 hours');};
my $silent = q{SET session_replication_role = replica; } . $insert . q{ RESET session_replication_role;};
my $start = q{SELECT FROM sync_guard.start_sync('runs', '{"sync_type": "{s}"}', {terms});};
my $token = q{(SELECT token FROM sync_guard.leases JOIN row_of USING (relation, run_key) WHERE subject = '{s}' AND ended_at IS NULL)};

sub started { my ($terms) = @_; return $start =~ s/\{terms\}/$terms/r; }

# Tables that come and go: triggers, settings, runs in memory, verdicts.
my $fresh = 'CREATE TABLE fresh{s} (LIKE runs INCLUDING ALL);';
my $with_run = "$fresh SELECT sync_guard.guard_table('fresh{s}', time_zone => 'UTC'); "
  . q{SELECT FROM sync_guard.start_sync('fresh{s}', '{"sync_type": "a"}', '1 hour');};
my $guarding = q{
	SELECT (SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass('fresh{s}') AND NOT tgisinternal),
	       (SELECT count(*) FROM sync_guard.settings WHERE relation_name = 'public.fresh{s}'),
	       (SELECT count(*) FROM sync_guard.tracked_runs WHERE relation = to_regclass('fresh{s}')::oid),
	       (SELECT string_agg(verdict, ',') FROM sync_guard.running_syncs WHERE relation = to_regclass('fresh{s}'))};

my $live = started(q{ttl => '1 hour'});
my $lapsed = started(q{ttl => '1 ms', worker => 'one', incarnation => 'a'});

# before: what stands there; does: the call; points: what it comes by; then: the state when it has gone well. Where the call
# goes well in spite of a fault (a group that failed is tried again, a step of the sweep fails alone), `bears` says so.
my @scenarios = (
	{ name => 'start_sync over a dead run', before => $silent, does => $live,
	  points => [qw(start_sync.scope_closed start_sync.row_inserted attach.lease_written attach.entry_made attach.bound
		watch.memory_told watch.scope_claimed settings.row_read settings.loaded)],
	  then => 'failed,running|-|reaped|1' },
	{ name => 'start_sync over a dead run, whose closing fails', before => $silent, does => $live, bears => 1,
	  again => q{SELECT sync_guard.reap_stale_syncs(relation => 'runs');}, points => [qw(reap.rows_locked reap.leases_ended)], then => 'failed,running|-|reaped|1' },
	{ name => 'an INSERT beside a dead run', before => $silent, does => q{INSERT INTO runs (sync_type) VALUES ('{s}');}, points => ['passed_over.noted'],
	  state => q{SELECT (SELECT string_agg(status, ',') FROM row_of WHERE subject = '{s}'),
	                    (SELECT count(*) FROM sync_guard.passed_over JOIN row_of USING (relation, run_key) WHERE subject = '{s}')},
	  then => 'running,running|1' },
	{ name => 'a bound start', before => '', does => started('bind_session => true'),
	  points => [qw(session.callbacks_registered session.lease_bound)], then => 'running|-||1' },
	{ name => 'an INSERT', before => '', does => q{INSERT INTO runs (sync_type) VALUES ('{s}');},
	  points => [qw(settings.row_read watch.memory_told)], then => 'running|||1' },
	{ name => 'a heartbeat of another session', before => $live, does => "SELECT sync_guard.heartbeat($token);",
	  points => [qw(heartbeat.row_asked heartbeat.told)], then => 'running|-||1' },
	{ name => 'a heartbeat after its time', before => $lapsed, does => "SELECT sync_guard.heartbeat($token);",
	  points => [qw(heartbeat.scope_claimed heartbeat.beat_noted)], then => 'running|one||1' },
	{ name => 'a fence', before => $live, does => "BEGIN; SELECT sync_guard.fence($token); COMMIT;",
	  points => [qw(fence.locked fence.noted)], then => 'running|-||1' },
	{ name => 'finish_sync', before => $live, does => "SELECT sync_guard.finish_sync($token, 'completed');",
	  points => [qw(finish_sync.locked finish_sync.row_ended finish_sync.entry_closed finish_sync.lease_ended finish_sync.unbound)],
	  then => 'completed|||0' },
	{ name => 'take_lease from a dead owner', before => $lapsed,
	  does => q{SELECT sync_guard.take_lease('runs', run_key, '1 hour', worker => 'two') FROM row_of WHERE subject = '{s}';},
	  points => [qw(take_lease.row_locked take_lease.replaced attach.lease_written attach.entry_made)], then => 'running|two||1' },
	{ name => 'worker_started', before => started(q{ttl => '1 hour', worker => 'w{s}', incarnation => 'a'}),
	  does => q{SELECT sync_guard.worker_started('w{s}', 'b');},
	  points => [qw(worker_started.superseded worker_started.memory_told reap.table_locked reap.candidates_found)],
	  then => 'failed||reaped|0' },
	{ name => 'a reaping', before => $silent . ($lapsed =~ s/\{s\}/{s}b/r), does => q{SELECT sync_guard.reap_stale_syncs(relation => 'runs');},
	  points => [qw(reap.table_locked reap.settled reap.candidates_found reap.between_batches)], then => 'failed||reaped|0' },
	{ name => 'a reaping whose group fails', before => $silent . ($lapsed =~ s/\{s\}/{s}b/r), bears => 1,
	  does => q{SELECT sync_guard.reap_stale_syncs();},
	  points => [qw(reap.rows_locked reap.looked_again reap.leases_ended reap.rows_closed reap.journal_written
		announce.payloads_made reap.announced alerts.evaluated alerts.server_recorded)], then => 'failed||reaped|0' },
	{ name => 'what comes in by a sweep', bears => 1, then => 'completed|||0',
	  before => "$live SELECT sync_guard.finish_sync($token, 'completed'); DELETE FROM sync_guard.scope_rhythms;
		DELETE FROM sync_guard.outbox; INSERT INTO sync_guard.outbox (payload) VALUES ('{}');",
	  does => q{SELECT sync_guard.reap_stale_syncs();}, points => [qw(gaps.taken_over gaps.written rhythms.learned announce.outbox_sent)],
	  check => q{SELECT (SELECT count(*) FROM sync_guard.observed_gaps JOIN row_of USING (relation, run_key) WHERE subject = '{s}'),
		(SELECT count(*) > 0 FROM sync_guard.scope_rhythms), (SELECT count(*) FROM sync_guard.outbox)}, checked => '1|t|0' },
	{ name => 'a sweep that cannot begin', before => $silent, does => q{SELECT sync_guard.reap_stale_syncs();},
	  points => [qw(sweep.table_begins sweep.server_begins)], then => 'failed||reaped|0' },
	{ name => 'a late finish', before => "$silent SELECT sync_guard.reap_stale_syncs(relation => 'runs');",
	  does => q{UPDATE runs SET status = 'completed' WHERE sync_type = '{s}';}, points => ['judge.noted'],
	  then => 'failed||reaped,late_finish|0' },
	{ name => 'overturn_reap', before => "$silent SELECT sync_guard.reap_stale_syncs(relation => 'runs');",
	  does => q{SELECT sync_guard.overturn_reap('runs', run_key, 'completed') FROM row_of WHERE subject = '{s}';},
	  points => ['overturn.row_written'], then => 'completed||reaped,overturned|0' },
	{ name => 'guard_table', before => "$fresh INSERT INTO fresh{s} (sync_type) VALUES ('a');", does => q{SELECT sync_guard.guard_table('fresh{s}');},
	  points => [qw(settings.row_changed adopt.settings_stored adopt.proved guarding.trigger_made adopt.triggers_made)],
	  state => $guarding, then => '5|1|0|live' },
	{ name => 'unguard_table of a table with a live run', before => $with_run, does => q{SELECT sync_guard.unguard_table('fresh{s}');},
	  points => [qw(guarding.trigger_dropped unguard.triggers_removed settings.row_changed unguard.settings_forgotten unguard.memory_forgotten)],
	  state => $guarding, then => '0|0|0|' },
	{ name => 'DROP TABLE with a live run', before => $with_run, does => 'DROP TABLE fresh{s};',
	  points => ['upkeep.dropped_forgotten'], state => $guarding, then => '0|0|0|' },
	{ name => 'observing', does => q{SELECT sync_guard.reap_stale_syncs(relation => 'fresh{s}');}, points => ['reap.observed'],
	  before => "$fresh SELECT sync_guard.guard_table('fresh{s}', mode => 'observe', time_zone => 'UTC');" . ($silent =~ s/INTO runs/INTO fresh{s}/r),
	  state => q{SELECT count(*) FROM sync_guard.journal WHERE relation = 'fresh{s}'::regclass AND event = 'would_reap'}, then => '1' });

my %ends = (error => '58000', oom => '53200', bad_alloc => '53200', fatal => '58000', crash => 'gone');
my %tried;

sub filled { my ($text, $name) = @_; return $text =~ s/\{s\}/$name/gr; }

# A fault at a point of a scenario, then the same without one. The outcome is one line: empty, or what was wrong.
sub outcome
{
	my ($scenario, $point, $action) = @_;
	my $name = 's' . ++$subject;
	sql(filled($scenario->{before}, $name)) if $scenario->{before} ne '';
	my $before = state_of($name, $scenario->{state});
	unlink $node->data_dir . "/fault_points/$point";
	my $ended = with_fault($node, "$point:$action", filled($scenario->{does}, $name));
	my $crash = $action eq 'crash';
	connect_again(1) if $crash;
	return 'it was not passed' unless -e $node->data_dir . "/fault_points/$point";
	$tried{$point} = 1;
	my $bears = $scenario->{bears} && $action !~ /^(fatal|crash)$/;
	return "it ended with \"$ended\"" if $ended ne ($bears ? '' : $ends{$action});
	return 'something is left' unless is_whole("$point:$action");
	my $after = state_of($name, $scenario->{state});
	# A crash takes the memory along.
	($before, $after) = map { s/\|\d+(\|\w*)?$//r } $before, $after if $crash;
	return "half-done: $after, was $before" unless $bears || $after eq $before;
	my $again = with_fault($node, '', filled($bears && $scenario->{again} || $scenario->{does}, $name));
	return "the next call ended with \"$again\"" if $again ne '' && !($bears && $after eq $scenario->{then});
	return 'something is left in the end' unless is_whole("after $point:$action");
	my $then = state_of($name, $scenario->{state});
	return "in the end $then" if $then ne $scenario->{then};
	return '' if $crash || !$scenario->{check};
	my $checked = sql(filled($scenario->{check}, $name));
	return $checked eq $scenario->{checked} ? '' : "in the end $checked";
}

sub tried_all
{
	my ($scenario, $action, @points) = @_;
	my @wrong = map { my $wrong = outcome($scenario, $_, $action); $wrong eq '' ? () : "$_: $wrong" } @points;
	is(join("\n", @wrong), '', sprintf('%s, %s at %d points: wholly or not at all', $scenario->{name}, $action, scalar @points));
	return;
}

foreach my $scenario (@scenarios)
{
	my @points = @{ $scenario->{points} };
	tried_all($scenario, $_, @points) for qw(oom bad_alloc fatal);
	# A crash costs a restart of the server: one of them.
	tried_all($scenario, 'crash', $points[-1]);
	sql('DELETE FROM runs');
}

# ---- the end of a session: nobody is left to be told of an error there -------------------------------------------------------
foreach my $point (map { "session_end.$_" } qw(begins transaction_over entries_marked worker_asked))
{
	unlink $node->data_dir . "/fault_points/$point";
	my $session = die_bound($node, 'runs', "$point:crash", ", ttl => '1 ms'");
	passes($node, $point) and $tried{$point} = 1;
	$session->{run}->finish;
	connect_again(1);
	ok(is_whole($point), "a crash at $point leaves nothing half-done");
	with_fault($node, '', q{SELECT sync_guard.reap_stale_syncs(relation => 'runs')});
	is(state_of('runs'), 'failed||reaped|0', 'and the run is closed once');
	sql('DELETE FROM runs');
}

# ---- the worker --------------------------------------------------------------------------------------------------------------
# Each point in a worker of an owner of its own, so that nobody has to wait until a request is asked again.
my %worker_points = (
	oom => [qw(worker.begins worker.request_taken worker.connected worker.became_owner worker.is_the_owner worker.pass_begins
		worker.dead_found worker.table_closed worker.between_tables worker.committing worker.pass_done worker.served)],
	bad_alloc => [qw(worker.begins worker.request_taken worker.is_the_owner worker.table_closed worker.committing worker.pass_done)],
	fatal => [qw(worker.request_taken worker.became_owner worker.dead_found worker.table_closed worker.committing worker.pass_done)],
	crash => [qw(worker.table_closed worker.gives_back)]);
my $owners = 0;

sub new_owner
{
	my $table = 'own' . ++$owners;
	sql(qq{
		CREATE ROLE $table; CREATE TABLE $table (LIKE runs INCLUDING ALL); ALTER TABLE $table OWNER TO $table;
		SELECT sync_guard.guard_table('$table', scope_columns => '{sync_type}', time_zone => 'UTC')});
	return $table;
}

foreach my $action (qw(oom bad_alloc fatal crash))
{
	my @tables;
	foreach my $point (@{ $worker_points{$action} })
	{
		push @tables, my $table = new_owner();
		fault_for_all($node, "$point:$action");
		my $session = die_bound($node, $table, '', $action eq 'crash' ? ", ttl => '1 ms'" : '');
		passes($node, $point) and $tried{$point} = 1;
		$session->{run}->finish;
		connect_again(1) if $action eq 'crash';
		fault_for_all($node, '');
	}
	my $closed = join ' UNION ALL ', map { "SELECT status FROM $_" } @tables;
	# Whoever reads asks again; after a crash there is nobody to ask for, and a call closes them.
	my $asks = $action eq 'crash' ? 'sync_guard.reap_stale_syncs()' : '(SELECT count(*) FROM sync_guard.stale_syncs())';
	ok($node->poll_query_until('postgres', "SELECT bool_and(status = 'failed') FROM ($closed) AS r, $asks AS asked"),
		sprintf('%s at %d points of the worker: the runs are closed all the same', $action, scalar @tables));
	my $lines = join ',', map { "'$_'::regclass" } @tables;
	is(sql("SELECT count(*), count(DISTINCT (relation, run_key)) FROM sync_guard.journal WHERE event = 'reaped' AND relation IN ($lines)"),
		scalar(@tables) . '|' . scalar(@tables), 'once each');
	ok($node->poll_query_until('postgres', q{SELECT requests_open = 0 FROM sync_guard.guard_memory, (SELECT count(*) FROM sync_guard.stale_syncs()) AS asked}),
		'and no request stays open');
	ok(is_whole("the worker, $action"), 'nothing is left of it');
}

# ---- what is handed to the worker, and the call fails ------------------------------------------------------------------------
my $handed = new_owner();
sql(qq{
	CREATE FUNCTION does_nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON $handed DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION does_nothing();
	CREATE ROLE stranger; GRANT SELECT, UPDATE ON $handed TO stranger; GRANT USAGE ON SCHEMA sync_guard TO stranger;}
	. ($silent =~ s/INTO runs/INTO $handed/r =~ s/\{s\}/a/r));
is(with_fault($node, 'reap.handed_over:oom', "SET ROLE stranger; SELECT sync_guard.reap_stale_syncs(relation => '$handed')"), '53200',
	'a reaping hands over what it may not close, and fails');
$tried{'reap.handed_over'} = 1;
ok($node->poll_query_until('postgres', "SELECT status = 'failed' FROM $handed"), 'the worker closes it');
is(sql("SELECT count(*) FROM sync_guard.journal WHERE relation = '$handed'::regclass"), '1', 'once');

# ---- in the end --------------------------------------------------------------------------------------------------------------
with_fault($node, '', 'SELECT sync_guard.reap_stale_syncs()');
is(sql(q{SELECT count(*) FROM sync_guard.guard_health WHERE severity <> 'info' AND problem <> 'false_positives'}), '0', 'the guard is well');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|stuck spinlock/, 'and no process has panicked');

my $points = fault_points();
is(join(' ', grep { $points->{$_} > 1 } sort keys %$points), '', 'each point stands once in the source');
is(join(' ', grep { !$tried{$_} } sort keys %$points), '', 'each has been made to fail');
is(join(' ', grep { !$points->{$_} } sort keys %tried), '', 'there is no other');
my @found = grep { index(slurp_file(plain_module()), $_) >= 0 } 'emag_sync_guard.fault', 'fault_points', keys %$points;
is("@found", '', 'a module built as usual has nothing of them');
cmp_ok(index(slurp_file(fault_module()), 'emag_sync_guard.fault'), '>', 0, 'this one has');
diag(sprintf('%d fault points, %d scenarios, %d faults', scalar keys %$points, scalar @scenarios, $subject));

$node->stop;
done_testing();
