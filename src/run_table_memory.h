// The shared memory behind run_table.h: private to the files that work on it. Each entry belongs to the partition of its
// bucket and is read and written under that partition's lock; the list of free entries has a spinlock of its own.
#pragma once

#include "run_table.h"

namespace esg::memory {

constexpr int kPartitions = 16;

struct Entry {
  int32 next;  ///< in its bucket or in the free list; -1: the last
  /// In the list of its partition's runs that may not be committed yet; -1: the last, and the first.
  int32 next_open;
  int32 previous_open;
  bool open;  ///< it is in that list
  Tracked run;
};
static_assert(std::is_standard_layout_v<Entry> && std::is_trivially_copyable_v<Entry>);

struct Table {
  int tranche;
  int capacity;
  int buckets;  ///< a power of two, at least kPartitions
  LWLockPadded locks[kPartitions];
  int32 first_open[kPartitions];  ///< of each partition's runs that may not be committed yet; under its lock
  LWLockPadded room_lock;         ///< of who looks for room, before those of the partitions
  int64 sought;                   ///< monotonic, of the last time that room was looked for; under room_lock
  slock_t lock;                   ///< for what follows
  int32 first_free;
  int used;
  int64 refused;
  int64 last_refused;
  int mass_death_count;
  int64 mass_death_at;
  Oid mass_death_database;
};
static_assert(std::is_standard_layout_v<Table>);

/// Null without shared memory.
extern Table *table;

int32 *heads();
Entry *entries();

inline uint32 bucket_of(const RunId &id) {
  return static_cast<uint32>(hash_bytes_extended(reinterpret_cast<const unsigned char *>(&id), sizeof id, 0)) &
         static_cast<uint32>(table->buckets - 1);
}
inline LWLock *lock_of_bucket(uint32 bucket) { return &table->locks[bucket % kPartitions].lock; }

/// What has become of a transaction that an entry holds. kForgotten: it has ended, and the server's log of how is gone.
enum class XidState : uint8 { kNone, kMine, kOpen, kCommitted, kAborted, kForgotten };
XidState state_of(FullTransactionId xid);

/// Settles a run by its transactions: what has committed or is rolled back is taken out of it. False: there is no run left.
///
/// Of a transaction that is forgotten the rows are asked. Its run goes on as one that is committed: without a row it is none, has no
/// scope, and a sweep forgets its entry. What became of its lease, and whether it was passed over, their rows say.
bool settle(Tracked *run);

/// The same of an entry, with its partition's lock held exclusively: a run that was finished leaves its gaps behind. False: the
/// entry is to be released.
bool settle_entry(Entry *entry);

/// A run that the current transaction ends. When its session next tells of a run in another transaction, the entry is given back.
void note_ended(const RunId &id);
void give_back_ended();

/// Calls `visit(Entry *)` for every entry of one partition, its lock held. A visitor in exclusive mode that returns false frees
/// the entry.
template <typename Visit>
void each_entry_of(uint32 partition, LWLockMode mode, const Visit &visit);

/// The same for every partition, one partition's lock held at a time.
template <typename Visit>
void each_entry(LWLockMode mode, const Visit &visit);

/// A heartbeat lease without a sign within its ttl.
inline bool has_lapsed(const Tracked &run, int64 now) {
  return run.binding == Binding::kHeartbeat && run.ttl > 0 && now - run.last_sign > run.ttl;
}

/// Puts a run on the list of those that may not be committed yet, or takes it off, as its inserter says. With its partition's lock held
/// exclusively.
void list_by_inserter(Entry *entry);
void take_off_list(Entry *entry);

/// Puts an entry that was taken out of its bucket on the free list.
void release(int32 number);

inline bool same_run(const RunId &a, const RunId &b) {
  return a.key_hash == b.key_hash && a.table == b.table && a.database == b.database;
}

// ---- what writers do with an entry, its partition's lock held exclusively ---------------------------------------------

/// The entry of a run, settled; null where there is none.
Entry *find(const RunId &id, uint32 bucket);

/// Finds the entry or makes one, and returns with its partition's lock held; null, with no lock, where there is no room.
Entry *find_or_make(const RunId &id, LWLock **lock, bool *made);

void set_facts(Tracked *run, const RowFacts &facts);

/// Progress as told now: it has moved where it differs from what was known, or is the first that is not nothing.
void set_done(Tracked *run, int64 done, int64 now);
void set_total(Tracked *run, int64 total);

/// Progress as the row has it now. A heartbeat's word stands until the row's own counter moves.
void set_row_progress(Tracked *run, const RowFacts &facts, int64 now);

/// Nothing of a run that was passed over.
void sign_of_life(Tracked *run, int64 now);

void drop_lease(Tracked *run);

template <typename Visit>
void each_entry_of(uint32 partition, LWLockMode mode, const Visit &visit) {
  LWLockAcquire(lock_of_bucket(partition), mode);
  for (uint32 bucket = partition; bucket < static_cast<uint32>(table->buckets); bucket += kPartitions) {
    int32 *link = &heads()[bucket];
    while (*link >= 0) {
      Entry *entry = &entries()[*link];
      if (visit(entry)) {
        link = &entry->next;
        continue;
      }
      const int32 gone = *link;
      *link = entry->next;
      release(gone);
    }
  }
  LWLockRelease(lock_of_bucket(partition));
}

template <typename Visit>
void each_entry(LWLockMode mode, const Visit &visit) {
  for (uint32 partition = 0; partition < kPartitions; ++partition) each_entry_of(partition, mode, visit);
}

}  // namespace esg::memory
