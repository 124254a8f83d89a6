// The durable side of leases: one row of sync_guard.leases per leased run, written at its start and at its end. Written as
// the extension's owner from finished values; read with the latest snapshot. Never waits for another's row lock: what it
// cannot write is settled by the next reaping.
#pragma once

#include "settings.h"

namespace esg {

/// The ttl of a heartbeat lease that names none, and of a bound one that is bound no more.
constexpr core::Micros kDefaultTtl = 60 * core::kSecond;

struct Lease {
  int64 token = 0;  ///< 0: none
  Oid table = InvalidOid;
  const char *key = nullptr;
  std::optional<core::Micros> ttl;
  bool bind_session = false;
  const char *worker = nullptr;
  const char *incarnation = nullptr;
  Oid taken_by = InvalidOid;
  int session_pid = 0;                    ///< the session that took it or attached to it last
  TimestampTz session_start = 0;          ///< of that backend
  core::Micros attached = 0;              ///< taken, or re-attached to
  std::optional<core::Micros> last_beat;  ///< where beats are written to the row (no shared memory)
  std::optional<int64> done;              ///< the same
  std::optional<int64> total;
  std::optional<core::Micros> progress_changed;
  std::optional<core::Micros> superseded;  ///< another incarnation of its worker has announced itself
  std::optional<core::Micros> ended;
  const char *end_reason = nullptr;
  bool by_this_xact = false;  ///< its row was written by the current transaction and is not committed yet
};

struct Leases {
  Lease *items = nullptr;  ///< open ones, ordered by key (strcmp)
  int count = 0;

  [[nodiscard]] const Lease *find(const char *key) const;
};

/// The open leases of a table; with `keys` (text[], 0: all) only of these runs.
Leases open_leases(const Guarded &g, Datum keys);

/// The lease of a token, open or ended, committed or of this transaction; token 0 where there is none.
Lease lease_of(int64 token);

/// Whether an earlier run of this key has left a lease open: one that this transaction has neither taken nor attached to. Without
/// SPI and without a wait, for the start of a run; false too where a lock is not free at once.
bool has_left_lease(const Guarded &g, const char *key);

/// Writes a new lease row of the current session and user: of `lease`, key, ttl, bind_session, worker and incarnation count.
/// Returns its token, greater than every committed one: max(last + 1, µs of the clock). A lease that an earlier run of this
/// key has left open is ended as "replaced"; ERROR 55P03 where another transaction has that row locked.
int64 write_lease(const Guarded &g, const Lease &lease);

/// The lease is held by this session now: session and time of attachment are renewed, ttl and bind_session are those of
/// `lease`. False where another transaction has the row locked, or has ended the lease.
bool reattach_lease(const Lease &lease);

/// A beat where there is no memory for it: written when a fifth of the ttl has passed since the last one that is committed.
void write_beat(const Lease &lease, const int64 *done, const int64 *total);

/// Ends the open leases of these runs (text[]): reason "finished", "reaped", "deleted", "retried", "replaced".
/// How many: those that others have locked are left.
uint64 end_leases(const Guarded &g, Datum keys, const char *reason);

/// Whether end_leases() has ended this lease last, in this session, since forget_ended_lease(): a trigger may have called it.
bool has_ended_lease(int64 token);
void forget_ended_lease();

/// Ends leases that were locked when their runs ended, or whose runs ended unseen, so that somebody else has to: reason "reaped"
/// where the journal says so, else "finished".
void settle_leases(const int64 *tokens, int count);

/// Of leases that were locked when their runs were reaped: those that the table's trigger has ended a moment later, in this
/// transaction, were "reaped" and not "finished". What another transaction has ended stays as it is.
void rename_ends(const int64 *tokens, int count);

/// Marks the open leases of `worker` under another incarnation as superseded, of the tables in `tables` (List of const
/// Guarded*). Returns how many there are now.
int64 supersede_leases(const List *tables, const char *worker, const char *incarnation);

/// Deletes ended leases older than this, of these tables (oid[]; `all`: of every table). For purge_journal.
void purge_leases(core::Micros before, Datum tables, bool all);

}  // namespace esg
