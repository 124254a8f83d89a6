// reap_stale_syncs and its dry run: which tables, with which locks. Runs in the caller's transaction; reap_runs.cpp closes the
// runs of one table.
// Locks taken: ROW EXCLUSIVE on the table and its partitions. It waits for whatever is in the way (DDL on the table, what
// the application's own triggers write) no longer than a moment: those whose runs it has closed so far wait for its end,
// and the application must not be a deadlock's victim.

#include "reap.h"

#include "announce.h"
#include "errors.h"
#include "fault.h"
#include "journal.h"
#include "leases.h"
#include "load.h"
#include "passed_over.h"
#include "pg/boundary.h"
#include "reap_runs.h"
#include "sweep.h"
#include "worker.h"

namespace esg {
namespace {

/// The dead ones among them that can be closed, at most `most`. In the place of the others.
Runs dead_of(Runs runs, int64 most) {
  int kept = 0;
  for (int i = 0; i < runs.count && kept < most; ++i)
    if (runs.items[i].judgement.dead() && !runs.items[i].uncommitted) runs.items[kept++] = runs.items[i];
  runs.count = kept;
  return runs;
}

/// Those of them that have a row.
Runs committed_of(const Runs &runs) {
  int uncommitted = 0;
  for (int i = 0; i < runs.count; ++i) uncommitted += runs.items[i].uncommitted ? 1 : 0;
  if (uncommitted == 0) return runs;
  Runs committed;
  committed.items = static_cast<Run *>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Run) * runs.count));
  for (int i = 0; i < runs.count; ++i)
    if (!runs.items[i].uncommitted) committed.items[committed.count++] = runs.items[i];
  return committed;
}

/// How long a reaping waits for the lock of one table.
constexpr core::Micros kTableLockWait = core::kSecond / 10;

/// Takes the table's lock and its partitions'; false, with a NOTICE, where somebody else holds one for longer than a moment.
bool lock_for_reaping(const Guarded &g, LOCKMODE mode) {
  ErrorData *error = pg::try_in_subtransaction([&g, mode] {
    LockRelationOid(g.table, mode);
    (void)find_all_inheritors(g.table, mode, nullptr);
  });
  if (error == nullptr) return true;
  if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE) ReThrowError(error);
  ereport(NOTICE, errmsg("skipping table %s: it is locked by another transaction", g.name));
  return false;
}

/// Whether a live row is of another run than the lease: memory has seen it start, and it took none.
bool is_of_earlier_run(const Guarded &g, const Lease &lease, const TrackedRuns &tracked) {
  const Tracked *entry = tracked.find(g.table, lease.key);
  return entry != nullptr && entry->lease_known && entry->token == 0 && !entry->uncommitted();
}

