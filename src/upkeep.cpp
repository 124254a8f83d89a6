// Triggers on the guard's own tables and on DDL: they keep caches and settings in step with the tables they are about.

#include "fault.h"
#include "pg/boundary.h"
#include "pg/extension_tables.h"
#include "pg/identity.h"
#include "pg/spi.h"
#include "run_table.h"
#include "settings.h"

namespace esg {
namespace {

/// Tells every backend that what it knows of a table and its partitions is old.
void invalidate_table(Oid relid) {
  if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid))) return;
  ListCell *cell;
  foreach (cell, find_all_inheritors(relid, NoLock, nullptr))
    if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(cell))))
      CacheInvalidateRelcacheByRelid(lfirst_oid(cell));
}

void invalidate_of(HeapTuple tuple, TupleDesc desc) {
  bool is_null;
  const Datum relation = heap_getattr(tuple, 1, desc, &is_null);  // the first column of each settings table
  if (!is_null) invalidate_table(DatumGetObjectId(relation));
}

/// Tables whose lines belong to a table's settings.
constexpr const char *kDependents[] = {"scope_limits",  "transition_rules", "alert_settings",
                                       "scope_rhythms", "observed_gaps",    "passed_over"};

void forget_dependents(HeapTuple settings, TupleDesc desc) {
  bool is_null;
  const Datum relation = heap_getattr(settings, 1, desc, &is_null);
  const pg::Identity before = pg::become_extension_owner();
  for (const char *table : kDependents) {
    if (!pg::has_extension_table(table)) continue;
    pg::Statement forget(
        psprintf("DELETE FROM sync_guard.%s WHERE relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1", table));
    (void)pg::spi_execute(forget.add_oid(DatumGetObjectId(relation)));
  }
  pg::restore(before);
}

}  // namespace
}  // namespace esg

/// AFTER row trigger of settings, scope_limits and transition_rules.
ESG_SQL_FUNCTION(settings_changed);

/// Event trigger on sql_drop: a dropped table's settings go with it; its journal stays.
ESG_SQL_FUNCTION(forget_dropped);

namespace esg {

static Datum settings_changed(FunctionCallInfo fcinfo) {
  if (!CALLED_AS_TRIGGER(fcinfo))
    ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
            errmsg("this function is called by triggers only"));
  const auto *trigger = reinterpret_cast<TriggerData *>(fcinfo->context);
  const TupleDesc desc = RelationGetDescr(trigger->tg_relation);
  ESG_FAULT_POINT("settings.row_changed");
  // Not fired for a row, as none of our own triggers is.
  if (trigger->tg_trigtuple == nullptr) return Datum(0);
  invalidate_of(trigger->tg_trigtuple, desc);
  if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event)) invalidate_of(trigger->tg_newtuple, desc);
  if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event) &&
      RelationGetRelid(trigger->tg_relation) == pg::extension_table("settings"))
    forget_dependents(trigger->tg_trigtuple, desc);
  return Datum(0);
}

static Datum forget_dropped(FunctionCallInfo fcinfo) {
  if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
    ereport(ERROR, errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
            errmsg("this function is called by an event trigger only"));
  // While the extension itself is being dropped there is nothing left to keep in step.
  const Oid schema = get_namespace_oid("sync_guard", true);
  if (!OidIsValid(schema) || !OidIsValid(get_relname_relid("settings", schema)) ||
      !OidIsValid(get_extension_oid("emag_sync_guard", true)))
    PG_RETURN_NULL();
  const pg::Statement forget(
      "DELETE FROM sync_guard.settings AS s USING pg_catalog.pg_event_trigger_dropped_objects() AS d"
      " WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
      " AND d.objsubid OPERATOR(pg_catalog.=) 0 AND s.relation::pg_catalog.oid OPERATOR(pg_catalog.=) d.objid "
      "RETURNING s.relation::pg_catalog.oid");
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 dropped = pg::spi_run(forget, pg::Access::kWrite);
  for (uint64 i = 0; i < dropped; ++i) {
    bool is_null;
    forget_table(DatumGetObjectId(pg::spi_datum(i, 1, &is_null)));
    ESG_FAULT_POINT("upkeep.dropped_forgotten");
  }
  pg::spi_end();
  pg::restore(before);
  PG_RETURN_NULL();
}

}  // namespace esg
