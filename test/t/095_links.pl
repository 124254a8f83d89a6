# Every link of the documentation leads somewhere: the file is there, and the heading that it names is in it.
use strict;
use warnings;

use Cwd;
use File::Basename;
use File::Find;
use PostgreSQL::Test::Utils;
use Test::More;

my $top = Cwd::realpath(dirname(__FILE__) . '/../..');

my @pages = grep { -f } map { "$top/$_.md" } qw(README CHANGELOG SECURITY);
for my $folder (grep { -d } map { "$top/$_" } qw(docs examples src demo monitoring bench test))
{
	find(sub { push @pages, $File::Find::name if /\.md$/ }, $folder);
}

# A page without its code.
sub text_of { return slurp_file($_[0]) =~ s/^```.*?^```$//msgr; }

# The anchors of a page's headings, as GitHub makes them.
my %anchors;
sub anchors_of
{
	my ($page) = @_;
	return $anchors{$page} //= do
	{
		my %of;
		for my $heading (text_of($page) =~ /^#+ +(.*?) *$/mg)
		{
			my $anchor = lc($heading =~ s/\[([^\]]*)\]\([^)]*\)/$1/gr);
			utf8::decode($anchor);
			$anchor =~ s/[^\w\- ]//g;
			$anchor =~ s/ /-/g;
			$of{$anchor} = 1;
		}
		\%of;
	};
}

my $links = 0;
for my $page (@pages)
{
	my @lost;
	my $text = text_of($page) =~ s/`[^`\n]*`//gr;
	for my $link ($text =~ /\]\(([^)\s]+)\)/g, $text =~ /(?:src|srcset|href)="([^"]+)"/g)
	{
		next if $link =~ m{^[a-z]+:};
		$links++;
		my ($file, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
		my $target = $file eq '' ? $page : dirname($page) . "/$file";
		push @lost, $link if !-e $target || (defined $anchor && !anchors_of($target)->{$anchor});
	}
	is(join(' ', @lost), '', 'links of ' . substr($page, length($top) + 1));
}
cmp_ok($links, '>', 40, 'links were found');
done_testing();
