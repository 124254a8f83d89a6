# What docs/api.md promises to who writes a status endpoint: one statement an answer, in a read-only transaction, through a
# pooler in transaction mode, as a role that may do nothing else (made by docs/sql/api_role.sql); answers that fit the schemas
# in docs/schema. And the reference has all that the catalog has.
use strict;
use warnings;

use File::Basename;
use GuardNode;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = dirname(__FILE__) . '/../..';
my $python = -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';
my ($bouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

# (No grace: the server has just started.)
my $node = guard_node('api', preload => ['emag_sync_guard'], conf => 'emag_sync_guard.restart_grace = 0');
sub sql { return $node->safe_psql('postgres', $_[0]); }

# psql with these arguments: whether it ended well, what it printed, and its errors.
sub psql_at
{
	my ($host, $port, $user, @arguments) = @_;
	local @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)} = ($host, $port, $user, 'postgres');
	my ($out, $err) = ('', '');
	my $well = IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', @arguments ],
		'<', \undef, '>', \$out, '2>', \$err);
	chomp $out;
	return ($well, $out, $err);
}

# The incident's table, and two that the role is not to see: one guarded, one not.
for my $file ('application', 'incident')
{
	my ($well, undef, $err) = psql_at($node->host, $node->port, undef, '-f', "$top/demo/$file.sql");
	ok($well, "demo/$file.sql") or diag($err);
}
make_run_table($node, 'other_runs');
# (Seven hours later, so that all eight are dead.)
sql(q{
	UPDATE app.emag_sync_logs SET started_at = started_at - interval '7 hours' WHERE status = 'running';
	SELECT sync_guard.guard_table('app.emag_sync_logs');
	SELECT sync_guard.guard_table('other_runs', scope_columns => '{sync_type}');
	INSERT INTO other_runs (sync_type) VALUES ('products')});

# ---- the role ----------------------------------------------------------------------------------------------------------------
sub make_role { return psql_at($node->host, $node->port, undef, '-f', "$top/docs/sql/api_role.sql", map { ('-v', $_) } @_); }
for my $wrong ([ qr/name the role/ ], [ qr/name the guarded table/, 'role=erp_api' ],
	[ qr/SY004: table app\.emag_sync_progress is not guarded/, 'role=erp_api', 'table=app.emag_sync_progress' ])
{
	my ($message, @variables) = @$wrong;
	my ($well, undef, $err) = make_role(@variables);
	ok(!$well, "api_role.sql with (@variables) fails");
	like($err, $message, 'and says why');
}
is(sql(q{SELECT count(*) FROM pg_roles WHERE rolname = 'erp_api'}), '0', 'what fails makes no role');
for my $time ('once', 'again')
{
	my ($well, $out, $err) = make_role('role=erp_api', 'table=app.emag_sync_logs');
	is("$well|$out|$err", '1||', "api_role.sql $time: without a word");
}
is(sql(q{
	SELECT rolcanlogin, rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls,
		   (SELECT count(*) FROM pg_auth_members WHERE member = r.oid) FROM pg_roles AS r WHERE rolname = 'erp_api'}),
	't|f|0', 'the role may log in, and is nothing else');
# All that the catalog has of it: a schema, and columns. (The columns that a run's errors and progress stand in are among them.)
is(sql(q{
	SELECT 'schema', nspname, privilege_type FROM pg_namespace, aclexplode(nspacl) WHERE grantee = 'erp_api'::regrole
	UNION ALL
	SELECT 'relation', c.oid::regclass::text, privilege_type FROM pg_class AS c, aclexplode(relacl) WHERE grantee = 'erp_api'::regrole
	UNION ALL
	SELECT 'columns', attrelid::regclass::text, privilege_type || ' ' || string_agg(attname, ',' ORDER BY attname COLLATE "C")
	FROM pg_attribute, aclexplode(attacl) WHERE grantee = 'erp_api'::regrole GROUP BY attrelid, privilege_type
	UNION ALL
	SELECT 'function', p.oid::regprocedure::text, privilege_type FROM pg_proc AS p, aclexplode(proacl) WHERE grantee = 'erp_api'::regrole
	ORDER BY 1, 2, 3}),
	'columns|app.emag_sync_logs|SELECT account_type,completed_at,created_items,duration_seconds,errors,failed_items,id,operation,'
	  . "processed_items,started_at,status,sync_type,total_items,updated_at,updated_items\nschema|app|USAGE",
	'its rights: USAGE on the schema, SELECT on what the guard shows');

