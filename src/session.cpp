// Session-bound leases, in the session that holds them: canaries, socket options, the callbacks at its end and at the ends of
// its transactions: a lease that a rolled back transaction took is not bound, one that it gave up is bound still. Runs in the
// worker's own backend. The callbacks at exit allocate nothing and raise nothing. See session.h.

#include "session.h"

#include "fault.h"
#include "leases.h"
#include "locks.h"
#include "worker.h"

namespace esg {
namespace {

/// A lease bound to this session.
struct Bound {
  int64 token;
  RunId id;
  Oid owner;
  SubTransactionId taken;  ///< open, and it binds the lease; invalid: that has committed
  SubTransactionId left;   ///< open, and it gives the lease up; invalid: none
  bool canary;             ///< at the end of the session: it was still there
};

constexpr int kMostBound = 256;
Bound bound_leases[kMostBound];
int bound_count = 0;
/// Runs end without a word to their session. How many leases there are when it is next looked which are there still.
constexpr int kFirstLook = 16;
int next_look = kFirstLook;
bool callbacks_registered = false;

/// Those whose tokens have the same hash. A pool's session hears of the runs of all its workers.
struct KnownOfHash {
  static constexpr int kMost = 4;
  KnownLease items[kMost];  ///< token 0: none
  int next;                 ///< the one to be forgotten next
};
constexpr int kKnownHashes = 1024;
KnownOfHash known_leases[kKnownHashes];

KnownOfHash *known_of_hash(int64 token) {
  return &known_leases[hash_bytes_uint32(static_cast<uint32>(token)) % kKnownHashes];
}

LOCKTAG canary_tag(int64 token) {
  LOCKTAG tag;
  make_lock_tag(&tag, LockClass::kCanary, static_cast<uint64>(token));
  return tag;
}

// ---- the socket's options ------------------------------------------------------------------------------------------------

int detect_lost_host = 10000;  ///< ms; 0: the options are left alone

/// A setting of the session, as it was before the first lease was bound.
struct Option {
  const char *name;
  int *value;  ///< where the server keeps it
  int wanted;  ///< in its unit
  int before;
};

Option options[] = {{"tcp_keepalives_idle", &tcp_keepalives_idle, 0, 0},
                    {"tcp_keepalives_interval", &tcp_keepalives_interval, 0, 0},
                    {"tcp_keepalives_count", &tcp_keepalives_count, 0, 0},
                    {"client_connection_check_interval", &client_connection_check_interval, 0, 0}};
enum OptionNumber : int { kIdle, kInterval, kCount, kCheck };
bool options_set = false;

void set_option(const Option &option, int value) {
  char text[16];
  snprintf(text, sizeof text, "%d", value);
  // Where the system has no such option, it is left as it is.
  (void)set_config_option(option.name, text, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SET, true, DEBUG1, false);
}

/// What makes a lost host known within detect_lost_host: half of it silent, then probes for the other half. Not by
/// tcp_user_timeout, which would tell while rows are under way too: it ends living clients that are not ready to read.
void plan_options() {
  const int seconds = Max(detect_lost_host / 1000, 2);
  options[kIdle].wanted = seconds / 2;
  options[kInterval].wanted = Max(seconds / 10, 1);
  options[kCount].wanted = Max((seconds - options[kIdle].wanted) / options[kInterval].wanted, 1);
  options[kCheck].wanted = Max(detect_lost_host / 5, 100);
}

/// Shorter than what is set now; 0 is the system's own, hours.
bool shortens(const Option &option) { return *option.value == 0 || *option.value > option.wanted; }

void set_options() {
  if (detect_lost_host == 0) return;
  if (!options_set) {
    plan_options();
    for (Option &option : options) option.before = *option.value;
    options_set = true;
  }
  for (const Option &option : options)
    if (shortens(option)) set_option(option, option.wanted);
}

/// What somebody else has set meanwhile stays.
void put_options_back() {
  if (!options_set) return;
  for (const Option &option : options)
    if (*option.value == option.wanted) set_option(option, option.before);
}

// ---- the ends of transactions --------------------------------------------------------------------------------------------

/// The lease is no more this session's, whatever becomes of the transaction.
void drop(int number) {
  Assert(number >= 0 && number < bound_count);
  const LOCKTAG tag = canary_tag(bound_leases[number].token);
  if (pg::lock_held_by_me_compat(tag, ExclusiveLock)) (void)LockRelease(&tag, ExclusiveLock, true);
  bound_leases[number] = bound_leases[--bound_count];
  if (bound_count == 0) options_set = false;
}

bool all_are_left() {
  for (int i = 0; i < bound_count; ++i)
    if (bound_leases[i].left == InvalidSubTransactionId) return false;
  return true;
}

/// What the transaction bound or gave up counts from its end on.
void at_end_of_transaction(XactEvent event, void *) {
  switch (event) {
    case XACT_EVENT_PRE_COMMIT:
      // The options still can fail here; once it is committed nothing may.
      if (bound_count > 0 && all_are_left()) put_options_back();
      return;
    case XACT_EVENT_COMMIT:
    case XACT_EVENT_ABORT:
    case XACT_EVENT_PREPARE: break;
    default: return;
  }
  for (int i = bound_count - 1; i >= 0; --i) {
    Bound *lease = &bound_leases[i];
    const SubTransactionId undone = event == XACT_EVENT_ABORT ? lease->taken : InvalidSubTransactionId;
    const SubTransactionId done = event == XACT_EVENT_COMMIT ? lease->left : InvalidSubTransactionId;
    lease->taken = lease->left = InvalidSubTransactionId;
    if (undone != InvalidSubTransactionId || done != InvalidSubTransactionId) drop(i);
  }
}

void at_end_of_subtransaction(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *) {
  if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB) return;
  const bool committed = event == SUBXACT_EVENT_COMMIT_SUB;
  for (int i = bound_count - 1; i >= 0; --i) {
    Bound *lease = &bound_leases[i];
    if (lease->left == mine) lease->left = committed ? parent : InvalidSubTransactionId;
    if (lease->taken != mine) continue;
    if (committed) lease->taken = parent;
    else drop(i);
  }
}

// ---- the end of the session ----------------------------------------------------------------------------------------------

/// before_shmem_exit: which canaries are there; they go with the session's locks, right after.
void note_canaries(int, Datum) noexcept {
  ESG_FAULT_POINT_AT_EXIT("session_end.begins");
  for (int i = 0; i < bound_count; ++i) bound_leases[i].canary = holds_canary(bound_leases[i].token);
}

/// The session did not end by its own word: its client is gone, or somebody ended it.
bool has_died() noexcept {
  switch (pgStatSessionEndCause) {
    case DISCONNECT_CLIENT_EOF:
    case DISCONNECT_FATAL:
    case DISCONNECT_KILLED: return true;
    default: return false;
  }
}

/// on_shmem_exit: the transaction is over, and what it had locked is free. All leases are marked before anyone is asked: a
/// worker that comes at once sees them all.
void tell_of_end(int, Datum) noexcept {
  const bool died = has_died();
  ESG_FAULT_POINT_AT_EXIT("session_end.transaction_over");
  if (bound_count > 0 && died && server_is_stopping()) return;
  int marked = 0;
  for (int i = 0; i < bound_count; ++i) {
    const Bound lease = bound_leases[i];
    if (!died || !lease.canary) track_downgrade(lease.id, lease.token, kDefaultTtl);
    else if (track_session_end(lease.id, lease.token)) bound_leases[marked++] = lease;
  }
  ESG_FAULT_POINT_AT_EXIT("session_end.entries_marked");
  Oid asked = InvalidOid;
  for (int i = 0; i < marked; ++i) {
    if (bound_leases[i].owner == asked) continue;
    asked = bound_leases[i].owner;
    request_worker(bound_leases[i].id.database, asked, false);
  }
  ESG_FAULT_POINT_AT_EXIT("session_end.worker_asked");
  bound_count = 0;
}

/// Takes a canary. Who only looks whether it is held has it for an instant (canary_is_held), hence more than one try.
bool take_canary(const LOCKTAG &tag) {
  for (int tries = 0; tries < 10; ++tries) {
    if (LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL) return true;
    pg_usleep(200);
  }
  return false;
}

Bound *find_bound(int64 token) {
  for (int i = 0; i < bound_count; ++i)
    if (bound_leases[i].token == token) return &bound_leases[i];
  return nullptr;
}

/// Copies of the entries behind the bound leases; token 0 where there is none.
void find_entry(const Tracked &run, void *copies) {
  if (run.token == 0 || run.id.database != MyDatabaseId) return;
  for (int i = 0; i < bound_count; ++i)
    if (bound_leases[i].token == run.token) static_cast<Tracked *>(copies)[i] = run;
}

/// Drops the leases of runs that have ended: by the application's own UPDATE, or by a reaping.
void drop_ended() {
  auto *copies = static_cast<Tracked *>(palloc0(sizeof(Tracked) * kMostBound));
  each_tracked(find_entry, copies);
  for (int i = bound_count - 1; i >= 0; --i)
    if (bound_leases[i].taken == InvalidSubTransactionId && (copies[i].token == 0 || !settle_run(&copies[i]))) drop(i);
  pfree(copies);
  next_look = Min(Max(kFirstLook, 2 * bound_count), kMostBound);
}

}  // namespace

