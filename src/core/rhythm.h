// Rhythms: what is usual among durations, and among the times between completions. Pure: works on the caller's buffers.
#pragma once

#include "core/wall.h"

namespace esg::core {

/// What is usual of some spans; absent where there are none.
struct Usual {
  std::optional<Micros> usual;
  std::optional<Micros> long_one;
};

/// The smallest of `count` sorted spans that at least `share` (0 to 1) of them do not exceed; absent where there are none.
[[nodiscard]] std::optional<Micros> value_at_share(const Micros *sorted, std::size_t count, double share) noexcept;

/// The longest of `count` sorted gaps but for outliers (a server that was down, a holiday): the third longest of 50 or
/// more, the second of 20 or more, else the longest; absent where there are none. Gaps that make up more than three quarters
/// of the time are no outliers but what lies between batches.
[[nodiscard]] std::optional<Micros> long_gap(const Micros *sorted, std::size_t count) noexcept;

/// Median and 95th percentile of durations. Sorts them.
[[nodiscard]] Usual usual_of_durations(Micros *durations, std::size_t count) noexcept;

/// Median and long_gap of the times from one completion to the next. `completions` are sorted, oldest first; their gaps
/// take their place.
[[nodiscard]] Usual usual_of_gaps(Micros *completions, std::size_t count) noexcept;

}  // namespace esg::core
