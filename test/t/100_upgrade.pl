# From each released version: ALTER EXTENSION UPDATE gives what CREATE EXTENSION gives, by all that the catalogs say of it
# (test/perl/ExtensionCatalog.pm), keeps what is stored, stops nobody who writes meanwhile, and calls nothing that others
# have put on the search path. Until it is run, the library of this version serves the objects of the old one.
use strict;
use warnings;

use ClientLoad;
use ExtensionCatalog;
use File::Basename;
use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $tree = dirname(__FILE__) . '/../..';
my $node = guard_node('upgrade', extension => 0, preload => ['emag_sync_guard'], conf => 'emag_sync_guard.restart_grace = 0');

sub sql { return $node->safe_psql($_[0], $_[1]); }

# ---- the versions -------------------------------------------------------------------------------------------------------------
my $current = sql('postgres', q{SELECT default_version FROM pg_available_extensions WHERE name = 'emag_sync_guard'});
my @released = split /\n/, sql('postgres', qq{
	SELECT version FROM pg_available_extension_versions WHERE name = 'emag_sync_guard' AND version <> '$current' ORDER BY version});
is($released[0], '1.0.0', 'the first released version can be installed');
for my $version (@released)
{
	like(sql('postgres', qq{SELECT path FROM pg_extension_update_paths('emag_sync_guard') WHERE source = '$version' AND target = '$current'}),
		qr/^\Q$version\E--(.*--)?\Q$current\E$/, "there is a way from $version to $current");
}
my @ignored = grep { /emag_sync_guard--/ } split /\n/, slurp_file("$tree/.gitignore");
is_deeply(\@ignored, ["/sql/emag_sync_guard--$current.sql"], 'git ignores the install script that is made, and no frozen one');
my @headings = map { /^## (\S+)/ ? $1 : () } split /\n/, slurp_file("$tree/CHANGELOG.md");
is_deeply(\@headings, [ $current, reverse @released ], 'the changelog has a heading for each version, the newest first');

# ---- the same objects ---------------------------------------------------------------------------------------------------------
# What is in the first list alone, and in the second alone.
sub differences
{
	my ($first, $second) = @_;
	my %first = map { $_ => 1 } @$first;
	my %second = map { $_ => 1 } @$second;
	my @differences = (map({ "without: $_" } grep { !$second{$_} } @$first), map({ "added: $_" } grep { !$first{$_} } @$second));
	return \@differences;
}

sql('postgres', 'CREATE DATABASE fresh');
sql('fresh', 'CREATE EXTENSION emag_sync_guard');
my @fresh = extension_lines($node, 'fresh');
cmp_ok(scalar @fresh, '>', 1500, 'the catalogs have ' . scalar(@fresh) . ' lines of a fresh install');
is_deeply([ grep { /does not compare/ } @fresh ], [], 'of catalogs that this test knows');
for my $version (@released)
{
	sql('postgres', "CREATE DATABASE from_$version" =~ s/\./_/gr);
	my $database = "from_$version" =~ s/\./_/gr;
	sql($database, "CREATE EXTENSION emag_sync_guard VERSION '$version'; ALTER EXTENSION emag_sync_guard UPDATE");
	is(sql($database, q{SELECT extversion FROM pg_extension WHERE extname = 'emag_sync_guard'}), $current, "$version is upgraded");
	is_deeply(differences(\@fresh, [ extension_lines($node, $database) ]), [], "upgraded from $version it has what a fresh install has");
	is(sql($database, q{SELECT count(*) FROM sync_guard.guard_health WHERE severity = 'error'}), '0', 'and is well');
	sql('postgres', "DROP DATABASE $database");
}

# That the comparison sees a difference of each kind.
my @changes = (
	'REVOKE EXECUTE ON FUNCTION sync_guard.heartbeat FROM PUBLIC', 'GRANT SELECT ON sync_guard.journal TO PUBLIC', 'GRANT SELECT (id) ON sync_guard.journal TO PUBLIC',
	q{COMMENT ON FUNCTION sync_guard.fence IS 'another'}, q{COMMENT ON COLUMN sync_guard.journal.id IS 'another'}, 'COMMENT ON TABLE sync_guard.settings IS NULL',
	'ALTER FUNCTION sync_guard.heartbeat STABLE', 'ALTER FUNCTION sync_guard.heartbeat STRICT', 'ALTER FUNCTION sync_guard.heartbeat PARALLEL SAFE',
	'ALTER FUNCTION sync_guard.heartbeat COST 2', 'ALTER FUNCTION sync_guard.heartbeat SET work_mem = 100', 'ALTER FUNCTION sync_guard.heartbeat SECURITY DEFINER',
	'ALTER FUNCTION sync_guard.heartbeat OWNER TO somebody', 'ALTER TABLE sync_guard.journal OWNER TO somebody', 'ALTER EVENT TRIGGER emag_sync_guard_forget_dropped DISABLE',
	'ALTER TABLE sync_guard.journal ADD COLUMN x int', 'ALTER TABLE sync_guard.observed_gaps REPLICA IDENTITY DEFAULT', 'ALTER TABLE sync_guard.observed_gaps ALTER longest_silence DROP NOT NULL', 'ALTER TABLE sync_guard.observed_gaps ALTER run_key TYPE varchar',
	'ALTER TABLE sync_guard.journal ALTER false_positive SET DEFAULT true', 'ALTER TABLE sync_guard.journal DROP CONSTRAINT journal_event_check',
	'CREATE INDEX x ON sync_guard.journal (role)', 'DROP INDEX sync_guard.journal_at', 'ALTER INDEX sync_guard.journal_at RENAME TO x',
	'ALTER SEQUENCE sync_guard.journal_id_seq CACHE 2', 'ALTER TABLE sync_guard.settings DISABLE TRIGGER ALL', 'ALTER VIEW sync_guard.alerts SET (security_barrier = on)',
	'ALTER EXTENSION emag_sync_guard DROP VIEW sync_guard.alerts', 'CREATE FUNCTION sync_guard.x() RETURNS int LANGUAGE sql RETURN 1; ALTER EXTENSION emag_sync_guard ADD FUNCTION sync_guard.x()',
	q{UPDATE pg_extension SET extconfig = extconfig[2:], extcondition = extcondition[2:] WHERE extname = 'emag_sync_guard'},
	q{UPDATE pg_extension SET extcondition[1] = 'WHERE false' WHERE extname = 'emag_sync_guard'}, 'DELETE FROM pg_init_privs',
	q{UPDATE pg_proc SET prosrc = prosrc || 'x' WHERE oid = 'sync_guard.fence'::regproc}, q{UPDATE pg_index SET indisunique = NOT indisunique WHERE indexrelid = 'sync_guard.leases_open'::regclass},
	q{UPDATE pg_proc SET proargnames[1] = 'x' WHERE oid = 'sync_guard.fence'::regproc});
sql('postgres', 'CREATE ROLE somebody');
my $digest = 'SELECT md5(string_agg(line, chr(10))) FROM (' . catalog_query() . ') AS t (line)';
my @digests = split /\n/, sql('fresh', "SET client_min_messages = error; SET search_path = pg_catalog; $digest; " . join(' ', map { "BEGIN; $_; $digest; ROLLBACK;" } @changes));
my $digest_of_fresh = shift @digests;
is(scalar(@digests), scalar(@changes), 'the comparison is tried on changes of ' . scalar(@changes) . ' kinds');
is_deeply([ map { $changes[$_] } grep { $digests[$_] eq $digest_of_fresh } 0 .. $#digests ], [], 'and sees each');

# ---- what is stored, and who is at work ---------------------------------------------------------------------------------------
my $old = $released[0];
sql('postgres', "CREATE EXTENSION emag_sync_guard VERSION '$old'");
make_run_table($node, $_) for qw(runs busy);
sql('postgres', q{
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true, late_finish => 'accept', max_age => '3 days');
	SELECT sync_guard.guard_table('busy', time_zone => 'UTC');
	SELECT sync_guard.set_limit('runs', '{"sync_type": "orders"}', max_silence => '5 minutes');
	SELECT sync_guard.allow_transition('runs', 'failed', 'running');
	SELECT sync_guard.set_alert_rule('runs', 'long_running', '{"sync_type": "orders"}', raise_above => '10 minutes');
	SELECT sync_guard.pause_reaping('busy', '2100-01-01');
	INSERT INTO busy (sync_type) SELECT 'x' FROM generate_series(1, 8);
	INSERT INTO sync_guard.observed_gaps VALUES ('runs', '1', now(), '4 minutes', NULL)});
start_run($node, 'runs', $_, '2 hours') for qw(products orders);
sql('postgres', q{SELECT sync_guard.reap_stale_syncs()});
sql('postgres', q{UPDATE runs SET status = 'completed' WHERE sync_type = 'products'});
sql('postgres', q{SELECT sync_guard.reap_stale_syncs()});

# Everything in the extension's own tables; what writers of `busy` leave in none of them.
my $tables = sql('postgres', q{
	SELECT string_agg(format('SELECT %L, (SELECT jsonb_agg(to_jsonb(t) ORDER BY to_jsonb(t)::text) FROM sync_guard.%I AS t)', relname, relname), ' UNION ALL ')
	FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind = 'r'});
my $session = $node->background_psql('postgres', on_error_stop => 1);
$session->set_query_timer_restart();
my ($key, $token) = split /\|/, $session->query_safe(q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "bound"}', bind_session => true)});
my ($beating_key, $beating) = split /\|/, $session->query_safe(q{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "beating"}', ttl => '1 hour')});
my $open = $node->background_psql('postgres', on_error_stop => 1);
my $uncommitted = $open->query_safe(q{BEGIN; INSERT INTO runs (sync_type) VALUES ('open') RETURNING id});
my $triggers = q{SELECT tgrelid::regclass, tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE 'zzz%' ORDER BY 1, 2};
my %before = map { $_ => sql('postgres', $_) } $tables, $triggers;
like($before{$tables}, qr/^\Q$_\E\|\[/m, "$_ has lines") for qw(settings scope_limits transition_rules journal leases alert_settings observed_gaps);

# The application's writes and readers, all the time, while the objects are exchanged.
my $load = start_load($node, q{
	\set id random(1, 8)
	UPDATE busy SET processed_items = processed_items + 1 WHERE id = :id;
	INSERT INTO busy (sync_type) VALUES ('y') RETURNING id \gset new_
	UPDATE busy SET status = 'completed' WHERE id = :new_id;
	SELECT sync_guard.sync_is_running('x', 'busy') AS running \gset
}, clients => 4, seconds => 3);
sql('postgres', q{SET lock_timeout = '10s'; ALTER EXTENSION emag_sync_guard UPDATE});
my $seen = finish_load($load);
diag("upgraded while $seen->{done} transactions wrote, the longest took $seen->{longest} ms");
cmp_ok($seen->{done}, '>', 100, 'who writes meanwhile is let write');
is(sql('postgres', $tables), $before{$tables}, 'all that was stored is as it was');
is(sql('postgres', $triggers), $before{$triggers}, 'and the triggers on the guarded tables');
is(sql('postgres', q{SELECT string_agg(problem || coalesce(detail, ''), ', ') FROM sync_guard.guard_health WHERE severity = 'error' OR problem = 'trigger_problem'}), '',
	'guard_health has nothing to say of it');
is_deeply(differences(\@fresh, [ extension_lines($node, 'postgres') ]), [], 'it has what a fresh install has');
is($session->query_safe("SELECT sync_guard.heartbeat($beating, 5)"), 't', 'a token of before is good');
is($session->query_safe("SELECT sync_guard.finish_sync($beating, 'completed')"), '', 'to finish, too');
$open->query_safe('COMMIT');
is(sql('postgres', qq{SELECT string_agg(run_key, ' ' ORDER BY run_key::int) FROM sync_guard.running_syncs WHERE relation = 'runs'::regclass}), "$key $uncommitted",
	'the runs that were live are');
kill 'KILL', $session->{run}->{KIDS}[0]{PID};
ok($node->poll_query_until('postgres', "SELECT status = 'failed' FROM runs WHERE id = $key"), 'and a session that was bound before is missed when it dies');
is(sql('postgres', qq{SELECT verdict || ' ' || path FROM sync_guard.reaped_syncs WHERE run_key = '$key'}), 'session_gone worker', 'as ever');
$open->quit;

# ---- the new library and the old objects --------------------------------------------------------------------------------------
# Everything that can be called or read answers with the same kind of answer as where the objects are new.
my $everything = slurp_file("$tree/test/sql/fixtures/call_everything.sql");
my %kinds;
for my $version ($old, $current)
{
	my $database = "serves_$version" =~ s/\./_/gr;
	sql('postgres', "CREATE DATABASE $database");
	sql($database, "CREATE EXTENSION emag_sync_guard VERSION '$version'");
	sql($database, $everything);
	sql($database, q{
		CREATE TABLE runs (id bigint PRIMARY KEY, sync_type text NOT NULL DEFAULT 'a', status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')),
			started_at timestamptz NOT NULL DEFAULT now(), completed_at timestamptz, errors jsonb, processed_items integer);
		SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', done_column => 'processed_items');
		INSERT INTO runs (id) VALUES (4);
		INSERT INTO runs (id, sync_type, started_at) VALUES (5, 'b', '2020-01-01'), (6, 'c', '2020-01-01')});
	is(sql($database, q{UPDATE runs SET status = 'completed' WHERE id = 6; SELECT sync_guard.reap_stale_syncs()}), '1', "$version: it reaps");
	is(sql($database, q{SELECT status, completed_at IS NOT NULL, jsonb_array_length(errors) FROM runs WHERE id >= 5 ORDER BY id}), "failed|t|1\ncompleted|t|", "$version: and guards");
	my %answers = map { split /\|/, $_, 2 } split /\n/, sql($database, q{
		SET client_min_messages = error;
		SELECT what, everything.kind(everything.answer(statement)) FROM everything.statements('runs', '4', 'bigint')});
	cmp_ok(scalar keys %answers, '>', 100, "$version: " . scalar(keys %answers) . ' calls answer');
	is_deeply([ grep { $answers{$_} =~ /^(XX|42883|42P01|42703|58)/ } sort keys %answers ], [], "$version: none with an error that it must not have");
	$kinds{$version} = \%answers;
}
is_deeply([ map { "$_: $kinds{$old}{$_}, $kinds{$current}{$_}" } grep { exists $kinds{$current}{$_} && $kinds{$old}{$_} ne $kinds{$current}{$_} } sort keys %{ $kinds{$old} } ],
	[], 'they answer alike');

# ---- a hostile path -----------------------------------------------------------------------------------------------------------
# What the script of an upgrade may call by name, in a schema that comes first on the path of who upgrades, and in public.
sql('postgres', "CREATE DATABASE planted");
sql('planted', qq{
	CREATE EXTENSION emag_sync_guard VERSION '$old';
	CREATE TABLE public.trap (what text);
	CREATE SCHEMA first;
	CREATE FUNCTION public.spring(what text) RETURNS void LANGUAGE sql AS 'INSERT INTO public.trap VALUES (\$1)'});
my @names = qw(format replace array_agg cardinality unnest to_regclass pg_extension_config_dump set_config current_setting count now concat_ws quote_ident has_table_privilege);
for my $schema (qw(first public))
{
	sql('planted', qq{
		SET search_path = pg_catalog;
		DO \$do\$
		DECLARE
			f record;
		BEGIN
			FOR f IN SELECT name, type FROM unnest('{@{[ join ',', @names ]}}'::text[]) AS name, unnest('{text,name,regclass,oid,integer,bigint,jsonb,text[],interval}'::text[]) AS type LOOP
				EXECUTE format('CREATE FUNCTION $schema.%I(%s) RETURNS text LANGUAGE plpgsql AS \$f\$BEGIN PERFORM public.spring(%L); RETURN NULL; END\$f\$', f.name, f.type, f.name);
				EXECUTE format('CREATE FUNCTION $schema.%I(%s, text) RETURNS text LANGUAGE plpgsql AS \$f\$BEGIN PERFORM public.spring(%L); RETURN NULL; END\$f\$', f.name, f.type, f.name);
			END LOOP;
			FOR f IN SELECT o, l::text, r::text, row_number() OVER () AS n FROM unnest('{=,<>,>,||,->>,~}'::text[]) AS o, unnest('{text,name,regclass,oid,integer,jsonb}'::regtype[]) AS l,
						 unnest('{text,name,regclass,oid,integer,jsonb}'::regtype[]) AS r LOOP
				EXECUTE format('CREATE FUNCTION $schema.%I(%s, %s) RETURNS boolean LANGUAGE plpgsql AS \$f\$BEGIN PERFORM public.spring(%L); RETURN NULL; END\$f\$', 'op_' || f.n, f.l, f.r, f.o);
				EXECUTE format('CREATE OPERATOR $schema.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = $schema.%I)', f.o, f.l, f.r, 'op_' || f.n);
			END LOOP;
			FOR f IN SELECT unnest('{settings,journal,leases,scope_limits,pg_class,pg_proc,pg_extension}'::text[]) AS name LOOP
				EXECUTE format('CREATE TABLE $schema.%I (i integer DEFAULT length(public.spring(%L)::pg_catalog.text))', f.name, f.name);
			END LOOP;
		END \$do\$});
}
sql('planted', 'SET search_path = first, public, pg_catalog; ALTER EXTENSION emag_sync_guard UPDATE');
is(sql('planted', 'SELECT count(*) FROM public.trap'), '0', 'an upgrade calls nothing that others planted');
is_deeply(differences(\@fresh, [ extension_lines($node, 'planted') ]), [], 'and has what a fresh install has');
my @scripts = glob "$tree/sql/emag_sync_guard--*--*.sql";
is(scalar(@scripts), scalar(@released), 'there is a script for each step');
like(slurp_file($_), qr/\A\\echo Use "ALTER EXTENSION emag_sync_guard UPDATE.*\\quit$/m, basename($_) . ' is refused by psql') for @scripts;

# A session that has the old library, as a pool may have it where it is not preloaded, cannot run an upgrade whose objects
# need the new one: the whole of it fails, and what was there goes on.
my $extensions = `pg_config --sharedir` =~ s/\s+$//r . '/extension';
my $future = "$extensions/emag_sync_guard--$current--99.0.0.sql";
END { unlink $future if defined $future; }
append_to_file($future,
	q{CREATE FUNCTION sync_guard.of_the_future() RETURNS void LANGUAGE c AS 'MODULE_PATHNAME', 'emag_sync_guard_of_the_future';});
my (undef, undef, $stderr) = $node->psql('planted', q{ALTER EXTENSION emag_sync_guard UPDATE TO '99.0.0'}, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
unlink $future;
like($stderr, qr/ERROR:  42883: could not find function "emag_sync_guard_of_the_future" in file/, 'an upgrade to objects that the library does not have fails');
is_deeply(differences(\@fresh, [ extension_lines($node, 'planted') ]), [], 'and leaves all as it was');

$node->stop;
done_testing();
