// From rows to runs: one query, one judgement per row. Runs in the caller's process with the rights in force; takes
// ACCESS SHARE on the table (ROW SHARE and row locks with `lock`). See runs.h.

#include "runs.h"

#include "errors.h"
#include "pg/spi.h"

namespace esg {
namespace {

/// Columns of runs_query, in order.
enum RunColumn : int { kCtid = 1, kTableoid, kKey, kStatus, kStart, kActivity, kDone, kTotal, kRow, kFirstScope };

void append_column(StringInfo sql, const Column &column, const char *cast, const char *if_absent) {
  if (column.exists()) appendStringInfo(sql, ", %s%s", column_ref(column), cast);
  else appendStringInfo(sql, ", NULL::%s", if_absent);
}

std::optional<int64> optional_int(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  if (is_null) return std::nullopt;
  return DatumGetInt64(value);
}

/// Row `number` of the result as a run, its strings in `context`.
Run make_run(const Guarded &g, uint64 number, MemoryContext context) {
  Run run{};
  bool is_null;
  run.ctid = *reinterpret_cast<ItemPointer>(DatumGetPointer(pg::spi_datum(number, kCtid, &is_null)));
  run.tableoid = DatumGetObjectId(pg::spi_datum(number, kTableoid, &is_null));
  run.key = pg::spi_text(number, kKey, context);
  run.status = pg::spi_text(number, kStatus, context);
  Datum value = pg::spi_datum(number, kStart, &is_null);
  run.started = instant_of(g.start, value, is_null, g.zone);
  value = pg::spi_datum(number, kActivity, &is_null);
  run.active = instant_of(g.activity, value, is_null, g.zone);
  run.done = optional_int(number, kDone);
  run.total = optional_int(number, kTotal);
  run.row = pg::spi_text(number, kRow, context);
  run.scope.count = g.scope_count;
  for (int i = 0; i < g.scope_count; ++i) {
    const char *text = pg::spi_text(number, kFirstScope + i, context);
    if (text != nullptr) run.scope.values[i] = std::string_view(text);
  }
  return run;
}

void judge_run(const Guarded &g, const core::Question &question, Run *run) {
  run->evidence.started = run->started;
  run->evidence.last_sign = run->active;
  run->limits = core::resolve_limits(run->scope, g.limits, g.scope_limits, g.scope_limit_count);
  run->judgement = core::judge(run->evidence, run->limits, question);
}

/// Oldest first; runs without a start come last.
int by_start(const void *a, const void *b) {
  const auto *left = static_cast<const Run *>(a);
  const auto *right = static_cast<const Run *>(b);
  if (left->started.has_value() != right->started.has_value()) return left->started ? -1 : 1;
  if (left->started && *left->started != *right->started) return *left->started < *right->started ? -1 : 1;
  return strcmp(left->key, right->key);
}

const char *type_name(Oid type) { return pg::type_sql(type); }

void append_json_field(StringInfo json, const char *name) {
  if (json->len > 1) appendStringInfoString(json, ", ");
  escape_json(json, name);
  appendStringInfoString(json, ": ");
}

void append_instant(StringInfo json, const char *name, const std::optional<core::Micros> &instant) {
  append_json_field(json, name);
  if (instant) escape_json(json, iso_utc(*instant));
  else appendStringInfoString(json, "null");
}

int64 absolute(int64 value) { return value < 0 ? -value : value; }

/// A span in seconds, to the millisecond.
void append_seconds(StringInfo json, const char *name, const std::optional<core::Micros> &span) {
  append_json_field(json, name);
  if (!span) return appendStringInfoString(json, "null");
  const int64 ms = *span / 1000;
  appendStringInfo(json, "%s" INT64_FORMAT ".%03d", ms < 0 ? "-" : "", absolute(ms / 1000),
                   static_cast<int>(absolute(ms % 1000)));
}

Jsonb *parse_jsonb(const char *text) { return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text))); }

}  // namespace

core::Question question_now() {
  core::Question question;
  question.now = GetCurrentTimestamp();
  return question;
}

