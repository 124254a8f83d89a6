// start_sync: a new run and its lease in one statement. Runs as the caller: the INSERT is his own, with his privileges and
// policies, and the guard's triggers judge it as any other. Where the scope is exclusive, dead runs that hold it are closed
// first (reap.h has the locks), if the caller may; the trigger judges by itself that a dead run does not count.

#include "attach.h"
#include "errors.h"
#include "exclusive.h"
#include "fault.h"
#include "given_values.h"
#include "load.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "reap.h"
#include "run_argument.h"

namespace esg {
namespace {

const FormData_pg_attribute *attribute_of(Relation relation, const Column &column) {
  return TupleDescAttr(RelationGetDescr(relation), column.attno - 1);
}

/// The column gets a value by itself: a default of its own or of its domain, an identity, an expression.
bool has_default(const FormData_pg_attribute *attribute) {
  return attribute->atthasdef || attribute->attidentity != '\0' || get_typdefault(attribute->atttypid) != nullptr;
}

bool is_integer(Oid declared_type) {
  const Oid type = getBaseType(declared_type);
  return type == INT2OID || type == INT4OID || type == INT8OID;
}

bool is_scope_column(const Guarded &g, AttrNumber attno) {
  for (int i = 0; i < g.scope_count; ++i)
    if (g.scope[i].attno == attno) return true;
  return false;
}

const char *checked_status(const Guarded &g, const GivenValues &given) {
  const JsonbValue *value = given.value(g.status);
  if (value == nullptr) return g.live[0];
  const char *status = json_scalar_text(*value);
  if (status == nullptr || !g.is_live(status))
    ereport(
        ERROR, errcode(kBadOption),
        errmsg("a run of table %s cannot start as %s", g.name, status == nullptr ? "NULL" : psprintf("\"%s\"", status)),
        errdetail("That is not one of its live statuses."),
        errhint("Leave \"%s\" out: it starts as \"%s\".", g.status.name, g.live[0]));
  return status;
}

// ---- the scope -------------------------------------------------------------------------------------------------------------

/// The scope that the new run will have, as far as it can be told before it is there; columns whose value a default decides
/// are marked in `any`.
core::Scope scope_to_be(const Guarded &g, const GivenValues &given, bool *any) {
  Relation relation = relation_open(g.table, NoLock);
  core::Scope scope;
  scope.count = g.scope_count;
  for (int i = 0; i < g.scope_count; ++i) {
    const JsonbValue *value = given.value(g.scope[i]);
    const char *text_value = value == nullptr ? nullptr : json_scalar_text(*value);
    any[i] = value == nullptr && has_default(attribute_of(relation, g.scope[i]));
    if (text_value != nullptr) scope.values[i] = std::string_view(text_value);
  }
  relation_close(relation, NoLock);
  return scope;
}

void close_dead_runs(const Guarded &g, const GivenValues &given) {
  if (!g.exclusive || !guard_enabled() || only_observed(g) || !may_reap(g)) return;
  if (!owns(g) && row_security_applies(g)) return;
  bool any[core::kMaxScopeColumns] = {};
  const core::Scope scope = scope_to_be(g, given, any);
  ReapCall call;
  call.question = question_now();
  call.path = "start_sync";
  call.role = GetUserId();
  RunFilter filter;
  filter_by_overlap(g, scope, any, &filter);
  const ErrorData *error = pg::try_in_subtransaction([&] { (void)reap_these(g, call, filter); });
  if (error != nullptr)
    ereport(WARNING, errcode(error->sqlerrcode),
            errmsg("could not close the dead runs of this scope of table %s: %s", g.name, error->message),
            errdetail("The run starts all the same: a dead run does not count."));
}

// ---- the row ---------------------------------------------------------------------------------------------------------------

/// The INSERT's two lists, made one column after the other.
struct Lists {
  StringInfoData columns;
  StringInfoData values;

