// Closing the runs of sessions that died: one background worker on demand per (database, owner of tables).
//
// Who asks counts up `requested` and starts a worker where none is under way. The worker serves until `served` has caught up
// and goes away; both are counted under one lock, so that no request is lost between its last look and its end. A request
// unanswered for seconds is asked again by the next caller: that a worker was registered is no receipt that it runs.
#pragma once

#include "pg/prelude.h"

namespace esg {

/// Asks for the runs of this owner's tables to be looked at. With `sweep` every dead run of them (what a stranger could not
/// close in the owner's name), else those whose sessions have ended. Safe in an exit callback.
void request_worker(Oid database, Oid owner, bool sweep) noexcept;

/// Asks again for what has waited for too long, in this database.
void ask_again() noexcept;

struct WorkerState {
  int64 requested;     ///< in this life of the server
  int64 started;       ///< workers that came to run
  int64 refused;       ///< times that no slot for a worker was free
  int64 last_refused;  ///< monotonic; 0: never
  int open;            ///< owners whose requests are not answered yet, in this database
  int64 oldest_open;   ///< monotonic; 0: none
};
WorkerState worker_state();

// ---- shared memory (server_life) ----------------------------------------------------------------------------------------
Size worker_requests_size();
void worker_requests_attach();

}  // namespace esg
