// Reapings that were mistakes, as the journal tells: the run turned out to have been alive. What guard_health advises by and
// alerts count.
#pragma once

#include "settings.h"

namespace esg {

/// One reaping that was a mistake. Spans are in seconds.
struct Mistake {
  const char *verdict;
  const char *scope_text;  ///< for people; null where the table had no scope columns
  const Jsonb *scope;
  double measured;               ///< what the rule had measured
  double limit;                  ///< what it was compared with
  std::optional<double> needed;  ///< how long a limit it would have needed, as far as the run's own signs tell
  core::Micros noticed;          ///< when it last turned out so
};

struct Mistakes {
  Mistake *items = nullptr;
  uint64 count = 0;
};

/// The mistakes of a table that were noticed since, in the current memory context; those of one verdict and scope one after
/// the other, most frequent first. Reads the journal as the extension's owner.
Mistakes read_mistakes(const Guarded &g, core::Micros since);

}  // namespace esg
