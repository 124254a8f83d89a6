# What shared memory forgets of runs, and what it must not: who forgets them takes it back with his transaction, and with the
# savepoint he goes back to. Runs of databases that were dropped are forgotten, however many there are.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('forgotten', preload => ['emag_sync_guard'], conf => qq{
	emag_sync_guard.restart_grace = 0
	fsync = off
});

sub sql { return $node->safe_psql($_[1] // 'postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC')});

# A run whose row is old and whose writer has just been heard, and one with a lease: only memory knows that they live.
my $two_hours_ago = q{(now() AT TIME ZONE 'UTC') - interval '2 hours'};
my $old = sql("INSERT INTO runs (sync_type, started_at) VALUES ('old', $two_hours_ago) RETURNING id");
sql("UPDATE runs SET processed_items = 1 WHERE id = $old");
my ($leased, $token) = split /\|/, sql(q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "leased"}', '1 hour')});

sub live_and_in_memory
{
	my ($name) = @_;
	is(sql(q{SELECT run_key, verdict FROM sync_guard.running_syncs ORDER BY run_key::bigint}), "$old|live\n$leased|live", "$name: the runs live");
	is(sql(q{SELECT run_key, token FROM sync_guard.tracked_runs ORDER BY run_key::bigint}), "$old|\n$leased|$token", "$name: memory knows them");
	is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '0', "$name: nothing is reaped");
	return;
}
live_and_in_memory('before');

my $reap = q{SELECT sync_guard.reap_stale_syncs(relation => 'runs');};
my $silent = q{SET LOCAL session_replication_role = replica; UPDATE runs SET status = 'completed'; RESET session_replication_role;};
sql("BEGIN; TRUNCATE runs; $reap ROLLBACK");
live_and_in_memory('a sweep in a transaction that emptied the table and was rolled back');
sql("BEGIN; $silent $reap ROLLBACK");
live_and_in_memory('one that ended the runs with the triggers off');
sql("BEGIN; SAVEPOINT s; $silent $reap ROLLBACK TO s; COMMIT");
live_and_in_memory('the same in a savepoint');
sql(q{BEGIN; SELECT sync_guard.unguard_table('runs'); ROLLBACK});
live_and_in_memory('the table was to be guarded no more');

sql(q{SELECT sync_guard.allow_transition('runs', 'failed', 'running')});
my $set_back = q{UPDATE runs SET status = 'failed'; UPDATE runs SET status = 'running';};
my $in_its_place = qq{DELETE FROM runs WHERE id = $old; INSERT INTO runs (id, sync_type, started_at) OVERRIDING SYSTEM VALUE VALUES ($old, 'old', $two_hours_ago);};
for my $way ([ $set_back, 'ended and set back' ], [ $in_its_place, 'deleted, and another one of its key in its place' ])
{
	my ($statements, $name) = @$way;
	for my $undone ("BEGIN; $statements ROLLBACK", "BEGIN; SAVEPOINT s; $statements ROLLBACK TO s; COMMIT")
	{
		sql($undone);
		is(sql(q{SELECT run_key, verdict FROM sync_guard.running_syncs ORDER BY run_key::bigint}), "$old|live\n$leased|live", "$name: rolled back, the runs live");
		is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '0', 'nothing is reaped');
		is(sql("SELECT sync_guard.heartbeat($token)"), 't', 'the token is good');
		is(sql(q{SELECT run_key, token FROM sync_guard.tracked_runs ORDER BY run_key::bigint}), "$old|\n$leased|$token", 'memory knows them');
	}
}

# What is committed is forgotten, also where the transaction has gone back to a savepoint after it.
sql(qq{BEGIN; UPDATE runs SET status = 'completed' WHERE id = $leased; SAVEPOINT s; SELECT sync_guard.unguard_table('runs'); ROLLBACK TO s; COMMIT});
is(sql(q{SELECT string_agg(run_key, ',') FROM sync_guard.tracked_runs}), $old, 'a run has ended, though the table was not unguarded after all');
sql("BEGIN; $silent $reap COMMIT");
is(sql('SELECT count(*) FROM sync_guard.tracked_runs'), '0', 'a sweep forgets runs without a live row');
sql('SELECT sync_guard.reap_stale_syncs()');
is(sql('SELECT used FROM sync_guard.guard_memory'), '0', 'and the next one gives their places back');

# More databases than any list of a fixed size would hold.
my $databases = 70;
sql('CREATE DATABASE pattern');
sql('CREATE EXTENSION emag_sync_guard', 'pattern');
sql(q{CREATE TABLE runs (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz DEFAULT now());
	SELECT sync_guard.guard_table('runs', live_statuses => '{running}')}, 'pattern');
sql(join "\n", map { ("CREATE DATABASE app$_ TEMPLATE pattern;", "\\c app$_", 'INSERT INTO runs DEFAULT VALUES;', '\c postgres') } 1 .. $databases);
is(sql('SELECT count(DISTINCT database) FROM sync_guard.tracked_runs'), $databases, 'each database has a run');
sql(join "\n", map { "DROP DATABASE app$_;" } 1 .. $databases);
sql('SELECT sync_guard.reap_stale_syncs()');
is(sql('SELECT used FROM sync_guard.guard_memory'), '0', 'one sweep forgets the runs of all databases that were dropped');

$node->stop;
done_testing();
