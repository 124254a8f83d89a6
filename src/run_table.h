// Runs in shared memory: what rows do not tell. One entry per run that is live: who started it and whether that transaction
// is still open, its last sign of life, its progress, its lease, the session it is bound to.
//
// A fixed number of entries (emag_sync_guard.max_tracked_runs), a hash with partitioned locks, numbers and no pointers. No
// callback at commit: an entry holds the ids of the transactions that inserted, closed or leased the run, whose state tells
// what became of them. Whoever meets an entry whose transactions have ended settles it.
//
// Lock order: one partition's lock at a time (those of all, in order, for what needs a whole), then the server's
// XactTruncationLock, XidGenLock, ProcArrayLock and transaction log, which the state of a transaction is read under, or the spinlock of the ring of gaps (gaps.h),
// where an entry whose end has committed leaves what was seen of its run. Nothing of a table owner's runs under them.
//
// Without shared memory every function here does nothing and finds nothing.
#pragma once

#include "server_life.h"

namespace esg {

constexpr int kTrackedKeyBytes = 64;     ///< with the final zero; longer keys are cut off and told by their hash
constexpr int kTrackedStatusBytes = 64;  ///< with the final zero
constexpr int kTrackedScopeBytes = 192;

/// Names a run in memory.
struct RunId {
  Oid database;
  Oid table;  ///< the guarded table, not a partition
  uint64 key_hash;
};

/// The id of a run of this database.
RunId run_id(Oid table, const char *key);

/// How a value of a scope column is told in memory: a hash, NULL being a value of its own.
uint64 scope_hash(const core::ScopeValue &value);

/// The promise as memory has it. A session-bound lease whose canary is gone is a heartbeat lease from then on.
enum class Binding : uint8 { kNone, kHeartbeat, kSession };

/// How a run ended, or is being ended by an open transaction: its row says so, the row is gone, it is on its way to another
/// partition, the guard closed it.
enum class Ending : uint8 { kFinished, kGone, kMoved, kReaped };

/// What the row's writer tells of a run.
struct RowFacts {
  const char *key = nullptr;
  const char *status = nullptr;
  std::optional<core::Micros> started;
  core::Scope scope;
  std::optional<int64> done;
  std::optional<int64> total;
  bool of_this_xact = false;  ///< of an update: what it changes was written by the current transaction too
};

/// What a run was before a transaction that is not committed yet took it up again.
struct Taken {
  FullTransactionId inserter;
  FullTransactionId closer;
  FullTransactionId leaser;
  FullTransactionId scope_writer;
  int64 token;
  int64 ttl;
  TimestampTz session_start;
  int session_pid;
  Oid owner;
  Binding binding;
  bool lease_known;
  bool superseded;
  int64 last_sign;
  int64 passed_over;
  bool has_scope_again;
  bool scope_known;
};

/// A copy of an entry, its transactions settled as they were when it was copied.
struct Tracked {
  RunId id;
  char key[kTrackedKeyBytes];
  bool key_cut;
  char status[kTrackedStatusBytes];
  bool has_started;
  core::Micros started;  ///< as in the row
  /// What the server's clock was ahead of the monotonic one when `started` was told; 0: not known.
  core::Micros clock_ahead;
  int scope_count;
  uint64 scope_hashes[core::kMaxScopeColumns];
  bool scope_null[core::kMaxScopeColumns];
  /// The values as texts with a final zero each, one after the other (NULL as an empty one); what did not fit is cut off.
  char scope_text[kTrackedScopeBytes];
  bool scope_cut;

  FullTransactionId
      inserter;              ///< its transaction is open or prepared: the run is uncommitted; invalid: it has committed
  FullTransactionId closer;  ///< a transaction that ended or deleted the run is open; invalid: none
  /// The transaction that took the lease, or found that there is none, is open; invalid: it has committed.
  FullTransactionId leaser;
  int writer_pid;  ///< of the inserter's session
  /// `inserter` did not insert the run: its transaction ended it and set it back, or put another row of its key in its place.
  /// Where that is rolled back, the run goes on as `before`.
  bool again;
  Taken before;

  int64 token;       ///< 0: no lease
  bool lease_known;  ///< memory has seen all that became of the run's lease: with token 0 there is none
  Binding binding;
  int64 ttl;                  ///< µs; 0: none
  Oid owner;                  ///< of the table, when the lease was taken
  int session_pid;            ///< the session that took the lease
  TimestampTz session_start;  ///< of that backend: a pid alone is nobody
  bool session_ended;         ///< a bound lease's session is gone (client EOF, FATAL, termination)
  int64 ended_at;             ///< monotonic
  bool superseded;            ///< whoever beats must ask the lease's row: another incarnation may have announced itself
  bool held;                  ///< its silence is part of a mass death (see verdict rule 6)
  int64 passed_over;  ///< monotonic, when a starter of its scope took it for dead; 0: it was not, or nobody knows
  FullTransactionId scope_writer;  ///< the transaction that did so, or gave it its scope again, is open; invalid: none
  bool has_scope_again;            ///< with a scope_writer: it did the latter
  bool scope_known;                ///< `passed_over` tells; else the row of the mark may (passed_over.h)

