# Logical replication of a guarded table: guarded where it is published, and only observed where it is subscribed to. Triggers
# do not fire for rows that replication brings; what a reaping closes at the publisher is closed at the subscriber. With a
# publication FOR ALL TABLES the guard's own tables are published as well: nothing fails for it at the publisher, much at a
# subscriber.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my %both = (preload => ['emag_sync_guard'], conf => 'emag_sync_guard.restart_grace = 0');
my $publisher = guard_node('publisher', %both, init => { allows_streaming => 'logical' });
my $subscriber = guard_node('subscriber', %both, init => { allows_streaming => 'logical' });

sub sql { return $_[0]->safe_psql('postgres', $_[1]); }

# What a statement answers, and its notices.
sub told
{
	my ($node, $statement) = @_;
	my ($status, $stdout, $stderr) = $node->psql('postgres', $statement, extra_params => [ '-v', 'VERBOSITY=terse' ]);
	return ($stdout, $stderr);
}

sub health
{
	return sql($_[0], "SELECT string_agg(problem, ' ' ORDER BY problem) FROM sync_guard.guard_health
		WHERE relation = '$_[1]'::regclass AND problem <> 'dead_runs_not_closed'");
}

# runs: guarded on both; there: only at the subscriber; parts: partitioned, published through its root.
for my $node ($publisher, $subscriber)
{
	make_run_table($node, $_) for qw(runs there);
	sql($node, q{
		CREATE TABLE parts (id bigint PRIMARY KEY, status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')),
			started_at timestamptz NOT NULL DEFAULT now(), completed_at timestamptz) PARTITION BY RANGE (id);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
		CREATE INDEX ON parts (status)});
}
my $options = q{scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true};
sql($publisher, "SELECT sync_guard.guard_table('runs', $options); SELECT sync_guard.guard_table('parts')");
my $first = start_run($publisher, 'runs', 'copied', '2 hours');
sql($publisher, q{INSERT INTO parts VALUES (1, 'running', '2020-01-01')});
start_run($publisher, 'there', 'copied', '2 hours');

sql($subscriber, "SELECT sync_guard.guard_table('runs', $options); SELECT sync_guard.guard_table('there', $options); SELECT sync_guard.guard_table('parts')");
sql($publisher, 'CREATE PUBLICATION p FOR TABLE runs, there, parts WITH (publish_via_partition_root = true)');
my $connection = $publisher->connstr('postgres');
sql($subscriber, "CREATE SUBSCRIPTION s CONNECTION \$c\$$connection\$c\$ PUBLICATION p");
$subscriber->wait_for_subscription_sync($publisher, 's');

# ---- what replication brings ------------------------------------------------------------------------------------------------
is(sql($subscriber, q{SELECT count(*) FROM sync_guard.tracked_runs}), '0', 'rows of the first copy are not signs of life');
my $second = start_run($publisher, 'runs', 'streamed', '1 minute');
sql($publisher, qq{SET emag_sync_guard.enabled = off; INSERT INTO runs (sync_type, status) VALUES ('streamed', 'running'), ('odd', 'failed')});
$publisher->wait_for_catchup('s');
is(sql($subscriber, q{SELECT count(*) FROM sync_guard.tracked_runs}), '0', 'nor are rows that are streamed');
is(sql($subscriber, q{SELECT count(*) FROM runs WHERE sync_type = 'streamed'}), '2', 'no trigger refuses what the publisher has let in');
is(sql($subscriber, q{SELECT completed_at IS NULL FROM runs WHERE sync_type = 'odd'}), 't', 'nor fills what it left');
sql($publisher, qq{SET emag_sync_guard.enabled = off; DELETE FROM runs WHERE sync_type = 'odd' OR (sync_type = 'streamed' AND id <> $second)});

# ---- the subscriber observes ------------------------------------------------------------------------------------------------
$publisher->wait_for_catchup('s');
is(sql($subscriber, q{SELECT sync_guard.sync_is_running('copied', 'runs'), sync_guard.sync_is_running('streamed', 'runs'), sync_guard.sync_is_running('copied', 'there')}),
	'f|t|f', 'its readers are told the truth');
is(sql($subscriber, q{SELECT string_agg(relation::text, ' ' ORDER BY relation::text) FROM sync_guard.stuck_syncs}), 'parts runs there', 'dead runs are shown as such');
my ($answer, $notices) = told($subscriber, 'SELECT sync_guard.reap_stale_syncs()');
is($answer, '0', 'a reaping closes none of them');
like($notices, qr/NOTICE:  3 runs of observed tables would have been reaped$/m, 'and says so');
is(sql($subscriber, q{SELECT count(*) FROM runs WHERE status = 'failed'}), '0', 'the rows are as they were');
is(sql($subscriber, q{SELECT string_agg(relation_name || ' ' || event, ', ' ORDER BY relation_name) FROM sync_guard.journal}),
	'public.parts would_reap, public.runs would_reap, public.there would_reap', 'the journal has what would have been done');
is(health($subscriber, $_), 'subscription_target', "guard_health says of $_ that it is a subscription's") for qw(runs there parts);
is(health($publisher, $_), '', "and nothing of $_ at the publisher") for qw(runs parts);

# ---- the publisher reaps ----------------------------------------------------------------------------------------------------
is(sql($publisher, 'SELECT sync_guard.reap_stale_syncs()'), '2', 'at the publisher they are reaped');
$publisher->wait_for_catchup('s');
my $rows = 'SELECT * FROM runs ORDER BY id; SELECT * FROM parts ORDER BY id; SELECT * FROM there ORDER BY id';
is(sql($subscriber, $rows), sql($publisher, $rows), 'which is replicated, with end, reason and all');
is(sql($subscriber, qq{SELECT status FROM runs WHERE id = $first}), 'failed', 'the run is closed at the subscriber');
is(sql($subscriber, q{SELECT string_agg(relation::text, ' ') FROM sync_guard.stuck_syncs}), 'there', 'what is guarded at the subscriber alone stays dead and open');
my ($key, $token) = split /\|/, sql($publisher, q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "leased"}', ttl => '1 hour')});
sql($publisher, qq{UPDATE runs SET started_at = started_at - interval '2 hours' WHERE id = $key});
$publisher->wait_for_catchup('s');
is(sql($publisher, qq{SELECT verdict FROM sync_guard.live_runs() WHERE run_key = '$key'}), 'live', 'a lease keeps a run alive at the publisher');
is(sql($subscriber, qq{SELECT verdict FROM sync_guard.live_runs() WHERE run_key = '$key'}), 'silent', 'the subscriber, which has the rows alone, cannot know');
sql($publisher, "SELECT sync_guard.finish_sync($token, 'completed')");

# ---- switched over ----------------------------------------------------------------------------------------------------------
$publisher->wait_for_catchup('s');
sql($subscriber, 'DROP SUBSCRIPTION s');
is(health($subscriber, 'runs'), '', 'without its subscription guard_health has nothing to say');
is(sql($subscriber, 'SELECT sync_guard.reap_stale_syncs()'), '1', 'and dead runs are reaped there');
my (undef, $refused) = told($subscriber, q{INSERT INTO runs (id, sync_type) OVERRIDING SYSTEM VALUE VALUES (1000, 'streamed')});
like($refused, qr/ERROR:  .*(already|running)/, 'its triggers fire for the writes of its own clients');
is(sql($subscriber, q{SELECT count(*) FROM sync_guard.journal WHERE event = 'reaped'}), '1', 'with a line in its own journal');

# ---- all tables are published -----------------------------------------------------------------------------------------------
sub in_all { return $publisher->safe_psql('everything', $_[0]); }

# Done there without an error, and without the warning that the guard makes of one of its own. Returns the answer.
sub done
{
	my ($what, $statement) = @_;
	my ($status, $stdout, $stderr) = $publisher->psql('everything', $statement);
	ok($status == 0 && $stderr !~ /ERROR|FATAL|WARNING:  could not/, "with all tables published: $what") or diag($stderr);
	return $stdout;
}

my $tables = q{
	CREATE TABLE runs (id bigint PRIMARY KEY, sync_type text NOT NULL, status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')),
		started_at timestamptz NOT NULL DEFAULT now(), completed_at timestamptz, done integer);
	CREATE TABLE others (LIKE runs INCLUDING ALL); CREATE TABLE dropped (LIKE runs INCLUDING ALL)};
my $guarding = join '; ', map { "SELECT sync_guard.guard_table('$_', scope_columns => '{sync_type}', exclusive => true, done_column => 'done')" } qw(runs others dropped);
$publisher->safe_psql('postgres', 'CREATE DATABASE everything');
in_all("CREATE EXTENSION emag_sync_guard VERSION '1.0.0'; $tables; CREATE PUBLICATION all_tables FOR ALL TABLES; $guarding");
my (undef, undef, $failure) = $publisher->psql('everything', q{SELECT sync_guard.unguard_table('runs')});
like($failure, qr/ERROR:  cannot delete from table "\w+" because it does not have a replica identity and publishes deletes/, 'on the objects of 1.0.0 it fails');
done('they are upgraded', 'ALTER EXTENSION emag_sync_guard UPDATE');
done('tables are unguarded', join '; ', map { "SELECT sync_guard.unguard_table('$_')" } qw(runs others dropped));
my $bare = q{SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_class AS c
	WHERE c.relnamespace = 'sync_guard'::regnamespace AND c.relkind IN ('r', 'p') AND c.relreplident <> 'f'
	  AND NOT (c.relreplident = 'd' AND EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid))};
