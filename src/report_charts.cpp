// The report's charts: failure rate and durations over time, for each table, and the same in figures for its scopes. Counted
// are the ended runs that started in the window, as in the view failure_rates. Pure drawing: everything was read before.

#include "report.h"

namespace esg {
namespace {

constexpr int kMaxBuckets = 60;
constexpr int kWantedBuckets = 36;
constexpr int kMaxTables = 12;
constexpr int kMaxScopes = 12;

/// The runs of a piece of time, or of a scope.
struct Figures {
  core::Micros begin;  ///< of a piece of time
  core::Micros end;
  const char *label;  ///< of a scope
  int completed;
  int failed;
  int reaped;               ///< among the failed
  core::Micros *durations;  ///< of completed runs that have an end; sorted
  int duration_count;

  [[nodiscard]] int ended() const { return completed + failed; }
  [[nodiscard]] double rate() const { return ended() == 0 ? 0 : static_cast<double>(failed) / ended(); }
  [[nodiscard]] core::Micros duration(double share) const {
    return static_cast<core::Micros>(core::quantile(durations, duration_count, share));
  }
};

bool counts(const PastRun &run) {
  return !run.late && run.outcome != core::Outcome::kRunning && run.outcome != core::Outcome::kStuck;
}

int by_duration(const void *a, const void *b) {
  const core::Micros left = *static_cast<const core::Micros *>(a);
  const core::Micros right = *static_cast<const core::Micros *>(b);
  return left == right ? 0 : left < right ? -1 : 1;
}

void add_run(Figures &figures, const PastRun &run) {
  if (run.outcome == core::Outcome::kCompleted) ++figures.completed;
  else ++figures.failed;
  if (run.outcome == core::Outcome::kReaped) ++figures.reaped;
  if (run.outcome == core::Outcome::kCompleted && run.end)
    figures.durations[figures.duration_count++] = *run.end - run.start;
}

void sort_durations(Figures &figures) {
  if (figures.duration_count > 1) qsort(figures.durations, figures.duration_count, sizeof(core::Micros), by_duration);
}

/// The window in pieces that begin at usual local times. Returns their number.
int make_buckets(const Page &page, Figures *buckets) {
  const core::Step step = core::usual_step(page.now - page.begin, kWantedBuckets, core::kSecond);
  int count = 0;
  core::Micros at = page.begin;
  core::Micros local = core::step_floor(step, to_naive(page.begin, page.zone));
  while (at < page.now && count < kMaxBuckets) {
    local = core::step_after(step, local);
    // A local time that comes twice, or never, is skipped.
    const core::Micros end =
        count + 1 == kMaxBuckets ? page.now : Min(from_naive(local, page.zone).value_or(at), page.now);
    if (end <= at) continue;
    buckets[count] = Figures{};
    buckets[count].begin = at;
    buckets[count++].end = end;
    at = end;
  }
  return count;
}

Figures *bucket_of(Figures *buckets, int count, core::Micros instant) {
  int low = 0;
  for (int high = count; low + 1 < high;) {
    const int middle = (low + high) / 2;
    if (buckets[middle].begin <= instant) low = middle;
    else high = middle;
  }
  return &buckets[low];
}

/// Calls `work` with each counted run of the table.
template <typename Work>
void each_run(const History &history, const Guarded *table, const Work &work) {
  for (int i = 0; i < history.lane_count; ++i) {
    const Lane &lane = history.lanes[i];
    for (int n = 0; lane.table == table && n < lane.count; ++n)
      if (counts(history.runs[lane.first + n])) work(history.runs[lane.first + n]);
  }
}

/// Fills the table's pieces of time. Returns how many runs were counted.
int fill_buckets(const History &history, const Guarded *table, Figures *buckets, int count) {
  auto *sizes = static_cast<int *>(palloc0(sizeof(int) * Max(count, 1)));
  int counted = 0;
  each_run(history, table, [&](const PastRun &run) {
    ++sizes[bucket_of(buckets, count, run.start) - buckets];
    ++counted;
  });
  for (int i = 0; i < count; ++i)
    buckets[i].durations = static_cast<core::Micros *>(palloc(sizeof(core::Micros) * Max(sizes[i], 1)));
  each_run(history, table, [&](const PastRun &run) { add_run(*bucket_of(buckets, count, run.start), run); });
  for (int i = 0; i < count; ++i) sort_durations(buckets[i]);
  return counted;
}

// ---- drawing ----------------------------------------------------------------------------------------

constexpr int kPlotHeight = 120;
constexpr int kTop = 8;
constexpr int kBottom = kTop + kPlotHeight;

struct Scale {
  double begin;
  double span;

