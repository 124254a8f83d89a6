# On a streaming standby everything that reads answers, with the same verdicts; whatever writes is refused with the server's
# own SQLSTATE. After the promotion it guards.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = guard_node('primary', init => { allows_streaming => 1 }, conf => 'hot_standby_feedback = on');

sub sql { return $_[0]->safe_psql('postgres', $_[1]); }

make_run_table($primary, 'runs');
sql($primary, q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true);
	CREATE ROLE reader; CREATE ROLE nobody; GRANT SELECT ON runs TO reader});
my $dead = start_run($primary, 'runs', 'products', '2 hours');
my $live = start_run($primary, 'runs', 'orders', '1 minute');
my $closed = start_run($primary, 'runs', 'offers', '3 hours');
sql($primary, q{SELECT sync_guard.reap_stale_syncs('150 minutes')});

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
$primary->wait_for_catchup($standby);

# Everything that answers on the primary answers on the standby, and the same: its views, and its functions.
my $views = sql($primary, q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind = 'v'});
for my $view (split / /, $views)
{
	# What grows with the clock is no difference, nor that a standby's health says what it is.
	my $query = qq{SELECT jsonb_agg(to_jsonb(v) - '{age,silence,why,measured,detail,figure,sign,left,rate,rate_per_second,expected_end}'::text[] ORDER BY to_jsonb(v)::text) FROM sync_guard.$view AS v
					  WHERE to_jsonb(v) ->> 'problem' IS DISTINCT FROM 'standby'};
	is(sql($standby, $query), sql($primary, $query), "view $view");
}
for my $call (
	q{sync_guard.sync_is_running()}, q{sync_guard.sync_is_running('products')}, q{sync_guard.sync_is_running('orders', 'runs')},
	q{sync_guard.scope_is_running('{"sync_type": "orders"}')}, q{sync_guard.sync_status()}, q{sync_guard.sync_status('products', 'runs', 3)},
	qq{(SELECT array_agg(run_key || verdict || reason::varchar(30)) FROM sync_guard.stale_syncs())},
	qq{(SELECT array_agg(rule || verdict || decides) FROM sync_guard.explain_run('runs', $dead))},
	qq{(SELECT array_agg(evidence) FROM sync_guard.explain_run('runs', $closed))}, q{sync_guard.live_runs_query('runs')})
{
	is(sql($standby, "SELECT $call"), sql($primary, "SELECT $call"), $call);
}
is(sql($standby, q{SELECT sync_guard.sync_is_running('orders'), sync_guard.sync_is_running('products')}), 't|f', 'a dead run is not shown as running');
is(sql($standby, q{SET ROLE reader; SELECT count(*) FROM sync_guard.recent_syncs}), '3', 'rights are looked at: a reader reads');
is(sql($standby, q{SET ROLE nobody; SELECT count(*) FROM sync_guard.recent_syncs}), '0', 'and who may not does not');

# Whatever writes, of all that the extension has, says so.
my $writers = sql($standby, q{
	SELECT string_agg(name, E'\n' ORDER BY name) FROM (VALUES
		($q$sync_guard.reap_stale_syncs()$q$), ($q$sync_guard.reap_stale_syncs('1 hour', 'runs', true, 1)$q$),
		($q$sync_guard.guard_table('runs')$q$), ($q$sync_guard.unguard_table('runs')$q$), ($q$sync_guard.repair_triggers('runs')$q$),
		($q$sync_guard.set_limit('runs', '{}', max_age => '1 day')$q$), ($q$sync_guard.allow_transition('runs', 'failed', 'running')$q$),
		($q$sync_guard.pause_reaping('runs')$q$), ($q$sync_guard.resume_reaping('runs')$q$),
		($q$sync_guard.purge_journal('1 day')$q$)) AS v (name)});
for my $call (split(/\n/, $writers), "sync_guard.overturn_reap('runs', $closed, 'completed')")
{
	for my $server ($standby, $primary)
	{
		my $how = $server == $standby ? 'on the standby' : 'in a read-only transaction';
		my ($status, undef, $stderr) = $server->psql('postgres', "BEGIN READ ONLY; SELECT $call", extra_params => [ '-v', 'VERBOSITY=verbose' ]);
		like($stderr, qr/ERROR:  25006: cannot execute /, "$call is refused $how");
	}
}
is(sql($primary, q{SELECT count(*) FROM sync_guard.journal}), '1', 'and nothing was written');

# What is done on the primary is seen, settings too, in a session that knew the old ones.
my $session = $standby->background_psql('postgres', on_error_stop => 1);
is($session->query_safe(q{SELECT sync_guard.sync_is_running('orders')}), 't', 'a session on the standby');
sql($primary, q{SELECT sync_guard.set_limit('runs', '{"sync_type": "orders"}', max_silence => '1 second')});
$primary->wait_for_catchup($standby);
is($session->query_safe(q{SELECT sync_guard.sync_is_running('orders')}), 'f', 'it judges by a limit that was set meanwhile');
sql($primary, q{SELECT sync_guard.guard_table('runs', max_silence => '10 days'); SELECT sync_guard.set_limit('runs', '{"sync_type": "orders"}', reset => '{max_silence}')});
$primary->wait_for_catchup($standby);
is($session->query_safe(q{SELECT sync_guard.sync_is_running('products')}), 't', 'and by the table\'s own');
sql($primary, q{SELECT sync_guard.unguard_table('runs')});
$primary->wait_for_catchup($standby);
is($session->query_safe(q{SELECT count(*) FROM sync_guard.guarded_tables}), '0', 'a table that is guarded no more');
sql($primary, q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true)});
$primary->wait_for_catchup($standby);
is($session->query_safe(q{SELECT sync_guard.sync_is_running('products')}), 'f', 'and guarded again');

# Promoted, it guards, in the same session.
$primary->stop;
$standby->promote;
is($session->query_safe(q{SELECT sync_guard.reap_stale_syncs()}), '1', 'after the promotion it reaps');
is(sql($standby, qq{SELECT status FROM runs WHERE id = $dead}), 'failed', 'the run is closed');
is(sql($standby, q{SELECT count(*), max(id) > 1 FROM sync_guard.journal WHERE event = 'reaped'}), '2|t', 'and in the journal, whose numbers go on');
my ($status, undef, $stderr) = $standby->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('orders')}, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($stderr, qr/SY002/, 'and the scope is exclusive');
$session->quit;

$standby->stop;
done_testing();
