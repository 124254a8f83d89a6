// Learning rhythms, in the sweep's transaction, and reading them, in the caller's. One statement reads the history, grouped
// by scope and status, since only the library knows which statuses tell of success; the figures are made by core/rhythm.
// Takes ACCESS SHARE on the guarded table; one sweep at a time learns (sweep.cpp). See rhythms.h.

#include "rhythms.h"

#include "core/rhythm.h"
#include "fault.h"
#include "indexes.h"
#include "pg/identity.h"
#include "pg/rows.h"
#include "pg/spi.h"
#include "result_values.h"

namespace esg {
namespace {

constexpr int kMostRuns = 50000;
constexpr core::Micros kWindow = 30 * core::kDay;
constexpr double kManyRows = 100000;
/// What a block holds about, where the server has not counted a table's rows yet.
constexpr double kRowsPerBlock = 50;

/// A run that ended well.
struct Completion {
  const char *scope;  ///< as jsonb prints it; "{}" where the table has none
  core::Micros at;
  std::optional<core::Micros> duration;
};

struct Completions {
  Completion *items = nullptr;
  int count = 0;
};

/// What is written: a line per scope, in columns.
struct Columns {
  Datum *scopes;
  Datum *completed;
  Datum *spans[4];
  bool *no_spans[4];
  Datum *last;
  bool *no_last;
  int count = 0;

  explicit Columns(int room) : scopes(datums(room)), completed(datums(room)), last(datums(room)), no_last(flags(room)) {
    for (int i = 0; i < 4; ++i) {
      spans[i] = datums(room);
      no_spans[i] = flags(room);
    }
  }

