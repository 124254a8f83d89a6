// What guard_health says of the runs that were found dead and turned out to be alive, and which limit would have been long
// enough for them. See health.h.

#include <cmath>

#include "health.h"
#include "mistakes.h"
#include "scopes.h"
#include "texts.h"

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

/// The mistakes of one verdict in one scope.
struct Group {
  const Mistake *first = nullptr;
  int64 count = 0;
  int64 by_shorter = 0;  ///< of these, found dead by a shorter limit than the present one, which is long enough
  double longest = 0;    ///< how long a limit the others would have needed
};

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
    const char *text = scope == nullptr ? "{}" : jsonb_text(scope);
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

}  // namespace

void check_mistakes(const Guarded &g, const Report &report) {
  const Mistakes mistakes = read_mistakes(g, report.question.now - kLookBack);
  Group group;
  for (uint64 i = 0; i < mistakes.count; ++i) {
    if (group.count > 0 && !(same_text(group.first->verdict, mistakes.items[i].verdict) &&
                             same_text(group.first->scope_text, mistakes.items[i].scope_text))) {
      report_group(g, group, report);
      group = Group{};
    }
    count_mistake(g, mistakes.items[i], &group);
  }
  report_group(g, group, report);
}

}  // namespace esg
