// The key of a table of runs: the column that names a run by itself. Runs in the caller's process at adoption; reads
// catalogs, and the rows of a partitioned table as its owner. See adopt.h.
//
// A column is unique by itself where a unique index stands on it alone. An index of a partitioned table must hold the
// partition key too, so there a column can be unique within each value of the partition key only. It is taken for a key
// where such an index stands on it, it is NOT NULL, and no two rows share a value now: looked at are all rows of a
// table up to kRowsToCompare, the live runs against all rows of a larger one.

#include "core/habits.h"

#include "adopt.h"

#include "errors.h"
#include "pg/identity.h"
#include "pg/spi.h"

namespace esg::adopt {
namespace {

constexpr double kRowsToCompare = 1'000'000;

enum class Uniqueness : uint8 { kNone, kWithinPartitions, kWhole, kPrimary };

/// Whether the column stands in the partition key of the table or of one of its partitions.
bool partitions_by(const Subject &subject, const char *column) {
  bool found = false;
  ListCell *cell;
  foreach (cell, find_all_inheritors(subject.table, AccessShareLock, nullptr)) {
    if (get_rel_relkind(lfirst_oid(cell)) != RELKIND_PARTITIONED_TABLE) continue;
    Relation relation = relation_open(lfirst_oid(cell), AccessShareLock);
    const AttrNumber number = get_attnum(lfirst_oid(cell), column);
    found = found ||
            has_partition_attrs(relation, bms_make_singleton(number - FirstLowInvalidHeapAttributeNumber), nullptr);
    relation_close(relation, AccessShareLock);
  }
  return found;
}

/// What a unique index says of `column`.
Uniqueness uniqueness_by(const Subject &subject, Relation index, const Column &column) {
  const Form_pg_index form = index->rd_index;
  if (!form->indisunique || !form->indisvalid || !form->indimmediate) return Uniqueness::kNone;
  if (RelationGetIndexExpressions(index) != NIL || RelationGetIndexPredicate(index) != NIL) return Uniqueness::kNone;
  bool has_column = false;
  bool others_partition = true;
  for (int i = 0; i < form->indnkeyatts; ++i) {
    if (form->indkey.values[i] == column.attno) has_column = true;
    else
      others_partition =
          others_partition && partitions_by(subject, get_attname(subject.table, form->indkey.values[i], false));
  }
  if (!has_column) return Uniqueness::kNone;
  if (form->indnkeyatts == 1) return form->indisprimary ? Uniqueness::kPrimary : Uniqueness::kWhole;
  return subject.partitioned && others_partition ? Uniqueness::kWithinPartitions : Uniqueness::kNone;
}

Uniqueness uniqueness_of(const Subject &subject, const Column &column) {
  Uniqueness best = Uniqueness::kNone;
  ListCell *cell;
  foreach (cell, RelationGetIndexList(subject.relation)) {
    Relation index = index_open(lfirst_oid(cell), AccessShareLock);
    best = Max(best, uniqueness_by(subject, index, column));
    index_close(index, AccessShareLock);
  }
  return best;
}

/// Columns that could be a key, unique to this degree: a List of C strings. Not a part of the partition key, which runs
/// share; named by the caller it may be one.
List *candidates(const Subject &subject, const Choice &choice, Uniqueness degree) {
  List *names = NIL;
  const char *status = choice.column(kStatusColumn);
  const TupleDesc desc = RelationGetDescr(subject.relation);
  for (int i = 0; i < desc->natts; ++i) {
    const FormData_pg_attribute *attribute = TupleDescAttr(desc, i);
    if (attribute->attisdropped || (status != nullptr && strcmp(status, NameStr(attribute->attname)) == 0)) continue;
    const Column column = find_column(subject.relation, NameStr(attribute->attname));
    if (!suits(kKeyColumn, column) || !column.not_null || uniqueness_of(subject, column) != degree) continue;
    if (degree == Uniqueness::kWithinPartitions && partitions_by(subject, column.name)) continue;
    names = lappend(names, pstrdup(column.name));
  }
  return names;
}

/// The one with a usual name, or the only one; null where that does not decide.
const char *choose(const List *names) {
  for (const std::string_view word : core::key_names()) {
    ListCell *cell;
    foreach (cell, names)
      if (core::same_word(static_cast<char *>(lfirst(cell)), word)) return static_cast<char *>(lfirst(cell));
  }
  return list_length(names) == 1 ? static_cast<char *>(linitial(names)) : nullptr;
}

double estimated_rows(const Subject &subject) {
  double rows = 0;
  ListCell *cell;
  foreach (cell, find_all_inheritors(subject.table, AccessShareLock, nullptr)) {
    HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(lfirst_oid(cell)));
    if (!HeapTupleIsValid(tuple)) continue;
    const auto *form = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple));
    if (form->relkind == RELKIND_RELATION) rows += Max(form->reltuples, 0);
    ReleaseSysCache(tuple);
  }
  return rows;
}

