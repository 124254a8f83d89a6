# What monitoring/ ships, with the real programs: postgres_exporter asks the guard as the role that role.sql makes,
# Prometheus scrapes it and evaluates the shipped rules. A run of the incident is stuck and the alert fires; it is reaped,
# and the alert clears. Every expression of the Grafana dashboard is one that Prometheus takes, on metrics that are there.
use strict;
use warnings;

use Cwd qw(abs_path);
use File::Basename;
use GuardNode;
use HTTP::Tiny;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

for my $program (qw(prometheus promtool prometheus-postgres-exporter))
{
	plan skip_all => "$program is not installed" unless grep { -x "$_/$program" } split(/:/, $ENV{PATH});
}

my $root = abs_path(dirname(__FILE__) . '/../..');
my $monitoring = "$root/monitoring";
my $folder = PostgreSQL::Test::Utils::tempdir;
my $http = HTTP::Tiny->new(timeout => 30, proxy => undef, http_proxy => undef);

# ---- the programs ------------------------------------------------------------------------------------------------------------
my %running;
END { local $?; $_->kill_kill for values %running; }

sub start_program
{
	my ($name, @command) = @_;
	$running{$name} = IPC::Run::start(\@command, '<', \undef, '>', "$folder/$name.out", '2>', "$folder/$name.err");
	return;
}

sub end_program
{
	my ($name) = @_;
	$running{$name}->signal('TERM');
	eval { $running{$name}->finish; };
	delete $running{$name};
	return;
}

