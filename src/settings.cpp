// The per-backend cache of resolved settings. Runs wherever a trigger fires or a guard function is called; takes
// ACCESS SHARE on the settings tables and the relation's own lock is held by the caller or taken here. See settings.h.

#include "settings.h"

#include "errors.h"
#include "pg/identity.h"

namespace esg {
namespace {

/// Positions in sync_guard.settings, as the install script creates it.
enum SettingsColumn : int {
  kRelation = 1, kRelationName, kKeyColumn, kStatusColumn, kLiveStatuses, kFailedStatus, kStartColumn, kEndColumn,
  kDurationColumn, kErrorColumn, kActivityColumn, kUpdatedColumn, kDoneColumn, kTotalColumn, kScopeColumns,
  kScopeOverlaps, kSummaryColumns, kTimeZone, kMaxSilence, kMaxAge, kMaxStall, kExclusive, kExclusiveStatuses,
  kTransitions, kLateFinish, kMode, kPausedUntil, kAdoptedAt, kAdoptedBy, kEndedStatuses
};

/// A cached answer for one relation. Dropped ones stay until the transaction ends: a caller may still hold them.
struct Entry {
  Oid relid;                      // hash key
  bool valid;
  bool loading;
  MemoryContext context;          // of `guarded`; null for a negative answer
  Guarded *guarded;
};

HTAB *cache = nullptr;
List *retired = NIL;              // MemoryContexts, in TopMemoryContext

/// A partition's entry holds name and owner of the guarded table, which tells its own relcache entry alone of a change.
/// One that is being loaded may turn out to be such.
bool is_about(const Entry &entry, Oid relid) {
  if (!OidIsValid(relid) || entry.relid == relid || entry.loading) return true;
  return entry.guarded != nullptr && entry.guarded->table == relid;
}

void invalidate(Datum, Oid relid) noexcept {
  if (cache == nullptr) return;
  HASH_SEQ_STATUS scan;
  hash_seq_init(&scan, cache);
  while (auto *entry = static_cast<Entry *>(hash_seq_search(&scan)))
    if (is_about(*entry, relid)) entry->valid = false;
}

/// Names are cached too, and a schema's new name is told to no relation; nor is that of an enum's value.
void invalidate_all(Datum, int, uint32) noexcept { invalidate(Datum(0), InvalidOid); }

void free_retired(XactEvent event, void *) noexcept {
  if (retired == NIL) return;
  if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
  ListCell *cell;
  foreach (cell, retired) MemoryContextDelete(static_cast<MemoryContext>(lfirst(cell)));
  list_free(retired);
  retired = NIL;
}

/// One row of a settings table, read by position.
struct Row {
  HeapTuple tuple;
  TupleDesc desc;

  Datum get(int column, bool *is_null) const { return heap_getattr(tuple, column, desc, is_null); }
  const char *string(int column) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    return is_null ? nullptr : text_to_cstring(DatumGetTextPP(value));
  }
  const char *name(int column) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    return is_null ? nullptr : pstrdup(NameStr(*DatumGetName(value)));
  }
  bool flag(int column) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    return !is_null && DatumGetBool(value);
  }
  std::optional<core::Micros> span(int column) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    if (is_null) return std::nullopt;
    return micros_of(DatumGetIntervalP(value));
  }
  /// Strings of a text[] or name[]; NULL elements are left out.
  const char **strings(int column, Oid type, int *count) const {
    bool is_null;
    const Datum value = get(column, &is_null);
    *count = 0;
    if (is_null) return nullptr;
    Datum *items;
    bool *nulls;
    int n;
    const bool of_names = type == NAMEOID;
    deconstruct_array(DatumGetArrayTypeP(value), type, of_names ? NAMEDATALEN : -1, false,
                      of_names ? TYPALIGN_CHAR : TYPALIGN_INT, &items, &nulls, &n);
    auto **out = static_cast<const char **>(palloc0(sizeof(char *) * Max(n, 1)));
    for (int i = 0; i < n; ++i) {
      if (nulls[i]) continue;
      out[(*count)++] = of_names ? pstrdup(NameStr(*DatumGetName(items[i]))) : TextDatumGetCString(items[i]);
    }
    return out;
  }
};

