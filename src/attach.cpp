// See attach.h. Runs in the calls of workers; what it writes to memory counts at once, what it writes to rows at the commit.

#include "attach.h"

#include "errors.h"
#include "exclusive.h"
#include "fault.h"
#include "load.h"
#include "passed_over.h"
#include "pg/boundary.h"
#include "server_life.h"

namespace esg {
namespace {

/// A longer ttl promises nothing.
constexpr core::Micros kMaxTtl = 36500 * core::kDay;

std::optional<core::Micros> ttl_argument(FunctionCallInfo fcinfo, int argument) {
  if (PG_ARGISNULL(argument)) return std::nullopt;
  const Interval *ttl = PG_GETARG_INTERVAL_P(argument);
  if (pg::interval_is_infinite_compat(ttl) || micros_of(ttl) <= 0 || micros_of(ttl) > kMaxTtl)
    ereport(
        ERROR, errcode(kBadOption), errmsg("ttl must be a finite interval greater than zero"),
        errdetail("It was %s.", DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(ttl)))),
        errhint("It is how long the run is believed after a heartbeat; NULL means: 60 s, and none where the lease is "
                "bound to the session."));
  return micros_of(ttl);
}

const char *name_argument(FunctionCallInfo fcinfo, int argument, const char *name) {
  if (PG_ARGISNULL(argument)) return nullptr;
  const char *given = text_to_cstring(PG_GETARG_TEXT_PP(argument));
  if (given[0] == '\0')
    ereport(
        ERROR, errcode(kBadOption), errmsg("%s must not be empty", name), errdetail("NULL means: none is named."),
        errhint(
            "A worker is one replica, an incarnation one of its starts, for example a host name and a start time."));
  return given;
}

void notice_unbound(const char *why) {
  ereport(NOTICE, errmsg("the lease is not bound to this session: it is a heartbeat lease"), errdetail("%s", why),
          errhint("Call heartbeat() within each ttl."));
}

/// Binds an entry's lease to this session.
bool bind_here(const Guarded &g, const RunId &id, int64 token) {
  if (!holds_canary(token)) return bind_session(id, token, g.owner);
  refresh_session();
  return true;
}

/// False: another run has it, or what is noted of that cannot be written here.
bool regains_scope(const Guarded &g, const RowFacts &facts) {
  if (XactReadOnly && g.excludes(facts.status)) return false;
  ErrorData *error = pg::try_in_subtransaction([&] { regain_scope(g, facts); });
  if (error != nullptr && error->sqlerrcode != kScopeRunning) ReThrowError(error);
  return error == nullptr;
}

/// Notes the lease of a run that gives a sign of life. kPassedOver: another run has its place.
Lodged bring_back(const Guarded &g, const Run &run, const LeaseFacts &lease) {
  const RowFacts facts = facts_of(run);
  if (needs_its_scope(run) && !regains_scope(g, facts)) return Lodged::kPassedOver;
  ESG_FAULT_POINT("heartbeat.scope_claimed");
  Lodged lodged = track_lease(g.table, facts, lease);
  if (lodged == Lodged::kNoted && lease.excludes && !make_sure_of_scope(g, facts)) lodged = Lodged::kPassedOver;
  // It was passed over just now, since it was read.
  if (lodged == Lodged::kPassedOver && regains_scope(g, facts)) return track_lease(g.table, facts, lease);
  return lodged;
}

}  // namespace

Terms terms_arguments(FunctionCallInfo fcinfo, int first) {
  Terms terms;
  terms.ttl = ttl_argument(fcinfo, first);
  terms.bind_session = !PG_ARGISNULL(first + 1) && PG_GETARG_BOOL(first + 1);
  terms.worker = name_argument(fcinfo, first + 2, "worker");
  terms.incarnation = name_argument(fcinfo, first + 3, "incarnation");
  if (terms.incarnation != nullptr && terms.worker == nullptr)
    ereport(ERROR, errcode(kBadOption), errmsg("an incarnation needs its worker"),
            errdetail("It tells one start of a worker from the next."), errhint("Name the worker too."));
  return terms;
}

