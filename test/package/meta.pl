# META.json against PGXN Meta Spec 1.0.0: what it requires, of which form, and no key that it does not know.
# Dies with all that is wrong.
use strict;
use warnings;
use JSON::PP;

my $meta = do { local (@ARGV, $/) = $ARGV[0]; decode_json(<>) };
my @wrong;
sub wrong_unless { push @wrong, $_[1] unless $_[0]; return }

my $version = qr/\A(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)\.(?:0|[1-9][0-9]*)(?:-?[a-zA-Z][-0-9A-Za-z]*)?\z/;
my $term = qr{\A[^\x00-\x20/\\\x7f]{2,}\z};
my %licence = map { $_ => 1 } qw(agpl_3 apache_1_1 apache_2_0 artistic_1 artistic_2 bsd freebsd gfdl_1_2 gfdl_1_3 gpl_1 gpl_2 gpl_3
	lgpl_2_1 lgpl_3_0 mit mozilla_1_0 mozilla_1_1 openssl perl_5 postgresql qpl_1_0 ssleay sun zlib open_source restricted unrestricted unknown);

# known WHERE HASH KEY...: these keys, and those of the user's own, x_
sub known
{
	my ($where, $hash, @keys) = @_;
	my %known = map { $_ => 1 } @keys;
	wrong_unless($known{$_} || /\A[xX]_/, "$where has a key $_") for sort keys %$hash;
	return;
}

sub filled { return defined $_[0] && !ref $_[0] && length $_[0] }

known('META.json', $meta, qw(name version abstract maintainer license provides meta-spec description generated_by tags no_index
	prereqs release_status resources));
wrong_unless(filled($meta->{name}) && $meta->{name} =~ $term, 'name');
wrong_unless(filled($meta->{version}) && $meta->{version} =~ $version, 'version');
wrong_unless(filled($meta->{abstract}), 'abstract');
for my $key (qw(maintainer license tags))
{
	my @values = ref $meta->{$key} eq 'ARRAY' ? @{ $meta->{$key} } : ref $meta->{$key} ? () : $meta->{$key};
	wrong_unless(@values && !grep({ !filled($_) } @values), $key);
	wrong_unless($key ne 'license' || !grep({ !$licence{$_} } @values), "license is none of PGXN's");
	wrong_unless($key ne 'tags' || !grep({ length > 255 || m{[/\\[:cntrl:]]} } @values), 'a tag');
}
wrong_unless(($meta->{release_status} // 'stable') =~ /\A(?:stable|testing|unstable)\z/, 'release_status');
wrong_unless($meta->{'meta-spec'}{version} eq '1.0.0', 'meta-spec');

wrong_unless(ref $meta->{provides} eq 'HASH' && %{ $meta->{provides} }, 'provides');
for my $name (sort keys %{ $meta->{provides} })
{
	my $provided = $meta->{provides}{$name};
	known("provides.$name", $provided, qw(file version abstract docfile));
	wrong_unless($name =~ $term, "provides.$name");
	wrong_unless(filled($provided->{file}) && $provided->{file} !~ m{\A/|\.\.}, "provides.$name.file");
	wrong_unless(filled($provided->{version}) && $provided->{version} =~ $version, "provides.$name.version");
}

for my $phase (sort keys %{ $meta->{prereqs} // {} })
{
	wrong_unless($phase =~ /\A(?:configure|build|test|runtime|develop)\z/, "prereqs.$phase");
	for my $relation (sort keys %{ $meta->{prereqs}{$phase} })
	{
		wrong_unless($relation =~ /\A(?:requires|recommends|suggests|conflicts)\z/, "prereqs.$phase.$relation");
		my $needed = $meta->{prereqs}{$phase}{$relation};
		wrong_unless($needed->{$_} =~ /\A0\z/ || $needed->{$_} =~ $version, "prereqs.$phase.$relation.$_") for sort keys %$needed;
	}
}

die map { "wrong in META.json: $_\n" } @wrong if @wrong;
