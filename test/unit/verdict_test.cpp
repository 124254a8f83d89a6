// The rules of the verdict one by one: what makes each fit, exactly where it begins to, and what does not. What a
// restart of the server changes (rule 5 and the grace of rule 8) stands in verdict_restart_test.cpp, what a run becomes that
// was passed over (rule 10) in verdict_passed_over_test.cpp.

#include "core/verdict.h"

#include <gtest/gtest.h>

#include "evidence.h"

namespace esg::core {
namespace {

using namespace test;

// ---- rule 1: fenced --------------------------------------------------------------

TEST(Fenced, HoldsWhateverElseSpeaksAgainstTheRun) {
  Evidence run = bound(20 * kHour);
  run.fenced_since = kNow - 3 * kSecond;
  run.progress_changed = kNow - 20 * kHour;
  run.server_started = kNow - 2 * kHour;
  run.lease.session_ended = run.lease.worker_reannounced = true;
  const Judgement said = judge(run, {kHour, kHour, kHour}, {kNow, kMinute, true});
  EXPECT_EQ(said, (Judgement{Verdict::kFenced, 1, 3 * kSecond, std::nullopt}));
  EXPECT_FALSE(said.dead());
}

TEST(Fenced, HoldsWhereTheClockHasBeenSetBack) {
  Evidence run = started_ago(5 * kHour);
  run.fenced_since = kNow + kMinute;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kFenced, 1, -kMinute, std::nullopt}));
}

// ---- rule 2: overdue -------------------------------------------------------------

TEST(Overdue, BeginsOneMicrosecondAfterMaxAge) {
  EXPECT_EQ(judge(started_ago(kHour), max_age(kHour), kAsked), (Judgement{Verdict::kLive, 0, kHour, std::nullopt}));
  const Judgement said = judge(started_ago(kHour + 1), max_age(kHour), kAsked);
  EXPECT_EQ(said, (Judgement{Verdict::kOverdue, 2, kHour + 1, kHour}));
  EXPECT_TRUE(said.dead());
}

TEST(Overdue, IsNotHelpedBySignsOfLife) {
  Evidence run = leased(kMinute, 0);
  run.progress_changed = kNow;
  EXPECT_EQ(judge(run, {kHour, kHour, kHour}, kAsked), (Judgement{Verdict::kOverdue, 2, kDay, kHour}));
}

TEST(Overdue, NeedsAStart) {
  Evidence run;
  run.last_sign = kNow - 30 * kDay;
  EXPECT_EQ(judge(run, max_age(kHour), kAsked).verdict, Verdict::kLive);
  EXPECT_FALSE(view_rule(2, run, max_age(kHour), kAsked).applies);
}

