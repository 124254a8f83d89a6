// guard_table(): the call that adopts a table or changes its settings. Runs in the owner's process. Locks, in this
// order: ACCESS SHARE on the table, the settings row, and last SHARE ROW EXCLUSIVE on the table and its partitions
// where triggers must be made; the first and the last in short tries (table_lock.h). See adopt.h for the stages.

#include "adopt.h"

#include "fault.h"
#include "guarding.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "setup.h"

namespace esg::adopt {
namespace {

constexpr const char *kName = "guard_table()";
constexpr int kLockTimeoutArgument = 1 + kOptionCount;

const char *qualified_name(Relation relation) {
  return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(relation)),
                                    RelationGetRelationName(relation));
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

void guard(FunctionCallInfo fcinfo, Oid table, const Patience &patience) {
  lock_table(table, AccessShareLock, patience);
  // Its owner stays who he is from here on.
  (void)owned_relation(fcinfo, kName);
  Relation relation = relation_open(table, NoLock);
  require_guardable(relation);
  const Subject subject = subject_of(relation);
  Choice choice;
  read_request(fcinfo, subject, &choice);
  // Reading an index or a partition key runs functions in it that have no variable arguments.
  const pg::Identity identity = look_as(subject.owner);
  check_columns(subject, choice);
  find_columns(subject, &choice);
  find_statuses(subject, &choice);
  find_scope(subject, &choice);
  find_summary(subject, &choice);
  check_choice(subject, choice);
  pg::restore(identity);
  store_choice(subject, choice);
  ESG_FAULT_POINT("adopt.settings_stored");
  const Guarded &g = guarded_or_error(table);
  prove_closing(g);
  ESG_FAULT_POINT("adopt.proved");
  report(g, choice);
  (void)make_triggers(g, false, patience);
  ESG_FAULT_POINT("adopt.triggers_made");
  warn_of_trigger_problems(g);
  report_done(g, choice.adopted);
  relation_close(relation, NoLock);
}

}  // namespace
}  // namespace esg::adopt

ESG_SQL_FUNCTION(guard_table);

static Datum esg::guard_table(FunctionCallInfo fcinfo) {
  const Oid table = owned_relation(fcinfo, adopt::kName);
  const Patience patience = patience_argument(fcinfo, adopt::kLockTimeoutArgument);
  const int level = limit_row_locks(patience.total);
  adopt::guard(fcinfo, table, patience);
  AtEOXact_GUC(false, level);
  PG_RETURN_VOID();
}
