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

/// What is shown of a run in recent_syncs: the summary columns.
JsonFields recent_fields(const Guarded &g, Json json) {
  JsonFields fields;
  for (int i = 0; i < g.summary_count; ++i) add_field(&fields, g.summary[i], column_ref(g.summary[i]), json);
  return fields;
}

/// The same for current_sync: key, what of the summary is known while the run works, start, total and done; each with the SQL
/// that `value_of` gives for it.
template <typename ValueOf>
JsonFields current_fields(const Guarded &g, Json json, const ValueOf &value_of) {
  JsonFields fields;
  add_field(&fields, g.key, value_of(g.key), json);
  for (int i = 0; i < g.summary_count; ++i) {
    const Column &column = g.summary[i];
    const bool of_the_end = is_one_of(column, g.end, g.duration) || is_one_of(column, g.status, g.error);
    const bool added_anyway = is_one_of(column, g.start, g.key) || is_one_of(column, g.total, g.done);
    if (!of_the_end && !added_anyway && !is_counter(g, column)) add_field(&fields, column, value_of(column), json);
  }
  for (const Column *column : {&g.start, &g.total, &g.done})
    if (column->exists()) add_field(&fields, *column, value_of(*column), json);
  return fields;
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
  const char *relation;  ///< null: the answer is about one table
  List *names;
  JsonbValue *values;
};

int newest_first(const ListCell *a, const ListCell *b) {
  const auto *left = static_cast<const Shown *>(lfirst(a));
  const auto *right = static_cast<const Shown *>(lfirst(b));
  if (left->started.has_value() != right->started.has_value()) return left->started ? -1 : 1;
  if (!left->started || *left->started == *right->started) return 0;
  return *left->started > *right->started ? -1 : 1;
}

/// Keys of dead runs, in order.
struct DeadKeys {
  const char **items;
  int count;
};

int by_text(const void *a, const void *b) {
  return strcmp(*static_cast<const char *const *>(a), *static_cast<const char *const *>(b));
}

DeadKeys dead_keys(const Runs &runs) {
  DeadKeys keys{static_cast<const char **>(palloc(sizeof(char *) * Max(runs.count, 1))), 0};
  for (int i = 0; i < runs.count; ++i)
    if (runs.items[i].judgement.dead() && !runs.items[i].uncommitted) keys.items[keys.count++] = runs.items[i].key;
  qsort(keys.items, keys.count, sizeof(char *), by_text);
  return keys;
}

/// Of a dead run, the status that closing it would write.
void show_as_ended(const Guarded &g, Shown *shown) {
  for (int i = 0; i < list_length(shown->names); ++i)
    if (strcmp(static_cast<const char *>(list_nth(shown->names, i)), g.status.name) == 0)
      shown->values[i] = json_string(g.failed);
}

/// A query for runs to be shown: its columns are the start as timestamptz, the key as text, those of the fields.
struct ShownQuery {
  JsonFields fields;
  pg::Statement statement;
};

/// Appends the runs of the query that `query_of(Json)` makes to the list; none of those with `dead` keys is shown as running.
template <typename QueryOf>
List *collect(const Guarded &g, bool several, const DeadKeys &dead, const QueryOf &query_of, List *list) {
  const MemoryContext context = CurrentMemoryContext;
  List *shown_runs = NIL;
  read_summaries(g, [&](Json json) {
    const ShownQuery query = query_of(json);
    shown_runs = NIL;
    const pg::Identity before = work_as(g);
    pg::spi_begin();
    const uint64 rows = pg::spi_run(query.statement, pg::Access::kRead);
    for (uint64 i = 0; i < rows; ++i) {
      bool is_null;
      auto *shown = static_cast<Shown *>(MemoryContextAllocZero(context, sizeof(Shown)));
      *shown = Shown{};
      const Datum start = pg::spi_datum(i, 1, &is_null);
      if (!is_null && !TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(start))) shown->started = DatumGetTimestampTz(start);
      if (several) shown->relation = g.name;
      shown->names = query.fields.names;
      shown->values = read_fields(query.fields, i, 3, context);
      const char *key = dead.count == 0 ? nullptr : pg::spi_text(i, 2, context);
      if (key != nullptr && bsearch(&key, dead.items, dead.count, sizeof(char *), by_text) != nullptr)
        show_as_ended(g, shown);
      const MemoryContext inner = MemoryContextSwitchTo(context);
      shown_runs = lappend(shown_runs, shown);
      MemoryContextSwitchTo(inner);
    }
    pg::spi_end();
    pg::restore(before);
  });
  return list_concat(list, shown_runs);
}

