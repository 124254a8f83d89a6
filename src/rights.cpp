// Privilege checks and the choice of identity. See rights.h.

#include "rights.h"

#include "errors.h"
#include "pg/depends.h"

namespace esg {
namespace {

bool has_on_column(const Guarded &g, const Column &column, Oid user, AclMode mode) {
  return !column.exists() || pg_attribute_aclcheck(g.table, column.attno, user, mode) == ACLCHECK_OK;
}

bool has_on_all(const Guarded &g, const Column *const *columns, int count, Oid user, AclMode mode) {
  for (int i = 0; i < count; ++i)
    if (!has_on_column(g, *columns[i], user, mode)) return false;
  return true;
}

bool has_on_all(const Guarded &g, const Column *columns, int count, Oid user, AclMode mode) {
  for (int i = 0; i < count; ++i)
    if (!has_on_column(g, columns[i], user, mode)) return false;
  return true;
}

/// SELECT on each column that the guard shows, as far as they are there.
bool may_read_columns(const Guarded &g, Oid user) {
  const Column *const shown[] = {&g.key,   &g.status,   &g.start,   &g.end,  &g.duration,
                                 &g.error, &g.activity, &g.updated, &g.done, &g.total};
  return has_on_all(g, shown, lengthof(shown), user, ACL_SELECT) &&
         has_on_all(g, g.scope, g.scope_count, user, ACL_SELECT) &&
         has_on_all(g, g.summary, g.summary_count, user, ACL_SELECT);
}

/// As may_read, of a table that is not guarded.
bool may_select(Oid relation) {
  return pg::may_use_schema_compat(get_rel_namespace(relation), GetUserId()) &&
         pg_class_aclcheck(relation, GetUserId(), ACL_SELECT) == ACLCHECK_OK;
}

void notice_locked(Oid relation) {
  ereport(NOTICE,
          errmsg("skipping table %s: it is locked by another transaction",
                 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation))));
}

Oid owner_of_relation(Oid relation) {
  const HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
  if (!HeapTupleIsValid(tuple)) return InvalidOid;
  const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
  ReleaseSysCache(tuple);
  return owner;
}

/// The table's owner as he is now. A cached one may be of yesterday, and whoever owns the table today would act as him.
Oid lock_owner(const Guarded &g) {
  LockRelationOid(g.table, AccessShareLock);
  const Oid owner = owner_of_relation(g.table);
  if (!OidIsValid(owner))
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table %s was dropped meanwhile", g.name));
  return owner;
}

/// Whether the session has objects of its own in pg_temp.
bool has_temporary_objects() {
  Oid schema;
  Oid toast_schema;
  GetTempNamespaceState(&schema, &toast_schema);
  if (!OidIsValid(schema)) return false;
  bool found = false;
  pg::each_depending(NamespaceRelationId, schema, [&found](Form_pg_depend) {
    found = true;
    return false;
  });
  return found;
}

/// Whether the table's owner has put casts of his own under what the guard reads.
bool is_read_by_code(const Guarded &g, ToRead to_read) {
  bool found = is_cast_by_code(g.key.type) || is_cast_by_code(g.status.type);
  for (int i = 0; i < g.scope_count; ++i) found = found || is_cast_by_code(g.scope[i].type);
  if (to_read == ToRead::kJudged) return found;
  found = found || is_cast_by_code(g.error.type);
  for (int i = 0; i < g.summary_count; ++i) found = found || is_cast_by_code(g.summary[i].type);
  return found;
}

/// A trigger or a cast of the owner's that names a table or a type without its schema may meet one in pg_temp, which may be the
/// first on the path and cannot be taken off it: a caller with less rights than the owner would have his code run as the owner.
void refuse_temporary_objects(const Guarded &g, Oid owner, const char *done, const char *code) {
  if (has_privs_of_role(GetUserId(), owner) || !has_temporary_objects()) return;
  ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
          errmsg("runs of table %s cannot be %s in a session that has temporary objects", g.name, done),
          errdetail("It is done as the table's owner, whose %s could take your temporary objects for others.", code),
          errhint("Run DISCARD TEMP or use another session, or call as a member of role %s.",
                  quote_identifier(GetUserNameFromId(owner, false))));
}

