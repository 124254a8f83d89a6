# Each column of a guarded table is renamed, dropped and given other types: the application's writes become what they would without the
# guard, guard_health tells what is wrong, and mended it reaps (test/perl/AlteredTable.pm).
use strict;
use warnings;

use AlteredTable;
use GuardNode;
use Test::More;

my $node = guard_node('alter_table', preload => ['emag_sync_guard'], conf => 'emag_sync_guard.restart_grace = 0');
prepare_altered_tables($node);

my $tables = q{
	CREATE TABLE S.runs (
		id bigint PRIMARY KEY,
		sync_type text NOT NULL,
		status text NOT NULL DEFAULT 'running' CONSTRAINT known CHECK (status IN ('running', 'completed', 'failed')),
		started_at timestamptz NOT NULL DEFAULT now(),
		completed_at timestamptz, duration_seconds float8, errors jsonb, updated_at timestamptz, heartbeat_at timestamptz,
		processed_items integer NOT NULL DEFAULT 0, total_items integer);
	CREATE INDEX runs_status ON S.runs (status)};
my $guard = q{scope_columns => '{sync_type}', exclusive => true, activity_column => 'heartbeat_at', updated_column => 'updated_at',
	done_column => 'processed_items', total_column => 'total_items', max_age => '1 day', max_stall => '12 hours'};

# Each column by its option.
my %option = (
	id => 'key_column', sync_type => 'scope_columns', status => 'status_column', started_at => 'start_column', completed_at => 'end_column',
	duration_seconds => 'duration_column', errors => 'error_column', updated_at => 'updated_column', heartbeat_at => 'activity_column',
	processed_items => 'done_column', total_items => 'total_column');
my %unfit = (problems => 'settings_do_not_fit', asked => 'SY006 ok');

# The guard told that the table has none.
sub without
{
	my ($column) = @_;
	my $none = $column eq 'sync_type' ? '{}' : '';
	return (repair => "SELECT sync_guard.guard_table('app.runs', $option{$column} => '$none')");
}

my @cases;
for my $column (sort keys %option)
{
	my $value = $column eq 'sync_type' ? '{renamed}' : 'renamed';
	my $needed = $column =~ /^(id|status)$/;
	my @without = $needed ? (repair => '', left => 'settings_do_not_fit') : without($column);
	push @without, reaped => 0 if $needed || $column eq 'started_at';
	push @cases,
	  { ddl => "ALTER TABLE S.runs RENAME COLUMN $column TO renamed", names => { $column => 'renamed' }, %unfit,
		repair => "SELECT sync_guard.guard_table('app.runs', $option{$column} => '$value')" },
	  { ddl => "ALTER TABLE S.runs DROP COLUMN $column CASCADE", %unfit, @without };
}
my %types = (
	id => [qw(integer text uuid numeric)], sync_type => [qw(varchar(20) name bytea jsonb)],
	started_at => [qw(timestamp date! text!)], completed_at => [qw(timestamp date! text!)], duration_seconds => [qw(numeric integer interval text!)],
	errors => [qw(json text text[]! bytea!)], updated_at => [qw(timestamp date! text!)], heartbeat_at => [qw(timestamp date! text!)],
	processed_items => [qw(bigint smallint numeric! text!)], total_items => [qw(bigint numeric! text!)]);
my %using = (
	'id uuid' => q{lpad(id::text, 32, '0')::uuid}, 'duration_seconds interval' => q{make_interval(secs => duration_seconds)}, 'errors text[]' => q{'{}'::text[]},
	'sync_type bytea' => q{convert_to(sync_type, 'UTF8')}, 'errors bytea' => q{''::bytea}, 'sync_type jsonb' => 'to_jsonb(sync_type)');
for my $column (sort keys %types)
{
	for (@{ $types{$column} })
	{
		my ($type, $unfit) = /^(.*?)(!?)$/;
		my $using = $using{"$column $type"} // "$column\::$type";
		my @local = "$column $type" eq 'started_at timestamp' ? map { ($_ => 'start_default_local, start_in_future') } qw(problems left) : ();
		push @cases,
		  { ddl => "ALTER TABLE S.runs ALTER COLUMN $column TYPE $type USING $using", $unfit ? (%unfit, without($column)) : (), @local,
			reaped => $unfit && $column eq 'started_at' ? 0 : 1 };
	}
}
altered_tables(node => $node, tables => $tables, guard => $guard, cases => [grep { !$ENV{EMAG_SYNC_GUARD_CASE} || $_->{ddl} =~ /$ENV{EMAG_SYNC_GUARD_CASE}/ } @cases]);
$node->stop;
done_testing();