  static Datum *datums(int room) { return static_cast<Datum *>(palloc0(sizeof(Datum) * room)); }
  static bool *flags(int room) { return static_cast<bool *>(palloc0(sizeof(bool) * room)); }
};

double rows_in(Oid relid, BlockNumber blocks) {
  const HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
  if (!HeapTupleIsValid(tuple)) return 0;
  const double rows = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->reltuples;
  ReleaseSysCache(tuple);
  return rows >= 0 ? rows : blocks * kRowsPerBlock;
}

/// The rows of the table and its partitions, as the server last counted them.
double rows_of_history(const Guarded &g) {
  double rows = 0;
  ListCell *cell;
  foreach (cell, g.partitioned ? find_all_inheritors(g.table, AccessShareLock, nullptr) : list_make1_oid(g.table)) {
    const Relation leaf = relation_open(lfirst_oid(cell), AccessShareLock);
    if (leaf->rd_rel->relkind == RELKIND_RELATION)
      rows += rows_in(RelationGetRelid(leaf), RelationGetNumberOfBlocks(leaf));
    relation_close(leaf, AccessShareLock);
  }
  return rows;
}

/// How many rows are read for the newest runs, where those cannot be found by an index and are many; else 0.
double costly_rows(const Guarded &g) {
  const pg::Identity before = read_as_owner(g);
  const double rows = g.start.exists() && lacking_start_index(g).names == NIL ? 0 : rows_of_history(g);
  pg::restore(before);
  return rows > kManyRows ? rows : 0;
}

/// Whether so many rows can be read in what is left of the statement's time. A sweep that is cancelled here has reaped nothing,
/// and so would the next one.
bool there_is_time_for(double rows) {
  constexpr double kMicrosPerRow = 4;
  if (rows == 0 || !get_timeout_active(STATEMENT_TIMEOUT)) return true;
  const core::Micros left = get_timeout_finish_time(STATEMENT_TIMEOUT) - GetCurrentTimestamp();
  return static_cast<double>(left) > rows * kMicrosPerRow;
}

const char *time_type(const Column &column) { return column.type == TIMESTAMPOID ? "timestamp" : "timestamptz"; }

/// Times of the newest runs that have ended, as arrays by scope and status. $1 and $2 bound the column that tells when a run
/// was.
char *history_query(const Guarded &g) {
  const Column &by = g.start.exists() ? g.start : g.end;
  const char *condition = psprintf("NOT %s AND %s OPERATOR(pg_catalog.>=) $1 AND %s OPERATOR(pg_catalog.<=) $2",
                                   status_condition(g, g.live, g.live_count), column_ref(by), column_ref(by));
  const auto times = [&g](const Column &column) {
    const char *type = time_type(g.start.exists() ? g.start : g.end);
    if (!column.exists()) return psprintf("NULL::pg_catalog.%s", type);
    return psprintf("%s::pg_catalog.%s", column_ref(column), time_type(column));
  };
  return psprintf(
      "SELECT r.scope, r.status, pg_catalog.array_agg(r.began), pg_catalog.array_agg(r.ended)"
      " FROM (SELECT %s::pg_catalog.text AS scope, %s::pg_catalog.text AS status, %s AS began, %s AS ended"
      " FROM %s%s LIMIT %d) AS r GROUP BY r.scope, r.status",
      scope_sql(g), column_ref(g.status), times(g.start), times(g.end), from_item(g), newest_first_sql(g, condition),
      kMostRuns);
}

int elements_of(Datum array, Datum **values, bool **nulls) {
  ArrayType *times = DatumGetArrayTypeP(array);
  int count;
  deconstruct_array(times, ARR_ELEMTYPE(times), 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, values, nulls, &count);
  return count;
}

/// When a run completed, by its end or else its start, never later than now (clocks of others may be fast); and how long it
/// took. False: neither is known.
bool completion_of(const std::optional<core::Micros> &began, const std::optional<core::Micros> &ended, core::Micros now,
                   Completion *out) {
  if (!began && !ended) return false;
  out->at = Min(ended ? *ended : *began, now);
  // As a whole, since what is there is of memory that nobody has written yet.
  const bool told = began && ended && *ended >= *began;
  out->duration = told ? core::time_between(*began, *ended) : std::nullopt;
  return true;
}

/// Appends the runs of row `number` of the history; in `context`.
void append_group(const Guarded &g, uint64 number, core::Micros now, MemoryContext context, Completions *to) {
  const char *status = pg::spi_text(number, 2, context);
  if (status == nullptr || !core::tells_success(status, g.failed)) return;
  const char *scope = pg::spi_text(number, 1, context);
  bool is_null;
  Datum *began;
  Datum *ended;
  bool *no_began;
  bool *no_ended;
  const int count = elements_of(pg::spi_datum(number, 3, &is_null), &began, &no_began);
  (void)elements_of(pg::spi_datum(number, 4, &is_null), &ended, &no_ended);
  for (int i = 0; i < count; ++i) {
    Assert(to->count < kMostRuns);
    Completion &next = to->items[to->count];
    next.scope = scope == nullptr ? "{}" : scope;
    if (completion_of(instant_of(g.start, began[i], no_began[i], g.zone),
                      instant_of(g.end, ended[i], no_ended[i], g.zone), now, &next))
      ++to->count;
  }
}

/// Works as the table's owner.
Completions read_history(const Guarded &g, core::Micros now) {
  Completions completions;
  const Column &by = g.start.exists() ? g.start : g.end;
  if (!by.exists()) return completions;
  const MemoryContext context = CurrentMemoryContext;
  completions.items = static_cast<Completion *>(palloc(sizeof(Completion) * kMostRuns));
  const pg::Identity before = read_as_owner(g);
  pg::Statement query(history_query(g));
  query.add(by.type, time_datum(by, now - kWindow, g.zone)).add(by.type, time_datum(by, now, g.zone));
  pg::spi_begin();
  const uint64 groups = pg::spi_run(query, pg::Access::kRead);
  for (uint64 i = 0; i < groups; ++i) {
    CHECK_FOR_INTERRUPTS();
    append_group(g, i, now, context, &completions);
  }
  pg::spi_end();
  pg::restore(before);
  return completions;
}

int by_scope_and_time(const void *a, const void *b) {
  const auto *left = static_cast<const Completion *>(a);
  const auto *right = static_cast<const Completion *>(b);
  if (const int order = left->scope == right->scope ? 0 : strcmp(left->scope, right->scope)) return order;
  return left->at == right->at ? 0 : left->at < right->at ? -1 : 1;
}

int by_time(const void *a, const void *b) {
  const auto *left = static_cast<const Completion *>(a);
  const auto *right = static_cast<const Completion *>(b);
  return left->at == right->at ? 0 : left->at < right->at ? -1 : 1;
}

void set_span(Columns *columns, int which, const std::optional<core::Micros> &span) {
  columns->no_spans[which][columns->count] = !span;
  if (span) columns->spans[which][columns->count] = IntervalPGetDatum(pg::interval_of(*span));
}

/// Adds the line of `count` completions, sorted by time. `buffer` has room for as many spans.
void add_line(const char *scope, const Completion *items, int count, core::Micros *buffer, Columns *columns) {
  std::size_t durations = 0;
  for (int i = 0; i < count; ++i)
    if (items[i].duration) buffer[durations++] = *items[i].duration;
  const core::Usual lasting = core::usual_of_durations(buffer, durations);
  for (int i = 0; i < count; ++i) buffer[i] = items[i].at;
  const core::Usual gaps = core::usual_of_gaps(buffer, static_cast<std::size_t>(count));
  const int line = columns->count;
  columns->scopes[line] = DirectFunctionCall1(jsonb_in, CStringGetDatum(scope));
  columns->completed[line] = Int64GetDatum(count);
  set_span(columns, 0, lasting.usual);
  set_span(columns, 1, lasting.long_one);
  set_span(columns, 2, gaps.usual);
  set_span(columns, 3, gaps.long_one);
  columns->no_last[line] = count == 0;
  if (count > 0) columns->last[line] = TimestampTzGetDatum(items[count - 1].at);
  ++columns->count;
}

/// A line per scope, and one for the table.
Columns lines_of(const Guarded &g, Completions completions) {
  auto *buffer = static_cast<core::Micros *>(palloc(sizeof(core::Micros) * Max(completions.count, 1)));
  Columns columns(completions.count + 1);
  if (completions.count > 0) qsort(completions.items, completions.count, sizeof(Completion), by_scope_and_time);
  for (int from = 0, to = 0; g.scope_count > 0 && from < completions.count; from = to) {
    CHECK_FOR_INTERRUPTS();
    while (to < completions.count && strcmp(completions.items[from].scope, completions.items[to].scope) == 0) ++to;
    add_line(completions.items[from].scope, completions.items + from, to - from, buffer, &columns);
  }
  if (completions.count > 0) qsort(completions.items, completions.count, sizeof(Completion), by_time);
  add_line("{}", completions.items, completions.count, buffer, &columns);
  return columns;
}

Datum array_of(Datum *values, bool *nulls, int count, Oid type, int16 length, bool by_value, char align) {
  int dims[1] = {count};
  int lower[1] = {1};
  return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, type, length, by_value, align));
}

