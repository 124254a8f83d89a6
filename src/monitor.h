// What the views and guard_health have in common: going through the tables a caller may read, each on its own.
#pragma once

#include "pg/boundary.h"
#include "rights.h"

namespace esg {

/// The caller may see what is left of tables that are gone: a member of pg_read_all_data or of the extension's owner.
bool reads_everything();

/// The caller may see what the guard has written down of a table, which was called `name` then; with `whole_rows` its rows
/// too. Nobody to whom row security applies on it may.
bool journal_is_open(Oid relation, const char *name, bool whole_rows);

/// Works on each of the guarded tables, as work_as says, in a subtransaction and a memory context of its own: where one
/// table fails, `failed` gets its error, and the others are worked on.
template <typename Work, typename Failed>
void each_table(List *tables, const Work &work, const Failed &failed) {
  const MemoryContext context =
      AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard monitor", ALLOCSET_DEFAULT_SIZES);
  ListCell *cell;
  foreach (cell, tables) {
    CHECK_FOR_INTERRUPTS();
    const auto *g = static_cast<const Guarded *>(lfirst(cell));
    const MemoryContext old = MemoryContextSwitchTo(context);
    const ErrorData *error = pg::try_in_subtransaction([g, &work] {
      const pg::Identity before = work_as(*g);
      work(*g);
      pg::restore(before);
    });
    if (error != nullptr) failed(*g, error);
    MemoryContextSwitchTo(old);
    MemoryContextReset(context);
  }
  MemoryContextDelete(context);
}

/// The same for all tables that the caller may read; one that fails is skipped with a WARNING.
template <typename Work>
void each_readable_table(const Work &work) {
  each_table(readable_tables(InvalidOid, false), work, warn_of_skipped);
}

}  // namespace esg
