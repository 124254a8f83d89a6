// Who is waiting for the worker on demand, in shared memory. request_worker runs at the end of sessions (exit callbacks),
// ask_again in readers and reapers, the rest in the worker itself. One lock; the postmaster's for registering is taken
// within it. See worker.h.

#include "worker_requests.h"

#include "server_life.h"

namespace esg {
namespace {

/// The name of its lock in pg_stat_activity.
constexpr const char *kTranche = "emag_sync_guard_workers";
constexpr int kSlots = 64;
/// A worker that was registered and has not begun after this long will not: it is asked for again.
constexpr int64 kNoReceipt = 2 * core::kSecond;
/// Where all slots are needed, one goes whose request nobody has asked for again for this long: its database may be gone.
constexpr int64 kForgotten = core::kMinute;

struct Slot {
  Oid database;
  Oid owner;
  int64 requested;
  int64 served;
  int64 registered_at;  ///< monotonic; 0: no worker is under way
  int64 open_since;     ///< monotonic; 0: nothing is open
  int running;          ///< pid of the worker; 0: none
  Latch *latch;         ///< of the running one: in shared memory, at the same place for all
  bool sweep;
  bool sweeping;  ///< what the running one has taken on
};

struct Requests {
  int tranche;
  LWLockPadded lock;
  Slot slots[kSlots];
  int64 requested;
  int64 started;
  int64 refused;
  int64 last_refused;
};
static_assert(std::is_standard_layout_v<Requests>);

Requests *requests = nullptr;

LWLock *lock() { return &requests->lock.lock; }

bool is_open(const Slot &slot) { return slot.requested > slot.served; }

bool is_under_way(const Slot &slot) { return slot.running != 0 || slot.registered_at != 0; }

/// Nobody has come for it, and nobody asks any more.
bool is_forgotten(const Slot &slot, int64 now) {
  return slot.running == 0 && now - Max(slot.registered_at, slot.open_since) >= kForgotten;
}

/// The slot for these; one that nobody needs any more is taken over. Null where all are needed.
Slot *slot_for(Oid database, Oid owner, int64 now) {
  Slot *unused = nullptr;
  Slot *forgotten = nullptr;
  for (Slot &slot : requests->slots) {
    if (slot.database == database && slot.owner == owner) return &slot;
    if (!is_open(slot) && !is_under_way(slot)) unused = &slot;
    else if (is_forgotten(slot, now)) forgotten = &slot;
  }
  if (unused == nullptr) unused = forgotten;
  if (unused == nullptr) return nullptr;
  *unused = Slot{};
  unused->database = database;
  unused->owner = owner;
  return unused;
}

void count_refusal(int64 now) {
  ++requests->refused;
  requests->last_refused = now;
}

/// False where the server has no slot for a worker.
bool register_worker(Slot *slot, int64 now) {
  BackgroundWorker worker;
  memset(&worker, 0, sizeof worker);
  worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
  worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
  worker.bgw_restart_time = BGW_NEVER_RESTART;
  strlcpy(worker.bgw_library_name, "emag_sync_guard", sizeof worker.bgw_library_name);
  strlcpy(worker.bgw_function_name, "emag_sync_guard_worker_main", sizeof worker.bgw_function_name);
  snprintf(worker.bgw_name, sizeof worker.bgw_name, "emag_sync_guard worker for owner %u in database %u", slot->owner,
           slot->database);
  strlcpy(worker.bgw_type, "emag_sync_guard worker", sizeof worker.bgw_type);
  worker.bgw_main_arg = Int32GetDatum(static_cast<int32>(slot - requests->slots));
  if (!RegisterDynamicBackgroundWorker(&worker, nullptr)) return false;
  slot->registered_at = now;
  return true;
}

/// Sees to it that a worker is under way for an open slot.
void push(Slot *slot, int64 now) {
  if (slot->running != 0) {
    if (slot->latch != nullptr) SetLatch(slot->latch);
    return;
  }
  if (slot->registered_at != 0 && now - slot->registered_at < kNoReceipt) return;
  if (!register_worker(slot, now)) count_refusal(now);
}

/// For a worker that goes: others have gone before it, so there may be room by now for those that were refused.
void push_refused(int64 now) {
  for (Slot &slot : requests->slots)
    if (is_open(slot) && !is_under_way(slot) && !register_worker(&slot, now)) return;
}

}  // namespace

void request_worker(Oid database, Oid owner, bool sweep) noexcept {
  if (requests == nullptr) return;
  const int64 now = monotonic_now();
  LWLockAcquire(lock(), LW_EXCLUSIVE);
  ++requests->requested;
  if (Slot *slot = slot_for(database, owner, now); slot != nullptr) {
    if (!is_open(*slot)) slot->open_since = now;
    ++slot->requested;
    slot->sweep = slot->sweep || sweep;
    push(slot, now);
  } else {
    count_refusal(now);
  }
  LWLockRelease(lock());
}

void ask_again() noexcept {
  if (requests == nullptr || RecoveryInProgress()) return;
  const int64 now = monotonic_now();
  bool late = false;
  LWLockAcquire(lock(), LW_SHARED);
  for (const Slot &slot : requests->slots)
    late = late || (slot.database == MyDatabaseId && is_open(slot) && slot.running == 0 &&
                    now - Max(slot.registered_at, slot.open_since) >= kNoReceipt);
  LWLockRelease(lock());
  if (!late) return;
  LWLockAcquire(lock(), LW_EXCLUSIVE);
  for (Slot &slot : requests->slots) {
    if (slot.database != MyDatabaseId || !is_open(slot) || slot.running != 0) continue;
    if (now - Max(slot.registered_at, slot.open_since) < kNoReceipt) continue;
    if (!register_worker(&slot, now)) count_refusal(now);
    // Where no slot was free, not every caller asks at once.
    slot.registered_at = now;
  }
  LWLockRelease(lock());
}

WorkerState worker_state() {
  WorkerState state{};
  if (requests == nullptr) return state;
  LWLockAcquire(lock(), LW_SHARED);
  state.requested = requests->requested;
  state.started = requests->started;
  state.refused = requests->refused;
  state.last_refused = requests->last_refused;
  for (const Slot &slot : requests->slots) {
    if (slot.database != MyDatabaseId || !is_open(slot)) continue;
    ++state.open;
    if (state.oldest_open == 0 || slot.open_since < state.oldest_open) state.oldest_open = slot.open_since;
  }
  LWLockRelease(lock());
  return state;
}

Job begin_job(int number) {
  Job job{};
  LWLockAcquire(lock(), LW_EXCLUSIVE);
  Slot &slot = requests->slots[number];
  if (is_open(slot) && slot.running == 0) {
    slot.running = MyProcPid;
    slot.latch = MyLatch;
    ++requests->started;
    job = {slot.database, slot.owner, slot.requested, slot.sweep};
    slot.sweeping = slot.sweep;
    slot.sweep = false;
  }
  LWLockRelease(lock());
  return job;
}

bool go_on(int number, Job *job, bool done) {
  LWLockAcquire(lock(), LW_EXCLUSIVE);
  Slot &slot = requests->slots[number];
  const bool more = slot.requested > job->upto;
  if (done) {
    slot.served = Max(slot.served, job->upto);
    slot.open_since = is_open(slot) ? monotonic_now() : 0;
  }
  job->upto = slot.requested;
  job->sweep = slot.sweeping = (job->sweep && !done) || slot.sweep;
  slot.sweep = false;
  if (done && !more) {
    slot.running = 0;
    slot.latch = nullptr;
    slot.registered_at = 0;
  }
  LWLockRelease(lock());
  return more || !done;
}

void end_job(int number, bool served) noexcept {
  LWLockAcquire(lock(), LW_EXCLUSIVE);
  Slot &slot = requests->slots[number];
  if (slot.running == MyProcPid) {
    if (served) slot.served = slot.requested;
    else slot.sweep = slot.sweep || slot.sweeping;
    slot.sweeping = false;
    if (!is_open(slot)) slot.open_since = 0;
    slot.running = 0;
    slot.latch = nullptr;
    // Not at once again, where this one failed: that is left to who asks later.
    slot.registered_at = is_open(slot) ? monotonic_now() : 0;
  }
  push_refused(monotonic_now());
  LWLockRelease(lock());
}

Size worker_requests_size() { return MAXALIGN(sizeof(Requests)); }

void worker_requests_attach() {
  bool found;
  requests = static_cast<Requests *>(ShmemInitStruct("emag_sync_guard worker requests", sizeof(Requests), &found));
  if (!found) {
    memset(requests, 0, sizeof(Requests));
    requests->tranche = pg::new_lwlock_tranche_compat(kTranche);
    LWLockInitialize(lock(), requests->tranche);
  }
  pg::register_lwlock_tranche_compat(requests->tranche, kTranche);
}

}  // namespace esg
