# report_html(): one page that needs nothing else. What it says is compared with the rows, and how it looks is seen in a browser
# (test/clients/report_page.py: headless Chromium): no network, no script, no error, light and dark, wide and narrow, on paper.
use strict;
use warnings;

use File::Basename;
use GuardNode;
use IPC::Run;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $python = -x '/usr/bin/python3' ? '/usr/bin/python3' : 'python3';
my $here = dirname(__FILE__);
my $tempdir = PostgreSQL::Test::Utils::tempdir;
$ENV{PYTHONDONTWRITEBYTECODE} = 1;
$ENV{HOME} = $tempdir;

my $node = guard_node('report', preload => ['emag_sync_guard'], init => { allows_streaming => 1 },
	conf => "emag_sync_guard.restart_grace = 0\nhot_standby_feedback = on");

sub sql { return $node->safe_psql('postgres', $_[0]); }

my $browser = do
{
	my ($out, $err) = ('', '');
	IPC::Run::run([ $python, '-c', 'import selenium' ], '>', \$out, '2>', \$err) && -x ($ENV{CHROMIUM} // '/usr/bin/chromium')
	  && -x ($ENV{CHROMEDRIVER} // '/usr/bin/chromedriver');
};

# Looks at a page in the browser, and makes its results ours.
sub look_at
{
	my ($name, $html, $facts) = @_;
	my $folder = "$tempdir/$name";
	mkdir $folder or die $!;
	append_to_file("$folder/page.html", $html);
	append_to_file("$folder/facts.json", encode_json($facts));
  SKIP:
	{
		skip "$name: no Chromium with its driver and python3-selenium", 1 unless $browser;
		my ($out, $err) = ('', '');
		my $well = IPC::Run::run([ $python, "$here/../clients/report_page.py", "$folder/page.html", "$folder/facts.json", $folder ],
			'>', \$out, '2>', \$err, IPC::Run::timeout(300));
		my $results = 0;
		for (split /\n/, $out)
		{
			next unless /^(not ok|ok) - (.*)/;
			ok($1 eq 'ok', "$name: $2");
			++$results;
		}
		ok($well && $results > 40, "$name: looked at to the end") or diag("$out\n$err");
		ok(-s "$folder/$_.png", "$name: a picture of it, $_") for qw(wide_light wide_dark phone_light phone_dark);
	}
	return;
}

# Of a call that fails: its SQLSTATE, and whether DETAIL and HINT are told.
sub refusal
{
	my ($call) = @_;
	my (undef, undef, $stderr) = $node->psql('postgres', $call, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	my ($state) = $stderr =~ /ERROR:  (\w+):/;
	return join(' ', $state // 'none', ($stderr =~ /^DETAIL:  \S/m ? 'detail' : ()), ($stderr =~ /^HINT:  \S/m ? 'hint' : ()));
}

# As like() and unlike(), which would print the whole page.
sub says { my ($html, $pattern, $name) = @_; ok($html =~ $pattern, $name); return; }
sub says_not { my ($html, $pattern, $name) = @_; ok($html !~ $pattern, $name); return; }

sub tile { my ($html, $id) = @_; return $html =~ m{<li id="tile-$id"[^>]*><b>([^<]*)</b>} ? $1 : undef; }

# ---- arguments ------------------------------------------------------------------------------------------------------------------
is(refusal("SELECT sync_guard.report_html('$_')"), 'SY006 detail hint', "since $_ is refused") for '0', '-1 hour', '101 years', '1 month -40 days';
is(refusal(q{SELECT sync_guard.report_html('infinity')}), 'SY006 detail hint', 'an infinite one too')
  if $node->pg_version >= 17;
is(refusal(q{SELECT sync_guard.report_html(relation => 'pg_class')}), 'SY004 detail hint', 'a table that is not guarded')
  or diag('or without a detail');

# ---- nothing to tell ------------------------------------------------------------------------------------------------------------
my $page = sql('SELECT sync_guard.report_html()');
says($page, qr/There is no guarded table here that you may read/, 'no guarded table: the page says so');
look_at('empty', $page, { lanes => 0, stands => ['No table is guarded that you may read.'] });
make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC')});
$page = sql('SELECT sync_guard.report_html()');
says($page, qr/No run says that it is running/, 'no run: it says so');
says($page, qr/No run falls into this window/, 'in the timeline too');
is(join(' ', map { tile($page, $_) } qw(stuck running runs reaped rate)), '0 0 0 0 &ndash;', 'and counts none');
sql('SELECT sync_guard.unguard_table(\'runs\'); DROP TABLE runs');

# ---- the incident ---------------------------------------------------------------------------------------------------------------
$node->safe_psql('postgres', "\\i $here/../../demo/$_.sql") for qw(application incident);
sql(q{SELECT sync_guard.guard_table('app.emag_sync_logs')});
my $ended = sql(q{SELECT count(*) FROM app.emag_sync_logs WHERE status = 'completed' AND completed_at > (now() AT TIME ZONE 'UTC') - interval '24 hours'});
$page = sql('SELECT sync_guard.report_html()');
says_not($page, qr/[^\x00-\x7f]/, 'the page is plain ASCII');
is(join(' ', map { tile($page, $_) } qw(stuck running runs reaped)), '5 3 ' . ($ended + 7) . ' 0', 'what is stuck and what runs');
look_at('incident', $page, {
	lanes => 3, runs => $ended + 8, reaped => 0, bars => { c => $ended, s => 5, u => 3, f => 0, r => 0 },
	counts => { '#now tr.stuck' => 5, '#now tr.running' => 3, '#now tr.stuck .tag.stuck' => 5, '#health .tag.warning' => 1 },
	texts => { '#tile-stuck b' => '5', '#tile-running b' => '3', '.lead strong' => '5 of them are dead' },
	stands => [ 'silent: no sign of life for 1 d 6 h, limit 1 h', 'operation full_sync', '1250 of 2550', 'dead_runs_not_closed', 'Europe/Bucharest' ] });

# A few hundred runs more in other scopes, some that fail, ghosts of which one is older than the timeline looks back for.
$node->safe_psql('postgres', q{
	INSERT INTO app.emag_sync_logs (id, sync_type, account_type, operation, status, total_items, processed_items, created_items, updated_items,
		failed_items, errors, pages_processed, api_requests_made, rate_limit_hits, started_at, completed_at)
	SELECT gen_random_uuid(), t, a, 'incremental_sync', CASE WHEN n % 13 = 0 THEN 'failed' ELSE 'completed' END, 500, 500, 1, 499, 0,
		CASE WHEN n % 13 = 0 THEN '[{"error": "429 Too Many Requests"}]'::jsonb END, 5, 6, 0, at, at + (90 + n * 37 % 400) * interval '1 second'
	FROM generate_series(1, 60) AS n, (VALUES ('offers', 'main', 30), ('offers', 'fbe', 36), ('orders', 'main', 41), ('orders', 'both', 48)) AS v (t, a, off),
		LATERAL (SELECT (now() AT TIME ZONE 'UTC') - n * interval '23 minutes' - off * interval '1 minute' AS at) AS s;
	INSERT INTO app.emag_sync_logs (id, sync_type, account_type, operation, status, total_items, processed_items, created_items, updated_items,
		failed_items, pages_processed, api_requests_made, rate_limit_hits, started_at)
	SELECT gen_random_uuid(), (ARRAY['offers', 'orders'])[1 + n % 2], 'main', 'ghost_sync', 'running', 500, n, 0, 0, 0, 0, 0, 0,
		(now() AT TIME ZONE 'UTC') - n * n * interval '150 minutes' FROM generate_series(1, 7) AS n});
is(sql(q{SELECT sync_guard.reap_stale_syncs('2 hours')}), '11', 'eleven are reaped');
$page = sql('SELECT sync_guard.report_html()');
my ($started, $failed) = split /\|/, sql(q{SELECT count(*), count(*) FILTER (WHERE status = 'failed') FROM app.emag_sync_logs
	WHERE started_at > (now() AT TIME ZONE 'UTC') - interval '24 hours'});
my $live = sql(q{SELECT count(*) FROM app.emag_sync_logs WHERE status = 'running'});
is(join(' ', map { tile($page, $_) } qw(runs reaped)), "$started 11", 'the runs of the window are counted');
my $rate = sprintf($failed / ($started - $live) < 0.1 ? '%.1f' : '%.0f', 100 * $failed / ($started - $live));
is(tile($page, 'rate'), "$rate&nbsp;%", 'and what failed of them');
my ($median, $p95) = split /\|/, sql(q{SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY s), percentile_cont(0.95) WITHIN GROUP (ORDER BY s)
	FROM (SELECT extract(epoch FROM completed_at - started_at)::float8 AS s FROM app.emag_sync_logs
		  WHERE status = 'completed' AND started_at > (now() AT TIME ZONE 'UTC') - interval '24 hours') AS d});
sub words { my ($s) = @_; return sprintf('%d min', $s / 60) . (int($s) % 60 ? sprintf(' %d s', $s % 60) : ''); }
says($page, qr/median \(&#x25CF;\) \Q@{[ words($median) ]}\E, 95 % \(&#x25CB;\) within \Q@{[ words($p95) ]}\E</, 'durations are those of percentile_cont');
my $shown = sql(q{SELECT count(*) FROM app.emag_sync_logs WHERE status <> 'running' AND completed_at > (now() AT TIME ZONE 'UTC') - interval '24 hours'});
look_at('reaped', $page, {
	lanes => 7, runs => $shown + $live, reaped => 11,
	counts => { '#reaped tbody > tr' => 11, '#reaped details' => 11, '#reaped .tag.reaped' => 11, '.failures' => 1, '.durations' => 1,
		'#figures table.numbers tbody > tr' => 7 },
	texts => { '#tile-reaped b' => '11' },
	stands => [ 'Sync interrupted by system restart or timeout: silent: no sign of life for 5 d 2 h, limit 2 h', 'ghost_sync', '429 Too Many Requests' ] });

# A longer window, a shorter one; other time zones.
says(sql(q{SELECT sync_guard.report_html('99 years')}), qr/class="timeline"/, 'a century');
says(sql(q{SELECT sync_guard.report_html('1 microsecond')}), qr/tile-stuck"[^>]*><b>1</, 'a moment');
says(sql(q{SET TimeZone = 'America/St_Johns'; SELECT sync_guard.report_html('5 days')}), qr{<dd>America/St_Johns</dd>}, 'in the session\'s time zone');
is(sql(q{SELECT sync_guard.report_html(NULL) ~ 'tile-reaped"[^>]*><b>11<'}), 't', 'NULL is a day');
is(sql(q{SET search_path = pg_temp; SELECT length(sync_guard.report_html()) > 10000}), 't', 'whatever the search_path');
is(sql(q{BEGIN READ ONLY; SELECT length(sync_guard.report_html()) > 10000; COMMIT}), 't', 'in a read-only transaction');
is(sql(q{BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; SELECT length(sync_guard.report_html()) > 10000; COMMIT}), 't', 'in a serializable one');

# A zone whose clocks were put forward an hour ago: the axis does not show the times that they skipped.
my $zone = sql(q{SELECT format('AAA0BBB,%s/%s,%s/0', d, extract(hour FROM t), (d + 20) % 365)
	FROM (SELECT date_trunc('hour', now() AT TIME ZONE 'UTC') - interval '1 hour' AS t) AS c, LATERAL (SELECT extract(doy FROM t)::integer - 1 AS d) AS e});
my ($axis) = sql(qq{SET TimeZone = '$zone'; SELECT sync_guard.report_html('3 hours')}) =~ m{<div class="lane axis"(.*?)</svg>}s;
my @places = $axis =~ /<text[^>]* x="([\d.]+)%"/g;
cmp_ok(scalar(@places), '>=', 4, "ticks in the zone $zone");
is("@places", join(' ', sort { $a <=> $b } keys %{ { map { $_ => 1 } @places } }), 'each at a place of its own, one after the other');

# ---- whose page it is -----------------------------------------------------------------------------------------------------------
make_run_table($node, 'secret_runs');
sql(q{SELECT sync_guard.guard_table('secret_runs', scope_columns => '{sync_type}', time_zone => 'UTC')});
start_run($node, 'secret_runs', 'hush', '3 hours');
sql(q{CREATE ROLE reader; CREATE ROLE nobody; CREATE ROLE curbed; GRANT USAGE ON SCHEMA app TO reader, nobody, curbed; GRANT SELECT ON app.emag_sync_logs TO reader, curbed});
says(sql('SELECT sync_guard.report_html()'), qr/secret_runs.*hush|hush.*secret_runs/s, 'who may read a table sees its runs');
$page = sql('SET ROLE reader; SELECT sync_guard.report_html()');
says_not($page, qr/secret_runs|hush/, 'who may not does not');
says($page, qr/tile-reaped"[^>]*><b>11</, 'and sees the others');
$page = sql('SET ROLE nobody; SELECT sync_guard.report_html()');
says($page, qr/There is no guarded table here that you may read/, 'nobody is told of nothing');
says_not($page, qr/emag_sync_logs|secret_runs|ghost_sync/, 'not even names');
is(refusal(q{SET ROLE nobody; SELECT sync_guard.report_html(relation => 'app.emag_sync_logs')}), '42501', 'asked for by name it is refused');
sql(q{ALTER TABLE app.emag_sync_logs ENABLE ROW LEVEL SECURITY; CREATE POLICY some_rows ON app.emag_sync_logs FOR SELECT USING (sync_type = 'offers')});
$page = sql('SET ROLE curbed; SELECT sync_guard.report_html()');
says($page, qr{offers / main}, 'row security: rows that the policies show');
says_not($page, qr{orders / main|products / main}, 'and no others');
says($page, qr/tile-reaped"[^>]*><b>0</, 'the journal is closed then');
sql(q{DROP POLICY some_rows ON app.emag_sync_logs; ALTER TABLE app.emag_sync_logs DISABLE ROW LEVEL SECURITY});
$page = sql(q{SELECT sync_guard.report_html(relation => 'secret_runs')});
says($page, qr{<h1>Sync report: public\.secret_runs</h1>}, 'a table named');
says($page, qr/tile-stuck"[^>]*><b>1</, 'its runs');
says_not($page, qr/ghost_sync/, 'and no others');
sql('SELECT sync_guard.unguard_table(\'secret_runs\'); DROP TABLE secret_runs');

# ---- a standby ------------------------------------------------------------------------------------------------------------------
$node->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'base', has_streaming => 1);
$standby->start;
$node->wait_for_catchup($standby);
my $there = $standby->safe_psql('postgres', 'SELECT sync_guard.report_html()');
says($there, qr/tile-reaped"[^>]*><b>11</, 'a standby makes the page');
says($there, qr/a standby: as of the last transaction replayed/, 'and says that it is one');
$standby->stop;

# ---- hostile texts --------------------------------------------------------------------------------------------------------------
sql(q{
	SELECT sync_guard.unguard_table('app.emag_sync_logs');
	SELECT sync_guard.purge_journal('0');
	CREATE SCHEMA "s<x>";
	CREATE TABLE "s<x>"."runs"">&" (id text PRIMARY KEY, status text NOT NULL, started_at timestamptz, completed_at timestamptz, label text, errors text, "what""<b>" text);
	SELECT sync_guard.guard_table('"s<x>"."runs"">&"', live_statuses => '{running}', failed_status => 'failed', scope_columns => '{label}', summary_columns => ARRAY['what"<b>']);
	INSERT INTO "s<x>"."runs"">&" VALUES
		('<script>window.hit = 1</script>', 'running', now() - interval '2 hours', NULL, '"><img src=x onerror="window.hit=1">', NULL, '</title><svg onload=window.hit=1>'),
		(E'k\x01\x1b[31m', 'running', now() - interval '3 hours', NULL, E'a\u202Eb\u2066c', NULL, E'\uFFFE\U0001F600'),
		('&amp;', 'running', now() - interval '1 minute', NULL, ']]><!--', NULL, '{{constructor}}'),
		('long', 'running', now() - interval '4 hours', NULL, repeat('w', 5000), repeat('<e>&', 262144), repeat('q', 100000)),
		('x' || repeat('y', 2000), '</style><script>window.hit=1</script>', now() - interval '5 hours', now() - interval '4 hours', NULL, NULL, 'javascript:window.hit=1')});
my $stuck = sql('SELECT sync_guard.report_html()');
sql(q{SELECT sync_guard.reap_stale_syncs()});
$page = sql('SELECT sync_guard.report_html()');
cmp_ok(length($page), '<', 300_000, 'long texts are cut');
for my $one ([ hostile_stuck => $stuck, 0 ], [ hostile_reaped => $page, 3 ])
{
	my ($name, $html, $reaped) = @$one;
	says_not($html, qr/[^\x00-\x7f]/, "$name: plain ASCII");
	says_not($html, qr/[\x00-\x08\x0b-\x1f\x7f]/, "$name: no control characters");
	look_at($name, $html, {
		lanes => 5, runs => 5, reaped => $reaped,
		counts => { 'img' => 0, '[onerror], [onload]' => 0, 'script' => 0, 'b:not(.tiles b, .box b)' => 0 },
		stands => [ '"><img src=x onerror="window.hit=1">', '<script>window.hit = 1</script>', '</title><svg onload=window.hit=1>',
			"k\x{2401}\x{241b}[31m", 'a[U+202E]b[U+2066]c', ']]><!--', '{{constructor}}', '"s<x>"."runs"">&"' ],
		stands_not => [ 'w' x 700, 'y' x 700, '<e>&' x 200 ] });
}
sql(q{SELECT sync_guard.unguard_table('"s<x>"."runs"">&"'); DROP SCHEMA "s<x>" CASCADE});

# ---- odd times -------------------------------------------------------------------------------------------------------------------
sql(q{
	SELECT sync_guard.purge_journal('0');
	CREATE TABLE odd (id text PRIMARY KEY, status text NOT NULL, started_at timestamptz, completed_at timestamptz, done bigint, total bigint);
	SELECT sync_guard.guard_table('odd', live_statuses => '{running}', failed_status => 'failed', done_column => 'done', total_column => 'total', mode => 'observe');
	INSERT INTO odd VALUES ('bc', 'running', '4713-01-01 BC', NULL), ('far', 'running', '290000-01-01', NULL),
		('soon', 'running', now() + interval '50 hours', NULL), ('infinite', 'running', 'infinity', NULL), ('backwards', 'completed', now() - interval '4 hours', '4713-01-01 BC'),
		('endless', 'completed', now() - interval '2 hours', NULL), ('unended', 'failed', now() - interval '3 hours', 'infinity'),
		('for ever', 'completed', now() - interval '1 hour', '294276-01-01');
	INSERT INTO odd VALUES ('slow', 'running', now() - interval '50 minutes', NULL, 3, 9223372036854775807)});
is(sql(q{SELECT sync_guard.reap_stale_syncs()}), '0', 'an observed table: nothing is reaped');
$page = sql('SELECT sync_guard.report_html()');
says($page, qr/tile-reaped"[^>]*><b>0</, 'and the page counts no reaping');
says($page, qr{would be reaped</span>.*<dt>status</dt><dd>running<}s, 'but shows what would be reaped');
says($page, qr/The guard only observes some of these tables: their runs it does not close\./, 'and that nothing closes it');
says($page, qr/1&nbsp;Jan&nbsp;4713&nbsp;BC 0/, 'years before the first');
says_not($page, qr/datetime="-/, 'which HTML does not know');
says($page, qr/in 2 d 1 h</, 'what lies ahead is not called past');
says($page, qr{>3\.6/h<}, 'a slow rate has figures');
says($page, qr/completed: endless\n[^<]*, its end is not known</, 'a run without an end does not go on');
says($page, qr/failed: unended\n[^<]*, its end is not known</, 'a failed one too');
my ($durations) = $page =~ m{<figure class="durations">(.*?)</figure>}s;
cmp_ok(scalar(() = $durations =~ /class="grid"/g), '<=', 5, 'whatever the durations, their axis has few steps');
cmp_ok(length($page), '<', 60_000, 'and the page stays small');
# Where the topmost rule of the axis, or the one that would come after it, is more than a number holds.
for my $year (100_000, 150_000, 200_000, 250_000, 294_276)
{
	$page = sql("UPDATE odd SET completed_at = '$year-01-01' WHERE id = 'for ever'; SET statement_timeout = '20s'; SELECT sync_guard.report_html()");
	($durations) = $page =~ m{<figure class="durations">(.*?)</figure>}s;
	my $rules = () = $durations =~ /class="grid"/g;
	ok($rules >= 2 && $rules <= 5, "a run that ends in the year $year: $rules rules");
}
sql(q{SELECT sync_guard.unguard_table('odd'); DROP TABLE odd});

# ---- more live runs than are listed ---------------------------------------------------------------------------------------------
sql(q{
	CREATE TABLE crowd (id integer PRIMARY KEY, status text NOT NULL, started_at timestamptz, operation text);
	SELECT sync_guard.guard_table('crowd', live_statuses => '{running}', failed_status => 'failed', summary_columns => '{operation}');
	INSERT INTO crowd SELECT n, 'running', now(), 'young' FROM generate_series(1, 1100) AS n;
	INSERT INTO crowd VALUES (0, 'running', now() - interval '50 minutes', 'the oldest one')});
$page = sql('SELECT sync_guard.report_html()');
says($page, qr/and 1071 more/, 'thirty runs are listed');
says($page, qr/operation the oldest one/, 'and what each of them is, wherever its row lies');
sql(q{SELECT sync_guard.unguard_table('crowd'); DROP TABLE crowd});

# ---- many runs ------------------------------------------------------------------------------------------------------------------
make_run_table($node, 'runs');
$node->safe_psql('postgres', q{
	SELECT sync_guard.purge_journal('0');
	SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC');
	INSERT INTO runs (sync_type, status, started_at, completed_at)
	SELECT 'scope ' || n % 55, CASE WHEN n % 17 = 0 THEN 'failed' ELSE 'completed' END, at, at + (10 + n * 7919 % 3600) * interval '1 second'
	FROM generate_series(1, 10000) AS n, LATERAL (SELECT (now() AT TIME ZONE 'UTC') - interval '1 hour' - n * interval '8 seconds' AS at) AS s;
	INSERT INTO runs (sync_type, started_at) SELECT 'scope ' || n % 55, (now() AT TIME ZONE 'UTC') - interval '70 minutes' - n * interval '1 minute'
	FROM generate_series(1, 300) AS n;
	CREATE INDEX ON runs (started_at);
	ANALYZE runs;
	SELECT sync_guard.reap_stale_syncs()});
my $began = time;
$page = sql('SELECT sync_guard.report_html()');
diag(sprintf('10 300 runs, 300 of them reaped: %.0f ms, %d bytes', 1000 * (time - $began), length $page));
cmp_ok(length($page), '<', 3_000_000, 'ten thousand runs: the page stays small');
is(join(' ', map { tile($page, $_) } qw(runs reaped)), '10300 300', 'and counts them all');
look_at('many', $page, {
	lanes => 40, runs => 10300, reaped => 300, counts => { '#reaped tbody > tr' => 40, '#figures table.numbers tbody > tr' => 12 },
	stands => [ '16 more scopes', 'and 260 more', 'and 43 more' ] });

$node->stop;
done_testing();
