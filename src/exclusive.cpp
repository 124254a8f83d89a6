// The check of an exclusive scope, inside the statement that starts a run. See exclusive.h.
//
// Two steps. A try-lock of our own class on each atom of the scope, held to the end of the transaction, keeps two
// starters apart whose rows the other cannot see yet. Then the committed live runs of the scope are read with the latest
// snapshot, as the table's owner and past row security: with the caller's own eyes a REPEATABLE READ transaction or a row
// policy let two in (tried). Nothing here waits for a lock: a partition that somebody has locked is an error, since what is
// in it cannot be told.

#include "exclusive.h"

#include "errors.h"
#include "locks.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "runs.h"

namespace esg {
namespace {

/// More combinations of atoms than this are refused: each of them is a lock.
constexpr int kMaxAtoms = 256;

struct Atoms {
  int count;                       ///< at least 1; a NULL is one atom without a text
  const std::string_view *values;  ///< null for NULL
};

Atoms atoms_in_column(const Guarded &g, int column, const core::ScopeValue &value) {
  if (!value) return {1, nullptr};
  const std::size_t count = core::atoms_of(column, value, g.overlaps, g.overlap_count, nullptr, 0);
  auto *atoms = static_cast<std::string_view *>(palloc(sizeof(std::string_view) * Max(count, 1)));
  core::atoms_of(column, value, g.overlaps, g.overlap_count, atoms, count);
  return {static_cast<int>(count), atoms};
}

uint64 hash_text(uint64 seed, const std::string_view *value) {
  if (value == nullptr) return hash_combine64(seed, 0x9e3779b97f4a7c15ULL);
  return hash_combine64(seed, hash_bytes_extended(reinterpret_cast<const unsigned char *>(value->data()),
                                                  static_cast<int>(value->size()), seed));
}

[[noreturn]] void refuse_starting(const Guarded &g, const LOCKTAG &tag) {
  const char *who = describe_holder(tag);
  ereport(ERROR, errcode(kScopeRunning), errmsg("another run of this scope of table %s is just being started", g.name),
          errdetail("It is being started by %s, and is not committed yet.", who),
          errhint("Try again when that transaction has ended."));
  pg_unreachable();
}

void lock_atom(const Guarded &g, uint64 hash) {
  LOCKTAG tag;
  make_lock_tag(&tag, LockClass::kScope, hash);
  if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL) refuse_starting(g, tag);
}

/// Locks each combination of the columns' atoms from `column` on.
void lock_atoms(const Guarded &g, const Atoms *atoms, int column, uint64 hash) {
  if (column == g.scope_count) return lock_atom(g, hash);
  for (int i = 0; i < atoms[column].count; ++i)
    lock_atoms(g, atoms, column + 1,
               hash_text(hash, atoms[column].values == nullptr ? nullptr : &atoms[column].values[i]));
}

void lock_scope(const Guarded &g, const core::Scope &scope) {
  Atoms atoms[core::kMaxScopeColumns];
  int64 product = 1;
  for (int i = 0; i < g.scope_count; ++i) {
    atoms[i] = atoms_in_column(g, i, scope.values[i]);
    product *= Max(atoms[i].count, 1);
    if (product > kMaxAtoms)
      ereport(ERROR, errcode(kBadOption),
              errmsg("a scope of table %s stands for more than %d others", g.name, kMaxAtoms),
              errhint("Shorten scope_overlaps."));
  }
  lock_atoms(g, atoms, 0, hash_combine64(g.table, 0));
}

void append_value(List **values, const std::string_view &value) {
  ListCell *cell;
  foreach (cell, *values)
    if (value == static_cast<const char *>(lfirst(cell))) return;
  *values = lappend(*values, pnstrdup(value.data(), value.size()));
}

/// Every value of the column that overlaps `value`: itself, what it stands for, and whatever stands for a common atom.
List *overlapping_values(const Guarded &g, int column, const core::ScopeValue &value) {
  List *values = NIL;
  append_value(&values, *value);
  const Atoms own = atoms_in_column(g, column, value);
  for (int i = 0; i < own.count; ++i) append_value(&values, own.values[i]);
  for (std::size_t i = 0; i < g.overlap_count; ++i)
    if (g.overlaps[i].column == column &&
        core::overlap(column, value, g.overlaps[i].value, g.overlaps, g.overlap_count))
      append_value(&values, g.overlaps[i].value);
  return values;
}

/// The starter may see the rows of others: he may read the table, past row security.
bool may_see_others(const Guarded &g) {
  const Guarded *table = guarded(g.table);  // whose columns have the numbers that privileges are granted on
  return table != nullptr && may_read(*table) && !row_security_applies(*table);
}

/// ERROR; on a table that is only observed a WARNING.
void refuse_second(const Guarded &g, const Run &holder) {
  char words[160];
  core::describe(holder.judgement, words, sizeof words);
  const char *since = holder.started ? iso_utc(*holder.started) : "a time that its row does not tell";
  ereport(
      g.mode == Mode::kObserve ? WARNING : ERROR, errcode(kScopeRunning),
      errmsg("a run of this scope of table %s is running already", g.name),
      may_see_others(g) ? errdetail("Run %s is %s since %s: %s.", holder.key, holder.status, since, words) : 0,
      holder.started || holder.active
          ? errhint("Wait for its end. If you know that it is dead, close it: UPDATE its status, or shorten its limit.")
          : errhint("It has no time by which it could be judged, so it blocks the scope until its row gets a start "
                    "time or another status."));
}

/// Locks a relation for reading; ERROR SY002 where somebody is in the way, so that the application's statement never waits.
void lock_to_look_at(const Guarded &g, Oid relation) {
  LOCKTAG tag;
  SET_LOCKTAG_RELATION(tag, MyDatabaseId, relation);
  // Held already, there is nothing to wait for; but a try would fail on those who stand in the queue behind us.
  if (pg::lock_held_by_me_compat(tag, AccessShareLock) || ConditionalLockRelationOid(relation, AccessShareLock)) return;
  const char *name = get_rel_name(relation);
  ereport(
      ERROR, errcode(kScopeRunning),
      errmsg("cannot tell whether a run of this scope of table %s is running already", g.name),
      errdetail("Table \"%s\" is locked by %s.", name == nullptr ? "?" : name, describe_holder(tag, AccessShareLock)),
      errhint("Try again when that transaction has ended."));
}

/// The same for all that find_holder reads.
void lock_to_look(const Guarded &g) {
  lock_to_look_at(g, g.table);
  if (!g.partitioned) return;
  ListCell *cell;
  foreach (cell, find_all_inheritors(g.table, NoLock, nullptr)) lock_to_look_at(g, lfirst_oid(cell));
}

/// The first live run of the scope other than `key`; null where there is none. Reads as the table's owner.
const Run *find_holder(const Guarded &g, const char *key, const core::Scope &scope, const core::Question &question) {
  const pg::Identity before = read_as_owner(g);
  RunFilter filter;
  filter.exclusive_statuses = true;
  filter.scope_condition = overlap_condition(g, scope, nullptr);
  const Runs runs = read_runs(g, filter, question);
  pg::restore(before);
  for (int i = 0; i < runs.count; ++i)
    if (strcmp(runs.items[i].key, key) != 0 && !runs.items[i].judgement.dead()) return &runs.items[i];
  return nullptr;
}

}  // namespace

