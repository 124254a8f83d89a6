// Whether everything chosen fits the table and itself. Runs in the caller's process at adoption; what asks the table's
// own types and CHECKs runs as its owner. Each thing that does not fit is an ERROR SY006 that says what would. See
// adopt.h.

#include "adopt.h"
#include "adopt_checks.h"

#include "errors.h"
#include "pg/identity.h"

namespace esg::adopt {
namespace {

/// load_overlaps has room for so many.
constexpr int kMaxOverlaps = 64;

constexpr Option kColumns[] = {kKeyColumn,   kStatusColumn,   kStartColumn,   kEndColumn,  kDurationColumn,
                               kErrorColumn, kActivityColumn, kUpdatedColumn, kDoneColumn, kTotalColumn};

List *columns_of(Relation relation) {
  List *names = NIL;
  const TupleDesc desc = RelationGetDescr(relation);
  for (int i = 0; i < desc->natts; ++i)
    if (!TupleDescAttr(desc, i)->attisdropped)
      names = lappend(names, pstrdup(NameStr(TupleDescAttr(desc, i)->attname)));
  return names;
}

void check_column(const Subject &subject, const Choice &choice, Option option, const char *name) {
  const Column column = find_column(subject.relation, name);
  if (!column.exists())
    bad_option(option, psprintf("table %s has no column \"%s\"", subject.name, name),
               choice.named[option] ? psprintf("Its columns are %s.", join(columns_of(subject.relation), "none"))
                                    : "An earlier call named it: name another one, or name the option in reset.");
  if (!suits(option, column))
    bad_option(option,
               psprintf("column \"%s\" is %s%s", name, column.generated ? "generated, of type " : "of type ",
                        format_type_be(column.declared_type)),
               psprintf("It must be %s.", type_wanted(option)));
}

/// One column has one role, except that a heartbeat may be the column that every change of the row sets.
void check_roles(const Choice &choice) {
  for (const Option one : kColumns)
    for (const Option other : kColumns) {
      if (other <= one || (one == kActivityColumn && other == kUpdatedColumn)) continue;
      const char *a = choice.column(one);
      const char *b = choice.column(other);
      if (a != nullptr && b != nullptr && strcmp(a, b) == 0)
        bad_option(choice.named[one] ? one : other,
                   psprintf("column \"%s\" is both %s and %s", a, spec_of(one).name, spec_of(other).name),
                   "Name two columns, or give an empty string for the role that the table has no column for.");
    }
}

void check_distinct(Option option, const List *names) {
  for (int i = 0; i < list_length(names); ++i)
    for (int j = 0; j < i; ++j)
      if (strcmp(static_cast<char *>(list_nth(names, i)), static_cast<char *>(list_nth(names, j))) == 0)
        bad_option(option, psprintf("\"%s\" is named twice", static_cast<char *>(list_nth(names, i))), "Name it once.");
}

/// One run at a time: 'a' and 'A' are two scopes to locks and to memory, which go by the bytes.
void check_collation(const Subject &subject, const Choice &choice, const char *name) {
  if (!DatumGetBool(choice.value[kExclusive])) return;
  const FormData_pg_attribute *attribute =
      TupleDescAttr(RelationGetDescr(subject.relation), find_column(subject.relation, name).attno - 1);
  if (!OidIsValid(attribute->attcollation) || get_collation_isdeterministic(attribute->attcollation)) return;
  ereport(ERROR, errcode(kBadOption), errmsg("scope_columns: column \"%s\" cannot be part of an exclusive scope", name),
          errdetail("Its collation \"%s\" is not deterministic: different texts are equal to it, but not to the guard.",
                    get_collation_name(attribute->attcollation)),
          errhint("Change it: ALTER TABLE %s ALTER %s TYPE %s COLLATE \"default\"; or leave the column out of "
                  "scope_columns, or pass exclusive => false.",
                  subject.name, quote_identifier(name),
                  format_type_with_typemod(attribute->atttypid, attribute->atttypmod)));
}

void check_scope(const Subject &subject, const Choice &choice) {
  const List *scope = choice.strings(kScopeColumns);
  if (list_length(scope) > core::kMaxScopeColumns)
    bad_option(kScopeColumns, psprintf("%d columns are too many", list_length(scope)),
               psprintf("At most %d columns make a scope.", core::kMaxScopeColumns));
  check_distinct(kScopeColumns, scope);
  ListCell *cell;
  foreach (cell, scope) {
    auto *name = static_cast<char *>(lfirst(cell));
    check_column(subject, choice, kScopeColumns, name);
    check_collation(subject, choice, name);
    for (const Option role : {kKeyColumn, kStatusColumn}) {
      const char *other = choice.column(role);
      if (other != nullptr && strcmp(other, name) == 0)
        bad_option(kScopeColumns, psprintf("column \"%s\" is the %s", name, spec_of(role).name),
                   "A scope is what several runs have in common, whatever their status.");
    }
  }
}

/// {"column": {"value": ["atom", …], …}, …}
void check_overlaps(const Choice &choice) {
  const char *shape =
      "Give an object like {\"account_type\": {\"both\": [\"main\", \"fbe\"]}}: in this scope column, this "
      "value stands for those.";
  const List *scope = choice.strings(kScopeColumns);
  JsonbIterator *it = JsonbIteratorInit(&DatumGetJsonbP(choice.value[kScopeOverlaps])->root);
  JsonbValue value;
  int depth = 0;
  int lines = 0;
  bool in_list = false;
  List *wholes = NIL;  // of the column that is being read
  List *atoms = NIL;
  for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, false); token != WJB_DONE;
       token = JsonbIteratorNext(&it, &value, false)) {
    switch (token) {
      case WJB_BEGIN_OBJECT:
        if (++depth > 2) bad_option(kScopeOverlaps, "it is nested too deeply", shape);
        if (depth == 2) wholes = atoms = NIL;
        break;
      case WJB_END_OBJECT:
        for (int i = 0; depth == 2 && i < list_length(atoms); ++i)
          if (contains(wholes, static_cast<char *>(list_nth(atoms, i))))
            bad_option(
                kScopeOverlaps,
                psprintf("\"%s\" both stands for others and is stood for", static_cast<char *>(list_nth(atoms, i))),
                "Write out what each value stands for.");
        --depth;
        break;
      case WJB_KEY: {
        char *key = pnstrdup(value.val.string.val, value.val.string.len);
        if (depth == 1 && !contains(scope, key))
          bad_option(kScopeOverlaps, psprintf("\"%s\" is no scope column", key),
                     psprintf("The scope columns are: %s.", join(scope, "none")));
        if (depth == 2 && ++lines > kMaxOverlaps)
          bad_option(kScopeOverlaps, psprintf("more than %d values are too many", kMaxOverlaps), "Leave some out.");
        if (depth == 2) wholes = lappend(wholes, key);
        break;
      }
      case WJB_BEGIN_ARRAY:
        if (depth != 2 || in_list || value.val.array.rawScalar || value.val.array.nElems == 0)
          bad_option(kScopeOverlaps, "it is not an object of objects of lists", shape);
        in_list = true;
        break;
      case WJB_END_ARRAY: in_list = false; break;
      case WJB_ELEM:
        if (value.type != jbvString) bad_option(kScopeOverlaps, "a list holds something other than texts", shape);
        atoms = lappend(atoms, pnstrdup(value.val.string.val, value.val.string.len));
        break;
      case WJB_VALUE: bad_option(kScopeOverlaps, "it is not an object of objects of lists", shape);
      default: break;
    }
  }
}