# ---- what it may not -----------------------------------------------------------------------------------------------------------
sub asked { return psql_at($node->host, $node->port, 'erp_api', map { ('-c', $_) } @_); }
for my $forbidden (
	'SELECT sync_params FROM app.emag_sync_logs', 'SELECT FROM app.emag_sync_progress', 'SELECT FROM other_runs',
	'SELECT run FROM sync_guard.journal', 'SELECT FROM sync_guard.leases', 'SELECT FROM sync_guard.settings', 'SELECT FROM sync_guard.tracked_runs',
	q{UPDATE app.emag_sync_logs SET status = 'failed'}, 'DELETE FROM app.emag_sync_logs',
	q{SELECT sync_guard.reap_stale_syncs(relation => 'app.emag_sync_logs')}, q{SELECT sync_guard.sync_status(relation => 'other_runs')},
	q{SELECT sync_guard.guard_table('app.emag_sync_logs', max_silence => '1 second')},
	q{SELECT sync_guard.set_limit('app.emag_sync_logs', '{}', max_silence => '1 second')},
	q{SELECT sync_guard.start_sync('app.emag_sync_logs', '{"sync_type": "products", "account_type": "main", "operation": "x"}')},
	q{SELECT sync_guard.overturn_reap('app.emag_sync_logs', (SELECT id FROM app.emag_sync_logs LIMIT 1), 'completed')})
{
	my ($well, undef, $err) = asked($forbidden);
	like($err, qr/ERROR:  42501: /, "refused: $forbidden");
}
my ($well, $out, $err) = asked('SELECT sync_guard.reap_stale_syncs()');
is($out, '0', 'asked to reap whatever it may, it reaps nothing');
is(sql(q{SELECT count(*) FROM app.emag_sync_logs WHERE status = 'running'}), '8', 'the dead runs are as they were');

# ---- what it may: one statement, read only, through the pooler -------------------------------------------------------------------
my $folder = PostgreSQL::Test::Utils::tempdir_short;
my $port = PostgreSQL::Test::Cluster::get_free_port();
my $pooler;
END { $pooler->kill_kill if $pooler; }
my $pooled = $bouncer && $> != 0;
if ($pooled)
{
	append_to_file("$folder/users.txt", qq{"erp_api" ""\n});
	append_to_file("$folder/pgbouncer.ini", join("\n", '[databases]', 'postgres = host=' . $node->host . ' port=' . $node->port, '[pgbouncer]',
		"unix_socket_dir = $folder", 'listen_addr =', "listen_port = $port", 'auth_type = trust', "auth_file = $folder/users.txt",
		'pool_mode = transaction', 'default_pool_size = 1', "logfile = $folder/log", "pidfile = $folder/pid", ''));
	$pooler = IPC::Run::start([ $bouncer, '-q', "$folder/pgbouncer.ini" ], '<', \undef, '>', '/dev/null', '2>', '/dev/null');
	my $tries = 20 * $PostgreSQL::Test::Utils::timeout_default;
	select(undef, undef, undef, 0.05) until (psql_at($folder, $port, 'erp_api', '-c', 'SELECT 1'))[0] || !$tries--;
}
else { diag('PgBouncer is not installed, or this is root, as whom it does not run: asked without it'); }

# The answer to one query as the role, in a read-only transaction, through the pooler where there is one.
sub answer
{
	my ($query) = @_;
	my ($answered, $answer, $error) = psql_at($pooled ? ($folder, $port) : ($node->host, $node->port), 'erp_api',
		'-c', 'BEGIN READ ONLY', '-c', $query, '-c', 'COMMIT');
	is($error, '', "without a word: $query");
	return $answer;
}

