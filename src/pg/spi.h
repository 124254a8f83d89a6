// Queries through SPI, each with its own connection, typed parameters and a snapshot taken for it.
//
// The snapshot is the latest one whatever the caller's isolation level: the guard judges what is committed now, and a
// REPEATABLE READ caller who looked with his own would let a second run into a scope (tried).
#pragma once

#include "pg/prelude.h"

namespace esg::pg {

/// A statement with its parameters; plain, lives on the stack.
struct Statement {
  static constexpr int kMaxParameters = 32;

  const char *sql;
  int count = 0;
  Oid types[kMaxParameters] = {};
  Datum values[kMaxParameters] = {};
  char nulls[kMaxParameters + 1] = {};
  bool fetches = false;  ///< rows by their keys or places, few of the table's: planned so, whatever size that has
  Snapshot snapshot = nullptr;  ///< of kRead: what it sees, registered by the caller; null: the latest

  explicit Statement(const char *statement) : sql(statement) {}

  Statement &add(Oid type, Datum value, bool is_null = false) {
    if (count >= kMaxParameters) elog(ERROR, "too many parameters");
    types[count] = type;
    values[count] = value;
    nulls[count] = is_null ? 'n' : ' ';
    ++count;
    return *this;
  }
  Statement &add_text(const char *value) {
    return value == nullptr ? add(TEXTOID, 0, true) : add(TEXTOID, CStringGetTextDatum(value));
  }
  Statement &add_oid(Oid value) { return add(OIDOID, ObjectIdGetDatum(value)); }
};

enum class Access { kRead, kWrite };

/// Runs `statement` between spi_begin and spi_end with its snapshot. Returns the number of rows; results stand in
/// SPI_tuptable until spi_end. kRead also runs on a standby and refuses anything that writes or locks rows.
uint64 spi_run(const Statement &statement, Access access, long max_rows = 0);

/// Opens and closes an SPI connection; the memory context is the caller's again after spi_end.
void spi_begin();
void spi_end();

/// Runs a statement that returns nothing of interest, in a connection of its own. Returns the number of rows.
uint64 spi_execute(const Statement &statement);

/// Writes the guard's own tables, as the extension's owner. What was written is seen by whatever comes next, within the same
/// statement too. Returns the number of rows.
uint64 spi_execute_as_guard(const Statement &statement);

/// A utility statement (DDL), in a connection of its own.
void spi_utility(const char *sql);

/// Column `number` (from 1) of the result's row as text in `context`; null where NULL.
char *spi_text(uint64 row, int number, MemoryContext context);

/// Column `number` (from 1) of the result's row as stored.
Datum spi_datum(uint64 row, int number, bool *is_null);

/// A type's name for use in SQL: qualified, and without a length ("character" alone would mean one character).
char *type_sql(Oid type);

/// A text[] of `count` strings; null pointers become NULL elements.
Datum text_array(const char *const *values, int count);

/// Calls `visit(Datum)` for each text of a text[] that is not NULL.
template <typename Visit>
void each_text(Datum texts, const Visit &visit) {
  Datum *items;
  bool *nulls;
  int count;
  deconstruct_array(DatumGetArrayTypeP(texts), TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, &count);
  for (int i = 0; i < count; ++i)
    if (!nulls[i]) visit(items[i]);
}

}  // namespace esg::pg
