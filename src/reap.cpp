// reap_stale_syncs and its dry run. Runs in the caller's transaction.
//
// Per table: read the live runs without locks, keep the dead ones; then group by group, each in a subtransaction: lock them
// by key (FOR NO KEY UPDATE SKIP LOCKED: FOR UPDATE would be hidden by an open insert of a child row), judge them again as
// they are under the lock, close them with one UPDATE, write their journal lines. A group that fails gives its locks back and
// is halved, until the rows that fail stand alone.
// Locks taken: ROW EXCLUSIVE on the table and its partitions, row locks on dead runs only. It waits for no row, and for
// whatever else is in the way (DDL on the table, what the application's own triggers write) no longer than a moment: those
// whose runs it has closed so far wait for its end, and the application must not be a deadlock's victim.

#include "reap.h"

#include "closing.h"
#include "errors.h"
#include "journal.h"
#include "load.h"
#include "pg/boundary.h"
#include "pg/spi.h"

namespace esg {
namespace {

constexpr int kBatch = 1000;
/// After this many rows that failed, with none closed in between, groups that fail are not halved any more.
constexpr int kGiveUpAfter = 10;
/// How long a reaping waits for one lock; a fraction of deadlock_timeout.
constexpr int kLockWaitMilliseconds = 200;
/// How often a group is tried again whose rows were moved to another partition under its hands.
constexpr int kTries = 3;

struct Tally {
  int64 reaped = 0;
  int64 observed = 0;
  int64 locked = 0;
  int64 failed = 0;
  int failed_in_a_row = 0;
  int64 left = 0;                 ///< of failed: in groups that were not halved any more
};

/// What came of a group of candidates.
struct Outcome {
  int closed = 0;
  int locked = 0;                 ///< by others
};

Datum keys_of(const Run *const *runs, int count) {
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * Max(count, 1)));
  for (int i = 0; i < count; ++i) keys[i] = runs[i]->key;
  return pg::text_array(keys, count);
}

Line line_of(const Guarded &g, const Run &run, const core::Question &question, const char *reason) {
  Line line;
  line.key = run.key;
  line.scope = scope_json(g, run.scope);
  line.verdict = core::verdict_name(run.judgement.verdict);
  line.reason = reason;
  line.evidence = evidence_json(g, run, question);
  line.run = run.row;
  return line;
}

/// The closing UPDATE; parameters: now, then per run ctid, tableoid, message, duration, position.
char *closing_statement(const Guarded &g) {
  return psprintf(
      "UPDATE %s SET %s"
      " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5))"
      " WITH ORDINALITY AS v (ctid, tableoid, message, duration, n)"
      " WHERE t.ctid OPERATOR(pg_catalog.=) v.ctid AND t.tableoid OPERATOR(pg_catalog.=) v.tableoid"
      " RETURNING v.n, %s::pg_catalog.text",
      from_item(g), closing_assignments(g, "$1", "v.message", "v.duration"), column_ref(g.status));
}

