# What DDL on a guarded table does to the application and to the guard. Each case changes two tables in the same way, one of
# them guarded; what becomes of the application's writes must be the same with both, in a session that knew the table
# before and in a new one.
#
#   use AlteredTable;
#   altered_tables(node => $node, tables => $ddl, guard => $options, cases => [ { ddl => '...', ... }, ... ]);
#
# A case:
#   ddl      statements, split at a semicolon and a line's end, each a transaction of its own; S is the schema of either table
#   guarded  such that are for the guarded table alone
#   schema   the schema of the application's table after it, where it has another
#   names    what the application calls a column from then on: { status => 'state' }; its writes come as $NAME
#   table    the application's table after it, if it has another name
#   refused  the SQLSTATE with which it is refused; refused_guarded: on the guarded table alone
#   problems what guard_health says then (of severity error or warning), sorted
#   asked    the kinds of answers to who asks meanwhile, if not all are answered
#   repair   what mends it; unless told, repair_triggers
#   left     what guard_health says after it; unless told, nothing
#   unclosed the dead run stays as it is, and guard_health says so
#   reaped   how many runs a reaping closes then; unless told, 1, the dead one
package AlteredTable;

use strict;
use warnings;

use Exporter 'import';
use Test::More;

our @EXPORT = qw(altered_tables prepare_altered_tables);

my @columns = qw(id sync_type status started_at completed_at duration_seconds errors updated_at heartbeat_at processed_items total_items);

# The application's writes: a start, a sign of life and an end of the run that it started; and of the run that was there.
my @writes = (
	q{INSERT INTO S.TABLE ($id, $sync_type, $heartbeat_at) VALUES (NUMBER, 'SESSION', now())},
	q{UPDATE S.TABLE SET $processed_items = 5, $heartbeat_at = now() WHERE $id = NUMBER},
	q{UPDATE S.TABLE SET $updated_at = now() WHERE $id = NUMBER},
	q{UPDATE S.TABLE SET $status = 'completed' WHERE $id = NUMBER},
	q{UPDATE S.TABLE SET $processed_items = 6 WHERE $sync_type = 'live'},
	q{INSERT INTO S.TABLE ($id, $sync_type, $status, $started_at, $errors) VALUES (NUMBER + 1, 'SESSION', 'failed', now(), '["x"]')},
	q{DELETE FROM S.TABLE WHERE $id = NUMBER + 1});

# Whatever the guard is asked every day.
my @asked = (
	q{SELECT sync_guard.sync_is_running()},
	q{SELECT sync_guard.sync_status()},
	q{SELECT count(*) FROM sync_guard.running_syncs},
	q{SELECT count(*) FROM sync_guard.stuck_syncs},
	q{SELECT count(*) FROM sync_guard.recent_syncs},
	q{SELECT count(*) FROM sync_guard.sync_status_overview},
	q{SELECT count(*) FROM sync_guard.failure_rates},
	q{SELECT count(*) FROM sync_guard.reaped_syncs},
	q{SELECT count(*) FROM sync_guard.alerts},
	q{SELECT count(*) FROM sync_guard.guarded_tables},
	q{SELECT count(*) FROM sync_guard.stale_syncs()},
	q{SELECT length(sync_guard.report_html())});

# The function that runs a statement and returns what became of it: ok with the rows it met, or an SQLSTATE.
sub prepare_altered_tables
{
	my ($node) = @_;
	$node->safe_psql('postgres', q{
		CREATE FUNCTION attempt(statement text) RETURNS text LANGUAGE plpgsql AS $$
		DECLARE
			met bigint;
		BEGIN
			EXECUTE statement;
			GET DIAGNOSTICS met = ROW_COUNT;
			RETURN 'ok ' || met;
		EXCEPTION WHEN OTHERS THEN
			RETURN SQLSTATE || CASE WHEN SQLSTATE LIKE 'XX%' OR SQLSTATE LIKE 'SY%' THEN ' ' || SQLERRM ELSE '' END;
		END $$});
	return;
}

# The statement for the table in this schema.
sub in_schema
{
	my ($schema, $statement) = @_;
	return $statement =~ s/\bS\b/$schema/gr =~ s/_S\b/_$schema/gr;
}

