// Suggested limits of a table and its scopes, made from its history (suggest_history) by core/suggest.
#pragma once

#include "set_limit.h"
#include "runs.h"

namespace esg {

/// How far back the view and apply_suggested_limits look.
constexpr core::Micros kUsualLookBack = 90 * core::kDay;

/// What is suggested for one limit of one scope. Figures are absent where they cannot be said.
struct SuggestedLimit {
  Jsonb *scope;        ///< {}: the table's own
  core::Scope values;  ///< of a scope
  bool whole_table;    ///< the table's own
  int limit;           ///< which of kLimitSpecs
  int64 sample;        ///< live runs that it was learned from
  int64 by_gaps;       ///< of these, measured by the gaps between their signs of life
  std::optional<core::Micros> suggested;
  std::optional<core::Micros> p50, p95, p99, longest;
  std::optional<double> wrong_share;
  std::optional<int64> dead, reaped, wrong;  ///< the replay
  std::optional<core::Micros> sooner;
};

struct SuggestedLimits {
  SuggestedLimit *items = nullptr;
  int count = 0;
};

/// The suggestions for a table: its own first, then those of its scopes by their text. Call with the rights that work_as gives;
/// `hidden`: row security applies to the caller.
SuggestedLimits suggest_limits(const Guarded &g, core::Micros now, core::Micros look_back, bool hidden);

/// The limit in force for the runs of the suggestion's scope, where `own` are the table's own limits; absent: off.
std::optional<core::Micros> limit_in_force(const Guarded &g, const core::Limits &own, const SuggestedLimit &line);

}  // namespace esg