is(in_all($bare), '', 'upgraded, each of its tables has a primary key or is published by whole rows');
done('the extension is dropped', 'DROP EXTENSION emag_sync_guard');
done('the extension is created', 'CREATE EXTENSION emag_sync_guard');
is(in_all($bare), '', 'created, each has, too');
my @published = split /\n/, in_all(q{SELECT tablename FROM pg_publication_tables WHERE pubname = 'all_tables' AND schemaname = 'sync_guard' ORDER BY 1});
is(in_all(q{SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind = 'r'}), "@published", 'all of them are published');
my @whole = split /\n/, in_all(q{SELECT relname FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relreplident = 'f' ORDER BY 1});
is("@whole", 'alert_settings observed_gaps passed_over scope_rhythms', 'some by whole rows');
for my $table (@whole)
{
	(undef, undef, $failure) = $publisher->psql('everything', "BEGIN; ALTER TABLE sync_guard.$table REPLICA IDENTITY DEFAULT; DELETE FROM sync_guard.$table");
	like($failure, qr/does not have a replica identity/, "$table needs it");
}

done('tables are guarded', $guarding);
done('guarded anew, with another option', q{SELECT sync_guard.guard_table('runs', max_silence => '2 hours')});
done('a limit of the table', q{SELECT sync_guard.set_limit('runs', '{}', max_silence => '1 hour')});
done('a limit of a scope', q{SELECT sync_guard.set_limit('runs', '{"sync_type": "a"}', max_age => '1 day')});
done('it is changed', q{SELECT sync_guard.set_limit('runs', '{"sync_type": "a"}', max_age => '2 days')});
done('a transition is allowed', q{SELECT sync_guard.allow_transition('runs', 'failed', 'running')});
done('and is an exception no more', q{SELECT sync_guard.allow_transition('runs', 'failed', 'running', NULL)});
done('an alert rule is set', q{SELECT sync_guard.set_alert_rule('runs', 'long_running', raise_above => '10 minutes')});
done('for all tables', q{SELECT sync_guard.set_alert_rule(NULL, 'long_running', raise_above => '20 minutes')});
done('changed', q{SELECT sync_guard.set_alert_rule(NULL, 'long_running', raise_above => '25 minutes')});
done('reset', q{SELECT sync_guard.set_alert_rule(NULL, 'long_running', reset => '{raise_above}')});
is(in_all(q{SELECT relation, rule FROM sync_guard.alert_settings}), 'runs|long_running', 'one is left');

