// take_lease: the lease of a run that the application inserted itself, or coming back to it. Runs as the caller; locks the
// run's row, as a reaping does, so that neither two takers nor a taker and a reaper disagree. Waits for nobody.

#include "attach.h"
#include "errors.h"
#include "fault.h"
#include "liveness.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "run_argument.h"

namespace esg {
namespace {

/// The run, its row locked by this transaction: as the table's owner where the caller may do so, else as himself, since policies
/// ask who he is. ERROR P0002, or 55P03 where another transaction has the row.
const Run &lock_run(const Guarded &g, const char *key) {
  const core::Question question = question_now();
  if (find_run(g, key, question, false) == nullptr) no_such_run(g, key);
  RunFilter filter;
  filter.keys = pg::text_array(&key, 1);
  filter.any_status = true;
  filter.lock = true;
  const bool as_himself = row_security_applies(g) || !may_reap(g);
  const pg::Identity before = as_himself ? pg::remain(0) : work_as(g, pg::Access::kWrite);
  const Runs runs = read_runs(g, filter, question);
  pg::restore(before);
  if (runs.count == 0)
    ereport(ERROR, errcode(ERRCODE_LOCK_NOT_AVAILABLE),
            errmsg("run %s of table %s is locked by another transaction", key, g.name),
            errdetail("Or you may not update it."), errhint("Try again when that transaction has ended."));
  return runs.items[0];
}

/// Whether the backend that took a lease is still there. In doubt it is.
bool session_is_there(const Lease &lease) {
  if (BackendPidGetProc(lease.session_pid) == nullptr) return false;
  // The process number may have been given to another backend since.
  pg::Statement query("SELECT a.backend_start FROM pg_catalog.pg_stat_get_activity($1) AS a");
  query.add(INT4OID, Int32GetDatum(lease.session_pid));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  bool there = true;
  if (pg::spi_run(query, pg::Access::kRead) == 1) {
    bool is_null;
    const TimestampTz start = DatumGetTimestampTz(pg::spi_datum(0, 1, &is_null));
    there = is_null || start == lease.session_start;
  }
  pg::spi_end();
  pg::restore(before);
  return there;
}

bool same_name(const char *a, const char *b) { return a == nullptr || b == nullptr ? a == b : strcmp(a, b) == 0; }

/// Whether the taker is who took the lease before.
bool same_owner(const Lease &held, const Terms &terms) {
  if (held.worker != nullptr || terms.worker != nullptr)
    return same_name(held.worker, terms.worker) && same_name(held.incarnation, terms.incarnation);
  if (held.session_pid == MyProcPid && held.session_start == MyStartTimestamp) return true;
  return OidIsValid(held.taken_by) && has_privs_of_role(GetUserId(), held.taken_by) && !session_is_there(held);
}

[[noreturn]] void refuse_taken(const Guarded &g, const Run &run, const Lease &held) {
  auto *words = static_cast<char *>(palloc(160));
  core::describe(run.judgement, words, 160);
  const char *role = OidIsValid(held.taken_by) ? GetUserNameFromId(held.taken_by, true) : nullptr;
  const char *worker = held.worker == nullptr ? "" : psprintf(", worker \"%s\"", held.worker);
  const char *incarnation = held.incarnation == nullptr ? "" : psprintf(", incarnation \"%s\"", held.incarnation);
  ereport(ERROR, errcode(kScopeRunning), errmsg("somebody else holds the lease of run %s of table %s", run.key, g.name),
          errdetail("Role \"%s\"%s%s in process %d since %s; the run is %s.", role == nullptr ? "?" : role, worker,
                    incarnation, held.session_pid, iso_utc(held.attached), words),
          errhint("Name the worker and incarnation that took it, or wait until it is dead."));
  pg_unreachable();
}

/// Ends the lease of a dead owner; ERROR where he is just committing.
void replace(const Guarded &g, const Run &run, const Lease &held) {
  if (!run.judgement.dead() || !lock_out_fence(held.token)) refuse_taken(g, run, held);
  end_leases(g, pg::text_array(&run.key, 1), "replaced");
  ESG_FAULT_POINT("take_lease.replaced");
}

/// Whether this transaction has inserted the row, whose run then had no lease before. Of a partitioned table that cannot be told: a
/// row that moves is inserted too.
bool is_new(const Guarded &g, const Run &run) {
  if (g.partitioned) return false;
  Relation relation = table_open(run.tableoid, NoLock);  // locked when it was read
  TupleTableSlot *slot = table_slot_create(relation, nullptr);
  ItemPointerData tid = run.ctid;
  bool found = table_tuple_fetch_row_version(relation, &tid, SnapshotSelf, slot);
  if (found) {
    bool should_free;
    const HeapTupleHeader row = ExecFetchSlotHeapTuple(slot, false, &should_free)->t_data;
    found = (row->t_infomask & HEAP_UPDATED) == 0 && TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row));
  }
  ExecDropSingleTupleTableSlot(slot);
  table_close(relation, NoLock);
  return found;
}

}  // namespace
}  // namespace esg

/// take_lease(relation regclass, key, ttl interval, bind_session boolean, worker text, incarnation text) → token. The key is
/// text, uuid or bigint.
ESG_SQL_FUNCTION(take_lease);

namespace esg {

static Datum take_lease(FunctionCallInfo fcinfo) {
  PreventCommandIfReadOnly("take_lease()");
  PreventCommandDuringRecovery("take_lease()");
  const Guarded &g = table_argument(fcinfo, 0);
  const char *key = key_argument(fcinfo, 1);
  const Terms terms = terms_arguments(fcinfo, 2);
  if (!may_update_status(g)) aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(g.table));
  CommandCounterIncrement();  // the run may be one that this statement inserts
  const Run &run = lock_run(g, key);
  ESG_FAULT_POINT("take_lease.row_locked");
  if (!g.is_live(run.status))
    ereport(ERROR, errcode(kBadOption),
            errmsg("run %s of table %s is not live: it is \"%s\"", run.key, g.name, run.status),
            errdetail("A lease is a promise to give signs of life."), errhint("Start a new run."));
  const Leases leases = open_leases(g, pg::text_array(&run.key, 1));
  const Lease *held = leases.find(run.key);
  if (held != nullptr && !held->by_this_xact && is_new(g, run)) held = nullptr;  // ended when the new one is written
  if (held != nullptr && !same_owner(*held, terms)) {
    replace(g, run, *held);
    held = nullptr;
  } else if (held != nullptr && held->superseded) {
    ereport(ERROR, errcode(kStaleToken), errmsg("run %s of table %s is not yours any more", run.key, g.name),
            errdetail("Worker \"%s\" announced itself under another incarnation at %s.", held->worker,
                      iso_utc(*held->superseded)),
            errhint("Stop: another incarnation of this worker has taken its place."));
  }
  const RowFacts facts = facts_of(run);
  if (needs_its_scope(run)) regain_scope(g, facts);
  PG_RETURN_INT64(attach(g, facts, terms, held));
}

}  // namespace esg
