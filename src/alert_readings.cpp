// What the rules about tables read. Runs in the caller's process or the sweep's, with ACCESS SHARE on the table; what is read
// of the journal is read as the extension's owner. See alert_readings.h; alert_server.cpp has the rules about no table.
//
// Cost: the live runs; the runs that started within the window of failure_rate and, only while a scope seems late, those that
// started since a day before the rhythms were learned, in one look; the mistakes within the window of false_positives.

#include "alert_readings.h"

#include "ended_runs.h"
#include "health.h"
#include "mistakes.h"
#include "reap.h"
#include "rhythms.h"
#include "scopes.h"
#include "texts.h"

namespace esg {
namespace {

using core::AlertRule;

/// A table as its rules are asked.
struct Asked {
  const Guarded &g;
  const AlertRules &rules;
  const core::Question &question;
  Readings *out;

  Reading &append(AlertRule rule, const char *scope, const core::ScopePattern &pattern) const {
    return out->append(rule, scope, pattern);
  }
};

/// The scope of today that a text as jsonb prints it stands for.
core::ScopePattern pattern_from(const Guarded &g, const char *scope) {
  if (scope == nullptr) return {};
  return core::pattern_of(present_scope(g, DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(scope)))));
}

// ---- live runs: long_running, stuck -------------------------------------------------------------------------------------

int compare_values(const core::ScopeValue &a, const core::ScopeValue &b) {
  if (!a || !b) return static_cast<int>(a.has_value()) - static_cast<int>(b.has_value());
  return a->compare(*b);
}

int compare_scopes(const Run &a, const Run &b) {
  int order = 0;
  for (int i = 0; i < a.scope.count && order == 0; ++i) order = compare_values(a.scope.values[i], b.scope.values[i]);
  return order;
}

int by_scope(const void *a, const void *b) {
  return compare_scopes(**static_cast<const Run *const *>(a), **static_cast<const Run *const *>(b));
}

/// The live runs of one scope.
struct Placed {
  const char *scope;  ///< as text
  const Run **runs;
  int count;
};

int by_text(const void *a, const void *b) {
  const auto *left = static_cast<const Placed *>(a);
  const auto *right = static_cast<const Placed *>(b);
  if (left->scope == nullptr || right->scope == nullptr) return 0;
  return strcmp(left->scope, right->scope);
}

const char *explain_hint(const Guarded &g, const Run &run) {
  return psprintf("SELECT * FROM sync_guard.explain_run(%s, %s);", quote_literal_cstr(g.name),
                  quote_literal_cstr(run.key));
}

/// The runs of one scope.
void read_scope(const Asked &asked, const Placed &placed) {
  const core::Micros now = asked.question.now;
  const Run *oldest = nullptr;
  const Run *longest_dead = nullptr;
  core::Micros dead_since = 0;
  int living = 0;
  int dead = 0;
  for (int i = 0; i < placed.count; ++i) {
    const Run &run = *placed.runs[i];
    if (!run.judgement.dead()) {
      ++living;
      // Of a suspect one it will be known in a moment.
      const bool counts = run.started && run.judgement.verdict != core::Verdict::kSuspect;
      if (counts && (oldest == nullptr || *run.started < *oldest->started)) oldest = &run;
      continue;
    }
    ++dead;
    const auto since = dead_for(run, now);
    if (!since || (longest_dead != nullptr && *since <= dead_since)) continue;
    longest_dead = &run;
    dead_since = *since;
  }
  const core::ScopePattern pattern = core::pattern_of(placed.runs[0]->scope);
  if (oldest != nullptr) {
    Reading &reading = asked.append(AlertRule::kLongRunning, placed.scope, pattern);
    reading.value.figure = in_seconds(now - *oldest->started);
    reading.detail = psprintf("run %s has been running for %s%s", oldest->key, span_words(now - *oldest->started),
                              living == 1 ? "" : psprintf(", the oldest of %d", living));
    reading.hint = explain_hint(asked.g, *oldest);
  }
  const bool closing = !only_observed(asked.g) && asked.g.paused_until <= now;
  if (longest_dead == nullptr || !closing) return;
  Reading &reading = asked.append(AlertRule::kStuck, placed.scope, pattern);
  reading.value.figure = in_seconds(dead_since);
  reading.detail =
      psprintf("run %s has been dead for %s and nothing has closed it%s; %s", longest_dead->key, span_words(dead_since),
               dead == 1 ? "" : psprintf(", the longest of %d", dead), why_of(*longest_dead));
  reading.hint = psprintf(
      "SELECT sync_guard.reap_stale_syncs(relation => %s); and see that something calls it: "
      "sync_guard.reaping_schedule.",
      quote_literal_cstr(asked.g.name));
}

