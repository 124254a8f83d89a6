// What guard_health says of one table: its settings, triggers, indexes, row security, what kind of table it is, and how
// often the guard was wrong about it. Reads catalogs and the journal. See health.h.

#include <cmath>

#include "health.h"

#include "guarding.h"
#include "indexes.h"
#include "pg/spi.h"

namespace esg {
namespace {

/// Below this a table is read as fast as an index.
constexpr BlockNumber kLargeTable = 1000;

/// "app.a, app.b and 3 others".
char *names_of(const List *names) {
  StringInfoData text;
  initStringInfo(&text);
  constexpr int kShown = 3;
  for (int i = 0; i < Min(list_length(names), kShown); ++i)
    appendStringInfo(&text, "%s%s", i == 0 ? "" : ", ", static_cast<const char *>(list_nth(names, i)));
  if (list_length(names) > kShown) appendStringInfo(&text, " and %d more", list_length(names) - kShown);
  return text.data;
}

void check_triggers(const Guarded &g, const Report &report) {
  ListCell *cell;
  foreach (cell, trigger_problems(g)) {
    const auto *problem = static_cast<const TriggerProblem *>(lfirst(cell));
    report.line(problem->repairable ? kError : kWarning, problem->relation, "trigger_problem",
                psprintf("trigger %s %s", quote_identifier(problem->trigger), problem->problem), problem->hint);
  }
}

void check_indexes(const Guarded &g, const Report &report) {
  const Lacking status = lacking_status_index(g);
  if (status.names != NIL)
    report.line(status.blocks < kLargeTable ? kInfo : kWarning, g.table, "status_index_missing",
                psprintf("no index finds the live runs, the whole of %s is read each time%s", names_of(status.names),
                         status.blocks < kLargeTable ? "; it is still small" : ""),
                wanted_status_index(g));
  const Lacking start = lacking_start_index(g);
  if (start.blocks >= kLargeTable)
    report.line(
        kInfo, g.table, "start_index_missing",
        psprintf("no index finds the newest runs: recent_syncs, sync_status and the overview read the whole of %s",
                 names_of(start.names)),
        wanted_start_index(g));
}

/// FORCE ROW LEVEL SECURITY: an owner who calls himself is shown a part of his table.
void check_row_security(const Guarded &g, const Relation relation, const Report &report) {
  if (!relation->rd_rel->relrowsecurity || !relation->rd_rel->relforcerowsecurity || has_bypassrls_privilege(g.owner))
    return;
  report.line(
      kWarning, g.table, "row_security_forced",
      psprintf(
          "row security is forced on the table: its owner \"%s\" reads and reaps only the runs that a policy shows him",
          GetUserNameFromId(g.owner, false)),
      "Let another role reap, whose calls work on the whole table; or give the owner a policy for all rows.");
}

/// Whether a default writes the session's local time: a cast of a timestamptz to timestamp, or LOCALTIMESTAMP.
bool is_local_time(const Node *expression) {
  if (IsA(expression, FuncExpr))
    return reinterpret_cast<const FuncExpr *>(expression)->funcid == F_TIMESTAMP_TIMESTAMPTZ;
  if (!IsA(expression, SQLValueFunction)) return false;
  const SQLValueFunctionOp op = reinterpret_cast<const SQLValueFunction *>(expression)->op;
  return op == SVFOP_LOCALTIMESTAMP || op == SVFOP_LOCALTIMESTAMP_N;
}

/// DEFAULT now() on a timestamp without time zone: a run of a session in another zone is hours old, or not born, at once.
void check_local_default(const Guarded &g, const Relation relation, const Report &report) {
  const TupleConstr *constraints = RelationGetDescr(relation)->constr;
  const char *server = GetConfigOptionResetString("TimeZone");
  if (g.start.type != TIMESTAMPOID || constraints == nullptr || strcmp(server, g.zone_name) == 0) return;
  for (int i = 0; i < constraints->num_defval; ++i) {
    if (constraints->defval[i].adnum != g.start.attno) continue;
    if (!is_local_time(static_cast<const Node *>(stringToNode(constraints->defval[i].adbin)))) continue;
    report.line(
        kWarning, g.table, "start_default_local",
        psprintf("column %s has no time zone and is read as %s, but its default is the session's local time, of %s "
                 "unless the session says otherwise",
                 quote_identifier(g.start.name), g.zone_name, server),
        psprintf("Let those who rely on the default work in %s: ALTER ROLE … SET timezone = %s; or change the "
                 "default to (now() AT TIME ZONE %s).",
                 g.zone_name, quote_literal_cstr(g.zone_name), quote_literal_cstr(g.zone_name)));
  }
}

bool is_subscribed(Oid relation) {
  const Relation catalog = table_open(SubscriptionRelRelationId, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, Anum_pg_subscription_rel_srrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relation));
  const SysScanDesc scan = systable_beginscan(catalog, SubscriptionRelSrrelidSrsubidIndexId, true, nullptr, 1, &key);
  const bool found = HeapTupleIsValid(systable_getnext(scan));
  systable_endscan(scan);
  table_close(catalog, AccessShareLock);
  return found;
}

/// What kind of table it is, its partitions included.
void check_kind(const Guarded &g, const Report &report) {
  List *subscribed = NIL;
  List *unlogged = NIL;
  ListCell *cell;
  foreach (cell, find_all_inheritors(g.table, AccessShareLock, nullptr)) {
    const Oid relation = lfirst_oid(cell);
    const char *name =
        quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation));
    if (is_subscribed(relation)) subscribed = lappend(subscribed, const_cast<char *>(name));
    if (get_rel_persistence(relation) == RELPERSISTENCE_UNLOGGED)
      unlogged = lappend(unlogged, const_cast<char *>(name));
  }
  if (subscribed != NIL)
    report.line(kInfo, g.table, "subscription_target",
                psprintf("%s is written by a logical subscription: its runs are observed here, not reaped",
                         names_of(subscribed)),
                "Guard and reap the table where it is published.");
  if (unlogged != NIL)
    report.line(kInfo, g.table, "table_unlogged",
                psprintf("%s is unlogged: a crash of the server empties it", names_of(unlogged)),
                psprintf("ALTER TABLE %s SET LOGGED; where its runs are to outlive a crash.", g.name));
}

