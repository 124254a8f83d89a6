# The whole path once: create, adopt, reap, restart, preload, drop.
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('smoke', extension => 0);

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
my $shape = table_shape($node, 'runs');

# Nothing is preloaded.
sql('CREATE EXTENSION emag_sync_guard');
is(sql(q{SELECT installed_version = default_version FROM pg_available_extensions
         WHERE name = 'emag_sync_guard'}),
	't', 'the version installed is the one of the control file');

my $dead = start_run($node, 'runs', 'products', '2 hours');
my $live = start_run($node, 'runs', 'orders', '1 minute');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}')});

is(sql(q{SELECT sync_guard.sync_is_running('products'), sync_guard.sync_is_running('orders')}),
	'f|t', 'a dead run is not shown as running before anything has closed it');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '1', 'the dead run is reaped, the live one is not');
is(sql("SELECT status, completed_at >= started_at, duration_seconds >= 7200, jsonb_array_length(errors)
        FROM runs WHERE id = $dead"),
	'failed|t|t|1', 'it has status, end, duration and a reason');
is(sql("SELECT status FROM runs WHERE id = $live"), 'running', 'the live run is as it was');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '0', 'there is nothing left to reap');

# With the library preloaded, as pg_cron needs it too.
$node->append_conf('postgresql.conf', q{shared_preload_libraries = 'emag_sync_guard'});
$node->restart;
is(sql(q{SELECT sync_guard.sync_is_running('orders')}), 't', 'it works preloaded, and a restart forgets no run');
is(sql('SELECT count(*) FROM sync_guard.reaped_syncs'), '1', 'nor the journal');

sql('DROP EXTENSION emag_sync_guard');
is(table_shape($node, 'runs'), $shape, 'DROP EXTENSION without CASCADE leaves the table as it was found');
is(sql(q{SELECT count(*) FROM pg_namespace WHERE nspname = 'sync_guard'}), '0', 'and no schema');
sql(q{UPDATE runs SET status = 'completed'});
is(sql('SELECT count(*) FROM runs WHERE status = \'completed\''), '2', 'and the table works without it');

$node->stop;
done_testing();