TEST(Overdue, DoesNotComeFromAClockThatWasSetForward) {
  constexpr Micros kBoot = 700'000'000'000'000;
  for (const Micros step : {kSecond + 1, 3 * kHour, 100'000 * kDay}) {
    Evidence run;
    run.started = moved_with_clock(kNow - step - kHour, kBoot, kBoot + step);
    EXPECT_EQ(judge(run, max_age(kHour), kAsked), (Judgement{Verdict::kLive, 0, kHour, std::nullopt}));
    EXPECT_EQ(judge(run, max_age(kHour - 1), kAsked), (Judgement{Verdict::kOverdue, 2, kHour, kHour - 1}));
    EXPECT_EQ(view_rule(2, run, max_age(kHour), kAsked).measured, kHour);
  }
}

TEST(Overdue, GoesByTheClockWhereThatWasSetBackOrHardlyMoved) {
  for (const Micros step : {-3 * kHour, -kSecond, Micros{0}, kSecond})
    EXPECT_EQ(moved_with_clock(kNow, 5, 5 + step), kNow) << step;
}

TEST(Overdue, KnowsStepsOfAnyLength) {
  EXPECT_EQ(moved_with_clock(kLatest - kHour, 0, kDay), kLatest);
  EXPECT_EQ(moved_with_clock(kNow, kEarliest, kLatest), kNow);
  EXPECT_EQ(moved_with_clock(kEarliest, 0, kLatest), -1);
}

TEST(Time, BetweenTwoTimesTooFarApartIsNone) {
  EXPECT_EQ(time_between(kNow, kNow + kHour), kHour);
  EXPECT_EQ(time_between(kNow, kNow - kHour), -kHour);
  EXPECT_EQ(time_between(0, kLatest), kLatest);
  EXPECT_EQ(time_between(-1, kLatest), std::nullopt);
  EXPECT_EQ(time_between(kLatest, kEarliest), std::nullopt);
}

TEST(Overdue, NeverComesFromAStartInTheFuture) {
  for (const Micros ahead : {Micros{1}, kHour, 100'000 * kDay}) {
    EXPECT_EQ(judge(started_ago(-ahead), max_age(0), kAsked), (Judgement{Verdict::kLive, 0, -ahead, std::nullopt}));
    EXPECT_EQ(view_rule(2, started_ago(-ahead), max_age(0), kAsked).measured, -ahead);
  }
}

TEST(Overdue, IsOffWithoutMaxAge) {
  EXPECT_EQ(judge(started_ago(10'000 * kDay), {}, kAsked).verdict, Verdict::kLive);
  EXPECT_FALSE(view_rule(2, started_ago(kDay), {}, kAsked).applies);
}

// ---- rule 3: session_gone --------------------------------------------------------

TEST(SessionGone, ComesAtOnceHoweverFreshTheSigns) {
  Evidence run = bound(0);
  run.lease.session_ended = true;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kSessionGone, 3, 0, std::nullopt}));
  run.lease.ttl = kHour;
  run.last_sign = kNow - 7 * kSecond;
  const Judgement said = judge(run, max_silence(kHour), kAsked);
  EXPECT_EQ(said, (Judgement{Verdict::kSessionGone, 3, 7 * kSecond, std::nullopt}));
  EXPECT_TRUE(said.dead());
}

TEST(SessionGone, NeedsALeaseThatIsBoundToTheSession) {
  Evidence run = leased(kMinute, kSecond);
  run.lease.session_ended = true;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, kSecond, kMinute}));
  run.lease = Lease{};
  run.lease.session_ended = true;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, kSecond, kHour}));
}

TEST(SessionGone, NeedsTheEndOfTheSession) {
  EXPECT_EQ(judge(bound(kSecond), max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, kSecond, kHour}));
  const RuleView view = view_rule(3, bound(kSecond), {}, kAsked);
  EXPECT_TRUE(view.applies);
  EXPECT_FALSE(view.fits);
}

// ---- rule 4: worker_restarted ----------------------------------------------------

TEST(WorkerRestarted, ComesAtOnceForEitherKindOfLease) {
  Evidence run = leased(kMinute, 2 * kSecond);
  run.lease.worker_reannounced = true;
  const Judgement said = judge(run, max_silence(kHour), kAsked);
  EXPECT_EQ(said, (Judgement{Verdict::kWorkerRestarted, 4, 2 * kSecond, std::nullopt}));
  EXPECT_TRUE(said.dead());
  run = bound(0);
  run.lease.worker_reannounced = true;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kWorkerRestarted, 4, 0, std::nullopt}));
}

TEST(WorkerRestarted, NeedsALease) {
  Evidence run = started_ago(kSecond);
  run.lease.worker_reannounced = true;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, kSecond, kHour}));
  EXPECT_FALSE(view_rule(4, run, {}, kAsked).applies);
}

// ---- rule 6: heartbeat_lost ------------------------------------------------------

TEST(HeartbeatLost, BeginsOneMicrosecondAfterTheTtl) {
  EXPECT_EQ(judge(leased(kMinute, kMinute), {}, kAsked), (Judgement{Verdict::kLive, 0, kMinute, kMinute}));
  const Judgement said = judge(leased(kMinute, kMinute + 1), {}, kAsked);
  EXPECT_EQ(said, (Judgement{Verdict::kHeartbeatLost, 6, kMinute + 1, kMinute}));
  EXPECT_TRUE(said.dead());
}

TEST(HeartbeatLost, HoldsForABoundLeaseWithATtl) {
  Evidence run = bound(kMinute + 1);
  run.lease.ttl = kMinute;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kHeartbeatLost, 6, kMinute + 1, kMinute}));
}

