// Estimates in double, which has digits enough: none is exact to a second. Pure; see progress.h.

#include "core/progress.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace esg::core {
namespace {

constexpr double kFarthest = 3650.0 * static_cast<double>(kDay);
/// What is done in less time tells no rate: a run may begin with a count that another left.
constexpr double kLeastWorked = static_cast<double>(kSecond);
constexpr int kEighths = 8;

/// Between two instants of any origin, however far apart.
double span_between(Micros from, Micros to) noexcept { return static_cast<double>(to) - static_cast<double>(from); }

/// An instant that is not before now, nor too far away to be told.
std::optional<Micros> ahead(Micros now, Micros from, double span) noexcept {
  const double away = span_between(now, from) + span;
  if (!(away >= 0) || away > kFarthest) return std::nullopt;
  return now + static_cast<Micros>(away);
}

/// When the rest is done, at `rate` per microsecond since progress last moved.
std::optional<Micros> end_by_rate(const ProgressFacts &facts, double rate, Micros moved) noexcept {
  const double rest = static_cast<double>(*facts.total) - static_cast<double>(*facts.done);
  if (span_between(moved, facts.now) <= rest / rate) return ahead(facts.now, moved, rest / rate);
  return ahead(facts.now, facts.now, rest * span_between(*facts.started, facts.now) / static_cast<double>(*facts.done));
}

/// Copies a symbol where it fits.
char *put(char *at, const char *end, const char *symbol) noexcept {
  const std::size_t length = std::strlen(symbol);
  if (static_cast<std::size_t>(end - at) <= length) return at;
  std::memcpy(at, symbol, length);
  return at + length;
}

struct Unit {
  Micros span;
  char name;
};
constexpr Unit kUnits[] = {{kDay, 'd'}, {kHour, 'h'}, {kMinute, 'm'}, {kSecond, 's'}};

/// One or two units of a span that is not negative. False: it did not fit.
bool write_units(std::uint64_t us, const char *sign, int from, bool two, int width, char *out,
                 std::size_t size) noexcept {
  const auto big = static_cast<std::uint64_t>(kUnits[from].span);
  const auto whole = static_cast<unsigned long long>(us / big);
  int length;
  if (two) {
    const auto small = static_cast<std::uint64_t>(kUnits[from + 1].span);
    length = std::snprintf(out, size, "%s%llu%c%02llu%c", sign, whole, kUnits[from].name,
                           static_cast<unsigned long long>(us % big / small), kUnits[from + 1].name);
  } else {
    length = std::snprintf(out, size, "%s%llu%c", sign, whole, kUnits[from].name);
  }
  return length <= width;
}

}  // namespace

Expectation expect(const ProgressFacts &facts) noexcept {
  Expectation expectation;
  if (!facts.started) return expectation;
  Micros moved = facts.now;
  if (facts.progress_changed && *facts.progress_changed > *facts.started)
    moved = std::min(moved, *facts.progress_changed);
  const double worked = span_between(*facts.started, moved);
  if (facts.done && *facts.done > 0 && worked >= kLeastWorked) {
    const double rate = static_cast<double>(*facts.done) / worked;
    expectation.rate = rate * static_cast<double>(kSecond);
    if (facts.total && *facts.done < *facts.total) expectation.end = end_by_rate(facts, rate, moved);
    if (expectation.end) expectation.by = ExpectedBy::kOwnRate;
  }
  for (const auto &duration : {facts.usual_duration, facts.long_duration}) {
    if (expectation.end || !duration) continue;
    expectation.end = ahead(facts.now, *facts.started, static_cast<double>(*duration));
    if (expectation.end) expectation.by = ExpectedBy::kUsualDuration;
  }
  return expectation;
}

const char *expected_by_name(ExpectedBy by) noexcept {
  switch (by) {
    case ExpectedBy::kOwnRate: return "own rate";
    case ExpectedBy::kUsualDuration: return "usual duration";
    case ExpectedBy::kNothing: break;
  }
  return nullptr;
}

int rate_digits(double rate) noexcept {
  if (!(rate > 0)) return 0;
  return std::clamp(3 - static_cast<int>(std::floor(std::log10(rate))), 0, 12);
}

