// What goes over the runs in shared memory as a whole: copies for readers, settled outside the locks; mass death; forgetting
// what has no row, no table or no database any more.
// See run_table.h.

#include "run_table_memory.h"

#include <algorithm>

namespace esg {
namespace memory {
namespace {

/// A heartbeat lease of which nobody has weighed yet whether it died alone.
bool is_to_be_weighed(const Tracked &run, int64 now) {
  return has_lapsed(run, now) && !run.held && !run.is_passed_over();
}

/// More are wanted than there is room for: goes back to so many, with room for twice what is wanted.
void make_room_for(int before, int wanted, int *room, TrackedRuns *runs) {
  runs->count = before;
  *room = wanted * 2;
  const Size size = sizeof(Tracked) * *room;
  runs->items = static_cast<Tracked *>(runs->items == nullptr ? MemoryContextAllocHuge(CurrentMemoryContext, size)
                                                              : repalloc_huge(runs->items, size));
}

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
    if (before + wanted <= room) ++partition;
    else make_room_for(before, before + wanted, &room, &runs);
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

/// Copies the entries of these runs. Whether one of them has lapsed, and nobody has weighed that yet.
bool copy_entries(Oid relation, const char *const *keys, int count, TrackedRuns *runs) {
  const int64 now = monotonic_now();
  bool lapsed = false;
  runs->count = 0;
  for (int i = 0; i < count; ++i) {
    const RunId id = run_id(relation, keys[i]);
    const uint32 bucket = bucket_of(id);
    LWLock *lock = lock_of_bucket(bucket);
    LWLockAcquire(lock, LW_SHARED);
    for (int32 at = heads()[bucket]; at >= 0; at = entries()[at].next) {
      const Tracked &run = entries()[at].run;
      if (!same_run(run.id, id)) continue;
      lapsed = lapsed || is_to_be_weighed(run, now);
      runs->items[runs->count++] = run;
      break;
    }
    LWLockRelease(lock);
  }
  return lapsed;
}

/// Whether a partition lists runs that may not be committed yet. Looks without the lock: what is listed meanwhile is younger than the
/// caller's look.
bool lists_any(uint32 partition) { return *const_cast<const volatile int32 *>(&table->first_open[partition]) >= 0; }

/// Takes those of a partition's list off it whose transactions are over, and calls `visit(const Tracked &, XidState)` for the runs of
/// transactions that are still open, kMine or kOpen. Under the partition's lock.
template <typename Visit>
void tidy_list(uint32 partition, const Visit &visit) {
  FullTransactionId seen = InvalidFullTransactionId;
  XidState state = XidState::kNone;
  LWLock *lock = lock_of_bucket(partition);
  LWLockAcquire(lock, LW_EXCLUSIVE);
  int32 next;
  for (int32 at = table->first_open[partition]; at >= 0; at = next) {
    Entry *entry = &entries()[at];
    Tracked *run = &entry->run;
    next = entry->next_open;
    // What a transaction took up again that was rolled back goes on as it was before.
    if (run->again) (void)settle(run);
    // A statement may have started many.
    if (!FullTransactionIdEquals(run->inserter, seen)) state = state_of(seen = run->inserter);
    if (state == XidState::kOpen || state == XidState::kMine) visit(*run, state);
    else take_off_list(entry);
  }
  LWLockRelease(lock);
}

/// Copies the runs of these scopes that other transactions, still open, have started.
TrackedRuns copy_starting(Oid relation, const ScopeHashes &scopes) {
  TrackedRuns runs;
  int room = 0;
  for (uint32 partition = 0; partition < kPartitions;) {
    const int before = runs.count;
    int wanted = 0;
    if (lists_any(partition))
      tidy_list(partition, [&](const Tracked &run, XidState state) {
        if (state != XidState::kOpen || run.id.database != MyDatabaseId || run.id.table != relation || !scopes.has(run))
          return;
        if (before + wanted < room) runs.items[runs.count++] = run;
        ++wanted;
      });
    if (before + wanted <= room) ++partition;
    else make_room_for(before, before + wanted, &room, &runs);
  }
  return runs;
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

/// The copies that are runs to a reader.
TrackedRuns settled(TrackedRuns runs) {
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
  return settled(copy_entries(relation));
}

bool ScopeHashes::has(const Tracked &run) const noexcept {
  for (int i = 0; i < count && i < run.scope_count; ++i) {
    bool found = columns[i].count == 0;
    for (int n = 0; !found && n < columns[i].count; ++n) found = columns[i].items[n] == run.scope_hashes[i];
    if (!found) return false;
  }
  return true;
}

TrackedRuns starting_runs(Oid relation, const ScopeHashes &scopes) {
  if (table == nullptr) return {};
  const int64 now = monotonic_now();
  TrackedRuns runs = copy_starting(relation, scopes);
  bool lapsed = false;
  for (int i = 0; i < runs.count; ++i) lapsed = lapsed || is_to_be_weighed(runs.items[i], now);
  if (lapsed) {
    weigh_mass_death();
    runs = copy_starting(relation, scopes);
  }
  return settled(runs);
}

TrackedRuns joined(const TrackedRuns &some, const TrackedRuns &others) {
  if (others.count == 0) return some;
  TrackedRuns all;
  const Size size = sizeof(Tracked) * (static_cast<Size>(some.count) + others.count);
  all.items = static_cast<Tracked *>(MemoryContextAllocHuge(CurrentMemoryContext, size));
  if (some.count > 0) memcpy(all.items, some.items, sizeof(Tracked) * some.count);
  memcpy(all.items + some.count, others.items, sizeof(Tracked) * others.count);
  all.count = some.count + others.count;
  index_copies(&all);
  return all;
}

TrackedRuns tracked_runs(Oid relation, const char *const *keys, int count) {
  TrackedRuns runs;
  if (table == nullptr || count == 0) return runs;
  // A key may come more than once, where it is unique within partitions only; its run does not.
  auto **each = static_cast<const char **>(palloc(sizeof(char *) * count));
  std::copy(keys, keys + count, each);
  std::sort(each, each + count, [](const char *a, const char *b) { return strcmp(a, b) < 0; });
  const char **end = std::unique(each, each + count, [](const char *a, const char *b) { return strcmp(a, b) == 0; });
  const auto wanted = static_cast<int>(end - each);
  runs.items = static_cast<Tracked *>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Tracked) * wanted));
  if (copy_entries(relation, each, wanted, &runs)) {
    weigh_mass_death();
    (void)copy_entries(relation, each, wanted, &runs);
  }
  return settled(runs);
}

namespace {

/// What the list of a partition's runs that may not be committed yet tells of a table.
struct OnList {
  bool uncommitted = false;
  bool outdated = false;  ///< the transaction of one is over; it may go back to being a run of another that is open
};

OnList look_at_list(uint32 partition, Oid relation) {
  OnList list;
  FullTransactionId seen = InvalidFullTransactionId;
  XidState state = XidState::kNone;
  LWLock *lock = lock_of_bucket(partition);
  LWLockAcquire(lock, LW_SHARED);
  for (int32 at = table->first_open[partition]; at >= 0 && !list.uncommitted; at = entries()[at].next_open) {
    const Tracked &run = entries()[at].run;
    if (!FullTransactionIdEquals(run.inserter, seen)) state = state_of(seen = run.inserter);
    const bool open = state == XidState::kOpen || state == XidState::kMine;
    list.outdated = list.outdated || !open;
    list.uncommitted = open && run.id.database == MyDatabaseId && run.id.table == relation;
  }
  LWLockRelease(lock);
  return list;
}

}  // namespace

bool may_have_uncommitted(Oid relation) {
  if (table == nullptr) return false;
  bool found = false;
  for (uint32 partition = 0; partition < kPartitions && !found; ++partition) {
    if (!lists_any(partition)) continue;
    const OnList list = look_at_list(partition, relation);
    found = list.uncommitted;
    if (list.outdated)
      tidy_list(partition, [&found, relation](const Tracked &run, XidState) {
        found = found || (run.id.database == MyDatabaseId && run.id.table == relation);
      });
  }
  // The snapshot comes after all of this.
  pg_memory_barrier();
  return found;
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