TEST(HeartbeatLost, CountsFromTheStartUntilTheFirstBeat) {
  Evidence run = started_ago(kMinute + 1);
  run.lease.kind = LeaseKind::kHeartbeat;
  run.lease.ttl = kMinute;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kHeartbeatLost, 6, kMinute + 1, kMinute}));
}

TEST(HeartbeatLost, IsHeldForOneFurtherTtlAsMassDeath) {
  Evidence run = leased(kMinute, kMinute + 1);
  run.lease.held_as_mass_death = true;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kLive, 0, kMinute + 1, 2 * kMinute}));
  run.last_sign = kNow - 2 * kMinute;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kLive, 0, 2 * kMinute, 2 * kMinute}));
  run.last_sign = kNow - 2 * kMinute - 1;
  EXPECT_EQ(judge(run, {}, kAsked), (Judgement{Verdict::kHeartbeatLost, 6, 2 * kMinute + 1, 2 * kMinute}));
}

TEST(HeartbeatLost, IsTheOnlyRuleThatMassDeathHolds) {
  Evidence run = leased(kHour, 0);
  run.lease.held_as_mass_death = true;
  EXPECT_EQ(judge(run, max_age(kHour), kAsked).verdict, Verdict::kOverdue);
  run.progress_changed = kNow - kHour - 1;
  EXPECT_EQ(judge(run, max_stall(kHour), kAsked).verdict, Verdict::kStalled);
  run.lease.worker_reannounced = true;
  EXPECT_EQ(judge(run, {}, kAsked).verdict, Verdict::kWorkerRestarted);
}

TEST(HeartbeatLost, ReplacesMaxSilenceForTheLease) {
  EXPECT_EQ(judge(leased(5 * kHour, 5 * kHour), max_silence(kHour), kAsked),
            (Judgement{Verdict::kLive, 0, 5 * kHour, 5 * kHour}));
  EXPECT_EQ(judge(leased(kMinute, kMinute + 1), max_silence(kHour), kAsked).verdict, Verdict::kHeartbeatLost);
}

TEST(HeartbeatLost, IsNotMovedByOlderThan) {
  EXPECT_EQ(judge(leased(kMinute, kMinute), {}, {kNow, kSecond, false}).verdict, Verdict::kLive);
  EXPECT_EQ(judge(leased(kMinute, kMinute + 1), {}, {kNow, kHour, false}).verdict, Verdict::kHeartbeatLost);
}

TEST(HeartbeatLost, NeedsATime) {
  Evidence run;
  run.lease.kind = LeaseKind::kHeartbeat;
  run.lease.ttl = kMinute;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, std::nullopt, kMinute}));
  EXPECT_FALSE(view_rule(6, run, {}, kAsked).applies);
}

// ---- rule 7: stalled -------------------------------------------------------------

TEST(Stalled, BeginsOneMicrosecondAfterMaxStall) {
  Evidence run = leased(kMinute, 0);
  run.progress_changed = kNow - kHour;
  EXPECT_EQ(judge(run, max_stall(kHour), kAsked), (Judgement{Verdict::kLive, 0, 0, kMinute}));
  run.progress_changed = kNow - kHour - 1;
  const Judgement said = judge(run, max_stall(kHour), kAsked);
  EXPECT_EQ(said, (Judgement{Verdict::kStalled, 7, kHour + 1, kHour}));
  EXPECT_TRUE(said.dead());
}

TEST(Stalled, HoldsWithoutALease) {
  Evidence run = started_ago(kDay);
  run.last_sign = kNow;
  run.progress_changed = kNow - kHour - 1;
  EXPECT_EQ(judge(run, {kHour, std::nullopt, kHour}, kAsked), (Judgement{Verdict::kStalled, 7, kHour + 1, kHour}));
}

TEST(Stalled, NeedsProgressThatHasMovedBefore) {
  EXPECT_EQ(judge(leased(kMinute, 0), max_stall(kHour), kAsked).verdict, Verdict::kLive);
  EXPECT_FALSE(view_rule(7, leased(kMinute, 0), max_stall(kHour), kAsked).applies);
}