/// Calls `visit` for each row of a settings table that is about `relid` (its first column; index on it).
template <typename Visit>
void scan_by_relation(const char *table, const char *index, Oid relid, const Visit &visit) {
  const Oid table_id = pg::extension_table(table);
  const Oid index_id = get_relname_relid(index, get_rel_namespace(table_id));
  Relation relation = table_open(table_id, AccessShareLock);
  ScanKeyData key;
  ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
  SysScanDesc scan = systable_beginscan(relation, index_id, OidIsValid(index_id), nullptr, 1, &key);
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan))
    visit(Row{tuple, RelationGetDescr(relation)});
  systable_endscan(scan);
  table_close(relation, AccessShareLock);
}

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

int scope_position(const Guarded &g, const char *name) {
  for (int i = 0; i < g.scope_count; ++i)
    if (strcmp(g.scope[i].name, name) == 0) return i;
  return -1;
}

core::ScopeValue as_scope_value(const char *text) {
  return text == nullptr ? core::ScopeValue{} : core::ScopeValue{std::string_view(text)};
}

/// One line of scope_limits. False where it names a column that is none of the scope's: it then matches nothing.
bool read_scope_limit(const Guarded &g, const Row &row, core::ScopeLimit *limit) {
  bool is_null;
  Jsonb *scope = DatumGetJsonbP(row.get(2, &is_null));
  JsonbIterator *it = JsonbIteratorInit(&scope->root);
  JsonbValue value;
  int position = -1;
  for (JsonbIteratorToken token = JsonbIteratorNext(&it, &value, true); token != WJB_DONE;
       token = JsonbIteratorNext(&it, &value, true)) {
    if (token == WJB_KEY) {
      position = scope_position(g, pnstrdup(value.val.string.val, value.val.string.len));
      if (position < 0) return false;
    } else if (token == WJB_VALUE) {
      limit->named[position] = true;
      limit->values[position] = as_scope_value(json_scalar_text(value));
    }
  }
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
      if (g.overlap_count == static_cast<std::size_t>(kRoom)) return break_because(g, "%s", "scope_overlaps has more than 64 values");
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

/// Fills `g` from its row in sync_guard.settings.
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
    if (column.exists()) g.summary[g.summary_count++] = column;   // a display column that is gone breaks nothing
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
  const Datum paused = row.get(kPausedUntil, &is_null);
  g.paused_until = is_null ? 0 : DatumGetTimestampTz(paused);
  Jsonb *overlaps = DatumGetJsonbP(row.get(kScopeOverlaps, &is_null));
  load_overlaps(g, overlaps);
  load_scope_limits(g);
  load_rules(g);
}

const char *qualified_name(Oid relid) {
  return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid));
}

/// Whether the table carries one of the guard's triggers.
bool has_guard_trigger(Relation relation) {
  if (relation->trigdesc == nullptr) return false;
  // A look into the catalogs may rebuild the relation's entry, and its triggers are then elsewhere.
  const int count = relation->trigdesc->numtriggers;
  auto *functions = static_cast<Oid *>(palloc(sizeof(Oid) * Max(count, 1)));
  for (int i = 0; i < count; ++i) functions[i] = relation->trigdesc->triggers[i].tgfoid;
  for (int i = 0; i < count; ++i) {
    const Oid function = functions[i];
    const char *name = get_func_name(function);
    const char *schema = get_namespace_name(get_func_namespace(function));
    if (name != nullptr && schema != nullptr && strcmp(schema, "sync_guard") == 0 &&
        (strcmp(name, "judge_row") == 0 || strcmp(name, "watch_row") == 0))
      return true;
  }
  return false;
}