/// Whether the table can hold a status; an ERROR where it cannot.
void check_status(const Subject &subject, const Column &column, Option option, const char *status) {
  Refusal refusal;
  if (status_possible(subject.relation, column, status, &refusal)) return;
  const char *problem =
      refusal.constraint != nullptr
          ? psprintf("table %s cannot hold the status \"%s\": constraint \"%s\" refuses it, %s", subject.name, status,
                     refusal.constraint, refusal.message)
          : psprintf("column \"%s\" cannot hold the status \"%s\": %s", column.name, status, refusal.message);
  bad_option(option, problem, "Name a status that the table accepts.");
}

/// What closes dead runs must not be forbidden by a rule that was set for other statuses.
void check_rules(const Subject &subject, const Choice &choice) {
  const Guarded *g = choice.adopted ? guarded(subject.table) : nullptr;
  const char *failed = choice.string(kFailedStatus);
  for (int i = 0; g != nullptr && i < g->rule_count; ++i) {
    const TransitionRule &rule = g->rules[i];
    if (rule.allowed || strcmp(rule.to, failed) != 0 || !contains(choice.strings(kLiveStatuses), rule.from)) continue;
    bad_option(
        choice.named[kFailedStatus] ? kFailedStatus : kLiveStatuses,
        psprintf("a rule forbids the transition from \"%s\" to \"%s\", which closes dead runs", rule.from, rule.to),
        psprintf("Take the rule back: SELECT sync_guard.allow_transition(%s, %s, %s, NULL);",
                 quote_literal_cstr(subject.name), quote_literal_cstr(rule.from), quote_literal_cstr(rule.to)));
  }
}

