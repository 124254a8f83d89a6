// Progress: rate and expected end, bars, and figures in little room.

#include "core/progress.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>

namespace esg::core {
namespace {

constexpr Micros kNow = 1'000 * kDay;
constexpr auto kLeast = std::numeric_limits<std::int64_t>::min();
constexpr auto kMost = std::numeric_limits<std::int64_t>::max();

ProgressFacts facts(Micros age, std::optional<std::int64_t> done, std::optional<std::int64_t> total) {
  ProgressFacts given;
  given.now = kNow;
  given.started = kNow - age;
  given.done = done;
  given.total = total;
  return given;
}

std::string bar(double share, int cells = 10, BarStyle style = BarStyle::kBlocks) {
  char out[64];
  return draw_bar(share, cells, style, out, sizeof out);
}
std::string span(Micros value, int width = 6, Zeros zeros = Zeros::kShow) {
  char out[32];
  return short_span(value, width, zeros, out, sizeof out);
}
std::string count(double value) {
  char out[32];
  return short_count(value, out, sizeof out);
}
std::string rate(double value) {
  char out[32];
  return short_rate(value, out, sizeof out);
}
std::string percent(double share) {
  char out[32];
  return short_percent(share, out, sizeof out);
}

/// Characters of UTF-8.
std::size_t length(const std::string &text) {
  std::size_t characters = 0;
  for (const char c : text) characters += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return characters;
}

TEST(Expect, OwnRate) {
  const Expectation half = expect(facts(10 * kMinute, 600, 1200));
  EXPECT_DOUBLE_EQ(*half.rate, 1.0);
  EXPECT_EQ(half.end, kNow + 10 * kMinute);
  EXPECT_EQ(half.by, ExpectedBy::kOwnRate);
}

TEST(Expect, RateEndsWhereProgressLastMoved) {
  ProgressFacts given = facts(10 * kMinute, 300, 1200);
  given.progress_changed = kNow - 5 * kMinute;
  const Expectation one = expect(given);
  EXPECT_DOUBLE_EQ(*one.rate, 1.0);
  EXPECT_EQ(one.end, kNow + 10 * kMinute);  // 900 more from 5 minutes ago on
}

TEST(Expect, ARunThatIsLateByItsOwnRateGetsTheSlowerOne) {
  ProgressFacts given = facts(60 * kMinute, 600, 1200);
  given.progress_changed = kNow - 50 * kMinute;
  const Expectation one = expect(given);
  EXPECT_DOUBLE_EQ(*one.rate, 1.0);
  EXPECT_EQ(one.end, kNow + 60 * kMinute);
  EXPECT_EQ(one.by, ExpectedBy::kOwnRate);
}

TEST(Expect, NoRateWithoutProgressOrTime) {
  for (const auto &given : {facts(kHour, 0, 100), facts(kHour, std::nullopt, 100), facts(kHour, -5, 100),
                            facts(0, 50, 100), facts(kSecond - 1, 50, 100), facts(-kHour, 50, 100)}) {
    const Expectation none = expect(given);
    EXPECT_FALSE(none.rate || none.end);
    EXPECT_EQ(none.by, ExpectedBy::kNothing);
  }
  ProgressFacts no_start = facts(kHour, 50, 100);
  no_start.started.reset();
  no_start.usual_duration = 2 * kHour;
  EXPECT_FALSE(expect(no_start).rate || expect(no_start).end);
}

TEST(Expect, UsualDurationWhereTheRunItselfTellsNothing) {
  ProgressFacts given = facts(10 * kMinute, 40, std::nullopt);
  given.usual_duration = 15 * kMinute;
  given.long_duration = 30 * kMinute;
  Expectation one = expect(given);
  EXPECT_TRUE(one.rate.has_value());
  EXPECT_EQ(one.end, kNow + 5 * kMinute);
  EXPECT_EQ(one.by, ExpectedBy::kUsualDuration);

  given.started = kNow - 20 * kMinute;
  EXPECT_EQ(expect(given).end, kNow + 10 * kMinute);
  given.started = kNow - 31 * kMinute;
  EXPECT_FALSE(expect(given).end);
  EXPECT_EQ(expect(given).by, ExpectedBy::kNothing);
}

TEST(Expect, AllDoneButNotEndedIsNoOwnRate) {
  ProgressFacts given = facts(10 * kMinute, 100, 100);
  EXPECT_FALSE(expect(given).end);
  given.done = 120;
  EXPECT_FALSE(expect(given).end);
  given.usual_duration = 11 * kMinute;
  EXPECT_EQ(expect(given).by, ExpectedBy::kUsualDuration);
}

TEST(Expect, ProgressThatMovedBeforeTheStartOrAfterNowCountsAsNow) {
  ProgressFacts given = facts(10 * kMinute, 600, 1200);
  for (const Micros moved : {kNow - kHour, kNow + kHour}) {
    given.progress_changed = moved;
    EXPECT_EQ(expect(given).end, kNow + 10 * kMinute);
  }
}

TEST(Expect, NothingBeyondTenYears) {
  EXPECT_FALSE(expect(facts(kDay, 1, kMost)).end);
  EXPECT_TRUE(expect(facts(kDay, 1, 3650)).end);
  EXPECT_FALSE(expect(facts(kDay, 1, 3660)).end);
}

TEST(Expect, NeverBeforeNowWhateverTheFigures) {
  std::mt19937_64 random(7);
  const auto any = [&random]() -> std::optional<std::int64_t> {
    switch (random() % 5) {
      case 0: return std::nullopt;
      case 1: return static_cast<std::int64_t>(random() % 1000);
      case 2: return kMost - static_cast<std::int64_t>(random() % 3);
      case 3: return kLeast + static_cast<std::int64_t>(random() % 3);
      default: return static_cast<std::int64_t>(random());
    }
  };
  for (int i = 0; i < 200'000; ++i) {
    ProgressFacts given;
    given.now = kNow;
    given.started = any();
    given.progress_changed = any();
    given.done = any();
    given.total = any();
    given.usual_duration = any();
    given.long_duration = any();
    const Expectation one = expect(given);
    ASSERT_EQ(one.end.has_value(), one.by != ExpectedBy::kNothing);
    ASSERT_GE(one.end.value_or(kNow), kNow);
    ASSERT_LE(one.end.value_or(kNow), kNow + 3650 * kDay);
    ASSERT_GT(one.rate.value_or(1), 0);
  }
}

TEST(Expect, Names) {
  EXPECT_STREQ(expected_by_name(ExpectedBy::kOwnRate), "own rate");
  EXPECT_STREQ(expected_by_name(ExpectedBy::kUsualDuration), "usual duration");
  EXPECT_EQ(expected_by_name(ExpectedBy::kNothing), nullptr);
}

TEST(Share, NeedsATotal) {
  EXPECT_EQ(share_done(1, 4), 0.25);
  EXPECT_EQ(share_done(6, 4), 1.5);
  EXPECT_FALSE(share_done(1, 0));
  EXPECT_FALSE(share_done(1, -4));
  EXPECT_FALSE(share_done(std::nullopt, 4));
  EXPECT_FALSE(share_done(1, std::nullopt));
}

TEST(Bar, Blocks) {
  EXPECT_EQ(bar(0), "░░░░░░░░░░");
  EXPECT_EQ(bar(0.7), "███████░░░");
  EXPECT_EQ(bar(0.75), "███████▌░░");
  EXPECT_EQ(bar(1), "██████████");
  EXPECT_EQ(bar(7.5), "██████████");
  EXPECT_EQ(bar(-1), "░░░░░░░░░░");
}

TEST(Bar, FullAndEmptyOnlyAtTheEnds) {
  EXPECT_EQ(bar(0.000001), "▏░░░░░░░░░");
  EXPECT_EQ(bar(0.999999), "█████████▉");
  EXPECT_EQ(bar(0.999999, 10, BarStyle::kPlain), "#########.");
}

TEST(Bar, Plain) {
  EXPECT_EQ(bar(0.7, 10, BarStyle::kPlain), "#######...");
  EXPECT_EQ(bar(0.04, 10, BarStyle::kPlain), "..........");
  EXPECT_EQ(bar(1, 5, BarStyle::kPlain), "#####");
}

TEST(Bar, EveryShareIsAsWideAsItsCells) {
  for (int i = -10; i <= 1100; ++i)
    for (const int cells : {1, 5, 10, 20})
      for (const BarStyle style : {BarStyle::kBlocks, BarStyle::kPlain})
        ASSERT_EQ(length(bar(i / 1000.0, cells, style)), static_cast<std::size_t>(cells)) << i;
  EXPECT_EQ(bar(0.5, 0), "");
}

TEST(Bar, WhatDoesNotFitIsLeftOut) {
  char out[8];
  EXPECT_STREQ(draw_bar(1, 10, BarStyle::kBlocks, out, sizeof out), "██");
}

TEST(ShortSpan, Words) {
  EXPECT_EQ(span(0), "0s");
  EXPECT_EQ(span(45 * kSecond), "45s");
  EXPECT_EQ(span(kMinute), "1m00s");
  EXPECT_EQ(span(kMinute, 6, Zeros::kDrop), "1m");
  EXPECT_EQ(span(10 * kDay, 6, Zeros::kDrop), "10d");
  EXPECT_EQ(span(90 * kSecond, 6, Zeros::kDrop), "1m30s");
  EXPECT_EQ(span(9 * kMinute + 5 * kSecond), "9m05s");
  EXPECT_EQ(span(2 * kHour + 5 * kMinute), "2h05m");
  EXPECT_EQ(span(23 * kHour + 59 * kMinute), "23h59m");
  EXPECT_EQ(span(3 * kDay + 4 * kHour), "3d04h");
  EXPECT_EQ(span(400 * kDay + 4 * kHour), "400d");
  EXPECT_EQ(span(-12 * kMinute - 5 * kSecond), "-12m");
  EXPECT_EQ(span(-200'000), "0s");
  EXPECT_EQ(span(12 * kMinute + 5 * kSecond, 5), "12m");
  EXPECT_EQ(span(12 * kMinute + 5 * kSecond, 4), "12m");
}

TEST(ShortSpan, NeverWiderThanAsked) {
  std::mt19937_64 random(11);
  for (int i = 0; i < 200'000; ++i) {
    const auto value = static_cast<Micros>(random() >> (random() % 64));
    for (const Micros one : {value, -value, kLeast, kMost})
      for (const int width : {4, 5, 6, 8}) ASSERT_LE(span(one, width).size(), static_cast<std::size_t>(width)) << one;
  }
}

TEST(ShortCount, Words) {
  EXPECT_EQ(count(0), "0");
  EXPECT_EQ(count(999), "999");
  EXPECT_EQ(count(9999), "9999");
  EXPECT_EQ(count(10'000), "10k");
  EXPECT_EQ(count(10'999), "10k");
  EXPECT_EQ(count(999'999), "999k");
  EXPECT_EQ(count(1'999'999), "1.9M");
  EXPECT_EQ(count(9'999'999), "9.9M");
  EXPECT_EQ(count(34'000'000), "34M");
  EXPECT_EQ(count(static_cast<double>(kMost)), "9.2E");
  EXPECT_EQ(count(static_cast<double>(kLeast)), "-9.2E");
}

TEST(ShortRate, ByTheUnitThatShowsIt) {
  EXPECT_EQ(rate(1234), "1234/s");
  EXPECT_EQ(rate(12345), "12k/s");
  EXPECT_EQ(rate(12.4), "12/s");
  EXPECT_EQ(rate(1), "1.0/s");
  EXPECT_EQ(rate(0.5), "30/m");
  EXPECT_EQ(rate(0.01), "36/h");
  EXPECT_EQ(rate(0.0001), "8.6/d");
  EXPECT_EQ(rate(1e-9), "0.0/d");
}

TEST(ShortFigures, NeverWiderThanPromised) {
  std::mt19937_64 random(13);
  for (int i = 0; i < 200'000; ++i) {
    const auto value = static_cast<double>(random() >> (random() % 64)) / static_cast<double>(1 + random() % 100'000);
    ASSERT_LE(count(value).size(), 4U) << value;
    ASSERT_LE(rate(value).size(), 6U) << value;
    ASSERT_LE(percent(value / 1000).size(), 4U) << value;
  }
}

TEST(ShortPercent, HundredOnlyWhereAllIsDone) {
  EXPECT_EQ(percent(0), "0%");
  EXPECT_EQ(percent(0.29), "29%");
  EXPECT_EQ(percent(0.9999), "99%");
  EXPECT_EQ(percent(1), "100%");
  EXPECT_EQ(percent(12), "100%");
  EXPECT_EQ(percent(-0.5), "<0%");
}

TEST(RateDigits, FourThatCount) {
  EXPECT_EQ(rate_digits(12345), 0);
  EXPECT_EQ(rate_digits(123.4), 1);
  EXPECT_EQ(rate_digits(1), 3);
  EXPECT_EQ(rate_digits(0.001234), 6);
  EXPECT_EQ(rate_digits(0), 0);
  EXPECT_EQ(rate_digits(1e-300), 12);
}

}  // namespace
}  // namespace esg::core