/// Puts right what memory and leases still say of runs that are live no more: triggers were off, the table was truncated, the
/// row of a lease was locked when its run ended. `live` are all live rows, read after both, and the leases before memory.
void settle(const Guarded &g, const core::Question &question, const Runs &live, const TrackedRuns &tracked,
            const Leases &leases) {
  HASHCTL control;
  memset(&control, 0, sizeof control);
  control.keysize = sizeof(uint64);
  control.entrysize = sizeof(uint64);
  control.hcxt = CurrentMemoryContext;
  HTAB *known =
      hash_create("emag_sync_guard live runs", Max(live.count, 16), &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
  for (int i = 0; i < live.count; ++i) {
    const RunId id = run_id(g.table, live.items[i].key);
    (void)hash_search(known, &id.key_hash, HASH_ENTER, nullptr);
  }
  auto *has_row = static_cast<bool *>(palloc(sizeof(bool) * Max(tracked.count, 1)));
  for (int i = 0; i < tracked.count; ++i)
    has_row[i] = hash_search(known, &tracked.items[i].id.key_hash, HASH_FIND, nullptr) != nullptr;
  forget_rowless(tracked, has_row);
  auto *ended = static_cast<int64 *>(palloc(sizeof(int64) * Max(leases.count, 1)));
  int count = 0;
  for (int i = 0; i < leases.count; ++i) {
    const RunId id = run_id(g.table, leases.items[i].key);
    if (hash_search(known, &id.key_hash, HASH_FIND, nullptr) == nullptr ||
        is_of_earlier_run(g, leases.items[i], tracked))
      ended[count++] = leases.items[i].token;
  }
  if (count > 0) settle_leases(ended, count);
  settle_passed_over(g, live, question.now);
  ESG_FAULT_POINT("reap.settled");
  hash_destroy(known);
}

/// The dead ones among the live runs that the filter finds; with one that leaves nothing out, the rest is settled on the way, and
/// where none is dead `alive` (may be null) gets all there are, those of open transactions too.
Runs candidates(const Guarded &g, const ReapCall &call, RunFilter filter, std::optional<Runs> *alive) {
  const bool all = filter.keys == 0 && filter.scope_condition == nullptr && !filter.exclusive_statuses;
  const bool settling = all && !only_observed(g) && !row_security_applies(g);
  TrackedRuns tracked;
  Leases leases;
  if (settling) {
    filter.tracked = &tracked;
    filter.uncommitted = alive != nullptr;
    leases = open_leases(g, 0);
  }
  const pg::Identity before = work_as(g);
  Runs runs = read_runs(g, filter, call.question);
  pg::restore(before);
  if (settling) settle(g, call.question, committed_of(runs), tracked, leases);
  const Runs dead = dead_of(runs, PG_INT64_MAX);
  if (settling && alive != nullptr && dead.count == 0) *alive = runs;
  return dead;
}

/// `alive` as of candidates(). In the current memory context.
void reap_table(const Guarded &g, const ReapCall &call, const RunFilter &filter, Tally *tally,
                std::optional<Runs> *alive) {
  const bool observing = only_observed(g);
  if (!lock_for_reaping(g, observing ? AccessShareLock : RowExclusiveLock)) return;
  ESG_FAULT_POINT("reap.table_locked");
  const Runs dead = candidates(g, call, filter, alive);
  ESG_FAULT_POINT("reap.candidates_found");
  if (observing) observe(g, call, dead, tally);
  else reap_dead(g, call, dead, tally);
}

/// Calls `work` in a memory context that goes with it.
template <typename Work>
void in_context_of_its_own(const Work &work) {
  const MemoryContext context =
      AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard reaping", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext caller = MemoryContextSwitchTo(context);
  work();
  MemoryContextSwitchTo(caller);
  MemoryContextDelete(context);
}

/// Reaps a table and looks after it. Unless it was `named`, what fails is told in a WARNING and fails no other.
void sweep_table(const Guarded &g, const ReapCall &call, bool named, Tally *tally) {
  std::optional<Runs> alive;
  const Tally until_here = *tally;
  const ErrorData *error = nullptr;
  if (named) reap_table(g, call, RunFilter{}, tally, &alive);
  else error = pg::try_in_subtransaction([&] { reap_table(g, call, RunFilter{}, tally, &alive); });
  look_after(g, call.question, error == nullptr && alive ? &*alive : nullptr);
  if (error == nullptr) return;
  *tally = until_here;
  ereport(
      WARNING, errcode(error->sqlerrcode), errmsg("could not reap table %s: %s", g.name, error->message),
      errdetail("%s", error->detail != nullptr ? error->detail : "The table is left as it is; the others are reaped."));
}

/// Whether the call may and should reap this table; says why not in a NOTICE.
bool ready_to_reap(const Guarded &g, TimestampTz now) {
  if (GetUserId() != g.owner && row_security_applies(g)) {
    ereport(NOTICE, errmsg("skipping table %s: row security applies to you", g.name),
            errhint("Its owner, or a role with BYPASSRLS, can reap it."));
    return false;
  }
  if (g.paused_until != 0 && now < g.paused_until) {
    ereport(NOTICE, errmsg("skipping table %s: reaping is paused", g.name),
            errhint("SELECT sync_guard.resume_reaping(%s);", quote_literal_cstr(g.name)));
    return false;
  }
  return true;
}

Interval *positive_interval(FunctionCallInfo fcinfo, int argument, const char *name) {
  if (PG_ARGISNULL(argument)) return nullptr;
  Interval *interval = PG_GETARG_INTERVAL_P(argument);
  if (pg::interval_is_infinite_compat(interval) || micros_of(interval) <= 0)
    ereport(ERROR, errcode(kBadOption), errmsg("%s must be a finite interval greater than zero", name),
            errdetail("It was %s.", DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(interval)))),
            errhint("NULL means: each table's own limits."));
  return interval;
}