TEST(Stalled, IsOffWithoutMaxStall) {
  Evidence run = leased(kMinute, 0);
  run.progress_changed = kNow - kDay;
  EXPECT_EQ(judge(run, {kHour, std::nullopt, std::nullopt}, kAsked).verdict, Verdict::kLive);
  EXPECT_FALSE(view_rule(7, run, {}, kAsked).applies);
}

// ---- rule 8: silent --------------------------------------------------------------

TEST(Silent, BeginsOneMicrosecondAfterMaxSilence) {
  Evidence run = started_ago(kDay);
  run.last_sign = kNow - kHour;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, kHour, kHour}));
  run.last_sign = kNow - kHour - 1;
  const Judgement said = judge(run, max_silence(kHour), kAsked);
  EXPECT_EQ(said, (Judgement{Verdict::kSilent, 8, kHour + 1, kHour}));
  EXPECT_TRUE(said.dead());
}

TEST(Silent, CountsFromTheStartWhereThereIsNoSign) {
  EXPECT_EQ(judge(started_ago(kHour), max_silence(kHour), kAsked).verdict, Verdict::kLive);
  EXPECT_EQ(judge(started_ago(kHour + 1), max_silence(kHour), kAsked),
            (Judgement{Verdict::kSilent, 8, kHour + 1, kHour}));
}

TEST(Silent, CountsFromASignWhereThereIsNoStart) {
  Evidence run;
  run.last_sign = kNow - kHour - 1;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kSilent, 8, kHour + 1, kHour}));
}

TEST(Silent, CountsFromTheStartOfARunStartedAnewAfterItsLastSign) {
  Evidence run = started_ago(kMinute);
  run.last_sign = kNow - kDay;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, kMinute, kHour}));
}

TEST(Silent, NeedsATimeAndALimit) {
  EXPECT_EQ(judge(Evidence{}, max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, std::nullopt, kHour}));
  EXPECT_FALSE(view_rule(8, Evidence{}, max_silence(kHour), kAsked).applies);
  EXPECT_EQ(judge(started_ago(10'000 * kDay), {}, kAsked), (Judgement{Verdict::kLive, 0, 10'000 * kDay, std::nullopt}));
  EXPECT_FALSE(view_rule(8, started_ago(kDay), {}, kAsked).applies);
}

TEST(Silent, WaitsForAStartInTheFuture) {
  EXPECT_EQ(judge(started_ago(-3 * kHour), max_silence(kHour), kAsked),
            (Judgement{Verdict::kLive, 0, -3 * kHour, kHour}));
}

TEST(Silent, JudgesABoundLeaseWithoutTtl) {
  EXPECT_EQ(judge(bound(kHour), max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, kHour, kHour}));
  EXPECT_EQ(judge(bound(kHour + 1), max_silence(kHour), kAsked), (Judgement{Verdict::kSilent, 8, kHour + 1, kHour}));
}

TEST(Silent, DoesNotJudgeALeaseWithTtl) {
  EXPECT_FALSE(view_rule(8, leased(kDay, 2 * kHour), max_silence(kHour), kAsked).applies);
  Evidence run = bound(2 * kHour);
  run.lease.ttl = kDay;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kLive, 0, 2 * kHour, kDay}));
}

TEST(Silent, DoesNotJudgeAHeartbeatLeaseWhoseTtlIsUnknown) {
  Evidence run = leased(kMinute, 2 * kHour);
  run.lease.ttl.reset();
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked).verdict, Verdict::kLive);
}

TEST(Silent, IsMeasuredAgainstOlderThanWhereTheCallGivesIt) {
  const Evidence run = started_ago(2 * kHour);
  EXPECT_EQ(judge(run, max_silence(kHour), {kNow, 2 * kHour, false}),
            (Judgement{Verdict::kLive, 0, 2 * kHour, 2 * kHour}));
  EXPECT_EQ(judge(run, max_silence(kDay), {kNow, 2 * kHour - 1, false}),
            (Judgement{Verdict::kSilent, 8, 2 * kHour, 2 * kHour - 1}));
  EXPECT_EQ(judge(run, {}, {kNow, kHour, false}), (Judgement{Verdict::kSilent, 8, 2 * kHour, kHour}));
}