void session_load() {
  DefineCustomIntVariable(
      "emag_sync_guard.detect_lost_host", "Sets within which time the lost host of a session-bound lease is noticed.",
      "For the time of the lease the session's tcp_keepalives_* and client_connection_check_interval "
      "are set by it. 0 leaves them alone.",
      &detect_lost_host, 10000, 0, 3600000, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
}

bool holds_canary(int64 token) {
  const LOCKTAG tag = canary_tag(token);
  return pg::lock_held_by_me_compat(tag, ExclusiveLock);
}

bool canary_is_held(int64 token) {
  if (holds_canary(token)) return true;
  // Tried for, since GetLockConflicts does not see what a session holds outside of a transaction.
  const LOCKTAG tag = canary_tag(token);
  if (LockAcquire(&tag, ShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL) return true;
  (void)LockRelease(&tag, ShareLock, false);
  return false;
}

bool bind_session(const RunId &id, int64 token, Oid owner) {
  if (bound_count >= next_look) drop_ended();
  Bound *lease = find_bound(token);
  if (lease == nullptr && bound_count == kMostBound) return false;
  const LOCKTAG tag = canary_tag(token);
  // Before the canary is taken: nothing may fail between that and its being on the list of what goes with a rollback.
  if (!callbacks_registered) {
    RegisterXactCallback(at_end_of_transaction, nullptr);
    RegisterSubXactCallback(at_end_of_subtransaction, nullptr);
    before_shmem_exit(note_canaries, Datum(0));
    on_shmem_exit(tell_of_end, Datum(0));
    callbacks_registered = true;
    ESG_FAULT_POINT("session.callbacks_registered");
  }
  if (!holds_canary(token) && !take_canary(tag)) return false;
  if (lease == nullptr)
    bound_leases[bound_count++] = {token, id, owner, GetCurrentSubTransactionId(), InvalidSubTransactionId, false};
  else lease->left = InvalidSubTransactionId;
  ESG_FAULT_POINT("session.lease_bound");
  set_options();
  return true;
}

void unbind_session(int64 token) {
  if (Bound *lease = find_bound(token); lease != nullptr) lease->left = GetCurrentSubTransactionId();
}

void refresh_session() {
  if (bound_count == 0 || !options_set) return;
  if (shortens(options[kCheck]) || shortens(options[kIdle])) set_options();
}

KnownLease *known_lease(int64 token) {
  for (KnownLease &known : known_of_hash(token)->items)
    if (known.token == token && token != 0) return &known;
  return nullptr;
}

void know_lease(const KnownLease &lease) {
  if (KnownLease *known = known_lease(lease.token); known != nullptr) {
    *known = lease;
    return;
  }
  KnownOfHash *of_hash = known_of_hash(lease.token);
  for (KnownLease &known : of_hash->items)
    if (known.token == 0) {
      known = lease;
      return;
    }
  of_hash->items[of_hash->next] = lease;
  of_hash->next = (of_hash->next + 1) % KnownOfHash::kMost;
}

void forget_lease(int64 token) {
  if (KnownLease *known = known_lease(token); known != nullptr) *known = KnownLease{};
}

}  // namespace esg