# A dead run is closed by who starts in its scope, or passed over.
done('a run that is old', q{INSERT INTO runs VALUES (1, 'a', 'running', '2020-01-01')});
my (undef, $over_token) = split /\|/, done('a start over a dead run', q{SELECT key, token FROM sync_guard.start_sync('runs', '{"id": 2, "sync_type": "a"}', ttl => '1 hour')});
is(in_all(q{SELECT status FROM runs WHERE id = 1}), 'failed', 'which it closes');
done('a late finish', q{UPDATE runs SET status = 'completed' WHERE id = 1});
done('its reaping is overturned', q{SELECT sync_guard.overturn_reap('runs', '1', 'completed')});
done('its progress', qq{SELECT sync_guard.heartbeat($over_token, 5)});
done('its end', qq{SELECT sync_guard.finish_sync($over_token, 'completed')});
done('reaping is paused', q{SELECT sync_guard.pause_reaping('runs', '2100-01-01')});
done('dead runs', q{INSERT INTO runs SELECT n, 'b' || n, 'running', '2020-01-01' FROM generate_series(3, 6) AS n});
done('starts beside dead runs', q{INSERT INTO runs SELECT n + 10, 'b' || n FROM generate_series(3, 6) AS n});
is(in_all(q{SELECT count(*) FROM sync_guard.passed_over}), '4', 'which are passed over');
done('the end of the one', q{UPDATE runs SET status = 'completed' WHERE id = 13});
done('and of the other', q{UPDATE runs SET status = 'failed' WHERE id = 3});
done('one is deleted', q{DELETE FROM runs WHERE id = 4});
is(in_all(q{SELECT string_agg(run_key, ' ' ORDER BY run_key) FROM sync_guard.passed_over}), '5 6', 'those that have ended are no longer noted');
done('reaping is resumed', q{SELECT sync_guard.resume_reaping('runs')});
is(done('the others are reaped', q{SELECT sync_guard.reap_stale_syncs()}), '2', 'both');
is(in_all(q{SELECT count(*) FROM sync_guard.passed_over}), '0', 'with their notes');

