# The clients that people use, each as a small program (test/clients): SQLAlchemy's ORM over asyncpg, asyncpg itself, psycopg2;
# to the server, and through PgBouncer in transaction mode.
use strict;
use warnings;

use File::Basename;
use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

# Debian's own interpreter, which has Debian's modules.
my $python = -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';
my $clients = dirname(__FILE__) . '/../clients';
my $fixtures = dirname(__FILE__) . '/../sql/fixtures';

sub has_modules
{
	my ($out, $err) = ('', '');
	return IPC::Run::run([ $python, '-c', 'import ' . join(', ', @_) ], '>', \$out, '2>', \$err);
}
my @wanted = (
	[ 'script_writer.py', 'psycopg2' ],
	[ 'typed_calls.py', 'asyncpg' ],
	[ 'writer_in_one_transaction.py', 'asyncpg', 'sqlalchemy.ext.asyncio', 'greenlet' ],
	(map { [ "writer_that_commits_first.py $_", 'asyncpg', 'sqlalchemy.ext.asyncio', 'greenlet' ] } qw(keep accept reject)),
	[ 'endpoint.py', 'asyncpg', 'sqlalchemy.ext.asyncio', 'greenlet' ]);

my $node = guard_node('clients');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sql(q{CREATE SCHEMA app});
$node->safe_psql('postgres', "\\set schema app\n\\i $fixtures/emag_sync_logs_b.sql");

# An empty table, guarded as the application would have it, and one with an integer key.
sub fresh
{
	sql(q{
		DROP TABLE IF EXISTS app.products, app.offer_syncs;
		DELETE FROM app.emag_sync_logs;
		SELECT sync_guard.guard_table('app.emag_sync_logs', exclusive => true, late_finish => 'keep', scope_columns => '{sync_type,account_type}',
			scope_overlaps => '{"account_type": {"both": ["main", "fbe"]}}');
		SELECT sync_guard.purge_journal('0');
		CREATE TABLE app.products (sku varchar(50) PRIMARY KEY, run uuid);
		CREATE TABLE app.offer_syncs (id bigint PRIMARY KEY, status varchar(20) DEFAULT 'running', started_at timestamptz);
		SELECT sync_guard.guard_table('app.offer_syncs', live_statuses => '{running}', failed_status => 'failed');
		INSERT INTO app.offer_syncs VALUES (1, 'running', '2020-01-01'), (1::bigint << 40, 'running', now())});
	return;
}

# Runs a program, and makes its results ours.
sub run_client
{
	my ($how, $program, @arguments) = @_;
	my ($out, $err) = ('', '');
	my $well = IPC::Run::run([ $python, "$clients/$program", @arguments ], '>', \$out, '2>', \$err, IPC::Run::timeout(180));
	my $results = 0;
	for (split /\n/, $out)
	{
		next unless /^(not ok|ok) - (.*)/;
		ok($1 eq 'ok', "$how, $program: $2");
		++$results;
	}
	ok($well && $results > 0, "$how, $program: ends well") or diag("$out\n$err");
	return;
}

sub run_clients
{
	my ($how) = @_;
	for my $client (@wanted)
	{
		my ($program, @modules) = @$client;
	  SKIP:
		{
			skip "$program: Python has not all of " . join(', ', @modules), 1 unless has_modules(@modules);
			fresh();
			run_client($how, split(/ /, $program));
		}
	}
	return;
}

$ENV{PYTHONDONTWRITEBYTECODE} = 1;
$ENV{PGUSER} = sql('SELECT current_user');
$ENV{PGDATABASE} = 'postgres';
{
	local $ENV{PGHOST} = $node->host;
	local $ENV{PGPORT} = $node->port;
	run_clients('direct');
}

my $pooler;
END { $pooler->signal('TERM') if $pooler; }

# The pooler as the application configures it: transaction mode, and DISCARD ALL after each transaction.
SKIP:
{
	my ($bouncer) = grep { -x } map { "$_/pgbouncer" } split(/:/, $ENV{PATH}), '/usr/sbin';
	skip 'PgBouncer is not installed', 1 unless $bouncer;
	skip 'PgBouncer does not run as root', 1 if $> == 0;
	my $folder = PostgreSQL::Test::Utils::tempdir_short;
	my $port = PostgreSQL::Test::Cluster::get_free_port();
	append_to_file("$folder/users.txt", qq{"$ENV{PGUSER}" ""\n});
	append_to_file("$folder/pgbouncer.ini", join("\n",
		'[databases]',
		'postgres = host=' . $node->host . ' port=' . $node->port . ' dbname=postgres',
		'[pgbouncer]',
		"unix_socket_dir = $folder", 'listen_addr =', "listen_port = $port", 'auth_type = trust', "auth_file = $folder/users.txt",
		'pool_mode = transaction', 'default_pool_size = 5', 'server_reset_query = DISCARD ALL', 'server_reset_query_always = 1',
		'ignore_startup_parameters = extra_float_digits,options', "logfile = $folder/log", "pidfile = $folder/pid", '') . "\n");
	$pooler = IPC::Run::start([ $bouncer, '-q', "$folder/pgbouncer.ini" ], '<', \undef, '>', '/dev/null', '2>', '/dev/null');
	local $ENV{PGHOST} = $folder;
	local $ENV{PGPORT} = $port;
	local $ENV{POOLED} = 1;
	ok(pooler_answers(), 'PgBouncer answers');
	run_clients('PgBouncer');
	$pooler->signal('TERM');
	$pooler->finish;
	undef $pooler;
}

sub pooler_answers
{
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		my ($out, $err) = ('', '');
		return 1 if IPC::Run::run([ 'psql', '-XAtq', '-c', 'SELECT 1' ], '>', \$out, '2>', \$err);
		select(undef, undef, undef, 0.1);
	}
	return 0;
}

$node->stop;
done_testing();
