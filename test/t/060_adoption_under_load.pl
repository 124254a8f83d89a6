# Adoption and release of a table that many clients write all the time, without and with a long transaction in the way: the
# longest wait of a client, printed, and bounded by the time that one try of ours may stand in the lock's queue.
use strict;
use warnings;

use ClientLoad;
use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

# One try stands in the queue for 100 ms at most (table_lock.cpp). A machine that is busy adds to that: the bound is ten
# tries, and what stands behind a plain CREATE TRIGGER waits for as long as that does, which is shown at the end.
my $bound = 1000;
my $patience = 3;

my $node = guard_node('adoption_under_load', conf => "max_connections = 50\nfsync = off");

sub sql { return $node->safe_psql('postgres', $_[0]); }

sub call
{
	my ($statement) = @_;
	my $begun = time;
	my ($result, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET client_min_messages = error;\n$statement");
	return ($err // '', 1000 * (time - $begun));
}

sub note_load
{
	my ($what, $seen) = @_;
	note(sprintf('%s: %d transactions, the longest took %.0f ms, longest time without any %.0f ms',
		$what, $seen->{done}, $seen->{longest}, $seen->{silence}));
	return;
}

make_run_table($node, 'runs');
sql(q{INSERT INTO runs (sync_type) SELECT 'products' FROM generate_series(1, 200); VACUUM ANALYZE runs});
my $writes = q{
	\set run random(1, 200)
	UPDATE runs SET processed_items = processed_items + 1 WHERE id = :run;
	INSERT INTO runs (sync_type, status, completed_at) VALUES ('orders', 'completed', now() AT TIME ZONE 'UTC');
};

# Undisturbed.
my $load = start_load($node, $writes, seconds => 2);
my $calm = finish_load($load);
note_load('undisturbed', $calm);

# Adopted and released again and again.
$load = start_load($node, $writes, seconds => 5);
my ($rounds, $slowest, $errors, $end) = (0, 0, '', time + 4);
while (time < $end)
{
	foreach my $call (q{SELECT sync_guard.guard_table('runs')}, q{SELECT sync_guard.unguard_table('runs')})
	{
		my ($error, $took) = call($call);
		$errors .= $error;
		$slowest = $took if $took > $slowest;
	}
	++$rounds;
}
my $seen = finish_load($load);
note_load("$rounds adoptions and releases", $seen);
note(sprintf('the slowest of these calls took %.0f ms', $slowest));
is($errors, '', 'adoption and release come through under load');
cmp_ok($rounds, '>', 0, 'many times');
cmp_ok($seen->{longest}, '<', $calm->{longest} + $bound, 'no client waits for long');

# Behind a long transaction: it gives up, and the writers go on meanwhile.
my $long = $node->background_psql('postgres', on_error_stop => 1);
$long->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('offers')});
my $pid = $long->query_safe('SELECT pg_backend_pid()');
$load = start_load($node, $writes, seconds => $patience + 2);
my ($error, $took) = call(qq{SELECT sync_guard.guard_table('runs', lock_timeout => '$patience seconds')});
$seen = finish_load($load);
note_load('adoption behind a long transaction', $seen);
note(sprintf('it gave up after %.0f ms', $took));
like($error, qr/SY008: could not lock table public\.runs within $patience s.*process $pid,/s, 'adoption gives up and names the long transaction');
cmp_ok($took, '>', 1000 * $patience - 500, 'not before its time');
cmp_ok($took, '<', 1000 * $patience + $bound, 'and not long after');
cmp_ok($seen->{longest}, '<', $calm->{longest} + $bound, 'no client waits for long meanwhile');
cmp_ok($seen->{silence}, '<', $calm->{silence} + $bound, 'they go on');
$long->query_safe('ROLLBACK');

# The release is in everybody's way, readers' too.
is((call(q{SELECT sync_guard.guard_table('runs')}))[0], '', 'adopted');
$long->query_safe(q{BEGIN; SELECT count(*) FROM runs});
$load = start_load($node, $writes, seconds => $patience + 2);
($error, $took) = call(qq{SELECT sync_guard.unguard_table('runs', lock_timeout => '$patience seconds')});
$seen = finish_load($load);
note_load('release behind a long reader', $seen);
like($error, qr/SY008: could not lock table public\.runs within $patience s.*process $pid,/s, 'release gives up and names the long reader');
cmp_ok($seen->{longest}, '<', $calm->{longest} + $bound, 'no client waits for long meanwhile');
$long->query_safe('ROLLBACK');

# Settings alone are nobody's business.
$long->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('offers')});
$load = start_load($node, $writes, seconds => 2);
$errors = '';
$errors .= (call("SELECT sync_guard.guard_table('runs', max_silence => '$_ hours', lock_timeout => '0')"))[0] foreach 1 .. 10;
$seen = finish_load($load);
note_load('ten changes of settings', $seen);
is($errors, '', 'a change of settings needs no lock');
cmp_ok($seen->{longest}, '<', $calm->{longest} + $bound, 'and no client notices');
$long->query_safe('ROLLBACK');

# That these figures mean something: what a plain CREATE TRIGGER does behind a long transaction.
sql(q{SELECT sync_guard.unguard_table('runs')});
$long->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('offers')});
$load = start_load($node, $writes, seconds => $patience + 2);
call(qq{SET lock_timeout = '$patience s'; CREATE TRIGGER plain BEFORE UPDATE ON runs FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()});
$seen = finish_load($load);
note_load("a plain CREATE TRIGGER with a lock_timeout of $patience s behind it", $seen);
cmp_ok($seen->{longest}, '>', 1000 * $patience - 500, 'behind a plain CREATE TRIGGER clients wait for as long as it does');
$long->query_safe('ROLLBACK');
$long->quit;

$node->stop;
done_testing();
