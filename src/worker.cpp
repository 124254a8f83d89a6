// The worker on demand: a background worker that closes the runs of sessions that died, for the tables of one owner in one
// database, and goes away. It does everything as that owner: the identity is set before each transaction starts and held past
// commit and abort, so that deferred triggers and what follows an abort have it too. Locks: those of a reaping, with the same
// short waits; nothing is held between transactions. See worker.h.

#include "worker_requests.h"

#include "load.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "reap.h"
#include "server_life.h"

extern "C" {
PGDLLEXPORT void emag_sync_guard_worker_main(Datum argument);
}

namespace esg {
namespace {

constexpr int kMostKeys = 1000;
/// Rows that others hold are tried again until nothing has come of it for this long; the sweep finds them later.
constexpr core::Micros kPatience = 2 * core::kSecond;
constexpr long kFirstWait = 5;  ///< ms
constexpr long kLongestWait = 200;

/// What a pass came to.
struct Pass {
  int64 reaped = 0;
  int64 left = 0;  ///< dead sessions' runs that stand as they were
  bool stopping = false;
};

/// Starts a transaction as the owner. He must be in force already: what the transaction goes back to when it aborts is what it
/// began with.
void begin_as(Oid owner) {
  Oid user;
  int context;
  GetUserIdAndSecContext(&user, &context);
  if (user != owner || (context & SECURITY_LOCAL_USERID_CHANGE) == 0) elog(FATAL, "the worker is not who it works as");
  SetCurrentStatementStartTimestamp();
  StartTransactionCommand();
  PushActiveSnapshot(GetTransactionSnapshot());
}

void commit() {
  PopActiveSnapshot();
  CommitTransactionCommand();
}

ReapCall reap_call_of(Oid owner) {
  ReapCall call;
  call.question = question_now();
  call.path = "worker";
  call.role = owner;
  return call;
}

/// Whether the table is this owner's and may be worked on now. One that is another's by now is handed on to him.
const Guarded *table_to_work_on(Oid relation, Oid owner, bool hand_on) {
  const Guarded *g = guarded(relation);
  if (g == nullptr || g->broken != nullptr) return nullptr;
  if (g->owner != owner) {
    if (hand_on) request_worker(MyDatabaseId, g->owner, false);
    return nullptr;
  }
  return g->paused_until != 0 && GetCurrentTimestamp() < g->paused_until ? nullptr : g;
}

int64 reap_table(const Guarded &g, const RunFilter &filter, Oid owner) {
  volatile int64 reaped = 0;
  const ErrorData *error = pg::try_in_subtransaction([&] { reaped = reap_these(g, reap_call_of(owner), filter); });
  if (error == nullptr) return reaped;
  ereport(LOG, errcode(error->sqlerrcode), errmsg("could not close runs of table %s: %s", g.name, error->message));
  return 0;
}

int by_table(const ListCell *a, const ListCell *b) {
  const Oid left = static_cast<const Tracked *>(lfirst(a))->id.table;
  const Oid right = static_cast<const Tracked *>(lfirst(b))->id.table;
  return left == right ? 0 : left < right ? -1 : 1;
}

/// The runs in memory whose sessions have ended, table by table, at most kMostKeys.
List *runs_of_the_dead() {
  const TrackedRuns tracked = tracked_runs(InvalidOid);
  List *ended = NIL;
  for (int i = 0; i < tracked.count && list_length(ended) < kMostKeys; ++i)
    if (tracked.items[i].session_ended && !tracked.items[i].uncommitted()) ended = lappend(ended, &tracked.items[i]);
  list_sort(ended, by_table);
  return ended;
}

/// Closes the runs of dead sessions, all in one transaction.
void close_ended(Oid owner, Pass *pass) {
  const List *ended = runs_of_the_dead();
  // Sessions that a stop of the server ends are not marked; but who reads what was marked before it must not go on either.
  pass->stopping = server_is_stopping();
  if (pass->stopping) return;
  for (int first = 0; first < list_length(ended);) {
    const Oid relation = static_cast<const Tracked *>(list_nth(ended, first))->id.table;
    int next = first;
    auto **keys = static_cast<const char **>(palloc(sizeof(char *) * list_length(ended)));
    int count = 0;
    bool cut = false;
    for (; next < list_length(ended); ++next) {
      const auto *run = static_cast<const Tracked *>(list_nth(ended, next));
      if (run->id.table != relation) break;
      cut = cut || run->key_cut;
      keys[count++] = run->key;
    }
    first = next;
    const Guarded *g = table_to_work_on(relation, owner, true);
    if (g == nullptr) continue;
    RunFilter filter;
    // A key that memory has not in full cannot be asked for: then all live runs are looked at.
    if (!cut) filter.keys = pg::text_array(keys, count);
    const int64 reaped = reap_table(*g, filter, owner);
    pass->reaped += reaped;
    pass->left += Max(count - reaped, 0);
  }
}

/// Closes every dead run of the owner's tables, each table in a transaction of its own.
void sweep(Oid owner, Pass *pass) {
  List *tables = NIL;
  begin_as(owner);
  ListCell *cell;
  if (OidIsValid(get_extension_oid("emag_sync_guard", true))) {
    foreach (cell, all_guarded()) {
      const auto *g = static_cast<const Guarded *>(lfirst(cell));
      if (g->owner != owner) continue;
      const MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
      tables = lappend_oid(tables, g->table);
      MemoryContextSwitchTo(old);
    }
  }
  commit();
  foreach (cell, tables) {
    begin_as(owner);
    const Guarded *g = SearchSysCacheExists1(RELOID, ObjectIdGetDatum(lfirst_oid(cell)))
                           ? table_to_work_on(lfirst_oid(cell), owner, false)
                           : nullptr;
    if (g != nullptr) pass->reaped += reap_table(*g, RunFilter{}, owner);
    commit();
  }
  list_free(tables);
}

Pass work(const Job &job) {
  Pass pass;
  if (!guard_enabled()) return pass;
  pgstat_report_activity(STATE_RUNNING, "closing the runs of sessions that ended");
  begin_as(job.owner);
  if (OidIsValid(get_extension_oid("emag_sync_guard", true))) close_ended(job.owner, &pass);
  commit();
  if (job.sweep && !pass.stopping) sweep(job.owner, &pass);
  pgstat_report_stat(false);
  pgstat_report_activity(STATE_IDLE, nullptr);
  return pass;
}

void give_back(int, Datum number) noexcept { end_job(DatumGetInt32(number), false); }

void wait(long milliseconds) {
  (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
  ResetLatch(MyLatch);
  CHECK_FOR_INTERRUPTS();
}

void serve(int number) {
  Job job = begin_job(number);
  if (!OidIsValid(job.owner)) return;
  on_shmem_exit(give_back, Int32GetDatum(number));
  BackgroundWorkerInitializeConnectionByOid(job.database, InvalidOid, 0);
  SetUserIdAndSecContext(job.owner, SECURITY_LOCAL_USERID_CHANGE);
  int64 last_progress = monotonic_now();
  long pause = kFirstWait;
  for (;;) {
    const Pass pass = work(job);
    if (pass.stopping) return;
    if (pass.reaped > 0) {
      last_progress = monotonic_now();
      pause = kFirstWait;
    }
    const bool done = pass.left == 0 || monotonic_now() - last_progress > kPatience;
    if (!go_on(number, &job, done)) return;
    if (done) continue;
    wait(pause);
    pause = Min(pause * 2, kLongestWait);
  }
}

}  // namespace
}  // namespace esg

void emag_sync_guard_worker_main(Datum argument) {
  pqsignal(SIGTERM, die);
  pqsignal(SIGHUP, SIG_IGN);
  BackgroundWorkerUnblockSignals();
  esg::serve(DatumGetInt32(argument));
  proc_exit(0);
}
