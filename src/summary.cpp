// See summary.h. Runs in whoever reads, with the rights in force; takes no locks.

#include "summary.h"

#include "pg/spi.h"
#include "row_json.h"

namespace esg {
namespace {

/// What becomes of a type's values in a jsonb.
enum class JsonKind : uint8 {
  kByQuery,  ///< what to_jsonb() makes of them
  kItself,
  kBool,
  kInteger,
  kNumber,  ///< by its output: a number, or a string where jsonb has no such number
  kTime,
  kString  ///< its output
};

JsonKind kind_of(Oid type) {
  switch (type) {
    case JSONBOID: return JsonKind::kItself;
    case BOOLOID: return JsonKind::kBool;
    case INT2OID:
    case INT4OID:
    case INT8OID: return JsonKind::kInteger;
    case FLOAT4OID:
    case FLOAT8OID:
    case NUMERICOID: return JsonKind::kNumber;
    case DATEOID:
    case TIMESTAMPOID:
    case TIMESTAMPTZOID: return JsonKind::kTime;
    case TEXTOID:
    case VARCHAROID:
    case BPCHAROID:
    case UUIDOID: return JsonKind::kString;
    default: return JsonKind::kByQuery;
  }
}

JsonbValue numeric_value(Datum numeric) {
  JsonbValue value;
  value.type = jbvNumeric;
  value.val.numeric = DatumGetNumeric(numeric);
  return value;
}

int64 integer_of(Oid type, Datum value) {
  if (type == INT2OID) return DatumGetInt16(value);
  return type == INT4OID ? DatumGetInt32(value) : DatumGetInt64(value);
}

char *output_of(Oid type, Datum value) {
  Oid function;
  bool is_varlena;
  getTypeOutputInfo(type, &function, &is_varlena);
  return OidOutputFunctionCall(function, value);
}

/// A number as its output function writes it; NaN and the infinities as strings.
JsonbValue number_value(const char *text) {
  if (strpbrk(text, "NI") != nullptr) return json_string(text);
  return numeric_value(
      DirectFunctionCall3(numeric_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/// What the value is in a jsonb; a copy of it. `type`: a base type.
JsonbValue json_value(Oid type, Datum datum) {
  JsonbValue value;
  switch (kind_of(type)) {
    case JsonKind::kByQuery:
    case JsonKind::kItself: {
      Jsonb *jsonb = DatumGetJsonbPCopy(datum);
      value.type = jbvBinary;
      value.val.binary.data = &jsonb->root;
      value.val.binary.len = VARSIZE(jsonb) - VARHDRSZ;
      return value;
    }
    case JsonKind::kBool: return json_bool(DatumGetBool(datum));
    case JsonKind::kInteger: return numeric_value(NumericGetDatum(int64_to_numeric(integer_of(type, datum))));
    case JsonKind::kNumber: return number_value(output_of(type, datum));
    case JsonKind::kTime: return json_string(JsonEncodeDateTime(nullptr, datum, type, nullptr));
    case JsonKind::kString: break;
  }
  return json_string(type == UUIDOID ? output_of(type, datum) : TextDatumGetCString(datum));
}

}  // namespace

void add_field(JsonFields *fields, const Column &column, const char *value, Json json) {
  const bool as_it_is = kind_of(column.type) != JsonKind::kByQuery;
  fields->names = lappend(fields->names, const_cast<char *>(column.name));
  fields->columns =
      lappend(fields->columns,
              as_it_is ? pstrdup(value) : psprintf("pg_catalog.to_jsonb(%s)", summary_value(column, value, json)));
}

char *columns_of(const JsonFields &fields) {
  StringInfoData sql;
  initStringInfo(&sql);
  ListCell *cell;
  foreach (cell, fields.columns) appendStringInfo(&sql, ", %s", static_cast<const char *>(lfirst(cell)));
  return sql.data;
}

JsonbValue *read_fields(const JsonFields &fields, uint64 number, int first, MemoryContext context) {
  const MemoryContext spi = MemoryContextSwitchTo(context);
  auto *values = static_cast<JsonbValue *>(palloc(sizeof(JsonbValue) * Max(list_length(fields.names), 1)));
  for (int i = 0; i < list_length(fields.names); ++i) {
    bool is_null;
    const Datum value = pg::spi_datum(number, first + i, &is_null);
    const Oid declared = SPI_gettypeid(SPI_tuptable->tupdesc, first + i);
    const Oid type =
        declared < FirstGenbkiObjectId ? declared : getBaseType(declared);  // none of the former is a domain
    values[i] = is_null ? json_null() : json_value(type, value);
  }
  MemoryContextSwitchTo(spi);
  return values;
}

JsonbValue json_string(const char *text) {
  JsonbValue value;
  value.type = jbvString;
  value.val.string.val = const_cast<char *>(text);
  value.val.string.len = static_cast<int>(strlen(text));
  return value;
}

JsonbValue json_bool(bool boolean) {
  JsonbValue value;
  value.type = jbvBool;
  value.val.boolean = boolean;
  return value;
}

JsonbValue json_null() {
  JsonbValue value;
  value.type = jbvNull;
  return value;
}

const char *summary_value(const Column &column, const char *value, Json json) {
  if (json == Json::kAsItIs || fits_jsonb(column.type)) return value;
  // An escape, an exponent, very many digits.
  return psprintf(
      "CASE WHEN pg_catalog.to_json(%s)::pg_catalog.text OPERATOR(pg_catalog.~) E'\\\\\\\\u|[0-9][eE]|[0-9]{200}'"
      " THEN pg_catalog.to_jsonb(pg_catalog.to_json(%s)::pg_catalog.text) ELSE pg_catalog.to_jsonb(%s) END",
      value, value, value);
}

bool has_json_in_summary(const Guarded &g) {
  for (int i = 0; i < g.summary_count; ++i)
    if (!fits_jsonb(g.summary[i].type)) return true;
  return false;
}

}  // namespace esg
