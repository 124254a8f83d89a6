// Reaping: closing dead runs, each with one UPDATE and one journal line in one transaction.
#pragma once

#include "runs.h"

namespace esg {

/// What a call of reap_stale_syncs asks for, checked.
struct ReapCall {
  core::Question question;
  int64 max_runs = PG_INT64_MAX;
  const char *path = "call";
  Oid role = InvalidOid;  ///< the caller, for the journal
};

/// Checks the arguments (older_than, even_if_alive, max_runs) of a reaping or of its dry run.
/// ERROR SY006: an interval or a number that is zero, negative or infinite.
ReapCall reap_call(FunctionCallInfo fcinfo, int older_than, int even_if_alive, int max_runs);

/// The table's dead runs that a reaping would close now, oldest first, at most `max_runs`.
Runs dead_runs(const Guarded &g, const core::Question &question, int64 max_runs);

/// Reaps one table, for callers within the guard (start_sync, the worker, worker_started): the table's right to be reaped is the
/// caller's (ERROR 42501), a pause is not looked at. `filter` says which live runs are candidates. Returns runs reaped.
int64 reap_these(const Guarded &g, const ReapCall &call, const RunFilter &filter);

/// Whether the guard only watches this table: observe mode, or the rows belong to a publisher elsewhere.
bool only_observed(const Guarded &g);

}  // namespace esg
