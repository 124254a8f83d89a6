// Taking a table's lock in short tries. Runs in the caller's process at adoption, release and repair. See table_lock.h.

#include "table_lock.h"

#include "errors.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "settings.h"

namespace esg {
namespace {

/// How long one try may stand in the queue, for all its locks together.
constexpr int64 kTryMilliseconds = 100;
/// How long the queue is left alone between two tries.
constexpr long kAirMilliseconds = 200;
/// After this time in the queue the server looks for a deadlock, and cancels an autovacuum that is in the way.
constexpr const char *kDeadlockTimeout = "40ms";
/// At most this many are named in the error.
constexpr int kMaxBlockers = 5;

void set_local(const char *name, const char *value) {
  (void)set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

void lock_before(Oid relation, LOCKMODE mode, TimestampTz deadline) {
  const int64 left = (deadline - GetCurrentTimestamp()) / 1000;
  set_local("lock_timeout", psprintf(INT64_FORMAT "ms", Max(left, 1)));
  LockRelationOid(relation, mode);
}

/// One try. Partitions are looked up under the table's lock, which keeps their list as it is.
void try_once(Oid table, LOCKMODE mode) {
  const int level = NewGUCNestLevel();
  set_local("deadlock_timeout", kDeadlockTimeout);
  const TimestampTz deadline = GetCurrentTimestamp() + kTryMilliseconds * 1000;
  lock_before(table, mode, deadline);
  if (get_rel_relkind(table) == RELKIND_PARTITIONED_TABLE) {
    ListCell *cell;
    foreach (cell, find_all_inheritors(table, NoLock, nullptr))
      if (lfirst_oid(cell) != table) lock_before(lfirst_oid(cell), mode, deadline);
  }
  AtEOXact_GUC(false, level);
}

/// What a session in the way is doing, as far as the caller may see it.
void append_session(StringInfo text, int pid) {
  pg::Statement statement(
      "SELECT usename::pg_catalog.text, state, query_start::pg_catalog.text, xact_start::pg_catalog.text, backend_type"
      " FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) $1");
  statement.add(INT4OID, Int32GetDatum(pid));
  const MemoryContext context = CurrentMemoryContext;
  pgstat_clear_snapshot();
  pg::spi_begin();
  appendStringInfo(text, "process %d", pid);
  if (pg::spi_run(statement, pg::Access::kRead) > 0) {
    const char *user = pg::spi_text(0, 1, context);
    const char *state = pg::spi_text(0, 2, context);
    const char *query_start = pg::spi_text(0, 3, context);
    const char *xact_start = pg::spi_text(0, 4, context);
    const char *type = pg::spi_text(0, 5, context);
    if (user != nullptr) appendStringInfo(text, ", user \"%s\"", user);
    else if (type != nullptr) appendStringInfo(text, ", %s", type);
    if (state != nullptr) appendStringInfo(text, ", %s", state);
    if (query_start != nullptr) appendStringInfo(text, ", last query began at %s", query_start);
    if (xact_start != nullptr) appendStringInfo(text, ", transaction began at %s", xact_start);
  }
  pg::spi_end();
}

/// A transaction without a process: prepared and not finished, unless it has ended just now.
void append_prepared(StringInfo text, const VirtualTransactionId &vxid) {
  bool more;
  const TransactionId xid = VirtualTransactionIdIsValid(vxid) ? TwoPhaseGetXidByVirtualXID(vxid, &more)
                                                              : static_cast<TransactionId>(vxid.localTransactionId);
  pg::Statement statement("SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE transaction OPERATOR(pg_catalog.=) $1");
  statement.add(XIDOID, TransactionIdGetDatum(xid));
  pg::spi_begin();
  const char *name = pg::spi_run(statement, pg::Access::kRead) > 0 ? pg::spi_text(0, 1, CurrentMemoryContext) : nullptr;
  if (name != nullptr) appendStringInfo(text, "prepared transaction \"%s\"", name);
  else appendStringInfoString(text, "a transaction that has just ended");
  pg::spi_end();
}

/// Whether the transaction is among those seen, as it is from now on: one may be in the way on many partitions.
bool seen_before(List **seen, const VirtualTransactionId *vxid) {
  ListCell *cell;
  foreach (cell, *seen)
    if (VirtualTransactionIdEquals(*static_cast<const VirtualTransactionId *>(lfirst(cell)), *vxid)) return true;
  *seen = lappend(*seen, const_cast<VirtualTransactionId *>(vxid));
  return false;
}

/// Transactions that hold a lock in the way of `mode` now, each once, for people; null where there is none. `pids` gets the
/// processes, as a list of SQL arguments.
char *describe_blockers(Oid table, LOCKMODE mode, StringInfo pids) {
  StringInfoData text;
  initStringInfo(&text);
  int named = 0;
  int more = 0;
  List *seen = NIL;
  ListCell *cell;
  foreach (cell, find_all_inheritors(table, NoLock, nullptr)) {
    LOCKTAG tag;
    SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(cell));
    int count = 0;
    const VirtualTransactionId *conflicts = GetLockConflicts(&tag, mode, &count);
    for (int i = 0; i < count; ++i) {
      if (seen_before(&seen, &conflicts[i])) continue;
      if (named == kMaxBlockers) {
        ++more;
        continue;
      }
      ++named;
      if (text.len > 0) appendStringInfoString(&text, "; ");
      const PGPROC *process = pg::process_of_compat(conflicts[i]);
      if (process == nullptr) {
        append_prepared(&text, conflicts[i]);
      } else {
        append_session(&text, process->pid);
        appendStringInfo(pids, "%s%d", pids->len > 0 ? ", " : "", process->pid);
      }
      if (lfirst_oid(cell) != table) appendStringInfo(&text, " (on partition %s)", qualified_name(lfirst_oid(cell)));
    }
  }
  if (more > 0) appendStringInfo(&text, "; and %d more", more);
  return named > 0 ? text.data : nullptr;
}

void give_up(Oid table, LOCKMODE mode, const Patience &patience, const char *blockers, const char *pids) {
  char span[48];
  core::describe_span(patience.total, span, sizeof span);
  ereport(
      ERROR, errcode(kLockNotAvailable), errmsg("could not lock table %s within %s", qualified_name(table), span),
      errdetail("In the way of %s: %s.", GetLockmodeName(DEFAULT_LOCKMETHOD, mode),
                blockers == nullptr ? "transactions that came and went" : blockers),
      pids[0] != '\0'
          ? errhint("Wait until they have ended, or end them with pg_terminate_backend(pid), pid being %s; then call "
                    "again. The argument lock_timeout makes it wait longer. Nothing was changed.",
                    pids)
          : errhint("Prepared transactions are ended with COMMIT PREPARED or ROLLBACK PREPARED. The argument "
                    "lock_timeout makes it wait longer. Nothing was changed."));
}

/// Leaves the queue alone for a while.
void give_air() {
  (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, kAirMilliseconds, PG_WAIT_EXTENSION);
  ResetLatch(MyLatch);
  CHECK_FOR_INTERRUPTS();
}

}  // namespace

void lock_table(Oid table, LOCKMODE mode, const Patience &patience) {
  char *blockers = nullptr;
  StringInfoData pids;
  initStringInfo(&pids);
  for (;;) {
    ErrorData *error = pg::try_in_subtransaction([table, mode] { try_once(table, mode); });
    if (error == nullptr) return;
    if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE && error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
      ReThrowError(error);
    const bool over = GetCurrentTimestamp() - patience.begun + kAirMilliseconds * 1000 > patience.total;
    // Named are those of the last try; whoever holds the lock between two tries may be gone at the end.
    StringInfoData now;
    initStringInfo(&now);
    char *found = describe_blockers(table, mode, &now);
    if (found != nullptr) {
      blockers = found;
      pids = now;
    }
    if (over) give_up(table, mode, patience, blockers, pids.data);
    give_air();
  }
}

}  // namespace esg
