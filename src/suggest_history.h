// The history that suggested limits are learned from: runs that were alive, with what each limit's rule would have looked at,
// and runs that the guard found dead. Read in the caller's process, with the rights in force; takes ACCESS SHARE on the
// table.
#pragma once

#include "set_limit.h"
#include "runs.h"

namespace esg {

/// Runs and reapings looked at, the newest ones.
constexpr int kMostPastRuns = 100'000;

/// A run that ended well, or that was reaped and turned out to be alive.
struct LivedRun {
  const char *scope;  ///< as jsonb prints it; "{}" where the table has none
  std::optional<core::Micros> measured[kLimits];
  bool by_gaps;  ///< its silence is the longest gap between its signs of life, not the time it took
};

/// A run that the guard reaped, or would have, which nothing has undone and nothing speaks against.
struct PastDeath {
  const char *scope;  ///< null: not known in the scope columns of today
  std::optional<core::Micros> measured[kLimits];
  core::Micros ago;
};

struct LimitHistory {
  LivedRun *runs = nullptr;
  int run_count = 0;
  PastDeath *deaths = nullptr;
  int death_count = 0;
};

/// Reads what is left of the time since `since`. `hidden`: row security applies to the caller, who learns nothing from the
/// journal. Call with the rights that work_as gives.
LimitHistory read_limit_history(const Guarded &g, core::Micros since, core::Micros now, bool hidden);

}  // namespace esg
