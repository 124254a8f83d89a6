# What the guard does where its means run out: the memory is full, no background worker can start, the library is not preloaded.
# Everything works on the evidence that is left, what is missing is said once and stands in guard_health, and what the worker
# could not close is closed by the next sweep, call or starter. It takes a full minute for pg_cron to come round.
use strict;
use warnings;

use GuardNode;
use LeaseFleet;
use PostgreSQL::Test::Utils;
use Test::More;

plan skip_all => fleet_missing() if fleet_missing();

my $start = q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', bind_session => true)};

# A server with the table runs, and a fleet for it.
sub server
{
	my ($name, @options) = @_;
	my $node = guard_node($name, @options);
	make_run_table($node, 'runs');
	$node->safe_psql('postgres', q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true)});
	return ($node, LeaseFleet->new($node));
}

sub health
{
	my ($node, $problem) = @_;
	return $node->safe_psql('postgres', "SELECT severity, detail FROM sync_guard.guard_health WHERE problem = '$problem'");
}

# Whether the runs of a group are seen as this: name, verdict, progress.
my $seen = q{
	SELECT string_agg(concat_ws(' ', scope ->> 'sync_type', verdict, done, total), ', ' ORDER BY scope ->> 'sync_type') = '%2$s'
	FROM sync_guard.live_runs() WHERE scope ->> 'sync_type' ^@ '%1$s'};

# What is said first of a reaped run.
my ($general, $nothing_done) = ('Sync interrupted by system restart or timeout', 'Sync interrupted - no items processed');

sub opening
{
	return "SELECT split_part(reason, ':', 1) FROM sync_guard.reaped_syncs WHERE run_key = (SELECT id::text FROM runs WHERE sync_type = '$_[0]')";
}

sub answer { my ($fleet, $command) = @_; return join(' ', keys %{ $fleet->counts($command) }); }

# ---- no slot for a worker, pg_cron's sweep instead -------------------------------------------------------------------------------
# (Comes first and is looked at last, since its minute passes anyway. pg_cron's launcher has the only slot.)
my ($cron, $cron_fleet) = server('fallback_cron', preload => [ 'pg_cron', 'emag_sync_guard' ],
	conf => "max_worker_processes = 1\nmax_logical_replication_workers = 0");
$cron->safe_psql('postgres', q{CREATE EXTENSION pg_cron});
$cron->safe_psql('postgres', q{SELECT sync_guard.schedule_reaping()});
$cron_fleet->ask('open dead 5');
$cron_fleet->ask("do dead $start");
$cron_fleet->ask('signal dead KILL');
poll_until($cron, 'SELECT count(*) = 0 FROM sync_guard.running_syncs', 'no slot for the worker: readers are right all the same');
poll_until($cron, 'SELECT workers_refused > 0 FROM sync_guard.guard_memory', 'the worker was asked for in vain');
like(health($cron, 'workers_refused'), qr/^warning\|no slot for a background worker was free, [1-9]\d* times: runs of dead sessions were left to the next reaping$/,
	'and guard_health says so');

