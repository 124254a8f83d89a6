// What each alert rule reads: of one table's runs, history and journal, or of the server.
#pragma once

#include "alert_rules.h"
#include "runs.h"

namespace esg {

/// A span as a figure of a rule.
inline double in_seconds(core::Micros span) { return static_cast<double>(span) / static_cast<double>(core::kSecond); }

/// One figure of one rule. `detail` and `hint` are for people.
struct Reading {
  core::AlertRule rule;
  const char *scope;  ///< as jsonb prints it; null: the table has no scopes, or it is about no table
  core::ScopePattern pattern;
  const char *subject;  ///< the job or the path; null: none
  core::AlertReading value;
  const char *detail;
  const char *hint;
};

struct Readings {
  Reading *items = nullptr;
  int count = 0;
  int room = 0;
  /// Of these rules nothing is known this time: their alerts stay as they are.
  bool not_asked[core::kAlertRuleCount] = {};

  Reading &append(core::AlertRule rule, const char *scope, const core::ScopePattern &pattern);
};

/// The figures of a table. Works with the rights in force (see read_as_owner). A sweep leaves out what would be costly to ask
/// each minute. `live`: the table's live runs by the same question, those of open transactions too; null: they are read.
Readings read_table_figures(const Guarded &g, const AlertRules &rules, const core::Question &question, bool sweep,
                            const Runs *live);

/// The figures that are about no table.
Readings read_server_figures(const AlertRules &rules, const core::Question &question);

}  // namespace esg
