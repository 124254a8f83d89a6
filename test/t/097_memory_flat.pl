# One session does the same thing over and over, and its memory stays as it is: trigger calls, reapings, heartbeats, what
# APIs ask, views, guard_table again, errors in subtransactions.
#
# Measured are the memory contexts of the backend and its anonymous memory (malloc's, std's; not the shared one), between
# statements; contexts alone also within one transaction, and one statement. After a warm-up both may grow by the limits below,
# whatever the number of turns: a block that is begun, an entry of a catalog cache that was evicted and is read anew. So a
# leak is seen where it is larger than the limit divided by the turns, which is printed: in contexts a few bytes a call of a
# trigger and a heartbeat, half a kilobyte a reaping, a question and an error, kilobytes a page and a guard_table. With
# EMAG_SYNC_GUARD_MEMORY=full it is a tenth of that and less: these are the full numbers, which else are a tenth or less.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $full = ($ENV{EMAG_SYNC_GUARD_MEMORY} // '') eq 'full';

# What contexts may grow by, and malloc's memory, in bytes. The latter counts pages that were never touched before.
my $allowed_contexts = 256 * 1024;
my $allowed_anonymous = 2048 * 1024;

my $node = guard_node('memory_flat', preload => ['emag_sync_guard'], conf => "emag_sync_guard.restart_grace = 0\nemag_sync_guard.max_tracked_runs = 12000");
sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
make_run_table($node, 'others');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', max_silence => '1 hour');
	SELECT sync_guard.guard_table('others', scope_columns => '{sync_type}', time_zone => 'UTC', max_silence => '1 hour')});

# Contexts, and anonymous memory, of the session that asks, in bytes. Left out is what the server keeps of each statement that
# fired any AFTER trigger, 32 bytes to the end of the transaction, whosever trigger it was.
sql(q{
	CREATE FUNCTION contexts() RETURNS bigint LANGUAGE sql AS $$
		SELECT sum(total_bytes)::bigint FROM pg_backend_memory_contexts WHERE name <> 'AfterTriggerEvents' $$;
	CREATE FUNCTION anonymous() RETURNS bigint LANGUAGE sql AS $$
		SELECT substring(pg_read_file('/proc/self/status', 0, 4000) FROM 'RssAnon:\s*(\d+) kB')::bigint * 1024 $$});

# Lives of runs: 20 calls of the triggers each, of which 16 are signs of life.
sql(q{
	CREATE PROCEDURE lives(n integer, commits boolean DEFAULT true) LANGUAGE plpgsql AS $$
	DECLARE
		run bigint;
	BEGIN
		FOR i IN 1 .. n LOOP
			INSERT INTO runs (sync_type) VALUES ('products') RETURNING id INTO run;
			FOR j IN 1 .. 16 LOOP
				UPDATE runs SET processed_items = j WHERE id = run;
			END LOOP;
			UPDATE runs SET status = 'completed' WHERE id = run;
			DELETE FROM runs WHERE id = run - 50 AND status = 'completed';
			IF commits AND i % 25 = 0 THEN COMMIT; END IF;
		END LOOP;
	END $$;
	CREATE PROCEDURE reapings(n integer) LANGUAGE plpgsql AS $$
	DECLARE
		reaped bigint := 0;
	BEGIN
		FOR i IN 1 .. n / 50 LOOP
			INSERT INTO others (sync_type, started_at) SELECT 'orders', (now() AT TIME ZONE 'UTC') - interval '2 hours' FROM generate_series(1, 50);
			COMMIT;
			reaped := reaped + sync_guard.reap_stale_syncs(relation => 'others');
			COMMIT;
			DELETE FROM others WHERE status = 'failed';
		END LOOP;
		ASSERT reaped = n, format('reaped %s', reaped);
	END $$;
	CREATE PROCEDURE beats(n integer, token bigint) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			ASSERT sync_guard.heartbeat(token, i, n);
		END LOOP;
	END $$;
	CREATE PROCEDURE questions(n integer) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			ASSERT sync_guard.sync_is_running();
			ASSERT sync_guard.sync_is_running('products') AND NOT sync_guard.sync_is_running('orders');
			ASSERT sync_guard.sync_status() -> 'is_running' = 'true';
		END LOOP;
	END $$;
	CREATE PROCEDURE views(n integer) LANGUAGE plpgsql AS $$
	DECLARE
		view name;
		rows bigint;
	BEGIN
		FOR i IN 1 .. n LOOP
			FOR view IN SELECT viewname FROM pg_views WHERE schemaname = 'sync_guard' LOOP
				EXECUTE format('SELECT count(v::text) FROM sync_guard.%I AS v', view) INTO rows;
			END LOOP;
			ASSERT length(sync_guard.report_html()) > 1000;
			COMMIT;
		END LOOP;
	END $$;
	CREATE PROCEDURE adoptions(n integer) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			PERFORM sync_guard.guard_table('others', scope_columns => '{sync_type}', time_zone => 'UTC', max_silence => '1 hour');
			COMMIT;
		END LOOP;
	END $$;
	CREATE PROCEDURE errors(n integer) LANGUAGE plpgsql AS $$
	DECLARE
		attempts text[] := ARRAY[
			'UPDATE runs SET status = ''running'' WHERE status = ''completed''',
			'SELECT sync_guard.finish_sync(-1, ''completed'')',
			'SELECT sync_guard.fence(-1)',
			'SELECT sync_guard.guard_table(''pg_class'')',
			'SELECT sync_guard.explain_run(''runs'', -1::bigint)',
			'SELECT sync_guard.set_limit(''runs'', ''{"nothing": "like it"}'', max_silence => ''1 hour'')',
			'SELECT sync_guard.start_sync(''runs'', ''{"no_such_column": 1}'')'];
		raised integer := 0;
	BEGIN
		FOR i IN 1 .. n LOOP
			BEGIN
				EXECUTE attempts[i % cardinality(attempts) + 1];
			EXCEPTION WHEN OTHERS THEN
				ASSERT SQLSTATE <> 'XX000';
				raised := raised + 1;
			END;
		END LOOP;
		ASSERT raised = n, format('%s of %s raised', raised, n);
	END $$;
	CREATE PROCEDURE leaks(n integer) LANGUAGE plpgsql AS $$
	BEGIN
		FOR i IN 1 .. n LOOP
			EXECUTE format('PREPARE leak%s AS SELECT 1', i);
		END LOOP;
	END $$});

