# Under whose rights a run is closed when its session dies: the worker connects as a superuser and is the table's owner from
# before its first transaction to after its last, also in deferred triggers, and also in the batch after one that was rolled
# back. The owner plants his code wherever the closing meets it. What ran is told in the server's log, which no rollback
# takes back: where, as whom, and what it got done that it must not.
use strict;
use warnings;

use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('worker_rights', preload => ['emag_sync_guard'], conf => 'max_prepared_transactions = 5');
my $spoils = PostgreSQL::Test::Utils::tempdir_short . '/spoils';
my $superuser = $node->safe_psql('postgres', 'SELECT current_user');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# The same as another role; and the SQLSTATE of what fails ('' where nothing does).
sub sql_as
{
	my ($role, $statement) = @_;
	local $ENV{PGUSER} = $role;
	return sql($statement);
}

sub state_as
{
	my ($role, $statement) = @_;
	local $ENV{PGUSER} = $role;
	my ($well, $out, $err) = $node->psql('postgres', $statement, extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	return $err =~ /ERROR:  (\w{5})/ ? $1 : $err;
}

# ---- what the thief plants -------------------------------------------------------------------------------------------------
sql(qq{
	CREATE ROLE thief LOGIN;
	CREATE ROLE worker_role LOGIN;
	CREATE SCHEMA thief AUTHORIZATION thief;
	GRANT USAGE ON SCHEMA thief TO worker_role;
	CREATE TABLE trap (what text, who name);
	CREATE SEQUENCE trap_counter;
	CREATE TABLE public.scene AS SELECT false AS armed, '$spoils'::text AS spoils;
	GRANT SELECT ON public.scene TO PUBLIC});
sql_as('thief', q{
	-- Not while he sets things up, nor in the session of somebody who writes his table: what runs there runs as that one
	-- anyway. (Of a session that is no role's of his he is not told the type.)
	CREATE FUNCTION thief.armed() RETURNS boolean LANGUAGE sql AS $$
		SELECT armed AND (current_user = 'thief' OR (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) IS DISTINCT FROM 'client backend')
		FROM public.scene $$;
	CREATE FUNCTION thief.spring(place text) RETURNS void LANGUAGE plpgsql AS $spring$
	DECLARE
		attempt text;
	BEGIN
		IF NOT thief.armed() THEN RETURN; END IF;
		RAISE LOG 'planted code at <%>, user <%>', place, current_user;
		-- What must fail, tried after each way to become somebody else.
		FOREACH attempt IN ARRAY ARRAY[
			'RESET ROLE', 'SET ROLE NONE', format('SET ROLE %I', (SELECT rolname FROM pg_roles WHERE oid = 10)),
			'SET SESSION AUTHORIZATION DEFAULT', format('SET SESSION AUTHORIZATION %I', (SELECT rolname FROM pg_roles WHERE oid = 10)),
			'RESET SESSION AUTHORIZATION',
			$a$DO $do$ BEGIN PERFORM set_config('role', 'none', false); END $do$$a$,
			$a$DO $do$ BEGIN PERFORM set_config('session_authorization', 'default', false); END $do$$a$,
			$a$INSERT INTO public.trap VALUES ('trap', current_user)$a$,
			$a$SELECT nextval('public.trap_counter')$a$,
			'ALTER ROLE thief SUPERUSER', 'ALTER ROLE thief CREATEROLE BYPASSRLS', 'CREATE ROLE henchman',
			format('GRANT %I TO thief', (SELECT rolname FROM pg_roles WHERE oid = 10)), 'GRANT pg_write_server_files TO thief',
			format('COPY (SELECT 1) TO PROGRAM %L', 'touch ' || (SELECT spoils FROM public.scene)),
			format('COPY (SELECT 1) TO %L', (SELECT spoils FROM public.scene)),
			$a$SELECT pg_read_file('PG_VERSION')$a$, 'ALTER SYSTEM SET work_mem = 64', 'SELECT pg_terminate_backend(pg_backend_pid())',
			'SET session_replication_role = replica', 'SET emag_sync_guard.enabled = off', 'SET emag_sync_guard.overturning = on',
			$a$UPDATE sync_guard.settings SET max_silence = '1 year'$a$, 'DELETE FROM sync_guard.journal', 'DELETE FROM sync_guard.leases',
			'SELECT count(*) FROM sync_guard.tracked_runs'
		] LOOP
			BEGIN
				EXECUTE attempt;
				RAISE LOG 'planted code got done <%> at <%>', attempt, place;
			EXCEPTION WHEN OTHERS THEN
				NULL;
			END;
			IF current_user <> 'thief' THEN
				RAISE LOG 'planted code became <%> at <%>', current_user, place;
			END IF;
		END LOOP;
		-- What may succeed, and must not help: traces in the worker's session, found by what it does next.
		FOREACH attempt IN ARRAY ARRAY[
			'CREATE TEMP TABLE journal (i int)', 'CREATE TEMP TABLE leases (i int)', 'CREATE TEMP TABLE settings (i int)',
			$a$DO $do$ BEGIN PERFORM set_config('search_path', 'thief, pg_temp, pg_catalog', false); END $do$$a$,
			$a$DO $do$ BEGIN PERFORM set_config('row_security', 'off', false); END $do$$a$,
			$a$DO $do$ BEGIN PERFORM set_config('default_transaction_read_only', 'on', false); END $do$$a$,
			$a$DO $do$ BEGIN PERFORM set_config('check_function_bodies', 'off', false); END $do$$a$,
			$a$DECLARE held CURSOR WITH HOLD FOR SELECT thief.spring_quietly('a held cursor')$a$,
			'LISTEN something', 'NOTIFY something', 'PREPARE later AS SELECT 1'
		] LOOP
			BEGIN
				EXECUTE attempt;
			EXCEPTION WHEN OTHERS THEN
				NULL;
			END;
		END LOOP;
	END $spring$;
	-- Says only as whom it runs; for places where the rest would call it again.
	CREATE FUNCTION thief.spring_quietly(place text) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		IF NOT thief.armed() THEN RETURN place; END IF;
		RAISE LOG 'planted code at <%>, user <%>', place, current_user;
		BEGIN
			EXECUTE 'ALTER ROLE thief SUPERUSER';
			RAISE LOG 'planted code got done <ALTER ROLE> at <%>', place;
		EXCEPTION WHEN OTHERS THEN NULL;
		END;
		RETURN place;
	END $$;
	CREATE FUNCTION thief.trigger() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		PERFORM thief.spring(TG_ARGV[0]);
		IF NEW.sync_type OPERATOR(pg_catalog.=) TG_ARGV[1] THEN
			RAISE EXCEPTION 'the owner does not like run %', NEW.sync_type;
		END IF;
		RETURN NEW;
	END $$;
	CREATE FUNCTION thief.checks(value text) RETURNS boolean LANGUAGE plpgsql AS
		$$BEGIN PERFORM thief.spring('check'); RETURN value IN ('running', 'completed', 'failed'); END$$;
	CREATE FUNCTION thief.immutable(place text, value text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS
		$$BEGIN PERFORM thief.spring_quietly(place); RETURN value; END$$;
	CREATE FUNCTION thief.text_equal(text, text) RETURNS boolean LANGUAGE plpgsql AS
		$$BEGIN PERFORM thief.spring_quietly('operator'); RETURN true; END$$;
	CREATE OPERATOR thief.= (LEFTARG = text, RIGHTARG = text, FUNCTION = thief.text_equal);
	CREATE TYPE thief.state AS ENUM ('running', 'completed', 'failed');
	CREATE FUNCTION thief.state_text(thief.state) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		BEGIN PERFORM thief.spring('cast'); EXCEPTION WHEN OTHERS THEN NULL; END;
		RETURN CASE WHEN $1 < 'completed' THEN 'running' WHEN $1 < 'failed' THEN 'completed' ELSE 'failed' END;
	END $$;
	CREATE CAST (thief.state AS text) WITH FUNCTION thief.state_text(thief.state);
	CREATE DOMAIN thief.error AS jsonb CHECK (thief.immutable('domain', 'x') IS NOT NULL);
	CREATE TABLE thief.triggers (id int PRIMARY KEY, sync_type text, status text CHECK (thief.checks(status)), started_at timestamptz, ended_at timestamptz,
		errors thief.error, twice text GENERATED ALWAYS AS (thief.immutable('generated column', status)) STORED);
	CREATE INDEX ON thief.triggers (thief.immutable('index', status));
	CREATE TRIGGER a BEFORE UPDATE ON thief.triggers FOR EACH ROW EXECUTE FUNCTION thief.trigger('before row', 'refused');
	CREATE TRIGGER b AFTER UPDATE ON thief.triggers FOR EACH ROW EXECUTE FUNCTION thief.trigger('after row');
	CREATE FUNCTION thief.statement_trigger() RETURNS trigger LANGUAGE plpgsql AS
		$$BEGIN PERFORM thief.spring(TG_ARGV[0]); RETURN NULL; END$$;
	CREATE TRIGGER c BEFORE UPDATE ON thief.triggers FOR EACH STATEMENT EXECUTE FUNCTION thief.statement_trigger('before statement');
	CREATE TRIGGER d AFTER UPDATE ON thief.triggers FOR EACH STATEMENT EXECUTE FUNCTION thief.statement_trigger('after statement');
	CREATE TABLE thief.deferred (id int PRIMARY KEY, sync_type text, status text CHECK (status IN ('running', 'completed', 'failed')), started_at timestamptz);
	CREATE CONSTRAINT TRIGGER a AFTER UPDATE ON thief.deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
		EXECUTE FUNCTION thief.trigger('deferred', 'refused at commit');
	CREATE TABLE thief.casts (id int PRIMARY KEY, sync_type text, status thief.state, started_at timestamptz);
	GRANT SELECT, INSERT, UPDATE ON thief.triggers, thief.deferred, thief.casts TO worker_role;
	SELECT sync_guard.guard_table(t, live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}')
	FROM unnest('{thief.triggers,thief.deferred,thief.casts}'::regclass[]) AS t});
make_run_table($node, 'zz_honest');
sql(q{SELECT sync_guard.guard_table('zz_honest'); GRANT SELECT, INSERT, UPDATE ON zz_honest TO worker_role; UPDATE scene SET armed = true});

# ---- a session with bound leases, and its death ----------------------------------------------------------------------------
my $next = 0;

# Starts runs in one session of the role, each bound to it: [ table, name ]. Ends that session without a word.
sub runs_whose_session_dies
{
	my ($role, @runs) = @_;
	local $ENV{PGUSER} = $role;
	my ($in, $out, $err) = ('', '', '');
	my $psql = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err,
		IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	for my $run (@runs)
	{
		my ($table, $name) = @$run;
		my $values = $table eq 'zz_honest' ? qq{"sync_type": "$name"} : qq{"id": @{[ ++$next ]}, "sync_type": "$name"};
		$in .= "SELECT token FROM sync_guard.start_sync('$table', '{$values}', bind_session => true);\n";
	}
	$in .= "\\echo started\n";
	$psql->pump until $out =~ /started/ || !$psql->pumpable;
	like($out, qr/^(\d+\n){@{[ scalar @runs ]}}started$/m, "$role starts " . scalar(@runs) . ' runs') or diag("$out$err");
	my $log = -s $node->logfile;
	$psql->signal('KILL');
	eval { $psql->finish; };
	return $log;
}

sub until_closed
{
	my ($table, $count, $what) = @_;
	poll_until($node, "SELECT count(*) = $count FROM $table WHERE status = 'failed'", $what);
	return;
}

# What was planted and came to run since: { "place, user" => times }; and what it got.
sub planted_code
{
	my ($log) = @_;
	my $text = slurp_file($node->logfile, $log);
	my (%ran, @got);
	++$ran{"$1: $2"} while $text =~ /planted code at <([^>]*)>, user <([^>]*)>/g;
	push @got, $1 while $text =~ /(planted code (?:got done|became) .*)/g;
	return (\%ran, \@got);
}

sub nothing_gained
{
	my ($title, $log, @places) = @_;
	my ($ran, $got) = planted_code($log);
	is_deeply([ grep { !/: thief$/ } sort keys %$ran ], [], "$title: it ran as the owner only");
	is_deeply([ grep { !$ran->{"$_: thief"} } @places ], [], "$title: it ran in all the places that were planted") or diag(explain($ran));
	is_deeply($got, [], "$title: it got nothing done that it must not");
	ok(!-e $spoils, "$title: no program was run and no file written");
	is(sql(q{
		SELECT (SELECT count(*) FROM trap), (SELECT is_called FROM trap_counter), rolsuper OR rolcreaterole OR rolbypassrls,
		       (SELECT count(*) FROM pg_auth_members WHERE member = 'thief'::regrole),
		       (SELECT count(*) FROM pg_roles WHERE rolname = 'henchman')
		FROM pg_roles WHERE rolname = 'thief'}), '0|f|f|0|0', "$title: he is what he was");
	return;
}

my @in_triggers = ('before row', 'after row', 'before statement', 'after statement', 'check', 'generated column', 'index');

my $log = runs_whose_session_dies('worker_role', map { [ "thief.$_", 'plain' ] } qw(triggers deferred casts));
until_closed("thief.$_", 1, "the run in thief.$_ is closed") for qw(triggers deferred casts);
is(sql(q{SELECT DISTINCT verdict, path, role FROM sync_guard.reaped_syncs}), 'session_gone|worker|thief', 'by the worker, in the owner\'s name');
nothing_gained('a stranger\'s session', $log, @in_triggers, 'deferred', 'cast');

# Batches that are rolled back, at once and at their commit, between others that are not.
$log = runs_whose_session_dies('worker_role',
	(map { [ 'thief.triggers', $_ ] } 'first', 'refused', 'last'),
	(map { [ 'thief.deferred', $_ ] } 'first', 'refused at commit', 'last'),
	[ 'thief.casts', 'last' ], [ 'zz_honest', 'products' ]);
until_closed('thief.triggers', 3, 'where the owner\'s trigger raises for one run, the others are closed');
until_closed('thief.deferred', 3, 'and where a deferred trigger raises at the commit');
until_closed('thief.casts', 2, 'the next table too');
until_closed('zz_honest', 1, 'and what belongs to somebody else');
is(sql(q{SELECT status FROM thief.triggers WHERE sync_type = 'refused' UNION ALL SELECT status FROM thief.deferred WHERE sync_type = 'refused at commit'}),
	"running\nrunning", 'the two that their owner refuses stay');
is(sql_as('worker_role', q{SELECT sync_guard.sync_is_running('refused', 'thief.triggers'), sync_guard.sync_is_running('refused at commit', 'thief.deferred')}), 'f|f',
	'and are dead to whoever asks');
is(sql(q{SELECT role FROM sync_guard.reaped_syncs WHERE relation_name = 'public.zz_honest'}), $superuser, 'each in the name of its table\'s owner');
nothing_gained('after an abort', $log, @in_triggers, 'deferred', 'cast');
like(slurp_file($node->logfile, $log), qr/the owner does not like run refused/, 'the reason is in the server\'s log');
sql(q{
	ALTER TABLE thief.triggers DISABLE TRIGGER a; ALTER TABLE thief.deferred DISABLE TRIGGER a;
	SELECT sync_guard.reap_stale_syncs();
	ALTER TABLE thief.triggers ENABLE TRIGGER a; ALTER TABLE thief.deferred ENABLE TRIGGER a});

# The superuser's own session, and an owner who may not log in.
$log = runs_whose_session_dies($superuser, map { [ "thief.$_", 'of the superuser' ] } qw(triggers deferred casts));
until_closed("thief.$_", $_ eq 'casts' ? 3 : 5, "a superuser\'s run in thief.$_ is closed") for qw(triggers deferred casts);
nothing_gained('a superuser\'s session', $log, @in_triggers, 'deferred', 'cast');
sql('ALTER ROLE thief NOLOGIN CONNECTION LIMIT 0');
$log = runs_whose_session_dies('worker_role', map { [ "thief.$_", 'nologin' ] } qw(triggers deferred casts));
until_closed("thief.$_", $_ eq 'casts' ? 4 : 6, "an owner who may not log in: the run in thief.$_ is closed") for qw(triggers deferred casts);
nothing_gained('an owner who may not log in', $log, @in_triggers, 'deferred', 'cast');
sql('ALTER ROLE thief LOGIN CONNECTION LIMIT -1');

# ---- a reaping that deferred triggers forbid is handed on --------------------------------------------------------------------
sql_as('worker_role', qq{SELECT sync_guard.start_sync('thief.deferred', '{"id": @{[ ++$next ]}, "sync_type": "handed on"}', ttl => '100 ms')});
poll_until($node, q{SELECT count(*) = 1 FROM sync_guard.stuck_syncs WHERE scope ->> 'sync_type' = 'handed on'}, 'one run more lapses');
$log = -s $node->logfile;
is(sql_as('worker_role', q{SELECT sync_guard.reap_stale_syncs()}), '0', 'a stranger may not fire deferred triggers as their owner');
until_closed('thief.deferred', 7, 'and the worker closes the run');
is(sql(q{SELECT verdict, path, role FROM sync_guard.reaped_syncs WHERE relation_name = 'thief.deferred' ORDER BY reaping DESC LIMIT 1}), 'heartbeat_lost|worker|thief',
	'by its own evidence, in the owner\'s name');
nothing_gained('handed on', $log, 'deferred');

# ---- who sees what, and whose token works ----------------------------------------------------------------------------------
sql(q{
	CREATE ROLE reader LOGIN; CREATE ROLE hidden_from LOGIN; CREATE ROLE nobody LOGIN; CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
	CREATE TABLE secrets (id int PRIMARY KEY, sync_type text, status text, started_at timestamptz, who text);
	SELECT sync_guard.guard_table('secrets', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{sync_type}', exclusive => true);
	GRANT SELECT, INSERT, UPDATE ON secrets TO reader, hidden_from;
	ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
	ALTER ROLE reader BYPASSRLS;
	CREATE POLICY mine ON secrets USING (who = current_user)});
my $writer = $node->background_psql('postgres', on_error_stop => 1);
$writer->query_safe(q{BEGIN});
$writer->query_safe(q{INSERT INTO secrets VALUES (1, 'products', 'running', now(), 'nobody else')});
my $runs = q{SELECT count(*) FROM sync_guard.running_syncs WHERE relation = 'secrets'::regclass};
is(sql_as('reader', $runs), '1', 'an uncommitted run is shown to who may read the table');
is(sql_as('hidden_from', $runs), '0', 'not to whom row security applies');
is(sql_as('reader', q{SELECT sync_guard.sync_is_running('products', 'secrets')}), 't', 'it is running for the one');
is(sql_as('hidden_from', q{SELECT sync_guard.sync_is_running('products', 'secrets')}), 'f', 'and not for the other');
is(sql_as('nobody', $runs), '0', 'who may not read the table sees nothing');
$writer->query_safe('ROLLBACK');
$writer->quit;
for my $view ('tracked_runs', 'guard_memory')
{
	is(state_as($_, "SELECT count(*) FROM sync_guard.$view"), '42501', "$view is not for $_") for qw(nobody reader thief);
	is(state_as('watcher', "SELECT count(*) FROM sync_guard.$view"), '', "$view is for members of pg_monitor");
}

my ($key, $token) = split /\|/, sql_as('reader', q{SELECT * FROM sync_guard.start_sync('secrets', '{"id": 2, "sync_type": "orders"}')});
is(state_as('nobody', "SELECT sync_guard.heartbeat($token)"), '42501', 'a token in the hand of who has no right to the table: heartbeat');
is(state_as('nobody', "BEGIN; SELECT sync_guard.fence($token)"), '42501', 'fence');
is(state_as('nobody', "SELECT sync_guard.finish_sync($token, 'completed')"), '42501', 'finish_sync');
is(state_as('nobody', q{SELECT sync_guard.take_lease('secrets', '2')}), '42501', 'take_lease');
is(state_as('nobody', q{SELECT sync_guard.start_sync('secrets', '{"id": 3}')}), '42501', 'start_sync');
is(sql_as('nobody', q{SELECT sync_guard.worker_started('a', 'b')}), '0', 'worker_started is about nothing of his');
is(state_as('reader', "SELECT sync_guard.heartbeat($token)"), '', 'in the hand of who has, it works');
sql('REVOKE UPDATE ON secrets FROM reader');
is(state_as('reader', "SELECT sync_guard.finish_sync($token, 'completed')"), '42501', 'until the right is taken back');
is(sql('SELECT status FROM secrets WHERE id = 2'), 'running', 'the run goes on');

$node->stop;
done_testing();
