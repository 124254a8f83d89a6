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

}  // namespace esg::pg
