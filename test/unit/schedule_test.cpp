// When a schedule is due next, and which texts are no schedule.

#include "core/schedule.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>

namespace esg::core {
namespace {

/// Days from 2000-01-01 to a date, counted year by year and month by month: slow, and not the way the code counts.
std::int64_t days_to(int year, int month, int day) {
  const auto leap = [](int y) { return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0; };
  const auto length = [leap](int y, int m) {
    if (m == 2) return leap(y) ? 29 : 28;
    return m == 4 || m == 6 || m == 9 || m == 11 ? 30 : 31;
  };
  std::int64_t days = 0;
  for (int y = 2000; y < year; ++y) days += leap(y) ? 366 : 365;
  for (int y = year; y < 2000; ++y) days -= leap(y) ? 366 : 365;
  for (int m = 1; m < month; ++m) days += length(year, m);
  return days + day - 1;
}

/// "2025-10-01 18:11:00" as a local time.
Micros at(const char *text) {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  EXPECT_EQ(6, std::sscanf(text, "%d-%d-%d %d:%d:%d", &year, &month, &day, &hour, &minute, &second)) << text;
  return days_to(year, month, day) * kDay + hour * kHour + minute * kMinute + second * kSecond;
}

void expect_next(const char *schedule, const char *after, const char *next) {
  const auto parsed = parse_schedule(schedule);
  ASSERT_TRUE(parsed) << schedule;
  EXPECT_EQ(next_run(*parsed, at(after)), at(next)) << schedule << " after " << after;
}

TEST(NextRun, OfEveryMinuteIsTheNextFullMinute) {
  expect_next("* * * * *", "2025-10-01 18:11:00", "2025-10-01 18:12:00");
  expect_next("* * * * *", "2025-10-01 18:11:59", "2025-10-01 18:12:00");
  expect_next("* * * * *", "2025-12-31 23:59:30", "2026-01-01 00:00:00");
}

TEST(NextRun, OfANightlyScheduleIsStrictlyAfter) {
  expect_next("0 3 * * *", "2025-10-01 02:59:59", "2025-10-01 03:00:00");
  expect_next("0 3 * * *", "2025-10-01 03:00:00", "2025-10-02 03:00:00");
  expect_next("0 3 * * *", "2025-10-31 18:11:00", "2025-11-01 03:00:00");
}

TEST(NextRun, WalksListsRangesAndSteps) {
  expect_next("*/15 * * * *", "2025-10-01 18:44:00", "2025-10-01 18:45:00");
  expect_next("*/15 * * * *", "2025-10-01 18:45:00", "2025-10-01 19:00:00");
  expect_next("5-20/10,50 8-10 * * *", "2025-10-01 08:15:00", "2025-10-01 08:50:00");
  expect_next("5-20/10,50 8-10 * * *", "2025-10-01 10:50:00", "2025-10-02 08:05:00");
  expect_next("0 0 1 jan,JUL *", "2025-02-03 00:00:00", "2025-07-01 00:00:00");
}

TEST(NextRun, CountsSundayAsZeroAndAsSeven) {
  // 2025-10-01 is a Wednesday.
  expect_next("0 0 * * 0", "2025-10-01 00:00:00", "2025-10-05 00:00:00");
  expect_next("0 0 * * 7", "2025-10-01 00:00:00", "2025-10-05 00:00:00");
  expect_next("0 0 * * Sun", "2025-10-01 00:00:00", "2025-10-05 00:00:00");
  expect_next("0 0 * * 6-7", "2025-10-01 00:00:00", "2025-10-04 00:00:00");
  expect_next("0 0 * * wed", "2025-10-01 00:00:00", "2025-10-08 00:00:00");
}

TEST(NextRun, TakesEitherDayOnlyWhereBothFieldsAreRestricted) {
  expect_next("0 0 13 * fri", "2025-10-01 00:00:00", "2025-10-03 00:00:00");
  expect_next("0 0 13 * *", "2025-10-01 00:00:00", "2025-10-13 00:00:00");
  expect_next("0 0 */2 * fri", "2025-10-01 00:00:00", "2025-10-03 00:00:00");
  expect_next("0 0 */2 * fri", "2025-10-03 00:00:00", "2025-10-17 00:00:00");
}

TEST(NextRun, KnowsTheLengthsOfMonths) {
  expect_next("0 0 31 * *", "2025-10-31 00:00:00", "2025-12-31 00:00:00");
  expect_next("0 0 29 2 *", "2025-01-01 00:00:00", "2028-02-29 00:00:00");
  expect_next("0 0 29 2 *", "2096-03-01 00:00:00", "2104-02-29 00:00:00");
  expect_next("0 0 $ * *", "2025-02-01 00:00:00", "2025-02-28 00:00:00");
  expect_next("0 0 $ 2 *", "2027-03-01 00:00:00", "2028-02-29 00:00:00");
  EXPECT_EQ(next_run(*parse_schedule("0 0 30 2 *"), 0), std::nullopt);
}

TEST(NextRun, CountsBackBeforeTheOrigin) {
  expect_next("30 12 * * *", "1999-12-31 12:30:00", "2000-01-01 12:30:00");
  expect_next("* * * * *", "1999-12-31 23:59:59", "2000-01-01 00:00:00");
  expect_next("0 0 29 2 *", "1969-03-01 00:00:00", "1972-02-29 00:00:00");
}

TEST(NextRun, OfSecondsCountsFromTheLastStart) {
  expect_next("30 seconds", "2025-10-01 18:11:07", "2025-10-01 18:11:37");
  expect_next(" 1  SECOND ", "2025-10-01 18:11:59", "2025-10-01 18:12:00");
}

TEST(NextRun, KnowsTheUsualNames) {
  expect_next("@hourly", "2025-10-01 18:11:00", "2025-10-01 19:00:00");
  expect_next("@daily", "2025-10-01 18:11:00", "2025-10-02 00:00:00");
  expect_next("@midnight", "2025-10-01 18:11:00", "2025-10-02 00:00:00");
  expect_next("@weekly", "2025-10-01 18:11:00", "2025-10-05 00:00:00");
  expect_next("@monthly", "2025-10-01 18:11:00", "2025-11-01 00:00:00");
  expect_next("@yearly", "2025-10-01 18:11:00", "2026-01-01 00:00:00");
  expect_next("@annually", "2025-10-01 18:11:00", "2026-01-01 00:00:00");
}

TEST(NextRun, AgreesWithAWalkThroughEveryMinuteOfAYear) {
  for (const char *text : {"7 */5 * * *", "0 3 * * 1-5", "59 23 28-31 * *", "*/20 6 1,15 * mon", "0 0 $ 1-12/3 *"}) {
    const Schedule schedule = *parse_schedule(text);
    Micros from = at("2024-02-01 00:00:00");
    const Micros end = at("2025-02-01 00:00:00");
    for (Micros expected = from; expected < end; expected += kMinute) {
      // The walk asks of each minute alone whether the schedule takes it.
      if (next_run(schedule, expected - 1) != expected) continue;
      ASSERT_EQ(next_run(schedule, from - 1), expected) << text;
      from = expected + kMinute;
    }
    EXPECT_GE(*next_run(schedule, from - 1), end) << text;
  }
}

TEST(NextRun, IsAbsentBeyondAllTimestamps) {
  const Schedule schedule = *parse_schedule("* * * * *");
  EXPECT_EQ(next_run(schedule, INT64_MAX), std::nullopt);
  EXPECT_EQ(next_run(schedule, INT64_MIN), std::nullopt);
}

TEST(ParseSchedule, RefusesWhatIsNone) {
  for (const char *text : {"",
                           " ",
                           "*",
                           "* * * *",
                           "* * * * * *",
                           "60 * * * *",
                           "* 24 * * *",
                           "* * 0 * *",
                           "* * 32 * *",
                           "* * * 13 *",
                           "* * * 0 *",
                           "* * * * 8",
                           "*/0 * * * *",
                           "5/10 * * * *",
                           "-5 * * * *",
                           "5- * * * *",
                           "1,,2 * * * *",
                           "1, * * * *",
                           "a * * * *",
                           "monday * * * *",
                           "* * * * monday",
                           "* * * foo *",
                           "12345 * * * *",
                           "0 seconds",
                           "60 seconds",
                           "5 minutes",
                           "seconds",
                           "5 seconds now",
                           "@reboot",
                           "@noon",
                           "@daily now",
                           "0 0 $,1 * *",
                           "$ * * * *",
                           "every minute"})
    EXPECT_FALSE(parse_schedule(text)) << text;
}

TEST(ParseSchedule, TakesTabsAndOuterBlanks) {
  const auto schedule = parse_schedule(" \t0 3\t* *  * \n");
  ASSERT_TRUE(schedule);
  EXPECT_EQ(next_run(*schedule, 0), 3 * kHour);
}

}  // namespace
}  // namespace esg::core
