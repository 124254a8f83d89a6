// Building blocks of the report's page. See report_page.h.

#include "core/html.h"

#include "report_page.h"

#include "settings.h"

namespace esg {
namespace {

/// Text in the server's encoding as UTF-8, with a replacement for each character that UTF-8 has not. Of a database whose encoding
/// nothing converts, or that has none, the bytes are taken as they are.
const char *as_utf8(const char *text, int length) {
  const int encoding = GetDatabaseEncoding();
  if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII) return text;
  const Oid conversion = FindDefaultConversionProc(encoding, PG_UTF8);
  if (!OidIsValid(conversion)) return text;
  StringInfoData out;
  initStringInfo(&out);
  const int room = length * MAX_CONVERSION_GROWTH + 1;
  auto *piece = static_cast<unsigned char *>(palloc(room));
  const char *const end = text + length;
  while (text < end) {
    auto *from = reinterpret_cast<unsigned char *>(const_cast<char *>(text));
    text += pg_do_encoding_conversion_buf(conversion, encoding, PG_UTF8, from, static_cast<int>(end - text), piece,
                                          room, true);
    appendStringInfoString(&out, reinterpret_cast<char *>(piece));
    if (text == end) break;
    appendStringInfoString(&out, "\xEF\xBF\xBD");
    text += Min(pg_encoding_mblen(encoding, text), end - text);
  }
  return out.data;
}

/// No character has more bytes in any encoding of the server's: what is longer is cut before it is converted.
constexpr int kMaxBytes = 8;

void put_offset(Page &page, int west) {
  const int minutes = abs(west) / SECS_PER_MINUTE;
  put_format(page, "%c%02d:%02d", west > 0 ? '-' : '+', minutes / MINS_PER_HOUR, minutes % MINS_PER_HOUR);
}

}  // namespace

const char *const kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

void put(Page &page, const char *html) { appendStringInfoString(&page.html, html); }

void put_format(Page &page, const char *format, ...) {
  for (;;) {
    va_list arguments;
    va_start(arguments, format);
    const int needed = appendStringInfoVA(&page.html, format, arguments);
    va_end(arguments);
    if (needed == 0) return;
    enlargeStringInfo(&page.html, needed);
  }
}

void put_text(Page &page, const char *text, int limit) {
  if (text == nullptr) return;
  auto length = static_cast<int>(strlen(text));
  const bool long_text = length > limit * kMaxBytes;
  if (long_text) length = pg_mbcliplen(text, length, limit * kMaxBytes);
  const char *cut = long_text ? pnstrdup(text, length) : text;
  const std::string_view utf8(as_utf8(cut, length));
  std::size_t at = 0;
  int count = 0;
  for (; at < utf8.size() && count < limit; ++count) {
    char out[core::kHtmlCharacterSize];
    const std::size_t size = core::put_html_character(core::next_code_point(utf8, &at), out);
    appendBinaryStringInfo(&page.html, out, static_cast<int>(size));
  }
  if (at < utf8.size() || long_text) put(page, "&hellip;");
}

void truncate_page(Page &page, int length) {
  page.html.len = length;
  page.html.data[length] = '\0';
}

void put_clock(Page &page, core::Micros instant) {
  struct pg_tm tm;
  fsec_t fraction;
  int west;
  if (timestamp2tm(instant, &west, &tm, &fraction, nullptr, page.zone) != 0) return put(page, "out of range");
  const bool bc = tm.tm_year <= 0;
  put_format(page, "%d&nbsp;%s&nbsp;%d%s %02d:%02d:%02d", tm.tm_mday, kMonths[tm.tm_mon - 1],
             bc ? 1 - tm.tm_year : tm.tm_year, bc ? "&nbsp;BC" : "", tm.tm_hour, tm.tm_min, tm.tm_sec);
}

void put_instant(Page &page, const std::optional<core::Micros> &instant) {
  struct pg_tm tm;
  fsec_t fraction;
  int west;
  if (!instant || timestamp2tm(*instant, &west, &tm, &fraction, nullptr, page.zone) != 0) return put(page, "&ndash;");
  // HTML knows no year before the first.
  if (tm.tm_year <= 0) return put_clock(page, *instant);
  put_format(page, "<time datetime=\"%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour,
             tm.tm_min, tm.tm_sec);
  put_offset(page, west);
  put(page, "\">");
  put_clock(page, *instant);
  put(page, "</time>");
}

void put_span(Page &page, const std::optional<core::Micros> &span) {
  if (!span) return put(page, "&ndash;");
  char words[48];
  put_format(page, "<span class=\"span\">%s</span>", core::describe_span(*span, words, sizeof words));
}

void put_share(Page &page, double share) {
  const double percent = share * 100;
  put_format(page, percent > 0 && percent < 10 ? "%.1f&nbsp;%%" : "%.0f&nbsp;%%", percent);
}

void put_count(Page &page, int64 count, const char *one, const char *many) {
  put_format(page, INT64_FORMAT " %s", count, count == 1 ? one : many);
}

void page_begin(Page &page, const char *title) {
  put(page,
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
      "img-src data:; base-uri 'none'; form-action 'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>");
  put_text(page, title, 120);
  put(page, "</title>\n<style>");
  put(page, kReportStyle);
  put(page, "</style>\n</head>\n<body>\n");
}

void page_end(Page &page) { put(page, "</body>\n</html>\n"); }

void section_begin(Page &page, const char *id, const char *title) {
  put_format(page, "<section id=\"%s\" aria-labelledby=\"%s-title\">\n<h2 id=\"%s-title\">%s</h2>\n", id, id, id,
             title);
}

void section_end(Page &page) { put(page, "</section>\n"); }

// Their roles are said, since a table that is laid out as cards has none by itself.
void table_begin(Page &page, const char *label, const Heads &heads, const char *css_class) {
  put_format(page, "<table role=\"table\" class=\"%s\" aria-label=\"%s\">\n<thead role=\"rowgroup\"><tr role=\"row\">",
             css_class, label);
  for (int i = 0; i < heads.count; ++i)
    put_format(page, "<th role=\"columnheader\" scope=\"col\">%s</th>", heads.titles[i]);
  put(page, "</tr></thead>\n<tbody role=\"rowgroup\">\n");
}

void row_begin(Page &page, const char *css_class) { put_format(page, "<tr role=\"row\" class=\"%s\">", css_class); }

void cell_begin(Page &page, const Heads &heads, int number, const char *css_class) {
  put_format(page, "<td role=\"cell\" class=\"%s\" data-label=\"%s\"><div>", css_class, heads.titles[number]);
}

void cell_end(Page &page) { put(page, "</div></td>"); }

void row_end(Page &page) { put(page, "</tr>\n"); }

void table_end(Page &page, int64 shown, int64 total) {
  put(page, "</tbody>\n</table>\n");
  if (total > shown) put_format(page, "<p class=\"more\">and " INT64_FORMAT " more</p>\n", total - shown);
}

void text_cell(Page &page, const Heads &heads, int number, const char *text, int limit) {
  cell_begin(page, heads, number);
  if (text == nullptr) put(page, "&ndash;");
  else put_text(page, text, limit);
  cell_end(page);
}

void instant_cell(Page &page, const Heads &heads, int number, const std::optional<core::Micros> &instant) {
  cell_begin(page, heads, number, "when");
  put_instant(page, instant);
  cell_end(page);
}

void span_cell(Page &page, const Heads &heads, int number, const std::optional<core::Micros> &span) {
  cell_begin(page, heads, number, "figure");
  put_span(page, span);
  cell_end(page);
}

}  // namespace esg
