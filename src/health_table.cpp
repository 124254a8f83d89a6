// What guard_health says of one table: its settings, triggers, indexes, row security and what kind of table it is. Reads
// catalogs. See health.h.

#include "health.h"

#include "guarding.h"
#include "indexes.h"
#include "zones.h"

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

/// DEFAULT now() on a timestamp without time zone: a run of a session in another zone is hours old, or not born, at once.
void check_local_default(const Guarded &g, const Relation relation, const Report &report) {
  const char *zone = zone_of_local_default(g, relation);
  if (zone == nullptr) return;
  report.line(
      kWarning, g.table, "start_default_local",
      psprintf("column %s has no time zone and is read as %s, but its default is the session's local time, of %s "
               "unless the session says otherwise",
               quote_identifier(g.start.name), g.zone_name, zone),
      psprintf("Where the table's times are those of %s: SELECT sync_guard.guard_table(%s, time_zone => %s); else let "
               "those who rely on the default work in %s: ALTER ROLE ... SET timezone = %s; or change the default to "
               "(now() AT TIME ZONE %s).",
               zone, quote_literal_cstr(g.name), quote_literal_cstr(zone), g.zone_name, quote_literal_cstr(g.zone_name),
               quote_literal_cstr(g.zone_name)));
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

/// What kind of table it is, its partitions included. Tables that inherit from one that is not partitioned are none of it:
/// adoption refuses them, but they can come later.
void check_kind(const Guarded &g, const Report &report) {
  List *subscribed = NIL;
  List *unlogged = NIL;
  List *inheriting = NIL;
  ListCell *cell;
  foreach (cell, find_all_inheritors(g.table, AccessShareLock, nullptr)) {
    const Oid relation = lfirst_oid(cell);
    const char *name =
        quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), get_rel_name(relation));
    if (!g.partitioned && relation != g.table) {
      inheriting = lappend(inheriting, const_cast<char *>(name));
      continue;
    }
    if (is_subscribed(relation)) subscribed = lappend(subscribed, const_cast<char *>(name));
    if (get_rel_persistence(relation) == RELPERSISTENCE_UNLOGGED)
      unlogged = lappend(unlogged, const_cast<char *>(name));
  }
  if (subscribed != NIL)
    report.line(kInfo, g.table, "subscription_target",
                psprintf("%s is written by a logical subscription: its runs are observed here, not reaped",
                         names_of(subscribed)),
                "Guard and reap the table where it is published.");
  if (inheriting != NIL)
    report.line(kError, g.table, "inheritance_child",
                psprintf("%s %s from the table: the runs there are neither guarded nor seen", names_of(inheriting),
                         list_length(inheriting) == 1 ? "inherits" : "inherit"),
                psprintf("ALTER TABLE %s NO INHERIT %s; and guard it by itself, or make the table a partitioned one.",
                         static_cast<const char *>(linitial(inheriting)), g.name));
  if (unlogged != NIL)
    report.line(kInfo, g.table, "table_unlogged",
                psprintf("%s is unlogged: a crash of the server empties it", names_of(unlogged)),
                psprintf("ALTER TABLE %s SET LOGGED; where its runs are to outlive a crash.", g.name));
}

void check_pause(const Guarded &g, const Report &report) {
  if (g.paused_until <= report.question.now) return;
  report.line(kInfo, g.table, "reaping_paused",
              TIMESTAMP_NOT_FINITE(g.paused_until) ? "reaping is paused until resume_reaping() is called"
                                                   : psprintf("reaping is paused until %s", iso_utc(g.paused_until)),
              psprintf("SELECT sync_guard.resume_reaping(%s);", quote_literal_cstr(g.name)));
}

/// The table that bears this name, which is as `qualified_name` gives it; InvalidOid where there is none.
Oid table_named(const char *name) {
  List *parts = NIL;
  if (!SplitIdentifierString(pstrdup(name), '.', &parts) || list_length(parts) != 2) return InvalidOid;
  const Oid schema = get_namespace_oid(static_cast<const char *>(linitial(parts)), true);
  if (!OidIsValid(schema)) return InvalidOid;
  const Oid relation = get_relname_relid(static_cast<const char *>(lsecond(parts)), schema);
  const char kind = OidIsValid(relation) ? get_rel_relkind(relation) : '\0';
  return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE ? relation : InvalidOid;
}

/// A table renamed away, with another put in its place: the guard stays with the one that it knows, and writers are with
/// the other.
void check_name(const Guarded &g, const Report &report) {
  if (strcmp(g.name, g.adopted_as) == 0) return;
  const Oid other = table_named(g.adopted_as);
  if (!OidIsValid(other) || other == g.table || guarded(other) != nullptr) return;
  report.line(
      kWarning, g.table, "name_taken_over",
      psprintf("the table was adopted as %s, which is another table now and not guarded", g.adopted_as),
      psprintf("Guard that one: SELECT sync_guard.guard_table(%s); or call guard_table() for this one again, if "
               "it alone is meant.",
               quote_literal_cstr(g.adopted_as)));
}

}  // namespace

void check_table(const Guarded &g, bool hidden, const Report &report) {
  check_name(g, report);
  if (g.broken != nullptr) {
    report.line(
        kError, g.table, "settings_do_not_fit", g.broken,
        psprintf("Restore it, or name what is there now: SELECT sync_guard.guard_table(%s, ...); until then its "
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