int64 attach(const Guarded &g, const RowFacts &facts, const Terms &terms, const Lease *held) {
  Lease lease;
  lease.key = facts.key;
  lease.worker = terms.worker;
  lease.incarnation = terms.incarnation;
  lease.bind_session = terms.bind_session && have_memory();
  lease.ttl = lease.bind_session ? terms.ttl : terms.ttl.value_or(kDefaultTtl);
  if (held == nullptr) {
    lease.token = write_lease(g, lease);
  } else {
    lease.token = held->token;
    if (!reattach_lease(lease))
      ereport(ERROR, errcode(ERRCODE_LOCK_NOT_AVAILABLE),
              errmsg("the lease of run %s of table %s is locked by another transaction", facts.key, g.name),
              errhint("Try again when that transaction has ended."));
  }
  ESG_FAULT_POINT("attach.lease_written");
  const RunId id = run_id(g.table, facts.key);
  const bool of_this_xact = held == nullptr || held->by_this_xact;
  const LeaseFacts told{lease.token,           lease.bind_session ? Binding::kSession : Binding::kHeartbeat,
                        lease.ttl.value_or(0), g.owner,
                        of_this_xact,          g.excludes(facts.status)};
  Lodged lodged = track_lease(g.table, facts, told);
  if (lodged == Lodged::kPassedOver) {
    regain_scope(g, facts);
    lodged = track_lease(g.table, facts, told);
  }
  const bool room = lodged == Lodged::kNoted;
  ESG_FAULT_POINT("attach.entry_made");
  bool bound = false;
  if (lease.bind_session) {
    bound = room && bind_here(g, id, lease.token);
    if (!bound) {
      lease.bind_session = false;
      lease.ttl = lease.ttl.value_or(kDefaultTtl);
      (void)reattach_lease(lease);  // this transaction's own row
      if (room) track_downgrade(id, lease.token, *lease.ttl);
      notice_unbound(room ? "Another session is bound to it still."
                          : "There is no room for the run in shared memory: see emag_sync_guard.max_tracked_runs.");
    }
  } else if (terms.bind_session) {
    notice_unbound("There is no shared memory: the library is not in shared_preload_libraries.");
  }
  ESG_FAULT_POINT("attach.bound");
  if (!bound && holds_canary(lease.token)) unbind_session(lease.token);
  know_lease({lease.token, id, GetUserId(), bound});
  return lease.token;
}

bool needs_its_scope(const Run &run) {
  core::Evidence evidence = run.evidence;
  if (run.fence_pid == MyProcPid) evidence.fenced_since = std::nullopt;
  return core::judge(evidence, run.limits, question_now()).dead();
}

void regain_scope(const Guarded &g, const RowFacts &facts) {
  if (guard_enabled() && g.excludes(facts.status)) claim_scope(g, facts);
  else if (track_scope_claimed(g.table, facts)) forget_passed_over(g, facts.key);
}

bool sign_of_life(const Holding &holding, const int64 *done, const int64 *total) {
  const Lease &lease = holding.lease;
  const Guarded &g = *holding.table;
  const RunId id = run_id(g.table, lease.key);
  const bool bound = lease.bind_session && holds_canary(lease.token);
  bool bound_elsewhere = false;
  Beat beat = track_beat(id, lease.token, done, total, &bound_elsewhere);
  if (beat == Beat::kNotHere && holding.run != nullptr) {
    // Another session is just taking the lease over: what it has put into memory is not ours to change.
    const Tracked *entry = holding.run->memory;
    if (entry != nullptr && entry->token > lease.token) return true;
    const int64 ttl = bound ? lease.ttl.value_or(0) : lease.ttl.value_or(kDefaultTtl);
    const Lodged lodged = bring_back(g, *holding.run,
                                     {lease.token, bound ? Binding::kSession : Binding::kHeartbeat, ttl, g.owner,
                                      lease.by_this_xact, g.excludes(holding.run->status)});
    if (lodged == Lodged::kPassedOver) return false;
    if (lodged == Lodged::kNoted) beat = track_beat(id, lease.token, done, total, &bound_elsewhere);
    ESG_FAULT_POINT("heartbeat.beat_noted");
  }
  if (beat == Beat::kClosed) return false;
  if (beat == Beat::kNotHere && !XactReadOnly) write_beat(lease, done, total);
  ESG_FAULT_POINT("heartbeat.told");
  if (bound_elsewhere && !canary_is_held(lease.token))
    track_downgrade(id, lease.token, lease.ttl.value_or(kDefaultTtl));
  if (bound) refresh_session();
  know_lease({lease.token, id, GetUserId(), bound});
  return true;
}

void unbind(KnownLease *known) {
  known->bound = false;
  const int64 token = known->token;
  track_downgrade(known->id, token, kDefaultTtl);
  unbind_session(token);
}

}  // namespace esg
