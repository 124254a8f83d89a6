// The report's reaped runs: why each was closed, what was known of it, and the row as it was. Read through the view
// reaped_syncs, as the caller.

#include "report.h"

#include "result_values.h"

namespace esg {
namespace {

/// Counting goes no further: each line costs a look at what came of it.
constexpr int kMaxCounted = 10000;
constexpr int kMaxFields = 60;

constexpr const char *kReapedQuery =
    "SELECT r.relation_name, r.run_key, r.scope::pg_catalog.text, r.reaped_at, r.verdict, r.reason, r.evidence, r.path,"
    " r.role::pg_catalog.text, r.mode, r.outcome, r.outcome_at, r.false_positive, r.run, r.wanted"
    " FROM sync_guard.reaped_syncs AS r WHERE r.reaped_at OPERATOR(pg_catalog.>=) $1"
    " AND ($2 IS NULL OR r.relation OPERATOR(pg_catalog.=) $2) LIMIT 40";
constexpr const char *kCountQuery =
    "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE c.mode OPERATOR(pg_catalog.=) 'guard') FROM (SELECT "
    "r.mode FROM sync_guard.reaped_syncs AS r"
    " WHERE r.reaped_at OPERATOR(pg_catalog.>=) $1 AND ($2 IS NULL OR r.relation OPERATOR(pg_catalog.=) $2)"
    " LIMIT 10000) AS c";

pg::Statement statement(const HtmlReport &report, const char *sql) {
  pg::Statement query(sql);
  query.add(TIMESTAMPTZOID, TimestampTzGetDatum(report.page.begin));
  return query.add(OIDOID, ObjectIdGetDatum(report.relation), !OidIsValid(report.relation));
}

/// An instant as the journal writes it, "2025-10-01T15:11:11.000000+00:00"; absent for any other text.
std::optional<core::Micros> parse_iso_utc(const char *text) {
  struct pg_tm tm = {};
  int micros = 0;
  int length = 0;
  if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%6d+00:00%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour, &tm.tm_min,
             &tm.tm_sec, &micros, &length) != 7 ||
      text[length] != '\0' || length == 0)
    return std::nullopt;
  if (tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 24) return std::nullopt;
  int offset = 0;
  Timestamp instant;
  if (tm2timestamp(&tm, micros, &offset, &instant) != 0) return std::nullopt;
  return instant;
}

bool ends_in(const char *text, const char *end) {
  const std::size_t length = strlen(text);
  return length > strlen(end) && strcmp(text + length - strlen(end), end) == 0;
}

/// A field's name in words; a span's without its unit.
void put_field_name(Page &page, const char *name) {
  char *words = pstrdup(name);
  if (ends_in(words, "_seconds")) words[strlen(words) - strlen("_seconds")] = '\0';
  for (char *c = words; *c != '\0'; ++c)
    if (*c == '_') *c = ' ';
  put_text(page, words, 80);
}

void put_field_value(Page &page, const char *name, const JsonbValue &value, bool in_words) {
  if (value.type == jbvBinary) {
    put(page, "<code>");
    put_text(page, JsonbToCString(nullptr, value.val.binary.data, value.val.binary.len), 600);
    return put(page, "</code>");
  }
  const char *text = json_scalar_text(value);
  if (text == nullptr) return put(page, "&ndash;");
  if (in_words && value.type == jbvNumeric && ends_in(name, "_seconds"))
    return put_span(page, static_cast<core::Micros>(strtod(text, nullptr) * core::kSecond));
  const auto instant = in_words ? parse_iso_utc(text) : std::nullopt;
  if (instant) put_instant(page, instant);
  else put_text(page, text, 600);
}

/// A JSON object as a list. `in_words`: with the evidence's times and spans as people read them; else names are columns.
/// Fields that are null are left out.
void put_object(Page &page, const char *title, Jsonb *object, bool in_words) {
  if (object == nullptr || !JB_ROOT_IS_OBJECT(object)) return;
  put_format(page, "<div class=\"box\"><b>%s</b><dl>", title);
  JsonbIterator *it = JsonbIteratorInit(&object->root);
  JsonbValue value;
  const char *name = nullptr;
  int shown = 0;
  for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, true); token != WJB_DONE;
       token = JsonbIteratorNext(&it, &value, true)) {
    if (token == WJB_KEY) name = pnstrdup(value.val.string.val, value.val.string.len);
    if (token != WJB_VALUE || name == nullptr || value.type == jbvNull || ++shown > kMaxFields) continue;
    put(page, "<dt>");
    if (in_words) put_field_name(page, name);
    else put_text(page, name, 80);
    put(page, "</dt><dd>");
    put_field_value(page, name, value, in_words);
    put(page, "</dd>");
  }
  put(page, "</dl>");
  if (shown > kMaxFields) put_format(page, "<p class=\"more\">and %d more</p>", shown - kMaxFields);
  put(page, "</div>");
}

