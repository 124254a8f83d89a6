// Making, comparing and removing the guard's triggers. Runs in the caller's process at adoption, release, repair and in
// guard_health. Making takes SHARE ROW EXCLUSIVE on the table and its partitions, removing ACCESS EXCLUSIVE, both in
// short tries (table_lock.h); looking takes ACCESS SHARE. DDL runs as the table's owner. See guarding.h.

#include "guarding.h"

#include "errors.h"
#include "fault.h"
#include "pg/depends.h"
#include "pg/identity.h"
#include "pg/spi.h"

namespace esg {
namespace {

enum Kind : int { kInsert, kUpdate, kWatch, kEnd, kDelete, kKinds };

struct Spec {
  const char *name;
  const char *events;  ///< as in CREATE TRIGGER
  int16 type;          ///< as in pg_trigger.tgtype
  const char *function;
};

constexpr Spec kSpecs[kKinds] = {
    {"zzz_emag_sync_guard_insert", "BEFORE INSERT", TRIGGER_TYPE_ROW | TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_INSERT,
     "judge_row"},
    {"zzz_emag_sync_guard_update", "BEFORE UPDATE", TRIGGER_TYPE_ROW | TRIGGER_TYPE_BEFORE | TRIGGER_TYPE_UPDATE,
     "judge_row"},
    {"zzz_emag_sync_guard_watch", "AFTER INSERT OR UPDATE",
     TRIGGER_TYPE_ROW | TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE, "watch_row"},
    {"zzz_emag_sync_guard_end", "AFTER UPDATE", TRIGGER_TYPE_ROW | TRIGGER_TYPE_UPDATE, "watch_row"},
    {"zzz_emag_sync_guard_delete", "AFTER DELETE", TRIGGER_TYPE_ROW | TRIGGER_TYPE_DELETE, "watch_row"},
};

/// A trigger as pg_trigger has it.
struct Found {
  Oid oid = InvalidOid;
  const char *name;
  Oid function;
  Oid parent;
  int16 type;
  char enabled;
  bool plain;             ///< no arguments, no column list, not deferrable, no transition tables
  const char *condition;  ///< as stored; null: none

  [[nodiscard]] bool exists() const { return OidIsValid(oid); }
};

/// Calls `visit` for each trigger of the relation that is not the server's own.
template <typename Visit>
void each_trigger(Oid relation, const Visit &visit) {
  Relation catalog = table_open(TriggerRelationId, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
  SysScanDesc scan = systable_beginscan(catalog, TriggerRelidNameIndexId, true, nullptr, 1, &key);
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
    const auto *form = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple));
    if (form->tgisinternal) continue;
    Found found;
    found.oid = form->oid;
    found.name = pstrdup(NameStr(form->tgname));
    found.function = form->tgfoid;
    found.parent = form->tgparentid;
    found.type = form->tgtype;
    found.enabled = form->tgenabled;
    found.plain =
        form->tgnargs == 0 && form->tgattr.dim1 == 0 && !form->tgdeferrable && !OidIsValid(form->tgconstraint);
    bool is_null;
    const Datum condition = heap_getattr(tuple, Anum_pg_trigger_tgqual, RelationGetDescr(catalog), &is_null);
    found.condition = is_null ? nullptr : TextDatumGetCString(condition);
    visit(found);
  }
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
}

Found find_trigger(Oid relation, const char *name) {
  Found result;
  each_trigger(relation, [&result, name](const Found &found) {
    if (strcmp(found.name, name) == 0) result = found;
  });
  return result;
}

Oid trigger_function(const char *name) {
  return LookupFuncName(list_make2(makeString(pstrdup("sync_guard")), makeString(pstrdup(name))), 0, nullptr, true);
}

bool is_ours(const Found &found) {
  return found.exists() &&
         (found.function == trigger_function("judge_row") || found.function == trigger_function("watch_row"));
}

/// The table that bears a trigger; invalid where it is gone, or has the trigger as a partition.
Oid table_of_trigger(Oid trigger) {
  Relation catalog = table_open(TriggerRelationId, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(trigger));
  SysScanDesc scan = systable_beginscan(catalog, TriggerOidIndexId, true, nullptr, 1, &key);
  const HeapTuple tuple = systable_getnext(scan);
  Oid table = InvalidOid;
  if (HeapTupleIsValid(tuple)) {
    const auto *form = reinterpret_cast<Form_pg_trigger>(GETSTRUCT(tuple));
    if (!OidIsValid(form->tgparentid)) table = form->tgrelid;
  }
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
  return table;
}

