// What the verdict makes of a run that a starter of its exclusive scope took for dead (rule 10): it stays dead, whatever
// would spare another run.

#include "core/verdict.h"

#include <gtest/gtest.h>

#include "evidence.h"

namespace esg::core {
namespace {

using namespace test;

constexpr Micros kSince = 40 * kSecond;

Evidence passed_over(Evidence run) {
  run.passed_over = kNow - kSince;
  return run;
}

const Judgement kDecidedByTheTenthRule{Verdict::kPassedOver, 10, kSince, std::nullopt};

TEST(PassedOver, IsDeadHoweverFreshTheSigns) {
  const Judgement said = judge(passed_over(leased(kMinute, 0)), max_silence(kHour), kAsked);
  EXPECT_EQ(said, kDecidedByTheTenthRule);
  EXPECT_TRUE(said.dead());
  EXPECT_EQ(judge(passed_over(bound(0)), max_silence(kHour), kAsked), kDecidedByTheTenthRule);
  EXPECT_EQ(judge(passed_over(started_ago(0)), max_silence(kHour), kAsked), kDecidedByTheTenthRule);
  EXPECT_EQ(judge(passed_over(started_ago(-kHour)), {kHour, kHour, kHour}, kAsked), kDecidedByTheTenthRule);
}

TEST(PassedOver, IsDeadWithoutAnyTimeOrLimit) {
  EXPECT_EQ(judge(passed_over(Evidence{}), Limits{}, kAsked), kDecidedByTheTenthRule);
  for (const LeaseKind kind : {LeaseKind::kNone, LeaseKind::kHeartbeat, LeaseKind::kSessionBound}) {
    Evidence run = passed_over(Evidence{});
    run.lease.kind = kind;
    run.restart_grace = kMinute;
    for (const Micros uptime : {-kHour, Micros{0}, kMinute, 30 * kDay}) {
      run.server_started = kNow - uptime;
      EXPECT_EQ(judge(run, {kHour, kHour, kHour}, kAsked), kDecidedByTheTenthRule) << uptime;
    }
  }
}

TEST(PassedOver, IsDeadWhereTheClockHasBeenSetBack) {
  Evidence run = leased(kMinute, 0);
  run.passed_over = kNow + kMinute;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kPassedOver, 10, -kMinute, std::nullopt}));
  run.passed_over = kLatest;
  EXPECT_TRUE(judge(run, {}, {kEarliest, std::nullopt, false}).dead());
}

TEST(PassedOver, IsNotSparedByAFence) {
  Evidence run = passed_over(leased(kMinute, 0));
  run.fenced_since = kNow - kSecond;
  EXPECT_EQ(judge(run, {}, kAsked), kDecidedByTheTenthRule);
  const RuleView view = view_rule(1, run, {}, kAsked);
  EXPECT_FALSE(view.applies);
  EXPECT_FALSE(view.fits);
  run.passed_over.reset();
  EXPECT_EQ(judge(run, {}, kAsked).verdict, Verdict::kFenced);
}

TEST(PassedOver, DiesOfItsTtlInAnOpenFence) {
  Evidence run = passed_over(leased(kMinute, kMinute + 1));
  run.fenced_since = kNow - kSecond;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kHeartbeatLost, 6, kMinute + 1, kMinute}));
}

TEST(PassedOver, IsNotSparedByTheGraceOfALease) {
  Evidence run = passed_over(leased(kHour, 30 * kMinute));
  run.server_started = kNow - kMinute;
  run.restart_grace = kMinute;
  EXPECT_EQ(judge(run, {}, kAsked), kDecidedByTheTenthRule);
  const RuleView view = view_rule(5, run, {}, kAsked);
  EXPECT_TRUE(view.applies);
  EXPECT_FALSE(view.fits);
  run.passed_over.reset();
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kSuspect, 5, kMinute, kHour}));
}

TEST(PassedOver, FallsToTheLaterRulesWithinTheGraceOfALease) {
  Evidence run = leased(kMinute, 20 * kHour);
  run.server_started = kNow - kMinute;
  run.restart_grace = kMinute;
  EXPECT_EQ(judge(run, {}, kAsked).verdict, Verdict::kSuspect);
  EXPECT_EQ(judge(passed_over(run), {}, kAsked), (Judgement{Verdict::kHeartbeatLost, 6, 20 * kHour, kMinute}));
  run.lease.ttl.reset();
  run.lease.kind = LeaseKind::kSessionBound;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked).verdict, Verdict::kSuspect);
  EXPECT_EQ(judge(passed_over(run), max_silence(kHour), kAsked), (Judgement{Verdict::kSilent, 8, 20 * kHour, kHour}));
}

TEST(PassedOver, LeavesServerRestartedAsItIs) {
  Evidence run = passed_over(leased(kSecond, 20 * kHour));
  run.server_started = kNow - kMinute - 1;
  run.restart_grace = kMinute;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kServerRestarted, 5, kMinute + 1, kMinute}));
}

TEST(PassedOver, IsNotSparedByTheGraceOfTheRow) {
  Evidence run = passed_over(started_ago(5 * kHour));
  run.server_started = kNow - kSecond;
  run.restart_grace = kMinute;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kSilent, 8, 5 * kHour, kHour}));
  EXPECT_TRUE(view_rule(8, run, max_silence(kHour), kAsked).fits);
  // Before the ninth rule, which the grace would have left it to.
  const Question asked{kNow, 2 * kHour, true};
  EXPECT_EQ(judge(run, max_silence(kHour), asked), (Judgement{Verdict::kSilent, 8, 5 * kHour, 2 * kHour}));
  run.passed_over.reset();
  EXPECT_EQ(judge(run, max_silence(kHour), asked), (Judgement{Verdict::kOverdue, 9, 5 * kHour, 2 * kHour}));
}

TEST(PassedOver, IsNotSparedByAMassDeath) {
  Evidence run = passed_over(leased(kMinute, kMinute + 1));
  run.lease.held_as_mass_death = true;
  EXPECT_EQ(judge(run, {}, kAsked), kDecidedByTheTenthRule);
}

TEST(PassedOver, LeavesTheNinthRuleBeforeIt) {
  EXPECT_EQ(judge(passed_over(leased(kMinute, 0)), {}, {kNow, kHour, true}),
            (Judgement{Verdict::kOverdue, 9, kDay, kHour}));
}

TEST(PassedOver, IsShownByItsRule) {
  const RuleView view = view_rule(10, passed_over(leased(kMinute, 0)), {kHour, kHour, kHour}, {kNow, kHour, true});
  EXPECT_EQ(view.verdict, Verdict::kPassedOver);
  EXPECT_TRUE(view.applies);
  EXPECT_TRUE(view.fits);
  EXPECT_EQ(view.measured, kSince);
  EXPECT_EQ(view.limit, std::nullopt);
}

}  // namespace
}  // namespace esg::core
