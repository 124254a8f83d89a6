// Arguments and rights of the functions that set up a guarded table. See setup.h.

#include "setup.h"

#include "errors.h"
#include "table_lock.h"

namespace esg {

Oid owned_relation(FunctionCallInfo fcinfo, const char *function) {
  if (PG_ARGISNULL(0))
    ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("relation must not be null"),
            errhint("Name a table, for example 'app.emag_sync_logs'."));
  const Oid relation = PG_GETARG_OID(0);
  const char *name = get_rel_name(relation);
  if (name == nullptr)
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relation));
  if (!pg::owns_relation_compat(relation, GetUserId()))
    aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relation)), name);
  PreventCommandIfReadOnly(function);
  PreventCommandDuringRecovery(function);
  return relation;
}

const Guarded &owned_table(FunctionCallInfo fcinfo, const char *function) {
  const Oid relation = owned_relation(fcinfo, function);
  lock_table(relation, AccessShareLock, kDefaultPatience);
  const Guarded &g = guarded_or_error(relation);
  if (g.table != relation) lock_table(g.table, AccessShareLock, kDefaultPatience);
  // Who owns a partition, or owned the table until a moment ago, is nobody here.
  if (!pg::owns_relation_compat(g.table, GetUserId()))
    aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(g.table)), get_rel_name(g.table));
  return guarded_or_error(g.table);
}

core::Micros patience_argument(FunctionCallInfo fcinfo, int number) {
  if (PG_ARGISNULL(number)) return kDefaultPatience;
  const Interval *span = PG_GETARG_INTERVAL_P(number);
  const core::Micros patience = micros_of(span);
  if (patience < 0 || patience == PG_INT64_MAX)
    ereport(ERROR, errcode(kBadOption), errmsg("lock_timeout must be neither negative nor infinite"),
            errdetail("It is how long to wait for the table's lock in all, and is %s here.",
                      DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(span)))),
            errhint("Give a time like '30 seconds'; zero means a single try, NULL the default of 10 seconds."));
  return patience;
}

int limit_row_locks(core::Micros patience) {
  const int level = NewGUCNestLevel();
  // A single try, too, must not fail on what the server locks for a moment while it writes a row.
  constexpr int64 kLeast = 100;
  const int64 milliseconds = Min(Max(patience / 1000, kLeast), static_cast<int64>(PG_INT32_MAX));
  (void)set_config_option("lock_timeout", psprintf(INT64_FORMAT "ms", milliseconds), PGC_USERSET, PGC_S_SESSION,
                          GUC_ACTION_SAVE, true, 0, false);
  return level;
}

}  // namespace esg