/// "OLD"."status", as a value of the column's base type.
char *status_of(const Guarded &g, const char *row) {
  const char *column = quote_identifier(g.status.name);
  if (g.status.declared_type == g.status.type) return psprintf("%s.%s", row, column);
  return psprintf("(%s.%s)::%s", row, column, pg::type_sql(g.status.type));
}

/// A status as a literal of the type the status column compares in.
char *status_literal(const Guarded &g, const char *value, const char *array_suffix) {
  return psprintf("%s::%s%s", quote_literal_cstr(value),
                  pg::type_sql(g.status.type == VARCHAROID ? TEXTOID : g.status.type), array_suffix);
}

char *is_live_sql(const Guarded &g, const char *row) {
  const char *array = OidOutputFunctionCall(F_ARRAY_OUT, pg::text_array(g.live, g.live_count));
  return psprintf("%s OPERATOR(pg_catalog.=) ANY (%s)", status_of(g, row), status_literal(g, array, "[]"));
}

char *condition_sql(const Guarded &g, Kind kind) {
  switch (kind) {
    case kInsert: return psprintf("NEW.%s IS NULL OR %s", quote_identifier(g.status.name), is_live_sql(g, "NEW"));
    case kUpdate:
      return psprintf("%s IS DISTINCT FROM %s OR %s OPERATOR(pg_catalog.=) %s", status_of(g, "OLD"),
                      status_of(g, "NEW"), status_of(g, "OLD"), status_literal(g, g.failed, ""));
    case kEnd: return psprintf("%s AND (%s) IS NOT TRUE", is_live_sql(g, "OLD"), is_live_sql(g, "NEW"));
    case kDelete: return is_live_sql(g, "OLD");
    default: return is_live_sql(g, "NEW");
  }
}

char *create_statement(const Guarded &g, Kind kind) {
  const Spec &spec = kSpecs[kind];
  return psprintf("CREATE OR REPLACE TRIGGER %s %s ON %s FOR EACH ROW WHEN (%s) EXECUTE FUNCTION sync_guard.%s()",
                  spec.name, spec.events, g.name, condition_sql(g, kind), spec.function);
}

/// The condition as the server would store it for a new trigger. Parsed under a path of pg_catalog alone.
Node *expected_condition(const Guarded &g, Relation relation, Kind kind) {
  const auto *raw = linitial_node(RawStmt, raw_parser(create_statement(g, kind), RAW_PARSE_DEFAULT));
  ParseState *state = make_parsestate(nullptr);
  for (const char *alias : {"old", "new"}) {
    ParseNamespaceItem *item =
        addRangeTableEntryForRelation(state, relation, AccessShareLock, makeAlias(alias, NIL), false, false);
    addNSItemToQuery(state, item, false, true, true);
  }
  Node *condition = transformWhereClause(state, reinterpret_cast<CreateTrigStmt *>(raw->stmt)->whenClause,
                                         EXPR_KIND_TRIGGER_WHEN, "WHEN");
  assign_expr_collations(state, condition);
  free_parsestate(state);
  return condition;
}

bool goes_with_extension(Oid trigger) {
  return list_member_oid(getAutoExtensionsOfObject(TriggerRelationId, trigger), pg::extension_id());
}

/// What is wrong with a trigger of the table itself; null where it is as it should be. Does not look at `enabled`.
const char *difference(const Guarded &g, Relation relation, Kind kind, const Found &found) {
  const Spec &spec = kSpecs[kind];
  if (!found.exists()) return "is missing";
  if (found.function != trigger_function(spec.function) || found.type != spec.type || !found.plain ||
      found.condition == nullptr)
    return "is not the one the guard made";
  const pg::Identity identity = pg::become(GetUserId(), 0);
  const bool same = equal(expected_condition(g, relation, kind), stringToNode(found.condition));
  pg::restore(identity);
  if (!same) return "does not fit the statuses in the settings";
  if (!goes_with_extension(found.oid)) return "does not go with the extension";
  return nullptr;
}

