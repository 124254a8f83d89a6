# A run that a starter took for dead stays so, by whatever kind of sign of life it would come back: it has to claim its scope first.
# One scope has one live run, and a refused statement leaves no sign behind in memory.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('passed_over', preload => ['emag_sync_guard'], conf => 'emag_sync_guard.restart_grace = 0');

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true)});
my $worker = $node->background_psql('postgres', on_error_stop => 0);

# name, the worker's terms, his table's limit, what he does before he falls silent, his sign of life, what he is told, how it ends
my @ways = (
	[ 'a heartbeat lease, a heartbeat', q{'200 ms'}, '', '', 'SELECT sync_guard.heartbeat(%s)', qr/^f$/ ],
	[ 'a heartbeat lease, a fence', q{'200 ms'}, '', '', 'BEGIN; SELECT sync_guard.fence(%s); COMMIT', qr/not yours any more/ ],
	[ 'a bound lease with a ttl, a heartbeat', q{'200 ms', true}, '', '', 'SELECT sync_guard.heartbeat(%s)', qr/^f$/ ],
	[ 'a bound lease, a heartbeat', q{NULL, true}, q{max_silence => '200 ms'}, '', 'SELECT sync_guard.heartbeat(%s)', qr/^f$/ ],
	[ 'a stalled run, progress by a heartbeat', q{'1 hour'}, q{max_stall => '200 ms'}, 'SELECT sync_guard.heartbeat(%s, 1)', 'SELECT sync_guard.heartbeat(%s, 2)', qr/^f$/ ],
	[ 'no lease, an UPDATE', '', q{max_silence => '200 ms'}, '', 'UPDATE runs SET processed_items = processed_items + 1 WHERE id = %s', qr/is running already/ ]);

my $scope = 0;
foreach my $way (@ways)
{
	my ($name, $terms, $limit, $before, $sign, $told) = @$way;
	my $type = 'scope' . ++$scope;
	sql(qq{SELECT sync_guard.set_limit('runs', '{"sync_type": "$type"}', $limit)}) if $limit;
	my $key = $worker->query_safe(qq{INSERT INTO runs (sync_type) VALUES ('$type') RETURNING id});
	my $name_of_run = $terms ? $worker->query_safe(qq{SELECT sync_guard.take_lease('runs', $key, $terms)}) : $key;
	$worker->query_safe(sprintf($before, $name_of_run)) if $before;
	ok($node->poll_query_until('postgres', qq{SELECT EXISTS (SELECT FROM sync_guard.stale_syncs() WHERE run_key = '$key')}), "$name: it is dead");
	sql(qq{INSERT INTO runs (sync_type, processed_items) VALUES ('$type', 7)});
	my $answer = $worker->query(sprintf($sign, $name_of_run));
	$answer .= $worker->{stderr} // '';
	$worker->{stderr} = '';
	like($answer, $told, "$name: refused");
	is(sql(qq{SELECT string_agg(run_key, ',') FROM sync_guard.running_syncs WHERE verdict IN ('live', 'fenced', 'suspect') AND scope ->> 'sync_type' = '$type' AND run_key = '$key'}), '', "$name: it is not running");
	# Where the other one ends, the place is free, and he may come back.
	sql(qq{UPDATE runs SET status = 'completed' WHERE sync_type = '$type' AND processed_items = 7 AND id <> $key});
	$worker->query(sprintf($sign, $name_of_run));
	is(sql(qq{SELECT count(*) FROM sync_guard.stale_syncs() WHERE run_key = '$key'}), '0', "$name: with the scope free it comes back");
	sql(qq{DELETE FROM runs WHERE sync_type = '$type'});
}

# A run that ends late does not live beside the one that has its place, though its transaction holds a fence.
my $key = $worker->query_safe(q{INSERT INTO runs (sync_type) VALUES ('late') RETURNING id});
my $token = $worker->query_safe(qq{SELECT sync_guard.take_lease('runs', $key, '200 ms')});
$node->poll_query_until('postgres', qq{SELECT EXISTS (SELECT FROM sync_guard.stale_syncs() WHERE run_key = '$key')});
my $other = sql(q{INSERT INTO runs (sync_type) VALUES ('late') RETURNING id});
$worker->query_safe(qq{BEGIN; SELECT sync_guard.finish_sync($token, 'completed')});
is(sql(q{SELECT string_agg(run_key, ',') FROM sync_guard.running_syncs}), $other, 'one run lives while the other one ends');
is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '0', 'and its end is not taken from it');
$worker->query_safe('COMMIT');
is(sql(qq{SELECT status FROM runs WHERE id = $key}), 'completed', 'as it ended, it stands');

# The fence itself is none where nobody took its place, and the limit is over.
$key = $worker->query_safe(q{INSERT INTO runs (sync_type) VALUES ('fence') RETURNING id});
$token = $worker->query_safe(qq{SELECT sync_guard.take_lease('runs', $key, '200 ms')});
$node->poll_query_until('postgres', qq{SELECT EXISTS (SELECT FROM sync_guard.stale_syncs() WHERE run_key = '$key')});
$worker->query_safe(qq{BEGIN; SELECT sync_guard.fence($token)});
my (undef, undef, $stderr) = $node->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('fence')});
like($stderr, qr/just being started|is running already/, 'a fence that found the scope free keeps it');
$worker->query_safe('COMMIT');
$worker->quit;
done_testing();