# Leases.
my $lost = done('a lease that lapses', q{SELECT token FROM sync_guard.start_sync('runs', '{"id": 20, "sync_type": "c"}', ttl => '1 ms')});
ok($publisher->poll_query_until('everything', q{SELECT dead FROM sync_guard.live_runs() WHERE run_key = '20'}), 'it has lapsed');
is(done('it is reaped', q{SELECT sync_guard.reap_stale_syncs()}), '1', 'that one');
is(done('its worker is told', "SELECT sync_guard.heartbeat($lost)"), 'f', 'and told the truth');
done('a worker takes the lease of a row', q{INSERT INTO runs VALUES (21, 'd'); SELECT sync_guard.take_lease('runs', 21, worker => 'w', incarnation => '1')});
is(done('it starts anew', q{SELECT sync_guard.worker_started('w', '2')}), '1', 'its run is reaped');
my $bound = $publisher->background_psql('everything', on_error_stop => 1);
$bound->query_safe(q{SELECT sync_guard.start_sync('runs', '{"id": 22, "sync_type": "f"}', bind_session => true)});
kill TERM => $bound->query_safe('SELECT pg_backend_pid()');
$bound->quit;
ok($publisher->poll_query_until('everything', q{SELECT status = 'failed' FROM runs WHERE id = 22}), 'a bound run is closed when its session is gone');
is(in_all(q{SELECT path FROM sync_guard.journal WHERE run_key = '22'}), 'worker', 'by the worker');

