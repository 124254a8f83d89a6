# What a second starter is told of the first where there is shared memory: of runs that are not committed yet, of leases, of
# fences. And who comes back to life by an UPDATE finds the scope taken.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('starters_in_memory', preload => ['emag_sync_guard'], conf => "max_prepared_transactions = 5\nemag_sync_guard.restart_grace = 0");

sub sql { return $node->safe_psql('postgres', $_[0]); }

# What somebody else is told who starts a run of this scope.
sub refusal
{
	my ($sync_type, $role) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', qq{INSERT INTO runs (sync_type) VALUES ('$sync_type')},
		extra_params => [ '-v', 'VERBOSITY=verbose', $role ? ('-U', $role) : () ]);
	return $stderr;
}

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true)});

# Not committed yet.
my $session = $node->background_psql('postgres', on_error_stop => 1);
my $pid = $session->query_safe('SELECT pg_backend_pid()');
my $key = $session->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('products') RETURNING id});
my $since = qr/since 2\d{3}-\d\d-\d\dT[\d:.]+\+00:00/;
like(
	refusal('products'),
	qr/ERROR:  SY002: another run of this scope of table public\.runs is just being started\nDETAIL:  It is being started by process $pid of role \w+, and is not committed yet\. Run $key is running $since: live: last sign of life [\d.]+ s ago, limit 1 h\.\nHINT:  Try again when that transaction has ended\./,
	'an uncommitted run is told of, with its verdict');
sql(q{CREATE ROLE nosy LOGIN; GRANT INSERT ON runs TO nosy});
like(
	refusal('products', 'nosy'),
	qr/DETAIL:  It is being started by process $pid of role \w+, and is not committed yet\.\nHINT:/,
	'who may not read the table is not told of the run');

# Its writer gives no sign any more.
sql(q{SELECT sync_guard.set_limit('runs', '{"sync_type": "products"}', max_silence => '1 microsecond')});
like(
	refusal('products'),
	qr/Run $key is running $since: silent: .*\nHINT:  Its writer seems to be dead, but only the end of its transaction frees the scope: SELECT pg_terminate_backend\($pid\);/,
	'an abandoned run is told of, with the way out');
$session->query_safe('ROLLBACK');
sql(q{SELECT sync_guard.set_limit('runs', '{"sync_type": "products"}', reset => '{max_silence}')});
unlike(refusal('products'), qr/ERROR/, 'rolled back, it is not in the way');
sql(q{DELETE FROM runs});

# A prepared one, of a session that has gone on and starts another one itself.
$key = $session->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('products') RETURNING id});
$session->query_safe(q{PREPARE TRANSACTION 'it''s prepared'});
like(
	refusal('products'),
	qr/by a prepared transaction \(see pg_prepared_xacts\), and is not committed yet\. Run $key is running .*\nHINT:  Nothing but its end frees the scope: COMMIT PREPARED 'it''s prepared'; or ROLLBACK PREPARED 'it''s prepared';/,
	'a prepared one is named, with the statements that end it');
sql(q{ROLLBACK PREPARED 'it''s prepared'});

# Committed, with a lease; fenced.
my ($leased, $token) = split /\|/, $session->query_safe(
	q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "products"}', ttl => '30 s', worker => 'loader-1')});
like(
	refusal('products'),
	qr/is running already\nDETAIL:  Run $leased is running $since: live: last sign of life [\d.]+ s ago, limit 30 s\. It has a heartbeat lease, process $pid, of worker "loader-1", ttl 30 s\.\nHINT:  Wait/,
	'a lease is told of');
$session->query_safe("BEGIN; SELECT sync_guard.fence($token)");
like(
	refusal('products'),
	qr/Run $leased is running $since: fenced: .* \(pid $pid\)\. It has a heartbeat lease, .*\nHINT:  Its worker is committing just now: try again when that transaction has ended\./,
	'so is a fence');
$session->query_safe('COMMIT');
$session->query_safe("SELECT sync_guard.finish_sync($token, 'completed')");
unlike(refusal('products'), qr/ERROR/, 'finished, it is not in the way');

# Signs of life are in memory alone: the row says nothing of them.
my $silent = sql(q{INSERT INTO runs (sync_type, started_at) VALUES ('orders', '2020-01-01') RETURNING id});
my $busy = sql(q{INSERT INTO runs (sync_type, started_at) VALUES ('offers', '2020-01-01') RETURNING id});
sql(qq{UPDATE runs SET processed_items = 1 WHERE id = $busy});
like(refusal('offers'), qr/Run $busy is running .*: live: /, 'a run that is written is alive, whenever it started');
unlike(refusal('orders'), qr/ERROR/, 'one that is not, is not in the way');
my (undef, undef, $stderr) = $node->psql('postgres', qq{UPDATE runs SET processed_items = 1 WHERE id = $silent});
like($stderr, qr/ERROR:  a run of this scope of table public\.runs is running already/, 'it cannot come back while another one has its scope');
is(sql(qq{UPDATE runs SET processed_items = 2 WHERE id = $busy RETURNING processed_items}), '2', 'who is alive goes on');

