// What memory and leases tell of runs, as evidence: the only place where both are put together.
#pragma once

#include "leases.h"
#include "run_table.h"
#include "runs.h"

namespace esg {

/// Everything known of a table's runs beside their rows.
struct Knowledge {
  Clock clock;
  bool standby = false;       ///< what only the primary knows is unknown here
  bool memory_alone = false;  ///< the rows of leases were not read: memory knows the lease
  TrackedRuns tracked;
  Leases leases;
  std::optional<core::Micros> life_began;
};

/// Gathers it: memory first, then the leases. Readers do so before they take the snapshot of the rows; who has locked the
/// rows does so after. `keys` as in RunFilter. `memory_alone`: of leases only what memory knows.
Knowledge gather_knowledge(const Guarded &g, Datum keys, const core::Question &question, bool memory_alone = false);

/// The same in two steps, of the runs of some scopes: those that are being started, before the rows are read; what memory and leases have
/// of the rows found, after it. Whose scope is just being changed has the new one in memory, and is found by its row. What is known late
/// is only newer: of a run that has ended meanwhile there may be nothing, and it does not matter any more.
Knowledge gather_of_scopes(const Guarded &g, const ScopeHashes &scopes, const core::Question &question);
void add_knowledge(const Guarded &g, const char *const *keys, int count, bool memory_alone, Knowledge *knowledge);

/// The same of one run, for who has just written its row: where memory knows the run's lease, from memory alone (which does not tell
/// that another incarnation of the worker has announced itself).
Knowledge gather_from_memory(const Guarded &g, const char *key, const core::Question &question);

/// Fills the evidence of a run from its row (already in `run`) and from what is known.
void add_evidence(const Guarded &g, const Knowledge &knowledge, Run *run);

/// The same, with the limits of its scope and the verdict.
void judge_run(const Guarded &g, const Knowledge &knowledge, const core::Question &question, Run *run);

/// The same by what memory knows alone. False, and nothing is judged, where it does not know all: what bears on the run, the rows of
/// leases and of passed over runs may tell.
bool judge_by_memory(const Guarded &g, const core::Question &question, Run *run);

/// Who holds a fence on the run of this token now: its pid, -1 for a prepared transaction, 0 for nobody. Waits for nothing.
int fence_holder(int64 token);

/// The prepared transaction that holds one; InvalidTransactionId where there is none (any more).
TransactionId prepared_fence_holder(int64 token);

/// A transaction-level lock on the run against fencing, for who closes it; false where a fence holds it. Waits for nothing.
bool lock_out_fence(int64 token);

}  // namespace esg
