// limit_suggestions(): what the history of each table and scope suggests. Runs in the caller's process, shows him what he may
// read, writes nothing. See suggest.h.

#include "suggest.h"

#include "adopt.h"
#include "core/suggest.h"
#include "errors.h"
#include "pg/rows.h"
#include "scopes.h"
#include "suggest_history.h"
#include "texts.h"

/// limit_suggestions(relation, look_back). ERROR SY006 where look_back is no positive time.
ESG_SQL_FUNCTION(limit_suggestions);

namespace esg {
namespace {

/// A stretch of runs and of deaths that share a scope.
struct Stretch {
  const char *scope;
  const LivedRun *runs;
  int run_count;
  const PastDeath *deaths;
  int death_count;
};

/// Room for the spans and deaths of one limit.
struct Buffers {
  core::Micros *spans;
  core::Micros *sooner;
  core::Death *deaths;
};

const char *or_empty(const char *scope) { return scope == nullptr ? "" : scope; }

template <typename Item>
int by_scope(const void *a, const void *b) {
  return strcmp(or_empty(static_cast<const Item *>(a)->scope), or_empty(static_cast<const Item *>(b)->scope));
}

int by_length(const void *a, const void *b) {
  const auto left = *static_cast<const core::Micros *>(a);
  const auto right = *static_cast<const core::Micros *>(b);
  return left < right ? -1 : left > right;
}

/// How many of the first of `items` have this scope.
template <typename Item>
int same_scope(const Item *items, int count, const char *scope) {
  int same = 0;
  while (same < count && strcmp(or_empty(items[same].scope), scope) == 0) ++same;
  return same;
}

/// The spans of one limit, sorted, in the buffer; and what they say.
SuggestedLimit look_at(const Stretch &stretch, int limit, const Buffers &buffers) {
  SuggestedLimit line{};
  line.limit = limit;
  for (int i = 0; i < stretch.run_count; ++i) {
    const auto &measured = stretch.runs[i].measured[limit];
    if (!measured) continue;
    buffers.spans[line.sample++] = *measured;
    if (stretch.runs[i].by_gaps) ++line.by_gaps;
  }
  qsort(buffers.spans, line.sample, sizeof(core::Micros), by_length);
  const core::SpanFigures figures = core::figures_of(buffers.spans, line.sample);
  line.p50 = figures.p50;
  line.p95 = figures.p95;
  line.p99 = figures.p99;
  line.longest = figures.longest;
  return line;
}

/// Suggests a limit that is at least `needed`, and replays the past with it. The buffer still has the line's spans.
void suggest(const Stretch &stretch, const std::optional<core::Micros> &needed, bool hidden, const Buffers &buffers,
             SuggestedLimit *line) {
  if (!hidden) line->dead = stretch.death_count;
  if (!needed || line->sample < static_cast<int64>(core::kLeastSample)) return;
  line->suggested = core::round_limit(*needed);
  const std::size_t longer = core::longer_than(buffers.spans, line->sample, *line->suggested);
  line->wrong = static_cast<int64>(longer);
  line->wrong_share = core::wrong_share(longer, line->sample);
  if (hidden) return;
  for (int i = 0; i < stretch.death_count; ++i)
    buffers.deaths[i] = {stretch.deaths[i].measured[line->limit], stretch.deaths[i].ago};
  const core::Replay replay = core::replay(buffers.deaths, stretch.death_count, *line->suggested, buffers.sooner);
  line->reaped = static_cast<int64>(replay.reaped);
  line->sooner = replay.sooner;
}

/// The lines of one scope. Raises `needed`, by limit, to what it needs.
void suggest_for_scope(const Guarded &g, const Stretch &stretch, bool hidden, const Buffers &buffers,
                       std::optional<core::Micros> (&needed)[kLimits], SuggestedLimits *to) {
  for (int limit = 0; limit < kLimits; ++limit) {
    SuggestedLimit line = look_at(stretch, limit, buffers);
    const auto here = core::needed_limit(buffers.spans, line.sample);
    if (!here) continue;
    if (!needed[limit] || *needed[limit] < *here) needed[limit] = here;
    if (g.scope_count == 0 || stretch.scope[0] == '\0') continue;
    suggest(stretch, here, hidden, buffers, &line);
    line.scope = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(stretch.scope)));
    line.values = present_scope(g, line.scope);
    to->items[to->count++] = line;
  }
}

