// A suggested limit is longer than what it must be longer than, and its replay counts what a person would.

#include "core/suggest.h"

#include "spans.h"

namespace {

using namespace esg::core;
using esg::fuzz::Input;

void check_figures(const std::vector<Micros> &sorted) {
  const SpanFigures figures = figures_of(sorted.data(), sorted.size());
  CHECK(figures.longest.has_value() == !sorted.empty());
  if (sorted.empty()) return;
  CHECK(*figures.p50 <= *figures.p95 && *figures.p95 <= *figures.p99 && *figures.p99 <= *figures.longest);
  CHECK(*figures.longest == sorted.back());
}

/// With the margin of a half, as far as limits go.
Micros with_margin(Micros span) {
  Micros sum = 0;
  return __builtin_add_overflow(span, span / 2, &sum) ? kLongestLimit : std::min(sum, kLongestLimit);
}

void check_limit(const std::vector<Micros> &sorted) {
  const auto limit = needed_limit(sorted.data(), sorted.size());
  CHECK(limit.has_value() == !sorted.empty());
  if (!limit) return;
  const std::size_t longer = longer_than(sorted.data(), sorted.size(), *limit);
  CHECK(longer == sorted.size() - esg::fuzz::count_up_to(sorted, *limit));
  if (sorted.size() < kManyRuns) CHECK(*limit == with_margin(sorted.back()) && longer == 0);
  CHECK(longer * 200 <= sorted.size());
  // Nothing of the sample lies within its margin.
  Micros covered = 0;
  for (const Micros span : sorted)
    if (with_margin(span) <= *limit) covered = span;
  CHECK(with_margin(covered) == *limit);
  for (const Micros span : sorted) CHECK(span <= covered || span > *limit);
  const double wrong = wrong_share(longer, sorted.size());
  CHECK(wrong > 0 && wrong < 1);
}

void check_rounding(Micros limit) {
  const Micros rounded = round_limit(limit);
  CHECK(rounded >= std::min(limit, kLongestLimit));
  CHECK(rounded >= kMinute && rounded % kMinute == 0);
  CHECK(round_limit(rounded) == rounded);
  if (rounded > 30 * kMinute) CHECK(rounded % (5 * kMinute) == 0);
  if (rounded > 6 * kHour) CHECK(rounded % kHour == 0);
  if (rounded > limit && limit >= kMinute) CHECK(rounded - limit < (rounded > 6 * kHour ? 2 * kHour : 10 * kMinute));
}

void check_replay(Input &input) {
  std::vector<Death> deaths;
  std::vector<Micros> sooner;
  const Micros limit = input.in(1, INT64_MAX);
  for (int n = input.below(20); n > 0; --n) {
    deaths.push_back({input.maybe([&] { return input.span(); }), input.span()});
    const Death &death = deaths.back();
    // Reaped by now: as long as it was silent until it was reaped, and since.
    if (death.measured && *death.measured >= limit - death.ago) sooner.push_back(*death.measured - limit);
  }
  std::vector<Micros> buffer(deaths.size());
  const Replay replayed = replay(deaths.data(), deaths.size(), limit, buffer.data());
  CHECK(replayed.reaped == sooner.size());
  CHECK(replayed.sooner.has_value() == !sooner.empty());
  if (sooner.empty()) return;
  std::sort(sooner.begin(), sooner.end());
  CHECK(*replayed.sooner == sooner[(sooner.size() - 1) / 2]);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Input input(data, size);
  check_rounding(input.micros());
  check_replay(input);
  std::vector<Micros> sample = esg::fuzz::draw_sample(input, 0, kLongestLimit);
  std::sort(sample.begin(), sample.end());
  check_figures(sample);
  check_limit(sample);
  return 0;
}