  int64 last_sign;  ///< monotonic; 0: none but the start that the row tells
  bool has_done;
  bool has_total;
  int64 done;
  int64 total;
  bool has_row_done;  ///< `done` as the row last had it: a heartbeat may have told of more since
  int64 row_done;
  int64 progress_changed;  ///< monotonic; 0: never seen to move
  int64 fenced_at;         ///< monotonic, of the last fence(); whether it still holds is told by its lock
  int fence_pid;

  bool seen_whole;        ///< memory has known the run since its start
  Ending ending;          ///< with a closer: what that does
  int64 closing_at;       ///< monotonic, with a closer
  int64 longest_silence;  ///< µs between two signs of life, the start and the end among them
  int64 longest_stall;    ///< µs that progress stood still once it had moved, the end counted

  /// No sign of life counts, as far as memory knows.
  [[nodiscard]] bool is_passed_over() const noexcept {
    return passed_over != 0 && !(FullTransactionIdIsValid(scope_writer) && has_scope_again);
  }
  [[nodiscard]] bool uncommitted() const noexcept { return FullTransactionIdIsValid(inserter); }
};

/// What a lease brings to an entry.
struct LeaseFacts {
  int64 token;
  Binding binding;
  int64 ttl;          ///< µs; 0: none
  Oid owner;          ///< of the table
  bool by_this_xact;  ///< its row was written by the current transaction
  bool excludes;      ///< the run keeps others out of its scope
};

// ---- what the triggers write (in the writer's own transaction) --------------------------------------------------------

/// What a live row that was written is to memory.
enum class Told : uint8 {
  kStarts,      ///< another run than any of this key before
  kGoesOn,      ///< the run that it was; of a partitioned table, for which there is no memory, it may be
  kPassedOver,  ///< a run that was passed over: nothing is noted; its writer claims its scope and tells again
};

/// A live row was inserted by the current (sub)transaction. `may_move` (a partitioned table): one that this transaction is just
/// moving between partitions goes on as it was. WARNING once per session where the table is full; the run then falls back to
/// its row.
Told track_start(Oid table, const RowFacts &facts, bool may_move);

/// A live row was updated: a sign of life; progress that moved is noted. Makes an entry where there is none, uncommitted where the
/// row may be: its INSERT may be told after it.
/// `started_anew`: from a terminal status; the old lease is stale, progress counts anew.
Told track_update(Oid table, const RowFacts &facts, bool started_anew);

/// A live row is being moved to another partition. Makes an entry where there is none, which knows nothing but the row: it is no new
/// run.
void track_row(Oid table, const RowFacts &facts);

/// What may be left in the guard's own tables of a run that ends. Where memory does not know (no entry, or one made after the
/// run's start) it may be.
struct Ended {
  bool may_have_lease = true;
  bool may_be_passed_over = true;
};

/// The current (sub)transaction ended or deleted the run; the entry goes when that commits, and leaves its gaps behind where
/// the run was finished (gaps.h).
Ended track_end(Oid table, const char *key, Ending ending = Ending::kFinished);

/// The rows of leases have none of a run that the current transaction has written, nor can anybody else be taking one: from now on memory
/// knows that, unless this is rolled back.
void track_no_lease(Oid table, const char *key);

// ---- what the calls of workers write -----------------------------------------------------------------------------------

enum class Lodged : uint8 {
  kNoted,
  kNoRoom,      ///< or there is no memory
  kPassedOver,  ///< the lease is noted, and no sign of life: the run claims its scope, and its worker tells again
};

/// A lease was taken, or re-attached to: a sign of life. Makes an entry where there is none (`facts` as the row has them).
Lodged track_lease(Oid table, const RowFacts &facts, const LeaseFacts &lease);

enum class Beat : uint8 {
  kAlive,  ///< noted
  kNotHere,  ///< no entry with this token (a committed end took it along), or one that does not know all: ask the lease's row
  kUncommitted,  ///< another session took the lease and has not committed it
  kClosed,       ///< the current transaction has ended the run
};

/// A heartbeat: ~40 ns. Null done, total: not told. `bound_elsewhere` gets whether the lease is bound to another session.
Beat track_beat(const RunId &id, int64 token, const int64 *done, const int64 *total, bool *bound_elsewhere) noexcept;

/// A fence was taken on the run; a sign of life too.
void track_fence(const RunId &id, int64 token) noexcept;

/// A session-bound lease becomes a heartbeat lease, with `ttl` µs where it had none.
void track_downgrade(const RunId &id, int64 token, int64 ttl) noexcept;

/// Another incarnation of the lease's worker has announced itself: from now on a beat asks the lease's row.
void track_superseded(const RunId &id, int64 token) noexcept;

// ---- the end of a session (exit callbacks: no allocation, no error) -------------------------------------------------------

/// The session with this lease has died. Returns whether the lease was bound to it (and its run is not closed yet).
bool track_session_end(const RunId &id, int64 token) noexcept;

// ---- readers -----------------------------------------------------------------------------------------------------------------

struct TrackedRuns {
  Tracked *items = nullptr;
  int count = 0;
  int32 *places = nullptr;  ///< numbers of items, in the order of their keys' hashes as far as that is free; -1: none
  uint32 mask = 0;