const Guarded *table_called(const HtmlReport &report, const char *name) {
  ListCell *cell;
  foreach (cell, report.tables)
    if (name != nullptr && strcmp(static_cast<const Guarded *>(lfirst(cell))->name, name) == 0)
      return static_cast<const Guarded *>(lfirst(cell));
  return nullptr;
}

/// What the row's summary columns say of the run: "operation full_sync".
void put_what(Page &page, const Guarded *g, Jsonb *run) {
  if (g == nullptr || run == nullptr || !JB_ROOT_IS_OBJECT(run)) return;
  for (int i = 0; i < g->summary_count; ++i) {
    JsonbValue value;
    const char *name = g->summary[i].name;
    if (!tells_what(*g, g->summary[i]) ||
        getKeyJsonValueFromContainer(&run->root, name, static_cast<int>(strlen(name)), &value) == nullptr)
      continue;
    const char *text = json_scalar_text(value);
    if (text == nullptr) continue;
    put(page, "<span class=\"sub\">");
    put_text(page, name, 64);
    put(page, " ");
    put_text(page, text, 200);
    put(page, "</span>");
  }
}

void put_run_cell(HtmlReport &report, const Heads &heads, uint64 row) {
  Page &page = report.page;
  const char *name = text_at(row, 1);
  const Guarded *g = table_called(report, name);
  cell_begin(page, heads, 0, "key");
  put_text(page, scope_label(g, text_at(row, 3)), 100);
  put_what(page, g, json_at(row, 14));
  if (list_length(report.tables) > 1 || g == nullptr) {
    put(page, "<span class=\"sub\">");
    put_text(page, name, 130);
    put(page, "</span>");
  }
  put(page, "<code class=\"sub\">");
  put_text(page, text_at(row, 2), 60);
  put(page, "</code>");
  cell_end(page);
}

void put_why_cell(Page &page, const Heads &heads, uint64 row) {
  const bool observed = strcmp(text_at(row, 10), "observe") == 0;
  cell_begin(page, heads, 2);
  put(page, observed ? "<span class=\"tag info\">would be reaped</span> "
                     : "<span class=\"tag reaped\">&#x2715; reaped</span> ");
  put_text(page, text_at(row, 6), 400);
  put(page, "<details><summary>Evidence</summary>");
  put_object(page, "What was known of it", json_at(row, 7), true);
  put_object(page, "The row as it was", json_at(row, 14), false);
  put_object(page, "The row as its late worker wanted it", json_at(row, 15), false);
  put(page, "</details>");
  cell_end(page);
}

void put_outcome_cell(Page &page, const Heads &heads, uint64 row) {
  cell_begin(page, heads, 3);
  const char *outcome = text_at(row, 11);
  if (bool_at(row, 13)) put(page, "<span class=\"tag warning\">it was alive</span> ");
  if (outcome == nullptr) {
    put(page, "&ndash;");
  } else {
    put_text(page, outcome, 60);
    put(page, "<span class=\"sub\">");
    put_instant(page, instant_at(row, 12));
    put(page, "</span>");
  }
  cell_end(page);
}

void put_reaped_row(HtmlReport &report, const Heads &heads, uint64 row) {
  Page &page = report.page;
  row_begin(page, "reaped");
  put_run_cell(report, heads, row);
  cell_begin(page, heads, 1, "when");
  put_instant(page, instant_at(row, 4));
  put(page, "<span class=\"sub\">by ");
  put_text(page, text_at(row, 8), 40);
  put(page, ", role ");
  put_text(page, text_at(row, 9), 70);
  put(page, "</span>");
  cell_end(page);
  put_why_cell(page, heads, row);
  put_outcome_cell(page, heads, row);
  row_end(page);
}

void put_reaped(HtmlReport &report) {
  static const char *const kTitles[] = {"Run", "Reaped", "Why", "Since then"};
  const Heads heads{kTitles, lengthof(kTitles)};
  pg::spi_begin();
  pg::spi_run(statement(report, kCountQuery), pg::Access::kRead);
  const int64 lines = int_at(0, 1).value_or(0);
  report.reaped = int_at(0, 2).value_or(0);
  pg::spi_end();
  if (lines == 0) return put(report.page, "<p class=\"note\">No run was reaped in this window.</p>\n");
  pg::spi_begin();
  const auto rows = static_cast<int64>(pg::spi_run(statement(report, kReapedQuery), pg::Access::kRead));
  table_begin(report.page, "Reaped runs, newest first", heads);
  for (int64 i = 0; i < rows; ++i) put_reaped_row(report, heads, i);
  table_end(report.page, rows, lines);
  if (lines == kMaxCounted) put(report.page, "<p class=\"note\">Counted no further.</p>\n");
  pg::spi_end();
}

}  // namespace

void report_reaped(HtmlReport &report) {
  report_section(report, "reaped", "Reaped runs", [&report] { put_reaped(report); });
}

}  // namespace esg
