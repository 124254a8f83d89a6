// The report's arithmetic. See report_scale.h.

#include "core/report_scale.h"

#include <cmath>

namespace esg::core {
namespace {

constexpr Micros kMillisecond = 1000;
constexpr Micros kMonth = 30 * kDay;

constexpr Step kSteps[] = {
    {kMillisecond, 0},
    {2 * kMillisecond, 0},
    {5 * kMillisecond, 0},
    {10 * kMillisecond, 0},
    {20 * kMillisecond, 0},
    {50 * kMillisecond, 0},
    {100 * kMillisecond, 0},
    {200 * kMillisecond, 0},
    {kSecond / 2, 0},
    {kSecond, 0},
    {2 * kSecond, 0},
    {5 * kSecond, 0},
    {10 * kSecond, 0},
    {15 * kSecond, 0},
    {30 * kSecond, 0},
    {kMinute, 0},
    {2 * kMinute, 0},
    {5 * kMinute, 0},
    {10 * kMinute, 0},
    {15 * kMinute, 0},
    {30 * kMinute, 0},
    {kHour, 0},
    {2 * kHour, 0},
    {3 * kHour, 0},
    {6 * kHour, 0},
    {12 * kHour, 0},
    {kDay, 0},
    {2 * kDay, 0},
    {7 * kDay, 0},
    {14 * kDay, 0},
    {kMonth, 1},
    {3 * kMonth, 3},
    {6 * kMonth, 6},
    {12 * kMonth, 12},
    {24 * kMonth, 24},
    {60 * kMonth, 60},
    {120 * kMonth, 120},
    {300 * kMonth, 300},
    {600 * kMonth, 600},
    {1200 * kMonth, 1200},
};

/// From 2000-01-01, a Saturday, to the Monday that weeks are counted from.
constexpr Micros kFirstMonday = 2 * kDay;

Micros floor_div(Micros a, Micros b) { return a / b - (a % b < 0 ? 1 : 0); }

/// Days from 2000-01-01 to the first of a month, which is counted from January 2000. (The usual arithmetic of the Gregorian
/// calendar: years that begin in March, eras of 400 of them.)
Micros days_to_month(Micros month) {
  const Micros from_march = month - 2 + Micros{2000} * 12;
  const Micros year = floor_div(from_march, 12);
  const Micros era = floor_div(year, 400);
  const Micros year_of_era = year - era * 400;
  const Micros day_of_year = (153 * (from_march - year * 12) + 2) / 5;
  return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 730425;
}

/// The month of a day, counted from January 2000.
Micros month_of(Micros day) {
  Micros month = floor_div(day * 4800, 146097);
  while (days_to_month(month) > day) --month;
  while (days_to_month(month + 1) <= day) ++month;
  return month;
}

bool has_ended_by_itself(const Bar &bar) {
  return bar.worst() == Outcome::kCompleted || bar.worst() == Outcome::kFailed;
}

/// Places the bars of one kind on at most `most` (up to 8) tracks from `from` on; returns how many it used.
int place(Bar *bars, std::size_t count, bool ended, int from, int most) {
  Micros ends[8];
  int used = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (has_ended_by_itself(bars[i]) != ended) continue;
    int track = 0;
    while (track < used && ends[track] > bars[i].begin) ++track;
    if (track == most) {
      track = 0;
      for (int other = 1; other < most; ++other)
        if (ends[other] < ends[track]) track = other;
    }
    if (track == used) ends[used++] = bars[i].end;
    else if (bars[i].end > ends[track]) ends[track] = bars[i].end;
    bars[i].track = from + track;
  }
  return used;
}

}  // namespace

const char *outcome_name(Outcome outcome) noexcept {
  switch (outcome) {
    case Outcome::kCompleted: return "completed";
    case Outcome::kRunning: return "running";
    case Outcome::kFailed: return "failed";
    case Outcome::kReaped: return "reaped";
    case Outcome::kStuck: return "stuck";
  }
  return "";
}

Step usual_step(Micros window, int most, Micros least) noexcept {
  for (const Step &step : kSteps)
    if (step.span >= least && window / step.span < most) return step;
  Step step = kSteps[sizeof kSteps / sizeof *kSteps - 1];
  while (window / step.span >= most) step = {2 * step.span, 2 * step.months};
  return step;
}

Micros step_floor(const Step &step, Micros local) noexcept {
  if (step.months > 0) {
    const Micros month = month_of(floor_div(local, kDay));
    return days_to_month(floor_div(month, step.months) * step.months) * kDay;
  }
  const Micros origin = step.span % (7 * kDay) == 0 ? kFirstMonday : 0;
  return origin + floor_div(local - origin, step.span) * step.span;
}

Micros step_after(const Step &step, Micros boundary) noexcept {
  if (step.months == 0) return boundary + step.span;
  return days_to_month(month_of(floor_div(boundary, kDay)) + step.months) * kDay;
}

double share_ceiling(double share) noexcept {
  for (const double ceiling : {0.05, 0.10, 0.25, 0.50})
    if (share <= ceiling) return ceiling;
  return 1;
}

double quantile(const Micros *sorted, std::size_t count, double share) noexcept {
  const double place = share * static_cast<double>(count - 1);
  const auto below = static_cast<std::size_t>(std::floor(place));
  if (below + 1 >= count) return static_cast<double>(sorted[count - 1]);
  const auto low = static_cast<double>(sorted[below]);
  return low + (static_cast<double>(sorted[below + 1]) - low) * (place - std::floor(place));
}

double Columns::place(Micros instant) const noexcept {
  if (instant <= begin) return 0;
  if (instant >= end) return 1;
  return static_cast<double>(instant - begin) / static_cast<double>(end - begin);
}

int Columns::of(Micros instant) const noexcept {
  if (instant <= begin) return 0;
  if (instant >= end) return count - 1;
  return static_cast<int>((instant - begin) * count / (end - begin));
}

int Bar::runs() const noexcept {
  int sum = 0;
  for (const int n : counts) sum += n;
  return sum;
}

Outcome Bar::worst() const noexcept {
  for (int i = kOutcomes - 1; i > 0; --i)
    if (counts[i] > 0) return static_cast<Outcome>(i);
  return Outcome::kCompleted;
}

std::size_t merge_runs(const RunSpan *runs, std::size_t count, const Columns &columns, Bar *bars) noexcept {
  std::size_t written = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const RunSpan &run = runs[i];
    const int first = columns.of(run.begin);
    const int last = columns.of(run.end);
    Bar *bar = nullptr;
    for (std::size_t back = written; back > 0 && bars[back - 1].first == first && bar == nullptr; --back)
      if (bars[back - 1].last == last) bar = &bars[back - 1];
    if (bar == nullptr) {
      bar = &bars[written++];
      *bar = Bar{};
      bar->begin = run.begin;
      bar->end = run.end;
      bar->first = first;
      bar->last = last;
      bar->run = i;
    }
    if (bar->runs() > 0 && run.outcome > bar->worst()) bar->run = i;
    if (run.end > bar->end) bar->end = run.end;
    ++bar->counts[static_cast<int>(run.outcome)];
  }
  return written;
}

int place_on_tracks(Bar *bars, std::size_t count) noexcept {
  const int ended = place(bars, count, true, 0, kEndedTracks);
  return ended + place(bars, count, false, ended, kOtherTracks);
}

}  // namespace esg::core
