// The set-returning functions behind running_syncs, stuck_syncs, long_running_syncs and recent_syncs. They run in the
// caller's process with ACCESS SHARE on the guarded tables, judge at the instant of the call, and write nothing.

#include "monitor.h"

#include "expectations.h"
#include "pg/rows.h"
#include "pg/spi.h"
#include "runs.h"
#include "summary.h"
#include "worker.h"

/// live_runs(): every run in a live status that the caller may see, with its verdict; tables in the order of their
/// names, runs oldest first.
ESG_SQL_FUNCTION(live_runs);

/// recent_runs(per_table integer): the newest runs of each table, whatever their status, newest first.
ESG_SQL_FUNCTION(recent_runs);

namespace esg {
namespace {

std::optional<core::Micros> since(core::Micros now, const std::optional<core::Micros> &instant) {
  if (!instant) return std::nullopt;
  return now - *instant;
}

Datum numeric(double value, int digits) {
  return DirectFunctionCall3(numeric_in, CStringGetDatum(psprintf("%.*f", digits, value)), ObjectIdGetDatum(InvalidOid),
                             Int32GetDatum(-1));
}

/// In percent with one digit; 100 only where all is done.
Datum percent(double share) { return numeric(share < 1 ? Min(share * 100, 99.9) : share * 100, 1); }

constexpr int kBarCells = 10;

char *bar_of(double share) {
  char bar[kBarCells * 4];
  return pstrdup(core::draw_bar(share, kBarCells, bar_style(), bar, sizeof bar));
}

const char *lease_name(const Run &run) {
  if (run.token == 0) return nullptr;
  return run.evidence.lease.kind == core::LeaseKind::kSessionBound ? "session" : "heartbeat";
}

void put_live_run(pg::Rows &rows, const Guarded &g, const Run &run, const Rhythms &rhythms, core::Micros now) {
  const auto last_sign = core::last_sign_of_life(run.evidence);
  const auto share = core::share_done(run.done, run.total);
  const core::Expectation expected = expectation_of(g, run, rhythms, now);
  rows.add_oid(g.table)
      .add_text(run.key)
      .add_jsonb(scope_json(g, run.scope))
      .add_text(run.status)
      .add_instant(run.started)
      .add_span(since(now, run.started))
      .add_instant(last_sign)
      .add_span(since(now, last_sign))
      .add_int64(run.done)
      .add_int64(run.total)
      .add(share ? percent(*share) : 0, !share)
      .add_text(core::verdict_name(run.judgement.verdict))
      .add_bool(run.judgement.dead())
      .add_text(why_of(run))
      .add_span(run.judgement.limit)
      .add_bool(run.uncommitted)
      .add_text(lease_name(run))
      .add_text(run.worker)
      .add_text(share ? bar_of(*share) : nullptr)
      .add(expected.rate ? numeric(*expected.rate, core::rate_digits(*expected.rate)) : 0, !expected.rate)
      .add_instant(expected.end)
      .add_text(core::expected_by_name(expected.by))
      .put();
}

/// A run of recent_runs as its row says.
struct RecentRun {
  const char *key;
  const char *status;
  std::optional<core::Micros> started;
  std::optional<core::Micros> ended;
  const char *scope;    ///< JSON text
  const char *summary;  ///< JSON text
  bool reaped;
  const Run *judged;  ///< where the status is a live one
  bool gone;          ///< deleted since it was read
};

/// The last runs by their start. An infinite time says nothing of when a run was and would always come first.
char *recent_query(const Guarded &g, int limit, Json json) {
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfo(&sql, "SELECT %s::pg_catalog.text, %s::pg_catalog.text, %s, %s, %s::pg_catalog.text, ",
                   column_ref(g.key), column_ref(g.status), g.start.exists() ? column_ref(g.start) : "NULL",
                   g.end.exists() ? column_ref(g.end) : "NULL", scope_sql(g));
  if (g.summary_count == 0) appendStringInfoString(&sql, "NULL");
  else appendStringInfoString(&sql, "(SELECT pg_catalog.to_jsonb(s.*) FROM (SELECT ");
  for (int i = 0; i < g.summary_count; ++i)
    appendStringInfo(&sql, "%s%s AS %s", i == 0 ? "" : ", ",
                     summary_value(g.summary[i], column_ref(g.summary[i]), json), quote_identifier(g.summary[i].name));
  if (g.summary_count > 0) appendStringInfoString(&sql, ") AS s)::pg_catalog.text");
  appendStringInfo(&sql, " FROM %s%s LIMIT %d", from_item(g), newest_first_sql(g, nullptr), limit);
  return sql.data;
}

int read_recent(const Guarded &g, int limit, Json json, RecentRun **out) {
  const MemoryContext context = CurrentMemoryContext;
  pg::spi_begin();
  const auto count = static_cast<int>(pg::spi_run(pg::Statement(recent_query(g, limit, json)), pg::Access::kRead));
  auto *runs = static_cast<RecentRun *>(MemoryContextAllocZero(context, sizeof(RecentRun) * Max(count, 1)));
  for (int i = 0; i < count; ++i) {
    RecentRun &run = runs[i];
    run = RecentRun{};
    bool is_null;
    run.key = pg::spi_text(i, 1, context);
    run.status = pg::spi_text(i, 2, context);
    Datum value = pg::spi_datum(i, 3, &is_null);
    run.started = instant_of(g.start, value, is_null, g.zone);
    value = pg::spi_datum(i, 4, &is_null);
    run.ended = instant_of(g.end, value, is_null, g.zone);
    run.scope = pg::spi_text(i, 5, context);
    run.summary = pg::spi_text(i, 6, context);
  }
  pg::spi_end();
  *out = runs;
  return count;
}

/// Judges those that are in a live status. One that has ended since it was read is shown as it is now.
void judge_recent(const Guarded &g, RecentRun *runs, int count, const core::Question &question) {
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * Max(count, 1)));
  int live = 0;
  for (int i = 0; i < count; ++i)
    if (runs[i].status != nullptr && g.is_live(runs[i].status)) keys[live++] = runs[i].key;
  if (live == 0) return;
  RunFilter filter;
  filter.keys = pg::text_array(keys, live);
  filter.any_status = true;
  const Runs judged = read_runs(g, filter, question);
  for (int i = 0; i < count; ++i) {
    if (runs[i].status == nullptr || !g.is_live(runs[i].status)) continue;
    runs[i].gone = true;
    for (int j = 0; j < judged.count; ++j) {
      if (strcmp(judged.items[j].key, runs[i].key) != 0) continue;
      runs[i].gone = judged.items[j].status == nullptr;
      if (runs[i].gone) continue;
      runs[i].status = judged.items[j].status;
      if (g.is_live(runs[i].status)) runs[i].judged = &judged.items[j];
    }
  }
}