/// Closes locked, dead runs: the UPDATE as the owner or the caller, the journal as the extension's owner. Raises where
/// the table's own triggers kept a run from being closed.
void close_runs(const Guarded &g, const ReapCall &call, Run *const *runs, int count) {
  auto *ctids = static_cast<Datum *>(palloc(sizeof(Datum) * count));
  auto *tables = static_cast<Datum *>(palloc(sizeof(Datum) * count));
  auto **reasons = static_cast<const char **>(palloc(sizeof(char *) * count));
  auto **durations = static_cast<const char **>(palloc0(sizeof(char *) * count));
  for (int i = 0; i < count; ++i) {
    ctids[i] = PointerGetDatum(&runs[i]->ctid);
    tables[i] = ObjectIdGetDatum(runs[i]->tableoid);
    reasons[i] = reason_of(g, *runs[i]);
    if (g.duration.exists() && runs[i]->started) durations[i] = duration_text(g, call.question.now - *runs[i]->started);
  }
  pg::Statement update(closing_statement(g));
  update.add(TIMESTAMPTZOID, TimestampTzGetDatum(call.question.now))
      .add(TIDARRAYOID, PointerGetDatum(construct_array(ctids, count, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT)))
      .add(OIDARRAYOID, PointerGetDatum(construct_array(tables, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT)))
      .add(TEXTARRAYOID, pg::text_array(reasons, count))
      .add(TEXTARRAYOID, pg::text_array(durations, count));

  const pg::Identity before = work_as(g, pg::Access::kWrite);
  const MemoryContext context = CurrentMemoryContext;
  pg::spi_begin();
  const uint64 updated = pg::spi_run(update, pg::Access::kWrite);
  for (uint64 i = 0; i < updated; ++i) {
    const char *status = pg::spi_text(i, 2, context);
    if (strcmp(status, g.failed) != 0)
      ereport(ERROR, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
              errmsg("a trigger of table %s turned the status of a reaped run into \"%s\"", g.name, status));
  }
  pg::spi_end();
  pg::restore(before);
  if (updated != static_cast<uint64>(count))
    ereport(ERROR, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
            errmsg("a trigger of table %s kept a run from being closed", g.name));

  auto *lines = static_cast<Line *>(palloc(sizeof(Line) * count));
  for (int i = 0; i < count; ++i) lines[i] = line_of(g, *runs[i], call.question, reasons[i]);
  write_journal({&g, Event::kReaped, call.question.now, call.path, call.role}, lines, count);
}

int count_dead(const Runs &runs) {
  int count = 0;
  for (int i = 0; i < runs.count; ++i) count += runs.items[i].judgement.dead() ? 1 : 0;
  return count;
}

bool given_up(const Tally &tally) { return tally.failed_in_a_row >= kGiveUpAfter; }

/// Locks a group of dead runs, judges them again and closes those that are still dead.
Outcome close_group(const Guarded &g, const ReapCall &call, const Run *const *candidates, int count, bool lock_keys) {
  RunFilter filter;
  filter.keys = keys_of(candidates, count);
  filter.lock = true;
  filter.lock_keys = lock_keys;
  filter.with_row = true;
  pg::Identity before = work_as(g, pg::Access::kWrite);
  const Runs locked = read_runs(g, filter, call.question);
  pg::restore(before);

  Outcome outcome;
  auto **dead = static_cast<Run **>(palloc(sizeof(Run *) * Max(locked.count, 1)));
  for (int i = 0; i < locked.count; ++i)
    if (locked.items[i].judgement.dead()) dead[outcome.closed++] = &locked.items[i];
  if (locked.count < count) {
    // Some are not here: ended meanwhile, or locked by others. Those that still stand as dead are the locked ones.
    filter.lock = false;
    filter.with_row = false;
    before = work_as(g);
    const Runs standing = read_runs(g, filter, call.question);
    pg::restore(before);
    outcome.locked = Max(count_dead(standing) - outcome.closed, 0);
  }
  if (outcome.closed > 0) close_runs(g, call, dead, outcome.closed);
  return outcome;
}

/// The same in a subtransaction. A row that was moved to another partition between the snapshot and the lock is an error of
/// the server's even in READ COMMITTED; with a new snapshot it stands where it is now.
const ErrorData *try_group(const Guarded &g, const ReapCall &call, const Run *const *candidates, int count, bool lock_keys,
                           Outcome *outcome) {
  const ErrorData *error = nullptr;
  for (int i = 0; i < kTries; ++i) {
    error = pg::try_in_subtransaction([&] { *outcome = close_group(g, call, candidates, count, lock_keys); });
    if (error == nullptr || error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE) break;
  }
  return error;
}

/// Closes a group; where that fails, each half by itself, down to the runs that fail alone.
void close_or_halve(const Guarded &g, const ReapCall &call, const Run *const *candidates, int count, bool lock_keys,
                    Tally *tally) {
  if (count == 0) return;
  Outcome outcome;
  const ErrorData *error = try_group(g, call, candidates, count, lock_keys, &outcome);
  if (error == nullptr) {
    tally->reaped += outcome.closed;
    tally->locked += outcome.locked;
    if (outcome.closed > 0) tally->failed_in_a_row = 0;
    return;
  }
  if (count > 1 && !given_up(*tally)) {
    close_or_halve(g, call, candidates, count / 2, lock_keys, tally);
    close_or_halve(g, call, candidates + count / 2, count - count / 2, lock_keys, tally);
    return;
  }
  tally->failed += count;
  if (given_up(*tally)) {
    tally->left += count;
    return;
  }
  ++tally->failed_in_a_row;
  ereport(WARNING, errcode(error->sqlerrcode),
          errmsg("could not close run %s of table %s: %s", candidates[0]->key, g.name, error->message),
          errdetail("%s", error->detail != nullptr ? error->detail : "The run is left as it is; the others are closed."),
          error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE
              ? errhint("The table's owner %s can reap it himself: what a stranger may not run in his name, he may.",
                        GetUserNameFromId(g.owner, false))
          : error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE
              ? errhint("A trigger of the table writes what another transaction holds; the next reaping tries again.")
              : 0);
}

