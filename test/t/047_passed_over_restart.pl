# That a dead run was passed over is known after a restart too: it does not come back for the server's grace beside the run that has
# its place, neither for readers nor for its own worker; with its scope free it does, and then it is an ordinary run again.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $grace = q{emag_sync_guard.restart_grace = '10min'};
my $node = guard_node('restart', preload => ['emag_sync_guard'], init => { allows_streaming => 1 }, conf => $grace);

sub sql { return $node->safe_psql('postgres', $_[0]); }

# What keeps the reaper from closing what is dead: the tests are about the time before it has.
make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true);
	SELECT sync_guard.pause_reaping('runs', '2100-01-01')});

# Whom readers are shown as live in a scope, by whatever way they look.
sub live
{
	my ($on, $type) = @_;
	my $shown = $on->safe_psql('postgres', qq{SELECT string_agg(run_key, ',') FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' = '$type' AND verdict IN ('live', 'fenced', 'suspect')});
	my $listed = $on->safe_psql('postgres', qq{SELECT string_agg(run_key, ',') FROM sync_guard.live_runs() WHERE scope ->> 'sync_type' = '$type' AND NOT dead});
	return $shown eq $listed ? $shown : "$shown, by live_runs() $listed";
}

# A run in a scope of its own that dies in this way (one without a lease has been silent for an hour already), and the one that takes its place. Returns both keys, and what names the first
# for its worker.
sub pass_over
{
	my ($type, $terms, $limit) = @_;
	sql(qq{SELECT sync_guard.set_limit('runs', '{"sync_type": "$type"}', $limit)}) if $limit;
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	my $started = $terms ? 'DEFAULT' : q{(now() AT TIME ZONE 'UTC') - interval '1 hour'};
	my $key = $session->query_safe(qq{INSERT INTO runs (sync_type, started_at) VALUES ('$type', $started) RETURNING id});
	my $token = $terms ? $session->query_safe(qq{SELECT sync_guard.take_lease('runs', $key, $terms)}) : '';
	if ($terms =~ /true/) { kill TERM => $session->query_safe('SELECT pg_backend_pid()'); }
	$session->query_safe("SELECT sync_guard.heartbeat($token, 1)") if ($limit // '') =~ /max_stall/;
	$session->quit;
	ok($node->poll_query_until('postgres', qq{SELECT EXISTS (SELECT FROM sync_guard.live_runs() WHERE run_key = '$key' AND dead)}), "$type: it is dead");
	my $other = sql(qq{INSERT INTO runs (sync_type) VALUES ('$type') RETURNING id});
	is(live($node, $type), $other, "$type: another one has its place");
	return { type => $type, key => $key, other => $other, token => $token,
		sign => $token ? "SELECT sync_guard.heartbeat($token)" : "UPDATE runs SET processed_items = processed_items + 1 WHERE id = $key" };
}

my @runs = (
	pass_over('lapsed', q{'200 ms'}),
	pass_over('bound', q{'1 hour', true}),
	pass_over('stalled', q{'1 hour'}, q{max_stall => '200 ms'}),
	pass_over('silent', '', q{max_silence => '30 min'}));
sql(q{SELECT sync_guard.set_limit('runs', jsonb_build_object('sync_type', t), max_silence => '1 day', max_stall => '1 day') FROM unnest('{stalled,silent}'::text[]) AS t});
is(live($node, $_->{type}), $_->{other}, "$_->{type}: nor does a longer limit bring it back") for @runs;

# Who passes over and then gives up leaves nothing behind.
my $given_up = sql(q{INSERT INTO runs (sync_type, started_at) VALUES ('given up', (now() AT TIME ZONE 'UTC') - interval '2 hours') RETURNING id});
sql(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('given up'); ROLLBACK});
is(sql(qq{SELECT count(*) FROM sync_guard.passed_over WHERE run_key = '$given_up'}), '0', 'a starter that is rolled back has passed nobody over');

# One that has its scope again before the server goes.
my $back = pass_over('back', q{'200 ms'});
sql(qq{UPDATE runs SET status = 'completed' WHERE id = $back->{other}});
is(sql($back->{sign}), 't', 'with its scope free a worker comes back');
# One that has it again by a transaction that was rolled back, and then by one that was not.
my $twice = pass_over('twice', q{'200 ms'});
sql(qq{UPDATE runs SET status = 'completed' WHERE id = $twice->{other}});
is(sql("BEGIN; $twice->{sign}; ROLLBACK"), 't', 'twice: it comes back in a transaction that is rolled back');
is(live($node, 'twice'), '', 'twice: so it has not');
is(sql($twice->{sign}), 't', 'twice: its next heartbeat brings it back');
is(live($node, 'twice'), $twice->{key}, 'twice: and it is back');

# One against which something else speaks too: that it is told of is no reason to forget that it was passed over.
sql(q{SELECT sync_guard.set_limit('runs', '{"sync_type": "aged"}', max_age => '30 min')});
my $aged = pass_over('aged', '');

is(sql(q{SELECT string_agg(run_key, ' ' ORDER BY run_key::int) FROM sync_guard.passed_over}), join(' ', (map { $_->{key} } @runs), $aged->{key}), 'these runs are noted as passed over, none that is back is among them');

$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
is(live($standby, $_->{type}), $_->{other}, "$_->{type}: a standby shows the one that lives") for @runs;

# ---- a crash --------------------------------------------------------------------------------------------------------------------
$node->stop('immediate');
$node->start;
is(live($node, $_->{type}), $_->{other}, "$_->{type}: after a crash readers are shown the other one alone") for @runs;
is(sql(qq{SELECT verdict FROM sync_guard.live_runs() WHERE run_key = '$given_up'}), 'suspect', 'the one that nobody has replaced gets its grace');
is(live($node, $_->{type}), $_->{key}, "$_->{type}: as does the one that had come back") for $back, $twice;
is(sqlstate_of($node, $aged->{sign}), 'SY002', 'aged: it is not told of without its scope');
sql(q{SELECT sync_guard.set_limit('runs', '{"sync_type": "aged"}', max_age => '1 day')});
is(live($node, 'aged'), $aged->{other}, 'aged: so with a longer limit the other one alone is running');
like(sql(qq{SELECT string_agg(verdict || ': ' || why, E'\\n') FROM sync_guard.live_runs() WHERE run_key IN ('$runs[1]{key}', '$runs[2]{key}')}),
	qr/^(passed_over: passed_over: it was dead when another run of its scope started [^\n]+ ago\n?){2}$/, 'the verdict says why');
foreach my $run (@runs)
{
	my $signs = $run->{token} ? sub { sql($run->{sign}) } : sub { sqlstate_of($node, $run->{sign}) };
	is($signs->(), $run->{token} ? 'f' : 'SY002', "$run->{type}: its worker gives no sign of life");
	is($signs->(), $run->{token} ? 'f' : 'SY002', "$run->{type}: nor does he the second time");
	is(sqlstate_of($node, "INSERT INTO runs (sync_type) VALUES ('$run->{type}')"), 'SY002', "$run->{type}: the other one keeps the scope");
	is(live($node, $run->{type}), $run->{other}, "$run->{type}: the other one alone is running");
	# Its place is free, and it comes back.
	sql(qq{UPDATE runs SET status = 'completed' WHERE id = $run->{other}});
	is(live($node, $run->{type}), '', "$run->{type}: with the other one's end nobody is running");
	sql($run->{sign});
	is(live($node, $run->{type}), $run->{key}, "$run->{type}: now it comes back");
	is(sql(qq{SELECT count(*) FROM sync_guard.passed_over WHERE run_key = '$run->{key}'}), '0', "$run->{type}: and is passed over no more");
}

# ---- a promotion ----------------------------------------------------------------------------------------------------------------
my $promoted = pass_over('promoted', q{'1 hour', true});
$node->wait_for_catchup($standby);
$node->stop('immediate');
$standby->promote;
is(live($standby, 'promoted'), $promoted->{other}, 'promoted: a new primary knows it too');
is($standby->safe_psql('postgres', $promoted->{sign}), 'f', 'promoted: its worker, who comes there, is told');

# ---- what ends it, and what sweeps it up ------------------------------------------------------------------------------------------
$standby->safe_psql('postgres', qq{UPDATE runs SET status = 'failed' WHERE id = $promoted->{key}});
is($standby->safe_psql('postgres', qq{SELECT count(*) FROM sync_guard.passed_over WHERE run_key = '$promoted->{key}'}), '0', 'the end of the run is the end of the note');
$node = $standby;
my $cleared = pass_over('cleared', q{'200 ms'});
my $kept = pass_over('kept', q{'200 ms'});
sql(qq{SET session_replication_role = replica; DELETE FROM runs WHERE id = $cleared->{key}});
is(sql(qq{SELECT count(*) FROM sync_guard.passed_over WHERE run_key IN ('$cleared->{key}', '$kept->{key}')}), '2', 'of one that was deleted past the triggers the note is left');
sql(q{SELECT sync_guard.resume_reaping('runs'), sync_guard.reap_stale_syncs(relation => 'runs')});
is(sql(q{SELECT count(*) FROM sync_guard.passed_over}), '0', 'and the next reaping has swept it up, and closed the other one');
is(sql(qq{SELECT status FROM runs WHERE id = $kept->{key}}), 'failed', 'the one that was passed over is reaped');
pass_over('unguarded', q{'200 ms'});
sql(q{SELECT sync_guard.unguard_table('runs')});
is(sql(q{SELECT count(*) FROM sync_guard.passed_over}), '0', 'nothing is left of a table that is guarded no more');
$standby->stop;

# ---- without memory -----------------------------------------------------------------------------------------------------------
$node = guard_node('without', preload => []);
make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true);
	SELECT sync_guard.pause_reaping('runs', '2100-01-01')});
