// The report's arithmetic: steps of an axis, columns of a timeline, what cannot be told apart there, quantiles.
//
// Local times are microseconds since 2000-01-01 00:00 of a calendar without a zone; the caller turns instants into them.
#pragma once

#include "core/wall.h"

namespace esg::core {

/// What became of a run, from good to bad: of several that fall together the worst one is shown.
enum class Outcome : std::uint8_t { kCompleted, kRunning, kFailed, kReaped, kStuck };
constexpr int kOutcomes = 5;

[[nodiscard]] const char *outcome_name(Outcome outcome) noexcept;

// ---- axes ---------------------------------------------------------------------------------------

/// A step of a time axis: a span, or months of the calendar.
struct Step {
  Micros span = 0;
  int months = 0;  ///< not 0: span is about what they last
};

/// The smallest usual step, not below `least`, of which `window` holds at most `most`; beyond the usual ones, centuries.
[[nodiscard]] Step usual_step(Micros window, int most, Micros least = 0) noexcept;

/// The last boundary at or before a local time; weeks begin on Monday.
[[nodiscard]] Micros step_floor(const Step &step, Micros local) noexcept;

/// The boundary after this one.
[[nodiscard]] Micros step_after(const Step &step, Micros boundary) noexcept;

/// Where an axis of shares ends that has to show this one: 5, 10, 25, 50 or 100 percent.
[[nodiscard]] double share_ceiling(double share) noexcept;

/// The value below which `share` of the values lie, interpolated as percentile_cont() does; values sorted, count not 0.
[[nodiscard]] double quantile(const Micros *sorted, std::size_t count, double share) noexcept;

// ---- timeline -----------------------------------------------------------------------------------

struct RunSpan {
  Micros begin = 0;
  Micros end = 0;
  Outcome outcome = Outcome::kCompleted;
};

/// A window of time, of at most a century, cut into at most a thousand columns, of about a pixel each.
struct Columns {
  Micros begin = 0;
  Micros end = 1;
  int count = 1;

  /// The column of an instant; of one outside the window the first or the last.
  [[nodiscard]] int of(Micros instant) const noexcept;
  /// An instant's place in the window, from 0 to 1.
  [[nodiscard]] double place(Micros instant) const noexcept;
};

/// Runs of one lane that begin in the same column and end in the same column.
struct Bar {
  Micros begin = 0;
  Micros end = 0;
  int first = 0;
  int last = 0;
  int counts[kOutcomes] = {};
  std::size_t run = 0;  ///< the first run with the worst outcome
  int track = 0;

  [[nodiscard]] int runs() const noexcept;
  [[nodiscard]] Outcome worst() const noexcept;
};

/// Joins runs, in the order of their begin, into bars in the same order; room for one bar per run is needed. Returns their
/// number.
std::size_t merge_runs(const RunSpan *runs, std::size_t count, const Columns &columns, Bar *bars) noexcept;

constexpr int kEndedTracks = 3;
constexpr int kOtherTracks = 5;

/// Gives each bar a track, so that no two on one track overlap in time: first the bars of completed and failed runs, so that
/// their rhythm stays on one line where it can, then, on tracks of their own, those of runs that go on, are stuck or were
/// reaped. Where the tracks do not suffice, a bar goes where it overlaps least. Returns the number of tracks used.
int place_on_tracks(Bar *bars, std::size_t count) noexcept;

}  // namespace esg::core
