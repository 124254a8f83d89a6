# A guarded database dumped and restored: whole, in every format, into the same server and into another one, and its data
# alone. The copy is guarded as the original is: settings, limits, rules, journal, triggers.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('original', extension => 0);
my $dumps = PostgreSQL::Test::Utils::tempdir;
my $number = 0;

# run as a client of that server; returns what it printed on standard error
sub client
{
	my ($server, @command) = @_;
	local $ENV{PGHOST} = $server->host;
	local $ENV{PGPORT} = $server->port;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run(\@command, '>', \$out, '2>', \$err);
	ok($ok, "$command[0] $command[1] ends well") or diag($err);
	return $err;
}

sub sql { return $_[0]->safe_psql($_[1], $_[2]); }

# A database with what may be in one: an owner's table, a partitioned one, quoted names, a pause, a disabled trigger, and a
# journal with lines on a table that is gone.
sql($node, 'postgres', q{CREATE DATABASE app; CREATE ROLE app_owner LOGIN; CREATE ROLE "Other ""role" LOGIN});
sql($node, 'app', q{
	CREATE EXTENSION emag_sync_guard;
	CREATE SCHEMA app AUTHORIZATION app_owner;
	CREATE SCHEMA "Odd ""one""" AUTHORIZATION "Other ""role";
	SET ROLE app_owner;
	CREATE TYPE app.state AS ENUM ('running', 'completed', 'failed');
	CREATE TABLE app.runs (
		id uuid PRIMARY KEY, sync_type varchar(50) NOT NULL, account_type varchar(10), status varchar(50) NOT NULL
			CONSTRAINT known_status CHECK (status::text IN ('running', 'completed', 'failed')),
		started_at timestamp NOT NULL, completed_at timestamp, duration_seconds float, errors jsonb, updated_at timestamp);
	CREATE INDEX ON app.runs (status);
	CREATE FUNCTION app.stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.updated_at := now(); RETURN NEW; END';
	CREATE TRIGGER stamp BEFORE UPDATE ON app.runs FOR EACH ROW EXECUTE FUNCTION app.stamp();
	CREATE TABLE app.parts (id bigint, status app.state NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL, PRIMARY KEY (id))
		PARTITION BY RANGE (id);
	CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES FROM (0) TO (10);
	CREATE TABLE app.parts_2 PARTITION OF app.parts FOR VALUES FROM (10) TO (100) PARTITION BY RANGE (id);
	CREATE TABLE app.parts_2_1 PARTITION OF app.parts_2 FOR VALUES FROM (10) TO (20);
	CREATE TABLE app.attached (id bigint NOT NULL, status app.state NOT NULL DEFAULT 'running', started_at timestamptz NOT NULL);
	CREATE TABLE app.gone (id int PRIMARY KEY, status app.state, started_at timestamptz);
	SET ROLE "Other ""role";
	CREATE TABLE "Odd ""one"""."Sync Logs" ("Id" serial PRIMARY KEY, "Status" text CHECK ("Status" IN ('In_Progress', 'Done', 'Failed')),
		"startedAt" timestamptz, "finishedAt" timestamptz);
	RESET ROLE;
	SELECT sync_guard.guard_table('app.runs', scope_columns => '{sync_type,account_type}', exclusive => true,
		scope_overlaps => '{"account_type": {"both": ["main", "fbe"]}}', time_zone => 'Europe/Bucharest', late_finish => 'accept', max_age => '3 days');
	SELECT sync_guard.guard_table('app.parts');
	ALTER TABLE app.parts ATTACH PARTITION app.attached FOR VALUES FROM (100) TO (200);
	SELECT sync_guard.guard_table('"Odd ""one"""."Sync Logs"');
	SELECT sync_guard.guard_table('app.gone');
	SELECT sync_guard.set_limit('app.runs', '{"sync_type": "orders"}', max_silence => '5 minutes', max_stall => '1 day');
	SELECT sync_guard.set_limit('app.runs', '{"account_type": "fbe", "sync_type": "orders"}', max_age => '2 hours');
	SELECT sync_guard.allow_transition('app.runs', 'failed', 'running');
	SELECT sync_guard.allow_transition('app.parts', 'completed', 'failed', false);
	INSERT INTO app.runs (id, sync_type, account_type, status, started_at, errors) VALUES
		('00000000-0000-0000-0000-000000000001', 'products', 'main', 'running', '2020-01-01', '["before", {"a": 1}]'),
		('00000000-0000-0000-0000-000000000002', 'orders', 'fbe', 'running', '2020-01-01', NULL);
	INSERT INTO app.parts VALUES (1, 'running', '2020-01-01'), (11, 'running', '2020-01-01'), (111, 'running', '2020-01-01');
	INSERT INTO "Odd ""one"""."Sync Logs" ("Status", "startedAt") VALUES ('In_Progress', '2020-01-01');
	INSERT INTO app.gone VALUES (1, 'running', '2020-01-01');
	SELECT sync_guard.reap_stale_syncs();
	UPDATE app.runs SET status = 'completed' WHERE id = '00000000-0000-0000-0000-000000000001';
	SELECT sync_guard.reap_stale_syncs(relation => 'app.runs');	-- which counts the mistake: an alert
	SELECT sync_guard.overturn_reap('app.parts', 1, 'completed');
	DROP TABLE app.gone;
	INSERT INTO app.runs (id, sync_type, account_type, status, started_at) VALUES
		('00000000-0000-0000-0000-000000000003', 'products', 'main', 'running', '2020-01-01'),
		('00000000-0000-0000-0000-000000000004', 'products', 'fbe', 'running', (now() AT TIME ZONE 'Europe/Bucharest'));
	SELECT sync_guard.set_alert_rule('app.runs', 'long_running', '{"sync_type": "orders"}', raise_above => '10 minutes');
	SELECT sync_guard.set_alert_rule(NULL, 'failure_rate', min_sample => 3);
	INSERT INTO sync_guard.observed_gaps VALUES ('app.runs', '00000000-0000-0000-0000-000000000001', now(), '4 minutes', NULL);
	SELECT sync_guard.pause_reaping('"Odd ""one"""."Sync Logs"');
	ALTER TABLE app.parts_1 DISABLE TRIGGER zzz_emag_sync_guard_watch;
	GRANT EXECUTE ON FUNCTION sync_guard.reap_stale_syncs TO app_owner;
	REVOKE EXECUTE ON FUNCTION sync_guard.purge_journal FROM PUBLIC});

