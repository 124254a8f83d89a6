// set_limit(), allow_transition(), pause_reaping(), resume_reaping(): what a table's owner sets beside guard_table().
// Run in the owner's process; write the guard's own tables as the extension's owner. Take no lock on the guarded table
// but ACCESS SHARE.

#include "set_limit.h"

#include "adopt.h"
#include "adopt_checks.h"
#include "errors.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "pg/spi.h"
#include "scopes.h"
#include "setup.h"
#include "table_lock.h"

namespace esg {
namespace {

const char *text_argument(FunctionCallInfo fcinfo, int number, const char *name) {
  if (PG_ARGISNULL(number))
    ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("%s must not be null", name));
  return text_to_cstring(PG_GETARG_TEXT_PP(number));
}

/// Marks what argument `number`, a text[], names.
void take_reset(FunctionCallInfo fcinfo, int number, LimitChange (&changes)[kLimits]) {
  if (PG_ARGISNULL(number)) return;
  Datum *items;
  bool *nulls;
  int count;
  deconstruct_array(PG_GETARG_ARRAYTYPE_P(number), TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, &count);
  for (int i = 0; i < count; ++i) {
    if (nulls[i]) continue;
    const char *name = TextDatumGetCString(items[i]);
    const int limit = limit_named(name);
    if (limit == kLimits)
      ereport(ERROR, errcode(kBadOption), errmsg("there is no limit \"%s\" to reset", name),
              errdetail("It is named in reset."), errhint("The limits are max_silence, max_age and max_stall."));
    if (changes[limit].given)
      ereport(ERROR, errcode(kBadOption), errmsg("limit %s is both given and named in reset", name),
              errdetail("One says what it is to be, the other that it is to go back."),
              errhint("Do one or the other."));
    changes[limit].reset = true;
  }
}

void take_changes(FunctionCallInfo fcinfo, LimitChange (&changes)[kLimits]) {
  bool any = false;
  for (int i = 0; i < kLimits; ++i) {
    const int argument = 2 + i;
    changes[i] = {PG_ARGISNULL(argument) ? Datum(0) : PG_GETARG_DATUM(argument), !PG_ARGISNULL(argument), false};
    const char *problem = changes[i].given ? adopt::span_problem(DatumGetIntervalP(changes[i].value)) : nullptr;
    if (problem != nullptr)
      ereport(ERROR, errcode(kBadOption), errmsg("limit %s is not possible: %s", kLimitSpecs[i].name, problem),
              errdetail("It was given as %s.", DatumGetCString(DirectFunctionCall1(interval_out, changes[i].value))),
              errhint("Give a positive time, or name the limit in reset."));
  }
  take_reset(fcinfo, 2 + kLimits, changes);
  for (const LimitChange &change : changes) any = any || change.given || change.reset;
  if (!any)
    ereport(ERROR, errcode(kBadOption), errmsg("no limit is named"), errdetail("Nothing would change."),
            errhint("Give max_silence, max_age or max_stall, or name one of them in reset."));
}

/// The table's own limits: a reset puts back what guard_table starts with.
void set_own_limits(Oid table, const LimitChange (&changes)[kLimits]) {
  pg::Statement statement(psprintf(
      "UPDATE sync_guard.settings SET max_silence = CASE WHEN $5 THEN %s ELSE COALESCE($2, max_silence) END,"
      " max_age = CASE WHEN $6 THEN NULL ELSE COALESCE($3, max_age) END,"
      " max_stall = CASE WHEN $7 THEN NULL ELSE COALESCE($4, max_stall) END WHERE relation OPERATOR(pg_catalog.=) $1",
      quote_literal_cstr(adopt::kDefaultMaxSilence)));
  statement.add(REGCLASSOID, ObjectIdGetDatum(table));
  for (const LimitChange &change : changes) statement.add(INTERVALOID, change.value, !change.given);
  for (const LimitChange &change : changes) statement.add(BOOLOID, BoolGetDatum(change.reset));
  (void)pg::spi_execute_as_guard(statement);
}

/// A scope's limits: a reset leaves the limit to less specific scopes; a line that sets none goes away.
void set_scope_limits(Oid table, Jsonb *scope, const LimitChange (&changes)[kLimits]) {
  pg::Statement statement(
      "INSERT INTO sync_guard.scope_limits AS l (relation, scope, max_silence, max_age, max_stall)"
      " VALUES ($1, $2, $3, $4, $5) ON CONFLICT (relation, scope) DO UPDATE SET"
      " max_silence = CASE WHEN $6 THEN NULL ELSE COALESCE(excluded.max_silence, l.max_silence) END,"
      " max_age = CASE WHEN $7 THEN NULL ELSE COALESCE(excluded.max_age, l.max_age) END,"
      " max_stall = CASE WHEN $8 THEN NULL ELSE COALESCE(excluded.max_stall, l.max_stall) END");
  statement.add(REGCLASSOID, ObjectIdGetDatum(table)).add(JSONBOID, JsonbPGetDatum(scope));
  for (const LimitChange &change : changes) statement.add(INTERVALOID, change.value, !change.given);
  for (const LimitChange &change : changes) statement.add(BOOLOID, BoolGetDatum(change.reset));
  (void)pg::spi_execute_as_guard(statement);
  pg::Statement empty(
      "DELETE FROM sync_guard.scope_limits WHERE relation OPERATOR(pg_catalog.=) $1 AND max_silence IS NULL"
      " AND max_age IS NULL AND max_stall IS NULL");
  empty.add(REGCLASSOID, ObjectIdGetDatum(table));
  (void)pg::spi_execute_as_guard(empty);
}

/// A status that an allowed transition names must be one that the table can hold.
void require_possible(const Guarded &g, const char *status) {
  Relation relation = relation_open(g.table, AccessShareLock);
  const pg::Identity identity = adopt::look_as(g.owner);
  adopt::Refusal refusal;
  if (!adopt::status_possible(relation, g.status, status, &refusal))
    ereport(ERROR, errcode(kBadOption), errmsg("table %s cannot hold the status \"%s\"", g.name, status),
            refusal.constraint != nullptr
                ? errdetail("Constraint \"%s\" refuses it: %s.", refusal.constraint, refusal.message)
                : errdetail("Column \"%s\" does not take it: %s.", g.status.name, refusal.message),
            errhint("Name a status that the table accepts."));
  pg::restore(identity);
  relation_close(relation, AccessShareLock);
}

void set_pause(Oid table, TimestampTz until, bool paused) {
  pg::Statement statement("UPDATE sync_guard.settings SET paused_until = $2 WHERE relation OPERATOR(pg_catalog.=) $1");
  statement.add(REGCLASSOID, ObjectIdGetDatum(table)).add(TIMESTAMPTZOID, TimestampTzGetDatum(until), !paused);
  (void)pg::spi_execute_as_guard(statement);
}

}  // namespace

