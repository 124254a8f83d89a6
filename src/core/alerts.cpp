// The table of alert rules, and the step from reading to alert. Pure; see alerts.h.

#include "core/alerts.h"

#include <charconv>
#include <cmath>
#include <cstdio>

namespace esg::core {
namespace {

constexpr double kMinutes = 60;

// clang-format off
constexpr AlertRuleInfo kRules[kAlertRuleCount] = {
    {AlertRule::kLongRunning, "long_running", "warning", AlertUnit::kSeconds, true, false,
     {true, 30 * kMinutes, 30 * kMinutes, 0, 0},
     "how long ago the oldest living run of the scope started"},
    {AlertRule::kFailureRate, "failure_rate", "warning", AlertUnit::kShare, true, false,
     {true, 0.10, 0.08, kDay, 10},
     "share of failed ones among the runs of the scope that started within time_window and have ended"},
    {AlertRule::kStuck, "stuck", "critical", AlertUnit::kSeconds, true, false,
     {true, 2 * kMinutes, 0, 0, 0},
     "how long a run of the scope has been dead without anything closing it; quiet while reaping is paused and in observe mode"},
    {AlertRule::kFalsePositives, "false_positives", "warning", AlertUnit::kRuns, true, false,
     {true, 0, 0, kDay, 0},
     "runs of the scope found dead that turned out to be alive within time_window"},
    {AlertRule::kNotCompleted, "not_completed", "warning", AlertUnit::kTimes, true, true,
     {true, 2, 1, 30 * kDay, 5},
     "how many times the longest usual gap between two completions of the scope has passed since its last one"},
    {AlertRule::kReapingOverdue, "reaping_overdue", "critical", AlertUnit::kSeconds, false, false,
     {true, 5 * kMinutes, 0, 0, 0},
     "how late a path that closes dead runs is: a job of pg_cron that does not run, fails or is not active, the worker on demand"},
    {AlertRule::kMemoryNearlyFull, "memory_nearly_full", "warning", AlertUnit::kShare, false, false,
     {true, 0.90, 0.80, 0, 0},
     "share of emag_sync_guard.max_tracked_runs that is in use"},
    {AlertRule::kMassDeath, "mass_death", "critical", AlertUnit::kRuns, false, false,
     {true, 0, 0, kHour, 0},
     "heartbeat leases that fell silent together within time_window and whose verdict was held back"},
};
// clang-format on

std::string_view trimmed(std::string_view text) noexcept {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// 0: for all tables; 1: for the table; more: for its scopes, the more specific the higher.
unsigned level_of(const AlertOverride &change) noexcept { return change.of_table ? 1 + specificity(change.scope) : 0; }

/// A value and how specific the override is that it comes from; -1: the rule's default.
template <typename Value>
struct Choice {
  Value value;
  long level = -1;

  void offer(unsigned at, const std::optional<Value> &other) noexcept {
    if (!other || static_cast<long>(at) < level) return;
    value = *other;
    level = at;
  }
};

}  // namespace

const AlertRuleInfo &alert_rule(AlertRule rule) noexcept { return kRules[static_cast<int>(rule)]; }

const AlertRuleInfo &alert_rule_at(int number) noexcept { return kRules[number]; }

const AlertRuleInfo *find_alert_rule(std::string_view name) noexcept {
  for (const AlertRuleInfo &info : kRules)
    if (name == info.name) return &info;
  return nullptr;
}

const char *unit_name(AlertUnit unit) noexcept {
  switch (unit) {
    case AlertUnit::kSeconds: return "seconds";
    case AlertUnit::kShare: return "share";
    case AlertUnit::kTimes: return "times";
    case AlertUnit::kRuns: return "runs";
  }
  return "";
}

AlertLimits resolve_alert_limits(AlertRule rule, bool of_table, const ScopePattern &scope,
                                 const AlertOverride *overrides, std::size_t count) noexcept {
  const AlertLimits &defaults = alert_rule(rule).defaults;
  Choice<bool> enabled{defaults.enabled};
  Choice<double> raise_above{defaults.raise_above};
  Choice<double> clear_below{defaults.clear_below};
  Choice<Micros> time_window{defaults.time_window};
  Choice<std::int64_t> min_sample{defaults.min_sample};
  for (std::size_t i = 0; i < count; ++i) {
    const AlertOverride &change = overrides[i];
    if (change.rule != rule || (change.of_table && (!of_table || !covers(change.scope, scope)))) continue;
    const unsigned level = level_of(change);
    enabled.offer(level, change.enabled);
    raise_above.offer(level, change.raise_above);
    clear_below.offer(level, change.clear_below);
    time_window.offer(level, change.time_window);
    min_sample.offer(level, change.min_sample);
  }
  if (clear_below.level < raise_above.level)
    clear_below.value =
        defaults.raise_above > 0 ? raise_above.value * (defaults.clear_below / defaults.raise_above) : 0;
  if (clear_below.value > raise_above.value) clear_below.value = raise_above.value;
  return {enabled.value, raise_above.value, clear_below.value, time_window.value, min_sample.value};
}

AlertStep alert_step(const AlertLimits &limits, const AlertReading &reading, bool raised) noexcept {
  const std::int64_t sample = reading.sample.value_or(limits.min_sample);
  const bool holds =
      limits.enabled && (raised ? reading.figure > limits.clear_below && sample >= limits.min_sample - sample
                                : reading.figure > limits.raise_above && sample >= limits.min_sample);
  if (raised) return holds ? AlertStep::kStay : AlertStep::kClear;
  return holds ? AlertStep::kRaise : AlertStep::kQuiet;
}

std::optional<double> parse_number(std::string_view text) noexcept {
  text = trimmed(text);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<double> parse_share(std::string_view text) noexcept {
  text = trimmed(text);
  if (text.empty() || text.back() != '%') return parse_number(text);
  text.remove_suffix(1);
  const auto percent = parse_number(text);
  if (!percent) return std::nullopt;
  return *percent / 100;
}

char *describe_figure(AlertUnit unit, double figure, char *out, std::size_t size) noexcept {
  constexpr double kMost = 1e12;  // in seconds; what would not fit a span
  switch (unit) {
    case AlertUnit::kSeconds:
      return describe_span(
          static_cast<Micros>(std::fmax(std::fmin(figure, kMost), -kMost) * static_cast<double>(kSecond)), out, size);
    case AlertUnit::kShare: std::snprintf(out, size, "%.4g %%", figure * 100); break;
    case AlertUnit::kTimes: std::snprintf(out, size, "%.3g", figure); break;
    case AlertUnit::kRuns: std::snprintf(out, size, "%.15g", figure); break;
  }
  return out;
}

}  // namespace esg::core
