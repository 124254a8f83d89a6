// set_alert_rule() and the function behind the view alert_rules. Run in the caller's process; write the guard's own table as
// the extension's owner, after limit_row_locks. See alert_rules.h.

#include "alert_rules.h"

#include "errors.h"
#include "monitor.h"
#include "pg/rows.h"
#include "pg/spi.h"
#include "scopes.h"
#include "setup.h"
#include "table_lock.h"

/// set_alert_rule(relation, rule, scope, enabled, raise_above, clear_below, time_window, min_sample, reset).
/// ERROR 22004 for a NULL rule or scope; SY006 for what is no rule, scope or figure; SY004, 42501, 25006 as set_limit.
ESG_SQL_FUNCTION(set_alert_rule);

/// effective_alert_rules(): a line per rule, and one for each table or scope that the caller may read and that has its own.
ESG_SQL_FUNCTION(effective_alert_rules);

namespace esg {
namespace {

enum Field : int { kEnabled, kRaiseAbove, kClearBelow, kTimeWindow, kMinSample, kFields };
constexpr const char *kFieldNames[kFields] = {"enabled", "raise_above", "clear_below", "time_window", "min_sample"};
constexpr Oid kFieldTypes[kFields] = {BOOLOID, FLOAT8OID, FLOAT8OID, INTERVALOID, INT4OID};
/// Arguments of set_alert_rule.
enum Argument : int { kRelation, kRule, kScope, kFirstField, kReset = kFirstField + kFields };

struct FieldChange {
  Datum value = 0;
  bool given = false;
  bool reset = false;
};

// ---- what is stored ---------------------------------------------------------------------------------------------------

/// Columns of the query, in order.
enum StoredColumn : int {
  kStoredRule = 1,
  kStoredOfTable,
  kStoredScope,
  kStoredEnabled,
  kStoredRaise,
  kStoredClear,
  kStoredWindow,
  kStoredSample
};

constexpr const char *kStored =
    "SELECT a.rule, a.relation IS NOT NULL, a.scope, a.enabled, a.raise_above, a.clear_below, a.time_window, "
    "a.min_sample"
    " FROM sync_guard.alert_settings AS a"
    " WHERE a.relation IS NULL OR a.relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1"
    " ORDER BY a.relation IS NOT NULL, a.scope, a.rule";

/// One line of alert_settings. False where it names a rule or a scope column that is not known any more.
bool read_override(const Guarded *g, uint64 row, core::AlertOverride *change, Jsonb **scope) {
  bool is_null;
  const core::AlertRuleInfo *info = core::find_alert_rule(pg::spi_text(row, kStoredRule, CurrentMemoryContext));
  *scope = DatumGetJsonbPCopy(pg::spi_datum(row, kStoredScope, &is_null));
  *change = core::AlertOverride{};
  if (info == nullptr) return false;
  change->rule = info->rule;
  change->of_table = DatumGetBool(pg::spi_datum(row, kStoredOfTable, &is_null));
  if (change->of_table && (g == nullptr || !read_scope_pattern(*g, *scope, &change->scope))) return false;
  const Datum enabled = pg::spi_datum(row, kStoredEnabled, &is_null);
  if (!is_null) change->enabled = DatumGetBool(enabled);
  const Datum raise_above = pg::spi_datum(row, kStoredRaise, &is_null);
  if (!is_null) change->raise_above = DatumGetFloat8(raise_above);
  const Datum clear_below = pg::spi_datum(row, kStoredClear, &is_null);
  if (!is_null) change->clear_below = DatumGetFloat8(clear_below);
  const Datum time_window = pg::spi_datum(row, kStoredWindow, &is_null);
  if (!is_null) change->time_window = micros_of(DatumGetIntervalP(time_window));
  const Datum min_sample = pg::spi_datum(row, kStoredSample, &is_null);
  if (!is_null) change->min_sample = DatumGetInt32(min_sample);
  return true;
}

// ---- figures ----------------------------------------------------------------------------------------------------------

char *figure_text(core::AlertUnit unit, double figure) {
  char text[64];
  return pstrdup(core::describe_figure(unit, figure, text, sizeof text));
}

const char *example_of(core::AlertUnit unit) {
  switch (unit) {
    case core::AlertUnit::kSeconds: return "The rule takes a time, for example '45 minutes'.";
    case core::AlertUnit::kShare: return "The rule takes a share, for example '15 %' or '0.15'.";
    case core::AlertUnit::kTimes: return "The rule takes a number, for example '2.5'.";
    case core::AlertUnit::kRuns: return "The rule takes a number of runs, for example '3'.";
  }
  return "";
}

/// A time with its unit. The server would take a bare number for seconds, and "10 %" too.
std::optional<double> parse_time(const char *text) {
  bool has_unit = strcmp(text, "0") == 0;
  for (const char *at = text; *at != '\0'; ++at) {
    if (*at == '%') return std::nullopt;
    has_unit = has_unit || *at == ':' || isalpha(static_cast<unsigned char>(*at));
  }
  if (!has_unit) return std::nullopt;
  Datum value = 0;
  const ErrorData *error = pg::try_in_subtransaction([text, &value] {
    value = DirectFunctionCall3(interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
  });
  if (error != nullptr) return std::nullopt;
  const Interval *interval = DatumGetIntervalP(value);
  if (pg::interval_is_infinite_compat(interval)) return std::nullopt;
  return static_cast<double>(micros_of(interval)) / static_cast<double>(core::kSecond);
}

double figure_argument(const core::AlertRuleInfo &info, Field field, const char *text) {
  const auto figure = info.unit == core::AlertUnit::kSeconds ? parse_time(text)
                      : info.unit == core::AlertUnit::kShare ? core::parse_share(text)
                                                             : core::parse_number(text);
  if (!figure || *figure < 0)
    ereport(ERROR, errcode(kBadOption), errmsg("%s is not possible for rule %s", kFieldNames[field], info.name),
            errdetail("It was given as \"%s\", which is %s.", text, figure ? "negative" : "not understood"),
            errhint("%s", example_of(info.unit)));
  if (info.unit == core::AlertUnit::kShare && *figure >= 1)
    ereport(ERROR, errcode(kBadOption), errmsg("%s is not possible for rule %s", kFieldNames[field], info.name),
            errdetail("It was given as \"%s\", and no share can be above that.", text),
            errhint("%s To switch the rule off: enabled => false.", example_of(info.unit)));
  return *figure + 0.0;  // "-0" is 0
}

// ---- arguments --------------------------------------------------------------------------------------------------------

const core::AlertRuleInfo &rule_argument(FunctionCallInfo fcinfo) {
  if (PG_ARGISNULL(kRule))
    ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("rule must not be null"),
            errdetail("It names what is to be changed."), errhint("The view sync_guard.alert_rules lists them."));
  const char *name = text_to_cstring(PG_GETARG_TEXT_PP(kRule));
  const core::AlertRuleInfo *info = core::find_alert_rule(name);
  if (info != nullptr) return *info;
  StringInfoData names;
  initStringInfo(&names);
  for (int i = 0; i < core::kAlertRuleCount; ++i)
    appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", core::alert_rule_at(i).name);
  ereport(ERROR, errcode(kBadOption), errmsg("there is no alert rule \"%s\"", name),
          errdetail("The rules are: %s.", names.data),
          errhint("The view sync_guard.alert_rules tells what they mean."));
}

/// The rule has this value.
bool has_field(const core::AlertRuleInfo &info, Field field) {
  if (field == kTimeWindow) return info.defaults.time_window != 0 && !info.window_is_fixed;
  return field != kMinSample || info.defaults.min_sample != 0;
}

void refuse_unknown(const core::AlertRuleInfo &info, Field field) {
  if (has_field(info, field)) return;
  StringInfoData names;
  initStringInfo(&names);
  for (int i = 0; i < kFields; ++i)
    if (has_field(info, static_cast<Field>(i))) appendStringInfo(&names, "%s%s", i == 0 ? "" : ", ", kFieldNames[i]);
  ereport(ERROR, errcode(kBadOption), errmsg("rule %s has no %s to set", info.name, kFieldNames[field]),
          errdetail("%s", field == kMinSample    ? "It takes no sample."
                          : info.window_is_fixed ? "It goes by what was learned of the last 30 days."
                                                 : "It looks at this instant."),
          errhint("What it has: %s.", names.data));
}

Datum field_argument(FunctionCallInfo fcinfo, const core::AlertRuleInfo &info, Field field) {
  const Datum value = PG_GETARG_DATUM(kFirstField + field);
  switch (field) {
    case kRaiseAbove:
    case kClearBelow: return Float8GetDatum(figure_argument(info, field, TextDatumGetCString(value)));
    case kTimeWindow:
      if (pg::interval_is_infinite_compat(DatumGetIntervalP(value)) || micros_of(DatumGetIntervalP(value)) <= 0)
        ereport(ERROR, errcode(kBadOption), errmsg("time_window must be a finite interval greater than zero"),
                errdetail("It was %s.", DatumGetCString(DirectFunctionCall1(interval_out, value))),
                errhint("Name it in reset to get the default back."));
      return value;
    case kMinSample:
      if (DatumGetInt32(value) <= 0)
        ereport(ERROR, errcode(kBadOption), errmsg("min_sample must be greater than zero"),
                errdetail("It was %d.", DatumGetInt32(value)), errhint("1 lets the rule speak of a single run."));
      return value;
    default: return value;
  }
}

void take_reset(FunctionCallInfo fcinfo, const core::AlertRuleInfo &info, FieldChange (&changes)[kFields]) {
  if (PG_ARGISNULL(kReset)) return;
  Datum *items;
  bool *nulls;
  int count;
  deconstruct_array(PG_GETARG_ARRAYTYPE_P(kReset), TEXTOID, -1, false, TYPALIGN_INT, &items, &nulls, &count);
  for (int i = 0; i < count; ++i) {
    if (nulls[i]) continue;
    const char *name = TextDatumGetCString(items[i]);
    int field = 0;
    while (field < kFields && strcmp(kFieldNames[field], name) != 0) ++field;
    if (field == kFields)
      ereport(ERROR, errcode(kBadOption), errmsg("there is nothing called \"%s\" to reset", name),
              errdetail("A rule has enabled, raise_above, clear_below, time_window and min_sample."),
              errhint("Name those that are to go back to what holds one level above."));
    if (changes[field].given)
      ereport(ERROR, errcode(kBadOption), errmsg("%s is both given and named in reset", name),
              errdetail("One says what it is to be, the other that it is to go back."),
              errhint("Do one or the other."));
    refuse_unknown(info, static_cast<Field>(field));
    changes[field].reset = true;
  }
}

void take_changes(FunctionCallInfo fcinfo, const core::AlertRuleInfo &info, FieldChange (&changes)[kFields]) {
  bool any = false;
  for (int i = 0; i < kFields; ++i) {
    if (PG_ARGISNULL(kFirstField + i)) continue;
    refuse_unknown(info, static_cast<Field>(i));
    changes[i] = {field_argument(fcinfo, info, static_cast<Field>(i)), true, false};
  }
  take_reset(fcinfo, info, changes);
  for (const FieldChange &change : changes) any = any || change.given || change.reset;
  if (!any)
    ereport(ERROR, errcode(kBadOption), errmsg("nothing of rule %s is to be changed", info.name),
            errdetail("Every value is NULL, which leaves it as it is."),
            errhint("Give enabled, raise_above, clear_below, time_window or min_sample, or name one in reset."));
}

/// The scope as it is stored. For all tables there is none.
Jsonb *scope_argument(FunctionCallInfo fcinfo, const Guarded *g) {
  if (PG_ARGISNULL(kScope))
    ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("scope must not be null"),
            errdetail("It says for which runs of the table the rule is changed."), errhint("Give {} for all of them."));
  Jsonb *scope = PG_GETARG_JSONB_P(kScope);
  bool whole_table;
  if (g != nullptr) return canonical_scope(*g, scope, &whole_table);
  if (!JB_ROOT_IS_OBJECT(scope) || JB_ROOT_COUNT(scope) != 0)
    ereport(ERROR, errcode(kBadOption), errmsg("a scope belongs to a table"),
            errdetail("relation is NULL, which means all tables."), errhint("Name the table, or leave the scope out."));
  return scope;
}

/// Who may change what holds for all tables.
void require_extension_owner() {
  PreventCommandIfReadOnly("set_alert_rule()");
  PreventCommandDuringRecovery("set_alert_rule()");
  if (has_privs_of_role(GetUserId(), pg::extension_owner())) return;
  ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
          errmsg("only the owner of the extension changes alert rules for all tables"),
          errdetail("The extension belongs to role \"%s\".", GetUserNameFromId(pg::extension_owner(), false)),
          errhint("Name a table of yours: set_alert_rule('schema.table', ...)."));
}

