// See fault.h. Runs in whatever process comes by a point; takes no locks, knows the other processes by files alone, so that it
// works before a process has a place in shared memory and after it has given that up.

#include "fault.h"

#ifdef ESG_FAULT_POINTS

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <new>

#include "pg/prelude.h"

namespace esg::fault {
namespace {

constexpr int kMostPoints = 128;

/// A point that this process has passed.
struct Passed {
  const char *point;
  int times;
};

char *setting = nullptr;
Passed all_passed[kMostPoints];
int passed_count = 0;

void path_of(const char *folder, const char *point, char *path, size_t size) {
  snprintf(path, size, "%s/%s", folder, point);
}

/// Leaves a file where its folder is; the working directory of every process is the data directory.
void leave_file(const char *folder, const char *point) {
  char path[MAXPGPATH];
  path_of(folder, point, path, sizeof path);
  const int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (file >= 0) close(file);
}

/// Which time it is that this process passes the point.
int count_pass(const char *point) {
  for (int i = 0; i < passed_count; ++i)
    if (strcmp(all_passed[i].point, point) == 0) return ++all_passed[i].times;
  leave_file("fault_points", point);
  if (passed_count == kMostPoints) return 0;
  all_passed[passed_count++] = {point, 1};
  return 1;
}

/// What is to be done at this pass of the point, into `action`; false: nothing.
bool action_for(const char *point, int times, char *action, size_t size) {
  const size_t length = strlen(point);
  for (const char *at = setting; at != nullptr && *at != '\0';) {
    const char *end = strchr(at, ',');
    const size_t item = end == nullptr ? strlen(at) : static_cast<size_t>(end - at);
    if (item > length && strncmp(at, point, length) == 0 && at[length] == ':') {
      char text[64];
      strlcpy(text, at + length + 1, Min(sizeof text, item - length));
      char *number = strchr(text, ':');
      if (number != nullptr) *number++ = '\0';
      if (times == (number == nullptr ? 1 : atoi(number))) {
        strlcpy(action, text, size);
        return true;
      }
    }
    at = end == nullptr ? nullptr : end + 1;
  }
  return false;
}

void wait_until_removed(const char *point, bool may_raise) {
  char path[MAXPGPATH];
  path_of("fault_waits", point, path, sizeof path);
  leave_file("fault_waits", point);
  struct stat found;
  while (stat(path, &found) == 0) {
    pg_usleep(1000);
    if (may_raise) CHECK_FOR_INTERRUPTS();
  }
}

}  // namespace

void load() {
  DefineCustomStringVariable("emag_sync_guard.fault", "Makes this build fail at chosen points.", nullptr, &setting, "",
                             PGC_SUSET, GUC_NOT_IN_SAMPLE, nullptr, nullptr, nullptr);
}

void reach(const char *point, bool may_raise) {
  char action[32];
  if (!action_for(point, count_pass(point), action, sizeof action)) return;
  if (strcmp(action, "wait") == 0) {
    wait_until_removed(point, may_raise);
    return;
  }
  if (strcmp(action, "crash") == 0) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
  }
  if (!may_raise) return;
  if (strcmp(action, "bad_alloc") == 0) throw std::bad_alloc();
  if (strcmp(action, "oom") == 0)
    ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"), errdetail("Fault at %s.", point));
  ereport(strcmp(action, "fatal") == 0 ? FATAL : ERROR, errcode(ERRCODE_SYSTEM_ERROR), errmsg("fault at %s", point));
}

}  // namespace esg::fault

#endif
