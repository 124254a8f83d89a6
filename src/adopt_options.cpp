// guard_table's options: reading the arguments and the stored settings, defaults, storing. Runs in the caller's
// process; the settings table is read and written as the extension's owner, whose row lock orders concurrent calls. See
// adopt.h.

#include "adopt.h"

#include "errors.h"
#include "pg/identity.h"
#include "pg/spi.h"

namespace esg::adopt {
namespace {

constexpr OptionSpec kSpecs[kOptionCount] = {
    {"key_column", NAMEOID, true},
    {"status_column", NAMEOID, true},
    {"live_statuses", TEXTARRAYOID, true},
    {"failed_status", TEXTOID, true},
    {"start_column", NAMEOID, false},
    {"end_column", NAMEOID, false},
    {"duration_column", NAMEOID, false},
    {"error_column", NAMEOID, false},
    {"activity_column", NAMEOID, false},
    {"updated_column", NAMEOID, false},
    {"done_column", NAMEOID, false},
    {"total_column", NAMEOID, false},
    {"scope_columns", NAMEARRAYOID, false},
    {"scope_overlaps", JSONBOID, false},
    {"summary_columns", NAMEARRAYOID, false},
    {"time_zone", TEXTOID, true},
    {"max_silence", INTERVALOID, false},
    {"max_age", INTERVALOID, false},
    {"max_stall", INTERVALOID, false},
    {"exclusive", BOOLOID, true},
    {"exclusive_statuses", TEXTARRAYOID, false},
    {"transitions", TEXTOID, true},
    {"late_finish", TEXTOID, true},
    {"mode", TEXTOID, true},
};

/// Arguments of guard_table that are no options.
constexpr int kFirstOptionArgument = 1;
constexpr int kResetArgument = kFirstOptionArgument + kOptionCount + 1;

Option option_named(const char *name) {
  for (int i = 0; i < kOptionCount; ++i)
    if (strcmp(kSpecs[i].name, name) == 0) return static_cast<Option>(i);
  StringInfoData known;
  initStringInfo(&known);
  for (int i = 0; i < kOptionCount; ++i) appendStringInfo(&known, "%s%s", i == 0 ? "" : ", ", kSpecs[i].name);
  ereport(ERROR, errcode(kBadOption), errmsg("there is no option \"%s\" to reset", name),
          errdetail("The options are %s.", known.data), errhint("Name options as guard_table() calls them."));
  pg_unreachable();
}

List *elements(Datum array, Oid type) {
  Datum *items;
  bool *nulls;
  int count;
  const bool of_names = type == NAMEARRAYOID;
  deconstruct_array(DatumGetArrayTypeP(array), of_names ? NAMEOID : TEXTOID, of_names ? NAMEDATALEN : -1, false,
                    of_names ? TYPALIGN_CHAR : TYPALIGN_INT, &items, &nulls, &count);
  List *strings = NIL;
  for (int i = 0; i < count; ++i) {
    if (nulls[i]) strings = lappend(strings, nullptr);
    else
      strings = lappend(strings, of_names ? pstrdup(NameStr(*DatumGetName(items[i]))) : TextDatumGetCString(items[i]));
  }
  return strings;
}

/// An argument that says "none": an empty string or array.
bool says_none(Option option, Datum value) {
  switch (kSpecs[option].type) {
    case NAMEOID: return NameStr(*DatumGetName(value))[0] == '\0';
    case TEXTOID: return VARSIZE_ANY_EXHDR(DatumGetPointer(value)) == 0;
    case TEXTARRAYOID:
    case NAMEARRAYOID:
      return ArrayGetNItems(ARR_NDIM(DatumGetArrayTypeP(value)), ARR_DIMS(DatumGetArrayTypeP(value))) == 0;
    default: return false;
  }
}

void refuse_null_elements(Option option, Datum value) {
  if (kSpecs[option].type != TEXTARRAYOID && kSpecs[option].type != NAMEARRAYOID) return;
  ListCell *cell;
  foreach (cell, elements(value, kSpecs[option].type))
    if (lfirst(cell) == nullptr || *static_cast<char *>(lfirst(cell)) == '\0')
      bad_option(option, "an element is NULL or empty", "Leave it out.");
}

Datum interval_value(const char *text) {
  return DirectFunctionCall3(interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
}

/// What an option without habit or catalog behind it is at first.
void set_default(Choice *choice, Option option) {
  choice->null[option] = false;
  switch (option) {
    case kScopeOverlaps: choice->value[option] = DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")); break;
    case kTimeZone: choice->set_text(option, "UTC"); break;
    case kMaxSilence: choice->value[option] = interval_value(kDefaultMaxSilence); break;
    case kExclusive: choice->value[option] = BoolGetDatum(false); break;
    case kExclusiveStatuses: choice->set_strings(option, NIL); break;
    case kTransitions: choice->set_text(option, "enforce"); break;
    case kLateFinish: choice->set_text(option, "keep"); break;
    case kMode: choice->set_text(option, "guard"); break;
    default: choice->null[option] = true; break;
  }
}

Datum copy_value(Option option, Datum value) {
  switch (kSpecs[option].type) {
    case BOOLOID: return value;
    case NAMEOID: return datumCopy(value, false, NAMEDATALEN);
    case INTERVALOID: return datumCopy(value, false, sizeof(Interval));
    default: return PointerGetDatum(PG_DETOAST_DATUM_COPY(value));
  }
}

/// The stored settings of a guarded table; false where there are none. Locks the row.
bool read_stored(Oid table, Choice *choice) {
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfoString(&sql, "SELECT ");
  for (int i = 0; i < kOptionCount; ++i) appendStringInfo(&sql, "%s%s", i == 0 ? "" : ", ", kSpecs[i].name);
  appendStringInfoString(&sql, " FROM sync_guard.settings WHERE relation OPERATOR(pg_catalog.=) $1 FOR UPDATE");
  pg::Statement statement(sql.data);
  statement.add_oid(table);
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity identity = pg::become_extension_owner();
  pg::spi_begin();
  const bool found = pg::spi_run(statement, pg::Access::kWrite) > 0;
  for (int i = 0; found && i < kOptionCount; ++i) {
    const Datum value = pg::spi_datum(0, i + 1, &choice->null[i]);
    if (choice->null[i]) continue;
    const MemoryContext spi = MemoryContextSwitchTo(context);
    choice->value[i] = copy_value(static_cast<Option>(i), value);
    MemoryContextSwitchTo(spi);
  }
  pg::spi_end();
  pg::restore(identity);
  return found;
}

void take_argument(FunctionCallInfo fcinfo, Choice *choice, Option option) {
  const int argument = kFirstOptionArgument + option;
  choice->named[option] = !PG_ARGISNULL(argument);
  if (!choice->named[option]) return;
  Datum value = PG_GETARG_DATUM(argument);
  if (kSpecs[option].type != NAMEOID && kSpecs[option].type != INTERVALOID && kSpecs[option].type != BOOLOID)
    value = PointerGetDatum(PG_DETOAST_DATUM(value));
  const bool none = says_none(option, value);
  if (none && kSpecs[option].required)
    bad_option(option, "it is empty", "An empty value says that the table has none, which this option does not allow.");
  refuse_null_elements(option, value);
  choice->value[option] = value;
  choice->null[option] = none && (kSpecs[option].type == NAMEOID || kSpecs[option].type == TEXTOID);
}

/// Marks what `reset` names as open.
void take_reset(FunctionCallInfo fcinfo, Choice *choice) {
  if (PG_ARGISNULL(kResetArgument)) return;
  ListCell *cell;
  foreach (cell, elements(PG_GETARG_DATUM(kResetArgument), TEXTARRAYOID)) {
    if (lfirst(cell) == nullptr) continue;
    const Option option = option_named(static_cast<char *>(lfirst(cell)));
    if (choice->named[option]) bad_option(option, "it is both given and named in reset", "Do one or the other.");
    choice->open[option] = true;
  }
}

void add_values(pg::Statement *statement, const Choice &choice) {
  for (int i = 0; i < kOptionCount; ++i) statement->add(kSpecs[i].type, choice.value[i], choice.null[i]);
  auto **ended = static_cast<const char **>(palloc(sizeof(char *) * Max(list_length(choice.ended), 1)));
  for (int i = 0; i < list_length(choice.ended); ++i) ended[i] = static_cast<char *>(list_nth(choice.ended, i));
  statement->add(TEXTARRAYOID, pg::text_array(ended, list_length(choice.ended)), !choice.ended_known);
}

/// The statement that stores a choice: the options are its parameters from $3 on, then the ended statuses.
char *store_sql(const Choice &choice) {
  StringInfoData sql;
  initStringInfo(&sql);
  if (choice.adopted) {
    appendStringInfoString(&sql, "UPDATE sync_guard.settings SET relation_name = $2");
    for (int i = 0; i < kOptionCount; ++i) appendStringInfo(&sql, ", %s = $%d", kSpecs[i].name, i + 3);
    appendStringInfo(&sql, ", ended_statuses = COALESCE($%d, ended_statuses) WHERE relation OPERATOR(pg_catalog.=) $1",
                     kOptionCount + 3);
  } else {
    appendStringInfoString(&sql, "INSERT INTO sync_guard.settings (relation, relation_name");
    for (int i = 0; i < kOptionCount; ++i) appendStringInfo(&sql, ", %s", kSpecs[i].name);
    appendStringInfoString(&sql, ", ended_statuses, adopted_at, adopted_by) VALUES ($1, $2");
    for (int i = 0; i <= kOptionCount; ++i) appendStringInfo(&sql, ", $%d", i + 3);
    appendStringInfo(&sql, ", pg_catalog.clock_timestamp(), $%d) ON CONFLICT DO NOTHING", kOptionCount + 4);
  }
  return sql.data;
}

}  // namespace

const OptionSpec &spec_of(Option option) { return kSpecs[option]; }

const char *Choice::column(Option option) const {
  return null[option] ? nullptr : NameStr(*DatumGetName(value[option]));
}

const char *Choice::string(Option option) const { return null[option] ? nullptr : TextDatumGetCString(value[option]); }

List *Choice::strings(Option option) const { return null[option] ? NIL : elements(value[option], kSpecs[option].type); }

void Choice::set_column(Option option, const char *name) {
  null[option] = name == nullptr;
  value[option] = name == nullptr ? Datum(0) : DirectFunctionCall1(namein, CStringGetDatum(name));
}

void Choice::set_text(Option option, const char *text) {
  null[option] = text == nullptr;
  value[option] = text == nullptr ? Datum(0) : CStringGetTextDatum(text);
}

void Choice::set_strings(Option option, const List *strings) {
  const int count = list_length(strings);
  auto *items = static_cast<Datum *>(palloc(sizeof(Datum) * Max(count, 1)));
  const bool of_names = kSpecs[option].type == NAMEARRAYOID;
  for (int i = 0; i < count; ++i) {
    auto *text = static_cast<char *>(list_nth(strings, i));
    items[i] = of_names ? DirectFunctionCall1(namein, CStringGetDatum(text)) : CStringGetTextDatum(text);
  }
  null[option] = false;
  value[option] =
      PointerGetDatum(construct_array(items, count, of_names ? NAMEOID : TEXTOID, of_names ? NAMEDATALEN : -1, false,
                                      of_names ? TYPALIGN_CHAR : TYPALIGN_INT));
}

void bad_option(Option option, const char *problem, const char *hint) {
  char *sentence = psprintf("%s.", problem);
  sentence[0] = static_cast<char>(pg_toupper(static_cast<unsigned char>(sentence[0])));
  ereport(ERROR, errcode(kBadOption), errmsg("option %s is not possible", kSpecs[option].name),
          errdetail("%s", sentence), errhint("%s", hint));
  pg_unreachable();
}

char *join(const List *strings, const char *none) {
  if (strings == NIL) return pstrdup(none);
  StringInfoData text;
  initStringInfo(&text);
  ListCell *cell;
  foreach (cell, strings) appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", static_cast<char *>(lfirst(cell)));
  return text.data;
}

bool contains(const List *strings, const char *text) {
  ListCell *cell;
  foreach (cell, strings)
    if (strcmp(static_cast<char *>(lfirst(cell)), text) == 0) return true;
  return false;
}

void read_request(FunctionCallInfo fcinfo, const Subject &subject, Choice *choice) {
  const Guarded *g = guarded(subject.table);
  choice->adopted = g != nullptr && g->table == subject.table && read_stored(subject.table, choice);
  for (int i = 0; i < kOptionCount; ++i) take_argument(fcinfo, choice, static_cast<Option>(i));
  take_reset(fcinfo, choice);
  for (int i = 0; i < kOptionCount; ++i) {
    choice->open[i] = choice->open[i] || (!choice->adopted && !choice->named[i]);
    if (choice->open[i]) set_default(choice, static_cast<Option>(i));
  }
}

void store_choice(const Subject &subject, const Choice &choice) {
  pg::Statement statement(store_sql(choice));
  statement.add(REGCLASSOID, ObjectIdGetDatum(subject.table)).add_text(subject.name);
  add_values(&statement, choice);
  if (!choice.adopted)
    statement.add(NAMEOID, DirectFunctionCall1(namein, CStringGetDatum(GetUserNameFromId(GetUserId(), false))));
  const pg::Identity identity = pg::become_extension_owner();
  if (!choice.adopted) {
    // A line left over from a table that had the same number.
    pg::Statement leftover("DELETE FROM sync_guard.settings WHERE relation OPERATOR(pg_catalog.=) $1");
    pg::spi_execute(leftover.add_oid(subject.table));
  }
  const bool stored = pg::spi_execute(statement) > 0;
  pg::restore(identity);
  if (!stored)
    ereport(ERROR, errcode(ERRCODE_OBJECT_IN_USE),
            errmsg("another session has guarded or released table %s meanwhile", subject.name), errhint("Call again."));
  CommandCounterIncrement();
}

}  // namespace esg::adopt
