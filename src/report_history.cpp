// Reading the runs of the report's window. See report_history.h.
//
// Ended runs are found by their start, from a day before the window on (of a longer window, from its own length before), so
// that an index on the start column serves. Older ones that the guard reaped within the window come from its journal.

#include "report_history.h"

#include "monitor.h"
#include "result_values.h"
#include "runs.h"

namespace esg {
namespace {

const char *or_empty(const char *text) { return text == nullptr ? "" : text; }

PastRun *append(History *history) {
  if (history->count == history->room) {
    history->room = Max(history->room * 2, 1024);
    const Size size = sizeof(PastRun) * history->room;
    history->runs = static_cast<PastRun *>(history->runs == nullptr ? MemoryContextAllocHuge(history->context, size)
                                                                    : repalloc_huge(history->runs, size));
  }
  PastRun *run = &history->runs[history->count++];
  *run = PastRun{};
  return run;
}

// ---- live runs ------------------------------------------------------------------------------------

constexpr const char *kLiveQuery =
    "SELECT r.relation::pg_catalog.oid, r.run_key, r.scope::pg_catalog.text, r.status, r.started_at, "
    "r.last_sign_of_life,"
    " r.done, r.total, r.percent::pg_catalog.text, r.dead, r.why, r.lease, r.worker,"
    " r.rate_per_second::pg_catalog.float8, r.expected_end, r.expected_by"
    " FROM sync_guard.live_runs() AS r";

LiveRun live_run(const Guarded *g, uint64 row, MemoryContext context) {
  LiveRun run{};
  run.table = g;
  run.key = or_empty(pg::spi_text(row, 2, context));
  run.scope = or_empty(pg::spi_text(row, 3, context));
  run.status = or_empty(pg::spi_text(row, 4, context));
  run.started = instant_at(row, 5);
  run.last_sign = instant_at(row, 6);
  run.done = int_at(row, 7);
  run.total = int_at(row, 8);
  run.percent = pg::spi_text(row, 9, context);
  run.dead = bool_at(row, 10);
  run.why = pg::spi_text(row, 11, context);
  run.lease = pg::spi_text(row, 12, context);
  run.worker = pg::spi_text(row, 13, context);
  run.rate = double_at(row, 14);
  run.expected_end = instant_at(row, 15);
  run.expected_by = pg::spi_text(row, 16, context);
  return run;
}

/// The live runs, and their place in time: one that is dead has lasted to this day.
void read_live(const Page &page, List *tables, History *history) {
  int counts[2] = {};
  pg::spi_begin();
  const uint64 rows = pg::spi_run(pg::Statement(kLiveQuery), pg::Access::kRead);
  history->live = static_cast<LiveRun *>(
      MemoryContextAllocExtended(history->context, sizeof(LiveRun) * Max(rows, 1), MCXT_ALLOC_HUGE));
  for (uint64 i = 0; i < rows; ++i) {
    bool is_null;
    const Guarded *g = table_of(tables, DatumGetObjectId(pg::spi_datum(i, 1, &is_null)));
    if (g == nullptr) continue;
    LiveRun &live = history->live[history->live_count++] = live_run(g, i, history->context);
    live.listed = counts[live.dead ? 1 : 0]++ < kMaxListed;
    if (!live.started || *live.started > page.now) continue;
    PastRun *run = append(history);
    run->table = g;
    run->key = live.key;
    run->scope = live.scope;
    run->status = live.status;
    run->start = *live.started;
    run->outcome = live.dead ? core::Outcome::kStuck : core::Outcome::kRunning;
    run->late = run->start < page.begin;
  }
  pg::spi_end();
}

bool is_listed(const LiveRun &run, const Guarded &g) { return run.listed && run.table->table == g.table; }

/// What the summary columns of listed runs say of them in words: "operation full_sync".
void read_summaries(const Guarded &g, History *history) {
  const char *keys[2 * kMaxListed];
  int count = 0;
  for (int n = 0; n < history->live_count; ++n)
    if (is_listed(history->live[n], g)) keys[count++] = history->live[n].key;
  if (count == 0) return;
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfo(&sql, "SELECT %s::pg_catalog.text, pg_catalog.concat_ws(', '", column_ref(g.key));
  int words = 0;
  for (int i = 0; i < g.summary_count; ++i) {
    if (!tells_what(g, g.summary[i])) continue;
    const char *name = g.summary[i].name;
    appendStringInfo(&sql, ", %s OPERATOR(pg_catalog.||) pg_catalog.\"left\"(%s::pg_catalog.text, 200)",
                     quote_literal_cstr(psprintf("%s ", name)), column_ref(g.summary[i]));
    ++words;
  }
  if (words == 0) return;
  appendStringInfo(&sql, ") FROM %s WHERE %s AND %s::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($1)", from_item(g),
                   status_condition(g, g.live, g.live_count), column_ref(g.key));
  pg::Statement query(sql.data);
  query.add(TEXTARRAYOID, pg::text_array(keys, count));
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  for (uint64 i = 0; i < rows; ++i) {
    const char *key = or_empty(pg::spi_text(i, 1, CurrentMemoryContext));
    for (int n = 0; n < history->live_count; ++n)
      if (is_listed(history->live[n], g) && strcmp(history->live[n].key, key) == 0)
        history->live[n].summary = pg::spi_text(i, 2, history->context);
  }
  pg::spi_end();
}

// ---- ended runs -------------------------------------------------------------------------------------

char *ended_query(const Guarded &g) {
  const char *start = column_ref(g.start);
  return psprintf(
      "SELECT %s::pg_catalog.text, %s::pg_catalog.text, %s, %s, %s::pg_catalog.text FROM %s WHERE %s"
      " OPERATOR(pg_catalog.>=) $1 AND %s OPERATOR(pg_catalog.<=) $2 AND NOT %s ORDER BY %s DESC LIMIT %d",
      column_ref(g.key), column_ref(g.status), start, g.end.exists() ? column_ref(g.end) : "NULL", scope_sql(g),
      from_item(g), start, start, status_condition(g, g.live, g.live_count), start, kMaxRunsRead + 1);
}

/// How far before the window runs are looked for that ended in it.
core::Micros earliest_start(const Page &page) {
  const core::Micros back = Max(page.now - page.begin, core::kDay);
  return page.begin - Min(back, 30 * core::kDay);
}

void read_ended(const Page &page, const Guarded &g, History *history) {
  const MemoryContext context = history->context;
  pg::Statement query(ended_query(g));
  for (const core::Micros instant : {earliest_start(page), page.now})
    query.add(g.start.type, time_datum(g.start, instant, g.zone));
  pg::spi_begin();
  const auto rows = static_cast<int64>(pg::spi_run(query, pg::Access::kRead));
  for (int64 i = 0; i < Min(rows, kMaxRunsRead); ++i) {
    CHECK_FOR_INTERRUPTS();
    bool is_null;
    Datum value = pg::spi_datum(i, 3, &is_null);
    const auto start = instant_of(g.start, value, is_null, g.zone);
    value = pg::spi_datum(i, 4, &is_null);
    const auto end = instant_of(g.end, value, is_null, g.zone);
    if (!start || (*start < page.begin && (!end || *end < page.begin))) continue;
    PastRun *run = append(history);
    run->key = or_empty(pg::spi_text(i, 1, context));
    run->status = or_empty(pg::spi_text(i, 2, context));
    run->scope = or_empty(pg::spi_text(i, 5, context));
    run->start = *start;
    if (end) run->end = Max(*end, *start);
    run->outcome = core::tells_success(run->status, g.failed) ? core::Outcome::kCompleted : core::Outcome::kFailed;
    run->late = run->start < page.begin;
    run->table = &g;
  }
  pg::spi_end();
  const MemoryContext old = MemoryContextSwitchTo(context);
  if (rows > kMaxRunsRead) history->cut = lappend(history->cut, const_cast<Guarded *>(&g));
  MemoryContextSwitchTo(old);
}

// ---- reapings ---------------------------------------------------------------------------------------

/// The newest line of each run that was reaped in the window, where nothing has undone that since.
constexpr const char *kReapedQuery =
    "SELECT j.run_key, j.scope::pg_catalog.text, j.at, CASE WHEN j.evidence OPERATOR(pg_catalog.->>) 'started_at'"
    " OPERATOR(pg_catalog.~) '^[0-9]{4}-' THEN (j.evidence OPERATOR(pg_catalog.->>) "
    "'started_at')::pg_catalog.timestamptz END"
    " FROM sync_guard.journal AS j WHERE j.relation OPERATOR(pg_catalog.=) $1 AND j.at OPERATOR(pg_catalog.>=) $2"
    " AND j.event OPERATOR(pg_catalog.=) 'reaped' AND NOT EXISTS (SELECT FROM sync_guard.journal AS l"
    " WHERE l.relation OPERATOR(pg_catalog.=) j.relation AND l.run_key OPERATOR(pg_catalog.=) j.run_key"
    " AND l.id OPERATOR(pg_catalog.>) j.id AND l.event OPERATOR(pg_catalog.<>) 'late_finish')"
    " ORDER BY j.id DESC LIMIT 100000";

int by_key(const void *a, const void *b) {
  return strcmp((*static_cast<PastRun *const *>(a))->key, (*static_cast<PastRun *const *>(b))->key);
}

/// The ended runs of a table, by key. They are the last that were appended.
PastRun **sorted_by_key(History *history, int first, int count) {
  auto **runs = static_cast<PastRun **>(MemoryContextAllocHuge(history->context, sizeof(PastRun *) * Max(count, 1)));
  for (int i = 0; i < count; ++i) runs[i] = &history->runs[first + i];
  qsort(runs, count, sizeof *runs, by_key);
  return runs;
}

struct Reaping {
  const char *key;
  const char *scope;
  core::Micros at;
  std::optional<core::Micros> started;
};

/// Marks the ended runs that the guard closed, and adds those whose rows were not looked at because they are older.
void mark_reaped(const Page &page, const Guarded &g, int first, const Reaping *reapings, int count, History *history) {
  const int ended = history->count - first;
  PastRun **by_keys = sorted_by_key(history, first, ended);
  int older = 0;
  auto *add = static_cast<const Reaping **>(palloc(sizeof(Reaping *) * Max(count, 1)));
  for (int i = 0; i < count; ++i) {
    PastRun wanted{};
    wanted.key = reapings[i].key;
    PastRun *key = &wanted;
    auto *found = static_cast<PastRun **>(bsearch(&key, by_keys, ended, sizeof *by_keys, by_key));
    if (found != nullptr) {
      (*found)->outcome = core::Outcome::kReaped;
      (*found)->end = reapings[i].at;
    } else if (reapings[i].started && *reapings[i].started < earliest_start(page)) {
      add[older++] = &reapings[i];
    }
  }
  for (int i = 0; i < older; ++i) {
    PastRun *run = append(history);
    run->table = &g;
    run->key = add[i]->key;
    run->scope = add[i]->scope;
    run->status = g.failed;
    run->start = *add[i]->started;
    run->end = add[i]->at;
    run->outcome = core::Outcome::kReaped;
    run->late = true;
  }
}

/// The table's reapings of the window; none for those to whom the table shows only some of its rows.
int read_reapings(const Page &page, const Guarded &g, MemoryContext context, Reaping **out) {
  pg::Statement query(kReapedQuery);
  query.add_oid(g.table).add(TIMESTAMPTZOID, TimestampTzGetDatum(page.begin));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const auto count = static_cast<int>(pg::spi_run(query, pg::Access::kRead));
  *out = static_cast<Reaping *>(MemoryContextAllocExtended(context, sizeof(Reaping) * Max(count, 1), MCXT_ALLOC_HUGE));
  for (int i = 0; i < count; ++i) {
    Reaping &reaping = (*out)[i];
    reaping.key = or_empty(pg::spi_text(i, 1, context));
    reaping.scope = or_empty(pg::spi_text(i, 2, context));
    reaping.at = instant_at(i, 3).value_or(page.now);
    reaping.started = instant_at(i, 4);
  }
  pg::spi_end();
  pg::restore(before);
  return count;
}

void read_table(const Page &page, const Guarded &g, Oid caller, History *history) {
  read_summaries(g, history);
  if (!g.start.exists()) return;
  const int first = history->count;
  read_ended(page, g, history);
  if (check_enable_rls(g.table, caller, true) == RLS_ENABLED) return;
  Reaping *reapings;
  const int count = read_reapings(page, g, history->context, &reapings);
  mark_reaped(page, g, first, reapings, count, history);
}

// ---- lanes ------------------------------------------------------------------------------------------

int by_lane(const void *a, const void *b) {
  const auto *left = static_cast<const PastRun *>(a);
  const auto *right = static_cast<const PastRun *>(b);
  if (left->table != right->table) {
    const int order = strcmp(left->table->name, right->table->name);
    return order != 0 ? order : left->table->table < right->table->table ? -1 : 1;
  }
  if (const int order = strcmp(left->scope, right->scope)) return order;
  if (left->start != right->start) return left->start < right->start ? -1 : 1;
  return strcmp(left->key, right->key);
}

/// What went wrong first, then what is busiest.
int by_trouble(const void *a, const void *b) {
  const auto *left = static_cast<const Lane *>(a);
  const auto *right = static_cast<const Lane *>(b);
  for (const core::Outcome outcome : {core::Outcome::kStuck, core::Outcome::kReaped, core::Outcome::kFailed}) {
    const int i = static_cast<int>(outcome);
    if (left->counts[i] != right->counts[i]) return left->counts[i] > right->counts[i] ? -1 : 1;
  }
  if (left->count != right->count) return left->count > right->count ? -1 : 1;
  return left->first < right->first ? -1 : 1;
}

bool share_lane(const PastRun &one, const PastRun &other) {
  return one.table == other.table && strcmp(one.scope, other.scope) == 0;
}

void make_lanes(History *history) {
  if (history->count > 1) qsort(history->runs, history->count, sizeof(PastRun), by_lane);
  history->lanes = static_cast<Lane *>(
      MemoryContextAllocExtended(history->context, sizeof(Lane) * Max(history->count, 1), MCXT_ALLOC_HUGE));
  for (int i = 0; i < history->count; ++i) {
    const PastRun &run = history->runs[i];
    if (i == 0 || !share_lane(history->runs[i - 1], run))
      history->lanes[history->lane_count++] = Lane{run.table, nullptr, i, 0, {}};
    Lane &lane = history->lanes[history->lane_count - 1];
    ++lane.count;
    ++lane.counts[static_cast<int>(run.outcome)];
  }
  qsort(history->lanes, history->lane_count, sizeof(Lane), by_trouble);
  for (int i = 0; i < history->lane_count; ++i)
    history->lanes[i].label = scope_label(history->lanes[i].table, history->runs[history->lanes[i].first].scope);
}

}  // namespace

const Guarded *table_of(const List *tables, Oid relation) {
  const ListCell *cell;
  foreach (cell, tables)
    if (static_cast<const Guarded *>(lfirst(cell))->table == relation)
      return static_cast<const Guarded *>(lfirst(cell));
  return nullptr;
}

bool tells_what(const Guarded &g, const Column &column) {
  if (column.type != TEXTOID && column.type != VARCHAROID && !type_is_enum(column.type)) return false;
  const Column *const told[] = {&g.key, &g.status, &g.error};
  for (const Column *other : told)
    if (other->attno == column.attno) return false;
  for (int i = 0; i < g.scope_count; ++i)
    if (g.scope[i].attno == column.attno) return false;
  return true;
}

char *scope_label(const Guarded *g, const char *scope) {
  if (scope == nullptr || scope[0] == '\0') return pstrdup("all runs");
  Jsonb *json = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(scope)));
  StringInfoData label;
  initStringInfo(&label);
  const int count = g == nullptr ? 0 : g->scope_count;
  for (int i = 0; i < count && JB_ROOT_IS_OBJECT(json); ++i) {
    JsonbValue value;
    const char *name = g->scope[i].name;
    if (getKeyJsonValueFromContainer(&json->root, name, static_cast<int>(strlen(name)), &value) == nullptr) continue;
    const char *text = json_scalar_text(value);
    appendStringInfo(&label, "%s%s", label.len == 0 ? "" : " / ", text == nullptr ? "(null)" : text);
  }
  if (label.len > 0) return label.data;
  return pstrdup(JB_ROOT_IS_OBJECT(json) && JB_ROOT_COUNT(json) == 0 ? "the whole table" : scope);
}

void read_history(const Page &page, List *tables, History *history) {
  const Oid caller = GetUserId();
  history->context = CurrentMemoryContext;
  read_live(page, tables, history);
  each_table(
      tables, [&](const Guarded &g) { read_table(page, g, caller, history); },
      [&](const Guarded &g, const ErrorData *error) {
        warn_of_skipped(g, error);
        const MemoryContext old = MemoryContextSwitchTo(history->context);
        history->failed = lappend(history->failed, const_cast<Guarded *>(&g));
        MemoryContextSwitchTo(old);
      });
  ListCell *cell;
  foreach (cell, tables) {
    const auto *g = static_cast<const Guarded *>(lfirst(cell));
    if (!g->start.exists()) history->without_start = lappend(history->without_start, lfirst(cell));
    else if (!g->end.exists()) history->without_end = lappend(history->without_end, lfirst(cell));
  }
  make_lanes(history);
}

}  // namespace esg
