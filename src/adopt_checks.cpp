// Three-valued evaluation of CHECKs on a partly known row. Runs in the caller's process at adoption, with the rights of
// the table's owner; takes no locks. See adopt_checks.h.

#include "adopt_checks.h"

#include "pg/boundary.h"

namespace esg::adopt {
namespace {

bool is_known(const KnownRow &row, const Node *node) {
  if (!IsA(node, Var)) return true;
  const auto *var = reinterpret_cast<const Var *>(node);
  return var->varattno > 0 && row.known[var->varattno - 1];
}

bool mentions_unknown(Node *node, void *context) {
  if (node == nullptr) return false;
  if (!is_known(*static_cast<const KnownRow *>(context), node)) return true;
  return pg::walk_tree_compat(node, mentions_unknown, context);
}

Node *null_like(const Node *node) {
  return reinterpret_cast<Node *>(makeNullConst(exprType(node), exprTypmod(node), exprCollation(node)));
}

/// Whether a node with an unknown part comes out unknown (NULL) by itself, once that part is NULL.
bool hands_on_unknown(const Node *node) {
  switch (nodeTag(node)) {
    case T_BoolExpr:  // SQL's own three-valued logic
    case T_RelabelType:
    case T_CoerceViaIO:
    case T_ArrayCoerceExpr:
    case T_CollateExpr:
    case T_FieldSelect:
    case T_SubscriptingRef:
    case T_ArrayExpr:  // as an operand of = ANY or = ALL
    case T_RowCompareExpr:
    case T_CaseTestExpr:
    case T_List: return true;
    case T_FuncExpr: return func_strict(reinterpret_cast<const FuncExpr *>(node)->funcid);
    case T_OpExpr: return op_strict(reinterpret_cast<const OpExpr *>(node)->opno);
    case T_ScalarArrayOpExpr: return op_strict(reinterpret_cast<const ScalarArrayOpExpr *>(node)->opno);
    default: return false;
  }
}

/// A CASE is decided where what it tests is known; its results may still be unknown.
bool tests_are_known(const CaseExpr *expr, const KnownRow *row) {
  void *context = const_cast<KnownRow *>(row);
  if (mentions_unknown(reinterpret_cast<Node *>(expr->arg), context)) return false;
  ListCell *cell;
  foreach (cell, expr->args)
    if (mentions_unknown(reinterpret_cast<Node *>(lfirst_node(CaseWhen, cell)->expr), context)) return false;
  return true;
}

/// Replaces whatever is not known by NULL, from the outside in.
Node *without_unknown(Node *node, void *context) {
  if (node == nullptr) return nullptr;
  const auto *row = static_cast<const KnownRow *>(context);
  if (!is_known(*row, node)) return null_like(node);
  if (!IsA(node, CaseWhen) && !hands_on_unknown(node) && mentions_unknown(node, context) &&
      !(IsA(node, CaseExpr) && tests_are_known(reinterpret_cast<CaseExpr *>(node), row)))
    return null_like(node);
  return pg::mutate_tree_compat(node, without_unknown, context);
}

void collect(Node *node, List **strings) {
  const auto *value = reinterpret_cast<Const *>(node);
  if (value->constisnull) return;
  const Oid element = get_element_type(value->consttype);
  Oid output;
  bool is_varlena;
  getTypeOutputInfo(OidIsValid(element) ? element : value->consttype, &output, &is_varlena);
  if (!OidIsValid(element)) {
    *strings = lappend(*strings, OidOutputFunctionCall(output, value->constvalue));
    return;
  }
  int16 length;
  bool by_value;
  char align;
  get_typlenbyvalalign(element, &length, &by_value, &align);
  Datum *items;
  bool *nulls;
  int count;
  deconstruct_array(DatumGetArrayTypeP(value->constvalue), element, length, by_value, align, &items, &nulls, &count);
  for (int i = 0; i < count; ++i)
    if (!nulls[i]) *strings = lappend(*strings, OidOutputFunctionCall(output, items[i]));
}

struct Mentioned {
  AttrNumber attno;
  bool inside;  ///< below a comparison with the column
  List *strings;
};

bool has_column(Node *node, void *context) {
  if (node == nullptr) return false;
  if (IsA(node, CoerceToDomainValue)) return true;
  if (IsA(node, Var)) return reinterpret_cast<Var *>(node)->varattno == static_cast<Mentioned *>(context)->attno;
  return pg::walk_tree_compat(node, has_column, context);
}

bool collect_mentioned(Node *node, void *context) {
  if (node == nullptr) return false;
  auto *mentioned = static_cast<Mentioned *>(context);
  if (IsA(node, Const) && mentioned->inside) collect(node, &mentioned->strings);
  const bool before = mentioned->inside;
  if (IsA(node, OpExpr) || IsA(node, ScalarArrayOpExpr)) mentioned->inside = has_column(node, context);
  (void)pg::walk_tree_compat(node, collect_mentioned, context);
  mentioned->inside = before;
  return false;
}

/// The CHECKs of a domain and of those it stands on.
void collect_from_domains(Oid type, Mentioned *mentioned) {
  while (get_typtype(type) == TYPTYPE_DOMAIN) {
    Relation catalog = table_open(ConstraintRelationId, AccessShareLock);
    ScanKeyData key;
    ScanKeyInit(&key, Anum_pg_constraint_contypid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(type));
    SysScanDesc scan = systable_beginscan(catalog, ConstraintTypidIndexId, true, nullptr, 1, &key);
    for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
      bool is_null;
      const Datum condition = heap_getattr(tuple, Anum_pg_constraint_conbin, RelationGetDescr(catalog), &is_null);
      if (!is_null)
        (void)collect_mentioned(static_cast<Node *>(stringToNode(TextDatumGetCString(condition))), mentioned);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    HeapTuple tuple = SearchSysCache1(TYPEOID, ObjectIdGetDatum(type));
    if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for type %u", type);
    type = reinterpret_cast<Form_pg_type>(GETSTRUCT(tuple))->typbasetype;
    ReleaseSysCache(tuple);
  }
}

char *definition_of(Relation relation, const char *constraint) {
  const Oid id = get_relation_constraint_oid(RelationGetRelid(relation), constraint, true);
  if (!OidIsValid(id)) return pstrdup("CHECK");
  return TextDatumGetCString(DirectFunctionCall1(pg_get_constraintdef, ObjectIdGetDatum(id)));
}

}  // namespace

KnownRow unknown_row(Relation relation) {
  const int count = Max(RelationGetDescr(relation)->natts, 1);
  KnownRow row;
  row.relation = relation;
  row.values = static_cast<Datum *>(palloc0(sizeof(Datum) * count));
  row.nulls = static_cast<bool *>(palloc(sizeof(bool) * count));
  row.known = static_cast<bool *>(palloc0(sizeof(bool) * count));
  memset(row.nulls, true, sizeof(bool) * count);
  return row;
}

void know(KnownRow *row, const Column &column, Datum value) {
  row->values[column.attno - 1] = value;
  row->nulls[column.attno - 1] = false;
  row->known[column.attno - 1] = true;
}

void forget(KnownRow *row, const Column &column) {
  row->nulls[column.attno - 1] = true;
  row->known[column.attno - 1] = false;
}

bool surely_false(const KnownRow &row, Node *condition) {
  auto *context = const_cast<KnownRow *>(&row);
  Node *known = without_unknown(condition, context);
  EState *state = CreateExecutorState();
  ExprContext *expression = GetPerTupleExprContext(state);
  TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(row.relation), &TTSOpsVirtual);
  for (int i = 0; i < slot->tts_tupleDescriptor->natts; ++i) {
    slot->tts_values[i] = row.values[i];
    slot->tts_isnull[i] = row.nulls[i];
  }
  ExecStoreVirtualTuple(slot);
  expression->ecxt_scantuple = slot;
  const bool passes = ExecCheck(ExecPrepareExpr(reinterpret_cast<Expr *>(known), state), expression);
  ExecDropSingleTupleTableSlot(slot);
  FreeExecutorState(state);
  return !passes;
}

