// A run as callers name it: (relation, key), with the key as text, uuid or bigint.
#pragma once

#include "runs.h"

namespace esg {

/// The key argument as text, whatever its type. ERROR SY006 for NULL.
const char *key_argument(FunctionCallInfo fcinfo, int argument);

/// The table that a (relation, key) pair names: with a NULL relation the only one the caller may read.
/// ERROR SY005 where there are several, SY004 where there is none.
const Guarded &table_argument(FunctionCallInfo fcinfo, int argument);

/// The run of this key, whatever its status, as the caller may see it; null where there is none, or with `lock` where another
/// transaction has it locked. A key that the type refuses names no run.
const Run *find_run(const Guarded &g, const char *key, const core::Question &question, bool lock);

/// ERROR P0002.
[[noreturn]] void no_such_run(const Guarded &g, const char *key);

}  // namespace esg
