// From a settings row to a Guarded: columns resolved, limits, rules and overlaps read. Runs where the cache is filled, with
// ACCESS SHARE on the settings tables; allocates in the current memory context. See settings_rows.h.

#include "settings_rows.h"

#include "conditions.h"
#include "scopes.h"

namespace esg {
namespace {

void break_because(Guarded &g, const char *format, const char *what) {
  if (g.broken == nullptr) g.broken = psprintf(format, what);
}

/// Resolves a column that the settings name; notes where it is gone.
Column resolve(Relation relation, Guarded &g, const char *name) {
  if (name == nullptr) return Column{};
  const Column column = find_column(relation, name);
  if (!column.exists()) break_because(g, "column \"%s\" does not exist", name);
  return column;
}

bool is_time(const Column &column) { return column.type == TIMESTAMPOID || column.type == TIMESTAMPTZOID; }

void require_time(Guarded &g, const Column &column) {
  if (column.exists() && !is_time(column))
    break_because(g, "column \"%s\" is neither timestamp nor timestamp with time zone", column.name);
}

void require_integer(Guarded &g, const Column &column) {
  if (column.exists() && column.type != INT2OID && column.type != INT4OID && column.type != INT8OID)
    break_because(g, "column \"%s\" is not an integer", column.name);
}

/// A status that its enum does not know any more would be taken for another one's end.
void require_labels(Guarded &g) {
  if (!g.status.exists() || !type_is_enum(g.status.type)) return;
  const auto require = [&g](const char *status) {
    if (!SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(g.status.type), CStringGetDatum(status)))
      break_because(g, "the type of the status column has no value \"%s\"", status);
  };
  for (int i = 0; i < g.live_count; ++i) require(g.live[i]);
  require(g.failed);
}

/// One line of scope_limits. False where it matches nothing.
bool read_scope_limit(const Guarded &g, const Row &row, core::ScopeLimit *limit) {
  bool is_null;
  if (!read_scope_pattern(g, DatumGetJsonbP(row.get(2, &is_null)), limit)) return false;
  limit->limits = {row.span(3), row.span(4), row.span(5)};
  return true;
}

void load_scope_limits(Guarded &g) {
  auto *limits = static_cast<core::ScopeLimit *>(palloc0(sizeof(core::ScopeLimit)));
  std::size_t room = 1;
  scan_by_relation("scope_limits", "scope_limits_pkey", g.table, [&g, &limits, &room](const Row &row) {
    if (g.scope_limit_count == room) {
      room *= 2;
      limits = static_cast<core::ScopeLimit *>(repalloc(limits, room * sizeof(core::ScopeLimit)));
    }
    core::ScopeLimit &limit = limits[g.scope_limit_count];
    limit = core::ScopeLimit{};
    if (read_scope_limit(g, row, &limit)) ++g.scope_limit_count;
  });
  g.scope_limits = limits;
}

void load_rules(Guarded &g) {
  g.rules = static_cast<TransitionRule *>(palloc(sizeof(TransitionRule)));
  int room = 1;
  scan_by_relation("transition_rules", "transition_rules_pkey", g.table, [&g, &room](const Row &row) {
    if (g.rule_count == room) {
      room *= 2;
      g.rules = static_cast<TransitionRule *>(repalloc(g.rules, room * sizeof(TransitionRule)));
    }
    g.rules[g.rule_count++] = {row.string(2), row.string(3), row.flag(4)};
  });
}

/// {"column": {"value": ["atom", …]}} as a list of overlaps.
void load_overlaps(Guarded &g, Jsonb *overlaps) {
  const int kRoom = 64;
  g.overlaps = static_cast<core::Overlap *>(palloc0(sizeof(core::Overlap) * kRoom));
  JsonbIterator *it = JsonbIteratorInit(&overlaps->root);
  JsonbValue value;
  int depth = 0;
  int column = -1;
  core::Overlap *current = nullptr;
  std::string_view *atoms = nullptr;
  for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, false); token != WJB_DONE;
       token = JsonbIteratorNext(&it, &value, false)) {
    if (token == WJB_BEGIN_OBJECT) ++depth;
    else if (token == WJB_END_OBJECT) --depth;
    else if (token == WJB_KEY && depth == 1)
      column = scope_position(g, pnstrdup(value.val.string.val, value.val.string.len));
    else if (token == WJB_KEY && depth == 2) {
      if (g.overlap_count == static_cast<std::size_t>(kRoom))
        return break_because(g, "%s", "scope_overlaps has more than 64 values");
      current = column < 0 ? nullptr : &g.overlaps[g.overlap_count++];
      if (current == nullptr) continue;
      current->column = column;
      current->value = pnstrdup(value.val.string.val, value.val.string.len);
    } else if (token == WJB_BEGIN_ARRAY && current != nullptr) {
      atoms = static_cast<std::string_view *>(palloc0(sizeof(std::string_view) * Max(value.val.array.nElems, 1)));
      current->atoms = atoms;
    } else if (token == WJB_ELEM && current != nullptr) {
      const char *text = json_scalar_text(value);
      if (text != nullptr) atoms[current->atom_count++] = text;
    }
  }
}

}  // namespace

