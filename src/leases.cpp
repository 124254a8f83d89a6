// The rows of sync_guard.leases. Runs in the transaction of whoever takes, uses or ends a lease, as the extension's owner.
// Takes row locks with SKIP LOCKED, and the lock of a new token (LockClass::kToken, to the end of the transaction) by a try:
// it waits for nobody. See leases.h.

#include "leases.h"

#include "locks.h"
#include "pg/identity.h"
#include "pg/spi.h"

namespace esg {
namespace {

constexpr const char *kColumns =
    "l.token, l.relation::pg_catalog.oid, l.run_key, l.ttl, l.bind_session, l.worker, l.incarnation, l.taken_by,"
    " l.session_pid, l.session_start, l.attached_at, l.last_beat, l.done, l.total, l.progress_changed,"
    " l.superseded_at, l.ended_at, l.end_reason, l.taken_at, l.xmin";

/// Columns of kColumns, in order.
enum LeaseColumn : int {
  kToken = 1,
  kRelation,
  kRunKey,
  kTtl,
  kBindSession,
  kWorker,
  kIncarnation,
  kTakenBy,
  kSessionPid,
  kSessionStart,
  kAttachedAt,
  kLastBeat,
  kDone,
  kTotal,
  kProgressChanged,
  kSupersededAt,
  kEndedAt,
  kEndReason,
  kTakenAt,
  kXmin
};

/// The leases that `condition` names and that nobody has locked, as "open"; for an UPDATE that must not wait.
char *unlocked_sql(const char *condition) {
  return psprintf(
      "WITH open AS MATERIALIZED (SELECT l.token FROM sync_guard.leases AS l WHERE %s"
      " FOR NO KEY UPDATE OF l SKIP LOCKED)",
      condition);
}

Datum interval_datum(core::Micros span) {
  auto *interval = static_cast<Interval *>(palloc0(sizeof(Interval)));
  interval->time = span;
  return IntervalPGetDatum(interval);
}

void add_int64(pg::Statement *statement, const int64 *value) {
  statement->add(INT8OID, value == nullptr ? Datum(0) : Int64GetDatum(*value), value == nullptr);
}

void add_instant(pg::Statement *statement, core::Micros instant) {
  statement->add(TIMESTAMPTZOID, TimestampTzGetDatum(instant));
}

void add_ttl(pg::Statement *statement, const std::optional<core::Micros> &ttl) {
  statement->add(INTERVALOID, ttl ? interval_datum(*ttl) : Datum(0), !ttl);
}

std::optional<int64> read_int64(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  if (is_null) return std::nullopt;
  return DatumGetInt64(value);
}

/// A time that nobody but the guard writes: finite. (An instant is an int64 too, passed as one.)
std::optional<core::Micros> read_instant(uint64 row, int column) { return read_int64(row, column); }

/// Whether the row is of the current transaction. One that it merely updated (a beat) was taken before it began.
bool is_of_this_xact(TransactionId writer, core::Micros taken) {
  return taken >= GetCurrentTransactionStartTimestamp() && TransactionIdIsCurrentTransactionId(writer);
}

/// Row `number` of the result, its strings in `context`.
Lease read_lease(uint64 number, MemoryContext context) {
  Lease lease;
  bool is_null;
  lease.token = DatumGetInt64(pg::spi_datum(number, kToken, &is_null));
  lease.table = DatumGetObjectId(pg::spi_datum(number, kRelation, &is_null));
  lease.key = pg::spi_text(number, kRunKey, context);
  const Datum ttl = pg::spi_datum(number, kTtl, &is_null);
  if (!is_null) lease.ttl = micros_of(DatumGetIntervalP(ttl));
  lease.bind_session = DatumGetBool(pg::spi_datum(number, kBindSession, &is_null));
  lease.worker = pg::spi_text(number, kWorker, context);
  lease.incarnation = pg::spi_text(number, kIncarnation, context);
  lease.taken_by = get_role_oid(NameStr(*DatumGetName(pg::spi_datum(number, kTakenBy, &is_null))), true);
  lease.session_pid = DatumGetInt32(pg::spi_datum(number, kSessionPid, &is_null));
  lease.session_start = read_instant(number, kSessionStart).value_or(0);
  lease.attached = read_instant(number, kAttachedAt).value_or(0);
  lease.last_beat = read_instant(number, kLastBeat);
  lease.done = read_int64(number, kDone);
  lease.total = read_int64(number, kTotal);
  lease.progress_changed = read_instant(number, kProgressChanged);
  lease.superseded = read_instant(number, kSupersededAt);
  lease.ended = read_instant(number, kEndedAt);
  lease.end_reason = pg::spi_text(number, kEndReason, context);
  lease.by_this_xact = is_of_this_xact(DatumGetTransactionId(pg::spi_datum(number, kXmin, &is_null)),
                                       read_instant(number, kTakenAt).value_or(0));
  return lease;
}

/// The greatest token there is, committed or of this transaction; 0: none.
int64 last_token() {
  const pg::Statement query("SELECT l.token FROM sync_guard.leases AS l ORDER BY l.token DESC LIMIT 1");
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  int64 token = 0;
  if (pg::spi_run(query, pg::Access::kRead) == 1) token = read_int64(0, 1).value_or(0);
  pg::spi_end();
  pg::restore(before);
  return token;
}

/// A token that no other transaction takes meanwhile.
int64 next_token() {
  for (int64 token = GetCurrentTimestamp();;) {
    CHECK_FOR_INTERRUPTS();
    LOCKTAG tag;
    make_lock_tag(&tag, LockClass::kToken, static_cast<uint64>(token));
    const bool mine = LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
    const int64 last = last_token();  // looked up under the lock: its last holder may just have committed
    if (mine && last < token) return token;
    token = Max(token, last) + 1;
  }
}

/// Ends what an earlier run of this key has left open; ERROR 55P03 where it cannot be ended.
void end_left_open(const Guarded &g, const char *key) {
  const Datum keys = pg::text_array(&key, 1);
  if (open_leases(g, keys).count == 0) return;
  end_leases(g, keys, "replaced");
  if (open_leases(g, keys).count > 0)
    ereport(ERROR, errcode(ERRCODE_LOCK_NOT_AVAILABLE),
            errmsg("the lease of run %s of table %s is locked by another transaction", key, g.name),
            errhint("Try again when that transaction has ended."));
}

Datum oids_of(const List *tables) {
  auto *ids = static_cast<Datum *>(palloc(sizeof(Datum) * (list_length(tables) + 1)));
  int count = 0;
  ListCell *cell;
  foreach (cell, tables) ids[count++] = ObjectIdGetDatum(static_cast<const Guarded *>(lfirst(cell))->table);
  return PointerGetDatum(construct_array(ids, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

Datum int64_array(Datum *items, int count) {
  return PointerGetDatum(construct_array(items, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

Datum *datums_of(const int64 *tokens, int count) {
  auto *items = static_cast<Datum *>(palloc(sizeof(Datum) * Max(count, 1)));
  for (int i = 0; i < count; ++i) items[i] = Int64GetDatum(tokens[i]);
  return items;
}

int compare_keys(const void *key, const void *lease) {
  return strcmp(static_cast<const char *>(key), static_cast<const Lease *>(lease)->key);
}

/// The UPDATE that ends the open leases which `condition` names, on l, those that nobody has locked; `reason` in SQL. The parameters of
/// both begin with $2.
pg::Statement ending_statement(const char *condition, const char *reason) {
  pg::Statement update(
      psprintf("%s UPDATE sync_guard.leases AS l SET ended_at = $1, end_reason = %s"
               " FROM open WHERE l.token OPERATOR(pg_catalog.=) open.token AND l.ended_at IS NULL",
               unlocked_sql(psprintf("%s AND l.ended_at IS NULL", condition)), reason));
  add_instant(&update, GetCurrentTimestamp());
  return update;
}

/// Positions in sync_guard.leases, as the install script creates it.
enum TableColumn : AttrNumber { kTableRelation = 2, kTableRunKey = 4, kTableEndedAt = 19 };

/// Locks a relation for reading, if that needs no wait, and opens it; null where it is not free or not there.
Relation open_at_once(Oid relid) {
  if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessShareLock)) return nullptr;
  Relation relation = try_relation_open(relid, NoLock);
  if (relation == nullptr) UnlockRelationOid(relid, AccessShareLock);
  return relation;
}

/// Whether the index over open leases has one of the run that another transaction has written.
bool finds_left_lease(Relation leases, Relation index, Oid table, const char *key) {
  ScanKeyData keys[2];
  ScanKeyInit(&keys[0], kTableRelation, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(table));
  ScanKeyEntryInitialize(&keys[1], 0, kTableRunKey, BTEqualStrategyNumber, InvalidOid, index->rd_indcollation[1],
                         F_TEXTEQ, CStringGetTextDatum(key));
  // Not by a snapshot of MVCC: what is read by one counts in a serializable transaction, and may fail the application's statement.
  SysScanDesc scan = systable_beginscan(leases, RelationGetRelid(index), true, SnapshotSelf, 2, keys);
  bool found = false;
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan))
    found = found || (heap_attisnull(tuple, kTableEndedAt, RelationGetDescr(leases)) &&
                      !TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)));
  systable_endscan(scan);
  return found;
}

}  // namespace

const Lease *Leases::find(const char *key) const {
  return static_cast<const Lease *>(bsearch(key, items, count, sizeof(Lease), compare_keys));
}

Leases open_leases(const Guarded &g, Datum keys) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement query(
      psprintf("SELECT %s FROM sync_guard.leases AS l WHERE l.relation OPERATOR(pg_catalog.=) $1"
               " AND l.ended_at IS NULL%s ORDER BY l.run_key COLLATE pg_catalog.\"C\"",
               kColumns, keys == 0 ? "" : " AND l.run_key OPERATOR(pg_catalog.=) ANY ($2)"));
  query.add_oid(g.table);
  if (keys != 0) query.add(TEXTARRAYOID, keys);
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  Leases leases;
  leases.items = static_cast<Lease *>(
      MemoryContextAllocExtended(context, Max(rows, 1) * sizeof(Lease), MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO));
  for (uint64 i = 0; i < rows; ++i) leases.items[leases.count++] = read_lease(i, context);
  pg::spi_end();
  pg::restore(before);
  return leases;
}