void store(Oid table, const core::AlertRuleInfo &info, Jsonb *scope, const FieldChange (&changes)[kFields]) {
  pg::Statement statement(
      "INSERT INTO sync_guard.alert_settings AS a"
      " (rule, relation, scope, enabled, raise_above, clear_below, time_window, min_sample)"
      " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (rule, relation, scope) DO UPDATE SET"
      " enabled = CASE WHEN $9 THEN NULL ELSE COALESCE(excluded.enabled, a.enabled) END,"
      " raise_above = CASE WHEN $10 THEN NULL ELSE COALESCE(excluded.raise_above, a.raise_above) END,"
      " clear_below = CASE WHEN $11 THEN NULL ELSE COALESCE(excluded.clear_below, a.clear_below) END,"
      " time_window = CASE WHEN $12 THEN NULL ELSE COALESCE(excluded.time_window, a.time_window) END,"
      " min_sample = CASE WHEN $13 THEN NULL ELSE COALESCE(excluded.min_sample, a.min_sample) END");
  statement.add_text(info.name).add(REGCLASSOID, ObjectIdGetDatum(table), !OidIsValid(table));
  statement.add(JSONBOID, JsonbPGetDatum(scope));
  for (int i = 0; i < kFields; ++i) statement.add(kFieldTypes[i], changes[i].value, !changes[i].given);
  for (const FieldChange &change : changes) statement.add(BOOLOID, BoolGetDatum(change.reset));
  (void)pg::spi_execute_as_guard(statement);
  (void)pg::spi_execute_as_guard(pg::Statement(
      "DELETE FROM sync_guard.alert_settings WHERE enabled IS NULL AND raise_above IS NULL AND clear_below IS NULL"
      " AND time_window IS NULL AND min_sample IS NULL"));
}

