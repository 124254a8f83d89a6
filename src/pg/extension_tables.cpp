// See extension_tables.h. What a table's columns are is compared wherever it is opened.

#include "pg/extension_tables.h"

namespace esg::pg {
namespace {

/// A column's type and, in the bit that no built-in type's number has, whether it is NOT NULL.
using OwnColumn = uint32;
constexpr OwnColumn kNotNull = 1u << 31;
constexpr OwnColumn kText = TEXTOID | kNotNull;
constexpr OwnColumn kTexts = TEXTARRAYOID | kNotNull;
constexpr OwnColumn kName = NAMEOID | kNotNull;
constexpr OwnColumn kNames = NAMEARRAYOID | kNotNull;
constexpr OwnColumn kTime = TIMESTAMPTZOID | kNotNull;
constexpr OwnColumn kTable = REGCLASSOID | kNotNull;
constexpr OwnColumn kNumber = INT8OID | kNotNull;
constexpr OwnColumn kFlag = BOOLOID | kNotNull;
constexpr OwnColumn kJson = JSONBOID | kNotNull;

// As sql/parts/10_tables.sql has them. Clang-format would give each a line.
// clang-format off
constexpr OwnColumn kLeases[] = {
    kNumber, kTable, kText, kText, INTERVALOID, kFlag, TEXTOID, TEXTOID, kTime, kName, kTime, INT4OID | kNotNull, kTime, TIMESTAMPTZOID,
    INT8OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID};
constexpr OwnColumn kJournal[] = {
    kNumber, kTime, kText, kTable, kText, kText, INT8OID, JSONBOID, TEXTOID, TEXTOID, JSONBOID, kText, kName, kName, JSONBOID, JSONBOID,
    kFlag};
constexpr OwnColumn kPassedOver[] = {kTable, kText, kTime};
constexpr OwnColumn kSettings[] = {
    kTable, kText, kName, kName, kTexts, kText, NAMEOID, NAMEOID, NAMEOID, NAMEOID, NAMEOID, NAMEOID, NAMEOID, NAMEOID, kNames, kJson,
    kNames, kText, INTERVALOID, INTERVALOID, INTERVALOID, kFlag, kTexts, kText, kText, kText, TIMESTAMPTZOID, kTime, kName, kTexts};
constexpr OwnColumn kScopeLimits[] = {kTable, kJson, INTERVALOID, INTERVALOID, INTERVALOID};
constexpr OwnColumn kTransitionRules[] = {kTable, kText, kText, kFlag};
// clang-format on

struct OwnTableColumns {
  const char *table;
  const OwnColumn *columns;
  int count;
};

template <int kCount>
constexpr OwnTableColumns columns_of(const char *table, const OwnColumn (&columns)[kCount]) {
  return {table, columns, kCount};
}

constexpr OwnTableColumns kTables[] = {columns_of("leases", kLeases),
                                       columns_of("journal", kJournal),
                                       columns_of("passed_over", kPassedOver),
                                       columns_of("settings", kSettings),
                                       columns_of("scope_limits", kScopeLimits),
                                       columns_of("transition_rules", kTransitionRules)};

/// ERROR 55000 where the table is not to be read by position.
void require_columns(Relation table) {
  const char *wrong = wrong_with_columns(table);
  if (wrong == nullptr) return;
  ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
          errmsg("table sync_guard.%s is not as the extension made it", RelationGetRelationName(table)),
          errdetail("%s.", wrong), errhint("Undo what was changed, or create the extension anew."));
}

/// Locks, without waiting, what writing to the table takes beside it: its indexes, the table of its long values, its numbers.
bool lock_what_belongs(Relation table) {
  ListCell *cell;
  foreach (cell, RelationGetIndexList(table))
    if (!ConditionalLockRelationOid(lfirst_oid(cell), RowExclusiveLock)) return false;
  const Oid long_values = table->rd_rel->reltoastrelid;
  if (OidIsValid(long_values) && !ConditionalLockRelationOid(long_values, RowExclusiveLock)) return false;
  const Oid numbers = identity_sequence(table);
  return !OidIsValid(numbers) || ConditionalLockRelationOid(numbers, RowExclusiveLock);
}

}  // namespace

const char *wrong_with_columns(Relation table) {
  const TupleDesc desc = RelationGetDescr(table);
  for (const OwnTableColumns &own : kTables) {
    if (strcmp(own.table, RelationGetRelationName(table)) != 0) continue;
    for (int i = 0; i < own.count; ++i) {
      if (i >= desc->natts || TupleDescAttr(desc, i)->attisdropped) return psprintf("column %d is missing", i + 1);
      const FormData_pg_attribute *column = TupleDescAttr(desc, i);
      const Oid type = own.columns[i] & ~kNotNull;
      if (column->atttypid != type)
        return psprintf("column \"%s\" is of type %s, not %s", NameStr(column->attname),
                        format_type_be(column->atttypid), format_type_be(type));
      if ((own.columns[i] & kNotNull) != 0 && !column->attnotnull)
        return psprintf("column \"%s\" has lost its NOT NULL", NameStr(column->attname));
    }
    break;
  }
  return nullptr;
}

bool is_as_made(const char *name) {
  if (!has_extension_table(name)) return false;
  Relation table = try_relation_open(extension_table(name), AccessShareLock);
  if (table == nullptr) return false;
  const bool as_made = wrong_with_columns(table) == nullptr;
  relation_close(table, AccessShareLock);
  return as_made;
}

List *tables_by_position() {
  List *names = NIL;
  for (const OwnTableColumns &own : kTables) names = lappend(names, const_cast<char *>(own.table));
  return names;
}

Oid identity_sequence(Relation table) {
  const TupleDesc desc = RelationGetDescr(table);
  for (int i = 0; i < desc->natts; ++i)
    if (TupleDescAttr(desc, i)->attidentity != '\0')
      return identity_sequence_compat(table, static_cast<AttrNumber>(i + 1));
  return InvalidOid;
}

bool has_extension_table(const char *name) {
  const Oid schema = get_namespace_oid("sync_guard", true);
  return OidIsValid(schema) && OidIsValid(get_relname_relid(name, schema));
}

Oid extension_table(const char *name) {
  const Oid schema = get_namespace_oid("sync_guard", false);
  const Oid table = get_relname_relid(name, schema);
  if (!OidIsValid(table))
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE), errmsg("table sync_guard.%s is missing", name),
            errhint("The extension is damaged: restore the table or create the extension anew."));
  return table;
}

Oid lock_extension_table_at_once(const char *name, LOCKMODE mode) {
  if (!has_extension_table(name)) return InvalidOid;
  const Oid table = extension_table(name);
  if (!ConditionalLockRelationOid(table, mode)) return InvalidOid;
  Relation relation = try_relation_open(table, NoLock);
  if (relation == nullptr) return InvalidOid;
  const bool free = wrong_with_columns(relation) == nullptr && (mode < RowExclusiveLock || lock_what_belongs(relation));
  relation_close(relation, NoLock);
  return free ? table : InvalidOid;
}

Relation open_extension_table(const char *name, LOCKMODE mode) {
  for (;;) {
    // Each turn looks the name up in the catalogs as they are after the wait.
    if (Relation relation = try_relation_open(extension_table(name), mode)) {
      require_columns(relation);
      return relation;
    }
    AcceptInvalidationMessages();
  }
}

}  // namespace esg::pg