/// Observing: one would_reap line per dead run that has none yet.
void observe(const Guarded &g, const ReapCall &call, const Runs &dead, Tally *tally) {
  auto **runs = static_cast<const Run **>(palloc(sizeof(Run *) * Max(dead.count, 1)));
  for (int i = 0; i < dead.count; ++i) runs[i] = &dead.items[i];
  const bool *known = already_observed(g, keys_of(runs, dead.count), dead.count);
  auto *lines = static_cast<Line *>(palloc(sizeof(Line) * Max(dead.count, 1)));
  int count = 0;
  for (int i = 0; i < dead.count; ++i)
    if (!known[i]) lines[count++] = line_of(g, dead.items[i], call.question, reason_of(g, dead.items[i]));
  write_journal({&g, Event::kWouldReap, call.question.now, call.path, call.role}, lines, count);
  tally->observed += count;
}

/// Whether closing a run changes what a foreign key may refer to or moves the row to another partition: then an open
/// insert of a child row is in the way, and the row must be locked FOR UPDATE, so that it is skipped and not waited for.
bool closing_changes_keys(const Guarded &g) {
  if (!g.status.writable) return true;   // part of the partition key
  bool found = false;
  ListCell *cell;
  foreach (cell, find_all_inheritors(g.table, NoLock, nullptr)) {
    Relation relation = relation_open(lfirst_oid(cell), NoLock);
    const Bitmapset *keys = RelationGetIndexAttrBitmap(relation, INDEX_ATTR_BITMAP_KEY);
    for (const Column *column : {&g.status, &g.end, &g.duration, &g.error, &g.updated}) {
      if (!column->exists() || column->generated) continue;
      const AttrNumber attno = get_attnum(lfirst_oid(cell), column->name);
      found = found || bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, keys);
    }
    relation_close(relation, NoLock);
  }
  return found;
}

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

/// Makes locks that are waited for give up soon; a lock_timeout of the caller's own that is shorter stays. Undone with
/// AtEOXact_GUC(false, level).
int limit_lock_waits() {
  const int level = NewGUCNestLevel();
  if (LockTimeout == 0 || LockTimeout > kLockWaitMilliseconds)
    (void)set_config_option("lock_timeout", psprintf("%dms", kLockWaitMilliseconds), PGC_USERSET, PGC_S_SESSION,
                            GUC_ACTION_SAVE, true, 0, false);
  return level;
}

/// Closes what is dead, in batches.
void reap_dead(const Guarded &g, const ReapCall &call, const Runs &dead, Tally *tally) {
  const MemoryContext batch_context = AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard batch", ALLOCSET_DEFAULT_SIZES);
  pg::restore(work_as(g, pg::Access::kWrite));   // raises here, for all of them, where it is not allowed
  const bool lock_keys = closing_changes_keys(g);
  auto **candidates = static_cast<const Run **>(palloc(sizeof(Run *) * Max(dead.count, 1)));
  for (int i = 0; i < dead.count; ++i) candidates[i] = &dead.items[i];
  const int64 left_before = tally->left;
  for (int done = 0; done < dead.count && tally->reaped < call.max_runs;) {
    const int count = static_cast<int>(Min(Min(kBatch, dead.count - done), call.max_runs - tally->reaped));
    const MemoryContext before = MemoryContextSwitchTo(batch_context);
    close_or_halve(g, call, candidates + done, count, lock_keys, tally);
    MemoryContextSwitchTo(before);
    MemoryContextReset(batch_context);
    done += count;
  }
  if (tally->left > left_before)
    ereport(WARNING, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
            errmsg("left " INT64_FORMAT " runs of table %s for this time: they stand among others that could not be closed",
                   tally->left - left_before, g.name),
            errhint("See the warnings before this one; the view sync_guard.stuck_syncs shows the runs."));
  tally->failed_in_a_row = 0;
}

