// What the guard knows of a guarded table: its settings, resolved against the table as it is now.
//
// Settings live in sync_guard.settings, scope_limits and transition_rules. They are read by catalog-style scans, so that
// the reader needs no grants and no snapshot of the application's, and are cached per backend and per relation (each
// partition has an entry of its own: column numbers differ). A relcache invalidation of the relation drops its entry;
// the trigger on the settings tables raises one for the table and its partitions.
#pragma once

#include "pg/prelude.h"

namespace esg {

/// A column of the relation an entry is for; absent where attno is 0.
struct Column {
  AttrNumber attno = 0;
  const char *name = nullptr;  ///< as in the catalog, not quoted
  Oid type = InvalidOid;       ///< its base type: domains are looked through
  Oid declared_type = InvalidOid;
  int32 typmod = -1;
  bool generated = false;  ///< GENERATED ALWAYS, as expression or identity: nobody may write it
  bool writable = false;   ///< neither generated nor part of a partition key
  bool not_null = false;

  [[nodiscard]] bool exists() const { return attno != 0; }
};

enum class DurationUnit : uint8 { kSeconds, kMilliseconds, kInterval };
enum class ErrorFormat : uint8 { kText, kJson, kJsonb };
enum class Transitions : uint8 { kEnforce, kWarn };
enum class Mode : uint8 { kGuard, kObserve };

struct TransitionRule {
  const char *from;
  const char *to;
  bool allowed;
};

/// What the relation itself asks of columns that the guard fills (conditions.h).
struct Condition {
  Node *check = nullptr;         ///< a CHECK's expression
  AttrNumber not_null = 0;       ///< a generated column that must not be NULL
  Bitmapset *columns = nullptr;  ///< numbers of the columns that it is about, also by way of generated ones
  bool generated = false;        ///< it is about generated columns, which have to be computed for it
  bool may_raise = false;        ///< it may not only be false: it may raise an error
};

struct Guarded {
  Oid relid = InvalidOid;            ///< the relation this entry is resolved for: the table or one of its partitions
  Oid table = InvalidOid;            ///< the guarded table
  Oid owner = InvalidOid;            ///< of the guarded table
  const char *name = nullptr;        ///< the table, schema-qualified and quoted where needed
  const char *adopted_as = nullptr;  ///< what it was called when guard_table() was called last
  bool partitioned = false;
  mutable bool status_index_known = false;  ///< for quick_look, which sets it when it looks first:
  mutable Oid status_index = InvalidOid;    ///< an index by which it finds live rows; none where invalid
  const char *broken = nullptr;             ///< why the settings do not fit the table any more; null: they do

  Column key, status, start, end, duration, error, activity, updated, done, total;
  int scope_count = 0;
  Column scope[core::kMaxScopeColumns];
  int summary_count = 0;
  Column *summary = nullptr;

  int live_count = 0;
  const char **live = nullptr;
  int exclusive_count = 0;
  const char **exclusive_statuses = nullptr;
  const char *failed = nullptr;
  int ended_count = 0;
  const char **ended = nullptr;  ///< further statuses that are known to be an end
  DurationUnit duration_unit = DurationUnit::kSeconds;
  ErrorFormat error_format = ErrorFormat::kText;

  const char *zone_name = nullptr;
  pg_tz *zone = nullptr;

  core::Limits limits;
  std::size_t scope_limit_count = 0;
  core::ScopeLimit *scope_limits = nullptr;
  std::size_t overlap_count = 0;
  core::Overlap *overlaps = nullptr;
  int rule_count = 0;
  TransitionRule *rules = nullptr;
  int condition_count = 0;
  Condition *conditions = nullptr;

  bool exclusive = false;
  Transitions transitions = Transitions::kEnforce;
  core::LateFinish late_finish = core::LateFinish::kKeep;
  Mode mode = Mode::kGuard;
  TimestampTz paused_until = 0;  ///< 0: not paused
  TimestampTz adopted_at = 0;

  [[nodiscard]] bool is_live(std::string_view status_text) const {
    for (int i = 0; i < live_count; ++i)
      if (status_text == live[i]) return true;
    return false;
  }
  /// In this status a run keeps others out of its scope.
  [[nodiscard]] bool excludes(std::string_view status_text) const {
    for (int i = 0; exclusive && i < exclusive_count; ++i)
      if (status_text == exclusive_statuses[i]) return true;
    return false;
  }
  [[nodiscard]] bool is_end(std::string_view status_text) const {
    for (int i = 0; i < ended_count; ++i)
      if (status_text == ended[i]) return true;
    return status_text == failed || core::tells_end(status_text);
  }
};

/// The entry for `relid` (a guarded table or a partition of one); null where no guarded table stands behind it. Valid to
/// the end of the transaction. Does not raise for settings that do not fit: see `broken`. Where the tables of settings are gone,
/// as with a schema that was renamed, or not as the extension made them, `missing` is set; without it that is an ERROR.
Guarded *guarded(Oid relid, bool *missing = nullptr);

/// The same, for a table that a caller named: ERROR SY004 where it is not guarded, SY006 where it is broken.
const Guarded &guarded_or_error(Oid relid);

/// A relation's name for messages and statements: schema-qualified, quoted where needed.
const char *qualified_name(Oid relid);

/// ERROR SY004: a table that a caller named is not guarded. `wanted`: he would have it guarded, and is told how.
[[noreturn]] void not_guarded(Oid relid, bool wanted);

/// Every guarded table, in the order of their names. Settings that name no table any more are left out.
/// `busy`, where given, gets the Oids of tables that others have locked against reading; else they are waited for.
/// Returns a List of Guarded*.
List *all_guarded(List **busy = nullptr);

/// Settings rows that name no guarded table any more: a List of C strings, what they were called.
List *orphaned_settings();

/// Resolves a column name against a relation; absent where there is none. ERRORs are never raised.
Column find_column(Relation relation, const char *name);

/// How a duration column of this name and type counts. False: the type does not fit.
bool duration_unit_of(const Column &column, DurationUnit *unit);

/// How an error column of this type takes a text. False: the type does not fit.
bool error_format_of(const Column &column, ErrorFormat *format);

/// An interval in microseconds, a month as 30 days, a day as 24 hours.
core::Micros micros_of(const Interval *interval);

/// An instant of the server as a naive time in the table's zone, and back. The way back is absent for infinite times and
/// for those out of range: such a time is unknown.
Timestamp to_naive(TimestampTz instant, pg_tz *zone);
std::optional<core::Micros> from_naive(Timestamp naive, pg_tz *zone);

/// A column's start, end or activity value as an instant; absent for infinite ones.
std::optional<core::Micros> instant_of(const Column &column, Datum value, bool is_null, pg_tz *zone);

/// A value of an integer column; absent where NULL or of another type.
std::optional<int64> count_of(const Column &column, Datum value, bool is_null);

/// A column's value as text, the one that a cast to text gives: runs are read so.
char *text_of_value(const Column &column, Datum value);

/// An instant as a value of a time column, in its precision.
Datum time_datum(const Column &column, TimestampTz instant, pg_tz *zone);

/// A duration (never negative) as a value's text for the duration column; null where it does not fit the type.
char *duration_text(const Guarded &g, core::Micros span);

/// A JSON string, number or boolean as text; null for JSON null and for what is no scalar.
const char *json_scalar_text(const JsonbValue &value);

/// Registers the cache's callbacks; at load.
void settings_load();

}  // namespace esg
