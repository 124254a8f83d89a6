// See quick_look.h. Runs in the caller's process with ACCESS SHARE on the table, which its caller has locked, and on one index. No
// code of the table's owner is met: the columns that are read are of the server's own types.

#include "quick_look.h"

#include "indexes.h"
#include "liveness.h"

namespace esg {
namespace {

/// Columns that are told by their bytes.
bool is_text(const Column &column) { return column.type == TEXTOID || column.type == VARCHAROID; }

/// Its value becomes text by the server's own code.
bool is_of_the_server(const Column &column) { return column.type < FirstNormalObjectId; }

bool may_look(const Guarded &g) {
  bool fits = is_text(g.status) && is_of_the_server(g.key);
  for (int i = 0; i < g.scope_count; ++i) fits = fits && is_text(g.scope[i]);
  return fits && have_memory() && !g.partitioned && !RecoveryInProgress() && !row_security_applies(g);
}

/// An index that finds rows by their status: of the whole table, and equal in it is what is equal in the column.
bool finds_by_status(const Guarded &g, Relation table, Relation index) {
  const FormData_pg_index *form = index->rd_index;
  if (index->rd_rel->relam != BTREE_AM_OID || !form->indisvalid || form->indcheckxmin) return false;
  return index_begins_with(index, table, g.status.attno) && index->rd_opfamily[0] == TEXT_BTREE_FAM_OID &&
         // As the catalog has it: the relcache would simplify it, and so run functions of the table's owner as the caller.
         heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, nullptr);
}

/// Whether equal in the status and in the scope is what has the same bytes.
bool is_equal_by_bytes(const Guarded &g, TupleDesc desc) {
  bool by_bytes = get_collation_isdeterministic(TupleDescAttr(desc, g.status.attno - 1)->attcollation);
  for (int i = 0; i < g.scope_count; ++i)
    by_bytes = by_bytes && get_collation_isdeterministic(TupleDescAttr(desc, g.scope[i].attno - 1)->attcollation);
  return by_bytes;
}

/// Opens such an index; null where there is none, or somebody keeps it for himself.
Relation open_index(const Guarded &g, Relation table) {
  // Any change of the table's indexes drops what is known of the table.
  if (g.status_index_known) {
    if (!OidIsValid(g.status_index) || !ConditionalLockRelationOid(g.status_index, AccessShareLock)) return nullptr;
    return index_open(g.status_index, NoLock);
  }
  Relation found = nullptr;
  const List *indexes = is_equal_by_bytes(g, RelationGetDescr(table)) ? RelationGetIndexList(table) : NIL;
  for (int i = 0; i < list_length(indexes) && found == nullptr; ++i) {
    if (!ConditionalLockRelationOid(list_nth_oid(indexes, i), AccessShareLock)) return nullptr;
    Relation index = index_open(list_nth_oid(indexes, i), NoLock);
    if (finds_by_status(g, table, index)) found = index;
    else index_close(index, AccessShareLock);
  }
  g.status_index = found == nullptr ? InvalidOid : RelationGetRelid(found);
  g.status_index_known = true;
  return found;
}

bool is_value(Datum datum, bool is_null, const core::ScopeValue &value) {
  if (is_null || !value) return is_null && !value;
  auto *text = PG_DETOAST_DATUM_PACKED(datum);
  return VARSIZE_ANY_EXHDR(text) == value->size() && memcmp(VARDATA_ANY(text), value->data(), value->size()) == 0;
}

/// Whether the row is one of those asked for.
bool is_asked_for(const Guarded &g, const Asked &asked, TupleTableSlot *slot) {
  if (asked.condition == nullptr) return true;
  for (int i = 0; i < g.scope_count; ++i) {
    if (asked.any[i]) continue;
    bool is_null;
    const Datum datum = slot_getattr(slot, g.scope[i].attno, &is_null);
    if (!is_value(datum, is_null, asked.scope.values[i])) return false;
  }
  return true;
}

std::optional<int64> count_in(TupleTableSlot *slot, const Column &column) {
  if (!column.exists()) return std::nullopt;
  bool is_null;
  const Datum value = slot_getattr(slot, column.attno, &is_null);
  return count_of(column, value, is_null);
}

std::optional<core::Micros> instant_in(TupleTableSlot *slot, const Column &column, pg_tz *zone) {
  if (!column.exists()) return std::nullopt;
  bool is_null;
  const Datum value = slot_getattr(slot, column.attno, &is_null);
  return instant_of(column, value, is_null, zone);
}

/// A column's value as text; null where NULL.
char *text_in(TupleTableSlot *slot, const Column &column) {
  bool is_null;
  const Datum value = slot_getattr(slot, column.attno, &is_null);
  return is_null ? nullptr : text_of_value(column, value);
}

/// The row as a run, for its judgement. False: it has no key.
bool make_run(const Guarded &g, const char *status, TupleTableSlot *slot, Run *run) {
  *run = Run{};
  ItemPointerSetInvalid(&run->ctid);
  run->key = text_in(slot, g.key);
  run->status = status;
  run->started = instant_in(slot, g.start, g.zone);
  run->active = instant_in(slot, g.activity, g.zone);
  run->done = count_in(slot, g.done);
  run->total = count_in(slot, g.total);
  run->scope.count = g.scope_count;
  for (int i = 0; i < g.scope_count; ++i)
    if (const char *text = text_in(slot, g.scope[i]); text != nullptr) run->scope.values[i] = std::string_view(text);
  return run->key != nullptr;
}

/// Calls `visit(status, slot)` for the rows in a live status, as they are now, until it returns false. False: there is no index.
template <typename Visit>
bool each_live_row(const Guarded &g, const Visit &visit) {
  Relation table = table_open(g.table, NoLock);
  Relation index = open_index(g, table);
  if (index == nullptr) {
    table_close(table, NoLock);
    return false;
  }
  const Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
  PushActiveSnapshot(snapshot);
  TupleTableSlot *slot = table_slot_create(table, nullptr);
  IndexScanDesc scan = pg::index_beginscan_compat(table, index, snapshot, 1);
  bool go_on = true;
  for (int i = 0; i < g.live_count && go_on; ++i) {
    ScanKeyData key;
    ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, TEXTOID, index->rd_indcollation[0], F_TEXTEQ,
                           CStringGetTextDatum(g.live[i]));
    index_rescan(scan, &key, 1, nullptr, 0);
    while (go_on && index_getnext_slot(scan, ForwardScanDirection, slot)) {
      CHECK_FOR_INTERRUPTS();
      go_on = visit(g.live[i], slot);
    }
  }
  index_endscan(scan);
  ExecDropSingleTupleTableSlot(slot);
  PopActiveSnapshot();
  UnregisterSnapshot(snapshot);
  index_close(index, AccessShareLock);
  table_close(table, NoLock);
  return true;
}

}  // namespace

std::optional<bool> quick_look(const Guarded &g, const Asked &asked, const core::Question &question) {
  // Before the rows: a run that commits meanwhile is in one of the two.
  if (asked.overlaps || !may_look(g) || may_have_uncommitted(g.table)) return std::nullopt;
  std::optional<bool> answer = false;
  const bool looked = each_live_row(g, [&](const char *status, TupleTableSlot *slot) {
    if (!is_asked_for(g, asked, slot)) return true;
    Run run;
    answer = std::nullopt;
    if (make_run(g, status, slot, &run) && judge_by_memory(g, question, &run) && !run.judgement.dead()) answer = true;
    return false;
  });
  return looked ? answer : std::nullopt;
}

}  // namespace esg
