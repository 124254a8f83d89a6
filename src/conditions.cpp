// See conditions.h. Evaluated is what the executor evaluates right after the trigger, in the same statement and with the same
// rights; so what a condition calls is called once more. Takes no locks: the statement has the table's.
//
// Cost: none where no condition is about what is filled. Where one may raise an error it is asked in a subtransaction, since the
// error would else be that of a statement which would have gone through without the guard. That is left out where none can
// come: nearly all CHECKs on times and durations are comparisons, which the server declares leakproof, and what is leakproof
// raises no error for any value.

#include "conditions.h"

#include "pg/boundary.h"

namespace esg {
namespace {

/// The server's own alone: anybody's may be replaced by one that does raise, and nothing would tell this cache.
bool is_outspoken(Oid function, void *) {
  return function >= static_cast<Oid>(FirstUnpinnedObjectId) || !get_func_leakproof(function);
}

bool may_raise(Node *node, void *context) {
  if (node == nullptr) return false;
  switch (nodeTag(node)) {
    case T_Var:
    case T_Const:
    case T_List:
    case T_BoolExpr:
    case T_NullTest:
    case T_BooleanTest:
    case T_CaseExpr:
    case T_CaseWhen:
    case T_CaseTestExpr:
    case T_CoalesceExpr:
    case T_ArrayExpr:
    case T_ArrayCoerceExpr:
    case T_RelabelType:
    case T_CollateExpr: break;
    case T_OpExpr:
    case T_DistinctExpr:
    case T_NullIfExpr:
    case T_ScalarArrayOpExpr:
    case T_FuncExpr:
      if (check_functions_in_node(node, is_outspoken, nullptr)) return true;
      break;
    default: return true;
  }
  return pg::walk_tree_compat(node, may_raise, context);
}

bool is_stored(const TupleDesc desc, int attno) {
  return TupleDescAttr(desc, attno - 1)->attgenerated == ATTRIBUTE_GENERATED_STORED;
}

/// The columns that an expression reads, by their numbers: all, where it reads the row as a whole.
Bitmapset *columns_of(Node *expression, int count) {
  Bitmapset *offset = nullptr;
  pull_varattnos(expression, 1, &offset);
  const bool whole = bms_is_member(-FirstLowInvalidHeapAttributeNumber, offset);
  Bitmapset *columns = nullptr;
  for (int attno = 1; attno <= count; ++attno)
    if (whole || bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, offset))
      columns = bms_add_member(columns, attno);
  return columns;
}

/// What stored generated columns are made of, by their numbers.
Node **generating_expressions(Relation relation) {
  const TupleDesc desc = RelationGetDescr(relation);
  auto **expressions = static_cast<Node **>(palloc0(sizeof(Node *) * (desc->natts + 1)));
  for (int attno = 1; desc->constr->has_generated_stored && attno <= desc->natts; ++attno)
    if (is_stored(desc, attno)) expressions[attno] = build_column_default(relation, attno);
  return expressions;
}

void keep(Guarded &g, const Condition &condition) {
  for (const Column *column : {&g.status, &g.start, &g.end, &g.duration, &g.error}) {
    if (!column->exists() || column->generated || !bms_is_member(column->attno, condition.columns)) continue;
    g.conditions[g.condition_count++] = condition;
    return;
  }
}

/// The generated column would raise an error, or be NULL where it must not.
void load_generated(Guarded &g, Relation relation, Node **generating) {
  const TupleDesc desc = RelationGetDescr(relation);
  for (int attno = 1; attno <= desc->natts; ++attno) {
    if (generating[attno] == nullptr) continue;
    Condition condition;
    condition.columns = columns_of(generating[attno], desc->natts);
    condition.generated = true;
    condition.may_raise = true;
    if (TupleDescAttr(desc, attno - 1)->attnotnull) condition.not_null = static_cast<AttrNumber>(attno);
    else if (!may_raise(generating[attno], nullptr)) continue;
    keep(g, condition);
  }
}

void load_check(Guarded &g, Relation relation, Node **generating, Node *check) {
  const int count = RelationGetDescr(relation)->natts;
  Condition condition;
  condition.check = pg::without_virtual_columns_compat(check, relation);
  condition.may_raise = may_raise(condition.check, nullptr);
  condition.columns = columns_of(condition.check, count);
  for (int attno = 1; attno <= count; ++attno) {
    if (generating[attno] == nullptr || !bms_is_member(attno, condition.columns)) continue;
    condition.generated = condition.may_raise = true;
    condition.columns = bms_add_members(condition.columns, columns_of(generating[attno], count));
  }
  keep(g, condition);
}

/// NOT NULL of virtual generated columns, which are computed where they are read, and for this.
void load_virtual(Guarded &g, Relation relation, Node **generating) {
  const TupleDesc desc = RelationGetDescr(relation);
  for (int attno = 1; attno <= desc->natts; ++attno) {
    const Form_pg_attribute column = TupleDescAttr(desc, attno - 1);
    if (!column->attnotnull || column->attgenerated == '\0' || is_stored(desc, attno)) continue;
    auto *test = makeNode(NullTest);
    test->arg = reinterpret_cast<Expr *>(
        makeVar(1, static_cast<AttrNumber>(attno), column->atttypid, column->atttypmod, column->attcollation, 0));
    test->nulltesttype = IS_NOT_NULL;
    test->argisrow = false;
    test->location = -1;
    load_check(g, relation, generating, reinterpret_cast<Node *>(test));
  }
}

/// The row in a slot, with its generated columns as they will be: they are computed after the triggers.
void put_row(EState *state, TupleTableSlot *slot, Relation relation, HeapTuple row, bool generated) {
  ExecForceStoreHeapTuple(row, slot, false);
  slot->tts_tableOid = RelationGetRelid(relation);
  if (!generated) return;
  auto *target = makeNode(ResultRelInfo);
  InitResultRelInfo(target, relation, 0, nullptr, 0);
  ExecComputeStoredGenerated(target, state, slot, CMD_INSERT);
}

bool hold(const Guarded &g, Relation relation, HeapTuple row, const Bitmapset *touched, bool generated) {
  EState *state = CreateExecutorState();
  const MemoryContext old = MemoryContextSwitchTo(state->es_query_cxt);
  TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(relation), &TTSOpsVirtual);
  put_row(state, slot, relation, row, generated);
  ExprContext *context = GetPerTupleExprContext(state);
  context->ecxt_scantuple = slot;
  bool all = true;
  for (int i = 0; all && i < g.condition_count; ++i) {
    const Condition &condition = g.conditions[i];
    if (!bms_overlap(condition.columns, touched)) continue;
    if (condition.not_null != 0) all = !slot_attisnull(slot, condition.not_null);
    if (condition.check == nullptr) continue;
    auto *check = static_cast<Expr *>(copyObjectImpl(condition.check));
    all = all && ExecCheck(ExecPrepareExpr(check, state), context);
  }
  ExecDropSingleTupleTableSlot(slot);
  MemoryContextSwitchTo(old);
  FreeExecutorState(state);
  return all;
}

}  // namespace