# One that is just moving to another scope has the new one in memory already, and the old one in its row.
my $mover = sql(q{INSERT INTO runs (sync_type, started_at) VALUES ('from', '2020-01-01') RETURNING id});
sql(qq{UPDATE runs SET processed_items = 1 WHERE id = $mover});
$session->query_safe(qq{BEGIN; UPDATE runs SET sync_type = 'to' WHERE id = $mover});
like(refusal('from'), qr/is running already\nDETAIL:  Run $mover is running .*: live: /, 'a run that is leaving its scope keeps it until it has left');
like(refusal('to'), qr/is just being started\nDETAIL:  It is being started by process $pid of role \w+, and is not committed yet\.\nHINT:/, 'and has the one where it goes');
$session->query_safe('ROLLBACK');
like(refusal('from'), qr/is running already\nDETAIL:  Run $mover is running .*: live: /, 'it has not left');
unlike(refusal('to'), qr/ERROR/, 'and does not come');

# Of two that are not committed, the one in this scope is told of.
$key = $session->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('told') RETURNING id});
my $bystander = $node->background_psql('postgres', on_error_stop => 1);
$bystander->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('elsewhere')});
like(refusal('told'), qr/by process $pid .* Run $key is running/, 'of two uncommitted runs the one in the way is told of');
$bystander->quit;
$session->query_safe('ROLLBACK');

# Of two of other scopes that overlap the one, either is told of.
sql(q{
	CREATE TABLE overlapping (id integer PRIMARY KEY, sync_type text, status text NOT NULL, started_at timestamptz DEFAULT now(), finished_at timestamptz);
	SELECT sync_guard.guard_table('overlapping', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}',
		scope_overlaps => '{"sync_type": {"all": ["products", "orders"]}}', exclusive => true)});
my $second = $node->background_psql('postgres', on_error_stop => 1);
$session->query_safe(q{BEGIN; INSERT INTO overlapping VALUES (1, 'products', 'running')});
$second->query_safe(q{BEGIN; INSERT INTO overlapping VALUES (2, 'orders', 'running')});
my (undef, undef, $told) = $node->psql('postgres', q{INSERT INTO overlapping VALUES (3, 'all', 'running')});
like($told, qr/is just being started\nDETAIL:  .* Run [12] is running/, 'of two that overlap one is told of');
$_->query_safe('ROLLBACK') for $session, $second;
$second->quit;

# A key that is unique within partitions only: its rows are one run, which is not in its own way.
sql(q{
	CREATE TABLE parted (id integer, sync_type text, status text NOT NULL, started_at timestamptz DEFAULT now(), finished_at timestamptz, part integer,
		PRIMARY KEY (id, part)) PARTITION BY LIST (part);
	CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
	CREATE TABLE parted_others PARTITION OF parted DEFAULT;
	SELECT sync_guard.guard_table('parted', key_column => 'id', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}',
		exclusive => true)});
sql(q{INSERT INTO parted SELECT 1, 'products', 'running', now(), NULL, n FROM generate_series(1, 200) AS n});
is(sql(q{SELECT count(*), count(DISTINCT run_key) FROM sync_guard.running_syncs WHERE relation = 'parted'::regclass}), '200|1', 'many rows of one key start as one run');
is(sql(q{SELECT sync_guard.unguard_table(t) FROM unnest('{overlapping,parted}'::regclass[]) AS t; DROP TABLE overlapping, parted}), "\n", 'they are released');

# An observed table takes no locks: what is not committed is told by memory, and only warned of.
sql(q{SELECT sync_guard.guard_table('runs', mode => 'observe')});
$key = $session->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('returns') RETURNING id});
like(refusal('returns'), qr/WARNING:  SY002: a run of this scope .*\nDETAIL:  Run $key is running $since: live: .*; not committed yet by the transaction of pid $pid\./,
	'an observed table: the uncommitted run is warned of');
# One's own rows of an open transaction are told by the rows, whatever memory has of them.
is($node->psql('postgres', q{BEGIN; INSERT INTO runs (sync_type) VALUES ('own'); SET session_replication_role = replica; DELETE FROM runs WHERE sync_type = 'own';
	SET session_replication_role = origin; INSERT INTO runs (sync_type) VALUES ('own'); COMMIT}, stderr => \$stderr), 0, 'a row that was deleted unseen');
is($stderr, '', 'is not in the way of the next one');
$session->query_safe('ROLLBACK');
$session->quit;

done_testing();
