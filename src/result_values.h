// Columns of a query's result as plain values, between spi_begin and spi_end. Text is the query's own and ends with it.
#pragma once

#include "pg/spi.h"
#include "settings.h"

namespace esg {

inline const char *text_at(uint64 row, int column, MemoryContext context = CurrentMemoryContext) {
  return pg::spi_text(row, column, context);
}

/// Absent where NULL or infinite.
inline std::optional<core::Micros> instant_at(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  if (is_null || TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value))) return std::nullopt;
  return DatumGetTimestampTz(value);
}

inline std::optional<core::Micros> span_at(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  if (is_null) return std::nullopt;
  return micros_of(DatumGetIntervalP(value));
}

inline std::optional<int64> int_at(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  if (is_null) return std::nullopt;
  return DatumGetInt64(value);
}

inline std::optional<double> double_at(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  if (is_null) return std::nullopt;
  return DatumGetFloat8(value);
}

inline bool bool_at(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  return !is_null && DatumGetBool(value);
}

/// InvalidOid where NULL.
inline Oid oid_at(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  return is_null ? InvalidOid : DatumGetObjectId(value);
}

/// Null where NULL.
inline Jsonb *json_at(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  return is_null ? nullptr : DatumGetJsonbP(value);
}

}  // namespace esg