std::optional<double> share_done(const std::optional<std::int64_t> &done,
                                 const std::optional<std::int64_t> &total) noexcept {
  if (!done || !total || *total <= 0) return std::nullopt;
  return static_cast<double>(*done) / static_cast<double>(*total);
}

char *draw_bar(double share, int cells, BarStyle style, char *out, std::size_t size) noexcept {
  static constexpr const char *kPart[kEighths + 1] = {"░", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"};
  if (size == 0) return out;
  cells = std::max(cells, 0);
  const int parts = style == BarStyle::kBlocks ? kEighths : 1;
  int filled = 0;
  if (share >= 1) filled = cells * parts;
  else if (share > 0) filled = std::min(static_cast<int>(share * cells * parts), cells * parts - 1);
  if (share > 0 && filled == 0 && style == BarStyle::kBlocks && cells > 0) filled = 1;
  char *at = out;
  for (int cell = 0; cell < cells; ++cell) {
    const int part = std::clamp(filled - cell * parts, 0, parts);
    const char *symbol = style == BarStyle::kBlocks ? kPart[part] : part > 0 ? "#" : ".";
    char *const next = put(at, out + size, symbol);
    if (next == at) break;
    at = next;
  }
  *at = '\0';
  return out;
}

char *short_span(Micros span, int width, Zeros zeros, char *out, std::size_t size) noexcept {
  const char *sign = span < 0 ? "-" : "";
  std::uint64_t us = span < 0 ? 0 - static_cast<std::uint64_t>(span) : static_cast<std::uint64_t>(span);
  if (us < static_cast<std::uint64_t>(kSecond)) sign = "";
  int from = 0;
  while (from < 3 && us < static_cast<std::uint64_t>(kUnits[from].span)) ++from;
  const auto has_rest = [us](int unit) {
    return us % static_cast<std::uint64_t>(kUnits[unit].span) / static_cast<std::uint64_t>(kUnits[unit + 1].span) != 0;
  };
  const bool two = from < 3 && (zeros == Zeros::kShow || has_rest(from));
  if (two && write_units(us, sign, from, true, width, out, size)) return out;
  if (write_units(us, sign, from, false, width, out, size)) return out;
  std::snprintf(out, size, "%s", width < 5 ? "+++" : span < 0 ? "-long" : ">999d");
  return out;
}

char *short_count(double count, char *out, std::size_t size) noexcept {
  static constexpr char kNames[] = "kMGTPE";
  const char *sign = count < 0 ? "-" : "";
  double value = std::floor(std::fabs(count));
  if (value < 10'000) {
    std::snprintf(out, size, "%s%.0f", sign, value);
    return out;
  }
  int unit = 0;
  for (value /= 1000; value >= 1000 && kNames[unit + 1] != '\0'; ++unit) value /= 1000;
  if (!(value < 1000)) std::snprintf(out, size, "%s+++", sign);
  else if (value < 10) std::snprintf(out, size, "%s%.1f%c", sign, std::floor(value * 10) / 10, kNames[unit]);
  else std::snprintf(out, size, "%s%.0f%c", sign, std::floor(value), kNames[unit]);
  return out;
}

char *short_rate(double rate, char *out, std::size_t size) noexcept {
  static constexpr struct {
    double seconds;
    char name;
  } kPer[] = {{1, 's'}, {60, 'm'}, {3600, 'h'}, {86400, 'd'}};
  int per = 0;
  while (per < 3 && rate * kPer[per].seconds < 1) ++per;
  const double value = rate * kPer[per].seconds;
  char number[16];
  if (value < 9.95) std::snprintf(number, sizeof number, "%.1f", value);
  else short_count(std::round(value), number, sizeof number);
  std::snprintf(out, size, "%s/%c", number, kPer[per].name);
  return out;
}

char *short_percent(double share, char *out, std::size_t size) noexcept {
  if (!(share >= 0)) std::snprintf(out, size, "<0%%");
  else std::snprintf(out, size, "%d%%", static_cast<int>(std::min(share, 1.0) * 100 + 1e-9));
  return out;
}

}  // namespace esg::core
