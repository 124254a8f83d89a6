// Reading runs from a guarded table, with the evidence on each and the verdict. The one place where rows become Evidence.
#pragma once

#include "rights.h"
#include "run_table.h"
#include "settings.h"

namespace esg {

/// A run as read and judged.
struct Run {
  ItemPointerData ctid;  ///< of runs that were locked when they were read, as is:
  Oid tableoid;
  const char *key;
  const char *status;
  std::optional<core::Micros> started;  ///< absent where NULL or infinite
  std::optional<core::Micros> active;   ///< the activity column's value
  std::optional<int64> done;
  std::optional<int64> total;
  core::Scope scope;  ///< values live as long as the run
  core::Evidence evidence;
  core::Limits limits;
  core::Judgement judgement;
  Jsonb *row;  ///< the row as the journal keeps it, where asked for

  bool uncommitted;    ///< known from memory alone: its writer's transaction was just open; there is no ctid, no row
  int writer_pid;      ///< uncommitted: of that transaction's session, 0 where it was prepared
  int64 token;         ///< of its open lease; 0: none
  const char *worker;  ///< of its lease; null: none named
  bool lease_unknown;  ///< on a standby: it has a lease, and only the primary knows of its signs of life
  std::optional<core::Micros> died;  ///< when its session ended, or its worker announced itself anew; absent: not known
  int fence_pid;                     ///< of the session whose transaction fences it; -1: a prepared one, 0: none
  const Tracked *memory;             ///< its entry, as copied before it was judged; null: none
};

struct Runs {
  Run *items = nullptr;
  int count = 0;
};

/// Which runs to read. By default every run in a live status.
struct RunFilter {
  Datum keys = 0;                   ///< text[]: only these
  bool lock = false;                ///< FOR NO KEY UPDATE SKIP LOCKED
  bool lock_keys = false;           ///< with lock: FOR UPDATE
  bool any_status = false;          ///< with keys: whatever their status
  bool exclusive_statuses = false;  ///< only those in which a run excludes others
  bool with_row = false;
  const char *scope_condition = nullptr;  ///< further SQL condition on alias t, values quoted by the caller
  /// Values (text[]) of its parameters, which begin with $2.
  Datum scope_values[core::kMaxScopeColumns];
  int scope_value_count = 0;
  /// What scope_condition says, for memory: without lock, of this nothing else is read but runs that are being started, and those of the
  /// rows found.
  const ScopeHashes *scopes = nullptr;
  /// Also the runs of open transactions, which only memory knows. Where row security applies to the caller there are none.
  bool uncommitted = false;
  const core::Scope *scope = nullptr;  ///< with uncommitted: what scope_condition says, for runs in memory; null: all
  const bool *any = nullptr;           ///< with scope: columns that are not looked at (may be null)
  bool overlaps = false;               ///< with scope: values that overlap count too
  bool without_leases = false;         ///< of leases only what memory knows
  TrackedRuns *tracked = nullptr;      ///< gets what memory had of the table
  Snapshot *snapshot =
      nullptr;  ///< without lock: gets the one the rows were read with, registered; the caller unregisters it
};

/// The statement by which read_runs finds runs; people may EXPLAIN it.
char *runs_query(const Guarded &g, const RunFilter &filter);

/// A run as the triggers and calls that tell memory of it name it.
RowFacts facts_of(const Run &run);

/// Reads and judges runs, oldest first, into the current memory context. Works with the rights in force (see work_as).
Runs read_runs(const Guarded &g, const RunFilter &filter, const core::Question &question);

/// The runs of open transactions that the filter finds in memory, judged by that alone.
Runs uncommitted_runs(const Guarded &g, const RunFilter &filter, const core::Question &question);

/// Whether a caller may be shown runs of open transactions: row security, which cannot be asked of them, does not apply to him.
bool sees_uncommitted(const Guarded &g, Oid caller);

/// The question a call without arguments asks: the clock, read now; on a standby what has been replayed is judged by the time
/// of the last transaction replayed.
core::Question question_now();

/// A scope as a jsonb object of texts; NULL-safe. Null where the table has no scope columns.
Jsonb *scope_json(const Guarded &g, const core::Scope &scope);

/// What is known of a run, as a jsonb object for journal and people.
Jsonb *evidence_json(const Guarded &g, const Run &run, const core::Question &question);

/// The verdict in words, with what only this server knows: whose transaction is open, that this is a standby.
char *why_of(const Run &run);

/// The latter alone; null where there is nothing to tell.
char *note_on(const Run &run);

/// "Sync interrupted …: silent: no sign of life for …": the text written into a reaped row.
char *reason_of(const Guarded &g, const Run &run);

/// An instant as ISO 8601 text in UTC, for JSON.
char *iso_utc(core::Micros instant);

/// SQL pieces for statements over the table, under alias t.
/// The table as a FROM item: "ONLY app.t AS t", or without ONLY where it is partitioned.
char *from_item(const Guarded &g);
/// t."column"
char *column_ref(const Column &column);
/// Condition: the key is among `keys`, a text[] that is parameter $1. Of one key it is an equality, so that the key's index serves
/// whatever other indexes there are: of an array the planner does not know how few it has.
char *key_condition(const Guarded &g, Datum keys);
/// Condition: the status is among these, in the status column's own type so that an index serves.
char *status_condition(const Guarded &g, const char *const *statuses, int count);
/// " WHERE … ORDER BY …" by which the newest runs come first, with a further `condition` (null: none). They are told by the
/// start, else by the end, else by the key; runs whose time is NULL or infinite are left out: it does not tell when they
/// were, and leaving them out lets a plain index serve.
char *newest_first_sql(const Guarded &g, const char *condition);
/// A time column as timestamptz, in the table's zone. For display; never raises for infinite values.
char *instant_sql(const Guarded &g, const Column &column);
/// The scope of t as a jsonb object of texts; "NULL::pg_catalog.jsonb" where the table has no scope columns.
char *scope_sql(const Guarded &g);

}  // namespace esg
