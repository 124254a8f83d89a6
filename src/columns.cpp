// Columns of a guarded table and the values they hold: types, times in the table's zone, durations. Declared in settings.h.

#include "core/habits.h"

#include "settings.h"

namespace esg {
namespace {

/// Whether the column stands in the relation's partition key. Read from the catalog as it stands there: the relcache would
/// simplify the key's expressions, and so run functions of the table's owner as whoever asks.
bool partitions_by(Oid relation, AttrNumber attno) {
  const HeapTuple tuple = SearchSysCache1(PARTRELID, ObjectIdGetDatum(relation));
  if (!HeapTupleIsValid(tuple)) return false;
  const auto *form = reinterpret_cast<Form_pg_partitioned_table>(GETSTRUCT(tuple));
  bool found = false;
  for (int i = 0; i < form->partnatts; ++i) found = found || form->partattrs.values[i] == attno;
  bool is_null;
  const Datum expressions = SysCacheGetAttr(PARTRELID, tuple, Anum_pg_partitioned_table_partexprs, &is_null);
  if (!found && !is_null) {
    Bitmapset *columns = nullptr;
    pull_varattnos(static_cast<Node *>(stringToNode(TextDatumGetCString(expressions))), 1, &columns);
    found = bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, columns);
  }
  ReleaseSysCache(tuple);
  return found;
}

bool in_partition_key(Relation relation, AttrNumber attno) {
  if (partitions_by(RelationGetRelid(relation), attno)) return true;
  if (!relation->rd_rel->relispartition) return false;
  // A partition's row must go on fitting every ancestor's bounds.
  const char *name = NameStr(TupleDescAttr(RelationGetDescr(relation), attno - 1)->attname);
  ListCell *cell;
  foreach (cell, get_partition_ancestors(RelationGetRelid(relation)))
    if (partitions_by(lfirst_oid(cell), get_attnum(lfirst_oid(cell), name))) return true;
  return false;
}

/// Whether a column's name ends in one of these units.
bool counts_in(const Column &column, std::initializer_list<std::string_view> units) {
  for (const std::string_view unit : units)
    if (core::ends_in_word(column.name, unit)) return true;
  return false;
}

}  // namespace

Column find_column(Relation relation, const char *name) {
  Column column;
  const TupleDesc desc = RelationGetDescr(relation);
  for (int i = 0; i < desc->natts; ++i) {
    const FormData_pg_attribute *attribute = TupleDescAttr(desc, i);
    if (attribute->attisdropped || strcmp(NameStr(attribute->attname), name) != 0) continue;
    column.attno = attribute->attnum;
    column.name = pstrdup(name);
    column.declared_type = attribute->atttypid;
    column.typmod = attribute->atttypmod;
    column.type = getBaseTypeAndTypmod(attribute->atttypid, &column.typmod);
    column.not_null = attribute->attnotnull;
    column.generated = attribute->attgenerated != '\0' || attribute->attidentity == ATTRIBUTE_IDENTITY_ALWAYS;
    column.writable = !column.generated && !in_partition_key(relation, column.attno);
  }
  return column;
}

bool duration_unit_of(const Column &column, DurationUnit *unit) {
  const bool integer = column.type == INT2OID || column.type == INT4OID || column.type == INT8OID;
  const bool fraction = column.type == FLOAT4OID || column.type == FLOAT8OID || column.type == NUMERICOID;
  if (column.type == INTERVALOID) {
    *unit = DurationUnit::kInterval;
    return true;
  }
  if (!integer && !fraction) return false;
  if (counts_in(column, {"ms", "msec", "msecs", "millis", "milliseconds"})) *unit = DurationUnit::kMilliseconds;
  else if (counts_in(column, {"s", "sec", "secs", "seconds"})) *unit = DurationUnit::kSeconds;
  else *unit = integer ? DurationUnit::kMilliseconds : DurationUnit::kSeconds;
  return true;
}

bool error_format_of(const Column &column, ErrorFormat *format) {
  switch (column.type) {
    case TEXTOID:
    case VARCHAROID:
    case BPCHAROID: *format = ErrorFormat::kText; return true;
    case JSONOID: *format = ErrorFormat::kJson; return true;
    case JSONBOID: *format = ErrorFormat::kJsonb; return true;
    default: return false;
  }
}

core::Micros micros_of(const Interval *interval) {
  if (pg::interval_is_infinite_compat(interval)) return PG_INT64_MAX;
  const int64 days = static_cast<int64>(interval->month) * DAYS_PER_MONTH + interval->day;
  core::Micros span;
  if (pg_mul_s64_overflow(days, USECS_PER_DAY, &span) || pg_add_s64_overflow(span, interval->time, &span))
    return days < 0 ? PG_INT64_MIN : PG_INT64_MAX;
  return span;
}

