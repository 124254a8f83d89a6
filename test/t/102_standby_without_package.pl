# A streaming standby on which the package was not installed: what it replays and answers, and what follows from promoting it.
use strict;
use warnings;

use BareServer;
use GuardNode;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $bare = bare_installation();
my $primary = guard_node('primary', init => { allows_streaming => 1 }, conf => 'hot_standby_feedback = on');

sub sql { return $_[0]->safe_psql('postgres', $_[1]); }

# The SQLSTATE and message of a statement's error; empty: it had none.
sub error_of
{
	my ($node, $statement) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', $statement, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $stderr =~ /ERROR:\s+(.*)/ ? $1 : '';
}

make_run_table($primary, 'runs');
sql($primary, q{
	CREATE TABLE parts (id bigint PRIMARY KEY, status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'completed', 'failed')),
		started_at timestamptz NOT NULL DEFAULT now()) PARTITION BY RANGE (id);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true);
	SELECT sync_guard.guard_table('parts')});
my $dead = start_run($primary, 'runs', 'products', '2 hours');
sql($primary, q{INSERT INTO parts VALUES (1, 'running', '2020-01-01')});

$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby', install_path => $bare);
$standby->init_from_backup($primary, 'base', has_streaming => 1);

# ---- preloaded by name ----------------------------------------------------------------------------------------------------------
$standby->append_conf('postgresql.conf', "shared_preload_libraries = 'emag_sync_guard'");
ok(!$standby->start(fail_ok => 1), 'with the library in shared_preload_libraries the standby does not start');
like(slurp_file($standby->logfile), qr/FATAL:  could not access file "emag_sync_guard": No such file or directory/, 'and its log says why');
$standby->append_conf('postgresql.conf', "shared_preload_libraries = ''");
$standby->start;

# ---- as a standby ---------------------------------------------------------------------------------------------------------------
my $live = start_run($primary, 'runs', 'orders', '1 minute');
sql($primary, 'SELECT sync_guard.reap_stale_syncs()');
$primary->wait_for_catchup($standby);
my $rows = q{SELECT id, sync_type, status, errors FROM runs ORDER BY id};
is(sql($standby, $rows), sql($primary, $rows), 'what is written and reaped on the primary is replayed');
is(sql($standby, q{SELECT verdict FROM sync_guard.journal WHERE relation_name = 'public.runs'}), 'silent', 'the journal too');
my $folder = $standby->pg_version >= 18 ? '' : '$libdir/';
my $missing = qq{58P01: could not access file "${folder}emag_sync_guard": No such file or directory};
is(error_of($standby, $_), $missing, "$_: the library is missed")
  for q{SELECT sync_guard.sync_is_running()}, q{SELECT * FROM sync_guard.running_syncs}, q{SELECT * FROM sync_guard.guard_health};
is(error_of($standby, 'SHOW emag_sync_guard.enabled'), '42704: unrecognized configuration parameter "emag_sync_guard.enabled"', 'its settings are unknown');

# ---- promoted -------------------------------------------------------------------------------------------------------------------
$primary->stop;
$standby->promote;
my $start = q{INSERT INTO runs (sync_type) VALUES ('offers')};
is(error_of($standby, $start), $missing, 'promoted, no run can start');
is(error_of($standby, "UPDATE runs SET status = 'completed' WHERE id = $live"), $missing, 'none can end');
is(error_of($standby, "UPDATE runs SET processed_items = 8 WHERE id = $live"), $missing, 'none can say that it is alive');
is(error_of($standby, "DELETE FROM runs WHERE id = $live"), $missing, 'nor be deleted');
is(error_of($standby, q{UPDATE parts_1 SET started_at = now() WHERE status = 'running'}), '', 'what touches no live run can be written');
is(error_of($standby, "UPDATE runs SET sync_type = 'closed' WHERE id = $dead"), $missing, 'a run in the failed status is guarded, too');
is(error_of($standby, 'TRUNCATE parts'), '', 'so is a TRUNCATE');

# Without the package: the triggers are disabled, table by table, as their owner. Nothing is guarded then.
is(error_of($standby, q{
	DO $$
	DECLARE
		t record;
	BEGIN
		FOR t IN SELECT tgrelid::regclass AS relation, tgname FROM pg_trigger WHERE tgname LIKE 'zzz\_emag\_sync\_guard\_%' AND tgparentid = 0 LOOP
			EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', t.relation, t.tgname);
		END LOOP;
	END $$}), '', 'the triggers can be disabled without the library');
is(error_of($standby, $start), '', 'then runs start');
is(error_of($standby, "UPDATE runs SET status = 'completed' WHERE id = $live"), '', 'and end');
is(error_of($standby, q{INSERT INTO parts VALUES (2)}), '', 'in partitions, too');
is(sql($standby, "SELECT completed_at IS NULL FROM runs WHERE id = $live"), 't', 'nobody fills what they leave');
is(error_of($standby, q{CREATE TABLE other (a int DEFAULT 1 CHECK (a > 0), b int); CREATE INDEX other_a ON other (a); CREATE VIEW seen AS SELECT a FROM other;
	DROP INDEX other_a; DROP VIEW seen; ALTER TABLE other DROP COLUMN b, DROP CONSTRAINT other_a_check, ALTER a DROP DEFAULT}), '', 'what takes no table along can be dropped');
is(error_of($standby, 'DROP TABLE other'), $missing, 'what is no guarded table cannot either');
is(error_of($standby, 'DROP TABLE parts'), $missing, 'a table cannot be dropped while the event trigger misses the library');
is(error_of($standby, 'ALTER EVENT TRIGGER emag_sync_guard_forget_dropped DISABLE; DROP TABLE parts'), '', 'with it disabled it can');

# With the package installed after all: no restart, no reload.
my $session = $standby->background_psql('postgres', on_error_stop => 1);
$session->query_safe('SELECT 1');
install_again($bare);
is($session->query_safe(q{SELECT sync_guard.sync_is_running('products')}), 'f', 'once it is installed a session that was there finds it');
is(sql($standby, q{SELECT string_agg(DISTINCT problem, ' ' ORDER BY problem) FROM sync_guard.guard_health WHERE severity <> 'info'}), 'settings_orphaned trigger_problem',
	'guard_health says that triggers are disabled, and what became of the dropped table');
sql($standby, q{ALTER EVENT TRIGGER emag_sync_guard_forget_dropped ENABLE});
is(sql($standby, q{SELECT sync_guard.repair_triggers('runs')}), '5', 'repair_triggers enables them');
is(error_of($standby, q{INSERT INTO runs (sync_type) VALUES ('offers')}) =~ s/:.*//sr, 'SY002', 'and the table is guarded again');
sql($standby, q{UPDATE runs SET started_at = started_at - interval '1 day' WHERE sync_type = 'offers'});
$session->quit;
$standby->append_conf('postgresql.conf', "shared_preload_libraries = 'emag_sync_guard'\nemag_sync_guard.restart_grace = 0");
$standby->restart;
is(sql($standby, q{SELECT sync_guard.reap_stale_syncs()}), '1', 'it reaps, preloaded');

$standby->stop;
done_testing();
