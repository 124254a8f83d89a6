// A run as callers name it: (relation, key). See run_argument.h.

#include "run_argument.h"

#include "errors.h"

namespace esg {
namespace {

/// The key as rows, leases and memory have it ("007" is the number 7); null where the key column's type does not know this
/// text. Types of keys are the server's own: no code of the owner runs.
const char *canonical_key(const Guarded &g, const char *key) {
  Oid input;
  Oid output;
  Oid io_parameter;
  bool is_varlena;
  getTypeInputInfo(g.key.type, &input, &io_parameter);
  getTypeOutputInfo(g.key.type, &output, &is_varlena);
  const char *canonical = nullptr;
  const MemoryContext context = CurrentMemoryContext;
  (void)pg::try_in_subtransaction([&] {
    const Datum value = OidInputFunctionCall(input, const_cast<char *>(key), io_parameter, -1);
    canonical = MemoryContextStrdup(context, OidOutputFunctionCall(output, value));
  });
  return canonical;
}

}  // namespace

const char *key_argument(FunctionCallInfo fcinfo, int argument) {
  if (PG_ARGISNULL(argument))
    ereport(ERROR, errcode(kBadOption), errmsg("key must not be NULL"),
            errdetail("A run is named by its table and its key."), errhint("Give the key as text, uuid or bigint."));
  Oid output;
  bool is_varlena;
  getTypeOutputInfo(get_fn_expr_argtype(fcinfo->flinfo, argument), &output, &is_varlena);
  return OidOutputFunctionCall(output, PG_GETARG_DATUM(argument));
}

const Guarded &table_argument(FunctionCallInfo fcinfo, int argument) {
  const List *tables = readable_tables(relation_argument(fcinfo, argument), false);
  if (list_length(tables) == 1) return *static_cast<const Guarded *>(linitial(tables));
  if (tables == NIL)
    ereport(ERROR, errcode(kNotGuarded), errmsg("there is no guarded table that you may read"),
            errdetail("No table is guarded here, or those that are you may not read."),
            errhint("Adopt one: SELECT sync_guard.guard_table('schema.table');"));
  ereport(ERROR, errcode(kAmbiguous), errmsg("there are %d guarded tables: say which one", list_length(tables)),
          errdetail("The relation is NULL, which stands for the only one."),
          errhint("Name it as the relation, for example %s.",
                  quote_literal_cstr(static_cast<const Guarded *>(linitial(tables))->name)));
  pg_unreachable();
}

const Run *find_run(const Guarded &g, const char *key, const core::Question &question, bool lock) {
  const char *canonical = canonical_key(g, key);
  if (canonical == nullptr) return nullptr;
  RunFilter filter;
  filter.keys = pg::text_array(&canonical, 1);
  filter.any_status = true;
  filter.lock = lock;
  filter.with_row = lock;
  filter.uncommitted = !lock && sees_uncommitted(g, GetUserId());
  const pg::Identity before = work_as(g, lock ? pg::Access::kWrite : pg::Access::kRead);
  const Runs runs = read_runs(g, filter, question);
  pg::restore(before);
  return runs.count == 0 ? nullptr : &runs.items[0];
}

void no_such_run(const Guarded &g, const char *key) {
  ereport(ERROR, errcode(ERRCODE_NO_DATA_FOUND), errmsg("table %s has no run %s that you may see", g.name, key),
          errdetail("The key column is \"%s\".", g.key.name),
          errhint("The views sync_guard.running_syncs, recent_syncs and reaped_syncs show keys."));
  pg_unreachable();
}

}  // namespace esg