  void add(const char *column, const char *value) {
    if (columns.len > 0) {
      appendStringInfoString(&columns, ", ");
      appendStringInfoString(&values, ", ");
    }
    appendStringInfoString(&columns, quote_identifier(column));
    appendStringInfoString(&values, value);
  }
};

/// NOT NULL counters without a default. Keys and scopes are none: a run that names no account is not account 0's.
void add_counters(const Guarded &g, const GivenValues &given, Lists *lists) {
  Relation relation = relation_open(g.table, NoLock);
  const TupleDesc desc = RelationGetDescr(relation);
  for (int i = 0; i < desc->natts; ++i) {
    const FormData_pg_attribute *attribute = TupleDescAttr(desc, i);
    Column column;
    column.attno = attribute->attnum;
    if (attribute->attisdropped || !attribute->attnotnull || !is_integer(attribute->atttypid)) continue;
    if (attribute->attnum == g.key.attno || is_scope_column(g, attribute->attnum)) continue;
    if (!has_default(attribute) && !given.has(column)) lists->add(NameStr(attribute->attname), "0");
  }
  relation_close(relation, NoLock);
}

bool makes_key(const Guarded &g, const GivenValues &given) {
  if (g.key.type != UUIDOID || given.has(g.key)) return false;
  Relation relation = relation_open(g.table, NoLock);
  const bool makes = !has_default(attribute_of(relation, g.key));
  relation_close(relation, NoLock);
  return makes;
}

/// Columns of insert_statement's result, in order.
enum NewColumn : int { kKey = 1, kStatus, kStart, kDone, kTotal, kFirstScope };

void append_result(StringInfo sql, const Column &column, const char *type) {
  if (column.exists()) appendStringInfo(sql, ", %s::%s", column_ref(column), type);
  else appendStringInfo(sql, ", NULL::%s", type);
}

/// Parameters: $1 the given values, $2 the status, $3 the start.
char *insert_statement(const Guarded &g, const GivenValues &given) {
  Lists lists;
  initStringInfo(&lists.columns);
  initStringInfo(&lists.values);
  for (int i = 0; i < given.count; ++i)
    if (given.columns[i].attno != g.status.attno) lists.add(given.columns[i].name, given_ref(given.columns[i]));
  lists.add(g.status.name, psprintf("$2::%s", pg::type_sql(g.status.declared_type)));
  if (makes_key(g, given)) lists.add(g.key.name, "pg_catalog.gen_random_uuid()");
  if (g.start.exists() && !g.start.generated && !given.has(g.start)) lists.add(g.start.name, "$3");
  add_counters(g, given, &lists);
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfo(&sql, "INSERT INTO %s AS t (%s) SELECT %s", g.name, lists.columns.data, lists.values.data);
  if (given.count > 0) appendStringInfo(&sql, " FROM %s", given_sql(given, "$1"));
  appendStringInfo(&sql, " RETURNING %s::pg_catalog.text, %s::pg_catalog.text", column_ref(g.key),
                   column_ref(g.status));
  appendStringInfo(&sql, ", %s", instant_sql(g, g.start));
  append_result(&sql, g.done, "pg_catalog.int8");
  append_result(&sql, g.total, "pg_catalog.int8");
  for (int i = 0; i < g.scope_count; ++i) append_result(&sql, g.scope[i], "pg_catalog.text");
  return sql.data;
}

std::optional<int64> result_int(int column) {
  bool is_null;
  const Datum value = pg::spi_datum(0, column, &is_null);
  if (is_null) return std::nullopt;
  return DatumGetInt64(value);
}

/// Inserts the row; what it has become, with the table's defaults and after its triggers.
RowFacts insert_run(const Guarded &g, const GivenValues &given, const char *status) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement insert(insert_statement(g, given));
  insert.add(JSONBOID, JsonbPGetDatum(given.json), given.json == nullptr).add_text(status);
  if (g.start.exists()) insert.add(g.start.type, time_datum(g.start, GetCurrentTimestamp(), g.zone));
  // The table owner's code runs as the caller here, as in any INSERT of his; but it does not get out of this role.
  const pg::Identity before = pg::remain(0);
  pg::spi_begin();
  if (pg::spi_run(insert, pg::Access::kWrite) != 1)
    ereport(ERROR, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
            errmsg("the new run was not inserted into table %s", g.name),
            errdetail("A trigger or a rule of the table dropped the row."));
  RowFacts facts;
  facts.key = pg::spi_text(0, kKey, context);
  facts.status = pg::spi_text(0, kStatus, context);
  facts.started = result_int(kStart);
  if (facts.started && TIMESTAMP_NOT_FINITE(*facts.started)) facts.started = std::nullopt;
  facts.done = result_int(kDone);
  facts.total = result_int(kTotal);
  facts.scope.count = g.scope_count;
  for (int i = 0; i < g.scope_count; ++i) {
    const char *value = pg::spi_text(0, kFirstScope + i, context);
    if (value != nullptr) facts.scope.values[i] = std::string_view(value);
  }
  pg::spi_end();
  pg::restore(before);
  if (facts.key == nullptr)
    ereport(ERROR, errcode(kBadOption), errmsg("the new run of table %s has no key", g.name),
            errdetail("Column \"%s\" has no default.", g.key.name), errhint("Give it in initial_values."));
  if (facts.status == nullptr || !g.is_live(facts.status))
    ereport(ERROR, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
            errmsg("a trigger of table %s turned the status of the new run into \"%s\"", g.name,
                   facts.status == nullptr ? "NULL" : facts.status));
  return facts;
}

}  // namespace
}  // namespace esg

/// start_sync(relation regclass, initial_values jsonb, ttl interval, bind_session boolean, worker text, incarnation text)
/// → (key text, token bigint).
ESG_SQL_FUNCTION(start_sync);

namespace esg {

static Datum start_sync(FunctionCallInfo fcinfo) {
  PreventCommandIfReadOnly("start_sync()");
  PreventCommandDuringRecovery("start_sync()");
  TupleDesc desc;
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "return type must be a row type");
  const Guarded &g = table_argument(fcinfo, 0);
  if (PG_ARGISNULL(1))
    ereport(ERROR, errcode(kBadOption), errmsg("initial_values must not be NULL"),
            errdetail("They are the column values of the new run."),
            errhint("'{}' leaves all of them to the table's defaults."));
  const GivenValues given = given_values(g, PG_GETARG_JSONB_P(1), "initial_values");
  const char *status = checked_status(g, given);
  const Terms terms = terms_arguments(fcinfo, 2);
  close_dead_runs(g, given);
  ESG_FAULT_POINT("start_sync.scope_closed");
  const RowFacts facts = insert_run(g, given, status);
  ESG_FAULT_POINT("start_sync.row_inserted");
  const int64 token = attach(g, facts, terms, nullptr);
  Datum values[2] = {CStringGetTextDatum(facts.key), Int64GetDatum(token)};
  bool nulls[2] = {false, false};
  PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

}  // namespace esg
