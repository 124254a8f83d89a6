# Clients that write all the time (pgbench), and how long the longest of their statements took.
#
#   use ClientLoad;
#   my $load = start_load($node, $script, clients => 8, seconds => 4);
#   ... what they must not notice: they write until it is over, and for so many seconds at least ...
#   my $seen = finish_load($load);   # { longest => milliseconds, done => transactions, silence => milliseconds }
package ClientLoad;

use strict;
use warnings;

use Exporter 'import';
use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

our @EXPORT = qw(start_load finish_load);

my $count = 0;

# Starts pgbench with this script and returns when all its clients are at work.
sub start_load
{
	my ($node, $script, %options) = @_;
	my $clients = $options{clients} // 8;
	my $folder = PostgreSQL::Test::Utils::tempdir();
	my $name = 'load_' . ++$count;
	append_to_file("$folder/script.sql", $script);
	my %load = (out => '', folder => $folder);
	my $patience = $PostgreSQL::Test::Utils::timeout_default;
	$load{run} = IPC::Run::start(
		[ 'pgbench', '--no-vacuum', '--client', $clients, '--jobs', 2, '--time', $patience,
		  '--log', '--log-prefix', "$folder/log", '--file', "$folder/script.sql",
		  $node->connstr('postgres') . " application_name=$name" ],
		'>', \$load{out}, '2>&1', IPC::Run::timeout(2 * $patience));
	poll_until($node, "SELECT count(*) = $clients FROM pg_stat_activity WHERE application_name = '$name' AND query_start > backend_start",
		"$clients clients are at work") or die "pgbench does not start: $load{out}";
	$load{until} = time + ($options{seconds} // 4);
	return \%load;
}

# Ends the load. Each client must have come through: an error of any ends the test.
sub finish_load
{
	my ($load) = @_;
	while (time < $load->{until})
	{
		$load->{run}->pump_nb if $load->{run}->pumpable;
		select(undef, undef, undef, 0.05);
	}
	# What pgbench sends itself when its time is over: each client completes its transaction.
	$load->{run}->signal('ALRM');
	$load->{run}->finish or die "pgbench failed: $load->{out}";
	my ($longest, @ends) = (0);
	foreach my $file (glob "$load->{folder}/log*")
	{
		foreach my $line (split /\n/, slurp_file($file))
		{
			# client, transaction, microseconds, script, end (seconds, microseconds)
			my (undef, undef, $microseconds, undef, $seconds, $fraction) = split / /, $line;
			$longest = $microseconds if $microseconds > $longest;
			push @ends, $seconds * 1e6 + $fraction;
		}
	}
	my ($silence, $last) = (0);
	foreach my $end (sort { $a <=> $b } @ends)
	{
		$silence = $end - $last if defined $last && $end - $last > $silence;
		$last = $end;
	}
	return { longest => $longest / 1000, done => scalar @ends, silence => $silence / 1000 };
}

1;