/// A key that two rows share, as text; null where there is none.
char *shared_key(const Subject &subject, const Choice &choice, const char *key) {
  const char *column = quote_identifier(key);
  const bool all = estimated_rows(subject) <= kRowsToCompare;
  pg::Statement statement(
      all ? psprintf("SELECT t.%s::pg_catalog.text FROM %s AS t GROUP BY t.%s"
                     " HAVING pg_catalog.count(*) OPERATOR(pg_catalog.>) 1 LIMIT 1",
                     column, subject.name, column)
          : psprintf(
                "SELECT t.%s::pg_catalog.text FROM %s AS t WHERE t.%s::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($1)"
                " AND EXISTS (SELECT FROM %s AS o WHERE o.%s OPERATOR(pg_catalog.=) t.%s AND (o.tableoid, o.ctid)"
                " OPERATOR(pg_catalog.<>) (t.tableoid, t.ctid)) LIMIT 1",
                column, subject.name, quote_identifier(choice.column(kStatusColumn)), subject.name, column, column));
  if (!all) statement.add(TEXTARRAYOID, choice.value[kLiveStatuses]);
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity identity = look_as(subject.owner);
  pg::spi_begin();
  char *shared = pg::spi_run(statement, pg::Access::kRead) > 0 ? pg::spi_text(0, 1, context) : nullptr;
  pg::spi_end();
  pg::restore(identity);
  return shared;
}

}  // namespace

void find_key(const Subject &subject, Choice *choice) {
  for (const Uniqueness degree : {Uniqueness::kPrimary, Uniqueness::kWhole, Uniqueness::kWithinPartitions}) {
    const List *names = candidates(subject, *choice, degree);
    const char *found = choose(names);
    if (found == nullptr && names != NIL) ambiguous(subject, "which column is a run's key", kKeyColumn, names);
    if (found == nullptr) continue;
    choice->set_column(kKeyColumn, found);
    return;
  }
  ereport(ERROR, errcode(kAmbiguous), errmsg("cannot tell which column is a run's key in table %s", subject.name),
          errdetail("No column of type uuid, integer or text is NOT NULL and unique by itself."),
          subject.partitioned
              ? errhint("Name one with key_column that is unique together with columns of the partition key.")
              : errhint("Give the table a primary key or a unique index on one column."));
}

void check_key(const Subject &subject, const Choice &choice) {
  const char *name = choice.column(kKeyColumn);
  const Column column = find_column(subject.relation, name);
  const Uniqueness degree = uniqueness_of(subject, column);
  if (degree == Uniqueness::kNone)
    bad_option(kKeyColumn, psprintf("column \"%s\" is not unique by itself", name),
               subject.partitioned
                   ? "A unique index must stand on it alone, or together with columns of the partition key only."
                   : "A unique index must stand on it alone: one that is valid, not partial and not deferrable.");
  if (!column.not_null)
    bad_option(kKeyColumn, psprintf("column \"%s\" may be NULL", name), "Declare it NOT NULL, or name another one.");
  if (degree != Uniqueness::kWithinPartitions || !(choice.named[kKeyColumn] || choice.open[kKeyColumn])) return;
  const char *shared = shared_key(subject, choice, name);
  if (shared != nullptr)
    bad_option(kKeyColumn, psprintf("two rows share the %s \"%s\"", name, shared),
               "A key must name one run; name another column.");
}

}  // namespace esg::adopt
