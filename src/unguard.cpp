// unguard_table() and repair_triggers(). Run in the owner's process. unguard_table takes ACCESS EXCLUSIVE on the table
// and its partitions, repair_triggers SHARE ROW EXCLUSIVE where it makes a trigger, both in short tries (table_lock.h).

#include "errors.h"
#include "fault.h"
#include "guarding.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "pg/spi.h"
#include "run_table.h"
#include "setup.h"

namespace esg {
namespace {

/// Removes a table's settings, with its limits and rules. Returns whether there were any.
bool forget_settings(Oid table) {
  pg::Statement statement("DELETE FROM sync_guard.settings WHERE relation OPERATOR(pg_catalog.=) $1");
  statement.add_oid(table);
  const pg::Identity identity = pg::become_extension_owner();
  const bool found = pg::spi_execute(statement) > 0;
  pg::restore(identity);
  return found;
}

void require_anything_to_release(Oid table) {
  const Guarded *g = guarded(table);
  if (g != nullptr && g->table == table) return;
  if (g != nullptr)
    ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE), errmsg("table %s is a partition", qualified_name(table)),
            errdetail("Guarded is the whole of it, table %s.", g->name), errhint("Release that one."));
  if (!has_triggers(table)) not_guarded(table, false);
}

}  // namespace
}  // namespace esg

ESG_SQL_FUNCTION(unguard_table);
ESG_SQL_FUNCTION(repair_triggers);

static Datum esg::unguard_table(FunctionCallInfo fcinfo) {
  const Oid table = owned_relation(fcinfo, "unguard_table()");
  const Patience patience = patience_argument(fcinfo, 1);
  require_anything_to_release(table);
  const int level = limit_row_locks(patience.total);
  lock_table(table, AccessExclusiveLock, patience);
  (void)owned_relation(fcinfo, "unguard_table()");
  (void)remove_triggers(table);
  ESG_FAULT_POINT("unguard.triggers_removed");
  (void)forget_settings(table);
  ESG_FAULT_POINT("unguard.settings_forgotten");
  forget_table(table);
  ESG_FAULT_POINT("unguard.memory_forgotten");
  AtEOXact_GUC(false, level);
  PG_RETURN_VOID();
}

static Datum esg::repair_triggers(FunctionCallInfo fcinfo) {
  const Guarded &g = owned_table(fcinfo, "repair_triggers()");
  const Patience patience = patience_argument(fcinfo, 1);
  lock_table(g.table, AccessShareLock, patience);
  const int made = make_triggers(g, true, patience);
  warn_of_trigger_problems(g);
  PG_RETURN_INT32(made);
}
