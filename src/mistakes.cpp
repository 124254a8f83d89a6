// Runs in the caller's process, or the sweep's. See mistakes.h.

#include "mistakes.h"

#include "pg/identity.h"
#include "pg/spi.h"

namespace esg {
namespace {

/// Each reaping once, whatever number of lines say that it was wrong: a run that reports success and whose reaping is then
/// taken back by hand was one mistake. What a trigger noted, the run itself did, and lived until then.
constexpr const char *kMistakes =
    "SELECT m.verdict, m.scope::pg_catalog.text, m.scope, m.measured, m.judged_by,"
    " m.measured OPERATOR(pg_catalog.+) m.later, m.noticed"
    " FROM (SELECT r.verdict, r.scope,"
    " (r.evidence OPERATOR(pg_catalog.->>) 'measured_seconds')::pg_catalog.float8 AS measured,"
    " (r.evidence OPERATOR(pg_catalog.->>) 'limit_seconds')::pg_catalog.float8 AS judged_by,"
    " pg_catalog.max(CASE WHEN j.path OPERATOR(pg_catalog.=) 'trigger' THEN"
    " EXTRACT(EPOCH FROM j.at OPERATOR(pg_catalog.-) r.at)::pg_catalog.float8 END) AS later, pg_catalog.max(j.at) AS "
    "noticed"
    " FROM sync_guard.journal AS j JOIN sync_guard.journal AS r ON r.id OPERATOR(pg_catalog.=) j.reaping"
    " WHERE j.relation OPERATOR(pg_catalog.=) $1 AND j.false_positive AND j.at OPERATOR(pg_catalog.>=) $2"
    " GROUP BY r.id, r.verdict, r.scope, r.evidence, r.at) AS m"
    " ORDER BY pg_catalog.count(*) OVER (PARTITION BY m.verdict, m.scope) DESC, 2, 1";

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
  mistake.noticed = DatumGetTimestampTz(pg::spi_datum(row, 7, &is_null));
  return mistake;
}

}  // namespace

Mistakes read_mistakes(const Guarded &g, core::Micros since) {
  pg::Statement query(kMistakes);
  query.add_oid(g.table).add(TIMESTAMPTZOID, TimestampTzGetDatum(since));
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  Mistakes mistakes;
  mistakes.count = pg::spi_run(query, pg::Access::kRead);
  mistakes.items = static_cast<Mistake *>(
      MemoryContextAllocHuge(context, sizeof(Mistake) * Max(mistakes.count, static_cast<uint64>(1))));
  for (uint64 i = 0; i < mistakes.count; ++i) mistakes.items[i] = read_mistake(i, context);
  pg::spi_end();
  pg::restore(before);
  return mistakes;
}

}  // namespace esg
