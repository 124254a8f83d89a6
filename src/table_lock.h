// Locks on an application's table that are strong enough to hurt it, taken without hurting it.
//
// A lock request that waits in the queue stops everybody who comes after it, so behind one long transaction a waiting
// CREATE TRIGGER stops every writer. Here the request stands in the queue for a tenth of a second at most, steps out,
// gives the writers air, and tries again, until its time is over.
#pragma once

#include "pg/prelude.h"

namespace esg {

/// How long adoption, release and repair wait for their lock in all, unless the caller says otherwise.
constexpr core::Micros kDefaultPatience = 10 * core::kSecond;

/// How long a caller waits for locks, in all; it begins where it is made.
struct Patience {
  core::Micros total;  ///< 0: a single try
  TimestampTz begun;

  Patience(core::Micros span) : total(span), begun(GetCurrentTimestamp()) {}
};

/// Takes `mode` on the table and all its partitions, to the end of the transaction, before the patience is over. An
/// autovacuum in the way is cancelled, as PostgreSQL does. ERROR SY008, naming who is in the way, when it is over.
void lock_table(Oid table, LOCKMODE mode, const Patience &patience);

}  // namespace esg
