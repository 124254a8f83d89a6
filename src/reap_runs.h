// Reaping the runs of one table that were found dead.
#pragma once

#include "reap.h"

namespace esg {

/// What a call has come to so far.
struct Tally {
  int64 reaped = 0;
  int64 observed = 0;
  int64 locked = 0;
  int64 failed = 0;
  int failed_in_a_row = 0;
  int64 left = 0;           ///< of failed: not tried alone
  bool hand_over = false;   ///< some could not be closed in the owner's name by who is not he
  int64 leased = 0;         ///< of reaped, with a lease: each has taken a lock of its own to the end of the transaction
  int64 no_room = 0;        ///< left, for that would be too many locks
  core::Micros waited = 0;  ///< in tries that ended because a lock was not to be had
  int64 rows_read = 0;      ///< in this batch: rows that were locked, and how long their JSON is in all
  int64 bytes_read = 0;
};

/// Makes locks that are waited for give up after `wait`; a lock_timeout of the caller's own that is shorter stays. Undone
/// with AtEOXact_GUC(false, level).
int limit_lock_waits(core::Micros wait);

/// Closes what is dead, in batches.
void reap_dead(const Guarded &g, const ReapCall &call, const Runs &dead, Tally *tally);

/// Observing: one would_reap line per dead run that has none yet.
void observe(const Guarded &g, const ReapCall &call, const Runs &dead, Tally *tally);

}  // namespace esg
