# What readers and reapers know from shared memory: runs of open and of prepared transactions, leases, fences, progress that only
# heartbeats told of; and who is not told. What memory and leases still say of rows that are gone is put right by a reaping.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('readers_in_memory', preload => ['emag_sync_guard'],
	conf => "max_prepared_transactions = 5\nemag_sync_guard.restart_grace = 0");

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', scope_overlaps => '{"sync_type": {"all": ["products", "orders"]}}',
		time_zone => 'UTC', max_silence => '1 hour')});
my $other = $node->background_psql('postgres', on_error_stop => 1);
my $pid = $other->query_safe('SELECT pg_backend_pid()');

# ---- a start that the guard fills ----------------------------------------------------------------------------------------------
sql(q{
	CREATE TABLE waiting (id integer PRIMARY KEY, status text NOT NULL, started_at timestamptz, finished_at timestamptz,
		CHECK (status <> 'queued' OR started_at IS NULL));
	SELECT sync_guard.guard_table('waiting', live_statuses => '{queued,running}', failed_status => 'failed');
	INSERT INTO waiting VALUES (1, 'queued', NULL, NULL), (2, 'new', NULL, NULL)});
is(sql(q{SELECT string_agg(run_key, ','), count(started_at) FROM sync_guard.tracked_runs}), '1|0', 'memory knows of a run that waits, without a start');
sql(q{UPDATE waiting SET status = 'running'});
is(sql(q{SELECT count(*), bool_and(t.started_at = w.started_at) FROM sync_guard.tracked_runs AS t JOIN waiting AS w ON w.id = t.run_key::integer}), '2|t',
	'and the start that is filled when it runs');
sql(q{SELECT sync_guard.unguard_table('waiting'); DROP TABLE waiting});

# ---- not committed yet ---------------------------------------------------------------------------------------------------------
my $key = $other->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('products') RETURNING id});
is(sql(q{SELECT sync_guard.sync_is_running(), sync_guard.sync_is_running('products'), sync_guard.sync_is_running('orders')}), 't|t|f',
	'a run of an open transaction is running');
is(sql(q{SELECT sync_guard.scope_is_running('{"sync_type": "all"}'), sync_guard.scope_is_running('{"sync_type": "orders"}')}), 't|f',
	'in scopes that overlap too');
is(sql(q{SELECT run_key, scope ->> 'sync_type', status, verdict, done, uncommitted, lease IS NULL, worker IS NULL FROM sync_guard.running_syncs}),
	"$key|products|running|live|0|t|t|t", 'running_syncs shows it');
like(sql(q{SELECT why FROM sync_guard.running_syncs}), qr/^live: last sign of life .*; not committed yet by the transaction of pid $pid$/, 'and why');
is(sql(q{SELECT running, stuck, last_state FROM sync_guard.scope_counts()}), '1|0|running', 'it is counted');
is(sql(qq{SELECT count(*), count(*) FILTER (WHERE decides), max(verdict) FILTER (WHERE decides) FROM sync_guard.explain_run('runs', $key)}), '11|1|live',
	'explain_run explains it');
my $shape = q{SELECT string_agg(key || ':' || jsonb_typeof(value), ' ' ORDER BY key) FROM jsonb_each(sync_guard.sync_status('products') -> 'current_sync')};
my $before = sql($shape);
my $current = q{SELECT sync_guard.sync_status() -> 'current_sync'};
my $in_memory = sql($current);

# Who is not told: whoever may not read the table, and (below) those to whom row security applies.
sql(q{CREATE ROLE reader; CREATE ROLE nobody; CREATE ROLE curbed; GRANT SELECT ON runs TO reader, curbed});
my $told = q{SELECT (SELECT count(*) FROM sync_guard.running_syncs)};
is(sql("SET ROLE reader; $told"), '1', 'who may read the table is told');
is(sql("SET ROLE nobody; $told"), '0', 'who may not is not');

$other->query_safe('COMMIT');
is(sql($shape), $before, 'current_sync had the shape that it has when the run is committed');
is(sql($current), $in_memory, 'and said the same');
is(sql(q{SELECT run_key, uncommitted FROM sync_guard.running_syncs}), "$key|f", 'the run is one, its row');
sql('DELETE FROM runs');

