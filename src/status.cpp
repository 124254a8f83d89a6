// The status as JSON. Runs in the caller's process, read only, on a standby too; judged at that instant.

#include "asked.h"
#include "errors.h"
#include "pg/spi.h"
#include "summary.h"
#include "token.h"
#include "worker.h"

namespace esg {
namespace {

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

void append_json_column(StringInfo list, const Column &column, const char *value, Json json) {
  appendStringInfo(list, "%s%s, %s", list->len == 0 ? "" : ", ", quote_literal_cstr(column.name),
                   summary_value(column, value, json));
}

bool contains(const Column *columns, int count, const Column &column) {
  for (int i = 0; i < count; ++i)
    if (columns[i].attno == column.attno) return true;
  return false;
}

/// jsonb_build_object arguments for a run in recent_syncs: the summary columns.
char *recent_columns(const Guarded &g, Json json) {
  StringInfoData list;
  initStringInfo(&list);
  for (int i = 0; i < g.summary_count; ++i) append_json_column(&list, g.summary[i], column_ref(g.summary[i]), json);
  return list.data;
}

/// The same for current_sync: key, what of the summary is known while the run works, start, total and done; each with the SQL
/// that `value_of` gives for it.
template <typename ValueOf>
char *current_columns(const Guarded &g, Json json, const ValueOf &value_of) {
  StringInfoData list;
  initStringInfo(&list);
  append_json_column(&list, g.key, value_of(g.key), json);
  for (int i = 0; i < g.summary_count; ++i) {
    const Column &column = g.summary[i];
    const bool of_the_end = is_one_of(column, g.end, g.duration) || is_one_of(column, g.status, g.error);
    const bool added_anyway = is_one_of(column, g.start, g.key) || is_one_of(column, g.total, g.done);
    if (!of_the_end && !added_anyway && !is_counter(g, column))
      append_json_column(&list, column, value_of(column), json);
  }
  for (const Column *column : {&g.start, &g.total, &g.done})
    if (column->exists()) append_json_column(&list, *column, value_of(*column), json);
  return list.data;
}

bool is_told_by_memory(const Run &run, const Guarded &g, const Column &column) {
  if (run.memory == nullptr) return false;
  return (run.memory->has_done && column.attno == g.done.attno && run.done) ||
         (run.memory->has_total && column.attno == g.total.attno && run.total);
}

/// A column's value for current_sync: the row's, but for progress of which heartbeats have told more, which is $2 and $3.
auto value_from_row(const Guarded &g, const Run &run) {
  return [&g, &run](const Column &column) -> const char * {
    if (is_told_by_memory(run, g, column)) return column.attno == g.done.attno ? "$2" : "$3";
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

/// The rows of the query (columns: start as timestamptz, jsonb).
List *rows_of(const Guarded &g, const pg::Statement &statement) {
  const MemoryContext context = CurrentMemoryContext;
  List *list = NIL;
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

/// Appends the rows of the query that `query` makes to the list.
template <typename Query>
List *collect(const Guarded &g, const Query &query, List *list) {
  List *rows = NIL;
  read_summaries(g, [&](Json json) { rows = rows_of(g, query(json)); });
  return list_concat(list, rows);
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
  const auto of_memory = [&](Json json) {
    pg::Statement statement(psprintf(
        "SELECT $1, pg_catalog.jsonb_build_object(%s%s)", relation_field(g, several),
        current_columns(g, json, [&](const Column &column) { return value_from_memory(g, *newest, column); })));
    statement.add(TIMESTAMPTZOID, TimestampTzGetDatum(newest->started.value_or(0)), !newest->started);
    return statement;
  };
  const auto of_row = [&](Json json) {
    pg::Statement statement(psprintf(
        "SELECT %s, pg_catalog.jsonb_build_object(%s%s) FROM %s"
        " WHERE %s AND %s",
        instant_sql(g, g.start), relation_field(g, several), current_columns(g, json, value_from_row(g, *newest)),
        from_item(g), key_condition(g, "$1"), status_condition(g, g.live, g.live_count)));
    statement.add(TEXTARRAYOID, pg::text_array(&newest->key, 1))
        .add(INT8OID, Int64GetDatum(newest->done.value_or(0)), !newest->done)
        .add(INT8OID, Int64GetDatum(newest->total.value_or(0)), !newest->total)
        .snapshot = seen.snapshot;
    return statement;
  };
  return newest->uncommitted ? collect(g, of_memory, list) : collect(g, of_row, list);
}

/// The newest `limit` runs of the table for recent_syncs, appended to the list. A dead run is not shown as running: its
/// status is what closing it would write.
List *collect_recent(const Guarded &g, const Asked &asked, const Seen &seen, int limit, bool several, List *list) {
  if (limit == 0 || g.summary_count == 0) return list;
  const auto query = [&](Json json) {
    const char *shown =
        psprintf("pg_catalog.jsonb_build_object(%s%s)", relation_field(g, several), recent_columns(g, json));
    if (contains(g.summary, g.summary_count, g.status))
      shown = psprintf(
          "CASE WHEN %s::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($1) THEN %s OPERATOR(pg_catalog.||)"
          " pg_catalog.jsonb_build_object(%s, %s) ELSE %s END",
          column_ref(g.key), shown, quote_literal_cstr(g.status.name), quote_literal_cstr(g.failed), shown);
    pg::Statement statement(psprintf("SELECT %s, %s FROM %s%s LIMIT %d", instant_sql(g, g.start), shown, from_item(g),
                                     newest_first_sql(g, asked.condition), limit));
    statement.add(TEXTARRAYOID, dead_keys(seen.runs)).snapshot = seen.snapshot;
    return statement;
  };
  return collect(g, query, list);
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

/// sync_status(scope_value text, relation regclass, recent integer) → jsonb.
ESG_SQL_FUNCTION(sync_status);

namespace esg {

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