char *iso_utc(core::Micros instant) {
  struct pg_tm tm;
  fsec_t fsec;
  int offset;
  if (timestamp2tm(instant, &offset, &tm, &fsec, nullptr, pg_tzset("UTC")) != 0) return pstrdup("out of range");
  return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06d+00:00", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min,
                  tm.tm_sec, static_cast<int>(fsec));
}

char *from_item(const Guarded &g) { return psprintf("%s%s AS t", g.partitioned ? "" : "ONLY ", g.name); }

char *column_ref(const Column &column) { return psprintf("t.%s", quote_identifier(column.name)); }

char *status_condition(const Guarded &g, const char *const *statuses, int count) {
  const Datum array = pg::text_array(statuses, count);
  const char *literal = OidOutputFunctionCall(F_ARRAY_OUT, array);
  const char *type = type_name(g.status.type == VARCHAROID ? TEXTOID : g.status.type);
  // The operators of enums are polymorphic and do not look through a domain.
  const bool enum_domain = g.status.declared_type != g.status.type && type_is_enum(g.status.type);
  return psprintf("%s%s%s OPERATOR(pg_catalog.=) ANY (%s::%s[])", column_ref(g.status), enum_domain ? "::" : "",
                  enum_domain ? type : "", quote_literal_cstr(literal), type);
}

char *instant_sql(const Guarded &g, const Column &column) {
  if (!column.exists()) return pstrdup("NULL::pg_catalog.timestamptz");
  if (column.type == TIMESTAMPTZOID) return column_ref(column);
  return psprintf("pg_catalog.timezone(%s, %s)", quote_literal_cstr(g.zone_name), column_ref(column));
}

char *newest_first_sql(const Guarded &g, const char *condition) {
  const char *key = column_ref(g.key);
  const char *where = condition == nullptr ? "true" : condition;
  const Column &by = g.start.exists() ? g.start : g.end;
  if (!by.exists()) return psprintf(" WHERE %s ORDER BY %s DESC", where, key);
  return psprintf(" WHERE %s AND %s OPERATOR(pg_catalog.<) 'infinity'::%s ORDER BY %s DESC, %s DESC", where,
                  column_ref(by), type_name(by.type), column_ref(by), key);
}

char *scope_sql(const Guarded &g) {
  if (g.scope_count == 0) return pstrdup("NULL::pg_catalog.jsonb");
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfoString(&sql, "pg_catalog.jsonb_build_object(");
  for (int i = 0; i < g.scope_count; ++i)
    appendStringInfo(&sql, "%s%s::pg_catalog.text, %s::pg_catalog.text", i == 0 ? "" : ", ",
                     quote_literal_cstr(g.scope[i].name), column_ref(g.scope[i]));
  appendStringInfoChar(&sql, ')');
  return sql.data;
}

char *runs_query(const Guarded &g, const RunFilter &filter) {
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfo(&sql, "SELECT t.ctid, t.tableoid, %s::pg_catalog.text, %s::pg_catalog.text", column_ref(g.key),
                   column_ref(g.status));
  append_column(&sql, g.start, "", "pg_catalog.timestamptz");
  append_column(&sql, g.activity, "", "pg_catalog.timestamptz");
  append_column(&sql, g.done, "::pg_catalog.int8", "pg_catalog.int8");
  append_column(&sql, g.total, "::pg_catalog.int8", "pg_catalog.int8");
  appendStringInfoString(
      &sql, filter.with_row ? ", pg_catalog.row_to_json(t.*)::pg_catalog.text" : ", NULL::pg_catalog.text");
  for (int i = 0; i < g.scope_count; ++i) append_column(&sql, g.scope[i], "::pg_catalog.text", "pg_catalog.text");
  appendStringInfo(&sql, " FROM %s WHERE ", from_item(g));
  if (filter.any_status) appendStringInfoString(&sql, "true");
  else if (filter.exclusive_statuses)
    appendStringInfoString(&sql, status_condition(g, g.exclusive_statuses, g.exclusive_count));
  else appendStringInfoString(&sql, status_condition(g, g.live, g.live_count));
  if (filter.keys != 0) {
    const Oid type = g.key.type == VARCHAROID ? TEXTOID : g.key.type;
    appendStringInfo(&sql, " AND %s OPERATOR(pg_catalog.=) ANY ($1::%s[])", column_ref(g.key), type_name(type));
  }
  if (filter.scope_condition != nullptr) appendStringInfo(&sql, " AND %s", filter.scope_condition);
  if (filter.lock) appendStringInfo(&sql, " FOR %sUPDATE OF t SKIP LOCKED", filter.lock_keys ? "" : "NO KEY ");
  return sql.data;
}

