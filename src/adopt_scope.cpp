// Which columns runs belong together by, and which ones recent_syncs shows. Runs in the caller's process at adoption;
// reads catalogs alone. See adopt.h; the words are in core/habits.h.

#include "core/habits.h"

#include "adopt.h"

namespace esg::adopt {
namespace {

bool unique_alone(const Subject &subject, AttrNumber attno) {
  bool unique = false;
  ListCell *cell;
  foreach (cell, RelationGetIndexList(subject.relation)) {
    Relation index = index_open(lfirst_oid(cell), AccessShareLock);
    unique = unique || (index->rd_index->indisunique && index->rd_index->indnkeyatts == 1 &&
                        index->rd_index->indkey.values[0] == attno && RelationGetIndexPredicate(index) == NIL);
    index_close(index, AccessShareLock);
  }
  return unique;
}

/// The first column named by a word; null: none.
template <typename Fits>
const char *first_named(const Subject &subject, core::Words words, const Fits &fits) {
  const TupleDesc desc = RelationGetDescr(subject.relation);
  for (const std::string_view word : words)
    for (int i = 0; i < desc->natts; ++i) {
      const FormData_pg_attribute *attribute = TupleDescAttr(desc, i);
      if (attribute->attisdropped || !core::same_word(NameStr(attribute->attname), word)) continue;
      const Column column = find_column(subject.relation, NameStr(attribute->attname));
      if (fits(column)) return column.name;
    }
  return nullptr;
}

bool has_role(const Choice &choice, const char *name) {
  for (const Option role : {kKeyColumn, kStatusColumn, kErrorColumn, kDurationColumn, kDoneColumn, kTotalColumn}) {
    const char *column = choice.column(role);
    if (column != nullptr && strcmp(column, name) == 0) return true;
  }
  return false;
}

/// The first integer column that counts `what`: created_items, items_created.
const char *counter(const Subject &subject, const char *what) {
  const TupleDesc desc = RelationGetDescr(subject.relation);
  for (int i = 0; i < desc->natts; ++i) {
    const FormData_pg_attribute *attribute = TupleDescAttr(desc, i);
    const char *name = NameStr(attribute->attname);
    if (attribute->attisdropped || !(core::begins_with_word(name, what) || core::ends_in_word(name, what))) continue;
    const Column column = find_column(subject.relation, name);
    if (suits(kDoneColumn, column)) return column.name;
  }
  return nullptr;
}

List *append_new(List *names, const char *name) {
  return name == nullptr || contains(names, name) ? names : lappend(names, pstrdup(name));
}

}  // namespace

void find_scope(const Subject &subject, Choice *choice) {
  if (!choice->open[kScopeColumns]) return;
  const auto fits = [&subject, choice](const Column &column) {
    return suits(kScopeColumns, column) && !has_role(*choice, column.name) && !unique_alone(subject, column.attno);
  };
  List *scope = append_new(NIL, first_named(subject, core::scope_kind_names(), fits));
  scope = append_new(scope, first_named(subject, core::scope_party_names(), fits));
  choice->set_strings(kScopeColumns, scope);
}

void find_summary(const Subject &subject, Choice *choice) {
  if (!choice->open[kSummaryColumns]) return;
  List *names = append_new(NIL, choice->column(kKeyColumn));
  const List *scope = choice->strings(kScopeColumns);
  // The first of several scope columns is what sync_status() is asked for: the reader knows it.
  for (int i = list_length(scope) > 1 ? 1 : 0; i < list_length(scope); ++i)
    names = append_new(names, static_cast<char *>(list_nth(scope, i)));
  names = append_new(names, first_named(subject, core::operation_names(), [choice, scope](const Column &column) {
                       return suits(kScopeColumns, column) && !has_role(*choice, column.name) &&
                              !contains(scope, column.name);
                     }));
  for (const Option role : {kStatusColumn, kStartColumn, kEndColumn, kDurationColumn, kTotalColumn})
    names = append_new(names, choice->column(role));
  for (const char *what : {"created", "updated", "failed"}) names = append_new(names, counter(subject, what));
  choice->set_strings(kSummaryColumns, names);
}

}  // namespace esg::adopt