  [[nodiscard]] double x(core::Micros instant) const { return (static_cast<double>(instant) - begin) / span * 100; }
};

Scale scale_of(const Page &page) {
  return {static_cast<double>(page.begin), static_cast<double>(page.now - page.begin)};
}

/// A line across the plot, its label in the margin on the left.
void put_rule(Page &page, double y, const char *label) {
  put_format(page,
             "<line class=\"grid\" x1=\"0\" x2=\"100%%\" y1=\"%.1f\" y2=\"%.1f\"/><text x=\"-8\" y=\"%.1f\" "
             "text-anchor=\"end\">%s</text>",
             y, y, y + 4, label);
}

/// Where the window begins and ends.
void put_ends(Page &page) {
  put_format(page, "<text x=\"0\" y=\"%d\">", kBottom + 16);
  put_clock(page, page.begin);
  put_format(page, "</text><text x=\"100%%\" y=\"%d\" text-anchor=\"end\">now</text>", kBottom + 16);
}

void put_bucket_title(Page &page, const Figures &bucket) {
  put_clock(page, bucket.begin);
  put(page, " &ndash; ");
  put_clock(page, bucket.end);
}

void draw_failures(Page &page, const Figures *buckets, int count, const Figures &all) {
  double highest = 0;
  for (int i = 0; i < count; ++i) highest = Max(highest, buckets[i].rate());
  const double top = core::share_ceiling(highest);
  const Scale scale = scale_of(page);
  put(page, "<figure class=\"failures\"><figcaption>Failure rate: ");
  put_share(page, all.rate());
  put_format(page, " (%d of %d ended runs; %d of them reaped)</figcaption>\n", all.failed, all.ended(), all.reaped);
  put_format(page, "<div class=\"axes\"><svg role=\"img\" height=\"%d\"><title>Failure rate over time, up to ",
             kBottom + 20);
  put_share(page, highest);
  put(page, "</title>");
  for (const double share : {1.0, 0.5, 0.0}) {
    char label[32];
    snprintf(label, sizeof label, "%g %%", top * share * 100);
    put_rule(page, kBottom - kPlotHeight * share, label);
  }
  put(page, "\n");
  for (int i = 0; i < count; ++i) {
    if (buckets[i].failed == 0) continue;
    const double x = scale.x(buckets[i].begin);
    const double height = buckets[i].rate() / top * kPlotHeight;
    const double width = scale.x(buckets[i].end) - x;
    put_format(page, "<rect class=\"f\" x=\"%.2f%%\" width=\"%.2f%%\" y=\"%.1f\" height=\"%.1f\"><title>",
               x + width * 0.1, width * 0.8, kBottom - height, height);
    put_bucket_title(page, buckets[i]);
    put(page, "\n");
    put_share(page, buckets[i].rate());
    put_format(page, ": %d of %d failed, %d of them reaped</title></rect>\n", buckets[i].failed, buckets[i].ended(),
               buckets[i].reaped);
  }
  put_ends(page);
  put(page, "</svg></div></figure>\n");
}

void put_duration(Page &page, const Scale &scale, const Figures &bucket, double per_micro) {
  const double x = (scale.x(bucket.begin) + scale.x(bucket.end)) / 2;
  const double median = kBottom - static_cast<double>(bucket.duration(0.5)) * per_micro;
  const double p95 = kBottom - static_cast<double>(bucket.duration(0.95)) * per_micro;
  char words[48];
  put(page, "<g><title>");
  put_bucket_title(page, bucket);
  put_format(page, "\nmedian %s", core::describe_span(bucket.duration(0.5), words, sizeof words));
  put_format(page, ", 95 %% within %s, ", core::describe_span(bucket.duration(0.95), words, sizeof words));
  put_count(page, bucket.duration_count, "completed run", "completed runs");
  put_format(page, "</title><line class=\"whisker\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x,
             median, p95);
  put_format(page,
             "<circle class=\"top\" cx=\"%.2f%%\" cy=\"%.1f\" r=\"2.6\"/><circle class=\"dot\" cx=\"%.2f%%\" "
             "cy=\"%.1f\" r=\"3\"/></g>\n",
             x, p95, x, median);
}

void draw_durations(Page &page, const Figures *buckets, int count, const Figures &all) {
  if (all.duration_count == 0) return;
  core::Micros highest = 1;
  for (int i = 0; i < count; ++i)
    if (buckets[i].duration_count > 0) highest = Max(highest, buckets[i].duration(0.95));
  const core::Step step = core::usual_step(highest, 4);
  // The topmost rule of spans like those of runs that ended in the year 200000 is more than a number holds.
  const core::Micros rules = highest / step.span + 1;
  const double per_micro = kPlotHeight / (static_cast<double>(rules) * static_cast<double>(step.span));
  const Scale scale = scale_of(page);
  char words[48];
  put_format(page, "<figure class=\"durations\"><figcaption>Duration of completed runs: median (&#x25CF;) %s, ",
             core::describe_span(all.duration(0.5), words, sizeof words));
  put_format(page, "95 %% (&#x25CB;) within %s</figcaption>\n",
             core::describe_span(all.duration(0.95), words, sizeof words));
  put_format(page,
             "<div class=\"axes\"><svg role=\"img\" height=\"%d\"><title>Duration over time: the median as a dot, the "
             "95th percentile as a "
             "circle</title>",
             kBottom + 20);
  for (core::Micros rule = 0; rule <= rules; ++rule) {
    core::Micros at = 0;
    if (__builtin_mul_overflow(rule, step.span, &at)) at = PG_INT64_MAX;
    put_rule(page, kBottom - static_cast<double>(at) * per_micro, core::describe_span(at, words, sizeof words));
  }
  put(page, "\n");
  const Figures *before = nullptr;
  for (int i = 0; i < count; ++i) {
    const Figures &bucket = buckets[i];
    if (bucket.duration_count == 0) continue;
    const auto middle = [&scale](const Figures &of) { return (scale.x(of.begin) + scale.x(of.end)) / 2; };
    const auto height = [per_micro](const Figures &of) {
      return kBottom - static_cast<double>(of.duration(0.5)) * per_micro;
    };
    if (before != nullptr)
      put_format(page, "<line class=\"median\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"%.1f\" y2=\"%.1f\"/>", middle(*before),
                 middle(bucket), height(*before), height(bucket));
    before = &bucket;
  }
  for (int i = 0; i < count; ++i)
    if (buckets[i].duration_count > 0) put_duration(page, scale, buckets[i], per_micro);
  put_ends(page);
  put(page, "</svg></div></figure>\n");
}

// ---- figures ----------------------------------------------------------------------------------------

int by_size(const void *a, const void *b) {
  const auto *left = static_cast<const Figures *>(a);
  const auto *right = static_cast<const Figures *>(b);
  if (left->ended() != right->ended()) return left->ended() > right->ended() ? -1 : 1;
  return strcmp(left->label, right->label);
}

Figures figures_of(const History &history, const Lane &lane) {
  Figures figures{};
  figures.label = lane.label;
  figures.durations =
      static_cast<core::Micros *>(palloc_extended(sizeof(core::Micros) * Max(lane.count, 1), MCXT_ALLOC_HUGE));
  for (int n = 0; n < lane.count; ++n)
    if (counts(history.runs[lane.first + n])) add_run(figures, history.runs[lane.first + n]);
  sort_durations(figures);
  return figures;
}

void put_number_cell(Page &page, const Heads &heads, int number, int value) {
  cell_begin(page, heads, number, "figure");
  put_format(page, "%d", value);
  cell_end(page);
}

void put_scopes(Page &page, const History &history, const Guarded *table) {
  static const char *const kTitles[] = {"Scope",        "Ended",  "Completed", "Failed", "Reaped",
                                        "Failure rate", "Median", "95 %",      "Longest"};
  const Heads heads{kTitles, lengthof(kTitles)};
  auto *scopes = static_cast<Figures *>(palloc_extended(sizeof(Figures) * Max(history.lane_count, 1), MCXT_ALLOC_HUGE));
  int count = 0;
  for (int i = 0; i < history.lane_count; ++i) {
    if (history.lanes[i].table != table) continue;
    const Figures figures = figures_of(history, history.lanes[i]);
    if (figures.ended() > 0) scopes[count++] = figures;
  }
  if (count == 0) return;
  qsort(scopes, count, sizeof(Figures), by_size);
  table_begin(page, "Runs that started in the window and have ended, by scope", heads, "numbers");
  for (int i = 0; i < Min(count, kMaxScopes); ++i) {
    const Figures &scope = scopes[i];
    row_begin(page);
    text_cell(page, heads, 0, scope.label, 100);
    put_number_cell(page, heads, 1, scope.ended());
    put_number_cell(page, heads, 2, scope.completed);
    put_number_cell(page, heads, 3, scope.failed);
    put_number_cell(page, heads, 4, scope.reaped);
    cell_begin(page, heads, 5, "figure");
    put_share(page, scope.rate());
    cell_end(page);
    const bool timed = scope.duration_count > 0;
    int column = 6;
    for (const double share : {0.5, 0.95, 1.0})
      span_cell(page, heads, column++, timed ? std::optional<core::Micros>(scope.duration(share)) : std::nullopt);
    row_end(page);
  }
  table_end(page, Min(count, kMaxScopes), count);
}

/// The figures of all pieces together.
Figures sum_of(const Figures *buckets, int count, int counted) {
  Figures all{};
  all.durations = static_cast<core::Micros *>(palloc_extended(sizeof(core::Micros) * Max(counted, 1), MCXT_ALLOC_HUGE));
  for (int i = 0; i < count; ++i) {
    all.completed += buckets[i].completed;
    all.failed += buckets[i].failed;
    all.reaped += buckets[i].reaped;
    for (int n = 0; n < buckets[i].duration_count; ++n) all.durations[all.duration_count++] = buckets[i].durations[n];
  }
  sort_durations(all);
  return all;
}

void draw_charts(HtmlReport &report) {
  int drawn = 0;
  ListCell *cell;
  foreach (cell, report.tables) {
    const auto *table = static_cast<const Guarded *>(lfirst(cell));
    Figures buckets[kMaxBuckets];
    const int count = make_buckets(report.page, buckets);
    const int counted = fill_buckets(report.history, table, buckets, count);
    if (counted == 0 || ++drawn > kMaxTables) continue;
    put(report.page, "<h3>");
    put_text(report.page, table->name);
    put(report.page, "</h3>\n<div class=\"charts\">\n");
    const Figures all = sum_of(buckets, count, counted);
    draw_failures(report.page, buckets, count, all);
    draw_durations(report.page, buckets, count, all);
    put(report.page, "</div>\n");
    put_scopes(report.page, report.history, table);
  }
  if (drawn == 0) put(report.page, "<p class=\"note\">No run that started in this window has ended.</p>\n");
  if (drawn > kMaxTables) put_format(report.page, "<p class=\"more\">and %d more tables</p>\n", drawn - kMaxTables);
}

}  // namespace

void report_charts(HtmlReport &report) {
  report_section(report, "figures", "Failures and durations", [&report] { draw_charts(report); });
}

}  // namespace esg
