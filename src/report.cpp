// report_html(): the runs of the last hours or days as one page that needs nothing else: no script, no network. Runs in the
// caller's process and by his rights, with ACCESS SHARE on the guarded tables; writes nothing, and so works in read-only
// transactions and on a standby.
//
// Its cost follows the runs of the window, and of these the newest 100 000 per table (report_history.h); its size is bounded:
// runs that cannot be told apart in the timeline are one bar, tables are capped.

#include "report.h"

#include "errors.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "runs.h"

/// report_html(since interval, relation regclass) → text.
ESG_SQL_FUNCTION(report_html);

namespace esg {
namespace {

constexpr core::Micros kLongestWindow = 36525 * core::kDay;

[[noreturn]] void refuse_since(const Interval *since) {
  const char *text = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(since)));
  ereport(ERROR, errcode(kBadOption), errmsg("since must be a positive time, and not longer than 100 years"),
          errdetail("It is %s.", text), errhint("Give how far the report reaches back, for example '7 days'."));
}

/// Where the window begins: as long before `now` as the calendar has it.
core::Micros begin_of(const Interval *since, core::Micros now) {
  const core::Micros span = micros_of(since);
  if (span <= 0 || span > 2 * kLongestWindow) refuse_since(since);
  const TimestampTz begin = DatumGetTimestampTz(
      DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(now), IntervalPGetDatum(since)));
  if (begin >= now || now - begin > kLongestWindow) refuse_since(since);
  return begin;
}

/// The argument `since`; NULL is its default.
const Interval *since_argument(FunctionCallInfo fcinfo) {
  if (!PG_ARGISNULL(0)) return PG_GETARG_INTERVAL_P(0);
  auto *day = static_cast<Interval *>(palloc0(sizeof(Interval)));
  day->time = core::kDay;
  return day;
}

/// The tables of the report; with one named, that one, or its partitioned table where a partition is named.
void choose_tables(HtmlReport *report, Oid relation) {
  report->tables = readable_tables(relation, true);
  if (OidIsValid(relation) && report->tables != NIL)
    report->relation = static_cast<const Guarded *>(linitial(report->tables))->table;
}

void put_fact(Page &page, const char *name, const char *value) {
  put_format(page, "<dt>%s</dt><dd>", name);
  put_text(page, value, 200);
  put(page, "</dd>");
}

/// The extension's version in this database, which may be older than the library.
const char *extension_version() {
  const MemoryContext context = CurrentMemoryContext;
  pg::spi_begin();
  const uint64 rows = pg::spi_run(pg::Statement("SELECT e.extversion FROM pg_catalog.pg_extension AS e"
                                                " WHERE e.extname OPERATOR(pg_catalog.=) 'emag_sync_guard'"),
                                  pg::Access::kRead);
  const char *version = rows == 0 ? nullptr : pg::spi_text(0, 1, context);
  pg::spi_end();
  return version;
}

void put_footer(Page &page) {
  put(page, "<footer>\n<dl>\n<dt>Generated at</dt><dd>");
  put_instant(page, page.now);
  put(page, "</dd>");
  put_fact(page, "Time zone of this page", pg_get_timezone_name(page.zone));
  put_fact(page, "Server",
           psprintf("PostgreSQL %s%s", GetConfigOption("server_version", false, false),
                    RecoveryInProgress() ? ", a standby: as of the last transaction replayed" : ""));
  put_fact(page, "Database", get_database_name(MyDatabaseId));
  put_fact(page, "Asked by role", GetUserNameFromId(GetUserId(), false));
  put_fact(page, "emag_sync_guard", extension_version());
  put(page, "</dl>\n</footer>\n");
}

void write_sections(HtmlReport &report) {
  initStringInfo(&report.page.html);
  put(report.page, "<main>\n");
  report_now(report);
  report_alerts_now(report);
  report_timeline(report);
  report_charts(report);
  report_reaped(report);
  report_alert_history(report);
  report_health(report);
  report_suggestions(report);
  report_settings(report);
  put(report.page, "</main>\n");
}

}  // namespace

void put_place(HtmlReport &report, Oid relation, const char *scope) {
  const Guarded *g = table_of(report.tables, relation);
  const bool scoped = scope != nullptr && strcmp(scope, "{}") != 0;
  if (scoped) put_text(report.page, scope_label(g, scope), 100);
  // With one table, every scope is one of its.
  if (scoped && g != nullptr && list_length(report.tables) == 1) return;
  const char *name = g != nullptr                                                ? g->name
                     : OidIsValid(relation) && get_rel_name(relation) != nullptr ? qualified_name(relation)
                                                                                 : nullptr;
  if (name == nullptr) return;
  put(report.page, scoped ? "<span class=\"sub\">" : "<span>");
  put_text(report.page, name, 130);
  put(report.page, "</span>");
}

static Datum report_html(FunctionCallInfo fcinfo) {
  HtmlReport report;
  const Interval *since = since_argument(fcinfo);
  report.page.now = question_now().now;
  report.page.begin = begin_of(since, report.page.now);
  report.page.zone = session_timezone;
  choose_tables(&report, relation_argument(fcinfo, 1));
  read_history(report.page, report.tables, &report.history);
  write_sections(report);
  const StringInfoData sections = report.page.html;
  initStringInfo(&report.page.html);
  page_begin(report.page, "Sync report");
  report_summary(report);
  appendBinaryStringInfo(&report.page.html, sections.data, sections.len);
  put_footer(report.page);
  page_end(report.page);
  PG_RETURN_TEXT_P(cstring_to_text_with_len(report.page.html.data, report.page.html.len));
}

}  // namespace esg
