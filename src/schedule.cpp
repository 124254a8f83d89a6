// The sweep on pg_cron's clock: schedule_reaping, unschedule_reaping and the function behind the view reaping_schedule.
// pg_cron's own functions are called as the caller, so that its rules hold: a job runs as who made it.

#include "cron.h"
#include "errors.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "pg/rows.h"
#include "pg/spi.h"
#include "settings.h"

/// schedule_reaping(schedule text, older_than interval, job_name text): makes the job, or changes the one of that name.
/// Returns pg_cron's number of it. ERROR SY006 for a bad option or a name that another job has; 55000 where pg_cron is
/// not in this database, saying what to do; pg_cron's own 22023 for a schedule that is none.
ESG_SQL_FUNCTION(schedule_reaping);

/// unschedule_reaping(job_name text): removes the job. False where there is none.
ESG_SQL_FUNCTION(unschedule_reaping);

/// cron_jobs(): the jobs that reap in this database and that the caller may see.
ESG_SQL_FUNCTION(cron_jobs);

namespace esg {
namespace {

char *text_argument(FunctionCallInfo fcinfo, int number, const char *name) {
  if (PG_ARGISNULL(number))
    ereport(ERROR, errcode(kBadOption), errmsg("%s must not be NULL", name), errdetail("NULL is not the default here."),
            errhint("Leave the argument out to get the default."));
  return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/// A job without a name could not be found again.
char *name_argument(FunctionCallInfo fcinfo, int number) {
  char *name = text_argument(fcinfo, number, "job_name");
  if (name[0] == '\0')
    ereport(ERROR, errcode(kBadOption), errmsg("job_name must not be empty"),
            errdetail("A job is changed and removed by its name."),
            errhint("Leave the argument out to get the default."));
  return name;
}

/// What the job runs. The interval is written so that any session reads it the same way.
char *command_for(FunctionCallInfo fcinfo, int number) {
  if (PG_ARGISNULL(number)) return pstrdup(kDefaultCommand);
  const Interval *older_than = PG_GETARG_INTERVAL_P(number);
  if (pg::interval_is_infinite_compat(older_than) || micros_of(older_than) <= 0)
    ereport(ERROR, errcode(kBadOption), errmsg("older_than must be a finite interval of more than zero"),
            errdetail("It was given as %s.",
                      DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(older_than)))),
            errhint("For example: SELECT sync_guard.schedule_reaping('0 3 * * *', '1 hour');"));
  struct pg_itm parts;
  char text[MAXDATELEN + 1];
  interval2itm(*older_than, &parts);
  EncodeInterval(&parts, INTSTYLE_POSTGRES, text);
  return psprintf("SELECT sync_guard.reap_stale_syncs(older_than => %s)", quote_literal_cstr(text));
}

/// `statement` is what to run in the database that has pg_cron's jobs.
[[noreturn]] void cron_is_elsewhere(const Cron &cron, const char *statement) {
  ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
          errmsg("pg_cron keeps its jobs in database \"%s\", this is database \"%s\"", cron.database,
                 get_database_name(MyDatabaseId)),
          errdetail("Jobs for all databases are made in the one that cron.database_name names."),
          errhint("Run in database \"%s\": %s", cron.database, statement));
}

[[noreturn]] void cron_is_missing(const Cron &cron) {
  const CronLack lack = what_cron_lacks(cron);
  ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("%s", lack.what),
          errdetail("Everything else works without pg_cron: any scheduler can call sync_guard.reap_stale_syncs()."),
          errhint("%s", lack.remedy));
}

/// The caller may call pg_cron's functions.
void require_rights() {
  const Oid schema = get_namespace_oid("cron", false);
  if (pg::may_use_schema_compat(schema, GetUserId())) return;
  const char *caller = GetUserNameFromId(GetUserId(), false);
  ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("role \"%s\" may not use pg_cron", caller),
          errdetail("It has no USAGE on schema cron."),
          errhint("Ask a superuser for: GRANT USAGE ON SCHEMA cron TO %s;", quote_identifier(caller)));
}