  /// The entry of a run; null where there is none.
  [[nodiscard]] const Tracked *find(Oid table, const char *key) const;
};

/// Copies of this database's entries of a table (InvalidOid: of all), in the current memory context, without those whose
/// insert was rolled back or whose end is committed. Also weighs mass death: where more than ten and more than half of this
/// database's heartbeat leases are silent, each for more than half its ttl, and one lapses, they are marked as held, and
/// the episode is noted.
TrackedRuns tracked_runs(Oid table);

/// Some scopes, by the hashes of their values.
struct ScopeHashes {
  struct OfColumn {
    int count;  ///< 0: whatever value
    const uint64 *items;
  };
  int count = 0;
  OfColumn columns[core::kMaxScopeColumns];

  /// Whether the run is in one of them, as memory has it: it may have a value in part only.
  [[nodiscard]] bool has(const Tracked &run) const noexcept;
};

/// The same of the runs in these scopes that other transactions, still open, have started: at the cost of those that are not committed,
/// or just were.
TrackedRuns starting_runs(Oid table, const ScopeHashes &scopes);

/// The same of these runs alone, at the cost of these: mass death is weighed where one of them has just lapsed.
TrackedRuns tracked_runs(Oid table, const char *const *keys, int count);
inline TrackedRuns tracked_run(Oid table, const char *key) { return tracked_runs(table, &key, 1); }

/// Both together; what they have in common is to be in one of them only.
TrackedRuns joined(const TrackedRuns &some, const TrackedRuns &others);

/// Whether there may be a run of an open transaction in the table, the caller's own among them. Goes over such runs alone. Who asks
/// before he takes a snapshot finds every run there or here.
bool may_have_uncommitted(Oid table);

/// Just before closing a dead run: marks it closed by the current transaction, unless a sign of life came since `copy` was
/// made. False: it is alive. `copy` may be null (no entry was there; a new one means a sign of life).
bool track_closing(Oid table, const char *key, const Tracked *copy);

/// A starter of its scope, who has the scope's lock, takes a run for dead, unless a sign of life came since `copy` was made
/// (null: no entry was there). False: it is alive. Makes an entry where there is none. Holds until that is rolled back.
bool track_passing_over(Oid table, const RowFacts &facts, const Tracked *copy);

/// The run has its scope, whose lock its transaction holds: its signs of life count, until that is rolled back. Makes an entry where
/// there is none. Returns whether it may have been passed over before, so that there may be a row that says so.
bool track_scope_claimed(Oid table, const RowFacts &facts);

/// The run was not passed over, which was made sure of under its scope's lock.
void track_scope_known(Oid table, const char *key);

/// Forgets, once the current (sub)transaction has committed, the committed entries of a table that `copies` holds and `has_row` does
/// not name: no live row stands behind them. Entries that had a sign of life or a change since they were copied stay.
void forget_rowless(const TrackedRuns &copies, const bool *has_row);

/// Forgets every entry of a table that is guarded no more, once the current (sub)transaction has committed: where it is rolled
/// back, the table's runs go on as they were.
void forget_table(Oid table);

/// Forgets the runs of databases that were dropped: no sweep comes to them any more.
void forget_dropped_databases();

/// Gives back the entries of runs whose rows are gone: where a whole table is, no sweep comes to it.
void forget_gone();

/// Every entry of every database as it stands, under its lock: `visit` stores and does nothing else.
void each_tracked(void (*visit)(const Tracked &run, void *context), void *context);

/// Gives back the entries of runs that have ended.
void settle_all();

/// Settles a copy by its transactions, for a look from outside. False: there is no run left.
bool settle_run(Tracked *run);

struct RunTableState {
  int capacity;  ///< 0: no shared memory
  int used;
  int64 bytes;  ///< shared memory in all
  int bytes_per_entry;
  int64 refused;         ///< runs that found no room in this life of the server
  int64 last_refused;    ///< monotonic; 0: never
  int mass_death_count;  ///< leases that were silent in the last episode
  int64 mass_death_at;   ///< monotonic, of the last time more were counted; 0: never
  Oid mass_death_database;
};
RunTableState run_table_state();

// ---- shared memory (server_life) ------------------------------------------------------------------------------------------------

/// Defines the settings; at load.
void run_table_load();
Size run_table_size();
/// Makes or finds the object; called with AddinShmemInitLock held.
void run_table_attach();

}  // namespace esg