is(answer(q{SELECT session_user, current_setting('transaction_read_only')}), 'erp_api|on', 'asked as the role, read only');

# ---- the schemas ------------------------------------------------------------------------------------------------------------------
my $can_check = system("$python -c 'import jsonschema' >/dev/null 2>&1") == 0;
# How these documents fit a schema of docs/schema: a line each.
sub checked
{
	my ($schema, @documents) = @_;
	my ($lines, $errors) = ('', '');
	IPC::Run::run([ $python, "$top/test/clients/json_schema.py" ], '<', \join('', map { "$top/docs/schema/$schema.schema.json\t$_\n" } @documents),
		'>', \$lines, '2>', \$errors) or die "$schema: $errors";
	return split(/\n/, $lines);
}

# Asks for the status, checks it by the schemas named, and returns it.
sub status
{
	my ($what, $arguments, @schemas) = @_;
	my $answer = answer("SELECT sync_guard.sync_status($arguments)");
	SKIP:
	{
		skip('Python has no jsonschema', scalar @schemas) unless $can_check;
		is((checked($_, $answer))[0], 'ok', "$what: fits $_") for @schemas;
	}
	return decode_json($answer);
}
my @both = ('sync_status', 'emag_sync_logs');
my $ours = q{relation => 'app.emag_sync_logs'};

