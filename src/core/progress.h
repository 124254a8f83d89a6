// Progress: how fast a run goes, when it may be expected to end, and how that is drawn and written in little room. Pure.
#pragma once

#include "core/wall.h"

namespace esg::core {

/// What is known of a run's progress, and of what is usual in its scope.
struct ProgressFacts {
  Micros now = 0;
  std::optional<Micros> started;
  std::optional<Micros> progress_changed;  ///< when `done` last moved, where that is known
  std::optional<std::int64_t> done;
  std::optional<std::int64_t> total;
  std::optional<Micros> usual_duration;
  std::optional<Micros> long_duration;
};

enum class ExpectedBy : std::uint8_t { kNothing, kOwnRate, kUsualDuration };

struct Expectation {
  std::optional<double> rate;  ///< per second, greater than 0
  std::optional<Micros> end;   ///< never before now
  ExpectedBy by = ExpectedBy::kNothing;
};

/// The rate is what is done by the time from the start to when progress last moved (else to now); within the first second
/// there is none. Where something but not all is done, the end follows from it: from when progress last moved on, at this
/// rate; once that is past, from now on, at the rate that counts the time since. Else the end is the start and the usual
/// duration, or the long one where that is past, or nothing. An end more than ten years away is none.
[[nodiscard]] Expectation expect(const ProgressFacts &facts) noexcept;

/// "own rate", "usual duration"; null for nothing.
[[nodiscard]] const char *expected_by_name(ExpectedBy by) noexcept;

/// How many digits after the point show a rate: four that count, none after the point from 1000 on.
[[nodiscard]] int rate_digits(double rate) noexcept;

/// done of total, 0 to 1; absent where it cannot be said.
[[nodiscard]] std::optional<double> share_done(const std::optional<std::int64_t> &done,
                                               const std::optional<std::int64_t> &total) noexcept;

/// With eighths of a cell in blocks of UTF-8 ("███▍░░"), or in ASCII ("###...").
enum class BarStyle : std::uint8_t { kBlocks, kPlain };

/// A bar of `cells` cells. It is full only where all is done, and, in eighths, empty only where nothing is. `out` needs 3
/// bytes per cell and one more; what does not fit is left out, a cell at a time. Returns `out`.
char *draw_bar(double share, int cells, BarStyle style, char *out, std::size_t size) noexcept;

/// Whether a unit below the largest is written where it is 0: figures that run stand still so, limits read better without.
enum class Zeros : std::uint8_t { kShow, kDrop };

/// A span in at most `width` (4 or more) characters, in two units where they fit: "45s", "2h05m", "400d", "-3m". One that
/// does not fit at all is ">999d", "-long" or "+++".
char *short_span(Micros span, int width, Zeros zeros, char *out, std::size_t size) noexcept;

/// A number in at most 4 characters (5 with a sign), its last digits cut off, not rounded: "1999", "19k", "1.9M", "9.2E".
char *short_count(double count, char *out, std::size_t size) noexcept;

/// A rate in at most 6 characters, by the second, minute, hour or day: "1200/s", "12k/s", "35/m".
char *short_rate(double rate, char *out, std::size_t size) noexcept;

/// "7%", in at most 4 characters; "100%" only where all is done, or more than all.
char *short_percent(double share, char *out, std::size_t size) noexcept;

}  // namespace esg::core