/// What the owner of a partition put on it would run as the owner of the table.
void refuse_partitions_of_others(const Guarded &g, Oid owner) {
  if (!g.partitioned) return;
  ListCell *cell;
  foreach (cell, find_all_inheritors(g.table, NoLock, nullptr)) {
    const Oid other = owner_of_relation(lfirst_oid(cell));
    if (!OidIsValid(other) || has_privs_of_role(other, owner)) continue;
    ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
            errmsg("runs of table %s cannot be changed: a partition belongs to someone else", g.name),
            errdetail("Triggers of partition \"%s\" of role \"%s\" would run as the table's owner.",
                      get_rel_name(lfirst_oid(cell)), GetUserNameFromId(other, false)),
            errhint("ALTER TABLE %s OWNER TO %s;",
                    quote_qualified_identifier(get_namespace_name(get_rel_namespace(lfirst_oid(cell))),
                                               get_rel_name(lfirst_oid(cell))),
                    quote_identifier(GetUserNameFromId(owner, false))));
  }
}

}  // namespace

bool is_cast_by_code(Oid type) {
  const Oid element = get_element_type(type);
  if (OidIsValid(element)) type = getBaseType(element);
  if (type < FirstNormalObjectId) return false;
  if (get_typtype(type) == TYPTYPE_COMPOSITE) return true;
  for (const Oid target : {TEXTOID, JSONOID}) {
    Oid function = InvalidOid;
    if (find_coercion_pathway(target, type, COERCION_EXPLICIT, &function) == COERCION_PATH_FUNC &&
        function >= FirstNormalObjectId)
      return true;
  }
  return false;
}

bool may_read(const Guarded &g) {
  if (g.relid != g.table) {
    // A partition's columns have numbers of their own.
    const Guarded *table = guarded(g.table);
    return table != nullptr && may_read(*table);
  }
  const Oid user = GetUserId();
  // A table that was dropped meanwhile, as nobody holds its lock yet, is not there to be read.
  const Oid schema = get_rel_namespace(g.table);
  if (!OidIsValid(schema) || !pg::may_use_schema_compat(schema, user)) return false;
  bool is_missing = false;
  if (pg_class_aclcheck_ext(g.table, user, ACL_SELECT, &is_missing) == ACLCHECK_OK) return true;
  if (is_missing || g.broken != nullptr) return false;  // which columns it is about is not known any more
  return may_read_columns(g, user);
}

namespace {

/// The caller may be told that the settings do not fit: he may read the table, or all that is left of what the guard shows.
bool may_ask(const Guarded &g) {
  if (may_read(g)) return true;
  const Oid schema = get_rel_namespace(g.table);
  return g.broken != nullptr && g.relid == g.table && (g.key.exists() || g.status.exists()) && OidIsValid(schema) &&
         pg::may_use_schema_compat(schema, GetUserId()) && may_read_columns(g, GetUserId());
}

}  // namespace

bool may_reap(const Guarded &g) {
  if (!may_read(g)) return false;
  const Oid user = GetUserId();
  if (pg_class_aclcheck(g.table, user, ACL_UPDATE) == ACLCHECK_OK) return true;
  if (g.broken != nullptr) return false;
  const Column *const written[] = {&g.status, &g.end, &g.duration, &g.error, &g.updated};
  return has_on_all(g, written, lengthof(written), user, ACL_UPDATE);
}

bool owns(const Guarded &g) { return pg::owns_relation_compat(g.table, GetUserId()); }

bool row_security_applies(const Guarded &g) { return check_enable_rls(g.table, GetUserId(), true) == RLS_ENABLED; }

pg::Identity work_as(const Guarded &g, pg::Access access) {
  const Oid owner = lock_owner(g);
  const bool writing = access == pg::Access::kWrite;
  const bool by_owner = GetUserId() == owner;
  const bool row_security = row_security_applies(g);
  if (!writing && !by_owner && !row_security) return read_as_owner(g);
  if (!writing) {
    // Policies ask who the current user is, so they run as the caller, as they do in his own SELECT.
    const pg::Identity before = pg::remain(SECURITY_RESTRICTED_OPERATION);
    pg::forbid_writing();
    return before;
  }
  refuse_partitions_of_others(g, owner);
  if (by_owner) return pg::Identity{};
  if (row_security)
    ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("row security of table %s applies to you", g.name),
            errhint("Its owner, or a role with BYPASSRLS, can change its runs."));
  refuse_temporary_objects(g, owner, "changed", "triggers");
  return pg::become(owner, SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
}

pg::Identity read_as_owner(const Guarded &g, ToRead to_read) {
  const Oid owner = lock_owner(g);
  if (is_read_by_code(g, to_read)) refuse_temporary_objects(g, owner, "read", "casts");
  const pg::Identity before = pg::become(owner, SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
  pg::forbid_writing();
  return before;
}

Oid relation_argument(FunctionCallInfo fcinfo, int argument) {
  if (PG_ARGISNULL(argument)) return InvalidOid;
  const Oid relation = PG_GETARG_OID(argument);
  if (!OidIsValid(relation))
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relation),
            errhint("NULL means: all guarded tables."));
  return relation;
}