# ---- no worker at all --------------------------------------------------------------------------------------------------------------
{
	my ($node, $fleet) = server('fallback_workers', preload => ['emag_sync_guard'], conf => 'max_worker_processes = 0');
	my $sql = sub { return $node->safe_psql('postgres', $_[0]); };
	$fleet->ask('open dead 4');
	$fleet->ask("do dead $start");
	is(health($node, 'workers_refused'), '', 'no workers: no matter, as long as none is asked for');
	$fleet->ask('signal dead KILL');
	poll_until($node, q{SELECT count(*) = 4 FROM sync_guard.stuck_syncs WHERE verdict = 'session_gone'}, 'killed: dead for every reader');
	is($sql->(q{SELECT string_agg(DISTINCT verdict, ' '), count(*) FROM sync_guard.live_runs()}), 'session_gone|4', 'no run is alive');
	is($sql->(q{SELECT count(*) FROM runs WHERE status = 'running'}), '4', 'although nobody has closed them');
	is($sql->(q{SELECT sync_guard.sync_is_running()}), 'f', 'none is running');
	poll_until($node, q{SELECT workers_started = 0 AND workers_refused > 0 AND requests_open = 1 FROM sync_guard.guard_memory}, 'the worker was asked for in vain');
	like(health($node, 'workers_refused'), qr/^warning\|/, 'guard_health says so');
	my $log = () = slurp_file($node->logfile) =~ /WARNING/g;
	cmp_ok($log, '<=', 1, 'the log is not flooded');
	# A starter closes what is in its way, a call the rest.
	$fleet->ask('open heir 1');
	like(answer($fleet, q{do heir SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "dead_1"}', bind_session => true)}), qr/^\d{6,}$/,
		'a starter gets the scope');
	is($sql->(q{SELECT verdict, path, count(*) FROM sync_guard.reaped_syncs GROUP BY 1, 2}), 'session_gone|start_sync|1', 'and has closed the dead run that held it');
	is($sql->(q{SELECT sync_guard.reap_stale_syncs()}), '3', 'a call closes the others');
	is($sql->(q{SELECT verdict, path, count(*) FROM sync_guard.reaped_syncs GROUP BY 1, 2 ORDER BY 2}), "session_gone|call|3\nsession_gone|start_sync|1",
		'session_gone, as the worker would have');
	is($sql->(q{SELECT count(*) FROM sync_guard.running_syncs}), '1', 'the heir runs');
	$fleet->end;
	$node->stop;
}

# ---- the memory is full ----------------------------------------------------------------------------------------------------------
{
	my ($node, $fleet) = server('fallback_memory', preload => ['emag_sync_guard'], conf => 'emag_sync_guard.max_tracked_runs = 16');
	my $sql = sub { return $node->safe_psql('postgres', $_[0]); };
	is($sql->('SELECT max_tracked_runs, used, refused FROM sync_guard.guard_memory'), '16|0|0', 'there is room for sixteen runs');
	my (undef, undef, $told) = $node->psql('postgres', join('', map { qq{SELECT sync_guard.start_sync('runs', '{"sync_type": "full $_"}');} } 1 .. 20));
	my @warnings = $told =~ /WARNING:  (.*)/g;
	is_deeply(\@warnings, ["the guard's memory has no room for another run"], 'twenty start: one WARNING in this session');
	is($sql->(q{SELECT verdict, lease, count(*) FROM sync_guard.running_syncs GROUP BY 1, 2}), 'live|heartbeat|20', 'all are alive');
	is($sql->('SELECT used, refused >= 4, (SELECT count(*) FROM sync_guard.tracked_runs) FROM sync_guard.guard_memory'), '16|t|16', 'sixteen of them in memory');
	like(health($node, 'memory_full'), qr/^warning\|the shared memory, with room for 16 runs, was full [1-9]\d* times: /, 'guard_health says so');

	# Two without room: a bound one becomes a heartbeat lease, and beats are written to the lease's row.
	(undef, undef, $told) = $node->psql('postgres', q{SELECT sync_guard.start_sync('runs', '{"sync_type": "bound"}', bind_session => true)});
	like($told, qr/NOTICE:  the lease is not bound to this session: it is a heartbeat lease\nDETAIL:  There is no room for the run in shared memory/,
		'one that wants to be bound is told that it is not');
	is($sql->(q{SELECT bind_session, ttl FROM sync_guard.leases WHERE relation = 'runs'::regclass AND run_key = (SELECT id::text FROM runs WHERE sync_type = 'bound')}), 'f|00:01:00',
		'it has a heartbeat lease of 60 s');
	$fleet->ask('open late 2');
	$fleet->ask(q{do late SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}',
		ttl => CASE '{name}' WHEN 'late_0' THEN interval '8 seconds' ELSE '2 seconds' END)});
	$fleet->ask('keep late[0] 0.05 SELECT sync_guard.heartbeat({token}, 4, 5)');
	poll_until($node, sprintf($seen, 'late', 'late_0 live 4 5, late_1 heartbeat_lost 0'),
		'who beats is alive, with its progress; who does not is dead after its ttl');
	is(join(' ', keys %{ $fleet->counts('hush late[0]') }), 't', 'none of its heartbeats was refused');
	is($sql->(q{SELECT sync_guard.reap_stale_syncs()}), '1', 'the other is reaped');
	is($sql->(q{SELECT verdict, path FROM sync_guard.reaped_syncs}), 'heartbeat_lost|call', 'heartbeat_lost');
	is($sql->(opening('late_1')), $general, 'its counter stands at 0, of which nobody could have kept its heartbeats: it does not say that it did nothing');
	is(answer($fleet, 'do late[1] SELECT sync_guard.heartbeat({token})'), 'f', 'and told so');
	is(answer($fleet, 'do late[1] BEGIN') . answer($fleet, 'do late[1] SELECT sync_guard.fence({token})'), 'SY003', 'it cannot fence');
	is(answer($fleet, q{do late[0] SELECT sync_guard.finish_sync({token}, 'completed')}), '', 'the other finishes');

	# Runs end, and there is room again.
	$sql->(q{UPDATE runs SET status = 'completed' WHERE status = 'running'});
	$fleet->ask('open room 1');
	$fleet->ask("do room $start");
	is($sql->(q{SELECT lease, verdict FROM sync_guard.running_syncs}), 'session|live', 'runs have ended: there is room for a bound lease');
	is($sql->(q{SELECT count(*) FROM sync_guard.tracked_runs}), '1', 'which is the only one in memory');
	$fleet->ask('signal room KILL');
	poll_until($node, q{SELECT count(*) = 0 FROM runs WHERE status = 'running'}, 'killed, its run ends');
	is($sql->(q{SELECT verdict, path FROM sync_guard.reaped_syncs ORDER BY reaping DESC LIMIT 1}), 'session_gone|worker', 'and the worker closes it');
	is($sql->(opening('room_0')), $nothing_done, 'memory was with it all the time: it did nothing');
	$fleet->end;
	$node->stop;
}

