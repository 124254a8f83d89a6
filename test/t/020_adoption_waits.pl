# Adoption and release behind a long transaction: they give up in time and say who is in the way, nobody else has to wait
# for them meanwhile, and they come through as soon as the way is free.
use strict;
use warnings;

use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $node = guard_node('adoption_waits', conf => 'max_prepared_transactions = 2');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# A call's error with its SQLSTATE; '' where it went well. And how long it took.
sub outcome
{
	my ($call) = @_;
	my $begun = time;
	my ($result, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSET client_min_messages = error;\n$call");
	return ($err // '', time - $begun);
}

# A session that stays where its last statement left it. Returns its pid.
sub open_session
{
	my ($name, $statements) = @_;
	my %session = (in => '', out => '');
	$session{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('postgres') . " application_name=$name", '-f', '-' ],
		'<', \$session{in}, '>', \$session{out}, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$session{in} .= "$statements\nSELECT 'pid ' || pg_backend_pid();\n";
	$session{run}->pump until $session{out} =~ /pid (\d+)/;
	$session{pid} = $1;
	return \%session;
}

# One more statement in it.
sub go_on
{
	my ($session, $statement) = @_;
	$session->{out} = '';
	$session->{in} .= "$statement;\n\\echo done\n";
	$session->{run}->pump until $session->{out} =~ /done/;
	return;
}

sub close_session
{
	my ($session, $statement) = @_;
	$session->{in} .= "$statement\n\\q\n";
	$session->{run}->finish;
	return;
}

make_run_table($node, 'runs');
my $shape = table_shape($node, 'runs');

# A writer's transaction stands in the way of the triggers.
my $writer = open_session('writer', q{BEGIN; INSERT INTO runs (sync_type) VALUES ('products');});
my ($error, $seconds) = outcome(q{SELECT sync_guard.guard_table('runs', lock_timeout => '1 second')});
like($error, qr/ERROR:  SY008: could not lock table public\.runs within 1 s/, 'adoption gives up');
like($error, qr/DETAIL:  In the way of ShareRowExclusiveLock: process $writer->{pid}, user "[^"]+", idle in transaction, last query began at .*, transaction began at /,
	'and says who is in the way, and what he does');
like($error, qr/HINT:  .*pg_terminate_backend\(pid\), pid being $writer->{pid}; /, 'and what to do');
cmp_ok($seconds, '<', 5, 'after the time it was given');
is(table_shape($node, 'runs') . sql('SELECT count(*) FROM sync_guard.settings'), "${shape}0", 'and has changed nothing');
($error, $seconds) = outcome(q{SELECT sync_guard.guard_table('runs', lock_timeout => '0')});
like($error, qr/SY008: could not lock table public\.runs within 0 s/, 'a time of zero means one try');
my $told = '';
$node->psql('postgres', q{SELECT sync_guard.guard_table('runs', lock_timeout => '0')}, stderr => \$told);
like($told, qr/NOTICE:  table public\.runs: this is what guard_table\(\) found/, 'what it found is told before');
unlike($told, qr/guarded from now on/, 'and that it is guarded only when it is');

# It comes through when the way is free, and other writers hardly wait while it tries.
my ($out, $err) = ('', '');
my $adoption = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $node->connstr('postgres') . ' application_name=adoption', '-c',
	  q{SELECT sync_guard.guard_table('runs', lock_timeout => '1 minute')} ],
	'>', \$out, '2>', \$err);
poll_until($node, q{SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
	WHERE application_name = 'adoption' AND relation = 'runs'::regclass AND NOT granted)}, 'it waits for the table\'s lock');
my $longest = 0;
for (1 .. 20)
{
	my $begun = time;
	sql(q{INSERT INTO runs (sync_type) VALUES ('orders')});
	$longest = time - $begun if time - $begun > $longest;
}
note(sprintf('longest INSERT while adoption waits: %.0f ms', 1000 * $longest));
cmp_ok($longest, '<', 2, 'no writer waits for long');
is(sql(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'adoption'}), '1', 'adoption still waits');
close_session($writer, 'COMMIT;');
$adoption->finish;
like($err, qr/table public\.runs is guarded from now on/, 'adoption comes through');
is(sql(q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'runs'::regclass AND tgname ~ 'emag_sync_guard'}), '5', 'with its triggers');

# A change of settings that leaves the triggers as they are waits for nobody.
$writer = open_session('writer', q{BEGIN; INSERT INTO runs (sync_type) VALUES ('products');});
($error) = outcome(q{SELECT sync_guard.guard_table('runs', max_silence => '2 hours', lock_timeout => '0')});
is($error, '', 'a change of limits needs no lock');
close_session($writer, 'ROLLBACK;');