/// The runs of a table that are asked for, and what its rows are to be read with: all that is told of them is of one instant.
struct Seen {
  Runs runs;
  Snapshot snapshot;
};

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
    const JsonFields fields =
        current_fields(g, json, [&](const Column &column) { return value_from_memory(g, *newest, column); });
    ShownQuery query{fields, pg::Statement(psprintf("SELECT $1, NULL%s", columns_of(fields)))};
    query.statement.add(TIMESTAMPTZOID, TimestampTzGetDatum(newest->started.value_or(0)), !newest->started);
    return query;
  };
  const auto of_row = [&](Json json) {
    const JsonFields fields = current_fields(g, json, value_from_row(g, *newest));
    const Datum key = pg::text_array(&newest->key, 1);
    ShownQuery query{fields, pg::Statement(psprintf("SELECT %s, NULL%s FROM %s WHERE %s AND %s",
                                                    instant_sql(g, g.start), columns_of(fields), from_item(g),
                                                    key_condition(g, key), status_condition(g, g.live, g.live_count)))};
    query.statement.add(TEXTARRAYOID, key)
        .add(INT8OID, Int64GetDatum(newest->done.value_or(0)), !newest->done)
        .add(INT8OID, Int64GetDatum(newest->total.value_or(0)), !newest->total)
        .snapshot = seen.snapshot;
    return query;
  };
  const DeadKeys none{nullptr, 0};
  return newest->uncommitted ? collect(g, several, none, of_memory, list) : collect(g, several, none, of_row, list);
}

/// The newest `limit` runs of the table for recent_syncs, appended to the list.
List *collect_recent(const Guarded &g, const Asked &asked, const Seen &seen, int limit, bool several, List *list) {
  if (limit == 0 || g.summary_count == 0) return list;
  const auto newest = [&](Json json) {
    const JsonFields fields = recent_fields(g, json);
    ShownQuery query{fields, pg::Statement(psprintf("SELECT %s, %s::pg_catalog.text%s FROM %s%s LIMIT %d",
                                                    instant_sql(g, g.start), column_ref(g.key), columns_of(fields),
                                                    from_item(g), newest_first_sql(g, asked.condition), limit))};
    query.statement.snapshot = seen.snapshot;
    return query;
  };
  return collect(g, several, dead_keys(seen.runs), newest, list);
}

void push(pg::JsonbInStateCompat *state, JsonbIteratorToken token) {
  pg::push_jsonb_value_compat(state, token, nullptr);
}

void push_key(pg::JsonbInStateCompat *state, const char *key) {
  JsonbValue value = json_string(key);
  pg::push_jsonb_value_compat(state, WJB_KEY, &value);
}

void push_field(pg::JsonbInStateCompat *state, const char *name, JsonbValue value) {
  push_key(state, name);
  pg::push_jsonb_value_compat(state, WJB_VALUE, &value);
}

void push_run(pg::JsonbInStateCompat *state, const Shown *shown) {
  push(state, WJB_BEGIN_OBJECT);
  if (shown->relation != nullptr) push_field(state, "relation", json_string(shown->relation));
  for (int i = 0; i < list_length(shown->names); ++i)
    push_field(state, static_cast<const char *>(list_nth(shown->names, i)), shown->values[i]);
  push(state, WJB_END_OBJECT);
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
  push(&state, WJB_BEGIN_OBJECT);
  push_field(&state, "is_running", json_bool(current != NIL));
  if (current == NIL) {
    push_field(&state, "current_sync", json_null());
  } else {
    push_key(&state, "current_sync");
    push_run(&state, static_cast<const Shown *>(linitial(current)));
  }
  push_key(&state, "recent_syncs");
  push(&state, WJB_BEGIN_ARRAY);
  for (int i = 0; i < Min(list_length(latest), recent); ++i)
    push_run(&state, static_cast<const Shown *>(list_nth(latest, i)));
  push(&state, WJB_END_ARRAY);
  push(&state, WJB_END_OBJECT);
  PG_RETURN_JSONB_P(JsonbValueToJsonb(state.result));
}

}  // namespace esg
