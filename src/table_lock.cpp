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

/// Transactions that hold a lock in the way, each once: sessions, and prepared transactions, which have no process.
struct Blockers {
  List *pids = NIL;
  List *held_by_pids = NIL;  ///< for each, the table or the partition that it holds
  List *prepared = NIL;      ///< transaction ids
  List *held_by_prepared = NIL;

  [[nodiscard]] int count() const { return list_length(pids) + list_length(prepared); }
};

/// Whether the transaction is among those seen, as it is from now on: one may be in the way on many partitions.
bool seen_before(List **seen, const VirtualTransactionId *vxid) {
  ListCell *cell;
  foreach (cell, *seen)
    if (VirtualTransactionIdEquals(*static_cast<const VirtualTransactionId *>(lfirst(cell)), *vxid)) return true;
  *seen = lappend(*seen, const_cast<VirtualTransactionId *>(vxid));
  return false;
}

/// The transaction of one who has no process; invalid where it has ended just now.
TransactionId prepared_transaction(const VirtualTransactionId &vxid) {
  bool more;
  return VirtualTransactionIdIsValid(vxid) ? TwoPhaseGetXidByVirtualXID(vxid, &more)
                                           : static_cast<TransactionId>(vxid.localTransactionId);
}

Blockers find_blockers(Oid table, LOCKMODE mode) {
  Blockers blockers;
  List *seen = NIL;
  ListCell *cell;
  foreach (cell, find_all_inheritors(table, NoLock, nullptr)) {
    LOCKTAG tag;
    SET_LOCKTAG_RELATION(tag, MyDatabaseId, lfirst_oid(cell));
    int count = 0;
    const VirtualTransactionId *conflicts = GetLockConflicts(&tag, mode, &count);
    for (int i = 0; i < count; ++i) {
      if (seen_before(&seen, &conflicts[i])) continue;
      if (const PGPROC *process = pg::process_of_compat(conflicts[i]); process != nullptr) {
        blockers.pids = lappend_oid(blockers.pids, static_cast<Oid>(process->pid));
        blockers.held_by_pids = lappend_oid(blockers.held_by_pids, lfirst_oid(cell));
      } else if (const TransactionId xid = prepared_transaction(conflicts[i]); TransactionIdIsValid(xid)) {
        blockers.prepared = lappend_oid(blockers.prepared, xid);
        blockers.held_by_prepared = lappend_oid(blockers.held_by_prepared, lfirst_oid(cell));
      }
    }
  }
  return blockers;
}

/// The rows of `sql` for those of `numbers`, an array of `type` as $1, at most `limit` of them, between spi_begin and spi_end.
uint64 look_up(const char *sql, const List *numbers, Oid type, Oid array_type, int limit) {
  auto *values = static_cast<Datum *>(palloc(sizeof(Datum) * Max(list_length(numbers), 1)));
  int count = 0;
  ListCell *cell;
  foreach (cell, numbers) values[count++] = ObjectIdGetDatum(lfirst_oid(cell));
  pg::Statement statement(sql);
  statement.add(array_type, PointerGetDatum(construct_array(values, count, type, sizeof(Oid), true, TYPALIGN_INT)))
      .add(INT4OID, Int32GetDatum(limit));
  return pg::spi_run(statement, pg::Access::kRead);
}

/// Which relation the one with this number holds, where that is a partition of the table.
void append_partition(StringInfo text, Oid number, const List *numbers, const List *relations, Oid table) {
  for (int i = 0; i < list_length(numbers); ++i)
    if (list_nth_oid(numbers, i) == number && list_nth_oid(relations, i) != table)
      appendStringInfo(text, " (on partition %s)", qualified_name(list_nth_oid(relations, i)));
}

/// Prepared transactions in the way, the oldest first, as many as may be named. Returns how many were.
int append_prepared(StringInfo text, const Blockers &blockers, Oid table) {
  const MemoryContext context = CurrentMemoryContext;
  pg::spi_begin();
  const auto named = static_cast<int>(look_up(
      "SELECT gid, transaction FROM pg_catalog.pg_prepared_xacts WHERE transaction OPERATOR(pg_catalog.=) ANY ($1)"
      " ORDER BY prepared, gid LIMIT $2",
      blockers.prepared, XIDOID, XIDARRAYOID, kMaxBlockers));
  for (int row = 0; row < named; ++row) {
    bool is_null;
    if (text->len > 0) appendStringInfoString(text, "; ");
    appendStringInfo(text, "prepared transaction \"%s\"", pg::spi_text(row, 1, context));
    append_partition(text, DatumGetTransactionId(pg::spi_datum(row, 2, &is_null)), blockers.prepared,
                     blockers.held_by_prepared, table);
  }
  pg::spi_end();
  return named;
}

/// Sessions in the way and what they do, the longest transaction first, as far as the caller may see it; `pids` gets their
/// processes, as a list of SQL arguments. Returns how many were named.
int append_sessions(StringInfo text, StringInfo pids, const Blockers &blockers, Oid table, int limit) {
  const MemoryContext context = CurrentMemoryContext;
  pgstat_clear_snapshot();
  pg::spi_begin();
  const auto named = static_cast<int>(look_up(
      "SELECT usename::pg_catalog.text, state, query_start::pg_catalog.text, xact_start::pg_catalog.text, "
      "backend_type, pid"
      " FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) ANY ($1) ORDER BY xact_start, pid LIMIT $2",
      blockers.pids, INT4OID, INT4ARRAYOID, limit));
  for (int row = 0; row < named; ++row) {
    bool is_null;
    const int pid = DatumGetInt32(pg::spi_datum(row, 6, &is_null));
    const char *user = pg::spi_text(row, 1, context);
    const char *state = pg::spi_text(row, 2, context);
    const char *query_start = pg::spi_text(row, 3, context);
    const char *xact_start = pg::spi_text(row, 4, context);
    const char *type = pg::spi_text(row, 5, context);
    if (text->len > 0) appendStringInfoString(text, "; ");
    appendStringInfo(text, "process %d", pid);
    if (user != nullptr) appendStringInfo(text, ", user \"%s\"", user);
    else if (type != nullptr) appendStringInfo(text, ", %s", type);
    if (state != nullptr) appendStringInfo(text, ", %s", state);
    if (query_start != nullptr) appendStringInfo(text, ", last query began at %s", query_start);
    if (xact_start != nullptr) appendStringInfo(text, ", transaction began at %s", xact_start);
    append_partition(text, static_cast<Oid>(pid), blockers.pids, blockers.held_by_pids, table);
    appendStringInfo(pids, "%s%d", pids->len > 0 ? ", " : "", pid);
  }
  pg::spi_end();
  return named;
}

/// What holds a lock in the way of `mode` now, for people; null where there is nothing. Prepared transactions come first, since
/// they do not end by themselves. `pids` gets the processes that are named.
char *describe_blockers(Oid table, LOCKMODE mode, StringInfo pids) {
  const Blockers blockers = find_blockers(table, mode);
  StringInfoData text;
  initStringInfo(&text);
  int named = append_prepared(&text, blockers, table);
  if (named < kMaxBlockers) named += append_sessions(&text, pids, blockers, table, kMaxBlockers - named);
  if (named == kMaxBlockers && blockers.count() > named)
    appendStringInfo(&text, "; and %d more", blockers.count() - named);
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
