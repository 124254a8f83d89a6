// See token.h. Runs in the calls of workers. Reads leases and journal as the extension's owner, the run as the table's owner:
// what a token stands for does not depend on what its holder may see. Locks: the share side of a fence, in lock_token alone.

#include "token.h"

#include "errors.h"
#include "journal.h"
#include "locks.h"
#include "pg/identity.h"
#include "pg/spi.h"
#include "rights.h"
#include "session.h"

namespace esg {
namespace {

constexpr const char *kRowGone = "its row is gone";

bool may_use(const Lease &lease) {
  if (OidIsValid(lease.taken_by) && has_privs_of_role(GetUserId(), lease.taken_by)) return true;
  const Guarded *g = guarded(lease.table);
  return g != nullptr && may_update_status(*g);
}

const char *words_for_end(const char *reason) {
  if (strcmp(reason, "reaped") == 0) return "it was reaped";
  if (strcmp(reason, "deleted") == 0) return "its row was deleted";
  if (strcmp(reason, "retried") == 0) return "it had ended, and was started anew";
  if (strcmp(reason, "replaced") == 0) return "somebody else has taken its lease";
  return "it has ended";
}

/// The run of a lease, as the table's owner sees it; null where there is none.
const Run *read_run(const Guarded &g, const char *key) {
  RunFilter filter;
  filter.keys = pg::text_array(&key, 1);
  filter.any_status = true;
  const pg::Identity before = read_as_owner(g);
  const Runs runs = read_runs(g, filter, question_now());
  pg::restore(before);
  return runs.count == 0 ? nullptr : &runs.items[0];
}

void look_at_lease(Holding *holding) {
  const Lease &lease = holding->lease;
  if (lease.ended) {
    holding->stale = words_for_end(lease.end_reason == nullptr ? "" : lease.end_reason);
    holding->reaped = lease.end_reason != nullptr && strcmp(lease.end_reason, "reaped") == 0;
  } else if (holding->table == nullptr) {
    holding->stale = "its table is guarded no more";
  } else if (lease.superseded) {
    holding->stale = "its worker has announced itself under another incarnation";
  }
}

/// A row of the same key that came after it is another run, and memory knows that it has no lease.
bool is_of_another_run(const Tracked *entry) { return entry != nullptr && entry->lease_known && entry->token == 0; }

/// The lease is open; its run may have ended all the same, where the lease's row was locked.
void look_at_run(Holding *holding) {
  const Guarded &g = *holding->table;
  if (g.broken != nullptr) return;  // which columns it is about is not known any more
  holding->run = read_run(g, holding->lease.key);
  if (holding->run == nullptr || is_of_another_run(holding->run->memory)) {
    holding->stale = kRowGone;
  } else if (!g.is_live(holding->run->status)) {
    const Standing standing = standing_of(g, holding->lease.key);
    holding->reaped = standing.reaping != 0 && !standing.observed;
    holding->stale = holding->reaped ? "it was reaped" : psprintf("it has ended: \"%s\"", holding->run->status);
  }
}

void look_in_memory(Holding *holding) {
  const TrackedRuns entry = tracked_run(holding->lease.table, holding->lease.key);
  if (entry.count == 1 && is_of_another_run(&entry.items[0])) holding->stale = kRowGone;
}

/// When and why the run was reaped, a sentence; null where the journal does not tell.
const char *reaping_told(const Lease &lease) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement query(
      "SELECT j.at, j.reason FROM sync_guard.journal AS j WHERE j.relation OPERATOR(pg_catalog.=) $1"
      " AND j.run_key OPERATOR(pg_catalog.=) $2 AND j.event OPERATOR(pg_catalog.=) 'reaped' ORDER BY j.id DESC LIMIT "
      "1");
  query.add_oid(lease.table).add_text(lease.key);
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const char *told = nullptr;
  if (pg::spi_run(query, pg::Access::kRead) == 1) {
    bool is_null;
    const TimestampTz at = DatumGetTimestampTz(pg::spi_datum(0, 1, &is_null));
    const char *reason = pg::spi_text(0, 2, context);
    const MemoryContext of_query = MemoryContextSwitchTo(context);
    told = psprintf("The guard closed it at %s: %s.", iso_utc(at), reason == nullptr ? "no reason noted" : reason);
    MemoryContextSwitchTo(of_query);
  }
  pg::spi_end();
  pg::restore(before);
  return told;
}

}  // namespace

int64 token_argument(FunctionCallInfo fcinfo, int argument) {
  if (PG_ARGISNULL(argument))
    ereport(ERROR, errcode(kBadOption), errmsg("token must not be NULL"), errdetail("It names the run."),
            errhint("start_sync() and take_lease() return it."));
  return PG_GETARG_INT64(argument);
}

bool may_update_status(const Guarded &g) {
  if (pg_class_aclcheck(g.table, GetUserId(), ACL_UPDATE) == ACLCHECK_OK) return true;
  if (g.broken != nullptr) return false;
  return pg_attribute_aclcheck(g.table, g.status.attno, GetUserId(), ACL_UPDATE) == ACLCHECK_OK;
}

Lease lease_for_caller(int64 token) {
  const Lease lease = lease_of(token);
  if (lease.token == 0)
    ereport(ERROR, errcode(ERRCODE_NO_DATA_FOUND), errmsg("token " INT64_FORMAT " is not known", token),
            errdetail("It was never seen committed, or was purged long after its run had ended."),
            errhint("Commit start_sync() or take_lease() first: until then other sessions do not see it."));
  if (!may_use(lease))
    ereport(
        ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied for token " INT64_FORMAT, token),
        errhint("Whoever uses it needs UPDATE on the run's table or on its status column, or is a member of the role "
                "that took the lease."));
  return lease;
}

void check_right(int64 token) {
  const KnownLease *known = known_lease(token);
  if (known == nullptr || known->user != GetUserId()) (void)lease_for_caller(token);
}

Holding holding_of(int64 token, Look look) {
  Holding holding;
  holding.lease = lease_for_caller(token);
  holding.table = guarded(holding.lease.table);
  if (holding.table != nullptr && holding.table->table != holding.lease.table) holding.table = nullptr;
  look_at_lease(&holding);
  if (holding.stale != nullptr) return holding;
  if (look == Look::kAtRun) look_at_run(&holding);
  else look_in_memory(&holding);
  return holding;
}

void lock_token(int64 token) {
  LOCKTAG tag;
  make_lock_tag(&tag, LockClass::kFence, static_cast<uint64>(token));
  (void)LockAcquire(&tag, ShareLock, false, false);
}

void refuse_stale(const Holding &holding) {
  const Lease &lease = holding.lease;
  const char *told = holding.reaped ? reaping_told(lease) : nullptr;
  if (told == nullptr && lease.superseded)
    told = psprintf("Worker \"%s\" announced itself at %s.", lease.worker, iso_utc(*lease.superseded));
  if (told == nullptr && lease.ended) told = psprintf("Its lease ended at %s.", iso_utc(*lease.ended));
  ereport(ERROR, errcode(kStaleToken),
          errmsg("run %s of table %s is not yours any more: %s", lease.key, qualified_name(lease.table), holding.stale),
          told == nullptr ? 0 : errdetail("%s", told),
          errhint("Roll back and stop: what this worker still wants to write belongs to a run that is over."));
  pg_unreachable();
}

}  // namespace esg
