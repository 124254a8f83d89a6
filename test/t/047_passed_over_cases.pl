# Runs that were passed over, in the cases that are easily got wrong: somebody has the table of the notes locked, transactions are
# SERIALIZABLE, prepared or rolled back, memory is full, keys change or come again, partitions, sweeps and ends in between.
use strict;
use warnings;

use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $conf = "emag_sync_guard.restart_grace = '10min'\nmax_prepared_transactions = 5\n";
my $node = guard_node('cases', preload => ['emag_sync_guard'], conf => $conf);

sub sql { return $node->safe_psql('postgres', $_[0]); }

# A guarded table. What keeps the reaper from its dead runs: most cases are about the time before it has closed them.
sub guard
{
	my ($table, $options, $reaped) = @_;
	make_run_table($node, $table) if sql("SELECT to_regclass('$table')") eq '';
	sql("SELECT sync_guard.guard_table('$table', scope_columns => '{sync_type}', time_zone => 'UTC'" . ($options // ', exclusive => true') . ')');
	sql("SELECT sync_guard.pause_reaping('$table', '2100-01-01')") unless $reaped;
	return;
}

# The runs of a scope that are alive for readers.
sub live
{
	my ($table, $type) = @_;
	return sql(qq{SELECT string_agg(run_key, ',') FROM sync_guard.live_runs() WHERE relation = '$table'::regclass AND scope ->> 'sync_type' = '$type' AND NOT dead});
}

sub is_dead
{
	my ($table, $key) = @_;
	my $dead = qq{SELECT EXISTS (SELECT FROM sync_guard.live_runs() WHERE relation = '$table'::regclass AND run_key = '$key' AND dead)};
	return poll_until($node, $dead, "$table, run $key: it is dead");
}

# How many notes there are on these runs.
sub marks
{
	my ($table, @keys) = @_;
	return sql("SELECT count(*) FROM sync_guard.passed_over WHERE relation = '$table'::regclass AND run_key IN (" . join(', ', map { "'$_'" } @keys) . ')');
}

sub insert { return "INSERT INTO $_[0] (sync_type) VALUES ('$_[1]')"; }
sub update { return "UPDATE $_[0] SET processed_items = processed_items + 1 WHERE id = $_[1]"; }
sub finish { return sql("UPDATE $_[0] SET status = 'completed' WHERE id = $_[1]"); }
sub lease { return sql("SELECT sync_guard.take_lease('$_[0]', $_[1], '$_[2]')"); }

# A run that starts now, or so long before or after that; its key.
sub start
{
	my ($table, $type, $away) = @_;
	return sql("INSERT INTO $table (sync_type, started_at) VALUES ('$type', (now() AT TIME ZONE 'UTC') " . ($away // '') . ') RETURNING id');
}

# A run whose lease has lapsed: its key, and its worker's heartbeat.
sub lapsed
{
	my ($table, $type, $away) = @_;
	my $key = start($table, $type, $away);
	my $token = lease($table, $key, '200 ms');
	is_dead($table, $key);
	return ($key, "SELECT sync_guard.heartbeat($token)");
}

# The same, and the run that has taken its place.
sub passed_over
{
	my ($table, $type, $away) = @_;
	my @ghost = lapsed($table, $type, $away);
	my $other = start($table, $type);
	is(live($table, $type), $other, "$type: another run has its place");
	return (@ghost, $other);
}

sub session
{
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query('\set VERBOSITY sqlstate');
	return $session;
}

# What a session's statement answers, and what it is told.
sub told
{
	my ($session, $statement) = @_;
	my $out = $session->query($statement) . $session->{stderr};
	$session->{stderr} = '';
	return $out;
}

# A case: what comes before a crash of the server, what comes after it and before the next one; each is given what the one before
# returns.
my @cases;
sub after_crash { push @cases, { parts => [@_] }; return; }

sub crash { $node->stop('immediate'); return $node->start; }

guard('runs');

# ---- a sweep that had looked before ---------------------------------------------------------------------------------------------
guard('swept', undef, 'reaped');
sql(q{SELECT sync_guard.set_limit('swept', '{"sync_type": "swept"}', max_silence => '1 ms')});
after_crash(
	sub {
		# Where the sweep is held: it ends the lease of a run that was deleted past the triggers.
		my $gone = start('swept', 'gone');
		lease('swept', $gone, '10 min');
		sql(q{
			SET session_replication_role = replica; DELETE FROM swept;
			CREATE FUNCTION held() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(1); RETURN NULL; END';
			CREATE TRIGGER held BEFORE UPDATE ON sync_guard.leases EXECUTE FUNCTION held()});
		my $locker = session();
		$locker->query_safe('SELECT pg_advisory_lock(1)');
		my $answer = '';
		my $sweep = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-c', q{SELECT sync_guard.reap_stale_syncs(relation => 'swept')} ],
			'>', \$answer, '2>&1', IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
		poll_until($node, q{SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'SELECT sync_guard.reap%'}, 'swept: a sweep has looked, and waits');
		my $ghost = start('swept', 'swept');
		is_dead('swept', $ghost);
		my $other = start('swept', 'swept');
		is(marks('swept', $ghost), '1', 'swept: meanwhile a run is passed over');
		$locker->query_safe('SELECT pg_advisory_unlock(1)');
		$sweep->finish;
		$locker->quit;
		sql('DROP FUNCTION held CASCADE');
		is($answer, "0\n", 'swept: the sweep closes nothing');
		is(sql("SELECT count(*) FROM sync_guard.leases WHERE relation = 'swept'::regclass AND ended_at IS NULL"), '0', 'swept: and has settled what it waited for');
		is(marks('swept', $ghost), '1', 'swept: of what came after it had looked it takes nothing away');
		sql(q{SELECT sync_guard.set_limit('swept', '{"sync_type": "swept"}', max_silence => '1 day')});
		return $other;
	},
	sub { is(live('swept', 'swept'), $_[0], 'swept: the other one alone is live'); });

# ---- the starter is prepared ----------------------------------------------------------------------------------------------------
after_crash(
	sub {
		my ($ghost, $beat) = lapsed('runs', 'prepared');
		sql('BEGIN; ' . insert('runs', 'prepared') . q{; PREPARE TRANSACTION 'starter'});
		return ($ghost, $beat);
	},
	sub {
		my ($ghost, $beat) = @_;
		my $worker = session();
		is(told($worker, $beat), 't', 'prepared: before the starter commits, the first one goes on');
		sql(q{COMMIT PREPARED 'starter'});
		my $other = sql(q{SELECT max(id) FROM runs WHERE sync_type = 'prepared'});
		is(live('runs', 'prepared'), $other, 'prepared: after it the other one alone is live');
		is(told($worker, $beat), 'f', "prepared: and so a heartbeat, number $_") for 1 .. 2;
		is(live('runs', 'prepared'), $other, 'prepared: nor does that change it');
		$worker->quit;
	});

# ---- the table of the notes is locked -------------------------------------------------------------------------------------------
after_crash(
	sub { return (passed_over('runs', 'locked'), start('runs', 'unlocked')); },
	sub {
		my ($ghost, undef, $other, $alive) = @_;
		my ($dead, $beat) = lapsed('runs', 'locked late');
		my $locker = session();
		$locker->query_safe('BEGIN; LOCK TABLE sync_guard.passed_over IN SHARE MODE');
		my $try = sub {
			my ($result, $out, $err) = $node->psql('postgres', "SET lock_timeout = '5s'; $_[0]");
			is($result, 0, "locked: $_[1] does not fail");
			return $err;
		};
		my $warned = qr/^psql:<stdin>:1: WARNING:  could not note which dead runs of table \S*runs were passed over: table sync_guard.passed_over is locked or changed\n/;
		is($try->("UPDATE runs SET status = 'completed' WHERE id = $alive", 'an end after a restart'), '', 'locked: and has nothing to tell');
		like($try->("UPDATE runs SET status = 'failed' WHERE id = $ghost", 'the end of one that was passed over'), $warned, 'locked: it does not wait, and warns');
		like($try->(insert('runs', 'locked late'), 'a start'), $warned, 'locked: nor does a start');
		is(live('runs', 'locked'), $other, 'locked: the other one is live');
		is(sql($beat), 'f', 'locked: memory tells of whom it has passed over');
		isnt(live('runs', 'locked late'), '', 'locked: its place is taken');
		unlike(live('runs', 'locked late'), qr/\b$dead\b/, 'locked: by the other one alone');
		$locker->query_safe('COMMIT');
		$locker->quit;
	});

# ---- SERIALIZABLE ---------------------------------------------------------------------------------------------------------------
guard($_) for qw(ra rb);
after_crash(
	sub { return map { start($_, 'alive') } qw(ra rb); },
	sub {
		my %alive;
		@alive{qw(ra rb)} = @_;
		my %dead = map { $_ => (lapsed($_, 'dead'))[0] } qw(ra rb);
		my %sessions = map { $_ => session() } qw(ra rb);
		my $both = sub {
			my ($statement, $expected, $what) = @_;
			is(told($sessions{$_}, $statement->($_)), $expected // '', "serializable: $_, $what") for qw(ra rb);
		};
		$both->(sub { return 'BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT 1' }, '1', 'its snapshot is taken');
		$both->(sub { return update($_[0], $alive{ $_[0] }) }, '', 'a sign of life');
		$both->(sub { return insert($_[0], 'dead') }, '', 'a start past a dead run');
		$both->(sub { return 'COMMIT' }, '', 'it is committed');
		is(marks($_, $dead{$_}), '1', "serializable: $_, the dead run is noted") for qw(ra rb);
		$_->quit for values %sessions;
	});

# ---- the key changes ------------------------------------------------------------------------------------------------------------
my $rename = sub { return "UPDATE runs SET id = DEFAULT WHERE id = $_[0]"; };
after_crash(
	sub {
		my @runs = passed_over('runs', 'renamed');
		is(sqlstate_of($node, $rename->($runs[0])), 'SY002', 'renamed: another key is no way back');
		is(live('runs', 'renamed'), $runs[2], 'renamed: the other one alone is live');
		return @runs;
	},
	sub {
		my ($ghost, undef, $other) = @_;
		is(sqlstate_of($node, $rename->($ghost)), 'SY002', 'renamed: nor is it after a crash');
		is(live('runs', 'renamed'), $other, 'renamed: the other one alone is live then too');
		finish('runs', $other);
		my $key = sql($rename->($ghost) . ' RETURNING id');
		is(live('runs', 'renamed'), $key, 'renamed: with the scope free it lives by its new key');
		is(marks('runs', $ghost, $key), '0', 'renamed: and nothing is noted of it any more');
	});

# ---- a start in the future ------------------------------------------------------------------------------------------------------
after_crash(
	sub { return passed_over('runs', 'future', q{+ interval '1 hour'}); },
	sub {
		my (undef, $beat, $other) = @_;
		is(live('runs', 'future'), $other, 'future: it stays dead');
		is(sql($beat), 'f', 'future: and its heartbeat is told so');
	});

# ---- a key comes again ----------------------------------------------------------------------------------------------------------
guard($_) for qw(again backdated);
guard('timeless', q{, start_column => '', exclusive => true});
my $emptied = sub {
	my ($table) = @_;
	my ($key) = passed_over($table, $table);
	is($key, 1, "$table: the first key is passed over");
	sql("TRUNCATE $table RESTART IDENTITY");
};
after_crash(
	sub {
		$emptied->('again');
		my ($ghost, undef, $other) = passed_over('again', 'again');
		is($ghost, 1, 'again: the key has come again, and is passed over again');
		return $other;
	},
	sub { is(live('again', 'again'), $_[0], 'again: it stays dead'); });
foreach ([ 'backdated', q{- interval '1 minute'} ], ['timeless'])
{
	my ($table, $away) = @$_;
	after_crash(
		sub {
			$emptied->($table);
			my $key = start($table, $table, $away);
			is($key, 1, "$table: the key has come again");
			is(live($table, $table), $key, "$table: and lives");
			lease($table, $key, '10 min');
			return $key;
		},
		sub {
			is(live($table, $table), $_[0], "$table: after a crash too");
			is(marks($table, $_[0]), '0', "$table: nothing is noted of it");
		});
}

# ---- the starter gives up -------------------------------------------------------------------------------------------------------
guard('given_up', q{, exclusive => true, scope_overlaps => '{"sync_type": {"both": ["a", "b"]}}'}, 'reaped');
sql(q{SELECT sync_guard.set_limit('given_up', '{}', max_silence => '30 min')});
my %given_up = map { $_ => start('given_up', $_, q{- interval '2 hours'}) } qw(a c d);
start('given_up', 'b');
is_dead('given_up', $_) for values %given_up;
is(sqlstate_of($node, insert('given_up', 'both')), 'SY002', 'given up: one that needs both scopes is refused for one of them');
sql('BEGIN; ' . insert('given_up', 'c') . '; ROLLBACK');
sql('BEGIN; SAVEPOINT s; ' . insert('given_up', 'd') . '; ROLLBACK TO s; COMMIT');
sql(q{SELECT sync_guard.set_limit('given_up', '{}', max_silence => '1 day')});
is(live('given_up', $_), $given_up{$_}, "given up: $_ was passed over by nobody, and with a longer limit it is live") for sort keys %given_up;
is(sql(q{SELECT sync_guard.reap_stale_syncs(relation => 'given_up')}), '0', 'given up: and is not reaped');
is(marks('given_up', values %given_up), '0', 'given up: nothing is noted');
is(sqlstate_of($node, update('given_up', $given_up{$_})), '', "given up: $_ goes on") for sort keys %given_up;

# ---- a return that is rolled back -----------------------------------------------------------------------------------------------
foreach my $then ('heartbeat', 'UPDATE', 'UPDATE in the same transaction')
{
	my $type = "returns by $then";
	after_crash(
		sub {
			my ($ghost, $beat, $other) = passed_over('runs', $type);
			finish('runs', $other);
			my $update = update('runs', $ghost);
			my $worker = session();
			is(told($worker, "BEGIN; SAVEPOINT s; $update"), '', "$type: it comes back");
			is(told($worker, 'ROLLBACK TO s'), '', "$type: and that is rolled back");
			is(told($worker, $update), '', "$type: it comes back again") if $then =~ /same/;
			is(told($worker, 'COMMIT'), '', "$type: its transaction ends");
			is(live('runs', $type), '', "$type: it is not back") if $then !~ /same/;
			is(told($worker, $then =~ /beat/ ? $beat : $update), $then =~ /beat/ ? 't' : '', "$type: its sign of life, number $_") for 1 .. 2;
			is(live('runs', $type), $ghost, "$type: it is back");
			$worker->quit;
			return $ghost;
		},
		sub { is(live('runs', $type), $_[0], "$type: after a crash too"); });
}

# ---- heartbeats that may not write ----------------------------------------------------------------------------------------------
my $read_only = sub {
	my ($type, $ghost, $beat) = @_;
	is(sql("BEGIN READ ONLY; $beat; COMMIT"), 'f', "$type: a heartbeat in a READ ONLY transaction does not bring it back");
	is(live('runs', $type), '', "$type: so nobody is live");
	is(sql($beat), 't', "$type: one in another transaction does");
	is(live('runs', $type), $ghost, "$type: and it is live");
};
$read_only->('read only, lapsed', lapsed('runs', 'read only, lapsed'));
my @before = passed_over('runs', 'read only');
finish('runs', $before[2]);
$read_only->('read only', @before);
after_crash(
	sub { return passed_over('runs', 'read only later'); },
	sub {
		finish('runs', $_[2]);
		$read_only->('read only later', @_);
	});

# ---- partitions -----------------------------------------------------------------------------------------------------------------
sql(q{
	CREATE TABLE parts (id bigint GENERATED ALWAYS AS IDENTITY, part integer NOT NULL DEFAULT 1, sync_type text NOT NULL,
		status text NOT NULL DEFAULT 'running', started_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'), completed_at timestamp,
		processed_items integer NOT NULL DEFAULT 0, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES IN (1);
	CREATE TABLE parts_2 PARTITION OF parts FOR VALUES IN (2)});
guard('parts', q{, key_column => 'id', exclusive => true});
my $move = sub { return "UPDATE parts SET part = 3 - part WHERE id = $_[0]"; };
after_crash(
	sub {
		my $leased = start('parts', 'leased');
		return (start('parts', 'moves'), $leased, lease('parts', $leased, '10 min'));
	},
	sub {
		my ($key, $leased, $token) = @_;
		sql($move->($_)) for $key, $leased;
		is(sql("SELECT count(*) FROM parts_2 WHERE id IN ($key, $leased)"), '2', 'parts: both have moved');
		is(live('parts', 'moves'), $key, 'parts: one that moves after a crash is live');
		is(marks('parts', $key, $leased), '0', 'parts: nothing is noted of them');
		is(sql("SELECT sync_guard.heartbeat($token)"), 't', 'parts: its lease goes with a run that has one');
		is(sql("SELECT lease FROM sync_guard.live_runs() WHERE relation = 'parts'::regclass AND run_key = '$leased'"), 'heartbeat', 'parts: and it is judged by it');
		return @_;
	},
	sub {
		my ($key, $leased, $token) = @_;
		is(live('parts', 'moves'), $key, 'parts: nor does another crash kill it');
		is(live('parts', 'leased'), $leased, 'parts: neither the one with a lease');
		is(sql("SELECT sync_guard.heartbeat($token)"), 't', 'parts: whose heartbeat is heard');
	});
after_crash(
	sub { return passed_over('parts', 'ghost'); },
	sub {
		my ($ghost, $beat, $other) = @_;
		is(sqlstate_of($node, $move->($ghost)), 'SY002', 'parts: to move is no way back for one that was passed over');
		is(live('parts', 'ghost'), $other, 'parts: the other one alone is live');
		finish('parts', $other);
		sql($move->($ghost));
		is(live('parts', 'ghost'), $ghost, 'parts: with its scope free it is');
		is(marks('parts', $ghost), '0', 'parts: and is noted no more');
		is(sql($beat), 't', 'parts: its worker goes on');
		return $ghost;
	},
	sub { is(live('parts', 'ghost'), $_[0], 'parts: and it outlives another crash'); });

# ---- it ends while its starter is in flight -------------------------------------------------------------------------------------
sql(q{SELECT sync_guard.allow_transition('runs', 'failed', 'running')});
after_crash(
	sub {
		my ($ghost) = lapsed('runs', 'in flight');
		my $starter = session();
		my $other = told($starter, 'BEGIN; ' . insert('runs', 'in flight') . ' RETURNING id');
		sql("UPDATE runs SET status = 'failed' WHERE id = $ghost");
		is(told($starter, 'COMMIT'), '', 'in flight: the starter commits after the end of the run that it has passed over');
		$starter->quit;
		finish('runs', $other);
		sql("UPDATE runs SET status = 'running', completed_at = NULL WHERE id = $ghost");
		is(live('runs', 'in flight'), $ghost, 'in flight: it is retried');
		return $ghost;
	},
	sub {
		is(live('runs', 'in flight'), $_[0], 'in flight: after a crash it lives');
		is(marks('runs', $_[0]), '0', 'in flight: nothing is noted of it');
	});

# ---- the cases, with a crash after each of their parts ----------------------------------------------------------------------------
for (my $part = 0; @cases; ++$part)
{
	crash() if $part;
	$_->{given} = [ $_->{parts}[$part]->(@{ $_->{given} // [] }) ] for @cases;
	@cases = grep { $_->{parts}[ $part + 1 ] } @cases;
}
$node->stop;

# ---- memory is full -------------------------------------------------------------------------------------------------------------
$node = guard_node('full', preload => ['emag_sync_guard'], conf => "$conf\nemag_sync_guard.max_tracked_runs = 16");
guard('runs');
my $limit = sub { return sql("SELECT sync_guard.set_limit('runs', '{}', max_silence => '$_[0]')"); };
my $quiet = 'SET client_min_messages = error';	# or each is told that there is no room
my $fill = q{INSERT INTO runs (sync_type) SELECT 'filler ' || n FROM generate_series(1, 16) AS n};
my $empty = q{DELETE FROM runs WHERE sync_type LIKE 'filler %'};
sql($fill);
is(sql('SELECT used FROM sync_guard.guard_memory'), '16', 'full: there is no room');
my ($ghost, $later) = map { start('runs', $_, q{- interval '1 hour'}) } 'full', 'full later';
my ($worker, $starter) = (session(), session());
# Its sign of life is in flight when it is passed over, and committed before the starter's transaction is.
told($worker, $quiet);
$limit->('1 day');
is(told($worker, qq{BEGIN; UPDATE runs SET started_at = now() AT TIME ZONE 'UTC' WHERE id = $ghost}), '', 'full: a sign of life is in flight');
$limit->('30 min');
is_dead('runs', $_) for $ghost, $later;
my $other = told($starter, "$quiet; BEGIN; " . insert('runs', 'full') . ' RETURNING id');
like($other, qr/^\d+$/, 'full: who does not see it starts a run');
is(told($worker, 'COMMIT'), '', 'full: it is committed');
sql($empty);
is(told($worker, update('runs', $ghost)), '', 'full: there is room for the next one');
is(sql("SELECT count(*) FROM sync_guard.tracked_runs WHERE run_key = '$ghost'"), '1', 'full: memory knows the run');
is(told($starter, 'COMMIT'), '', 'full: now the starter commits');
is(live('runs', 'full'), $other, 'full: one run is live');
like(told($worker, update('runs', $ghost)), qr/ERROR:  SY002/, 'full: and the next sign of life is told so');
is(live('runs', 'full'), $other, 'full: so it stays');
# The same with the starter committed while there is no room.
sql($fill);
my $another = sql(insert('runs', 'full later') . ' RETURNING id');
sql($empty);
$limit->('1 day');
is(live('runs', 'full later'), $another, 'full later: one run is live');
is(sqlstate_of($node, update('runs', $later)), 'SY002', 'full later: the other one is told so') for 1 .. 2;
is(live('runs', 'full later'), $another, 'full later: so it stays');
$_->quit for $worker, $starter;
crash();
is(live('runs', 'full'), $other, 'full: nor does a crash change it');
is(live('runs', 'full later'), $another, 'full later: neither here');
$node->stop;
done_testing();