bool fires(char enabled) { return enabled == TRIGGER_FIRES_ON_ORIGIN || enabled == TRIGGER_FIRES_ALWAYS; }

const char *why_silent(char enabled) {
  return enabled == TRIGGER_DISABLED ? "is disabled" : "fires for replicated rows alone";
}

char *repair_hint(const Guarded &g) {
  return psprintf("Mend it: SELECT sync_guard.repair_triggers(%s);", quote_literal_cstr(g.name));
}

List *add(List *problems, Oid relation, const char *trigger, const char *problem, const char *hint, bool repairable) {
  auto *item = static_cast<TriggerProblem *>(palloc(sizeof(TriggerProblem)));
  *item = {relation, trigger, problem, hint, repairable};
  return lappend(problems, item);
}

/// The guard's trigger after which an application's trigger changes rows unseen; null where it does not.
const Spec *fires_after(const Found &found) {
  if ((found.type & TRIGGER_TYPE_ROW) == 0 || (found.type & TRIGGER_TYPE_BEFORE) == 0 || !fires(found.enabled))
    return nullptr;
  for (const Kind kind : {kInsert, kUpdate}) {
    const Spec &spec = kSpecs[kind];
    const int16 events = found.type & spec.type & (TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE);
    if (events != 0 && strcmp(found.name, spec.name) > 0) return &spec;
  }
  return nullptr;
}

List *order_problems(List *problems, Oid relation, bool is_partition) {
  each_trigger(relation, [&problems, relation, is_partition](const Found &found) {
    const Spec *ours = fires_after(found);
    if (ours == nullptr || (is_partition && OidIsValid(found.parent))) return;
    problems = add(problems, relation, found.name,
                   psprintf("fires %s after the guard, which does not see what it changes", ours->events),
                   psprintf("Give it a name that sorts before %s: ALTER TRIGGER %s ON %s RENAME TO ...", ours->name,
                            quote_identifier(found.name), qualified_name(relation)),
                   false);
  });
  return problems;
}

List *table_problems(List *problems, const Guarded &g, Relation relation) {
  for (int i = 0; i < kKinds; ++i) {
    const Kind kind = static_cast<Kind>(i);
    const Found found = find_trigger(g.table, kSpecs[i].name);
    const char *problem = !found.exists()     ? "is missing"
                          : g.status.exists() ? difference(g, relation, kind, found)
                                              : nullptr;
    if (problem == nullptr && !fires(found.enabled)) problem = why_silent(found.enabled);
    if (problem != nullptr)
      problems = add(problems, g.table, kSpecs[i].name, problem, repair_hint(g), g.status.exists());
  }
  return problems;
}

/// A partition's triggers are the server's copies of the table's: they are there or not, and may be disabled one by
/// one.
List *partition_problems(List *problems, const Guarded &g, Oid partition) {
  for (const Spec &spec : kSpecs) {
    const Found found = find_trigger(partition, spec.name);
    if (!OidIsValid(find_trigger(g.table, spec.name).oid)) continue;
    const char *problem = !found.exists() || !OidIsValid(found.parent) ? "is missing"
                          : fires(found.enabled)                       ? nullptr
                                                                       : why_silent(found.enabled);
    if (problem != nullptr) problems = add(problems, partition, spec.name, problem, repair_hint(g), true);
  }
  return problems;
}

/// Whether a trigger needs to be made (anew): `problem` is one of its own or, with `enable`, one of a partition's.
bool asks_for_making(const TriggerProblem &problem, const Spec &spec, Oid table, bool enable) {
  if (!problem.repairable || strcmp(problem.trigger, spec.name) != 0) return false;
  if (enable) return true;
  return problem.relation == table && strcmp(problem.problem, why_silent(TRIGGER_DISABLED)) != 0 &&
         strcmp(problem.problem, why_silent(TRIGGER_FIRES_ON_REPLICA)) != 0;
}

/// Refuses to replace a trigger that merely bears one of the guard's names.
void refuse_stranger(Oid table, const Spec &spec) {
  const Found found = find_trigger(table, spec.name);
  if (!found.exists() || is_ours(found)) return;
  ereport(ERROR, errcode(ERRCODE_DUPLICATE_OBJECT),
          errmsg("table \"%s\" has a trigger of its own named \"%s\"", get_rel_name(table), spec.name),
          errhint("Rename it: the guard needs this name, so that its trigger fires after the application's."));
}

