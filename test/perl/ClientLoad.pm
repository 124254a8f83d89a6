# Clients that write all the time (pgbench), and how long the longest of their statements took.
#
#   use ClientLoad;
#   my $load = start_load($node, $script, clients => 8, seconds => 4);
#   ... what they must not notice ...
#   my $seen = finish_load($load);   # { longest => milliseconds, done => transactions, silence => milliseconds }
package ClientLoad;

use strict;
use warnings;

use Exporter 'import';
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

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
	$load{run} = IPC::Run::start(
		[ 'pgbench', '--no-vacuum', '--client', $clients, '--jobs', 2, '--time', $options{seconds} // 4,
		  '--log', '--log-prefix', "$folder/log", '--file', "$folder/script.sql",
		  $node->connstr('postgres') . " application_name=$name" ],
		'>', \$load{out}, '2>&1', IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$node->poll_query_until('postgres',
		"SELECT count(*) = $clients FROM pg_stat_activity WHERE application_name = '$name' AND query_start > backend_start")
	  or die "pgbench does not start: $load{out}";
	return \%load;
}

# Waits for the end of the load. Each client must have come through: an error of any ends the test.
sub finish_load
{
	my ($load) = @_;
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
