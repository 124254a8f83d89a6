// pg_cron as seen from this database: whether it is there, and the jobs with which it reaps here. Reads pg_cron's own
// tables as the extension's owner, since row security shows a caller only his own jobs; what is handed on to whom is
// for the functions here to decide.
#pragma once

#include "pg/prelude.h"

namespace esg {

enum class CronState : uint8 {
  kHere,          ///< preloaded, and this database has its jobs
  kElsewhere,     ///< preloaded, and another database has its jobs
  kNotCreated,    ///< preloaded for this database; CREATE EXTENSION is missing
  kNotLoaded,     ///< created in this database, not preloaded: nothing runs
  kNotPreloaded,  ///< its files are on the server, no more
  kAbsent,        ///< not even these
};

struct Cron {
  CronState state;
  const char *database;  ///< the one that has its jobs; null where it is not preloaded
};

Cron find_cron();

/// A job of pg_cron's that reaps in this database.
struct ReapingJob {
  int64 id;
  const char *name;  ///< may be null
  const char *schedule;
  const char *command;
  const char *database;
  const char *role;
  bool active;
  const char *last_status;  ///< of its last run; all four absent where none is known
  const char *last_message;
  std::optional<core::Micros> last_started;
  std::optional<core::Micros> last_ended;
  /// When it last started well, where the last run failed: its last run that succeeded, else the first that is known.
  std::optional<core::Micros> last_good;
};

/// The jobs whose command reaps in this database, whoever may see them: a List of ReapingJob*. NIL unless pg_cron is
/// here.
List *reaping_jobs();

/// The caller may see the jobs of this role: he has it, or reads all statistics.
bool may_see_jobs_of(const char *role);

/// The command's job is to reap.
bool reaps(const char *command);

/// The time zone in which pg_cron reads schedules.
const char *cron_time_zone();

/// When a job is due for the first time after `after`; absent where that is not known.
std::optional<core::Micros> due_after(const ReapingJob &job, core::Micros after);

/// How long ago a job was due after `last`; absent where it was not yet, or that is not known.
std::optional<core::Micros> late_by(const ReapingJob &job, const std::optional<core::Micros> &last, core::Micros now);

/// The last run of the job failed.
bool has_failed(const ReapingJob &job);

/// The statement that makes a reaping job for this database, to be run in the database that has pg_cron's jobs.
/// There a job of the default name is called after its database, since one name makes one job.
const char *job_name_elsewhere(const char *job_name);
char *scheduling_elsewhere(const char *schedule, const char *command, const char *job_name);

/// What keeps this server or database from having jobs, and what to do about it: a clause and a sentence. For the
/// states from kNotCreated on.
struct CronLack {
  const char *what;
  const char *remedy;
};
CronLack what_cron_lacks(const Cron &cron);

/// The name of the job and what it runs, where the caller of schedule_reaping does not say otherwise.
constexpr const char *kDefaultJobName = "emag_sync_guard";
constexpr const char *kDefaultSchedule = "* * * * *";
constexpr const char *kDefaultCommand = "SELECT sync_guard.reap_stale_syncs()";

/// Whether shared_preload_libraries names a library.
bool preloaded(const char *library);

}  // namespace esg
