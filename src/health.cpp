// The function behind guard_health, with what is true of the server and the guard as a whole. Runs in the caller's
// process, writes nothing, and goes on where one table's check fails.

#include "health.h"

#include "cron.h"
#include "guarding.h"
#include "load.h"
#include "pg/extension_tables.h"
#include "pg/spi.h"

/// health_problems(): a line per problem, of what the caller may read; none where all is well.
ESG_SQL_FUNCTION(health_problems);

namespace esg {
namespace {

/// A line about every pg_cron job that does not do what it should.
void check_job(const ReapingJob &job, const Report &report) {
  const core::Micros now = report.question.now;
  const char *name = psprintf("job " INT64_FORMAT " (schedule \"%s\")", job.id, job.schedule);
  if (!job.active) {
    report.line(kWarning, InvalidOid, "reaping_inactive", psprintf("%s is not active", name),
                psprintf("SELECT cron.alter_job(" INT64_FORMAT ", active => true);", job.id));
    return;
  }
  if (has_failed(job)) {
    const char *message = may_see_jobs_of(job.role) && job.last_message != nullptr
                              ? job.last_message
                              : "its message is shown to its role and to pg_read_all_stats";
    report.line(kError, InvalidOid, "reaping_failed", psprintf("the last run of %s failed: %s", name, message),
                "The view sync_guard.reaping_schedule and pg_cron's cron.job_run_details show its runs.");
  }
  if (!job.last_started) {
    const char *logs_runs = GetConfigOption("cron.log_run", true, false);
    if (job.last_status == nullptr && (logs_runs == nullptr || strcmp(logs_runs, "off") != 0))
      report.line(kInfo, InvalidOid, "reaping_not_run",
                  psprintf("%s has not run yet, as far as pg_cron remembers", name),
                  "If it stays so when it was due, look for pg_cron in the server's log.");
    return;
  }
  constexpr core::Micros kGrace = 5 * core::kMinute;
  const auto late = late_by(job, job.last_started, now);
  if (!late || *late < kGrace) return;
  char late_for[48];
  report.line(kWarning, InvalidOid, "reaping_overdue",
              psprintf("%s was due %s ago; its last run began at %s and is %s", name,
                       core::describe_span(*late, late_for, sizeof late_for), iso_utc(*job.last_started),
                       job.last_status == nullptr ? "unknown" : job.last_status),
              "Look for pg_cron in the server's log, and whether its launcher is in pg_stat_activity.");
}

void check_settings(const Report &report) {
  if (!guard_enabled())
    report.line(
        kWarning, InvalidOid, "guard_disabled",
        "emag_sync_guard.enabled is off: triggers let every write through and nothing is reaped",
        "Take it back where it was set, or: ALTER SYSTEM RESET emag_sync_guard.enabled; SELECT pg_reload_conf();");
  check_memory(report);
  if (!reads_everything()) return;
  ListCell *cell;
  foreach (cell, orphaned_settings()) {
    const auto *name = static_cast<const char *>(lfirst(cell));
    report.line(
        kWarning, InvalidOid, "settings_orphaned", psprintf("the settings of %s name no table any more", name),
        psprintf("Guard the table anew where it exists; and: DELETE FROM sync_guard.settings WHERE relation_name = %s;",
                 quote_literal_cstr(name)));
  }
}

/// What its own tables must be for it to read and write them.
void check_own_tables(const Report &report) {
  ListCell *cell;
  foreach (cell, pg::tables_by_position()) {
    const auto *name = static_cast<const char *>(lfirst(cell));
    if (!pg::has_extension_table(name)) continue;
    Relation table = table_open(pg::extension_table(name), AccessShareLock);
    if (const char *wrong = pg::wrong_with_columns(table))
      report.line(kError, RelationGetRelid(table), "own_table_changed",
                  psprintf("table sync_guard.%s is not as the extension made it: %s", name, wrong),
                  "Undo what was changed, or create the extension anew.");
    table_close(table, AccessShareLock);
  }
}

/// Triggers alone guard nothing.
void check_tables_without_settings(const Report &report) {
  ListCell *cell;
  foreach (cell, tables_without_settings()) {
    const Oid table = lfirst_oid(cell);
    if (pg_class_aclcheck(table, GetUserId(), ACL_SELECT) != ACLCHECK_OK) continue;
    const char *name = qualified_name(table);
    report.line(
        kError, table, "settings_missing",
        psprintf(
            "%s has the guard's triggers and no settings: it is written unguarded, and no reader is told of its runs",
            name),
        psprintf("SELECT sync_guard.guard_table(%s); with the options it had; or unguard_table.",
                 quote_literal_cstr(name)));
  }
}

/// The journal is read by people and by the guard itself; past this many lines both take their time.
void check_journal(const Report &report) {
  constexpr float kManyLines = 1e6;
  const HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(pg::extension_table("journal")));
  if (!HeapTupleIsValid(tuple)) return;
  const float lines = reinterpret_cast<Form_pg_class>(GETSTRUCT(tuple))->reltuples;
  ReleaseSysCache(tuple);
  if (lines < kManyLines) return;
  report.line(kInfo, InvalidOid, "journal_large", psprintf("the journal has about %.0f lines", lines),
              "SELECT sync_guard.purge_journal('90 days');");
}

}  // namespace

