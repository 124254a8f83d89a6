// The function behind watch_80 and watch_120: the runs of now as lines for a terminal. Runs in the caller's process with ACCESS
// SHARE on the guarded tables, judges at the instant of the call, and writes nothing.
//
// Every value is made exactly as wide as its column, counted in the cells of a terminal as psql counts them: so no line is
// wider than the terminal, and \watch shows columns that stand still. What does not fit is cut.

#include "core/html.h"

#include "expectations.h"
#include "monitor.h"
#include "pg/rows.h"
#include "worker.h"

/// watch_lines(wide boolean): a line per run in a live status that the caller may see; wide: for 120 columns, else for 80.
ESG_SQL_FUNCTION(watch_lines);

namespace esg {
namespace {

/// Widths of the columns. With psql's three characters between two and one at each side they make 80 and 120.
constexpr int kNarrowName = 15;
constexpr int kWideName = 18;
constexpr int kKey = 8;
constexpr int kSpan = 6;
constexpr int kBarCells = 5;
constexpr int kProgress = kBarCells + 5;
constexpr int kCounts = 9;
constexpr int kRate = 6;
constexpr int kVerdict = 8;
constexpr int kWhy = 25;
/// Marks that follow a letter, or nothing at all: more than this one after the other are left out.
constexpr int kMostMarks = 2;
constexpr const char *kUnknown = "-";

enum class Align { kLeft, kRight };

/// In which encoding texts are counted and cut: the database's; of one without an encoding the client's, which the server would
/// not send half a character to.
int text_encoding() { return GetDatabaseEncoding() == PG_SQL_ASCII ? pg_get_client_encoding() : GetDatabaseEncoding(); }

/// Control characters beyond ASCII's, which an encoding of single bytes counts as letters.
bool is_high_control(const char *at, int encoding) {
  const auto byte = static_cast<unsigned char>(*at);
  const bool iso =
      (encoding >= PG_LATIN1 && encoding <= PG_LATIN10) || (encoding >= PG_ISO_8859_5 && encoding <= PG_ISO_8859_8);
  return iso && byte >= 0x80 && byte <= 0x9F;
}

/// How many cells a terminal fills with the character; -1: it cannot be told, or the reader would be misled.
int cells_of(const char *at, int bytes, int encoding) {
  if (encoding == PG_UTF8 && core::misleads(utf8_to_unicode(reinterpret_cast<const unsigned char *>(at)))) return -1;
  if (bytes == 1 && is_high_control(at, encoding)) return -1;
  return pg_encoding_dsplen(encoding, at);
}

/// One character of a text, and what is shown of it.
struct Shown {
  int bytes;  ///< of the character
  const char *text;
  int length;
  int width;
};

/// The character at `at`, of which there are `left` bytes. What would move the cursor or is no character is shown as '?', white
/// space as a blank.
Shown shown(const char *at, int left) {
  const int encoding = text_encoding();
  const int bytes = pg_encoding_verifymbchar(encoding, at, left);
  if (bytes <= 0) return {1, "?", 1, 1};
  const int width = cells_of(at, bytes, encoding);
  if (width >= 0) return {bytes, at, bytes, width};
  const bool blank = *at == '\n' || *at == '\t' || *at == '\r';
  return {bytes, blank ? " " : "?", 1, 1};
}

/// Appends what of the text fits into `width` cells, and returns how many it fills. False in `all`: something was left out.
int append_fitting(StringInfo out, const char *text, int width, bool *all) {
  const char *end = text + strlen(text);
  int cells = 0;
  int marks = 0;
  *all = true;
  for (const char *at = text; at < end;) {
    const Shown one = shown(at, static_cast<int>(end - at));
    if (cells + one.width > width) {
      *all = false;
      break;
    }
    marks = one.width == 0 ? marks + 1 : 0;
    if (marks <= kMostMarks) appendBinaryStringInfo(out, one.text, one.length);
    cells += one.width;
    at += one.bytes;
  }
  return cells;
}

/// The text in exactly `width` cells.
char *fitted(const char *text, int width, Align align) {
  StringInfoData shown_text;
  initStringInfo(&shown_text);
  bool all;
  int cells = append_fitting(&shown_text, text, width, &all);
  if (!all) {
    resetStringInfo(&shown_text);
    cells = append_fitting(&shown_text, text, width - 1, &all);
    appendStringInfoString(&shown_text, bar_style() == core::BarStyle::kBlocks ? "…" : "~");
    ++cells;
  }
  return align == Align::kLeft ? psprintf("%s%*s", shown_text.data, width - cells, "")
                               : psprintf("%*s%s", width - cells, "", shown_text.data);
}

/// What a person calls the run: the values of its scope, or its table.
const char *name_of(const Guarded &g, const Run &run) {
  if (g.scope_count == 0) return get_rel_name(g.table);
  StringInfoData name;
  initStringInfo(&name);
  for (int i = 0; i < g.scope_count; ++i) {
    if (i > 0) appendStringInfoString(&name, " / ");
    if (!run.scope.values[i]) appendStringInfoString(&name, kUnknown);
    else appendBinaryStringInfo(&name, run.scope.values[i]->data(), static_cast<int>(run.scope.values[i]->size()));
  }
  return name.data;
}

const char *span_text(const std::optional<core::Micros> &span, int width, core::Zeros zeros = core::Zeros::kShow) {
  if (!span) return kUnknown;
  char text[32];
  return pstrdup(core::short_span(*span, width, zeros, text, sizeof text));
}

std::optional<core::Micros> from_to(const std::optional<core::Micros> &from, const std::optional<core::Micros> &to) {
  if (!from || !to) return std::nullopt;
  return *to - *from;
}

const char *progress_text(const Run &run) {
  const auto share = core::share_done(run.done, run.total);
  if (!share) return kUnknown;
  char bar[kBarCells * 4];
  char percent[16];
  core::draw_bar(*share, kBarCells, bar_style(), bar, sizeof bar);
  return psprintf("%s %4s", bar, core::short_percent(*share, percent, sizeof percent));
}

const char *counts_text(const Run &run) {
  if (!run.done) return kUnknown;
  char done[16];
  char total[16];
  core::short_count(static_cast<double>(*run.done), done, sizeof done);
  if (!run.total || *run.total <= 0) return pstrdup(done);
  return psprintf("%s/%s", done, core::short_count(static_cast<double>(*run.total), total, sizeof total));
}

const char *rate_text(const core::Expectation &expected) {
  if (!expected.rate) return kUnknown;
  char rate[32];
  return pstrdup(core::short_rate(*expected.rate, rate, sizeof rate));
}

/// The time that is left; after ~ where it is only what is usual.
const char *left_text(const core::Expectation &expected, core::Micros now) {
  const auto left = from_to(now, expected.end);
  if (expected.by != core::ExpectedBy::kUsualDuration) return span_text(left, kSpan);
  return psprintf("~%s", span_text(left, kSpan - 1));
}

/// The verdict with its figures: "silent 2h05m > 1h", "live, limit 1h".
const char *why_text(const Run &run) {
  const core::Judgement &judgement = run.judgement;
  const char *name = core::verdict_name(judgement.verdict);
  if (run.uncommitted) return psprintf("%s, not committed yet", name);
  const char *limit = span_text(judgement.limit, kSpan - 1, core::Zeros::kDrop);
  if (judgement.verdict == core::Verdict::kLive) return judgement.limit ? psprintf("%s, limit %s", name, limit) : name;
  if (!judgement.measured) return name;
  const char *measured = span_text(judgement.measured, kSpan - 1);
  if (!judgement.limit) return psprintf("%s %s", name, measured);
  return psprintf("%s %s %c %s", name, measured, judgement.dead() ? '>' : '<', limit);
}

void put_line(pg::Rows &rows, const Guarded &g, const Run &run, const core::Expectation &expected, core::Micros now,
              bool wide) {
  const auto since_sign = from_to(core::last_sign_of_life(run.evidence), now);
  rows.add_bool(run.judgement.dead())
      .add_instant(run.started)
      .add_text(fitted(name_of(g, run), wide ? kWideName : kNarrowName, Align::kLeft))
      .add_text(fitted(run.key, kKey, Align::kLeft))
      .add_text(fitted(span_text(from_to(run.started, now), kSpan), kSpan, Align::kRight))
      .add_text(fitted(progress_text(run), kProgress, Align::kLeft))
      .add_text(fitted(counts_text(run), kCounts, Align::kRight))
      .add_text(fitted(rate_text(expected), kRate, Align::kRight))
      .add_text(fitted(left_text(expected, now), kSpan, Align::kRight))
      .add_text(fitted(span_text(since_sign, kSpan), kSpan, Align::kRight))
      .add_text(fitted(core::verdict_name(run.judgement.verdict), kVerdict, Align::kLeft))
      .add_text(fitted(why_text(run), kWhy, Align::kLeft))
      .put();
}

}  // namespace

static Datum watch_lines(FunctionCallInfo fcinfo) {
  const bool wide = !PG_ARGISNULL(0) && PG_GETARG_BOOL(0);
  pg::Rows rows(fcinfo);
  const core::Question question = question_now();
  const Oid caller = GetUserId();
  ask_again();
  each_readable_table([&rows, &question, caller, wide](const Guarded &g) {
    rows.drop_unfinished();
    RunFilter filter;
    filter.uncommitted = sees_uncommitted(g, caller);
    const Runs runs = read_runs(g, filter, question);
    const Rhythms rhythms = rhythms_of_runs(g, runs);
    for (int i = 0; i < runs.count; ++i)
      put_line(rows, g, runs.items[i], expectation_of(g, runs.items[i], rhythms, question.now), question.now, wide);
  });
  return 0;
}

}  // namespace esg