# What a sweep learns, brings in, raises and clears.
is(in_all(q{SELECT sync_guard.reap_stale_syncs(); SELECT count(*) > 0 FROM sync_guard.scope_rhythms WHERE relation = 'runs'::regclass}), "0\nt", 'rhythms are learned');
done('they are old', q{UPDATE sync_guard.scope_rhythms SET learned_at = learned_at - interval '1 day'});
done('a run that takes long', q{INSERT INTO runs VALUES (30, 'e', 'running', now() - interval '50 minutes')});
done('a sweep', q{SELECT sync_guard.reap_stale_syncs()});
is(in_all(q{SELECT bool_and(learned_at > now() - interval '1 hour') FROM sync_guard.scope_rhythms WHERE relation = 'runs'::regclass}), 't', 'rhythms are learned anew');
cmp_ok(in_all(q{SELECT count(*) FROM sync_guard.observed_gaps}), '>', 0, 'gaps are brought in');
is(in_all(q{SELECT count(*) FROM sync_guard.alert_log WHERE rule = 'long_running' AND cleared_at IS NULL}), '1', 'an alert is raised');
done('the long one ends', q{UPDATE runs SET status = 'completed' WHERE id = 30});
done('the next sweep', q{SELECT sync_guard.reap_stale_syncs()});
is(in_all(q{SELECT count(*) FROM sync_guard.alert_log WHERE rule = 'long_running' AND cleared_at IS NULL}), '0', 'the alert is cleared');
is(in_all(q{SELECT string_agg(DISTINCT event, ' ' ORDER BY event) FROM sync_guard.journal}), 'late_finish overturned reaped', 'the journal tells');
cmp_ok(done('it is purged', q{SELECT sync_guard.purge_journal('0')}), '>', 0, 'of all');

# What belongs to a table goes with it.
done('two tables with something of everything', join '; ', map { qq{
	SELECT sync_guard.set_limit('$_', '{"sync_type": "a"}', max_age => '1 day'), sync_guard.allow_transition('$_', 'failed', 'running'),
		sync_guard.set_alert_rule('$_', 'long_running', raise_above => '10 minutes');
	INSERT INTO $_ VALUES (1, 'a', 'running', '2020-01-01'), (2, 'b', 'running', now());
	UPDATE $_ SET status = 'completed' WHERE id = 2;
	SELECT sync_guard.start_sync('$_', '{"id": 3, "sync_type": "c"}')} } qw(others dropped));
done('reaping is paused for a while', q{SELECT sync_guard.pause_reaping(t, '2100-01-01') FROM unnest('{others,dropped}'::regclass[]) AS t; INSERT INTO others VALUES (4, 'a'); INSERT INTO dropped VALUES (4, 'a')});
my @kept = grep { !/^(journal|alert_log|outbox)$/ } @published;
sub kept { return join ' ', grep { in_all("SELECT count(*) FROM sync_guard.$_ WHERE relation = $_[0]") } @kept; }
for my $table (qw(others dropped))
{
	done("a sweep of $table brings in the rest", "SELECT sync_guard.resume_reaping('$table'); UPDATE $table SET status = 'completed' WHERE id = 4; INSERT INTO $table VALUES (5, 'd', 'running', '2020-01-01'); SELECT sync_guard.reap_stale_syncs(relation => '$table')");
	done("and one is passed over", "SELECT sync_guard.pause_reaping('$table', '2100-01-01'); INSERT INTO $table VALUES (6, 'e', 'running', '2020-01-01'); INSERT INTO $table VALUES (7, 'e')");
	is(kept("'$table'::regclass"), "@kept", "$table has lines in each");
}
my $oid = in_all(q{SELECT 'dropped'::regclass::oid});
done('a table is unguarded', q{SELECT sync_guard.unguard_table('others')});
is(kept(q{'others'::regclass}), 'leases', 'nothing but the leases is left of it');
done('a guarded table is dropped', 'DROP TABLE dropped');
is(kept($oid), 'leases', 'nor of that one');

# ---- and subscribed to ------------------------------------------------------------------------------------------------------
for my $node ($publisher, $subscriber)
{
	$node->safe_psql('postgres', 'CREATE DATABASE pair');
	$node->safe_psql('pair', $tables);
}
sub there { return $subscriber->safe_psql('pair', $_[0]); }
$publisher->safe_psql('pair', "CREATE EXTENSION emag_sync_guard; $guarding; CREATE PUBLICATION all_tables FOR ALL TABLES; INSERT INTO runs VALUES (1, 'a', 'running', '2020-01-01')");
my $subscribing = 'CREATE SUBSCRIPTION all_of_it CONNECTION $c$' . $publisher->connstr('pair') . '$c$ PUBLICATION all_tables';
(undef, undef, $failure) = $subscriber->psql('pair', $subscribing);
like($failure, qr/ERROR:  schema "sync_guard" does not exist/, 'nobody can subscribe to all of it who has not the extension');

