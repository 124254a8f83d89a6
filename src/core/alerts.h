// Alerts: which rules there are, what holds of each, and when one is raised and cleared again.
//
// The rules stand in one table (alerts.cpp); SQL, docs and tests quote it. A rule measures one figure per scope of a table,
// or per job and path of the server. An alert is raised where the figure is above raise_above and stays until it has come
// down to clear_below: between the two nothing changes, so that a figure which wavers does not make an alert flap.
#pragma once

#include "core/scope.h"

namespace esg::core {

enum class AlertRule : std::uint8_t {
  kLongRunning,
  kFailureRate,
  kStuck,
  kFalsePositives,
  kNotCompleted,
  kReapingOverdue,
  kMemoryNearlyFull,
  kMassDeath,
};
constexpr int kAlertRuleCount = 8;

/// What a figure is measured in.
enum class AlertUnit : std::uint8_t { kSeconds, kShare, kTimes, kRuns };

/// What a rule goes by, as it holds somewhere.
struct AlertLimits {
  bool enabled = true;
  double raise_above = 0;
  double clear_below = 0;       ///< never more than raise_above
  Micros time_window = 0;       ///< how far back it looks; of rules that look at this instant alone 0
  std::int64_t min_sample = 0;  ///< of fewer it says nothing; 0: the rule takes no sample
};

struct AlertRuleInfo {
  AlertRule rule;
  const char *name;
  const char *severity;  ///< "warning", "critical"
  AlertUnit unit;
  bool of_tables;        ///< else about no table
  bool window_is_fixed;  ///< time_window cannot be changed
  AlertLimits defaults;
  const char *meaning;  ///< a sentence without a full stop
};

[[nodiscard]] const AlertRuleInfo &alert_rule(AlertRule rule) noexcept;

/// Rule `number`, from 0; in the order in which they are listed.
[[nodiscard]] const AlertRuleInfo &alert_rule_at(int number) noexcept;

[[nodiscard]] const AlertRuleInfo *find_alert_rule(std::string_view name) noexcept;

/// "seconds", "share", "times", "runs".
[[nodiscard]] const char *unit_name(AlertUnit unit) noexcept;

/// What somebody changed; absent: left as it is on the level above.
struct AlertOverride {
  AlertRule rule = AlertRule::kLongRunning;
  bool of_table = false;  ///< for one table; else for all tables, and what is about none
  ScopePattern scope;     ///< of the table: names nothing where it is for all its scopes
  std::optional<bool> enabled;
  std::optional<double> raise_above;
  std::optional<double> clear_below;
  std::optional<Micros> time_window;
  std::optional<std::int64_t> min_sample;
};

/// What holds for a scope of a table; `of_table` false: for all tables, and what is about none. Each value comes from the most
/// specific override that has it: a scope's before the table's, the table's before that for all. A clear_below that is less
/// specific than raise_above follows it in the rule's own proportion; none is above raise_above.
[[nodiscard]] AlertLimits resolve_alert_limits(AlertRule rule, bool of_table, const ScopePattern &scope,
                                               const AlertOverride *overrides, std::size_t count) noexcept;

struct AlertReading {
  double figure = 0;
  std::optional<std::int64_t> sample;
};

enum class AlertStep : std::uint8_t { kQuiet, kRaise, kStay, kClear };

/// What becomes of an alert that is raised, or is not, at this reading. One that is raised stays until half of its sample.
[[nodiscard]] AlertStep alert_step(const AlertLimits &limits, const AlertReading &reading, bool raised) noexcept;

/// "15 %", "15%" or "0.15" as a share, "2.5" as a number; blanks around it are left out. Absent for what is neither, or not
/// finite.
[[nodiscard]] std::optional<double> parse_share(std::string_view text) noexcept;
[[nodiscard]] std::optional<double> parse_number(std::string_view text) noexcept;

/// A figure in words with its unit: "30 min", "15 %", "2.5", "3". They can be given back to set_alert_rule. Writes at most
/// `size` bytes with the final zero; returns `out`.
char *describe_figure(AlertUnit unit, double figure, char *out, std::size_t size) noexcept;

}  // namespace esg::core