void check_schedule(const Report &report) {
  const Cron cron = find_cron();
  if (cron.state == CronState::kElsewhere) {
    report.line(
        kInfo, InvalidOid, "pg_cron_elsewhere",
        psprintf("pg_cron keeps its jobs in database \"%s\", whether one reaps here cannot be seen", cron.database),
        psprintf("Run in database \"%s\", where that has not been done: %s", cron.database,
                 scheduling_elsewhere(kDefaultSchedule, kDefaultCommand, kDefaultJobName)));
    return;
  }
  if (cron.state != CronState::kHere) {
    const CronLack lack = what_cron_lacks(cron);
    const bool stopped = cron.state == CronState::kNotLoaded;
    report.line(stopped ? kError : kInfo, InvalidOid, stopped ? "pg_cron_not_loaded" : "pg_cron_missing",
                psprintf("%s: dead runs are closed when something calls reap_stale_syncs()", lack.what), lack.remedy);
    return;
  }
  const List *jobs = reaping_jobs();
  if (jobs == NIL)
    report.line(kWarning, InvalidOid, "reaping_not_scheduled", "no job of pg_cron reaps in this database",
                "SELECT sync_guard.schedule_reaping();");
  const ListCell *cell;
  foreach (cell, jobs) check_job(*static_cast<const ReapingJob *>(lfirst(cell)), report);
}

static Datum health_problems(FunctionCallInfo fcinfo) {
  pg::Rows rows(fcinfo);
  const Report report{&rows, question_now()};
  check_own_tables(report);
  check_settings(report);
  check_tables_without_settings(report);
  List *tables = NIL;
  ListCell *cell;
  foreach (cell, all_guarded())
    if (may_read(*static_cast<const Guarded *>(lfirst(cell)))) tables = lappend(tables, lfirst(cell));
  // Who may read no guarded table is not told whether there is one.
  if (tables != NIL) {
    check_schedule(report);
    check_journal(report);
  }
  const Oid caller = GetUserId();
  each_table(
      tables,
      [&report, caller](const Guarded &g) {
        report.rows->drop_unfinished();
        check_table(g, check_enable_rls(g.table, caller, true) == RLS_ENABLED, report);
      },
      [&report](const Guarded &g, const ErrorData *error) {
        report.rows->drop_unfinished();
        report.line(kError, g.table, "check_failed", psprintf("the table could not be checked: %s", error->message),
                    error->hint != nullptr
                        ? error->hint
                        : "Mend what the message names; until then nothing can be said of its runs.");
      });
  return 0;
}

}  // namespace esg
