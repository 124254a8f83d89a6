// Parsing of schedules and the search for the next time. Pure; see schedule.h.

#include "core/schedule.h"

namespace esg::core {
namespace {

constexpr std::int64_t kDaysFrom1970To2000 = 10957;
/// 29 February that must be a given day of the week comes again after at most 40 years.
constexpr int kLongestWait = 40 * 366;
/// Farther from 2000 than any timestamp of PostgreSQL's.
constexpr Micros kFarthest = Micros{280000} * 366 * kDay;

constexpr std::string_view kMonths[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                        "jul", "aug", "sep", "oct", "nov", "dec"};
constexpr std::string_view kWeekdays[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct Field {
  int low;
  int high;
  const std::string_view *names;
  int name_count;
};

constexpr Field kFields[] = {
    {0, 59, nullptr, 0}, {0, 23, nullptr, 0}, {1, 31, nullptr, 0}, {1, 12, kMonths, 12}, {0, 7, kWeekdays, 7}};

struct Name {
  std::string_view name;
  std::string_view fields;
};

constexpr Name kNames[] = {{"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
                           {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
                           {"@hourly", "0 * * * *"}};

bool is_blank(char c) noexcept { return c == ' ' || c == '\t' || c == '\n'; }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (lower(a[i]) != b[i]) return false;
  return true;
}

/// Takes the next word off the front of `text`; empty at its end.
std::string_view take_word(std::string_view &text) noexcept {
  std::size_t begin = 0;
  while (begin < text.size() && is_blank(text[begin])) ++begin;
  std::size_t end = begin;
  while (end < text.size() && !is_blank(text[end])) ++end;
  const std::string_view word = text.substr(begin, end - begin);
  text.remove_prefix(end);
  return word;
}

/// Takes a number off the front of `text`; absent where there is none or it is no small one.
std::optional<int> take_number(std::string_view &text) noexcept {
  std::size_t length = 0;
  int value = 0;
  while (length < text.size() && is_digit(text[length])) {
    value = value * 10 + (text[length] - '0');
    if (++length > 4) return std::nullopt;
  }
  text.remove_prefix(length);
  return length == 0 ? std::nullopt : std::optional<int>(value);
}

/// Takes a value of a field, by number or by name.
std::optional<int> take_value(std::string_view &text, const Field &field) noexcept {
  if (!text.empty() && is_digit(text.front())) return take_number(text);
  for (int i = 0; i < field.name_count; ++i) {
    const std::string_view name = field.names[i];
    if (!equal_ignoring_case(text.substr(0, name.size()), name)) continue;
    text.remove_prefix(name.size());
    return field.low + i;
  }
  return std::nullopt;
}

bool take_char(std::string_view &text, char c) noexcept {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

/// One item of a field's list: *, 5, 1-5, */10, 10-30/5. A step needs a range, as in pg_cron.
bool take_item(std::string_view &text, const Field &field, std::uint64_t &bits) noexcept {
  int first = field.low;
  int last = field.high;
  bool range = true;
  if (!take_char(text, '*')) {
    const auto value = take_value(text, field);
    if (!value) return false;
    first = last = *value;
    range = take_char(text, '-');
    if (range) {
      const auto end = take_value(text, field);
      if (!end) return false;
      last = *end;
    }
  }
  int step = 1;
  if (take_char(text, '/')) {
    const auto value = take_number(text);
    if (!range || !value || *value == 0) return false;
    step = *value;
  }
  if (first < field.low || last > field.high) return false;
  for (int i = first; i <= last; i += step) bits |= std::uint64_t{1} << i;
  return true;
}

bool parse_field(std::string_view word, const Field &field, std::uint64_t &bits) noexcept {
  do {
    if (!take_item(word, field, bits)) return false;
  } while (take_char(word, ','));
  return word.empty();
}

/// "N seconds", from 1 to 59.
std::optional<Schedule> parse_seconds(std::string_view text) noexcept {
  std::string_view word = take_word(text);
  const auto number = take_number(word);
  if (!number || *number < 1 || *number > 59) return std::nullopt;
  if (word.empty()) word = take_word(text);
  if (!equal_ignoring_case(word, "seconds") && !equal_ignoring_case(word, "second")) return std::nullopt;
  if (!take_word(text).empty()) return std::nullopt;
  Schedule schedule;
  schedule.every_seconds = *number;
  return schedule;
}

std::optional<Schedule> parse_fields(std::string_view text) noexcept {
  Schedule schedule;
  std::uint64_t bits[5] = {};
  bool star[5] = {};
  for (int i = 0; i < 5; ++i) {
    const std::string_view word = take_word(text);
    if (word.empty()) return std::nullopt;
    star[i] = word.front() == '*';
    if (i == 2 && word == "$") schedule.last_day = true;
    else if (!parse_field(word, kFields[i], bits[i])) return std::nullopt;
  }
  if (!take_word(text).empty()) return std::nullopt;
  schedule.minutes = bits[0];
  schedule.hours = static_cast<std::uint32_t>(bits[1]);
  schedule.days = static_cast<std::uint32_t>(bits[2]);
  schedule.months = static_cast<std::uint16_t>(bits[3]);
  schedule.weekdays = static_cast<std::uint8_t>((bits[4] | bits[4] >> 7) & 0x7f);
  schedule.either_day = !star[2] && !star[4];
  return schedule;
}

struct Date {
  int month;
  int day;
};

/// Month and day of a number of days since 1970-01-01 (Howard Hinnant's civil_from_days).
Date date_of(std::int64_t days) noexcept {
  days += 719468;
  const std::int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const auto of_era = static_cast<unsigned>(days - era * 146097);
  const unsigned year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  const unsigned of_year = of_era - (365 * year + year / 4 - year / 100);
  const unsigned shifted = (5 * of_year + 2) / 153;
  return {static_cast<int>(shifted < 10 ? shifted + 3 : shifted - 9),
          static_cast<int>(of_year - (153 * shifted + 2) / 5 + 1)};
}

bool fits_day(const Schedule &schedule, std::int64_t day) noexcept {
  const Date date = date_of(day);
  if ((schedule.months >> date.month & 1) == 0) return false;
  const auto weekday = static_cast<int>(((day + 4) % 7 + 7) % 7);  // 1970-01-01 was a Thursday
  const bool by_week = (schedule.weekdays >> weekday & 1) != 0;
  const bool by_month = (schedule.days >> date.day & 1) != 0 || (schedule.last_day && date_of(day + 1).day == 1);
  return schedule.either_day ? by_week || by_month : by_week && by_month;
}

/// The first minute of a day, not before `from`, that the schedule allows.
std::optional<int> first_minute(const Schedule &schedule, int from) noexcept {
  for (int minute = from; minute < 24 * 60; ++minute) {
    if ((schedule.hours >> (minute / 60) & 1) == 0) {
      minute = (minute / 60 + 1) * 60 - 1;
      continue;
    }
    if ((schedule.minutes >> (minute % 60) & 1) != 0) return minute;
  }
  return std::nullopt;
}

/// Rounds down, for negative values too.
std::int64_t floor_divide(Micros value, Micros by) noexcept { return value / by - (value % by < 0 ? 1 : 0); }

}  // namespace

std::optional<Schedule> parse_schedule(std::string_view text) noexcept {
  if (const auto seconds = parse_seconds(text)) return seconds;
  std::string_view rest = text;
  const std::string_view word = take_word(rest);
  if (word.empty() || word.front() != '@') return parse_fields(text);
  for (const Name &name : kNames)
    if (name.name == word && take_word(rest).empty()) return parse_fields(name.fields);
  return std::nullopt;
}

std::optional<Micros> next_run(const Schedule &schedule, Micros after) noexcept {
  if (after > kFarthest || after < -kFarthest) return std::nullopt;
  if (schedule.every_seconds != 0) return after + schedule.every_seconds * kSecond;
  const std::int64_t minute = floor_divide(after, kMinute) + 1;
  std::int64_t day = floor_divide(minute, std::int64_t{24} * 60);
  auto from = static_cast<int>(minute - day * 24 * 60);
  for (int i = 0; i <= kLongestWait; ++i, ++day, from = 0) {
    if (!fits_day(schedule, day + kDaysFrom1970To2000)) continue;
    if (const auto found = first_minute(schedule, from)) return day * kDay + *found * kMinute;
  }
  return std::nullopt;
}

}  // namespace esg::core