Runs read_runs(const Guarded &g, const RunFilter &filter, const core::Question &question) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement statement(runs_query(g, filter));
  if (filter.keys != 0) statement.add(TEXTARRAYOID, filter.keys);
  pg::spi_begin();
  const uint64 rows = pg::spi_run(statement, filter.lock ? pg::Access::kWrite : pg::Access::kRead);
  Runs runs;
  runs.items = static_cast<Run *>(
      MemoryContextAllocExtended(context, Max(rows, 1) * sizeof(Run), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
  for (uint64 i = 0; i < rows; ++i) {
    CHECK_FOR_INTERRUPTS();
    Run *run = &runs.items[runs.count];
    *run = make_run(g, i, context);
    if (run->key == nullptr) continue;  // a row without a key is no run: nothing could name it
    judge_run(g, question, run);
    ++runs.count;
  }
  pg::spi_end();
  qsort(runs.items, runs.count, sizeof(Run), by_start);
  return runs;
}

Jsonb *scope_json(const Guarded &g, const core::Scope &scope) {
  if (g.scope_count == 0) return nullptr;
  StringInfoData json;
  initStringInfo(&json);
  appendStringInfoChar(&json, '{');
  for (int i = 0; i < g.scope_count; ++i) {
    append_json_field(&json, g.scope[i].name);
    if (scope.values[i]) escape_json(&json, scope.values[i]->data());
    else appendStringInfoString(&json, "null");
  }
  appendStringInfoChar(&json, '}');
  return parse_jsonb(json.data);
}

Jsonb *evidence_json(const Guarded &g, const Run &run, const core::Question &question) {
  const auto since = [&question](const std::optional<core::Micros> &instant) -> std::optional<core::Micros> {
    if (!instant) return std::nullopt;
    return question.now - *instant;
  };
  const auto last_sign = core::last_sign_of_life(run.evidence);
  StringInfoData json;
  initStringInfo(&json);
  appendStringInfoChar(&json, '{');
  append_json_field(&json, "status");
  escape_json(&json, run.status);
  append_instant(&json, "judged_at", question.now);
  append_instant(&json, "started_at", run.started);
  append_seconds(&json, "age_seconds", since(run.started));
  append_instant(&json, "last_sign_of_life", last_sign);
  append_seconds(&json, "silence_seconds", since(last_sign));
  if (g.done.exists()) {
    append_json_field(&json, "done");
    if (run.done) appendStringInfo(&json, INT64_FORMAT, *run.done);
    else appendStringInfoString(&json, "null");
  }
  if (g.total.exists()) {
    append_json_field(&json, "total");
    if (run.total) appendStringInfo(&json, INT64_FORMAT, *run.total);
    else appendStringInfoString(&json, "null");
  }
  append_json_field(&json, "rule");
  appendStringInfo(&json, "%d", run.judgement.rule);
  append_seconds(&json, "measured_seconds", run.judgement.measured);
  append_seconds(&json, "limit_seconds", run.judgement.limit);
  appendStringInfoChar(&json, '}');
  return parse_jsonb(json.data);
}

char *reason_of(const Guarded &g, const Run &run) {
  char words[160];
  core::describe(run.judgement, words, sizeof words);
  return psprintf("%s: %s", core::default_reason(g.done.exists() ? run.done : std::nullopt), words);
}

}  // namespace esg
