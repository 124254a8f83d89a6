# Clients that can be killed, frozen and cut off, each a process of its own (test/clients/lease_fleet.py has what they obey).
#
#   use LeaseFleet;
#   plan skip_all => fleet_missing() if fleet_missing();
#   my $fleet = LeaseFleet->new($node);
#   $fleet->ask('open workers 200');
#   is_deeply($fleet->counts('do workers SELECT 1'), { 1 => 200 });
#   my $at = $fleet->ask('signal workers KILL');
package LeaseFleet;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(fleet_missing);

my $python = -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';
my $program = dirname(__FILE__) . '/../clients/lease_fleet.py';

# Why there can be no fleet here; empty: there can.
sub fleet_missing
{
	return system("$python -c 'import psycopg2' >/dev/null 2>&1") == 0 ? '' : 'Python has no psycopg2';
}

# A fleet whose clients connect to this server; with several, to the one that takes writes.
sub new
{
	my ($class, @nodes) = @_;
	local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
	local $ENV{LEASE_FLEET_CONNECTION} = sprintf('host=%s port=%s dbname=postgres connect_timeout=5%s',
		join(',', map { $_->host } @nodes), join(',', map { $_->port } @nodes),
		@nodes > 1 ? ' target_session_attrs=read-write' : '');
	my %fleet = (in => '', out => '', err => '');
	$fleet{run} = IPC::Run::start([ $python, $program ], '<', \$fleet{in}, '>', \$fleet{out}, '2>', \$fleet{err},
		$fleet{timer} = IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	return bless \%fleet, $class;
}

# What the fleet answers to this command.
sub ask
{
	my ($fleet, $command) = @_;
	$fleet->{out} = '';
	$fleet->{in} .= ($command =~ s/\s*\n\s*/ /gr) . "\n";
	$fleet->{timer}->start;
	eval { $fleet->{run}->pump until $fleet->{out} =~ /\n/ || !$fleet->{run}->pumpable; 1 }
	  or die "the fleet does not answer to \"$command\": $@$fleet->{err}";
	$fleet->{timer}->reset;
	$fleet->{out} =~ /^(.*)\n/ or die "the fleet is gone at \"$command\": $fleet->{err}";
	return $1;
}

# The same where the answer is counts: a hash.
sub counts
{
	my ($fleet, $command) = @_;
	return decode_json($fleet->ask($command));
}

# Kills what is left of it. (It is told to: its input need not end, since servers started meanwhile hold the pipe too.)
sub end
{
	my ($fleet) = @_;
	$fleet->{in} .= "quit\n";
	$fleet->{timer}->start;
	$fleet->{run}->finish;
	return;
}

1;
