// What adoption tells: what it found, what it would reap now, whether the history speaks against the limit, and that it is
// done. Runs in the caller's process at the end of guard_table, but for the last before the triggers are made; reads the table as its owner (see
// work_as).

#include "core/habits.h"

#include "adopt.h"

#include "health.h"
#include "load.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "pg/spi.h"
#include "runs.h"
#include "zones.h"

namespace esg::adopt {
namespace {

/// Runs named in the NOTICE.
constexpr int kMaxNamed = 10;

const char *span_text(core::Micros span) {
  auto *text = static_cast<char *>(palloc(48));
  return core::describe_span(span, text, 48);
}

const char *limit_text(const std::optional<core::Micros> &limit) { return limit ? span_text(*limit) : "off"; }

const char *strings_text(const char *const *strings, int count) {
  StringInfoData text;
  initStringInfo(&text);
  for (int i = 0; i < count; ++i) appendStringInfo(&text, "%s%s", i == 0 ? "" : ", ", strings[i]);
  return text.data;
}

const char *columns_text(const Column *columns, int count) {
  StringInfoData text;
  initStringInfo(&text);
  for (int i = 0; i < count; ++i) appendStringInfo(&text, "%s%s", i == 0 ? "" : ", ", columns[i].name);
  return count == 0 ? "none" : text.data;
}

void append_line(StringInfo text, const char *role, const Column &column, const char *remark) {
  appendStringInfo(text, "\n%s: %s%s", role, column.exists() ? column.name : "none", column.exists() ? remark : "");
}

const char *time_remark(const Guarded &g, const Column &column) {
  return column.type == TIMESTAMPOID ? psprintf(" (timestamp, in zone %s)", g.zone_name)
                                     : " (timestamp with time zone)";
}

const char *duration_remark(const Guarded &g) {
  switch (g.duration_unit) {
    case DurationUnit::kMilliseconds: return " (milliseconds)";
    case DurationUnit::kInterval: return " (interval)";
    case DurationUnit::kSeconds: break;
  }
  return " (seconds)";
}

const char *error_remark(const Guarded &g) {
  switch (g.error_format) {
    case ErrorFormat::kJson: return " (json)";
    case ErrorFormat::kJsonb: return " (jsonb)";
    case ErrorFormat::kText: break;
  }
  return " (text)";
}

/// "account_type both = main, fbe; …"
const char *overlaps_text(const Guarded &g) {
  StringInfoData text;
  initStringInfo(&text);
  for (std::size_t i = 0; i < g.overlap_count; ++i) {
    const core::Overlap &overlap = g.overlaps[i];
    appendStringInfo(&text, "%s%s %s = ", i == 0 ? "" : "; ", g.scope[overlap.column].name, overlap.value.data());
    for (std::size_t n = 0; n < overlap.atom_count; ++n)
      appendStringInfo(&text, "%s%s", n == 0 ? "" : ", ", overlap.atoms[n].data());
  }
  return text.data;
}

const char *exclusive_text(const Guarded &g) {
  if (!g.exclusive) return "no";
  bool all = g.exclusive_count == g.live_count;
  for (int i = 0; all && i < g.live_count; ++i) {
    all = false;
    for (int n = 0; !all && n < g.exclusive_count; ++n) all = strcmp(g.live[i], g.exclusive_statuses[n]) == 0;
  }
  return all ? "yes" : psprintf("yes, in status %s", strings_text(g.exclusive_statuses, g.exclusive_count));
}

const char *late_finish_text(core::LateFinish policy) {
  switch (policy) {
    case core::LateFinish::kAccept: return "accept";
    case core::LateFinish::kReject: return "reject";
    case core::LateFinish::kKeep: break;
  }
  return "keep";
}

void tell_settings(const Guarded &g, const Choice &choice) {
  StringInfoData text;
  initStringInfo(&text);
  appendStringInfo(&text, "key: %s", g.key.name);
  appendStringInfo(&text, "\nstatus: %s, live: %s, failed: %s", g.status.name, strings_text(g.live, g.live_count),
                   g.failed);
  if (choice.neither != NIL) appendStringInfo(&text, "\nneither live nor an end: %s", join(choice.neither, ""));
  append_line(&text, "start", g.start, time_remark(g, g.start));
  append_line(&text, "end", g.end, time_remark(g, g.end));
  append_line(&text, "duration", g.duration, duration_remark(g));
  append_line(&text, "errors", g.error, error_remark(g));
  append_line(&text, "activity", g.activity, "");
  append_line(&text, "updated", g.updated, "");
  append_line(&text, "done", g.done, "");
  append_line(&text, "total", g.total, "");
  appendStringInfo(&text, "\nscope: %s", columns_text(g.scope, g.scope_count));
  appendStringInfo(&text, "\nexclusive: %s", exclusive_text(g));
  if (g.overlap_count > 0) appendStringInfo(&text, "\noverlaps: %s", overlaps_text(g));
  appendStringInfo(&text, "\nsummary: %s", columns_text(g.summary, g.summary_count));
  appendStringInfo(&text, "\nlimits: max_silence %s, max_age %s, max_stall %s", limit_text(g.limits.max_silence),
                   limit_text(g.limits.max_age), limit_text(g.limits.max_stall));
  if (g.mode == Mode::kObserve) appendStringInfoString(&text, "\nmode: observe");
  if (g.transitions == Transitions::kWarn) appendStringInfoString(&text, "\ntransitions: warn");
  if (g.late_finish != core::LateFinish::kKeep)
    appendStringInfo(&text, "\nlate_finish: %s", late_finish_text(g.late_finish));
  ereport(NOTICE,
          choice.adopted ? errmsg("table %s: these are its settings now", g.name)
                         : errmsg("table %s: this is what guard_table() found", g.name),
          errdetail("%s", text.data),
          errhint("Change what is not right by naming it in another call of guard_table()."));
}

/// Which statuses that are live by themselves may be those of jobs that wait for a worker: they would be closed there.
void tell_waiting(const Guarded &g) {
  const char **waiting = static_cast<const char **>(palloc(sizeof(char *) * g.live_count));
  const char **working = static_cast<const char **>(palloc(sizeof(char *) * g.live_count));
  int waiting_count = 0;
  int working_count = 0;
  for (int i = 0; i < g.live_count; ++i) {
    if (core::is_word_of(g.live[i], core::resting_statuses())) waiting[waiting_count++] = g.live[i];
    else working[working_count++] = g.live[i];
  }
  if (waiting_count == 0) return;
  const char *words = OidOutputFunctionCall(F_ARRAY_OUT, pg::text_array(working, working_count));
  ereport(
      NOTICE,
      errmsg("runs of table %s that are in status %s count as running", g.name, strings_text(waiting, waiting_count)),
      errdetail("Such a run gets its start when it is inserted, and is closed after max_silence, %s.",
                limit_text(g.limits.max_silence)),
      working_count > 0
          ? errhint("Where jobs wait there for a worker, pass live_statuses => %s.", quote_literal_cstr(words))
          : errhint("Where jobs wait there for a worker, name the status they work in with live_statuses."));
}

/// Starts that the default writes in one zone and the guard reads in another: each run would be hours old at once, or not
/// born yet.
void warn_of_zone(const Guarded &g) {
  Relation relation = relation_open(g.table, AccessShareLock);
  const char *zone = zone_of_local_default(g, relation);
  relation_close(relation, AccessShareLock);
  if (zone == nullptr) return;
  ereport(WARNING, errmsg("the start of runs of table %s would be read in another zone than it is written in", g.name),
          errdetail("Column %s has no time zone and is read as %s, but its default is the session's local time, of %s "
                    "unless the session says otherwise.",
                    quote_identifier(g.start.name), g.zone_name, zone),
          errhint("Pass time_zone => %s; or change the default to (now() AT TIME ZONE %s).", quote_literal_cstr(zone),
                  quote_literal_cstr(g.zone_name)));
}

/// Rows without a status, as far as the newest rows show: an application that writes them is about to be refused.
void warn_of_null_status(const Guarded &g) {
  if (g.status.not_null || g.transitions == Transitions::kWarn || g.mode == Mode::kObserve) return;
  Relation relation = relation_open(g.table, AccessShareLock);
  const char *newest = newest_rows_sql(relation, g.start.name, false);
  relation_close(relation, AccessShareLock);
  const pg::Statement statement(
      psprintf("SELECT pg_catalog.count(*) FROM (SELECT %s AS status FROM %s %s) AS s WHERE s.status IS NULL",
               column_ref(g.status), from_item(g), newest));
  pg::spi_begin();
  (void)pg::spi_run(statement, pg::Access::kRead);
  bool is_null;
  const int64 count = DatumGetInt64(pg::spi_datum(0, 1, &is_null));
  pg::spi_end();
  if (count == 0) return;
  ereport(
      WARNING, errmsg("rows of table %s have no status", g.name),
      errdetail(INT64_FORMAT " of the rows looked at have NULL in column %s. They are left as they are, but from now "
                             "on whoever writes such a row, or takes a run's status away, is refused (SY001).",
                count, quote_identifier(g.status.name)),
      errhint("Where the application writes such rows, pass transitions => 'warn', which lets them through."));
}

void warn_of_shared_scope(const Guarded &g, const Runs &runs) {
  const SharedScope shared = find_shared_scope(g, runs);
  if (shared.one != nullptr)
    ereport(WARNING, errmsg("live runs of table %s share an exclusive scope", g.name),
            errdetail("Runs %s and %s are both live in one scope.", shared.one->key, shared.other->key),
            errhint("Only runs that start are checked: let one of them end, or set its status."));
}

void tell_dead(const Guarded &g, const Runs &runs) {
  StringInfoData text;
  initStringInfo(&text);
  int dead = 0;
  for (int i = 0; i < runs.count; ++i) {
    const Run &run = runs.items[i];
    if (!run.judgement.dead() || ++dead > kMaxNamed) continue;
    char words[160];
    core::describe(run.judgement, words, sizeof words);
    appendStringInfo(&text, "%s%s: %s", text.len > 0 ? "\n" : "", run.key, words);
  }
  if (dead > kMaxNamed) appendStringInfo(&text, "\nand %d more", dead - kMaxNamed);
  if (dead == 0) {
    ereport(NOTICE, errmsg_plural("%d run is live, none would be reaped now",
                                  "%d runs are live, none would be reaped now", runs.count, runs.count));
    return;
  }
  ereport(NOTICE,
          errmsg_plural("%d of %d run with a live status would be reaped now",
                        "%d of %d runs with a live status would be reaped now", runs.count, dead, runs.count),
          errdetail("%s", text.data),
          errhint("See them with SELECT * FROM sync_guard.stale_syncs(relation => %s); close them with SELECT "
                  "sync_guard.reap_stale_syncs(relation => %s);",
                  quote_literal_cstr(g.name), quote_literal_cstr(g.name)));
}

struct History {
  int64 completed;
  int64 longer;
  core::Micros longest;
};

/// How long runs that did not fail took, among the newest ones.
void read_history(const Guarded &g, History *history) {
  Relation relation = relation_open(g.table, AccessShareLock);
  const char *newest = newest_rows_sql(relation, g.start.name, true);
  relation_close(relation, AccessShareLock);
  const char *literal = quote_literal_cstr(g.failed);
  pg::Statement statement(psprintf(
      "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE d.took OPERATOR(pg_catalog.>) $1),"
      " COALESCE(pg_catalog.max(d.took), 0) FROM (SELECT (EXTRACT(epoch FROM s.ended OPERATOR(pg_catalog.-) s.started)"
      " OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8 AS took FROM (SELECT %s AS live, %s::pg_catalog.text"
      " OPERATOR(pg_catalog.=) %s AS failed, %s AS started, %s AS ended FROM %s %s) AS s WHERE NOT s.live AND NOT"
      " s.failed AND pg_catalog.isfinite(s.started) AND pg_catalog.isfinite(s.ended) AND s.ended "
      "OPERATOR(pg_catalog.>=) s.started) AS d",
      status_condition(g, g.live, g.live_count), column_ref(g.status), literal, instant_sql(g, g.start),
      instant_sql(g, g.end), from_item(g), newest));
  statement.add(INT8OID, Int64GetDatum(*g.limits.max_silence));
  pg::spi_begin();
  (void)pg::spi_run(statement, pg::Access::kRead);
  bool is_null;
  history->completed = DatumGetInt64(pg::spi_datum(0, 1, &is_null));
  history->longer = DatumGetInt64(pg::spi_datum(0, 2, &is_null));
  history->longest = DatumGetInt64(pg::spi_datum(0, 3, &is_null));
  pg::spi_end();
}

/// The next round limit above a span: whole minutes up to an hour, whole hours above.
const char *round_limit(core::Micros span) {
  const core::Micros unit = span < core::kHour ? core::kMinute : core::kHour;
  const int64 count = span / unit + 1;
  return psprintf(INT64_FORMAT " %s%s", count, unit == core::kHour ? "hour" : "minute", count == 1 ? "" : "s");
}

void warn_of_history(const Guarded &g) {
  // With an activity column, how long a run took says nothing about how long it was silent.
  if (!g.limits.max_silence || !g.start.exists() || !g.end.exists() || g.activity.exists()) return;
  History history = {};
  History *out = &history;
  const Guarded *table = &g;
  // A row that the arithmetic chokes on must not stand in the way of adoption.
  const ErrorData *error = pg::try_in_subtransaction([table, out] { read_history(*table, out); });
  if (error != nullptr || history.longer == 0) return;
  ereport(
      WARNING, errmsg("completed runs of table %s took longer than max_silence allows", g.name),
      errdetail("Of the " INT64_FORMAT " completed runs looked at, " INT64_FORMAT
                " took longer than %s, the longest %s.",
                history.completed, history.longer, span_text(*g.limits.max_silence), span_text(history.longest)),
      errhint("Pass max_silence => '%s', name a column that shows signs of life with activity_column, or set limits "
              "for single scopes with sync_guard.set_limit().",
              round_limit(history.longest)));
}

/// Limits of scopes that name a column which is none of the scope's any more: no run has them.
void warn_of_idle_limits(const Guarded &g) {
  pg::Statement statement(
      "SELECT pg_catalog.count(*) FROM sync_guard.scope_limits WHERE relation OPERATOR(pg_catalog.=) $1");
  const pg::Identity identity = pg::become_extension_owner();
  pg::spi_begin();
  (void)pg::spi_run(statement.add_oid(g.table), pg::Access::kRead);
  bool is_null;
  const int64 idle = DatumGetInt64(pg::spi_datum(0, 1, &is_null)) - static_cast<int64>(g.scope_limit_count);
  pg::spi_end();
  pg::restore(identity);
  if (idle > 0)
    ereport(WARNING, errmsg("limits of scopes of table %s no longer count", g.name),
            errdetail(INT64_FORMAT " of them name a column that is no scope column.", idle),
            errhint("They count again when scope_columns names it; unguard_table() removes them."));
}

}  // namespace

void report(const Guarded &g, const Choice &choice) {
  tell_settings(g, choice);
  if (choice.open[kLiveStatuses]) tell_waiting(g);
  warn_of_zone(g);
  const pg::Identity identity = work_as(g);
  const Runs runs = read_runs(g, RunFilter{}, question_now());
  tell_dead(g, runs);
  warn_of_shared_scope(g, runs);
  warn_of_history(g);
  warn_of_null_status(g);
  pg::restore(identity);
  if (choice.adopted) warn_of_idle_limits(g);
  if (choice.named[kMaxStall]) warn_of_stall(g);
  if (!g.start.exists() && !g.activity.exists())
    ereport(WARNING, errmsg("no run of table %s can be found dead", g.name),
            errdetail("It has neither a column for the start nor one for signs of life."),
            errhint("Name one with start_column or activity_column."));
}

void report_done(const Guarded &g, bool adopted_before) {
  if (g.mode == Mode::kObserve)
    ereport(NOTICE, adopted_before
                        ? errmsg("table %s is observed with these settings: nothing is changed or refused", g.name)
                        : errmsg("table %s is observed from now on: nothing is changed or refused", g.name));
  else
    ereport(NOTICE, adopted_before ? errmsg("table %s is guarded with these settings", g.name)
                                   : errmsg("table %s is guarded from now on", g.name));
  if (!guard_enabled())
    ereport(WARNING, errmsg("the guard is switched off"),
            errdetail("emag_sync_guard.enabled is off: triggers let every write through and nothing is reaped."),
            errhint("Take it back where it was set, or: ALTER SYSTEM RESET emag_sync_guard.enabled; SELECT "
                    "pg_reload_conf();"));
}

void warn_of_stall(const Guarded &g) {
  if (have_memory() && g.done.exists()) return;
  ereport(WARNING, errmsg("limit max_stall of table %s counts only for runs whose heartbeats tell of progress", g.name),
          have_memory() ? errdetail("The table has no progress counter.")
                        : errdetail("Without shared memory nobody notes when the counters of a row move."),
          errhint(have_memory() ? "Name one with done_column, or have workers call heartbeat(token, done)."
                                : "Add emag_sync_guard to shared_preload_libraries, or have workers call "
                                  "heartbeat(token, done)."));
}

}  // namespace esg::adopt