/// `known`: those of the table, where the caller has them.
void read_live_runs(const Asked &asked, const Runs *known) {
  if (!asked.rules.asks(AlertRule::kLongRunning) && !asked.rules.asks(AlertRule::kStuck)) return;
  RunFilter filter;
  filter.uncommitted = true;
  const Runs live = known != nullptr ? *known : read_runs(asked.g, filter, asked.question);
  const MemoryContext context = CurrentMemoryContext;
  const Size room = Max(live.count, 1);
  auto **runs = static_cast<const Run **>(MemoryContextAllocHuge(context, sizeof(Run *) * room));
  auto *scopes = static_cast<Placed *>(MemoryContextAllocHuge(context, sizeof(Placed) * room));
  for (int i = 0; i < live.count; ++i) runs[i] = &live.items[i];
  qsort(runs, live.count, sizeof(Run *), by_scope);
  int count = 0;
  for (int from = 0, to = 0; from < live.count; from = to) {
    CHECK_FOR_INTERRUPTS();
    while (to < live.count && compare_scopes(*runs[from], *runs[to]) == 0) ++to;
    scopes[count++] = {jsonb_text(scope_json(asked.g, runs[from]->scope)), runs + from, to - from};
  }
  qsort(scopes, count, sizeof(Placed), by_text);
  for (int i = 0; i < count; ++i) read_scope(asked, scopes[i]);
}

// ---- rhythms: the scopes that seem late ----------------------------------------------------------------------------------

/// A scope that has a rhythm, and seems late by what was known when it was learned.
struct Late {
  const Rhythm *rhythm;
  const char *scope;
  core::ScopePattern pattern;
  core::Micros last;
};

/// Runs that complete in one burst are as far apart as sweeps are, at least.
core::Micros gap_of(const Rhythm &rhythm) { return Max(*rhythm.long_gap, core::kMinute); }

double gaps_since(const Late &late, core::Micros now) {
  return static_cast<double>(now - late.last) / static_cast<double>(gap_of(*late.rhythm));
}

/// The scope names the table's scope columns, and no other: it was learned of them as they are.
bool is_of_today(const Guarded &g, const Jsonb *scope) {
  core::ScopePattern pattern;
  return static_cast<int>(JB_ROOT_COUNT(scope)) == g.scope_count && read_scope_pattern(g, scope, &pattern);
}

struct LateScopes {
  Late *items = nullptr;
  int count = 0;
};

/// The scopes that a rule asks of: all but the whole table, where it has scopes.
LateScopes late_scopes(const Asked &asked, const Rhythms &rhythms) {
  LateScopes late;
  late.items = static_cast<Late *>(palloc(sizeof(Late) * Max(rhythms.count, 1)));
  for (int i = 0; i < rhythms.count; ++i) {
    const Rhythm &rhythm = rhythms.items[i];
    const bool whole_table = JB_ROOT_COUNT(rhythm.scope) == 0;
    if (whole_table != (asked.g.scope_count == 0) || !rhythm.last_completed || !rhythm.long_gap) continue;
    if (!is_of_today(asked.g, rhythm.scope)) continue;
    Late &next = late.items[late.count];
    next = {&rhythm, whole_table ? nullptr : jsonb_text(rhythm.scope), {}, *rhythm.last_completed};
    next.pattern = pattern_from(asked.g, next.scope);
    const core::AlertLimits limits = asked.rules.of(AlertRule::kNotCompleted, next.pattern);
    if (limits.enabled && gaps_since(next, asked.question.now) > limits.clear_below) ++late.count;
  }
  return late;
}

/// How far back they may have completed since the rhythms were learned, which knew all until then. Runs that started long before that
/// are left to the next learning.
core::Micros since_learned(const Asked &asked, core::Micros learned_at, const LateScopes &late) {
  core::Micros longest = core::kDay;
  for (int i = 0; i < late.count; ++i) longest = Max(longest, 2 * late.items[i].rhythm->long_duration.value_or(0));
  return Min(Max(asked.question.now - learned_at, 0) + longest,
             core::alert_rule(AlertRule::kNotCompleted).defaults.time_window);
}