void check_pause(const Guarded &g, const Report &report) {
  if (g.paused_until <= report.question.now) return;
  report.line(kInfo, g.table, "reaping_paused", psprintf("reaping is paused until %s", iso_utc(g.paused_until)),
              psprintf("SELECT sync_guard.resume_reaping(%s);", quote_literal_cstr(g.name)));
}

/// A limit that would have been long enough, with a fifth to spare: in minutes, from two hours on in hours.
char *longer_limit(double seconds) {
  const double minutes = std::ceil(seconds * 1.2 / 60);
  if (minutes < 120) return psprintf("%.0f minutes", minutes);
  return psprintf("%.0f hours", std::ceil(minutes / 60));
}

/// The option of set_limit that a verdict goes by; null where there is none.
const char *limit_behind(const char *verdict) {
  if (strcmp(verdict, core::verdict_name(core::Verdict::kSilent)) == 0) return "max_silence";
  if (strcmp(verdict, core::verdict_name(core::Verdict::kOverdue)) == 0) return "max_age";
  if (strcmp(verdict, core::verdict_name(core::Verdict::kStalled)) == 0) return "max_stall";
  return nullptr;
}

/// Runs that were reaped and then reported success. How long a limit each would have needed follows from what the rule
/// had measured, and from how much later the success came.
constexpr const char *kMistakes =
    "SELECT r.verdict, r.scope::pg_catalog.text, pg_catalog.count(*),"
    " pg_catalog.max(CASE j.event WHEN 'late_finish' THEN"
    " (r.evidence OPERATOR(pg_catalog.->>) 'measured_seconds')::pg_catalog.float8 OPERATOR(pg_catalog.+)"
    " EXTRACT(EPOCH FROM j.at OPERATOR(pg_catalog.-) r.at)::pg_catalog.float8 END)"
    " FROM sync_guard.journal AS j JOIN sync_guard.journal AS r ON r.id OPERATOR(pg_catalog.=) j.reaping"
    " WHERE j.relation OPERATOR(pg_catalog.=) $1 AND j.false_positive AND j.at OPERATOR(pg_catalog.>=) $2"
    " GROUP BY 1, 2 ORDER BY 3 DESC, 2, 1";

void check_mistakes(const Guarded &g, const Report &report) {
  pg::Statement query(kMistakes);
  query.add_oid(g.table).add(TIMESTAMPTZOID, TimestampTzGetDatum(report.question.now - 7 * core::kDay));
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  for (uint64 i = 0; i < rows; ++i) {
    bool is_null;
    const char *verdict = pg::spi_text(i, 1, context);
    const char *scope = pg::spi_text(i, 2, context);
    const int64 count = DatumGetInt64(pg::spi_datum(i, 3, &is_null));
    const Datum needed = pg::spi_datum(i, 4, &is_null);
    const char *limit = is_null || verdict == nullptr ? nullptr : limit_behind(verdict);
    report.line(kWarning, g.table, "false_positives",
                psprintf("in the last 7 days " INT64_FORMAT " %s%s%s found %s turned out to be alive", count,
                         count == 1 ? "run" : "runs", scope == nullptr ? "" : " of ", scope == nullptr ? "" : scope,
                         verdict == nullptr ? "dead" : verdict),
                limit == nullptr
                    ? "The view sync_guard.reaped_syncs shows them."
                    : psprintf("SELECT sync_guard.set_limit(%s, %s, %s => %s);", quote_literal_cstr(g.name),
                               quote_literal_cstr(scope == nullptr ? "{}" : scope), limit,
                               quote_literal_cstr(longer_limit(DatumGetFloat8(needed)))));
  }
  pg::spi_end();
  pg::restore(before);
}

}  // namespace

void check_table(const Guarded &g, bool hidden, const Report &report) {
  if (g.broken != nullptr) {
    report.line(kError, g.table, "settings_do_not_fit", g.broken,
                psprintf("Restore it, or name what is there now: SELECT sync_guard.guard_table(%s, …); until then its "
                         "runs are not guarded.",
                         quote_literal_cstr(g.name)));
    return;
  }
  const Relation relation = relation_open(g.table, AccessShareLock);
  check_row_security(g, relation, report);
  check_local_default(g, relation, report);
  relation_close(relation, AccessShareLock);
  check_triggers(g, report);
  check_indexes(g, report);
  check_kind(g, report);
  check_pause(g, report);
  check_runs(g, report);
  if (!hidden) check_mistakes(g, report);
}

}  // namespace esg
