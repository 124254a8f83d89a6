// An alert does not flap: at one and the same reading it changes at most once. Limits come from overrides that apply, and
// what is written of a figure is read back as that figure.

#include "core/alerts.h"

#include <cmath>
#include <vector>

#include "input.h"

namespace {

using namespace esg::core;
using esg::fuzz::Input;

/// As set_alert_rule lets through: finite and not negative.
double draw_figure(Input &input) {
  if (input.flag()) return input.below(200) / 20.0;
  const double number = input.number();
  return std::isfinite(number) ? std::fabs(number) : 0;
}

AlertOverride draw_override(Input &input) {
  static constexpr std::string_view kValues[] = {"a", "b"};
  AlertOverride change;
  change.rule = static_cast<AlertRule>(input.below(kAlertRuleCount));
  change.of_table = input.flag();
  for (int i = 0; change.of_table && i < 2; ++i) {
    change.scope.named[i] = input.flag();
    if (change.scope.named[i]) change.scope.values[i] = kValues[input.below(2)];
  }
  change.enabled = input.maybe([&] { return input.flag(); });
  change.raise_above = input.maybe([&] { return draw_figure(input); });
  change.clear_below = input.maybe([&] { return draw_figure(input); });
  change.time_window = input.maybe([&] { return input.span(); });
  change.min_sample = input.maybe([&] { return input.span(); });
  return change;
}

/// The value is the rule's own, or that of an override of this rule.
template <typename Value, typename Pick>
bool somebody_said(const Value &value, const Value &default_value, AlertRule rule,
                   const std::vector<AlertOverride> &changes, Pick pick) {
  if (value == default_value) return true;
  for (const AlertOverride &change : changes)
    if (change.rule == rule && pick(change) == value) return true;
  return false;
}

AlertLimits check_limits(Input &input) {
  const auto rule = static_cast<AlertRule>(input.below(kAlertRuleCount));
  const bool of_table = input.flag();
  std::vector<AlertOverride> changes;
  for (int n = input.below(6); n > 0; --n) changes.push_back(draw_override(input));
  const AlertOverride scope = draw_override(input);
  const AlertLimits limits = resolve_alert_limits(rule, of_table, scope.scope, changes.data(), changes.size());
  const AlertLimits &own = alert_rule(rule).defaults;
  CHECK(limits.clear_below <= limits.raise_above);
  CHECK(somebody_said(limits.raise_above, own.raise_above, rule, changes, [](auto &c) { return c.raise_above; }));
  CHECK(somebody_said(limits.enabled, own.enabled, rule, changes, [](auto &c) { return c.enabled; }));
  CHECK(somebody_said(limits.time_window, own.time_window, rule, changes, [](auto &c) { return c.time_window; }));
  CHECK(somebody_said(limits.min_sample, own.min_sample, rule, changes, [](auto &c) { return c.min_sample; }));
  // What is of another rule, or of a table where none is meant, changes nothing.
  std::vector<AlertOverride> ours;
  for (const AlertOverride &change : changes)
    if (change.rule == rule && (of_table || !change.of_table)) ours.push_back(change);
  const AlertLimits again = resolve_alert_limits(rule, of_table, scope.scope, ours.data(), ours.size());
  CHECK(again.raise_above == limits.raise_above && again.clear_below == limits.clear_below);
  return limits;
}

void check_steps(Input &input, const AlertLimits &limits) {
  AlertReading reading;
  reading.figure = input.flag() ? limits.raise_above : draw_figure(input);
  reading.sample = input.maybe([&] { return input.span(); });
  for (const bool raised : {false, true}) {
    const AlertStep step = alert_step(limits, reading, raised);
    CHECK(raised ? step == AlertStep::kStay || step == AlertStep::kClear
                 : step == AlertStep::kRaise || step == AlertStep::kQuiet);
    const bool raised_after = step == AlertStep::kRaise || step == AlertStep::kStay;
    const AlertStep again = alert_step(limits, reading, raised_after);
    CHECK(again == (raised_after ? AlertStep::kStay : AlertStep::kQuiet));
    if (raised_after) CHECK(limits.enabled && reading.figure > limits.clear_below);
  }
}

void check_texts(Input &input) {
  const double figure = draw_figure(input);
  const auto unit = static_cast<AlertUnit>(input.below(4));
  const auto size = static_cast<std::size_t>(input.below(64));
  const auto describe = [&](char *out, std::size_t room) { return describe_figure(unit, figure, out, room); };
  CHECK(esg::fuzz::is_printable_ascii(esg::fuzz::written(size, describe)));
  const std::string whole = esg::fuzz::written(400, describe);
  CHECK(!whole.empty());
  if (unit != AlertUnit::kSeconds && figure < 1e300) {
    const auto read = unit == AlertUnit::kShare ? parse_share(whole) : parse_number(whole);
    CHECK(read && std::fabs(*read - figure) <= figure * 0.01);
  }
  const std::string text(input.rest());
  const auto number = parse_number(text);
  CHECK(!number || std::isfinite(*number));
  CHECK(parse_number(" " + text + "  ") == number);
  const auto share = parse_share(text + "%");
  CHECK(share.has_value() == number.has_value());
  CHECK(find_alert_rule(text) == nullptr || text == find_alert_rule(text)->name);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Input input(data, size);
  check_steps(input, check_limits(input));
  check_texts(input);
  return 0;
}
