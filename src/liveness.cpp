// Memory, leases and locks put together into evidence. Runs in whoever reads or reaps; reads as the extension's owner what only
// he may read, waits for nothing. See liveness.h.

#include "liveness.h"

#include "load.h"
#include "locks.h"
#include "pg/extension_tables.h"
#include "session.h"

namespace esg {
namespace {

/// In which who closes a run locks its token: a fence's ShareLock conflicts with it, and no other closing does. So what
/// conflicts with it is a fence, and a run that is just being closed does not seem to be fenced.
constexpr LOCKMODE kClosingMode = RowExclusiveLock;

LOCKTAG fence_tag(int64 token) {
  LOCKTAG tag;
  make_lock_tag(&tag, LockClass::kFence, static_cast<uint64>(token));
  return tag;
}

void take_newer(std::optional<core::Micros> *known, const std::optional<core::Micros> &other) {
  if (other && (!*known || **known < *other)) *known = other;
}

/// The session that a lease is bound to is there, or known to have died. Else the lease is a heartbeat lease.
bool is_bound(const Tracked &entry) {
  return entry.binding == Binding::kSession && (entry.session_ended || canary_is_held(entry.token));
}

/// The lease of a run whose row is committed: its row says what was promised, memory what became of it.
core::Lease lease_evidence(const Lease &lease, const Tracked *entry) {
  const bool in_memory = entry != nullptr && entry->token == lease.token;
  const bool bound = lease.bind_session && in_memory && is_bound(*entry);
  core::Lease evidence;
  evidence.kind = bound ? core::LeaseKind::kSessionBound : core::LeaseKind::kHeartbeat;
  evidence.ttl = bound ? lease.ttl : lease.ttl.value_or(kDefaultTtl);
  evidence.session_ended = bound && entry->session_ended;
  evidence.worker_reannounced = lease.superseded.has_value();
  evidence.held_as_mass_death = in_memory && entry->held;
  return evidence;
}

/// The same of a run that only memory knows.
core::Lease lease_evidence(const Tracked &entry) {
  core::Lease evidence;
  if (entry.token == 0) return evidence;
  const bool bound = is_bound(entry);
  evidence.kind = bound ? core::LeaseKind::kSessionBound : core::LeaseKind::kHeartbeat;
  if (entry.ttl > 0) evidence.ttl = entry.ttl;
  else if (!bound) evidence.ttl = kDefaultTtl;
  evidence.session_ended = bound && entry.session_ended;
  evidence.held_as_mass_death = entry.held;
  return evidence;
}

/// On a standby the promise is known and its signs of life are not: what is unknown never kills.
core::Lease unknown_lease(const Lease &lease) {
  core::Lease evidence;
  evidence.kind = core::LeaseKind::kHeartbeat;
  evidence.worker_reannounced = lease.superseded.has_value();
  return evidence;
}

void add_lease(const Knowledge &knowledge, const Lease &lease, Run *run) {
  core::Evidence &evidence = run->evidence;
  const Tracked *entry = run->memory;
  run->token = lease.token;
  run->worker = lease.worker;
  run->died = lease.superseded;
  run->lease_unknown = knowledge.standby;
  evidence.lease = knowledge.standby ? unknown_lease(lease) : lease_evidence(lease, entry);
  // Signs in memory are on a clock that does not step; the row's stand in where memory has none of this lease.
  if (entry == nullptr || entry->token != lease.token || entry->last_sign == 0) {
    take_newer(&evidence.last_sign, lease.attached);
    take_newer(&evidence.last_sign, lease.last_beat);
  }
  take_newer(&evidence.progress_changed, lease.progress_changed);
  if (lease.done && (entry == nullptr || !entry->has_done)) run->done = lease.done;
  if (lease.total && (entry == nullptr || !entry->has_total)) run->total = lease.total;
}

/// The start by the clock as it goes now: one that was set forward since makes no run older, where memory has the start of the row.
std::optional<core::Micros> started_as_of_now(const Clock &clock, const Run &run, const Tracked *entry) {
  if (!run.started || entry == nullptr || !entry->has_started || entry->started != *run.started) return run.started;
  if (entry->clock_ahead == 0) return run.started;
  return core::moved_with_clock(*run.started, entry->clock_ahead, clock.now - clock.monotonic);
}

void add_fence(const Knowledge &knowledge, Run *run) {
  if (run->token == 0 || knowledge.standby) return;
  run->fence_pid = fence_holder(run->token);
  const Tracked *entry = run->memory;
  if (run->fence_pid == 0) return;
  const bool known = entry != nullptr && entry->fenced_at != 0 && entry->fence_pid == run->fence_pid;
  run->evidence.fenced_since = known ? knowledge.clock.instant(entry->fenced_at) : knowledge.clock.now;
}

}  // namespace

namespace {

/// What memory has of the runs of these keys (text[]).
TrackedRuns tracked_runs_of(const Guarded &g, Datum keys) {
  const ArrayType *array = DatumGetArrayTypeP(keys);
  auto **wanted =
      static_cast<const char **>(palloc0(sizeof(char *) * ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array))));
  int count = 0;
  pg::each_text(keys, [&](Datum key) { wanted[count++] = TextDatumGetCString(key); });
  return tracked_runs(g.table, wanted, count);
}

