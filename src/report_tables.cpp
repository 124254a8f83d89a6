// The report's tables: alerts, health, suggested limits, settings. Read through the views that everybody reads, as the caller.

#include "report.h"

#include "result_values.h"

namespace esg {
namespace {

constexpr int kMaxRows = 60;

/// A query on a view whose column `relation` is one of these: with a table named, that one.
pg::Statement about(const HtmlReport &report, const char *sql) {
  pg::Statement query(sql);
  query.add(OIDOID, ObjectIdGetDatum(report.relation), !OidIsValid(report.relation));
  return query;
}

void place_cell(HtmlReport &report, const Heads &heads, int number, Oid relation, const char *scope) {
  cell_begin(report.page, heads, number, "place");
  put_place(report, relation, scope);
  cell_end(report.page);
}

/// One of the guard's own names, which stays in one piece.
void put_name(Page &page, const char *name) {
  put(page, "<span class=\"name\">");
  put_text(page, name, 80);
  put(page, "</span>");
}

void name_cell(Page &page, const Heads &heads, int number, const char *name) {
  cell_begin(page, heads, number);
  put_name(page, name);
  cell_end(page);
}

void tag_cell(Page &page, const Heads &heads, int number, const char *kind, const char *text) {
  constexpr const char *kKinds[] = {"critical", "error", "warning", "info"};
  const char *css_class = "info";
  for (const char *known : kKinds)
    if (kind != nullptr && strcmp(kind, known) == 0) css_class = known;
  cell_begin(page, heads, number);
  put_format(page, "<span class=\"tag %s\">", css_class);
  put_text(page, kind, 20);
  put(page, "</span>");
  put_name(page, text);
  cell_end(page);
}

/// A detail and, below it, what to do.
void detail_cell(Page &page, const Heads &heads, int number, const char *detail, const char *hint) {
  cell_begin(page, heads, number);
  put_text(page, detail, 600);
  if (hint != nullptr) {
    put(page, "<span class=\"sub\">");
    put_text(page, hint, 600);
    put(page, "</span>");
  }
  cell_end(page);
}

/// Runs a query and shows a line for each of its rows, up to kMaxRows, or `none` where it has none. Returns how many it has.
template <typename PutRow>
int64 put_rows(HtmlReport &report, const pg::Statement &query, const char *label, const Heads &heads, const char *none,
               const PutRow &put_row) {
  pg::spi_begin();
  const auto rows = static_cast<int64>(pg::spi_run(query, pg::Access::kRead));
  if (rows == 0) {
    put(report.page, none);
  } else {
    table_begin(report.page, label, heads);
    for (int64 i = 0; i < Min(rows, kMaxRows); ++i) put_row(report, heads, i);
    table_end(report.page, Min(rows, kMaxRows), rows);
  }
  pg::spi_end();
  return rows;
}

// ---- alerts -----------------------------------------------------------------------------------------

void put_figure(Page &page, const std::optional<double> &figure, const char *unit) {
  if (!figure) return put(page, "&ndash;");
  if (unit != nullptr && strcmp(unit, "seconds") == 0 && *figure < 1e12 && *figure > -1e12)
    return put_span(page, static_cast<core::Micros>(*figure) * core::kSecond);
  if (unit != nullptr && strcmp(unit, "share") == 0) return put_share(page, *figure);
  put_format(page, "%.4g", *figure);
}

constexpr const char *kAlertsQuery =
    "SELECT a.severity, a.rule, a.relation::pg_catalog.oid, a.scope::pg_catalog.text, a.subject, a.since, a.figure,"
    " a.threshold, a.unit, a.sample, a.detail, a.hint FROM sync_guard.alerts AS a"
    " WHERE $1 IS NULL OR a.relation OPERATOR(pg_catalog.=) $1 OR a.relation IS NULL"
    " ORDER BY CASE WHEN a.severity OPERATOR(pg_catalog.=) 'critical' THEN 0 ELSE 1 END, a.since, a.rule, 3, 4";

void put_alert(HtmlReport &report, const Heads &heads, uint64 row) {
  Page &page = report.page;
  row_begin(page);
  tag_cell(page, heads, 0, text_at(row, 1), text_at(row, 2));
  cell_begin(page, heads, 1, "place");
  put_place(report, oid_at(row, 3), text_at(row, 4));
  put_text(page, text_at(row, 5), 100);
  cell_end(page);
  cell_begin(page, heads, 2, "when");
  if (const auto since = instant_at(row, 6)) put_instant(page, since);
  else put(page, "<span class=\"quiet\">no sweep has seen it yet</span>");
  cell_end(page);
  cell_begin(page, heads, 3, "figure");
  put_figure(page, double_at(row, 7), text_at(row, 9));
  put(page, "<span class=\"sub\">raised above ");
  put_figure(page, double_at(row, 8), text_at(row, 9));
  put(page, "</span>");
  cell_end(page);
  detail_cell(page, heads, 4, text_at(row, 11), text_at(row, 12));
  row_end(page);
}

void put_alerts_now(HtmlReport &report) {
  static const char *const kTitles[] = {"Alert", "Where", "Since", "Figure", "What it means"};
  report.alerts = put_rows(report, about(report, kAlertsQuery), "Alerts that are raised now",
                           {kTitles, lengthof(kTitles)}, "<p class=\"well\">No alert is raised.</p>\n", put_alert);
}

constexpr const char *kRulesQuery =
    "SELECT r.severity, r.rule, r.relation::pg_catalog.oid, r.scope::pg_catalog.text, r.enabled, r.raise_above,"
    " r.clear_below, r.time_window, r.min_sample::pg_catalog.int8, r.meaning FROM sync_guard.alert_rules AS r"
    " WHERE $1 IS NULL OR r.relation OPERATOR(pg_catalog.=) $1 OR r.relation IS NULL";

void put_rule(HtmlReport &report, const Heads &heads, uint64 row) {
  Page &page = report.page;
  row_begin(page);
  tag_cell(page, heads, 0, text_at(row, 1), text_at(row, 2));
  cell_begin(page, heads, 1, "place");
  if (OidIsValid(oid_at(row, 3))) put_place(report, oid_at(row, 3), text_at(row, 4));
  else put(page, "everywhere");
  cell_end(page);
  cell_begin(page, heads, 2, "figure");
  if (bool_at(row, 5)) {
    put_text(page, text_at(row, 6), 60);
    put(page, "<span class=\"sub\">until ");
    put_text(page, text_at(row, 7), 60);
    put(page, "</span>");
  } else {
    put(page, "off");
  }
  cell_end(page);
  cell_begin(page, heads, 3);
  put_text(page, text_at(row, 10), 300);
  if (const auto window = span_at(row, 8)) {
    put(page, "<span class=\"sub\">time_window ");
    put_span(page, window);
    put(page, "</span>");
  }
  if (const auto sample = int_at(row, 9))
    put_format(page, "<span class=\"sub\">min_sample " INT64_FORMAT "</span>", *sample);
  cell_end(page);
  row_end(page);
}

/// What raises an alert: without it, a page on which nothing is raised would not say what would be.
void put_rules(HtmlReport &report) {
  static const char *const kTitles[] = {"Rule", "Where", "Raised above", "What it measures"};
  put(report.page, "<details id=\"rules\"><summary>What raises an alert</summary>\n");
  (void)put_rows(report, about(report, kRulesQuery), "Alert rules", {kTitles, lengthof(kTitles)}, "", put_rule);
  put(report.page, "</details>\n");
}

constexpr const char *kHistoryQuery =
    "SELECT h.rule, h.relation::pg_catalog.oid, h.relation_name, h.scope::pg_catalog.text, h.subject, h.raised_at, "
    "h.cleared_at,"
    " h.detail, h.cleared_detail FROM sync_guard.alert_history AS h"
    " WHERE (h.cleared_at IS NULL OR h.cleared_at OPERATOR(pg_catalog.>=) $2)"
    " AND ($1 IS NULL OR h.relation OPERATOR(pg_catalog.=) $1 OR h.relation IS NULL)"
    " ORDER BY h.id DESC";

void put_past_alert(HtmlReport &report, const Heads &heads, uint64 row) {
  Page &page = report.page;
  row_begin(page);
  name_cell(page, heads, 0, text_at(row, 1));
  cell_begin(page, heads, 1, "place");
  const Oid relation = oid_at(row, 2);
  if (table_of(report.tables, relation) != nullptr) put_place(report, relation, text_at(row, 4));
  else put_text(page, text_at(row, 3), 130);
  put_text(page, text_at(row, 5), 100);
  cell_end(page);
  const auto raised = instant_at(row, 6);
  const auto cleared = instant_at(row, 7);
  instant_cell(page, heads, 2, raised);
  cell_begin(page, heads, 3, "when");
  if (cleared) put_instant(page, cleared);
  else put(page, "<span class=\"tag warning\">still raised</span>");
  put(page, cleared ? "<span class=\"sub\">after " : "<span class=\"sub\">for ");
  if (raised) put_span(page, cleared.value_or(page.now) - *raised);
  put(page, "</span>");
  cell_end(page);
  detail_cell(page, heads, 4, text_at(row, 8), text_at(row, 9));
  row_end(page);
}

void put_alert_history(HtmlReport &report) {
  static const char *const kTitles[] = {"Alert", "Where", "Raised", "Cleared", "Why"};
  pg::Statement query = about(report, kHistoryQuery);
  query.add(TIMESTAMPTZOID, TimestampTzGetDatum(report.page.begin));
  put_rows(report, query, "Alerts of the window, newest first", {kTitles, lengthof(kTitles)},
           "<p class=\"note\">No alert was raised in this window.</p>\n", put_past_alert);
}

// ---- health and limits ------------------------------------------------------------------------------

constexpr const char *kHealthQuery =
    "SELECT h.severity, h.problem, h.relation::pg_catalog.oid, h.detail, h.hint FROM sync_guard.guard_health AS h"
    " WHERE $1 IS NULL OR h.relation OPERATOR(pg_catalog.=) $1 OR h.relation IS NULL"
    " ORDER BY CASE WHEN h.severity OPERATOR(pg_catalog.=) 'error' THEN 0 WHEN h.severity OPERATOR(pg_catalog.=) "
    "'warning' THEN 1 ELSE 2 END, h.problem, 3";

void put_problem(HtmlReport &report, const Heads &heads, uint64 row) {
  row_begin(report.page);
  tag_cell(report.page, heads, 0, text_at(row, 1), text_at(row, 2));
  place_cell(report, heads, 1, oid_at(row, 3), nullptr);
  detail_cell(report.page, heads, 2, text_at(row, 4), text_at(row, 5));
  row_end(report.page);
}

void put_health(HtmlReport &report) {
  static const char *const kTitles[] = {"Problem", "Table", "Detail"};
  put_rows(report, about(report, kHealthQuery), "Problems of the guard", {kTitles, lengthof(kTitles)},
           "<p class=\"well\">The guard finds nothing wrong with itself, its tables and its schedule.</p>\n",
           put_problem);
}

constexpr const char *kLimitsQuery =
    "SELECT s.guarded_table::pg_catalog.oid, s.scope::pg_catalog.text, s.limit_name, s.present, s.suggested, s.sample, "
    "s.p95,"
    " s.longest, s.wrong_share::pg_catalog.float8, s.statement, s.based_on"
    " FROM sync_guard.limit_suggestions($1::pg_catalog.oid::pg_catalog.regclass) AS s WHERE s.suggested IS NOT NULL";

void put_suggestion(HtmlReport &report, const Heads &heads, uint64 row) {
  Page &page = report.page;
  row_begin(page);
  place_cell(report, heads, 0, oid_at(row, 1), text_at(row, 2));
  name_cell(page, heads, 1, text_at(row, 3));
  cell_begin(page, heads, 2, "figure");
  if (const auto present = span_at(row, 4)) put_span(page, present);
  else put(page, "off");
  cell_end(page);
  span_cell(page, heads, 3, span_at(row, 5));
  cell_begin(page, heads, 4, "figure");
  put_count(page, int_at(row, 6).value_or(0), "run", "runs");
  if (const auto wrong = double_at(row, 9)) {
    put(page, "<span class=\"sub\">would reap wrongly, expected at most: ");
    put_share(page, *wrong);
    put(page, "</span>");
  }
  cell_end(page);
  cell_begin(page, heads, 5);
  put_text(page, text_at(row, 11), 200);
  put(page, "<code class=\"sub\">");
  put_text(page, text_at(row, 10), 500);
  put(page, "</code>");
  cell_end(page);
  row_end(page);
}

void put_suggestions(HtmlReport &report) {
  static const char *const kTitles[] = {"Where", "Limit", "Now", "Suggested", "Sample", "Based on, and how to set it"};
  put(report.page,
      "<p class=\"quiet\">Learned from the history of the last 90 days. Nothing is changed by itself.</p>\n");
  put_rows(report, about(report, kLimitsQuery), "Limits that would fit the history", {kTitles, lengthof(kTitles)},
           "<p class=\"note\">The history does not suggest any.</p>\n", put_suggestion);
}

// ---- settings ---------------------------------------------------------------------------------------

constexpr const char *kSettingsQuery =
    "SELECT s.relation_name, s.mode, s.max_silence, s.max_age, s.max_stall, s.scope_limits::pg_catalog.text, "
    "s.paused_until,"
    " s.exclusive, s.transitions, s.late_finish, pg_catalog.array_to_string(s.live_statuses, ', '), s.failed_status, "
    "s.time_zone,"
    " pg_catalog.array_to_string(s.scope_columns, ', '), s.problem FROM sync_guard.guarded_tables AS s"
    " WHERE $1 IS NULL OR s.relation OPERATOR(pg_catalog.=) $1";

void put_limit(Page &page, const char *name, const std::optional<core::Micros> &limit) {
  put_format(page, "<span class=\"sub\">%s ", name);
  if (limit) put_span(page, limit);
  else put(page, "off");
  put(page, "</span>");
}

void put_limits_cell(Page &page, const Heads &heads, uint64 row) {
  cell_begin(page, heads, 2, "figure");
  put_limit(page, "max_silence", span_at(row, 3));
  put_limit(page, "max_age", span_at(row, 4));
  put_limit(page, "max_stall", span_at(row, 5));
  if (const char *scopes = text_at(row, 6)) {
    put(page, "<span class=\"sub\">by scope: </span><code>");
    put_text(page, scopes, 800);
    put(page, "</code>");
  }
  cell_end(page);
}

void put_table_settings(HtmlReport &report, const Heads &heads, uint64 row) {
  Page &page = report.page;
  row_begin(page);
  cell_begin(page, heads, 0, "place");
  put_text(page, text_at(row, 1), 130);
  cell_end(page);
  cell_begin(page, heads, 1);
  put_text(page, text_at(row, 2), 20);
  if (const auto until = instant_at(row, 7)) {
    put(page, "<span class=\"sub\">reaping is paused until ");
    put_instant(page, until);
    put(page, "</span>");
  }
  if (const char *problem = text_at(row, 15)) {
    put(page, "<span class=\"tag error\">problem</span> ");
    put_text(page, problem, 300);
  }
  cell_end(page);
  put_limits_cell(page, heads, row);
  cell_begin(page, heads, 3);
  put_text(page, text_at(row, 11), 200);
  put(page, "<span class=\"sub\">reaped as ");
  put_text(page, text_at(row, 12), 60);
  put(page, "</span>");
  cell_end(page);
  cell_begin(page, heads, 4);
  put_text(page, text_at(row, 14), 300);
  put_format(page, "<span class=\"sub\">%s</span>", bool_at(row, 8) ? "one live run at a time" : "not exclusive");
  cell_end(page);
  cell_begin(page, heads, 5);
  put(page, "<span class=\"sub\">transitions: ");
  put_text(page, text_at(row, 9), 20);
  put(page, "</span><span class=\"sub\">late finish: ");
  put_text(page, text_at(row, 10), 20);
  put(page, "</span><span class=\"sub\">times in ");
  put_text(page, text_at(row, 13), 60);
  put(page, "</span>");
  cell_end(page);
  row_end(page);
}

void put_settings(HtmlReport &report) {
  static const char *const kTitles[] = {"Table", "Mode", "Limits", "Live statuses", "Scope", "Rules"};
  put_rows(report, about(report, kSettingsQuery), "Settings of the guarded tables", {kTitles, lengthof(kTitles)},
           "<p class=\"note\">No table is guarded that you may read.</p>\n", put_table_settings);
  const char *enabled = GetConfigOption("emag_sync_guard.enabled", true, false);
  if (enabled != nullptr && strcmp(enabled, "off") == 0)
    put(report.page,
        "<p><span class=\"tag error\">off</span> The guard is switched off here: "
        "<code>emag_sync_guard.enabled</code>.</p>\n");
}

}  // namespace

void report_alerts_now(HtmlReport &report) {
  report_section(report, "alerts", "Alerts", [&report] {
    put_alerts_now(report);
    put_rules(report);
  });
}

void report_alert_history(HtmlReport &report) {
  report_section(report, "history", "Alert history", [&report] { put_alert_history(report); });
}

void report_health(HtmlReport &report) {
  report_section(report, "health", "Health", [&report] { put_health(report); });
}

void report_suggestions(HtmlReport &report) {
  report_section(report, "limits", "Suggested limits", [&report] { put_suggestions(report); });
}

void report_settings(HtmlReport &report) {
  report_section(report, "settings", "Settings", [&report] { put_settings(report); });
}

}  // namespace esg
