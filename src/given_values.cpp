// See given_values.h. Runs in start_sync and finish_sync, as the caller.

#include "given_values.h"

#include "errors.h"
#include "pg/spi.h"

namespace esg {
namespace {

/// More names than this are not listed in a HINT.
constexpr int kListed = 60;

[[noreturn]] void refuse_object(const char *argument) {
  ereport(ERROR, errcode(kBadOption), errmsg("%s must be a JSON object", argument),
          errdetail("It names columns and gives their values."),
          errhint("For example '{\"sync_type\": \"products\"}'."));
  pg_unreachable();
}

[[noreturn]] void refuse_unknown(const Guarded &g, Relation relation, const char *argument, const char *name) {
  StringInfoData known;
  initStringInfo(&known);
  const TupleDesc desc = RelationGetDescr(relation);
  int listed = 0;
  for (int i = 0; i < desc->natts; ++i) {
    const FormData_pg_attribute *attribute = TupleDescAttr(desc, i);
    if (attribute->attisdropped) continue;
    if (++listed > kListed) break;
    appendStringInfo(&known, "%s%s", listed == 1 ? "" : ", ", NameStr(attribute->attname));
  }
  if (listed > kListed) appendStringInfoString(&known, ", ...");
  ereport(ERROR, errcode(kBadOption),
          errmsg("%s names column \"%s\", which table %s does not have", argument, name, g.name),
          errdetail("Names are taken as they are, upper and lower case apart."),
          errhint("It has the columns: %s.", known.data));
  pg_unreachable();
}

}  // namespace

bool GivenValues::has(const Column &column) const {
  for (int i = 0; i < count; ++i)
    if (columns[i].attno == column.attno) return true;
  return false;
}

const JsonbValue *GivenValues::value(const Column &column) const {
  if (json == nullptr || !column.exists()) return nullptr;
  return getKeyJsonValueFromContainer(&json->root, column.name, static_cast<int>(strlen(column.name)), nullptr);
}

GivenValues given_values(const Guarded &g, Jsonb *json, const char *argument) {
  if (!JB_ROOT_IS_OBJECT(json)) refuse_object(argument);
  Relation relation = try_relation_open(g.table, AccessShareLock);
  if (relation == nullptr)
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table %s was dropped meanwhile", g.name));
  GivenValues given;
  given.json = json;
  given.columns = static_cast<Column *>(palloc(sizeof(Column) * Max(JB_ROOT_COUNT(json), 1)));
  JsonbIterator *at = JsonbIteratorInit(&json->root);
  JsonbValue item;
  for (JsonbIteratorToken token; (token = JsonbIteratorNext(&at, &item, true)) != WJB_DONE;) {
    if (token != WJB_KEY) continue;
    const char *name = pnstrdup(item.val.string.val, item.val.string.len);
    const Column column = find_column(relation, name);
    if (!column.exists()) refuse_unknown(g, relation, argument, name);
    given.columns[given.count++] = column;
  }
  relation_close(relation, NoLock);
  return given;
}

char *given_sql(const GivenValues &given, const char *json) {
  StringInfoData sql;
  initStringInfo(&sql);
  // Only what was given: a row of the whole type would ask the domains of the other columns whether they take a NULL.
  appendStringInfo(&sql, "pg_catalog.jsonb_to_record(%s) AS r (", json);
  for (int i = 0; i < given.count; ++i)
    appendStringInfo(&sql, "%s%s %s", i == 0 ? "" : ", ", quote_identifier(given.columns[i].name),
                     pg::type_sql(given.columns[i].declared_type));
  appendStringInfoChar(&sql, ')');
  return sql.data;
}

char *given_ref(const Column &column) { return psprintf("r.%s", quote_identifier(column.name)); }

void refuse_given(const Guarded &g, const char *argument, const Column &column, const char *why) {
  ereport(ERROR, errcode(kBadOption), errmsg("%s cannot set column \"%s\" of table %s", argument, column.name, g.name),
          errdetail("%s", why), errhint("Leave it out."));
  pg_unreachable();
}

}  // namespace esg
