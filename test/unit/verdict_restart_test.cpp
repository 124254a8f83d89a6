// What the verdict makes of a restart of the server, which takes the signs of life in memory along.

#include "core/verdict.h"

#include <gtest/gtest.h>

#include "evidence.h"

namespace esg::core {
namespace {

using namespace test;

// ---- rule 5: a lease is suspect, then server_restarted --------------------------------

Evidence leased_over_a_restart(Micros ttl, Micros since_start, Micros grace) {
  Evidence run = leased(ttl, 20 * kHour);
  run.server_started = kNow - since_start;
  run.restart_grace = grace;
  return run;
}

TEST(ServerRestarted, DoubtsUntilTheGraceIsOverAndKillsOneMicrosecondLater) {
  const Judgement doubted = judge(leased_over_a_restart(kSecond, kMinute, kMinute), {}, kAsked);
  EXPECT_EQ(doubted, (Judgement{Verdict::kSuspect, 5, kMinute, kMinute}));
  EXPECT_FALSE(doubted.dead());
  const Judgement said = judge(leased_over_a_restart(kSecond, kMinute + 1, kMinute), {}, kAsked);
  EXPECT_EQ(said, (Judgement{Verdict::kServerRestarted, 5, kMinute + 1, kMinute}));
  EXPECT_TRUE(said.dead());
}

TEST(ServerRestarted, WaitsForATtlThatIsLongerThanTheGrace) {
  EXPECT_EQ(judge(leased_over_a_restart(kHour, kHour, kMinute), {}, kAsked),
            (Judgement{Verdict::kSuspect, 5, kHour, kHour}));
  EXPECT_EQ(judge(leased_over_a_restart(kHour, kHour + 1, kMinute), {}, kAsked),
            (Judgement{Verdict::kServerRestarted, 5, kHour + 1, kHour}));
}

TEST(ServerRestarted, GivesABoundLeaseWithoutTtlTheGraceAlone) {
  Evidence run = bound(20 * kHour);
  run.restart_grace = kMinute;
  run.server_started = kNow - kMinute;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kSuspect, 5, kMinute, kMinute}));
  run.server_started = kNow - kMinute - 1;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kServerRestarted, 5, kMinute + 1, kMinute}));
}

TEST(ServerRestarted, IsAnsweredByASignAtTheServersStart) {
  Evidence run = leased(2 * kHour, kHour);
  run.restart_grace = kMinute;
  run.server_started = run.last_sign;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kLive, 0, kHour, 2 * kHour}));
  run.server_started = *run.last_sign + 1;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kSuspect, 5, kHour - 1, 2 * kHour}));
}

TEST(ServerRestarted, IsAnsweredByARunThatStartedSince) {
  Evidence run = started_ago(kMinute);
  run.lease.kind = LeaseKind::kHeartbeat;
  run.lease.ttl = kMinute;
  run.server_started = kNow - kHour;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kLive, 0, kMinute, kMinute}));
}

TEST(ServerRestarted, NeedsToKnowWhenTheServerStarted) {
  Evidence run = leased(kHour, kMinute);
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kLive, 0, kMinute, kHour}));
  EXPECT_FALSE(view_rule(5, run, {}, kAsked).applies);
}

TEST(ServerRestarted, DoubtsButNeverKillsARunOfWhichNoTimeIsKnown) {
  Evidence run;
  run.lease.kind = LeaseKind::kHeartbeat;
  run.lease.ttl = kMinute;
  run.server_started = kNow - kMinute;
  EXPECT_EQ(judge(run, {kHour, kHour, kHour}, kAsked), (Judgement{Verdict::kSuspect, 5, kMinute, kMinute}));
  run.server_started = kNow - 30 * kDay;
  EXPECT_EQ(judge(run, {kHour, kHour, kHour}, kAsked), (Judgement{Verdict::kLive, 0, std::nullopt, kMinute}));
}

TEST(ServerRestarted, DoubtsWhereTheServerStartedInTheFuture) {
  Evidence run = leased_over_a_restart(kMinute, -kHour, kMinute);
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kSuspect, 5, -kHour, kMinute}));
}