sql(q{ALTER TABLE runs ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON runs FOR SELECT USING (true)});
$key = $other->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('products') RETURNING id});
is(sql("SET ROLE curbed; $told; SELECT sync_guard.sync_is_running(); SELECT sum(running) FROM sync_guard.scope_counts()"), "0\nf\n",
	'nor to whom row security applies, though its policies show him every row');
my (undef, undef, $stderr) = $node->psql('postgres', "SET ROLE curbed; SELECT sync_guard.explain_run('runs', $key)", extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
like($stderr, qr/P0002/, 'in explain_run neither');
is(sql($told), '1', 'its owner is told');
$other->query_safe('ROLLBACK');
sql(q{DROP POLICY all_rows ON runs; ALTER TABLE runs DISABLE ROW LEVEL SECURITY});

# One's own run, with a key longer than memory keeps.
my $long = 'k' x 100;
sql(q{CREATE TABLE long_keys (id text PRIMARY KEY, status text, started_at timestamptz, label text)});
sql(q{SELECT sync_guard.guard_table('long_keys', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{label}')});
my $rows = q{SELECT count(*), bool_or(uncommitted) FROM sync_guard.running_syncs};
is(sql(qq{BEGIN; INSERT INTO long_keys VALUES ('$long', 'running', now(), repeat('v', 500)); $rows}), '1|f', 'one\'s own run is its row');
$other->query_safe(qq{BEGIN; INSERT INTO long_keys VALUES ('$long', 'running', now(), repeat('v', 500) || 'w')});
is(sql(qq{SELECT sync_guard.sync_is_running(repeat('v', 500) || 'w', 'long_keys'), sync_guard.sync_is_running(repeat('v', 500), 'long_keys')}), 't|f',
	'a value longer than memory keeps is told by its hash');
is(sql(qq{SELECT count(*) FROM sync_guard.explain_run('long_keys', '$long')}), '11', 'so is a key');
$other->query_safe('ROLLBACK');
is(sql(q{SELECT count(*) FROM sync_guard.running_syncs}), '0', 'rolled back, there is none');

# Dead, and its transaction goes on.
sql(q{SELECT sync_guard.guard_table('runs', max_silence => '1 microsecond')});
$key = $other->query_safe(q{BEGIN; SAVEPOINT s; INSERT INTO runs (sync_type) VALUES ('products') RETURNING id});
is(sql(q{SELECT sync_guard.sync_is_running(), (SELECT count(*) FROM sync_guard.running_syncs)}), 'f|0', 'dead, it is not running');
like(sql(q{SELECT why FROM sync_guard.stuck_syncs}),
	qr/^silent: .*; abandoned: the transaction of pid $pid is still open, and until it ends nobody can close the run$/, 'who is in the way of closing it');
is(sql(q{SELECT sync_guard.reap_stale_syncs(), (SELECT count(*) FROM sync_guard.stale_syncs())}), '0|0', 'nobody can close it');
$other->query_safe(q{PREPARE TRANSACTION 'p'});
$other->query_safe(q{BEGIN; SELECT pg_current_xact_id()});
like(sql(q{SELECT why FROM sync_guard.stuck_syncs}), qr/; abandoned: a prepared transaction is still open/, 'prepared, its session is named no more');
like(sql(qq{SELECT evidence FROM sync_guard.explain_run('runs', $key) WHERE decides}), qr/ \(abandoned: a prepared transaction/, 'explain_run says so too');
$other->query_safe('COMMIT');
sql(q{COMMIT PREPARED 'p'});
is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '1', 'committed, it is closed');
sql(q{SELECT sync_guard.guard_table('runs', max_silence => '1 hour')});
sql('DELETE FROM runs');

# ---- leases ---------------------------------------------------------------------------------------------------------------------
($key, my $token) = split /\|/, $other->query_safe(
	q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "products", "started_at": "2100-01-01"}', ttl => '1 day', worker => 'loader-1', incarnation => 'a')});
$other->query_safe("SELECT sync_guard.heartbeat($token, 42)");
is(sql(q{SELECT run_key, done, lease, worker, uncommitted FROM sync_guard.running_syncs}), "$key|42|heartbeat|loader-1|f", 'a lease, and progress that only a heartbeat told');
is(sql(q{SELECT sync_guard.sync_status() -> 'current_sync' ->> 'processed_items', (SELECT processed_items FROM runs)}), '42|0', 'sync_status tells it too');
is(sql(qq{SELECT verdict FROM sync_guard.explain_run('runs', '0$key') WHERE rule = 6}), 'heartbeat_lost', 'however the key is written, the lease is its own');

# Fenced: live for all, and named.
$other->query_safe("BEGIN; SELECT sync_guard.fence($token)");
my $fenced = sql(q{SELECT why FROM sync_guard.running_syncs});
like($fenced, qr/^fenced: .* \(pid $pid\)$/, 'a fence is told, with its process');
like(sql(qq{SELECT evidence FROM sync_guard.explain_run('runs', $key) WHERE decides}), qr/ \(pid $pid\)$/, 'by explain_run too');
$other->query_safe('COMMIT');

# The lease lapses; its start in the future does not hide that.
$other->query_safe("SELECT sync_guard.take_lease('runs', $key, '1 millisecond', worker => 'loader-1', incarnation => 'a')");
poll_until($node, q{SELECT verdict = 'heartbeat_lost' FROM sync_guard.stuck_syncs}, 'a lease whose run starts in the future lapses');

# Who closes it does not fence it, nor does it seem so to others.
$other->query_safe('BEGIN');
is($other->query_safe('SELECT sync_guard.reap_stale_syncs()'), '1', 'it is closed, in a transaction that is still open');
is(sql(q{SELECT sync_guard.sync_is_running(), (SELECT string_agg(verdict, ' ') FROM sync_guard.live_runs())}), 'f|heartbeat_lost',
	'meanwhile it is dead for others');
is($node->psql('postgres', q{SET client_min_messages = error; SELECT sync_guard.reap_stale_syncs()}, stdout => \my $reaped), 0, 'another reaping');
is($reaped, '0', 'leaves it');
$other->query_safe('COMMIT');
is(sql(q{SELECT evidence ->> 'lease', evidence ->> 'worker', evidence ->> 'token', (evidence ->> 'session_pid')::int > 0, evidence ->> 'ttl_seconds', evidence ? 'server_started'
	FROM sync_guard.reaped_syncs ORDER BY reaping DESC LIMIT 1}), "heartbeat|loader-1|$token|t|0.001|t", 'the journal has the evidence');

# ---- rows that went unseen -----------------------------------------------------------------------------------------------------
sql(q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "orders"}', ttl => '1 day')});
sql(q{SET session_replication_role = replica; DELETE FROM runs});
is(sql(q{SELECT (SELECT count(*) FROM sync_guard.tracked_runs), (SELECT count(*) FROM sync_guard.leases WHERE ended_at IS NULL), sync_guard.sync_is_running()}), '1|1|f',
	'deleted while the triggers slept: known to memory and to a lease, and not running');
sql(q{SELECT sync_guard.reap_stale_syncs()});
is(sql(q{SELECT (SELECT count(*) FROM sync_guard.tracked_runs), (SELECT count(*) FROM sync_guard.leases WHERE ended_at IS NULL)}), '0|0', 'a reaping puts it right');

# ---- what a stranger may not do in the owner's name ---------------------------------------------------------------------------
sql(q{
	CREATE ROLE app; CREATE ROLE janitor LOGIN; GRANT CREATE ON SCHEMA public TO app; SET ROLE app;
	CREATE TABLE deferred (id int PRIMARY KEY, status text, started_at timestamptz);
	CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
	CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION nothing();
	GRANT SELECT, UPDATE ON deferred TO janitor});
sql(q{SET ROLE app; SELECT sync_guard.guard_table('deferred', live_statuses => '{running}', failed_status => 'failed')});
sql(q{INSERT INTO deferred VALUES (1, 'running', '2020-01-01'); SELECT sync_guard.reap_stale_syncs(NULL, 'runs')});
sql(q{SET session_replication_role = replica; UPDATE deferred SET started_at = '2019-01-01'});
$node->restart;
(undef, $reaped, $stderr) = $node->psql('postgres', q{SELECT sync_guard.reap_stale_syncs(NULL, 'deferred')}, extra_params => [ '-U', 'janitor' ]);
is($reaped, '0', 'a stranger cannot close a run of a table with deferred triggers');
like($stderr, qr/NOTICE:  what could not be closed of table public\.deferred is handed to a background worker of its owner/, 'it is handed to the owner\'s worker');
poll_until($node, q{SELECT status = 'failed' FROM deferred}, 'which closes it');
is(sql(q{SELECT path FROM sync_guard.reaped_syncs WHERE relation_name = 'public.deferred'}), 'worker', 'by its path');

done_testing();
