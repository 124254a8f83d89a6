// What APIs ask: is a sync running, and the status as JSON. Run in the caller's process, read only; they also answer on a
// standby. Every answer is judged at that instant.

#include "errors.h"
#include "exclusive.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "runs.h"
#include "worker.h"

namespace esg {
namespace {

/// Which runs a call is about: a scope, or part of one.
struct Asked {
  core::Scope scope;
  bool any[core::kMaxScopeColumns];  ///< columns that are not looked at
  bool overlaps = false;             ///< values that overlap count too
  const char *condition = nullptr;   ///< the same for rows; null: all runs
};

RunFilter filter_of(const Asked &asked) {
  RunFilter filter;
  filter.scope_condition = asked.condition;
  if (asked.condition == nullptr) return filter;
  filter.scope = &asked.scope;
  filter.any = asked.any;
  filter.overlaps = asked.overlaps;
  return filter;
}

/// The runs in a live status of those asked for, judged; those of open transactions too. For `snapshot` see RunFilter.
Runs runs_asked_for(const Guarded &g, const Asked &asked, const core::Question &question, Snapshot *snapshot) {
  RunFilter filter = filter_of(asked);
  filter.uncommitted = sees_uncommitted(g, GetUserId());
  filter.snapshot = snapshot;
  const pg::Identity before = work_as(g);
  const Runs runs = read_runs(g, filter, question);
  pg::restore(before);
  return runs;
}

/// The one of them that is alive and started last; null where none is.
const Run *newest_alive(const Runs &runs) {
  const Run *newest = nullptr;
  for (int i = 0; i < runs.count; ++i)
    if (!runs.items[i].judgement.dead() &&
        (newest == nullptr ||
         (runs.items[i].started && (!newest->started || *newest->started <= *runs.items[i].started))))
      newest = &runs.items[i];
  return newest;
}

bool any_alive(const Guarded &g, const Asked &asked, const core::Question &question) {
  return newest_alive(runs_asked_for(g, asked, question, nullptr)) != nullptr;
}

/// Runs whose first scope column has this value; null: all.
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

/// The argument scope_value. ERROR SY006 for what is meant for scope_is_running.
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

/// The tables a call is about; those that cannot be asked although the caller may read them go to `left_out`. ERROR 42501 where
/// there are guarded tables and he may read none of them: that no sync is running would be a guess.
List *tables_to_ask(Oid relation, List **left_out) {
  List *tables = readable_tables(relation, true, IfLocked::kWait, left_out);
  if (tables == NIL && *left_out == NIL && all_guarded(nullptr) != NIL)
    ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("none of the guarded tables can be looked at"),
            errdetail("You may not read them: an answer would be a guess."),
            errhint("Ask for SELECT on the table and USAGE on its schema."));
  return tables;
}

/// The tables a call with a scope value is about; those without scope columns cannot match it.
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

// ---- sync_status -----------------------------------------------------------------------------------------------------

bool is_one_of(const Column &column, const Column &a, const Column &b) {
  return column.attno == a.attno || column.attno == b.attno;
}

bool is_counter(const Guarded &g, const Column &column) {
  const bool integer = column.type == INT2OID || column.type == INT4OID || column.type == INT8OID;
  if (!integer || column.attno == g.key.attno) return false;
  for (int i = 0; i < g.scope_count; ++i)
    if (column.attno == g.scope[i].attno) return false;
  return true;
}

void append_json_column(StringInfo list, const Column &column, const char *value) {
  appendStringInfo(list, "%s%s, %s", list->len == 0 ? "" : ", ", quote_literal_cstr(column.name), value);
}

bool contains(const Column *columns, int count, const Column &column) {
  for (int i = 0; i < count; ++i)
    if (columns[i].attno == column.attno) return true;
  return false;
}

/// jsonb_build_object arguments for a run in recent_syncs: the summary columns.
char *recent_columns(const Guarded &g) {
  StringInfoData list;
  initStringInfo(&list);
  for (int i = 0; i < g.summary_count; ++i) append_json_column(&list, g.summary[i], column_ref(g.summary[i]));
  return list.data;
}

/// The same for current_sync: key, what of the summary is known while the run works, start, total and done; each with the SQL
/// that `value_of` gives for it.
template <typename ValueOf>
char *current_columns(const Guarded &g, const ValueOf &value_of) {
  StringInfoData list;
  initStringInfo(&list);
  append_json_column(&list, g.key, value_of(g.key));
  for (int i = 0; i < g.summary_count; ++i) {
    const Column &column = g.summary[i];
    const bool of_the_end = is_one_of(column, g.end, g.duration) || is_one_of(column, g.status, g.error);
    const bool added_anyway = is_one_of(column, g.start, g.key) || is_one_of(column, g.total, g.done);
    if (!of_the_end && !added_anyway && !is_counter(g, column)) append_json_column(&list, column, value_of(column));
  }
  for (const Column *column : {&g.start, &g.total, &g.done})
    if (column->exists()) append_json_column(&list, *column, value_of(*column));
  return list.data;
}

/// A column's value for current_sync: the row's, but for progress of which heartbeats have told more.
auto value_from_row(const Guarded &g, const Run &run) {
  return [&g, &run](const Column &column) -> const char * {
    if (run.memory != nullptr && run.memory->has_done && column.attno == g.done.attno && run.done)
      return psprintf(INT64_FORMAT "::pg_catalog.int8", *run.done);
    if (run.memory != nullptr && run.memory->has_total && column.attno == g.total.attno && run.total)
      return psprintf(INT64_FORMAT "::pg_catalog.int8", *run.total);
    return column_ref(column);
  };
}

/// A run for the JSON: when it started, and what is shown of it.
struct Shown {
  std::optional<core::Micros> started;
  Jsonb *json;
};

int newest_first(const ListCell *a, const ListCell *b) {
  const auto *left = static_cast<const Shown *>(lfirst(a));
  const auto *right = static_cast<const Shown *>(lfirst(b));
  if (left->started.has_value() != right->started.has_value()) return left->started ? -1 : 1;
  if (!left->started || *left->started == *right->started) return 0;
  return *left->started > *right->started ? -1 : 1;
}

/// Runs the query (columns: start as timestamptz, jsonb, key, status) and appends its rows to the list.
List *collect(const Guarded &g, const pg::Statement &statement, List *list) {
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = work_as(g);
  pg::spi_begin();
  const uint64 rows = pg::spi_run(statement, pg::Access::kRead);
  const MemoryContext inner = MemoryContextSwitchTo(context);
  for (uint64 i = 0; i < rows; ++i) {
    bool is_null;
    auto *shown = static_cast<Shown *>(palloc0(sizeof(Shown)));
    *shown = Shown{};
    const Datum start = pg::spi_datum(i, 1, &is_null);
    if (!is_null && !TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(start))) shown->started = DatumGetTimestampTz(start);
    shown->json = DatumGetJsonbPCopy(pg::spi_datum(i, 2, &is_null));
    list = lappend(list, shown);
  }
  MemoryContextSwitchTo(inner);
  pg::spi_end();
  pg::restore(before);
  return list;
}

