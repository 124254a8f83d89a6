# crossing.pl OLD NEW: a guarded database with live data goes from one PostgreSQL to another, by dumps and by pg_upgrade in each
# of its modes, with the module preloaded in both. What it was guarded with is there afterwards, word for word, and works.
# (test/versions/cross starts it.)
use strict;
use warnings;

use File::Basename;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my ($old_version, $new_version) = @ARGV;
my %home = map { $_ => "/usr/lib/postgresql/$_" } $old_version, $new_version;
my $here = dirname(__FILE__);
my $dumps = PostgreSQL::Test::Utils::tempdir;

sub sql { return $_[0]->safe_psql($_[2] // 'app', $_[1]); }

# A server of that version, not started. As the old one may: without checksums, which 18 has unless told.
sub make_node
{
	my ($name, $version, %options) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name, install_path => $home{$version}, %options);
	$node->init(extra => $version >= 18 ? ['--no-data-checksums'] : []);
	$node->append_conf('postgresql.conf', qq{
		timezone = 'Europe/Bucharest'
		shared_preload_libraries = 'pg_cron,emag_sync_guard'
		cron.database_name = 'app'
		cron.host = '} . $node->host . qq{'
		emag_sync_guard.restart_grace = '1s'});
	return $node;
}

# run one of that version's programs against a server; returns what it printed on standard error
sub client
{
	my ($server, $version, $program, @arguments) = @_;
	local $ENV{PGHOST} = $server->host;
	local $ENV{PGPORT} = $server->port;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ "$home{$version}/bin/$program", @arguments ], '>', \$out, '2>', \$err);
	ok($ok, "$program of $version with " . join(' ', grep { !m{/} } @arguments)) or diag($out, $err);
	return $err;
}