# ---- not preloaded ---------------------------------------------------------------------------------------------------------------
{
	my ($node, $fleet) = server('fallback_bare', conf => 'autovacuum = off');
	my $sql = sub { return $node->safe_psql('postgres', $_[0]); };
	is($sql->('SELECT max_tracked_runs, used, bytes, workers_requested FROM sync_guard.guard_memory'), '0|0|0|0', 'not preloaded: there is no memory');
	is($sql->('SELECT count(*) FROM sync_guard.tracked_runs'), '0', 'and nothing in it');
	like(health($node, 'not_preloaded'), qr/^info\|emag_sync_guard is not in shared_preload_libraries: /, 'guard_health says what that means');
	my (undef, undef, $told) = $node->psql('postgres', q{SELECT sync_guard.start_sync('runs', '{"sync_type": "told"}', bind_session => true)});
	like($told, qr/NOTICE:  the lease is not bound to this session: it is a heartbeat lease\nDETAIL:  There is no shared memory/, 'so is who wants to be bound');
	unlike($told, qr/WARNING/, 'with nothing else');

	$fleet->ask('open bare 3');
	$fleet->ask(q{do bare SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}',
		ttl => CASE '{name}' WHEN 'bare_0' THEN interval '8 seconds' ELSE '3 seconds' END, bind_session => true)});
	is($sql->(q{SELECT string_agg(DISTINCT lease, ' '), count(*) FROM sync_guard.live_runs() WHERE scope ->> 'sync_type' LIKE 'bare%'}), 'heartbeat|3', 'heartbeat leases');
	is(answer($fleet, 'do bare[1] SELECT sync_guard.heartbeat({token}, 40, 200)'), 't', 'a heartbeat soon after the start');
	is($sql->(q{SELECT done IS NULL FROM sync_guard.leases AS l JOIN runs ON run_key = id::text WHERE sync_type = 'bare_1'}), 't', 'is not written, nor is its progress');
	$fleet->ask('keep bare[0] 0.02 SELECT sync_guard.heartbeat({token}, 4, 5)');
	$fleet->ask('signal bare[2:3] KILL');
	poll_until($node, sprintf($seen, 'bare', 'bare_0 live 4 5, bare_1 heartbeat_lost 0, bare_2 heartbeat_lost 0'),
		'who beats is alive, who does not, killed or not, is dead after its ttl');
	my $beats = $fleet->counts('hush bare[0]');
	is(join(' ', keys %$beats), 't', 'none of its heartbeats was refused');
	my $written = $sql->(q{SELECT pg_stat_force_next_flush(); SELECT sum(n_tup_upd) FROM pg_stat_user_tables WHERE relname = 'leases'}) =~ s/^\n//r;
	cmp_ok($written, '<=', $beats->{t} / 4, 'and most of them wrote nothing');
	note("$beats->{t} heartbeats, $written updates of lease rows");
	$sql->(q{INSERT INTO runs (sync_type, started_at) VALUES ('no lease', (now() AT TIME ZONE 'UTC') - interval '2 hours')});
	is($sql->(q{SELECT sync_guard.reap_stale_syncs()}), '3', 'a call closes the dead ones');
	is($sql->(opening('bare_1')), $general, 'it does not say of who beat that he did nothing');
	is($sql->(opening('no lease')), $nothing_done, 'as it does where the row is all there is');
	is(answer($fleet, 'do bare[1] SELECT sync_guard.heartbeat({token})'), 'f', 'which are told');
	$fleet->ask('do bare[1] BEGIN');
	is(answer($fleet, 'do bare[1] SELECT sync_guard.fence({token})'), 'SY003', 'and cannot fence');
	$fleet->ask('do bare[0] BEGIN');
	is(answer($fleet, 'do bare[0] SELECT sync_guard.fence({token})'), '', 'the living can');
	is($sql->(q{SELECT verdict FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' = 'bare_0'}), 'fenced', 'and is said to be fenced');
	is($sql->(q{SELECT sync_guard.reap_stale_syncs('1 microsecond', even_if_alive => true)}), '1', 'not to be reaped (the one that was told first is)');
	$fleet->ask('do bare[0] COMMIT');
	is(answer($fleet, q{do bare[0] SELECT sync_guard.finish_sync({token}, 'completed')}), '', 'it finishes');

	# A run of an open transaction stays unseen, and a second starter is refused all the same.
	$fleet->ask('do bare[0] BEGIN');
	$fleet->ask(q{do bare[0] INSERT INTO runs (sync_type) VALUES ('open')});
	is($sql->(q{SELECT sync_guard.sync_is_running('open')}), 'f', 'a run of an open transaction is not seen');
	is(answer($fleet, q{do bare[1] ROLLBACK}) . answer($fleet, q{do bare[1] INSERT INTO runs (sync_type) VALUES ('open')}), 'SY002', 'its scope is taken all the same');
	$fleet->ask('do bare[0] ROLLBACK');
	$fleet->end;
	$node->stop;
}

# ---- pg_cron has come round ------------------------------------------------------------------------------------------------------
poll_until($cron, q{SELECT count(*) = 0 FROM runs WHERE status = 'running'}, 'no run is left');
is($cron->safe_psql('postgres', q{SELECT verdict, path, count(*) FROM sync_guard.reaped_syncs GROUP BY 1, 2}), 'session_gone|pg_cron|5',
	'pg_cron\'s sweep has closed what no worker could, session_gone');
is($cron->safe_psql('postgres', q{SELECT count(*) FROM sync_guard.tracked_runs}), '0', 'nothing is left in memory');
$cron_fleet->end;
$cron->stop;
done_testing();