bool refused(const KnownRow &row, Refusal *refusal) {
  const TupleConstr *constraints = RelationGetDescr(row.relation)->constr;
  for (int i = 0; constraints != nullptr && i < constraints->num_check; ++i) {
    const ConstrCheck &check = constraints->check[i];
    if (!pg::is_enforced_compat(check)) continue;
    bool no = false;
    bool *answer = &no;
    const KnownRow *known = &row;
    const char *condition = check.ccbin;
    const ErrorData *error = pg::try_in_subtransaction(
        [answer, known, condition] { *answer = surely_false(*known, static_cast<Node *>(stringToNode(condition))); });
    if (error == nullptr && !no) continue;
    // A CHECK that writes cannot be asked without writing.
    if (error != nullptr && error->sqlerrcode == ERRCODE_READ_ONLY_SQL_TRANSACTION) continue;
    refusal->constraint = pstrdup(check.ccname);
    refusal->message = error != nullptr ? error->message : definition_of(row.relation, check.ccname);
    return true;
  }
  return false;
}

bool make_value(const Column &column, const char *text, Datum *value, Refusal *refusal) {
  Oid input;
  Oid parameter;
  getTypeInputInfo(column.declared_type, &input, &parameter);
  // A domain brings its own length; a plain column's stands in the column.
  const int32 typmod = column.declared_type == column.type ? column.typmod : -1;
  const ErrorData *error = pg::try_in_subtransaction([input, parameter, typmod, text, value] {
    *value = OidInputFunctionCall(input, const_cast<char *>(text), parameter, typmod);
  });
  if (error == nullptr) return true;
  refusal->constraint = nullptr;
  refusal->message = error->message;
  return false;
}

bool status_possible(Relation relation, const Column &status, const char *text, Refusal *refusal) {
  Datum value = 0;
  if (!make_value(status, text, &value, refusal)) return false;
  KnownRow row = unknown_row(relation);
  know(&row, status, value);
  return !refused(row, refusal);
}

List *mentioned_in_checks(Relation relation, const Column &column) {
  Mentioned mentioned = {column.attno, false, NIL};
  const TupleConstr *constraints = RelationGetDescr(relation)->constr;
  for (int i = 0; constraints != nullptr && i < constraints->num_check; ++i)
    (void)collect_mentioned(static_cast<Node *>(stringToNode(constraints->check[i].ccbin)), &mentioned);
  collect_from_domains(column.declared_type, &mentioned);
  return mentioned.strings;
}

}  // namespace esg::adopt
