// Which tables can be guarded, and which of their columns play which role. Runs in the caller's process at adoption;
// reads catalogs alone. See adopt.h; the words are in core/habits.h.

#include "core/habits.h"

#include "adopt.h"

#include "errors.h"

namespace esg::adopt {
namespace {

void refuse(Relation relation, const char *why, const char *hint) {
  ereport(ERROR, errcode(ERRCODE_WRONG_OBJECT_TYPE),
          errmsg("cannot guard \"%s\": it is %s", RelationGetRelationName(relation), why), errhint("%s", hint));
}

const char *kind_in_words(char relkind) {
  switch (relkind) {
    case RELKIND_VIEW: return "a view";
    case RELKIND_MATVIEW: return "a materialized view";
    case RELKIND_FOREIGN_TABLE: return "a foreign table";
    case RELKIND_INDEX:
    case RELKIND_PARTITIONED_INDEX: return "an index";
    case RELKIND_SEQUENCE: return "a sequence";
    case RELKIND_COMPOSITE_TYPE: return "a composite type";
    default: return "not a table";
  }
}

void refuse_relatives(Relation relation) {
  const Oid table = RelationGetRelid(relation);
  if (relation->rd_rel->relispartition) {
    const Oid root = llast_oid(get_partition_ancestors(table));
    refuse(relation, "a partition",
           psprintf("Guard the whole of it: %s.",
                    quote_qualified_identifier(get_namespace_name(get_rel_namespace(root)), get_rel_name(root))));
  }
  const bool partitioned = relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
  if (!partitioned && (has_superclass(table) || find_inheritance_children(table, NoLock) != NIL))
    refuse(relation, "part of an inheritance tree", "The guard looks after ordinary and partitioned tables.");
  if (!partitioned) return;
  ListCell *cell;
  foreach (cell, find_all_inheritors(table, AccessShareLock, nullptr)) {
    if (get_rel_relkind(lfirst_oid(cell)) == RELKIND_FOREIGN_TABLE)
      refuse(relation,
             psprintf("partitioned, and its partition \"%s\" is a foreign table", get_rel_name(lfirst_oid(cell))),
             "Rows that another server keeps cannot be locked here.");
    // What he put on it would run as the table's owner.
    if (!pg::owns_relation_compat(lfirst_oid(cell), relation->rd_rel->relowner))
      refuse(relation,
             psprintf("partitioned, and its partition \"%s\" belongs to another role", get_rel_name(lfirst_oid(cell))),
             psprintf("Give it to the table's owner: ALTER TABLE %s OWNER TO %s;",
                      quote_qualified_identifier(get_namespace_name(get_rel_namespace(lfirst_oid(cell))),
                                                 get_rel_name(lfirst_oid(cell))),
                      quote_identifier(GetUserNameFromId(relation->rd_rel->relowner, false))));
  }
}

void refuse_rules(Relation relation) {
  const RuleLock *rules = relation->rd_rules;
  for (int i = 0; rules != nullptr && i < rules->numLocks; ++i)
    if (rules->rules[i]->event != CMD_SELECT)
      refuse(relation, "a table with rules on its writes",
             "Rules rewrite what the guard writes; use triggers instead.");
}

bool is_time(const Column &column) { return column.type == TIMESTAMPOID || column.type == TIMESTAMPTZOID; }
bool is_integer(const Column &column) {
  return column.type == INT2OID || column.type == INT4OID || column.type == INT8OID;
}
bool is_text(const Column &column) {
  return column.type == TEXTOID || column.type == VARCHAROID || column.type == BPCHAROID;
}

/// Calls `visit` for each column, in the table's order, until it returns true.
template <typename Visit>
void each_column(Relation relation, const Visit &visit) {
  const TupleDesc desc = RelationGetDescr(relation);
  for (int i = 0; i < desc->natts; ++i) {
    const FormData_pg_attribute *attribute = TupleDescAttr(desc, i);
    if (!attribute->attisdropped && visit(find_column(relation, NameStr(attribute->attname)))) return;
  }
}

constexpr Option kRoles[] = {kKeyColumn,   kStatusColumn,   kStartColumn,   kEndColumn,  kDurationColumn,
                             kErrorColumn, kActivityColumn, kUpdatedColumn, kDoneColumn, kTotalColumn};

bool taken(const Choice &choice, const char *name) {
  for (const Option role : kRoles) {
    const char *column = choice.column(role);
    if (column != nullptr && strcmp(column, name) == 0) return true;
  }
  return false;
}

bool free_and_suits(const Choice &choice, Option role, const Column &column) {
  return suits(role, column) && !taken(choice, column.name);
}

/// A time kept as text: taking another column instead would hide the mistake.
void refuse_text_time(Option role, const Column &column) {
  if (!is_text(column)) return;
  ereport(ERROR, errcode(kBadOption),
          errmsg("column \"%s\" is of type %s, not a timestamp", column.name, format_type_be(column.declared_type)),
          errdetail("By its name it is the %s of a run.", role == kStartColumn ? "start" : "end"),
          errhint("Change its type to timestamp with time zone, or name another column with %s; an empty string says "
                  "that the table has none.",
                  spec_of(role).name));
}

/// The first column that bears one of the words as its name; null: none.
const char *find_by_name(const Subject &subject, const Choice &choice, Option role, core::Words words) {
  const char *found = nullptr;
  const bool time = role == kStartColumn || role == kEndColumn;
  for (const std::string_view word : words) {
    each_column(subject.relation, [&](const Column &column) {
      if (!core::same_word(column.name, word)) return false;
      if (free_and_suits(choice, role, column)) found = column.name;
      else if (time) refuse_text_time(role, column);
      return found != nullptr;
    });
    if (found != nullptr) break;
  }
  return found;
}

/// Columns whose names end in one of the words, of the first word for which there are any.
List *find_by_ending(const Subject &subject, const Choice &choice, Option role, core::Words words) {
  List *found = NIL;
  for (const std::string_view word : words) {
    each_column(subject.relation, [&](const Column &column) {
      if (core::ends_in_word(column.name, word) && free_and_suits(choice, role, column))
        found = lappend(found, const_cast<char *>(column.name));
      return false;
    });
    if (found != NIL) break;
  }
  return found;
}

/// The column of a role by habit: named by a word, or the only one that ends in one. Several of those are an ERROR.
const char *find_by_habit(const Subject &subject, const Choice &choice, Option role, const char *what,
                          core::Words words) {
  const char *found = find_by_name(subject, choice, role, words);
  if (found != nullptr) return found;
  const List *several = find_by_ending(subject, choice, role, words);
  if (list_length(several) > 1) ambiguous(subject, what, role, several);
  return several == NIL ? nullptr : static_cast<const char *>(linitial(several));
}

List *columns_that_suit(const Subject &subject, const Choice &choice, Option role) {
  List *names = NIL;
  each_column(subject.relation, [&](const Column &column) {
    if (free_and_suits(choice, role, column)) names = lappend(names, const_cast<char *>(column.name));
    return false;
  });
  return names;
}

/// A counter made of a verb and what it counts: orders_fetched, fetched_orders. The first verb, then the first column.
const char *find_counter(const Subject &subject, const Choice &choice) {
  const char *found = nullptr;
  for (const std::string_view verb : core::done_verbs()) {
    each_column(subject.relation, [&](const Column &column) {
      const bool counts = core::begins_with_word(column.name, verb) || core::ends_in_word(column.name, verb);
      if (counts && free_and_suits(choice, kDoneColumn, column)) found = column.name;
      return found != nullptr;
    });
    if (found != nullptr) break;
  }
  return found;
}

/// Whether `done` counts what `total` is the total of: orders_fetched and total_orders.
bool same_count(const char *done, const char *total) {
  if (!core::begins_with_word(total, "total")) return false;
  const char *counted = total + strlen("total");
  for (const std::string_view verb : core::done_verbs()) {
    const char *word = pnstrdup(verb.data(), static_cast<Size>(verb.size()));
    if (core::same_word(done, psprintf("%s_%s", counted, word)) ||
        core::same_word(done, psprintf("%s_%s", word, counted)))
      return true;
  }
  return false;
}

const char *find_total(const Subject &subject, const Choice &choice) {
  const char *found = find_by_name(subject, choice, kTotalColumn, core::total_names());
  const char *done = choice.column(kDoneColumn);
  if (found != nullptr || done == nullptr) return found;
  each_column(subject.relation, [&](const Column &column) {
    if (same_count(done, column.name) && free_and_suits(choice, kTotalColumn, column)) found = column.name;
    return found != nullptr;
  });
  return found;
}

/// No column can be the status. Naming one would not help: what is called a status is of the wrong type.
void refuse_status(const Subject &subject, const char *what) {
  const char *detail = nullptr;
  for (const std::string_view word : core::status_names())
    each_column(subject.relation, [&](const Column &column) {
      if (detail != nullptr || !core::same_word(column.name, word)) return false;
      detail =
          psprintf("Column \"%s\" is %s%s.", column.name, column.generated ? "generated, and of type " : "of type ",
                   format_type_be(column.declared_type));
      return true;
    });
  ereport(ERROR, errcode(kAmbiguous), errmsg("cannot tell %s in table %s", what, subject.name),
          errdetail("%s", detail != nullptr ? detail : "No column is of a type that can hold one."),
          errhint("A status must be %s.", type_wanted(kStatusColumn)));
}

void find_status(const Subject &subject, Choice *choice) {
  const char *what = "which column is a run's status";
  const char *found = find_by_habit(subject, *choice, kStatusColumn, what, core::status_names());
  const List *candidates = found == nullptr ? columns_that_suit(subject, *choice, kStatusColumn) : NIL;
  if (found == nullptr && candidates == NIL) refuse_status(subject, what);
  if (found == nullptr) ambiguous(subject, what, kStatusColumn, candidates);
  choice->set_column(kStatusColumn, found);
}

void find_start(const Subject &subject, Choice *choice) {
  const char *what = "which column is the start of a run";
  const char *found = find_by_habit(subject, *choice, kStartColumn, what, core::start_names());
  if (found == nullptr) ambiguous(subject, what, kStartColumn, columns_that_suit(subject, *choice, kStartColumn));
  choice->set_column(kStartColumn, found);
}

}  // namespace

void require_guardable(Relation relation) {
  const Form_pg_class form = relation->rd_rel;
  if (form->relkind != RELKIND_RELATION && form->relkind != RELKIND_PARTITIONED_TABLE)
    refuse(relation, kind_in_words(form->relkind), "The guard looks after ordinary and partitioned tables.");
  if (form->relpersistence == RELPERSISTENCE_TEMP)
    refuse(relation, "a temporary table", "Other sessions, the reaping ones among them, cannot see it.");
  const char *schema = get_namespace_name(form->relnamespace);
  if (IsSystemRelation(relation) || strcmp(schema, "information_schema") == 0)
    refuse(relation, "a system catalog", "The guard looks after tables of applications.");
  if (strcmp(schema, "sync_guard") == 0)
    refuse(relation, "a table of the guard itself", "The guard looks after tables of applications.");
  refuse_relatives(relation);
  refuse_rules(relation);
}

bool suits(Option role, const Column &column) {
  if (!column.exists()) return false;
  DurationUnit unit;
  ErrorFormat format;
  switch (role) {
    case kKeyColumn: return is_text(column) || is_integer(column) || column.type == UUIDOID;
    case kStatusColumn: return (is_text(column) || type_is_enum(column.type)) && !column.generated;
    case kDurationColumn: return duration_unit_of(column, &unit);
    case kErrorColumn: return error_format_of(column, &format);
    case kDoneColumn:
    case kTotalColumn: return is_integer(column);
    case kScopeColumns:
      return is_text(column) || is_integer(column) || column.type == UUIDOID || column.type == BOOLOID ||
             type_is_enum(column.type);
    case kSummaryColumns: return true;
    default: return is_time(column);
  }
}

const char *type_wanted(Option role) {
  switch (role) {
    case kKeyColumn: return "uuid, an integer or a text";
    case kStatusColumn: return "a text or an enum that is not generated";
    case kDurationColumn: return "a number or an interval";
    case kErrorColumn: return "text, json or jsonb";
    case kDoneColumn:
    case kTotalColumn: return "an integer";
    case kScopeColumns: return "a text, an integer, an enum, uuid or boolean";
    default: return "timestamp or timestamp with time zone";
  }
}

void ambiguous(const Subject &subject, const char *what, Option option, const List *candidates) {
  // With nothing to choose from, an example shows what is asked for.
  const char *example = option == kLiveStatuses && candidates == NIL ? "'{running}'" : "...";
  ereport(ERROR, errcode(kAmbiguous), errmsg("cannot tell %s in table %s", what, subject.name),
          errdetail("Candidates: %s.", join(candidates, "none")),
          errhint("Say it: SELECT sync_guard.guard_table(%s, %s => %s);%s", quote_literal_cstr(subject.name),
                  spec_of(option).name, example,
                  spec_of(option).required ? "" : " An empty string says that the table has none."));
  pg_unreachable();
}

void find_columns(const Subject &subject, Choice *choice) {
  if (choice->open[kStatusColumn]) find_status(subject, choice);
  if (choice->open[kKeyColumn]) find_key(subject, choice);
  if (choice->open[kStartColumn]) find_start(subject, choice);
  const struct {
    Option role;
    const char *what;
    core::Words words;
  } plain[] = {{kEndColumn, "which column is the end of a run", core::end_names()},
               {kDurationColumn, "which column is a run's duration", core::duration_names()},
               {kErrorColumn, "which column is a run's errors", core::error_names()},
               {kActivityColumn, "which column is a run's last heartbeat", core::activity_names()},
               {kUpdatedColumn, "which column is the time of the last change", core::updated_names()}};
  for (const auto &role : plain)
    if (choice->open[role.role])
      choice->set_column(role.role, find_by_habit(subject, *choice, role.role, role.what, role.words));
  if (choice->open[kDoneColumn]) {
    const char *found = find_by_name(subject, *choice, kDoneColumn, core::done_names());
    choice->set_column(kDoneColumn, found != nullptr ? found : find_counter(subject, *choice));
  }
  if (choice->open[kTotalColumn]) choice->set_column(kTotalColumn, find_total(subject, *choice));
}

}  // namespace esg::adopt