/// A settings row is about the table behind its number where the table bears the name it had or the guard's triggers;
/// a number restored from elsewhere, or given to another table meanwhile, is neither.
bool row_is_about(Relation relation, const Row &row) {
  return strcmp(row.string(kRelationName), qualified_name(RelationGetRelid(relation))) == 0 || has_guard_trigger(relation);
}

/// Opens the table behind a partition; null where it is gone. A statement that writes the partition alone must not wait for
/// DDL on the whole: where that is under way, the table is looked at as it stands in the catalogs, without a lock.
Relation open_whole(Oid table, LOCKMODE *held) {
  *held = ConditionalLockRelationOid(table, AccessShareLock) ? AccessShareLock : NoLock;
  Relation whole = RelationIdGetRelation(table);
  if (whole == nullptr && *held != NoLock) UnlockRelationOid(table, *held);
  return whole;
}

/// Loads the entry of `relid` whose guarded table is `table`; null where `table` is not guarded.
Guarded *load_for(Relation relation, Oid table) {
  Guarded *g = nullptr;
  scan_by_relation("settings", "settings_pkey", table, [&g, relation, table](const Row &row) {
    LOCKMODE held = NoLock;
    Relation root = RelationGetRelid(relation) == table ? relation : open_whole(table, &held);
    if (root == nullptr) return;
    if (row_is_about(root, row)) {
      g = static_cast<Guarded *>(palloc0(sizeof(Guarded)));
      *g = Guarded{};
      g->relid = RelationGetRelid(relation);
      g->table = table;
      g->owner = root->rd_rel->relowner;
      g->name = qualified_name(table);
      g->partitioned = root->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
      load_row(*g, relation, row);
    }
    if (root != relation) relation_close(root, held);
  });
  return g;
}

/// Loads the entry of a relation: its own settings, or those of the nearest partitioned ancestor that has any.
Guarded *load(Oid relid) {
  Relation relation = try_relation_open(relid, AccessShareLock);
  if (relation == nullptr) return nullptr;
  Guarded *g = load_for(relation, relid);
  if (g == nullptr && relation->rd_rel->relispartition) {
    ListCell *cell;
    foreach (cell, get_partition_ancestors(relid)) {
      g = load_for(relation, lfirst_oid(cell));
      if (g != nullptr) break;
    }
  }
  relation_close(relation, AccessShareLock);
  return g;
}

