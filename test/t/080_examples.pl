# Every worker of examples/ on the real table, through every way in which a run can end: by itself, by an exception, by a
# cancellation, by kill -9, and by the guard in the middle of its work.
use strict;
use warnings;

use Cwd;
use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('examples', preload => ['emag_sync_guard']);
my $folder = getcwd() . '/examples';
my $python = '/usr/bin/python3';
$ENV{PGHOST} = $node->host;
$ENV{PGPORT} = $node->port;
$ENV{PGDATABASE} = 'postgres';
$ENV{PGUSER} = $node->safe_psql('postgres', 'SELECT current_user');
$ENV{PYTHONDONTWRITEBYTECODE} = 1;

sub sql { return $node->safe_psql('postgres', $_[0]); }

$node->safe_psql('postgres', slurp_file('demo/application.sql'));
sql(q{CREATE TABLE app.products (sync_log_id uuid NOT NULL)});
sql(q{SELECT sync_guard.guard_table('app.emag_sync_logs')});

sub row { return sql("SELECT status, errors ->> -1, completed_at >= started_at, duration_seconds >= 0 FROM app.emag_sync_logs WHERE id = '$_[0]'"); }
sub verdict { return sql("SELECT verdict FROM sync_guard.reaped_syncs WHERE run_key = '$_[0]'"); }

# Reaps it while it is alive, as a person may.
sub reap { return sql("SELECT sync_guard.reap_stale_syncs('1 microsecond', even_if_alive => true)"); }

# The run is dead or soon will be; a reaping finds it within the ttl and a little more.
sub until_closed
{
	my ($key) = @_;
	poll_until($node, "SELECT sync_guard.reap_stale_syncs() >= 0 AND status = 'failed' FROM app.emag_sync_logs WHERE id = '$key'", 'its run is closed');
	return;
}

# A worker that was started, its run's key, and how to end it.
sub start_worker
{
	my (@command) = @_;
	my %worker = (out => '');
	$worker{handle} = IPC::Run::start(\@command, '<', \undef, '>&', \$worker{out}, init => sub { chdir $folder or die $! }, IPC::Run::timeout(120));
	$worker{handle}->pump until $worker{out} =~ /started (\S+)/ || !$worker{handle}->pumpable;
	$worker{out} =~ /started (\S+)/ or die "it did not start: $worker{out}";
	$worker{key} = $1;
	return \%worker;
}

# Its exit code, or the signal that ended it.
sub ended
{
	my ($worker) = @_;
	$worker->{handle}->finish;
	my $result = $worker->{handle}->full_result(0);
	return $result & 127 ? 'signal ' . ($result & 127) : $result >> 8;
}

# Which verdict a kill -9 gets: at once by the end of its session, or when its ttl is over.
my @examples = (
	[ 'asyncpg', 'heartbeat_lost', $python, 'asyncpg_worker.py' ],
	[ 'psycopg2', 'session_gone', $python, 'psycopg2_worker.py' ],
	[ 'sqlalchemy', 'heartbeat_lost', $python, 'sqlalchemy_worker.py' ],
	[ 'node', 'heartbeat_lost', 'node', 'node_pg_worker.js' ],
	[ 'psql', 'heartbeat_lost', 'bash', 'psql_worker.sh' ]);

for my $example (@examples)
{
	my ($name, $when_killed, @command) = @$example;
	subtest $name => sub {
		my $worker = start_worker(@command, '1');
		is(ended($worker), 0, 'a normal end');
		is(row($worker->{key}), 'completed||t|t', 'its row is completed, with end and duration');

		$worker = start_worker(@command, 'fail');
		is(ended($worker), 1, 'an exception');
		like(row($worker->{key}), qr/^failed\|.*(the shop refused the page|ended with code 1).*\|t\|t$/, 'its row is failed, with the error');

		$worker = start_worker(@command, '60');
		$worker->{handle}->signal('TERM');
		is(ended($worker), 2, 'a cancellation');
		like(row($worker->{key}), qr/^failed\|.*(?i:cancel|interrupt|ended with code 2).*\|t\|t$/, 'its row is failed, with the reason');

		$worker = start_worker(@command, '60');
		is(reap(), 1, 'it is reaped in the middle of its work');
		is(ended($worker), 3, 'it has stopped');
		like($worker->{out}, qr/stopped: run \Q$worker->{key}\E.*reaped/, 'and says why');
		unlike($worker->{out}, qr/Traceback|    at /, 'in one line');
		like(row($worker->{key}), qr/^failed\|Sync interrupted .*(overdue|silent): /, 'its row stands as the guard closed it');

		$worker = start_worker(@command, '60');
		$worker->{handle}->signal('KILL');
		is(ended($worker), 'signal 9', 'kill -9');
		until_closed($worker->{key});
		is(verdict($worker->{key}), $when_killed, "its run is closed: $when_killed");
	};
}

