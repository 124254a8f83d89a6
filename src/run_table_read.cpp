// What goes over the runs in shared memory as a whole: copies for readers, settled outside the locks; mass death; forgetting
// what has no row, no table or no database any more.
// See run_table.h.

#include "run_table_memory.h"

#include <algorithm>

namespace esg {
namespace memory {
namespace {

/// Copies this database's entries of the table into the current context, each partition as it is at one instant.
TrackedRuns copy_entries(Oid relation) {
  TrackedRuns runs;
  int room = 0;
  for (uint32 partition = 0; partition < kPartitions;) {
    const int before = runs.count;
    int wanted = 0;
    LWLock *lock = lock_of_bucket(partition);
    LWLockAcquire(lock, LW_SHARED);
    for (uint32 bucket = partition; bucket < static_cast<uint32>(table->buckets); bucket += kPartitions)
      for (int32 at = heads()[bucket]; at >= 0; at = entries()[at].next) {
        const Tracked &run = entries()[at].run;
        if (run.id.database != MyDatabaseId || (OidIsValid(relation) && run.id.table != relation)) continue;
        if (before + wanted < room) runs.items[runs.count++] = run;
        ++wanted;
      }
    LWLockRelease(lock);
    if (before + wanted <= room) {
      ++partition;
      continue;
    }
    runs.count = before;
    room = (before + wanted) * 2;
    const Size size = sizeof(Tracked) * room;
    runs.items = static_cast<Tracked *>(runs.items == nullptr ? MemoryContextAllocHuge(CurrentMemoryContext, size)
                                                              : repalloc_huge(runs.items, size));
  }
  return runs;
}

/// Makes the copies findable by their keys' hashes: places with the numbers of copies, twice as many as those at least.
void index_copies(TrackedRuns *runs) {
  uint32 places = 2;
  while (places < static_cast<uint32>(runs->count) * 2) places *= 2;
  runs->mask = places - 1;
  const Size size = sizeof(int32) * places;
  runs->places = static_cast<int32 *>(MemoryContextAllocHuge(CurrentMemoryContext, size));
  memset(runs->places, -1, size);
  for (int i = 0; i < runs->count; ++i) {
    uint32 at = static_cast<uint32>(runs->items[i].id.key_hash) & runs->mask;
    while (runs->places[at] >= 0) at = (at + 1) & runs->mask;
    runs->places[at] = i;
  }
}

/// More than these falling silent together are a mass death, where they are also more than half.
constexpr int kFewEnough = 10;

/// How many entries are taken, of all databases.
int count_used() {
  SpinLockAcquire(&table->lock);
  const int used = table->used;
  SpinLockRelease(&table->lock);
  return used;
}

/// Has not beaten for half its ttl.
bool is_silent(const Tracked &run, int64 now) {
  return run.binding == Binding::kHeartbeat && run.ttl > 0 && now - run.last_sign > run.ttl / 2;
}

/// Marks the silent leases of this database as held, once one has lapsed, where they are too many to have died each by itself. When a
/// network goes away, leases lapse one after another, as they last beat, and by the time that the first lapses all others that
/// beat twice a ttl or more are silent. Who weighed and held the lapsed alone would see few of them at a time, where a sweep
/// between two has closed the first (tried); and the last ones lapse between two looks.
void weigh_mass_death() {
  if (count_used() <= kFewEnough) return;
  int leases = 0;
  int silent = 0;
  int fresh = 0;
  const int64 now = monotonic_now();
  each_entry(LW_SHARED, [&](const Entry *entry) {
    const Tracked &run = entry->run;
    if (run.id.database != MyDatabaseId || run.binding != Binding::kHeartbeat || run.ttl == 0) return true;
    // Another run has the place of one that was passed over: its death was no part of this.
    if (FullTransactionIdIsValid(run.closer) || run.is_passed_over()) return true;
    ++leases;
    if (is_silent(run, now)) ++silent;
    if (has_lapsed(run, now) && !run.held) ++fresh;
    return true;
  });
  if (silent <= kFewEnough || silent * 2 <= leases || fresh == 0) return;
  each_entry(LW_EXCLUSIVE, [now](Entry *entry) {
    Tracked *run = &entry->run;
    if (run->id.database == MyDatabaseId && !run->is_passed_over() && is_silent(*run, now)) run->held = true;
    return true;
  });
  SpinLockAcquire(&table->lock);
  table->mass_death_count = silent;
  table->mass_death_at = now;
  table->mass_death_database = MyDatabaseId;
  SpinLockRelease(&table->lock);
}

/// No row stands behind the entry any more, once the transaction `xid` has committed.
void mark_gone(Tracked *run, FullTransactionId xid, int64 now) {
  run->closer = xid;
  run->ending = Ending::kGone;
  run->closing_at = now;
}

/// Settles a copy for a reader. False: for him there is no such run.
bool settle_copy(Tracked *run) {
  if (!settle(run)) return false;
  if (state_of(run->closer) == XidState::kMine) return false;
  if (state_of(run->leaser) == XidState::kMine) run->leaser = InvalidFullTransactionId;
  return true;
}

}  // namespace
}  // namespace memory

using namespace memory;

const Tracked *TrackedRuns::find(Oid relation, const char *key) const {
  if (count == 0) return nullptr;
  const uint64 hash = run_id(relation, key).key_hash;
  for (uint32 at = static_cast<uint32>(hash) & mask; places[at] >= 0; at = (at + 1) & mask) {
    const Tracked &run = items[places[at]];
    if (run.id.key_hash == hash && run.id.table == relation) return &run;
  }
  return nullptr;
}

TrackedRuns tracked_runs(Oid relation) {
  if (table == nullptr) return {};
  weigh_mass_death();
  TrackedRuns runs = copy_entries(relation);
  int kept = 0;
  for (int i = 0; i < runs.count; ++i)
    if (settle_copy(&runs.items[i])) {
      if (kept != i) runs.items[kept] = runs.items[i];
      ++kept;
    }
  runs.count = kept;
  if (kept > 0) index_copies(&runs);
  return runs;
}

TrackedRuns tracked_run(Oid relation, const char *key) {
  TrackedRuns runs;
  if (table == nullptr) return runs;
  const RunId id = run_id(relation, key);
  const uint32 bucket = bucket_of(id);
  runs.items = static_cast<Tracked *>(palloc(sizeof(Tracked)));
  LWLock *lock = lock_of_bucket(bucket);
  LWLockAcquire(lock, LW_SHARED);
  for (int32 at = heads()[bucket]; at >= 0 && runs.count == 0; at = entries()[at].next) {
    const Tracked &run = entries()[at].run;
    if (same_run(run.id, id)) runs.items[runs.count++] = run;
  }
  LWLockRelease(lock);
  if (runs.count == 1 && !settle_copy(&runs.items[0])) runs.count = 0;
  if (runs.count == 1) index_copies(&runs);
  return runs;
}

namespace {

/// Whether the entry with this number, which was marked young, is of a run of the table whose transaction is open. One that has
/// committed is marked no more.
bool is_uncommitted(int32 number, Oid relation) {
  // Read without a lock: where the entry becomes another run meanwhile, that one is younger than the caller's look.
  const RunId id = entries()[number].run.id;
  if (id.database != MyDatabaseId || id.table != relation) return false;
  const uint32 bucket = bucket_of(id);
  LWLock *lock = lock_of_bucket(bucket);
  FullTransactionId inserter = InvalidFullTransactionId;
  LWLockAcquire(lock, LW_SHARED);
  for (int32 at = heads()[bucket]; at >= 0; at = entries()[at].next)
    if (at == number && same_run(entries()[at].run.id, id)) inserter = entries()[at].run.inserter;
  LWLockRelease(lock);
  const XidState state = state_of(inserter);
  if (state == XidState::kNone) return false;
  if (state == XidState::kOpen || state == XidState::kMine) return true;
  LWLockAcquire(lock, LW_EXCLUSIVE);
  (void)find(id, bucket);
  LWLockRelease(lock);
  return false;
}

}  // namespace

bool may_have_uncommitted(Oid relation) {
  if (table == nullptr) return false;
  const int words = young_words_for(table->capacity);
  for (int i = 0; i < words; ++i) {
    uint32 word = pg_atomic_read_u32(&young_words()[i]);
    if (word != 0) pg_read_barrier();
    for (; word != 0; word &= word - 1)
      if (is_uncommitted(i * kYoungBits + pg_rightmost_one_pos32(word), relation)) return true;
  }
  // The snapshot comes after all of this.
  pg_memory_barrier();
  return false;
}

bool settle_run(Tracked *run) { return settle(run); }

void forget_rowless(const TrackedRuns &copies, const bool *has_row) {
  if (table == nullptr) return;
  FullTransactionId xid = InvalidFullTransactionId;
  for (int i = 0; i < copies.count; ++i) {
    const Tracked &copy = copies.items[i];
    if (has_row[i] || copy.uncommitted() || FullTransactionIdIsValid(copy.closer)) continue;
    // Asked for before the lock, and only where there is something to forget.
    if (!FullTransactionIdIsValid(xid)) xid = GetCurrentFullTransactionId();
    const int64 now = monotonic_now();
    const uint32 bucket = bucket_of(copy.id);
    LWLock *lock = lock_of_bucket(bucket);
    LWLockAcquire(lock, LW_EXCLUSIVE);
    Entry *entry = find(copy.id, bucket);
    if (entry != nullptr && !FullTransactionIdIsValid(entry->run.closer) && entry->run.last_sign == copy.last_sign &&
        entry->run.token == copy.token)
      mark_gone(&entry->run, xid, now);
    LWLockRelease(lock);
  }
}

void settle_all() {
  if (table == nullptr) return;
  each_entry(LW_EXCLUSIVE, settle_entry);
}

void forget_dropped_databases() {
  if (table == nullptr) return;
  // Catalogs are not read under the locks.
  auto *seen = static_cast<Oid *>(palloc(sizeof(Oid) * table->capacity));
  Oid *end = seen;
  each_entry(LW_SHARED, [&end, seen, all = seen + table->capacity](const Entry *entry) {
    // Mostly they are all of one database. An entry that is made meanwhile may be of none that was dropped.
    const Oid database = entry->run.id.database;
    if (end < all && (end == seen || end[-1] != database)) *end++ = database;
    return true;
  });
  std::sort(seen, end);
  end = std::unique(seen, end);
  end = std::remove_if(seen, end,
                       [](Oid database) { return SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)); });
  if (end != seen)
    each_entry(LW_EXCLUSIVE,
               [seen, end](const Entry *entry) { return !std::binary_search(seen, end, entry->run.id.database); });
  pfree(seen);
}

