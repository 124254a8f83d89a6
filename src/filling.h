// What the guard fills into a row that the application writes: start, end, duration, errors. Runs in the BEFORE trigger
// (judge.cpp), as the application's role. Only what the table takes is filled, so that no statement fails that would have
// gone through without the guard.
#pragma once

#include "row_event.h"

namespace esg {

/// What is to be filled into one row.
struct Filling {
  static constexpr int kMost = 3;

  int count = 0;
  int columns[kMost];
  Datum values[kMost];
  bool nulls[kMost];
  int needs[kMost];    ///< the one without which this one is not filled either; -1: none
  bool clears[kMost];  ///< where another one is filled and this one is not, it is NULL: what is there fits no more

  /// Fills the column, where it may be written and its type takes the value.
  void add(const Column &column, Datum value, bool is_null = false);

  /// The same for a value that goes with that of `with`, where this is filled too.
  void add_dependent(const Column &column, Datum value, bool is_null, const Column &with, bool clear);

  /// The row with as much of it as its table's conditions accept: all, else less, else the row as it is. What is refused even so
  /// the server refuses, in its own words.
  [[nodiscard]] HeapTuple apply(const RowEvent &event) const;
};

}  // namespace esg
