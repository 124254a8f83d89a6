// The head of the report, and what lives now: stuck runs with why they are dead, running ones with how far they are.

#include "core/progress.h"

#include "reap.h"
#include "report.h"

namespace esg {
namespace {

struct Totals {
  int stuck = 0;
  int running = 0;
  int runs = 0;  ///< that started in the window
  int ended = 0;
  int failed = 0;
};

Totals totals_of(const History &history) {
  Totals totals;
  for (int i = 0; i < history.live_count; ++i) ++(history.live[i].dead ? totals.stuck : totals.running);
  for (int i = 0; i < history.count; ++i) {
    const PastRun &run = history.runs[i];
    if (run.late) continue;
    ++totals.runs;
    if (run.outcome == core::Outcome::kRunning || run.outcome == core::Outcome::kStuck) continue;
    ++totals.ended;
    totals.failed += run.outcome != core::Outcome::kCompleted ? 1 : 0;
  }
  return totals;
}

/// The state of things in a sentence.
void put_lead(HtmlReport &report, const Totals &totals) {
  Page &page = report.page;
  put(page, "<p class=\"lead\">");
  if (report.tables == NIL) {
    put(page,
        "There is no guarded table here that you may read. <code>SELECT sync_guard.guard_table('your_table');</code> "
        "has one guarded.</p>\n");
    return;
  }
  const int live = totals.stuck + totals.running;
  if (live == 0) {
    put(page, "No run says that it is running, and so none is stuck.</p>\n");
    return;
  }
  put_count(page, live, "run says that it is running. ", "runs say that they are running. ");
  if (totals.stuck == 0) put(page, live == 1 ? "It is." : "They are.");
  else if (totals.running == 0)
    put(page, live == 1 ? "<strong>It is dead</strong>, and its row has not been told."
                        : "<strong>All of them are dead</strong>, and their rows have not been told.");
  else
    put_format(page, "<strong>%d of them %s dead</strong>, and nothing has told the %s; %d %s alive.", totals.stuck,
               totals.stuck == 1 ? "is" : "are", totals.stuck == 1 ? "row" : "rows", totals.running,
               totals.running == 1 ? "is" : "are");
  put(page, "</p>\n");
}

void put_tile(Page &page, const char *id, int64 figure, const char *label, bool bad) {
  put_format(page, "<li id=\"tile-%s\"%s><b>", id, bad ? " class=\"bad\"" : "");
  if (figure < 0) put(page, "&ndash;");
  else put_format(page, INT64_FORMAT, figure);
  put_format(page, "</b><span>%s</span></li>\n", label);
}

void put_tiles(HtmlReport &report, const Totals &totals) {
  Page &page = report.page;
  put(page, "<ul class=\"tiles\">\n");
  put_tile(page, "stuck", totals.stuck, "stuck now", totals.stuck > 0);
  put_tile(page, "running", totals.running, "running now", false);
  put_tile(page, "alerts", report.alerts, "alerts now", report.alerts > 0);
  put_tile(page, "runs", totals.runs, "runs started in the window", false);
  put_tile(page, "reaped", report.reaped, "reaped in the window", false);
  put(page, "<li id=\"tile-rate\"><b>");
  if (totals.ended == 0) put(page, "&ndash;");
  else put_share(page, static_cast<double>(totals.failed) / totals.ended);
  put(page, "</b><span>of ended runs failed</span></li>\n</ul>\n");
}

// ---- live runs --------------------------------------------------------------------------------------

void put_progress(Page &page, const LiveRun &run) {
  if (!run.done && !run.total) return put(page, "&ndash;");
  put_format(page, INT64_FORMAT, run.done.value_or(0));
  if (run.total) put_format(page, " of " INT64_FORMAT, *run.total);
  if (run.percent != nullptr) {
    put_format(page, " <span class=\"quiet\">(%s&nbsp;%%)</span>", run.percent);
    const double percent = Min(Max(strtod(run.percent, nullptr), 0), 100);
    put_format(page, "<span class=\"meter\" aria-hidden=\"true\"><i style=\"width:%.1f%%\"></i></span>", percent);
  }
  if (run.rate && !run.dead) {
    char words[32];
    put_format(page, "<span class=\"sub\">%s</span>", core::short_rate(*run.rate, words, sizeof words));
  }
}

void put_run_cell(HtmlReport &report, const Heads &heads, const LiveRun &run) {
  Page &page = report.page;
  cell_begin(page, heads, 0, "key");
  put_text(page, scope_label(run.table, run.scope), 100);
  if (run.summary != nullptr && run.summary[0] != '\0') {
    put(page, "<span class=\"sub\">");
    put_text(page, run.summary, 200);
    put(page, "</span>");
  }
  if (list_length(report.tables) > 1) {
    put(page, "<span class=\"sub\">");
    put_text(page, run.table->name, 130);
    put(page, "</span>");
  }
  put(page, "<code class=\"sub\">");
  put_text(page, run.key, 60);
  put(page, "</code>");
  cell_end(page);
}

/// An instant, and how long ago it was, or in what time it will be.
void put_since_cell(Page &page, const Heads &heads, int number, const std::optional<core::Micros> &instant) {
  cell_begin(page, heads, number, "when");
  put_instant(page, instant);
  if (instant) {
    char words[48];
    const bool past = *instant <= page.now;
    core::describe_span(past ? page.now - *instant : *instant - page.now, words, sizeof words);
    put_format(page, past ? "<span class=\"sub\">%s ago</span>" : "<span class=\"sub\">in %s</span>", words);
  }
  cell_end(page);
}

void put_last_sign_cell(Page &page, const Heads &heads, const LiveRun &run) {
  if (run.last_sign != run.started) return put_since_cell(page, heads, 2, run.last_sign);
  cell_begin(page, heads, 2, "quiet");
  put(page, "none since its start");
  cell_end(page);
}

void put_lease(Page &page, const LiveRun &run) {
  if (run.lease == nullptr && run.worker == nullptr) return;
  put(page, "<span class=\"sub\">");
  if (run.lease != nullptr) put_format(page, "%s lease", run.lease);
  if (run.worker != nullptr) {
    put(page, run.lease != nullptr ? " of worker " : "worker ");
    put_text(page, run.worker, 80);
  }
  put(page, "</span>");
}

void put_expected(Page &page, const LiveRun &run) {
  if (!run.expected_end) return;
  put(page, "<span class=\"sub\">expected to end ");
  put_instant(page, run.expected_end);
  if (run.expected_by != nullptr) {
    put(page, ", by its ");
    put_text(page, run.expected_by, 40);
  }
  put(page, "</span>");
}

void put_live_runs(HtmlReport &report, bool dead, int total) {
  static const char *const kTitles[] = {"Run", "Started", "Last sign of life", "Progress", "Why"};
  const Heads heads{kTitles, lengthof(kTitles)};
  Page &page = report.page;
  table_begin(page, dead ? "Stuck runs" : "Running runs", heads);
  int shown = 0;
  for (int i = 0; i < report.history.live_count; ++i) {
    const LiveRun &run = report.history.live[i];
    if (run.dead != dead || !run.listed) continue;
    ++shown;
    row_begin(page, dead ? "stuck" : "running");
    put_run_cell(report, heads, run);
    put_since_cell(page, heads, 1, run.started);
    put_last_sign_cell(page, heads, run);
    cell_begin(page, heads, 3, "figure");
    put_progress(page, run);
    cell_end(page);
    cell_begin(page, heads, 4);
    put_format(page, "<span class=\"tag %s\">%s</span> ", dead ? "stuck" : "running", dead ? "stuck" : "running");
    put_text(page, run.why, 400);
    put_lease(page, run);
    if (!dead) put_expected(page, run);
    cell_end(page);
    row_end(page);
  }
  table_end(page, shown, total);
}

/// A stuck run is one that the guard does not close.
bool any_observed(const History &history) {
  for (int i = 0; i < history.live_count; ++i)
    if (history.live[i].dead && only_observed(*history.live[i].table)) return true;
  return false;
}

void put_now(HtmlReport &report) {
  const Totals totals = totals_of(report.history);
  Page &page = report.page;
  put(page, "<h3>Stuck</h3>\n");
  if (totals.stuck == 0) {
    put(page, "<p class=\"well\">No run is stuck.</p>\n");
  } else {
    put(page,
        "<p class=\"quiet\">Their rows say that they run. They do not: each is dead by the rule that stands beside it, "
        "and counts as "
        "not running for whoever asks the guard. <code>SELECT sync_guard.reap_stale_syncs();</code> closes "
        "them.</p>\n");
    if (any_observed(report.history))
      put(page, "<p class=\"note\">The guard only observes some of these tables: their runs it does not close.</p>\n");
    put_live_runs(report, true, totals.stuck);
  }
  put(page, "<h3>Running</h3>\n");
  if (totals.running == 0) put(page, "<p class=\"note\">No run is running.</p>\n");
  else put_live_runs(report, false, totals.running);
}

}  // namespace

void report_summary(HtmlReport &report) {
  Page &page = report.page;
  const Totals totals = totals_of(report.history);
  put(page, "<header>\n<h1>Sync report");
  if (OidIsValid(report.relation)) {
    put(page, ": ");
    put_text(page, table_of(report.tables, report.relation)->name, 130);
  }
  put(page, "</h1>\n<p class=\"quiet\">Database ");
  put_text(page, get_database_name(MyDatabaseId), 70);
  put(page, ", from ");
  put_instant(page, page.begin);
  put(page, " to ");
  put_instant(page, page.now);
  put(page, "</p>\n");
  put_lead(report, totals);
  if (report.tables != NIL) put_tiles(report, totals);
  put(page,
      "<nav aria-label=\"Sections\"><a href=\"#now\">Now</a> <a href=\"#alerts\">Alerts</a> <a "
      "href=\"#timeline\">Timeline</a> "
      "<a href=\"#figures\">Failures and durations</a> <a href=\"#reaped\">Reaped</a> <a href=\"#history\">Alert "
      "history</a> "
      "<a href=\"#health\">Health</a> <a href=\"#limits\">Suggested limits</a> <a "
      "href=\"#settings\">Settings</a></nav>\n</header>\n");
}

void report_now(HtmlReport &report) {
  report_section(report, "now", "Now", [&report] { put_now(report); });
}

}  // namespace esg
