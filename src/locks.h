// The guard's own lock classes, apart from every advisory lock of an application.
//
// They are locks of the advisory kind (LOCKTAG_ADVISORY in USER_LOCKMETHOD) with a class number of their own in the
// fourth field, where pg_advisory_lock puts 1 or 2; pg_locks shows it as objsubid, a smallint. src/README.md has the lock
// table.
#pragma once

#include "pg/prelude.h"

namespace esg {

enum class LockClass : uint16 {
  kScope = 0x6501,      ///< an atom of an exclusive scope; exclusive, to the end of the starter's transaction
  kObserving = 0x6502,  ///< an observed table; exclusive, to the end of the transaction that tells of its dead runs
  kCanary = 0x6503,     ///< a token; exclusive, held by the session that a lease is bound to
  kFence =
      0x6504,  ///< a token; share: its worker is committing, row exclusive: it is being reaped; to the transaction's end
  kToken = 0x6505,  ///< a token; exclusive, to the end of the transaction that takes the lease
  kSweep = 0x6506,  ///< a table, 0: the server; exclusive, to the end of the sweep that looks after it
};

void make_lock_tag(LOCKTAG *tag, LockClass lock_class, uint64 id);

/// Who holds a lock that conflicts with `mode` on this tag, in words: "process 4711 (role app, application …)",
/// or a prepared transaction.
char *describe_holder(const LOCKTAG &tag, LOCKMODE mode = ExclusiveLock);

}  // namespace esg