/// A clear_below above raise_above would let an alert clear the moment it is raised.
void require_order(const Guarded *g, const core::AlertRuleInfo &info, const Jsonb *scope) {
  const AlertRules rules = read_alert_rules(g);
  core::ScopePattern pattern;
  if (g != nullptr) (void)read_scope_pattern(*g, scope, &pattern);
  const core::AlertLimits limits = rules.of(info.rule, pattern);
  for (std::size_t i = 0; i < rules.count; ++i) {
    const core::AlertOverride &change = rules.items[i];
    if (change.rule != info.rule || change.of_table != (g != nullptr) || !change.clear_below ||
        !core::covers(change.scope, pattern) || !core::covers(pattern, change.scope))
      continue;
    if (*change.clear_below <= limits.raise_above) return;
    ereport(ERROR, errcode(kBadOption), errmsg("clear_below must not be above raise_above"),
            errdetail("Rule %s would be raised above %s and clear at %s.", info.name,
                      figure_text(info.unit, limits.raise_above), figure_text(info.unit, *change.clear_below)),
            errhint("Set both, or name clear_below in reset: it then follows raise_above."));
  }
}

// ---- the view ---------------------------------------------------------------------------------------------------------

void put_rule(pg::Rows &rows, Oid relation, Jsonb *scope, const core::AlertRuleInfo &info,
              const core::AlertLimits &limits, bool changed) {
  rows.add_text(info.name).add_text(info.severity).add_oid(relation).add_jsonb(scope).add_bool(limits.enabled);
  rows.add_text(figure_text(info.unit, limits.raise_above)).add_text(figure_text(info.unit, limits.clear_below));
  if (limits.time_window == 0) rows.add_null();
  else rows.add_span(limits.time_window);
  rows.add(Int32GetDatum(static_cast<int32>(limits.min_sample)), limits.min_sample == 0);
  rows.add_text(core::unit_name(info.unit)).add_bool(changed).add_text(info.meaning).put();
}

