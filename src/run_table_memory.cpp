// The object behind the runs in shared memory: its size, its making, and what becomes of an entry whose transactions have
// ended. Made in the postmaster; the rest runs in whatever process meets an entry. See run_table_memory.h.

#include "run_table_memory.h"

#include "gaps.h"

namespace esg {
namespace memory {

Table *table = nullptr;

namespace {

/// The name of its locks in pg_stat_activity.
constexpr const char *kTranche = "emag_sync_guard_runs";
constexpr int kMostRuns = 1000000;
int max_tracked_runs = 2048;

int buckets_for(int capacity) {
  int buckets = kPartitions;
  while (buckets < capacity) buckets *= 2;
  return buckets;
}

Size header_size() { return MAXALIGN(sizeof(Table)); }

Size heads_size(int capacity) { return MAXALIGN(mul_size(sizeof(int32), buckets_for(capacity))); }

/// Whether the server's log of transactions reaches back to `xid`; under XactTruncationLock.
bool is_logged(FullTransactionId xid) {
  const TransactionId oldest = pg::oldest_logged_xid_compat();
  const FullTransactionId next = ReadNextFullTransactionId();
  const TransactionId reach = XidFromFullTransactionId(next) - oldest;
  return U64FromFullTransactionId(next) - U64FromFullTransactionId(xid) <= reach;
}

XidState logged_state_of(TransactionId id) {
  if (TransactionIdIsCurrentTransactionId(id)) return XidState::kMine;
  if (TransactionIdIsInProgress(id)) return XidState::kOpen;
  return TransactionIdDidCommit(id) ? XidState::kCommitted : XidState::kAborted;
}

}  // namespace

int32 *heads() { return reinterpret_cast<int32 *>(reinterpret_cast<char *>(table) + header_size()); }

Entry *entries() {
  return reinterpret_cast<Entry *>(reinterpret_cast<char *>(table) + header_size() + heads_size(table->capacity));
}

XidState state_of(FullTransactionId xid) {
  if (!FullTransactionIdIsValid(xid)) return XidState::kNone;
  // At the end of a session the transaction log can no more be read (its statistics are closed).
  Assert(IsTransactionState());
  // The log is not cut off while it is being read.
  LWLockAcquire(XactTruncationLock, LW_SHARED);
  const XidState state = is_logged(xid) ? logged_state_of(XidFromFullTransactionId(xid)) : XidState::kForgotten;
  LWLockRelease(XactTruncationLock);
  return state;
}

namespace {

/// The run as it was before a transaction took it up again that was rolled back. What its writer did meanwhile was a sign of life.
void go_back(Tracked *run) {
  const Taken &before = run->before;
  run->again = false;
  run->seen_whole = false;
  run->inserter = before.inserter;
  run->closer = before.closer;
  run->leaser = before.leaser;
  run->scope_writer = before.scope_writer;
  run->has_scope_again = before.has_scope_again;
  run->token = before.token;
  run->ttl = before.ttl;
  run->session_start = before.session_start;
  run->session_pid = before.session_pid;
  run->owner = before.owner;
  run->binding = before.binding;
  run->lease_known = before.lease_known;
  run->session_ended = false;
  run->superseded = before.superseded;
  run->last_sign = Max(run->last_sign, before.last_sign);
  run->passed_over = before.passed_over;
  run->scope_known = before.scope_known;
}

/// What a transaction did to the run that nobody can tell of any more: the rows are asked.
void ask_the_rows(Tracked *run) {
  run->lease_known = false;
  run->scope_known = false;
  run->seen_whole = false;
}

void settle_scope(Tracked *run, XidState written) {
  if (written == XidState::kNone || written == XidState::kMine || written == XidState::kOpen) return;
  if (written == XidState::kForgotten) run->scope_known = false;
  if (written == XidState::kForgotten || (written == XidState::kCommitted) == run->has_scope_again)
    run->passed_over = 0;
  run->scope_writer = InvalidFullTransactionId;
  run->has_scope_again = false;
}

}  // namespace

bool settle(Tracked *run) {
  XidState inserted = state_of(run->inserter);
  if (run->again && inserted == XidState::kAborted) {
    go_back(run);
    inserted = state_of(run->inserter);
  }
  if (inserted == XidState::kAborted) return false;
  if (inserted == XidState::kForgotten) {
    if (run->again) run->last_sign = Max(run->last_sign, run->before.last_sign);
    ask_the_rows(run);
  }
  if (inserted == XidState::kCommitted || inserted == XidState::kForgotten) {
    run->inserter = InvalidFullTransactionId;
    run->again = false;
  }
  settle_scope(run, state_of(run->scope_writer));
  const XidState closed = state_of(run->closer);
  if (closed == XidState::kCommitted) return false;
  if (closed == XidState::kForgotten) ask_the_rows(run);
  if (closed == XidState::kAborted || closed == XidState::kForgotten) run->closer = InvalidFullTransactionId;
  const XidState leased = state_of(run->leaser);
  if (leased == XidState::kForgotten) ask_the_rows(run);
  if (leased != XidState::kMine && leased != XidState::kOpen) run->leaser = InvalidFullTransactionId;
  if (leased == XidState::kAborted) {
    run->token = 0;
    run->lease_known = false;
    run->binding = Binding::kNone;
    run->ttl = 0;
    run->session_ended = false;
    run->held = false;
  }
  return true;
}

bool settle_entry(Entry *entry) {
  Tracked *run = &entry->run;
  Assert(LWLockHeldByMeInMode(lock_of_bucket(bucket_of(run->id)), LW_EXCLUSIVE));
  if (settle(run)) {
    list_by_inserter(entry);
    return true;
  }
  // Rolled back, the run has never been.
  if (FullTransactionIdIsValid(run->closer) && state_of(run->inserter) != XidState::kAborted) note_gaps(*run);
  return false;
}

namespace {

int32 number_of(const Entry *entry) { return static_cast<int32>(entry - entries()); }

int32 *first_open_beside(const Entry *entry) { return &table->first_open[bucket_of(entry->run.id) % kPartitions]; }

void put_on_list(Entry *entry) {
  int32 *first = first_open_beside(entry);
  entry->previous_open = -1;
  entry->next_open = *first;
  if (*first >= 0) entries()[*first].previous_open = number_of(entry);
  *first = number_of(entry);
  entry->open = true;
}

}  // namespace

void take_off_list(Entry *entry) {
  if (entry->previous_open >= 0) entries()[entry->previous_open].next_open = entry->next_open;
  else *first_open_beside(entry) = entry->next_open;
  if (entry->next_open >= 0) entries()[entry->next_open].previous_open = entry->previous_open;
  entry->open = false;
}

void list_by_inserter(Entry *entry) {
  const bool open = FullTransactionIdIsValid(entry->run.inserter);
  if (open && !entry->open) put_on_list(entry);
  else if (!open && entry->open) take_off_list(entry);
}

void release(int32 number) {
  Assert(number >= 0 && number < table->capacity);
  entries()[number].run.inserter = InvalidFullTransactionId;
  list_by_inserter(&entries()[number]);
  SpinLockAcquire(&table->lock);
  entries()[number].next = table->first_free;
  table->first_free = number;
  --table->used;
  SpinLockRelease(&table->lock);
}

namespace {

/// Runs that this session has ended last. Who reads memory is not to meet their entries for as long as there is room.
constexpr int kMostEnded = 32;
RunId ended_here[kMostEnded];
int ended_count = 0;
FullTransactionId ended_by;  ///< the transaction that the last of them was added in

}  // namespace

void give_back_ended() {
  const FullTransactionId now = GetTopFullTransactionIdIfAny();
  if (ended_count == 0 || FullTransactionIdEquals(now, ended_by)) return;
  int kept = 0;
  for (int i = 0; i < ended_count; ++i) {
    const RunId id = ended_here[i];
    const uint32 bucket = bucket_of(id);
    LWLock *lock = lock_of_bucket(bucket);
    LWLockAcquire(lock, LW_EXCLUSIVE);
    const Entry *entry = find(id, bucket);
    if (entry != nullptr && FullTransactionIdIsValid(entry->run.closer)) ended_here[kept++] = id;
    LWLockRelease(lock);
  }
  ended_count = kept;
}

void note_ended(const RunId &id) {
  if (ended_count == kMostEnded) memmove(ended_here, ended_here + 1, sizeof(RunId) * --ended_count);
  ended_here[ended_count++] = id;
  ended_by = GetTopFullTransactionIdIfAny();
}

}  // namespace memory

using namespace memory;

void run_table_load() {
  // Loaded later than at the server's start there is no memory to size, and a setting of the postmaster's cannot be defined
  // any more. Left undefined, a line for it in the configuration would be a WARNING in each session of the application.
  const bool preloading = process_shared_preload_libraries_in_progress;
  DefineCustomIntVariable("emag_sync_guard.max_tracked_runs",
                          "Sets how many live runs the shared memory has room for, of all databases.",
                          "Where it is full, a run is judged by its row and its lease alone.", &max_tracked_runs, 2048,
                          16, kMostRuns, preloading ? PGC_POSTMASTER : PGC_SIGHUP,
                          preloading ? 0 : GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
}

Size run_table_size() {
  return add_size(header_size(), add_size(heads_size(max_tracked_runs), mul_size(sizeof(Entry), max_tracked_runs)));
}

void run_table_attach() {
  bool found;
  table = static_cast<Table *>(ShmemInitStruct("emag_sync_guard runs", run_table_size(), &found));
  if (!found) {
    memset(table, 0, sizeof(Table));
    table->tranche = pg::new_lwlock_tranche_compat(kTranche);
    table->capacity = max_tracked_runs;
    table->buckets = buckets_for(max_tracked_runs);
    for (LWLockPadded &padded : table->locks) LWLockInitialize(&padded.lock, table->tranche);
    LWLockInitialize(&table->room_lock.lock, table->tranche);
    SpinLockInit(&table->lock);
    for (int32 &first : table->first_open) first = -1;
    for (int i = 0; i < table->buckets; ++i) heads()[i] = -1;
    for (int i = 0; i < table->capacity; ++i) {
      entries()[i].next = i + 1 < table->capacity ? i + 1 : -1;
      entries()[i].open = false;
    }
  }
  pg::register_lwlock_tranche_compat(table->tranche, kTranche);
}

}  // namespace esg
