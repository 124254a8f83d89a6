// What the triggers have in common. Runs inside the application's statements, as the application's role. See row_event.h.

#include "row_event.h"

#include "errors.h"
#include "load.h"
#include "pg/boundary.h"

namespace esg {
namespace {

/// Tables of whose broken settings this session has been warned; Oids, in TopMemoryContext.
List *warned_of = NIL;

void warn_once(const Guarded &g) {
  if (list_member_oid(warned_of, g.table)) return;
  ereport(WARNING, errcode(kBadOption),
          errmsg("table %s is written unguarded: its settings do not fit it any more", pg::sendable(g.name)),
          errdetail("%s.", pg::sendable(g.broken)), errhint("The view sync_guard.guard_health says what to do."));
  const MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
  warned_of = lappend_oid(warned_of, g.table);
  MemoryContextSwitchTo(old);
}

/// The schema was renamed, or its settings table is gone: nobody can tell what the table's settings are. Warns once.
void note_missing(bool missing) {
  static bool warned = false;
  if (missing && !warned)
    ereport(WARNING, errcode(ERRCODE_UNDEFINED_TABLE),
            errmsg("tables are written unguarded: table sync_guard.settings is missing or changed"),
            errdetail("The extension and all that it asks for are in the schema \"sync_guard\"."),
            errhint("Where the schema was renamed, give it its name back: ALTER SCHEMA ... RENAME TO sync_guard;"));
  warned = missing;
}

}  // namespace

TriggerData *checked_trigger(FunctionCallInfo fcinfo, bool before) {
  if (!CALLED_AS_TRIGGER(fcinfo))
    ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
            errmsg("this function is called by the guard's triggers only"),
            errhint("sync_guard.guard_table() creates them."));
  auto *trigger = reinterpret_cast<TriggerData *>(fcinfo->context);
  const bool timing_fits = before ? TRIGGER_FIRED_BEFORE(trigger->tg_event) : TRIGGER_FIRED_AFTER(trigger->tg_event);
  if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event) || !timing_fits)
    ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
            errmsg("the guard's trigger \"%s\" is not the one that guard_table() creates", trigger->tg_trigger->tgname),
            errhint("Put it right: SELECT sync_guard.repair_triggers('%s');",
                    quote_qualified_identifier(get_namespace_name(RelationGetNamespace(trigger->tg_relation)),
                                               RelationGetRelationName(trigger->tg_relation))));
  return trigger;
}

const Guarded *settings_for(const TriggerData *trigger) {
  if (!guard_enabled()) return nullptr;
  bool missing = false;
  const Guarded *g = guarded(RelationGetRelid(trigger->tg_relation), &missing);
  note_missing(missing);
  if (g == nullptr) return nullptr;
  if (g->broken != nullptr) {
    warn_once(*g);
    return nullptr;
  }
  warned_of = list_delete_oid(warned_of, g->table);
  return g;
}

RowEvent row_event(TriggerData *trigger, const Guarded *g) {
  const bool update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
  return {trigger, RelationGetDescr(trigger->tg_relation), update ? trigger->tg_trigtuple : nullptr,
          update ? trigger->tg_newtuple : trigger->tg_trigtuple, g};
}

char *text_of(const RowEvent &event, HeapTuple tuple, const Column &column) {
  bool is_null;
  const Datum value = event.value(tuple, column, &is_null);
  return is_null ? nullptr : text_of_value(column, value);
}

const char *key_of(const RowEvent &event) {
  const char *key = text_of(event, event.before != nullptr ? event.before : event.after, event.table->key);
  return key == nullptr ? "(NULL)" : key;
}

const char *shown(const RowEvent &event, const char *text) {
  return may_read(*event.table) ? pg::sendable(text) : "(not shown)";
}

core::StatusKind kind_of(const Guarded &g, const char *status) {
  if (status == nullptr) return core::StatusKind::kUnknown;
  if (g.is_live(status)) return core::StatusKind::kLive;
  return g.is_end(status) ? core::StatusKind::kTerminal : core::StatusKind::kOther;
}

bool changed(const RowEvent &event, const Column &column) {
  if (!column.exists() || event.before == nullptr) return false;
  bool old_null;
  bool new_null;
  const Datum old_value = event.old_value(column, &old_null);
  const Datum new_value = event.new_value(column, &new_null);
  if (old_null || new_null) return old_null != new_null;
  const FormData_pg_attribute *attribute = TupleDescAttr(event.desc, column.attno - 1);
  return !datum_image_eq(old_value, new_value, attribute->attbyval, attribute->attlen);
}

core::Scope scope_of(const RowEvent &event, HeapTuple tuple) {
  const Guarded &g = *event.table;
  core::Scope scope;
  scope.count = g.scope_count;
  for (int i = 0; i < g.scope_count; ++i) {
    const char *value = text_of(event, tuple, g.scope[i]);
    if (value != nullptr) scope.values[i] = std::string_view(value);
  }
  return scope;
}

}  // namespace esg
