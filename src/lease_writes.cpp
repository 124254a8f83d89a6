// The rows of sync_guard.leases, written. Runs in the transaction of whoever takes, uses or ends a lease. Locks rows by a try, as
// SKIP LOCKED does, and the number of a new token (LockClass::kToken, to the end of the transaction) by a try: it waits for nobody.
// See leases.h.

#include "lease_rows.h"
#include "locks.h"
#include "pg/spi.h"

namespace esg {
namespace {

using namespace lease_rows;

/// The token of the lease that this session ended last.
int64 last_ended = 0;

Datum interval_datum(core::Micros span) {
  auto *interval = static_cast<Interval *>(palloc0(sizeof(Interval)));
  interval->time = span;
  return IntervalPGetDatum(interval);
}

/// Rows to be changed, as they were found.
struct FoundRows {
  ItemPointerData *items = nullptr;
  int count = 0;
  int room = 0;

  void add(HeapTuple row) {
    if (count == room) {
      room = Max(room * 2, 4);
      const Size size = sizeof(ItemPointerData) * room;
      items = static_cast<ItemPointerData *>(items == nullptr ? palloc(size) : repalloc(items, size));
    }
    items[count++] = row->t_self;
  }
};

/// Changes the leases that `find(table, FoundRows *)` finds and that nobody has locked: `change(writer)` tells how, null as not at all.
/// Returns how many. Found first: what is changed may be found again.
template <typename Find, typename Change>
uint64 change_rows(const Find &find, const Change &change) {
  pg::OwnWriter writer;
  pg::begin_writing(&writer, kTable, CMD_UPDATE);
  FoundRows rows;
  find(writer.table, &rows);
  uint64 changed = 0;
  for (int i = 0; i < rows.count; ++i) {
    CHECK_FOR_INTERRUPTS();
    if (!pg::lock_own_row(&writer, &rows.items[i])) continue;
    const std::optional<pg::OwnChange> what = change(&writer);
    if (!what) continue;
    pg::change_own_row(&writer, *what);
    ++changed;
  }
  pg::end_writing(&writer);
  return changed;
}

/// Whether a column of the row that was locked last is NULL.
bool is_null(pg::OwnWriter *writer, LeaseColumn column) {
  bool null;
  (void)pg::locked_value(writer, column, &null);
  return null;
}

/// The same of those that are still open once they are locked.
template <typename Find, typename Change>
uint64 change_open(const Find &find, const Change &change) {
  return change_rows(find, [&change](pg::OwnWriter *writer) -> std::optional<pg::OwnChange> {
    if (!is_null(writer, kEndedAt)) return std::nullopt;
    return change(writer);
  });
}

/// Finds the leases of these tokens.
auto of_tokens(const int64 *tokens, int count) {
  return [tokens, count](const pg::OwnTable &table, FoundRows *rows) {
    for (int i = 0; i < count; ++i) visit_token(table, tokens[i], [rows](HeapTuple row) { rows->add(row); });
  };
}

/// The token of the lease that was locked last.
int64 locked_token(pg::OwnWriter *writer) {
  bool null;
  return DatumGetInt64(pg::locked_value(writer, kToken, &null));
}

pg::OwnChange ending(TimestampTz now, const char *reason) {
  return pg::OwnChange{}.set(kEndedAt, TimestampTzGetDatum(now)).set(kEndReason, CStringGetTextDatum(reason));
}

/// The greatest token from `least` on, committed or of this transaction; 0: none. It asks for no others: a backward look at the end of
/// the index would go through all of its last page.
int64 last_token(Relation leases, int64 least) {
  const pg::OwnTable as_of_now{leases, RegisterSnapshot(GetLatestSnapshot())};
  const TupleDesc desc = RelationGetDescr(leases);
  ScanKeyData key;
  ScanKeyInit(&key, kToken, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(least));
  int64 token = 0;
  pg::each_own_row(as_of_now, kByToken, &key, 1, [&](HeapTuple row) {
    bool null;
    token = Max(token, DatumGetInt64(heap_getattr(row, kToken, desc, &null)));
    return true;
  });
  UnregisterSnapshot(as_of_now.snapshot);
  return token;
}

/// A token that no other transaction takes meanwhile.
int64 next_token(Relation leases) {
  for (int64 token = GetCurrentTimestamp();;) {
    CHECK_FOR_INTERRUPTS();
    LOCKTAG tag;
    make_lock_tag(&tag, LockClass::kToken, static_cast<uint64>(token));
    const bool mine = LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
    const int64 last = last_token(leases, token);  // looked up under the lock: its last holder may just have committed
    if (mine && last < token) return token;
    token = Max(token, last) + 1;
  }
}

bool is_left_open(const pg::OwnTable &leases, const Guarded &g, Datum key) {
  bool found = false;
  each_open(leases, g.table, &key, [&found](HeapTuple) { found = true; });
  return found;
}

/// Ends what an earlier run of this key has left open; ERROR 55P03 where it cannot be ended.
void end_left_open(const Guarded &g, const char *key) {
  const Datum keys = pg::text_array(&key, 1);
  end_leases(g, keys, "replaced");
  if (open_leases(g, keys).count > 0)
    ereport(ERROR, errcode(ERRCODE_LOCK_NOT_AVAILABLE),
            errmsg("the lease of run %s of table %s is locked by another transaction", key, g.name),
            errhint("Try again when that transaction has ended."));
}

Datum int64_array(const int64 *items, int count) {
  auto *datums = static_cast<Datum *>(palloc(sizeof(Datum) * Max(count, 1)));
  for (int i = 0; i < count; ++i) datums[i] = Int64GetDatum(items[i]);
  return PointerGetDatum(construct_array(datums, count, INT8OID, sizeof(int64), FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

bool is_one_of(const List *tables, Oid relation) {
  ListCell *cell;
  foreach (cell, tables)
    if (static_cast<const Guarded *>(lfirst(cell))->table == relation) return true;
  return false;
}

/// Those of the tokens whose runs the guard has closed since the lease was taken, in order.
struct Tokens {
  int64 *items;
  int count;
};
Tokens reaped_of(const int64 *tokens, int count) {
  Tokens reaped{static_cast<int64 *>(palloc(sizeof(int64) * Max(count, 1))), 0};
  pg::Statement query(
      "SELECT l.token FROM sync_guard.leases AS l WHERE l.token OPERATOR(pg_catalog.=) ANY ($1)"
      " AND EXISTS (SELECT FROM sync_guard.journal AS j WHERE j.relation OPERATOR(pg_catalog.=) l.relation"
      " AND j.run_key OPERATOR(pg_catalog.=) l.run_key AND j.event OPERATOR(pg_catalog.=) 'reaped'"
      " AND j.at OPERATOR(pg_catalog.>=) l.taken_at) ORDER BY l.token");
  query.add(INT8ARRAYOID, int64_array(tokens, count));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  for (uint64 i = 0; i < rows && reaped.count < count; ++i) {
    bool is_null;
    reaped.items[reaped.count++] = DatumGetInt64(pg::spi_datum(i, 1, &is_null));
  }
  pg::spi_end();
  pg::restore(before);
  return reaped;
}

int compare_tokens(const void *a, const void *b) {
  const int64 left = *static_cast<const int64 *>(a);
  const int64 right = *static_cast<const int64 *>(b);
  return left == right ? 0 : left < right ? -1 : 1;
}

}  // namespace

int64 write_lease(const Guarded &g, const Lease &lease) {
  const Datum now = TimestampTzGetDatum(GetCurrentTimestamp());
  const Datum key = CStringGetTextDatum(lease.key);
  pg::OwnWriter writer;
  pg::begin_writing(&writer, kTable, CMD_INSERT);
  if (is_left_open(writer.table, g, key)) end_left_open(g, lease.key);
  const int64 token = next_token(writer.table.relation);
  pg::OwnRow<kColumns> row;
  row.set(kToken, Int64GetDatum(token))
      .set(kRelation, ObjectIdGetDatum(g.table))
      .set_text(kRelationName, g.name)
      .set(kRunKey, key)
      .set(kBindSession, BoolGetDatum(lease.bind_session))
      .set_text(kWorker, lease.worker)
      .set_text(kIncarnation, lease.incarnation)
      .set(kTakenAt, now)
      .set(kTakenBy, DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false))))
      .set(kAttachedAt, now)
      .set(kSessionPid, Int32GetDatum(MyProcPid))
      .set(kSessionStart, TimestampTzGetDatum(MyStartTimestamp));
  if (lease.ttl) row.set(kTtl, interval_datum(*lease.ttl));
  pg::insert_own_row(&writer, row);
  pg::end_writing(&writer);
  return token;
}

bool reattach_lease(const Lease &lease) {
  pg::OwnChange change;
  change.set(kTtl, lease.ttl ? interval_datum(*lease.ttl) : Datum(0), !lease.ttl)
      .set(kBindSession, BoolGetDatum(lease.bind_session))
      .set(kAttachedAt, TimestampTzGetDatum(GetCurrentTimestamp()))
      .set(kSessionPid, Int32GetDatum(MyProcPid))
      .set(kSessionStart, TimestampTzGetDatum(MyStartTimestamp));
  return change_open(of_tokens(&lease.token, 1), [&change](pg::OwnWriter *) { return change; }) == 1;
}

void write_beat(const Lease &lease, const int64 *done, const int64 *total) {
  const core::Micros now = GetCurrentTimestamp();
  const core::Micros last = Max(lease.attached, lease.last_beat.value_or(lease.attached));
  // A time of last beat in the future is of a clock that was set back since.
  if (last <= now && now - last < lease.ttl.value_or(kDefaultTtl) / 5) return;
  (void)change_open(of_tokens(&lease.token, 1), [=](pg::OwnWriter *writer) {
    pg::OwnChange change;
    change.set(kLastBeat, TimestampTzGetDatum(now));
    bool unknown;
    const int64 before = DatumGetInt64(pg::locked_value(writer, kDone, &unknown));
    if (done != nullptr && !unknown && before != *done) change.set(kProgressChanged, TimestampTzGetDatum(now));
    if (done != nullptr) change.set(kDone, Int64GetDatum(*done));
    if (total != nullptr) change.set(kTotal, Int64GetDatum(*total));
    return change;
  });
}

uint64 end_leases(const Guarded &g, Datum keys, const char *reason) {
  const pg::OwnChange change = ending(GetCurrentTimestamp(), reason);
  return change_open(
      [&g, keys](const pg::OwnTable &table, FoundRows *rows) {
        pg::each_text(keys,
                      [&](Datum key) { each_open(table, g.table, &key, [rows](HeapTuple row) { rows->add(row); }); });
      },
      [&change](pg::OwnWriter *writer) {
        last_ended = locked_token(writer);
        return change;
      });
}

bool has_ended_lease(int64 token) { return last_ended == token; }

void forget_ended_lease() { last_ended = 0; }

void rename_ends(const int64 *tokens, int count) {
  const pg::OwnChange change = pg::OwnChange{}.set(kEndReason, CStringGetTextDatum("reaped"));
  const auto find = [tokens, count](const pg::OwnTable &table, FoundRows *rows) {
    for (int i = 0; i < count; ++i)
      visit_token(table, tokens[i], [&](HeapTuple row) {
        const Lease lease = read_lease(row, RelationGetDescr(table.relation));
        const bool finished = lease.end_reason != nullptr && strcmp(lease.end_reason, "finished") == 0;
        // What another transaction has ended, ended as it says.
        if (finished && TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(row->t_data))) rows->add(row);
      });
  };
  (void)change_rows(find, [&change](pg::OwnWriter *) { return std::optional(change); });
}

