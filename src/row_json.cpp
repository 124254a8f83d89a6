// See row_json.h. Runs in whoever reaps a run or notes what became of one, with the rights in force; takes no locks.

#include "row_json.h"

#include <algorithm>
#include <cstring>

#include "pg/boundary.h"
#include "pg/spi.h"
#include "rights.h"

namespace esg {
namespace {

/// In the order in which jsonb keeps the keys of an object: by their lengths first.
bool comes_before(const char *a, const char *b) {
  const std::size_t length = strlen(a);
  return length == strlen(b) ? strcmp(a, b) < 0 : length < strlen(b);
}

/// Whether JSON may hold what json takes and jsonb does not: an escaped character that no text has (\u0000), a number with
/// an exponent out of all proportion.
bool is_doubtful(const char *json) {
  bool in_string = false;
  for (const char *at = json; *at != '\0'; ++at) {
    if (*at == '"') in_string = !in_string;
    else if (*at == '\\' && at[1] == 'u') return true;
    else if (*at == '\\' && at[1] != '\0') ++at;
    else if (!in_string && (*at == 'e' || *at == 'E') && strspn(at + 1, "+-0123456789") > 4) return true;
  }
  return false;
}

Jsonb *parse_jsonb(const char *json) { return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(json))); }

}  // namespace

bool fits_jsonb(Oid type) {
  // Asked for each column of each answer: of the server's own types nothing has to be looked up.
  if (type < FirstNormalObjectId) return type != JSONOID && type != JSONARRAYOID;
  type = getBaseType(type);
  if (const Oid element = get_element_type(type); OidIsValid(element)) type = getBaseType(element);
  return type != JSONOID && !is_cast_by_code(type);
}

char *row_sql(const Guarded &g) {
  Relation relation = relation_open(g.table, NoLock);  // locked by who reads it
  const TupleDesc desc = RelationGetDescr(relation);
  auto **columns = static_cast<const char **>(palloc(sizeof(char *) * Max(desc->natts, 1)));
  int count = 0;
  bool fit = true;
  for (int i = 0; i < desc->natts; ++i) {
    const FormData_pg_attribute *attribute = TupleDescAttr(desc, i);
    if (attribute->attisdropped) continue;
    columns[count++] = pstrdup(NameStr(attribute->attname));
    fit = fit && fits_jsonb(attribute->atttypid);
  }
  relation_close(relation, NoLock);
  if (!fit) return pstrdup("pg_catalog.row_to_json(t.*)");
  // As to_jsonb(t.*), but that nothing is left to sort.
  std::sort(columns, columns + count, comes_before);
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfoString(&sql, "(SELECT pg_catalog.to_jsonb(r.*) FROM (SELECT ");
  for (int i = 0; i < count; ++i) appendStringInfo(&sql, "%st.%s", i == 0 ? "" : ", ", quote_identifier(columns[i]));
  appendStringInfoString(&sql, ") AS r)");
  return sql.data;
}

Jsonb *spi_row(uint64 number, int column, MemoryContext context) {
  bool is_null;
  const Datum row = pg::spi_datum(number, column, &is_null);
  if (is_null) return nullptr;
  const MemoryContext spi = MemoryContextSwitchTo(context);
  Jsonb *json = SPI_gettypeid(SPI_tuptable->tupdesc, column) == JSONBOID ? DatumGetJsonbPCopy(row)
                                                                         : as_journaled(TextDatumGetCString(row));
  MemoryContextSwitchTo(spi);
  return json;
}

Jsonb *as_journaled(const char *json) {
  // To parse takes several times what it makes.
  const MemoryContext caller = CurrentMemoryContext;
  const MemoryContext parsing = AllocSetContextCreate(caller, "emag_sync_guard row", ALLOCSET_DEFAULT_SIZES);
  MemoryContextSwitchTo(parsing);
  Jsonb *parsed = nullptr;
  const auto parse = [json, &parsed] { parsed = parse_jsonb(json); };
  if (is_doubtful(json)) (void)pg::try_in_subtransaction(parse);
  else parse();
  if (parsed == nullptr) {
    StringInfoData string;
    initStringInfo(&string);
    escape_json(&string, json);
    parsed = parse_jsonb(string.data);
  }
  MemoryContextSwitchTo(caller);
  auto *kept = static_cast<Jsonb *>(palloc(VARSIZE(parsed)));
  memcpy(kept, parsed, VARSIZE(parsed));
  MemoryContextDelete(parsing);
  return kept;
}

}  // namespace esg
