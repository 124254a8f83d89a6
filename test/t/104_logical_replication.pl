# Logical replication of a guarded table: guarded where it is published, and only observed where it is subscribed to. Triggers
# do not fire for rows that replication brings; what a reaping closes at the publisher is closed at the subscriber.
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

$subscriber->stop;
$publisher->stop;
done_testing();
