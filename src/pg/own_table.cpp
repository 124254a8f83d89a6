// See own_table.h. Waits for who has locked a table or its index as a query does, and for no row.

#include "pg/own_table.h"

namespace esg::pg {

OwnTable open_own_table(const char *name) {
  OwnTable table;
  table.relation = open_extension_table(name);
  table.snapshot = RegisterSnapshot(GetLatestSnapshot());
  return table;
}

void close_own_table(OwnTable *table) {
  UnregisterSnapshot(table->snapshot);
  relation_close(table->relation, NoLock);
}

ScanKeyData column_is(AttrNumber attno, RegProcedure function, Datum value) {
  ScanKeyData key;
  ScanKeyEntryInitialize(&key, 0, attno, BTEqualStrategyNumber, InvalidOid, DEFAULT_COLLATION_OID, function, value);
  return key;
}

Oid own_index(Relation relation, const char *name) {
  const Oid id = get_relname_relid(name, RelationGetNamespace(relation));
  const HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(id));
  if (!HeapTupleIsValid(tuple)) return InvalidOid;
  const auto *form = reinterpret_cast<Form_pg_index>(GETSTRUCT(tuple));
  const bool serves = form->indisvalid && form->indrelid == RelationGetRelid(relation);
  ReleaseSysCache(tuple);
  return serves ? id : InvalidOid;
}

namespace {

// None of ours: somebody has put triggers on the table.

void begin_triggers(OwnWriter *writer) {
  if (writer->target->ri_TrigDesc == nullptr) return;
  AfterTriggerBeginQuery();
  if (writer->command == CMD_INSERT) ExecBSInsertTriggers(writer->state, writer->target);
  else ExecBSUpdateTriggers(writer->state, writer->target);
}

void end_triggers(OwnWriter *writer) {
  if (writer->target->ri_TrigDesc == nullptr) return;
  if (writer->command == CMD_INSERT) ExecASInsertTriggers(writer->state, writer->target, nullptr);
  else ExecASUpdateTriggers(writer->state, writer->target, nullptr);
  AfterTriggerEndQuery(writer->state);
  ExecCloseResultRelations(writer->state);  // those that it has opened for them
}

/// What columns that somebody has added to the table take, as their defaults say; null: all are NULL.
ExprState **defaults_beyond(const OwnWriter &writer, int count) {
  Relation relation = writer.table.relation;
  const TupleDesc desc = RelationGetDescr(relation);
  ExprState **defaults = nullptr;
  for (int i = count; i < desc->natts; ++i) {
    const FormData_pg_attribute *column = TupleDescAttr(desc, i);
    if (!column->atthasdef || column->attisdropped || column->attgenerated != '\0') continue;
    if (defaults == nullptr) defaults = static_cast<ExprState **>(palloc0(sizeof(ExprState *) * desc->natts));
    auto *expression = reinterpret_cast<Expr *>(build_column_default(relation, i + 1));
    defaults[i] = ExecPrepareExpr(expression, writer.state);
  }
  return defaults;
}

/// Makes what it takes to write rows, once. From here to the end it is the table's owner who writes: whatever somebody has put on
/// the table (triggers, CHECKs, defaults, indexes over expressions) runs as it would for a query of his.
void prepare(OwnWriter *writer, int count) {
  if (writer->state != nullptr) return;
  Relation relation = writer->table.relation;
  writer->before = become(relation->rd_rel->relowner, 0);
  EState *state = writer->state = CreateExecutorState();
  state->es_snapshot = writer->table.snapshot;
  state->es_output_cid = GetCurrentCommandId(false);
  const MemoryContext old = MemoryContextSwitchTo(state->es_query_cxt);
  writer->target = makeNode(ResultRelInfo);
  InitResultRelInfo(writer->target, relation, 0, nullptr, 0);
  ExecOpenIndices(writer->target, false);
  writer->found = table_slot_create(relation, &state->es_tupleTable);
  writer->written = ExecInitExtraTupleSlot(state, RelationGetDescr(relation), &TTSOpsVirtual);
  init_recheck_compat(&writer->recheck, state);
  if (writer->command == CMD_INSERT) writer->defaults = defaults_beyond(*writer, count);
  MemoryContextSwitchTo(old);
  begin_triggers(writer);
}

}  // namespace

void begin_writing(OwnWriter *writer, const char *name, CmdType command) {
  if (XactReadOnly) PreventCommandIfReadOnly(command == CMD_INSERT ? "INSERT" : "UPDATE");
  CommandCounterIncrement();
  writer->command = command;
  writer->table.relation = open_extension_table(name, RowExclusiveLock);
  writer->table.snapshot = RegisterSnapshot(GetLatestSnapshot());
}

void end_writing(OwnWriter *writer) {
  if (writer->state != nullptr) {
    end_triggers(writer);
    ExecCloseIndices(writer->target);
    ExecResetTupleTable(writer->state->es_tupleTable, false);
    FreeExecutorState(writer->state);
    restore(writer->before);
  }
  close_own_table(&writer->table);
  CommandCounterIncrement();
}

void insert_own_row(OwnWriter *writer, int count, const Datum *values, const bool *nulls) {
  prepare(writer, count);
  ResetPerTupleExprContext(writer->state);
  TupleTableSlot *slot = ExecClearTuple(writer->written);
  Assert(count <= slot->tts_tupleDescriptor->natts);
  for (int i = 0; i < slot->tts_tupleDescriptor->natts; ++i) {
    slot->tts_values[i] = i < count ? values[i] : Datum(0);
    slot->tts_isnull[i] = i >= count || nulls[i];
    if (writer->defaults == nullptr || writer->defaults[i] == nullptr) continue;
    slot->tts_values[i] =
        ExecEvalExprSwitchContext(writer->defaults[i], GetPerTupleExprContext(writer->state), &slot->tts_isnull[i]);
  }
  ExecStoreVirtualTuple(slot);
  ExecSimpleRelationInsert(writer->target, writer->state, slot);
}

bool lock_own_row(OwnWriter *writer, ItemPointer tid) {
  prepare(writer, 0);
  TM_FailureData failure;
  ItemPointerData at = *tid;
  const TM_Result result =
      table_tuple_lock(writer->table.relation, &at, writer->table.snapshot, writer->found, GetCurrentCommandId(false),
                       LockTupleNoKeyExclusive, LockWaitSkip,
                       TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS | TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &failure);
  return result == TM_Ok;
}

Datum locked_value(OwnWriter *writer, AttrNumber attno, bool *is_null) {
  return slot_getattr(writer->found, attno, is_null);
}

void change_own_row(OwnWriter *writer, const OwnChange &change) {
  ResetPerTupleExprContext(writer->state);
  const int natts = writer->found->tts_tupleDescriptor->natts;
  slot_getallattrs(writer->found);
  TupleTableSlot *slot = ExecClearTuple(writer->written);
  memcpy(slot->tts_values, writer->found->tts_values, sizeof(Datum) * natts);
  memcpy(slot->tts_isnull, writer->found->tts_isnull, sizeof(bool) * natts);
  for (int i = 0; i < change.count; ++i) {
    slot->tts_values[change.columns[i] - 1] = change.values[i];
    slot->tts_isnull[change.columns[i] - 1] = change.nulls[i];
  }
  ExecStoreVirtualTuple(slot);
  ExecSimpleRelationUpdate(writer->target, writer->state, &writer->recheck, writer->found, slot);
}

}  // namespace esg::pg