# Who has it gets the publisher's lines, or where he has some of his own, an error.
there("CREATE EXTENSION emag_sync_guard; SELECT sync_guard.guard_table('runs')");
my $from = -s $subscriber->logfile;
there($subscribing);
my $copied = q{SELECT srsubstate = 'r' FROM pg_subscription_rel WHERE srrelid = '%s'::regclass};
ok($subscriber->poll_query_until('pair', sprintf($copied, $_)), "$_ is copied") for qw(runs sync_guard.journal);
$subscriber->wait_for_log(qr/unique (?:constraint|index) "settings_pkey"/, $from);
isnt(there(sprintf($copied, 'sync_guard.settings')), 't', 'settings are not, there are some');
is(there(q{SELECT sync_guard.reap_stale_syncs(); SELECT id, event FROM sync_guard.journal}), "0\n1|would_reap", 'the subscriber journals');
$from = -s $subscriber->logfile;
is($publisher->safe_psql('pair', q{SELECT sync_guard.reap_stale_syncs(); SELECT id, event FROM sync_guard.journal}), "1\n1|reaped", 'as does the publisher, by the same number');
$subscriber->wait_for_log(qr/journal_pkey/, $from);
is(there('SELECT status FROM runs'), 'running', 'so replication stands still, of all tables');

# The way out: nothing of the guard's is in the way, and no more of it comes.
$publisher->safe_psql('pair', 'CREATE PUBLICATION named FOR TABLE runs, others, dropped');
there('TRUNCATE ' . join ', ', map { "sync_guard.$_" } @published);
ok($subscriber->poll_query_until('pair', q{SELECT status = 'failed' FROM runs}), 'without the lines that are in the way it goes on');
ok($subscriber->poll_query_until('pair', sprintf($copied, 'sync_guard.settings')), 'and settings are copied');
$publisher->safe_psql('pair', q{INSERT INTO runs VALUES (2, 'b', 'running', '2020-01-01')});
is($publisher->safe_psql('pair', q{SELECT sync_guard.reap_stale_syncs(); SELECT max(id) FROM sync_guard.journal}), "1\n2", 'the publisher reaps');
$publisher->safe_psql('pair', q{INSERT INTO runs VALUES (3, 'c', 'running', '2020-01-01')});
$publisher->wait_for_catchup('all_of_it');
(undef, undef, $failure) = $subscriber->psql('pair', 'SELECT sync_guard.reap_stale_syncs()');
like($failure, qr/WARNING:  could not reap table public.runs: duplicate key value violates unique constraint "journal_pkey"/, 'a sweep of the subscriber comes upon numbers of the publisher');
there(q{ALTER SUBSCRIPTION all_of_it SET PUBLICATION named});
there(q{SET client_min_messages = error; DROP EXTENSION emag_sync_guard CASCADE; CREATE EXTENSION emag_sync_guard; SELECT sync_guard.guard_table('runs')});
is(there(q{SELECT sync_guard.reap_stale_syncs(); SELECT event, run_key FROM sync_guard.journal}), "0\nwould_reap|3", 'the subscriber has a journal of its own');
$publisher->safe_psql('pair', q{SELECT sync_guard.reap_stale_syncs()});
$publisher->wait_for_catchup('all_of_it');
is(there(q{SELECT string_agg(status, ' ') FROM runs}), 'failed failed failed', 'and gets the tables that are named');
is(there(q{SELECT string_agg(DISTINCT problem, ' ') FROM sync_guard.guard_health WHERE relation = 'runs'::regclass AND problem NOT LIKE 'status_index%'}), 'subscription_target', 'guard_health says what it is');
there('DROP SUBSCRIPTION all_of_it');

$subscriber->stop;
$publisher->stop;
done_testing();
