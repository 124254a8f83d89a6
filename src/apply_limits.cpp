// apply_suggested_limits(): sets what limit_suggestions() suggests, as set_limit() would. Run by the table's owner in his own
// process; reads as limit_suggestions() does, writes the guard's own tables as the extension's owner.

#include "adopt.h"
#include "errors.h"
#include "pg/rows.h"
#include "scopes.h"
#include "setup.h"
#include "suggest.h"
#include "table_lock.h"
#include "texts.h"

/// apply_suggested_limits(relation, min_sample, floor, ceiling, limits, scope). ERROR SY006 for an argument that does not fit.
ESG_SQL_FUNCTION(apply_suggested_limits);

namespace esg {
namespace {

/// What is to be applied.
struct Request {
  int32 min_sample;
  core::Micros floor;
  core::Micros ceiling;
  bool limits[kLimits];
  const Jsonb *scope;  ///< only this one; null: all
};

[[noreturn]] void bad_argument(const char *message, const char *detail, const char *hint) {
  ereport(ERROR, errcode(kBadOption), errmsg("%s", message), errdetail("%s.", detail), errhint("%s", hint));
  pg_unreachable();
}

const char *interval_text(const Interval *span) {
  return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(span)));
}

int32 min_sample_argument(FunctionCallInfo fcinfo) {
  constexpr int kNumber = 1;
  const char *hint = "Give a number of runs of at least 1, for example the default of 20.";
  if (PG_ARGISNULL(kNumber))
    bad_argument("min_sample must not be NULL", "It says from how many runs a limit must have been learned", hint);
  const int32 sample = PG_GETARG_INT32(kNumber);
  if (sample < 1) bad_argument("min_sample must be positive", psprintf("It was given as %d", sample), hint);
  return sample;
}

core::Micros bound_argument(FunctionCallInfo fcinfo, int number, const char *name, const char *what) {
  const char *hint = "Give a positive time.";
  if (PG_ARGISNULL(number)) bad_argument(psprintf("%s must not be NULL", name), what, hint);
  const Interval *span = PG_GETARG_INTERVAL_P(number);
  const char *problem = adopt::span_problem(span);
  if (problem != nullptr)
    bad_argument(psprintf("%s is not possible: %s", name, problem), psprintf("It was given as %s", interval_text(span)),
                 hint);
  return micros_of(span);
}

void limits_argument(FunctionCallInfo fcinfo, bool (&limits)[kLimits]) {
  constexpr int kNumber = 4;
  const char *which = "It says which limits are set";
  const char *hint = "The limits are max_silence, max_age and max_stall.";
  if (PG_ARGISNULL(kNumber)) bad_argument("limits must not be NULL", which, hint);
  Datum *items;
  bool *nulls;
  int count;
  deconstruct_array(PG_GETARG_ARRAYTYPE_P(kNumber), TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, &count);
  if (count == 0) bad_argument("limits names no limit", which, hint);
  for (int i = 0; i < count; ++i) {
    if (nulls[i]) bad_argument("limits must not hold NULL", which, hint);
    const char *name = TextDatumGetCString(items[i]);
    const int limit = limit_named(name);
    if (limit == kLimits) bad_argument(psprintf("there is no limit \"%s\"", name), which, hint);
    limits[limit] = true;
  }
}

Request read_request(FunctionCallInfo fcinfo, const Guarded &g) {
  Request request{};
  request.min_sample = min_sample_argument(fcinfo);
  request.floor = bound_argument(fcinfo, 2, "floor", "It is the shortest limit that is set");
  request.ceiling = bound_argument(fcinfo, 3, "ceiling", "It is the longest limit that is set");
  if (request.floor > request.ceiling)
    bad_argument("floor is longer than ceiling",
                 psprintf("They were given as %s and %s", interval_text(PG_GETARG_INTERVAL_P(2)),
                          interval_text(PG_GETARG_INTERVAL_P(3))),
                 "Give a floor that the ceiling is not below.");
  limits_argument(fcinfo, request.limits);
  bool whole_table;
  if (!PG_ARGISNULL(5)) request.scope = canonical_scope(g, PG_GETARG_JSONB_P(5), &whole_table);
  return request;
}

bool same_scope(const Jsonb *a, const Jsonb *b) {
  return compareJsonbContainers(const_cast<JsonbContainer *>(&a->root), const_cast<JsonbContainer *>(&b->root)) == 0;
}