Knowledge begin_knowledge(const core::Question &question) {
  Knowledge knowledge;
  knowledge.clock = {question.now, question.monotonic};
  knowledge.standby = RecoveryInProgress();
  knowledge.life_began = life_began(knowledge.clock);
  return knowledge;
}

}  // namespace

Knowledge gather_knowledge(const Guarded &g, Datum keys, const core::Question &question, bool memory_alone) {
  Knowledge knowledge = begin_knowledge(question);
  knowledge.tracked = keys == 0 ? tracked_runs(g.table) : tracked_runs_of(g, keys);
  knowledge.memory_alone = memory_alone;
  if (!memory_alone) knowledge.leases = open_leases(g, keys);
  return knowledge;
}

Knowledge gather_of_scopes(const Guarded &g, const ScopeHashes &scopes, const core::Question &question) {
  Knowledge knowledge = begin_knowledge(question);
  knowledge.tracked = starting_runs(g.table, scopes);
  return knowledge;
}

void add_knowledge(const Guarded &g, const char *const *keys, int count, bool memory_alone, Knowledge *knowledge) {
  if (count == 0) return;
  auto **missing = static_cast<const char **>(palloc(sizeof(char *) * count));
  int wanted = 0;
  for (int i = 0; i < count; ++i)
    if (knowledge->tracked.find(g.table, keys[i]) == nullptr) missing[wanted++] = keys[i];
  knowledge->tracked = joined(knowledge->tracked, tracked_runs(g.table, missing, wanted));
  knowledge->memory_alone = memory_alone;
  if (!memory_alone) knowledge->leases = open_leases(g, pg::text_array(keys, count));
}

Knowledge gather_from_memory(const Guarded &g, const char *key, const core::Question &question) {
  Knowledge knowledge = begin_knowledge(question);
  knowledge.tracked = tracked_run(g.table, key);
  // Asked inside the application's statements, which wait for nobody.
  knowledge.memory_alone = (knowledge.tracked.count == 1 && knowledge.tracked.items[0].lease_known) ||
                           !OidIsValid(pg::lock_extension_table_at_once("leases"));
  if (knowledge.memory_alone) return knowledge;
  knowledge.leases = open_leases(g, pg::text_array(&key, 1));
  if (knowledge.leases.count == 0) track_no_lease(g.table, key);
  return knowledge;
}

