// Under whose rights code runs.
//
// Whatever a table's owner can influence (triggers, casts, output functions, CHECKs, operators) runs as the owner or as
// the caller, never as the extension's owner: "no one gains rights through it". An error needs no care: the abort of the
// (sub)transaction puts identity, settings and XactReadOnly back.
#pragma once

#include "pg/prelude.h"

namespace esg::pg {

/// What to put back.
struct Identity {
  Oid user = InvalidOid;
  int context = 0;
  int guc_level = 0;
  bool read_only = false;
};

/// Becomes `user` with the given SECURITY_* flags added and a search path of pg_catalog, pg_temp.
Identity become(Oid user, int flags);

/// Stays the current user, with the given SECURITY_* flags added and the search path as it is.
Identity remain(int flags);

/// After become() or remain(): nothing may be written until restore(), whatever code of others runs meanwhile. (Within a
/// transaction that has a snapshot nobody can take this back.)
void forbid_writing();

/// Becomes the extension's owner, to write the guard's own tables. Only finished values (text, jsonb) are written so.
Identity become_extension_owner();

/// Puts back what become() changed; nothing for an Identity that changed nothing.
void restore(const Identity &identity);

/// Who owns the extension.
Oid extension_owner();

/// The extension's id; an ERROR where it is not installed in this database.
Oid extension_id();

/// Whether there is such a table in the extension's schema: the library may be newer than the objects.
bool has_extension_table(const char *name);

/// `name` as a table of the extension's schema; an ERROR where it is missing.
Oid extension_table(const char *name);

/// Locks such a table to the end of the transaction without waiting: for the application's statements. In ROW EXCLUSIVE for queries that
/// only read too: REINDEX would let them have the table, and keep them from its indexes. InvalidOid where somebody is in the
/// way, or there is none.
Oid lock_extension_table_at_once(const char *name, LOCKMODE mode = RowExclusiveLock);

/// extension_table(), opened with ACCESS SHARE, for table_close(). An extension that is dropped while its lock is waited for is not
/// installed; one that was made anew meanwhile is the one.
Relation open_extension_table(const char *name, LOCKMODE mode = AccessShareLock);

}  // namespace esg::pg
