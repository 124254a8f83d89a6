# Everything that the catalogs say of the extension's objects, as lines without numbers that differ from database to database:
# two databases whose lines are equal have the same extension.
#
#   use ExtensionCatalog;
#   my %lines = map { $_ => 1 } extension_lines($node, 'postgres');
#
# The objects are its members by pg_depend, and what belongs to those internally or automatically (columns, constraints,
# indexes, defaults, rules, row types). Of each: its catalog row, with every number of an object replaced by that object's
# identity (pg_get_catalog_foreign_keys says which columns hold such), its definition as the server writes it, comment,
# initial rights, dependencies in both directions, owner.
package ExtensionCatalog;

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(extension_lines catalog_query);

# Columns that are physical, count something, or hold an expression (which is compared as the server writes it).
my $left_out = q{'{oid,relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid,reltoastrelid,attmissingval,atthasmissing,attcacheoff,
	conbin,adbin,ev_qual,ev_action,ev_class,tgqual,proargdefaults,prosqlbody,indexprs,indpred,relpartbound,typdefaultbin,typdefault,extversion,evtfoid,extconfig,extcondition,
	relhasrules,relhastriggers,relhasindex,relhassubclass,indcheckxmin}'::text[]};

# The catalogs whose rows are compared: by what their objects are named in pg_depend, and where a row is part of another object.
my %rows_of = (
	pg_namespace => 'oid', pg_proc => 'oid', pg_class => 'oid', pg_type => 'oid', pg_constraint => 'oid', pg_attrdef => 'oid', pg_rewrite => 'oid',
	pg_trigger => 'oid', pg_event_trigger => 'oid', pg_extension => 'oid', pg_cast => 'oid', pg_operator => 'oid', pg_policy => 'oid',
	pg_attribute => 'attrelid:pg_class', pg_index => 'indexrelid:pg_class', pg_sequence => 'seqrelid:pg_class');

# How the server writes an object, where it does.
my $definition = q{
	CASE o.classid
		WHEN 'pg_proc'::regclass THEN pg_get_functiondef(o.objid) || coalesce(pg_get_function_sqlbody(o.objid), '')
		WHEN 'pg_constraint'::regclass THEN pg_get_constraintdef(o.objid)
		WHEN 'pg_attrdef'::regclass THEN (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef AS a WHERE a.oid = o.objid)
		WHEN 'pg_rewrite'::regclass THEN pg_get_ruledef(o.objid)
		WHEN 'pg_trigger'::regclass THEN pg_get_triggerdef(o.objid)
		WHEN 'pg_class'::regclass THEN (SELECT CASE relkind WHEN 'v' THEN pg_get_viewdef(c.oid) WHEN 'i' THEN pg_get_indexdef(c.oid) END FROM pg_class AS c WHERE c.oid = o.objid)
	END};

