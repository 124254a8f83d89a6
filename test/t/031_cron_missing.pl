# Without pg_cron in its several ways: files on the server only, preloaded and not created, created and no longer
# preloaded. Scheduling says what is missing; everything else works.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('cron_missing');

sub sql { return $node->safe_psql('postgres', $_[0]); }

# What scheduling says: SQLSTATE, message and hint.
sub refusal
{
	my ($status, undef, $stderr) = $node->psql('postgres', 'SELECT sync_guard.schedule_reaping()',
		extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $status == 0 ? 'scheduled' : $stderr;
}

sub health { return sql(q{SELECT severity, problem, detail, hint FROM sync_guard.guard_health WHERE problem ~ '^(pg_cron|reaping)'}); }

make_run_table($node, 'runs');
is(health(), '', 'nothing is said of pg_cron where nothing is guarded');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC')});
my $dead = start_run($node, 'runs', 'products', '2 hours');

my $installed = sql(q{SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_cron'});
my $what = $installed ? 'pg_cron is not loaded' : 'pg_cron is not installed on this server';
like(refusal(), qr/ERROR:  55000: $what/, "scheduling is refused: $what");
like(refusal(), qr/DETAIL:  Everything else works without pg_cron: any scheduler can call sync_guard\.reap_stale_syncs\(\)\./,
	'it says that everything else works');
like(refusal(), qr/HINT: .*dd pg_cron to shared_preload_libraries and cron\.database_name = 'postgres' to postgresql\.conf, restart the server, and run, as superuser: CREATE EXTENSION pg_cron;/,
	'and how to get it');
my ($major) = sql('SHOW server_version_num') =~ /^(\d+)\d{4}$/;
SKIP:
{
	skip 'pg_cron is on this server', 1 if $installed;
	like(refusal(), qr/HINT:  Install it \(Debian, Ubuntu: package postgresql-$major-cron; RPM: pg_cron_$major\)/, 'with the package');
}
like(health(), qr/^info\|pg_cron_missing\|$what: dead runs are closed when something calls reap_stale_syncs\(\)\|[^|]*CREATE EXTENSION pg_cron;$/, 'guard_health says so too');
is(sql('SELECT sync_guard.unschedule_reaping()'), 'f', 'there is nothing to unschedule');
is(sql('SELECT count(*) FROM sync_guard.reaping_schedule'), '0', 'nor to show');
is(sql("SELECT sync_guard.sync_is_running('products')"), 'f', 'the dead run is not shown as running');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '1', 'and reaped');
is(sql(q{SELECT count(*) FROM sync_guard.guard_health WHERE problem = 'not_preloaded'}), '1', 'emag_sync_guard itself is not preloaded');

SKIP:
{
	skip 'pg_cron is not on this server', 7 unless $installed;

	# A library may be named by its path and with its suffix.
	$node->append_conf('postgresql.conf', q{
		shared_preload_libraries = '$libdir/pg_cron.so, emag_sync_guard'
		cron.database_name = 'postgres'
		cron.host = '} . $node->host . q{'});
	$node->restart;
	like(refusal(), qr/ERROR:  55000: pg_cron has not been created in this database\n.*HINT:  Run, as superuser: CREATE EXTENSION pg_cron;/s, 'preloaded, not created');
	is(sql(q{SELECT count(*) FROM sync_guard.guard_health WHERE problem = 'not_preloaded'}), '0', 'emag_sync_guard is preloaded now');
	sql('CREATE EXTENSION pg_cron');
	like(refusal(), qr/^scheduled/, 'created, it can be scheduled');

	$node->append_conf('postgresql.conf', q{shared_preload_libraries = ''});
	$node->restart;
	like(health(), qr/^error\|pg_cron_not_loaded\|pg_cron is not loaded, its jobs do not run: .*\|Add pg_cron to shared_preload_libraries/, 'no longer preloaded: an error');
	like(refusal(), qr/ERROR:  55000: pg_cron is not loaded, its jobs do not run/, 'scheduling says the same');

	# The jobs now live in another database: those here do not run.
	sql('CREATE DATABASE jobs');
	$node->append_conf('postgresql.conf', q{
		shared_preload_libraries = 'pg_cron'
		cron.database_name = 'jobs'});
	$node->restart;
	like(health(), qr/^info\|pg_cron_elsewhere\|pg_cron keeps its jobs in database "jobs"/, 'jobs in a database that pg_cron does not look at do not count');
	my ($status, undef, $stderr) = $node->psql('postgres', 'SELECT sync_guard.unschedule_reaping()');
	like($stderr, qr/HINT:  Run in database "jobs": SELECT cron\.unschedule\('emag_sync_guard\@postgres'\);/, 'the way to take a job away is printed');
}

$node->stop;
done_testing();