# All that a copy must have, without numbers that differ from database to database.
my %whole = (
	settings => q{SELECT to_jsonb(s) FROM sync_guard.settings AS s ORDER BY relation_name},
	limits => q{SELECT to_jsonb(l) FROM sync_guard.scope_limits AS l ORDER BY relation::text, scope},
	rules => q{SELECT to_jsonb(r) FROM sync_guard.transition_rules AS r ORDER BY relation::text, from_status},
	journal => q{SELECT to_jsonb(j) - 'relation', to_regclass(relation_name) = relation FROM sync_guard.journal AS j ORDER BY id},
	alert_settings => q{SELECT to_jsonb(a) FROM sync_guard.alert_settings AS a ORDER BY rule, relation::text},
	gaps => q{SELECT to_jsonb(o) FROM sync_guard.observed_gaps AS o ORDER BY run_key},
	alert_log => q{SELECT to_jsonb(a) - 'relation', to_regclass(relation_name) = relation FROM sync_guard.alert_log AS a ORDER BY id},
	triggers => q{
		SELECT tgrelid::regclass, tgname, tgenabled, tgparentid <> 0, pg_get_triggerdef(t.oid),
			   (SELECT count(*) FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND objid = t.oid AND deptype = 'x')
		FROM pg_trigger AS t WHERE NOT tgisinternal ORDER BY tgrelid::regclass::text, tgname},
	rights => q{SELECT oid::regprocedure, proacl FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace ORDER BY oid::regprocedure::text},
	rows => q{SELECT to_jsonb(r) FROM app.runs AS r ORDER BY id},
	members => q{SELECT type, identity FROM pg_depend, pg_identify_object(classid, objid, objsubid)
				 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
				   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'emag_sync_guard') ORDER BY 1, 2});