void check_statuses(const Subject &subject, const Choice &choice) {
  const Column column = find_column(subject.relation, choice.column(kStatusColumn));
  const List *live = choice.strings(kLiveStatuses);
  const char *failed = choice.string(kFailedStatus);
  check_distinct(kLiveStatuses, live);
  if (contains(live, failed))
    bad_option(choice.named[kFailedStatus] ? kFailedStatus : kLiveStatuses,
               psprintf("\"%s\" is both a live status and the failed one", failed), "A run that failed has ended.");
  ListCell *cell;
  foreach (cell, choice.strings(kExclusiveStatuses))
    if (!contains(live, static_cast<char *>(lfirst(cell))))
      bad_option(kExclusiveStatuses, psprintf("\"%s\" is no live status", static_cast<char *>(lfirst(cell))),
                 psprintf("The live statuses are %s.", join(live, "none")));
  check_distinct(kExclusiveStatuses, choice.strings(kExclusiveStatuses));
  check_rules(subject, choice);
  const pg::Identity identity = look_as(subject.owner);
  foreach (cell, live) check_status(subject, column, kLiveStatuses, static_cast<char *>(lfirst(cell)));
  check_status(subject, column, kFailedStatus, failed);
  pg::restore(identity);
}

void check_words(const Choice &choice, Option option, const char *const *words, int count) {
  const char *word = choice.string(option);
  StringInfoData possible;
  initStringInfo(&possible);
  for (int i = 0; i < count; ++i) {
    if (strcmp(word, words[i]) == 0) return;
    appendStringInfo(&possible, "%s%s", i == 0 ? "" : i == count - 1 ? " or " : ", ", words[i]);
  }
  bad_option(option, psprintf("\"%s\" is not known", word), psprintf("It is %s.", possible.data));
}

void check_zone(const Choice &choice) {
  const char *name = choice.string(kTimeZone);
  pg_tz *zone = pg_tzset(name);
  if (zone == nullptr || !pg_tz_acceptable(zone))
    bad_option(kTimeZone, psprintf("time zone \"%s\" is not known", name),
               "Name one of pg_timezone_names, for example Europe/Bucharest.");
}

void check_span(const Choice &choice, Option option) {
  if (choice.null[option]) return;
  const Interval *span = DatumGetIntervalP(choice.value[option]);
  const char *problem = span_problem(span);
  if (problem != nullptr) bad_option(option, problem, "Give a positive time, or name the option in reset.");
}

}  // namespace

const char *span_problem(const Interval *span) {
  if (pg::interval_is_infinite_compat(span)) return "it is infinite";
  const core::Micros micros = micros_of(span);
  if (micros < 0) return "it is negative";
  if (micros == 0) return "it is zero";
  return micros == PG_INT64_MAX ? "it is too long" : nullptr;
}

void check_columns(const Subject &subject, const Choice &choice) {
  for (const Option option : kColumns) {
    const char *name = choice.column(option);
    if (name != nullptr) check_column(subject, choice, option, name);
  }
}

void check_choice(const Subject &subject, const Choice &choice) {
  check_columns(subject, choice);
  check_roles(choice);
  check_key(subject, choice);
  check_statuses(subject, choice);
  check_scope(subject, choice);
  check_overlaps(choice);
  check_distinct(kSummaryColumns, choice.strings(kSummaryColumns));
  ListCell *cell;
  if (choice.named[kSummaryColumns])
    foreach (cell, choice.strings(kSummaryColumns))
      check_column(subject, choice, kSummaryColumns, static_cast<char *>(lfirst(cell)));
  check_zone(choice);
  for (const Option option : {kMaxSilence, kMaxAge, kMaxStall}) check_span(choice, option);
  constexpr const char *kTransitionWords[] = {"enforce", "warn"};
  constexpr const char *kLateFinishWords[] = {"keep", "accept", "reject"};
  constexpr const char *kModeWords[] = {"guard", "observe"};
  check_words(choice, kTransitions, kTransitionWords, lengthof(kTransitionWords));
  check_words(choice, kLateFinish, kLateFinishWords, lengthof(kLateFinishWords));
  check_words(choice, kMode, kModeWords, lengthof(kModeWords));
}

}  // namespace esg::adopt