bool has_left_lease(const Guarded &g, const char *key) {
  const Oid schema = get_namespace_oid("sync_guard", true);
  Relation leases = open_at_once(get_relname_relid("leases", schema));
  if (leases == nullptr) return false;
  Relation index = open_at_once(get_relname_relid("leases_open", schema));
  const bool found = index != nullptr && finds_left_lease(leases, index, g.table, key);
  if (index != nullptr) relation_close(index, AccessShareLock);
  relation_close(leases, AccessShareLock);
  return found;
}

Lease lease_of(int64 token) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement query(
      psprintf("SELECT %s FROM sync_guard.leases AS l WHERE l.token OPERATOR(pg_catalog.=) $1", kColumns));
  add_int64(&query, &token);
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  Lease lease;
  if (pg::spi_run(query, pg::Access::kRead) == 1) lease = read_lease(0, context);
  pg::spi_end();
  pg::restore(before);
  return lease;
}

int64 write_lease(const Guarded &g, const Lease &lease) {
  end_left_open(g, lease.key);
  const int64 token = next_token();
  pg::Statement insert(
      "INSERT INTO sync_guard.leases (token, relation, relation_name, run_key, ttl, bind_session, worker, incarnation,"
      " taken_at, taken_by, attached_at, session_pid, session_start)"
      " VALUES ($1, $2::pg_catalog.regclass, $3, $4, $5, $6, $7, $8, $9, $10, $9, $11, $12)");
  add_int64(&insert, &token);
  insert.add_oid(g.table).add_text(g.name).add_text(lease.key);
  add_ttl(&insert, lease.ttl);
  insert.add(BOOLOID, BoolGetDatum(lease.bind_session)).add_text(lease.worker).add_text(lease.incarnation);
  add_instant(&insert, GetCurrentTimestamp());
  insert.add(NAMEOID, DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false))))
      .add(INT4OID, Int32GetDatum(MyProcPid));
  add_instant(&insert, MyStartTimestamp);
  pg::spi_execute_as_guard(insert);
  return token;
}

