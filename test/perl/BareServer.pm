# The installation that is tested, copied without emag_sync_guard: a server on which nobody installed the package.
#
#   use BareServer;
#   my $installation = bare_installation();
#   my $standby = PostgreSQL::Test::Cluster->new('standby', install_path => $installation);
package BareServer;

use strict;
use warnings;

use Exporter 'import';
use File::Basename;
use InstallationCopy;
use PostgreSQL::Test::Utils;

our @EXPORT = qw(bare_installation install_again);

my %folders;    # of each: libraries and the rest

# Returns what PostgreSQL::Test takes as install_path.
sub bare_installation
{
	my $to = PostgreSQL::Test::Utils::tempdir_short();
	my ($bin, $lib, $share) = copy_installation($to);
	run_or_die('find', $to, '-name', 'emag_sync_guard*', '-prune', '-exec', 'rm', '-rf', '{}', '+');
	$folders{ dirname($bin) } = [ $lib, $share ];
	return dirname($bin);
}

# Installs the package there after all.
sub install_again
{
	my ($lib, $share) = @{ $folders{ $_[0] } };
	run_or_die('cp', installed('pkglibdir') . '/emag_sync_guard.so', $lib);
	run_or_die('cp', glob(installed('sharedir') . '/extension/emag_sync_guard*'), "$share/extension");
	return;
}

1;
