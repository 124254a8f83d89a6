// What guard_health says of a table's runs in a live status: those without a usable start, those that start in the
// future and the time zone that this suggests, those that share an exclusive scope, and dead ones that nobody closes. See
// health.h.

#include "health.h"

namespace esg {
namespace {

/// How far ahead an application's clock may be.
constexpr core::Micros kClockSkew = core::kMinute;
/// How long a dead run may wait for something to close it.
constexpr core::Micros kPatience = 15 * core::kMinute;

/// Zones to suggest after the server's own, one for each offset that people live at; of those with the same offset the
/// first is named.
// clang-format off
constexpr const char *kZones[] = {
    "UTC", "Europe/London", "Europe/Berlin", "Europe/Bucharest", "Europe/Istanbul", "Asia/Tehran", "Asia/Dubai",
    "Asia/Kabul", "Asia/Karachi", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Dhaka", "Asia/Yangon", "Asia/Bangkok",
    "Asia/Shanghai", "Asia/Tokyo", "Australia/Adelaide", "Australia/Sydney", "Pacific/Auckland", "Pacific/Tongatapu",
    "America/Los_Angeles", "America/Denver", "America/Chicago", "America/New_York", "America/Halifax",
    "America/Sao_Paulo", "Atlantic/South_Georgia"};
// clang-format on

struct Counted {
  int count = 0;
  const Run *first = nullptr;

  void add(const Run &run) {
    if (count++ == 0) first = &run;
  }
};

const char *runs_in_words(const Counted &runs) {
  return runs.count == 1 ? psprintf("run %s", runs.first->key)
                         : psprintf("%d runs (%s among them)", runs.count, runs.first->key);
}

/// How long ago the start would be if the naive times were of `zone`; absent where that is no valid time.
std::optional<core::Micros> age_in(const Guarded &g, const char *zone_name, core::Micros started, core::Micros now) {
  pg_tz *zone = zone_name == nullptr ? nullptr : pg_tzset(zone_name);
  if (zone == nullptr) return std::nullopt;
  const auto instant = from_naive(to_naive(started, g.zone), zone);
  if (!instant) return std::nullopt;
  return now - *instant;
}

bool fits(const std::optional<core::Micros> &age) { return age && *age >= -kClockSkew && *age <= core::kDay; }

/// The time zone that the naive start times seem to be of, judged by the newest one: the server's or the session's if a
/// start there would be no longer in the future, else the nearest. Null where none fits.
const char *suggested_zone(const Guarded &g, core::Micros newest, core::Micros now) {
  for (const char *zone : {GetConfigOptionResetString("TimeZone"), GetConfigOption("log_timezone", true, false),
                           GetConfigOption("TimeZone", true, false)})
    if (fits(age_in(g, zone, newest, now))) return zone;
  const char *best = nullptr;
  core::Micros best_age = 0;
  for (const char *zone : kZones) {
    const auto age = age_in(g, zone, newest, now);
    if (!fits(age) || (best != nullptr && *age >= best_age)) continue;
    best = zone;
    best_age = *age;
  }
  return best;
}

void report_future(const Guarded &g, const Counted &future, core::Micros newest, const Report &report) {
  const core::Micros now = report.question.now;
  char ahead[48];
  const char *detail = psprintf("%s in a live status: the start lies in the future, up to %s", runs_in_words(future),
                                core::describe_span(newest - now, ahead, sizeof ahead));
  const char *zone = g.start.type == TIMESTAMPOID ? suggested_zone(g, newest, now) : nullptr;
  if (zone != nullptr)
    report.line(kWarning, g.table, "start_in_future",
                psprintf("%s; column %s is read as %s, its times look like %s", detail, quote_identifier(g.start.name),
                         g.zone_name, zone),
                psprintf("SELECT sync_guard.guard_table(%s, time_zone => %s);", quote_literal_cstr(g.name),
                         quote_literal_cstr(zone)));
  else
    report.line(kWarning, g.table, "start_in_future", detail,
                "See to the clock and the time zone of who writes it; until then no age counts against these runs.");
}

void report_dead(const Guarded &g, const Counted &dead, core::Micros longest, const Report &report) {
  char since[48];
  core::describe_span(longest, since, sizeof since);
  report.line(kWarning, g.table, "dead_runs_not_closed",
              dead.count == 1
                  ? psprintf("%s has been dead for %s and nothing has closed it", runs_in_words(dead), since)
                  : psprintf("%s have been dead for up to %s and nothing has closed them", runs_in_words(dead), since),
              psprintf("SELECT sync_guard.reap_stale_syncs(relation => %s); and see that something calls it: "
                       "sync_guard.reaping_schedule.",
                       quote_literal_cstr(g.name)));
}

}  // namespace

std::optional<core::Micros> dead_for(const Run &run, core::Micros now) {
  const core::Judgement &judgement = run.judgement;
  if (!judgement.dead()) return std::nullopt;
  if (judgement.measured && judgement.limit) return *judgement.measured - *judgement.limit;
  if (judgement.verdict == core::Verdict::kPassedOver) return judgement.measured;
  if (run.died) return now - *run.died;
  return std::nullopt;
}

void check_runs(const Guarded &g, const Report &report) {
  const core::Micros now = report.question.now;
  if (!g.start.exists() && !g.activity.exists())
    report.line(kWarning, g.table, "no_time_column",
                "the table has neither a start nor an activity column: no run can be found dead",
                psprintf("SELECT sync_guard.guard_table(%s, start_column => ...);", quote_literal_cstr(g.name)));
  const Runs runs = read_runs(g, RunFilter{}, report.question);
  Counted without_start;
  Counted future;
  Counted dead;
  core::Micros newest = now;
  core::Micros longest = 0;
  for (int i = 0; i < runs.count; ++i) {
    const Run &run = runs.items[i];
    if (!run.started) {
      if (g.start.exists()) without_start.add(run);
    } else if (*run.started > now + kClockSkew) {
      future.add(run);
      newest = Max(newest, *run.started);
    }
    const auto since = dead_for(run, now);
    if (since && *since > kPatience) {
      dead.add(run);
      longest = Max(longest, *since);
    }
  }
  if (without_start.count > 0)
    report.line(kWarning, g.table, "run_without_start",
                psprintf("%s in a live status: the start is NULL or infinite, no age counts against it",
                         runs_in_words(without_start)),
                psprintf("Set %s, or end the run by hand.", quote_identifier(g.start.name)));
  const SharedScope shared = find_shared_scope(g, runs);
  if (shared.one != nullptr)
    report.line(
        kWarning, g.table, "exclusive_scope_shared",
        psprintf("runs %s and %s are both live in one scope, which is exclusive", shared.one->key, shared.other->key),
        "Only runs that start are checked: let one of them end, or set its status.");
  if (future.count > 0) report_future(g, future, newest, report);
  if (dead.count > 0 && g.mode == Mode::kGuard && g.paused_until <= now) report_dead(g, dead, longest, report);
}

}  // namespace esg
