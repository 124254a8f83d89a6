// finish_sync: the end of a run, by its token. Runs as the caller: the UPDATE is his own, and the guard's trigger judges it as
// any other (it fills end and duration). Locks: the share side of a fence on the token, so that neither a reaping nor another
// taker of the lease comes in between; then the row, waited for as in any UPDATE.

#include "closing.h"
#include "errors.h"
#include "fault.h"
#include "given_values.h"
#include "load.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "rights.h"
#include "session.h"
#include "token.h"

namespace esg {
namespace {

/// Parameters of the UPDATE: $1 keys, $2 final_values, $3 status, $4 errors (jsonb array), $5 the same as text, $6 now,
/// $7 duration.
constexpr const char *kFinal = "$2";
constexpr const char *kErrors = "$4";
constexpr const char *kErrorText = "$5";
constexpr const char *kNow = "$6";

bool may_update(const Guarded &g, const Column &column) {
  return pg_class_aclcheck(g.table, GetUserId(), ACL_UPDATE) == ACLCHECK_OK ||
         pg_attribute_aclcheck(g.table, column.attno, GetUserId(), ACL_UPDATE) == ACLCHECK_OK;
}

const char *end_status(FunctionCallInfo fcinfo, const Guarded &g) {
  const char *status = PG_ARGISNULL(1) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(1));
  if (status != nullptr && !g.is_live(status) && g.is_end(status)) return status;
  StringInfoData ends;
  initStringInfo(&ends);
  appendStringInfo(&ends, "\"%s\"", g.failed);
  for (int i = 0; i < g.ended_count; ++i)
    if (strcmp(g.ended[i], g.failed) != 0) appendStringInfo(&ends, ", \"%s\"", g.ended[i]);
  ereport(
      ERROR, errcode(kBadOption),
      status == nullptr ? errmsg("status must not be NULL") : errmsg("\"%s\" is not known as the end of a run", status),
      status != nullptr && g.is_live(status) ? errdetail("It is a live status of table %s.", g.name)
                                             : errdetail("The run's table is %s.", g.name),
      errhint("Known ends are %s and the usual words for one, as \"completed\"; guard_table() called again learns new "
              "ones.",
              ends.data));
  pg_unreachable();
}

// ---- errors ----------------------------------------------------------------------------------------------------------------

/// The errors given, as an array; null where there are none to append.
Jsonb *errors_argument(FunctionCallInfo fcinfo, int argument) {
  if (PG_ARGISNULL(argument)) return nullptr;
  Jsonb *given = PG_GETARG_JSONB_P(argument);
  if (JB_ROOT_IS_ARRAY(given) && !JB_ROOT_IS_SCALAR(given)) return JB_ROOT_COUNT(given) == 0 ? nullptr : given;
  char *text_value = JsonbToCString(nullptr, &given->root, VARSIZE(given));
  if (JB_ROOT_IS_SCALAR(given) && strcmp(text_value, "null") == 0) return nullptr;
  return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(psprintf("[%s]", text_value))));
}

/// The errors as lines: strings as they are, everything else as its JSON.
char *error_lines(Jsonb *errors) {
  StringInfoData lines;
  initStringInfo(&lines);
  JsonbIterator *at = JsonbIteratorInit(&errors->root);
  JsonbValue item;
  for (JsonbIteratorToken token; (token = JsonbIteratorNext(&at, &item, true)) != WJB_DONE;) {
    if (token != WJB_ELEM) continue;
    if (lines.len > 0) appendStringInfoChar(&lines, '\n');
    if (item.type == jbvString) {
      appendBinaryStringInfo(&lines, item.val.string.val, item.val.string.len);
    } else {
      Jsonb *element = JsonbValueToJsonb(&item);
      appendStringInfoString(&lines, JsonbToCString(nullptr, &element->root, VARSIZE(element)));
    }
  }
  return lines.data;
}

/// The errors given as rows (value jsonb, n): strings shaped like their neighbour where that is an object, as a reaping
/// shapes its own line (closing.h). `neighbour` is an SQL expression for the JSON type of what they come after.
char *shaped_errors(const char *neighbour) {
  return psprintf(
      "SELECT x.n, CASE WHEN %s OPERATOR(pg_catalog.=) 'object'"
      " AND pg_catalog.jsonb_typeof(x.value) OPERATOR(pg_catalog.=) 'string'"
      " THEN pg_catalog.jsonb_build_object('error', x.value, 'timestamp', pg_catalog.timezone('UTC', %s))"
      " ELSE x.value END AS value FROM pg_catalog.jsonb_array_elements(%s) WITH ORDINALITY AS x (value, n)",
      neighbour, kNow, kErrors);
}

