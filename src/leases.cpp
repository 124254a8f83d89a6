// The rows of sync_guard.leases, read. Runs in the transaction of whoever asks; locks the table and its indexes as a query does.
// lease_writes.cpp has what is written. See leases.h.

#include "lease_rows.h"
#include "pg/extension_tables.h"
#include "pg/spi.h"

namespace esg {
namespace {

using namespace lease_rows;

/// A row taken apart; its values are the row's own.
struct Parts {
  Datum *values;
  bool *nulls;

  [[nodiscard]] Datum at(LeaseColumn column) const { return values[column - 1]; }
  [[nodiscard]] bool is_null(LeaseColumn column) const { return nulls[column - 1]; }
  [[nodiscard]] char *string(LeaseColumn column) const {
    return is_null(column) ? nullptr : TextDatumGetCString(at(column));
  }
  [[nodiscard]] std::optional<int64> number(LeaseColumn column) const {
    if (is_null(column)) return std::nullopt;
    return DatumGetInt64(at(column));
  }
  /// A time that nobody but the guard writes: finite.
  [[nodiscard]] std::optional<core::Micros> instant(LeaseColumn column) const { return number(column); }
};

/// Whether the row is of the current transaction. One that it merely updated (a beat) was taken before it began.
bool is_of_this_xact(HeapTuple row, core::Micros taken) {
  return taken >= GetCurrentTransactionStartTimestamp() &&
         TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row->t_data));
}

int by_key(const void *a, const void *b) {
  return strcmp(static_cast<const Lease *>(a)->key, static_cast<const Lease *>(b)->key);
}

int compare_keys(const void *key, const void *lease) {
  return strcmp(static_cast<const char *>(key), static_cast<const Lease *>(lease)->key);
}

void append(Leases *leases, int *room, const Lease &lease) {
  if (leases->count == *room) {
    *room = Max(*room * 2, 4);
    const Size size = sizeof(Lease) * *room;
    leases->items = static_cast<Lease *>(leases->items == nullptr ? MemoryContextAllocHuge(CurrentMemoryContext, size)
                                                                  : repalloc_huge(leases->items, size));
  }
  leases->items[leases->count++] = lease;
}

/// Locks a relation for reading, if that needs no wait, and opens it; null where it is not free or not there.
Relation open_at_once(Oid relid) {
  if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessShareLock)) return nullptr;
  Relation relation = try_relation_open(relid, NoLock);
  if (relation == nullptr) UnlockRelationOid(relid, AccessShareLock);
  return relation;
}

/// Whether the index over open leases has one of the run that another transaction has written.
bool finds_left_lease(Relation leases, Oid table, const char *key) {
  // Not by a snapshot of MVCC: what is read by one counts in a serializable transaction, and may fail the application's statement.
  const pg::OwnTable as_it_stands{leases, SnapshotSelf};
  const Datum text_key = CStringGetTextDatum(key);
  bool found = false;
  each_open(as_it_stands, table, &text_key, [&found](HeapTuple row) {
    found = found || !TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row->t_data));
  });
  return found;
}

}  // namespace

Lease lease_rows::read_lease(HeapTuple row, TupleDesc desc) {
  const Parts parts{static_cast<Datum *>(palloc(sizeof(Datum) * desc->natts)),
                    static_cast<bool *>(palloc(sizeof(bool) * desc->natts))};
  heap_deform_tuple(row, desc, parts.values, parts.nulls);
  Lease lease;
  lease.token = DatumGetInt64(parts.at(kToken));
  lease.table = DatumGetObjectId(parts.at(kRelation));
  lease.key = parts.string(kRunKey);
  if (!parts.is_null(kTtl)) lease.ttl = micros_of(DatumGetIntervalP(parts.at(kTtl)));
  lease.bind_session = DatumGetBool(parts.at(kBindSession));
  lease.worker = parts.string(kWorker);
  lease.incarnation = parts.string(kIncarnation);
  lease.taken_by = get_role_oid(NameStr(*DatumGetName(parts.at(kTakenBy))), true);
  lease.session_pid = DatumGetInt32(parts.at(kSessionPid));
  lease.session_start = DatumGetTimestampTz(parts.at(kSessionStart));
  lease.attached = DatumGetTimestampTz(parts.at(kAttachedAt));
  lease.last_beat = parts.instant(kLastBeat);
  lease.done = parts.number(kDone);
  lease.total = parts.number(kTotal);
  lease.progress_changed = parts.instant(kProgressChanged);
  lease.superseded = parts.instant(kSupersededAt);
  lease.ended = parts.instant(kEndedAt);
  lease.end_reason = parts.string(kEndReason);
  lease.by_this_xact = is_of_this_xact(row, DatumGetTimestampTz(parts.at(kTakenAt)));
  pfree(parts.values);
  pfree(parts.nulls);
  return lease;
}

const Lease *Leases::find(const char *key) const {
  if (count == 0) return nullptr;
  return static_cast<const Lease *>(bsearch(key, items, count, sizeof(Lease), compare_keys));
}

Leases open_leases(const Guarded &g, Datum keys) {
  pg::OwnTable table = pg::open_own_table(kTable);
  Leases leases;
  int room = 0;
  const auto add = [&](HeapTuple row) { append(&leases, &room, read_lease(row, RelationGetDescr(table.relation))); };
  // A table without a page is not searched for each key.
  if (keys == 0) each_open(table, g.table, nullptr, add);
  else if (RelationGetNumberOfBlocks(table.relation) > 0)
    pg::each_text(keys, [&](Datum key) { each_open(table, g.table, &key, add); });
  pg::close_own_table(&table);
  if (leases.count > 1) qsort(leases.items, leases.count, sizeof(Lease), by_key);
  return leases;
}

bool has_left_lease(const Guarded &g, const char *key) {
  const Oid schema = get_namespace_oid("sync_guard", true);
  Relation leases = open_at_once(get_relname_relid(kTable, schema));
  if (leases == nullptr) return false;
  Relation index = open_at_once(get_relname_relid(kOpen, schema));
  const bool found =
      index != nullptr && pg::wrong_with_columns(leases) == nullptr && finds_left_lease(leases, g.table, key);
  if (index != nullptr) relation_close(index, AccessShareLock);
  relation_close(leases, AccessShareLock);
  return found;
}

Lease lease_of(int64 token) {
  pg::OwnTable table = pg::open_own_table(kTable);
  Lease lease;
  visit_token(table, token, [&](HeapTuple row) { lease = read_lease(row, RelationGetDescr(table.relation)); });
  pg::close_own_table(&table);
  return lease;
}

}  // namespace esg