constexpr const char *kWrite =
    "INSERT INTO sync_guard.scope_rhythms (relation, scope, learned_at, completed, usual_duration, long_duration,"
    " usual_gap, long_gap, last_completed)"
    " SELECT $1::pg_catalog.regclass, l.scope, $2, l.completed, l.usual_duration, l.long_duration, l.usual_gap,"
    " l.long_gap, l.last_completed"
    " FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6),"
    " pg_catalog.unnest($7), pg_catalog.unnest($8), pg_catalog.unnest($9))"
    " AS l (scope, completed, usual_duration, long_duration, usual_gap, long_gap, last_completed)";

constexpr const char *kForget = "DELETE FROM sync_guard.scope_rhythms AS r WHERE r.relation OPERATOR(pg_catalog.=) $1";

/// The lines take the place of those that are there.
void write_lines(const Guarded &g, core::Micros now, Columns &columns) {
  const int count = columns.count;
  pg::Statement forget(kForget);
  pg::spi_execute(forget.add_oid(g.table));
  pg::Statement insert(kWrite);
  insert.add_oid(g.table)
      .add(TIMESTAMPTZOID, TimestampTzGetDatum(now))
      .add(JSONBARRAYOID, array_of(columns.scopes, nullptr, count, JSONBOID, -1, false, TYPALIGN_INT))
      .add(INT8ARRAYOID, array_of(columns.completed, nullptr, count, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
  for (int i = 0; i < 4; ++i)
    insert.add(INTERVALARRAYOID, array_of(columns.spans[i], columns.no_spans[i], count, INTERVALOID, sizeof(Interval),
                                          false, TYPALIGN_DOUBLE));
  insert.add(TIMESTAMPTZARRAYOID,
             array_of(columns.last, columns.no_last, count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
  pg::spi_execute(insert);
}

constexpr const char *kLearnedAt =
    "SELECT r.learned_at FROM sync_guard.scope_rhythms AS r WHERE r.relation OPERATOR(pg_catalog.=) $1"
    " AND r.scope OPERATOR(pg_catalog.=) '{}'::pg_catalog.jsonb";

/// When the table's own line was written; absent where there is none.
std::optional<core::Micros> learned_at(const Guarded &g) {
  pg::Statement query(kLearnedAt);
  query.add_oid(g.table);
  std::optional<core::Micros> at;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  bool is_null;
  if (pg::spi_run(query, pg::Access::kRead) > 0) at = DatumGetTimestampTz(pg::spi_datum(0, 1, &is_null));
  pg::spi_end();
  pg::restore(before);
  return at;
}

/// A clock that was set back must not stop the learning.
bool is_old(core::Micros learned, core::Micros now, core::Micros every) {
  return now - learned >= every || learned > now;
}

Rhythm read_rhythm(uint64 row, MemoryContext context) {
  Rhythm rhythm{};
  bool is_null;
  const Datum scope = pg::spi_datum(row, 1, &is_null);
  const MemoryContext spi = MemoryContextSwitchTo(context);
  rhythm.scope = DatumGetJsonbPCopy(scope);
  MemoryContextSwitchTo(spi);
  rhythm.completed = DatumGetInt64(pg::spi_datum(row, 2, &is_null));
  rhythm.usual_duration = span_at(row, 3);
  rhythm.long_duration = span_at(row, 4);
  rhythm.usual_gap = span_at(row, 5);
  rhythm.long_gap = span_at(row, 6);
  const Datum last = pg::spi_datum(row, 7, &is_null);
  if (!is_null) rhythm.last_completed = DatumGetTimestampTz(last);
  return rhythm;
}

constexpr const char *kRead =
    "SELECT r.scope, r.completed, r.usual_duration, r.long_duration, r.usual_gap, r.long_gap, r.last_completed,"
    " r.learned_at FROM sync_guard.scope_rhythms AS r WHERE r.relation OPERATOR(pg_catalog.=) $1%s"
    " ORDER BY r.scope USING OPERATOR(pg_catalog.<)";

constexpr const char *kOnlyThese =
    " AND r.scope OPERATOR(pg_catalog.=) ANY ($2 OPERATOR(pg_catalog.||) '{}'::pg_catalog.jsonb)";

}  // namespace

const Rhythm *Rhythms::of(const Jsonb *scope) const {
  if (scope == nullptr) scope = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
  int low = 0;
  for (int high = count; low < high;) {
    const int middle = low + (high - low) / 2;
    const int order = compareJsonbContainers(&items[middle].scope->root, const_cast<JsonbContainer *>(&scope->root));
    if (order == 0) return &items[middle];
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return nullptr;
}

bool history_is_costly(const Guarded &g) { return costly_rows(g) > 0; }

void learn_rhythms(const Guarded &g, const core::Question &question) {
  const core::Micros now = question.now;
  const auto learned = learned_at(g);
  if (learned && !is_old(*learned, now, core::kHour)) return;
  const double costly = costly_rows(g);
  if (learned && costly > 0 && !is_old(*learned, now, core::kDay)) return;
  if (!there_is_time_for(costly)) return;
  Columns lines = lines_of(g, read_history(g, now));
  ESG_FAULT_POINT("rhythms.learned");
  const pg::Identity before = pg::become_extension_owner();
  write_lines(g, now, lines);
  pg::restore(before);
}

Rhythms read_rhythms(const Guarded &g, Datum scopes) {
  pg::Statement query(psprintf(kRead, scopes == 0 ? "" : kOnlyThese));
  query.add_oid(g.table);
  if (scopes != 0) query.add(JSONBARRAYOID, scopes);
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const auto found = static_cast<int>(pg::spi_run(query, pg::Access::kRead));
  Rhythms rhythms;
  rhythms.items = static_cast<Rhythm *>(MemoryContextAllocHuge(context, sizeof(Rhythm) * Max(found, 1)));
  for (; rhythms.count < found; ++rhythms.count) {
    bool is_null;
    rhythms.items[rhythms.count] = read_rhythm(rhythms.count, context);
    rhythms.learned_at = DatumGetTimestampTz(pg::spi_datum(rhythms.count, 8, &is_null));
  }
  pg::spi_end();
  pg::restore(before);
  return rhythms;
}

}  // namespace esg
