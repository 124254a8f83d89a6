-- The role of a status endpoint: it may ask the guard of one table, and nothing else.
--
--   psql -d erp -v role=erp_api -v table=app.emag_sync_logs -f docs/sql/api_role.sql
--
-- Run it when the table is guarded, as a superuser, or as the owner of the table and its schema (who must be allowed to create
-- roles where the role is not there yet). It makes the role, with LOGIN and without a password (\password gives it one), and
-- gives it USAGE on the table's schema and SELECT on those columns that the guard shows of a run. That suffices for
-- sync_status, sync_is_running, explain_run and the views on this table; it does not for reaping, for other tables, or for the
-- rows in the journal. The guard's own schema is open to everybody.
--
-- Run it again when guard_table has been told of other columns. It takes nothing away: a role that could do more before can
-- do it still.
\set ON_ERROR_STOP on
\if :{?role}
\else
DO $$ BEGIN RAISE 'name the role: -v role=erp_api'; END $$;
\endif
\if :{?table}
\else
DO $$ BEGIN RAISE 'name the guarded table, with its schema: -v table=app.emag_sync_logs'; END $$;
\endif

BEGIN;
SET LOCAL search_path = pg_catalog, pg_temp;

-- An error where the table is not guarded.
SELECT sync_guard.live_runs_query(:'table') \g /dev/null

SELECT format('CREATE ROLE %I LOGIN', :'role')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'role') \gexec

SELECT format('GRANT USAGE ON SCHEMA %I TO %I', n.nspname, :'role')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.oid = :'table'::regclass \gexec

SELECT format('GRANT SELECT (%s) ON %s TO %I',
              (SELECT string_agg(DISTINCT quote_ident(c.name), ', ' ORDER BY quote_ident(c.name))
               FROM unnest(ARRAY[g.key_column, g.status_column, g.start_column, g.end_column, g.duration_column, g.error_column,
                                 g.activity_column, g.updated_column, g.done_column, g.total_column]
                           || g.scope_columns || g.summary_columns) AS c (name)
               WHERE c.name IS NOT NULL),
              g.relation, :'role')
FROM sync_guard.guarded_tables AS g WHERE g.relation = :'table'::regclass \gexec

COMMIT;