my $without = pass_over('without', '', q{max_silence => '30 min'});
sql(q{SELECT sync_guard.set_limit('runs', '{"sync_type": "without"}', max_silence => '1 day')});
is(live($node, 'without'), $without->{other}, 'without memory a longer limit does not bring it back either');
sql(qq{UPDATE runs SET status = 'completed' WHERE id = $without->{other}});
sql(qq{UPDATE runs SET started_at = DEFAULT WHERE id = $without->{key}});
is(live($node, 'without'), $without->{key}, 'with the scope free, and a sign in its row, it comes back');
is(sql(q{SELECT count(*) FROM sync_guard.passed_over}), '0', 'and is passed over no more');
$node->stop;

# ---- a library that is newer than the extension's objects -------------------------------------------------------------------
$node = guard_node('old', preload => ['emag_sync_guard'], conf => $grace);
sql(q{DROP EXTENSION emag_sync_guard CASCADE; CREATE EXTENSION emag_sync_guard VERSION '1.0.0'});
make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true); SELECT sync_guard.pause_reaping('runs', '2100-01-01')});
my $old = pass_over('old', q{'200 ms'});
is(sql($old->{sign}), 'f', 'on the objects of 1.0.0 memory alone tells');
sql(qq{UPDATE runs SET status = 'completed' WHERE id = $old->{other}});
is(sql($old->{sign}), 't', 'and a free scope brings it back');
sql(q{SELECT sync_guard.resume_reaping('runs'), sync_guard.reap_stale_syncs()});
$node->stop;
done_testing();
