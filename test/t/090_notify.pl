# Who LISTENs hears of every reaping on every path, once, and of alerts: through psycopg2 and asyncpg, by the very programs of
# docs/notifications.md. What is sent fits docs/schema/notification.schema.json. Nothing is sent inside what an application
# may PREPARE, and nothing that fails here fails a reaping.
use strict;
use warnings;
use utf8;

use Encode;
use File::Basename;
use GuardNode;
use IPC::Run;
use JSON::PP;
use LeaseFleet;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;

my $top = dirname(__FILE__) . '/../..';
my $python = -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

sub has_module { return system("$python -c 'import $_[0]' >/dev/null 2>&1") == 0; }
plan skip_all => 'Python has no psycopg2' unless has_module('psycopg2');

# (No grace: the server has just started.)
my $node = guard_node('notify', init => { extra => [ '--encoding=UTF8', '--locale=C' ] }, preload => [ 'pg_cron', 'emag_sync_guard' ],
	conf => "emag_sync_guard.restart_grace = 0\nmax_prepared_transactions = 5");
sub sql { return $node->safe_psql('postgres', encode('UTF-8', $_[0])); }

make_run_table($node, 'runs');
sql(q{
	CREATE ROLE stranger LOGIN;
	CREATE EXTENSION pg_cron;
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', exclusive => true)});

# (Of alerts only those that are asked for below.)
sql(q{SELECT sync_guard.set_alert_rule(NULL, rule, enabled => false) FROM (SELECT DISTINCT rule FROM sync_guard.alert_rules WHERE rule <> 'long_running') AS r});

# ---- who listens -----------------------------------------------------------------------------------------------------------------
# The programs of the documentation, as a role with no rights at all.
my %programs;
for (slurp_file("$top/docs/notifications.md") =~ /```python\n(.*?)```/gs)
{
	my ($module) = /^import (psycopg2|asyncpg)$/m;
	$programs{$module} = $_ if defined $module;
}
is(join(' ', sort keys %programs), 'asyncpg psycopg2', 'docs/notifications.md has a program for each client');
my %heard;
for my $module (grep { has_module($_) } sort keys %programs)
{
	my %listener = (out => '', err => '');
	local @ENV{qw(PGHOST PGPORT PGUSER PGDATABASE)} = ($node->host, $node->port, 'stranger', 'postgres');
	$listener{run} = IPC::Run::start([ $python, '-c', $programs{$module} ], '<', \undef, '>', \$listener{out}, '2>', \$listener{err});
	$heard{$module} = \%listener;
}
END { $_->{run}->signal('KILL') for values %heard; }
my $listeners = keys %heard;
poll_until($node, qq{SELECT count(*) = $listeners FROM pg_stat_activity WHERE usename = 'stranger' AND query ~ '^LISTEN' AND state = 'idle'},
	'every role may LISTEN: ' . join(', ', sort keys %heard)) or diag(map { $_->{err} } values %heard);

my %read = map { $_ => 0 } keys %heard;
my @all;
my $markers = 0;

# The notifications heard since the last call, up to a marker sent now; by every listener the same.
sub heard
{
	my ($name) = @_;
	my $marker = sprintf('{"event": "marker", "number": %d}', ++$markers);
	sql("SELECT pg_notify('emag_sync_guard', '$marker')");
	my $first;
	for my $module (sort keys %heard)
	{
		my $listener = $heard{$module};
		my $until = Time::HiRes::time() + $PostgreSQL::Test::Utils::timeout_default;
		my $end;
		while (($end = index($listener->{out}, "$marker\n", $read{$module})) < 0)
		{
			die "$module hears nothing: $listener->{err}" if Time::HiRes::time() > $until || !$listener->{run}->pumpable;
			$listener->{run}->pump_nb;
			Time::HiRes::usleep(1000);
		}
		my @payloads = split /\n/, substr($listener->{out}, $read{$module}, $end - $read{$module});
		$read{$module} = $end + length("$marker\n");
		$first //= \@payloads;
		is_deeply(\@payloads, $first, "$name: $module hears the same") if $first != \@payloads;
	}
	push @all, @$first;
	return map { decode_json($_) } @$first;
}

# What the journal has, as notifications; the newest `count` lines, oldest first.
sub journaled
{
	my ($count) = @_;
	return map { decode_json($_) } split /\n/, sql(qq{
		SELECT jsonb_build_object('event', event, 'at', to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'), 'table', relation_name,
			'key', run_key, 'scope', scope, 'verdict', verdict, 'reason', reason, 'path', path, 'role', role)
		FROM (SELECT * FROM sync_guard.journal WHERE event IN ('reaped', 'would_reap') ORDER BY id DESC LIMIT $count) AS j ORDER BY id});
}

# What was heard is what the journal has of the last reapings.
sub hears
{
	my ($name, @paths) = @_;
	my @heard = heard($name);
	is(join(' ', map { $_->{path} } @heard), join(' ', @paths), "$name: by these paths");
	is_deeply(\@heard, [ journaled(scalar @paths) ], "$name: as in the journal");
	return @heard;
}
sub hears_nothing { my ($name) = @_; is(scalar(my @nothing = heard($name)), 0, $name); return; }
sub waiting { return sql('SELECT count(*) FROM sync_guard.outbox'); }
my $sweep = 'SELECT sync_guard.reap_stale_syncs()';

# ---- each path ---------------------------------------------------------------------------------------------------------------------
start_run($node, 'runs', 'products', '2 hours');
start_run($node, 'runs', 'orders', '3 hours');
is(sql($sweep), '2', 'two runs are reaped by a call');
hears('a call', 'call', 'call');
is(waiting(), '0', 'and nothing waits');
is(sql($sweep), '0', 'there is no more');
hears_nothing('a sweep that reaps nothing says nothing');

sql(qq{BEGIN; INSERT INTO runs (sync_type, started_at) VALUES ('products', '2020-01-01'); SET LOCAL emag_sync_guard.notify = off; $sweep; ROLLBACK});
sql(qq{BEGIN; INSERT INTO runs (sync_type, started_at) VALUES ('products', '2020-01-01'); $sweep; ROLLBACK});
hears_nothing('nor does a reaping that is rolled back');
is(waiting(), '0', 'and it leaves nothing to be sent');

# The worker, at a session's death.
my $fleet = LeaseFleet->new($node);
$fleet->ask('open dying 3');
$fleet->ask(q{do dying SELECT token FROM sync_guard.start_sync('runs', '{"sync_type": "{name}"}', bind_session => true)});
$fleet->ask('signal dying KILL');
poll_until($node, q{SELECT count(*) = 3 FROM sync_guard.reaped_syncs WHERE path = 'worker'}, 'three clients are killed');
my @deaths = heard('the worker');
is_deeply([ sort { $a->{key} <=> $b->{key} } @deaths ], [ sort { $a->{key} <=> $b->{key} } journaled(3) ], 'the worker: as in the journal');
is(join(' ', map { "$_->{path}:$_->{verdict}" } @deaths), join(' ', ('worker:session_gone') x 3), 'the worker: session_gone');

# Who starts a run closes the dead one in its way, inside the application's transaction: it can be prepared.
my $ghost = start_run($node, 'runs', 'products', '2 hours');
sql(q{BEGIN; SELECT sync_guard.start_sync('runs', '{"sync_type": "products"}', worker => 'loader-1', incarnation => 'a'); PREPARE TRANSACTION 'start'});
hears_nothing('start_sync sends nothing');
sql(q{COMMIT PREPARED 'start'});
is(waiting(), '1', 'it waits');
hears_nothing('until a sweep comes');
sql($sweep);
is((hears('start_sync', 'start_sync'))[0]{key}, $ghost, 'which sends it');
is(waiting(), '0', 'and it waits no more');

# A worker that begins anew.
is(sql(q{SELECT sync_guard.worker_started('loader-1', 'b')}), '1', 'a worker begins anew');
hears_nothing('worker_started sends nothing');
sql($sweep);
is((hears('worker_started', 'worker_started'))[0]{verdict}, 'worker_restarted', 'the next sweep does');

# A sweep in a block of the caller's own, which he may prepare.
start_run($node, 'runs', 'products', '2 hours');
sql("BEGIN; $sweep; PREPARE TRANSACTION 'sweep'");
sql(q{COMMIT PREPARED 'sweep'});
is(waiting(), '1', 'a sweep can be prepared');
hears_nothing('and sends nothing then');
sql($sweep);
hears('a sweep that was prepared', 'call');

# Only observed.
make_run_table($node, 'observed');
sql(q{SELECT sync_guard.guard_table('observed', scope_columns => '{}', time_zone => 'UTC', mode => 'observe')});
start_run($node, 'observed', 'products', '2 hours');
sql($sweep);
my ($would) = hears('observing', 'call');
is_deeply([ @$would{qw(event scope)} ], [ 'would_reap', undef ], 'would_reap, and no scope');
sql($sweep);
hears_nothing('once');
sql(q{SELECT sync_guard.unguard_table('observed')});

# ---- what keeps them waiting ---------------------------------------------------------------------------------------------------------
start_run($node, 'runs', 'products', '2 hours');
is(sql("SET emag_sync_guard.notify = off; $sweep; $sweep"), "1\n0", 'switched off, it is reaped all the same');
hears_nothing('and nothing is sent');
is(waiting(), '1', 'it waits');
my $other = $node->background_psql('postgres', on_error_stop => 1);
$other->query_safe("BEGIN; SELECT FROM sync_guard.outbox FOR UPDATE");
sql($sweep);
hears_nothing('what another sweep is sending is left to it');
$other->query_safe('ROLLBACK');
sql("$sweep; $sweep");
hears('the next sweep', 'call');
is(waiting(), '0', 'sends it, once');

# The server's queue is in use by who does not read: at a limit of nothing they wait, at the usual one they do not.
$other->query_safe('LISTEN elsewhere; BEGIN; SELECT 1');
sql(q{SELECT pg_notify('anywhere', n || repeat('x', 7000)) FROM generate_series(1, 20) AS n});
cmp_ok(sql('SELECT pg_notification_queue_usage()'), '>', 0, 'the queue is in use');
start_run($node, 'runs', 'products', '2 hours');
is(sql("SET emag_sync_guard.notify_queue_limit = 0; $sweep; $sweep"), "1\n0", 'fuller than allowed: it is reaped all the same');
hears_nothing('but not told of');
is(waiting(), '1', 'it waits');
is(sql(q{SHOW emag_sync_guard.notify_queue_limit}), '0.5', 'half of it is the usual limit');
sql($sweep);
hears('below the limit', 'call');
$other->query_safe('COMMIT');
poll_until($node, 'SELECT pg_notification_queue_usage() = 0', 'who has not read has gone: the queue is empty');
# What a transaction is about to send itself counts too.
start_run($node, 'runs', $_, '2 hours') for 1 .. 3;
is(sql("SET emag_sync_guard.notify_queue_limit = 0; $sweep"), '3', 'three are reaped');
is(waiting(), '2', 'the first would fill the queue above a limit of nothing: the others wait');
sql($sweep);
is_deeply([ sort map { $_->{scope}{sync_type} } heard('two after the one') ], [ 1, 2, 3 ], 'and are sent by the next sweep');

# ---- what fails --------------------------------------------------------------------------------------------------------------------
start_run($node, 'runs', 'products', '2 hours');
my $log = -s $node->logfile;
$other->query_safe('BEGIN; LOCK TABLE sync_guard.outbox');
is(sql("SET emag_sync_guard.notify = off; $sweep"), '1', 'with the outbox locked by somebody it is reaped all the same');
$other->query_safe('ROLLBACK');
like(slurp_file($node->logfile, $log), qr/LOG:  could not announce what happened to runs: canceling statement due to lock timeout/, 'the log tells what became of its notification');
hears_nothing('which is lost');
is(sql(q{SELECT count(*) FROM runs WHERE status = 'running'}), '0', 'the reaping is not');

# Nobody sends: the outbox does not grow for ever.
sql(q{INSERT INTO sync_guard.outbox (payload) SELECT '{}' FROM generate_series(1, 10020)});
$log = -s $node->logfile;
sql("SET emag_sync_guard.notify = off; $sweep");
is(waiting(), '10000', 'the newest ten thousand wait');
like(slurp_file($node->logfile, $log), qr/LOG:  dropped the oldest 20 notifications of the outbox/, 'and the log tells of the others');
sql('DELETE FROM sync_guard.outbox');

# ---- long and strange --------------------------------------------------------------------------------------------------------------
my $wide = q{"wide ""table"""};
my @columns = map { qq{"c$_\t""é"""} } 1 .. 8;
my @values = ("repeat(E'\\x01', 9000)", q{repeat('€', 9000)}, q{repeat('"\\', 9000)}, 'NULL', q{''}, q{E'line\nline\ttab'}, q{repeat('😀', 9000)}, q{'ok'});
sql(qq{
	CREATE TABLE $wide (id text PRIMARY KEY, status text, started_at timestamptz, @{[ join ', ', map { "$_ text" } @columns ]});
	SELECT sync_guard.guard_table('$wide', live_statuses => '{running}', failed_status => 'failed', scope_columns => ARRAY[@{[ join ', ', map { s/^"|"$//gr =~ s/""/"/gr =~ s/^|$/'/gr } @columns ]}]::name[])});
for ([ 'a long key', q{repeat('k', 20000)} ], [ 'a key of wide characters', q{repeat('€', 7000)} ], [ 'a key of control characters', q{repeat(E'\\x01', 20000)} ])
{
	my ($name, $key) = @$_;
	sql(qq{INSERT INTO $wide VALUES ($key, 'running', '2020-01-01', @{[ join ', ', @values ]})});
	is(sql($sweep), '1', "$name: the run is reaped");
	my ($event) = heard($name);
	my $payload = $all[-1];
	ok(length($payload) < 8000 && length($payload) > 3000, "$name: its notification is short enough") or diag(length($payload));
	ok($event->{cut}, "$name: it says that it is cut");
	my $full = decode('UTF-8', sql(qq{SELECT $key}));
	ok(length($event->{key}) > 200 && index($full, $event->{key}) == 0, "$name: what is there of the key is its beginning");
	is(join(',', map { defined ? length > 0 ? 'text' : 'empty' : 'null' } map { $event->{scope}{ s/^"|"$//gr =~ s/""/"/gr } } @columns),
		'text,text,text,null,empty,text,text,text', "$name: every column of the scope has what fits of it");
	is($event->{scope}{"c8\t\"é\""}, 'ok', "$name: what fits is whole");
	is($event->{scope}{"c6\t\"é\""}, "line\nline\ttab", "$name: and is what it was");
	like($event->{scope}{"c7\t\"é\""}, qr/^😀+$/, "$name: nothing is cut within a character");
}
sql(qq{SELECT sync_guard.unguard_table('$wide')});

# ---- alerts --------------------------------------------------------------------------------------------------------------------------
my $long = start_run($node, 'runs', 'products', '45 minutes');
sql($sweep);
my @alerts = heard('a long run');
is(@alerts, 1, 'an alert is raised');
my $alert = $alerts[0] // {};
is_deeply([ @$alert{qw(event rule severity table scope subject threshold unit)} ],
	[ 'alert_raised', 'long_running', 'warning', 'public.runs', { sync_type => 'products' }, undef, 1800, 'seconds' ], 'long_running, with its table and scope');
cmp_ok($alert->{figure}, '>=', 2700, 'its figure');
cmp_ok($alert->{figure}, '<', 2700 + 120, 'in seconds');
is($alert->{detail}, sql(q{SELECT detail FROM sync_guard.alert_log WHERE cleared_at IS NULL}), 'its words are those of the log');
sql($sweep);
hears_nothing('a second sweep does not say it again');
sql("UPDATE runs SET status = 'completed' WHERE id = $long");
sql("SET emag_sync_guard.notify = off; $sweep");
hears_nothing('switched off, its end waits');
sql($sweep);
@alerts = heard('cleared');
is(join(' ', map { "$_->{event}:$_->{rule}:$_->{figure}" } @alerts), 'alert_cleared:long_running:0', 'and is told by the next sweep');

# ---- pg_cron ---------------------------------------------------------------------------------------------------------------------------
# (It takes up to a minute.)
start_run($node, 'runs', 'products', '2 hours');
sql('SELECT sync_guard.schedule_reaping()');
poll_until($node, q{SELECT count(*) = 1 FROM sync_guard.reaped_syncs WHERE path = 'pg_cron'}, 'pg_cron reaps');
sql('SELECT sync_guard.unschedule_reaping()');
hears('pg_cron', 'pg_cron');
is(waiting(), '0', 'nothing waits at the end');

# ---- the schema ------------------------------------------------------------------------------------------------------------------------
SKIP:
{
	skip 'Python has no jsonschema', 1 unless has_module('jsonschema');
	# What each document is found to be, in the order given.
	my $fit = sub {
		my $out = '';
		IPC::Run::run([ $python, "$top/test/clients/json_schema.py" ], '<', \join('', map { "$top/docs/schema/notification.schema.json\t$_\n" } @_), '>', \$out);
		return split /\n/, $out;
	};
	my @found = $fit->(@all);
	is(scalar(@found), scalar(@all), 'every notification of ' . @all . ' is looked at');
	is(join("\n", grep { $_ ne 'ok' } @found), '', 'and fits docs/schema/notification.schema.json');
	my @wrong;
	for my $event (map { decode_json($_) } (grep { /"reaped"/ } @all)[0], (grep { /"alert_raised"/ } @all)[0])
	{
		for my $field (sort keys %$event)
		{
			my %less = %$event;
			delete $less{$field};
			push @wrong, encode_json(\%less), encode_json({ %$event, $field => [] });
		}
		push @wrong, encode_json({ %$event, more => 1 }), encode_json({ %$event, cut => JSON::PP::false });
	}
	is(scalar(grep { $_ eq 'ok' } $fit->(@wrong)), 0, 'which would have found a field that is missing, wrong or too many');
}

$node->stop;
done_testing();