void record_dependency(Oid table, const char *name) {
  const Found found = find_trigger(table, name);
  if (!found.exists()) elog(ERROR, "trigger \"%s\" was not made", name);
  if (goes_with_extension(found.oid)) return;
  ObjectAddress trigger;
  ObjectAddress extension;
  ObjectAddressSet(trigger, TriggerRelationId, found.oid);
  ObjectAddressSet(extension, ExtensionRelationId, pg::extension_id());
  // What ALTER TRIGGER … DEPENDS ON EXTENSION records; the statement would take ACCESS EXCLUSIVE.
  recordDependencyOn(&trigger, &extension, DEPENDENCY_AUTO_EXTENSION);
}

void run_as_owner(Oid owner, const char *statement) {
  const pg::Identity identity = pg::become(owner, SECURITY_RESTRICTED_OPERATION);
  pg::spi_utility(statement);
  pg::restore(identity);
  CommandCounterIncrement();
}

}  // namespace

List *trigger_problems(const Guarded &g) {
  List *problems = NIL;
  Relation relation = relation_open(g.table, AccessShareLock);
  problems = table_problems(problems, g, relation);
  problems = order_problems(problems, g.table, false);
  if (g.partitioned) {
    ListCell *cell;
    foreach (cell, find_all_inheritors(g.table, AccessShareLock, nullptr)) {
      if (lfirst_oid(cell) == g.table) continue;
      problems = partition_problems(problems, g, lfirst_oid(cell));
      problems = order_problems(problems, lfirst_oid(cell), true);
    }
  }
  relation_close(relation, AccessShareLock);
  return problems;
}

void warn_of_trigger_problems(const Guarded &g) {
  ListCell *cell;
  foreach (cell, trigger_problems(g)) {
    const auto *problem = static_cast<TriggerProblem *>(lfirst(cell));
    ereport(WARNING,
            errmsg("trigger \"%s\" on table \"%s\" %s", problem->trigger, get_rel_name(problem->relation),
                   problem->problem),
            errhint("%s", problem->hint));
  }
}

int make_triggers(const Guarded &g, bool enable, const Patience &patience) {
  const List *problems = trigger_problems(g);
  bool make[kKinds] = {};
  int count = 0;
  for (int i = 0; i < kKinds; ++i) {
    ListCell *cell;
    foreach (cell, problems)
      make[i] = make[i] || asks_for_making(*static_cast<TriggerProblem *>(lfirst(cell)), kSpecs[i], g.table, enable);
    if (!make[i]) continue;
    refuse_stranger(g.table, kSpecs[i]);
    ++count;
  }
  if (count == 0) return 0;
  lock_table(g.table, ShareRowExclusiveLock, patience);
  for (int i = 0; i < kKinds; ++i) {
    if (!make[i]) continue;
    run_as_owner(g.owner, create_statement(g, static_cast<Kind>(i)));
    record_dependency(g.table, kSpecs[i].name);
    ESG_FAULT_POINT("guarding.trigger_made");
  }
  CommandCounterIncrement();
  return count;
}

bool has_triggers(Oid table) {
  for (const Spec &spec : kSpecs)
    if (is_ours(find_trigger(table, spec.name))) return true;
  return false;
}

List *tables_without_settings() {
  List *tables = NIL;
  pg::each_depending(ProcedureRelationId, trigger_function("judge_row"), [&tables](Form_pg_depend depending) {
    const Oid table = depending->classid == TriggerRelationId ? table_of_trigger(depending->objid) : InvalidOid;
    if (OidIsValid(table) && guarded(table) == nullptr) tables = list_append_unique_oid(tables, table);
    return true;
  });
  return tables;
}

int remove_triggers(Oid table) {
  int count = 0;
  for (const Spec &spec : kSpecs) {
    if (!is_ours(find_trigger(table, spec.name))) continue;
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for relation %u", table);
    const Oid owner = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->relowner;
    ReleaseSysCache(tuple);
    run_as_owner(owner, psprintf("DROP TRIGGER %s ON %s", spec.name, qualified_name(table)));
    ESG_FAULT_POINT("guarding.trigger_dropped");
    ++count;
  }
  return count;
}

}  // namespace esg
