// Leases in shared memory: what workers and ending sessions write into the entries of their runs. Runs in their processes, with one
// partition's lock held at a time. See run_table.h.

#include "run_table_memory.h"

namespace esg {
namespace memory {

void drop_lease(Tracked *run) {
  run->leaser = InvalidFullTransactionId;
  run->token = 0;
  run->binding = Binding::kNone;
  run->ttl = 0;
  run->session_ended = false;
  run->superseded = false;
  run->fenced_at = 0;
}

namespace {

/// The entry of a token, settled, with its partition's lock held; null, with no lock, where there is none.
Entry *find_token(const RunId &id, int64 token, LWLock **lock) {
  if (table == nullptr) return nullptr;
  const uint32 bucket = bucket_of(id);
  *lock = lock_of_bucket(bucket);
  LWLockAcquire(*lock, LW_EXCLUSIVE);
  Entry *entry = find(id, bucket);
  if (entry != nullptr && entry->run.token == token) return entry;
  LWLockRelease(*lock);
  return nullptr;
}

/// Calls `visit(Tracked *)` for an entry that a token binds to a session. Nothing is settled: it is also for the end of a
/// session, whose transaction is over, as is what reading the transaction log needs.
template <typename Visit>
void visit_bound(const RunId &id, int64 token, const Visit &visit) noexcept {
  if (table == nullptr) return;
  const uint32 bucket = bucket_of(id);
  LWLock *const lock = lock_of_bucket(bucket);
  LWLockAcquire(lock, LW_EXCLUSIVE);
  for (int32 at = heads()[bucket]; at >= 0; at = entries()[at].next) {
    Tracked *run = &entries()[at].run;
    if (run->token != token || run->binding != Binding::kSession) continue;
    if (same_run(run->id, id)) visit(run);
  }
  LWLockRelease(lock);
}

void become_heartbeat(Tracked *run, int64 ttl) {
  run->binding = Binding::kHeartbeat;
  if (run->ttl == 0) run->ttl = ttl;
  run->session_ended = false;
}

}  // namespace
}  // namespace memory

using namespace memory;

Lodged track_lease(Oid relation, const RowFacts &facts, const LeaseFacts &lease) {
  if (table == nullptr) return Lodged::kNoRoom;
  LWLock *lock;
  bool made;
  const FullTransactionId xid = lease.by_this_xact ? GetCurrentFullTransactionId() : InvalidFullTransactionId;
  Entry *entry = find_or_make(run_id(relation, facts.key), &lock, &made);
  if (entry == nullptr) return Lodged::kNoRoom;
  Tracked *run = &entry->run;
  const int64 now = monotonic_now();
  if (made) {
    set_facts(run, facts);
    set_row_progress(run, facts, now);
  }
  // Another incarnation of its worker may be under way: the lease's row goes on being asked.
  const bool superseded = run->superseded && run->token == lease.token;
  drop_lease(run);
  run->superseded = superseded;
  run->leaser = xid;
  run->token = lease.token;
  run->lease_known = true;
  run->binding = lease.binding;
  run->ttl = lease.ttl;
  run->owner = lease.owner;
  run->session_pid = MyProcPid;
  run->session_start = MyStartTimestamp;
  const bool passed_over = run->is_passed_over();
  if (!lease.excludes) run->scope_known = true;
  sign_of_life(run, now);
  LWLockRelease(lock);
  return passed_over ? Lodged::kPassedOver : Lodged::kNoted;
}

void track_no_lease(Oid relation, const char *key) {
  if (table == nullptr) return;
  const FullTransactionId xid = GetCurrentFullTransactionId();
  const RunId id = run_id(relation, key);
  LWLock *lock;
  // Where there is one in memory after all, the rows go on being asked.
  Entry *entry = find_token(id, 0, &lock);
  if (entry == nullptr) return;
  if (!entry->run.lease_known) {
    entry->run.lease_known = true;
    entry->run.leaser = xid;
  }
  LWLockRelease(lock);
}

Beat track_beat(const RunId &id, int64 token, const int64 *done, const int64 *total, bool *bound_elsewhere) noexcept {
  *bound_elsewhere = false;
  LWLock *lock;
  Entry *entry = find_token(id, token, &lock);
  if (entry == nullptr) return Beat::kNotHere;
  Tracked *run = &entry->run;
  Beat answer = Beat::kAlive;
  // Settled by now: a transaction that is still named is open.
  if (FullTransactionIdIsValid(run->leaser) && state_of(run->leaser) != XidState::kMine) answer = Beat::kUncommitted;
  else if (FullTransactionIdIsValid(run->closer) && state_of(run->closer) == XidState::kMine) answer = Beat::kClosed;
  const int64 now = monotonic_now();
  // Its time is over, and another run may have taken its place.
  if (answer == Beat::kAlive && (run->session_ended || run->superseded || !run->lease_known || run->is_passed_over() ||
                                 !run->scope_known || has_lapsed(*run, now)))
    answer = Beat::kNotHere;
  if (answer == Beat::kAlive) {
    if (done != nullptr) set_done(run, *done, now);
    if (total != nullptr) set_total(run, *total);
    sign_of_life(run, now);
    *bound_elsewhere = run->binding == Binding::kSession && run->session_pid != MyProcPid;
  }
  LWLockRelease(lock);
  return answer;
}

void track_fence(const RunId &id, int64 token) noexcept {
  LWLock *lock;
  Entry *entry = find_token(id, token, &lock);
  if (entry == nullptr) return;
  const int64 now = monotonic_now();
  entry->run.fenced_at = now;
  entry->run.fence_pid = MyProcPid;
  sign_of_life(&entry->run, now);
  LWLockRelease(lock);
}

void track_downgrade(const RunId &id, int64 token, int64 ttl) noexcept {
  visit_bound(id, token, [ttl](Tracked *run) { become_heartbeat(run, ttl); });
}

void track_superseded(const RunId &id, int64 token) noexcept {
  LWLock *lock;
  Entry *entry = find_token(id, token, &lock);
  if (entry == nullptr) return;
  entry->run.superseded = true;
  LWLockRelease(lock);
}

bool track_session_end(const RunId &id, int64 token) noexcept {
  bool bound = false;
  visit_bound(id, token, [&bound](Tracked *run) {
    if (run->session_pid != MyProcPid || run->session_start != MyStartTimestamp) return;
    run->session_ended = true;
    run->ended_at = monotonic_now();
    bound = true;
  });
  return bound;
}

}  // namespace esg