void reap_table(const Guarded &g, const ReapCall &call, Tally *tally) {
  const bool observing = only_observed(g);
  if (!lock_for_reaping(g, observing ? AccessShareLock : RowExclusiveLock)) return;
  const MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard reaping", ALLOCSET_DEFAULT_SIZES);
  const MemoryContext caller = MemoryContextSwitchTo(context);
  const Runs dead = dead_runs(g, call.question, PG_INT64_MAX);
  if (observing) observe(g, call, dead, tally);
  else reap_dead(g, call, dead, tally);
  MemoryContextSwitchTo(caller);
  MemoryContextDelete(context);
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
  if (tally.failed > 0)
    ereport(NOTICE, errmsg_plural(INT64_FORMAT " dead run could not be closed", INT64_FORMAT " dead runs could not be closed",
                                  tally.failed, tally.failed));
}

}  // namespace

ReapCall reap_call(FunctionCallInfo fcinfo, int older_than, int even_if_alive, int max_runs) {
  ReapCall call;
  call.question = question_now();
  const Interval *interval = positive_interval(fcinfo, older_than, "older_than");
  if (interval != nullptr) call.question.older_than = micros_of(interval);
  call.question.even_if_alive = !PG_ARGISNULL(even_if_alive) && PG_GETARG_BOOL(even_if_alive);
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
  Runs runs = read_runs(g, RunFilter{}, question);
  pg::restore(before);
  int kept = 0;
  for (int i = 0; i < runs.count && kept < max_runs; ++i)
    if (runs.items[i].judgement.dead()) runs.items[kept++] = runs.items[i];
  runs.count = kept;
  return runs;
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

int64 reap_tables(Oid relation, const ReapCall &call) {
  const int level = limit_lock_waits();
  Tally tally;
  int forbidden = 0;
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
    if (!ready_to_reap(g, call.question.now)) continue;
    if (tally.reaped >= call.max_runs && !only_observed(g)) continue;
    if (OidIsValid(relation)) {
      reap_table(g, call, &tally);
      continue;
    }
    const Tally until_here = tally;
    const ErrorData *error = pg::try_in_subtransaction([&] { reap_table(g, call, &tally); });
    if (error == nullptr) continue;
    tally = until_here;
    ereport(WARNING, errcode(error->sqlerrcode), errmsg("could not reap table %s: %s", g.name, error->message),
            errdetail("%s", error->detail != nullptr ? error->detail : "The table is left as it is; the others are reaped."));
  }
  if (forbidden > 0)
    ereport(NOTICE, errmsg_plural("%d guarded table was skipped: you may read it but not update it",
                                  "%d guarded tables were skipped: you may read them but not update them", forbidden,
                                  forbidden));
  report(tally);
  AtEOXact_GUC(false, level);
  return tally.reaped;
}

}  // namespace

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
  volatile int64 reaped = 0;
  reaping = true;
  PG_TRY();
  { reaped = reap_tables(relation, call); }
  PG_FINALLY();
  { reaping = false; }
  PG_END_TRY();
  PG_RETURN_INT64(reaped);
}

static Datum stale_syncs(FunctionCallInfo fcinfo) {
  InitMaterializedSRF(fcinfo, 0);
  const auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
  const ReapCall call = reap_call(fcinfo, 0, 2, 3);
  if (!guard_enabled()) {
    ereport(NOTICE, errmsg("nothing would be reaped: emag_sync_guard.enabled is off"));
    return Datum(0);
  }
  int64 left = call.max_runs;
  ListCell *cell;
  foreach (cell, readable_tables(relation_argument(fcinfo, 1), true)) {
    const auto &g = *static_cast<const Guarded *>(lfirst(cell));
    if (!ready_to_reap(g, call.question.now)) continue;
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
  }
  return Datum(0);
}

}  // namespace esg
