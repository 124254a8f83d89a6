// What is expected of live runs: how fast they go and when they may end, by their own progress and by what is usual in their
// scope (core/progress, rhythms).
#pragma once

#include "core/progress.h"
#include "rhythms.h"

namespace esg {

/// The rhythms of the scopes of these runs.
Rhythms rhythms_of_runs(const Guarded &g, const Runs &runs);

/// What is expected of a run; of a dead or a suspect one no end.
core::Expectation expectation_of(const Guarded &g, const Run &run, const Rhythms &rhythms, core::Micros now);

/// In blocks where both the database and the client have them, else in ASCII: a block that the client's encoding lacks would
/// make the statement fail.
core::BarStyle bar_style();

}  // namespace esg
