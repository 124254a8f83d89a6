// See spi.h.

#include "pg/spi.h"

#include "pg/boundary.h"
#include "pg/identity.h"
#include "pg/plans.h"

namespace esg::pg {

void spi_begin() {
  if (SPI_connect() != SPI_OK_CONNECT) elog(ERROR, "SPI_connect failed");
}

void spi_end() {
  if (SPI_finish() != SPI_OK_FINISH) elog(ERROR, "SPI_finish failed");
}

namespace {

uint64 execute(SPIPlanPtr plan, const Statement &statement, bool read_only, long max_rows) {
  if (!read_only) CommandCounterIncrement();
  PushActiveSnapshot(statement.snapshot != nullptr ? statement.snapshot : GetLatestSnapshot());
  const int result = SPI_execute_snapshot(plan, const_cast<Datum *>(statement.values), statement.nulls,
                                          GetActiveSnapshot(), InvalidSnapshot, read_only, true, max_rows);
  PopActiveSnapshot();
  if (result < 0) elog(ERROR, "SPI_execute_snapshot failed: %s", SPI_result_code_string(result));
  return SPI_processed;
}

}  // namespace

uint64 spi_run(const Statement &statement, Access access, long max_rows) {
  const bool read_only = access == Access::kRead;
  KeptPlan *kept = find_or_keep_plan(statement);
  if (kept == nullptr) return execute(prepare_plan(statement), statement, read_only, max_rows);
  volatile uint64 rows = 0;
  ++kept->running;
  PG_TRY();
  {
    without_exceptions([&] {
      prepare_kept(kept, statement);
      rows = execute(kept->plan, statement, read_only, max_rows);
    });
  }
  PG_FINALLY();
  { --kept->running; }
  PG_END_TRY();
  return rows;
}

uint64 spi_execute(const Statement &statement) {
  spi_begin();
  const uint64 rows = spi_run(statement, Access::kWrite);
  spi_end();
  return rows;
}

uint64 spi_execute_as_guard(const Statement &statement) {
  const Identity before = become_extension_owner();
  const uint64 rows = spi_execute(statement);
  restore(before);
  CommandCounterIncrement();
  return rows;
}

void spi_utility(const char *sql) {
  spi_begin();
  const int result = SPI_execute(sql, false, 0);
  if (result < 0) elog(ERROR, "SPI_execute failed: %s", SPI_result_code_string(result));
  spi_end();
}

Datum spi_datum(uint64 row, int number, bool *is_null) {
  Assert(row < SPI_tuptable->numvals && number >= 1 && number <= SPI_tuptable->tupdesc->natts);
  return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number, is_null);
}

char *spi_text(uint64 row, int number, MemoryContext context) {
  Assert(row < SPI_tuptable->numvals && number >= 1 && number <= SPI_tuptable->tupdesc->natts);
  if (SPI_gettypeid(SPI_tuptable->tupdesc, number) != TEXTOID) {
    const char *value = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, number);
    return value == nullptr ? nullptr : MemoryContextStrdup(context, value);
  }
  bool is_null;
  const Datum value = spi_datum(row, number, &is_null);
  if (is_null) return nullptr;
  const MemoryContext before = MemoryContextSwitchTo(context);
  char *copy = TextDatumGetCString(value);
  MemoryContextSwitchTo(before);
  return copy;
}

char *type_sql(Oid type) {
  return format_type_extended(type, -1, FORMAT_TYPE_FORCE_QUALIFY | FORMAT_TYPE_TYPEMOD_GIVEN);
}

Datum text_array(const char *const *values, int count) {
  auto *datums = static_cast<Datum *>(palloc(sizeof(Datum) * Max(count, 1)));
  auto *nulls = static_cast<bool *>(palloc(sizeof(bool) * Max(count, 1)));
  for (int i = 0; i < count; ++i) {
    nulls[i] = values[i] == nullptr;
    datums[i] = nulls[i] ? Datum(0) : CStringGetTextDatum(values[i]);
  }
  int dims[1] = {count};
  int lower[1] = {1};
  return PointerGetDatum(construct_md_array(datums, nulls, 1, dims, lower, TEXTOID, -1, false, TYPALIGN_INT));
}

}  // namespace esg::pg
