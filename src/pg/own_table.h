// Rows of the guard's own tables, read and written without a query: found by an index, seen with the latest snapshot, whoever the
// user is. Only finished values are written so, as with become_extension_owner(); what somebody has put on the tables (triggers, CHECKs,
// defaults, indexes over expressions) runs as their owner. What only a query runs does not: rules, triggers of single columns, tables of
// transition.
//
// Plain structs: an error leaves what they hold to the end of the transaction. What a transaction has read or written stays locked
// to its end, as by a query.
#pragma once

#include "pg/extension_tables.h"
#include "pg/identity.h"

namespace esg::pg {

/// A table of the guard's, open for reading.
struct OwnTable {
  Relation relation = nullptr;
  Snapshot snapshot = nullptr;
};

/// Opens it and takes the latest snapshot. Waits for who has locked it against reading. ERROR where it is missing.
OwnTable open_own_table(const char *name);
void close_own_table(OwnTable *table);

/// The search key "column `attno` is the value", by an operator's function as F_OIDEQ.
ScanKeyData column_is(AttrNumber attno, RegProcedure function, Datum value);

/// An index of the table, by its name; invalid where it is not there or not valid.
Oid own_index(Relation relation, const char *name);

/// Calls `visit(HeapTuple)` for each row that the keys name, until it returns false. Without the index all rows are looked through.
template <typename Visit>
void each_own_row(const OwnTable &table, const char *index, const ScanKeyData *keys, int count, const Visit &visit) {
  ScanKeyData of_scan[4];  // the scan puts numbers of the index's columns into them
  Assert(count <= static_cast<int>(lengthof(of_scan)));
  memcpy(of_scan, keys, sizeof(ScanKeyData) * count);
  const Oid id = own_index(table.relation, index);
  SysScanDesc scan = systable_beginscan(table.relation, id, OidIsValid(id), table.snapshot, count, of_scan);
  for (HeapTuple row; HeapTupleIsValid(row = systable_getnext(scan));) {
    CHECK_FOR_INTERRUPTS();
    if (!visit(row)) break;
  }
  systable_endscan(scan);
}

/// A table of the guard's, open for writing. What it takes to write is made with the first row.
struct OwnWriter {
  OwnTable table;
  EState *state = nullptr;  ///< null: nothing is written yet
  ResultRelInfo *target = nullptr;
  TupleTableSlot *found = nullptr;    ///< the row that was locked last
  TupleTableSlot *written = nullptr;  ///< the one that is written
  ExprState **defaults = nullptr;     ///< of columns that the guard knows nothing of; null: none
  EPQState recheck;
  CmdType command;
  Identity before;
};

/// Opens it for writing, by CMD_INSERT or CMD_UPDATE; what this statement has written before is seen. ERROR 25006 in a read-only
/// transaction.
void begin_writing(OwnWriter *writer, const char *name, CmdType command);

/// What was written is seen by whatever comes next, within the same statement too.
void end_writing(OwnWriter *writer);

/// A row to be, of the table's first columns; NULL where nothing is set.
template <int kColumns>
struct OwnRow {
  Datum values[kColumns] = {};
  bool nulls[kColumns];

  OwnRow() { memset(nulls, true, sizeof nulls); }
  OwnRow &set(AttrNumber column, Datum value) {
    values[column - 1] = value;
    nulls[column - 1] = false;
    return *this;
  }
  /// A null pointer becomes NULL.
  OwnRow &set_pointer(AttrNumber column, const void *value) {
    return value == nullptr ? *this : set(column, PointerGetDatum(value));
  }
  OwnRow &set_text(AttrNumber column, const char *value) {
    return value == nullptr ? *this : set(column, CStringGetTextDatum(value));
  }
};

/// Inserts a row of the table's first `count` columns; further ones get their defaults.
void insert_own_row(OwnWriter *writer, int count, const Datum *values, const bool *nulls);
template <int kColumns>
void insert_own_row(OwnWriter *writer, const OwnRow<kColumns> &row) {
  insert_own_row(writer, kColumns, row.values, row.nulls);
}

/// Locks the newest version of a row, as FOR NO KEY UPDATE SKIP LOCKED does. False: it is gone, or another transaction has it
/// locked. Its values stand in `found` then.
bool lock_own_row(OwnWriter *writer, ItemPointer tid);

/// A value of the row that was locked last.
Datum locked_value(OwnWriter *writer, AttrNumber attno, bool *is_null);

/// What a change sets.
struct OwnChange {
  static constexpr int kMost = 8;

  int count = 0;
  AttrNumber columns[kMost];
  Datum values[kMost];
  bool nulls[kMost];

  OwnChange &set(AttrNumber column, Datum value, bool is_null = false) {
    if (count >= kMost) elog(ERROR, "too many columns");
    columns[count] = column;
    values[count] = value;
    nulls[count] = is_null;
    ++count;
    return *this;
  }
};

/// Changes the row that was locked last.
void change_own_row(OwnWriter *writer, const OwnChange &change);

}  // namespace esg::pg