Timestamp to_naive(TimestampTz instant, pg_tz *zone) {
  struct pg_tm tm;
  fsec_t fsec;
  int offset;
  Timestamp naive;
  if (timestamp2tm(instant, &offset, &tm, &fsec, nullptr, zone) != 0 || tm2timestamp(&tm, fsec, nullptr, &naive) != 0)
    ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range"));
  return naive;
}

std::optional<core::Micros> from_naive(Timestamp naive, pg_tz *zone) {
  if (TIMESTAMP_NOT_FINITE(naive)) return std::nullopt;
  struct pg_tm tm;
  fsec_t fsec;
  TimestampTz instant;
  if (timestamp2tm(naive, nullptr, &tm, &fsec, nullptr, nullptr) != 0) return std::nullopt;
  int offset = DetermineTimeZoneOffset(&tm, zone);
  if (tm2timestamp(&tm, fsec, &offset, &instant) != 0) return std::nullopt;
  return instant;
}

std::optional<core::Micros> instant_of(const Column &column, Datum value, bool is_null, pg_tz *zone) {
  if (is_null) return std::nullopt;
  if (column.type == TIMESTAMPOID) return from_naive(DatumGetTimestamp(value), zone);
  const TimestampTz instant = DatumGetTimestampTz(value);
  if (TIMESTAMP_NOT_FINITE(instant)) return std::nullopt;
  return instant;
}

std::optional<int64> count_of(const Column &column, Datum value, bool is_null) {
  if (is_null) return std::nullopt;
  switch (column.type) {
    case INT2OID: return DatumGetInt16(value);
    case INT4OID: return DatumGetInt32(value);
    case INT8OID: return DatumGetInt64(value);
    default: return std::nullopt;
  }
}

char *text_of_value(const Column &column, Datum value) {
  if (column.type == TEXTOID || column.type == VARCHAROID) return TextDatumGetCString(value);
  if (column.type == UUIDOID) return DatumGetCString(DirectFunctionCall1(uuid_out, value));
  Oid output;
  bool is_varlena;
  getTypeOutputInfo(column.type, &output, &is_varlena);
  char *text = OidOutputFunctionCall(output, value);
  if (column.type == BPCHAROID)
    for (std::size_t n = strlen(text); n > 0 && text[n - 1] == ' '; --n) text[n - 1] = '\0';
  if (column.type == BOOLOID) return pstrdup(text[0] == 't' ? "true" : "false");
  return text;
}

Datum time_datum(const Column &column, TimestampTz instant, pg_tz *zone) {
  const Datum precision = Int32GetDatum(column.typmod);
  // What a limit of thousands of years asks for, in whatever zone.
  instant = Max(instant, MIN_TIMESTAMP + 2 * USECS_PER_DAY);
  if (column.type == TIMESTAMPOID)
    return DirectFunctionCall2(timestamp_scale, TimestampGetDatum(to_naive(instant, zone)), precision);
  return DirectFunctionCall2(timestamptz_scale, TimestampTzGetDatum(instant), precision);
}

char *duration_text(const Guarded &g, core::Micros span) {
  span = Max(span, 0);
  const int64 milliseconds = span / 1000;
  const int64 whole = g.duration_unit == DurationUnit::kMilliseconds ? milliseconds : span / core::kSecond;
  switch (g.duration.type) {
    case INT2OID:
      if (whole > PG_INT16_MAX) return nullptr;
      break;
    case INT4OID:
      if (whole > PG_INT32_MAX) return nullptr;
      break;
    case NUMERICOID:
      if (g.duration.typmod >= static_cast<int32>(VARHDRSZ)) {
        const int32 typmod = g.duration.typmod - VARHDRSZ;
        const int digits = ((typmod >> 16) & 0xffff) - (((typmod & 0x7ff) ^ 1024) - 1024);
        int64 bound = 1;
        for (int i = 0; i < digits && bound < PG_INT64_MAX / 10; ++i) bound *= 10;
        if (digits < 0 || whole + 1 > bound) return nullptr;
      }
      break;
    default: break;
  }
  if (g.duration_unit == DurationUnit::kInterval)
    return psprintf(INT64_FORMAT ".%06d seconds", whole, static_cast<int>(span % core::kSecond));
  if (g.duration.type == INT2OID || g.duration.type == INT4OID || g.duration.type == INT8OID)
    return psprintf(INT64_FORMAT, whole);
  if (g.duration_unit == DurationUnit::kMilliseconds)
    return psprintf(INT64_FORMAT ".%03d", milliseconds, static_cast<int>(span % 1000));
  return psprintf(INT64_FORMAT ".%06d", whole, static_cast<int>(span % core::kSecond));
}

}  // namespace esg