sub quoted { return "'" . ($_[0] =~ s/'/''/gr) . "'"; }

# What becomes of each of these statements in that session.
sub attempts
{
	my ($session, @statements) = @_;
	return $session->query_safe('SELECT ' . join(q{ || E'\n' || }, map { 'attempt(' . quoted($_) . ')' } @statements));
}

sub writes_of
{
	my ($case, $schema, $session, $number) = @_;
	my $table = ($case->{schema} // 'S') . '.' . ($case->{table} // 'runs');
	return map {
		my $write = $_ =~ s/S\.TABLE/in_schema($schema, $table)/er;
		$write =~ s/NUMBER/$number/g;
		$write =~ s/SESSION/$session/g;
		$write =~ s/\$$_\b/$case->{names}{$_} \/\/ $_/ge for @columns;
		$write
	} @writes;
}

my $problems = q{
	SELECT string_agg(DISTINCT concat_ws(' ', problem, CASE WHEN problem = 'check_failed' THEN detail END), ', ')
	FROM sync_guard.guard_health WHERE severity <> 'info' AND problem <> 'dead_runs_not_closed'};

# The SQLSTATEs of the statements that fail.
sub alter
{
	my ($admin, $case, $schema) = @_;
	my @errors;
	for my $statement (map { split /;\n\s*/ } $case->{ddl} // (), $schema eq 'app' && $case->{guarded} || ())
	{
		$admin->query(in_schema($schema, $statement) . ';');
		push @errors, $admin->{stderr} =~ /ERROR:\s+([0-9A-Z]{5})/g;
		$admin->{stderr} = '';
	}
	return join ' ', @errors;
}

sub begin_case
{
	my ($admin, $old, $given, $case) = @_;
	for my $schema (qw(app plain))
	{
		$admin->query_safe("DROP SCHEMA IF EXISTS $schema CASCADE; DROP SCHEMA IF EXISTS moved_$schema CASCADE; CREATE SCHEMA $schema; "
			. in_schema($schema, $given->{tables}));
	}
	is($admin->query_safe('SELECT count(*) FROM sync_guard.settings'), '0', 'the settings of dropped tables go with them');
	$admin->query_safe("SELECT sync_guard.guard_table('app.runs', $given->{guard})");
	for my $schema (qw(app plain))
	{
		$old->query_safe("INSERT INTO $schema.runs (id, sync_type, started_at) VALUES (1, 'dead', now() - interval '2 days'), (2, 'live', now())");
		$old->query_safe("UPDATE $schema.runs SET heartbeat_at = now() WHERE id = 2");
	}
	return;
}

sub one_case
{
	my ($node, $admin, $given, $case) = @_;
	my $name = $case->{name} // join('; ', $case->{ddl} // (), $case->{guarded} // ()) =~ s/\s+/ /gr;
	my ($old, $new);
	my $session = sub {
		my $made = $node->background_psql('postgres', on_error_stop => 1);
		$made->query_safe('SET client_min_messages = error');
		return $made;
	};
	begin_case($admin, $old = $session->(), $given, $case);
	my $last = $admin->query_safe('SELECT coalesce(max(id), 0) FROM sync_guard.journal');
	my %refused = map { $_ => alter($admin, $case, $_) } qw(app plain);
	is($refused{app}, $case->{refused} // '', "$name: " . ($case->{refused} ? "is refused with $case->{refused}" : 'is done'));
	is($refused{app}, $refused{plain}, "$name: as on a table that is not guarded") if !$case->{guarded} && !$case->{refused_guarded};

	my $number = 100;
	my $same_writes = sub {
		my ($by, $when) = @_;
		my %became = map { $_ => attempts($by, writes_of($case, $_, $when, $number)) } qw(app plain);
		is($became{app}, $became{plain}, "$name: writes of a session from $when it: " . join ', ', map { s/ .*//r } split /\n/, $became{plain});
		$number += 10;
	};
	$same_writes->($old, 'before');
	$same_writes->($new = $session->(), 'after');
	my %kinds = map { s/ .*//r => 1 } split /\n/, attempts($old, @asked);
	is(join(' ', sort keys %kinds), $case->{asked} // 'ok', "$name: who asks is answered" . ($case->{asked} ? ', or told why not' : ''));
	is($admin->query_safe($problems), $case->{problems} // '', "$name: what guard_health says");

	my $repair = $case->{repair} // "SELECT sync_guard.repair_triggers('" . in_schema('app', ($case->{schema} // 'S') . '.' . ($case->{table} // 'runs')) . "')";
	like(attempts($new, $repair), qr/^ok/, "$name: is mended by $repair") if $repair ne '';
	is($admin->query_safe($problems), $case->{left} // '', "$name: what guard_health says after it");
	my $reaped = $case->{reaped} // 1;
	is($new->query_safe('SELECT sync_guard.reap_stale_syncs()'), $reaped, "$name: a reaping closes $reaped");
	is($admin->query_safe("SELECT count(*) FROM sync_guard.journal WHERE id > $last AND event = 'reaped'"), $reaped, "$name: with its line in the journal");
	is($admin->query_safe(q{SELECT count(*) FROM sync_guard.guard_health WHERE problem = 'dead_runs_not_closed'}), '1', "$name: guard_health says that it is not closed")
	  if $case->{unclosed};
	$same_writes->($old, 'before, after all,');
	$_->quit for $old, $new;
	return;
}

sub altered_tables
{
	my (%given) = @_;
	my $admin = $given{node}->background_psql('postgres', on_error_stop => 0);
	$admin->set_query_timer_restart();	# the time that a query may take, not all of them
	$admin->query('\set VERBOSITY sqlstate');
	$admin->query('SET client_min_messages = error');
	one_case($given{node}, $admin, \%given, $_) for @{ $given{cases} };
	diag(scalar(@{ $given{cases} }) . ' ways to change a guarded table');
	$admin->quit;
	return;
}

1;