# The statement behind extension_lines; it returns one column.
sub catalog_query
{
	my @rows = map {
		my ($column, $class) = split /:/, $rows_of{$_};
		sprintf q{SELECT '%s'::regclass::oid, o.identity, to_jsonb(r) FROM objects AS o JOIN %s AS r ON r.%s = o.objid WHERE o.classid = '%s'::regclass%s},
		  $_, $_, $column, $class // $_, $_ eq 'pg_attribute' ? ' AND r.attnum > 0' : ''
	} sort keys %rows_of;
	my $rows = join "\nUNION ALL ", @rows;
	my $known = join ',', map { "'$_'::regclass" } grep { $rows_of{$_} eq 'oid' } sort keys %rows_of;
	return qq{
	WITH RECURSIVE members (classid, objid) AS (
		SELECT 'pg_extension'::regclass::oid, oid FROM pg_extension WHERE extname = 'emag_sync_guard'
		UNION
		SELECT d.classid, d.objid FROM members AS m JOIN pg_depend AS d ON (d.refclassid, d.refobjid) = (m.classid, m.objid)
		WHERE d.deptype = 'e' OR (d.deptype IN ('i', 'a') AND m.classid <> 'pg_extension'::regclass)
	),
	objects AS MATERIALIZED (
		SELECT DISTINCT m.classid, m.objid, i.type || ' ' || i.identity AS identity
		FROM members AS m, pg_identify_object(m.classid, m.objid, 0) AS i WHERE i.identity !~ 'pg_toast'
	),
	-- Which columns of the catalogs hold numbers of objects.
	keys AS MATERIALIZED (
		SELECT fktable::oid AS catalog, fkcols[1] AS name, pktable::oid AS class, is_array
		FROM pg_get_catalog_foreign_keys() WHERE cardinality(fkcols) = 1 AND pkcols = '{oid}'
	),
	rows (catalog, identity, row) AS MATERIALIZED ($rows),
	columns AS (
		SELECT r.catalog, r.identity, v.key,
			   CASE WHEN k.name IS NULL AND v.key LIKE '%acl' AND jsonb_typeof(v.value) = 'array' THEN
				   (SELECT jsonb_agg(a ORDER BY a #>> '{}') FROM jsonb_array_elements(v.value) AS a)::text
			   WHEN k.name IS NULL THEN v.value::text
			   ELSE (SELECT string_agg(coalesce((SELECT i.type || ' ' || i.identity FROM pg_identify_object(k.class, n::oid, 0) AS i), n), ', ' ORDER BY position)
					 FROM regexp_split_to_table(v.value #>> '{}', '[^0-9]+') WITH ORDINALITY AS t (n, position) WHERE n <> '') END AS value
		FROM rows AS r CROSS JOIN jsonb_each(r.row) AS v LEFT JOIN keys AS k ON (k.catalog, k.name) = (r.catalog, v.key)
		WHERE v.key <> ALL ($left_out)
	)
	SELECT replace(line, E'\\n', ' ') FROM (
		SELECT concat_ws('|', catalog::regclass, identity, string_agg(key || '=' || coalesce(value, 'NULL'), ' ' ORDER BY key)) AS line
		FROM columns WHERE catalog <> 'pg_attribute'::regclass GROUP BY catalog, identity
		UNION ALL
		SELECT concat_ws('|', 'column', identity, row ->> 'attnum', row ->> 'attname',
			(SELECT string_agg(v.key || '=' || coalesce(CASE v.key WHEN 'atttypid' THEN format_type((v.value #>> '{}')::oid, NULL) WHEN 'attcollation' THEN (v.value #>> '{}')::oid::regcollation::text
							   WHEN 'attacl' THEN (SELECT jsonb_agg(a ORDER BY a #>> '{}')::text FROM jsonb_array_elements(CASE jsonb_typeof(v.value) WHEN 'array' THEN v.value ELSE '[]' END) AS a)
							   -- Some builds note there where in the server's log the column was made.
							   WHEN 'attoptions' THEN regexp_replace(v.value::text, '"pg_attver=[0-9]+"', '')
							   ELSE v.value::text END, 'NULL'), ' ' ORDER BY v.key)
			 FROM jsonb_each(row - 'attrelid') AS v WHERE v.key <> ALL ($left_out)))
		FROM rows WHERE catalog = 'pg_attribute'::regclass
		UNION ALL
		SELECT concat_ws('|', 'definition', identity, $definition) FROM objects AS o WHERE $definition IS NOT NULL
		UNION ALL
		SELECT concat_ws('|', 'comment', identity, objsubid, description) FROM objects AS o JOIN pg_description AS d ON (d.classoid, d.objoid) = (o.classid, o.objid)
		UNION ALL
		SELECT concat_ws('|', 'initial rights', identity, objsubid, privtype, (SELECT string_agg(a::text, ' ' ORDER BY a::text) FROM unnest(initprivs) AS a))
		FROM objects AS o JOIN pg_init_privs AS p ON (p.classoid, p.objoid) = (o.classid, o.objid)
		UNION ALL
		SELECT concat_ws('|', 'depends', o.identity, objsubid, deptype, i.type, i.identity)
		FROM objects AS o JOIN pg_depend AS d ON (d.classid, d.objid) = (o.classid, o.objid), pg_identify_object(refclassid, refobjid, refobjsubid) AS i
		WHERE i.identity !~ 'pg_toast'
		UNION ALL
		SELECT concat_ws('|', 'shared', o.identity, objsubid, deptype, i.identity)
		FROM objects AS o JOIN pg_shdepend AS d ON (d.classid, d.objid) = (o.classid, o.objid) AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database()),
			 pg_identify_object(refclassid, refobjid, 0) AS i
		UNION ALL
		SELECT concat_ws('|', 'dumped', c::regclass, condition) FROM pg_extension, unnest(extconfig, extcondition) AS t (c, condition) WHERE extname = 'emag_sync_guard'
		UNION ALL
		SELECT 'this test does not compare ' || classid::regclass || '|' || identity FROM objects WHERE classid <> ALL (ARRAY[$known])
	) AS l ORDER BY line COLLATE "C"};
}

sub extension_lines
{
	my ($node, $database) = @_;
	return split /\n/, $node->safe_psql($database, 'SET search_path = pg_catalog; ' . catalog_query());
}

1;
