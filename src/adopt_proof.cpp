// The proof that a table will take what a reaping writes. Runs in the caller's process at adoption, as the table's
// owner in a security-restricted operation; no row is touched, no trigger fires. See adopt.h and adopt_checks.h.
//
// The row is the one that a reaping would leave: failed status, and end, duration, error and time of change filled as
// it fills them; every other column is unknown. It is tried on the table and on each of its partitions.

#include "adopt.h"
#include "adopt_checks.h"

#include "closing.h"
#include "errors.h"
#include "pg/identity.h"
#include "pg/spi.h"

namespace esg::adopt {
namespace {

/// What a reaping writes, other than the status.
struct Written {
  Option role;
  const Column *column;
};

constexpr int kWrittenCount = 4;

void list_written(const Guarded &g, Written (&written)[kWrittenCount]) {
  written[0] = {kEndColumn, &g.end};
  written[1] = {kDurationColumn, &g.duration};
  written[2] = {kErrorColumn, &g.error};
  written[3] = {kUpdatedColumn, &g.updated};
}

/// The shortest run that would be reaped for its silence.
core::Micros shortest(const Guarded &g) { return g.limits.max_silence.value_or(core::kHour); }

const char *span_text(core::Micros span) {
  auto *text = static_cast<char *>(palloc(48));
  return core::describe_span(span, text, 48);
}

/// The error column's first entry, made as a reaping makes it.
char *error_text(const Guarded &g) {
  core::Judgement judgement;
  judgement.verdict = core::Verdict::kSilent;
  judgement.measured = judgement.limit = shortest(g);
  char words[160];
  core::describe(judgement, words, sizeof words);
  const char *message = psprintf("%s: %s", core::default_reason(std::nullopt), words);
  const char *current = psprintf("(NULL::%s)", pg::type_sql(g.error.type));
  const pg::Statement statement(
      psprintf("SELECT (%s)::pg_catalog.text",
               error_sql(g, current, psprintf("%s::pg_catalog.text", quote_literal_cstr(message)),
                         "pg_catalog.clock_timestamp()")));
  const MemoryContext context = CurrentMemoryContext;
  pg::spi_begin();
  char *value = pg::spi_run(statement, pg::Access::kRead) > 0 ? pg::spi_text(0, 1, context) : nullptr;
  pg::spi_end();
  return value;
}

/// The text of a written column's value; null where nothing is written.
char *value_text(const Guarded &g, Option role, const Column &column) {
  if (!column.writable) return nullptr;
  if (role == kDurationColumn) return duration_text(g, shortest(g));
  if (role == kErrorColumn) return error_text(g);
  // In ISO form, whatever the session's DateStyle; a naive column's input ignores the offset.
  const TimestampTz now = GetCurrentTimestamp();
  return iso_utc(column.type == TIMESTAMPOID ? to_naive(now, g.zone) : now);
}

[[noreturn]] void refuse(const Guarded &g, Option option, const char *detail) {
  ereport(ERROR, errcode(kBadOption), errmsg("table %s would refuse to have its dead runs closed", g.name),
          errdetail("%s", detail),
          option == kFailedStatus
              ? errhint("Name a status that the table accepts with failed_status, or change the constraint.")
              : errhint("Have %s name another column, or none (''), or change the constraint.", spec_of(option).name));
  pg_unreachable();
}

/// A duration that the column is too narrow for is left out.
void warn_of_width(const Guarded &g, Option role, const Column &column) {
  if (role != kDurationColumn || !column.writable || g.relid != g.table) return;
  ereport(
      WARNING, errmsg("column \"%s\" is too narrow for the duration of a closed run", column.name),
      errdetail(
          "Its type is %s, and a run is closed when it has been silent for %s at least: no duration will be written.",
          format_type_with_typemod(column.declared_type, column.typmod), span_text(shortest(g))),
      errhint("Make the column wider, or say with duration_column that the table has none."));
}

/// Which of the written columns the refusal is about: without it the row would pass. The status where it is none of
/// them.
Option culprit(const Written (&written)[kWrittenCount], KnownRow row) {
  Refusal refusal;
  for (const Written &item : written) {
    if (!item.column->exists() || !row.known[item.column->attno - 1]) continue;
    const Datum value = row.values[item.column->attno - 1];
    forget(&row, *item.column);
    const bool passes = !refused(row, &refusal);
    know(&row, *item.column, value);
    if (passes) return item.role;
  }
  return kFailedStatus;
}

/// Tries the row on the relation that `g` was resolved for.
void prove_on(const Guarded &g, Relation relation) {
  const char *place = g.relid == g.table ? "" : psprintf(" of partition \"%s\"", RelationGetRelationName(relation));
  KnownRow row = unknown_row(relation);
  Refusal refusal;
  Datum value = 0;
  if (!make_value(g.status, g.failed, &value, &refusal))
    refuse(g, kFailedStatus,
           psprintf("Column \"%s\" cannot hold \"%s\": %s.", g.status.name, g.failed, refusal.message));
  know(&row, g.status, value);
  if (refused(row, &refusal))
    refuse(g, kFailedStatus,
           psprintf("Constraint \"%s\"%s refuses the status \"%s\": %s.", refusal.constraint, place, g.failed,
                    refusal.message));
  Written written[kWrittenCount];
  list_written(g, written);
  for (const Written &item : written) {
    if (!item.column->exists()) continue;
    const char *text = value_text(g, item.role, *item.column);
    if (text == nullptr) {
      warn_of_width(g, item.role, *item.column);
      continue;
    }
    if (!make_value(*item.column, text, &value, &refusal))
      refuse(g, item.role,
             psprintf("Column \"%s\"%s cannot hold \"%s\": %s.", item.column->name, place, text, refusal.message));
    know(&row, *item.column, value);
  }
  if (refused(row, &refusal))
    refuse(g, culprit(written, row),
           psprintf("Constraint \"%s\"%s refuses a run that is closed as \"%s\": %s.", refusal.constraint, place,
                    g.failed, refusal.message));
}

PartitionBoundSpec *bound_of(Oid partition) {
  HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(partition));
  if (!HeapTupleIsValid(tuple)) elog(ERROR, "cache lookup failed for relation %u", partition);
  bool is_null;
  const Datum bound = SysCacheGetAttr(RELOID, tuple, Anum_pg_class_relpartbound, &is_null);
  auto *spec = is_null ? nullptr : static_cast<PartitionBoundSpec *>(stringToNode(TextDatumGetCString(bound)));
  ReleaseSysCache(tuple);
  return spec;
}

/// Where a level of partitions is divided by the status alone, one of them must take the failed one.
void prove_partition_on(const Guarded &g, Relation relation) {
  const PartitionKey key = RelationGetPartitionKey(relation);
  if (get_partition_natts(key) != 1 || get_partition_col_attnum(key, 0) != g.status.attno) return;
  KnownRow row = unknown_row(relation);
  Refusal refusal;
  Datum value = 0;
  if (!make_value(g.status, g.failed, &value, &refusal)) return;
  know(&row, g.status, value);
  const PartitionDesc partitions = RelationGetPartitionDesc(relation, true);
  for (int i = 0; i < partitions->nparts; ++i) {
    PartitionBoundSpec *spec = bound_of(partitions->oids[i]);
    if (spec == nullptr) continue;
    const List *condition = get_qual_from_partbound(relation, spec);
    if (condition == NIL ||
        !surely_false(row, reinterpret_cast<Node *>(make_ands_explicit(const_cast<List *>(condition)))))
      return;
  }
  refuse(g, kFailedStatus,
         psprintf("Table \"%s\" is partitioned by status, and no partition takes \"%s\".",
                  RelationGetRelationName(relation), g.failed));
}

}  // namespace

void prove_closing(const Guarded &g) {
  const pg::Identity identity = look_as(g.owner);
  ListCell *cell;
  foreach (cell, find_all_inheritors(g.table, AccessShareLock, nullptr)) {
    // Column numbers differ from partition to partition.
    const Guarded *here = guarded(lfirst_oid(cell));
    if (here == nullptr || here->table != g.table) continue;
    Relation relation = relation_open(lfirst_oid(cell), AccessShareLock);
    prove_on(*here, relation);
    if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE) prove_partition_on(*here, relation);
    relation_close(relation, AccessShareLock);
  }
  pg::restore(identity);
}

}  // namespace esg::adopt