/// Notes which of them the guard has closed, with nothing having undone it since.
void mark_reaped(const Guarded &g, RecentRun *runs, int count) {
  if (count == 0) return;
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * count));
  for (int i = 0; i < count; ++i) keys[i] = runs[i].key;
  pg::Statement query(
      "SELECT k.n FROM pg_catalog.unnest($2) WITH ORDINALITY AS k (key, n)"
      " WHERE (SELECT j.event FROM sync_guard.journal AS j"
      " WHERE j.relation OPERATOR(pg_catalog.=) $1 AND j.run_key OPERATOR(pg_catalog.=) k.key"
      " AND j.event OPERATOR(pg_catalog.<>) 'late_finish' ORDER BY j.id DESC LIMIT 1) OPERATOR(pg_catalog.=) 'reaped'");
  query.add_oid(g.table).add(TEXTARRAYOID, pg::text_array(keys, count));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 found = pg::spi_run(query, pg::Access::kRead);
  for (uint64 i = 0; i < found; ++i) {
    bool is_null;
    runs[DatumGetInt64(pg::spi_datum(i, 1, &is_null)) - 1].reaped = true;
  }
  pg::spi_end();
  pg::restore(before);
}

const char *state_of(const RecentRun &run) {
  if (run.judged == nullptr) return run.status;
  return run.judged->judgement.dead() ? "stuck" : "running";
}

Jsonb *parsed(const char *json) {
  return json == nullptr ? nullptr : DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

void put_recent(pg::Rows &rows, const Guarded &g, const RecentRun &run) {
  std::optional<core::Micros> duration;
  if (run.started && run.ended && run.judged == nullptr) duration = core::time_between(*run.started, *run.ended);
  rows.add_oid(g.table)
      .add_text(run.key)
      .add_jsonb(parsed(run.scope))
      .add_text(run.status)
      .add_text(state_of(run))
      .add_instant(run.started)
      .add_instant(run.ended)
      .add_span(duration)
      .add_text(run.judged == nullptr ? nullptr : core::verdict_name(run.judged->judgement.verdict))
      .add_bool(run.reaped)
      .add_jsonb(parsed(run.summary))
      .put();
}

}  // namespace

static Datum live_runs(FunctionCallInfo fcinfo) {
  pg::Rows rows(fcinfo);
  const core::Question question = question_now();
  const Oid caller = GetUserId();
  ask_again();
  each_readable_table([&rows, &question, caller](const Guarded &g) {
    rows.drop_unfinished();
    RunFilter filter;
    filter.uncommitted = sees_uncommitted(g, caller);
    const Runs runs = read_runs(g, filter, question);
    const Rhythms rhythms = rhythms_of_runs(g, runs);
    for (int i = 0; i < runs.count; ++i) put_live_run(rows, g, runs.items[i], rhythms, question.now);
  });
  return 0;
}

static Datum recent_runs(FunctionCallInfo fcinfo) {
  const int limit = PG_ARGISNULL(0) ? 10 : PG_GETARG_INT32(0);
  pg::Rows rows(fcinfo);
  if (limit <= 0) return 0;
  const core::Question question = question_now();
  ask_again();
  each_readable_table([&rows, &question, limit](const Guarded &g) {
    rows.drop_unfinished();
    RecentRun *runs = nullptr;
    int count = 0;
    read_summaries(g, [&](Json json) { count = read_recent(g, limit, json, &runs); });
    judge_recent(g, runs, count, question);
    mark_reaped(g, runs, count);
    for (int i = 0; i < count; ++i)
      if (!runs[i].gone) put_recent(rows, g, runs[i]);
  });
  return 0;
}

}  // namespace esg
