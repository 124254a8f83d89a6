// See suggest.h. Pure.

#include "core/suggest.h"

#include <algorithm>

#include "core/rhythm.h"

namespace esg::core {
namespace {

/// A span with the margin that a limit leaves above it.
Micros with_margin(Micros span) noexcept { return span < kLongestLimit / 3 * 2 ? span + span / 2 : kLongestLimit; }

Micros round_up(Micros span, Micros unit) noexcept { return (span + unit - 1) / unit * unit; }

}  // namespace

SpanFigures figures_of(const Micros *sorted, std::size_t count) noexcept {
  return {value_at_share(sorted, count, 0.5), value_at_share(sorted, count, 0.95), value_at_share(sorted, count, 0.99),
          value_at_share(sorted, count, 1)};
}

std::optional<Micros> needed_limit(const Micros *sorted, std::size_t count) noexcept {
  if (count == 0) return std::nullopt;
  if (count < kManyRuns) return with_margin(sorted[count - 1]);
  Micros covered = *value_at_share(sorted, count, kCoveredShare);
  for (const Micros *next = std::upper_bound(sorted, sorted + count, covered);
       next != sorted + count && *next <= with_margin(covered); ++next)
    covered = *next;
  return with_margin(covered);
}

Micros round_limit(Micros limit) noexcept {
  const Micros minutes = round_up(std::clamp(limit, kMinute, kLongestLimit), kMinute);
  if (minutes < 30 * kMinute) return minutes;
  const Micros five = round_up(minutes, 5 * kMinute);
  return five < 6 * kHour ? five : round_up(five, kHour);
}

std::size_t longer_than(const Micros *sorted, std::size_t count, Micros limit) noexcept {
  return static_cast<std::size_t>(sorted + count - std::upper_bound(sorted, sorted + count, limit));
}

double wrong_share(std::size_t longer, std::size_t sample) noexcept {
  return static_cast<double>(longer + 1) / static_cast<double>(sample + 2);
}

Replay replay(const Death *deaths, std::size_t count, Micros limit, Micros *buffer) noexcept {
  Replay result;
  for (const Death *death = deaths; death != deaths + count; ++death) {
    if (!death->measured) continue;
    const Micros sooner = *death->measured - limit;
    if (-sooner > death->ago) continue;  // its time has not come yet
    buffer[result.reaped++] = sooner;
  }
  std::sort(buffer, buffer + result.reaped);
  result.sooner = value_at_share(buffer, result.reaped, 0.5);
  return result;
}

}  // namespace esg::core
