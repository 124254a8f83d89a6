// What shared memory observed of runs that have ended: how long they were silent at most, how long their progress stood still.
// An ending run leaves it in a ring in shared memory (nothing is written in the application's statement); the sweep takes it
// into sync_guard.observed_gaps, where suggested limits are learned from.
//
// Only runs that finished and that memory knew from start to end, under a key that it has in full: a limit learned from half a
// run would be too short. Without shared memory there is nothing to note and nothing to take in.
#pragma once

#include "run_table.h"
#include "settings.h"

namespace esg {

/// Notes a run whose end has committed, where it is one to be noted. Under a partition's lock: stores alone, no allocation, no
/// error. The oldest note gives way.
void note_gaps(const Tracked &run) noexcept;

/// Brings the notes on this table into sync_guard.observed_gaps; drops the oldest lines of it past 10000. For sweeps. Notes
/// stay where the sweep is rolled back, and those that another sweep is taking in are left to it.
void take_in_gaps(const Guarded &g);

// ---- shared memory (server_life) ---------------------------------------------------------------------------------------------
Size gaps_size();
/// Makes or finds the ring; called with AddinShmemInitLock held.
void gaps_attach();

}  // namespace esg