void settle_leases(const int64 *tokens, int count) {
  const Tokens reaped = reaped_of(tokens, count);
  const TimestampTz now = GetCurrentTimestamp();
  const pg::OwnChange as_reaped = ending(now, "reaped");
  const pg::OwnChange as_finished = ending(now, "finished");
  (void)change_open(of_tokens(tokens, count), [&](pg::OwnWriter *writer) {
    const int64 token = locked_token(writer);
    const bool found = bsearch(&token, reaped.items, reaped.count, sizeof(int64), compare_tokens) != nullptr;
    return found ? as_reaped : as_finished;
  });
}

int64 supersede_leases(const List *tables, const char *worker, const char *incarnation) {
  const pg::OwnChange change = pg::OwnChange{}.set(kSupersededAt, TimestampTzGetDatum(GetCurrentTimestamp()));
  int64 before = 0;
  const auto find = [&](const pg::OwnTable &table, FoundRows *rows) {
    const ScanKeyData key = pg::column_is(kWorker, F_TEXTEQ, CStringGetTextDatum(worker));
    pg::each_own_row(table, kByWorker, &key, 1, [&](HeapTuple row) {
      const Lease lease = read_lease(row, RelationGetDescr(table.relation));
      const bool same = lease.incarnation == nullptr || incarnation == nullptr
                            ? lease.incarnation == incarnation
                            : strcmp(lease.incarnation, incarnation) == 0;
      if (lease.ended || same || !is_one_of(tables, lease.table)) return true;
      if (lease.superseded) ++before;
      else rows->add(row);
      return true;
    });
  };
  const auto supersede = [&change](pg::OwnWriter *writer) {
    return is_null(writer, kSupersededAt) ? std::optional(change) : std::nullopt;
  };
  return before + static_cast<int64>(change_open(find, supersede));
}

void purge_leases(core::Micros before, Datum tables, bool all) {
  pg::Statement purge(
      "WITH old AS MATERIALIZED (SELECT l.token FROM sync_guard.leases AS l"
      " WHERE l.ended_at OPERATOR(pg_catalog.<) $1"
      " AND ($2 OR l.relation::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($3)) FOR NO KEY UPDATE OF l SKIP LOCKED)"
      " DELETE FROM sync_guard.leases AS l USING old WHERE l.token OPERATOR(pg_catalog.=) old.token");
  purge.add(TIMESTAMPTZOID, TimestampTzGetDatum(before)).add(BOOLOID, BoolGetDatum(all)).add(OIDARRAYOID, tables);
  pg::spi_execute_as_guard(purge);
}

}  // namespace esg
