// The look at a guarded table's indexes, as the planner would take it. Runs in the caller's process with ACCESS SHARE
// on the table, its partitions and their indexes. See indexes.h.

#include "indexes.h"

#include "pg/spi.h"
#include "runs.h"

namespace esg {
namespace {

/// The condition that finds live runs, as the planner gets it, for one table: a List of clauses over varno 1.
List *live_clauses(const Guarded &g, Oid leaf) {
  const char *sql =
      psprintf("SELECT 1 FROM ONLY %s AS t WHERE %s",
               quote_qualified_identifier(get_namespace_name(get_rel_namespace(leaf)), get_rel_name(leaf)),
               status_condition(g, g.live, g.live_count));
  const MemoryContext context = CurrentMemoryContext;
  pg::spi_begin();
  const SPIPlanPtr plan = SPI_prepare(sql, 0, nullptr);
  if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
  const auto *source = static_cast<const CachedPlanSource *>(linitial(SPI_plan_get_plan_sources(plan)));
  const auto *query = static_cast<const Query *>(linitial(source->query_list));
  const MemoryContext inner = MemoryContextSwitchTo(context);
  auto *quals = static_cast<Node *>(copyObjectImpl(query->jointree->quals));
  MemoryContextSwitchTo(inner);
  pg::spi_end();
  quals = eval_const_expressions(nullptr, quals);
  return make_ands_implicit(canonicalize_qual(reinterpret_cast<Expr *>(quals), false));
}

bool only_null_tests(const List *predicate) {
  const ListCell *cell;
  foreach (cell, predicate)
    if (!IsA(lfirst(cell), NullTest)) return false;
  return true;
}

bool can_find(const Relation index) {
  const FormData_pg_index *form = index->rd_index;
  const Oid method = index->rd_rel->relam;
  return form->indisvalid && form->indisready && form->indislive && (method == BTREE_AM_OID || method == HASH_AM_OID);
}

/// Whether one of the table's indexes passes `fits`.
template <typename Fits>
bool has_index(const Relation table, const Fits &fits) {
  bool found = false;
  ListCell *cell;
  foreach (cell, RelationGetIndexList(table)) {
    const Relation index = index_open(lfirst_oid(cell), AccessShareLock);
    found = found || (can_find(index) && fits(index));
    index_close(index, AccessShareLock);
  }
  return found;
}

/// Which relations the planner would read to find live runs of a partitioned table: none that its bounds rule out.
List *read_for_live_runs(const Guarded &g) {
  const MemoryContext context = CurrentMemoryContext;
  List *read = NIL;
  pg::spi_begin();
  const char *sql = psprintf("SELECT 1 FROM %s WHERE %s", from_item(g), status_condition(g, g.live, g.live_count));
  const SPIPlanPtr plan = SPI_prepare(sql, 0, nullptr);
  if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
  CachedPlan *planned = SPI_plan_get_cached_plan(plan);
  const MemoryContext inner = MemoryContextSwitchTo(context);
  ListCell *cell;
  foreach (cell, linitial_node(PlannedStmt, planned->stmt_list)->rtable)
    read = lappend_oid(read, static_cast<const RangeTblEntry *>(lfirst(cell))->relid);
  MemoryContextSwitchTo(inner);
  ReleaseCachedPlan(planned, nullptr);  // of a plan that is not kept
  pg::spi_end();
  return read;
}

bool status_is_indexed(const Guarded &g, const Relation leaf) {
  const AttrNumber status = get_attnum(RelationGetRelid(leaf), g.status.name);
  List *clauses = live_clauses(g, RelationGetRelid(leaf));
  List *bounds = RelationGetPartitionQual(leaf);
  if (bounds != NIL && predicate_implied_by(clauses, bounds, false)) return true;
  return has_index(leaf, [leaf, status, clauses](const Relation index) {
    List *predicate = RelationGetIndexPredicate(index);
    if (predicate != NIL && !predicate_implied_by(predicate, clauses, false)) return false;
    return index_begins_with(index, leaf, status) || (predicate != NIL && !only_null_tests(predicate));
  });
}

bool start_is_indexed(const Guarded &g, const Relation leaf) {
  const AttrNumber start = get_attnum(RelationGetRelid(leaf), g.start.name);
  return has_index(leaf, [leaf, start](const Relation index) {
    return index->rd_rel->relam == BTREE_AM_OID && RelationGetIndexPredicate(index) == NIL &&
           index_begins_with(index, leaf, start);
  });
}

/// Looks at the table, or at each partition that has rows of its own.
template <typename Indexed>
Lacking look_at(const Guarded &g, const Indexed &indexed) {
  Lacking lacking;
  ListCell *cell;
  foreach (cell, g.partitioned ? find_all_inheritors(g.table, AccessShareLock, nullptr) : list_make1_oid(g.table)) {
    const Relation leaf = relation_open(lfirst_oid(cell), AccessShareLock);
    if (leaf->rd_rel->relkind == RELKIND_RELATION) {
      ++lacking.of;
      if (!indexed(leaf)) {
        lacking.names = lappend(
            lacking.names,
            quote_qualified_identifier(get_namespace_name(RelationGetNamespace(leaf)), RelationGetRelationName(leaf)));
        lacking.blocks += RelationGetNumberOfBlocks(leaf);
      }
    }
    relation_close(leaf, AccessShareLock);
  }
  return lacking;
}

/// An index on a partitioned table cannot be made concurrently.
char *create_index(const Guarded &g, const Column &column, const char *condition) {
  return psprintf("CREATE INDEX %sON %s (%s)%s;", g.partitioned ? "" : "CONCURRENTLY ", g.name,
                  quote_identifier(column.name), condition);
}

}  // namespace

bool index_begins_with(const Relation index, const Relation table, AttrNumber attno) {
  if (index->rd_index->indkey.values[0] != attno) return false;
  const Oid collation = TupleDescAttr(RelationGetDescr(table), attno - 1)->attcollation;
  return !OidIsValid(collation) || index->rd_indcollation[0] == collation;
}

Lacking lacking_status_index(const Guarded &g) {
  const List *read = g.partitioned ? read_for_live_runs(g) : NIL;
  return look_at(g, [&g, read](const Relation leaf) {
    return (g.partitioned && !list_member_oid(read, RelationGetRelid(leaf))) || status_is_indexed(g, leaf);
  });
}

Lacking lacking_start_index(const Guarded &g) {
  if (!g.start.exists()) return Lacking{};
  return look_at(g, [&g](const Relation leaf) { return start_is_indexed(g, leaf); });
}

char *wanted_status_index(const Guarded &g) {
  StringInfoData condition;
  initStringInfo(&condition);
  appendStringInfo(&condition, " WHERE %s %s", quote_identifier(g.status.name), g.live_count == 1 ? "= " : "IN (");
  for (int i = 0; i < g.live_count; ++i)
    appendStringInfo(&condition, "%s%s", i == 0 ? "" : ", ", quote_literal_cstr(g.live[i]));
  if (g.live_count > 1) appendStringInfoChar(&condition, ')');
  return create_index(g, g.start.exists() ? g.start : g.key, condition.data);
}

char *wanted_start_index(const Guarded &g) { return create_index(g, g.start, ""); }

}  // namespace esg