# Dead runs that nothing has closed.
my $seen = status('stuck runs', "recent => 60, $ours", @both);
is(($seen->{is_running} ? 't' : 'f') . '|' . ($seen->{current_sync} // 'null'), 'f|null', 'stuck runs are not running');
is(scalar(grep { $_->{status} eq 'failed' } @{ $seen->{recent_syncs} }) . '|' . scalar(@{ $seen->{recent_syncs} }), '8|56',
	'they are shown with the failed status');
is(scalar(grep { $_->{status} eq 'failed' && !defined $_->{completed_at} } @{ $seen->{recent_syncs} }), 8, 'and without an end, since nothing has closed them');
is(answer(q{SELECT sync_guard.sync_is_running('products', 'app.emag_sync_logs')}), 'f', 'sync_is_running says the same');
is(answer(q{SELECT count(*) FROM sync_guard.stuck_syncs WHERE relation = 'app.emag_sync_logs'::regclass}), '8', 'stuck_syncs has them');

is(sql(q{SELECT sync_guard.reap_stale_syncs(relation => 'app.emag_sync_logs')}), '8', 'they are closed');
$seen = status('nothing runs', "'products', recent => 60, $ours", @both);
is(scalar(grep { $_->{status} eq 'failed' && defined $_->{completed_at} && $_->{duration_seconds} > 20000 } @{ $seen->{recent_syncs} }), 8,
	'closed, they have an end and a duration');
is(answer(q{SELECT count(*), count(run), count(wanted) FROM sync_guard.reaped_syncs}), '8|0|0', 'it sees the lines of the journal, and no row in them');
is(answer(q{SELECT count(*) FROM sync_guard.failure_rates WHERE failed > 0 AND relation = 'app.emag_sync_logs'::regclass} ), '3', 'and the failure rates');

# A run, with progress from heartbeats.
sql(q{SELECT sync_guard.heartbeat(token, done => 40, total => 200) FROM sync_guard.start_sync('app.emag_sync_logs',
	'{"sync_type": "products", "account_type": "main", "operation": "full_sync"}')});
$seen = status('one runs', "'products', $ours", @both);
is(join('|', $seen->{is_running} ? 't' : 'f', map { $_ // 'null' } @{ $seen->{current_sync} }{qw(operation processed_items total_items)}), 't|full_sync|40|200',
	'one runs, and how far it is');
is(scalar(@{ $seen->{recent_syncs} }) . '|' . $seen->{recent_syncs}[0]{status}, '10|running', 'ten recent ones, unless told otherwise, the newest first');
$seen = status('none of another scope', "'orders', $ours", @both);
is(($seen->{is_running} ? 't' : 'f') . '|' . @{ $seen->{recent_syncs} }, 'f|0', 'of another scope none does');
$seen = status('no recent ones', "'products', recent => 0, $ours", @both);
is(($seen->{is_running} ? 't' : 'f') . '|' . @{ $seen->{recent_syncs} }, 't|0', 'recent => 0: only what runs');

# Of a table that the role may not read nothing is said: without `relation` too.
($well, $out, $err) = asked('SELECT sync_guard.sync_status(recent => 3)');
is_deeply(decode_json($out), decode_json(answer("SELECT sync_guard.sync_status(recent => 3, $ours)")),
	'without relation it is the answer on the one table that it may read');
like($err, qr/NOTICE:  .*1 guarded table was skipped/, 'without relation, a NOTICE says that there is a table it may not read');
unlike($out . $err, qr/other_runs/, 'not which');

# A run of a transaction that is still open: what its row tells is not known yet.
sql(q{UPDATE app.emag_sync_logs SET status = 'completed' WHERE status = 'running'});
my $starter = $node->background_psql('postgres', on_error_stop => 1);
$starter->query_safe(q{BEGIN; SELECT app.start_run('incremental_sync', 'fbe')});
$seen = status('an open transaction', "'products', recent => 60, $ours", @both);
is(join('|', $seen->{is_running} ? 't' : 'f', map { $_ // 'null' } @{ $seen->{current_sync} }{qw(account_type operation)}), 't|fbe|null',
	'a run of an open transaction runs; its operation is not known yet');
is(scalar(grep { $_->{id} eq $seen->{current_sync}{id} } @{ $seen->{recent_syncs} }), 0, 'among the recent ones it is not there yet');
$starter->query_safe('COMMIT');
$starter->quit;
$seen = status('committed', "'products', recent => 1, $ours", @both);
is($seen->{current_sync}{operation} . '|' . $seen->{recent_syncs}[0]{id}, 'incremental_sync|' . $seen->{current_sync}{id}, 'committed, all is there');

# Several tables: each run says of which it is.
sql(q{GRANT SELECT ON other_runs TO erp_api});
$seen = status('several tables', 'recent => 60', 'sync_status');
my %runs_of;
$runs_of{ $_->{relation} // 'none' }++ for @{ $seen->{recent_syncs} };
is_deeply(\%runs_of, { 'app.emag_sync_logs' => 58, 'public.other_runs' => 1 }, 'each run says of which table it is');
is($seen->{current_sync}{relation}, 'app.emag_sync_logs', 'so does the current one');
# Other fields, where summary_columns says so.
sql(q{SELECT sync_guard.guard_table('app.emag_sync_logs', summary_columns => '{operation,status,started_at}')});
$seen = status('other fields', "recent => 1, $ours", 'sync_status');
is(join(',', sort keys %{ $seen->{recent_syncs}[0] }), 'operation,started_at,status', 'summary_columns chooses the fields');

# A schema that lets everything through would be none.
SKIP:
{
	skip('Python has no jsonschema', 1) unless $can_check;
	my $id = '00000000-0000-0000-0000-000000000001';
	my $current = qq{"id": "$id", "operation": "full_sync", "started_at": "2025-10-01T15:05:11", "total_items": 0, "account_type": "both", "processed_items": 0};
	my $recent = qq{"id": "$id", "status": "failed", "operation": "full_sync", "started_at": "2025-10-01T15:05:11.5", "total_items": 0, "account_type": "both",
		"completed_at": null, "failed_items": 0, "created_items": 0, "updated_items": 0, "duration_seconds": 1.5} =~ s/\s+/ /gr;
	my $right = qq({"is_running": true, "current_sync": {$current}, "recent_syncs": [{$recent}]});
	is_deeply([ map { checked($_, $right) } @both ], [ 'ok', 'ok' ], 'an answer of the right shape fits both schemas');
	my %wrong = (
		'a field more' => [ 'sync_status', $right =~ s/^\{/{"more": 1, /r ],
		'a field less' => [ 'sync_status', $right =~ s/"is_running": true, //r ],
		'no list' => [ 'sync_status', $right =~ s/\[\{.*\}\]/null/r ],
		'running, and no run' => [ 'sync_status', $right =~ s/"current_sync": \{.*?\}/"current_sync": null/r ],
		'a run, and not running' => [ 'sync_status', $right =~ s/true/false/r ],
		'an empty run' => [ 'sync_status', $right =~ s/\[\{.*\}\]/[{}]/r ],
		'a column more' => [ 'emag_sync_logs', $right =~ s/"status"/"sync_params": null, "status"/r ],
		'a column less' => [ 'emag_sync_logs', $right =~ s/"status": "failed", //r ],
		'another status' => [ 'emag_sync_logs', $right =~ s/"failed", "op/"cancelled", "op/r ],
		'a time with a zone' => [ 'emag_sync_logs', $right =~ s/:11\.5"/:11.5+02:00"/r ],
		'a key that is none' => [ 'emag_sync_logs', $right =~ s/0001"/1"/r ],
		'a count that is text' => [ 'emag_sync_logs', $right =~ s/"failed_items": 0/"failed_items": "0"/r ]);
	for my $what (sort keys %wrong)
	{
		my ($schema, $document) = @{ $wrong{$what} };
		isnt($document, $right, "$what: another document");
		isnt((checked($schema, $document))[0], 'ok', "$what: refused by $schema");
	}
}

# ---- the reference --------------------------------------------------------------------------------------------------------------------
($well, $out, $err) = psql_at($node->host, $node->port, undef, '-f', "$top/docs/schema/views.sql");
my %printed = map { (split(/\n/, $_, 2))[0] => $_ } split(/^## /m, "$out\n");
my %documented = map { (split(/\n/, $_, 2))[0] => $_ } split(/^## /m, slurp_file("$top/docs/schema/views.md"));
is_deeply([ sort keys %documented ], [ sort keys %printed ], 'docs/schema/views.md has every view');
is($documented{$_} =~ s/\n+\z//r, $printed{$_} =~ s/\n+\z//r, "docs/schema/views.md has $_ as the catalog has it (print it with docs/schema/views.sql)")
  for sort keys %printed;

# What is for everybody, and not the works of a view or a trigger, stands in the reference; so do the settings and the SQLSTATEs.
my $reference = slurp_file("$top/docs/reference.md");
is(sql(q{SELECT count(*) FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace AND prosecdef}), '0',
	'no function is SECURITY DEFINER, as docs/security.md has it');
my @names = split(/\n/, sql(q{
	SELECT DISTINCT proname FROM pg_proc AS p, aclexplode(proacl)
	WHERE pronamespace = 'sync_guard'::regnamespace AND grantee = 0
	  AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype) AND obj_description(p.oid, 'pg_proc') !~ '^behind '
	UNION
	SELECT relname FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind = 'v'
	UNION
	SELECT name FROM pg_settings WHERE name LIKE 'emag_sync_guard.%'}));
cmp_ok(scalar @names, '>', 40, 'there is much to be told');
like($reference, qr/\b\Q$_\E\b/, "docs/reference.md tells of $_") for @names;
my $bytes = sql('SELECT bytes_per_run FROM sync_guard.guard_memory');
like(slurp_file("$top/docs/$_.md"), qr/: $bytes bytes\s+each/, "docs/$_.md tells how much memory a run takes") for qw(reference worker);
my @sqlstates = slurp_file("$top/src/errors.h") =~ /MAKE_SQLSTATE\('S', 'Y', '(\d)', '(\d)', '(\d)'\)/g;
cmp_ok(scalar @sqlstates, '>', 0, 'the errors have SQLSTATEs of their own');
while (my @digits = splice(@sqlstates, 0, 3))
{
	my $state = 'SY' . join('', @digits);
	like($reference, qr/^\| $state \| \S/m, "docs/reference.md tells of $state");
}

$pooler->signal('INT') if $pooler;
eval { $pooler->finish if $pooler; };
undef $pooler;
$node->stop;
done_testing();
