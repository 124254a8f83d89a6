# watch_80 and watch_120 as a person has them: psql on a terminal, with \watch. No line is wider than the terminal, the columns
# stand still, and what heartbeats told memory counts.
use strict;
use warnings;

use Encode qw(decode);
use GuardNode;
use IPC::Run;
use PostgreSQL::Test::Utils;
use Test::More;

eval { require IO::Pty; 1 } or plan skip_all => 'IO::Pty (libio-pty-perl) is missing: there is no terminal';

my $node = guard_node('watch', preload => ['emag_sync_guard'], conf => "emag_sync_guard.restart_grace = 0");

sub sql { return $node->safe_psql('postgres', $_[0]); }

sql(q{
	CREATE TABLE runs (id text PRIMARY KEY, sync_type text, account text, status text NOT NULL DEFAULT 'running',
		started_at timestamptz DEFAULT now(), completed_at timestamptz, processed_items bigint, total_items bigint);
	CREATE INDEX ON runs (started_at)});
sql(q{
	INSERT INTO runs (id, sync_type, account, started_at, processed_items, total_items) VALUES
	('dead', 'offers', 'main', now() - interval '5 hours 30 seconds', 1, 10)});
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type,account}', max_silence => '1 hour')});
sql(q{
	INSERT INTO runs (id, sync_type, account, started_at, processed_items, total_items)
	SELECT n || v.text, v.text, v.text, s.at, c.done, c.total
	FROM (VALUES ('products'), (repeat('long name ', 30)), (E'two\nlines\tand\ra\x1b[1mcolour'), (U&'\5546\54C1\30AB\30BF\30ED\30B0'),
			(U&'\+01F680'), (NULL)) AS v (text),
		(VALUES (1, now()), (2, now() - interval '40 minutes'), (3, NULL), (4, now() + interval '300 days')) AS s (n, at),
		(VALUES (5::bigint, 10::bigint)) AS c (done, total)
	WHERE v.text IS NOT NULL OR n = 0});
sql(q{
	INSERT INTO runs (id, sync_type, started_at, processed_items, total_items) VALUES
	('h', 'huge', now(), 9223372036854775807, 9223372036854775807), ('l', 'less', now(), -9223372036854775807, 1), ('n', NULL, now(), NULL, NULL)});

# How many cells a line fills, as this test counts: the wide letters it uses itself are two.
sub cells {
	my ($line) = @_;
	my $wide = () = $line =~ /[\x{3000}-\x{9fff}\x{1f300}-\x{1faff}]/g;
	return length($line) + $wide;
}

# Runs psql on a terminal until it has printed the runs twice; returns its lines.
sub watched {
	my ($view) = @_;
	my ($in, $out) = ('', '');
	local $ENV{TERM} = 'xterm';
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	local $ENV{PSQL_WATCH_PAGER};
	delete $ENV{PSQL_WATCH_PAGER};
	my $psql = IPC::Run::start(
		[ 'psql', '-X', '-P', 'pager=off', '-d', $node->connstr('postgres') ],
		'<pty<', \$in, '>pty>', \$out, IPC::Run::timeout($PostgreSQL::Test::Utils::timeout_default));
	$in = "SELECT * FROM sync_guard.$view \\watch 0.1\n";
	$psql->pump until $out =~ /(?:\(\d+ rows\).*){2}/s;
	$psql->kill_kill;
	my @lines = split /\r*\n/, decode('UTF-8', $out);
	# The prompt and what was typed come before the first title; what psql had begun to print after the last count is no line yet.
	shift @lines while @lines && $lines[0] !~ /\(every 0\.1s\)/;
	pop @lines while @lines && $lines[-1] !~ /rows\)/;
	return @lines;
}

for my $case ([ 'watch_80', 80 ], [ 'watch_120', 120 ]) {
	my ($view, $width) = @$case;
	my @lines = watched($view);
	my @titles = grep { /\(every 0\.1s\)/ } @lines;
	cmp_ok(scalar @titles, '>=', 2, "$view: \\watch prints it again and again");
	my @too_wide = grep { cells($_) > $width } @lines;
	is("@too_wide", '', "$view: no line is wider than $width");
	my @rules = grep { /^-+(\+-+)+$/ } @lines;
	is(length($rules[0]), $width, "$view: the rule fills the terminal");
	my %shapes = map { $_ => 1 } @rules;
	is(scalar keys %shapes, 1, "$view: the columns stand still");
	my @runs = grep { / \| / && !/^ +sync / } @lines;
	is(scalar @runs, 24 * @rules, "$view: a line per run") or diag(join("\n", @lines));
	like($runs[0], qr/^ offers \/ main .* 5h00m .*silent/, "$view: the stuck one comes first");
	unlike(join("\n", @runs), qr/[\x00-\x09\x0b-\x1f\x7f-\x9f]/, "$view: nothing moves the cursor");
}

# ---- what only memory knows ----------------------------------------------------------------------------------------------------
sql('DELETE FROM runs');
my $worker = $node->background_psql('postgres', on_error_stop => 1);
my $token = $worker->query_safe(
	q{SELECT token FROM sync_guard.start_sync('runs', '{"id": "beating", "sync_type": "products", "processed_items": 0, "total_items": 1000}', '1 hour')});
sql(q{UPDATE runs SET started_at = now() - interval '10 minutes'});
$worker->query_safe("SELECT sync_guard.heartbeat($token, 250, 1000)");
is(sql(q{SELECT percent, progress_bar, round(rate_per_second, 2), expected_by,
		expected_end - now() BETWEEN interval '29 minutes' AND interval '31 minutes' FROM sync_guard.running_syncs}),
	"25.0|\x{e2}\x{96}\x{88}\x{e2}\x{96}\x{88}\x{e2}\x{96}\x{8c}" . "\x{e2}\x{96}\x{91}" x 7 . '|0.42|own rate|t',
	'progress that only a heartbeat told of gives rate and expected end');
like(sql('SELECT * FROM sync_guard.watch_120'), qr/\|\s*10m\d\ds\|.*25%\|\s*250\/1000\|\s*25\/m\|\s*(29|30)m\d\ds\|\s*\d+s\|live, limit 1h/,
	'and stands in watch_120');
$worker->quit;
$node->stop;
done_testing();
