// Suggested limits: which limit would fit spans that live runs took, and what it would have done to those that died. Pure:
// works on the caller's buffers.
//
// Measured is, of each run that was alive, what the limit's rule would have looked at: for max_silence its longest silence, for
// max_age how long it took, for max_stall how long its progress stood still. A limit must be longer than all of these but
// for mistakes of the record, with a margin of half for the slow day that has not come yet:
//
// * Of a sample under kManyRuns: the longest. A quantile near the end of a small sample is one of its largest values anyway, and
//   it is by chance whether the slow day is among them.
// * Of more: the 99.5th percentile, and from there upward as long as the next longer one is within the margin. So the limit is the
//   least that leaves nothing of the sample within its margin: a tail that thins out is covered to its end, and what is
//   left beyond a gap (a run that somebody completed by hand days later) is one in two hundred at most. The percentile alone
//   would reap one live run in two hundred of every table whose durations have a tail.
//
// A live run that is reaped costs its work, a dead one that is reaped later costs a wait: where there is doubt, the
// suggestion is the longer one.
#pragma once

#include "core/wall.h"

namespace esg::core {

/// Samples under this suggest nothing.
constexpr std::size_t kLeastSample = 5;
/// From this many runs on outliers may be left out.
constexpr std::size_t kManyRuns = 200;
/// The share of a large sample that a limit covers in any case.
constexpr double kCoveredShare = 0.995;
/// What no limit is above, however long a history says that a run took: whole hours that can still be rounded up.
constexpr Micros kLongestLimit = (INT64_MAX / kHour - 1) * kHour;

/// What a sample says of itself; absent where it is empty.
struct SpanFigures {
  std::optional<Micros> p50, p95, p99, longest;
};

/// Figures of `count` spans, sorted, shortest first. What they give is a span that was, never one in between.
[[nodiscard]] SpanFigures figures_of(const Micros *sorted, std::size_t count) noexcept;

/// The limit that a sample needs, margin included, not rounded; absent where the sample is empty. `sorted` as above.
[[nodiscard]] std::optional<Micros> needed_limit(const Micros *sorted, std::size_t count) noexcept;

/// Up to a figure that a person would choose: whole minutes, at least one; from half an hour on 5 minutes; from 6 hours on whole
/// hours.
[[nodiscard]] Micros round_limit(Micros limit) noexcept;

/// How many of the sample are longer than the limit: live runs that it would have reaped. `sorted` as above.
[[nodiscard]] std::size_t longer_than(const Micros *sorted, std::size_t count, Micros limit) noexcept;

/// The share of live runs to come that are expected to be longer than a limit which `longer` of `sample` were longer than:
/// Laplace's rule of succession, so that a small sample never says zero.
[[nodiscard]] double wrong_share(std::size_t longer, std::size_t sample) noexcept;

/// A run that was dead when it was reaped, as a limit's rule saw it then.
struct Death {
  std::optional<Micros> measured;  ///< what the rule measured when it was reaped; absent: the rule did not apply to it
  Micros ago;                      ///< how long ago that was
};

/// What a limit would have made of the dead.
struct Replay {
  std::size_t reaped = 0;        ///< how many it would have reaped by now
  std::optional<Micros> sooner;  ///< median of how much sooner than they were; negative: later; absent: none reaped
};

/// Replays `count` deaths. `buffer` has room for as many spans.
[[nodiscard]] Replay replay(const Death *deaths, std::size_t count, Micros limit, Micros *buffer) noexcept;

}  // namespace esg::core
