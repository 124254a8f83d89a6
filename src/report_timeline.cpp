// The report's timeline: a lane per table and scope, a bar per run that can be told apart. Runs that fall together become one
// bar with the worst outcome. Pure drawing: everything was read before.

#include "report.h"

namespace esg {
namespace {

/// Lanes that are drawn by themselves; the runs of the others share one.
constexpr int kMaxLanes = 40;
/// Bars that the page may have, and into how many columns the window is cut at first and at last.
constexpr std::size_t kMaxBars = 9000;
constexpr int kMostColumns = 600;
constexpr int kLeastColumns = 75;
constexpr int kTrackHeight = 15;

/// A lane with its bars.
struct Drawn {
  const Lane *lane;  ///< null: the one that the rest shares
  const PastRun **runs;
  std::size_t run_count;
  core::RunSpan *spans;
  core::Bar *bars;
  std::size_t bar_count;
  int tracks;
  int counts[core::kOutcomes];
};

bool goes_on(const PastRun &run) {
  return run.outcome == core::Outcome::kRunning || run.outcome == core::Outcome::kStuck;
}

core::RunSpan span_of(const Page &page, const PastRun &run) {
  return {Max(run.start, page.begin), Min(run.end.value_or(goes_on(run) ? page.now : run.start), page.now),
          run.outcome};
}

int by_begin(const void *a, const void *b) {
  const auto *left = *static_cast<const PastRun *const *>(a);
  const auto *right = *static_cast<const PastRun *const *>(b);
  return left->start == right->start ? 0 : left->start < right->start ? -1 : 1;
}

template <typename T>
T *allocate(std::size_t count) {
  return static_cast<T *>(palloc_extended(sizeof(T) * Max(count, 1), MCXT_ALLOC_HUGE));
}

Drawn draw(const HtmlReport &report, const Lane *lanes, int count, bool shared) {
  Drawn drawn{};
  drawn.lane = shared ? nullptr : lanes;
  for (int i = 0; i < count; ++i) drawn.run_count += lanes[i].count;
  drawn.runs = allocate<const PastRun *>(drawn.run_count);
  drawn.spans = allocate<core::RunSpan>(drawn.run_count);
  drawn.bars = allocate<core::Bar>(drawn.run_count);
  std::size_t at = 0;
  for (int i = 0; i < count; ++i) {
    for (int n = 0; n < lanes[i].count; ++n) drawn.runs[at++] = &report.history.runs[lanes[i].first + n];
    for (int n = 0; n < core::kOutcomes; ++n) drawn.counts[n] += lanes[i].counts[n];
  }
  if (shared) qsort(drawn.runs, drawn.run_count, sizeof *drawn.runs, by_begin);
  for (std::size_t i = 0; i < drawn.run_count; ++i) drawn.spans[i] = span_of(report.page, *drawn.runs[i]);
  return drawn;
}

/// Cuts the window into so few columns that the page stays small.
core::Columns merge_all(const Page &page, Drawn *lanes, int count) {
  core::Columns columns{page.begin, page.now, kMostColumns};
  for (;; columns.count /= 2) {
    std::size_t bars = 0;
    for (int i = 0; i < count; ++i) {
      lanes[i].bar_count = core::merge_runs(lanes[i].spans, lanes[i].run_count, columns, lanes[i].bars);
      bars += lanes[i].bar_count;
    }
    if (bars <= kMaxBars || columns.count <= kLeastColumns) break;
  }
  for (int i = 0; i < count; ++i) lanes[i].tracks = core::place_on_tracks(lanes[i].bars, lanes[i].bar_count);
  return columns;
}

// ---- drawing ----------------------------------------------------------------------------------------

/// "12 completed, 1 reaped"
void put_counts(Page &page, const int *counts) {
  bool first = true;
  for (int i = core::kOutcomes - 1; i >= 0; --i) {
    if (counts[i] == 0) continue;
    put_format(page, "%s%d %s", first ? "" : ", ", counts[i], core::outcome_name(static_cast<core::Outcome>(i)));
    first = false;
  }
  if (first) put(page, "no runs");
}

void put_bar_title(Page &page, const Drawn &lane, const core::Bar &bar) {
  const PastRun &run = *lane.runs[bar.run];
  put(page, "<title>");
  if (bar.runs() > 1) {
    put_format(page, "%d runs: ", bar.runs());
    put_counts(page, bar.counts);
    put(page, "\n");
    put_clock(page, bar.begin);
    put(page, " &ndash; ");
    put_clock(page, bar.end);
  } else {
    const bool says_all = strcmp(run.status, core::outcome_name(run.outcome)) == 0;
    put(page, core::outcome_name(run.outcome));
    if (!says_all) {
      put(page, " (status ");
      put_text(page, run.status, 40);
      put(page, ")");
    }
    put(page, ": ");
    put_text(page, run.key, 60);
    put(page, "\n");
    put_clock(page, run.start);
    if (run.end || goes_on(run)) {
      char words[48];
      put(page, run.end ? ", lasted " : run.outcome == core::Outcome::kRunning ? ", for " : ", since then ");
      put(page, core::describe_span(run.end.value_or(page.now) - run.start, words, sizeof words));
    } else {
      put(page, ", its end is not known");
    }
  }
  put(page, "</title>");
}

void put_bar(Page &page, const Drawn &lane, const core::Bar &bar, const core::Columns &columns) {
  constexpr const char *kClasses[core::kOutcomes] = {"c", "u", "f", "r", "s"};
  constexpr int kInsets[core::kOutcomes] = {3, 2, 0, 1, 1};
  const core::Outcome worst = bar.worst();
  const int inset = kInsets[static_cast<int>(worst)];
  const double left = columns.place(bar.begin) * 100;
  const double width = Max(columns.place(bar.end) * 100 - left, 100.0 / columns.count);
  const int top = bar.track * kTrackHeight + 2;
  put_format(page, "<rect class=\"%s\" x=\"%.2f%%\" y=\"%d\" width=\"%.2f%%\" height=\"%d\"",
             kClasses[static_cast<int>(worst)], Min(left, 100 - width), top + inset, width,
             kTrackHeight - 4 - 2 * inset);
  if (bar.runs() > 1) put_format(page, " data-runs=\"%d\"", bar.runs());
  const int reaped = bar.counts[static_cast<int>(core::Outcome::kReaped)];
  if (reaped > 0) put_format(page, " data-reaped=\"%d\"", reaped);
  put(page, ">");
  put_bar_title(page, lane, bar);
  put(page, "</rect>");
  // A mark beside the colour, at the run's end.
  const double end = Min(left, 100 - width) + width;
  const char *mark = worst == core::Outcome::kStuck ? "stuck" : worst == core::Outcome::kRunning ? "running" : nullptr;
  if (mark != nullptr) put_format(page, "<use href=\"#mark-%s\" x=\"%.2f%%\" y=\"%d\"/>", mark, end, top + 5);
  if (reaped > 0)
    put_format(page, "<use class=\"m\" href=\"#mark-reaped\" x=\"%.2f%%\" y=\"%d\"/>",
               end - (worst > core::Outcome::kReaped ? width : 0), top + 5);
  put(page, "\n");
}

/// A tick of the axis below.
struct Tick {
  double place;
  core::Micros local;
};

constexpr int kMaxTicks = 12;

int make_ticks(const Page &page, const core::Step &step, Tick *ticks) {
  int count = 0;
  const core::Columns window{page.begin, page.now, 1};
  core::Micros local = core::step_floor(step, to_naive(page.begin, page.zone));
  const core::Micros last = to_naive(page.now, page.zone);
  for (; local <= last && count < kMaxTicks; local = core::step_after(step, local)) {
    const auto instant = from_naive(local, page.zone);
    // A local time that the clocks skip is none.
    if (instant && to_naive(*instant, page.zone) == local && *instant >= page.begin && *instant <= page.now)
      ticks[count++] = {window.place(*instant), local};
  }
  return count;
}

void put_tick_label(Page &page, const core::Step &step, core::Micros local) {
  struct pg_tm tm;
  fsec_t fraction;
  if (timestamp2tm(local, nullptr, &tm, &fraction, nullptr, nullptr) != 0) return;
  const bool midnight = tm.tm_hour == 0 && tm.tm_min == 0 && tm.tm_sec == 0;
  if (step.months >= 12) put_format(page, "%d", tm.tm_year);
  else if (step.months > 0) put_format(page, "%s %d", kMonths[tm.tm_mon - 1], tm.tm_year);
  else if (midnight) put_format(page, "%d %s", tm.tm_mday, kMonths[tm.tm_mon - 1]);
  else if (step.span < core::kMinute) put_format(page, "%02d:%02d:%02d", tm.tm_hour, tm.tm_min, tm.tm_sec);
  else put_format(page, "%02d:%02d", tm.tm_hour, tm.tm_min);
}

void put_axis(Page &page, const core::Step &step, const Tick *ticks, int count) {
  put(page, "<div class=\"lane axis\" aria-hidden=\"true\"><div></div><div class=\"plot\"><svg height=\"20\">");
  for (int i = 0; i < count; ++i) {
    const char *anchor = ticks[i].place < 0.04 ? "start" : ticks[i].place > 0.96 ? "end" : "middle";
    put_format(page, "<text%s x=\"%.2f%%\" y=\"14\" text-anchor=\"%s\">", i % 2 == 1 ? " class=\"minor\"" : "",
               ticks[i].place * 100, anchor);
    put_tick_label(page, step, ticks[i].local);
    put(page, "</text>");
  }
  put(page, "</svg></div></div>\n");
}

/// The worse ones last, so that they lie on top.
void put_bars(Page &page, const Drawn &lane, const core::Columns &columns) {
  for (int outcome = 0; outcome < core::kOutcomes; ++outcome)
    for (std::size_t i = 0; i < lane.bar_count; ++i)
      if (static_cast<int>(lane.bars[i].worst()) == outcome) put_bar(page, lane, lane.bars[i], columns);
}

void put_lane(Page &page, const Drawn &lane, int rest, const core::Columns &columns, const Tick *ticks,
              int tick_count) {
  put(page, "<div class=\"lane\"><div class=\"who\">");
  if (lane.lane != nullptr) put_text(page, lane.lane->label, 80);
  else put_count(page, rest, "more scope", "more scopes");
  put(page, "<span>");
  put_counts(page, lane.counts);
  put_format(page, "</span></div>\n<div class=\"plot\"><svg role=\"img\" height=\"%d\"><title>",
             Max(lane.tracks, 1) * kTrackHeight + 2);
  if (lane.lane != nullptr) put_text(page, lane.lane->label, 80);
  else put_count(page, rest, "more scope", "more scopes");
  put(page, ": ");
  put_counts(page, lane.counts);
  put(page, "</title>");
  for (int i = 0; i < tick_count; ++i)
    put_format(page, "<line class=\"grid\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"0\" y2=\"100%%\"/>", ticks[i].place * 100,
               ticks[i].place * 100);
  put(page, "\n");
  put_bars(page, lane, columns);
  put(page, "</svg></div></div>\n");
}

/// What the lanes refer to: the hatching of stuck runs, and the marks.
void put_definitions(Page &page) {
  put(page,
      "<svg aria-hidden=\"true\" style=\"position:absolute;width:0;height:0\"><defs>"
      "<pattern id=\"hatch\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">"
      "<rect class=\"hatch-ground\" width=\"6\" height=\"6\"/><line class=\"hatch-line\" x1=\"0\" x2=\"0\" y1=\"0\" "
      "y2=\"6\"/></pattern>"
      "<g id=\"mark-reaped\"><circle class=\"cross-ground\" r=\"6\"/><path class=\"cross\" d=\"M-4-4L4 4M4-4L-4 "
      "4\"/></g>"
      "<g id=\"mark-stuck\"><circle class=\"bang\" r=\"6.5\"/><path class=\"bang-mark\" d=\"M0-3.8V1M0 2.4V4.2\"/></g>"
      "<path id=\"mark-running\" class=\"arrow\" d=\"M-3-6L5 0L-3 6Z\"/></defs></svg>\n");
}

void put_legend(Page &page) {
  constexpr const char *kPictures[core::kOutcomes] = {
      "<rect class=\"c\" x=\"3\" y=\"5\" width=\"26\" height=\"5\"/>",
      "<rect class=\"u\" x=\"3\" y=\"4\" width=\"22\" height=\"7\"/><use href=\"#mark-running\" x=\"25\" y=\"7.5\"/>",
      "<rect class=\"f\" x=\"3\" y=\"2\" width=\"26\" height=\"11\"/>",
      "<rect class=\"r\" x=\"3\" y=\"3\" width=\"22\" height=\"9\"/><use href=\"#mark-reaped\" x=\"25\" y=\"7.5\"/>",
      "<rect class=\"s\" x=\"3\" y=\"3\" width=\"22\" height=\"9\"/><use href=\"#mark-stuck\" x=\"25\" y=\"7.5\"/>"};
  constexpr const char *kMeanings[core::kOutcomes] = {"completed", "running", "failed", "reaped: the guard closed it",
                                                      "stuck: dead, and not closed yet"};
  put(page, "<ul class=\"legend\">");
  for (int i = 0; i < core::kOutcomes; ++i)
    put_format(page, "<li><svg aria-hidden=\"true\" width=\"34\" height=\"15\">%s</svg>%s</li>", kPictures[i],
               kMeanings[i]);
  put(page, "</ul>\n");
}

/// What the timeline does not show.
void put_gaps(HtmlReport &report) {
  ListCell *cell;
  foreach (cell, report.history.without_start) {
    put(report.page, "<p class=\"note\">Table ");
    put_text(report.page, static_cast<const Guarded *>(lfirst(cell))->name);
    put(report.page, " has no start column: its runs have no place in time.</p>\n");
  }
  foreach (cell, report.history.without_end) {
    put(report.page, "<p class=\"note\">Table ");
    put_text(report.page, static_cast<const Guarded *>(lfirst(cell))->name);
    put(report.page, " has no end column: its ended runs are shown where they began.</p>\n");
  }
  foreach (cell, report.history.cut) {
    put(report.page, "<p class=\"note\">Table ");
    put_text(report.page, static_cast<const Guarded *>(lfirst(cell))->name);
    put_format(report.page, " has more runs than are read: these are its newest %d.</p>\n", kMaxRunsRead);
  }
  foreach (cell, report.history.failed) {
    put(report.page, "<p class=\"note\">The runs of table ");
    put_text(report.page, static_cast<const Guarded *>(lfirst(cell))->name);
    put(report.page, " could not be read; see Health.</p>\n");
  }
}

/// By table, else as they are.
int by_table(const void *a, const void *b) {
  const auto *left = *static_cast<const Lane *const *>(a);
  const auto *right = *static_cast<const Lane *const *>(b);
  if (left->table != right->table) {
    const int order = strcmp(left->table->name, right->table->name);
    return order != 0 ? order : left->table < right->table ? -1 : 1;
  }
  return left < right ? -1 : 1;
}

/// The lanes of the page: the first ones of all, table by table, and one for the rest.
Drawn *draw_lanes(const HtmlReport &report, int shown) {
  const History &history = report.history;
  auto *lanes = allocate<Drawn>(shown + 1);
  auto **order = allocate<const Lane *>(shown);
  for (int i = 0; i < shown; ++i) order[i] = &history.lanes[i];
  qsort(order, shown, sizeof *order, by_table);
  for (int i = 0; i < shown; ++i) lanes[i] = draw(report, order[i], 1, false);
  if (shown < history.lane_count) lanes[shown] = draw(report, &history.lanes[shown], history.lane_count - shown, true);
  return lanes;
}

void draw_timeline(HtmlReport &report) {
  const History &history = report.history;
  put_gaps(report);
  if (history.lane_count == 0) return put(report.page, "<p class=\"note\">No run falls into this window.</p>\n");
  const int shown = history.lane_count > kMaxLanes ? kMaxLanes - 1 : history.lane_count;
  const int count = shown + (shown < history.lane_count ? 1 : 0);
  Drawn *lanes = draw_lanes(report, shown);
  const core::Columns columns = merge_all(report.page, lanes, count);
  const core::Step step = core::usual_step(report.page.now - report.page.begin, 9, core::kSecond);
  Tick ticks[kMaxTicks];
  const int tick_count = make_ticks(report.page, step, ticks);
  put_definitions(report.page);
  put_legend(report.page);
  const Guarded *above = nullptr;
  for (int i = 0; i < count; ++i) {
    const Guarded *table = lanes[i].lane == nullptr ? nullptr : lanes[i].lane->table;
    if (i == 0 || table != above) {
      put(report.page, i == 0 ? "<h3>" : "</figure>\n<h3>");
      put_text(report.page, table == nullptr ? "further scopes" : table->name);
      put(report.page, "</h3>\n<figure class=\"timeline\">\n");
    }
    above = table;
    put_lane(report.page, lanes[i], history.lane_count - shown, columns, ticks, tick_count);
    const bool last_of_table = i + 1 == count || lanes[i + 1].lane == nullptr || lanes[i + 1].lane->table != table;
    if (last_of_table) put_axis(report.page, step, ticks, tick_count);
  }
  put(report.page, "</figure>\n");
}

}  // namespace

void report_timeline(HtmlReport &report) {
  report_section(report, "timeline", "Timeline", [&report] { draw_timeline(report); });
}

}  // namespace esg
