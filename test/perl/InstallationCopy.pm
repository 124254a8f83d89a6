# A copy of the installation that is tested: PostgreSQL finds its folders relative to its programs, so these are copied, and the
# rest are links.
#
#   use InstallationCopy;
#   my ($bin, $lib, $share) = copy_installation($folder);
package InstallationCopy;

use strict;
use warnings;

use Cwd 'realpath';
use Exporter 'import';
use File::Basename;
use File::Path 'make_path';

our @EXPORT = qw(installed copies_in copy_installation run_or_die);

sub run_or_die { system(@_) == 0 or die "failed: @_"; return; }

# A folder of the installation whose pg_config is first on the PATH.
sub installed
{
	my ($what) = @_;
	chomp(my $folder = `pg_config --$what`);
	return realpath($folder);
}

sub installed_folders { return map { installed($_) } qw(bindir pkglibdir sharedir); }

# Where the folders of programs, libraries and the rest lie in a copy in that folder. (The last part of the root that they have
# in common stays, usr where it was: the server looks for /etc beside it.)
sub copies_in
{
	my ($to) = @_;
	my @folders = installed_folders();
	my $common = $folders[0];
	for my $folder (@folders)
	{
		$common = dirname($common) until "$folder/" =~ m{^\Q$common\E/};
	}
	return map { "$to/" . basename($common) . substr($_, length $common) } @folders;
}

# Makes it, and returns the same.
sub copy_installation
{
	my ($to) = @_;
	my @folders = installed_folders();
	my @copies = copies_in($to);
	for my $number (0 .. $#folders)
	{
		make_path(dirname($copies[$number]));
		run_or_die('cp', $number == 0 ? '-R' : '-Rs', $folders[$number], $copies[$number]);
	}
	return @copies;
}

1;