int limit_named(const char *name) {
  int limit = 0;
  while (limit < kLimits && strcmp(kLimitSpecs[limit].name, name) != 0) ++limit;
  return limit;
}

void write_limits(const Guarded &g, Jsonb *scope, bool whole_table, const LimitChange (&changes)[kLimits]) {
  if (whole_table) set_own_limits(g.table, changes);
  else set_scope_limits(g.table, scope, changes);
}

}  // namespace esg

ESG_SQL_FUNCTION(set_limit);
ESG_SQL_FUNCTION(allow_transition);
ESG_SQL_FUNCTION(pause_reaping);
ESG_SQL_FUNCTION(resume_reaping);

static Datum esg::set_limit(FunctionCallInfo fcinfo) {
  const Guarded &g = owned_table(fcinfo, "set_limit()");
  if (PG_ARGISNULL(1))
    ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("scope must not be null"),
            errhint("Give {} for the table's own limits."));
  LimitChange changes[kLimits];
  take_changes(fcinfo, changes);
  bool whole_table;
  Jsonb *scope = canonical_scope(g, PG_GETARG_JSONB_P(1), &whole_table);
  const int level = limit_row_locks(kDefaultPatience);
  write_limits(g, scope, whole_table, changes);
  AtEOXact_GUC(false, level);
  if (changes[kMaxStall].given) adopt::warn_of_stall(g);
  PG_RETURN_VOID();
}