subtest 'psql dies' => sub {
	my $worker = start_worker('bash', 'psql_worker.sh', '60');
	kill 'KILL', split ' ', qx(pgrep -P $worker->{handle}{KIDS}[0]{PID} psql);
	is(ended($worker), 1, 'it has stopped');
	is($worker->{out} =~ s/^started.*\n//r, "stopped: the session has ended\n", 'and says why, in one line');
	poll_until($node, "SELECT status = 'failed' FROM app.emag_sync_logs WHERE id = '$worker->{key}'", 'its run ends');
	is(verdict($worker->{key}), 'session_gone', 'its run is closed without a reaping');
};

is(sql(q{SELECT count(*) FROM sync_guard.late_finishes}), '0', 'nobody wrote to a run that was closed');
is(sql(q{SELECT count(*) FROM app.emag_sync_logs AS l WHERE status = 'completed'
		 AND l.processed_items = 0 AND EXISTS (SELECT FROM app.products WHERE sync_log_id = l.id)}), '1', 'fenced products are there');

my $celery;    # it would outlive a test that dies
END { kill 'KILL', $celery->{KIDS}[0]{PID} if $celery }

subtest celery => sub {
	local $ENV{CELERY_BROKER_URL} = 'filesystem://';
	my $log = '';
	# Starts a worker, with an empty queue; how many runs it says to have closed.
	my $boot = sub {
		$ENV{BROKER_FOLDER} = PostgreSQL::Test::Utils::tempdir;
		$log = '';
		$celery = IPC::Run::start([ $python, '-m', 'celery', '-A', 'celery_task', 'worker', '--concurrency=1', '-l', 'warning' ],
			'<', \undef, '>&', \$log, init => sub { chdir $folder or die $! }, IPC::Run::timeout(180));
		$celery->pump until $log =~ /announced \S+: (\d+) runs/ || !$celery->pumpable;
		return $log =~ /announced \S+: (\d+) runs/ ? $1 : die "it did not start: $log";
	};
	# Sends a task; the key of its run when it has started.
	my $start = sub {
		my ($argument) = @_;
		my $before = length $log;
		run_log([ $python, '-c', "import sys; sys.path.insert(0, '$folder'); import celery_task; celery_task.sync.delay('$argument')" ])
		  or die 'the task could not be sent';
		$celery->pump until substr($log, $before) =~ /started (\S+)/ || !$celery->pumpable;
		return substr($log, $before) =~ /started (\S+)/ ? $1 : die "the task did not start: $log";
	};
	my $until_status = sub {
		my ($key, $status, $what) = @_;
		poll_until($node, "SELECT status = '$status' FROM app.emag_sync_logs WHERE id = '$key'", $what);
		return;
	};
	my $processes = sub { my $worker = $celery->{KIDS}[0]{PID}; return ($worker, split ' ', qx(pgrep -P $worker)); };
	my $kill = sub { kill 'KILL', $processes->(); $celery->finish; undef $celery; };

	is($boot->(), 0, 'a worker boots and announces itself');
	$until_status->($start->('1'), 'completed', 'a normal end');

	my $key = $start->('fail');
	$until_status->($key, 'failed', 'an exception');
	like(row($key), qr/^failed\|ValueError: the shop refused the page\|t\|t$/, 'its row is failed, with the error');

	$key = $start->('60');
	is(reap(), 1, 'it is reaped in the middle of its work');
	$celery->pump until $log =~ /stopped: run \Q$key\E was reaped/ || !$celery->pumpable;
	like($log, qr/stopped: run \Q$key\E was reaped/, 'it has stopped');
	like(row($key), qr/^failed\|Sync interrupted .*overdue/, 'its row stands as the guard closed it');

	$key = $start->('60');
	my (undef, @children) = $processes->();
	kill 'TERM', @children;
	$until_status->($key, 'failed', 'its process is told to end');
	like(row($key), qr/^failed\|SystemExit/, 'its row is failed, with the reason');
	$kill->();

	is($boot->(), 0, 'a worker that leaves nothing behind');
	$key = $start->('60');
	$kill->();
	is(row($key) =~ s/\|.*//r, 'running', 'kill -9 of the worker and its process');
	is($boot->(), 1, 'it boots again, and what its former life left running is closed');
	is(verdict($key), 'worker_restarted', 'for that reason');
	$kill->();
};

done_testing();
