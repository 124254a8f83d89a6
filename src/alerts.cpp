// Evaluating the alert rules, for readers and for sweeps, which record what has changed. Readers run in the caller's process,
// also on a standby, and write nothing. A sweep writes sync_guard.alert_log as the extension's owner; one at a time does so for
// a table (sweep.cpp).
//
// The lines of alert_log that have not cleared are what is raised: they give the hysteresis, and since when.

#include "alerts.h"

#include "alert_readings.h"
#include "announce.h"
#include "fault.h"
#include "monitor.h"
#include "pg/rows.h"
#include "texts.h"

/// current_alerts(): the rules, evaluated now: first what is about no table, then the tables in the order of their names.
ESG_SQL_FUNCTION(current_alerts);

/// may_read_alert(relation regclass, relation_name text): see its comment.
ESG_SQL_FUNCTION(may_read_alert);

namespace esg {
namespace {

/// A line of alert_log that has not cleared.
struct Open {
  int64 id;
  const char *rule;
  const char *scope;  ///< as jsonb prints it; null: none
  const char *subject;
  core::Micros raised_at;
  double threshold;
  bool read;  ///< there is a figure for it
};

struct OpenAlerts {
  Open *items = nullptr;
  int count = 0;
};

/// What the rules say of one table, or of the server.
struct Evaluation {
  const Guarded *g;  ///< null: the server
  AlertRules rules;
  OpenAlerts open;
  Readings readings;
};

/// Columns of the query, in order.
enum OpenColumn : int { kId = 1, kRule, kScope, kSubject, kRaisedAt, kThreshold };

OpenAlerts read_open(const Guarded *g) {
  pg::Statement query(
      "SELECT l.id, l.rule, l.scope::pg_catalog.text, l.subject, l.raised_at, l.threshold FROM sync_guard.alert_log AS "
      "l"
      " WHERE l.cleared_at IS NULL AND l.relation::pg_catalog.oid IS NOT DISTINCT FROM $1");
  query.add(OIDOID, ObjectIdGetDatum(g == nullptr ? InvalidOid : g->table), g == nullptr);
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  OpenAlerts open;
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  open.items = static_cast<Open *>(MemoryContextAllocZero(context, sizeof(Open) * (rows + 1)));
  for (uint64 i = 0; i < rows; ++i) {
    bool is_null;
    Open &line = open.items[open.count++];
    line.id = DatumGetInt64(pg::spi_datum(i, kId, &is_null));
    line.rule = pg::spi_text(i, kRule, context);
    line.scope = pg::spi_text(i, kScope, context);
    line.subject = pg::spi_text(i, kSubject, context);
    line.raised_at = DatumGetTimestampTz(pg::spi_datum(i, kRaisedAt, &is_null));
    line.threshold = DatumGetFloat8(pg::spi_datum(i, kThreshold, &is_null));
  }
  pg::spi_end();
  pg::restore(before);
  return open;
}

Open *find_open(const OpenAlerts &open, const Reading &reading) {
  const char *rule = core::alert_rule(reading.rule).name;
  for (int i = 0; i < open.count; ++i) {
    Open &line = open.items[i];
    if (strcmp(line.rule, rule) == 0 && same_text(line.scope, reading.scope) &&
        same_text(line.subject, reading.subject))
      return &line;
  }
  return nullptr;
}

/// The table's rules and figures, with the rights in force (see read_as_owner). `live` as in read_table_figures.
Evaluation evaluate(const Guarded &g, const core::Question &question, bool sweep, const Runs *live) {
  Evaluation evaluation{&g, read_alert_rules(&g), read_open(&g), {}};
  evaluation.readings = read_table_figures(g, evaluation.rules, question, sweep, live);
  return evaluation;
}

Evaluation evaluate_server(const core::Question &question) {
  Evaluation evaluation{nullptr, read_alert_rules(nullptr), read_open(nullptr), {}};
  evaluation.readings = read_server_figures(evaluation.rules, question);
  return evaluation;
}

/// Calls `visit(reading, limits, step, open)` for every figure; marks the open alerts that have one.
template <typename Visit>
void each_step(const Evaluation &evaluation, const Visit &visit) {
  for (int i = 0; i < evaluation.readings.count; ++i) {
    const Reading &reading = evaluation.readings.items[i];
    Open *open = find_open(evaluation.open, reading);
    if (open != nullptr) open->read = true;
    const core::AlertLimits limits = evaluation.rules.of(reading.rule, reading.pattern);
    visit(reading, limits, core::alert_step(limits, reading.value, open != nullptr), open);
  }
}

Jsonb *scope_of(const char *text) {
  return text == nullptr ? nullptr : DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text)));
}

