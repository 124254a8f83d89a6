// The worker on demand: a background worker that closes the runs of sessions that died, for the tables of one owner in one
// database, and goes away. It does everything as that owner: he is in force before each transaction starts and past commit and
// abort, so that deferred triggers and what follows an abort are his too. Locks: those of a reaping, with the same
// short waits; nothing is held between transactions. See worker.h.

#include "fault.h"
#include "worker_requests.h"

#include "load.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "pg/spi.h"
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
/// began with. The flag that keeps his code from becoming somebody else is on from here to the end of the transaction; between
/// transactions, where nothing of his runs, the server asserts that it is off.
void begin_as(Oid owner) {
  Oid user;
  int context;
  GetUserIdAndSecContext(&user, &context);
  if (user != owner || context != 0) elog(FATAL, "the worker is not who it works as");
  ResetAllOptions();  // a deferred trigger may have set some, after everything that would take it back
  SetCurrentStatementStartTimestamp();
  StartTransactionCommand();
  SetUserIdAndSecContext(owner, SECURITY_LOCAL_USERID_CHANGE);
  ESG_FAULT_POINT("worker.is_the_owner");
  // Whatever the database has as its defaults.
  XactReadOnly = false;
  XactIsoLevel = XACT_READ_COMMITTED;
  PushActiveSnapshot(GetTransactionSnapshot());
}

void commit(Oid owner) {
  PopActiveSnapshot();
  ESG_FAULT_POINT("worker.committing");
  CommitTransactionCommand();
  SetUserIdAndSecContext(owner, 0);
}

/// Runs `step` as the owner in a transaction of its own. What fails, at the commit too (deferred triggers), is rolled back and
/// logged. Returns whether it went well.
template <typename Step>
bool in_transaction(Oid owner, const Step &step) {
  static_assert(std::is_trivially_destructible_v<Step>, "the step's captures must survive a longjmp");
  const MemoryContext context = CurrentMemoryContext;
  volatile bool well = false;
  PG_TRY();
  {
    pg::without_exceptions([&] {
      begin_as(owner);
      step();
      commit(owner);
    });
    well = true;
  }
  PG_CATCH();
  {
    MemoryContextSwitchTo(context);
    const ErrorData *error = CopyErrorData();
    FlushErrorState();
    AbortCurrentTransaction();
    ereport(LOG, errcode(error->sqlerrcode), errmsg("a closing of runs was rolled back: %s", error->message));
  }
  PG_END_TRY();
  MemoryContextSwitchTo(context);
  return well;
}

ReapCall reap_call_of(Oid owner) {
  ReapCall call;
  call.question = question_now();
  call.path = "worker";
  call.role = owner;
  return call;
}

/// The table as it is now; null where it is not guarded, broken or paused.
const Guarded *table_to_work_on(Oid relation) {
  if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relation))) return nullptr;
  const Guarded *g = guarded(relation);
  if (g == nullptr || g->broken != nullptr) return nullptr;
  return g->paused_until != 0 && GetCurrentTimestamp() < g->paused_until ? nullptr : g;
}

int64 reap_table(const Guarded &g, const RunFilter &filter, Oid owner) {
  volatile int64 reaped = 0;
  const ErrorData *error = pg::try_in_subtransaction([&] { reaped = reap_these(g, reap_call_of(owner), filter); });
  if (error == nullptr) return reaped;
  ereport(LOG, errcode(error->sqlerrcode), errmsg("could not close runs of table %s: %s", g.name, error->message));
  return 0;
}

/// Closes these runs of the table, or every dead one, in a transaction of its own. Where its commit fails, once more with the
/// deferred triggers at once: what they raise then fails for the run alone. kNone where there is nothing to be closed: the table
/// is only observed, or is no matter of this owner's any more.
constexpr int64 kNone = -1;
int64 close_in_table(Oid relation, Oid owner, const RunFilter &filter) {
  for (const bool immediate : {false, true}) {
    volatile int64 reaped = kNone;
    const bool well = in_transaction(owner, [&] {
      if (immediate) pg::spi_utility("SET CONSTRAINTS ALL IMMEDIATE");
      const Guarded *g = table_to_work_on(relation);
      if (g == nullptr || g->owner != owner) return;
      const int64 closed = reap_table(*g, filter, owner);
      ESG_FAULT_POINT("worker.table_closed");
      if (!only_observed(*g)) reaped = closed;
    });
    if (well) return reaped;
  }
  return 0;
}

int by_table(const ListCell *a, const ListCell *b) {
  const Oid left = static_cast<const Tracked *>(lfirst(a))->id.table;
  const Oid right = static_cast<const Tracked *>(lfirst(b))->id.table;
  return left == right ? 0 : left < right ? -1 : 1;
}

/// The runs in memory whose sessions have ended, of this owner's tables, table by table, at most kMostKeys. Those of a table
/// that has got another owner since the lease was taken are handed on to him; others are no matter of this worker's. Where
/// there may be more of them, `more` is told.
List *runs_of_the_dead(Oid owner, volatile bool *more) {
  const TrackedRuns tracked = tracked_runs(InvalidOid);
  List *ended = NIL;
  for (int i = 0; i < tracked.count; ++i) {
    Tracked &run = tracked.items[i];
    if (!run.session_ended || run.uncommitted()) continue;
    if (list_length(ended) == kMostKeys) {
      *more = true;
      break;
    }
    const Guarded *g = table_to_work_on(run.id.table);
    if (g == nullptr) continue;
    if (g->owner == owner) ended = lappend(ended, &run);
    else if (run.owner == owner) request_worker(MyDatabaseId, g->owner, false);
  }
  list_sort(ended, by_table);
  return ended;
}

