// heartbeat and fence: what a worker calls while it works, with nothing but its token. take_lease.cpp has how it got one.
//
// heartbeat's usual way stays in memory: the session knows the token (session.h), the entry is touched (run_table.h), nothing
// is looked up in a catalog, nothing is locked but the entry's partition. Whatever is not usual goes by the lease's row.

#include "attach.h"
#include "errors.h"
#include "fault.h"
#include "pg/boundary.h"

namespace esg {
namespace {

/// What memory made of a beat of a known lease; absent: ask the lease's row.
std::optional<bool> beat_known(KnownLease *known, const int64 *done, const int64 *total) {
  const int64 token = known->token;
  bool bound_elsewhere = false;
  switch (track_beat(known->id, token, done, total, &bound_elsewhere)) {
    case Beat::kAlive: break;
    case Beat::kClosed: return false;
    default: return std::nullopt;
  }
  if (known->bound) {
    // A pool's reset or pg_advisory_unlock_all took the canary: this session is not the worker's own.
    if (holds_canary(token)) refresh_session();
    else unbind(known);
  } else if (bound_elsewhere && !canary_is_held(token)) {
    track_downgrade(known->id, token, kDefaultTtl);
  }
  return true;
}

bool beat_by_row(int64 token, const int64 *done, const int64 *total) {
  const Holding holding = holding_of(token);
  ESG_FAULT_POINT("heartbeat.row_asked");
  if (holding.stale == nullptr && sign_of_life(holding, done, total)) return true;
  forget_lease(token);
  return false;
}

/// A client that freezes in its fenced transaction must not keep the run alive for longer than it promised.
void limit_idling(core::Micros ttl) {
  const int limit = static_cast<int>(Min(Max(ttl / 1000, 1), static_cast<core::Micros>(INT_MAX)));
  if (IdleInTransactionSessionTimeout > 0 && IdleInTransactionSessionTimeout <= limit) return;
  (void)set_config_option("idle_in_transaction_session_timeout", psprintf("%dms", limit), PGC_USERSET, PGC_S_SESSION,
                          GUC_ACTION_LOCAL, true, 0, false);
}

}  // namespace
}  // namespace esg

/// heartbeat(token bigint, done bigint, total bigint) → still yours.
ESG_SQL_FUNCTION(heartbeat);

/// fence(token bigint): the run is this worker's to the end of the transaction, or an ERROR.
ESG_SQL_FUNCTION(fence);

namespace esg {

static Datum heartbeat(FunctionCallInfo fcinfo) {
  const int64 token = token_argument(fcinfo, 0);
  const int64 figures[2] = {PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1), PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2)};
  const int64 *done = PG_ARGISNULL(1) ? nullptr : &figures[0];
  const int64 *total = PG_ARGISNULL(2) ? nullptr : &figures[1];
  KnownLease *known = known_lease(token);
  if (known != nullptr && known->user == GetUserId()) {
    const std::optional<bool> alive = beat_known(known, done, total);
    if (alive) PG_RETURN_BOOL(*alive);
  }
  PreventCommandDuringRecovery("heartbeat()");
  PG_RETURN_BOOL(beat_by_row(token, done, total));
}

static Datum fence(FunctionCallInfo fcinfo) {
  const int64 token = token_argument(fcinfo, 0);
  PreventCommandDuringRecovery("fence()");
  if (!IsTransactionBlock())
    ereport(ERROR, errcode(ERRCODE_NO_ACTIVE_SQL_TRANSACTION),
            errmsg("fence() can only be used in a transaction block"),
            errdetail("It holds to the end of its transaction; alone it would protect nothing."),
            errhint("BEGIN; (the run's products) SELECT sync_guard.fence(token); COMMIT;"));
  check_right(token);
  lock_token(token);
  ESG_FAULT_POINT("fence.locked");
  Holding holding = holding_of(token);
  if (holding.stale == nullptr && !sign_of_life(holding, nullptr, nullptr)) holding.stale = "it has ended";
  if (holding.stale != nullptr) {
    forget_lease(token);
    refuse_stale(holding);
  }
  limit_idling(holding.lease.ttl.value_or(kDefaultTtl));
  track_fence(run_id(holding.lease.table, holding.lease.key), token);
  ESG_FAULT_POINT("fence.noted");
  PG_RETURN_VOID();
}

}  // namespace esg