void forget_gone() {
  if (table == nullptr) return;
  each_entry(LW_EXCLUSIVE, [](Entry *entry) {
    const Tracked &run = entry->run;
    const bool gone = run.ending == Ending::kGone || run.ending == Ending::kMoved;
    return !gone || !FullTransactionIdIsValid(run.closer) || settle_entry(entry);
  });
}

void forget_table(Oid relation) {
  if (table == nullptr) return;
  const FullTransactionId xid = GetCurrentFullTransactionId();
  const int64 now = monotonic_now();
  each_entry(LW_EXCLUSIVE, [relation, xid, now](Entry *entry) {
    Tracked *run = &entry->run;
    if (run->id.database != MyDatabaseId || run->id.table != relation) return true;
    if (!settle_entry(entry)) return false;
    // What this transaction has ended before stays ended where it goes back to a savepoint in between.
    mark_gone(run, state_of(run->closer) == XidState::kMine ? run->closer : xid, now);
    return true;
  });
}

RunTableState run_table_state() {
  RunTableState state{};
  if (table == nullptr) return state;
  state.capacity = table->capacity;
  state.bytes = static_cast<int64>(run_table_size());
  state.bytes_per_entry = static_cast<int>(state.bytes / table->capacity);
  SpinLockAcquire(&table->lock);
  state.used = table->used;
  state.refused = table->refused;
  state.last_refused = table->last_refused;
  state.mass_death_count = table->mass_death_count;
  state.mass_death_at = table->mass_death_at;
  state.mass_death_database = table->mass_death_database;
  SpinLockRelease(&table->lock);
  return state;
}

void each_tracked(void (*visit)(const Tracked &run, void *context), void *context) {
  if (table == nullptr) return;
  each_entry(LW_SHARED, [visit, context](const Entry *entry) {
    visit(entry->run, context);
    return true;
  });
}

}  // namespace esg
