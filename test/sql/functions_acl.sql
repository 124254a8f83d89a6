-- Every function, table, view and sequence, with who may do what, and everything else that the install script decides. A new
-- one shows up here.
SET client_min_messages = warning;
CREATE DATABASE regress_esg_acl;
\set home :DBNAME
\c regress_esg_acl
CREATE EXTENSION emag_sync_guard;
-- An ACL as "PUBLIC: EXECUTE"; the owner's own rights are left out.
CREATE FUNCTION public.rights(acl aclitem[], kind "char", owner oid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(string_agg(grantee || ': ' || privileges, '; ' ORDER BY grantee), 'nobody')
    FROM (SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END AS grantee,
                 string_agg(a.privilege_type || CASE WHEN a.is_grantable THEN '*' ELSE '' END, ', ' ORDER BY a.privilege_type) AS privileges
          FROM aclexplode(coalesce(acl, acldefault(kind, owner))) AS a WHERE a.grantee <> owner GROUP BY 1) AS g $$;
\pset format unaligned
SELECT oid::regprocedure AS function,
       concat_ws(' ', CASE provolatile WHEN 'v' THEN 'volatile' WHEN 's' THEN 'stable' ELSE 'immutable' END,
                 CASE proparallel WHEN 'u' THEN 'unsafe' WHEN 'r' THEN 'restricted' ELSE 'safe' END,
                 CASE WHEN proisstrict THEN 'strict' END, CASE WHEN proretset THEN 'set' END,
                 CASE WHEN prosecdef THEN 'SECURITY DEFINER' END, CASE WHEN proleakproof THEN 'LEAKPROOF' END, proconfig::text,
                 CASE WHEN prolang <> (SELECT oid FROM pg_language WHERE lanname = 'c') THEN 'not C' END) AS is,
       public.rights(proacl, 'f', proowner) AS rights
FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace ORDER BY oid::regprocedure::text COLLATE "C";
SELECT oid::regclass AS relation, CASE relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'S' THEN 'sequence' ELSE relkind::text END AS is,
       reloptions AS options, public.rights(relacl, CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner) AS rights
FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind NOT IN ('i', 't', 'c') ORDER BY oid::regclass::text COLLATE "C";
SELECT attrelid::regclass, attname, attacl FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace);
SELECT nspname, public.rights(nspacl, 'n', nspowner) AS rights FROM pg_namespace WHERE nspname = 'sync_guard';
\pset format aligned

-- Arguments have names: they are part of the interface.
SELECT oid::regprocedure FROM pg_proc
WHERE pronamespace = 'sync_guard'::regnamespace AND pronargs > 0 AND (proargnames IS NULL OR '' = ANY (proargnames[1:pronargs]));
-- Everything has a comment, and so has each column of a view.
SELECT oid::regprocedure AS without_comment FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL;
SELECT oid::regclass AS without_comment FROM pg_class
WHERE relnamespace = 'sync_guard'::regnamespace AND relkind IN ('r', 'v') AND obj_description(oid, 'pg_class') IS NULL;
SELECT attrelid::regclass AS view, string_agg(attname, ', ' ORDER BY attnum) AS columns_without_comment
FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid
WHERE relnamespace = 'sync_guard'::regnamespace AND relkind = 'v' AND attnum > 0 AND NOT attisdropped AND col_description(attrelid, attnum) IS NULL
GROUP BY attrelid ORDER BY attrelid::regclass::text COLLATE "C";
-- Comments of functions name SQLSTATEs that are raised: the extension's own, or these of the server's. (10000 is a number.)
SELECT DISTINCT oid::regproc, m[1] AS unknown_sqlstate
FROM pg_proc, regexp_matches(obj_description(oid, 'pg_proc'), '\m(SY[0-9]{3}|[0-9P][0-9A-Z]{4})\M', 'g') AS m
WHERE pronamespace = 'sync_guard'::regnamespace
  AND m[1] NOT IN ('SY001', 'SY002', 'SY003', 'SY004', 'SY005', 'SY006', 'SY007', 'SY008', '25006', '25P01', '42501', '42809', '55000', '55P03', '22004', '22023', '42P01', 'P0002', '10000');

\c :home
SET client_min_messages = warning;
DROP DATABASE regress_esg_acl;
