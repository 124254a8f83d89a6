// Runs in the caller's process with ACCESS SHARE on the table. See ended_runs.h.

#include "ended_runs.h"

#include "pg/spi.h"

namespace esg {
namespace {

/// Columns of the query, in order; the counts follow.
enum EndedColumn : int { kScope = 1, kStatus, kLastStarted, kLastEnded, kFirstCount };

/// The scope of a group, whose values are s1, s2, …; as scope_sql() makes it of a run.
char *scope_of_group(const Guarded &g) {
  if (g.scope_count == 0) return pstrdup("NULL::pg_catalog.text");
  StringInfoData sql;
  initStringInfo(&sql);
  for (int i = 0; i < g.scope_count; ++i)
    appendStringInfo(&sql, "%s%s::pg_catalog.text, e.s%d", i == 0 ? "pg_catalog.jsonb_build_object(" : ", ",
                     quote_literal_cstr(g.scope[i].name), i);
  appendStringInfoString(&sql, ")::pg_catalog.text");
  return sql.data;
}

/// $1 bounds the whole of the column `by`, the elements of $2 the spans. Counted by the values of the scope, and shown as scopes then: of
/// each run that would take longer than all the rest.
char *ended_query(const Guarded &g, const Column &by, int spans) {
  const char *at = column_ref(by);
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfo(&sql, "SELECT %s, e.status, e.started, e.ended", scope_of_group(g));
  for (int i = 1; i <= spans; ++i) appendStringInfo(&sql, ", e.n%d", i);
  appendStringInfo(&sql, " FROM (SELECT %s::pg_catalog.text COLLATE pg_catalog.\"C\" AS status", column_ref(g.status));
  for (int i = 0; i < g.scope_count; ++i)
    appendStringInfo(&sql, ", %s::pg_catalog.text COLLATE pg_catalog.\"C\" AS s%d", column_ref(g.scope[i]), i);
  if (g.start.exists()) appendStringInfo(&sql, ", pg_catalog.max(%s) AS started", column_ref(g.start));
  else appendStringInfoString(&sql, ", NULL AS started");
  if (g.end.exists())
    appendStringInfo(&sql, ", pg_catalog.max(%s) FILTER (WHERE %s OPERATOR(pg_catalog.<) 'infinity'::%s) AS ended",
                     column_ref(g.end), column_ref(g.end), pg::type_sql(g.end.type));
  else appendStringInfoString(&sql, ", NULL AS ended");
  for (int i = 1; i <= spans; ++i)
    appendStringInfo(&sql, ", pg_catalog.count(*) FILTER (WHERE %s OPERATOR(pg_catalog.>=) ($2)[%d]) AS n%d", at, i, i);
  appendStringInfo(&sql,
                   " FROM %s WHERE %s OPERATOR(pg_catalog.>=) $1 AND %s OPERATOR(pg_catalog.<) 'infinity'::%s"
                   " AND NOT %s GROUP BY 1",
                   from_item(g), at, at, pg::type_sql(by.type), status_condition(g, g.live, g.live_count));
  for (int i = 0; i < g.scope_count; ++i) appendStringInfo(&sql, ", %d", i + 2);
  appendStringInfoString(&sql, ") AS e ORDER BY 1, 2");
  return sql.data;
}

EndedRuns make_group(const Guarded &g, uint64 row, int spans, MemoryContext context) {
  EndedRuns group{};
  bool is_null;
  group.scope = pg::spi_text(row, kScope, context);
  group.status = pg::spi_text(row, kStatus, context);
  group.success = group.status != nullptr && core::tells_success(group.status, g.failed);
  Datum value = pg::spi_datum(row, kLastStarted, &is_null);
  group.last_started = instant_of(g.start, value, is_null, g.zone);
  value = pg::spi_datum(row, kLastEnded, &is_null);
  group.last_ended = instant_of(g.end, value, is_null, g.zone);
  group.started = static_cast<int64 *>(MemoryContextAlloc(context, sizeof(int64) * spans));
  for (int i = 0; i < spans; ++i) group.started[i] = DatumGetInt64(pg::spi_datum(row, kFirstCount + i, &is_null));
  return group;
}

EndedGroups read_by(const Guarded &g, const Column &by, core::Micros now, const core::Micros *spans, int count) {
  EndedGroups groups;
  if (!by.exists()) return groups;
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement query(ended_query(g, by, count));
  auto *bounds = static_cast<Datum *>(palloc(sizeof(Datum) * count));
  for (int i = 0; i < count; ++i) bounds[i] = time_datum(by, now - spans[i], g.zone);
  query.add(by.type, bounds[count - 1]);
  query.add(get_array_type(by.type), PointerGetDatum(construct_array(bounds, count, by.type, sizeof(Timestamp),
                                                                     FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  groups.items =
      static_cast<EndedRuns *>(MemoryContextAllocHuge(context, sizeof(EndedRuns) * Max(rows, static_cast<uint64>(1))));
  for (uint64 i = 0; i < rows; ++i) {
    CHECK_FOR_INTERRUPTS();
    groups.items[groups.count++] = make_group(g, i, count, context);
  }
  pg::spi_end();
  return groups;
}

}  // namespace

EndedGroups read_ended(const Guarded &g, core::Micros now, const core::Micros *spans, int count) {
  return read_by(g, g.start, now, spans, count);
}

EndedGroups read_ended_since(const Guarded &g, core::Micros now, const core::Micros *spans, int count) {
  return read_by(g, g.start.exists() ? g.start : g.end, now, spans, count);
}

}  // namespace esg