/// "relation" before the columns where the answer is about several tables.
const char *relation_field(const Guarded &g, bool several) {
  return several ? psprintf("'relation', %s, ", quote_literal_cstr(g.name)) : "";
}

/// The runs of a table that are asked for, and what its rows are to be read with: all that is told of them is of one instant.
struct Seen {
  Runs runs;
  Snapshot snapshot;
};

Datum dead_keys(const Runs &runs) {
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * Max(runs.count, 1)));
  int count = 0;
  for (int i = 0; i < runs.count; ++i)
    if (runs.items[i].judgement.dead() && !runs.items[i].uncommitted) keys[count++] = runs.items[i].key;
  return pg::text_array(keys, count);
}

/// A column's value in a run that only memory knows, as SQL; NULL for what memory does not hold.
char *value_from_memory(const Guarded &g, const Run &run, const Column &column) {
  const char *text = nullptr;
  if (column.attno == g.key.attno) text = run.key;
  else if (column.attno == g.done.attno && run.done) text = psprintf(INT64_FORMAT, *run.done);
  else if (column.attno == g.total.attno && run.total) text = psprintf(INT64_FORMAT, *run.total);
  else if (column.attno == g.start.attno && run.started)
    text = OidOutputFunctionCall(column.type == TIMESTAMPTZOID ? F_TIMESTAMPTZ_OUT : F_TIMESTAMP_OUT,
                                 column.type == TIMESTAMPTZOID ? TimestampTzGetDatum(*run.started)
                                                               : TimestampGetDatum(to_naive(*run.started, g.zone)));
  for (int i = 0; i < g.scope_count; ++i) {
    const core::ScopeValue &value = run.scope.values[i];
    // One that memory has cut off is not the column's value.
    if (column.attno == g.scope[i].attno && value && scope_hash(value) == run.memory->scope_hashes[i])
      text = value->data();
  }
  const char *type = pg::type_sql(column.type == VARCHAROID || column.type == BPCHAROID ? TEXTOID : column.type);
  return text == nullptr ? psprintf("NULL::%s", type) : psprintf("%s::%s", quote_literal_cstr(text), type);
}

/// The newest live run of the table for current_sync, appended to the list. Of one that is not committed, what memory knows.
List *collect_current(const Guarded &g, const Seen &seen, bool several, List *list) {
  const Run *newest = newest_alive(seen.runs);
  if (newest == nullptr) return list;
  if (newest->uncommitted) {
    pg::Statement statement(psprintf(
        "SELECT $1, pg_catalog.jsonb_build_object(%s%s)", relation_field(g, several),
        current_columns(g, [&g, newest](const Column &column) { return value_from_memory(g, *newest, column); })));
    statement.add(TIMESTAMPTZOID, TimestampTzGetDatum(newest->started.value_or(0)), !newest->started);
    return collect(g, statement, list);
  }
  pg::Statement statement(psprintf(
      "SELECT %s, pg_catalog.jsonb_build_object(%s%s) FROM %s WHERE %s::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($1)"
      " AND %s",
      instant_sql(g, g.start), relation_field(g, several), current_columns(g, value_from_row(g, *newest)), from_item(g),
      column_ref(g.key), status_condition(g, g.live, g.live_count)));
  statement.add(TEXTARRAYOID, pg::text_array(&newest->key, 1)).snapshot = seen.snapshot;
  return collect(g, statement, list);
}