/// "run 7 has been running for 45 min; raised above 30 min".
const char *raised_detail(const Reading &reading, const core::AlertLimits &limits) {
  char above[64];
  return psprintf("%s; raised above %s", reading.detail,
                  core::describe_figure(core::alert_rule(reading.rule).unit, limits.raise_above, above, sizeof above));
}

// ---- recording ----------------------------------------------------------------------------------------------------------

void announce(const char *relation, const core::AlertRuleInfo &info, const char *scope, const char *subject,
              bool raised, core::Micros at, double figure, double threshold, const char *detail) {
  announce_alert({raised, info.name, info.severity, relation, scope_of(scope), subject, at, figure, threshold,
                  core::unit_name(info.unit), detail});
}

void raise(const Guarded *g, const Reading &reading, const core::AlertLimits &limits, core::Micros now) {
  const core::AlertRuleInfo &info = core::alert_rule(reading.rule);
  const char *detail = raised_detail(reading, limits);
  Jsonb *scope = scope_of(reading.scope);
  pg::Statement insert(
      "INSERT INTO sync_guard.alert_log (rule, relation, relation_name, scope, subject, raised_at, figure, threshold,"
      " sample, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
  insert.add_text(info.name).add(REGCLASSOID, ObjectIdGetDatum(g == nullptr ? InvalidOid : g->table), g == nullptr);
  insert.add_text(g == nullptr ? nullptr : g->name).add(JSONBOID, PointerGetDatum(scope), scope == nullptr);
  insert.add_text(reading.subject).add(TIMESTAMPTZOID, TimestampTzGetDatum(now));
  insert.add(FLOAT8OID, Float8GetDatum(reading.value.figure)).add(FLOAT8OID, Float8GetDatum(limits.raise_above));
  insert.add(INT8OID, Int64GetDatum(reading.value.sample.value_or(0)), !reading.value.sample).add_text(detail);
  (void)pg::spi_execute_as_guard(insert);
  announce(g == nullptr ? nullptr : g->name, info, reading.scope, reading.subject, true, now, reading.value.figure,
           limits.raise_above, detail);
}

void clear(const char *relation, const Open &open, double figure, const char *detail, core::Micros now) {
  pg::Statement update(
      "UPDATE sync_guard.alert_log SET cleared_at = GREATEST($2, raised_at), cleared_figure = $3, cleared_detail = $4"
      " WHERE id OPERATOR(pg_catalog.=) $1");
  update.add(INT8OID, Int64GetDatum(open.id)).add(TIMESTAMPTZOID, TimestampTzGetDatum(now));
  update.add(FLOAT8OID, Float8GetDatum(figure)).add_text(detail);
  (void)pg::spi_execute_as_guard(update);
  const core::AlertRuleInfo *info = core::find_alert_rule(open.rule);
  if (info == nullptr) return;
  announce(relation, *info, open.scope, open.subject, false, now, figure, open.threshold, detail);
}

/// Why an open alert has no figure any more.
const char *why_gone(const Evaluation &evaluation, const core::AlertRuleInfo *info) {
  if (info == nullptr) return "the rule is not known any more";
  if (!evaluation.rules.asks(info->rule)) return "the rule is switched off";
  if (info->rule == core::AlertRule::kStuck) return "no dead run waits to be closed";
  if (info->rule == core::AlertRule::kLongRunning) return "no run is alive";
  return "there is nothing left of it";
}

void record(const Evaluation &evaluation, core::Micros now) {
  const Guarded *g = evaluation.g;
  const char *relation = g == nullptr ? nullptr : g->name;
  each_step(evaluation, [g, relation, now](const Reading &reading, const core::AlertLimits &limits,
                                           core::AlertStep step, const Open *open) {
    if (step == core::AlertStep::kRaise) raise(g, reading, limits, now);
    if (step == core::AlertStep::kClear && open != nullptr)
      clear(relation, *open, reading.value.figure, limits.enabled ? reading.detail : "the rule is switched off", now);
  });
  for (int i = 0; i < evaluation.open.count; ++i) {
    const Open &open = evaluation.open.items[i];
    const core::AlertRuleInfo *info = core::find_alert_rule(open.rule);
    if (open.read || (info != nullptr && evaluation.readings.not_asked[static_cast<int>(info->rule)])) continue;
    clear(relation, open, 0, why_gone(evaluation, info), now);
  }
}

/// Clears the alerts on tables that are guarded no more.
void clear_orphans(core::Micros now) {
  pg::Statement query(
      "SELECT l.id, l.rule, l.scope::pg_catalog.text, l.subject, l.threshold, l.relation_name"
      " FROM sync_guard.alert_log AS l WHERE l.cleared_at IS NULL AND l.relation IS NOT NULL AND NOT EXISTS"
      " (SELECT FROM sync_guard.settings AS s WHERE s.relation::pg_catalog.oid OPERATOR(pg_catalog.=)"
      " l.relation::pg_catalog.oid)");
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  auto *lines = static_cast<Open *>(MemoryContextAllocZero(context, sizeof(Open) * (rows + 1)));
  auto **names = static_cast<const char **>(MemoryContextAllocZero(context, sizeof(char *) * (rows + 1)));
  for (uint64 i = 0; i < rows; ++i) {
    bool is_null;
    lines[i].id = DatumGetInt64(pg::spi_datum(i, 1, &is_null));
    lines[i].rule = pg::spi_text(i, 2, context);
    lines[i].scope = pg::spi_text(i, 3, context);
    lines[i].subject = pg::spi_text(i, 4, context);
    lines[i].threshold = DatumGetFloat8(pg::spi_datum(i, 5, &is_null));
    names[i] = pg::spi_text(i, 6, context);
  }
  pg::spi_end();
  pg::restore(before);
  for (uint64 i = 0; i < rows; ++i) clear(names[i], lines[i], 0, "the table is not guarded any more", now);
}

// ---- reading ------------------------------------------------------------------------------------------------------------

void put_alerts(pg::Rows &rows, const Evaluation &evaluation) {
  const Oid table = evaluation.g == nullptr ? InvalidOid : evaluation.g->table;
  each_step(evaluation, [&rows, table](const Reading &reading, const core::AlertLimits &limits, core::AlertStep step,
                                       const Open *open) {
    if (step != core::AlertStep::kRaise && step != core::AlertStep::kStay) return;
    const core::AlertRuleInfo &info = core::alert_rule(reading.rule);
    rows.add_text(info.name).add_text(info.severity).add_oid(table).add_jsonb(scope_of(reading.scope));
    rows.add_text(reading.subject);
    rows.add_instant(open == nullptr ? std::nullopt : std::optional<core::Micros>(open->raised_at));
    rows.add_bool(open != nullptr).add(Float8GetDatum(reading.value.figure)).add(Float8GetDatum(limits.raise_above));
    rows.add_text(core::unit_name(info.unit)).add_int64(reading.value.sample);
    rows.add_text(raised_detail(reading, limits)).add_text(reading.hint).put();
  });
}

/// Whether the caller may read any guarded table.
bool reads_any_table() {
  ListCell *cell;
  foreach (cell, all_guarded())
    if (may_read(*static_cast<const Guarded *>(lfirst(cell)))) return true;
  return false;
}

}  // namespace

