// What the functions that set up a guarded table have in common: their arguments and who may call them.
#pragma once

#include "settings.h"

namespace esg {

/// The first argument: a table that the caller owns, or is superuser of. ERROR 22004 for NULL, 42P01 where there is no
/// such relation, 42501 where it is not the caller's, 25006 in a read-only transaction or on a standby.
Oid owned_relation(FunctionCallInfo fcinfo, const char *function);

/// The same, for a table that must be guarded already. ERROR SY004 where it is not, SY006 where its settings are
/// broken.
const Guarded &owned_table(FunctionCallInfo fcinfo, const char *function);

/// Argument `number` (from 0), lock_timeout: how long to wait for locks in all; kDefaultPatience for NULL. ERROR SY006
/// for a negative or infinite one.
core::Micros patience_argument(FunctionCallInfo fcinfo, int number);

/// Makes row locks on the guard's own tables give up after `patience` too. Undone with AtEOXact_GUC(false, level).
int limit_row_locks(core::Micros patience);

}  // namespace esg
