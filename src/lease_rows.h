// The rows of sync_guard.leases as the table stores them: shared by leases.cpp, which reads them, and lease_writes.cpp.
#pragma once

#include "leases.h"
#include "pg/own_table.h"

namespace esg::lease_rows {

constexpr const char *kTable = "leases";
/// By token; of open leases, by relation and key; of open leases that name a worker, by that.
constexpr const char *kByToken = "leases_pkey";
constexpr const char *kOpen = "leases_open";
constexpr const char *kByWorker = "leases_worker";

/// Columns, as the install script creates them.
enum LeaseColumn : AttrNumber {
  kToken = 1,
  kRelation,
  kRelationName,
  kRunKey,
  kTtl,
  kBindSession,
  kWorker,
  kIncarnation,
  kTakenAt,
  kTakenBy,
  kAttachedAt,
  kSessionPid,
  kSessionStart,
  kLastBeat,
  kDone,
  kTotal,
  kProgressChanged,
  kSupersededAt,
  kEndedAt,
  kEndReason,
  kColumns = kEndReason
};

/// A row as a lease, its strings in the current memory context.
Lease read_lease(HeapTuple row, TupleDesc desc);

/// Calls `visit(HeapTuple)` for the row of a token.
template <typename Visit>
void visit_token(const pg::OwnTable &leases, int64 token, const Visit &visit) {
  const ScanKeyData key = pg::column_is(kToken, F_INT8EQ, Int64GetDatum(token));
  pg::each_own_row(leases, kByToken, &key, 1, [&visit](HeapTuple row) {
    visit(row);
    return false;
  });
}

/// Calls `visit(HeapTuple)` for the open leases of a table, `key` as a text: those of that run alone; null: all.
template <typename Visit>
void each_open(const pg::OwnTable &leases, Oid table, const Datum *key, const Visit &visit) {
  const ScanKeyData keys[2] = {pg::column_is(kRelation, F_OIDEQ, ObjectIdGetDatum(table)),
                               pg::column_is(kRunKey, F_TEXTEQ, key == nullptr ? Datum(0) : *key)};
  const TupleDesc desc = RelationGetDescr(leases.relation);
  pg::each_own_row(leases, kOpen, keys, key == nullptr ? 1 : 2, [&visit, desc](HeapTuple row) {
    if (heap_attisnull(row, kEndedAt, desc)) visit(row);
    return true;
  });
}

}  // namespace esg::lease_rows
