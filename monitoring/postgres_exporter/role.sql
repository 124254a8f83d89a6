-- The role that the exporter logs in as, with no more rights than its queries need. Run it in the database that has the
-- guarded tables, as superuser (or as a role that may create roles, grant pg_monitor, and grant on those tables):
--
--   psql -d erp -f role.sql
--   psql -d erp -v exporter=metrics -f role.sql
--
-- Run it again after guard_table() on a table that the role cannot read yet: it only adds what is missing.
-- The name is that of Debian's system user, which logs in over the socket without a password (peer).
\set ON_ERROR_STOP on
-- Whoever may create operators in a schema of the path would have them run as you.
SET search_path = pg_catalog, pg_temp;
\if :{?exporter}
\else
    \set exporter prometheus
\endif

SELECT pg_catalog.format('CREATE ROLE %I LOGIN CONNECTION LIMIT 4', :'exporter')
WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'exporter')
\gexec

-- The guard's memory, the jobs of every role, and the exporter's own statistics.
SELECT pg_catalog.format('GRANT pg_monitor TO %I', :'exporter')
WHERE NOT pg_catalog.pg_has_role(:'exporter', 'pg_monitor', 'USAGE')
\gexec

-- It only reads, a scrape that hangs is given up before the next, and nobody's operators come before the server's.
SELECT pg_catalog.format('ALTER ROLE %I IN DATABASE %I SET %s', :'exporter', pg_catalog.current_database(), s.setting)
FROM (VALUES ('default_transaction_read_only = on'), ('statement_timeout = ''10s'''), ('lock_timeout = ''2s'''),
             ('search_path = pg_catalog, pg_temp')) AS s (setting)
\gexec

-- The columns that the guard shows, of each guarded table, and the way into its schema.
SELECT pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, :'exporter')
FROM sync_guard.guarded_tables AS g
JOIN pg_catalog.pg_class AS c ON c.oid = g.relation
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE NOT pg_catalog.has_schema_privilege(:'exporter', n.oid, 'USAGE')
GROUP BY n.nspname
UNION ALL
SELECT pg_catalog.format('GRANT SELECT (%s) ON %s TO %I', pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(s.shown), ', '),
                         g.relation, :'exporter')
FROM sync_guard.guarded_tables AS g,
     LATERAL pg_catalog.unnest(pg_catalog.array_cat(pg_catalog.array_cat(ARRAY[g.key_column, g.status_column, g.start_column,
         g.end_column, g.duration_column, g.error_column, g.activity_column, g.updated_column, g.done_column,
         g.total_column]::name[], g.scope_columns::name[]), g.summary_columns::name[])) AS s (shown)
WHERE s.shown IS NOT NULL AND g.problem IS NULL
  AND NOT pg_catalog.has_column_privilege(:'exporter', g.relation, s.shown::text, 'SELECT')
GROUP BY g.relation
\gexec