Entry *entry_of(Oid relid) {
  if (cache == nullptr) {
    HASHCTL control = {};
    control.keysize = sizeof(Oid);
    control.entrysize = sizeof(Entry);
    control.hcxt = TopMemoryContext;
    cache = hash_create("emag_sync_guard settings", 32, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
  }
  bool found;
  auto *entry = static_cast<Entry *>(hash_search(cache, &relid, HASH_ENTER, &found));
  if (!found) {
    entry->valid = false;
    entry->loading = false;
    entry->context = nullptr;
    entry->guarded = nullptr;
  }
  return entry;
}

void retire(Entry *entry) {
  if (entry->context == nullptr) return;
  const MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
  retired = lappend(retired, entry->context);
  MemoryContextSwitchTo(old);
  entry->context = nullptr;
  entry->guarded = nullptr;
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

Guarded *guarded(Oid relid) {
  // A transaction that holds all its locks already would hear nothing of what others have committed meanwhile.
  AcceptInvalidationMessages();
  Entry *entry = entry_of(relid);
  if (entry->valid) return entry->guarded;
  retire(entry);
  const MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard table", ALLOCSET_SMALL_SIZES);
  const MemoryContext old = MemoryContextSwitchTo(context);
  // Marked before the load: an invalidation that arrives while it reads the catalogs must stay noticed.
  entry->valid = true;
  entry->loading = true;
  Guarded *g = nullptr;
  PG_TRY();
  { g = load(relid); }
  PG_CATCH();
  {
    entry->valid = false;
    entry->loading = false;
    PG_RE_THROW();
  }
  PG_END_TRY();
  entry->loading = false;
  MemoryContextSwitchTo(old);
  if (g == nullptr) {
    MemoryContextDelete(context);
    return nullptr;
  }
  MemoryContextSetParent(context, TopMemoryContext);
  entry->context = context;
  entry->guarded = g;
  return g;
}

const Guarded &guarded_or_error(Oid relid) {
  const Guarded *g = guarded(relid);
  // A partition stands for its table, whose columns have numbers of their own.
  if (g != nullptr && g->table != relid) g = guarded(g->table);
  if (g == nullptr) {
    const char *name = get_rel_name(relid);
    if (name == nullptr)
      ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid));
    ereport(ERROR, errcode(kNotGuarded), errmsg("table \"%s\" is not guarded", name),
            errdetail("The guard looks after the tables that the view sync_guard.guarded_tables shows."),
            errhint("Adopt it: SELECT sync_guard.guard_table('%s');", qualified_name(relid)));
  }
  if (g->broken != nullptr)
    ereport(ERROR, errcode(kBadOption), errmsg("the settings of table %s do not fit it any more", g->name),
            errdetail("%s.", g->broken),
            errhint("Name what is there now in sync_guard.guard_table(), or restore what was."));
  return *g;
}

/// Every row of sync_guard.settings, ordered by name. `visit` gets the relation number and the name.
template <typename Visit>
static void each_setting(const Visit &visit) {
  Relation relation = table_open(pg::extension_table("settings"), AccessShareLock);
  SysScanDesc scan = systable_beginscan(relation, InvalidOid, false, nullptr, 0, nullptr);
  for (HeapTuple tuple = systable_getnext(scan); HeapTupleIsValid(tuple); tuple = systable_getnext(scan)) {
    const Row row{tuple, RelationGetDescr(relation)};
    bool is_null;
    visit(DatumGetObjectId(row.get(kRelation, &is_null)), row.string(kRelationName));
  }
  systable_endscan(scan);
  table_close(relation, AccessShareLock);
}

static int by_name(const ListCell *a, const ListCell *b) {
  return strcmp(static_cast<const Guarded *>(lfirst(a))->name, static_cast<const Guarded *>(lfirst(b))->name);
}

List *all_guarded(List **busy) {
  List *ids = NIL;
  each_setting([&ids](Oid relid, const char *) { ids = lappend_oid(ids, relid); });
  List *tables = NIL;
  ListCell *cell;
  foreach (cell, ids) {
    if (busy != nullptr && !ConditionalLockRelationOid(lfirst_oid(cell), AccessShareLock)) {
      *busy = lappend_oid(*busy, lfirst_oid(cell));
      continue;
    }
    Guarded *g = guarded(lfirst_oid(cell));
    // For the load alone: whether the caller may lock the table is not known here.
    if (busy != nullptr) UnlockRelationOid(lfirst_oid(cell), AccessShareLock);
    if (g != nullptr && g->table == lfirst_oid(cell)) tables = lappend(tables, g);
  }
  list_sort(tables, by_name);
  return tables;
}

List *orphaned_settings() {
  List *names = NIL;
  each_setting([&names](Oid relid, const char *name) {
    const Guarded *g = guarded(relid);
    if (g == nullptr || g->table != relid) names = lappend(names, pstrdup(name));
  });
  return names;
}

void settings_load() {
  CacheRegisterRelcacheCallback(invalidate, 0);
  CacheRegisterSyscacheCallback(NAMESPACEOID, invalidate_all, 0);
  CacheRegisterSyscacheCallback(ENUMOID, invalidate_all, 0);
  RegisterXactCallback(free_retired, nullptr);
}

}  // namespace esg
