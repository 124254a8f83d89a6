// The cron parser: whatever the text, what is parsed stays within its fields, and the next run is the first minute that
// fits, by the calendar of the C library.

#include "core/schedule.h"

#include <ctime>

#include "input.h"

namespace {

using namespace esg::core;

constexpr std::time_t kSecondsFrom1970 = 946'684'800;

std::tm calendar(Micros instant) {
  const std::time_t seconds = static_cast<std::time_t>(instant / kSecond) + kSecondsFrom1970;
  std::tm broken{};
  CHECK(gmtime_r(&seconds, &broken) != nullptr);
  return broken;
}

bool fits(const Schedule &schedule, Micros minute) {
  const std::tm at = calendar(minute);
  if ((schedule.minutes >> at.tm_min & 1) == 0 || (schedule.hours >> at.tm_hour & 1) == 0) return false;
  if ((schedule.months >> (at.tm_mon + 1) & 1) == 0) return false;
  const bool by_week = (schedule.weekdays >> at.tm_wday & 1) != 0;
  const bool by_month =
      (schedule.days >> at.tm_mday & 1) != 0 || (schedule.last_day && calendar(minute + kDay).tm_mon != at.tm_mon);
  return schedule.either_day ? by_week || by_month : by_week && by_month;
}

void check_fields(const Schedule &schedule) {
  CHECK(schedule.minutes >> 60 == 0);
  CHECK(schedule.hours >> 24 == 0);
  CHECK((schedule.days & 1) == 0);
  CHECK((schedule.months & ~0x1FFEu) == 0);
  CHECK(schedule.weekdays >> 7 == 0);
  CHECK(schedule.every_seconds >= 0 && schedule.every_seconds <= 59);
}

void check_next(const Schedule &schedule, Micros after) {
  const auto next = next_run(schedule, after);
  if (!next) return;
  CHECK(*next > after);
  if (schedule.every_seconds != 0) {
    CHECK(*next - after == schedule.every_seconds * kSecond);
    return;
  }
  CHECK(*next % kMinute == 0);
  CHECK(fits(schedule, *next));
  CHECK(next_run(schedule, *next - 1) == next);
  CHECK(next_run(schedule, after + (*next - after - 1) / 2) == next);
  // No minute before it does: the nearest by looking at each, those farther off by a sample.
  constexpr int kLooks = 300;
  const Micros first = *next - (*next - after - 1) / kMinute * kMinute;
  const Micros minutes = (*next - first) / kMinute;
  for (Micros i = 0; i < minutes && i < kLooks; ++i) {
    CHECK(!fits(schedule, first + i * kMinute));
    CHECK(!fits(schedule, first + minutes / kLooks * i * kMinute));
  }
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  esg::fuzz::Input input(data, size);
  // Years that the calendar here can tell.
  const Micros after = input.in(-1000 * 365 * kDay, 1000 * 365 * kDay);
  const std::string text(input.rest());
  const auto schedule = parse_schedule(text);
  CHECK(parse_schedule(" " + text + "\t").has_value() == schedule.has_value());
  if (!schedule) return 0;
  check_fields(*schedule);
  check_next(*schedule, after);
  for (const Micros far : {INT64_MIN, INT64_MAX, esg::fuzz::kFirstTimestamp, esg::fuzz::kLastTimestamp})
    if (const auto next = next_run(*schedule, far)) CHECK(*next > far);
  return 0;
}
