// What guard_health says of the shared memory and of the workers on demand. Runs in the caller's process, looks at counters.

#include "health.h"
#include "server_life.h"
#include "worker.h"

namespace esg {
namespace {

/// What happened longer ago is no news.
constexpr core::Micros kNews = core::kHour;
/// A worker that has not come after this long is late.
constexpr core::Micros kLate = 10 * core::kSecond;

bool is_news(int64 at, int64 now) { return at != 0 && now - at < kNews; }

void check_runs_in_memory(const RunTableState &runs, int64 now, const Report &report) {
  if (is_news(runs.last_refused, now))
    report.line(
        kWarning, InvalidOid, "memory_full",
        psprintf("the shared memory, with room for %d runs, was full " INT64_FORMAT " times: such runs are judged by "
                 "their rows and leases alone",
                 runs.capacity, runs.refused),
        "Raise emag_sync_guard.max_tracked_runs and restart the server; the view sync_guard.guard_memory shows its "
        "use.");
  if (is_news(runs.mass_death_at, now) && runs.mass_death_database == MyDatabaseId)
    report.line(
        kWarning, InvalidOid, "mass_death",
        psprintf("%d heartbeat leases, more than half of this database's, fell silent together: their verdict is held "
                 "back for one further ttl",
                 runs.mass_death_count),
        "It is rather the network, a pool or a clock than so many workers: look at those.");
}

void check_workers(const WorkerState &workers, int64 now, const Report &report) {
  if (is_news(workers.last_refused, now))
    report.line(kWarning, InvalidOid, "workers_refused",
                psprintf("no slot for a background worker was free, " INT64_FORMAT
                         " times: runs of dead sessions were left to the next reaping",
                         workers.refused),
                "Raise max_worker_processes and restart the server.");
  char waiting[48];
  if (workers.open > 0 && now - workers.oldest_open > kLate)
    report.line(kWarning, InvalidOid, "worker_requests_waiting",
                psprintf("a background worker that is to close runs of dead sessions has not come for %s",
                         core::describe_span(now - workers.oldest_open, waiting, sizeof waiting)),
                "Look at max_worker_processes and into the server's log; a call of reap_stale_syncs() closes them.");
}

}  // namespace

void check_memory(const Report &report) {
  if (RecoveryInProgress())
    report.line(
        kInfo, InvalidOid, "standby",
        "this is a standby: the signs of life of leases and the runs of open transactions are known to the primary "
        "only; runs without lease are judged by the time of the last transaction replayed",
        "Ask the primary where that matters.");
  if (!have_memory()) {
    report.line(
        kInfo, InvalidOid, "not_preloaded",
        "emag_sync_guard is not in shared_preload_libraries: bind_session gives a heartbeat lease, heartbeats are "
        "written to the lease's row, and runs of open transactions stay unseen",
        "Add it to shared_preload_libraries and restart the server.");
    return;
  }
  const int64 now = monotonic_now();
  check_runs_in_memory(run_table_state(), now, report);
  check_workers(worker_state(), now, report);
}

}  // namespace esg