# Asks until it is true, or for as long as a test waits at most; then shows what the programs said, and goes no further.
sub until_true
{
	my ($what, $question) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return pass($what) if $question->();
		select(undef, undef, undef, 0.1);
	}
	diag("$_:\n" . (slurp_file("$folder/$_.err") =~ s/\A.*(?=.{3000}\z)//sr)) for sort keys %running;
	die "not so: $what";
}

# What a program says, and whether it is content.
sub said
{
	my ($command, $input) = @_;
	my $said = '';
	my $well = IPC::Run::run($command, '<', \($input // ''), '>&', \$said);
	return ($well, $said);
}

# ---- without a server --------------------------------------------------------------------------------------------------------
my $rules = "$monitoring/prometheus/emag_sync_guard.rules.yml";
my ($well, $said) = said([ 'promtool', 'check', 'rules', $rules ]);
ok($well, 'promtool takes the rules') or diag($said);
my ($count) = $said =~ /SUCCESS: (\d+) rules found/;
is($count, scalar(() = slurp_file($rules) =~ /^ +- alert:/mg), 'all of them');
($well, $said) = said([ 'promtool', 'test', 'rules', "$monitoring/prometheus/emag_sync_guard.rules_test.yml" ]);
ok($well, 'each rule raises its alert, and only when it should, and clears it') or diag($said);
my @alerts = slurp_file($rules) =~ /^ +- alert: (\w+)$/mg;
my %asserted = map { $_ => 1 } slurp_file("$monitoring/prometheus/emag_sync_guard.rules_test.yml") =~ /^ +alertname: (\w+)\n +exp_alerts:/mg;
is(join(' ', grep { !$asserted{$_} } @alerts), '', 'each of them is seen to be raised there');
my @runbooks = slurp_file($rules) =~ /^ +runbook: (\S+)$/mg;
is(scalar(@runbooks), scalar(@alerts), 'each names its runbook');
for my $runbook (@runbooks)
{
	my ($file, $anchor) = split(/#/, $runbook);
	my @headings = -e "$root/$file" ? map { lc s/ /-/gr } slurp_file("$root/$file") =~ /^#+ (.*)$/mg : ();
	ok((grep { $_ eq $anchor } @headings), "$runbook is there");
}

# ---- the incident, and the role ----------------------------------------------------------------------------------------------
my $node = guard_node('prometheus', preload => [ 'pg_cron', 'emag_sync_guard' ], conf => 'emag_sync_guard.restart_grace = 0');
sub sql { return $node->safe_psql('postgres', $_[0]); }
sub run_file
{
	my ($file, @options) = @_;
	$node->command_ok([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', @options, '-d', $node->connstr('postgres'), '-f', $file ], basename($file));
	return;
}

run_file("$root/demo/application.sql");
run_file("$root/demo/incident.sql");
sql(q{CREATE EXTENSION pg_cron; SELECT sync_guard.guard_table('app.emag_sync_logs'); SELECT sync_guard.schedule_reaping('0 3 1 1 *')});
# A table and a scope whose names need every kind of quoting there is.
make_run_table($node, '"odd ""runs"');
sql(q{SELECT sync_guard.guard_table('"odd ""runs"', scope_columns => '{sync_type}')});
start_run($node, '"odd ""runs"', 'a,b\\c "d"', '1 minute');
# Operators that anybody might have left in the schema public, to be run by whoever names one and has no better on his path.
sql(qq{
	CREATE FUNCTION odd_$_->[0]($_->[1], $_->[2]) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE ''% runs this'', current_user; END';
	CREATE OPERATOR public.= (LEFTARG = $_->[1], RIGHTARG = $_->[2], FUNCTION = odd_$_->[0])})
  for [ 1, 'oid', 'regclass' ], [ 2, 'regclass', 'regclass' ], [ 3, 'oid', 'integer' ], [ 4, 'regclass', 'oid' ], [ 5, 'oid', 'regprocedure' ];
run_file("$monitoring/postgres_exporter/role.sql");
run_file("$monitoring/postgres_exporter/role.sql");
is(sql(q{SELECT setconfig::text LIKE '%search_path=pg_catalog, pg_temp%' FROM pg_db_role_setting WHERE setrole = 'prometheus'::regrole::pg_catalog.oid}), 't',
	'with a path of its own');
sql(q{ALTER ROLE prometheus IN DATABASE postgres SET search_path = public});
is(sql(q{SELECT rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls FROM pg_roles WHERE rolname = 'prometheus'}), 'f',
	'role.sql, run twice: a role without attributes');
is(sql(q{SELECT string_agg(roleid::regrole::text, ',') FROM pg_auth_members WHERE member = 'prometheus'::regrole}), 'pg_monitor', 'a member of pg_monitor');
is(sql(q{
	SELECT string_agg(DISTINCT privilege_type, ','), bool_or(column_name = 'sync_params')
	FROM information_schema.column_privileges WHERE grantee = 'prometheus' AND table_schema = 'app'}), 'SELECT|f',
	'which may read columns that the guard shows, and not the others');
is(sql(q{SELECT count(*) FROM information_schema.table_privileges WHERE grantee = 'prometheus'}), '0', 'and no whole table');
my $refused = $node->psql('postgres', q{UPDATE app.emag_sync_logs SET status = 'failed'}, connstr => $node->connstr('postgres') . ' user=prometheus');
isnt($refused, 0, 'it changes nothing');

# ---- the exporter ------------------------------------------------------------------------------------------------------------
my $exporter_port = PostgreSQL::Test::Cluster::get_free_port();
my $prometheus_port = PostgreSQL::Test::Cluster::get_free_port();
$ENV{DATA_SOURCE_NAME} = 'host=' . $node->host . ' port=' . $node->port . ' user=prometheus dbname=postgres sslmode=disable';
start_program('exporter', 'prometheus-postgres-exporter', "--web.listen-address=127.0.0.1:$exporter_port",
	"--extend.query-path=$monitoring/postgres_exporter/queries.yaml");
my $page = '';
sub scrape { my $answer = $http->get("http://127.0.0.1:$exporter_port/metrics"); $page = $answer->{content}; return $answer->{success}; }

# The value of a series on the exporter's page; labels in any order.
sub exported
{
	my ($metric, %labels) = @_;
	my @found;
	for my $line ($page =~ /^(\Q$metric\E\{.*)$/mg)
	{
		my ($told, $value) = $line =~ /^[^{]+\{(.*)\} (\S+)$/;
		my %told = $told =~ /(\w+)="((?:[^"\\]|\\.)*)"/g;
		s/\\(.)/$1/g for values %told;
		push @found, $value unless grep { ($told{$_} // '') ne $labels{$_} } keys %labels;
	}
	return join(' ', @found);
}

until_true('the exporter answers', \&scrape);
like($page, qr/^pg_up 1$/m, 'it is connected');
like($page, qr/^pg_exporter_last_scrape_error 0$/m, 'no query of its failed');
unlike(slurp_file("$folder/exporter.err"), qr/level=(warn|error)/, 'and it has nothing to complain of');
my %labels = (datname => 'postgres', relation => 'app.emag_sync_logs');
is(exported('emag_sync_guard_stuck_runs', %labels, scope => "sync_type=products,account_type=$_->[0]"), $_->[1], "stuck runs: $_->[0]")
  for [ 'both', 2 ], [ 'main', 2 ], [ 'fbe', 1 ];
is(exported('emag_sync_guard_running_runs', %labels, scope => 'sync_type=products,account_type=both'), '3', 'running runs');
my $age = exported('emag_sync_guard_oldest_run_age_seconds', %labels, scope => 'sync_type=products,account_type=both');
ok($age >= 1934 && $age < 3600, 'the oldest of them is half an hour old') or diag($age);
is(exported('emag_sync_guard_runs_succeeded', %labels, scope => 'sync_type=products,account_type=both', window => '24h'), '3', 'runs that ended well');
is(exported('emag_sync_guard_runs_failed_ratio', %labels, scope => 'sync_type=products,account_type=both', window => '24h'), '0', 'none of them failed');
is(exported('emag_sync_guard_running_runs', relation => 'public."odd ""runs"', scope => 'sync_type=a\,b\\\\c "d"'), '1',
	'a scope is told without doubt, however it is written');
is(exported('emag_sync_guard_tables_readable'), '2', 'two guarded tables');
is(exported('emag_sync_guard_tables_unreadable'), '0', 'which the role may read');
is(exported('emag_sync_guard_tracked_runs_capacity'), '2048', 'room in memory');
is(exported('emag_sync_guard_reaping_active', reaping_job => 'emag_sync_guard'), '1', 'the job that reaps');
is(exported('emag_sync_guard_health_problems', severity => 'warning', problem => 'dead_runs_not_closed', %labels), '1', 'what guard_health says');
is(exported('emag_sync_guard_alert_raised', rule => 'stuck', severity => 'critical', %labels, scope => 'sync_type=products,account_type=both'), '1',
	'the alert of the database');
is(exported('emag_sync_guard_alert_raised', relation => ''), join(' ', ('0') x sql('SELECT count(*) FROM sync_guard.alert_rules WHERE relation IS NULL')),
	'and a zero for each of its rules');
my $keys = sql(q{SELECT string_agg(run_key, '|') FROM sync_guard.live_runs() WHERE run_key LIKE '%-%'});
unlike($page, qr/$keys/, 'no run is named in a label');
($well, $said) = said([ 'promtool', 'check', 'metrics' ], $page);
is(join("\n", $said =~ /^(emag_sync_guard.*)$/mg), '', 'promtool finds nothing to say on the metrics');

# ---- Prometheus --------------------------------------------------------------------------------------------------------------
append_to_file("$folder/prometheus.yml", qq{
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [$rules]
scrape_configs:
  - job_name: emag_sync_guard
    static_configs: [{targets: ["127.0.0.1:$exporter_port"]}]
});
($well, $said) = said([ 'promtool', 'check', 'config', "$folder/prometheus.yml" ]);
ok($well, 'its configuration names the shipped rules') or diag($said);
start_program('prometheus', 'prometheus', "--config.file=$folder/prometheus.yml", "--storage.tsdb.path=$folder/tsdb",
	"--web.listen-address=127.0.0.1:$prometheus_port");

# What Prometheus answers to a request of its API; nothing where it does not take it.
sub asked
{
	my ($path, %parameters) = @_;
	my $answer = $http->get("http://127.0.0.1:$prometheus_port/api/v1/$path?" . $http->www_form_urlencode(\%parameters));
	my $told = eval { decode_json($answer->{content}) } // {};
	return ($told->{status} // '') eq 'success' ? $told->{data} : undef;
}

# The value of an expression that has one series.
sub value_of
{
	my $data = asked('query', query => $_[0]);
	return defined $data && @{ $data->{result} } == 1 ? $data->{result}[0]{value}[1] : undef;
}

# The alerts of this name that fire.
sub firing
{
	my ($name) = @_;
	my $data = asked('alerts') // return;
	return grep { $_->{labels}{alertname} eq $name && $_->{state} eq 'firing' } @{ $data->{alerts} };
}

until_true('the exporter is up, says Prometheus', sub { (value_of('up{job="emag_sync_guard"}') // 0) == 1 });
until_true('the metrics arrive', sub { (value_of('sum(emag_sync_guard_stuck_runs)') // 0) == 5 });
is(value_of('sum by (relation) (emag_sync_guard_running_runs{relation="app.emag_sync_logs"})'), '3', 'and add up over the scopes');
until_true('the incident fires: three scopes are stuck', sub { firing('EmagSyncGuardStuck') == 3 });
my ($alert) = grep { $_->{labels}{scope} eq 'sync_type=products,account_type=fbe' } firing('EmagSyncGuardStuck');
is($alert->{labels}{severity}, 'critical', 'it is critical');
is($alert->{annotations}{summary}, 'app.emag_sync_logs sync_type=products,account_type=fbe: a dead run is not closed', 'it says what is wrong');
like($alert->{annotations}{description}, qr/^The run longest dead has been so for 2h 5\dm/, 'and for how long');
is(scalar(firing("EmagSyncGuard$_")), 0, "$_: no") for qw(FailureRate FalsePositives MemoryNearlyFull Unreachable);

is(sql('SELECT sync_guard.reap_stale_syncs()'), '5', 'the runs are reaped');
until_true('the alert clears', sub { (value_of('sum(emag_sync_guard_stuck_runs)') // 1) == 0 && !firing('EmagSyncGuardStuck') });
until_true('and the reaped are counted, by verdict',
	sub { (value_of('sum(emag_sync_guard_reaped_runs{verdict="silent", mode="guard", window="24h"})') // 0) == 5 });

# One of them was alive after all.
sql(q{UPDATE app.emag_sync_logs SET status = 'completed' WHERE id::text = (SELECT run_key FROM sync_guard.reaped_syncs LIMIT 1)});
until_true('a false positive fires', sub { firing('EmagSyncGuardFalsePositives') == 1 });
is(value_of('sum(emag_sync_guard_reaped_false_positives)'), '1', 'it is counted');
is(value_of('sum(emag_sync_guard_late_finishes)'), '1', 'and the late finish');

# ---- the dashboard -----------------------------------------------------------------------------------------------------------
my $dashboard = decode_json(slurp_file("$monitoring/grafana/dashboard.json"));
my %variables = map { $_->{name} => $_ } @{ $dashboard->{templating}{list} };
is(join(' ', sort keys %variables), 'datasource datname relation scope', 'the dashboard asks for the data source, and what to show');
is($dashboard->{id}, undef, 'it can be imported beside others');
my @panels = grep { $_->{type} ne 'row' } @{ $dashboard->{panels} };
is(scalar(grep { $_->{datasource}{uid} ne '${datasource}' } @panels), 0, 'every panel asks the data source that was chosen');
my @ids = map { $_->{id} } @{ $dashboard->{panels} };
is(scalar(keys %{ { map { $_ => 1 } @ids } }), scalar @ids, 'no two panels have one number');
my @expressions = ((map { map { $_->{expr} } @{ $_->{targets} } } @panels), map { $_->{expr} } @{ $dashboard->{annotations}{list} });
cmp_ok(scalar @expressions, '>=', scalar @panels, 'every panel has an expression');
my %known = map { $_ => 1 } @{ asked('label/__name__/values') };
my (@refused, %used);
for my $expression (@expressions)
{
	(my $query = $expression) =~ s/\$__rate_interval/1m/g;
	$query =~ s/\$(?:datname|relation|scope)\b/.*/g;
	push @refused, $query if $query =~ /\$/ || !defined asked('query', query => $query);
	$used{$_} = 1 for $query =~ /\b((?:emag_sync_guard|pg)_\w+)/g;
}
for my $variable (grep { $_->{type} eq 'query' } values %variables)
{
	my ($query) = $variable->{definition} =~ /^label_values\((.*), \w+\)$/;
	$used{$_} = 1 for $query =~ /^(\w+)/;
	is($variable->{query}{query}, $variable->{definition}, "$variable->{name}: one query");
}
is(join("\n", @refused), '', 'Prometheus takes every one of them');
is(join(' ', grep { !$known{$_} } sort keys %used), '', 'and has every metric that they name');
my %shown = map { $_ => 1 } map { /\b(emag_sync_guard_\w+)/g } @expressions;
scrape();
my @offered = $page =~ /^# TYPE (emag_sync_guard_\w+)/mg;
cmp_ok(scalar(@offered), '>=', 32, 'metrics in plenty');
is(join(' ', grep { !$shown{$_} } @offered),
	'emag_sync_guard_alert_figure emag_sync_guard_last_start_timestamp_seconds emag_sync_guard_reaping_active '
	  . 'emag_sync_guard_reaping_last_failed emag_sync_guard_tables_readable emag_sync_guard_tracked_runs_memory_bytes',
	'the dashboard shows all but a few');

# ---- what cannot be seen -----------------------------------------------------------------------------------------------------
sql(q{REVOKE SELECT (started_at) ON app.emag_sync_logs FROM prometheus});
until_true('a table that the role may not read is counted', sub { (value_of('emag_sync_guard_tables_unreadable') // 0) == 1 });
is(value_of('emag_sync_guard_running_runs{relation="app.emag_sync_logs"} or vector(-1)'), '-1', 'of its runs there is nothing');
until_true('and an alert is on its way', sub { (value_of('ALERTS{alertname="EmagSyncGuardTableNotReadable", alertstate="pending"}') // 0) == 1 });
run_file("$monitoring/postgres_exporter/role.sql", '-v', 'exporter=prometheus');
until_true('role.sql gives it back', sub { (value_of('emag_sync_guard_tables_unreadable') // 1) == 0 });
$node->stop;
until_true('the server is gone: an alert is on its way',
	sub { (value_of('ALERTS{alertname="EmagSyncGuardUnreachable", alertstate="pending"}') // 0) == 1 });

end_program($_) for qw(prometheus exporter);
done_testing();