void leave_out(List **left_out, const Guarded &g, int sqlstate, const char *reason) {
  if (left_out == nullptr) return;
  auto *table = static_cast<LeftOut *>(palloc(sizeof(LeftOut)));
  *table = {pstrdup(g.name), sqlstate, pstrdup(reason)};
  *left_out = lappend(*left_out, table);
}

void refuse_to_guess(const List *left_out) {
  if (left_out == NIL) return;
  StringInfoData names;
  StringInfoData reasons;
  initStringInfo(&names);
  initStringInfo(&reasons);
  ListCell *cell;
  foreach (cell, left_out) {
    const auto *table = static_cast<const LeftOut *>(lfirst(cell));
    appendStringInfo(&names, "%s%s", names.len == 0 ? "" : ", ", table->table);
    appendStringInfo(&reasons, "%s%s: %s.", reasons.len == 0 ? "" : "\n", table->table, table->reason);
  }
  ereport(ERROR, errcode(static_cast<const LeftOut *>(linitial(left_out))->sqlstate),
          errmsg_plural("whether a sync is running is not known: table %s could not be asked",
                        "whether a sync is running is not known: tables %s could not be asked", list_length(left_out),
                        names.data),
          errdetail("%s", reasons.data),
          errhint("The view sync_guard.guard_health says what to do. A table that is well can be asked alone: name it "
                  "as the relation."));
}

void warn_of_skipped(const Guarded &g, const ErrorData *error) {
  ereport(WARNING, errcode(error->sqlerrcode), errmsg("skipping table %s: %s", g.name, error->message),
          errhint("The view sync_guard.guard_health says what is wrong with it."));
}

List *readable_tables(Oid relation, bool notice, IfLocked if_locked, List **left_out) {
  const bool skip = if_locked == IfLocked::kSkip;
  if (OidIsValid(relation)) {
    if (skip && get_rel_name(relation) != nullptr && may_select(relation) &&
        !ConditionalLockRelationOid(relation, AccessShareLock)) {
      notice_locked(relation);
      return NIL;
    }
    // Who may not read a table learns nothing of it, not even whether it is guarded.
    const Guarded *g = guarded(relation);
    // A partition stands for its table, whose columns have the numbers that privileges are granted on.
    if (g != nullptr && g->table != relation) g = guarded(relation = g->table);
    const char *name = get_rel_name(relation);
    if (name != nullptr && (g != nullptr ? !may_ask(*g) : !may_select(relation)))
      aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, name);
    g = &guarded_or_error(relation);
    LockRelationOid(g->table, AccessShareLock);
    return list_make1(const_cast<Guarded *>(&guarded_or_error(g->table)));
  }
  List *tables = NIL;
  int skipped = 0;
  ListCell *cell;
  List *busy = NIL;
  foreach (cell, all_guarded(skip ? &busy : nullptr)) {
    auto *g = static_cast<Guarded *>(lfirst(cell));
    if (may_ask(*g)) {
      // From here on the table is what its settings were resolved against.
      if (!skip) LockRelationOid(g->table, AccessShareLock);
      else if (!ConditionalLockRelationOid(g->table, AccessShareLock)) {
        busy = lappend_oid(busy, g->table);
        continue;
      }
      g = guarded(g->table);
      if (g == nullptr) continue;
    }
    if (!may_ask(*g)) {
      ++skipped;
    } else if (g->broken != nullptr) {
      ereport(WARNING, errcode(kBadOption), errmsg("skipping table %s: its settings do not fit it any more", g->name),
              errdetail("%s.", g->broken), errhint("The view sync_guard.guard_health says what to do."));
      leave_out(left_out, *g, kBadOption, psprintf("its settings do not fit it any more: %s", g->broken));
    } else {
      tables = lappend(tables, g);
    }
  }
  foreach (cell, busy)
    if (get_rel_name(lfirst_oid(cell)) != nullptr && may_select(lfirst_oid(cell))) notice_locked(lfirst_oid(cell));
  if (skipped > 0 && notice)
    ereport(NOTICE, errmsg_plural("%d guarded table was skipped: you may not read it",
                                  "%d guarded tables were skipped: you may not read them", skipped, skipped));
  return tables;
}

}  // namespace esg
