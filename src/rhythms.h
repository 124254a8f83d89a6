// Rhythms: how long the runs of a scope usually take and how far apart they complete. Learned from the newest runs of the
// last 30 days by the sweep, kept in sync_guard.scope_rhythms, read by who estimates or alerts.
#pragma once

#include "runs.h"

namespace esg {

struct Rhythm {
  Jsonb *scope;  ///< {}: the table
  int64 completed;
  std::optional<core::Micros> usual_duration;
  std::optional<core::Micros> long_duration;
  std::optional<core::Micros> usual_gap;
  std::optional<core::Micros> long_gap;
  std::optional<core::Micros> last_completed;
};

struct Rhythms {
  Rhythm *items = nullptr;  ///< in the order of their scopes, as jsonb sorts them
  int count = 0;
  std::optional<core::Micros> learned_at;  ///< absent: never

  /// The rhythm of a scope as scope_json makes it (null: the table's own); null where none is known.
  [[nodiscard]] const Rhythm *of(const Jsonb *scope) const;
};

/// Reading the history of this table is costly: it is large and no index begins with the start column. Asks as the table's
/// owner, who takes ACCESS SHARE on it.
bool history_is_costly(const Guarded &g);

/// Learns anew where the last time is an hour ago (a day, where history_is_costly), or there was none; not while another
/// session does, nor where statement_timeout would strike before the costly reading is done. Works as the table's owner;
/// writes as the extension's.
void learn_rhythms(const Guarded &g, const core::Question &question);

/// What is known of all scopes, or only of `scopes` (jsonb[]) and the table itself. Reads one of the guard's own tables.
Rhythms read_rhythms(const Guarded &g, Datum scopes = 0);

}  // namespace esg
