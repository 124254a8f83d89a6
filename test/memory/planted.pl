# A fault on purpose in a server as TAP tests make it: what it reports must be where the suite `sanitized` looks after each
# of them. PLANTED names its kind (test/memory/planted.cpp).
use strict;
use warnings;

use GuardNode;
use Test::More;

my $node = guard_node('planted', preload => ['emag_sync_guard'], conf => 'restart_after_crash = on');
$node->safe_psql('postgres', q{CREATE FUNCTION planted_fault(text) RETURNS integer LANGUAGE c STRICT AS 'planted'});
isnt($node->psql('postgres', "SELECT planted_fault('$ENV{PLANTED}')"), 0, "a backend does not survive: $ENV{PLANTED}");
ok($node->poll_query_until('postgres', 'SELECT true'), 'the server comes back');
$node->stop;
done_testing();
