# The server's clock is set forward by hours, the clock that does not step goes on: nobody is older for it. (The server runs under
# libfaketime; what it calls now is its own affair.)
use strict;
use warnings;

use GuardNode;
use PostgreSQL::Test::Utils;
use Test::More;

my ($faketime) = glob('/usr/lib/*/faketime/libfaketime.so.1') or die 'this needs the package libfaketime';
my $offset = PostgreSQL::Test::Utils::tempdir() . '/offset';

# Written anew under another name, so that nobody reads half of it.
sub set_clock
{
	my ($step) = @_;
	append_to_file("$offset.new", "$step\n");
	rename("$offset.new", $offset) or die "cannot write $offset: $!";
	return;
}
set_clock('+0');

my $node;
{
	local %ENV = (%ENV,
		LD_PRELOAD => $faketime,
		FAKETIME_TIMESTAMP_FILE => $offset,
		FAKETIME_NO_CACHE => 1,
		FAKETIME_DONT_FAKE_MONOTONIC => 1,
		DONT_FAKE_MONOTONIC => 1);
	$node = guard_node('clock_step', preload => ['emag_sync_guard'], conf => "fsync = off\nemag_sync_guard.restart_grace = 0");
}

sub sql { return $node->safe_psql('postgres', $_[0]); }

make_run_table($node, 'runs');
sql(q{SELECT sync_guard.guard_table('runs', scope_columns => '{sync_type}', time_zone => 'UTC', max_silence => '5 hours', max_age => '2 hours')});
my $plain = start_run($node, 'runs', 'plain', '0');
my ($leased, $token) = start_leased($node, q{ttl => '10 minutes'});
my $session = $node->background_psql('postgres', on_error_stop => 1);
my $bound = $session->query_safe(q{SELECT key FROM sync_guard.start_sync('runs', '{"sync_type": "bound"}', bind_session => true)});
my $half = start_run($node, 'runs', 'half', '1 hour');
my $old = start_run($node, 'runs', 'old', '119 minutes 55 seconds');
my $age = q{SELECT measured FROM sync_guard.explain_run('runs', '%s') WHERE rule = 2};
my $running = q{SELECT string_agg(run_key, ' ' ORDER BY run_key::bigint) FROM sync_guard.running_syncs};
my $now = sql('SELECT extract(epoch FROM clock_timestamp())');

set_clock('+3h');
poll_until($node, "SELECT extract(epoch FROM clock_timestamp()) - $now > 3 * 3600 - 1", 'the clock is three hours ahead');
poll_until($node, "SELECT verdict = 'overdue' FROM sync_guard.stuck_syncs WHERE run_key = '$old'", 'whose time runs out meanwhile is too old');
is(sql('SELECT run_key FROM sync_guard.stuck_syncs'), $old, 'and nobody else');
is(sql($running), "$plain $leased $bound $half", 'the others live');
unlike(sql(sprintf $age, $plain), qr/\bh\b/, 'a run is as old as it is');
like(sql(sprintf $age, $half), qr/^1 h\b/, 'the start that its writer gave counts');
is(sql("SELECT sync_guard.heartbeat($token)"), 't', 'a token is good');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '1', 'the sweep sees it so');
is(sql(q{SELECT sync_guard.reap_stale_syncs('90 minutes', even_if_alive => true)}), '0', 'so does one that asks for age alone');
is(sql(q{SELECT sync_guard.reap_stale_syncs('30 minutes', even_if_alive => true)}), '1', 'which finds who is older');
is(sql($running), "$plain $leased $bound", 'the others live');

# What is told from then on is told by this clock.
my $later = start_run($node, 'runs', 'later', '3 hours');
is(sql("SELECT verdict FROM sync_guard.stuck_syncs WHERE run_key = '$later'"), 'overdue', 'a start of three hours ago is one');
sql("UPDATE runs SET started_at = started_at - interval '3 hours' WHERE id = $plain");
is(sql("SELECT verdict FROM sync_guard.stuck_syncs WHERE run_key = '$plain'"), 'overdue', 'so is one that is told anew');
is(sql('SELECT sync_guard.reap_stale_syncs()'), '2', 'they are closed');

set_clock('+0');
poll_until($node, "SELECT extract(epoch FROM clock_timestamp()) - $now < 3600", 'the clock is set back');
is(sql($running), "$leased $bound", 'which kills nobody');
$session->quit;
$node->stop;
done_testing();
