// explain_run: how every rule sees one run; overturn_reap: the guard was wrong. Both name a run by (relation, key), with
// the key as text, uuid or bigint.

#include "closing.h"
#include "errors.h"
#include "fault.h"
#include "journal.h"
#include "load.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "run_argument.h"
#include "runs.h"

namespace esg {
namespace {

char *span_text(const std::optional<core::Micros> &span) {
  if (!span) return nullptr;
  auto *out = static_cast<char *>(palloc(48));
  return core::describe_span(*span, out, 48);
}

void put_row(const ReturnSetInfo *result, const char *const *texts, bool applies, bool fits, bool decides, int rule) {
  Datum values[8];
  bool nulls[8] = {};
  values[0] = Int32GetDatum(rule);
  for (int i = 0; i < 4; ++i) {
    nulls[1 + i] = texts[i] == nullptr;
    values[1 + i] = nulls[1 + i] ? Datum(0) : CStringGetTextDatum(texts[i]);
  }
  values[5] = BoolGetDatum(applies);
  values[6] = BoolGetDatum(fits);
  values[7] = BoolGetDatum(decides);
  tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/// A column's value in `wanted`, the row as its worker wanted it (SQL of type jsonb); as it stands where that tells none.
char *wanted_sql(const Column &column, const char *wanted) {
  return psprintf("COALESCE((%s OPERATOR(pg_catalog.->>) %s)::%s, %s)", wanted, quote_literal_cstr(column.name),
                  pg::type_sql(column.type), column_ref(column));
}

/// The SET list of overturning: the status; the errors as they were ($3); end and duration of the late finish, where the worker came
/// late with this status: the journal has his row as it would have been accepted. A run that is live again has neither.
char *overturn_assignments(const Guarded &g, const char *status, bool with_errors) {
  StringInfoData list;
  initStringInfo(&list);
  appendStringInfo(&list, "%s = %s", quote_identifier(g.status.name), quote_literal_cstr(status));
  if (with_errors && g.error.writable) appendStringInfo(&list, ", %s = $3", quote_identifier(g.error.name));
  for (const Column *column : {&g.end, &g.duration}) {
    if (!column->writable) continue;
    const bool clear = g.is_live(status) && !column->not_null;
    appendStringInfo(&list, ", %s = %s", quote_identifier(column->name),
                     clear ? "NULL" : wanted_sql(*column, "$4::pg_catalog.jsonb"));
  }
  return list.data;
}

}  // namespace
}  // namespace esg

/// explain_run(relation regclass, key) → one row per rule, with its figures.
ESG_SQL_FUNCTION(explain_run);

/// overturn_reap(relation regclass, key, status text): gives a wrongly reaped run its status and marks the journal.
ESG_SQL_FUNCTION(overturn_reap);

/// live_runs_query(relation regclass) → the statement by which the guard finds live runs, for EXPLAIN.
ESG_SQL_FUNCTION(live_runs_query);

namespace esg {

static Datum explain_run(FunctionCallInfo fcinfo) {
  InitMaterializedSRF(fcinfo, 0);
  const auto *result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
  const Guarded &g = table_argument(fcinfo, 0);
  const char *key = key_argument(fcinfo, 1);
  const core::Question question = question_now();
  const Run *run = find_run(g, key, question, false);
  if (run == nullptr) no_such_run(g, key);
  if (!g.is_live(run->status)) {
    const Standing standing = standing_of(g, run->key);
    const char *why =
        standing.reaping != 0 && !standing.observed
            ? psprintf("ended: \"%s\"; the guard closed it, see sync_guard.reaped_syncs line " INT64_FORMAT,
                       run->status, standing.reaping)
            : psprintf("ended: \"%s\" is not a live status", run->status);
    const char *const texts[4] = {why, nullptr, nullptr, run->status};
    put_row(result, texts, true, true, true, 0);
    return Datum(0);
  }
  for (int rule = 1; rule <= core::kRuleCount; ++rule) {
    const core::RuleView view = core::view_rule(rule, run->evidence, run->limits, question);
    // A rule that does not apply says nothing of the run.
    const bool decides = run->judgement.rule == rule;
    const char *note = decides ? note_on(*run) : nullptr;
    const char *const texts[4] = {note == nullptr ? view.evidence : psprintf("%s (%s)", view.evidence, note),
                                  view.applies ? span_text(view.measured) : nullptr, span_text(view.limit),
                                  view.applies ? core::verdict_name(view.verdict) : nullptr};
    put_row(result, texts, view.applies, view.fits, decides, rule);
  }
  const char *const texts[4] = {why_of(*run), span_text(run->judgement.measured), span_text(run->judgement.limit),
                                core::verdict_name(run->judgement.verdict)};
  if (run->judgement.rule == 0) put_row(result, texts, true, true, true, 0);
  return Datum(0);
}

static Datum overturn_reap(FunctionCallInfo fcinfo) {
  const Guarded &g = table_argument(fcinfo, 0);
  const char *key = key_argument(fcinfo, 1);
  if (PG_ARGISNULL(2))
    ereport(ERROR, errcode(kBadOption), errmsg("status must not be NULL"),
            errdetail("The run gets it instead of \"%s\".", g.failed),
            errhint("Give the status that the run should have had, for example 'completed'."));
  const char *status = text_to_cstring(PG_GETARG_TEXT_PP(2));
  PreventCommandIfReadOnly("overturn_reap()");
  if (!may_reap(g)) aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(g.table));
  if (strcmp(status, g.failed) == 0)
    ereport(ERROR, errcode(kBadOption), errmsg("status \"%s\" is what the reaping wrote", status),
            errdetail("The run would stay as it was closed."),
            errhint("Give the status that the run should have had, for example 'completed'."));
  const Run *run = find_run(g, key, question_now(), true);
  if (run == nullptr) {
    if (find_run(g, key, question_now(), false) == nullptr) no_such_run(g, key);
    ereport(ERROR, errcode(ERRCODE_LOCK_NOT_AVAILABLE),
            errmsg("run %s of table %s is locked by another transaction", key, g.name),
            errhint("Try again when that transaction has ended."));
  }
  const Standing standing = standing_of(g, run->key);
  if (standing.reaping == 0 || standing.observed)
    ereport(ERROR, errcode(kBadOption), errmsg("run %s of table %s was not reaped by the guard", key, g.name),
            errdetail("Or its reaping has been overturned, or it has started again since."),
            errhint("The view sync_guard.reaped_syncs shows what the guard has reaped."));
  const Rows rows = rows_of(standing.reaping, g, status);
  Datum errors = 0;
  bool no_errors = true;
  const bool with_errors = former_error(g, rows.before, &errors, &no_errors);
  pg::Statement update(
      psprintf("UPDATE %s SET %s WHERE t.ctid OPERATOR(pg_catalog.=) $1 AND t.tableoid OPERATOR(pg_catalog.=) $2",
               from_item(g), overturn_assignments(g, status, with_errors)));
  update.add(TIDOID, PointerGetDatum(&run->ctid))
      .add_oid(run->tableoid)
      .add(with_errors && g.error_format != ErrorFormat::kText ? g.error.type : TEXTOID, errors, no_errors)
      .add_text(rows.wanted);
  const Oid role = GetUserId();
  const int level = NewGUCNestLevel();
  begin_overturning();
  const pg::Identity before = work_as(g, pg::Access::kWrite);
  const uint64 updated = pg::spi_execute(update);
  ESG_FAULT_POINT("overturn.row_written");
  pg::restore(before);
  AtEOXact_GUC(false, level);
  if (updated != 1)
    ereport(ERROR, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
            errmsg("a trigger of table %s kept run %s from being changed", g.name, key));
  Line line;
  line.key = run->key;
  line.reaping = standing.reaping;
  line.reason = psprintf("overturned: the run gets status \"%s\"", status);
  line.run = run->row;
  line.false_positive = core::tells_success(status, g.failed);
  write_journal({&g, Event::kOverturned, GetCurrentTimestamp(), "call", role}, &line, 1);
  PG_RETURN_VOID();
}

static Datum live_runs_query(FunctionCallInfo fcinfo) {
  const Guarded &g = table_argument(fcinfo, 0);
  PG_RETURN_TEXT_P(cstring_to_text(runs_query(g, RunFilter{})));
}

}  // namespace esg
