// The guard's triggers on a guarded table: what they should be, what is wrong with them, making and removing them.
//
// Five triggers stand on a guarded table; a partitioned table hands them on to its partitions. Their names make them
// fire after the application's own. Each has a WHEN clause that keeps ordinary writes away from it, in which the
// table's live and failed statuses stand as literals of the status column's own type.
//
//   zzz_emag_sync_guard_insert   BEFORE INSERT            status NULL or live sync_guard.judge_row()
//   zzz_emag_sync_guard_update   BEFORE UPDATE            status changes, or was the failed one sync_guard.judge_row()
//   zzz_emag_sync_guard_watch    AFTER INSERT OR UPDATE   status live sync_guard.watch_row()
//   zzz_emag_sync_guard_end      AFTER UPDATE             status was live and is not sync_guard.watch_row()
//   zzz_emag_sync_guard_delete   AFTER DELETE             status was live sync_guard.watch_row()
//
// They depend on the extension: DROP EXTENSION takes them along.
#pragma once

#include "settings.h"
#include "table_lock.h"

namespace esg {

/// One thing that is wrong with the triggers of a guarded table.
struct TriggerProblem {
  Oid relation;         ///< the table, or the partition it is wrong on
  const char *trigger;  ///< the trigger's name, not quoted
  const char *problem;  ///< in words, a clause without a full stop: "is missing", "is disabled", …
  const char *hint;     ///< what to do, a sentence
  bool repairable;      ///< repair_triggers mends it
};

/// What is wrong with the triggers of a guarded table and of its partitions: missing, disabled, unlike what the
/// settings ask for, not going with the extension, or followed by a BEFORE trigger of the application. Reads the
/// catalogs alone, with a share lock on the table and its partitions. Returns a List of TriggerProblem*, NIL where all
/// is well.
List *trigger_problems(const Guarded &g);

/// The same as WARNINGs.
void warn_of_trigger_problems(const Guarded &g);

/// Makes the triggers that are missing or differ, and with `enable` those that are disabled, as the table's owner.
/// Waits for the table's lock as lock_table does. Returns how many triggers of the table itself were made or made anew.
int make_triggers(const Guarded &g, bool enable, const Patience &patience);

/// Whether the table itself bears any of the guard's triggers.
bool has_triggers(Oid table);

/// The tables (a List of Oid) that bear the guard's triggers although it has no settings of theirs: a dump was restored without
/// its schema, or the settings were deleted. Such a table is written unguarded.
List *tables_without_settings();

/// Removes the guard's triggers from a table and its partitions, as the table's owner; the caller holds its lock.
/// Returns how many there were.
int remove_triggers(Oid table);

}  // namespace esg