TEST(Silent, LetsOlderThanReplaceNeitherMaxAgeNorMaxStall) {
  Evidence run = started_ago(2 * kHour);
  run.progress_changed = kNow - 2 * kHour;
  EXPECT_EQ(judge(run, max_age(kHour), {kNow, kDay, false}).verdict, Verdict::kOverdue);
  EXPECT_EQ(judge(run, max_stall(kHour), {kNow, kDay, false}).verdict, Verdict::kStalled);
  EXPECT_EQ(judge(run, {kDay, kDay, kDay}, {kNow, 2 * kHour, false}).verdict, Verdict::kLive);
}

// ---- rule 9: overdue on request --------------------------------------------------

TEST(EvenIfAlive, KillsOneMicrosecondAfterOlderThanWhateverTheSigns) {
  Evidence run = leased(kMinute, 0);
  EXPECT_EQ(judge(run, max_silence(kHour), {kNow, kDay, true}).verdict, Verdict::kLive);
  const Judgement said = judge(run, max_silence(kHour), {kNow, kDay - 1, true});
  EXPECT_EQ(said, (Judgement{Verdict::kOverdue, 9, kDay, kDay - 1}));
  EXPECT_TRUE(said.dead());
  EXPECT_EQ(judge(run, max_silence(kHour), {kNow, kDay - 1, false}).verdict, Verdict::kLive);
}

TEST(EvenIfAlive, MeansNothingWhereTheCallGivesNoOlderThan) {
  EXPECT_EQ(judge(leased(kMinute, 0), max_silence(kHour), {kNow, std::nullopt, true}).verdict, Verdict::kLive);
  EXPECT_EQ(judge(leased(kMinute, 0), {}, {kNow, std::nullopt, true}).verdict, Verdict::kLive);
  EXPECT_FALSE(view_rule(9, leased(kMinute, 0), {}, {kNow, std::nullopt, true}).applies);
}

TEST(EvenIfAlive, NeedsAStartThatIsPast) {
  Evidence run;
  run.last_sign = kNow;
  EXPECT_EQ(judge(run, max_silence(kHour), {kNow, 1, true}).verdict, Verdict::kLive);
  EXPECT_FALSE(view_rule(9, run, max_silence(kHour), {kNow, 1, true}).applies);
  run.started = kNow + 1;
  EXPECT_EQ(judge(run, max_silence(kHour), {kNow, 1, true}).verdict, Verdict::kLive);
  run.started = kNow - 1;
  EXPECT_EQ(judge(run, max_silence(kHour), {kNow, 1, true}).verdict, Verdict::kLive);
}

// ---- what is not any rule's ------------------------------------------------------

TEST(LastSignOfLife, IsTheNewerOfStartAndSign) {
  Evidence run;
  EXPECT_EQ(last_sign_of_life(run), std::nullopt);
  run.started = 5;
  EXPECT_EQ(last_sign_of_life(run), 5);
  run.last_sign = 7;
  EXPECT_EQ(last_sign_of_life(run), 7);
  run.started = 9;
  EXPECT_EQ(last_sign_of_life(run), 9);
  run.started.reset();
  EXPECT_EQ(last_sign_of_life(run), 7);
}

TEST(LastSignOfLife, OfALeasedRunIsTheSignAlone) {
  Evidence run = leased(kMinute, 2 * kMinute);
  for (const Micros ahead : {-kMinute, Micros{0}, kHour}) {
    run.started = kNow + ahead;
    EXPECT_EQ(last_sign_of_life(run), kNow - 2 * kMinute);
  }
  run.last_sign.reset();
  EXPECT_EQ(last_sign_of_life(run), run.started);
}

TEST(HeartbeatLost, IsNotHiddenByAStartInTheFuture) {
  Evidence run = leased(kMinute, 2 * kMinute);
  run.started = kNow + kHour;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kHeartbeatLost, 6, 2 * kMinute, kMinute}));
  run = bound(2 * kHour);
  run.started = kNow + kHour;
  EXPECT_EQ(judge(run, max_silence(kHour), kAsked), (Judgement{Verdict::kSilent, 8, 2 * kHour, kHour}));
}

