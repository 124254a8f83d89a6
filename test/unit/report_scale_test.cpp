// The report's arithmetic: steps of an axis, bars of the timeline, quantiles.

#include "core/report_scale.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace esg::core {
namespace {

constexpr Micros kEpochMonday = 2 * kDay;  // 2000-01-03

TEST(Steps, AreTheSmallestThatFit) {
  EXPECT_EQ(usual_step(kDay, 9).span, 3 * kHour);
  EXPECT_EQ(usual_step(kHour, 9).span, 10 * kMinute);
  EXPECT_EQ(usual_step(7 * kDay, 9).span, kDay);
  EXPECT_EQ(usual_step(30 * kDay, 9).span, 7 * kDay);
  EXPECT_EQ(usual_step(365 * kDay, 9).months, 3);
  EXPECT_EQ(usual_step(365 * kDay, 13).months, 1);
  EXPECT_EQ(usual_step(36600 * kDay, 9).months, 300);
  const Step longest = usual_step(106'000'000 * kDay, 4);
  EXPECT_LT(106'000'000 * kDay / longest.span, 4);
  EXPECT_GE(106'000'000 * kDay / longest.span, 2);
  EXPECT_EQ(longest.span, longest.months * 30 * kDay);
  EXPECT_EQ(usual_step(1, 9).span, 1000);
  EXPECT_EQ(usual_step(1, 9, kSecond).span, kSecond);
  EXPECT_EQ(usual_step(0, 9).span, 1000);
}

TEST(Steps, OfAnyWindowAreNotTooMany) {
  for (Micros window = 1; window < 36600 * kDay; window = window * 3 / 2 + 1)
    for (const int most : {2, 4, 9, 36}) {
      const Step step = usual_step(window, most);
      EXPECT_LT(window / step.span, most) << window;
      EXPECT_GT(step.span, 0);
    }
}

TEST(Steps, BeginAtUsualTimes) {
  EXPECT_EQ(step_floor({kHour, 0}, 5 * kHour + 7), 5 * kHour);
  EXPECT_EQ(step_floor({kHour, 0}, -1), -kHour);
  EXPECT_EQ(step_floor({kDay, 0}, kDay), kDay);
  EXPECT_EQ(step_floor({7 * kDay, 0}, kEpochMonday + 6 * kDay), kEpochMonday);
  EXPECT_EQ(step_floor({7 * kDay, 0}, kEpochMonday - 1), kEpochMonday - 7 * kDay);
  EXPECT_EQ(step_after({kHour, 0}, kHour), 2 * kHour);
}

TEST(Steps, OfMonthsFollowTheCalendar) {
  const Step month{30 * kDay, 1};
  EXPECT_EQ(step_floor(month, 30 * kDay), 0);          // 2000-01-31
  EXPECT_EQ(step_floor(month, 31 * kDay), 31 * kDay);  // 2000-02-01
  EXPECT_EQ(step_after(month, 31 * kDay), 60 * kDay);  // 2000 was a leap year
  EXPECT_EQ(step_floor(month, -1), -31 * kDay);        // 1999-12-01
  const Step year{360 * kDay, 12};
  EXPECT_EQ(step_floor(year, 9800 * kDay), 9497 * kDay);  // 2026-10-31: 2026-01-01
  EXPECT_EQ(step_after(year, 0), 366 * kDay);
  EXPECT_EQ(step_floor({36000 * kDay, 1200}, 0), 0);
}

TEST(Steps, GoOnAndMeet) {
  for (const int months : {1, 3, 6, 12, 24}) {
    const Step step{months * 30 * kDay, months};
    Micros at = step_floor(step, -40000 * kDay);
    for (int i = 0; i < 600; ++i) {
      const Micros next = step_after(step, at);
      ASSERT_GT(next, at);
      ASSERT_EQ(step_floor(step, next), next);
      ASSERT_EQ(step_floor(step, next - 1), at);
      at = next;
    }
  }
}

TEST(Shares, HaveAnAxisThatHoldsThem) {
  EXPECT_EQ(share_ceiling(0), 0.05);
  EXPECT_EQ(share_ceiling(0.051), 0.10);
  EXPECT_EQ(share_ceiling(0.5), 0.50);
  EXPECT_EQ(share_ceiling(0.51), 1);
}

TEST(Quantiles, AreThoseOfPercentileCont) {
  const Micros values[] = {10, 20, 30, 40};
  EXPECT_DOUBLE_EQ(quantile(values, 4, 0.5), 25);
  EXPECT_DOUBLE_EQ(quantile(values, 4, 0.95), 38.5);
  EXPECT_DOUBLE_EQ(quantile(values, 4, 0), 10);
  EXPECT_DOUBLE_EQ(quantile(values, 4, 1), 40);
  EXPECT_DOUBLE_EQ(quantile(values, 1, 0.95), 10);
}

constexpr Columns kHundred{0, 100 * kMinute, 100};

std::vector<Bar> bars_of(const std::vector<RunSpan> &runs, const Columns &columns = kHundred) {
  std::vector<Bar> bars(runs.size());
  bars.resize(merge_runs(runs.data(), runs.size(), columns, bars.data()));
  return bars;
}

TEST(Columns, HoldEveryInstant) {
  EXPECT_EQ(kHundred.of(0), 0);
  EXPECT_EQ(kHundred.of(kMinute), 1);
  EXPECT_EQ(kHundred.of(kMinute - 1), 0);
  EXPECT_EQ(kHundred.of(100 * kMinute), 99);
  EXPECT_EQ(kHundred.of(-kDay), 0);
  EXPECT_EQ(kHundred.of(kDay), 99);
  EXPECT_DOUBLE_EQ(kHundred.place(25 * kMinute), 0.25);
}

TEST(Bars, JoinWhatFallsTogether) {
  const auto bars = bars_of({{0, kSecond, Outcome::kCompleted},
                             {2 * kSecond, 3 * kSecond, Outcome::kReaped},
                             {4 * kSecond, 5 * kSecond, Outcome::kFailed},
                             {kMinute, kMinute + 1, Outcome::kCompleted}});
  ASSERT_EQ(bars.size(), 2u);
  EXPECT_EQ(bars[0].runs(), 3);
  EXPECT_EQ(bars[0].worst(), Outcome::kReaped);
  EXPECT_EQ(bars[0].run, 1u);
  EXPECT_EQ(bars[0].begin, 0);
  EXPECT_EQ(bars[0].end, 5 * kSecond);
  EXPECT_EQ(bars[1].worst(), Outcome::kCompleted);
}

TEST(Bars, KeepApartWhatCanBeToldApart) {
  const auto bars = bars_of({{0, kSecond, Outcome::kCompleted},
                             {kSecond, 50 * kMinute, Outcome::kStuck},
                             {2 * kSecond, 3 * kSecond, Outcome::kCompleted},
                             {3 * kSecond, 50 * kMinute + 1, Outcome::kCompleted}});
  ASSERT_EQ(bars.size(), 2u);
  EXPECT_EQ(bars[0].runs(), 2);
  EXPECT_EQ(bars[1].runs(), 2);
  EXPECT_EQ(bars[1].worst(), Outcome::kStuck);
}

TEST(Bars, LoseNoRunAndAreBoundedByTheColumns) {
  std::mt19937_64 engine(7);
  std::vector<RunSpan> runs;
  for (int i = 0; i < 20'000; ++i) {
    const Micros begin = static_cast<Micros>(engine() % static_cast<std::uint64_t>(100 * kMinute));
    runs.push_back(
        {begin, begin + static_cast<Micros>(engine() % kSecond), static_cast<Outcome>(engine() % kOutcomes)});
  }
  std::sort(runs.begin(), runs.end(), [](const RunSpan &a, const RunSpan &b) { return a.begin < b.begin; });
  const auto bars = bars_of(runs);
  EXPECT_LE(bars.size(), 200u);
  int counts[kOutcomes] = {};
  for (const Bar &bar : bars)
    for (int i = 0; i < kOutcomes; ++i) counts[i] += bar.counts[i];
  for (int i = 0; i < kOutcomes; ++i)
    EXPECT_EQ(counts[i], std::count_if(runs.begin(), runs.end(),
                                       [i](const RunSpan &run) { return run.outcome == static_cast<Outcome>(i); }));
  EXPECT_TRUE(std::is_sorted(bars.begin(), bars.end(), [](const Bar &a, const Bar &b) { return a.begin < b.begin; }));
}

TEST(Tracks, PutWhatEndedByItselfOnOneLineAboveTheRest) {
  auto bars = bars_of({{0, 90 * kMinute, Outcome::kStuck},
                       {10 * kMinute, 20 * kMinute, Outcome::kCompleted},
                       {20 * kMinute, 30 * kMinute, Outcome::kFailed},
                       {30 * kMinute, 80 * kMinute, Outcome::kReaped},
                       {40 * kMinute, 50 * kMinute, Outcome::kCompleted}});
  ASSERT_EQ(bars.size(), 5u);
  EXPECT_EQ(place_on_tracks(bars.data(), bars.size()), 3);
  EXPECT_EQ(bars[0].track, 1);
  EXPECT_EQ(bars[1].track, 0);
  EXPECT_EQ(bars[2].track, 0);
  EXPECT_EQ(bars[3].track, 2);
  EXPECT_EQ(bars[4].track, 0);
}

TEST(Tracks, AreNotMoreThanTheyMayBe) {
  std::vector<RunSpan> runs;
  for (int i = 0; i < 40; ++i)
    runs.push_back({i * kMinute, 99 * kMinute, i % 2 == 0 ? Outcome::kCompleted : Outcome::kStuck});
  auto bars = bars_of(runs);
  ASSERT_EQ(bars.size(), 40u);
  EXPECT_EQ(place_on_tracks(bars.data(), bars.size()), kEndedTracks + kOtherTracks);
  for (const Bar &bar : bars) {
    EXPECT_EQ(bar.track < kEndedTracks, bar.worst() == Outcome::kCompleted);
    EXPECT_LT(bar.track, kEndedTracks + kOtherTracks);
  }
  EXPECT_EQ(place_on_tracks(nullptr, 0), 0);
}

TEST(Tracks, DoNotOverlapWhereTheySuffice) {
  std::mt19937_64 engine(11);
  for (int turn = 0; turn < 500; ++turn) {
    std::vector<RunSpan> runs;
    for (int i = 0; i < 3; ++i) {
      const Micros begin = static_cast<Micros>(engine() % 60) * kMinute;
      runs.push_back({begin, begin + static_cast<Micros>(1 + engine() % 30) * kMinute, Outcome::kCompleted});
    }
    std::sort(runs.begin(), runs.end(), [](const RunSpan &a, const RunSpan &b) { return a.begin < b.begin; });
    auto bars = bars_of(runs);
    place_on_tracks(bars.data(), bars.size());
    for (std::size_t a = 0; a < bars.size(); ++a)
      for (std::size_t b = a + 1; b < bars.size(); ++b)
        EXPECT_TRUE(bars[a].track != bars[b].track || bars[a].end <= bars[b].begin);
  }
}

}  // namespace
}  // namespace esg::core
