# The installation that is tested, copied without emag_sync_guard: a server on which nobody installed the package.
#
#   use BareServer;
#   my $installation = bare_installation();
#   my $standby = PostgreSQL::Test::Cluster->new('standby', install_path => $installation);
#
# PostgreSQL finds its folders relative to its programs, so these are copied, and the rest are links.
package BareServer;

use strict;
use warnings;

use Cwd 'realpath';
use Exporter 'import';
use File::Basename;
use File::Path 'make_path';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(bare_installation install_again);

sub told
{
	my ($what) = @_;
	my $answer = `pg_config --$what`;
	chomp $answer;
	return realpath($answer);
}

# The longest folder in which all of these are.
sub common_folder
{
	my $folder = shift;
	for my $other (@_)
	{
		$folder = dirname($folder) until "$other/" =~ m{^\Q$folder\E/};
	}
	return $folder;
}

sub run_or_die { system(@_) == 0 or die "failed: @_"; return; }

# Returns what PostgreSQL::Test takes as install_path. (The last part of its root stays usr where it was: the server looks for
# /etc beside it.)
sub bare_installation
{
	my ($bin, $library, $share) = map { told($_) } qw(bindir pkglibdir sharedir);
	my $from = common_folder($bin, $library, $share);
	my $to = PostgreSQL::Test::Utils::tempdir_short() . '/' . basename($from);
	for my $folder ($library, $share)
	{
		my $copy = $to . substr($folder, length $from);
		make_path(dirname($copy));
		run_or_die('cp', '-Rs', $folder, $copy);
	}
	my $copy = $to . substr($bin, length $from);
	make_path($copy);
	run_or_die('cp', "$bin/$_", "$copy/$_") for qw(initdb pg_config pg_controldata pg_ctl pg_isready postgres psql);
	run_or_die('find', $to, '-name', 'emag_sync_guard*', '-prune', '-exec', 'rm', '-rf', '{}', '+');
	return dirname($copy);
}

# Installs the package there after all.
sub install_again
{
	my ($path) = @_;
	my ($bin, $library, $share) = map { told($_) } qw(bindir pkglibdir sharedir);
	my $from = common_folder($bin, $library, $share);
	my $to = substr($path, 0, length("$path/bin") - length(substr($bin, length $from)));
	run_or_die('sh', '-c', "cp '$library'/emag_sync_guard.so '$to" . substr($library, length $from) . "/'");
	run_or_die('sh', '-c', "cp '$share'/extension/emag_sync_guard* '$to" . substr($share, length $from) . "/extension/'");
	return;
}

1;