/// ERROR where the scope asked for is none of which the history knows.
void require_known_scope(const Guarded &g, const Request &request, const SuggestedLimits &suggested) {
  if (request.scope == nullptr) return;
  for (int i = 0; i < suggested.count; ++i)
    if (same_scope(request.scope, suggested.items[i].scope)) return;
  bad_argument("nothing is known of this scope",
               psprintf("No run of the last 90 days that ended well has %s", jsonb_text(request.scope)),
               psprintf("Limits are suggested for scopes that name all scope columns: SELECT DISTINCT scope FROM "
                        "sync_guard.limit_suggestions(%s);",
                        quote_literal_cstr(g.name)));
}

/// What a suggestion comes to; absent where it is not to be applied.
std::optional<core::Micros> wanted(const Request &request, const SuggestedLimit &line) {
  if (!line.suggested || line.sample < request.min_sample || !request.limits[line.limit]) return std::nullopt;
  if (!may_have_settings(line.scope)) return std::nullopt;
  if (request.scope != nullptr && !same_scope(request.scope, line.scope)) return std::nullopt;
  return Min(Max(*line.suggested, request.floor), request.ceiling);
}

/// Limits that the ceiling made shorter than runs that were alive.
struct Cut {
  const SuggestedLimit *first = nullptr;
  int count = 0;

  void look_at(const SuggestedLimit &line, core::Micros limit) {
    if (limit >= *line.suggested || !line.longest || limit >= *line.longest) return;
    if (count++ == 0) first = &line;
  }
};

void warn_of_cut(const Guarded &g, const Cut &cut, core::Micros ceiling) {
  if (cut.count == 0) return;
  const SuggestedLimit &one = *cut.first;
  const char *scope = jsonb_text(one.scope);
  ereport(
      WARNING,
      errmsg_plural("%d limit of table %s is shorter than runs that were alive, by its ceiling",
                    "%d limits of table %s are shorter than runs that were alive, by their ceiling", cut.count,
                    cut.count, g.name),
      errdetail("Of scope %s, %s %s is suggested, since a run that was alive needed %s; the ceiling is %s.", scope,
                kLimitSpecs[one.limit].name, span_words(*one.suggested), span_words(*one.longest), span_words(ceiling)),
      errhint("Pass a longer ceiling, or set the limit back with sync_guard.set_limit()."));
}

/// Sets one after the other, the table's own first: what a scope has already, then by the table's own, is left.
void apply(const Guarded &g, const Request &request, const SuggestedLimits &suggested, pg::Rows &rows) {
  core::Limits own = g.limits;
  bool stall = false;
  Cut cut;
  for (int i = 0; i < suggested.count; ++i) {
    CHECK_FOR_INTERRUPTS();
    const SuggestedLimit &line = suggested.items[i];
    const auto after = wanted(request, line);
    const auto before = limit_in_force(g, own, line);
    if (!after || after == before) continue;
    LimitChange changes[kLimits];
    changes[line.limit].given = true;
    changes[line.limit].value = IntervalPGetDatum(pg::interval_of(*after));
    write_limits(g, line.scope, line.whole_table, changes);
    if (line.whole_table) own.*kLimitSpecs[line.limit].value = after;
    stall = stall || line.limit == kMaxStall;
    cut.look_at(line, *after);
    rows.add_jsonb(line.scope).add_text(kLimitSpecs[line.limit].name).add_span(before).add_span(after).put();
  }
  warn_of_cut(g, cut, request.ceiling);
  if (stall) adopt::warn_of_stall(g);
}

}  // namespace

static Datum apply_suggested_limits(FunctionCallInfo fcinfo) {
  const Guarded &g = owned_table(fcinfo, "apply_suggested_limits()");
  const Request request = read_request(fcinfo, g);
  pg::Rows rows(fcinfo);
  const bool hidden = row_security_applies(g);
  const pg::Identity before = work_as(g);
  const SuggestedLimits suggested = suggest_limits(g, question_now().now, kUsualLookBack, hidden);
  pg::restore(before);
  require_known_scope(g, request, suggested);
  const int level = limit_row_locks(kDefaultPatience);
  apply(g, request, suggested, rows);
  AtEOXact_GUC(false, level);
  return 0;
}

}  // namespace esg
