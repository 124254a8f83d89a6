// SQL text for closing a run. See closing.h.

#include "closing.h"

namespace esg {
namespace {

/// The line to append, as jsonb, shaped like its neighbour (an SQL expression of its JSON type): an object where that one
/// is an object, else a string.
char *element(const char *type_of_neighbour, const char *message, const char *now) {
  return psprintf(
      "CASE WHEN %s OPERATOR(pg_catalog.=) 'object'"
      " THEN pg_catalog.jsonb_build_object('error', %s, 'timestamp', pg_catalog.timezone('UTC', %s))"
      " ELSE pg_catalog.to_jsonb(%s) END",
      type_of_neighbour, message, now, message);
}

char *jsonb_sql(const char *current, const char *message, const char *now) {
  const char *type = psprintf("pg_catalog.jsonb_typeof(%s)", current);
  const char *type_of_last = psprintf("pg_catalog.jsonb_typeof(%s OPERATOR(pg_catalog.->) -1)", current);
  return psprintf(
      "CASE WHEN %s IS NULL THEN pg_catalog.jsonb_build_array(%s)"
      " WHEN %s OPERATOR(pg_catalog.=) 'array' THEN %s OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_array(%s)"
      " ELSE pg_catalog.jsonb_build_array(%s, %s) END",
      current, message, type, current, element(type_of_last, message, now), current, element(type, message, now));
}

/// json keeps its text as it was written: elements are copied, never made into jsonb or looked into, since they may hold
/// what no text can (\u0000).
char *json_sql(const char *current, const char *message, const char *now) {
  const char *type = psprintf("pg_catalog.json_typeof(%s)", current);
  const char *elements = psprintf("pg_catalog.json_array_elements(%s) WITH ORDINALITY AS x (value, n)", current);
  const char *type_of_last =
      psprintf("(SELECT pg_catalog.json_typeof(x.value) FROM %s ORDER BY x.n DESC LIMIT 1)", elements);
  return psprintf(
      "CASE WHEN %s IS NULL THEN pg_catalog.json_build_array(%s)"
      " WHEN %s OPERATOR(pg_catalog.=) 'array' THEN"
      " (SELECT pg_catalog.json_agg(e.value ORDER BY e.n) FROM (SELECT x.value, x.n FROM %s"
      " UNION ALL SELECT (%s)::pg_catalog.json, 9223372036854775807) AS e)"
      " ELSE pg_catalog.json_build_array(%s, %s) END",
      current, message, type, elements, element(type_of_last, message, now), current, element(type, message, now));
}

char *text_sql(const Guarded &g, const char *current, const char *message) {
  const char *joined = psprintf(
      "CASE WHEN %s IS NULL OR (%s)::pg_catalog.text OPERATOR(pg_catalog.=) '' THEN %s"
      " ELSE (%s)::pg_catalog.text OPERATOR(pg_catalog.||) E'\\n' OPERATOR(pg_catalog.||) %s END",
      current, current, message, current, message);
  const bool bounded = g.error.type != TEXTOID && g.error.typmod >= static_cast<int32>(VARHDRSZ);
  if (!bounded) return pstrdup(joined);
  return psprintf("pg_catalog.left(%s, %d)", joined, static_cast<int>(g.error.typmod - VARHDRSZ));
}

char *time_sql(const Guarded &g, const Column &column, const char *now) {
  if (column.type == TIMESTAMPTZOID) return pstrdup(now);
  // As a query of its own it is asked once, and not for each row.
  return psprintf("(SELECT pg_catalog.timezone(%s, %s))", quote_literal_cstr(g.zone_name), now);
}

void assign(StringInfo list, const Column &column, const char *value) {
  if (list->len > 0) appendStringInfoString(list, ", ");
  appendStringInfo(list, "%s = %s", quote_identifier(column.name), value);
}

}  // namespace

char *error_sql(const Guarded &g, const char *current, const char *message, const char *now) {
  switch (g.error_format) {
    case ErrorFormat::kJson: return json_sql(current, message, now);
    case ErrorFormat::kJsonb: return jsonb_sql(current, message, now);
    case ErrorFormat::kText: break;
  }
  return text_sql(g, current, message);
}

bool former_error(const Guarded &g, const char *row, Datum *value, bool *is_null) {
  if (row == nullptr || !g.error.exists()) return false;
  Jsonb *object = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(row)));
  if (!JB_ROOT_IS_OBJECT(object)) return false;  // a row that jsonb could not hold stands there as a string
  const auto length = static_cast<int>(strlen(g.error.name));
  JsonbValue *field = getKeyJsonValueFromContainer(&object->root, g.error.name, length, nullptr);
  if (field == nullptr) return false;
  *is_null = field->type == jbvNull && !g.error.not_null;
  if (*is_null) return true;
  Jsonb *json = JsonbValueToJsonb(field);
  switch (g.error_format) {
    case ErrorFormat::kJsonb: *value = JsonbPGetDatum(json); return true;
    case ErrorFormat::kJson:
      *value = CStringGetTextDatum(JsonbToCString(nullptr, &json->root, VARSIZE(json)));
      return true;
    case ErrorFormat::kText: break;
  }
  const char *text = json_scalar_text(*field);
  *value = CStringGetTextDatum(text == nullptr ? "" : text);
  return true;
}

char *closing_assignments(const Guarded &g, const char *now, const char *message, const char *duration) {
  StringInfoData list;
  initStringInfo(&list);
  assign(&list, g.status, quote_literal_cstr(g.failed));
  if (g.end.writable) assign(&list, g.end, time_sql(g, g.end, now));
  if (g.duration.writable)
    assign(&list, g.duration,
           psprintf("(%s)::%s", duration, format_type_extended(g.duration.type, -1, FORMAT_TYPE_FORCE_QUALIFY)));
  if (g.error.writable) assign(&list, g.error, error_sql(g, column_ref(g.error), message, now));
  if (g.updated.writable) assign(&list, g.updated, time_sql(g, g.updated, now));
  return list.data;
}

}  // namespace esg
