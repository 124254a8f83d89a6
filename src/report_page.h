// Building blocks of the report's page: escaping, times, tables. What is written as code here is plain ASCII and well formed;
// everything else goes through put_text.
#pragma once

#include "pg/prelude.h"

namespace esg {

struct Page {
  StringInfoData html;
  core::Micros begin = 0;  ///< the window: from here …
  core::Micros now = 0;    ///< … to here
  pg_tz *zone = nullptr;   ///< in which times are shown: the session's
};

/// HTML as it stands.
void put(Page &page, const char *html);
__attribute__((format(__printf__, 2, 3))) void put_format(Page &page, const char *format, ...);

/// Text of anybody's, escaped for content and attributes alike and cut after `limit` characters.
void put_text(Page &page, const char *text, int limit = 300);

/// Takes back what was written after the page was this long.
void truncate_page(Page &page, int length);

/// An instant in the page's zone, with its date; a dash where there is none. `put_instant` makes an element of it, which
/// tells the zone's offset too; `put_clock` is plain, for tooltips.
void put_instant(Page &page, const std::optional<core::Micros> &instant);
void put_clock(Page &page, core::Micros instant);

/// Of the year, from 0; in three letters.
extern const char *const kMonths[12];

/// A span in words; a dash where there is none.
void put_span(Page &page, const std::optional<core::Micros> &span);

/// A share as a percentage.
void put_share(Page &page, double share);

/// "1 run", "2 runs".
void put_count(Page &page, int64 count, const char *one, const char *many);

/// Head and end of the document, sections.
void page_begin(Page &page, const char *title);
void page_end(Page &page);
void section_begin(Page &page, const char *id, const char *title);
void section_end(Page &page);

/// A table whose rows become cards where the page is narrow; each cell names its column there.
struct Heads {
  const char *const *titles;
  int count;
};
/// `css_class`: "numbers", of short ones, where a card has several in a line.
void table_begin(Page &page, const char *label, const Heads &heads, const char *css_class = "");
void row_begin(Page &page, const char *css_class = "");
/// Begins the cell of column `number`, from 0; `css_class` may be empty.
void cell_begin(Page &page, const Heads &heads, int number, const char *css_class = "");
void cell_end(Page &page);
void row_end(Page &page);
/// `total`: of how many rows `shown` are shown.
void table_end(Page &page, int64 shown, int64 total);

/// A whole cell.
void text_cell(Page &page, const Heads &heads, int number, const char *text, int limit = 300);
void instant_cell(Page &page, const Heads &heads, int number, const std::optional<core::Micros> &instant);
void span_cell(Page &page, const Heads &heads, int number, const std::optional<core::Micros> &span);

/// The style sheet.
extern const char *const kReportStyle;

}  // namespace esg
