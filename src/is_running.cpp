// Is a sync running? Runs in the caller's process, read only, on a standby too; judged at that instant.

#include "asked.h"
#include "errors.h"
#include "exclusive.h"
#include "pg/boundary.h"
#include "quick_look.h"
#include "worker.h"

namespace esg {
namespace {

bool any_alive(const Guarded &g, const Asked &asked, const core::Question &question) {
  if (const std::optional<bool> answer = quick_look(g, asked, question)) return *answer;
  return newest_alive(runs_asked_for(g, asked, question, nullptr)) != nullptr;
}

/// The scope object of scope_is_running as the table's scope; columns it does not name are marked in `any`. False where
/// it names a column that is none of the table's.
bool read_scope(const Guarded &g, Jsonb *object, core::Scope *scope, bool *any, const char **unknown) {
  scope->count = g.scope_count;
  for (int i = 0; i < g.scope_count; ++i) any[i] = true;
  JsonbIterator *it = JsonbIteratorInit(&object->root);
  JsonbValue value;
  int column = -1;
  for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, true); token != WJB_DONE;
       token = JsonbIteratorNext(&it, &value, true)) {
    if (token == WJB_KEY) {
      *unknown = pnstrdup(value.val.string.val, value.val.string.len);
      column = -1;
      for (int i = 0; i < g.scope_count; ++i)
        if (strcmp(g.scope[i].name, *unknown) == 0) column = i;
      if (column < 0) return false;
    } else if (token == WJB_VALUE) {
      any[column] = false;
      const char *text = json_scalar_text(value);
      if (text == nullptr && value.type != jbvNull)
        ereport(ERROR, errcode(kBadOption),
                errmsg("the value of \"%s\" in a scope must be a string, a number, a boolean or null", *unknown),
                errdetail("It is an array or an object."),
                errhint("For example: SELECT sync_guard.scope_is_running('{\"sync_type\": \"products\"}');"));
      if (text != nullptr) scope->values[column] = std::string_view(text);
    }
  }
  return true;
}

}  // namespace
}  // namespace esg

/// sync_is_running(scope_value text, relation regclass) → boolean.
ESG_SQL_FUNCTION(sync_is_running);

/// scope_is_running(scope jsonb, relation regclass) → boolean; overlapping values count.
ESG_SQL_FUNCTION(scope_is_running);

namespace esg {

static Datum sync_is_running(FunctionCallInfo fcinfo) {
  const char *value = scope_value_argument(fcinfo, 0);
  const Oid relation = relation_argument(fcinfo, 1);
  const core::Question question = question_now();
  ask_again();
  bool running = false;
  List *left_out = NIL;
  const List *tables = scoped_tables(relation, value, &left_out);
  each_table(relation, tables, &left_out, [&](const Guarded &g) {
    running = any_alive(g, asked_by_value(g, value), question);
    return !running;
  });
  if (!running) refuse_to_guess(left_out);
  PG_RETURN_BOOL(running);
}

static Datum scope_is_running(FunctionCallInfo fcinfo) {
  if (PG_ARGISNULL(0) || !JB_ROOT_IS_OBJECT(PG_GETARG_JSONB_P(0)))
    ereport(ERROR, errcode(kBadOption), errmsg("scope must be a JSON object of scope columns and their values"),
            errdetail("It is NULL, or JSON of another kind."),
            errhint("For example: SELECT sync_guard.scope_is_running('{\"sync_type\": \"products\"}');"));
  const Oid relation = relation_argument(fcinfo, 1);
  const core::Question question = question_now();
  ask_again();
  Jsonb *object = PG_GETARG_JSONB_P(0);
  const char *unknown = "";
  List *left_out = NIL;
  const List *tables = tables_to_ask(relation, &left_out);
  List *scoped = NIL;
  core::Scope scope;
  bool any[core::kMaxScopeColumns];
  ListCell *cell;
  foreach (cell, tables)
    if (read_scope(*static_cast<const Guarded *>(lfirst(cell)), object, &scope, any, &unknown))
      scoped = lappend(scoped, lfirst(cell));
  if (scoped == NIL) refuse_to_guess(left_out);  // the column may be theirs
  if (scoped == NIL && tables != NIL)
    ereport(ERROR, errcode(kBadOption), errmsg("\"%s\" is not a scope column", unknown),
            errdetail("No table that was asked has it among its scope columns."),
            errhint("The view sync_guard.guarded_tables shows each table's scope_columns."));
  bool running = false;
  each_table(relation, scoped, &left_out, [&](const Guarded &g) {
    Asked asked;
    (void)read_scope(g, object, &asked.scope, asked.any, &unknown);
    asked.condition = overlap_condition(g, asked.scope, asked.any);
    asked.overlaps = true;
    running = any_alive(g, asked, question);
    return !running;
  });
  if (!running) refuse_to_guess(left_out);
  PG_RETURN_BOOL(running);
}

}  // namespace esg
