// The order of the verdict's rules: wherever two of them fit one run, the earlier decides.

#include "core/verdict.h"

#include <gtest/gtest.h>

#include <iterator>
#include <string>
#include <vector>

#include "evidence.h"

namespace esg::core {
namespace {

using namespace test;

struct Case {
  Evidence run;
  Limits limits;
  Question question = kAsked;
};

/// A run that is well by every rule: started half an hour ago, a sign this instant, on a server that is up for a day.
Case well() {
  Case one;
  one.run = started_ago(30 * kMinute);
  one.run.last_sign = kNow;
  one.run.server_started = kNow - kDay;
  one.run.restart_grace = kMinute;
  one.limits.max_silence = kHour;
  return one;
}

/// Leases start as bound ones without ttl, the one kind that every rule but the sixth can judge.
void take_lease(Case &one) { one.run.lease.kind = LeaseKind::kSessionBound; }

/// One way to make one rule fit, and no other. What two of them set together stays apart: the signs of life end after
/// the start and before the server's start.
struct Way {
  int rule;
  const char *name;
  Verdict verdict;
  bool spared;  ///< the run is not dead by it
  void (*apply)(Case &);
};

constexpr Way kWays[] = {
    {1, "fenced", Verdict::kFenced, true, [](Case &one) { one.run.fenced_since = kNow - kSecond; }},
    {2, "overdue", Verdict::kOverdue, false, [](Case &one) { one.limits.max_age = 10 * kMinute; }},
    {3, "session_gone", Verdict::kSessionGone, false,
     [](Case &one) {
       take_lease(one);
       one.run.lease.session_ended = true;
     }},
    {4, "worker_restarted", Verdict::kWorkerRestarted, false,
     [](Case &one) {
       take_lease(one);
       one.run.lease.worker_reannounced = true;
     }},
    {5, "suspect", Verdict::kSuspect, true,
     [](Case &one) {
       take_lease(one);
       one.run.last_sign = kNow - 28 * kMinute;
       one.run.server_started = kNow - 10 * kSecond;
     }},
    {5, "server_restarted", Verdict::kServerRestarted, false,
     [](Case &one) {
       take_lease(one);
       one.run.last_sign = kNow - 28 * kMinute;
       one.run.server_started = kNow - 5 * kMinute;
     }},
    {6, "heartbeat_lost", Verdict::kHeartbeatLost, false,
     [](Case &one) {
       take_lease(one);
       one.run.lease.ttl = kMinute;
       one.run.last_sign = kNow - 28 * kMinute;
     }},
    {7, "stalled", Verdict::kStalled, false,
     [](Case &one) {
       one.run.progress_changed = kNow - 25 * kMinute;
       one.limits.max_stall = 10 * kMinute;
     }},
    {8, "silent", Verdict::kSilent, false,
     [](Case &one) {
       one.run.last_sign = kNow - 28 * kMinute;
       one.limits.max_silence = 5 * kMinute;
     }},
    {9, "overdue_on_request", Verdict::kOverdue, false,
     [](Case &one) {
       one.question.older_than = 25 * kMinute;
       one.question.even_if_alive = true;
     }},
    {10, "passed_over", Verdict::kPassedOver, false, [](Case &one) { one.run.passed_over = kNow - 2 * kSecond; }},
};

std::vector<int> fitting(const Case &one) {
  std::vector<int> rules;
  for (int rule = 1; rule <= kRuleCount; ++rule)
    if (view_rule(rule, one.run, one.limits, one.question).fits) rules.push_back(rule);
  return rules;
}

void expect_decided_by(const Way &way, const Case &one) {
  const Judgement said = judge(one.run, one.limits, one.question);
  const RuleView view = view_rule(way.rule, one.run, one.limits, one.question);
  EXPECT_EQ(said, (Judgement{way.verdict, way.rule, view.measured, view.limit}));
  EXPECT_EQ(said.dead(), !way.spared);
}

TEST(RuleOrder, StartsFromARunThatNoRuleFits) {
  const Case one = well();
  EXPECT_EQ(fitting(one), std::vector<int>{});
  EXPECT_EQ(judge(one.run, one.limits, one.question), (Judgement{Verdict::kLive, 0, 0, kHour}));
}

class OneRule : public testing::TestWithParam<Way> {};

TEST_P(OneRule, DecidesAlone) {
  Case one = well();
  GetParam().apply(one);
  EXPECT_EQ(fitting(one), std::vector<int>{GetParam().rule});
  expect_decided_by(GetParam(), one);
}

INSTANTIATE_TEST_SUITE_P(RuleOrder, OneRule, testing::ValuesIn(kWays),
                         [](const auto &one) { return std::string(one.param.name); });

struct Pair {
  Way earlier, later;
};

/// Whether two rules can fit one run. The sixth needs a ttl, the eighth needs none; and nothing spares a run that was passed
/// over: see the tests below.
bool fit_together(const Way &earlier, const Way &later) {
  if (earlier.rule == 6 && later.rule == 8) return false;
  return !(earlier.spared && later.rule == 10);
}

std::vector<Pair> pairs() {
  std::vector<Pair> all;
  for (const Way &earlier : kWays)
    for (const Way &later : kWays)
      if (earlier.rule < later.rule && fit_together(earlier, later)) all.push_back({earlier, later});
  return all;
}

class TwoRules : public testing::TestWithParam<Pair> {};

TEST_P(TwoRules, AreDecidedByTheEarlier) {
  const auto &[earlier, later] = GetParam();
  Case one = well();
  earlier.apply(one);
  later.apply(one);
  EXPECT_TRUE(view_rule(earlier.rule, one.run, one.limits, one.question).fits);
  EXPECT_TRUE(view_rule(later.rule, one.run, one.limits, one.question).fits);
  expect_decided_by(earlier, one);
}

INSTANTIATE_TEST_SUITE_P(RuleOrder, TwoRules, testing::ValuesIn(pairs()), [](const auto &one) {
  return std::string(one.param.earlier.name) + "_before_" + one.param.later.name;
});

TEST(RuleOrder, LosesNoPairOfRules) {
  // 45 pairs of ten rules, less the two that cannot be; the fifth rule stands twice, and has nine partners, once eight.
  EXPECT_EQ(pairs().size(), 45u - 2u + 8u);
}

TEST(RuleOrder, NeverSparesARunThatWasPassedOver) {
  for (const Way &way : kWays) {
    if (!way.spared) continue;
    Case one = well();
    way.apply(one);
    EXPECT_EQ(fitting(one), std::vector<int>{way.rule}) << way.name;
    one.run.passed_over = kNow;
    EXPECT_EQ(fitting(one), std::vector<int>{10}) << way.name;
  }
}

TEST(RuleOrder, NeverSeesTheSixthAndTheEighthRuleTogether) {
  for (const LeaseKind kind : {LeaseKind::kNone, LeaseKind::kHeartbeat, LeaseKind::kSessionBound})
    for (const std::optional<Micros> ttl : {std::optional<Micros>(), std::optional<Micros>(kMinute)}) {
      Case one = well();
      one.run.last_sign = kNow - 28 * kMinute;
      one.limits.max_silence = kMinute;
      one.run.lease.kind = kind;
      one.run.lease.ttl = ttl;
      const bool sixth = kind != LeaseKind::kNone && ttl;
      const bool eighth = kind == LeaseKind::kNone || (kind == LeaseKind::kSessionBound && !ttl);
      EXPECT_EQ(view_rule(6, one.run, one.limits, one.question).fits, sixth);
      EXPECT_EQ(view_rule(8, one.run, one.limits, one.question).fits, eighth);
      EXPECT_FALSE(sixth && eighth);
    }
}

/// Every rule fits that can together with the fifth to the ninth, but the tenth.
Case badly_off() {
  Case one = well();
  for (const Way &way : kWays)
    if (way.rule != 6 && way.rule != 10) way.apply(one);
  return one;
}

/// What decides, and how what it stands on is taken away.
struct Step {
  Verdict decides;
  void (*take_away)(Case &);
};

constexpr Step kFence = {Verdict::kFenced, [](Case &c) { c.run.fenced_since.reset(); }};
constexpr Step kDeaths[] = {
    {Verdict::kOverdue, [](Case &c) { c.limits.max_age.reset(); }},
    {Verdict::kSessionGone, [](Case &c) { c.run.lease.session_ended = false; }},
    {Verdict::kWorkerRestarted, [](Case &c) { c.run.lease.worker_reannounced = false; }},
    {Verdict::kServerRestarted, [](Case &c) { c.run.server_started = kNow - kDay; }},
    {Verdict::kStalled, [](Case &c) { c.limits.max_stall.reset(); }},
    {Verdict::kSilent, [](Case &c) { c.run.last_sign = kNow; }},
    {Verdict::kOverdue, [](Case &c) { c.question.even_if_alive = false; }},
};
constexpr Step kMark = {Verdict::kPassedOver, [](Case &c) { c.run.passed_over.reset(); }};

void take(Case &one, const Step &step) {
  EXPECT_EQ(judge(one.run, one.limits, one.question).verdict, step.decides);
  step.take_away(one);
}

TEST(RuleOrder, LetsTheFirstRuleDecideWhereAllFit) {
  Case one = badly_off();
  EXPECT_EQ(fitting(one), (std::vector<int>{1, 2, 3, 4, 5, 7, 8, 9}));
  // Taking away what the first rule stands on leaves the decision to the next, down to the run that is well.
  take(one, kFence);
  for (const Step &step : kDeaths) take(one, step);
  EXPECT_EQ(judge(one.run, one.limits, one.question).verdict, Verdict::kLive);
}

TEST(RuleOrder, LetsTheTenthRuleDecideLastAndTheFirstNotAtAll) {
  Case one = badly_off();
  one.run.passed_over = kNow;
  EXPECT_EQ(fitting(one), (std::vector<int>{2, 3, 4, 5, 7, 8, 9, 10}));
  for (const Step &step : kDeaths) take(one, step);
  // The fence has been open all the time: it counts again when the run has claimed its scope.
  take(one, kMark);
  take(one, kFence);
  EXPECT_EQ(judge(one.run, one.limits, one.question).verdict, Verdict::kLive);
}

TEST(RuleViews, AreNumberedInTheOrderInWhichTheyAreTried) {
  const char *const words[kRuleCount] = {
      "a transaction that fenced the run is open",
      "age since the start against max_age",
      "the session that the lease is bound to",
      "another incarnation of the run's worker",
      "no sign of life since the server's start or promotion",
      "last sign of life against the lease's ttl",
      "time since progress moved against max_stall",
      "last sign of life against max_silence",
      "age since the start against older_than (even_if_alive)",
      "another run that started in its exclusive scope when it was dead",
  };
  for (int rule = 1; rule <= kRuleCount; ++rule) {
    const RuleView view = view_rule(rule, Evidence{}, Limits{}, kAsked);
    EXPECT_EQ(view.rule, rule);
    EXPECT_STREQ(view.evidence, words[rule - 1]);
    EXPECT_FALSE(view.applies) << rule;
    EXPECT_FALSE(view.fits) << rule;
  }
}

TEST(RuleViews, ShowEveryRulesFiguresWhicheverDecides) {
  Case one = badly_off();
  const auto expect = [&one](int rule, std::optional<Micros> measured, std::optional<Micros> limit) {
    const RuleView view = view_rule(rule, one.run, one.limits, one.question);
    EXPECT_TRUE(view.applies) << rule;
    EXPECT_EQ(view.measured, measured) << rule;
    EXPECT_EQ(view.limit, limit) << rule;
  };
  expect(1, kSecond, std::nullopt);
  expect(2, 30 * kMinute, 10 * kMinute);
  expect(3, 28 * kMinute, std::nullopt);
  expect(4, 28 * kMinute, std::nullopt);
  expect(5, 5 * kMinute, kMinute);
  expect(7, 25 * kMinute, 10 * kMinute);
  expect(8, 28 * kMinute, 25 * kMinute);
  expect(9, 30 * kMinute, 25 * kMinute);
  one.run.passed_over = kNow - kSecond;
  expect(10, kSecond, std::nullopt);
}

}  // namespace
}  // namespace esg::core