char *append_to_jsonb(const char *current) {
  const char *type = psprintf("pg_catalog.jsonb_typeof(%s)", current);
  const char *of_last = psprintf("pg_catalog.jsonb_typeof(%s OPERATOR(pg_catalog.->) -1)", current);
  const char *neighbour =
      psprintf("(CASE WHEN %s OPERATOR(pg_catalog.=) 'array' THEN %s ELSE %s END)", type, of_last, type);
  return psprintf(
      "(CASE WHEN %s IS NULL THEN '[]'::pg_catalog.jsonb WHEN %s OPERATOR(pg_catalog.=) 'array' THEN %s"
      " ELSE pg_catalog.jsonb_build_array(%s) END) OPERATOR(pg_catalog.||)"
      " (SELECT pg_catalog.jsonb_agg(e.value ORDER BY e.n) FROM (%s) AS e)",
      current, type, current, current, shaped_errors(neighbour));
}

/// json keeps its text as it was written: what is there is copied, never made into jsonb.
char *append_to_json(const char *current) {
  const char *type = psprintf("pg_catalog.json_typeof(%s)", current);
  const char *elements = psprintf(
      "pg_catalog.json_array_elements(CASE WHEN %s OPERATOR(pg_catalog.=) 'array' THEN %s"
      " WHEN %s IS NULL THEN '[]' ELSE pg_catalog.json_build_array(%s) END) WITH ORDINALITY AS o (value, n)",
      type, current, current, current);
  const char *neighbour =
      psprintf("(SELECT pg_catalog.json_typeof(o.value) FROM %s ORDER BY o.n DESC LIMIT 1)", elements);
  return psprintf(
      "(SELECT pg_catalog.json_agg(a.value ORDER BY a.part, a.n) FROM (SELECT 1 AS part, o.n, o.value FROM %s"
      " UNION ALL SELECT 2, e.n, e.value::pg_catalog.json FROM (%s) AS e) AS a)",
      elements, shaped_errors(neighbour));
}

char *append_errors(const Guarded &g) {
  const char *current = column_ref(g.error);
  switch (g.error_format) {
    case ErrorFormat::kJsonb: return append_to_jsonb(current);
    case ErrorFormat::kJson: return append_to_json(current);
    case ErrorFormat::kText: break;
  }
  return error_sql(g, current, kErrorText, kNow);
}

// ---- the UPDATE ------------------------------------------------------------------------------------------------------------

GivenValues final_values(FunctionCallInfo fcinfo, const Guarded &g, bool with_errors) {
  if (PG_ARGISNULL(3)) return GivenValues{};
  const GivenValues given = given_values(g, PG_GETARG_JSONB_P(3), "final_values");
  if (given.has(g.status)) refuse_given(g, "final_values", g.status, "The status is an argument of its own.");
  if (given.has(g.key)) refuse_given(g, "final_values", g.key, "A run keeps its key.");
  if (with_errors && g.error.exists() && given.has(g.error))
    refuse_given(g, "final_values", g.error, "The errors were given as an argument of their own too.");
  return given;
}

void assign(StringInfo list, const Column &column, const char *value) {
  if (list->len > 0) appendStringInfoString(list, ", ");
  appendStringInfo(list, "%s = %s", quote_identifier(column.name), value);
}

char *now_sql(const Guarded &g, const Column &column) {
  if (column.type == TIMESTAMPTZOID) return pstrdup(kNow);
  return psprintf("pg_catalog.timezone(%s, %s)", quote_literal_cstr(g.zone_name), kNow);
}

/// The trigger fills end and duration, whatever columns the caller may write; of a table that is only observed it does not.
bool trigger_fills(const Guarded &g) { return guard_enabled() && g.mode == Mode::kGuard; }

char *assignments(const Guarded &g, const GivenValues &given, bool with_errors) {
  StringInfoData list;
  initStringInfo(&list);
  assign(&list, g.status, psprintf("$3::%s", pg::type_sql(g.status.declared_type)));
  for (int i = 0; i < given.count; ++i) assign(&list, given.columns[i], given_ref(given.columns[i]));
  if (with_errors && g.error.writable) assign(&list, g.error, append_errors(g));
  if (g.updated.writable && !given.has(g.updated) && may_update(g, g.updated))
    assign(&list, g.updated, now_sql(g, g.updated));
  if (trigger_fills(g) || given.has(g.end)) return list.data;
  if (g.end.writable && may_update(g, g.end)) assign(&list, g.end, now_sql(g, g.end));
  if (g.duration.writable && !given.has(g.duration) && may_update(g, g.duration))
    assign(&list, g.duration, psprintf("$7::%s", pg::type_sql(g.duration.type)));
  return list.data;
}