# Some minor releases write into attoptions what a server of another major that is older than they refuses, dumped by
# whomever: no table made there can be carried over. Where that is so, it is said, and taken out of the original's catalog.
sub without_what_the_new_one_refuses
{
	my ($server) = @_;
	my $noted = sql($server, q{SELECT string_agg(DISTINCT substring(o FROM '^[^=]+'), ', ') FROM pg_attribute, unnest(attoptions) AS o});
	return if $noted eq '';
	my $probe = make_node('probe', $new_version);
	$probe->start;
	my ($status, undef, $said) = $probe->psql('postgres', "CREATE TABLE plain (i int); ALTER TABLE plain ALTER COLUMN i SET ($noted = 1)");
	$probe->stop;
	return if $status == 0;
	my $of = join ' to ', map { s/^.*?([0-9.]+).*$/$1/r } map { scalar `$home{$_}/bin/postgres --version` =~ s/\n//r } $old_version, $new_version;
	note("skipped: from $of PostgreSQL itself carries no table over (", $said =~ s/^.*?(?=ERROR)|\n.*//sgr, '); tried without');
	sql($server, q{SET allow_system_table_mods = on; UPDATE pg_attribute SET attoptions = NULL WHERE attoptions IS NOT NULL});
	return;
}

# ---- the original -----------------------------------------------------------------------------------------------------------
my $old = make_node('old', $old_version);
$old->start;
sql($old, q{CREATE ROLE app_owner LOGIN; CREATE ROLE "Other ""role" LOGIN; CREATE DATABASE app}, 'postgres');
# pg_cron looks for its database once in a while; a restart saves waiting for that.
$old->restart;
$old->safe_psql('app', slurp_file("$here/guarded.sql"));
without_what_the_new_one_refuses($old);

# (Its details have durations.)
my $health = q{SELECT problem, relation::text FROM sync_guard.guard_health ORDER BY 1, 2};
# What guard_health says of this database, which is by intention; there is a dead run that waits, too.
my @told = ('false_positives|app.parts', 'false_positives|app.runs', 'reaping_not_run|', 'reaping_paused|"Odd ""one"""."Sync Logs"');

# All that must be the same afterwards. (Row types are members of their own from 17 on.)
my %facts = (
	settings => q{SELECT to_jsonb(s) FROM sync_guard.settings AS s ORDER BY relation_name},
	limits => q{SELECT to_jsonb(l) FROM sync_guard.scope_limits AS l ORDER BY relation::text, scope},
	rules => q{SELECT to_jsonb(r) FROM sync_guard.transition_rules AS r ORDER BY relation::text, from_status},
	journal => q{SELECT to_jsonb(j) - 'relation', to_regclass(relation_name) = relation FROM sync_guard.journal AS j ORDER BY id},
	leases => q{SELECT to_jsonb(l) FROM sync_guard.leases AS l ORDER BY token},
	alert_settings => q{SELECT to_jsonb(a) FROM sync_guard.alert_settings AS a ORDER BY rule, relation::text},
	alert_log => q{SELECT to_jsonb(a) - 'relation', to_regclass(relation_name) = relation FROM sync_guard.alert_log AS a ORDER BY id},
	gaps => q{SELECT to_jsonb(o) FROM sync_guard.observed_gaps AS o ORDER BY run_key},
	triggers => q{
		SELECT tgrelid::regclass, tgname, tgenabled, tgparentid <> 0, pg_get_triggerdef(t.oid),
			   (SELECT count(*) FROM pg_depend WHERE classid = 'pg_trigger'::regclass AND objid = t.oid AND deptype = 'x')
		FROM pg_trigger AS t WHERE NOT tgisinternal AND tgrelid::regclass::text !~ '^cron\.' ORDER BY tgrelid::regclass::text, tgname},
	rights => q{SELECT oid::regprocedure, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(coalesce(proacl, acldefault('f', proowner))) AS a)
				FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace ORDER BY oid::regprocedure::text},
	members => q{SELECT type, identity FROM pg_depend, pg_identify_object(classid, objid, objsubid)
				 WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND type <> 'type'
				   AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'emag_sync_guard') ORDER BY 1, 2},
	runs => q{SELECT to_jsonb(r) FROM app.runs AS r ORDER BY id},
	parts => q{SELECT tableoid::regclass, to_jsonb(p) FROM app.parts AS p ORDER BY id},
	leased => q{SELECT to_jsonb(l) FROM app.leased AS l ORDER BY id},
	false_positives => q{SELECT count(*) FILTER (WHERE false_positive), count(*) FROM sync_guard.journal},
	schedule => q{SELECT schedule, command, database, jobname FROM cron.job},
	server_settings => q{SELECT setdatabase <> 0, setrole::regrole, unnest(setconfig) FROM pg_db_role_setting ORDER BY 1, 2, 3},
	health => $health);
my %original = map { $_ => sql($old, $facts{$_}) } keys %facts;
isnt($original{$_}, '', "the original has $_") for sort keys %facts;
is($original{health}, join("\n", 'dead_runs_not_closed|app.runs', @told), 'guard_health tells what was done to the original, and no more');
is($original{false_positives}, '2|8', 'its journal');
my $last_line = sql($old, 'SELECT max(id) FROM sync_guard.journal');
my $last_token = sql($old, 'SELECT max(token) FROM sync_guard.leases');
my %token = map { split /\|/ } split /\n/,
	sql($old, q{SELECT job, token FROM sync_guard.leases JOIN app.leased ON run_key = id::text});
is(join(' ', sort keys %token), 'alive bound dying finished', 'its leases');