// ---- ended runs ---------------------------------------------------------------------------------------------------------

/// Spans of time, each once, the longest last.
struct Spans {
  core::Micros *items;
  int count = 0;

  explicit Spans(Size room) : items(static_cast<core::Micros *>(palloc(sizeof(core::Micros) * room))) {}
  [[nodiscard]] int at_or_above(core::Micros span) const {
    int at = 0;
    while (at < count && items[at] < span) ++at;
    return at;
  }
  void add(core::Micros span) {
    const int at = at_or_above(span);
    if (at < count && items[at] == span) return;
    memmove(items + at + 1, items + at, sizeof(core::Micros) * (count - at));
    items[at] = span;
    ++count;
  }
  [[nodiscard]] core::Micros longest() const { return items[count - 1]; }
};

/// The windows of the rule in the table's scopes. There is room for one more.
Spans windows_of(const AlertRules &rules, AlertRule rule) {
  Spans windows(rules.count + 2);
  windows.add(rules.of(rule).time_window);
  for (std::size_t i = 0; i < rules.count; ++i)
    if (rules.items[i].rule == rule && rules.items[i].time_window) windows.add(*rules.items[i].time_window);
  return windows;
}

/// The ended runs, looked at once for all that asks of them.
struct History {
  bool failures;  ///< failure_rate asks
  LateScopes late;
  Spans spans;
  EndedGroups groups;
};

/// `fresh`: the history may be read this time though that is costly.
History look_back(const Asked &asked, const Rhythms &rhythms, bool fresh) {
  const bool failures = asked.g.start.exists() && asked.rules.asks(AlertRule::kFailureRate);
  History history{failures, {}, failures ? windows_of(asked.rules, AlertRule::kFailureRate) : Spans(1), {}};
  if (asked.rules.asks(AlertRule::kNotCompleted)) history.late = late_scopes(asked, rhythms);
  if (!fresh) {
    asked.out->not_asked[static_cast<int>(AlertRule::kFailureRate)] = failures;
    asked.out->not_asked[static_cast<int>(AlertRule::kNotCompleted)] = history.late.count > 0;
    history.late.count = 0;
    return history;
  }
  if (history.late.count > 0)
    history.spans.add(since_learned(asked, rhythms.learned_at.value_or(asked.question.now), history.late));
  if (history.spans.count > 0)
    history.groups = read_ended_since(asked.g, asked.question.now, history.spans.items, history.spans.count);
  return history;
}

// ---- ended runs: failure_rate -------------------------------------------------------------------------------------------

/// The runs of one scope, by the window that it has.
void read_failures(const Asked &asked, const History &history, const EndedRuns *groups, int count) {
  const core::ScopePattern pattern = pattern_from(asked.g, groups[0].scope);
  const core::Micros window = asked.rules.of(AlertRule::kFailureRate, pattern).time_window;
  const int span = history.spans.at_or_above(window);
  Assert(span < history.spans.count);
  int64 failed = 0;
  int64 ended = 0;
  for (int i = 0; i < count; ++i) {
    ended += groups[i].started[span];
    if (!groups[i].success) failed += groups[i].started[span];
  }
  if (ended == 0) return;
  Reading &reading = asked.append(AlertRule::kFailureRate, groups[0].scope, pattern);
  reading.value = {static_cast<double>(failed) / static_cast<double>(ended), ended};
  char share[48];
  reading.detail = psprintf(INT64_FORMAT " of " INT64_FORMAT " runs that started in the last %s failed: %s", failed,
                            ended, span_words(window),
                            core::describe_figure(core::AlertUnit::kShare, reading.value.figure, share, sizeof share));
  const char *of_scope = reading.scope == nullptr ? "" : psprintf(" AND scope = %s", quote_literal_cstr(reading.scope));
  reading.hint = psprintf(
      "SELECT * FROM sync_guard.recent_runs(1000) WHERE relation = %s::regclass%s; and those that the guard "
      "closed are in sync_guard.reaped_syncs.",
      quote_literal_cstr(asked.g.name), of_scope);
}

