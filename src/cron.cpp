// Finding pg_cron and reading its jobs. Runs in the caller's process, takes ACCESS SHARE on pg_cron's tables. See
// cron.h.

#include "cron.h"

#include "core/schedule.h"
#include "pg/identity.h"
#include "pg/spi.h"
#include "settings.h"

namespace esg {
namespace {

constexpr const char *kReapingFunction = "reap_stale_syncs";

/// Schema and tables may bear pg_cron's names without being pg_cron's: what is read as the extension's owner must be.
bool belongs_to_cron(const char *table) {
  const Oid schema = get_namespace_oid("cron", true);
  const Oid relation = OidIsValid(schema) ? get_relname_relid(table, schema) : InvalidOid;
  return OidIsValid(relation) &&
         getExtensionOfObject(RelationRelationId, relation) == get_extension_oid("pg_cron", true);
}

bool is_available(const char *extension) {
  pg::Statement query(
      "SELECT 1 FROM pg_catalog.pg_available_extensions AS e WHERE e.name OPERATOR(pg_catalog.=) $1::pg_catalog.name");
  query.add_text(extension);
  pg::spi_begin();
  const bool found = pg::spi_run(query, pg::Access::kRead) > 0;
  pg::spi_end();
  return found;
}

std::optional<core::Micros> instant(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  if (is_null || TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(value))) return std::nullopt;
  return DatumGetTimestampTz(value);
}

ReapingJob *make_job(uint64 row, MemoryContext context) {
  auto *job = static_cast<ReapingJob *>(MemoryContextAllocZero(context, sizeof(ReapingJob)));
  *job = ReapingJob{};
  bool is_null;
  job->id = DatumGetInt64(pg::spi_datum(row, 1, &is_null));
  job->name = pg::spi_text(row, 2, context);
  job->schedule = pg::spi_text(row, 3, context);
  job->command = pg::spi_text(row, 4, context);
  job->database = pg::spi_text(row, 5, context);
  job->role = pg::spi_text(row, 6, context);
  job->active = DatumGetBool(pg::spi_datum(row, 7, &is_null));
  job->last_status = pg::spi_text(row, 8, context);
  job->last_message = pg::spi_text(row, 9, context);
  job->last_started = instant(row, 10);
  job->last_ended = instant(row, 11);
  job->last_good = instant(row, 12);
  return job;
}

}  // namespace

bool preloaded(const char *library) {
  List *entries;
  if (!SplitDirectoriesString(pstrdup(shared_preload_libraries_string), ',', &entries)) return false;
  ListCell *cell;
  foreach (cell, entries) {
    std::string_view name(static_cast<const char *>(lfirst(cell)));
    const std::size_t slash = name.rfind('/');
    if (slash != std::string_view::npos) name.remove_prefix(slash + 1);
    const std::string_view suffix(DLSUFFIX);
    if (name.size() > suffix.size() && name.substr(name.size() - suffix.size()) == suffix)
      name.remove_suffix(suffix.size());
    if (name == library) return true;
  }
  return false;
}

Cron find_cron() {
  const bool created = OidIsValid(get_extension_oid("pg_cron", true));
  if (!preloaded("pg_cron")) {
    if (created) return {CronState::kNotLoaded, nullptr};
    return {is_available("pg_cron") ? CronState::kNotPreloaded : CronState::kAbsent, nullptr};
  }
  const char *database = GetConfigOption("cron.database_name", true, false);
  const char *here = get_database_name(MyDatabaseId);
  if (database == nullptr) database = here;
  if (strcmp(database, here) != 0) return {CronState::kElsewhere, database};
  return {created ? CronState::kHere : CronState::kNotCreated, database};
}

bool reaps(const char *command) { return strstr(command, kReapingFunction) != nullptr; }