const char *json_scalar_text(const JsonbValue &value) {
  switch (value.type) {
    case jbvString: return pnstrdup(value.val.string.val, value.val.string.len);
    case jbvNumeric: return DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(value.val.numeric)));
    case jbvBool: return value.val.boolean ? "true" : "false";
    default: return nullptr;
  }
}

void load_row(Guarded &g, Relation relation, const Row &row) {
  g.key = resolve(relation, g, row.name(kKeyColumn));
  g.status = resolve(relation, g, row.name(kStatusColumn));
  g.start = resolve(relation, g, row.name(kStartColumn));
  g.end = resolve(relation, g, row.name(kEndColumn));
  g.duration = resolve(relation, g, row.name(kDurationColumn));
  g.error = resolve(relation, g, row.name(kErrorColumn));
  g.activity = resolve(relation, g, row.name(kActivityColumn));
  g.updated = resolve(relation, g, row.name(kUpdatedColumn));
  g.done = resolve(relation, g, row.name(kDoneColumn));
  g.total = resolve(relation, g, row.name(kTotalColumn));
  require_time(g, g.start);
  require_time(g, g.end);
  require_time(g, g.activity);
  require_time(g, g.updated);
  require_integer(g, g.done);
  require_integer(g, g.total);
  if (g.duration.exists() && !duration_unit_of(g.duration, &g.duration_unit))
    break_because(g, "column \"%s\" cannot hold a duration", g.duration.name);
  if (g.error.exists() && !error_format_of(g.error, &g.error_format))
    break_because(g, "column \"%s\" cannot hold an error text", g.error.name);

  g.live = row.strings(kLiveStatuses, TEXTOID, &g.live_count);
  g.failed = row.string(kFailedStatus);
  g.ended = row.strings(kEndedStatuses, TEXTOID, &g.ended_count);
  require_labels(g);
  g.exclusive_statuses = row.strings(kExclusiveStatuses, TEXTOID, &g.exclusive_count);
  if (g.exclusive_count == 0) {
    g.exclusive_statuses = g.live;
    g.exclusive_count = g.live_count;
  }

  int count = 0;
  const char **names = row.strings(kScopeColumns, NAMEOID, &count);
  if (count > core::kMaxScopeColumns) break_because(g, "%s", "there are more than 8 scope columns");
  for (int i = 0; i < count && i < core::kMaxScopeColumns; ++i) {
    g.scope[i] = resolve(relation, g, names[i]);
    if (!g.scope[i].exists()) break;
    ++g.scope_count;
  }
  names = row.strings(kSummaryColumns, NAMEOID, &count);
  g.summary = static_cast<Column *>(palloc0(sizeof(Column) * Max(count, 1)));
  for (int i = 0; i < count; ++i) {
    const Column column = find_column(relation, names[i]);
    if (column.exists()) g.summary[g.summary_count++] = column;  // a display column that is gone breaks nothing
  }

  g.zone_name = row.string(kTimeZone);
  g.zone = pg_tzset(g.zone_name);
  if (g.zone == nullptr) break_because(g, "time zone \"%s\" is not known", g.zone_name);
  g.limits = {row.span(kMaxSilence), row.span(kMaxAge), row.span(kMaxStall)};
  g.exclusive = row.flag(kExclusive);
  g.transitions = strcmp(row.string(kTransitions), "warn") == 0 ? Transitions::kWarn : Transitions::kEnforce;
  g.late_finish = core::parse_late_finish(row.string(kLateFinish)).value_or(core::LateFinish::kKeep);
  g.mode = strcmp(row.string(kMode), "observe") == 0 ? Mode::kObserve : Mode::kGuard;
  bool is_null;
  g.adopted_at = DatumGetTimestampTz(row.get(kAdoptedAt, &is_null));
  const Datum paused = row.get(kPausedUntil, &is_null);
  g.paused_until = is_null ? 0 : DatumGetTimestampTz(paused);
  Jsonb *overlaps = DatumGetJsonbP(row.get(kScopeOverlaps, &is_null));
  load_overlaps(g, overlaps);
  load_scope_limits(g);
  load_rules(g);
  load_conditions(g, relation);
}

}  // namespace esg