bool reattach_lease(const Lease &lease) {
  pg::Statement update(
      psprintf("%s UPDATE sync_guard.leases AS l SET ttl = $2, bind_session = $3, attached_at = $4, session_pid = $5,"
               " session_start = $6 FROM open WHERE l.token OPERATOR(pg_catalog.=) open.token AND l.ended_at IS NULL",
               unlocked_sql("l.token OPERATOR(pg_catalog.=) $1 AND l.ended_at IS NULL")));
  add_int64(&update, &lease.token);
  add_ttl(&update, lease.ttl);
  update.add(BOOLOID, BoolGetDatum(lease.bind_session));
  add_instant(&update, GetCurrentTimestamp());
  update.add(INT4OID, Int32GetDatum(MyProcPid));
  add_instant(&update, MyStartTimestamp);
  return pg::spi_execute_as_guard(update) == 1;
}

void write_beat(const Lease &lease, const int64 *done, const int64 *total) {
  const core::Micros now = GetCurrentTimestamp();
  const core::Micros last = Max(lease.attached, lease.last_beat.value_or(lease.attached));
  // A time of last beat in the future is of a clock that was set back since.
  if (last <= now && now - last < lease.ttl.value_or(kDefaultTtl) / 5) return;
  pg::Statement update(
      psprintf("%s UPDATE sync_guard.leases AS l SET last_beat = $2, progress_changed = CASE WHEN"
               " l.done OPERATOR(pg_catalog.<>) $3 THEN $2 ELSE l.progress_changed END,"
               " done = COALESCE($3, l.done), total = COALESCE($4, l.total)"
               " FROM open WHERE l.token OPERATOR(pg_catalog.=) open.token AND l.ended_at IS NULL",
               unlocked_sql("l.token OPERATOR(pg_catalog.=) $1 AND l.ended_at IS NULL")));
  add_int64(&update, &lease.token);
  add_instant(&update, now);
  add_int64(&update, done);
  add_int64(&update, total);
  pg::spi_execute_as_guard(update);
}

