// worker_started: a worker has begun anew, so what it ran before is dead for certain. Runs in the caller's transaction; marks
// the leases first, of every table that he may reap, then closes their runs table by table (reap.h has the locks).

#include "errors.h"
#include "fault.h"
#include "leases.h"
#include "load.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "reap.h"
#include "run_table.h"

namespace esg {
namespace {

const char *name_argument(FunctionCallInfo fcinfo, int argument, const char *name) {
  const char *given = PG_ARGISNULL(argument) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(argument));
  if (given[0] == '\0')
    ereport(ERROR, errcode(kBadOption), errmsg("%s must not be NULL or empty", name),
            errdetail("A worker is one replica, never a deployment; an incarnation is one of its starts."),
            errhint("For example a host name and a start time."));
  return given;
}

/// The tables whose runs the caller may close. Tells of none that he may not: he need not know where this worker has run.
List *reapable_tables() {
  List *tables = NIL;
  ListCell *cell;
  foreach (cell, readable_tables(InvalidOid, false)) {
    const auto *g = static_cast<const Guarded *>(lfirst(cell));
    if (may_reap(*g) && (owns(*g) || !row_security_applies(*g))) tables = lappend(tables, lfirst(cell));
  }
  return tables;
}

/// Keys (text[]) of the worker's superseded runs, which memory is told of; 0 where there are none.
Datum superseded_keys(const Guarded &g, const char *worker) {
  const Leases leases = open_leases(g, 0);
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * Max(leases.count, 1)));
  int count = 0;
  for (int i = 0; i < leases.count; ++i) {
    const Lease &lease = leases.items[i];
    if (!lease.superseded || lease.worker == nullptr || strcmp(lease.worker, worker) != 0) continue;
    // What is not reaped now, since it is fenced or locked, is told so at its next beat.
    track_superseded(run_id(g.table, lease.key), lease.token);
    keys[count++] = lease.key;
  }
  return count == 0 ? Datum(0) : pg::text_array(keys, count);
}

}  // namespace
}  // namespace esg

/// worker_started(worker text, incarnation text) → runs reaped.
ESG_SQL_FUNCTION(worker_started);

namespace esg {

static Datum worker_started(FunctionCallInfo fcinfo) {
  const char *worker = name_argument(fcinfo, 0, "worker");
  const char *incarnation = name_argument(fcinfo, 1, "incarnation");
  PreventCommandIfReadOnly("worker_started()");
  PreventCommandDuringRecovery("worker_started()");
  const List *tables = reapable_tables();
  if (supersede_leases(tables, worker, incarnation) == 0) PG_RETURN_INT64(0);
  if (!guard_enabled()) {
    ereport(NOTICE, errmsg("nothing is reaped: emag_sync_guard.enabled is off"));
    PG_RETURN_INT64(0);
  }
  ESG_FAULT_POINT("worker_started.superseded");
  ReapCall call;
  call.question = question_now();
  call.path = "worker_started";
  call.role = GetUserId();
  int64 reaped = 0;
  each_table(InvalidOid, tables, [&](const Guarded &g) {
    RunFilter filter;
    filter.keys = superseded_keys(g, worker);
    ESG_FAULT_POINT("worker_started.memory_told");
    if (filter.keys != 0) reaped += reap_these(g, call, filter);
    return true;
  });
  PG_RETURN_INT64(reaped);
}

}  // namespace esg
