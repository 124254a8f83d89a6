# Rows that the application's own AFTER triggers write again, before the guard hears of what they came from: memory must end up with
# the row as it stands. Seen from another session while it is not committed, and in memory afterwards.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('written_again', preload => ['emag_sync_guard']);

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', done_column => 'processed_items', time_zone => 'UTC',
	                              exclusive => true, max_silence => '1 hour');
	SELECT sync_guard.allow_transition('runs', 'failed', 'running');
	CREATE FUNCTION write_again() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		CASE NEW.sync_type
		WHEN 'ends' THEN UPDATE runs SET status = 'completed' WHERE id = NEW.id;
		WHEN 'moves' THEN UPDATE runs SET sync_type = 'moved' WHERE id = NEW.id;
		WHEN 'goes' THEN DELETE FROM runs WHERE id = NEW.id;
		WHEN 'counts' THEN UPDATE runs SET processed_items = 5 WHERE id = NEW.id AND processed_items = 0;
		WHEN 'locks' THEN PERFORM FROM runs WHERE id = NEW.id FOR UPDATE;
		WHEN 'thinks better' THEN
			BEGIN
				UPDATE runs SET status = 'completed' WHERE id = NEW.id;
				RAISE division_by_zero;
			EXCEPTION WHEN division_by_zero THEN NULL;
			END;
		ELSE NULL;
		END CASE;
		RETURN NULL;
	END $$;
	CREATE TRIGGER a AFTER INSERT ON runs FOR EACH ROW EXECUTE FUNCTION write_again();
	CREATE FUNCTION set_back() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE runs SET status = 'running' WHERE id = NEW.id;
		RETURN NULL;
	END $$;
	CREATE TRIGGER b AFTER UPDATE ON runs FOR EACH ROW WHEN (NEW.status = 'failed' AND NEW.sync_type = 'untiring')
		EXECUTE FUNCTION set_back()});

my @types = ('ends', 'moves', 'moved', 'goes', 'counts', 'locks', 'thinks better');
my $seen = join ' UNION ALL ', map { "SELECT '$_', sync_guard.sync_is_running('$_', 'runs')" } @types;
my $expected = join "\n", map { $_ =~ /ends|moves|goes/ ? "$_|f" : "$_|t" } @types;
my $known = q{SELECT status, processed_items, uncommitted FROM (
	SELECT status, done AS processed_items, uncommitted, run_key FROM sync_guard.tracked_runs WHERE relation = 'runs'::regclass) AS r ORDER BY run_key::int};

my $writer = $node->background_psql('postgres', on_error_stop => 1);
$writer->query_safe('BEGIN');
$writer->query_safe(qq{INSERT INTO runs (sync_type) SELECT unnest('{ends,moves,goes,counts,locks,thinks better}'::text[])});
is(sql($seen), $expected, 'not committed: what another session is told');
is(sql(q{SELECT string_agg(scope ->> 'sync_type', ' ' ORDER BY scope ->> 'sync_type') FROM sync_guard.running_syncs}), 'counts locks moved thinks better', 'and shown');
is($node->psql('postgres', q{SET client_min_messages = error; INSERT INTO runs (sync_type) VALUES ('ends')}), 0, 'a scope where no run is can be started in');
isnt($node->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('counts')}), 0, 'one where a run is cannot');
$writer->query_safe('COMMIT');
$writer->quit;
is(sql($seen), $expected, 'committed: what another session is told');
is(sql($known), "running|0|f\nrunning|5|f\nrunning|0|f\nrunning|0|f", 'memory has the runs that are live, as they stand');
isnt($node->psql('postgres', q{INSERT INTO runs (sync_type) VALUES ('counts')}), 0, 'a scope whose run was written again is taken still');

# ---- a run that is set back as soon as it ends ------------------------------------------------------------------------------
sql(q{INSERT INTO runs (sync_type, started_at) VALUES ('untiring', (now() AT TIME ZONE 'UTC') - interval '3 hours')});
my $entry = q{SELECT t.status FROM sync_guard.tracked_runs AS t JOIN runs AS r ON r.id::text = t.run_key WHERE r.sync_type = 'untiring'};
is(sql($entry), 'running', 'memory knows the run');
is(sql(q{SELECT sync_guard.reap_stale_syncs(relation => 'runs')}), '1', 'it is reaped');
is(sql(q{SELECT status FROM runs WHERE sync_type = 'untiring'}), 'running', 'and runs again');
is(sql(q{SELECT outcome, false_positive FROM sync_guard.reaped_syncs}), 'retried|f', 'which the journal tells');
is(sql($entry), 'running', 'and memory knows');
sql(q{UPDATE runs SET status = 'failed' WHERE sync_type = 'untiring'});
is(sql($entry), 'running', 'and so it is where its own worker ends it');
sql(q{ALTER TABLE runs ENABLE ALWAYS TRIGGER b; DELETE FROM runs WHERE sync_type = 'untiring';
	INSERT INTO runs (sync_type, started_at) VALUES ('untiring', (now() AT TIME ZONE 'UTC') - interval '3 hours')});
is(sql(q{SET session_replication_role = replica; SELECT sync_guard.reap_stale_syncs(relation => 'runs')}), '1', 'it is reaped where the triggers of the guard do not fire');
is(sql(q{SELECT string_agg(outcome, ' ') FROM sync_guard.reaped_syncs}), 'retried retried', 'which the journal tells too');
sql(q{ALTER TABLE runs ENABLE TRIGGER b; DELETE FROM runs WHERE sync_type = 'untiring'});

# ---- a run that is set back, leased and ended while it is reaped: before the guard hears of the reaping, and after -----------------
sql(q{
	CREATE FUNCTION relapse() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		UPDATE runs SET status = 'running' WHERE id = NEW.id;
		PERFORM sync_guard.take_lease('runs', NEW.id);
		UPDATE runs SET status = 'completed' WHERE id = NEW.id;
		RETURN NULL;
	END $$;
	CREATE TRIGGER c AFTER UPDATE ON runs FOR EACH ROW WHEN (NEW.status = 'failed' AND NEW.sync_type = 'relapses first')
		EXECUTE FUNCTION relapse();
	CREATE TRIGGER zzzz AFTER UPDATE ON runs FOR EACH ROW WHEN (NEW.status = 'failed' AND NEW.sync_type = 'relapses last')
		EXECUTE FUNCTION relapse()});
for my $known ('is known', 'is not known') {
	my $before = $known eq 'is known' ? '' : 'SET emag_sync_guard.enabled = off;';
	sql(qq{$before INSERT INTO runs (sync_type, started_at)
		SELECT 'relapses ' || w, (now() AT TIME ZONE 'UTC') - interval '3 hours' FROM unnest('{first,last}'::text[]) AS w});
	is(sql(q{SELECT sync_guard.reap_stale_syncs(relation => 'runs')}), '2', "runs that relapse are reaped: memory $known");
	is(sql(q{SELECT string_agg(DISTINCT status, ' ') FROM runs WHERE sync_type LIKE 'relapses%'}), 'completed', 'and end');
	is(sql(q{SELECT string_agg(coalesce(end_reason, 'open'), ' ') FROM sync_guard.leases}), 'finished finished', 'and so do their leases');
	sql(q{DELETE FROM runs WHERE sync_type LIKE 'relapses%'; DELETE FROM sync_guard.leases});
}
$node->stop;
done_testing();