# ---- what must hold on the other side -----------------------------------------------------------------------------------------
# A worker that holds its lease on the old server goes on here with the token that it has.
sub leases_work
{
	my ($server, $how) = @_;
	is(sql($server, "SELECT sync_guard.heartbeat($token{alive}, 8, 100)"), 't', "$how: a live worker's token is good");
	is(sql($server, "SELECT sync_guard.heartbeat($token{finished})"), 'f', "$how: that of a finished run is stale");
	is(sql($server, q{SELECT sync_guard.scope_is_running('{"job": "alive"}', 'app.leased')}), 't', "$how: its run is running");
	$server->poll_query_until('app', q{SELECT bool_or(scope ->> 'job' = 'dying') FROM sync_guard.stuck_syncs})
	  or die 'the run without a worker is not found dead';
	cmp_ok(sql($server, q{SELECT sync_guard.reap_stale_syncs(relation => 'app.leased')}), '>=', 1, "$how: a run without a worker is reaped");
	is(sql($server, q{SELECT status, verdict, end_reason, jsonb_typeof(evidence) FROM app.leased
			JOIN sync_guard.leases ON leases.run_key = leased.id::text JOIN sync_guard.journal AS j ON j.run_key = leased.id::text AND j.relation = 'app.leased'::regclass
			WHERE job = 'dying'}), 'failed|server_restarted|reaped|object', "$how: since the server has begun anew");
	is(sql($server, "SELECT sync_guard.heartbeat($token{dying})"), 'f', "$how: its token is stale");
	sql($server, "SELECT sync_guard.finish_sync($token{alive}, 'completed')");
	is(sql($server, q{SELECT status, ended_at IS NOT NULL FROM app.leased WHERE job = 'alive'}), 'completed|t', "$how: a live worker finishes");
	is(sql($server, qq{SELECT token > $last_token FROM sync_guard.start_sync('app.leased', '{"job": "new"}')}), 't', "$how: tokens go on growing");
	return;
}

# A session with a bound lease is terminated: the worker closes its run.
sub a_session_dies
{
	my ($server, $how) = @_;
	my $session = $server->background_psql('app', on_error_stop => 1);
	$session->query_safe(q{SELECT token FROM sync_guard.start_sync('app.leased', '{"job": "killed"}', bind_session => true)});
	sql($server, q{SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = x'6503'::int});
	ok($server->poll_query_until('app', q{SELECT status = 'failed' FROM app.leased WHERE job = 'killed'}), "$how: the run of a dead session is closed");
	is(sql($server, q{SELECT verdict, path FROM sync_guard.journal JOIN app.leased ON run_key = leased.id::text AND relation = 'app.leased'::regclass WHERE job = 'killed'}),
		'session_gone|worker', "$how: by the worker");
	$session->{run}->kill_kill;
	return;
}

sub is_whole
{
	my ($server, $how) = @_;
	is(sql($server, $facts{$_}), $original{$_}, "$how: $_") for sort keys %facts;
	return;
}

