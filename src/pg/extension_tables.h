// The guard's own tables: found, locked, opened. Those that are read and written by position are as the install script makes them, or
// are not touched: a superuser may change them, and what is taken for something else then would be a crash.
#pragma once

#include "pg/prelude.h"

namespace esg::pg {

/// Whether there is such a table in the extension's schema: the library may be newer than the objects.
bool has_extension_table(const char *name);

/// `name` as a table of the extension's schema; an ERROR where it is missing.
Oid extension_table(const char *name);

/// The sequence behind the table's identity column; invalid where it has none.
Oid identity_sequence(Relation table);

/// Locks such a table to the end of the transaction without waiting: for the application's statements. In ROW EXCLUSIVE for queries that
/// only read too: REINDEX would let them have the table, and keep them from its indexes; with it what belongs to the table. InvalidOid
/// where somebody is in the way, or there is no such table, or it is not as the extension made it.
Oid lock_extension_table_at_once(const char *name, LOCKMODE mode = RowExclusiveLock);

/// extension_table(), opened with ACCESS SHARE, for table_close(); ERROR 55000 where it is not as the extension made it. An extension
/// that is dropped while its lock is waited for is not installed; one that was made anew meanwhile is the one.
Relation open_extension_table(const char *name, LOCKMODE mode = AccessShareLock);

/// What is wrong with the columns of one of the guard's own tables, a clause without a full stop; null where they are as the install
/// script makes them. Further columns may come after. Null for a table that is read and written by queries alone.
const char *wrong_with_columns(Relation table);

/// Whether the table is there, and nothing is wrong with its columns.
bool is_as_made(const char *name);

/// The names of the tables that this is asked of.
List *tables_by_position();

}  // namespace esg::pg
