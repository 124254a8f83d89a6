// The limits of a table and of its scopes: their names, and the one way in which they are written.
#pragma once

#include "settings.h"

namespace esg {

struct LimitSpec {
  const char *name;
  std::optional<core::Micros> core::Limits::*value;
};

/// In the order of set_limit's arguments.
constexpr LimitSpec kLimitSpecs[] = {{"max_silence", &core::Limits::max_silence},
                                     {"max_age", &core::Limits::max_age},
                                     {"max_stall", &core::Limits::max_stall}};
constexpr int kLimits = lengthof(kLimitSpecs);
constexpr int kMaxSilence = 0;
constexpr int kMaxAge = 1;
constexpr int kMaxStall = 2;

/// The limit of this name; kLimits: there is none.
int limit_named(const char *name);

/// What is to be done with one of the limits. Neither given nor reset: it is left.
struct LimitChange {
  Datum value = 0;  ///< an interval
  bool given = false;
  bool reset = false;
};

/// Writes limits of a canonical scope (see scopes.h), or the table's own. The caller has the owner's rights and limits how
/// long row locks are waited for (limit_row_locks).
void write_limits(const Guarded &g, Jsonb *scope, bool whole_table, const LimitChange (&changes)[kLimits]);

}  // namespace esg
