# Runs of transactions that are still open: everybody who may read the table sees them running, with their progress; they are
# gone with a rollback, of the transaction or of a savepoint, and stay with a prepared transaction until its end. Whoever
# cannot be shown them without asking a policy is not shown them.
use strict;
use warnings;

use GuardNode;
use LeaseFleet;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

plan skip_all => fleet_missing() if fleet_missing();

my $node = guard_node('uncommitted', preload => ['emag_sync_guard'], conf => 'max_prepared_transactions = 5');

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{
	ALTER TABLE runs ADD COLUMN total_items integer;
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true);
	CREATE ROLE reader LOGIN; CREATE ROLE nobody LOGIN; GRANT USAGE ON SCHEMA sync_guard TO reader, nobody; GRANT SELECT ON runs TO reader});
my $fleet = LeaseFleet->new($node);
$fleet->ask('open writer 3');

sub answer { return join(' ', keys %{ $fleet->counts("do $_[0] $_[1]") }); }

# What others see: by sync_is_running(), running_syncs, stuck_syncs and the rows, each of the type.
sub seen
{
	my ($type, $role) = @_;
	return sql(($role ? "SET ROLE $role;" : '') . qq{
		SELECT sync_guard.sync_is_running('$type'), (SELECT count(*) FROM sync_guard.running_syncs WHERE scope ->> 'sync_type' = '$type'),
			   (SELECT count(*) FROM sync_guard.stuck_syncs WHERE scope ->> 'sync_type' = '$type'), (SELECT count(*) FROM runs WHERE sync_type = '$type')});
}

sub columns
{
	my ($type, $columns) = @_;
	return sql("SELECT $columns FROM sync_guard.live_runs() WHERE scope ->> 'sync_type' = '$type'");
}

sub pid { return sql("SELECT pid FROM pg_stat_activity WHERE application_name = 'writer_$_[0]'"); }