my $token = sql(q{SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "products"}', ttl => '1 day')});
my $session = $node->background_psql('postgres', on_error_stop => 1, timeout => 3600);
# By the index, however small the table was when it was last analyzed: all these dead rows are not to be read again and again. Nor
# is LLVM's memory ours.
$session->query_safe('SET client_min_messages = warning; SET enable_seqscan = off; SET jit = off');

sub memory { return split /\|/, $session->query_safe('SELECT contexts(), anonymous()'); }

# What memory grows by while the statement runs, which is given the number of its turns; it has run before.
sub growth
{
	my ($statement, $turns) = @_;
	my @before = memory();
	$session->query_safe($statement =~ s/\bn\b/$turns/r);
	my @after = memory();
	return map { $after[$_] - $before[$_] } 0, 1;
}

# title, statement, turns of the warm-up, turns, turns in full, of what
my @cases = (
	[ 'calls of the triggers', 'CALL lives(n)', 500, 4_000, 50_000, 20 ],
	[ 'reapings', 'CALL reapings(n)', 200, 500, 10_000, 1 ],
	[ 'heartbeats', "CALL beats(n, $token)", 10_000, 100_000, 1_000_000, 1 ],
	[ 'times three questions of an API', 'CALL questions(n)', 100, 500, 10_000, 1 ],
	[ 'times all views and the report', 'CALL views(n)', 10, 6, 200, 1 ],
	[ 'times guard_table again', 'CALL adoptions(n)', 10, 20, 200, 1 ],
	[ 'errors in subtransactions', 'CALL errors(n)', 200, 1_000, 10_000, 1 ],
	[ 'calls of the triggers in one transaction', 'BEGIN; CALL lives(n, false); COMMIT', 100, 500, 5_000, 20 ],
);

for my $case (@cases)
{
	my ($title, $statement, $warm_up, $short, $long, $times) = @$case;
	# What the cases before have left does not slow this one down; and it warms up with what is there now, since a longer
	# journal makes for longer pages.
	sql('VACUUM ANALYZE');
	$session->query_safe($statement =~ s/\bn\b/$warm_up/r);
	my $turns = $full ? $long : $short;
	my ($contexts, $anonymous) = growth($statement, $turns);
	my $many = $turns * $times;
	cmp_ok($contexts, '<=', $allowed_contexts, "$many $title: contexts stay as they are");
	cmp_ok($anonymous, '<=', $allowed_anonymous, "$many $title: the process stays as it is");
	note(sprintf('%d %s: contexts grew by %d bytes, anonymous memory by %d; what leaks more than %.1f and %.1f bytes each is seen',
			$many, $title, $contexts, $anonymous, $allowed_contexts / $many, $allowed_anonymous / $many));
}

# Before the transaction ends nothing has piled up either.
sub within_one_transaction
{
	my ($title, $call, $turns) = @_;
	my $grown = $session->query_safe(qq{
		DO \$\$
		DECLARE
			before bigint;
		BEGIN
			FOR i IN 1 .. 100 LOOP $call; END LOOP;
			before := contexts();
			FOR i IN 1 .. $turns LOOP $call; END LOOP;
			PERFORM set_config('memory.grown', (contexts() - before)::text, false);
		END \$\$;
		SELECT current_setting('memory.grown')});
	cmp_ok($grown, '<=', $allowed_contexts, "$turns $title within one transaction: nothing piles up ($grown bytes)");
	return;
}

within_one_transaction('heartbeats', "PERFORM sync_guard.heartbeat($token, i)", $full ? 1_000_000 : 50_000);
within_one_transaction('questions', 'PERFORM sync_guard.sync_is_running()', $full ? 20_000 : 2_000);

# (A row that is updated twice in one transaction costs the server a combo command id: here each is another.)
my $rows = 10_000;
my $first = $session->query_safe(qq{
	INSERT INTO others (sync_type) SELECT 'many' FROM generate_series(1, $rows);
	SELECT min(id) FROM others WHERE sync_type = 'many'});
within_one_transaction('signs of life by the row', "UPDATE others SET processed_items = 1 WHERE id = $first + i", $rows / 2);

# Nor while the triggers of one statement run, row after row; the list of what they have to be called for stands before.
$session->query_safe(qq{
	CREATE TEMP TABLE samples (contexts bigint);
	CREATE FUNCTION sample() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO samples VALUES (contexts()); RETURN NULL; END';
	CREATE TRIGGER zzzz_sample AFTER UPDATE ON others FOR EACH ROW WHEN (NEW.id % ($rows / 10) = 0) EXECUTE FUNCTION sample();
	UPDATE others SET processed_items = processed_items + 1 WHERE sync_type = 'many'});
my ($samples, $grown) = split /\|/, $session->query_safe('SELECT count(*), max(contexts) - min(contexts) FROM samples');
is($samples, 10, "the memory of a statement over $rows rows was looked at ten times");
cmp_ok($grown, '<=', $allowed_contexts, "while its triggers ran it stayed as it was ($grown bytes)");

# Nor while one statement starts and ends runs of a table whose CHECKs have a say in what is filled: comparisons, which are
# evaluated as they are; a function that may raise an error and does so for every third row; a generated column.
$session->query_safe("DELETE FROM others WHERE sync_type = 'many'");
sql(q{
	CREATE TABLE checked (
		id integer PRIMARY KEY, status text NOT NULL, started_at timestamp, completed_at timestamp, duration_seconds double precision,
		CHECK ((status = 'queued') = (started_at IS NULL)), CHECK (completed_at >= started_at));
	CREATE TABLE doubted (LIKE checked, PRIMARY KEY (id), day text GENERATED ALWAYS AS ('day ' || date_part('day', completed_at)) STORED);
	CREATE FUNCTION sober(id integer, duration double precision) RETURNS boolean LANGUAGE plpgsql AS $$
	BEGIN
		IF id % 3 = 0 AND duration IS NOT NULL THEN RAISE 'run % is not sober', id; END IF;
		RETURN true;
	END $$;
	SELECT sync_guard.guard_table(t, live_statuses => '{queued,running}', failed_status => 'failed', time_zone => 'UTC') FROM unnest('{checked,doubted}'::regclass[]) AS t;
	ALTER TABLE doubted ADD CHECK (sober(id, duration_seconds)), ADD CHECK (day <> 'today')});
for my $table ('checked', 'doubted')
{
	$session->query_safe(qq{
		TRUNCATE samples;
		CREATE TRIGGER zzzz_sample AFTER INSERT OR UPDATE ON $table FOR EACH ROW WHEN (NEW.id % ($rows / 10) = 0) EXECUTE FUNCTION sample();
		INSERT INTO $table (id, status) SELECT n, CASE WHEN n % 2 = 0 THEN 'queued' ELSE 'running' END FROM generate_series(1, $rows) AS n});
	my $started = $session->query_safe("SELECT count(started_at) FROM $table");
	is($started, $table eq 'checked' ? $rows / 2 : $rows, "$table: starts are filled where the table takes them");
	($samples, $grown) = split /\|/, $session->query_safe('SELECT count(*), max(contexts) - min(contexts) FROM samples');
	cmp_ok($grown, '<=', $allowed_contexts, "$table: while $samples of $rows rows were looked at, memory stayed as it was ($grown bytes)");
	my ($ended, $lasted) = split /\|/, $session->query_safe(qq{
		TRUNCATE samples;
		UPDATE $table SET status = 'completed', started_at = now() AT TIME ZONE 'UTC';
		SELECT count(completed_at), count(duration_seconds) FROM $table});
	is("$ended $lasted", $table eq 'checked' ? "$rows $rows" : "$rows " . ($rows - int($rows / 3)), "$table: ends and durations too");
	($samples, $grown) = split /\|/, $session->query_safe('SELECT count(*), max(contexts) - min(contexts) FROM samples');
	is($samples, 10, "$table: the statement was looked at ten times");
	cmp_ok($grown, '<=', $allowed_contexts, "$table: while runs ended it stayed as it was ($grown bytes)");
}

# The check can fail: what piles up a few bytes a call is seen.
my ($leaked) = growth('CALL leaks(n)', 500);
cmp_ok($leaked, '>', $allowed_contexts, "500 statements prepared on purpose are seen: $leaked bytes");

$session->quit;
$node->stop;
done_testing();