sub works
{
	my ($server, $how) = @_;
	is(sql($server, q{SELECT sync_guard.sync_is_running('products', 'app.runs'), sync_guard.scope_is_running('{"account_type": "main"}', 'app.runs')}),
		't|f', "$how: it tells what runs");
	is(sql($server, q{SELECT sync_guard.reap_stale_syncs(relation => 'app.runs')}), '1', "$how: it reaps");
	is(sql($server, qq{SELECT min(id) > $last_line, max(verdict) FROM sync_guard.journal WHERE run_key LIKE '%3'}), 't|overdue', "$how: the journal goes on");
	sql($server, q{UPDATE app.runs SET status = 'completed' WHERE id::text LIKE '%3'});
	is(sql($server, q{SELECT status FROM app.runs WHERE id::text LIKE '%3'}), 'failed', "$how: what is reaped stays reaped");
	is(sql($server, q{SELECT bool_or(false_positive) FROM sync_guard.journal WHERE run_key LIKE '%3'}), 't', "$how: and the mistake is counted");
	my (undef, undef, $refused) = $server->psql('app',
		q{INSERT INTO app.runs (id, sync_type, account_type, status, started_at) VALUES (gen_random_uuid(), 'products', 'both', 'running', now())},
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	like($refused, qr/ERROR:  SY002/, "$how: scopes are exclusive");
	leases_work($server, $how);
	a_session_dies($server, $how);
	sql($server, q{CREATE TABLE app.parts_3 PARTITION OF app.parts FOR VALUES FROM (200) TO (300);
		INSERT INTO app.parts (id, started_at) VALUES (201, '2020-01-01')});
	is(sql($server, q{SELECT sync_guard.reap_stale_syncs(relation => 'app.parts')}), '1', "$how: in a new partition it reaps too");
	is(sql($server, $health), join("\n", @told), "$how: guard_health has nothing new to say");
	return;
}

# pg_cron's job, as it was carried over, with a schedule that does not let one wait.
sub cron_reaps
{
	my ($server, $how) = @_;
	sql($server, q{ALTER EXTENSION pg_cron UPDATE});
	sql($server, q{SELECT cron.alter_job(jobid, schedule => '1 second') FROM cron.job});
	sql($server, q{INSERT INTO app.parts (id, started_at) VALUES (202, '2020-01-01')});
	ok($server->poll_query_until('app', q{SELECT status = 'failed' FROM app.parts WHERE id = 202}), "$how: pg_cron's job reaps");
	return;
}

sub goes_away
{
	my ($server, $how) = @_;
	sql($server, 'DROP EXTENSION emag_sync_guard');
	is(sql($server, q{SELECT string_agg(tgname, ' ') FROM pg_trigger WHERE NOT tgisinternal AND tgrelid::regclass::text !~ '^cron\.'}), 'stamp',
		"$how: DROP EXTENSION takes the guard's triggers along");
	return;
}

# ---- dumps ------------------------------------------------------------------------------------------------------------------
my $roles = "$dumps/roles.sql";
client($old, $new_version, 'pg_dumpall', '--roles-only', "--file=$roles");
client($old, $new_version, 'pg_dump', '-Fc', '--create', "--file=$dumps/new_custom", 'app');
client($old, $old_version, 'pg_dump', '-Fp', '--create', "--file=$dumps/old_plain", 'app');
my $target = make_node('restored', $new_version);
$target->start;
# (The role that runs the tests is there already.)
client($target, $new_version, 'psql', '-Xq', '-d', 'postgres', "--file=$roles");
for my $dump (qw(new_custom old_plain))
{
	my $how = $dump eq 'new_custom' ? "dumped by $new_version" : "dumped by $old_version";
	my $said = $dump eq 'new_custom'
	  ? client($target, $new_version, 'pg_restore', '--create', '--exit-on-error', '-d', 'postgres', "$dumps/$dump")
	  : client($target, $new_version, 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-o/dev/null', '-d', 'postgres', "--file=$dumps/$dump");
	is($said, '', "$how: restored without a word");
	is_whole($target, $how);
	works($target, $how);
	goes_away($target, $how);
	sql($target, 'DROP DATABASE app WITH (FORCE)', 'postgres');
}
$target->stop;

# ---- pg_upgrade -------------------------------------------------------------------------------------------------------------
# The new server has the old one's port, as it has in practice: pg_cron's jobs name it.
$old->stop;
for my $mode ('copy', 'link', $new_version >= 18 ? 'swap' : ())
{
	my $how = "pg_upgrade --$mode";
	# All but the first mode use the old cluster up.
	my $source = $old->data_dir . "_$mode";
	system('cp', '-a', $old->data_dir, $source) == 0 or die "no copy of the old cluster";
	my $new = make_node("upgraded_$mode", $new_version, port => $old->port);
	my @how = (
		'--no-sync', '-d', $source, '-D', $new->data_dir, '-b', "$home{$old_version}/bin", '-B', "$home{$new_version}/bin",
		'-s', $new->host, '-p', $old->port, '-P', $new->port, "--$mode");
	for my $step ([ @how, '--check' ], \@how)
	{
		my $out = '';
		my $ok = IPC::Run::run([ "$home{$new_version}/bin/pg_upgrade", @$step ], '>', \$out, '2>&1');
		ok($ok, "$how " . (grep({ $_ eq '--check' } @$step) ? 'has no objection' : 'runs through')) or diag($out);
	}
	$new->start;
	is_whole($new, $how);
	works($new, $how);
	cron_reaps($new, $how);
	goes_away($new, $how);
	$new->stop;
}

done_testing();
