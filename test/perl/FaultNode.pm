# A server with a build of the module that can be told to fail (src/fault.h), in a copy of the installation of its own: the
# one that the other tests use does not get it.
#
#   use FaultNode;
#   my $node = fault_node('name', conf => 'restart_grace = 0');
#   my $error = with_fault($node, 'attach.lease_written:oom', 'SELECT ...');   # the SQLSTATE, '' where it went well
#   my $frozen = freeze($node, 'reap.rows_locked', 'SELECT sync_guard.reap_stale_syncs()');
#   is($frozen->(), '1', 'what it answers once it is let go');
package FaultNode;

use strict;
use warnings;

use Cwd;
use Exporter 'import';
use File::Basename;
use GuardNode;
use InstallationCopy;
use PostgreSQL::Test::Utils;
use Test::More;

our @EXPORT = qw(fault_node fault_points plain_module fault_module with_fault fault_for_all passes freeze let_go answers comes die_bound);

my $root = Cwd::abs_path(dirname(__FILE__) . '/../..');
my $settled = 0;    # the copy is first on the PATH
my $plain;

sub run_quietly
{
	my (@command) = @_;
	my $log = "$PostgreSQL::Test::Utils::tmp_check/fault_build.log";
	return system("(@command) >>'$log' 2>&1") == 0 || die "failed: @command\n" . substr(slurp_file($log), -3000);
}

# The module with points. What another build has left is used again, but for the files that have points.
sub build_module
{
	my ($folder) = @_;
	run_quietly("rm -rf '$folder'");
	mkdir $folder or die "$folder: $!";
	run_quietly("cp -a '$root/src' '$root/sql' '$root/Makefile' '$root'/*.control '$folder/'");
	run_quietly("cd '$folder' && grep -lE 'ESG_(FAULT|LOAD)' src/*.cpp | sed 's/cpp\$/o/' | xargs rm -f emag_sync_guard.so");
	run_quietly("make -C '$folder' -j2 with_llvm=no CPPFLAGS=-DESG_FAULT_POINTS emag_sync_guard.so");
	return "$folder/emag_sync_guard.so";
}

# The copy that has it comes first on the PATH.
sub use_copy
{
	return if $settled++;
	my $copy = "$PostgreSQL::Test::Utils::tmp_check/fault_build";
	my ($bin, $lib) = copies_in($copy);
	$plain = installed('pkglibdir') . '/emag_sync_guard.so';
	if (!-d $copy)
	{
		my $module = build_module("$copy.making");
		copy_installation($copy);
		run_quietly("rm -f '$lib/emag_sync_guard.so' && cp '$module' '$lib/' && mv '$copy.making' '$copy/source'");
	}
	$ENV{PATH} = "$bin:$ENV{PATH}";
	installed('pkglibdir') eq Cwd::realpath($lib) or die 'the copied server looks elsewhere: ' . installed('pkglibdir');
	return;
}

# The same as guard_node, preloaded.
sub fault_node
{
	my ($name, %options) = @_;
	use_copy();
	my $node = guard_node($name, %options, preload => ['emag_sync_guard']);
	mkdir $node->data_dir . "/$_" or die "$_: $!" for qw(fault_points fault_waits);
	return $node;
}

# The names of all points, as the source has them; each must stand there once.
sub fault_points
{
	my %points;
	foreach my $file (glob "$root/src/*.cpp $root/src/pg/*.cpp")
	{
		my $text = slurp_file($file);
		$points{$1}++ while $text =~ /ESG_FAULT_POINT(?:_AT_EXIT)?\("([^"]+)"\)/g;
	}
	return \%points;
}

# The module as it is built for everybody, and the one with points.
sub plain_module { return $plain; }
sub fault_module { return installed('pkglibdir') . '/emag_sync_guard.so'; }

# Runs statements in a session of their own whose faults are these. Returns the SQLSTATE that ended them, 'gone' where the
# session ended without one, '' where they went well.
sub with_fault
{
	my ($node, $fault, $statements) = @_;
	my ($out, $err);
	my $status = $node->psql('postgres',
		"\\set VERBOSITY sqlstate\nSET statement_timeout = '60s';\nSET emag_sync_guard.fault = '$fault';\n$statements",
		stdout => \$out, stderr => \$err);
	return '' if $status == 0;
	return $1 if $err =~ /(?:ERROR|FATAL):  ([0-9A-Z]{5})/;
	return 'gone';
}

# The same for every process that begins from now on, background workers too; '' ends it.
sub fault_for_all
{
	my ($node, $fault) = @_;
	$node->safe_psql('postgres', "ALTER SYSTEM SET emag_sync_guard.fault = '$fault'");
	$node->reload;
	$node->poll_query_until('postgres', "SELECT current_setting('emag_sync_guard.fault') = '$fault'") or die 'it is not told';
	unlink $node->data_dir . '/fault_points/' . ($fault =~ s/:.*//r);
	return;
}

sub wait_for
{
	my ($what, $condition) = @_;
	for (1 .. 10 * $PostgreSQL::Test::Utils::timeout_default)
	{
		return 1 if $condition->();
		select(undef, undef, undef, 0.02);
	}
	diag("waited in vain: $what");
	return 0;
}

# Waits until some process has passed a point (after fault_for_all); until one stands still at it.
sub passes { my ($node, $point) = @_; return wait_for("passing $point", sub { -e $node->data_dir . "/fault_points/$point" }); }
sub comes { my ($node, $point) = @_; return wait_for("coming to $point", sub { -e $node->data_dir . "/fault_waits/$point" }); }

sub let_go
{
	my ($node, $point) = @_;
	unlink $node->data_dir . "/fault_waits/$point" or die "$point: $!";
	return;
}

# Sends a statement to a session and returns when it stands still at the point. What is returned lets it go and gives its
# answer (its last line), or with a SQLSTATE what it failed with.
sub freeze
{
	my ($node, $point, $statement, $before) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 0);
	$session->query_safe($_) for "SET emag_sync_guard.fault = '$point:wait'", $before // ();
	$session->{stdin} .= "\\set VERBOSITY sqlstate\n$statement;\n\\echo answered\n";
	$session->{run}->pump_nb;
	comes($node, $point) or die "it does not come to $point: $session->{stderr}";
	return sub {
		my ($end) = @_;
		let_go($node, $point);
		answers($session);
		my ($said) = $session->{stderr} =~ /ERROR:  ([0-9A-Z]{5})/;
		($said) = (split /\n/, $session->{stdout} =~ s/answered\n.*//sr)[-1] // '' unless defined $said;
		($session->{stdout}, $session->{stderr}) = ('', '');
		$session->quit;
		return $said;
	};
}

# Waits until what was sent to the session has been answered.
sub answers
{
	my ($session) = @_;
	$session->{run}->pump until $session->{stdout} =~ /answered\n/ || !$session->{run}->pumpable;
	return;
}

# A session with a run of the table that is bound to it, on these further terms, is terminated, with a fault if one is named.
# Returns the session.
sub die_bound
{
	my ($node, $table, $fault, $terms) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	$session->query_safe('SET client_min_messages = error');
	$session->query_safe("SET emag_sync_guard.fault = '$fault'") if $fault;
	$session->query_safe(qq{SELECT FROM sync_guard.start_sync('$table', '{"sync_type": "$table"}', bind_session => true $terms)});
	my $pid = $session->query_safe('SELECT pg_backend_pid()');
	kill TERM => $pid;
	return $session;
}

1;
