// See asked.h.

#include "asked.h"

#include "errors.h"
#include "guarding.h"
#include "pg/identity.h"

namespace esg {
namespace {

RunFilter filter_of(const Asked &asked) {
  RunFilter filter;
  filter.scope_condition = asked.condition;
  if (asked.condition == nullptr) return filter;
  filter.scope = &asked.scope;
  filter.any = asked.any;
  filter.overlaps = asked.overlaps;
  return filter;
}

}  // namespace

Asked asked_by_value(const Guarded &g, const char *value) {
  Asked asked;
  if (value == nullptr) return asked;
  asked.condition =
      psprintf("%s::pg_catalog.text OPERATOR(pg_catalog.=) %s", column_ref(g.scope[0]), quote_literal_cstr(value));
  asked.scope.count = g.scope_count;
  asked.scope.values[0] = std::string_view(value);
  for (int i = 0; i < g.scope_count; ++i) asked.any[i] = i > 0;
  return asked;
}

Runs runs_asked_for(const Guarded &g, const Asked &asked, const core::Question &question, Snapshot *snapshot) {
  RunFilter filter = filter_of(asked);
  filter.uncommitted = sees_uncommitted(g, GetUserId());
  filter.snapshot = snapshot;
  const pg::Identity before = work_as(g);
  const Runs runs = read_runs(g, filter, question);
  pg::restore(before);
  return runs;
}

const Run *newest_alive(const Runs &runs) {
  const Run *newest = nullptr;
  for (int i = 0; i < runs.count; ++i)
    if (!runs.items[i].judgement.dead() &&
        (newest == nullptr ||
         (runs.items[i].started && (!newest->started || *newest->started <= *runs.items[i].started))))
      newest = &runs.items[i];
  return newest;
}

char *scope_value_argument(FunctionCallInfo fcinfo, int argument) {
  if (PG_ARGISNULL(argument)) return nullptr;
  char *value = text_to_cstring(PG_GETARG_TEXT_PP(argument));
  if (value[strspn(value, " \t\r\n")] == '{')
    ereport(ERROR, errcode(kBadOption),
            errmsg("scope_value is one value of the first scope column, not a scope object"),
            errdetail("It was %s.", value),
            errhint("Ask for a whole scope: SELECT sync_guard.scope_is_running('%s');", value));
  return value;
}

List *tables_to_ask(Oid relation, List **left_out) {
  List *tables = readable_tables(relation, true, IfLocked::kWait, left_out);
  if (tables != NIL || *left_out != NIL) return tables;
  if (all_guarded(nullptr) != NIL)
    ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("none of the guarded tables can be looked at"),
            errdetail("You may not read them: an answer would be a guess."),
            errhint("Ask for SELECT on the table and USAGE on its schema."));
  if (tables_without_settings() != NIL)
    ereport(ERROR, errcode(kNotGuarded), errmsg("no table is guarded, though triggers of the guard are there"),
            errdetail("The settings were not restored with the tables, or were deleted: an answer would be a guess."),
            errhint("Call sync_guard.guard_table() for the tables that sync_guard.guard_health names."));
  return tables;
}

List *scoped_tables(Oid relation, const char *scope_value, List **left_out) {
  List *tables = tables_to_ask(relation, left_out);
  if (scope_value == nullptr) return tables;
  List *scoped = NIL;
  ListCell *cell;
  foreach (cell, tables) {
    const auto *g = static_cast<const Guarded *>(lfirst(cell));
    if (g->scope_count > 0) scoped = lappend(scoped, const_cast<Guarded *>(g));
    else if (OidIsValid(relation))
      ereport(
          ERROR, errcode(kBadOption), errmsg("table %s has no scope columns", g->name),
          errdetail("A scope value is one of the first scope column."),
          errhint("Ask without a scope value, or name them: SELECT sync_guard.guard_table(%s, scope_columns => ...);",
                  quote_literal_cstr(g->name)));
  }
  return scoped;
}

}  // namespace esg
