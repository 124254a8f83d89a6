// Adoption: from a table as it is to a line of settings.
//
// guard_table() goes through these stages, in this order, in the caller's process:
//   read_request     the arguments, the settings stored so far, what is named, what is to be found (again)
//   find_columns     the columns whose role is open, by their usual names and types
//   find_statuses    the live and the failed statuses, from enum, CHECK, default and rows
//   check_choice     everything chosen fits the table and itself
//   store_choice     into sync_guard.settings
//   prove_closing    the table will take what a reaping writes
//   report           NOTICEs and WARNINGs
//   make_triggers    last, since from here on writers wait (guarding.h); it may still give up
//   report_done      the NOTICE that the table is guarded
// What the table's owner can influence (CHECKs, domains, rows) is evaluated as the owner in a security-restricted
// operation; settings are written as the extension's owner.
#pragma once

#include "pg/identity.h"
#include "settings.h"

namespace esg::adopt {

// clang-format off
/// The options of guard_table, in the order of its arguments and of the columns of sync_guard.settings.
enum Option : int {
  kKeyColumn, kStatusColumn, kLiveStatuses, kFailedStatus, kStartColumn, kEndColumn, kDurationColumn, kErrorColumn,
  kActivityColumn, kUpdatedColumn, kDoneColumn, kTotalColumn, kScopeColumns, kScopeOverlaps, kSummaryColumns, kTimeZone,
  kMaxSilence, kMaxAge, kMaxStall, kExclusive, kExclusiveStatuses, kTransitions, kLateFinish, kMode, kOptionCount
};
// clang-format on

/// max_silence of a table whose owner has not said otherwise: the incident's own.
constexpr const char *kDefaultMaxSilence = "1 hour";

struct OptionSpec {
  const char *name;
  Oid type;       ///< of the argument and of the settings column
  bool required;  ///< "none" is no answer
};

const OptionSpec &spec_of(Option option);

/// The settings in the making: one value per option, in the type of its settings column.
struct Choice {
  Datum value[kOptionCount] = {};
  bool null[kOptionCount] = {};
  bool named[kOptionCount] = {};  ///< by the caller, in this call
  bool open[kOptionCount] = {};   ///< to be found: first call and not named, or named in `reset`
  bool adopted = false;           ///< the table was guarded before this call
  const List *ended = NIL;        ///< C strings: the statuses in sight that are an end
  const List *neither = NIL;      ///< C strings: those that are neither live nor an end
  bool ended_known = false;       ///< `ended` and `neither` were found in this call

  /// A column option's name; null where it is none.
  [[nodiscard]] const char *column(Option option) const;
  /// A text option; null where it is NULL.
  [[nodiscard]] const char *string(Option option) const;
  /// The strings of an array option: a List of C strings.
  [[nodiscard]] List *strings(Option option) const;

  void set_column(Option option, const char *name);  ///< null: none
  void set_text(Option option, const char *text);
  void set_strings(Option option, const List *strings);
};

/// A table and who calls.
struct Subject {
  Relation relation;  ///< open, at least ACCESS SHARE
  Oid table;
  Oid owner;
  const char *name;  ///< qualified, quoted where needed
  bool partitioned;
};

/// Becomes the table's owner to look at rows and to evaluate what he can influence; nothing can be written meanwhile.
/// The caller has the owner's rights. Undo with pg::restore.
inline pg::Identity look_as(Oid owner) {
  const pg::Identity before = pg::become(owner, SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
  pg::forbid_writing();
  return before;
}

/// A column that the guard may take for a role: exists and its type fits.
bool suits(Option role, const Column &column);
/// What a role's column must be, for messages: "timestamp or timestamp with time zone", …
const char *type_wanted(Option role);

/// ERROR SY006: option `option` has a value it cannot have.
[[noreturn]] void bad_option(Option option, const char *problem, const char *hint);
/// ERROR SY005: `what` ("which column is …") is open, the candidates (a List of C strings) are these, this option says
/// which.
[[noreturn]] void ambiguous(const Subject &subject, const char *what, Option option, const List *candidates);
/// "a, b, c"; `none` for an empty list.
char *join(const List *strings, const char *none);
bool contains(const List *strings, const char *text);

/// Whether a valid btree over all rows begins with this column.
bool index_begins_with(Relation relation, AttrNumber attno);

/// Rows of a table looked at, where all of them would be too many.
constexpr int kSampleRows = 10'000;

/// The tail of a SELECT from alias t that leaves at most kSampleRows rows: the newest ones by the start column where an
/// index leads to them (with_start: those that have one), else the last ones in the table, else any.
char *newest_rows_sql(Relation relation, const char *start, bool with_start);

/// Refuses what can never be guarded: views, foreign, temporary and system tables, partitions, inheritance, our own.
/// ERROR 42809.
void require_guardable(Relation relation);

/// Arguments and stored settings; locks the settings row of a table already guarded.
void read_request(FunctionCallInfo fcinfo, const Subject &subject, Choice *choice);

void find_columns(const Subject &subject, Choice *choice);
/// The key: unique by itself. ERROR SY005 where there is none or several, SY006 where the one named is not.
void find_key(const Subject &subject, Choice *choice);
/// The key, found or named, is unique: by an index, and on a partitioned table as far as that can be known.
void check_key(const Subject &subject, const Choice &choice);
void find_statuses(const Subject &subject, Choice *choice);
/// What runs belong together, and what recent_syncs shows.
void find_scope(const Subject &subject, Choice *choice);
void find_summary(const Subject &subject, Choice *choice);

/// The columns chosen so far exist and their types fit. ERROR SY006.
void check_columns(const Subject &subject, const Choice &choice);
/// Everything chosen fits the table and itself. ERROR SY006.
void check_choice(const Subject &subject, const Choice &choice);
/// Why a span is no limit ("it is zero", …); null: it is one.
const char *span_problem(const Interval *span);

void store_choice(const Subject &subject, const Choice &choice);

/// Proves that the table will take what a reaping writes. ERROR SY006, naming the constraint that will not.
void prove_closing(const Guarded &g);

/// NOTICEs of what was found, of waiting runs that count as running, and of what would be reaped now; WARNINGs where starts
/// would be read in a zone they are not written in, where the history speaks against max_silence, where live runs share an
/// exclusive scope, where rows have no status, and of what has no effect.
void report(const Guarded &g, const Choice &choice);
/// The NOTICE that it is done, when nothing can stand in the way any more; a WARNING where the guard is switched off.
void report_done(const Guarded &g, bool adopted_before);
/// The WARNING for who sets max_stall where no row can tell of progress.
void warn_of_stall(const Guarded &g);

}  // namespace esg::adopt