TEST(ServerRestarted, AppliesToEveryLeaseOnceTheServersStartIsKnown) {
  Evidence run = leased(kMinute, kSecond);
  run.server_started = kNow - kHour;
  const RuleView view = view_rule(5, run, {}, kAsked);
  EXPECT_TRUE(view.applies);
  EXPECT_FALSE(view.fits);
  EXPECT_EQ(view.measured, kHour);
  EXPECT_EQ(view.limit, kMinute);
  run.lease = Lease{};
  EXPECT_FALSE(view_rule(5, run, {}, kAsked).applies);
}

// ---- rule 8: without a lease the row has the grace before it tells of silence ---------

Evidence unleased_over_a_restart(Micros since_start, Micros grace) {
  Evidence run = started_ago(5 * kHour);
  run.server_started = kNow - since_start;
  run.restart_grace = grace;
  return run;
}

TEST(GraceOfTheRow, HoldsSilenceAfterARestartHasTakenTheSignsInMemory) {
  const Judgement doubted = judge(unleased_over_a_restart(kMinute, kMinute), max_silence(kHour), kAsked);
  EXPECT_EQ(doubted, (Judgement{Verdict::kSuspect, 8, kMinute, kMinute}));
  EXPECT_FALSE(doubted.dead());
  EXPECT_EQ(judge(unleased_over_a_restart(kMinute + 1, kMinute), max_silence(kHour), kAsked),
            (Judgement{Verdict::kSilent, 8, 5 * kHour, kHour}));
}

TEST(GraceOfTheRow, IsNotNeededWhereASignHasComeSinceTheRestart) {
  Evidence run = unleased_over_a_restart(2 * kHour, kDay);
  run.last_sign = run.server_started;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kSilent, 8, 2 * kHour, kHour}));
  run.last_sign = *run.server_started - 1;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kSuspect, 8, 2 * kHour, kDay}));
}

TEST(GraceOfTheRow, IsNotNeededWithinTheLimit) {
  EXPECT_EQ(judge(unleased_over_a_restart(kSecond, kMinute), max_silence(kDay), kAsked),
            (Judgement{Verdict::kLive, 0, 5 * kHour, kDay}));
}

TEST(GraceOfTheRow, IsShownWhileItLasts) {
  const RuleView view = view_rule(8, unleased_over_a_restart(kSecond, kMinute), max_silence(kHour), kAsked);
  EXPECT_EQ(view.verdict, Verdict::kSuspect);
  EXPECT_TRUE(view.applies);
  EXPECT_FALSE(view.fits);
  EXPECT_EQ(view.measured, kSecond);
  EXPECT_EQ(view.limit, kMinute);
}

TEST(GraceOfTheRow, HoldsNoOtherRule) {
  Evidence run = unleased_over_a_restart(kSecond, kMinute);
  EXPECT_EQ(judge(run, {kHour, kHour, std::nullopt}, kAsked).verdict, Verdict::kOverdue);
  EXPECT_EQ(judge(run, max_silence(kHour), {kNow, kHour, true}), (Judgement{Verdict::kOverdue, 9, 5 * kHour, kHour}));
  run.progress_changed = kNow - 2 * kHour;
  EXPECT_EQ(judge(run, {kHour, std::nullopt, kHour}, kAsked).verdict, Verdict::kStalled);
}

TEST(GraceOfTheRow, IsNotThatOfALease) {
  Evidence run = bound(5 * kHour);
  run.server_started = kNow - kMinute;
  run.restart_grace = kMinute;
  const RuleView view = view_rule(8, run, max_silence(kHour), kAsked);
  EXPECT_EQ(view.verdict, Verdict::kSilent);
  EXPECT_TRUE(view.fits);
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kSuspect, 5, kMinute, kMinute}));
}

TEST(GraceOfTheRow, GivesNothingToARunOfWhichNoTimeIsKnown) {
  Evidence run;
  run.server_started = kNow;
  run.restart_grace = kMinute;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, std::nullopt, kHour}));
}

}  // namespace
}  // namespace esg::core