void report(const Tally &tally) {
  if (tally.locked > 0)
    ereport(NOTICE, errmsg_plural(INT64_FORMAT " dead run was skipped: its row is locked by another transaction",
                                  INT64_FORMAT " dead runs were skipped: their rows are locked by other transactions",
                                  tally.locked, tally.locked));
  if (tally.observed > 0)
    ereport(NOTICE, errmsg_plural(INT64_FORMAT " run of observed tables would have been reaped",
                                  INT64_FORMAT " runs of observed tables would have been reaped", tally.observed,
                                  tally.observed));
  if (tally.no_room > 0)
    ereport(NOTICE,
            errmsg_plural(
                INT64_FORMAT
                " dead run is left for the next call: this one has closed as many leased runs as one transaction may",
                INT64_FORMAT
                " dead runs are left for the next call: this one has closed as many leased runs as one transaction may",
                tally.no_room, tally.no_room),
            errdetail("Each takes a lock to the end of the transaction; a quarter of the lock table is theirs."),
            errhint("Call it again in a transaction of its own, or raise max_locks_per_transaction."));
  if (tally.failed > 0)
    ereport(NOTICE, errmsg_plural(INT64_FORMAT " dead run could not be closed",
                                  INT64_FORMAT " dead runs could not be closed", tally.failed, tally.failed));
}

}  // namespace

ReapCall reap_call(FunctionCallInfo fcinfo, int older_than, int even_if_alive, int max_runs) {
  ReapCall call;
  call.question = question_now();
  const Interval *interval = positive_interval(fcinfo, older_than, "older_than");
  if (interval != nullptr) call.question.older_than = micros_of(interval);
  call.question.even_if_alive = !PG_ARGISNULL(even_if_alive) && PG_GETARG_BOOL(even_if_alive);
  if (call.question.even_if_alive && interval == nullptr)
    ereport(NOTICE, errmsg("even_if_alive has no effect without older_than"),
            errhint("Say how old: reap_stale_syncs('2 hours', even_if_alive => true)."));
  if (!PG_ARGISNULL(max_runs)) {
    call.max_runs = PG_GETARG_INT32(max_runs);
    if (call.max_runs <= 0)
      ereport(ERROR, errcode(kBadOption), errmsg("max_runs must be greater than zero"),
              errdetail("It was " INT64_FORMAT ".", call.max_runs), errhint("NULL means: all."));
  }
  call.path = calling_path();
  call.role = GetUserId();
  return call;
}

Runs dead_runs(const Guarded &g, const core::Question &question, int64 max_runs) {
  const pg::Identity before = work_as(g);
  const Runs runs = read_runs(g, RunFilter{}, question);
  pg::restore(before);
  return dead_of(runs, max_runs);
}

bool only_observed(const Guarded &g) {
  if (g.mode == Mode::kObserve) return true;
  Relation catalog = table_open(SubscriptionRelRelationId, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(g.table));
  SysScanDesc scan = systable_beginscan(catalog, SubscriptionRelSrrelidSrsubidIndexId, true, nullptr, 1, &key);
  const bool subscribed = HeapTupleIsValid(systable_getnext(scan));
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
  return subscribed;
}

}  // namespace esg

/// reap_stale_syncs(older_than interval, relation regclass, even_if_alive boolean, max_runs integer) → runs reaped.
ESG_SQL_FUNCTION(reap_stale_syncs);

/// stale_syncs(… the same …): what that call would reap, one row a run; changes nothing.
ESG_SQL_FUNCTION(stale_syncs);

