-- What CREATE EXTENSION makes, and where.
SET client_min_messages = warning;
CREATE DATABASE regress_esg_install;
\set home :DBNAME
\c regress_esg_install
-- Nothing is preloaded, and nothing need be.
SELECT current_setting('shared_preload_libraries') ~ 'emag_sync_guard' AS preloaded;
SET client_min_messages = notice;
CREATE EXTENSION emag_sync_guard;
SELECT installed_version = default_version AS current FROM pg_available_extensions WHERE name = 'emag_sync_guard';
SELECT extrelocatable, pg_get_userbyid(extowner) = session_user AS owner FROM pg_extension WHERE extname = 'emag_sync_guard';

-- Everything in the schema is the extension's, and all that is the extension's is in the schema, but for the event trigger.
CREATE TEMP VIEW members AS
SELECT i.type, i.schema, i.identity, d.objid IS NOT NULL AS is_member
FROM (SELECT 'pg_class'::regclass AS classid, oid AS objid FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind NOT IN ('i', 'c', 't')
      UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace
      UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typnamespace = 'sync_guard'::regnamespace AND typtype <> 'c' AND typcategory <> 'A'
      UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator WHERE oprnamespace = 'sync_guard'::regnamespace
      UNION ALL SELECT 'pg_namespace'::regclass, 'sync_guard'::regnamespace
      UNION ALL SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger) AS o (classid, objid)
FULL JOIN (SELECT classid, objid FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
           AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'emag_sync_guard')) AS d USING (classid, objid),
    LATERAL pg_identify_object(classid, objid, 0) AS i;
SELECT * FROM members WHERE NOT is_member OR (schema IS DISTINCT FROM 'sync_guard' AND type <> 'schema');
-- (Row types are members from PostgreSQL 17 on.)
SELECT type, count(*) > 0 AS some FROM members WHERE type <> 'type' GROUP BY type ORDER BY type;
SELECT evtname, evtevent, evtenabled, evttags, evtfoid::regproc, pg_get_userbyid(evtowner) = session_user AS owner FROM pg_event_trigger;

-- Its triggers stand on its own tables alone. (Those of foreign keys are the server's.)
SELECT tgrelid::regclass, tgname, tgfoid::regproc, tgenabled FROM pg_trigger AS t WHERE NOT tgisinternal ORDER BY tgrelid::regclass::text COLLATE "C";

-- What is dumped with the database: all rows of all its tables, and where the journal's numbers stand.
SELECT oid::regclass, extconfig IS NOT NULL AS dumped, condition
FROM pg_class AS c LEFT JOIN (SELECT config, condition FROM pg_extension, unnest(extconfig, extcondition) AS u (config, condition)
                              WHERE extname = 'emag_sync_guard') AS e (extconfig, condition) ON extconfig = oid
WHERE relnamespace = 'sync_guard'::regnamespace AND relkind IN ('r', 'S') ORDER BY oid::regclass::text COLLATE "C";

-- It defines these settings, and no others of its prefix can be made.
SELECT sync_guard.sync_is_running();
SELECT name, setting, context, vartype, short_desc IS NOT NULL AS described FROM pg_settings WHERE name LIKE 'emag_sync_guard.%' ORDER BY name;
SET emag_sync_guard.nonsense = 1;
\echo :LAST_ERROR_SQLSTATE

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_install;