# A reader's transaction stands in the way of release.
my $reader = open_session('reader', q{BEGIN; SELECT count(*) FROM runs;});
($error) = outcome(q{SELECT sync_guard.unguard_table('runs', '500 milliseconds')});
like($error, qr/SY008: could not lock table public\.runs within 0\.500 s.*In the way of AccessExclusiveLock: process $reader->{pid}, /s,
	'release gives up and says who is in the way');
is(sql('SELECT count(*) FROM sync_guard.settings'), '1', 'and has changed nothing');
close_session($reader, 'COMMIT;');

# So does a prepared transaction, which has no process.
sql(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('products'); PREPARE TRANSACTION 'forgotten'});
($error) = outcome(q{SELECT sync_guard.unguard_table('runs', '0')});
like($error, qr/DETAIL:  In the way of AccessExclusiveLock: prepared transaction "forgotten"\./, 'a prepared transaction is named');
like($error, qr/HINT:  .*COMMIT PREPARED or ROLLBACK PREPARED/, 'with what ends it');
sql(q{ROLLBACK PREPARED 'forgotten'});
($error) = outcome(q{SELECT sync_guard.unguard_table('runs')});
is($error, '', 'release comes through');
is(table_shape($node, 'runs'), $shape, 'and leaves the table as it was found');

# A partition in use is in the way too.
sql(q{CREATE TABLE parts (id int PRIMARY KEY, status text DEFAULT 'running', started_at timestamptz) PARTITION BY HASH (id);
	  SELECT format('CREATE TABLE parts_%1$s PARTITION OF parts FOR VALUES WITH (MODULUS 8, REMAINDER %1$s)', n) FROM generate_series(0, 7) AS n \gexec});
$writer = open_session('writer', q{BEGIN; LOCK TABLE parts_0, parts_1, parts_2, parts_3, parts_4, parts_5, parts_6 IN ROW EXCLUSIVE MODE;});
my $other = open_session('other', q{BEGIN; LOCK TABLE parts_7 IN ROW EXCLUSIVE MODE;});
($error) = outcome(q{SELECT sync_guard.guard_table('parts', lock_timeout => '0')});
like($error, qr/SY008: .*process $writer->{pid}, .* \(on partition public\.parts_0\); process $other->{pid}, .* \(on partition public\.parts_7\)\./s,
	'a lock on a partition is found');
like($error, qr/pid being $writer->{pid}, $other->{pid}; /, 'who holds many of them is named once');
close_session($other, 'COMMIT;');
close_session($writer, 'COMMIT;');

# Where many are in the way, the longest transactions are named first, in whatever order they took the lock.
make_run_table($node, 'crowded');
my @crowd = map { open_session("crowd$_", 'SELECT 1;') } 1 .. 7;
my @began = @crowd[ 3, 0, 6, 1, 5, 2, 4 ];
go_on($_, 'BEGIN') foreach @began;
go_on($_, 'LOCK TABLE crowded IN ROW EXCLUSIVE MODE') foreach reverse @crowd;
($error) = outcome(q{SELECT sync_guard.guard_table('crowded', lock_timeout => '0')});
my $oldest = join('; ', map { "process $_->{pid}, [^;]*" } @began[ 0 .. 4 ]);
like($error, qr/DETAIL:  In the way of ShareRowExclusiveLock: $oldest; and 2 more\./, 'the longest transactions are named first');
close_session($_, 'COMMIT;') foreach @crowd;

# Two adoptions of one table at once: the second waits for the first in its own time, and is told when it was too late.
make_run_table($node, 'twice');
my $first = open_session('first', q{BEGIN; SELECT sync_guard.guard_table('twice');});
($error) = outcome(q{SELECT sync_guard.guard_table('twice', lock_timeout => '200 milliseconds')});
like($error, qr/ERROR:  55P03: /, 'an adoption waits for another one no longer than it was told');
($out, $err) = ('', '');
my $second = IPC::Run::start(
	[ 'psql', '-XAtq', '-d', $node->connstr('postgres') . ' application_name=second', '-c', q{SELECT sync_guard.guard_table('twice')} ],
	'>', \$out, '2>', \$err);
poll_until($node, q{SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'second' AND wait_event_type = 'Lock')}, 'the second of two waits');
close_session($first, 'COMMIT;');
$second->finish;
like($err, qr/another session has guarded or released table public\.twice meanwhile/, 'the second of two is told');
is(sql(q{SELECT count(*) FROM sync_guard.settings WHERE relation = 'twice'::regclass}), '1', 'and the first one counts');

$node->stop;
done_testing();
