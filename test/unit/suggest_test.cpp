// Suggested limits: what a sample needs, how figures are rounded, what a replay counts. Against exact figures, and against a
// second way of saying the same on random samples.

#include "core/suggest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace esg::core {
namespace {

/// 1, 2, … `count` of the unit.
std::vector<Micros> ramp(std::size_t count, Micros unit) {
  std::vector<Micros> spans(count);
  for (std::size_t i = 0; i < count; ++i) spans[i] = static_cast<Micros>(i + 1) * unit;
  return spans;
}

std::optional<Micros> needed(const std::vector<Micros> &sorted) { return needed_limit(sorted.data(), sorted.size()); }

// ---- figures ---------------------------------------------------------------------

TEST(Figures, AreSpansThatWere) {
  const std::vector<Micros> spans = ramp(100, kMinute);
  const SpanFigures figures = figures_of(spans.data(), spans.size());
  EXPECT_EQ(figures.p50, 50 * kMinute);
  EXPECT_EQ(figures.p95, 95 * kMinute);
  EXPECT_EQ(figures.p99, 99 * kMinute);
  EXPECT_EQ(figures.longest, 100 * kMinute);
}

TEST(Figures, AreAbsentOfNothing) {
  const SpanFigures figures = figures_of(nullptr, 0);
  EXPECT_FALSE(figures.p50 || figures.p95 || figures.p99 || figures.longest);
}

// ---- the limit that a sample needs --------------------------------------------------

TEST(NeededLimit, IsHalfAgainTheLongestOfASmallSample) {
  EXPECT_EQ(needed(ramp(100, kMinute)), 150 * kMinute);
  EXPECT_EQ(needed(ramp(1, kMinute)), 90 * kSecond);
  std::vector<Micros> spans = ramp(198, kMinute);
  spans.push_back(10 * kDay);
  EXPECT_EQ(needed(spans), 15 * kDay);
  EXPECT_EQ(needed({}), std::nullopt);
}

TEST(NeededLimit, IsTheLongestLimitWhereThereIsNoMore) {
  EXPECT_EQ(needed({kMinute, 9'000'000'000'000 * kSecond}), kLongestLimit);
  EXPECT_EQ(needed({INT64_MAX}), kLongestLimit);
  EXPECT_EQ(round_limit(kLongestLimit), kLongestLimit);
  EXPECT_EQ(round_limit(INT64_MAX), kLongestLimit);
}

TEST(NeededLimit, LeavesOutWhatLiesBeyondAGapOfALargeSample) {
  std::vector<Micros> spans = ramp(199, kMinute);
  spans.push_back(10 * kDay);
  EXPECT_EQ(needed(spans), 199 * kMinute * 3 / 2);
}

TEST(NeededLimit, FollowsATailToItsEnd) {
  // The 995th is 995 s; what comes above it stands close.
  EXPECT_EQ(needed(ramp(1000, kSecond)), 1500 * kSecond);
  std::vector<Micros> spans(995, 1000);
  for (const Micros next : {1500, 2250, 3375, 5062, 7593}) spans.push_back(next);
  EXPECT_EQ(needed(spans), 7593 + 7593 / 2);
  spans[996] = 2251;  // just beyond the margin of 1500
  EXPECT_EQ(needed(spans), 2250);
}

TEST(NeededLimit, LeavesOutOneInTwoHundredAtMost) {
  std::vector<Micros> spans(995, kMinute);
  spans.insert(spans.end(), 5, kDay);
  EXPECT_EQ(needed(spans), 90 * kSecond);
  spans[994] = kDay;
  EXPECT_EQ(needed(spans), 36 * kHour);
}

TEST(NeededLimit, IsZeroOnlyWhereEverythingIs) {
  EXPECT_EQ(needed(std::vector<Micros>(300, 0)), 0);
  std::vector<Micros> spans(300, 0);
  spans[299] = kDay;  // beyond any margin of nothing
  EXPECT_EQ(needed(spans), 0);
}

TEST(NeededLimit, LeavesNothingWithinItsMargin) {
  std::mt19937_64 random(20251001);
  for (int round = 0; round < 400; ++round) {
    std::vector<Micros> spans(1 + random() % 600);
    std::lognormal_distribution<double> lengths(static_cast<double>(random() % 20),
                                                0.2 + static_cast<double>(random() % 20) / 10);
    for (Micros &span : spans) span = static_cast<Micros>(std::min(lengths(random), 1e15));
    std::sort(spans.begin(), spans.end());
    const Micros limit = *needed(spans);
    // It is half again one of them, with none of them between the two.
    const auto fits = [&](Micros span) {
      const auto next = std::upper_bound(spans.begin(), spans.end(), span);
      return span + span / 2 == limit && (next == spans.end() || *next > limit);
    };
    ASSERT_TRUE(std::any_of(spans.begin(), spans.end(), fits)) << round;
    const std::size_t longer = longer_than(spans.data(), spans.size(), limit);
    ASSERT_LE(longer * 200, spans.size()) << round;
    ASSERT_TRUE(longer == 0 || spans.size() >= kManyRuns) << round;
  }
}

// ---- rounding --------------------------------------------------------------------

TEST(RoundLimit, GivesWhatAPersonWouldChoose) {
  struct {
    Micros limit, rounded;
  } const cases[] = {
      {0, kMinute},
      {1, kMinute},
      {kMinute, kMinute},
      {kMinute + 1, 2 * kMinute},
      {28 * kMinute + 1, 29 * kMinute},
      {29 * kMinute + 1, 30 * kMinute},
      {30 * kMinute, 30 * kMinute},
      {30 * kMinute + 1, 35 * kMinute},
      {150 * kMinute, 150 * kMinute},
      {151 * kMinute, 155 * kMinute},
      {5 * kHour + 55 * kMinute, 5 * kHour + 55 * kMinute},
      {5 * kHour + 55 * kMinute + 1, 6 * kHour},
      {6 * kHour, 6 * kHour},
      {6 * kHour + 1, 7 * kHour},
      {4 * kDay + 1, 97 * kHour},
  };
  for (const auto &one : cases) EXPECT_EQ(round_limit(one.limit), one.rounded) << one.limit;
}

TEST(RoundLimit, NeverShortensAndStaysAsItIs) {
  std::mt19937_64 random(7);
  Micros before = 0;
  for (Micros limit = 0; limit < 3 * kDay;
       limit += static_cast<Micros>(random() % static_cast<std::uint64_t>(2 * kMinute))) {
    const Micros rounded = round_limit(limit);
    ASSERT_GE(rounded, limit);
    ASSERT_GE(rounded, before);
    ASSERT_EQ(round_limit(rounded), rounded);
    ASSERT_LE(rounded - limit, std::max(kMinute, limit / 6 + 1)) << limit;
    before = rounded;
  }
}

// ---- what is expected -----------------------------------------------------------------

TEST(LongerThan, DoesNotCountTheLimitItself) {
  const std::vector<Micros> spans = ramp(100, kMinute);
  EXPECT_EQ(longer_than(spans.data(), spans.size(), 100 * kMinute), 0U);
  EXPECT_EQ(longer_than(spans.data(), spans.size(), 100 * kMinute - 1), 1U);
  EXPECT_EQ(longer_than(spans.data(), spans.size(), 0), 100U);
  EXPECT_EQ(longer_than(nullptr, 0, kHour), 0U);
}

TEST(WrongShare, IsNeverZeroAndNeverOne) {
  EXPECT_DOUBLE_EQ(wrong_share(0, 100), 1.0 / 102);
  EXPECT_DOUBLE_EQ(wrong_share(3, 1000), 4.0 / 1002);
  EXPECT_DOUBLE_EQ(wrong_share(0, 0), 0.5);
  EXPECT_DOUBLE_EQ(wrong_share(5, 5), 6.0 / 7);
}

// ---- the replay ----------------------------------------------------------------------

Replay replayed(const std::vector<Death> &deaths, Micros limit) {
  std::vector<Micros> buffer(deaths.size());
  return replay(deaths.data(), deaths.size(), limit, buffer.data());
}

TEST(Replay, TellsTheMedianOfHowMuchSooner) {
  const std::vector<Death> deaths{{60 * kMinute, kDay}, {90 * kMinute, kDay}, {200 * kMinute, kDay}};
  EXPECT_EQ(replayed(deaths, 30 * kMinute).reaped, 3U);
  EXPECT_EQ(replayed(deaths, 30 * kMinute).sooner, 60 * kMinute);
  EXPECT_EQ(replayed(deaths, 90 * kMinute).sooner, 0);
}

TEST(Replay, IsNegativeWhereTheLimitReapsLater) {
  const Replay later = replayed({{60 * kMinute, kDay}}, 2 * kHour);
  EXPECT_EQ(later.reaped, 1U);
  EXPECT_EQ(later.sooner, -kHour);
}

TEST(Replay, DoesNotCountWhatTheLimitWouldReapInTheFuture) {
  EXPECT_EQ(replayed({{60 * kMinute, kHour}}, 2 * kHour).reaped, 1U);
  const Replay not_yet = replayed({{60 * kMinute, kHour - 1}}, 2 * kHour);
  EXPECT_EQ(not_yet.reaped, 0U);
  EXPECT_EQ(not_yet.sooner, std::nullopt);
}

TEST(Replay, LeavesOutThoseThatTheRuleSaysNothingOf) {
  const std::vector<Death> deaths{{std::nullopt, kDay}, {2 * kHour, kDay}, {std::nullopt, kDay}};
  EXPECT_EQ(replayed(deaths, kHour).reaped, 1U);
  EXPECT_EQ(replayed(deaths, kHour).sooner, kHour);
  EXPECT_EQ(replayed({}, kHour).sooner, std::nullopt);
}

}  // namespace
}  // namespace esg::core
