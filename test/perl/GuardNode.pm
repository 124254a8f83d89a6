# A server for a TAP test of emag_sync_guard, on top of PostgreSQL::Test.
#
#   use GuardNode;
#   my $node = guard_node('name', preload => ['pg_cron', 'emag_sync_guard']);
#   make_run_table($node, 'runs');
#   start_run($node, 'runs', 'products', '2 hours');
#   poll_until($node, q{SELECT count(*) = 1 FROM sync_guard.stuck_syncs}, 'it is dead');
package GuardNode;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(guard_node make_run_table start_run start_leased poll_until wait_for_server sqlstate_of table_shape);

# A started server whose database postgres has the extension.
#   preload    libraries to preload; pg_cron is set up for the database postgres
#   conf       further lines for postgresql.conf
#   extension  0: leave CREATE EXTENSION to the caller
# Its time zone is not UTC, so that a time taken in the wrong zone shows.
sub guard_node
{
	my ($name, %options) = @_;
	my @preload = @{ $options{preload} // [] };

	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init(%{ $options{init} // {} });
	$node->append_conf('postgresql.conf', "timezone = 'Europe/Bucharest'");
	$node->append_conf('postgresql.conf',
		"shared_preload_libraries = '" . join(',', @preload) . "'");
	if (grep { $_ eq 'pg_cron' } @preload)
	{
		$node->append_conf('postgresql.conf', "cron.database_name = 'postgres'");
		$node->append_conf('postgresql.conf', "cron.host = '" . $node->host . "'");
	}
	$node->append_conf('postgresql.conf', $options{conf}) if $options{conf};
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION emag_sync_guard')
	  if $options{extension} // 1;
	return $node;
}

# A small table of runs with the usual names; times are naive UTC.
sub make_run_table
{
	my ($node, $table) = @_;
	$node->safe_psql('postgres', qq{
		CREATE TABLE $table (
			id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			sync_type text NOT NULL,
			status varchar(20) NOT NULL DEFAULT 'running'
				CHECK (status IN ('running', 'completed', 'failed')),
			started_at timestamp NOT NULL DEFAULT (now() AT TIME ZONE 'UTC'),
			completed_at timestamp,
			duration_seconds double precision,
			processed_items integer NOT NULL DEFAULT 0,
			errors jsonb);
		CREATE INDEX ON $table (status)});
	return;
}

# A running row that began this long ago; returns its key.
sub start_run
{
	my ($node, $table, $sync_type, $ago) = @_;
	return $node->safe_psql('postgres', qq{
		INSERT INTO $table (sync_type, started_at, processed_items)
		VALUES ('$sync_type', (clock_timestamp() AT TIME ZONE 'UTC') - interval '$ago', 7)
		RETURNING id});
}

# A run with a lease on these terms, in a scope of its own; returns its key and token.
my $leased = 0;
sub start_leased
{
	my ($node, $terms) = @_;
	++$leased;
	return split /\|/, $node->safe_psql('postgres', qq{SELECT key, token FROM sync_guard.start_sync('runs', '{"sync_type": "s$leased"}', $terms)});
}

# Waits until a query answers true. That is an assertion: what does not come in time has failed. Returns whether it came.
# What is waited for must stay as it is when it has come; a state that only a time holds may pass unseen on a busy machine.
sub poll_until
{
	my ($node, $condition, $what, $database) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	return ok($node->poll_query_until($database // 'postgres', $condition), $what);
}

# Waits until the server takes connections again. A client that is refused does not read what it is to send, and who sends it
# then dies of it: so it is sent nothing.
sub wait_for_server
{
	my ($node) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return if system_log('psql', '-XAtqc', 'SELECT', '-d', $node->connstr('postgres')) == 0;
		select(undef, undef, undef, 0.1);
	}
	die 'the server does not come back';
}

# The SQLSTATE of a statement's error; empty: it had none.
sub sqlstate_of
{
	my ($node, $statement) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', $statement, extra_params => [ '-v', 'VERBOSITY=sqlstate' ]);
	return $stderr =~ /ERROR:\s+(\S+)/ ? $1 : '';
}

# Everything of a table that a schema-migration tool compares, and its triggers.
sub table_shape
{
	my ($node, $table) = @_;
	return $node->safe_psql('postgres', qq{
		SELECT 'column', attnum, attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attgenerated,
		       pg_get_expr(adbin, adrelid)
		FROM pg_attribute LEFT JOIN pg_attrdef ON (adrelid, adnum) = (attrelid, attnum)
		WHERE attrelid = '$table'::regclass AND attnum > 0 ORDER BY attnum;
		SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint
		WHERE conrelid = '$table'::regclass ORDER BY conname;
		SELECT 'index', pg_get_indexdef(indexrelid) FROM pg_index
		WHERE indrelid = '$table'::regclass ORDER BY 2;
		SELECT 'trigger', tgname FROM pg_trigger
		WHERE tgrelid = '$table'::regclass AND NOT tgisinternal ORDER BY tgname});
}

1;