TEST(Live, IsWhatNothingSpeaksAgainst) {
  EXPECT_EQ(judge(Evidence{}, Limits{}, kAsked), (Judgement{Verdict::kLive, 0, std::nullopt, std::nullopt}));
  EXPECT_FALSE(Judgement{}.dead());
}

TEST(Live, ShowsTheLimitThatTheSilenceIsMeasuredAgainst) {
  EXPECT_EQ(judge(started_ago(kMinute), {kHour, kDay, kDay}, kAsked).limit, kHour);
  EXPECT_EQ(judge(started_ago(kMinute), {kHour, kDay, kDay}, {kNow, 2 * kHour, false}).limit, 2 * kHour);
  EXPECT_EQ(judge(leased(kMinute, 0), max_silence(kHour), kAsked).limit, kMinute);
  EXPECT_EQ(judge(bound(0), max_silence(kHour), kAsked).limit, kHour);
}

TEST(Dead, IsEveryVerdictButLiveFencedAndSuspect) {
  for (const Verdict verdict : {Verdict::kLive, Verdict::kFenced, Verdict::kSuspect})
    EXPECT_FALSE((Judgement{verdict, 0, {}, {}}.dead())) << verdict;
  for (const Verdict verdict :
       {Verdict::kOverdue, Verdict::kSessionGone, Verdict::kWorkerRestarted, Verdict::kServerRestarted,
        Verdict::kHeartbeatLost, Verdict::kStalled, Verdict::kSilent, Verdict::kPassedOver})
    EXPECT_TRUE((Judgement{verdict, 0, {}, {}}.dead())) << verdict;
}

// ---- the ends of the scale -------------------------------------------------------

TEST(Extremes, SpansStopAtTheEndsOfTheScale) {
  Evidence run;
  run.started = kEarliest;
  const Question last{kLatest, std::nullopt, false};
  EXPECT_EQ(judge(run, max_age(kLatest - 1), last), (Judgement{Verdict::kOverdue, 2, kLatest, kLatest - 1}));
  EXPECT_EQ(judge(run, max_age(kLatest), last), (Judgement{Verdict::kLive, 0, kLatest, std::nullopt}));
  run.started = kLatest;
  const Question first{kEarliest, std::nullopt, false};
  EXPECT_EQ(judge(run, {0, 0, 0}, first), (Judgement{Verdict::kLive, 0, kEarliest, 0}));
}

TEST(Extremes, NegativeAndPositiveInstantsAreOneScale) {
  Evidence run;
  run.started = -kHour;
  EXPECT_EQ(judge(run, max_silence(2 * kHour), {kHour, std::nullopt, false}),
            (Judgement{Verdict::kLive, 0, 2 * kHour, 2 * kHour}));
  EXPECT_EQ(judge(run, max_silence(2 * kHour), {kHour + 1, std::nullopt, false}),
            (Judgement{Verdict::kSilent, 8, 2 * kHour + 1, 2 * kHour}));
  run.started = kEarliest;
  EXPECT_EQ(judge(run, max_silence(kHour), {kEarliest + kHour, std::nullopt, false}).verdict, Verdict::kLive);
  EXPECT_EQ(judge(run, max_silence(kHour), {kEarliest + kHour + 1, std::nullopt, false}).verdict, Verdict::kSilent);
}

TEST(Extremes, AHeldTtlThatCannotBeDoubledIsWithoutEnd) {
  Evidence run;
  run.started = kEarliest;
  run.lease.kind = LeaseKind::kHeartbeat;
  run.lease.held_as_mass_death = true;
  for (const Micros ttl : {kLatest, kLatest / 2 + 1}) {
    run.lease.ttl = ttl;
    EXPECT_EQ(judge(run, {}, {kLatest, std::nullopt, false}), (Judgement{Verdict::kLive, 0, kLatest, kLatest}));
  }
  run.lease.ttl = kLatest / 2;
  EXPECT_EQ(judge(run, {}, {kLatest, std::nullopt, false}),
            (Judgement{Verdict::kHeartbeatLost, 6, kLatest, kLatest - 1}));
}

}  // namespace
}  // namespace esg::core
