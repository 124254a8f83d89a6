// The per-backend cache of resolved settings. Runs wherever a trigger fires or a guard function is called; takes
// ACCESS SHARE on the settings tables and the relation's own lock is held by the caller or taken here. See settings.h.

#include "settings.h"

#include "errors.h"
#include "fault.h"
#include "pg/boundary.h"
#include "pg/extension_tables.h"
#include "settings_rows.h"

namespace esg {
namespace {

/// A cached answer for one relation. Dropped ones stay until the transaction ends: a caller may still hold them.
struct Entry {
  Oid relid;  // hash key
  bool valid;
  bool loading;
  MemoryContext context;  // of `guarded`; null for a negative answer
  Guarded *guarded;
};

HTAB *cache = nullptr;
List *retired = NIL;  // MemoryContexts, in TopMemoryContext

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
void invalidate_all(Datum, pg::SysCacheIdentifierCompat, uint32) noexcept { invalidate(Datum(0), InvalidOid); }

void free_retired(XactEvent event, void *) noexcept {
  if (retired == NIL) return;
  if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE) return;
  ListCell *cell;
  foreach (cell, retired) MemoryContextDelete(static_cast<MemoryContext>(lfirst(cell)));
  list_free(retired);
  retired = NIL;
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
  return strcmp(row.string(kRelationName), qualified_name(RelationGetRelid(relation))) == 0 ||
         has_guard_trigger(relation);
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
      g->adopted_as = row.string(kRelationName);
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
  ESG_FAULT_POINT("settings.row_read");
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

/// Whether guard_table would look at it at all.
bool could_be_guarded(Oid relid) {
  const char kind = get_rel_relkind(relid);
  if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE) return false;
  const Oid schema = get_rel_namespace(relid);
  const char *name = get_namespace_name(schema);
  return !IsCatalogNamespace(schema) && !IsToastNamespace(schema) && name != nullptr &&
         strcmp(name, "information_schema") != 0 && strcmp(name, "sync_guard") != 0;
}

}  // namespace

const char *qualified_name(Oid relid) {
  const char *name = get_rel_name(relid);
  if (name == nullptr) return psprintf("with OID %u", relid);
  return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)), name);
}

void not_guarded(Oid relid, bool wanted) {
  if (get_rel_name(relid) == nullptr)
    ereport(ERROR, errcode(ERRCODE_UNDEFINED_TABLE), errmsg("relation with OID %u does not exist", relid));
  const char *name = qualified_name(relid);
  const bool possible = could_be_guarded(relid);
  ereport(ERROR, errcode(kNotGuarded), errmsg("%s %s is not guarded", possible ? "table" : "relation", name),
          !possible ? errdetail("Only tables of applications are guarded.")
          : wanted  ? errdetail("The guard looks after the tables that the view sync_guard.guarded_tables shows.")
                    : errdetail("There is nothing to release."),
          possible && wanted ? errhint("Adopt it: SELECT sync_guard.guard_table(%s);", quote_literal_cstr(name))
                             : errhint("The view sync_guard.guarded_tables shows the guarded ones."));
  pg_unreachable();
}

/// Whether the tables of settings are there, and as the extension made them.
static bool can_be_read() {
  for (const char *table : {"settings", "scope_limits", "transition_rules"})
    if (!pg::is_as_made(table)) return false;
  return true;
}

Guarded *guarded(Oid relid, bool *missing) {
  // A transaction that holds all its locks already would hear nothing of what others have committed meanwhile.
  AcceptInvalidationMessages();
  Entry *entry = entry_of(relid);
  if (entry->valid) return entry->guarded;
  if (missing != nullptr && !can_be_read()) {
    *missing = true;
    return nullptr;
  }
  retire(entry);
  const MemoryContext context =
      AllocSetContextCreate(CurrentMemoryContext, "emag_sync_guard table", ALLOCSET_SMALL_SIZES);
  const MemoryContext old = MemoryContextSwitchTo(context);
  // Marked before the load: an invalidation that arrives while it reads the catalogs must stay noticed.
  entry->valid = true;
  entry->loading = true;
  Guarded *g = nullptr;
  PG_TRY();
  {
    pg::without_exceptions([&] { g = load(relid); });
  }
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
  ESG_FAULT_POINT("settings.loaded");
  MemoryContextSetParent(context, TopMemoryContext);
  entry->context = context;
  entry->guarded = g;
  return g;
}

const Guarded &guarded_or_error(Oid relid) {
  const Guarded *g = guarded(relid);
  // A partition stands for its table, whose columns have numbers of their own.
  if (g != nullptr && g->table != relid) g = guarded(g->table);
  if (g == nullptr) not_guarded(relid, true);
  if (g->broken != nullptr)
    ereport(ERROR, errcode(kBadOption), errmsg("the settings of table %s do not fit it any more", g->name),
            errdetail("%s.", g->broken),
            errhint("Name what is there now in sync_guard.guard_table(), or restore what was."));
  return *g;
}

/// Every row of sync_guard.settings, ordered by name. `visit` gets the relation number and the name.
template <typename Visit>
static void each_setting(const Visit &visit) {
  Relation relation = pg::open_extension_table("settings");
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
