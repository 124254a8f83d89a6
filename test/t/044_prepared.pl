# A run started in a transaction that is prepared holds its exclusive scope until that is committed or rolled back, over a
# restart too; who is refused is told what it is.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('prepared', conf => 'max_prepared_transactions = 5');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# The error of a second starter, with its SQLSTATE.
sub refusal
{
	my (undef, undef, $stderr) = $node->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('products')}, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $stderr;
}

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true)});
sql(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('products'); PREPARE TRANSACTION 'starter'});

my $being_started = qr/ERROR:  SY002: another run of this scope of table public\.runs is just being started\nDETAIL:  It is being started by a prepared transaction \(see pg_prepared_xacts\)/;
like(refusal(), $being_started, 'a second starter is refused, and told of the prepared transaction');
# The process that prepared it goes on: it is not the one to wait for.
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('orders'); PREPARE TRANSACTION 'orders'; BEGIN; SELECT 1});
my (undef, undef, $stderr) = $node->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('orders')});
like($stderr, qr/being started by a prepared transaction/, 'also while the process that prepared it is in another transaction');
$session->query_safe('COMMIT');
$session->quit;
sql(q{ROLLBACK PREPARED 'orders'});
is(sql(q{INSERT INTO runs (sync_type) VALUES ('orders') RETURNING status}), 'running', 'rolled back, it holds nothing');
is(sql(q{SELECT count(*) FROM pg_locks WHERE objsubid = 25857}), '1', 'the lock is one of the class that the documentation names');

# A process that is there is named.
$session = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('offers')});
my $pid = $session->query_safe('SELECT pg_backend_pid()');
(undef, undef, $stderr) = $node->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('offers')});
like($stderr, qr/DETAIL:  It is being started by process $pid of role /, 'a process in the way is named, with its role');
$session->query_safe('ROLLBACK');
$session->quit;

# Nobody closes it, and nobody shows it as running, before it is committed.
is(sql(q{SELECT sync_guard.sync_is_running('products')}), 'f', 'it is not shown as running');
$node->restart;
like(refusal(), $being_started, 'after a restart it is the same');
$node->stop('immediate');
$node->start;
like(refusal(), $being_started, 'and after a crash');
sql(q{COMMIT PREPARED 'starter'});
like(refusal(), qr/ERROR:  SY002: a run of this scope of table public\.runs is running already\nDETAIL:  Run \d+ is running since /, 'committed, it is running');
is(sql(q{SELECT sync_guard.sync_is_running('products')}), 't', 'and shown so');

# A late finish and a reaping can be prepared, too.
sql(q{UPDATE runs SET started_at = '2020-01-01' WHERE sync_type = 'products';
	  BEGIN; SELECT sync_guard.reap_stale_syncs(); PREPARE TRANSACTION 'reaping'});
is(sql(q{SELECT status FROM runs WHERE sync_type = 'products'}), 'running', 'a prepared reaping is not there yet');
is(sql(q{SELECT sync_guard.sync_is_running('products')}), 'f', 'the dead run is not shown as running all the same');
sql(q{COMMIT PREPARED 'reaping';
	  BEGIN; UPDATE runs SET status = 'completed' WHERE sync_type = 'products'; PREPARE TRANSACTION 'late';
	  COMMIT PREPARED 'late'});
is(sql(q{SELECT verdict, outcome, false_positive FROM sync_guard.reaped_syncs}), 'silent|late finish|t', 'both are in the journal');

$node->stop;
done_testing();
