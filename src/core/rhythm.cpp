// Quantiles by rank: what they give is a span that was, never one in between. Pure; see rhythm.h.

#include "core/rhythm.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace esg::core {
namespace {

constexpr double kMedian = 0.5;
constexpr double kLongShare = 0.95;

/// From so many gaps on, this many of the longest are taken for outliers.
struct Outliers {
  std::size_t gaps;
  std::size_t left_out;
};
constexpr Outliers kOutliers[] = {{50, 2}, {20, 1}, {1, 0}};
/// Outliers are at most so many times as long as all other gaps together.
constexpr Micros kMostTimes = 3;

}  // namespace

std::optional<Micros> value_at_share(const Micros *sorted, std::size_t count, double share) noexcept {
  if (count == 0) return std::nullopt;
  // Less a little: 0.95 * 20 is a hair more than 19 in binary.
  const double rank = std::ceil(share * static_cast<double>(count) - 1e-6);
  return sorted[std::min(static_cast<std::size_t>(std::max(rank, 1.0)), count) - 1];
}

std::optional<Micros> long_gap(const Micros *sorted, std::size_t count) noexcept {
  if (count == 0) return std::nullopt;
  for (const Outliers &line : kOutliers) {
    if (count < line.gaps) continue;
    const Micros *left_out = sorted + count - line.left_out;
    const Micros of_them = std::accumulate(left_out, sorted + count, Micros{0});
    const Micros of_others = std::accumulate(sorted, left_out, Micros{0});
    if (of_them / kMostTimes <= of_others) return left_out[-1];
  }
  return sorted[count - 1];
}

Usual usual_of_durations(Micros *durations, std::size_t count) noexcept {
  std::sort(durations, durations + count);
  return {value_at_share(durations, count, kMedian), value_at_share(durations, count, kLongShare)};
}

Usual usual_of_gaps(Micros *completions, std::size_t count) noexcept {
  if (count < 2) return {};
  for (std::size_t i = 0; i + 1 < count; ++i) completions[i] = completions[i + 1] - completions[i];
  std::sort(completions, completions + count - 1);
  return {value_at_share(completions, count - 1, kMedian), long_gap(completions, count - 1)};
}

}  // namespace esg::core
