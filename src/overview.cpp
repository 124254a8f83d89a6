// The set-returning function behind sync_status_overview and failure_rates: what runs now in each scope, and what
// became of the last day's runs. Runs in the caller's process with ACCESS SHARE on the guarded tables.
//
// It reads the live runs, the rows that started within the window, and the journal lines of the last day; so its cost
// follows these where the live statuses and the start column have an index, however long the history is.

#include "ended_runs.h"
#include "monitor.h"

#include "pg/rows.h"
#include "pg/spi.h"
#include "texts.h"
#include "worker.h"

/// scope_counts(): a line per table and scope that has a live run, a run that started within seven days, or a reaping
/// of the last day.
ESG_SQL_FUNCTION(scope_counts);

namespace esg {
namespace {

constexpr core::Micros kSpans[2] = {core::kHour, core::kDay};
constexpr core::Micros kWindow = 7 * core::kDay;

/// What is known of one scope, or a part of it that add() joins with others.
struct Tally {
  const char *scope;  ///< as jsonb prints it; empty where the table has none
  int64 running;
  int64 stuck;
  int64 succeeded[2];
  int64 failed[2];
  int64 reaped[2];
  std::optional<core::Micros> last_started;
  const char *last_state;
  std::optional<core::Micros> last_success;
};

struct Tallies {
  Tally *items = nullptr;
  int count = 0;
  int room = 0;

  Tally &append(const char *scope) {
    if (count == room) {
      room = Max(room * 2, 32);
      items = static_cast<Tally *>(items == nullptr ? palloc(sizeof(Tally) * room)
                                                    : repalloc_huge(items, sizeof(Tally) * room));
    }
    Tally &tally = items[count++];
    tally = Tally{};
    tally.scope = scope == nullptr ? "" : scope;
    return tally;
  }
};

void add(Tally &to, const Tally &from) {
  to.running += from.running;
  to.stuck += from.stuck;
  for (int i = 0; i < 2; ++i) {
    to.succeeded[i] += from.succeeded[i];
    to.failed[i] += from.failed[i];
    to.reaped[i] += from.reaped[i];
  }
  if (from.last_started && (!to.last_started || *from.last_started >= *to.last_started)) {
    to.last_started = from.last_started;
    to.last_state = from.last_state;
  }
  if (from.last_success && (!to.last_success || *from.last_success > *to.last_success))
    to.last_success = from.last_success;
}

/// By scope, then by start, so that of two equal starts the same one always wins.
int by_scope(const void *a, const void *b) {
  const auto *left = static_cast<const Tally *>(a);
  const auto *right = static_cast<const Tally *>(b);
  if (const int order = strcmp(left->scope, right->scope)) return order;
  if (left->last_started.has_value() != right->last_started.has_value()) return left->last_started ? 1 : -1;
  if (left->last_started && *left->last_started != *right->last_started)
    return *left->last_started < *right->last_started ? -1 : 1;
  if (left->last_state == nullptr || right->last_state == nullptr) return 0;
  return strcmp(left->last_state, right->last_state);
}

void count_live(const Guarded &g, const core::Question &question, Oid caller, Tallies &tallies) {
  RunFilter filter;
  filter.uncommitted = sees_uncommitted(g, caller);
  const Runs runs = read_runs(g, filter, question);
  for (int i = 0; i < runs.count; ++i) {
    const Run &run = runs.items[i];
    Tally &tally = tallies.append(jsonb_text(scope_json(g, run.scope)));
    const bool dead = run.judgement.dead();
    ++(dead ? tally.stuck : tally.running);
    tally.last_started = run.started;
    if (run.started) tally.last_state = dead ? "stuck" : "running";
  }
}

void count_ended(const Guarded &g, core::Micros now, Tallies &tallies) {
  constexpr core::Micros kWithin[] = {kSpans[0], kSpans[1], kWindow};
  const EndedGroups groups = read_ended(g, now, kWithin, lengthof(kWithin));
  for (int i = 0; i < groups.count; ++i) {
    const EndedRuns &group = groups.items[i];
    Tally &tally = tallies.append(group.scope);
    for (int span = 0; span < 2; ++span) (group.success ? tally.succeeded : tally.failed)[span] = group.started[span];
    tally.last_started = group.last_started;
    tally.last_state = group.status;
    if (group.success) tally.last_success = group.last_ended ? group.last_ended : group.last_started;
  }
}

/// Reapings by the journal, which is closed to those to whom the table shows only some of its rows.
void count_reaped(const Guarded &g, core::Micros now, bool hidden, Tallies &tallies) {
  if (hidden) return;
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement query(
      "SELECT j.scope::pg_catalog.text, pg_catalog.count(*) FILTER (WHERE j.at OPERATOR(pg_catalog.>=) $2),"
      " pg_catalog.count(*) FROM sync_guard.journal AS j WHERE j.relation OPERATOR(pg_catalog.=) $1"
      " AND j.event OPERATOR(pg_catalog.=) 'reaped' AND j.at OPERATOR(pg_catalog.>=) $3 GROUP BY 1");
  query.add_oid(g.table);
  for (const core::Micros span : kSpans) query.add(TIMESTAMPTZOID, TimestampTzGetDatum(now - span));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  for (uint64 i = 0; i < rows; ++i) {
    bool is_null;
    const MemoryContext inner = MemoryContextSwitchTo(context);
    Tally &tally = tallies.append(pg::spi_text(i, 1, context));
    MemoryContextSwitchTo(inner);
    for (int span = 0; span < 2; ++span) tally.reaped[span] = DatumGetInt64(pg::spi_datum(i, 2 + span, &is_null));
  }
  pg::spi_end();
  pg::restore(before);
}

void put_tally(pg::Rows &rows, const Guarded &g, const Tally &tally) {
  rows.add_oid(g.table);
  if (tally.scope[0] == '\0') rows.add_null();
  else rows.add(DirectFunctionCall1(jsonb_in, CStringGetDatum(tally.scope)));
  rows.add_int64(tally.running).add_int64(tally.stuck);
  for (int span = 0; span < 2; ++span)
    rows.add_int64(tally.succeeded[span]).add_int64(tally.failed[span]).add_int64(tally.reaped[span]);
  rows.add_instant(tally.last_started).add_text(tally.last_state).add_instant(tally.last_success).put();
}

}  // namespace

static Datum scope_counts(FunctionCallInfo fcinfo) {
  pg::Rows rows(fcinfo);
  const core::Question question = question_now();
  const Oid caller = GetUserId();
  ask_again();
  each_readable_table([&rows, &question, caller](const Guarded &g) {
    rows.drop_unfinished();
    Tallies tallies;
    count_live(g, question, caller, tallies);
    count_ended(g, question.now, tallies);
    count_reaped(g, question.now, check_enable_rls(g.table, caller, true) == RLS_ENABLED, tallies);
    if (tallies.count == 0) return;
    qsort(tallies.items, tallies.count, sizeof(Tally), by_scope);
    Tally sum = tallies.items[0];
    for (int i = 1; i < tallies.count; ++i) {
      if (strcmp(sum.scope, tallies.items[i].scope) == 0) {
        add(sum, tallies.items[i]);
        continue;
      }
      put_tally(rows, g, sum);
      sum = tallies.items[i];
    }
    put_tally(rows, g, sum);
  });
  return 0;
}

}  // namespace esg
