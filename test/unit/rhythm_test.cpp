// Rhythms: quantiles by rank, gaps between completions, and which of the longest are taken for outliers.

#include "core/rhythm.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace esg::core {
namespace {

/// 1 to `count`, sorted.
std::vector<Micros> counted(std::size_t count) {
  std::vector<Micros> spans(count);
  std::iota(spans.begin(), spans.end(), 1);
  return spans;
}

std::optional<Micros> at_share(std::size_t count, double share) {
  const auto spans = counted(count);
  return value_at_share(spans.data(), count, share);
}

TEST(Rhythm, ValueAtShareIsOneOfTheValues) {
  EXPECT_EQ(at_share(0, 0.5), std::nullopt);
  EXPECT_EQ(at_share(1, 0.5), 1);
  EXPECT_EQ(at_share(2, 0.5), 1);
  EXPECT_EQ(at_share(3, 0.5), 2);
  EXPECT_EQ(at_share(20, 0.95), 19);
  EXPECT_EQ(at_share(21, 0.95), 20);
  EXPECT_EQ(at_share(100, 0.95), 95);
  EXPECT_EQ(at_share(10, 0), 1);
  EXPECT_EQ(at_share(10, 1), 10);
}

TEST(Rhythm, LongGapLeavesOutliersOut) {
  const auto gap_of = [](std::size_t count) {
    const auto gaps = counted(count);
    return long_gap(gaps.data(), count);
  };
  EXPECT_EQ(gap_of(0), std::nullopt);
  EXPECT_EQ(gap_of(1), 1);
  EXPECT_EQ(gap_of(19), 19);
  EXPECT_EQ(gap_of(20), 19);
  EXPECT_EQ(gap_of(49), 48);
  EXPECT_EQ(gap_of(50), 48);
  EXPECT_EQ(gap_of(1000), 998);
}

TEST(Rhythm, DurationsAreSortedFirst) {
  std::vector<Micros> durations = {9, 1, 5, 3, 7};
  const Usual usual = usual_of_durations(durations.data(), durations.size());
  EXPECT_EQ(usual.usual, 5);
  EXPECT_EQ(usual.long_one, 9);
  const Usual none = usual_of_durations(nullptr, 0);
  EXPECT_FALSE(none.usual || none.long_one);
}

TEST(Rhythm, GapsLieBetweenCompletions) {
  std::vector<Micros> completions = {100, 110, 130, 130, 200};  // gaps 10, 20, 0, 70
  const Usual usual = usual_of_gaps(completions.data(), completions.size());
  EXPECT_EQ(usual.usual, 10);
  EXPECT_EQ(usual.long_one, 70);
  std::vector<Micros> one = {100};
  const Usual none = usual_of_gaps(one.data(), one.size());
  EXPECT_FALSE(none.usual || none.long_one);
}

TEST(Rhythm, WhatLiesBetweenBatchesIsNoOutlier) {
  // Two nights, and three, of sixty runs in an hour.
  for (const int nights : {2, 3}) {
    std::vector<Micros> completions;
    for (int night = 0; night < nights; ++night)
      for (int run = 0; run < 60; ++run) completions.push_back(night * kDay + run * kMinute);
    const Usual usual = usual_of_gaps(completions.data(), completions.size());
    EXPECT_EQ(usual.usual, kMinute);
    EXPECT_EQ(usual.long_one, kDay - 59 * kMinute);
  }
}

TEST(Rhythm, TwentyOneCompletionsHaveTwentyGaps) {
  std::vector<Micros> completions;
  Micros at = 0;
  for (int i = 0; i < 21; ++i) completions.push_back(at += i == 10 ? kDay : i == 12 ? 2 * kHour : kHour);
  EXPECT_EQ(usual_of_gaps(completions.data(), completions.size()).long_one, 2 * kHour);
}

}  // namespace
}  // namespace esg::core
