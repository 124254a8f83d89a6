// What a token stands for now. Shared by the calls of workers that name a run by its token: heartbeat, fence, finish_sync.
#pragma once

#include "leases.h"
#include "runs.h"

namespace esg {

/// A token that somebody once was given, looked at now: the lease's row and the run's own, with the latest snapshot.
struct Holding {
  Lease lease;
  const Guarded *table = nullptr;  ///< null: not guarded any more
  const Run *run = nullptr;        ///< null: there is none, or the table's settings do not fit it any more
  const char *stale = nullptr;     ///< why it stands for no live run any more, a clause: "it was reaped"; null: it does
  bool reaped = false;             ///< stale, and the guard closed the run
};

/// The argument `token`. ERROR SY006 for NULL.
int64 token_argument(FunctionCallInfo fcinfo, int argument);

/// The lease of a token, for a caller who may use it: he holds UPDATE on the table or on its status column, or is a member of
/// the role that took it. ERROR P0002 where none was seen committed; 42501, which tells nothing of the run.
Lease lease_for_caller(int64 token);

/// The same before a lock is taken: who has no right to the run does not keep it from being reaped. A session that knows the token has
/// been found to have it.
void check_right(int64 token);

enum class Look {
  kAtRun,   ///< at the run's row too
  kAtLease  ///< for who changes the row, and sees by that whether it is live: `run` is null
};

/// The same, with the run behind it. A lease that another incarnation of its worker has superseded is stale.
Holding holding_of(int64 token, Look look = Look::kAtRun);

/// Keeps the run from being reaped, and its lease from being replaced, to the end of the transaction. Waits for whoever is
/// doing so now; what the token stands for is to be looked at after it.
void lock_token(int64 token);

/// ERROR SY003, with when and why.
[[noreturn]] void refuse_stale(const Holding &holding);

/// The caller holds UPDATE on the table or on its status column.
bool may_update_status(const Guarded &g);

}  // namespace esg
