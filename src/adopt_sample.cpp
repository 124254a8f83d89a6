// Looking at a bounded number of a table's newest rows. Builds SQL only; see adopt.h.

#include "adopt.h"

namespace esg::adopt {
namespace {

/// How far from the table's end rows are looked at where no index leads to the newest ones.
constexpr BlockNumber kLastBlocks = 100;

}  // namespace

bool index_begins_with(Relation relation, AttrNumber attno) {
  bool found = false;
  ListCell *cell;
  foreach (cell, RelationGetIndexList(relation)) {
    Relation index = index_open(lfirst_oid(cell), AccessShareLock);
    found = found || (index->rd_index->indisvalid && index->rd_index->indkey.values[0] == attno &&
                      index->rd_rel->relam == BTREE_AM_OID && RelationGetIndexPredicate(index) == NIL);
    index_close(index, AccessShareLock);
  }
  return found;
}

char *newest_rows_sql(Relation relation, const char *start, bool with_start) {
  if (start != nullptr && index_begins_with(relation, get_attnum(RelationGetRelid(relation), start))) {
    const char *column = psprintf("t.%s", quote_identifier(start));
    return psprintf("%s%s ORDER BY %s DESC LIMIT %d", with_start ? "WHERE " : "",
                    with_start ? psprintf("%s OPERATOR(pg_catalog.<) 'infinity'", column) : "", column, kSampleRows);
  }
  if (relation->rd_rel->relkind != RELKIND_RELATION) return psprintf("LIMIT %d", kSampleRows);
  const BlockNumber blocks = RelationGetNumberOfBlocks(relation);
  return psprintf("WHERE t.ctid OPERATOR(pg_catalog.>=) '(%u,0)'::pg_catalog.tid LIMIT %d",
                  blocks > kLastBlocks ? blocks - kLastBlocks : 0, kSampleRows);
}

}  // namespace esg::adopt