/// A job of a given name.
struct NamedJob {
  int64 id = 0;  ///< 0: there is none
  char *role = nullptr;
  char *database = nullptr;
  char *command = nullptr;
  char *schedule = nullptr;
  bool active = true;
  bool of_superuser = false;

  [[nodiscard]] bool reaps_here() const {
    return strcmp(database, get_database_name(MyDatabaseId)) == 0 && reaps(command);
  }
};

/// The jobs of that name: the caller's own, and another role's that reaps here. `other` is a superuser's, where one has
/// any: to a superuser that one is as good as his own, while anybody else's reaps less than his would.
void find_named(const char *name, NamedJob *own, NamedJob *other) {
  pg::Statement query(
      "SELECT j.jobid, j.username, j.database, j.command, j.schedule, j.active FROM cron.job AS j"
      " WHERE j.jobname::pg_catalog.text OPERATOR(pg_catalog.=) $1 ORDER BY j.jobid");
  query.add_text(name);
  const char *caller = GetUserNameFromId(GetUserId(), false);
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  for (uint64 i = 0; i < rows; ++i) {
    NamedJob job;
    bool is_null;
    job.id = DatumGetInt64(pg::spi_datum(i, 1, &is_null));
    job.role = pg::spi_text(i, 2, context);
    job.database = pg::spi_text(i, 3, context);
    job.command = pg::spi_text(i, 4, context);
    job.schedule = pg::spi_text(i, 5, context);
    job.active = DatumGetBool(pg::spi_datum(i, 6, &is_null));
    if (strcmp(job.role, caller) == 0) {
      *own = job;
    } else if (job.reaps_here()) {
      const Oid role = get_role_oid(job.role, true);
      job.of_superuser = OidIsValid(role) && superuser_arg(role);
      if (other->id == 0 || (job.of_superuser && !other->of_superuser)) *other = job;
    }
  }
  pg::spi_end();
  pg::restore(before);
}

/// Runs a call of one of pg_cron's functions and returns its first result.
Datum call_cron(const pg::Statement &call) {
  pg::spi_begin();
  if (pg::spi_run(call, pg::Access::kWrite) != 1) elog(ERROR, "pg_cron returned no row");
  bool is_null;
  const Datum result = pg::spi_datum(0, 1, &is_null);
  pg::spi_end();
  return result;
}

/// The same for a call that is given a schedule: pg_cron's complaint about it gets a hint that fits its version.
Datum call_with_schedule(const pg::Statement &call) {
  Datum result = 0;
  ErrorData *error = pg::try_in_subtransaction([&call, &result] { result = call_cron(call); });
  if (error == nullptr) return result;
  if (error->sqlerrcode == ERRCODE_INVALID_PARAMETER_VALUE)
    error->hint =
        psprintf("A schedule has five fields: '* * * * *' is every minute, '0 3 * * *' every day at 03:00 %s%s.",
                 cron_time_zone(),
                 GetConfigOption("cron.timezone", true, false) == nullptr ? "" : "; or it is '[1-59] seconds'");
  ReThrowError(error);
}

void warn_of_what_stops_it(const NamedJob &own) {
  if (own.id != 0 && !own.active)
    ereport(WARNING, errmsg("job " INT64_FORMAT " is not active: pg_cron will not run it", own.id),
            errhint("Run, as superuser: SELECT cron.alter_job(" INT64_FORMAT ", active => true);", own.id));
  const HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
  if (!HeapTupleIsValid(tuple)) return;
  const bool may_log_in = reinterpret_cast<Form_pg_authid>(GETSTRUCT(tuple))->rolcanlogin;
  ReleaseSysCache(tuple);
  if (!may_log_in)
    ereport(WARNING,
            errmsg("role \"%s\" may not log in: pg_cron cannot run its jobs", GetUserNameFromId(GetUserId(), false)),
            errhint("Schedule as a role that may log in and update the guarded tables."));
}

