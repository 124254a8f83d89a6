// Exclusive scopes: one live run at a time.
#pragma once

#include "runs.h"

namespace esg {

/// Checks that the run may be live in its scope, and holds the scope for this transaction. Called after its row was written.
/// ERROR SY002 at once where another transaction is starting a run there or a live run holds it; a dead run does not count,
/// unless its writer's transaction, still open, holds the scope. Never waits. On a table that is only observed it takes no lock,
/// and the error is a WARNING.
void claim_scope(const Guarded &g, const RowFacts &facts);

/// The first step of it, for a run that starts: holds the scope. Before memory hears of the start, which those who are refused here
/// need not tell.
void hold_scope(const Guarded &g, const RowFacts &facts);

/// Lets memory know that a live run was not passed over, where that can be told: nobody is just starting a run of its scope.
/// After a start of the server memory does not know it of the runs that were there before. False: it was passed over.
bool make_sure_of_scope(const Guarded &g, const RowFacts &facts);

/// SQL condition on alias t: the row's scope overlaps this one. Columns with `any[i]` are not looked at (may be null).
char *overlap_condition(const Guarded &g, const core::Scope &scope, const bool *any);

/// The same for a filter, which is to find the runs that exclude others: its scope_condition with its values, `scopes` for memory.
void filter_by_overlap(const Guarded &g, const core::Scope &scope, const bool *any, RunFilter *filter);

}  // namespace esg
