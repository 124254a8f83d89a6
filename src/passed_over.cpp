// See passed_over.h. Waits for no lock. Reads without a query and past every snapshot: what has just been committed counts, and a
// SERIALIZABLE transaction is drawn into no conflict by it. Writes as the extension's owner, in a subtransaction: what the
// application does is not to fail for it.

#include "passed_over.h"

#include "fault.h"
#include "pg/boundary.h"
#include "pg/extension_tables.h"
#include "pg/spi.h"

namespace esg {
namespace {

constexpr const char *kTable = "passed_over";

/// Calls `visit(key, at)` for each row of the table's runs, until it returns false.
template <typename Visit>
void each_mark(const Guarded &g, const Visit &visit) {
  const Oid id = pg::lock_extension_table_at_once(kTable, AccessShareLock);
  if (!OidIsValid(id)) return;
  Relation marks = relation_open(id, NoLock);
  const Oid index = get_relname_relid("passed_over_relation", RelationGetNamespace(marks));
  // Who reindexes has the index for himself; the table is small.
  const bool by_index = OidIsValid(index) && ConditionalLockRelationOid(index, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(g.table));
  SysScanDesc scan = systable_beginscan(marks, index, by_index, SnapshotSelf, 1, &key);
  const TupleDesc desc = RelationGetDescr(marks);
  bool is_null;
  for (HeapTuple row; HeapTupleIsValid(row = systable_getnext(scan));) {
    const char *run_key = TextDatumGetCString(heap_getattr(row, 2, desc, &is_null));
    if (!visit(run_key, DatumGetTimestampTz(heap_getattr(row, 3, desc, &is_null)))) break;
  }
  systable_endscan(scan);
  relation_close(marks, NoLock);
}

/// WARNING where it cannot be done.
void write_marks(const Guarded &g, const pg::Statement &statement) {
  if (!OidIsValid(pg::lock_extension_table_at_once(kTable))) {
    ereport(WARNING, errcode(ERRCODE_LOCK_NOT_AVAILABLE),
            errmsg("could not note which dead runs of table %s were passed over: table sync_guard.passed_over is "
                   "locked or changed",
                   pg::sendable(g.name)),
            errdetail("What memory knows of it holds until the server is started anew."));
    return;
  }
  const ErrorData *error = pg::try_in_subtransaction([&] { (void)pg::spi_execute_as_guard(statement); });
  if (error == nullptr) return;
  ereport(WARNING, errcode(error->sqlerrcode),
          errmsg("could not note which dead runs of table %s were passed over: %s", pg::sendable(g.name),
                 pg::sendable(error->message)),
          errdetail("What memory knows of it holds until the server is started anew."));
}

/// Deletes the rows of a table that nobody has locked and that `condition` names, on p, whose parameters begin with $2.
pg::Statement forgetting_statement(const Guarded &g, const char *condition) {
  pg::Statement statement(
      psprintf("DELETE FROM sync_guard.passed_over AS d WHERE d.ctid OPERATOR(pg_catalog.=) ANY (ARRAY("
               "SELECT p.ctid FROM sync_guard.passed_over AS p WHERE p.relation OPERATOR(pg_catalog.=) $1 AND %s"
               " FOR UPDATE OF p SKIP LOCKED))",
               condition));
  statement.add_oid(g.table);
  return statement;
}

/// Whether only a row can tell that the run was passed over.
bool is_unknown(const Guarded &g, const Run &run) {
  if (run.uncommitted || !g.excludes(run.status)) return false;
  return run.memory == nullptr || !run.memory->scope_known;
}

int by_key(const void *a, const void *b) {
  return strcmp((*static_cast<Run *const *>(a))->key, (*static_cast<Run *const *>(b))->key);
}

int compare_key(const void *key, const void *run) {
  return strcmp(static_cast<const char *>(key), (*static_cast<Run *const *>(run))->key);
}

int by_text(const void *a, const void *b) {
  return strcmp(*static_cast<const char *const *>(a), *static_cast<const char *const *>(b));
}

/// Those of the keys that are not noted yet, as text[]; 0: none.
Datum not_noted(const Guarded &g, const char *const *keys, int count) {
  auto **sorted = static_cast<const char **>(palloc(sizeof(char *) * count));
  memcpy(sorted, keys, sizeof(char *) * count);
  qsort(sorted, count, sizeof(char *), by_text);
  auto *noted = static_cast<bool *>(palloc0(sizeof(bool) * count));
  each_mark(g, [&](const char *key, core::Micros) {
    const void *found = bsearch(&key, sorted, count, sizeof(char *), by_text);
    if (found != nullptr) noted[static_cast<const char *const *>(found) - sorted] = true;
    return true;
  });
  int left = 0;
  for (int i = 0; i < count; ++i)
    if (!noted[i]) sorted[left++] = sorted[i];
  return left == 0 ? Datum(0) : pg::text_array(sorted, left);
}

}  // namespace

bool is_noted_as_passed_over(const Guarded &g, const char *key) {
  bool found = false;
  each_mark(g, [key, &found](const char *run_key, core::Micros) {
    found = strcmp(run_key, key) == 0;
    return !found;
  });
  return found;
}

void note_passed_over(const Guarded &g, const char *const *keys, int count) {
  if (count == 0 || !pg::has_extension_table(kTable)) return;
  pg::Statement insert(
      "INSERT INTO sync_guard.passed_over (relation, run_key, passed_over_at)"
      " SELECT $1, k.key, $3 FROM pg_catalog.unnest($2) AS k (key)");
  const Datum fresh = not_noted(g, keys, count);
  if (fresh == 0) return;
  insert.add_oid(g.table).add(TEXTARRAYOID, fresh).add(TIMESTAMPTZOID, TimestampTzGetDatum(GetCurrentTimestamp()));
  write_marks(g, insert);
  ESG_FAULT_POINT("passed_over.noted");
}

void forget_passed_over(const Guarded &g, const char *key) {
  if (!is_noted_as_passed_over(g, key)) return;
  pg::Statement statement = forgetting_statement(g, "p.run_key OPERATOR(pg_catalog.=) $2");
  statement.add_text(key);
  write_marks(g, statement);
}

void settle_passed_over(const Guarded &g, const Runs &live, core::Micros looked_at) {
  bool any = false;
  each_mark(g, [&any](const char *, core::Micros) {
    any = true;
    return false;
  });
  if (!any) return;
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * Max(live.count, 1)));
  int count = 0;
  for (int i = 0; i < live.count && g.exclusive; ++i) keys[count++] = live.items[i].key;
  pg::Statement statement = forgetting_statement(
      g, "p.run_key OPERATOR(pg_catalog.<>) ALL ($2) AND p.passed_over_at OPERATOR(pg_catalog.<) $3");
  statement.add(TEXTARRAYOID, pg::text_array(keys, count)).add(TIMESTAMPTZOID, TimestampTzGetDatum(looked_at));
  write_marks(g, statement);
}

bool is_passed_over(const Guarded &g, const Run &run) {
  return run.evidence.passed_over.has_value() || (is_unknown(g, run) && is_noted_as_passed_over(g, run.key));
}

void look_for_passing_over(const Guarded &g, const core::Question &question, Run *runs, int count) {
  auto **unknown = static_cast<Run **>(palloc(sizeof(Run *) * Max(count, 1)));
  int wanted = 0;
  for (int i = 0; i < count; ++i)
    // Of the dead nothing would change.
    if (!runs[i].judgement.dead() && is_unknown(g, runs[i])) unknown[wanted++] = &runs[i];
  if (wanted == 0) return;
  qsort(unknown, wanted, sizeof(Run *), by_key);
  each_mark(g, [&](const char *key, core::Micros at) {
    const void *found = bsearch(key, unknown, wanted, sizeof(Run *), compare_key);
    if (found == nullptr) return true;
    Run *run = *static_cast<Run *const *>(found);
    run->evidence.passed_over = at;
    run->judgement = core::judge(run->evidence, run->limits, question);
    return true;
  });
}

}  // namespace esg
