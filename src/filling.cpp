// See filling.h.

#include "filling.h"

#include "conditions.h"
#include "pg/boundary.h"

namespace esg {
namespace {

/// Whether the column's type takes a value: a domain may refuse it.
bool takes(const Column &column, Datum value, bool is_null) {
  if (column.declared_type == column.type || !pg::domain_has_constraints_compat(column.declared_type)) return true;
  const Oid domain = column.declared_type;
  return pg::try_in_subtransaction([value, is_null, domain] {
           domain_check(value, is_null, domain, nullptr, CurrentMemoryContext);
         }) == nullptr;
}

bool is_in(unsigned chosen, int i) { return (chosen >> i & 1U) != 0; }

bool makes_sense(const Filling &filling, unsigned chosen) {
  for (int i = 0; i < filling.count; ++i)
    if (is_in(chosen, i) && filling.needs[i] >= 0 && !is_in(chosen, filling.needs[i])) return false;
  return true;
}

int size_of(unsigned chosen) { return __builtin_popcount(chosen); }

/// The row with the chosen ones; null where its table would refuse it.
HeapTuple with(const Filling &filling, const RowEvent &event, unsigned chosen) {
  int columns[Filling::kMost];
  Datum values[Filling::kMost];
  bool nulls[Filling::kMost];
  int count = 0;
  Bitmapset *filled = nullptr;
  for (int i = 0; i < filling.count; ++i) {
    if (!is_in(chosen, i) && !filling.clears[i]) continue;
    columns[count] = filling.columns[i];
    values[count] = filling.values[i];
    nulls[count] = filling.nulls[i] || !is_in(chosen, i);
    filled = bms_add_member(filled, columns[count]);
    ++count;
  }
  HeapTuple row = heap_modify_tuple_by_cols(event.after, event.desc, count, columns, values, nulls);
  return accepts(*event.table, event.trigger->tg_relation, row, filled) ? row : nullptr;
}

}  // namespace

void Filling::add(const Column &column, Datum value, bool is_null) {
  if (!column.writable || (is_null && column.not_null) || !takes(column, value, is_null)) return;
  columns[count] = column.attno;
  values[count] = value;
  nulls[count] = is_null;
  needs[count] = -1;
  clears[count] = false;
  ++count;
}

void Filling::add_dependent(const Column &column, Datum value, bool is_null, const Column &with, bool clear) {
  const int here = count;
  add(column, value, is_null);
  for (int i = 0; here < count && i < here; ++i) {
    if (columns[i] != with.attno) continue;
    needs[here] = i;
    clears[here] = clear && !column.not_null && takes(column, Datum(0), true);
  }
}

HeapTuple Filling::apply(const RowEvent &event) const {
  const unsigned all = (1U << count) - 1;
  // As many as the table takes, of as many the first.
  for (int size = count; size > 0; --size)
    for (unsigned chosen = 1; chosen <= all; ++chosen) {
      if (size_of(chosen) != size || !makes_sense(*this, chosen)) continue;
      const HeapTuple row = with(*this, event, chosen);
      if (row != nullptr) return row;
    }
  return event.after;
}

}  // namespace esg
