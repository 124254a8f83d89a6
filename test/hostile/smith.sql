-- What sqlsmith sees of the functions there are: it asks pg_proc without naming the schema, and gets this view where the schema
-- smith comes first on its path. The guard's own are there many times, so that most of its expressions call them; of the server's,
-- those that change nothing and read no files, since it is a superuser too.
-- One without a handler is an error in information_schema.
DROP FOREIGN TABLE odd.a_foreign_table;
CREATE SCHEMA smith;
GRANT USAGE ON SCHEMA smith TO PUBLIC;
CREATE VIEW smith.pg_proc AS
SELECT oid, proname, pronamespace, prorettype, proargtypes, prokind, false AS proretset, provariadic, pronargdefaults
FROM pg_catalog.pg_proc CROSS JOIN generate_series(1, 30)
WHERE pronamespace = 'sync_guard'::regnamespace
UNION ALL
SELECT oid, proname, pronamespace, prorettype, proargtypes, prokind, proretset, provariadic, pronargdefaults
FROM pg_catalog.pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile = 'i' AND prokind = 'f' AND NOT proretset
  AND NOT proargtypes::oid[] && ARRAY['internal'::regtype, 'cstring'::regtype]::oid[];
GRANT SELECT ON smith.pg_proc TO PUBLIC;