void read_failure_rates(const Asked &asked, const History &history) {
  if (!history.failures) return;
  const EndedGroups &groups = history.groups;
  for (int from = 0, to = 0; from < groups.count; from = to) {
    while (to < groups.count && same_text(groups.items[from].scope, groups.items[to].scope)) ++to;
    read_failures(asked, history, groups.items + from, to - from);
  }
}

// ---- the journal: false_positives ----------------------------------------------------------------------------------------

void read_false_positives(const Asked &asked) {
  if (!asked.rules.asks(AlertRule::kFalsePositives)) return;
  const core::Micros longest = windows_of(asked.rules, AlertRule::kFalsePositives).longest();
  const Mistakes mistakes = read_mistakes(asked.g, asked.question.now - longest);
  for (uint64 i = 0; i < mistakes.count; ++i) {
    const core::Scope scope = present_scope(asked.g, mistakes.items[i].scope);
    const core::ScopePattern pattern = core::pattern_of(scope);
    const core::Micros window = asked.rules.of(AlertRule::kFalsePositives, pattern).time_window;
    if (mistakes.items[i].noticed < asked.question.now - window) continue;
    const char *text = jsonb_text(scope_json(asked.g, scope));
    Reading *reading = nullptr;
    for (int n = 0; n < asked.out->count && reading == nullptr; ++n) {
      Reading &other = asked.out->items[n];
      if (other.rule == AlertRule::kFalsePositives && same_text(other.scope, text)) reading = &other;
    }
    if (reading == nullptr) reading = &asked.append(AlertRule::kFalsePositives, text, pattern);
    reading->value.figure += 1;
    reading->detail = psprintf("%.0f %s found dead turned out to be alive in the last %s", reading->value.figure,
                               reading->value.figure == 1 ? "run that was" : "runs that were", span_words(window));
    reading->hint =
        "The view sync_guard.guard_health names the limit that would have been long enough, sync_guard.reaped_syncs "
        "shows the runs.";
  }
}

// ---- ended runs: not_completed -------------------------------------------------------------------------------------------

void add_later_completions(const Asked &asked, History *history) {
  for (int n = 0; n < history->groups.count; ++n) {
    const EndedRuns &group = history->groups.items[n];
    const auto last = group.last_ended ? group.last_ended : group.last_started;
    for (int i = 0; i < history->late.count && group.success && last; ++i) {
      Late &scope = history->late.items[i];
      if (same_text(scope.scope, group.scope)) scope.last = Max(scope.last, Min(*last, asked.question.now));
    }
  }
}

void read_completions(const Asked &asked, History *history) {
  add_later_completions(asked, history);
  for (int i = 0; i < history->late.count; ++i) {
    const Late &scope = history->late.items[i];
    Reading &reading = asked.append(AlertRule::kNotCompleted, scope.scope, scope.pattern);
    reading.value = {gaps_since(scope, asked.question.now), scope.rhythm->completed};
    reading.detail = psprintf(
        "no run has completed for %s; between the " INT64_FORMAT " of the last 30 days at most %s usually passed",
        span_words(asked.question.now - scope.last), scope.rhythm->completed, span_words(gap_of(*scope.rhythm)));
    reading.hint =
        "See that what starts these runs does, and how the last ones ended: sync_guard.sync_status_overview, "
        "sync_guard.recent_syncs.";
  }
}

}  // namespace

Reading &Readings::append(core::AlertRule rule, const char *scope, const core::ScopePattern &pattern) {
  if (count == room) {
    room = Max(room * 2, 16);
    items = static_cast<Reading *>(items == nullptr ? palloc(sizeof(Reading) * room)
                                                    : repalloc_huge(items, sizeof(Reading) * room));
  }
  Reading &reading = items[count++];
  reading = Reading{};
  reading.rule = rule;
  reading.scope = scope;
  reading.pattern = pattern;
  return reading;
}

Readings read_table_figures(const Guarded &g, const AlertRules &rules, const core::Question &question, bool sweep,
                            const Runs *live) {
  Readings readings;
  const Asked asked{g, rules, question, &readings};
  read_live_runs(asked, live);
  const Rhythms rhythms = read_rhythms(g);
  const bool learned_now = rhythms.learned_at && *rhythms.learned_at == question.now;
  const bool fresh = !sweep || learned_now || !history_is_costly(g);
  History history = look_back(asked, rhythms, fresh);
  read_failure_rates(asked, history);
  read_false_positives(asked);
  read_completions(asked, &history);
  return readings;
}

}  // namespace esg