namespace esg {

namespace {

/// A reaping is under way in this session: a trigger that it fires must not begin another, for each run once more.
bool reaping = false;

/// Does `work` as a reaping.
template <typename Work>
int64 as_reaping(const Work &work) {
  volatile int64 reaped = 0;
  reaping = true;
  PG_TRY();
  {
    pg::without_exceptions([&] { reaped = work(); });
  }
  PG_FINALLY();
  { reaping = false; }
  PG_END_TRY();
  return reaped;
}

int64 reap_tables(Oid relation, const ReapCall &call) {
  const int level = limit_lock_waits(kTableLockWait);
  Tally tally;
  int forbidden = 0;
  // Who has no table here must not keep others from looking after the server.
  bool concerned = has_privs_of_role(GetUserId(), pg::extension_owner());
  ListCell *cell;
  foreach (cell, readable_tables(relation, true, IfLocked::kSkip)) {
    const auto &g = *static_cast<const Guarded *>(lfirst(cell));
    // A trigger of a table before it may have dropped it.
    if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(g.table))) continue;
    if (!may_reap(g)) {
      if (OidIsValid(relation)) aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(relation));
      ++forbidden;
      continue;
    }
    concerned = true;
    if (!ready_to_reap(g, call.question.now)) {
      if (!row_security_applies(g)) look_after(g, call.question);
      continue;
    }
    if (tally.reaped >= call.max_runs && !only_observed(g)) {
      look_after(g, call.question);
      continue;
    }
    in_context_of_its_own([&] { sweep_table(g, call, OidIsValid(relation), &tally); });
  }
  if (forbidden > 0)
    ereport(NOTICE, errmsg_plural("%d guarded table was skipped: you may read it but not update it",
                                  "%d guarded tables were skipped: you may read them but not update them", forbidden,
                                  forbidden));
  report(tally);
  if (concerned) look_after_server(call.question);
  AtEOXact_GUC(false, level);
  return tally.reaped;
}

}  // namespace

int64 reap_these(const Guarded &g, const ReapCall &call, const RunFilter &filter) {
  if (!may_reap(g)) aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(g.table));
  if (!guard_enabled() || reaping) return 0;
  return as_reaping([&] {
    const int level = limit_lock_waits(kTableLockWait);
    Tally tally;
    in_context_of_its_own([&] { reap_table(g, call, filter, &tally, nullptr); });
    AtEOXact_GUC(false, level);
    return tally.reaped;
  });
}

static Datum reap_stale_syncs(FunctionCallInfo fcinfo) {
  const ReapCall call = reap_call(fcinfo, 0, 2, 3);
  const Oid relation = relation_argument(fcinfo, 1);
  PreventCommandIfReadOnly("reap_stale_syncs()");
  PreventCommandDuringRecovery("reap_stale_syncs()");
  if (!guard_enabled() || reaping) {
    ereport(NOTICE, reaping ? errmsg("nothing is reaped: this is called by a trigger that a reaping fired")
                            : errmsg("nothing is reaped: emag_sync_guard.enabled is off"));
    PG_RETURN_INT64(0);
  }
  ask_again();
  begin_announcing();
  PG_RETURN_INT64(as_reaping([&] { return reap_tables(relation, call); }));
}

static Datum stale_syncs(FunctionCallInfo fcinfo) {
  InitMaterializedSRF(fcinfo, 0);
  const auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
  const ReapCall call = reap_call(fcinfo, 0, 2, 3);
  if (!guard_enabled()) {
    ereport(NOTICE, errmsg("nothing would be reaped: emag_sync_guard.enabled is off"));
    return Datum(0);
  }
  ask_again();
  int64 left = call.max_runs;
  const Oid relation = relation_argument(fcinfo, 1);
  each_table(relation, readable_tables(relation, true), [&](const Guarded &g) {
    if (!ready_to_reap(g, call.question.now)) return true;
    const bool observed = only_observed(g);
    const Runs dead = dead_runs(g, call.question, observed ? PG_INT64_MAX : left);
    if (!observed) left -= dead.count;
    for (int i = 0; i < dead.count; ++i) {
      const Run &run = dead.items[i];
      Jsonb *scope = scope_json(g, run.scope);
      Datum values[9] = {ObjectIdGetDatum(g.table),
                         CStringGetTextDatum(run.key),
                         PointerGetDatum(scope),
                         CStringGetTextDatum(run.status),
                         TimestampTzGetDatum(run.started.value_or(0)),
                         CStringGetTextDatum(core::verdict_name(run.judgement.verdict)),
                         CStringGetTextDatum(reason_of(g, run)),
                         PointerGetDatum(evidence_json(g, run, call.question)),
                         CStringGetTextDatum(observed ? "observe" : "reap")};
      bool nulls[9] = {false, false, scope == nullptr, false, !run.started};
      tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
    }
    return true;
  });
  return Datum(0);
}

}  // namespace esg