char *overlap_condition(const Guarded &g, const core::Scope &scope, const bool *any) {
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfoString(&sql, "true");
  for (int i = 0; i < g.scope_count; ++i) {
    if (any != nullptr && any[i]) continue;
    if (!scope.values[i]) {
      appendStringInfo(&sql, " AND %s IS NULL", column_ref(g.scope[i]));
      continue;
    }
    const List *values = overlapping_values(g, i, scope.values[i]);
    auto **texts = static_cast<const char **>(palloc(sizeof(char *) * list_length(values)));
    for (int n = 0; n < list_length(values); ++n) texts[n] = static_cast<const char *>(list_nth(values, n));
    const char *literal = OidOutputFunctionCall(F_ARRAY_OUT, pg::text_array(texts, list_length(values)));
    appendStringInfo(&sql, " AND %s::pg_catalog.text OPERATOR(pg_catalog.=) ANY (%s::pg_catalog.text[])",
                     column_ref(g.scope[i]), quote_literal_cstr(literal));
  }
  return sql.data;
}

void claim_scope(const Guarded &g, const char *key, const core::Scope &scope) {
  if (g.mode == Mode::kGuard) lock_scope(g, scope);
  lock_to_look(g);
  // What this statement has written must be seen too: two rows of one INSERT are two runs.
  CommandCounterIncrement();
  const core::Question question = question_now();
  const Run *holder = nullptr;
  const ErrorData *error = pg::try_in_subtransaction([&] { holder = find_holder(g, key, scope, question); });
  if (error != nullptr) {
    ereport(WARNING, errcode(error->sqlerrcode),
            errmsg("could not check the exclusive scope of table %s: %s", g.name, error->message),
            errdetail("The write is let through unchecked."),
            errhint("The view sync_guard.guard_health says what to do."));
    return;
  }
  if (holder != nullptr) refuse_second(g, *holder);
}

}  // namespace esg
