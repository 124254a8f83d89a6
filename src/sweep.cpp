// What a sweep does beside reaping. Runs in the sweep's transaction, each step in a subtransaction of its own: one that
// fails is told in the server's log and tried again by the next sweep. It works under LockClass::kSweep of the table (0: the
// server), which it does not wait for: another sweep is at it, and two that wrote at once would wait for each other.

#include "sweep.h"

#include "alerts.h"
#include "announce.h"
#include "fault.h"
#include "gaps.h"
#include "locks.h"
#include "pg/boundary.h"
#include "rhythms.h"

namespace esg {
namespace {

/// Does `step`; its failure is nobody's but its own.
template <typename Step>
void attempt(const char *what, const char *of, const Step &step) {
  const MemoryContext context =
      AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard sweep", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext before = MemoryContextSwitchTo(context);
  const ErrorData *error = pg::try_in_subtransaction(step);
  if (error != nullptr)
    ereport(LOG, errcode(error->sqlerrcode), errmsg("could not %s%s: %s", what, of, error->message),
            errdetail("The next sweep tries again."));
  MemoryContextSwitchTo(before);
  MemoryContextDelete(context);
}

/// One sweep at a time looks after a table (0: the server); false: another does, or there is no room for a lock.
bool lock_for_sweep(Oid table) {
  bool locked = false;
  attempt("begin to look after ", OidIsValid(table) ? "a table" : "the server", [table, &locked] {
    LOCKTAG tag;
    make_lock_tag(&tag, LockClass::kSweep, table);
    locked = LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
  });
  return locked;
}

}  // namespace

void look_after(const Guarded &g, const core::Question &question, const Runs *live) {
  if (!lock_for_sweep(g.table)) return;
  ESG_FAULT_POINT("sweep.table_begins");
  // What was closed just now is not live any more, for the statements that follow.
  CommandCounterIncrement();
  attempt("take in what memory observed of runs of table ", g.name, [&g] { take_in_gaps(g); });
  attempt("learn the rhythms of table ", g.name, [&g, &question] { learn_rhythms(g, question); });
  attempt("record the alerts on table ", g.name, [&g, &question, live] { record_alerts(g, question, live); });
}

void look_after_server(const core::Question &question) {
  if (!lock_for_sweep(InvalidOid)) return;
  ESG_FAULT_POINT("sweep.server_begins");
  // Those of every database: some may have no sweep, and what a transaction has come to is known for a time only.
  attempt("give back the entries of ended runs", "", [] { settle_all(); });
  attempt("record the alerts on the server", "", [&question] { record_server_alerts(question); });
  attempt("send the notifications that wait", "", [] { send_outbox(); });
  attempt("forget the runs of dropped databases", "", [] { forget_dropped_databases(); });
  attempt("forget the runs of dropped tables", "", [] { forget_gone(); });
}

}  // namespace esg
