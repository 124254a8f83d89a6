// See suggest_history.h. The rows are read as whoever asks may read them; the guard's own tables (journal, observed_gaps) as the
// extension's owner, and of these only what belongs to rows that were seen, or counts.

#include "suggest_history.h"

#include <cmath>

#include "pg/identity.h"
#include "pg/spi.h"
#include "result_values.h"

namespace esg {
namespace {

/// How far the clock of who writes times may be fast.
constexpr core::Micros kClockSkew = core::kHour;

/// What memory observed of a run.
struct Gaps {
  const char *key;
  std::optional<core::Micros> silence;
  std::optional<core::Micros> stall;
};

/// A reaping that was a mistake, as the run that it was about.
struct Mistake {
  const char *key;
  LivedRun run;
  bool in_rows;  ///< its row tells of it
};

template <typename Item>
struct ByKey {
  Item *items = nullptr;
  int count = 0;

  /// The item of this key; null: none. They are sorted as strcmp sorts.
  [[nodiscard]] Item *find(const char *key) const {
    int low = 0;
    for (int high = count; low < high;) {
      const int middle = low + (high - low) / 2;
      const int order = strcmp(items[middle].key, key);
      if (order == 0) return &items[middle];
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return nullptr;
  }
};

template <typename Item>
Item *room_for(MemoryContext context, uint64 count) {
  return static_cast<Item *>(MemoryContextAllocHuge(context, sizeof(Item) * Max(count, static_cast<uint64>(1))));
}

/// Seconds as they stand in column `number`; absent where NULL, negative, or none that a run could have taken.
std::optional<core::Micros> seconds_at(uint64 row, int number, double unit = 1) {
  constexpr double kMostSeconds = 1e10;
  bool is_null;
  const Datum value = pg::spi_datum(row, number, &is_null);
  if (is_null) return std::nullopt;
  const double seconds = DatumGetFloat8(value) * unit;
  if (!(seconds >= 0 && seconds < kMostSeconds)) return std::nullopt;
  return static_cast<core::Micros>(std::llround(seconds * 1e6));
}

/// What was measured of a run, by limit. With an activity column, how long a run took says nothing about how long it was silent.
void measure(const Guarded &g, const std::optional<core::Micros> &duration, const std::optional<core::Micros> &silence,
             const std::optional<core::Micros> &stall, LivedRun *run) {
  run->by_gaps = silence.has_value();
  run->measured[kMaxSilence] = silence || g.activity.exists() ? silence : duration;
  run->measured[kMaxAge] = duration;
  run->measured[kMaxStall] = stall;
}

// ---- what memory observed ------------------------------------------------------------------------------------------------

constexpr const char *kGaps =
    "SELECT o.run_key, pg_catalog.max(o.longest_silence), pg_catalog.max(o.longest_stall)"
    " FROM sync_guard.observed_gaps AS o WHERE o.relation OPERATOR(pg_catalog.=) $1"
    " GROUP BY o.run_key ORDER BY o.run_key COLLATE pg_catalog.\"C\"";

ByKey<Gaps> read_gaps(const Guarded &g) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement query(kGaps);
  query.add_oid(g.table);
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  ByKey<Gaps> gaps;
  gaps.count = static_cast<int>(pg::spi_run(query, pg::Access::kRead));
  gaps.items = room_for<Gaps>(context, gaps.count);
  for (int i = 0; i < gaps.count; ++i) gaps.items[i] = {pg::spi_text(i, 1, context), span_at(i, 2), span_at(i, 3)};
  pg::spi_end();
  pg::restore(before);
  return gaps;
}

// ---- the journal -------------------------------------------------------------------------------------------------------------

/// The newest reapings, by run, newest first, each with what became of it and what the limits' rules had measured. What a trigger
/// noted, the run itself did, and lived until then.
constexpr const char *kReapings =
    "SELECT r.run_key, CASE WHEN pg_catalog.cardinality($3) OPERATOR(pg_catalog.=) 0 THEN '{}'"
    " WHEN r.scope OPERATOR(pg_catalog.?&) $3 THEN (SELECT pg_catalog.jsonb_object_agg(c.name,"
    " r.scope OPERATOR(pg_catalog.->) c.name)::pg_catalog.text FROM pg_catalog.unnest($3) AS c (name)) END,"
    " r.verdict, r.at, COALESCE(l.undone, false), r.false_positive OR COALESCE(l.false_positive, false),"
    " (r.evidence OPERATOR(pg_catalog.->>) 'silence_seconds')::pg_catalog.float8,"
    " (r.evidence OPERATOR(pg_catalog.->>) 'age_seconds')::pg_catalog.float8,"
    " EXTRACT(EPOCH FROM r.at OPERATOR(pg_catalog.-)"
    " (r.evidence OPERATOR(pg_catalog.->>) 'progress_changed')::pg_catalog.timestamptz)::pg_catalog.float8,"
    " (r.evidence OPERATOR(pg_catalog.->>) 'measured_seconds')::pg_catalog.float8,"
    " (r.evidence OPERATOR(pg_catalog.->>) 'ttl_seconds') IS NOT NULL,"
    " EXTRACT(EPOCH FROM l.lived_until OPERATOR(pg_catalog.-) r.at)::pg_catalog.float8"
    " FROM (SELECT j.* FROM sync_guard.journal AS j WHERE j.relation OPERATOR(pg_catalog.=) $1"
    " AND j.event OPERATOR(pg_catalog.=) ANY ('{reaped,would_reap}'::pg_catalog.text[])"
    " AND j.at OPERATOR(pg_catalog.>=) $2 ORDER BY j.id DESC LIMIT $4) AS r"
    " LEFT JOIN LATERAL (SELECT pg_catalog.bool_or(m.event OPERATOR(pg_catalog.=) ANY"
    " ('{retried,overturned}'::pg_catalog.text[])) AS undone, pg_catalog.bool_or(m.false_positive) AS false_positive,"
    " pg_catalog.max(m.at) FILTER (WHERE m.false_positive AND m.path OPERATOR(pg_catalog.=) 'trigger') AS lived_until"
    " FROM sync_guard.journal AS m WHERE m.relation OPERATOR(pg_catalog.=) r.relation"
    " AND m.run_key OPERATOR(pg_catalog.=) r.run_key AND m.id OPERATOR(pg_catalog.>) r.id"
    " AND m.reaping OPERATOR(pg_catalog.=) r.id) AS l ON true"
    " ORDER BY r.run_key COLLATE pg_catalog.\"C\", r.id DESC";

enum ReapingColumn : int {
  kKey = 1,
  kScope,
  kVerdict,
  kAt,
  kUndone,
  kFalsePositive,
  kSilence,
  kAge,
  kStall,
  kMeasured,
  kHasTtl,
  kLater
};

/// For how long the run of a mistaken reaping is known to have been alive, as each limit's rule counts. Of verdicts that do not go by
/// silence the signs of life after it are not known.
LivedRun run_of_mistake(const Guarded &g, uint64 row, const char *scope, const char *verdict) {
  const core::Micros later = seconds_at(row, kLater).value_or(0);
  const auto lived = [later](const std::optional<core::Micros> &span) {
    return span ? std::optional<core::Micros>(*span + later) : std::nullopt;
  };
  const auto measured_by = [&](core::Verdict rule) {
    const bool same = verdict != nullptr && strcmp(verdict, core::verdict_name(rule)) == 0;
    return same ? lived(seconds_at(row, kMeasured)) : std::nullopt;
  };
  LivedRun run{};
  run.scope = scope;
  measure(g, lived(seconds_at(row, kAge)), measured_by(core::Verdict::kSilent), measured_by(core::Verdict::kStalled),
          &run);
  return run;
}

/// max_silence is not for runs that have promised signs of life within a ttl.
PastDeath death_of(uint64 row, const char *scope, core::Micros now) {
  PastDeath death{};
  death.scope = scope;
  if (!bool_at(row, kHasTtl)) death.measured[kMaxSilence] = seconds_at(row, kSilence);
  death.measured[kMaxAge] = seconds_at(row, kAge);
  death.measured[kMaxStall] = seconds_at(row, kStall);
  bool is_null;
  death.ago = now - DatumGetTimestampTz(pg::spi_datum(row, kAt, &is_null));
  return death;
}

/// Of a run that was reaped more than once, the newest reaping counts among the dead, and one among the mistakes.
void sort_reapings(const Guarded &g, uint64 rows, core::Micros now, MemoryContext context, LimitHistory *history,
                   ByKey<Mistake> *mistakes) {
  const char *last = nullptr;
  for (uint64 i = 0; i < rows; ++i) {
    CHECK_FOR_INTERRUPTS();
    const char *key = pg::spi_text(i, kKey, context);
    const char *scope = pg::spi_text(i, kScope, context);
    const bool newest = last == nullptr || strcmp(last, key) != 0;
    last = key;
    if (!bool_at(i, kFalsePositive)) {
      if (newest && !bool_at(i, kUndone)) history->deaths[history->death_count++] = death_of(i, scope, now);
      continue;
    }
    if (mistakes->count > 0 && strcmp(mistakes->items[mistakes->count - 1].key, key) == 0) continue;
    mistakes->items[mistakes->count++] = {key, run_of_mistake(g, i, scope, pg::spi_text(i, kVerdict, context)), false};
  }
}

Datum scope_names(const Guarded &g) {
  auto **names = static_cast<const char **>(palloc(sizeof(char *) * Max(g.scope_count, 1)));
  for (int i = 0; i < g.scope_count; ++i) names[i] = g.scope[i].name;
  return pg::text_array(names, g.scope_count);
}

ByKey<Mistake> read_journal(const Guarded &g, core::Micros since, core::Micros now, LimitHistory *history) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement query(kReapings);
  query.add_oid(g.table)
      .add(TIMESTAMPTZOID, TimestampTzGetDatum(since))
      .add(TEXTARRAYOID, scope_names(g))
      .add(INT4OID, Int32GetDatum(kMostPastRuns));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  ByKey<Mistake> mistakes;
  mistakes.items = room_for<Mistake>(context, rows);
  history->deaths = room_for<PastDeath>(context, rows);
  sort_reapings(g, rows, now, context, history, &mistakes);
  pg::spi_end();
  pg::restore(before);
  return mistakes;
}

// ---- the rows -------------------------------------------------------------------------------------------------------------------

/// The newest runs that have ended, of those that began (or, where no start is kept, ended) between $1 and $2.
char *runs_that_ended(const Guarded &g, const Column &by) {
  const char *duration = "NULL::pg_catalog.float8";
  if (g.duration.exists())
    duration = psprintf(g.duration_unit == DurationUnit::kInterval ? "EXTRACT(EPOCH FROM %s)::pg_catalog.float8"
                                                                   : "%s::pg_catalog.float8",
                        column_ref(g.duration));
  const char *condition = psprintf("NOT %s AND %s OPERATOR(pg_catalog.>=) $1 AND %s OPERATOR(pg_catalog.<=) $2",
                                   status_condition(g, g.live, g.live_count), column_ref(by), column_ref(by));
  return psprintf("SELECT %s::pg_catalog.text, %s::pg_catalog.text, %s::pg_catalog.text, %s, %s, %s FROM %s%s LIMIT %d",
                  column_ref(g.status), column_ref(g.key), scope_sql(g),
                  g.start.exists() ? column_ref(g.start) : "NULL", g.end.exists() ? column_ref(g.end) : "NULL",
                  duration, from_item(g), newest_first_sql(g, condition), kMostPastRuns);
}

/// How long the run of a row took: by its times or, where they do not say, by its duration. A duration that is longer than the run
/// can have been there, or an end yet to come, is not believed.
std::optional<core::Micros> duration_at(const Guarded &g, uint64 row, core::Micros now) {
  bool is_null;
  Datum value = pg::spi_datum(row, 4, &is_null);
  const auto started = instant_of(g.start, value, is_null, g.zone);
  value = pg::spi_datum(row, 5, &is_null);
  const auto ended = instant_of(g.end, value, is_null, g.zone);
  if (started && ended && *ended >= *started && *ended <= now + kClockSkew) return *ended - *started;
  const auto told = seconds_at(row, 6, g.duration_unit == DurationUnit::kMilliseconds ? 1e-3 : 1);
  if (told && started && *told > now + kClockSkew - *started) return std::nullopt;
  return told;
}

void read_rows(const Guarded &g, core::Micros since, core::Micros now, const ByKey<Gaps> &gaps,
               const ByKey<Mistake> &mistakes, LimitHistory *history) {
  const MemoryContext context = CurrentMemoryContext;
  const Column &by = g.start.exists() ? g.start : g.end;
  uint64 rows = 0;
  pg::Statement query(by.exists() ? runs_that_ended(g, by) : "");
  if (by.exists()) query.add(by.type, time_datum(by, since, g.zone)).add(by.type, time_datum(by, now, g.zone));
  pg::spi_begin();
  if (by.exists()) rows = pg::spi_run(query, pg::Access::kRead);
  history->runs = room_for<LivedRun>(context, rows + mistakes.count);
  for (uint64 i = 0; i < rows; ++i) {
    CHECK_FOR_INTERRUPTS();
    const char *status = pg::spi_text(i, 1, CurrentMemoryContext);
    const char *key = pg::spi_text(i, 2, CurrentMemoryContext);
    if (status == nullptr || key == nullptr || !core::tells_success(status, g.failed)) continue;
    const Gaps *observed = gaps.find(key);
    LivedRun run{};
    measure(g, duration_at(g, i, now), observed == nullptr ? std::nullopt : observed->silence,
            observed == nullptr ? std::nullopt : observed->stall, &run);
    if (Mistake *mistake = mistakes.find(key)) mistake->in_rows = true;
    const char *scope = pg::spi_text(i, 3, context);
    run.scope = scope == nullptr ? "{}" : scope;
    history->runs[history->run_count++] = run;
  }
  pg::spi_end();
}

}  // namespace

LimitHistory read_limit_history(const Guarded &g, core::Micros since, core::Micros now, bool hidden) {
  LimitHistory history;
  ByKey<Mistake> mistakes;
  if (!hidden) mistakes = read_journal(g, since, now, &history);
  read_rows(g, since, now, read_gaps(g), mistakes, &history);
  for (int i = 0; i < mistakes.count; ++i)
    if (!mistakes.items[i].in_rows) history.runs[history.run_count++] = mistakes.items[i].run;
  return history;
}

}  // namespace esg