uint64 end_leases(const Guarded &g, Datum keys, const char *reason) {
  pg::Statement update =
      ending_statement("l.relation OPERATOR(pg_catalog.=) $2 AND l.run_key OPERATOR(pg_catalog.=) ANY ($3)", "$4");
  update.add_oid(g.table).add(TEXTARRAYOID, keys).add_text(reason);
  return pg::spi_execute_as_guard(update);
}

void rename_ends(const int64 *tokens, int count) {
  Datum *items = datums_of(tokens, count);
  pg::Statement query(
      "SELECT l.token, l.xmin FROM sync_guard.leases AS l WHERE l.token OPERATOR(pg_catalog.=) ANY ($1)"
      " AND l.end_reason OPERATOR(pg_catalog.=) 'finished'");
  query.add(INT8ARRAYOID, int64_array(items, count));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  int own = 0;
  for (uint64 i = 0; i < rows; ++i) {
    bool is_null;
    const Datum token = pg::spi_datum(i, 1, &is_null);
    const TransactionId writer = DatumGetTransactionId(pg::spi_datum(i, 2, &is_null));
    // What another transaction has ended, ended as it says.
    if (TransactionIdIsCurrentTransactionId(writer)) items[own++] = Int64GetDatum(DatumGetInt64(token));
  }
  pg::spi_end();
  pg::restore(before);
  if (own == 0) return;
  pg::Statement update(
      psprintf("%s UPDATE sync_guard.leases AS l SET end_reason = 'reaped'"
               " FROM open WHERE l.token OPERATOR(pg_catalog.=) open.token",
               unlocked_sql("l.token OPERATOR(pg_catalog.=) ANY ($1)")));
  update.add(INT8ARRAYOID, int64_array(items, own));
  pg::spi_execute_as_guard(update);
}

void settle_leases(const int64 *tokens, int count) {
  pg::Statement update = ending_statement(
      "l.token OPERATOR(pg_catalog.=) ANY ($2)",
      "CASE WHEN EXISTS (SELECT FROM sync_guard.journal AS j WHERE j.relation OPERATOR(pg_catalog.=) l.relation"
      " AND j.run_key OPERATOR(pg_catalog.=) l.run_key AND j.event OPERATOR(pg_catalog.=) 'reaped'"
      " AND j.at OPERATOR(pg_catalog.>=) l.taken_at) THEN 'reaped' ELSE 'finished' END");
  update.add(INT8ARRAYOID, int64_array(datums_of(tokens, count), count));
  pg::spi_execute_as_guard(update);
}

int64 supersede_leases(const List *tables, const char *worker, const char *incarnation) {
  const char *condition =
      "l.worker OPERATOR(pg_catalog.=) $1 AND l.ended_at IS NULL AND l.relation OPERATOR(pg_catalog.=) ANY ($3)"
      " AND l.incarnation IS DISTINCT FROM $2";
  pg::Statement update(
      psprintf("%s UPDATE sync_guard.leases AS l SET superseded_at = $4"
               " FROM open WHERE l.token OPERATOR(pg_catalog.=) open.token AND l.ended_at IS NULL",
               unlocked_sql(psprintf("%s AND l.superseded_at IS NULL", condition))));
  update.add_text(worker).add_text(incarnation).add(OIDARRAYOID, oids_of(tables));
  add_instant(&update, GetCurrentTimestamp());
  pg::spi_execute_as_guard(update);

  pg::Statement query(psprintf(
      "SELECT pg_catalog.count(*) FROM sync_guard.leases AS l WHERE %s AND l.superseded_at IS NOT NULL", condition));
  query.add_text(worker).add_text(incarnation).add(OIDARRAYOID, oids_of(tables));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  (void)pg::spi_run(query, pg::Access::kRead);
  const int64 count = read_int64(0, 1).value_or(0);
  pg::spi_end();
  pg::restore(before);
  return count;
}

void purge_leases(core::Micros before, Datum tables, bool all) {
  pg::Statement purge(
      psprintf("%s DELETE FROM sync_guard.leases AS l USING open WHERE l.token OPERATOR(pg_catalog.=) open.token",
               unlocked_sql("l.ended_at OPERATOR(pg_catalog.<) $1"
                            " AND ($2 OR l.relation::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($3))")));
  add_instant(&purge, before);
  purge.add(BOOLOID, BoolGetDatum(all)).add(OIDARRAYOID, tables);
  pg::spi_execute_as_guard(purge);
}

}  // namespace esg
