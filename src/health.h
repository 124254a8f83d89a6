// The checks behind guard_health, and where they write what they find; what alerts go by too.
#pragma once

#include "monitor.h"
#include "pg/rows.h"
#include "runs.h"

namespace esg {

constexpr const char *kError = "error";      ///< the guard cannot do its work
constexpr const char *kWarning = "warning";  ///< it will go wrong
constexpr const char *kInfo = "info";        ///< good to know

/// The lines of guard_health.
struct Report {
  pg::Rows *rows;
  core::Question question;

  /// `problem` is a code that stays the same; the rest is for people.
  void line(const char *severity, Oid relation, const char *problem, const char *detail, const char *hint) const {
    rows->add_text(severity).add_oid(relation).add_text(problem).add_text(detail).add_text(hint).put();
  }
};

/// Everything about one table, with the rights that work_as gives. `hidden`: row security applies to the caller, who
/// then learns nothing from the journal.
void check_table(const Guarded &g, bool hidden, const Report &report);

/// Everything about the table's runs in a live status: times and dead ones that nobody closes.
void check_runs(const Guarded &g, const Report &report);

/// How long ago a run became dead; absent where it is not, or that is not known.
std::optional<core::Micros> dead_for(const Run &run, core::Micros now);

/// Reapings of the last days that were mistakes, and the limits that would have been long enough.
void check_mistakes(const Guarded &g, const Report &report);

/// Two live runs whose scopes overlap though the scope is exclusive; null where no two do. Of very many runs, the oldest
/// are compared.
struct SharedScope {
  const Run *one = nullptr;
  const Run *other = nullptr;
};
SharedScope find_shared_scope(const Guarded &g, const Runs &runs);

/// Memory, and the workers on demand: what is missing, full or late.
void check_memory(const Report &report);

/// pg_cron and the jobs that reap in this database.
void check_schedule(const Report &report);

}  // namespace esg