void load_conditions(Guarded &g, Relation relation) {
  const TupleConstr *constraints = RelationGetDescr(relation)->constr;
  if (constraints == nullptr) return;
  const int most = constraints->num_check + RelationGetDescr(relation)->natts;
  g.conditions = static_cast<Condition *>(palloc(sizeof(Condition) * most));
  Node **generating = generating_expressions(relation);
  load_generated(g, relation, generating);
  load_virtual(g, relation, generating);
  for (int i = 0; i < constraints->num_check; ++i)
    if (pg::is_enforced_compat(constraints->check[i]))
      load_check(g, relation, generating, static_cast<Node *>(stringToNode(constraints->check[i].ccbin)));
}

bool accepts(const Guarded &g, Relation relation, HeapTuple row, const Bitmapset *touched) {
  bool asked = false;
  bool generated = false;
  bool careful = false;
  for (int i = 0; i < g.condition_count; ++i) {
    const Condition &condition = g.conditions[i];
    if (!bms_overlap(condition.columns, touched)) continue;
    asked = true;
    generated = generated || condition.generated;
    careful = careful || condition.may_raise;
  }
  if (!asked) return true;
  if (!careful) return hold(g, relation, row, touched, generated);
  // Of its own, so that nothing is left of what an error has interrupted: a statement may have a million rows.
  const MemoryContext context =
      AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard conditions", ALLOCSET_SMALL_SIZES);
  const MemoryContext old = MemoryContextSwitchTo(context);
  bool all = false;
  const bool raised = pg::try_in_subtransaction([&] { all = hold(g, relation, row, touched, generated); }) != nullptr;
  MemoryContextSwitchTo(old);
  MemoryContextDelete(context);
  return all && !raised;
}

}  // namespace esg
