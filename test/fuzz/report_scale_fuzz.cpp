// The report's arithmetic: steps hold what they promise, boundaries are those of the calendar, every run is in one bar, and
// bars on one track overlap only where tracks have run out.

#include "core/report_scale.h"

#include <algorithm>
#include <ctime>
#include <vector>

#include "input.h"

namespace {

using namespace esg::core;
using esg::fuzz::Input;

constexpr Micros kCentury = 36525 * kDay;

bool begins_a_month(Micros local) {
  const std::time_t seconds = static_cast<std::time_t>(local / kSecond) + 946'684'800;
  std::tm at{};
  CHECK(gmtime_r(&seconds, &at) != nullptr);
  return local % kDay == 0 && at.tm_mday == 1;
}

void check_steps(Input &input) {
  const Micros window = input.in(1, 100 * kCentury);
  const int most = 1 + input.below(60);
  const Step step = usual_step(window, most, input.in(0, kDay));
  CHECK(step.span > 0 && window / step.span < most);
  const Micros local = input.in(-20 * kCentury, 20 * kCentury);
  const Micros floor = step_floor(step, local);
  const Micros after = step_after(step, floor);
  CHECK(floor <= local && local < after);
  CHECK(step_floor(step, floor) == floor && step_floor(step, after) == after);
  CHECK(step_floor(step, after - 1) == floor);
  if (step.months > 0) CHECK(begins_a_month(floor) && begins_a_month(after));
}

void check_quantile(Input &input) {
  std::vector<Micros> values;
  for (int n = 1 + input.below(12); n > 0; --n) values.push_back(input.span());
  std::sort(values.begin(), values.end());
  const double low = quantile(values.data(), values.size(), 0.25);
  const double high = quantile(values.data(), values.size(), input.below(201) / 200.0);
  CHECK(quantile(values.data(), values.size(), 0) <= low);
  CHECK(high >= static_cast<double>(values.front()) && high <= static_cast<double>(values.back()));
  CHECK(share_ceiling(input.below(101) / 100.0) <= 1);
}

Columns draw_columns(Input &input) {
  Columns columns;
  columns.begin = input.in(-10 * kCentury, 10 * kCentury);
  columns.end = columns.begin + input.in(1, kCentury);
  columns.count = 1 + input.below(256) * 3;
  return columns;
}

std::vector<RunSpan> draw_runs(Input &input, const Columns &columns) {
  std::vector<RunSpan> runs;
  for (int n = input.below(40); n > 0; --n) {
    RunSpan run;
    run.begin = input.flag() ? columns.begin + input.in(0, kCentury) : input.in(-11 * kCentury, 11 * kCentury);
    run.end = run.begin + input.in(0, kCentury);
    run.outcome = static_cast<Outcome>(input.below(kOutcomes));
    runs.push_back(run);
  }
  std::sort(runs.begin(), runs.end(), [](const RunSpan &a, const RunSpan &b) { return a.begin < b.begin; });
  return runs;
}

void check_bars(const std::vector<RunSpan> &runs, const Columns &columns, const std::vector<Bar> &bars) {
  int all = 0;
  for (const Bar &bar : bars) {
    all += bar.runs();
    CHECK(bar.runs() > 0 && bar.run < runs.size());
    CHECK(bar.worst() == runs[bar.run].outcome);
    CHECK(bar.first >= 0 && bar.first <= bar.last && bar.last < columns.count);
    CHECK(columns.of(bar.begin) == bar.first && columns.of(bar.end) == bar.last);
    CHECK(columns.place(bar.begin) <= columns.place(bar.end) && columns.place(bar.end) <= 1);
  }
  CHECK(all == static_cast<int>(runs.size()));
}

bool ended_by_itself(const Bar &bar) { return bar.worst() == Outcome::kCompleted || bar.worst() == Outcome::kFailed; }

void check_tracks(const std::vector<Bar> &bars, int tracks) {
  CHECK(tracks >= (bars.empty() ? 0 : 1) && tracks <= kEndedTracks + kOtherTracks);
  int of_ended = 0;
  for (const Bar &bar : bars)
    if (ended_by_itself(bar)) of_ended = std::max(of_ended, bar.track + 1);
  CHECK(of_ended <= kEndedTracks);
  const bool full[] = {tracks - of_ended >= kOtherTracks, of_ended >= kEndedTracks};
  for (const Bar &a : bars) {
    CHECK(a.track >= 0 && a.track < tracks);
    CHECK(ended_by_itself(a) == (a.track < of_ended));
    for (const Bar &b : bars)
      if (&a < &b && a.track == b.track && !full[ended_by_itself(a)]) CHECK(b.begin >= a.end);
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Input input(data, size);
  check_steps(input);
  check_quantile(input);
  const Columns columns = draw_columns(input);
  const std::vector<RunSpan> runs = draw_runs(input, columns);
  std::vector<Bar> bars(runs.size());
  bars.resize(merge_runs(runs.data(), runs.size(), columns, bars.data()));
  check_bars(runs, columns, bars);
  check_tracks(bars, place_on_tracks(bars.data(), bars.size()));
  return 0;
}