void add_evidence(const Guarded &g, const Knowledge &knowledge, Run *run) {
  core::Evidence &evidence = run->evidence;
  if (run->memory == nullptr) run->memory = knowledge.tracked.find(g.table, run->key);
  const Tracked *entry = run->memory;
  const bool from_memory = run->uncommitted || knowledge.memory_alone;
  const Lease *lease = from_memory ? nullptr : knowledge.leases.find(run->key);
  // What an earlier run of this key has left open is none of this one's.
  if (entry != nullptr && entry->lease_known && entry->token == 0) lease = nullptr;
  evidence.started = started_as_of_now(knowledge.clock, *run, entry);
  const bool leased = lease != nullptr || (from_memory && entry != nullptr && entry->token != 0);
  // An activity in the future is no sign of life: it would hide that those of the lease have stopped.
  if (!leased || run->active <= knowledge.clock.now) evidence.last_sign = run->active;
  if (entry != nullptr) {
    if (entry->last_sign != 0) take_newer(&evidence.last_sign, knowledge.clock.instant(entry->last_sign));
    if (g.exclusive && entry->is_passed_over()) evidence.passed_over = knowledge.clock.instant(entry->passed_over);
    if (entry->progress_changed != 0) evidence.progress_changed = knowledge.clock.instant(entry->progress_changed);
    if (entry->has_done) run->done = entry->done;
    if (entry->has_total) run->total = entry->total;
  }
  if (lease != nullptr) {
    add_lease(knowledge, *lease, run);
  } else if (from_memory && entry != nullptr) {
    run->token = entry->token;
    evidence.lease = lease_evidence(*entry);
  }
  if (evidence.lease.session_ended && entry != nullptr && entry->ended_at != 0)
    run->died = knowledge.clock.instant(entry->ended_at);
  add_fence(knowledge, run);
  // Without memory nothing was lost at a start of the server but what a lease's worker had promised; nor was anything of a
  // table that has been guarded since then.
  const bool had_memory = have_memory() && g.adopted_at < knowledge.life_began;
  if (run->token != 0 || had_memory) evidence.server_started = knowledge.life_began;
  evidence.restart_grace = restart_grace();
}

void judge_run(const Guarded &g, const Knowledge &knowledge, const core::Question &question, Run *run) {
  add_evidence(g, knowledge, run);
  run->limits = core::resolve_limits(run->scope, g.limits, g.scope_limits, g.scope_limit_count);
  run->judgement = core::judge(run->evidence, run->limits, question);
}

bool judge_by_memory(const Guarded &g, const core::Question &question, Run *run) {
  Knowledge knowledge = begin_knowledge(question);
  knowledge.tracked = tracked_run(g.table, run->key);
  knowledge.memory_alone = true;
  if (knowledge.tracked.count == 0) return false;
  const Tracked &entry = knowledge.tracked.items[0];
  if (entry.uncommitted() || FullTransactionIdIsValid(entry.leaser) || !entry.lease_known || entry.superseded ||
      (g.exclusive && !entry.scope_known))
    return false;
  judge_run(g, knowledge, question, run);
  return true;
}

namespace {

/// Who keeps a run of another session from being closed.
struct FenceHolder {
  int pid = 0;
  TransactionId prepared = InvalidTransactionId;  ///< where it is no process
};

FenceHolder other_fence_holder(const LOCKTAG &tag) {
  int count = 0;
  VirtualTransactionId *holders = GetLockConflicts(&tag, kClosingMode, &count);
  FenceHolder holder;
  for (int i = 0; i < count && holder.pid == 0 && !TransactionIdIsValid(holder.prepared); ++i) {
    bool more;
    if (const PGPROC *process = pg::process_of_compat(holders[i]); process != nullptr) holder.pid = process->pid;
    else holder.prepared = TwoPhaseGetXidByVirtualXID(holders[i], &more);
  }
  pfree(holders);  // room for every process of the server, for each run with a lease
  return holder;
}

}  // namespace

int fence_holder(int64 token) {
  const LOCKTAG tag = fence_tag(token);
  if (pg::lock_held_by_me_compat(tag, ShareLock)) return MyProcPid;
  const FenceHolder holder = other_fence_holder(tag);
  return TransactionIdIsValid(holder.prepared) ? -1 : holder.pid;
}

TransactionId prepared_fence_holder(int64 token) { return other_fence_holder(fence_tag(token)).prepared; }

bool lock_out_fence(int64 token) {
  const LOCKTAG tag = fence_tag(token);
  if (pg::lock_held_by_me_compat(tag, ShareLock)) return false;
  return LockAcquire(&tag, kClosingMode, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

}  // namespace esg