bool is_changed(const AlertRules &rules, core::AlertRule rule) {
  for (std::size_t i = 0; i < rules.count; ++i)
    if (rules.items[i].rule == rule) return true;
  return false;
}

}  // namespace

bool AlertRules::asks(core::AlertRule rule) const {
  if (of(rule).enabled) return true;
  for (std::size_t i = 0; i < count; ++i)
    if (items[i].rule == rule && items[i].enabled.value_or(false)) return true;
  return false;
}

AlertRules read_alert_rules(const Guarded *g) {
  pg::Statement query(kStored);
  query.add_oid(g == nullptr ? InvalidOid : g->table);
  const MemoryContext context = CurrentMemoryContext;
  AlertRules rules;
  rules.of_table = g != nullptr;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  const MemoryContext spi = MemoryContextSwitchTo(context);
  rules.items = static_cast<core::AlertOverride *>(palloc0(sizeof(core::AlertOverride) * (rows + 1)));
  rules.scopes = static_cast<Jsonb **>(palloc0(sizeof(Jsonb *) * (rows + 1)));
  for (uint64 i = 0; i < rows; ++i)
    if (read_override(g, i, &rules.items[rules.count], &rules.scopes[rules.count])) ++rules.count;
  MemoryContextSwitchTo(spi);
  pg::spi_end();
  pg::restore(before);
  return rules;
}