# ---- seen while it is written --------------------------------------------------------------------------------------------------
answer('writer[0]', 'BEGIN');
my $key = answer('writer[0]', q{INSERT INTO runs (sync_type) VALUES ('products') RETURNING id});
is(seen('products'), 't|1|0|0', 'the writer\'s transaction is open: its run is running, and there is no row');
my $pid = pid(0);
is(columns('products', 'run_key, status, verdict, uncommitted, lease, done, total'), "$key|running|live|t||0|", 'with all that is known of it');
like(columns('products', 'why'), qr/^live: last sign of life .* ago, limit 1 h; not committed yet by the transaction of pid $pid$/, 'and whose it is');
answer('writer[0]', q{UPDATE runs SET processed_items = 30, total_items = 40 WHERE sync_type = 'products'});
is(columns('products', 'done, total, percent'), '30|40|75.0', 'its progress is seen');
is(sql(q{SELECT status -> 'is_running', status #> '{current_sync,id}' FROM sync_guard.sync_status('products') AS status}), "true|$key", 'by an API too');
is(sql(q{SELECT running, stuck FROM sync_guard.sync_status_overview WHERE scope ->> 'sync_type' = 'products'}), '1|0', 'and in the overview');
is(sql(qq{SELECT count(*) FILTER (WHERE decides), count(*) > 5 FROM sync_guard.explain_run('runs', $key)}), '1|t', 'explain_run explains it');
is(sql('SELECT sync_guard.reap_stale_syncs($$1 microsecond$$, even_if_alive => true)'), '0', 'nobody reaps it');
is(sql('SELECT count(*) FROM sync_guard.stale_syncs($$1 microsecond$$, even_if_alive => true)'), '0', 'nor says he would');
is(seen('products', 'reader'), 't|1|0|0', 'who may read the table sees it');
is(sql('SET ROLE nobody; SELECT count(*) FROM sync_guard.running_syncs'), '0', 'who may not does not');
is(columns('orders', 'count(*)'), '0', 'another scope has none');

# A second starter is told at once.
my $began = time;
my (undef, undef, $refused) = $node->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('products')}, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
cmp_ok(time - $began, '<', 30, 'a second starter does not wait');
like($refused, qr/ERROR:  SY002: another run of this scope of table public\.runs is just being started/, 'it is refused');
like($refused, qr/DETAIL:  It is being started by process $pid\b.*Run $key is running since \d{4}-\d\d-\d\dT[\d:.+]+: live: /, 'told who, and since when');
like($refused, qr/HINT:  Try again when that transaction has ended\./, 'and what to do');
is(answer('writer[1]', q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "products"}')}), 'SY002', 'by start_sync as well');

answer('writer[0]', 'COMMIT');
is(seen('products'), 't|1|0|1', 'committed: it is still one run, and there is its row');
is(columns('products', 'uncommitted, done'), 'f|30', 'which is committed');
sql(q{UPDATE runs SET status = 'completed' WHERE sync_type = 'products'});
is(seen('products'), 'f|0|0|1', 'and then it has ended');

# ---- rolled back ----------------------------------------------------------------------------------------------------------------
answer('writer[0]', 'BEGIN');
answer('writer[0]', q{INSERT INTO runs (sync_type) VALUES ('orders')});
is(seen('orders'), 't|1|0|0', 'another one is seen');
answer('writer[0]', 'ROLLBACK');
is(seen('orders'), 'f|0|0|0', 'rolled back: gone');
is(answer('writer[1]', q{INSERT INTO runs (sync_type, status) VALUES ('orders', 'running')}), '', 'and its scope is free');
sql(q{DELETE FROM runs WHERE sync_type = 'orders'});
is(seen('orders'), 'f|0|0|0', 'deleted: gone');

# ---- savepoints -----------------------------------------------------------------------------------------------------------------
answer('writer[0]', $_) for 'BEGIN', q{INSERT INTO runs (sync_type) VALUES ('outer')}, 'SAVEPOINT a', q{INSERT INTO runs (sync_type) VALUES ('inner')};
is(seen('outer') . ' ' . seen('inner'), 't|1|0|0 t|1|0|0', 'with a savepoint: both are seen');
answer('writer[0]', 'ROLLBACK TO a');
is(seen('outer') . ' ' . seen('inner'), 't|1|0|0 f|0|0|0', 'rolled back to it: what came after is gone');
answer('writer[0]', $_) for q{INSERT INTO runs (sync_type) VALUES ('again')}, 'RELEASE a';
is(seen('again'), 't|1|0|0', 'written anew and released: seen');
answer('writer[0]', $_) for 'SAVEPOINT b', q{UPDATE runs SET status = 'completed' WHERE sync_type = 'outer'}, 'ROLLBACK TO b';
is(seen('outer'), 't|1|0|0', 'its end was rolled back: it runs on');
answer('writer[0]', 'COMMIT');
is(seen('outer') . ' ' . seen('inner') . ' ' . seen('again'), 't|1|0|1 f|0|0|0 t|1|0|1', 'committed: those that were kept are there');
answer('writer[0]', $_) for 'BEGIN', 'SAVEPOINT c', q{UPDATE runs SET status = 'completed' WHERE sync_type IN ('outer', 'again')};
is(seen('outer'), 't|1|0|1', 'an end that is not committed is none yet');
answer('writer[0]', 'ROLLBACK TO c');
answer('writer[0]', q{DELETE FROM runs WHERE sync_type = 'again'});
answer('writer[0]', 'COMMIT');
is(seen('outer') . ' ' . seen('again'), 't|1|0|1 f|0|0|0', 'and none when it is rolled back');
sql(q{UPDATE runs SET status = 'completed' WHERE status = 'running'});

# ---- prepared ---------------------------------------------------------------------------------------------------------------------
for my $end ('COMMIT', 'ROLLBACK')
{
	answer('writer[0]', $_) for 'BEGIN', qq{INSERT INTO runs (sync_type) VALUES ('prepared $end')}, "PREPARE TRANSACTION 'run'";
	is(seen("prepared $end"), 't|1|0|0', "prepared: its run is running");
	like(columns("prepared $end", 'why'), qr/; not committed yet by a prepared transaction$/, 'and said to be of a prepared transaction');
	(undef, undef, $refused) = $node->psql('postgres', qq{INSERT INTO runs (sync_type) VALUES ('prepared $end')}, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($refused, qr/SY002: .*prepared.*COMMIT PREPARED 'run'/s, 'a second starter is told its name');
	sql("$end PREPARED 'run'");
	is(seen("prepared $end"), $end eq 'COMMIT' ? 't|1|0|1' : 'f|0|0|0', "$end PREPARED: " . ($end eq 'COMMIT' ? 'its row is there' : 'gone'));
}
sql(q{UPDATE runs SET status = 'completed' WHERE status = 'running'});

# The prepared transaction outlives the server, what memory knew does not: unseen until its end, and then a row as others.
answer('writer[0]', $_) for 'BEGIN', q{INSERT INTO runs (sync_type) VALUES ('outlives')}, q{PREPARE TRANSACTION 'run'};
is(seen('outlives'), 't|1|0|0', 'prepared again');
$node->restart;
is(seen('outlives'), 'f|0|0|0', 'after a restart it is not known');
sql(q{COMMIT PREPARED 'run'});
is(seen('outlives'), 't|1|0|1', 'committed: its row is there');
sql(q{UPDATE runs SET status = 'completed' WHERE status = 'running'});
# (The clients' connections are new ones.)
answer("writer[$_]", 'SELECT 1') for 0 .. 2;

# ---- a lease within the transaction ---------------------------------------------------------------------------------------------
answer('writer[0]', 'BEGIN');
my $token = answer('writer[0]', q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "leased"}', ttl => '5 seconds')});
is(columns('leased', 'uncommitted, lease, verdict'), 't|heartbeat|live', 'start_sync in an open transaction: seen, with its lease');
is(answer('writer[0]', 'SELECT sync_guard.heartbeat({token}, 8, 10)'), 't', 'its own heartbeat counts');
is(columns('leased', 'done, total, percent'), '8|10|80.0', 'at once, and for others');
is(answer('writer[1]', "SELECT sync_guard.heartbeat($token)"), 'P0002', 'somebody else\'s does not: the token is not committed');
poll_until($node, q{SELECT dead FROM sync_guard.live_runs() WHERE scope ->> 'sync_type' = 'leased'}, 'its ttl passes');
$pid = pid(0);
is(seen('leased'), 'f|0|1|0', 'it is not running');
like(columns('leased', 'why'), qr/^heartbeat_lost: no heartbeat for [\d.]+ s, ttl 5 s; abandoned: the transaction of pid $pid is still open, and until it ends nobody can close the run$/,
	'abandoned, and why');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '0', 'nobody can close it');
(undef, undef, $refused) = $node->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('leased')}, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
like($refused, qr/SY002: .*process $pid\b.*heartbeat_lost.*HINT:  .*pg_terminate_backend\($pid\)/s, 'a starter is told who is in the way, and how to free the scope');
is(answer('writer[0]', 'SELECT sync_guard.heartbeat({token})'), 't', 'its next heartbeat brings it back');
$fleet->ask('keep writer[0] 0.1 SELECT sync_guard.heartbeat({token})');
poll_until($node, q{SELECT sync_guard.sync_is_running('leased')}, 'running');
is(join(' ', keys %{ $fleet->counts('hush writer[0]') }), 't', 'as long as it beats');
answer('writer[0]', 'ROLLBACK');
is(seen('leased'), 'f|0|0|0', 'rolled back: gone');
is(answer('writer[0]', "SELECT sync_guard.heartbeat($token)"), 'P0002', 'and its token was never seen');

answer('writer[0]', $_) for 'BEGIN', q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "leased"}', bind_session => true)};
is(columns('leased', 'uncommitted, lease, verdict'), 't|session|live', 'bound to its session');
$fleet->ask('signal writer[0:1] KILL');
poll_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'writer_0'", 'its client is killed');
is(seen('leased'), 'f|0|0|0', 'transaction and run are gone');
is(sql('SELECT count(*) FROM sync_guard.tracked_runs'), '0', 'nothing is left in memory');

# ---- row security -----------------------------------------------------------------------------------------------------------------
sql(q{
	CREATE POLICY visible ON runs FOR SELECT USING (sync_type <> 'hidden'); ALTER TABLE runs ENABLE ROW LEVEL SECURITY});
# (The killed one is not among the clients any more.)
answer('writer[0]', $_) for 'BEGIN', q{INSERT INTO runs (sync_type) VALUES ('open')};
answer('writer[1]', $_) for 'BEGIN', q{INSERT INTO runs (sync_type) VALUES ('hidden')};
is(seen('open') . ' ' . seen('hidden'), 't|1|0|0 t|1|0|0', 'with policies on the table its owner sees both');
is(seen('open', 'reader') . ' ' . seen('hidden', 'reader'), 'f|0|0|0 f|0|0|0', 'whom the policies apply to sees neither');
answer("writer[$_]", 'COMMIT') for 0, 1;
is(seen('open', 'reader') . ' ' . seen('hidden', 'reader'), 't|1|0|1 f|0|0|0', 'until they are committed: then what the policy lets him see');

$fleet->end;
$node->stop;
done_testing();
