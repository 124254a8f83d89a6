// Which statuses mean that a run is live, which one that it failed, and which others that it has ended. Runs in the
// caller's process at adoption, reading catalogs and a bounded number of rows as the table's owner. See adopt.h; the words
// are in core/habits.h.
//
// Where the possible statuses are a closed set (enum, CHECK, domain), those of them that are usual words count. Where
// they are open, the column's default and the rows say which words are in use; a column of which only a waiting word is
// known (DEFAULT 'pending') will have a working one too, `running`, and one that shows no failure yet has `failed`.
//
// What is not live is an end, unless something tells otherwise: a word, the column's default, a row without an end time. An
// end taken for none costs little (nothing is filled, nothing kept); the other way round the guard would refuse the
// application its own life cycle.

#include "core/habits.h"
#include "core/statuses.h"

#include "adopt.h"
#include "adopt_checks.h"

#include "errors.h"
#include "pg/identity.h"
#include "pg/spi.h"

namespace esg::adopt {
namespace {

/// Statuses looked at.
constexpr int kMaxStatuses = 64;

/// A status that no application uses: if it is refused, the set is closed.
constexpr const char *kNonsense = "~";

struct Known {
  List *statuses = NIL;              ///< C strings
  bool closed = false;               ///< there can be no others
  const char *by_default = nullptr;  ///< the column's default
};

void note(const Subject &subject, const Column &column, Known *known, char *status) {
  if (column.type == BPCHAROID)
    for (char *end = status + strlen(status); end > status && end[-1] == ' '; --end) end[-1] = '\0';
  Refusal refusal;
  if (status[0] == '\0' || contains(known->statuses, status) || list_length(known->statuses) >= kMaxStatuses) return;
  if (status_possible(subject.relation, column, status, &refusal)) known->statuses = lappend(known->statuses, status);
}

void note_enum(const Subject &subject, const Column &column, Known *known) {
  CatCList *labels = SearchSysCacheList1(ENUMTYPOIDNAME, ObjectIdGetDatum(column.type));
  for (int i = 0; i < labels->n_members; ++i) {
    const auto *form = reinterpret_cast<Form_pg_enum>(GETSTRUCT(&labels->members[i]->tuple));
    note(subject, column, known, pstrdup(NameStr(form->enumlabel)));
  }
  ReleaseCatCacheList(labels);
  known->closed = true;
}

void note_checks(const Subject &subject, const Column &column, Known *known) {
  ListCell *cell;
  foreach (cell, mentioned_in_checks(subject.relation, column))
    note(subject, column, known, static_cast<char *>(lfirst(cell)));
  Refusal refusal;
  known->closed = known->statuses != NIL && !status_possible(subject.relation, column, kNonsense, &refusal);
}

/// The column's default, where it is a constant.
void note_default(const Subject &subject, const Column &column, Known *known) {
  const Node *expression = nullptr;
  const TupleConstr *constraints = RelationGetDescr(subject.relation)->constr;
  for (int i = 0; constraints != nullptr && i < constraints->num_defval; ++i)
    if (constraints->defval[i].adnum == column.attno)
      expression = static_cast<Node *>(stringToNode(constraints->defval[i].adbin));
  if (expression == nullptr) expression = get_typdefault(column.declared_type);
  if (expression == nullptr) return;
  const Node *value = eval_const_expressions(nullptr, const_cast<Node *>(expression));
  if (!IsA(value, Const) || reinterpret_cast<const Const *>(value)->constisnull) return;
  Oid output;
  bool varlena;
  getTypeOutputInfo(reinterpret_cast<const Const *>(value)->consttype, &output, &varlena);
  char *status = OidOutputFunctionCall(output, reinterpret_cast<const Const *>(value)->constvalue);
  note(subject, column, known, status);
  known->by_default = status;
}

char *sample_query(const Subject &subject, const Choice &choice, const Column &column) {
  const char *from = psprintf("%s%s AS t", subject.partitioned ? "" : "ONLY ", subject.name);
  const char *status = psprintf("t.%s", quote_identifier(column.name));
  if (index_begins_with(subject.relation, column.attno))
    return psprintf(
        "WITH RECURSIVE w (status) AS ((SELECT %s FROM %s WHERE %s IS NOT NULL ORDER BY %s LIMIT 1) UNION ALL"
        " SELECT (SELECT %s FROM %s WHERE %s OPERATOR(pg_catalog.>) w.status ORDER BY %s LIMIT 1) FROM w"
        " WHERE w.status IS NOT NULL) SELECT w.status::pg_catalog.text FROM w WHERE w.status IS NOT NULL LIMIT %d",
        status, from, status, status, status, from, status, status, kMaxStatuses);
  return psprintf(
      "SELECT DISTINCT s.status::pg_catalog.text FROM (SELECT %s AS status FROM %s %s) AS s"
      " WHERE s.status IS NOT NULL LIMIT %d",
      status, from, newest_rows_sql(subject.relation, choice.column(kStartColumn), false), kMaxStatuses);
}

/// The statuses of rows, looked at as far as sample_query does without an index, that have no end time.
char *unended_query(const Subject &subject, const Choice &choice, const Column &column) {
  return psprintf(
      "SELECT DISTINCT s.status::pg_catalog.text FROM (SELECT t.%s AS status, t.%s AS ended FROM %s%s AS t %s) AS s"
      " WHERE s.status IS NOT NULL AND s.ended IS NULL LIMIT %d",
      quote_identifier(column.name), quote_identifier(choice.column(kEndColumn)), subject.partitioned ? "" : "ONLY ",
      subject.name, newest_rows_sql(subject.relation, choice.column(kStartColumn), false), kMaxStatuses);
}

/// What a query for statuses finds: a List of C strings.
List *statuses_in_rows(char *query) {
  const MemoryContext context = CurrentMemoryContext;
  List *found = NIL;
  pg::spi_begin();
  const uint64 rows = pg::spi_run(pg::Statement(query), pg::Access::kRead);
  for (uint64 i = 0; i < rows; ++i) {
    char *status = pg::spi_text(i, 1, context);
    const MemoryContext spi = MemoryContextSwitchTo(context);
    found = lappend(found, status);
    MemoryContextSwitchTo(spi);
  }
  pg::spi_end();
  return found;
}

void note_rows(const Subject &subject, const Choice &choice, const Column &column, Known *known) {
  ListCell *cell;
  foreach (cell, statuses_in_rows(sample_query(subject, choice, column)))
    note(subject, column, known, static_cast<char *>(lfirst(cell)));
}

/// pg_cron's own table of runs, in whatever schema, says nothing of its statuses in the catalog.
bool is_pg_cron_history(const Subject &subject) {
  for (const char *column : {"jobid", "runid", "job_pid", "database", "username", "command", "return_message"})
    if (get_attnum(subject.table, column) == InvalidAttrNumber) return false;
  return true;
}

Known known_statuses(const Subject &subject, const Choice &choice, const Column &column) {
  Known known;
  if (type_is_enum(column.type)) note_enum(subject, column, &known);
  else note_checks(subject, column, &known);
  if (is_pg_cron_history(subject)) {
    for (const char *status : {"starting", "running", "sending", "connecting", "succeeded", "failed"})
      note(subject, column, &known, pstrdup(status));
    known.closed = true;
  }
  note_default(subject, column, &known);
  if (!known.closed) note_rows(subject, choice, column, &known);
  return known;
}

/// Those of `statuses` that are one of the words, in the words' order.
List *usual(const List *statuses, core::Words words) {
  List *found = NIL;
  for (const std::string_view word : words) {
    ListCell *cell;
    foreach (cell, statuses)
      if (core::same_word(static_cast<char *>(lfirst(cell)), word)) found = lappend(found, lfirst(cell));
  }
  return found;
}

/// A word that is not in use yet, written like one that is.
char *assumed(const char *sample, const char *word) {
  char text[NAMEDATALEN];
  return pstrdup(core::in_style_of(sample, word, text, sizeof text));
}

void choose_live(const Subject &subject, const Known &known, Choice *choice) {
  List *live = usual(known.statuses, core::working_statuses());
  const List *waiting = usual(known.statuses, core::waiting_statuses());
  if (live == NIL && waiting != NIL && !known.closed)
    live = list_make1(assumed(static_cast<char *>(linitial(waiting)), "running"));
  live = list_concat(live, waiting);
  if (live == NIL) ambiguous(subject, "which status is that of a live run", kLiveStatuses, known.statuses);
  choice->set_strings(kLiveStatuses, live);
}

/// The known statuses that are not live.
List *others(const Known &known, const Choice &choice) {
  const List *live = choice.strings(kLiveStatuses);
  List *found = NIL;
  ListCell *cell;
  foreach (cell, known.statuses)
    if (!contains(live, static_cast<char *>(lfirst(cell)))) found = lappend(found, lfirst(cell));
  return found;
}

void choose_failed(const Subject &subject, const Known &known, Choice *choice) {
  const List *live = choice->strings(kLiveStatuses);
  const List *ended = others(known, *choice);
  const List *failed = usual(ended, core::failed_statuses());
  if (failed == NIL && known.closed) ambiguous(subject, "which status is that of a failed run", kFailedStatus, ended);
  choice->set_text(kFailedStatus, failed != NIL ? static_cast<char *>(linitial(failed))
                                                : assumed(static_cast<char *>(linitial(live)), "failed"));
}

/// Divides the known statuses that are not live into those that are an end and those that are not.
void choose_ended(const Subject &subject, const Column &column, const Known &known, Choice *choice) {
  List *ended = NIL;
  List *neither = NIL;
  List *open = NIL;  // the rows decide
  ListCell *cell;
  foreach (cell, others(known, *choice)) {
    auto *status = static_cast<char *>(lfirst(cell));
    if (strcmp(status, choice->string(kFailedStatus)) == 0 || core::looks_like_end(status))
      ended = lappend(ended, status);
    else if (core::is_word_of(status, core::working_statuses()) || core::is_word_of(status, core::waiting_statuses()) ||
             core::is_word_of(status, core::resting_statuses()) ||
             (known.by_default != nullptr && strcmp(status, known.by_default) == 0))
      neither = lappend(neither, status);
    else open = lappend(open, status);
  }
  const List *unended = open != NIL && choice->column(kEndColumn) != nullptr
                            ? statuses_in_rows(unended_query(subject, *choice, column))
                            : NIL;
  foreach (cell, open) {
    auto *status = static_cast<char *>(lfirst(cell));
    if (contains(unended, status)) neither = lappend(neither, status);
    else ended = lappend(ended, status);
  }
  choice->ended = ended;
  choice->neither = neither;
  choice->ended_known = true;
}

}  // namespace

void find_statuses(const Subject &subject, Choice *choice) {
  const bool stands = choice->adopted && !choice->named[kStatusColumn] && !choice->named[kLiveStatuses] &&
                      !choice->named[kFailedStatus] && !choice->open[kLiveStatuses] && !choice->open[kFailedStatus];
  if (stands) return;
  const Column column = find_column(subject.relation, choice->column(kStatusColumn));
  const pg::Identity identity = look_as(subject.owner);
  const Known known = known_statuses(subject, *choice, column);
  if (choice->open[kLiveStatuses]) choose_live(subject, known, choice);
  if (choice->open[kFailedStatus]) choose_failed(subject, known, choice);
  choose_ended(subject, column, known, choice);
  pg::restore(identity);
}

}  // namespace esg::adopt