static Datum set_alert_rule(FunctionCallInfo fcinfo) {
  const Guarded *g = nullptr;
  if (PG_ARGISNULL(kRelation)) require_extension_owner();
  else g = &owned_table(fcinfo, "set_alert_rule()");
  const core::AlertRuleInfo &info = rule_argument(fcinfo);
  if (g != nullptr && !info.of_tables)
    ereport(ERROR, errcode(kBadOption), errmsg("rule %s is about no table", info.name),
            errdetail("It looks at the server: %s.", info.meaning),
            errhint("SELECT sync_guard.set_alert_rule(NULL, %s, ...);", quote_literal_cstr(info.name)));
  Jsonb *scope = scope_argument(fcinfo, g);
  FieldChange changes[kFields];
  take_changes(fcinfo, info, changes);
  const int level = limit_row_locks(kDefaultPatience);
  store(g == nullptr ? InvalidOid : g->table, info, scope, changes);
  AtEOXact_GUC(false, level);
  require_order(g, info, scope);
  PG_RETURN_VOID();
}

static Datum effective_alert_rules(FunctionCallInfo fcinfo) {
  pg::Rows rows(fcinfo);
  const AlertRules all = read_alert_rules(nullptr);
  for (int i = 0; i < core::kAlertRuleCount; ++i) {
    const core::AlertRuleInfo &info = core::alert_rule_at(i);
    put_rule(rows, InvalidOid, nullptr, info, all.of(info.rule), is_changed(all, info.rule));
  }
  ListCell *cell;
  foreach (cell, readable_tables(InvalidOid, false)) {
    const auto *g = static_cast<const Guarded *>(lfirst(cell));
    const AlertRules rules = read_alert_rules(g);
    for (std::size_t i = 0; i < rules.count; ++i) {
      const core::AlertOverride &change = rules.items[i];
      if (change.of_table)
        put_rule(rows, g->table, rules.scopes[i], core::alert_rule(change.rule), rules.of(change.rule, change.scope),
                 true);
    }
  }
  return 0;
}

}  // namespace esg
