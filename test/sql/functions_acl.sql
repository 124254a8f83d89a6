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
-- A C function is the symbol of its own name in the extension's library; nothing is granted on types beyond the server's default.
SELECT oid::regprocedure AS odd_function, prosrc, probin FROM pg_proc
WHERE pronamespace = 'sync_guard'::regnamespace AND (prosrc <> 'emag_sync_guard_' || proname OR probin <> '$libdir/emag_sync_guard' OR prokind <> 'f' OR prosupport <> 0);
SELECT oid::regtype AS odd_type, typtype, typacl FROM pg_type
WHERE typnamespace = 'sync_guard'::regnamespace AND (typacl IS NOT NULL OR typtype NOT IN ('c', 'b') OR (typtype = 'b' AND typelem = 0));
-- Everything in the schema belongs to the extension and to its owner, and of the extension's nothing is elsewhere.
CREATE VIEW public.objects AS
SELECT 'pg_class'::regclass AS class, oid, relname AS name, relowner AS owner FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND relkind IN ('r', 'v', 'S')
UNION ALL SELECT 'pg_proc'::regclass, oid, oid::regprocedure::text, proowner FROM pg_proc WHERE pronamespace = 'sync_guard'::regnamespace
UNION ALL SELECT 'pg_namespace'::regclass, oid, nspname, nspowner FROM pg_namespace WHERE nspname = 'sync_guard'
UNION ALL SELECT 'pg_event_trigger'::regclass, oid, evtname, evtowner FROM pg_event_trigger;
CREATE VIEW public.members AS
SELECT classid::regclass AS class, objid AS oid FROM pg_depend
WHERE refclassid = 'pg_extension'::regclass AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'emag_sync_guard') AND deptype = 'e';
SELECT o.* FROM public.objects AS o LEFT JOIN public.members AS m ON (m.class, m.oid) = (o.class, o.oid)
WHERE m.oid IS NULL OR o.owner <> (SELECT extowner FROM pg_extension WHERE extname = 'emag_sync_guard');
SELECT pg_describe_object(m.class, m.oid, 0) AS elsewhere FROM public.members AS m LEFT JOIN public.objects AS o ON (m.class, m.oid) = (o.class, o.oid)
WHERE o.oid IS NULL AND m.class <> 'pg_type'::regclass ORDER BY pg_describe_object(m.class, m.oid, 0) COLLATE "C";
-- What fires: triggers on its own tables, its event trigger. No rules beyond the views' own, no policies, no row security.
SELECT tgrelid::regclass, tgname, tgfoid::regproc, tgtype, tgenabled FROM pg_trigger
WHERE tgrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace) ORDER BY tgrelid::regclass::text COLLATE "C", tgname COLLATE "C";
SELECT evtname, evtevent, evtfoid::regproc, evtenabled, evttags FROM pg_event_trigger;
SELECT ev_class::regclass, rulename FROM pg_rewrite WHERE rulename <> '_RETURN' AND ev_class IN (SELECT oid FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace);
SELECT oid::regclass FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace AND (relrowsecurity OR relforcerowsecurity OR relpersistence <> 'p');
-- Constraints, and indexes with an expression or a predicate, are the server's functions and operators alone; no path is looked at.
SELECT conrelid::regclass, pg_get_constraintdef(c.oid) FROM pg_constraint AS c JOIN pg_class AS t ON t.oid = conrelid
WHERE relnamespace = 'sync_guard'::regnamespace AND contype NOT IN ('n', 'p') ORDER BY conrelid::regclass::text COLLATE "C", conname COLLATE "C";
SELECT indexrelid::regclass, indisunique, pg_get_expr(indexprs, indrelid) AS expressions, pg_get_expr(indpred, indrelid) AS predicate
FROM pg_index WHERE indrelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'sync_guard'::regnamespace)
  AND (indexprs IS NOT NULL OR indpred IS NOT NULL) ORDER BY indexrelid::regclass::text COLLATE "C";
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