/// The newest `limit` runs of the table for recent_syncs, appended to the list. A dead run is not shown as running: its
/// status is what closing it would write.
List *collect_recent(const Guarded &g, const Asked &asked, const Seen &seen, int limit, bool several, List *list) {
  if (limit == 0 || g.summary_count == 0) return list;
  const char *shown = psprintf("pg_catalog.jsonb_build_object(%s%s)", relation_field(g, several), recent_columns(g));
  if (contains(g.summary, g.summary_count, g.status))
    shown = psprintf(
        "CASE WHEN %s::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($2) THEN %s OPERATOR(pg_catalog.||)"
        " pg_catalog.jsonb_build_object(%s, %s) ELSE %s END",
        column_ref(g.key), shown, quote_literal_cstr(g.status.name), quote_literal_cstr(g.failed), shown);
  pg::Statement statement(psprintf("SELECT %s, %s FROM %s%s LIMIT $1", instant_sql(g, g.start), shown, from_item(g),
                                   newest_first_sql(g, asked.condition)));
  statement.add(INT8OID, Int64GetDatum(limit)).add(TEXTARRAYOID, dead_keys(seen.runs)).snapshot = seen.snapshot;
  return collect(g, statement, list);
}

void push_key(pg::JsonbInStateCompat *state, const char *key) {
  JsonbValue value;
  value.type = jbvString;
  value.val.string.val = const_cast<char *>(key);
  value.val.string.len = static_cast<int>(strlen(key));
  pg::push_jsonb_value_compat(state, WJB_KEY, &value);
}

void push_jsonb(pg::JsonbInStateCompat *state, JsonbIteratorToken token, Jsonb *jsonb) {
  JsonbValue value;
  value.type = jbvBinary;
  value.val.binary.data = &jsonb->root;
  value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
  pg::push_jsonb_value_compat(state, token, &value);
}

}  // namespace
}  // namespace esg

/// sync_is_running(scope_value text, relation regclass) → boolean.
ESG_SQL_FUNCTION(sync_is_running);

/// scope_is_running(scope jsonb, relation regclass) → boolean; overlapping values count.
ESG_SQL_FUNCTION(scope_is_running);

/// sync_status(scope_value text, relation regclass, recent integer) → jsonb.
ESG_SQL_FUNCTION(sync_status);

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

static Datum sync_status(FunctionCallInfo fcinfo) {
  const char *value = scope_value_argument(fcinfo, 0);
  const Oid relation = relation_argument(fcinfo, 1);
  const int recent = PG_ARGISNULL(2) ? 10 : PG_GETARG_INT32(2);
  if (recent < 0 || recent > 10000)
    ereport(ERROR, errcode(kBadOption), errmsg("recent must be between 0 and 10000"), errdetail("It was %d.", recent),
            errhint("0 leaves recent_syncs empty."));
  const core::Question question = question_now();
  ask_again();
  List *left_out = NIL;
  const List *tables = scoped_tables(relation, value, &left_out);
  const bool several = list_length(tables) > 1;
  List *current = NIL;
  List *latest = NIL;
  each_table(relation, tables, &left_out, [&](const Guarded &g) {
    const Asked asked = asked_by_value(g, value);
    Seen seen;
    seen.runs = runs_asked_for(g, asked, question, &seen.snapshot);
    current = collect_current(g, seen, several, current);
    latest = collect_recent(g, asked, seen, recent, several, latest);
    UnregisterSnapshot(seen.snapshot);
    return true;
  });
  if (current == NIL) refuse_to_guess(left_out);
  list_sort(current, newest_first);
  list_sort(latest, newest_first);

  pg::JsonbInStateCompat state = {};
  JsonbValue flag;
  flag.type = jbvBool;
  flag.val.boolean = current != NIL;
  JsonbValue null;
  null.type = jbvNull;
  pg::push_jsonb_value_compat(&state, WJB_BEGIN_OBJECT, nullptr);
  push_key(&state, "is_running");
  pg::push_jsonb_value_compat(&state, WJB_VALUE, &flag);
  push_key(&state, "current_sync");
  if (current == NIL) pg::push_jsonb_value_compat(&state, WJB_VALUE, &null);
  else push_jsonb(&state, WJB_VALUE, static_cast<Shown *>(linitial(current))->json);
  push_key(&state, "recent_syncs");
  pg::push_jsonb_value_compat(&state, WJB_BEGIN_ARRAY, nullptr);
  for (int i = 0; i < Min(list_length(latest), recent); ++i)
    push_jsonb(&state, WJB_ELEM, static_cast<Shown *>(list_nth(latest, i))->json);
  pg::push_jsonb_value_compat(&state, WJB_END_ARRAY, nullptr);
  pg::push_jsonb_value_compat(&state, WJB_END_OBJECT, nullptr);
  PG_RETURN_JSONB_P(JsonbValueToJsonb(state.result));
}

}  // namespace esg