static Datum esg::allow_transition(FunctionCallInfo fcinfo) {
  const Guarded &g = owned_table(fcinfo, "allow_transition()");
  const char *from = text_argument(fcinfo, 1, "from_status");
  const char *to = text_argument(fcinfo, 2, "to_status");
  if (strcmp(from, to) == 0)
    ereport(ERROR, errcode(kBadOption), errmsg("a status that stays the same is no transition"),
            errdetail("Both are \"%s\".", from), errhint("It is always allowed."));
  require_possible(g, from);
  require_possible(g, to);
  pg::Statement statement(PG_ARGISNULL(3)
                              ? "DELETE FROM sync_guard.transition_rules WHERE relation OPERATOR(pg_catalog.=) $1"
                                " AND from_status OPERATOR(pg_catalog.=) $2 AND to_status OPERATOR(pg_catalog.=) $3"
                              : "INSERT INTO sync_guard.transition_rules (relation, from_status, to_status, allowed)"
                                " VALUES ($1, $2, $3, $4) ON CONFLICT (relation, from_status, to_status)"
                                " DO UPDATE SET allowed = excluded.allowed");
  statement.add(REGCLASSOID, ObjectIdGetDatum(g.table)).add_text(from).add_text(to);
  if (!PG_ARGISNULL(3)) {
    if (!PG_GETARG_BOOL(3) && g.is_live(from) && strcmp(to, g.failed) == 0)
      ereport(ERROR, errcode(kBadOption), errmsg("the transition from \"%s\" to \"%s\" cannot be forbidden", from, to),
              errdetail("It is the one that closes dead runs."),
              errhint("To have runs judged only, set mode => 'observe'."));
    statement.add(BOOLOID, PG_GETARG_DATUM(3));
  }
  const bool closes_the_way =
      !PG_ARGISNULL(3) && !PG_GETARG_BOOL(3) && g.is_live(from) && !g.is_live(to) && g.is_end(to);
  const int level = limit_row_locks(kDefaultPatience);
  (void)pg::spi_execute_as_guard(statement);
  AtEOXact_GUC(false, level);
  if (closes_the_way)
    ereport(
        WARNING, errmsg("no run of table %s can end from \"%s\" as \"%s\" any more", g.name, from, to),
        errdetail("Whoever writes that is refused, or warned where transitions is warn; how the guard closes dead runs "
                  "is not affected."),
        errhint("Take the rule back: SELECT sync_guard.allow_transition(%s, %s, %s, NULL);", quote_literal_cstr(g.name),
                quote_literal_cstr(from), quote_literal_cstr(to)));
  PG_RETURN_VOID();
}

static Datum esg::pause_reaping(FunctionCallInfo fcinfo) {
  const Guarded &g = owned_table(fcinfo, "pause_reaping()");
  const TimestampTz until = PG_ARGISNULL(1) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(1);
  if (until <= GetCurrentTimestamp())
    ereport(ERROR, errcode(kBadOption), errmsg("the end of the pause is not in the future"),
            errdetail("Until then no run of table %s would be reaped.", g.name),
            errhint("Leave it out to pause until resume_reaping() is called."));
  const int level = limit_row_locks(kDefaultPatience);
  set_pause(g.table, until, true);
  AtEOXact_GUC(false, level);
  PG_RETURN_VOID();
}

static Datum esg::resume_reaping(FunctionCallInfo fcinfo) {
  const Guarded &g = owned_table(fcinfo, "resume_reaping()");
  const int level = limit_row_locks(kDefaultPatience);
  set_pause(g.table, 0, false);
  AtEOXact_GUC(false, level);
  PG_RETURN_VOID();
}
