// What the questions of APIs have in common: which runs and which tables a call is about. See is_running.cpp, status.cpp.
#pragma once

#include "runs.h"

namespace esg {

/// Which runs a call is about: a scope, or part of one.
struct Asked {
  core::Scope scope;
  bool any[core::kMaxScopeColumns];  ///< columns that are not looked at
  bool overlaps = false;             ///< values that overlap count too
  const char *condition = nullptr;   ///< the same for rows; null: all runs
};

/// Runs whose first scope column has this value; null: all.
Asked asked_by_value(const Guarded &g, const char *value);

/// The runs in a live status of those asked for, judged; those of open transactions too. For `snapshot` see RunFilter.
Runs runs_asked_for(const Guarded &g, const Asked &asked, const core::Question &question, Snapshot *snapshot);

/// The one of them that is alive and started last; null where none is.
const Run *newest_alive(const Runs &runs);

/// The argument scope_value. ERROR SY006 for what is meant for scope_is_running.
char *scope_value_argument(FunctionCallInfo fcinfo, int argument);

/// The tables a call is about; those that cannot be asked although the caller may read them go to `left_out`. ERROR 42501 where
/// there are guarded tables and he may read none of them, SY004 where there is none but triggers of the guard's are: that no sync is
/// running would be a guess.
List *tables_to_ask(Oid relation, List **left_out);

/// The tables a call with a scope value is about; those without scope columns cannot match it.
List *scoped_tables(Oid relation, const char *scope_value, List **left_out);

}  // namespace esg