my %original = map { $_ => sql($node, 'app', $whole{$_}) } keys %whole;
my $last_line = sql($node, 'app', 'SELECT max(id) FROM sync_guard.journal');
cmp_ok($last_line, '>', 5, 'there is a journal to be restored');
like($original{$_}, qr/^\{/, "there are $_ to be restored") for qw(alert_settings gaps alert_log);
like($original{triggers}, qr/^app\.runs\|zzz_emag_sync_guard_watch\|O\|f\|.*\|1$/m, 'the triggers depend on the extension');
like($original{triggers}, qr/^app\.parts_1\|zzz_emag_sync_guard_watch\|D\|t\|/m, 'one of a partition is disabled');

sub is_whole
{
	my ($server, $database, $how) = @_;
	is(sql($server, $database, $whole{$_}), $original{$_}, "$how: $_") for sort keys %whole;
	return;
}

# It guards as the original does, and its journal goes on.
sub works
{
	my ($server, $database, $how) = @_;
	is(sql($server, $database, q{SELECT sync_guard.sync_is_running('products', 'app.runs'), sync_guard.scope_is_running('{"account_type": "main"}', 'app.runs')}),
		't|f', "$how: it tells what runs");
	is(sql($server, $database, q{SELECT sync_guard.reap_stale_syncs(relation => 'app.runs')}), '1', "$how: it reaps");
	is(sql($server, $database, q{SELECT min(id) > } . $last_line . q{ FROM sync_guard.journal WHERE run_key LIKE '%3'}),
		't', "$how: the numbers of the journal go on");
	my ($status, undef, $stderr) = $server->psql($database,
		q{INSERT INTO app.runs (id, sync_type, account_type, status, started_at) VALUES (gen_random_uuid(), 'products', 'both', 'running', now())},
		extra_params => ['-v', 'VERBOSITY=verbose']);
	like($stderr, qr/ERROR:  SY002/, "$how: scopes are exclusive");
	is(sql($server, $database, q{SELECT count(*) FROM sync_guard.guard_health WHERE problem IN ('settings_orphaned', 'check_failed', 'settings_do_not_fit')}),
		'0', "$how: nothing of it is lost");
	like($server->safe_psql($database, q{SELECT detail FROM sync_guard.guard_health WHERE problem = 'trigger_problem'}),
		qr/^trigger zzz_emag_sync_guard_watch is disabled$/, "$how: what was wrong with it is wrong still, no more");
	sql($server, $database, 'DROP EXTENSION emag_sync_guard');
	is(sql($server, $database, q{SELECT tgname FROM pg_trigger WHERE NOT tgisinternal}), 'stamp',
		"$how: DROP EXTENSION takes the guard's triggers along");
	return;
}

my $other = guard_node('other_server', extension => 0);
# Numbers of relations differ there, also where the journal has that of the table that is gone.
sql($other, 'postgres', q{SELECT lo_create(0) FROM generate_series(1, 1000)});
sql($other, 'postgres', q{CREATE ROLE app_owner LOGIN; CREATE ROLE "Other ""role" LOGIN});

client($node, 'pg_dump', '-Fc', '-f', "$dumps/custom", 'app');
client($node, 'pg_dump', '-Fd', '-j2', '-f', "$dumps/directory", 'app');
client($node, 'pg_dump', '-Fp', '-f', "$dumps/plain.sql", 'app');

for my $server ($node, $other)
{
	my $where = $server == $node ? 'same server' : 'other server';
	sql($server, 'postgres', "CREATE DATABASE copy_$_") for qw(custom directory plain);
	is(client($server, 'pg_restore', '--exit-on-error', '-d', 'copy_custom', "$dumps/custom"), '', "$where, custom: without a word");
	is(client($server, 'pg_restore', '-j2', '-d', 'copy_directory', "$dumps/directory"), '', "$where, directory, in parallel: without a word");
	is(client($server, 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-d', 'copy_plain', '-f', "$dumps/plain.sql"), '', "$where, plain: without a word");
	for my $database (qw(copy_custom copy_directory copy_plain))
	{
		is_whole($server, $database, "$where, $database");
		works($server, $database, "$where, $database");
	}
}

# A dump of a copy is the dump of the original.
sql($other, 'postgres', 'CREATE DATABASE twice');
client($other, 'pg_restore', '-d', 'twice', "$dumps/custom");
client($other, 'pg_dump', '-Fp', '-f', "$dumps/again.sql", 'twice');
# (But for the random key of \restrict, and the time in comments.)
my @texts = map { (slurp_file($_) =~ s/^\\(un)?restrict .*$//mgr) =~ s/^-- (Dumped|Started|Completed).*$//mgr } "$dumps/plain.sql", "$dumps/again.sql";
my ($before, $after) = map { my %lines = map { $_ => 1 } split(/\n/, $_); \%lines } @texts;
is_deeply([ sort grep { !$after->{$_} } keys %$before ], [], 'a dump of a copy has all that the dump of the original has');
is_deeply([ sort grep { !$before->{$_} } keys %$after ], [], 'and nothing else');

# Its data alone, into a database that has the extension and the tables: settings, limits, rules and journal are there; the
# triggers, which are no data, are made by repair_triggers, as guard_health says.
client($node, 'pg_dump', '-Fc', '--schema-only', '-f', "$dumps/schema", 'app');
sql($other, 'postgres', 'CREATE DATABASE data_only');
client($other, 'pg_restore', '-d', 'data_only', "$dumps/schema");
sql($other, 'data_only', q{SELECT sync_guard.unguard_table(t) FROM unnest('{app.runs,app.parts,"\"Odd \"\"one\"\"\".\"Sync Logs\""}'::regclass[]) AS t});
client($node, 'pg_dump', '-Fc', '--data-only', '-f', "$dumps/data", 'app');
client($other, 'pg_restore', '--exit-on-error', '-d', 'data_only', "$dumps/data");
is(sql($other, 'data_only', $whole{$_}), $original{$_}, "data only: $_") for qw(settings limits rules alert_settings gaps alert_log journal rows);
is(sql($other, 'data_only', q{SELECT count(*), min(hint) FROM sync_guard.guard_health WHERE problem = 'trigger_problem' AND relation = 'app.runs'::regclass}),
	q{5|Mend it: SELECT sync_guard.repair_triggers('app.runs');}, 'data only: guard_health says that the triggers are missing');
is(sql($other, 'data_only', q{SELECT sync_guard.repair_triggers('app.runs') + sync_guard.repair_triggers('app.parts')
							  + sync_guard.repair_triggers('"Odd ""one"""."Sync Logs"')}), '15', 'data only: repair_triggers makes them');
sql($other, 'data_only', 'ALTER TABLE app.parts_1 DISABLE TRIGGER zzz_emag_sync_guard_watch');
works($other, 'data_only', 'data only');

# Into tables that are guarded already, with their triggers: the application's rows come as they are where the guard is
# switched off for the restoring session, though the old runs among them would not be let in.
sql($other, 'postgres', 'CREATE DATABASE guarded');
client($other, 'pg_restore', '-d', 'guarded', "$dumps/schema");
sql($other, 'guarded', q{ALTER DATABASE guarded SET emag_sync_guard.enabled = off});
client($other, 'pg_restore', '--exit-on-error', '-d', 'guarded', "$dumps/data");
sql($other, 'guarded', q{ALTER DATABASE guarded RESET emag_sync_guard.enabled});
is_whole($other, 'guarded', 'data only, guarded already');
works($other, 'guarded', 'data only, guarded already');

# The extension is no part of a dump of the application's schema alone: its role needs no right to the guard's tables.
{
	local $ENV{PGUSER} = 'app_owner';
	sql($node, 'app', q{GRANT SELECT ON ALL TABLES IN SCHEMA app TO app_owner});
	client($node, 'pg_dump', '-n', 'app', '-f', "$dumps/app.sql", 'app');
}
unlike(slurp_file("$dumps/app.sql"), qr/COPY sync_guard|CREATE EXTENSION/, 'a dump of one schema has nothing of the guard');
sql($other, 'postgres', 'CREATE DATABASE without');
{
	# Without the extension the triggers are not restored, the rest is.
	local $ENV{PGHOST} = $other->host;
	local $ENV{PGPORT} = $other->port;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'psql', '-Xq', '-d', 'without', '-f', "$dumps/app.sql" ], '>', \$out, '2>', \$err);
	like($err, qr/schema "sync_guard" does not exist/, 'restored where there is no extension, its triggers are missed');
	is(sql($other, 'without', 'SELECT count(*) FROM app.runs'), sql($node, 'app', 'SELECT count(*) FROM app.runs'), 'and nothing else is');
}

# A dump of everything asks for the right to read everything, also the guard's tables, which nobody has by himself:
# pg_read_all_data gives it, -N sync_guard leaves them out.
sql($node, 'app', q{GRANT USAGE ON SCHEMA "Odd ""one""" TO app_owner;
	GRANT SELECT ON ALL TABLES IN SCHEMA "Odd ""one""" TO app_owner; GRANT SELECT ON ALL SEQUENCES IN SCHEMA "Odd ""one""" TO app_owner});
{
	local $ENV{PGUSER} = 'app_owner';
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	my ($out, $err) = ('', '');
	ok(!IPC::Run::run([ 'pg_dump', '-f', '/dev/null', 'app' ], '>', \$out, '2>', \$err), 'who reads the tables alone cannot dump the whole');
	# (Up to 17 a sequence is read by a query of its own, whose error says so.)
	like($err, qr/permission denied for .*(journal|alert_log)|failed to get data for sequence "(journal|alert_log)_id_seq"; user may lack SELECT/, 'since the journal is not his to read');
	client($node, 'pg_dump', '-N', 'sync_guard', '-f', "$dumps/without.sql", 'app');
}
like(slurp_file("$dumps/without.sql"), qr/CREATE EXTENSION IF NOT EXISTS emag_sync_guard/, 'without its schema the extension is dumped');
unlike(slurp_file("$dumps/without.sql"), qr/^COPY sync_guard/m, 'and its data is not');
sql($node, 'app', q{GRANT pg_read_all_data TO app_owner});
{
	local $ENV{PGUSER} = 'app_owner';
	client($node, 'pg_dump', '-Fc', '-f', "$dumps/by_reader", 'app');
}
sql($node, 'postgres', 'CREATE DATABASE by_reader');
client($node, 'pg_restore', '--exit-on-error', '-d', 'by_reader', "$dumps/by_reader");
is_whole($node, 'by_reader', 'dumped by a member of pg_read_all_data');

$node->stop;
$other->stop;
done_testing();
