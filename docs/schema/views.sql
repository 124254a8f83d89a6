-- Prints docs/schema/views.md from the catalog:
--
--   psql -XAtq -d erp -f docs/schema/views.sql > docs/schema/views.md
--
-- in a database that has the extension. What it prints is what COMMENT ON says.
\qecho '# The views, column by column'
\qecho
\qecho 'Printed from the catalog by `docs/schema/views.sql`; [the reference](../reference.md#views) tells what they are for. All are in'
\qecho 'the schema `sync_guard`.'
SET search_path = pg_catalog;
WITH columns AS (
    SELECT c.oid, c.relname, a.attnum,
           format('| `%s` | %s | %s |', a.attname, format_type(a.atttypid, a.atttypmod),
                  replace(COALESCE(col_description(c.oid, a.attnum), ''), '|', '\|')) AS line
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'sync_guard'::regnamespace AND c.relkind = 'v' AND a.attnum > 0)
SELECT format(E'\n## %s\n\n%s.\n\n| column | type | meaning |\n| --- | --- | --- |\n%s', relname,
              upper(left(obj_description(oid, 'pg_class'), 1)) || substr(obj_description(oid, 'pg_class'), 2),
              string_agg(line, E'\n' ORDER BY attnum))
FROM columns GROUP BY oid, relname ORDER BY relname COLLATE "C";