/// When a job is due next: counted from its last start where that is still to come ("30 seconds"), else from now.
std::optional<core::Micros> next_due(const ReapingJob &job, core::Micros now) {
  const auto after_last = job.last_started ? due_after(job, *job.last_started) : std::nullopt;
  return after_last && *after_last > now ? after_last : due_after(job, now);
}

}  // namespace

static Datum schedule_reaping(FunctionCallInfo fcinfo) {
  const char *schedule = text_argument(fcinfo, 0, "schedule");
  const char *command = command_for(fcinfo, 1);
  const char *name = name_argument(fcinfo, 2);
  const Cron cron = find_cron();
  if (cron.state == CronState::kElsewhere) cron_is_elsewhere(cron, scheduling_elsewhere(schedule, command, name));
  if (cron.state != CronState::kHere) cron_is_missing(cron);
  require_rights();

  NamedJob own;
  NamedJob other;
  find_named(name, &own, &other);
  if (own.id != 0 && !own.reaps_here())
    ereport(ERROR, errcode(kBadOption), errmsg("the name \"%s\" belongs to another job of yours", name),
            errdetail("Job " INT64_FORMAT " runs in database \"%s\": %s", own.id, own.database, own.command),
            errhint("Pass another job_name."));
  if (own.id == 0 && other.of_superuser && superuser()) {
    pg::Statement change("SELECT cron.alter_job($1, schedule => $2, command => $3)");
    change.add(INT8OID, Int64GetDatum(other.id)).add_text(schedule).add_text(command);
    call_with_schedule(change);
    ereport(NOTICE, errmsg("changed job " INT64_FORMAT ", which runs as role \"%s\"", other.id, other.role));
    PG_RETURN_INT64(other.id);
  }
  pg::Statement call("SELECT cron.schedule($1, $2, $3)");
  call.add_text(name).add_text(schedule).add_text(command);
  const Datum id = call_with_schedule(call);
  if (other.id != 0 && may_see_jobs_of(other.role))
    ereport(NOTICE,
            errmsg("role \"%s\" has a job that reaps here too: job " INT64_FORMAT ", \"%s\"", other.role, other.id,
                   other.schedule),
            errdetail("Each of the two reaps what its role may; they do not get in each other's way."));
  warn_of_what_stops_it(own);
  return id;
}

static Datum unschedule_reaping(FunctionCallInfo fcinfo) {
  const char *name = name_argument(fcinfo, 0);
  const Cron cron = find_cron();
  if (cron.state == CronState::kElsewhere)
    cron_is_elsewhere(cron, psprintf("SELECT cron.unschedule(%s);", quote_literal_cstr(job_name_elsewhere(name))));
  if (cron.state != CronState::kHere) PG_RETURN_BOOL(false);
  require_rights();
  NamedJob own;
  NamedJob other;
  find_named(name, &own, &other);
  const bool is_own = own.id != 0 && own.reaps_here();
  if (!is_own && !(other.of_superuser && superuser())) PG_RETURN_BOOL(false);
  pg::Statement call("SELECT cron.unschedule($1)");
  call.add(INT8OID, Int64GetDatum(is_own ? own.id : other.id));
  call_cron(call);
  PG_RETURN_BOOL(true);
}

static Datum cron_jobs(FunctionCallInfo fcinfo) {
  pg::Rows rows(fcinfo);
  const core::Micros now = GetCurrentTimestamp();
  ListCell *cell;
  foreach (cell, reaping_jobs()) {
    const auto &job = *static_cast<const ReapingJob *>(lfirst(cell));
    if (!may_see_jobs_of(job.role)) continue;
    rows.add(Int64GetDatum(job.id))
        .add_text(job.name)
        .add_text(job.schedule)
        .add_text(cron_time_zone())
        .add_text(job.command)
        .add_text(job.database)
        .add_text(job.role)
        .add_bool(job.active)
        .add_instant(job.last_started)
        .add_instant(job.last_ended)
        .add_text(job.last_status)
        .add_text(job.last_message)
        .add_instant(job.active ? next_due(job, now) : std::nullopt)
        .put();
  }
  return 0;
}

}  // namespace esg