void record_alerts(const Guarded &g, const core::Question &question, const Runs *live) {
  const pg::Identity before = read_as_owner(g);
  const Evaluation evaluation = evaluate(g, question, true, live);
  pg::restore(before);
  ESG_FAULT_POINT("alerts.evaluated");
  record(evaluation, question.now);
}

void record_server_alerts(const core::Question &question) {
  record(evaluate_server(question), question.now);
  ESG_FAULT_POINT("alerts.server_recorded");
  clear_orphans(question.now);
}

void purge_alerts(core::Micros before, Datum tables, bool all) {
  pg::Statement purge(
      "DELETE FROM sync_guard.alert_log AS l WHERE l.cleared_at OPERATOR(pg_catalog.<) $1"
      " AND ($2 OR l.relation::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($3))");
  purge.add(TIMESTAMPTZOID, TimestampTzGetDatum(before)).add(BOOLOID, BoolGetDatum(all)).add(OIDARRAYOID, tables);
  (void)pg::spi_execute_as_guard(purge);
}

static Datum current_alerts(FunctionCallInfo fcinfo) {
  pg::Rows rows(fcinfo);
  const core::Question question = question_now();
  const Oid caller = GetUserId();
  if (reads_any_table()) put_alerts(rows, evaluate_server(question));
  each_readable_table([&rows, &question, caller](const Guarded &g) {
    rows.drop_unfinished();
    if (check_enable_rls(g.table, caller, true) == RLS_ENABLED) return;
    put_alerts(rows, evaluate(g, question, false, nullptr));
  });
  return 0;
}

static Datum may_read_alert(FunctionCallInfo fcinfo) {
  if (PG_ARGISNULL(0)) PG_RETURN_BOOL(reads_any_table() || reads_everything());
  PG_RETURN_BOOL(PG_ARGISNULL(1) ? reads_everything()
                                 : journal_is_open(PG_GETARG_OID(0), text_to_cstring(PG_GETARG_TEXT_PP(1)), false));
}

}  // namespace esg
