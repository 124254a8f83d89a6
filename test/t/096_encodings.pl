# Databases of other encodings than UTF-8, and of none: the extension can be made there, its messages are sent, lines for a
# terminal are as wide as they should be and hold no half characters, and the report is plain ASCII.
use strict;
use warnings;

use Encode qw(decode);
use File::Basename;
use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = guard_node('encodings', preload => ['emag_sync_guard'], conf => "emag_sync_guard.restart_grace = 0");

# Asks as a client of this encoding: what came, as characters of it, and what was said.
sub asked
{
	my ($database, $client, $query) = @_;
	local $ENV{PGCLIENTENCODING} = $client;
	my ($status, $out, $err) = $node->psql($database, $query);
	return (decode($client eq 'UTF8' ? 'UTF-8' : 'ISO-8859-1', $out), $err);
}

# How many cells a text fills: the wide letters this test uses are two.
sub cells { my ($text) = @_; my $wide = () = $text =~ /[\x{3000}-\x{9fff}]/g; return length($text) + $wide; }

# Of a query that gives texts, one a line: how wide they are, each width once.
sub widths
{
	my ($out, $err) = asked(@_);
	diag($err) if $err ne '';
	my %widths = map { cells($_) => 1 } split /\n/, $out;
	return join(' ', sort keys %widths);
}

my %texts = (
	SQL_ASCII => q{(E'cl\xc3\xa9', repeat(E'\xc3\xa9', 500)), (E'k\xff\xfe', E'abcdefghijklmnop\xe2\x82'), ('plain', E'x\u0001')},
	LATIN1 => q{(E'cl\xe9', repeat(E'\xe9', 500)), (E'k\x9b31m', E'a\x85b')},
	EUC_JP => q{(E'\xc6\xfc', repeat(E'\xc6\xfc\xcb\xdc', 500)), (E'\xa2\xafk', 'x')});
for my $encoding (sort keys %texts)
{
	$node->safe_psql('postgres', "CREATE DATABASE \"d_$encoding\" TEMPLATE template0 ENCODING '$encoding' LOCALE 'C'");
	my (undef, $err) = asked("d_$encoding", $encoding, qq{
		SET client_min_messages = warning;
		CREATE EXTENSION emag_sync_guard;
		CREATE TABLE runs (id text PRIMARY KEY, sync_type text, status text NOT NULL DEFAULT 'running', started_at timestamptz DEFAULT now());
		SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}');
		CREATE TABLE timeless (id text PRIMARY KEY, status text NOT NULL DEFAULT 'running');
		INSERT INTO runs (id, sync_type) VALUES $texts{$encoding}});
	is($err, '', "$encoding: the extension is made, a table guarded, runs are there");
	asked("d_$encoding", $encoding, q{SELECT sync_guard.guard_table('timeless', start_column => '')});
	my ($hint) = asked("d_$encoding", 'UTF8', q{SELECT hint FROM sync_guard.guard_health WHERE problem = 'no_time_column'});
	is($hint, q{SELECT sync_guard.guard_table('public.timeless', start_column => ...);}, "$encoding: what is proposed can be sent");
	my ($page, $said) = asked("d_$encoding", $encoding, 'SELECT sync_guard.report_html()');
	is($said, '', "$encoding: the report is made");
	unlike($page, qr/[^\x00-\x7f]/, "$encoding: and is plain ASCII");
	unlike($page, qr/could not be read/, "$encoding: all of it");
	my $runs = () = $page =~ /<tr role="row" class="running">/g;
	is($runs, $encoding eq 'SQL_ASCII' ? 3 : 2, "$encoding: with each run");
	like($page, { SQL_ASCII => qr/cl&#xE9;.*k&#xFFFD;&#xFFFD;/s, LATIN1 => qr/cl&#xE9;.*k&#xFFFD;31m/s, EUC_JP => qr/&#x65E5;.*&#xFFFD;k/s }->{$encoding},
		"$encoding: in its characters");
}
is(widths('d_SQL_ASCII', 'UTF8', 'SELECT sync FROM sync_guard.watch_120'), '18', 'no encoding, a client of UTF-8: texts are as wide as he sees them');
is(widths('d_SQL_ASCII', 'UTF8', 'SELECT key FROM sync_guard.watch_120'), '8', 'bytes that are no character too');
is(widths('d_SQL_ASCII', 'UTF8', 'SELECT sync FROM sync_guard.watch_80'), '15', 'and narrow ones');
is(widths('d_SQL_ASCII', 'SQL_ASCII', 'SELECT sync FROM sync_guard.watch_120'), '18', 'a client without one: bytes');
is(widths('d_LATIN1', 'UTF8', 'SELECT sync FROM sync_guard.watch_120'), '18', 'LATIN1');
my ($key) = asked('d_LATIN1', 'UTF8', q{SELECT key FROM sync_guard.watch_120 WHERE key LIKE 'k%'});
is($key, 'k?31m   ', 'its control characters do not reach the terminal');
is(widths('d_EUC_JP', 'UTF8', q{SELECT sync FROM sync_guard.watch_120 WHERE key NOT LIKE '%k%'}), '18', 'EUC_JP: letters of two cells');

# ---- what the client's encoding cannot express ------------------------------------------------------------------------------
$node->safe_psql('postgres', q{CREATE DATABASE d_UTF8 ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0});
asked('d_utf8', 'UTF8', qq{
	CREATE EXTENSION emag_sync_guard;
	CREATE TABLE "\xc8\x99iruri" (n integer, id text PRIMARY KEY, status text NOT NULL DEFAULT 'running', started_at timestamptz DEFAULT now());
	SELECT sync_guard.guard_table('"\xc8\x99iruri"', failed_status => 'failed');
	INSERT INTO "\xc8\x99iruri" VALUES (1, E'\xc8\x991');
	CREATE VIEW v AS SELECT * FROM "\xc8\x99iruri";
	SELECT sync_guard.reap_stale_syncs('1 microsecond', even_if_alive => true)});
my (undef, $warning) = asked('d_utf8', 'LATIN1', q{UPDATE v SET status = 'completed' WHERE n = 1});
like($warning, qr/WARNING:  late finish of run \?1 of table public\."\?iruri": it stays "failed"/, 'a warning is sent with what can be sent of it');
unlike($warning, qr/ERROR/, 'and the statement goes through');
is((asked('d_utf8', 'UTF8', q{SELECT count(*), min(run_key) FROM sync_guard.journal WHERE event = 'late_finish'}))[0], "1|\x{219}1", 'the late finish is noted');
asked('d_utf8', 'UTF8', qq{ALTER TABLE "\xc8\x99iruri" RENAME started_at TO began});
(undef, $warning) = asked('d_utf8', 'LATIN1', q{INSERT INTO v VALUES (2, 'two', 'running')});
like($warning, qr/WARNING:  table public\."\?iruri" is written unguarded/, 'what is let through unguarded is');
unlike($warning, qr/ERROR/, 'and not refused');

$node->stop;
done_testing();
