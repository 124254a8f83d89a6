// The life of the server, in shared memory and on the clock. The hooks run in the postmaster at its start and at a crash
// restart; everything else in whatever process asks. See server_life.h.

#include "server_life.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>

#include "gaps.h"
#include "run_table.h"
#include "worker.h"

namespace esg {
namespace {

/// Written once by who makes it, but for promoted_at.
struct Life {
  int64 began;                   ///< monotonic
  bool began_in_recovery;        ///< as a standby or from an archive
  pg_atomic_uint64 promoted_at;  ///< monotonic; 0: not seen yet
};
static_assert(std::is_standard_layout_v<Life>);

Life *life = nullptr;
shmem_request_hook_type next_request_hook = nullptr;
shmem_startup_hook_type next_startup_hook = nullptr;

bool file_exists(const char *path) noexcept {
  struct stat found;
  return stat(path, &found) == 0;
}

void request_memory() {
  if (next_request_hook != nullptr) next_request_hook();
  RequestAddinShmemSpace(add_size(add_size(MAXALIGN(sizeof(Life)), MAXALIGN(gaps_size())),
                                  add_size(run_table_size(), worker_requests_size())));
}

void make_memory() {
  if (next_startup_hook != nullptr) next_startup_hook();
  LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
  bool found;
  life = static_cast<Life *>(ShmemInitStruct("emag_sync_guard life", sizeof(Life), &found));
  if (!found) {
    life->began = monotonic_now();
    life->began_in_recovery = file_exists("standby.signal") || file_exists("recovery.signal");
    pg_atomic_init_u64(&life->promoted_at, 0);
  }
  run_table_attach();
  gaps_attach();
  worker_requests_attach();
  LWLockRelease(AddinShmemInitLock);
}

/// When a file was written. Whole seconds would not do: a lease taken in the second before would count as taken after.
TimestampTz written_at(const struct stat &file) {
#ifdef __APPLE__
  const struct timespec &at = file.st_mtimespec;
#else
  const struct timespec &at = file.st_mtim;
#endif
  return time_t_to_timestamptz(at.tv_sec) + at.tv_nsec / 1000;
}

/// When the present timeline began, by the file that its promotion wrote; now where there is none.
int64 promotion(const Clock &clock) {
  char path[MAXPGPATH];
  snprintf(path, sizeof path, "pg_wal/%08X.history", GetWALInsertionTimeLine());
  struct stat written;
  if (stat(path, &written) != 0) return clock.monotonic;
  // The file's time is of the stepping clock: never earlier than this life, never later than now.
  return Min(Max(clock.monotonic - (clock.now - written_at(written)), life->began), clock.monotonic);
}

}  // namespace

bool have_memory() noexcept { return life != nullptr; }

int64 monotonic_now() noexcept {
  struct timespec reading;
  clock_gettime(CLOCK_MONOTONIC, &reading);
  return static_cast<int64>(reading.tv_sec) * 1000000 + reading.tv_nsec / 1000;
}

Clock clock_now() noexcept {
  constexpr int64 kTogether = 100;  // microseconds
  // A process that loses its processor between the two readings takes them again.
  int64 before = monotonic_now();
  for (int tries = 0;; ++tries) {
    const core::Micros now = GetCurrentTimestamp();
    const int64 after = monotonic_now();
    if (after - before <= kTogether || tries == 10) return {now, after};
    before = after;
  }
}

std::optional<core::Micros> life_began(const Clock &clock) {
  if (RecoveryInProgress()) return std::nullopt;
  if (!have_memory()) return PgStartTime;
  if (!life->began_in_recovery) return clock.instant(life->began);
  uint64 promoted = pg_atomic_read_u64(&life->promoted_at);
  if (promoted == 0) {
    uint64 unknown = 0;
    promoted = static_cast<uint64>(promotion(clock));
    if (!pg_atomic_compare_exchange_u64(&life->promoted_at, &unknown, promoted)) promoted = unknown;
  }
  return clock.instant(static_cast<int64>(promoted));
}

bool server_is_stopping() noexcept {
  if (!IsUnderPostmaster) return false;  // single-user mode: there is no postmaster whose pipe could be asked
  // Whose postmaster was killed takes no more part in anything, and its file says nothing of that.
  if (!PostmasterIsAlive()) return true;
  char path[MAXPGPATH];
  snprintf(path, sizeof path, "%s/postmaster.pid", DataDir);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  char text[2048];
  const ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  if (length <= 0) return false;
  text[length] = '\0';
  const char *line = text;
  for (int number = 1; number < LOCK_FILE_LINE_PM_STATUS; ++number) {
    line = strchr(line, '\n');
    if (line == nullptr) return false;
    ++line;
  }
  return strncmp(line, PM_STATUS_STOPPING, strlen(PM_STATUS_STOPPING)) == 0;
}

void server_life_load() {
  if (!process_shared_preload_libraries_in_progress) return;
  next_request_hook = shmem_request_hook;
  shmem_request_hook = request_memory;
  next_startup_hook = shmem_startup_hook;
  shmem_startup_hook = make_memory;
}

}  // namespace esg
