// See passed_over.h. Reads and writes as the extension's owner, with the latest snapshot; takes row locks with SKIP LOCKED and waits
// for none. A row is written where a dead run is passed over, which is seldom, and looked for only where memory does not tell.

#include "passed_over.h"

#include "fault.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "pg/spi.h"

namespace esg {
namespace {

bool has_table() { return pg::has_extension_table("passed_over"); }

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

struct Mark {
  const char *key;
  core::Micros at;
};

struct Marks {
  Mark *items = nullptr;
  int count = 0;

  [[nodiscard]] const Mark *find(const char *key) const {
    for (int i = 0; i < count; ++i)
      if (strcmp(items[i].key, key) == 0) return &items[i];
    return nullptr;
  }
};

/// What is noted of these runs (text[]).
Marks marks_of(const Guarded &g, Datum keys) {
  pg::Statement query(
      "SELECT p.run_key, p.passed_over_at FROM sync_guard.passed_over AS p"
      " WHERE p.relation OPERATOR(pg_catalog.=) $1 AND p.run_key OPERATOR(pg_catalog.=) ANY ($2)");
  query.add_oid(g.table).add(TEXTARRAYOID, keys);
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  Marks marks;
  marks.count = static_cast<int>(pg::spi_run(query, pg::Access::kRead));
  marks.items = static_cast<Mark *>(MemoryContextAlloc(context, sizeof(Mark) * Max(marks.count, 1)));
  for (int i = 0; i < marks.count; ++i) {
    bool is_null;
    marks.items[i] = {pg::spi_text(i, 1, context), DatumGetTimestampTz(pg::spi_datum(i, 2, &is_null))};
  }
  pg::spi_end();
  pg::restore(before);
  return marks;
}

/// Whether anything is noted of the table's runs.
bool has_marks(const Guarded &g) {
  pg::Statement query("SELECT FROM sync_guard.passed_over AS p WHERE p.relation OPERATOR(pg_catalog.=) $1 LIMIT 1");
  query.add_oid(g.table);
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const bool found = pg::spi_run(query, pg::Access::kRead) > 0;
  pg::spi_end();
  pg::restore(before);
  return found;
}

/// Whether only a row can tell that the run was passed over, and it would matter.
bool is_to_be_looked_for(const Guarded &g, const Run &run) {
  if (run.uncommitted || run.judgement.dead() || !g.excludes(run.status)) return false;
  return run.memory == nullptr || !run.memory->scope_known;
}

}  // namespace

void note_passed_over(const Guarded &g, const char *const *keys, int count) {
  if (count == 0 || XactReadOnly || !has_table()) return;
  pg::Statement insert(
      "INSERT INTO sync_guard.passed_over (relation, run_key, passed_over_at)"
      " SELECT $1, k.key, $3 FROM pg_catalog.unnest($2) AS k (key)"
      " WHERE NOT EXISTS (SELECT FROM sync_guard.passed_over AS p"
      " WHERE p.relation OPERATOR(pg_catalog.=) $1 AND p.run_key OPERATOR(pg_catalog.=) k.key)");
  insert.add_oid(g.table)
      .add(TEXTARRAYOID, pg::text_array(keys, count))
      .add(TIMESTAMPTZOID, TimestampTzGetDatum(GetCurrentTimestamp()));
  const ErrorData *error = pg::try_in_subtransaction([&] { (void)pg::spi_execute_as_guard(insert); });
  ESG_FAULT_POINT("passed_over.noted");
  if (error == nullptr) return;
  ereport(WARNING, errcode(error->sqlerrcode),
          errmsg("could not note which dead runs of table %s were passed over: %s", g.name, error->message),
          errdetail("They count as dead until the server is started anew; then for its restart_grace they may not."));
}

void forget_passed_over(const Guarded &g, const char *key) {
  if (XactReadOnly || !has_table()) return;
  pg::Statement statement = forgetting_statement(g, "p.run_key OPERATOR(pg_catalog.=) $2");
  statement.add_text(key);
  (void)pg::spi_execute_as_guard(statement);
}

void settle_passed_over(const Guarded &g, const Runs &live) {
  if (!has_table() || !has_marks(g)) return;
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * Max(live.count, 1)));
  int count = 0;
  for (int i = 0; i < live.count && g.exclusive; ++i) keys[count++] = live.items[i].key;
  pg::Statement statement = forgetting_statement(g, "p.run_key OPERATOR(pg_catalog.<>) ALL ($2)");
  statement.add(TEXTARRAYOID, pg::text_array(keys, count));
  (void)pg::spi_execute_as_guard(statement);
}

void look_for_passing_over(const Guarded &g, const core::Question &question, Run *runs, int count) {
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * Max(count, 1)));
  int wanted = 0;
  for (int i = 0; i < count; ++i)
    if (is_to_be_looked_for(g, runs[i])) keys[wanted++] = runs[i].key;
  if (wanted == 0 || !has_table()) return;
  const Marks marks = marks_of(g, pg::text_array(keys, wanted));
  for (int i = 0; i < count && marks.count > 0; ++i) {
    Run *run = &runs[i];
    if (!is_to_be_looked_for(g, *run)) continue;
    const Mark *mark = marks.find(run->key);
    // A key may come again, where its table was truncated: a run that has started since is another one.
    if (mark == nullptr || (run->started && *run->started > mark->at)) continue;
    run->evidence.passed_over = mark->at;
    run->judgement = core::judge(run->evidence, run->limits, question);
  }
}

}  // namespace esg