bool extension_is_here() { return OidIsValid(get_extension_oid("emag_sync_guard", true)); }

/// Closes the runs of dead sessions, each table's in a transaction of its own. `context` is for what outlives a transaction.
void close_ended(Oid owner, MemoryContext context, Pass *pass) {
  List *volatile found = NIL;
  volatile bool more = false;
  ESG_FAULT_POINT("worker.pass_begins");
  const bool well = in_transaction(owner, [&] {
    if (!extension_is_here()) return;
    const MemoryContext of_transaction = MemoryContextSwitchTo(context);
    found = runs_of_the_dead(owner, &more);
    ESG_FAULT_POINT("worker.dead_found");
    MemoryContextSwitchTo(of_transaction);
  });
  if (more || !well) ++pass->left;
  const List *ended = found;
  // Sessions that a stop of the server ends are not marked; but who reads what was marked before it must not go on either.
  pass->stopping = server_is_stopping();
  if (pass->stopping) return;
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * (list_length(ended) + 1)));
  for (int next = 0; next < list_length(ended);) {
    const Oid relation = static_cast<const Tracked *>(list_nth(ended, next))->id.table;
    int count = 0;
    bool cut = false;
    for (; next < list_length(ended); ++next) {
      const auto *run = static_cast<const Tracked *>(list_nth(ended, next));
      if (run->id.table != relation) break;
      cut = cut || run->key_cut;
      keys[count++] = run->key;
    }
    RunFilter filter;
    // A key that memory has not in full cannot be asked for: then all live runs are looked at.
    if (!cut) filter.keys = pg::text_array(keys, count);
    const int64 reaped = close_in_table(relation, owner, filter);
    if (reaped == kNone) continue;
    pass->reaped += reaped;
    pass->left += Max(count - reaped, 0);
    ESG_FAULT_POINT("worker.between_tables");
  }
}

/// Closes every dead run of the owner's tables, each table's in a transaction of its own.
void sweep(Oid owner, MemoryContext context, Pass *pass) {
  List *volatile found = NIL;
  (void)in_transaction(owner, [&] {
    if (!extension_is_here()) return;
    ListCell *cell;
    foreach (cell, all_guarded()) {
      const auto *g = static_cast<const Guarded *>(lfirst(cell));
      if (g->owner != owner) continue;
      const MemoryContext of_transaction = MemoryContextSwitchTo(context);
      found = lappend_oid(found, g->table);
      MemoryContextSwitchTo(of_transaction);
    }
  });
  const List *tables = found;
  ListCell *cell;
  foreach (cell, tables) pass->reaped += Max(close_in_table(lfirst_oid(cell), owner, RunFilter{}), 0);
}

Pass work(const Job &job) {
  Pass pass;
  if (!guard_enabled()) return pass;
  pgstat_report_activity(STATE_RUNNING, "closing the runs of sessions that ended");
  const MemoryContext context =
      AllocSetContextCreate(TopMemoryContext, "emag_sync_guard worker pass", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext before = MemoryContextSwitchTo(context);
  close_ended(job.owner, context, &pass);
  if (job.sweep && !pass.stopping) sweep(job.owner, context, &pass);
  MemoryContextSwitchTo(before);
  MemoryContextDelete(context);
  pgstat_report_stat(false);
  pgstat_report_activity(STATE_IDLE, nullptr);
  return pass;
}

void give_back(int, Datum number) noexcept {
  ESG_FAULT_POINT_AT_EXIT("worker.gives_back");
  end_job(DatumGetInt32(number), false);
}

void wait(long milliseconds) {
  (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, milliseconds, PG_WAIT_EXTENSION);
  ResetLatch(MyLatch);
  CHECK_FOR_INTERRUPTS();
}

void serve(int number) {
  ESG_FAULT_POINT("worker.begins");
  on_shmem_exit(give_back, Int32GetDatum(number));  // first: what is taken from here on is given back whatever happens
  Job job = begin_job(number);
  if (!OidIsValid(job.owner)) return;
  ESG_FAULT_POINT("worker.request_taken");
  BackgroundWorkerInitializeConnectionByOid(job.database, InvalidOid, 0);
  ESG_FAULT_POINT("worker.connected");
  SetConfigOption("application_name", MyBgworkerEntry->bgw_type, PGC_USERSET, PGC_S_CLIENT);
  SetUserIdAndSecContext(job.owner, 0);
  ESG_FAULT_POINT("worker.became_owner");
  int64 last_progress = monotonic_now();
  long pause = kFirstWait;
  for (;;) {
    const Pass pass = work(job);
    ESG_FAULT_POINT("worker.pass_done");
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
  esg::pg::ignore_signal_compat(SIGHUP);
  BackgroundWorkerUnblockSignals();
  esg::pg::without_exceptions([argument] { esg::serve(DatumGetInt32(argument)); });
  ESG_FAULT_POINT("worker.served");
  proc_exit(0);
}
