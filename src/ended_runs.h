// The runs that have ended, counted by scope and status. What the overview shows and alerts go by.
#pragma once

#include "runs.h"

namespace esg {

/// The ended runs of one scope in one status that started within the longest span asked for.
struct EndedRuns {
  const char *scope;  ///< as jsonb prints it; null where the table has none
  const char *status;
  bool success;
  int64 *started;  ///< how many started within each of the spans
  std::optional<core::Micros> last_started;
  std::optional<core::Micros> last_ended;
};

struct EndedGroups {
  EndedRuns *items = nullptr;
  int count = 0;
};

/// Counts the ended runs that started within `spans` before now, the longest of which comes last; those of one scope stand one
/// after the other. None where the table has no start column. Works with the rights in force (see work_as); the cost follows
/// the runs that started within the longest span where the start column has an index.
EndedGroups read_ended(const Guarded &g, core::Micros now, const core::Micros *spans, int count);

/// The same of runs that started, or where no start is kept ended, within the spans. None where neither is kept.
EndedGroups read_ended_since(const Guarded &g, core::Micros now, const core::Micros *spans, int count);

}  // namespace esg
