// The report: what its sections share. Made in the caller's process, by his own rights; writes nothing.
#pragma once

#include "pg/boundary.h"
#include "report_history.h"
#include "report_page.h"

namespace esg {

/// One report in the making: its sections are written first, then what stands above them. Lives on the stack of report_html;
/// everything it points to lives for the call.
struct HtmlReport {
  Page page;
  History history;
  Oid relation = InvalidOid;  ///< the one table it is about; InvalidOid: all
  List *tables = NIL;         ///< those the caller may read
  int64 alerts = -1;          ///< raised now; -1: not known
  int64 reaped = -1;          ///< reaped in the window; -1: not known
};

/// The sections, in the order of the page.
void report_summary(HtmlReport &report);
void report_now(HtmlReport &report);
void report_alerts_now(HtmlReport &report);
void report_timeline(HtmlReport &report);
void report_charts(HtmlReport &report);
void report_reaped(HtmlReport &report);
void report_alert_history(HtmlReport &report);
void report_health(HtmlReport &report);
void report_suggestions(HtmlReport &report);
void report_settings(HtmlReport &report);

/// A section: its heading, then what `work` writes; where that fails, why. Its end is section_end()'s.
template <typename Work>
void report_section(HtmlReport &report, const char *id, const char *title, const Work &work) {
  section_begin(report.page, id, title);
  const int length = report.page.html.len;
  const ErrorData *error = pg::try_in_subtransaction(work);
  if (error != nullptr) {
    truncate_page(report.page, length);
    put(report.page, "<p class=\"note\">This could not be read: ");
    put_text(report.page, error->message, 500);
    put(report.page, "</p>");
  }
  section_end(report.page);
}

/// A table's name and a scope of it in words, as two lines of one cell. Either may be missing.
void put_place(HtmlReport &report, Oid relation, const char *scope);

}  // namespace esg