char *finishing_statement(const Guarded &g, Datum key, const GivenValues &given, bool with_errors) {
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfo(&sql, "UPDATE %s SET %s", from_item(g), assignments(g, given, with_errors));
  if (given.count > 0) appendStringInfo(&sql, " FROM %s", given_sql(given, kFinal));
  appendStringInfo(&sql, " WHERE %s AND %s RETURNING %s::pg_catalog.text", key_condition(g, key),
                   status_condition(g, g.live, g.live_count), column_ref(g.status));
  return sql.data;
}

/// The status that the row has now; null where no row was updated. `run`: as it is before, where the trigger does not fill.
const char *update_row(const Guarded &g, const char *key, const Run *run, const GivenValues &given, const char *status,
                       Jsonb *errors) {
  const MemoryContext context = CurrentMemoryContext;
  const core::Micros now = GetCurrentTimestamp();
  const Datum keys = pg::text_array(&key, 1);
  pg::Statement update(finishing_statement(g, keys, given, errors != nullptr));
  update.add(TEXTARRAYOID, keys)
      .add(JSONBOID, JsonbPGetDatum(given.json), given.json == nullptr)
      .add_text(status)
      .add(JSONBOID, JsonbPGetDatum(errors), errors == nullptr)
      .add_text(errors == nullptr ? nullptr : error_lines(errors))
      .add(TIMESTAMPTZOID, TimestampTzGetDatum(now))
      .add_text(run != nullptr && run->started && g.duration.exists() ? duration_text(g, now - *run->started)
                                                                      : nullptr);
  // The table owner's code runs as the caller here, as in any UPDATE of his; but it does not get out of this role.
  const pg::Identity before = pg::remain(0);
  pg::spi_begin();
  const bool updated = pg::spi_run(update, pg::Access::kWrite) == 1;
  const char *now_is = updated ? pg::spi_text(0, 1, context) : nullptr;
  pg::spi_end();
  pg::restore(before);
  return now_is;
}

[[noreturn]] void refuse_untouched(const Guarded &g, const char *key) {
  ereport(ERROR, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION), errmsg("run %s of table %s was not ended", key, g.name),
          errdetail("A trigger of the table kept its row from being changed, or row security hides it from you."));
  pg_unreachable();
}

}  // namespace
}  // namespace esg

/// finish_sync(token bigint, status text, errors jsonb, final_values jsonb): ends the run and its lease.
ESG_SQL_FUNCTION(finish_sync);

namespace esg {

static Datum finish_sync(FunctionCallInfo fcinfo) {
  const int64 token = token_argument(fcinfo, 0);
  PreventCommandIfReadOnly("finish_sync()");
  PreventCommandDuringRecovery("finish_sync()");
  check_right(token);
  lock_token(token);
  ESG_FAULT_POINT("finish_sync.locked");
  Holding holding = holding_of(token, Look::kAtLease);
  // The UPDATE tells whether the run is live; what it needs of the row beside that is looked for before.
  if (holding.stale == nullptr && !trigger_fills(*holding.table)) holding = holding_of(token);
  if (holding.stale != nullptr) {
    forget_lease(token);
    refuse_stale(holding);
  }
  const Guarded &g = guarded_or_error(holding.lease.table);  // ERROR where its settings do not fit it any more
  const char *key = holding.lease.key;
  const char *status = end_status(fcinfo, g);
  Jsonb *errors = errors_argument(fcinfo, 2);
  const GivenValues given = final_values(fcinfo, g, errors != nullptr);
  forget_ended_lease();
  const char *now_is = update_row(g, key, holding.run, given, status, errors);
  ESG_FAULT_POINT("finish_sync.row_ended");
  if (now_is == nullptr) {
    const Holding again = holding_of(token);
    if (again.stale != nullptr) refuse_stale(again);
    refuse_untouched(g, key);
  }
  if (g.is_live(now_is)) refuse_untouched(g, key);
  if (errors != nullptr && !g.error.writable)
    ereport(WARNING, errcode(kBadOption), errmsg("table %s has no column for the errors of run %s", g.name, key),
            errdetail("They were: %s", error_lines(errors)));
  (void)track_end(g.table, key);  // the trigger has done so where the guard is enabled
  ESG_FAULT_POINT("finish_sync.entry_closed");
  if (!has_ended_lease(token)) end_leases(g, pg::text_array(&key, 1), "finished");  // the same
  ESG_FAULT_POINT("finish_sync.lease_ended");
  forget_lease(token);
  unbind_session(token);
  ESG_FAULT_POINT("finish_sync.unbound");
  PG_RETURN_VOID();
}

}  // namespace esg
