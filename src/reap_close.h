// Closing runs that are locked and were found dead; and what the guard's triggers, which the closing UPDATE fires, know of it.
#pragma once

#include "journal.h"
#include "reap.h"

namespace esg {

/// The runs' keys, text[].
Datum keys_of(const Run *const *runs, int count);

/// What the journal says of a run that is reaped, or would be; `reason` in words.
Line line_of(const Guarded &g, const Run &run, const core::Question &question, const char *reason);

/// Closes locked, dead runs: the UPDATE as the owner or the caller, the journal as the extension's owner. Raises where
/// the table's own triggers kept a run from being closed.
void close_runs(const Guarded &g, const ReapCall &call, Run *const *runs, int count);

// ---- asked by the triggers ---------------------------------------------------------------------------------------------

/// Whether the UPDATE of close_runs is closing this run just now and has left no lease of it open. True once for each run: what
/// the table's own triggers make of it from then on, a lease of its own included, has to be ended like any other.
bool is_closed_without_lease(const Guarded &g, const char *key);

/// A change of status was judged. Where one makes a row of the table live while its runs are being closed, one of these may have been
/// set back, whose reaping the journal does not know yet.
void note_judged(const Guarded &g, core::StatusKind from, core::StatusKind to);

}  // namespace esg
