// guard_table(): the call that adopts a table or changes its settings. Runs in the owner's process. Locks, in this order:
// ACCESS SHARE on the table, the settings row, and last SHARE ROW EXCLUSIVE on the table and its partitions where triggers
// must be made; the first and the last in short tries (table_lock.h). See adopt.h for the stages.

#include "adopt.h"

#include "guarding.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "setup.h"
#include "table_lock.h"

namespace esg::adopt {
namespace {

constexpr int kLockTimeoutArgument = 1 + kOptionCount;

const char *qualified_name(Relation relation) {
  return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)), RelationGetRelationName(relation));
}

Subject subject_of(Relation relation) {
  Subject subject;
  subject.relation = relation;
  subject.table = RelationGetRelid(relation);
  subject.owner = relation->rd_rel->relowner;
  subject.name = qualified_name(relation);
  subject.partitioned = relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
  return subject;
}

void guard(FunctionCallInfo fcinfo, Oid table, core::Micros patience) {
  const TimestampTz deadline = GetCurrentTimestamp() + patience;
  lock_table(table, AccessShareLock, patience);
  Relation relation = relation_open(table, NoLock);
  require_guardable(relation);
  const Subject subject = subject_of(relation);
  Choice choice;
  read_request(fcinfo, subject, &choice);
  // Reading an index or a partition key runs functions in it that have no variable arguments.
  const pg::Identity identity = pg::become(subject.owner, SECURITY_RESTRICTED_OPERATION);
  check_columns(subject, choice);
  find_columns(subject, &choice);
  find_statuses(subject, &choice);
  find_scope(subject, &choice);
  find_summary(subject, &choice);
  check_choice(subject, choice);
  pg::restore(identity);
  store_choice(subject, choice);
  const Guarded &g = guarded_or_error(table);
  prove_closing(g);
  report(g, choice.adopted);
  (void)make_triggers(g, false, Max(deadline - GetCurrentTimestamp(), 0));
  warn_of_trigger_problems(g);
  relation_close(relation, NoLock);
}

}  // namespace
}  // namespace esg::adopt

ESG_SQL_FUNCTION(guard_table);

static Datum esg::guard_table(FunctionCallInfo fcinfo) {
  const Oid table = owned_relation(fcinfo, "guard_table()");
  const core::Micros patience = patience_argument(fcinfo, adopt::kLockTimeoutArgument);
  const int level = limit_row_locks(patience);
  adopt::guard(fcinfo, table, patience);
  AtEOXact_GUC(false, level);
  PG_RETURN_VOID();
}