/// The table's own lines. They hold for every scope that has no limit of its own, for small ones and for those to come: each is
/// the longest that any scope needs, lest many short runs of one scope speak for the few long ones of another.
void suggest_for_table(const Stretch &all, bool hidden, const Buffers &buffers,
                       const std::optional<core::Micros> (&needed)[kLimits], SuggestedLimit *lines, int *count) {
  for (int limit = 0; limit < kLimits; ++limit) {
    SuggestedLimit line = look_at(all, limit, buffers);
    if (limit == kMaxStall && line.sample == 0) continue;
    suggest(all, needed[limit], hidden, buffers, &line);
    line.scope = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
    line.whole_table = true;
    lines[(*count)++] = line;
  }
}

int count_scopes(const LimitHistory &history) {
  int scopes = 0;
  for (int i = 0; i < history.run_count; ++i)
    if (i == 0 || by_scope<LivedRun>(&history.runs[i - 1], &history.runs[i]) != 0) ++scopes;
  return scopes;
}

template <typename Item>
Item *room_for(int count) {
  return static_cast<Item *>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Item) * Max(count, 1)));
}

// ---- what is shown -------------------------------------------------------------------------------------------------------

const char *based_on(const SuggestedLimit &line) {
  if (line.sample == 0) return nullptr;
  if (line.limit == kMaxStall) return "gaps between progress";
  if (line.limit == kMaxAge || line.by_gaps == 0) return "durations";
  return line.by_gaps == line.sample ? "gaps between signs of life" : "both";
}

/// A suggested limit, which is whole minutes, for a statement.
const char *limit_text(core::Micros limit) {
  const bool hours = limit % core::kHour == 0;
  const int64 count = limit / (hours ? core::kHour : core::kMinute);
  return psprintf(INT64_FORMAT " %s%s", count, hours ? "hour" : "minute", count == 1 ? "" : "s");
}

/// The statement that sets it; null where there is nothing to set.
const char *statement_of(const Guarded &g, const SuggestedLimit &line, const std::optional<core::Micros> &present) {
  if (!line.suggested || present == line.suggested || !may_have_settings(line.scope)) return nullptr;
  const char *scope = jsonb_text(line.scope);
  return psprintf("SELECT sync_guard.set_limit(%s, %s, %s => '%s');", quote_literal_cstr(g.name),
                  quote_literal_cstr(scope), kLimitSpecs[line.limit].name, limit_text(*line.suggested));
}

void add_share(pg::Rows &rows, const std::optional<double> &share) {
  if (!share) {
    rows.add_null();
    return;
  }
  rows.add(DirectFunctionCall3(numeric_in, CStringGetDatum(psprintf("%.5f", *share)), ObjectIdGetDatum(InvalidOid),
                               Int32GetDatum(-1)));
}

void put_line(pg::Rows &rows, const Guarded &g, const SuggestedLimit &line) {
  const auto present = limit_in_force(g, g.limits, line);
  rows.add_oid(g.table)
      .add_jsonb(line.scope)
      .add_text(kLimitSpecs[line.limit].name)
      .add_span(present)
      .add_span(line.suggested)
      .add_text(based_on(line))
      .add_int64(line.sample)
      .add_span(line.p50)
      .add_span(line.p95)
      .add_span(line.p99)
      .add_span(line.longest);
  add_share(rows, line.wrong_share);
  rows.add_int64(line.dead)
      .add_int64(line.reaped)
      .add_int64(line.wrong)
      .add_span(line.sooner)
      .add_text(statement_of(g, line, present))
      .put();
}

