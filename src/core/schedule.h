// Schedules as pg_cron writes them, and when one is due next: five fields ("0 3 * * *"), the usual names ("@daily")
// and, from pg_cron 1.5 on, "30 seconds". Pure; knows no time zone: the caller turns instants into local times and
// back.
//
// As in every cron since Vixie's: a day must fit day-of-month and day-of-week where one of the two fields begins with
// "*", and either of them where none does.
#pragma once

#include "core/wall.h"

namespace esg::core {

/// What a schedule's fields allow; bit n stands for the value n.
struct Schedule {
  std::uint64_t minutes = 0;
  std::uint32_t hours = 0;
  std::uint32_t days = 0;          ///< of the month, from 1
  std::uint16_t months = 0;        ///< from 1
  std::uint8_t weekdays = 0;       ///< 0 is Sunday
  bool last_day = false;           ///< "$": the last day of the month
  bool either_day = false;         ///< day of the month or day of the week, not both
  std::int32_t every_seconds = 0;  ///< not 0: this long after the last start, whatever the fields
};

/// Absent for what pg_cron would refuse, for "@reboot" (it has no next time) and for what is not known here.
[[nodiscard]] std::optional<Schedule> parse_schedule(std::string_view text) noexcept;

/// The first time after `after` at which the schedule is due; both are local times in microseconds since 2000-01-01
/// 00:00. Absent where it never is ("0 0 30 2 *").
[[nodiscard]] std::optional<Micros> next_run(const Schedule &schedule, Micros after) noexcept;

}  // namespace esg::core
