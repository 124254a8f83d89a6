// What guard_health says of the runs that were found dead and turned out to be alive, and which limit would have been long
// enough for them. Reads the journal as the extension's owner. See health.h.

#include <cmath>

#include "health.h"

#include "pg/spi.h"

namespace esg {
namespace {

/// How far back mistakes count.
constexpr core::Micros kLookBack = 7 * core::kDay;

/// The limit that a verdict goes by.
struct LimitKind {
  core::Verdict verdict;
  const char *option;
  std::optional<core::Micros> core::Limits::*limit;
};
constexpr LimitKind kLimitKinds[] = {{core::Verdict::kSilent, "max_silence", &core::Limits::max_silence},
                                     {core::Verdict::kOverdue, "max_age", &core::Limits::max_age},
                                     {core::Verdict::kStalled, "max_stall", &core::Limits::max_stall}};

/// One reaping that was a mistake. Spans are in seconds.
struct Mistake {
  const char *verdict;
  const char *scope_text;  ///< for people; null where the table had no scope columns
  const Jsonb *scope;
  double measured;               ///< what the rule had measured
  double limit;                  ///< what it was compared with
  std::optional<double> needed;  ///< how long a limit it would have needed, as far as the run's own signs tell
};

/// The mistakes of one verdict in one scope.
struct Group {
  const Mistake *first = nullptr;
  int64 count = 0;
  int64 by_shorter = 0;  ///< of these, found dead by a shorter limit than the present one, which is long enough
  double longest = 0;    ///< how long a limit the others would have needed
};

/// Each reaping once, whatever number of lines say that it was wrong: a run that reports success and whose reaping is then
/// taken back by hand was one mistake. What a trigger noted, the run itself did, and lived until then.
constexpr const char *kMistakes =
    "SELECT m.verdict, m.scope::pg_catalog.text, m.scope, m.measured, m.judged_by,"
    " m.measured OPERATOR(pg_catalog.+) m.later"
    " FROM (SELECT r.verdict, r.scope,"
    " (r.evidence OPERATOR(pg_catalog.->>) 'measured_seconds')::pg_catalog.float8 AS measured,"
    " (r.evidence OPERATOR(pg_catalog.->>) 'limit_seconds')::pg_catalog.float8 AS judged_by,"
    " pg_catalog.max(CASE WHEN j.path OPERATOR(pg_catalog.=) 'trigger' THEN"
    " EXTRACT(EPOCH FROM j.at OPERATOR(pg_catalog.-) r.at)::pg_catalog.float8 END) AS later"
    " FROM sync_guard.journal AS j JOIN sync_guard.journal AS r ON r.id OPERATOR(pg_catalog.=) j.reaping"
    " WHERE j.relation OPERATOR(pg_catalog.=) $1 AND j.false_positive AND j.at OPERATOR(pg_catalog.>=) $2"
    " GROUP BY r.id, r.verdict, r.scope, r.evidence, r.at) AS m"
    " ORDER BY pg_catalog.count(*) OVER (PARTITION BY m.verdict, m.scope) DESC, 2, 1";

/// A limit with a fifth to spare: in minutes, from two hours on in hours.
char *longer_limit(double seconds) {
  const double minutes = std::ceil(seconds * 1.2 / 60);
  if (minutes < 120) return psprintf("%.0f minutes", minutes);
  return psprintf("%.0f hours", std::ceil(minutes / 60));
}

const LimitKind *limit_behind(const char *verdict) {
  for (const LimitKind &kind : kLimitKinds)
    if (verdict != nullptr && strcmp(verdict, core::verdict_name(kind.verdict)) == 0) return &kind;
  return nullptr;
}

/// A journaled scope in the table's scope columns of today.
core::Scope present_scope(const Guarded &g, const Jsonb *journaled) {
  core::Scope scope;
  scope.count = g.scope_count;
  for (int i = 0; journaled != nullptr && i < g.scope_count; ++i) {
    JsonbValue key;
    key.type = jbvString;
    key.val.string.val = const_cast<char *>(g.scope[i].name);
    key.val.string.len = static_cast<int>(strlen(g.scope[i].name));
    const JsonbValue *value =
        findJsonbValueFromContainer(const_cast<JsonbContainer *>(&journaled->root), JB_FOBJECT, &key);
    const char *text = value == nullptr ? nullptr : json_scalar_text(*value);
    if (text != nullptr) scope.values[i] = text;
  }
  return scope;
}

/// The limit in force now where this mistake was made, in seconds; absent: off.
std::optional<double> limit_in_force(const Guarded &g, const Mistake &mistake, const LimitKind &kind) {
  const core::Limits limits =
      core::resolve_limits(present_scope(g, mistake.scope), g.limits, g.scope_limits, g.scope_limit_count);
  const auto limit = limits.*kind.limit;
  if (!limit) return std::nullopt;
  return static_cast<double>(*limit) / static_cast<double>(core::kSecond);
}

void count_mistake(const Guarded &g, const Mistake &mistake, Group *group) {
  if (group->count++ == 0) group->first = &mistake;
  const LimitKind *kind = limit_behind(mistake.verdict);
  if (kind == nullptr) return;
  const auto present = limit_in_force(g, mistake, *kind);
  // Of a run that has not said for how long it lived, the limit it was judged by must do.
  const bool covered = !present || *present > mistake.needed.value_or(mistake.limit);
  if (covered) ++group->by_shorter;
  else group->longest = Max(group->longest, mistake.needed.value_or(Max(*present * 2 / 1.2, mistake.measured)));
}

void report_group(const Guarded &g, const Group &group, const Report &report) {
  if (group.count == 0) return;
  const Mistake &one = *group.first;
  const LimitKind *kind = limit_behind(one.verdict);
  const auto in_words = [&one](int64 count) {
    return psprintf("in the last 7 days " INT64_FORMAT " %s%s%s found %s turned out to be alive", count,
                    count == 1 ? "run" : "runs", one.scope_text == nullptr ? "" : " of ",
                    one.scope_text == nullptr ? "" : one.scope_text, one.verdict == nullptr ? "dead" : one.verdict);
  };
  if (kind == nullptr) {
    report.line(kWarning, g.table, "false_positives", in_words(group.count),
                "The view sync_guard.reaped_syncs shows them.");
    return;
  }
  const int64 open = group.count - group.by_shorter;
  if (open > 0) {
    Jsonb *scope = scope_json(g, present_scope(g, one.scope));
    const char *text = scope == nullptr ? "{}" : JsonbToCString(nullptr, &scope->root, VARSIZE(scope));
    report.line(kWarning, g.table, "false_positives", in_words(open),
                psprintf("SELECT sync_guard.set_limit(%s, %s, %s => %s);", quote_literal_cstr(g.name),
                         quote_literal_cstr(text), kind->option, quote_literal_cstr(longer_limit(group.longest))));
  }
  if (group.by_shorter == 0) return;
  const auto present = limit_in_force(g, one, *kind);
  char limit[48];
  report.line(
      kInfo, g.table, "false_positives",
      psprintf("%s; the limit they were judged by (older_than, or an earlier one) is shorter than %s is now: %s",
               in_words(group.by_shorter), kind->option,
               present ? core::describe_span(static_cast<core::Micros>(*present * core::kSecond), limit, sizeof limit)
                       : "off"),
      "If the limit has been raised since, there is nothing to do; else call reap_stale_syncs() without "
      "older_than.");
}

Mistake read_mistake(uint64 row, MemoryContext context) {
  Mistake mistake;
  bool is_null;
  mistake.verdict = pg::spi_text(row, 1, context);
  mistake.scope_text = pg::spi_text(row, 2, context);
  const Datum scope = pg::spi_datum(row, 3, &is_null);
  mistake.scope = nullptr;
  if (!is_null) {
    const MemoryContext spi = MemoryContextSwitchTo(context);
    mistake.scope = DatumGetJsonbPCopy(scope);
    MemoryContextSwitchTo(spi);
  }
  const Datum measured = pg::spi_datum(row, 4, &is_null);
  mistake.measured = is_null ? 0 : DatumGetFloat8(measured);
  const Datum limit = pg::spi_datum(row, 5, &is_null);
  mistake.limit = is_null ? 0 : DatumGetFloat8(limit);
  const Datum needed = pg::spi_datum(row, 6, &is_null);
  if (!is_null) mistake.needed = DatumGetFloat8(needed);
  return mistake;
}

bool same_text(const char *a, const char *b) { return a == nullptr || b == nullptr ? a == b : strcmp(a, b) == 0; }

}  // namespace

void check_mistakes(const Guarded &g, const Report &report) {
  pg::Statement query(kMistakes);
  query.add_oid(g.table).add(TIMESTAMPTZOID, TimestampTzGetDatum(report.question.now - kLookBack));
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 count = pg::spi_run(query, pg::Access::kRead);
  auto *mistakes =
      static_cast<Mistake *>(MemoryContextAllocHuge(context, sizeof(Mistake) * Max(count, static_cast<uint64>(1))));
  for (uint64 i = 0; i < count; ++i) mistakes[i] = read_mistake(i, context);
  pg::spi_end();
  pg::restore(before);
  Group group;
  for (uint64 i = 0; i < count; ++i) {
    if (group.count > 0 && !(same_text(group.first->verdict, mistakes[i].verdict) &&
                             same_text(group.first->scope_text, mistakes[i].scope_text))) {
      report_group(g, group, report);
      group = Group{};
    }
    count_mistake(g, mistakes[i], &group);
  }
  report_group(g, group, report);
}

}  // namespace esg