core::Micros look_back_argument(FunctionCallInfo fcinfo, int number) {
  const char *hint = "Give a positive time like '90 days'.";
  if (PG_ARGISNULL(number))
    ereport(ERROR, errcode(kBadOption), errmsg("look_back must not be NULL"),
            errdetail("It says from how far back runs are looked at."), errhint("%s", hint));
  const Interval *span = PG_GETARG_INTERVAL_P(number);
  if (const char *problem = adopt::span_problem(span); problem != nullptr)
    ereport(
        ERROR, errcode(kBadOption), errmsg("look_back is not possible: %s", problem),
        errdetail("It was given as %s.", DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(span)))),
        errhint("%s", hint));
  return micros_of(span);
}

/// The instant that far back, as far as times of any zone go.
core::Micros back_from(core::Micros now, core::Micros span) {
  constexpr core::Micros kFirst = MIN_TIMESTAMP + 2 * core::kDay;
  return span > now - kFirst ? kFirst : now - span;
}

}  // namespace

std::optional<core::Micros> limit_in_force(const Guarded &g, const core::Limits &own, const SuggestedLimit &line) {
  const auto member = kLimitSpecs[line.limit].value;
  if (line.whole_table) return own.*member;
  return core::resolve_limits(line.values, own, g.scope_limits, g.scope_limit_count).*member;
}

SuggestedLimits suggest_limits(const Guarded &g, core::Micros now, core::Micros look_back, bool hidden) {
  const LimitHistory history = read_limit_history(g, back_from(now, look_back), now, hidden);
  if (history.run_count > 0) qsort(history.runs, history.run_count, sizeof(LivedRun), by_scope<LivedRun>);
  if (history.death_count > 0) qsort(history.deaths, history.death_count, sizeof(PastDeath), by_scope<PastDeath>);
  const Buffers buffers{room_for<core::Micros>(history.run_count), room_for<core::Micros>(history.death_count),
                        room_for<core::Death>(history.death_count)};
  SuggestedLimits scopes;
  scopes.items = room_for<SuggestedLimit>(count_scopes(history) * kLimits);
  std::optional<core::Micros> needed[kLimits];
  int death = 0;
  for (int run = 0; run < history.run_count;) {
    CHECK_FOR_INTERRUPTS();
    Stretch stretch{};
    stretch.scope = or_empty(history.runs[run].scope);
    stretch.runs = history.runs + run;
    stretch.run_count = same_scope(stretch.runs, history.run_count - run, stretch.scope);
    run += stretch.run_count;
    while (death < history.death_count && strcmp(or_empty(history.deaths[death].scope), stretch.scope) < 0) ++death;
    stretch.deaths = history.deaths + death;
    stretch.death_count = same_scope(stretch.deaths, history.death_count - death, stretch.scope);
    suggest_for_scope(g, stretch, hidden, buffers, needed, &scopes);
  }
  const Stretch all{"{}", history.runs, history.run_count, history.deaths, history.death_count};
  SuggestedLimits result;
  result.items = room_for<SuggestedLimit>(kLimits + scopes.count);
  suggest_for_table(all, hidden, buffers, needed, result.items, &result.count);
  for (int i = 0; i < scopes.count; ++i) result.items[result.count++] = scopes.items[i];
  return result;
}

static Datum limit_suggestions(FunctionCallInfo fcinfo) {
  pg::Rows rows(fcinfo);
  const Oid relation = relation_argument(fcinfo, 0);
  const core::Micros look_back = look_back_argument(fcinfo, 1);
  const core::Micros now = question_now().now;
  const MemoryContext context =
      AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard suggestions", ALLOCSET_DEFAULT_SIZES);
  each_table(relation, readable_tables(relation, false), [&rows, look_back, now, context](const Guarded &g) {
    const MemoryContext old = MemoryContextSwitchTo(context);
    MemoryContextReset(context);
    rows.drop_unfinished();
    const bool hidden = row_security_applies(g);
    const pg::Identity before = work_as(g);
    const SuggestedLimits limits = suggest_limits(g, now, look_back, hidden);
    pg::restore(before);
    for (int i = 0; i < limits.count; ++i) put_line(rows, g, limits.items[i]);
    MemoryContextSwitchTo(old);
    return true;
  });
  MemoryContextDelete(context);
  return 0;
}

}  // namespace esg