List *reaping_jobs() {
  if (find_cron().state != CronState::kHere || !belongs_to_cron("job") || !belongs_to_cron("job_run_details"))
    return NIL;
  pg::Statement query(
      "SELECT j.jobid, j.jobname::pg_catalog.text, j.schedule, j.command, j.database, j.username, j.active,"
      " r.status, r.return_message, r.start_time, r.end_time,"
      " CASE WHEN r.status OPERATOR(pg_catalog.=) 'failed' THEN (SELECT COALESCE(pg_catalog.max(d.start_time)"
      " FILTER (WHERE d.status OPERATOR(pg_catalog.=) 'succeeded'), pg_catalog.min(d.start_time))"
      " FROM cron.job_run_details AS d WHERE d.jobid OPERATOR(pg_catalog.=) j.jobid) END"
      " FROM cron.job AS j LEFT JOIN LATERAL"
      " (SELECT d.status, d.return_message, d.start_time, d.end_time FROM cron.job_run_details AS d"
      " WHERE d.jobid OPERATOR(pg_catalog.=) j.jobid ORDER BY d.runid DESC LIMIT 1) AS r ON true"
      " WHERE j.database OPERATOR(pg_catalog.=) $1 AND pg_catalog.strpos(j.command, $2) OPERATOR(pg_catalog.>) 0"
      " ORDER BY j.jobid");
  query.add_text(get_database_name(MyDatabaseId)).add_text(kReapingFunction);
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  List *jobs = NIL;
  for (uint64 i = 0; i < rows; ++i) {
    const MemoryContext inner = MemoryContextSwitchTo(context);
    jobs = lappend(jobs, make_job(i, context));
    MemoryContextSwitchTo(inner);
  }
  pg::spi_end();
  pg::restore(before);
  return jobs;
}

bool may_see_jobs_of(const char *role) {
  const Oid id = get_role_oid(role, true);
  return has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_STATS) ||
         (OidIsValid(id) && has_privs_of_role(GetUserId(), id));
}

const char *cron_time_zone() {
  const char *zone = GetConfigOption("cron.timezone", true, false);
  return zone == nullptr || zone[0] == '\0' ? "GMT" : zone;
}

std::optional<core::Micros> due_after(const ReapingJob &job, core::Micros after) {
  const auto schedule = core::parse_schedule(job.schedule);
  pg_tz *zone = pg_tzset(cron_time_zone());
  if (!schedule || zone == nullptr) return std::nullopt;
  if (schedule->every_seconds != 0) return core::next_run(*schedule, after);
  const auto local = core::next_run(*schedule, to_naive(after, zone));
  if (!local) return std::nullopt;
  return from_naive(*local, zone);
}

std::optional<core::Micros> late_by(const ReapingJob &job, const std::optional<core::Micros> &last, core::Micros now) {
  const auto due = last ? due_after(job, *last) : std::nullopt;
  if (!due || *due >= now) return std::nullopt;
  return now - *due;
}

bool has_failed(const ReapingJob &job) { return job.last_status != nullptr && strcmp(job.last_status, "failed") == 0; }

const char *job_name_elsewhere(const char *job_name) {
  if (strcmp(job_name, kDefaultJobName) != 0) return job_name;
  return psprintf("%s@%s", job_name, get_database_name(MyDatabaseId));
}

char *scheduling_elsewhere(const char *schedule, const char *command, const char *job_name) {
  return psprintf("SELECT cron.schedule_in_database(%s, %s, %s, %s);", quote_literal_cstr(job_name_elsewhere(job_name)),
                  quote_literal_cstr(schedule), quote_literal_cstr(command),
                  quote_literal_cstr(get_database_name(MyDatabaseId)));
}

CronLack what_cron_lacks(const Cron &cron) {
  constexpr const char *kCreate = "CREATE EXTENSION pg_cron;";
  const char *configure = psprintf(
      "dd pg_cron to shared_preload_libraries and cron.database_name = %s to postgresql.conf, restart the server",
      quote_literal_cstr(get_database_name(MyDatabaseId)));
  switch (cron.state) {
    case CronState::kNotCreated:
      return {"pg_cron has not been created in this database", psprintf("Run, as superuser: %s", kCreate)};
    case CronState::kNotLoaded: return {"pg_cron is not loaded, its jobs do not run", psprintf("A%s.", configure)};
    case CronState::kNotPreloaded:
      return {"pg_cron is not loaded", psprintf("A%s, and run, as superuser: %s", configure, kCreate)};
    default:
      return {"pg_cron is not installed on this server",
              psprintf("Install it (Debian, Ubuntu: package postgresql-%d-cron; RPM: pg_cron_%d), a%s, and run, as "
                       "superuser: %s",
                       pg::kServerMajor, pg::kServerMajor, configure, kCreate)};
  }
}

}  // namespace esg
