# named_code.pl MODEL, in the tree's folder: every "src/file.cpp: name, name" in the model's comments names functions (or a struct)
# that are defined in that file, and every other "src/file.cpp" a file. A model that names nothing fails.
use strict;
use warnings;

sub slurp
{
	my ($file) = @_;
	open my $handle, '<', $file or return;
	local $/;
	return scalar <$handle>;
}

# Without its comments: a function that has gone may still be spoken of.
sub code_of
{
	my $code = slurp($_[0]) // return;
	return $code =~ s{//[^\n]*}{}gr =~ s{/\*.*?\*/}{}gsr;
}

my $type = qr/(?:[\w:<>,*&\[\]]+[ \t*&]+)+/;
my $no_type = qr/(?![ \t]*(?:return|if|while|for|else|case|throw|new)\b)/;

my $model = slurp($ARGV[0]) // die "there is no $ARGV[0]\n";
$model =~ s/\n\s*\* / /g;
my ($named, $wrong) = (0, 0);
sub wrong { print "$_[0]\n"; ++$wrong; return; }

for my $file ($model =~ m{\b(src/[\w/]+\.(?:cpp|h))\b}g)
{
	wrong("there is no $file") unless -e $file;
}
while ($model =~ m{(src/[\w/]+\.(?:cpp|h)): (\w+(?:, \w+(?=[,;:.)]| \*/))*)}g)
{
	my ($file, @names) = ($1, split /, /, $2);
	my $code = code_of($file) // next;
	for my $name (@names)
	{
		++$named;
		wrong("$file defines no $name")
		  unless $code =~ /^$no_type[ \t]*$type(?:\w+::)*$name\s*\((?:[^;{}]|\{\})*\{/m || $code =~ /^[ \t]*(?:struct|class) $name\b[^;]*\{/m;
	}
}
print "$named named\n";
exit($wrong || !$named ? 1 : 0);
