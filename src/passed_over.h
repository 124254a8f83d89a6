// The rows of sync_guard.passed_over: the durable side of what memory knows of dead runs whose exclusive scope another has taken
// (Tracked::passed_over). After a start of the server, and without memory, they alone keep such a run from being believed again.
#pragma once

#include "runs.h"

namespace esg {

/// Notes that a starter of their scope has taken these runs for dead; those that are noted stay as they are. In the transaction
/// of the starter, whose run takes their place when it commits. WARNING where it cannot be done.
void note_passed_over(const Guarded &g, const char *const *keys, int count);

/// The run has its scope, or has ended.
void forget_passed_over(const Guarded &g, const char *key);

/// Forgets those of a table whose run is not among the live ones, all of which were read at `looked_at` or later; all where it is not
/// exclusive any more. For sweeps.
void settle_passed_over(const Guarded &g, const Runs &live, core::Micros looked_at);

/// Whether there is a row of the run.
bool is_noted_as_passed_over(const Guarded &g, const char *key);

/// Whether the run was passed over, by what memory tells or else its row.
bool is_passed_over(const Guarded &g, const Run &run);

/// Puts into the evidence of live runs that they were passed over, where memory cannot tell, and judges those again.
void look_for_passing_over(const Guarded &g, const core::Question &question, Run *runs, int count);

}  // namespace esg
