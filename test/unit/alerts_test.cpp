// Alerts: the rule table, what holds where after overrides, when an alert is raised and cleared, figures as people write them.

#include "core/alerts.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace esg::core {
namespace {

std::string words(AlertUnit unit, double figure) {
  char out[64];
  return describe_figure(unit, figure, out, sizeof out);
}

// ---- the table ---------------------------------------------------------------------

TEST(AlertRules, StandInTheTableInTheOrderOfTheirNumbers) {
  std::set<std::string> names;
  for (int i = 0; i < kAlertRuleCount; ++i) {
    const AlertRuleInfo &info = alert_rule_at(i);
    EXPECT_EQ(static_cast<int>(info.rule), i);
    EXPECT_EQ(&alert_rule(info.rule), &info);
    EXPECT_EQ(find_alert_rule(info.name), &info);
    EXPECT_TRUE(names.insert(info.name).second) << info.name;
    EXPECT_TRUE(info.defaults.enabled) << info.name;
    EXPECT_LE(info.defaults.clear_below, info.defaults.raise_above) << info.name;
    EXPECT_TRUE(std::string(info.severity) == "warning" || std::string(info.severity) == "critical") << info.name;
  }
  EXPECT_EQ(find_alert_rule("failure"), nullptr);
  EXPECT_EQ(find_alert_rule(""), nullptr);
}

TEST(AlertRules, HaveTheFiguresThatTheDocumentationTells) {
  const AlertLimits &rate = find_alert_rule("failure_rate")->defaults;
  EXPECT_DOUBLE_EQ(rate.raise_above, 0.10);
  EXPECT_DOUBLE_EQ(rate.clear_below, 0.08);
  EXPECT_EQ(rate.time_window, kDay);
  EXPECT_EQ(rate.min_sample, 10);
  EXPECT_DOUBLE_EQ(find_alert_rule("long_running")->defaults.raise_above, 1800);
  EXPECT_DOUBLE_EQ(find_alert_rule("stuck")->defaults.raise_above, 120);
  EXPECT_STREQ(find_alert_rule("stuck")->severity, "critical");
  EXPECT_DOUBLE_EQ(find_alert_rule("reaping_overdue")->defaults.raise_above, 300);
  EXPECT_FALSE(find_alert_rule("reaping_overdue")->of_tables);
  EXPECT_DOUBLE_EQ(find_alert_rule("not_completed")->defaults.raise_above, 2);
  EXPECT_EQ(find_alert_rule("not_completed")->defaults.min_sample, 5);
  EXPECT_TRUE(find_alert_rule("not_completed")->window_is_fixed);
  EXPECT_DOUBLE_EQ(find_alert_rule("memory_nearly_full")->defaults.clear_below, 0.80);
  EXPECT_EQ(find_alert_rule("mass_death")->defaults.time_window, kHour);
}

// ---- the step ----------------------------------------------------------------------

AlertStep rate_step(std::int64_t failed, std::int64_t ended, bool raised) {
  return alert_step(alert_rule(AlertRule::kFailureRate).defaults,
                    {static_cast<double>(failed) / static_cast<double>(ended), ended}, raised);
}

TEST(AlertStep, RaisesAboveTenPercentAndClearsAtEight) {
  EXPECT_EQ(rate_step(10, 100, false), AlertStep::kQuiet);  // ten percent is not above
  EXPECT_EQ(rate_step(11, 100, false), AlertStep::kRaise);
  EXPECT_EQ(rate_step(9, 100, false), AlertStep::kQuiet);
  EXPECT_EQ(rate_step(11, 100, true), AlertStep::kStay);
  EXPECT_EQ(rate_step(9, 100, true), AlertStep::kStay);  // between the two nothing changes
  EXPECT_EQ(rate_step(8, 100, true), AlertStep::kClear);
  EXPECT_EQ(rate_step(7, 100, true), AlertStep::kClear);
}

TEST(AlertStep, CountsExactSharesExactly) {
  for (std::int64_t ended = 10; ended <= 5000; ended += 10) {
    EXPECT_EQ(rate_step(ended / 10, ended, false), AlertStep::kQuiet) << ended;
    EXPECT_EQ(rate_step(ended / 10 + 1, ended, false), AlertStep::kRaise) << ended;
  }
  for (std::int64_t ended = 25; ended <= 5000; ended += 25) {
    EXPECT_EQ(rate_step(ended / 25 * 2, ended, true), AlertStep::kClear) << ended;
    EXPECT_EQ(rate_step(ended / 25 * 2 + 1, ended, true), AlertStep::kStay) << ended;
  }
}

TEST(AlertStep, SaysNothingOfTooSmallASample) {
  EXPECT_EQ(rate_step(1, 1, false), AlertStep::kQuiet);
  EXPECT_EQ(rate_step(9, 9, false), AlertStep::kQuiet);
  EXPECT_EQ(rate_step(10, 10, false), AlertStep::kRaise);
}

TEST(AlertStep, StaysUntilHalfOfTheSample) {
  EXPECT_EQ(rate_step(5, 5, true), AlertStep::kStay);
  EXPECT_EQ(rate_step(4, 4, true), AlertStep::kClear);
  AlertLimits odd = alert_rule(AlertRule::kFailureRate).defaults;
  odd.min_sample = 5;
  EXPECT_EQ(alert_step(odd, {1, 3}, true), AlertStep::kStay);
  EXPECT_EQ(alert_step(odd, {1, 2}, true), AlertStep::kClear);
}

TEST(AlertStep, NeedsNoSampleWhereTheRuleTakesNone) {
  const AlertLimits &limits = alert_rule(AlertRule::kLongRunning).defaults;
  EXPECT_EQ(alert_step(limits, {1800, {}}, false), AlertStep::kQuiet);
  EXPECT_EQ(alert_step(limits, {1800.5, {}}, false), AlertStep::kRaise);
  EXPECT_EQ(alert_step(limits, {1800, {}}, true), AlertStep::kClear);
}

TEST(AlertStep, OfADisabledRuleClears) {
  AlertLimits limits = alert_rule(AlertRule::kStuck).defaults;
  limits.enabled = false;
  EXPECT_EQ(alert_step(limits, {1000, {}}, false), AlertStep::kQuiet);
  EXPECT_EQ(alert_step(limits, {1000, {}}, true), AlertStep::kClear);
}

TEST(AlertStep, DoesNotFlapWhileTheFigureWaversBetweenTheTwo) {
  bool raised = false;
  int changes = 0;
  for (int i = 0; i < 1000; ++i) {
    const AlertStep step = rate_step(i == 0 ? 12 : 9 + i % 2, 100, raised);
    if (step == AlertStep::kRaise || step == AlertStep::kClear) ++changes;
    raised = step == AlertStep::kRaise || step == AlertStep::kStay;
  }
  EXPECT_EQ(changes, 1);
  EXPECT_TRUE(raised);
}

// ---- overrides ---------------------------------------------------------------------

struct Named {
  int column;
  ScopeValue value;
};

ScopePattern pattern(std::initializer_list<Named> columns) {
  ScopePattern one;
  for (const Named &column : columns) {
    one.named[column.column] = true;
    one.values[column.column] = column.value;
  }
  return one;
}

AlertOverride raise_for(bool of_table, const ScopePattern &scope, double raise_above) {
  AlertOverride one;
  one.rule = AlertRule::kFailureRate;
  one.of_table = of_table;
  one.scope = scope;
  one.raise_above = raise_above;
  return one;
}

AlertLimits resolve(const ScopePattern &scope, const std::vector<AlertOverride> &overrides, bool of_table = true) {
  return resolve_alert_limits(AlertRule::kFailureRate, of_table, scope, overrides.data(), overrides.size());
}

const ScopePattern kProductsMain = pattern({{0, "products"}, {1, "main"}});

TEST(ResolveAlertLimits, AreTheDefaultsWhereNothingWasChanged) {
  const AlertLimits limits = resolve(kProductsMain, {});
  EXPECT_DOUBLE_EQ(limits.raise_above, 0.10);
  EXPECT_DOUBLE_EQ(limits.clear_below, 0.08);
}

TEST(ResolveAlertLimits, TheMostSpecificWinsWhateverTheOrder) {
  std::vector<AlertOverride> all{raise_for(false, {}, 0.2), raise_for(true, {}, 0.3),
                                 raise_for(true, pattern({{1, "main"}}), 0.4),
                                 raise_for(true, pattern({{0, "products"}}), 0.5)};
  for (int turn = 0; turn < 2; ++turn) {
    EXPECT_DOUBLE_EQ(resolve(kProductsMain, all).raise_above, 0.5);  // of equal ones the earlier column
    EXPECT_DOUBLE_EQ(resolve(pattern({{0, "orders"}, {1, "main"}}), all).raise_above, 0.4);
    EXPECT_DOUBLE_EQ(resolve(pattern({{0, "orders"}, {1, "fbe"}}), all).raise_above, 0.3);
    EXPECT_DOUBLE_EQ(resolve({}, all).raise_above, 0.3);
    EXPECT_DOUBLE_EQ(resolve({}, all, false).raise_above, 0.2);
    std::vector<AlertOverride> reversed(all.rbegin(), all.rend());
    all = reversed;
  }
  all.push_back(raise_for(true, kProductsMain, 0.6));
  EXPECT_DOUBLE_EQ(resolve(kProductsMain, all).raise_above, 0.6);
}

TEST(ResolveAlertLimits, ANullScopeValueIsAValue) {
  const std::vector<AlertOverride> all{raise_for(true, pattern({{0, std::nullopt}}), 0.5)};
  EXPECT_DOUBLE_EQ(resolve(pattern({{0, std::nullopt}, {1, "main"}}), all).raise_above, 0.5);
  EXPECT_DOUBLE_EQ(resolve(kProductsMain, all).raise_above, 0.1);
  EXPECT_DOUBLE_EQ(resolve({}, all).raise_above, 0.1);
}

TEST(ResolveAlertLimits, EachValueComesFromItsOwnLevel) {
  AlertOverride window = raise_for(true, {}, 0.2);
  window.raise_above.reset();
  window.time_window = kHour;
  AlertOverride off = window;
  off.time_window.reset();
  off.enabled = false;
  off.scope = pattern({{0, "orders"}});
  const AlertLimits limits = resolve(pattern({{0, "orders"}, {1, "main"}}), {raise_for(false, {}, 0.3), window, off});
  EXPECT_FALSE(limits.enabled);
  EXPECT_DOUBLE_EQ(limits.raise_above, 0.3);
  EXPECT_EQ(limits.time_window, kHour);
  EXPECT_EQ(limits.min_sample, 10);
  EXPECT_TRUE(resolve(kProductsMain, {window, off}).enabled);
}

TEST(ResolveAlertLimits, ClearBelowFollowsWhereItIsNotGiven) {
  EXPECT_DOUBLE_EQ(resolve({}, {raise_for(true, {}, 0.5)}).clear_below, 0.4);
  AlertOverride both = raise_for(true, {}, 0.5);
  both.clear_below = 0.1;
  EXPECT_DOUBLE_EQ(resolve({}, {both}).clear_below, 0.1);
  // One given for all tables is no more what is meant for a table that has a raise_above of its own.
  AlertOverride of_all = raise_for(false, {}, 0.5);
  of_all.clear_below = 0.45;
  EXPECT_DOUBLE_EQ(resolve({}, {of_all}).clear_below, 0.45);
  EXPECT_DOUBLE_EQ(resolve({}, {of_all, raise_for(true, {}, 0.2)}).clear_below, 0.16);
}

TEST(ResolveAlertLimits, ClearBelowIsNeverAboveRaiseAbove) {
  AlertOverride clear = raise_for(true, kProductsMain, 0);
  clear.raise_above.reset();
  clear.clear_below = 0.3;
  EXPECT_DOUBLE_EQ(resolve(kProductsMain, {clear}).clear_below, 0.1);
  const AlertOverride none = raise_for(true, {}, 0);
  EXPECT_DOUBLE_EQ(resolve({}, {none}).clear_below, 0);
}

TEST(ResolveAlertLimits, OtherRulesAreNotTouched) {
  AlertOverride other = raise_for(true, {}, 60);
  other.rule = AlertRule::kStuck;
  EXPECT_DOUBLE_EQ(resolve({}, {other}).raise_above, 0.1);
  EXPECT_DOUBLE_EQ(resolve_alert_limits(AlertRule::kStuck, true, {}, &other, 1).raise_above, 60);
  EXPECT_DOUBLE_EQ(resolve_alert_limits(AlertRule::kStuck, true, {}, &other, 1).clear_below, 0);
}

// ---- figures -----------------------------------------------------------------------

TEST(ParseShare, TakesPercentAndFractions) {
  EXPECT_EQ(parse_share("15 %"), 0.15);
  EXPECT_EQ(parse_share("15%"), 0.15);
  EXPECT_EQ(parse_share(" 2.5 % "), 0.025);
  EXPECT_EQ(parse_share("0.15"), 0.15);
  EXPECT_EQ(parse_share("0"), 0);
  EXPECT_EQ(parse_share("-1 %"), -0.01);
}

TEST(ParseShare, RefusesTheRest) {
  for (const char *text :
       {"", " ", "%", " %", "15 percent", "15 % %", "1,5 %", "nan", "inf %", "1e999", "0x1", "15 %x", "--1"})
    EXPECT_EQ(parse_share(text), std::nullopt) << text;
}

TEST(ParseNumber, TakesNumbersAlone) {
  EXPECT_EQ(parse_number("2"), 2);
  EXPECT_EQ(parse_number(" 2.5 "), 2.5);
  EXPECT_EQ(parse_number("1e2"), 100);
  for (const char *text : {"", "2 runs", "two", "2 %", "infinity", "NaN", "2.5.1"})
    EXPECT_EQ(parse_number(text), std::nullopt) << text;
}

TEST(DescribeFigure, TellsTheUnit) {
  EXPECT_EQ(words(AlertUnit::kSeconds, 1800), "30 min");
  EXPECT_EQ(words(AlertUnit::kSeconds, 0), "0 s");
  EXPECT_EQ(words(AlertUnit::kSeconds, 5 * 86400 + 3600), "5 d 1 h");
  EXPECT_EQ(words(AlertUnit::kShare, 0.1), "10 %");
  EXPECT_EQ(words(AlertUnit::kShare, 3.0 / 13), "23.08 %");
  EXPECT_EQ(words(AlertUnit::kTimes, 2), "2");
  EXPECT_EQ(words(AlertUnit::kTimes, 2.449), "2.45");
  EXPECT_EQ(words(AlertUnit::kRuns, 12), "12");
}

TEST(DescribeFigure, OfAnythingFits) {
  for (const double figure : {1e300, -1e300, 1e18, 0.0})
    for (const AlertUnit unit : {AlertUnit::kSeconds, AlertUnit::kShare, AlertUnit::kTimes, AlertUnit::kRuns}) {
      char small[8];
      describe_figure(unit, figure, small, sizeof small);
      EXPECT_LT(std::string(small).size(), sizeof small);
    }
}

TEST(UnitNames, AreWhatTheViewsShow) {
  EXPECT_STREQ(unit_name(AlertUnit::kSeconds), "seconds");
  EXPECT_STREQ(unit_name(AlertUnit::kShare), "share");
  EXPECT_STREQ(unit_name(AlertUnit::kTimes), "times");
  EXPECT_STREQ(unit_name(AlertUnit::kRuns), "runs");
}

}  // namespace
}  // namespace esg::core
