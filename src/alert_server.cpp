// What the rules about no table read: pg_cron's jobs, the workers on demand, the shared memory. Runs in the caller's process
// or the sweep's; looks at counters, and at pg_cron's tables as the extension's owner. See alert_readings.h.

#include "alert_readings.h"
#include "cron.h"
#include "run_table.h"
#include "server_life.h"
#include "texts.h"
#include "worker.h"

namespace esg {
namespace {

using core::AlertRule;

constexpr const char *kWorkerSubject = "worker";

/// A name that no other subject can have: neither that of the worker nor one that is made here.
bool is_plain(const char *name) {
  const std::size_t length = strlen(name);
  return strcmp(name, kWorkerSubject) != 0 && strncmp(name, "job ", 4) != 0 && length > 0 && name[length - 1] != ')';
}

/// A job's name; its number too where it has none, or another has the same or may have.
const char *subject_of(const ReapingJob &job, const Readings &readings) {
  if (job.name == nullptr) return psprintf("job " INT64_FORMAT, job.id);
  bool alone = is_plain(job.name);
  for (int i = 0; i < readings.count && alone; ++i) alone = strcmp(readings.items[i].subject, job.name) != 0;
  return alone ? job.name : psprintf("%s (job " INT64_FORMAT ")", job.name, job.id);
}

void read_job(const ReapingJob &job, core::Micros now, Readings *readings) {
  const bool failed = job.active && has_failed(job);
  const auto late = late_by(job, failed ? job.last_good : job.last_started, now);
  Reading &reading = readings->append(AlertRule::kReapingOverdue, nullptr, {});
  reading.subject = "";
  reading.subject = subject_of(job, *readings);
  reading.value.figure = in_seconds(late.value_or(0));
  const char *name = psprintf("job " INT64_FORMAT " (schedule \"%s\")", job.id, job.schedule);
  if (!late) {
    reading.detail = psprintf("%s is not late", name);
  } else if (failed) {
    reading.detail = psprintf("%s has closed nothing since it was due %s ago: its runs fail", name, span_words(*late));
    reading.hint = "The view sync_guard.reaping_schedule and pg_cron's cron.job_run_details show their messages.";
  } else if (!job.active) {
    reading.detail = psprintf("%s is not active and was due %s ago", name, span_words(*late));
    reading.hint = psprintf("SELECT cron.alter_job(" INT64_FORMAT
                            ", active => true); or sync_guard.unschedule_reaping() where it is not wanted any more.",
                            job.id);
  } else {
    reading.detail = psprintf("%s was due %s ago and has not begun", name, span_words(*late));
    reading.hint = "Look for pg_cron in the server's log, and whether its launcher is in pg_stat_activity.";
  }
}

void read_worker(Readings *readings) {
  const WorkerState workers = worker_state();
  if (workers.open == 0) return;
  const core::Micros late = monotonic_now() - workers.oldest_open;
  Reading &reading = readings->append(AlertRule::kReapingOverdue, nullptr, {});
  reading.subject = kWorkerSubject;
  reading.value.figure = in_seconds(late);
  reading.detail =
      psprintf("a background worker that is to close runs of dead sessions has not come for %s", span_words(late));
  reading.hint =
      "Look at max_worker_processes and into the server's log; a call of sync_guard.reap_stale_syncs() closes them.";
}

void read_memory(const AlertRules &rules, Readings *readings) {
  RunTableState runs = run_table_state();
  if (runs.capacity == 0) return;
  const auto share = [&runs] { return static_cast<double>(runs.used) / runs.capacity; };
  if (share() > rules.of(AlertRule::kMemoryNearlyFull).clear_below) {
    // Entries of runs that have ended may be given back.
    settle_all();
    runs = run_table_state();
  }
  Reading &reading = readings->append(AlertRule::kMemoryNearlyFull, nullptr, {});
  reading.value.figure = share();
  reading.detail =
      psprintf("%d of the %d live runs that there is room for in shared memory are there", runs.used, runs.capacity);
  reading.hint =
      "Raise emag_sync_guard.max_tracked_runs and restart the server: runs that find no room are judged by their rows "
      "and leases alone.";
}

void read_mass_death(const AlertRules &rules, Readings *readings) {
  const RunTableState runs = run_table_state();
  if (runs.mass_death_at == 0 || runs.mass_death_database != MyDatabaseId) return;
  const core::Micros ago = monotonic_now() - runs.mass_death_at;
  if (ago >= rules.of(AlertRule::kMassDeath).time_window) return;
  Reading &reading = readings->append(AlertRule::kMassDeath, nullptr, {});
  reading.value.figure = runs.mass_death_count;
  reading.detail = psprintf(
      "%d heartbeat leases, more than half of this database's, fell silent together %s ago: their "
      "verdict is held back for one further ttl",
      runs.mass_death_count, span_words(ago));
  reading.hint = "It is rather the network, a pool or a clock than so many workers: look at those.";
}

}  // namespace

Readings read_server_figures(const AlertRules &rules, const core::Question &question) {
  Readings readings;
  if (rules.asks(AlertRule::kReapingOverdue)) {
    ListCell *cell;
    foreach (cell, reaping_jobs()) read_job(*static_cast<const ReapingJob *>(lfirst(cell)), question.now, &readings);
    if (have_memory()) read_worker(&readings);
  }
  if (!have_memory()) return readings;
  if (rules.asks(AlertRule::kMemoryNearlyFull)) read_memory(rules, &readings);
  if (rules.asks(AlertRule::kMassDeath)) read_mass_death(rules, &readings);
  return readings;
}

}  // namespace esg
