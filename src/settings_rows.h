// Rows of the guard's settings tables, read by catalog-style scans, and how one becomes what the guard knows of a table.
// Used by the cache (settings.cpp) alone.
#pragma once

#include "pg/extension_tables.h"
#include "settings.h"

namespace esg {

// clang-format off
/// Positions in sync_guard.settings, as the install script creates it.
enum SettingsColumn : int {
  kRelation = 1, kRelationName, kKeyColumn, kStatusColumn, kLiveStatuses, kFailedStatus, kStartColumn, kEndColumn,
  kDurationColumn, kErrorColumn, kActivityColumn, kUpdatedColumn, kDoneColumn, kTotalColumn, kScopeColumns,
  kScopeOverlaps, kSummaryColumns, kTimeZone, kMaxSilence, kMaxAge, kMaxStall, kExclusive, kExclusiveStatuses,
  kTransitions, kLateFinish, kMode, kPausedUntil, kAdoptedAt, kAdoptedBy, kEndedStatuses
};
// clang-format on

/// One row of a settings table, read by position.
struct Row {
  HeapTuple tuple;
  TupleDesc desc;

  Datum get(int column, bool *is_null) const { return heap_getattr(tuple, column, desc, is_null); }
  const char *string(int column) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    return is_null ? nullptr : text_to_cstring(DatumGetTextPP(value));
  }
  const char *name(int column) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    return is_null ? nullptr : pstrdup(NameStr(*DatumGetName(value)));
  }
  bool flag(int column) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    return !is_null && DatumGetBool(value);
  }
  std::optional<core::Micros> span(int column) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    if (is_null) return std::nullopt;
    return micros_of(DatumGetIntervalP(value));
  }
  /// Strings of a text[] or name[]; NULL elements are left out.
  const char **strings(int column, Oid type, int *count) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    *count = 0;
    if (is_null) return nullptr;
    Datum *items;
    bool *nulls;
    int n;
    const bool of_names = type == NAMEOID;
    deconstruct_array(DatumGetArrayTypeP(value), type, of_names ? NAMEDATALEN : -1, false,
                      of_names ? TYPALIGN_CHAR : TYPALIGN_INT, &items, &nulls, &n);
    auto **out = static_cast<const char **>(palloc0(sizeof(char *) * Max(n, 1)));
    for (int i = 0; i < n; ++i) {
      if (nulls[i]) continue;
      out[(*count)++] = of_names ? pstrdup(NameStr(*DatumGetName(items[i]))) : TextDatumGetCString(items[i]);
    }
    return out;
  }
};

/// Calls `visit` for each row of a settings table that is about `relid` (its first column; index on it).
template <typename Visit>
void scan_by_relation(const char *table, const char *index, Oid relid, const Visit &visit) {
  Relation relation = pg::open_extension_table(table);
  const Oid index_id = get_relname_relid(index, RelationGetNamespace(relation));
  ScanKeyData key;
  ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
  SysScanDesc scan = systable_beginscan(relation, index_id, OidIsValid(index_id), nullptr, 1, &key);
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan))
    visit(Row{tuple, RelationGetDescr(relation)});
  systable_endscan(scan);
  table_close(relation, AccessShareLock);
}

/// Fills `g` from its row in sync_guard.settings, its scope limits and its transition rules, resolved against `relation`.
/// What does not fit is told in g.broken.
void load_row(Guarded &g, Relation relation, const Row &row);

}  // namespace esg
