// Closes the dead runs of one table, group by group, each in a subtransaction: lock them by key (FOR NO KEY UPDATE SKIP
// LOCKED: FOR UPDATE would be hidden by an open insert of a child row), judge them again as they are under the lock, close
// them with one UPDATE, write their journal lines. A group that fails gives its locks back and is halved, until the rows
// that fail stand alone. Locks taken: row locks on dead runs only; it waits for no row. Runs in the reaper's transaction.
//
// The application's own triggers may want what another session holds, and that session may want a run that is locked here:
// a deadlock, which whoever finds it first ends at his own cost. So all waiting of a call together stays well below
// deadlock_timeout (1 s unless set otherwise), and who waits for us does not.

#include "reap_runs.h"

#include "announce.h"
#include "fault.h"
#include "liveness.h"
#include "locks.h"
#include "pg/boundary.h"
#include "reap_close.h"
#include "worker.h"

namespace esg {
namespace {

constexpr int kBatch = 1000;
/// The rows of the first batch tell how large those of the next may be: they are copied in memory, several times over.
constexpr int kFirstBatch = 16;
constexpr int64 kGrowth = 4;
constexpr int64 kBatchBytes = 32 << 20;
/// After this many rows that failed, with none closed in between, only a way to others that go is looked for.
constexpr int kGiveUpAfter = 10;
/// How long the first try waits for a lock, and the later ones for what is left of it; then each this long at least.
constexpr core::Micros kLockWait = core::kSecond / 10;
constexpr core::Micros kLeastLockWait = core::kSecond / 200;
/// After this much waiting for nothing nothing more is tried in this call.
constexpr core::Micros kEnoughWaiting = 3 * core::kSecond / 10;
/// How often a group is tried again whose rows were moved to another partition under its hands.
constexpr int kTries = 3;

/// What came of a group of candidates.
struct Outcome {
  int closed = 0;
  int leased = 0;  ///< of these, with a lease
  int locked = 0;  ///< by others
};

/// Whether a locked run is still there to be closed: its worker is not just committing, and gave no sign since it was judged.
/// From here on a fence waits, and a heartbeat finds the run closed when this transaction has committed.
bool keep_from_worker(const Guarded &g, const Run &run, int *fenced) {
  if (run.token != 0 && !lock_out_fence(run.token)) {
    ++*fenced;
    return false;
  }
  return track_closing(g.table, run.key, run.memory);
}

int count_dead(const Runs &runs) {
  int count = 0;
  for (int i = 0; i < runs.count; ++i) count += runs.items[i].judgement.dead() ? 1 : 0;
  return count;
}

bool given_up(const Tally &tally) { return tally.failed_in_a_row >= kGiveUpAfter || tally.waited >= kEnoughWaiting; }

/// Locks a group of dead runs, judges them again and closes those that are still dead.
Outcome close_group(const Guarded &g, const ReapCall &call, const Run *const *candidates, int count, bool lock_keys,
                    Tally *tally) {
  RunFilter filter;
  filter.keys = keys_of(candidates, count);
  filter.lock = true;
  filter.lock_keys = lock_keys;
  filter.with_row = true;
  pg::Identity before = work_as(g, pg::Access::kWrite);
  const Runs locked = read_runs(g, filter, call.question);
  pg::restore(before);
  ESG_FAULT_POINT("reap.rows_locked");
  tally->rows_read += locked.count;
  for (int i = 0; i < locked.count; ++i) tally->bytes_read += VARSIZE(locked.items[i].row);

  Outcome outcome;
  auto **dead = static_cast<Run **>(palloc(sizeof(Run *) * Max(locked.count, 1)));
  int fenced = 0;
  for (int i = 0; i < locked.count; ++i)
    if (locked.items[i].judgement.dead() && keep_from_worker(g, locked.items[i], &fenced)) {
      outcome.leased += locked.items[i].token != 0 ? 1 : 0;
      dead[outcome.closed++] = &locked.items[i];
    }
  ESG_FAULT_POINT("reap.looked_again");
  if (locked.count < count) {
    // Some are not here: ended meanwhile, or locked by others. Those that still stand as dead are the locked ones.
    filter.lock = false;
    filter.with_row = false;
    before = work_as(g);
    const Runs standing = read_runs(g, filter, call.question);
    pg::restore(before);
    outcome.locked = Max(count_dead(standing) - outcome.closed - fenced, 0);
  }
  outcome.locked += fenced;
  if (outcome.closed > 0) close_runs(g, call, dead, outcome.closed);
  return outcome;
}

/// The same in a subtransaction. A row that was moved to another partition between the snapshot and the lock is an error of
/// the server's even in READ COMMITTED; with a new snapshot it stands where it is now.
const ErrorData *try_group(const Guarded &g, const ReapCall &call, const Run *const *candidates, int count,
                           bool lock_keys, Outcome *outcome, Tally *tally) {
  const ErrorData *error = nullptr;
  const TimestampTz begun = GetCurrentTimestamp();
  const core::Micros wait = Max(kLockWait - tally->waited, kLeastLockWait);
  for (int i = 0; i < kTries; ++i) {
    error = pg::try_in_subtransaction([&] {
      const int level = limit_lock_waits(wait);
      *outcome = close_group(g, call, candidates, count, lock_keys, tally);
      AtEOXact_GUC(false, level);
    });
    if (error == nullptr || error->sqlerrcode != ERRCODE_T_R_SERIALIZATION_FAILURE) break;
  }
  if (error != nullptr && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
    tally->waited += GetCurrentTimestamp() - begun;
  return error;
}

/// How many leased runs a transaction may close: their locks are a quarter of what the server's lock table is made for.
int64 room_for_leases() { return static_cast<int64>(max_locks_per_xact) * (MaxBackends + max_prepared_xacts) / 4; }

/// The next batch of dead runs from `*at` on, without leased ones for which there is no room any more. Returns how many.
int choose(const Runs &dead, int *at, int most, Tally *tally, const Run **chosen) {
  const int64 room = room_for_leases();
  int64 leased = tally->leased;
  int count = 0;
  for (; *at < dead.count && count < most; ++*at) {
    const Run *run = &dead.items[*at];
    if (run->token != 0 && leased >= room) {
      ++tally->no_room;
      continue;
    }
    leased += run->token != 0 ? 1 : 0;
    chosen[count++] = run;
  }
  return count;
}

void leave(int count, Tally *tally) {
  tally->failed += count;
  tally->left += count;
}

/// Closes a group; where that fails, each half by itself, down to the runs that fail alone.
void close_or_halve(const Guarded &g, const ReapCall &call, const Run *const *candidates, int count, bool lock_keys,
                    Tally *tally) {
  if (count == 0) return;
  if (tally->waited >= kEnoughWaiting) return leave(count, tally);
  Outcome outcome;
  const ErrorData *error = try_group(g, call, candidates, count, lock_keys, &outcome, tally);
  if (error == nullptr) {
    tally->reaped += outcome.closed;
    tally->leased += outcome.leased;
    tally->locked += outcome.locked;
    if (outcome.closed > 0) tally->failed_in_a_row = 0;
    return;
  }
  if (count > 1 && !given_up(*tally)) {
    close_or_halve(g, call, candidates, count / 2, lock_keys, tally);
    close_or_halve(g, call, candidates + count / 2, count - count / 2, lock_keys, tally);
    return;
  }
  if (count > 1) {
    // Nothing goes any more. Is that so of all, or of a block of old ones? The younger half tells; the older waits for that.
    close_or_halve(g, call, candidates + count / 2, count - count / 2, lock_keys, tally);
    if (given_up(*tally)) leave(count / 2, tally);
    else close_or_halve(g, call, candidates, count / 2, lock_keys, tally);
    return;
  }
  if (given_up(*tally)) return leave(count, tally);
  ++tally->failed;
  ++tally->failed_in_a_row;
  if (error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE && GetUserId() != g.owner && have_memory())
    tally->hand_over = true;
  ereport(
      WARNING, errcode(error->sqlerrcode),
      errmsg("could not close run %s of table %s: %s", candidates[0]->key, g.name, error->message),
      errdetail("%s", error->detail != nullptr ? error->detail : "The run is left as it is; the others are closed."),
      error->sqlerrcode == ERRCODE_INSUFFICIENT_PRIVILEGE
          ? errhint("The table's owner %s can reap it himself: what a stranger may not run in his name, he may.",
                    GetUserNameFromId(g.owner, false))
      : error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE
          ? errhint("A trigger of the table writes what another transaction holds; the next reaping tries again.")
          : 0);
}

/// Whether closing a run changes what a foreign key may refer to or moves the row to another partition: then an open
/// insert of a child row is in the way, and the row must be locked FOR UPDATE, so that it is skipped and not waited for.
bool closing_changes_keys(const Guarded &g) {
  if (!g.status.writable) return true;  // part of the partition key
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

/// How many runs the next batch may have, after one of `last`.
int next_batch(const Tally &tally, int last) {
  const int64 bytes_each = Max(tally.bytes_read / Max(tally.rows_read, 1), 1);
  return static_cast<int>(Max(Min(Min(kBatchBytes / bytes_each, last * kGrowth), kBatch), 1));
}

}  // namespace

int limit_lock_waits(core::Micros wait) {
  const int level = NewGUCNestLevel();
  const int milliseconds = static_cast<int>(wait / 1000);
  if (LockTimeout == 0 || LockTimeout > milliseconds)
    (void)set_config_option("lock_timeout", psprintf("%dms", milliseconds), PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
                            true, 0, false);
  return level;
}

void reap_dead(const Guarded &g, const ReapCall &call, const Runs &dead, Tally *tally) {
  const MemoryContext batch_context =
      AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard batch", ALLOCSET_DEFAULT_SIZES);
  pg::restore(work_as(g, pg::Access::kWrite));  // raises here, for all of them, where it is not allowed
  const bool lock_keys = closing_changes_keys(g);
  auto **candidates = static_cast<const Run **>(palloc(sizeof(Run *) * kBatch));
  const int64 left_before = tally->left;
  int batch = kFirstBatch;
  for (int at = 0; at < dead.count && tally->reaped < call.max_runs;) {
    const int most = static_cast<int>(Min(batch, call.max_runs - tally->reaped));
    const int count = choose(dead, &at, most, tally, candidates);
    tally->rows_read = tally->bytes_read = 0;
    const MemoryContext before = MemoryContextSwitchTo(batch_context);
    close_or_halve(g, call, candidates, count, lock_keys, tally);
    MemoryContextSwitchTo(before);
    MemoryContextReset(batch_context);
    ESG_FAULT_POINT("reap.between_batches");
    batch = next_batch(*tally, batch);
  }
  if (tally->left > left_before)
    ereport(
        WARNING, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
        errmsg("left " INT64_FORMAT " runs of table %s for this time: they stand among others that could not be closed",
               tally->left - left_before, g.name),
        errhint("See the warnings before this one; the view sync_guard.stuck_syncs shows the runs."));
  tally->failed_in_a_row = 0;
  if (!tally->hand_over) return;
  // What a stranger may not run in the owner's name, a worker of the owner's may.
  request_worker(MyDatabaseId, g.owner, true);
  ESG_FAULT_POINT("reap.handed_over");
  ereport(NOTICE, errmsg("what could not be closed of table %s is handed to a background worker of its owner", g.name));
  tally->hand_over = false;
}

void observe(const Guarded &g, const ReapCall &call, const Runs &dead, Tally *tally) {
  // The lines of another call that is not committed cannot be seen, and each run gets one.
  LOCKTAG tag;
  make_lock_tag(&tag, LockClass::kObserving, g.table);
  if (dead.count > 0 && LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL) {
    ereport(NOTICE, errmsg("skipping table %s: another reaping is just observing it", g.name));
    return;
  }
  auto **runs = static_cast<const Run **>(palloc(sizeof(Run *) * Max(dead.count, 1)));
  for (int i = 0; i < dead.count; ++i) runs[i] = &dead.items[i];
  const bool *known = already_observed(g, keys_of(runs, dead.count), dead.count);
  auto *lines = static_cast<Line *>(palloc(sizeof(Line) * Max(dead.count, 1)));
  int count = 0;
  for (int i = 0; i < dead.count; ++i)
    if (!known[i]) lines[count++] = line_of(g, dead.items[i], call.question, reason_of(g, dead.items[i]));
  const Entry entry{&g, Event::kWouldReap, call.question.now, call.path, call.role};
  write_journal(entry, lines, count);
  announce_reaped(entry, lines, count);
  tally->observed += count;
  ESG_FAULT_POINT("reap.observed");
}

}  // namespace esg
