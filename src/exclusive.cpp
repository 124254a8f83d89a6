// The check of an exclusive scope, inside the statement that starts a run. See exclusive.h.
//
// Two steps. A try-lock of our own class on each atom of the scope, held to the end of the transaction, keeps two
// starters apart whose rows the other cannot see yet; memory tells what the other one is about. Then the live runs of the
// scope are read with the latest snapshot, those of open transactions from memory, as the table's owner and past row
// security: with the caller's own eyes a REPEATABLE READ transaction or a row policy let two in (tried). Nothing here waits
// for a lock: a partition that somebody has locked is an error, since what is in it cannot be told.

#include "exclusive.h"

#include "errors.h"
#include "liveness.h"
#include "locks.h"
#include "passed_over.h"
#include "pg/boundary.h"
#include "pg/extension_tables.h"
#include "pg/spi.h"
#include "runs.h"

namespace esg {
namespace {

/// More combinations of atoms than this are refused: each of them is a lock.
constexpr int kMaxAtoms = 256;

/// How often the holder of a scope is looked for again who seems to be dead and gives a sign of life meanwhile.
constexpr int kLooks = 3;

/// The run that claims its scope.
struct Claim {
  const Guarded &g;
  const char *key;
  const core::Scope &scope;
  core::Question question;
  bool without_leases;  ///< their table is locked
};

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

/// The starter may see the rows of others: he may read the table, past row security.
bool may_see_others(const Guarded &g) {
  const Guarded *table = guarded(g.table);  // whose columns have the numbers that privileges are granted on
  return table != nullptr && may_read(*table) && !row_security_applies(*table);
}

// ---- another one is just starting --------------------------------------------------------------------------------------

/// Who holds the lock of an atom.
struct Holder {
  int pid = 0;  ///< 0: nobody any more, or a prepared transaction
  TransactionId prepared = InvalidTransactionId;
};

Holder holder_of(const LOCKTAG &tag) {
  Holder holder;
  int count = 0;
  const VirtualTransactionId *holders = GetLockConflicts(&tag, ExclusiveLock, &count);
  if (count == 0) return holder;
  const PGPROC *process = pg::process_of_compat(holders[0]);
  bool more;
  if (process != nullptr) holder.pid = process->pid;
  else holder.prepared = TwoPhaseGetXidByVirtualXID(holders[0], &more);
  return holder;
}

/// The name of a prepared transaction, quoted for SQL; null where it is there no more.
char *prepared_name(TransactionId xid) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement query(
      "SELECT pg_catalog.quote_literal(p.gid) FROM pg_catalog.pg_prepared_xacts AS p"
      " WHERE p.transaction OPERATOR(pg_catalog.=) $1");
  query.add(XIDOID, TransactionIdGetDatum(xid));
  pg::spi_begin();
  char *name = pg::spi_run(query, pg::Access::kRead) == 1 ? pg::spi_text(0, 1, context) : nullptr;
  pg::spi_end();
  return name;
}

/// The run was inserted by this transaction: its rows tell of it. (Not told by the process: it may have prepared another one.)
bool is_own(const Tracked &run) { return TransactionIdIsCurrentTransactionId(XidFromFullTransactionId(run.inserter)); }

/// The runs that overlap the claim, those of open transactions too.
RunFilter runs_in_scope(const Claim &claim) {
  RunFilter filter;
  filter.uncommitted = true;
  filter.without_leases = claim.without_leases;
  filter_by_overlap(claim.g, claim.scope, nullptr, &filter);
  return filter;
}

/// The run of another, open transaction that overlaps the claim, as memory knows it: that of the process which holds the scope,
/// else the oldest; null where there is none.
const Run *uncommitted_rival(const Claim &claim, int holder_pid) {
  const Runs runs = uncommitted_runs(claim.g, runs_in_scope(claim), claim.question);
  const Run *rival = nullptr;
  for (int i = 0; i < runs.count; ++i) {
    const Run &run = runs.items[i];
    if (is_own(*run.memory) || strcmp(run.key, claim.key) == 0) continue;
    if (rival == nullptr || (run.writer_pid == holder_pid && rival->writer_pid != holder_pid)) rival = &run;
  }
  return rival;
}

/// A sentence on a run that is not committed yet.
char *describe_rival(const Run &rival) {
  char words[160];
  core::describe(rival.judgement, words, sizeof words);
  return psprintf(" Run %s is %s since %s: %s.", rival.key, rival.status,
                  rival.started ? iso_utc(*rival.started) : "a time that its row does not tell", words);
}

char *hint_for_prepared(TransactionId xid) {
  const char *name = TransactionIdIsValid(xid) ? prepared_name(xid) : nullptr;
  if (name == nullptr) return pstrdup("Try again: that transaction has just ended.");
  return psprintf("Nothing but its end frees the scope: COMMIT PREPARED %s; or ROLLBACK PREPARED %s;", name, name);
}

char *hint_for_starting(const Holder &holder, bool abandoned) {
  if (TransactionIdIsValid(holder.prepared)) return hint_for_prepared(holder.prepared);
  if (holder.pid == 0 || !abandoned) return pstrdup("Try again when that transaction has ended.");
  return psprintf(
      "Its writer seems to be dead, but only the end of its transaction frees the scope: SELECT "
      "pg_terminate_backend(%d);",
      holder.pid);
}

[[noreturn]] void refuse_starting(const Claim &claim, const LOCKTAG &tag) {
  const char *who = describe_holder(tag);
  const Holder holder = holder_of(tag);
  const Run *rival = nullptr;
  if (have_memory() && may_see_others(claim.g)) rival = uncommitted_rival(claim, holder.pid);
  ereport(ERROR, errcode(kScopeRunning),
          errmsg("another run of this scope of table %s is just being started", claim.g.name),
          errdetail("It is being started by %s, and is not committed yet.%s", who,
                    rival == nullptr ? "" : describe_rival(*rival)),
          errhint("%s", hint_for_starting(holder, rival != nullptr && rival->judgement.dead())));
  pg_unreachable();
}

/// Calls `visit(hash)` for each combination of the columns' atoms from `column` on, until it returns false.
template <typename Visit>
bool each_atom(const Guarded &g, const Atoms *atoms, int column, uint64 hash, const Visit &visit) {
  if (column == g.scope_count) return visit(hash);
  for (int i = 0; i < atoms[column].count; ++i) {
    const std::string_view *value = atoms[column].values == nullptr ? nullptr : &atoms[column].values[i];
    if (!each_atom(g, atoms, column + 1, hash_text(hash, value), visit)) return false;
  }
  return true;
}

/// The same for a scope. ERROR where there are too many.
template <typename Visit>
bool each_atom(const Guarded &g, const core::Scope &scope, const Visit &visit) {
  Atoms atoms[core::kMaxScopeColumns];
  int64 product = 1;
  for (int i = 0; i < g.scope_count; ++i) {
    atoms[i] = atoms_in_column(g, i, scope.values[i]);
    product *= Max(atoms[i].count, 1);
    if (product > kMaxAtoms)
      ereport(ERROR, errcode(kBadOption),
              errmsg("a scope of table %s stands for more than %d others", g.name, kMaxAtoms),
              errdetail("Each value of the scope counts with those that overlap it, in all combinations."),
              errhint("Shorten scope_overlaps."));
  }
  return each_atom(g, atoms, 0, hash_combine64(g.table, 0), visit);
}

bool try_atom(uint64 hash, LOCKTAG *tag) {
  make_lock_tag(tag, LockClass::kScope, hash);
  return LockAcquire(tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

void lock_scope(const Claim &claim) {
  (void)each_atom(claim.g, claim.scope, [&claim](uint64 hash) {
    LOCKTAG tag;
    if (!try_atom(hash, &tag)) refuse_starting(claim, tag);
    return true;
  });
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

char *condition_of(const Guarded &g, const core::Scope &scope, const bool *any, RunFilter *filter) {
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
    const Datum array = pg::text_array(texts, list_length(values));
    appendStringInfo(&sql, " AND %s::pg_catalog.text OPERATOR(pg_catalog.=) ANY (", column_ref(g.scope[i]));
    if (filter == nullptr) {
      appendStringInfo(&sql, "%s::pg_catalog.text[])", quote_literal_cstr(OidOutputFunctionCall(F_ARRAY_OUT, array)));
    } else {
      filter->scope_values[filter->scope_value_count++] = array;
      appendStringInfo(&sql, "$%d)", 1 + filter->scope_value_count);
    }
  }
  return sql.data;
}

/// The scopes that overlap this one.
const ScopeHashes *hashes_of(const Guarded &g, const core::Scope &scope, const bool *any) {
  auto *hashes = static_cast<ScopeHashes *>(palloc0(sizeof(ScopeHashes)));
  hashes->count = g.scope_count;
  for (int i = 0; i < g.scope_count; ++i) {
    if (any != nullptr && any[i]) continue;
    const List *values = scope.values[i] ? overlapping_values(g, i, scope.values[i]) : NIL;
    auto *items = static_cast<uint64 *>(palloc(sizeof(uint64) * Max(list_length(values), 1)));
    int count = 0;
    ListCell *cell;
    foreach (cell, values) items[count++] = scope_hash(std::string_view(static_cast<const char *>(lfirst(cell))));
    if (!scope.values[i]) items[count++] = scope_hash(std::nullopt);
    hashes->columns[i] = {count, items};
  }
  return hashes;
}

// ---- a run is there already --------------------------------------------------------------------------------------------

/// A sentence on the lease of a run; "" where there is none.
char *describe_lease(const Run &run, const core::Question &question) {
  if (run.token == 0) return pstrdup("");
  const core::Lease &lease = run.evidence.lease;
  const Tracked *entry = run.memory != nullptr && run.memory->token == run.token ? run.memory : nullptr;
  StringInfoData words;
  initStringInfo(&words);
  appendStringInfoString(&words, lease.kind == core::LeaseKind::kSessionBound ? " Its lease is bound to its session"
                                                                              : " It has a heartbeat lease");
  if (entry != nullptr) appendStringInfo(&words, ", process %d", entry->session_pid);
  if (run.worker != nullptr) appendStringInfo(&words, ", of worker \"%s\"", run.worker);
  char span[64];
  if (lease.ttl) appendStringInfo(&words, ", ttl %s", core::describe_span(*lease.ttl, span, sizeof span));
  const auto sign = core::last_sign_of_life(run.evidence);
  if (sign && run.judgement.verdict != core::Verdict::kLive)  // whose words tell it
    appendStringInfo(&words, ", last sign of life %s ago",
                     core::describe_span(Max(question.now - *sign, 0), span, sizeof span));
  appendStringInfoChar(&words, '.');
  return words.data;
}

char *hint_for_holder(const Run &holder) {
  if (holder.fence_pid < 0) return hint_for_prepared(prepared_fence_holder(holder.token));
  if (holder.fence_pid != 0)
    return pstrdup("Its worker is committing just now: try again when that transaction has ended.");
  if (holder.uncommitted) return pstrdup("Try again when that transaction has ended.");
  if (holder.started || holder.active || holder.evidence.last_sign)
    return pstrdup("Wait for its end. If you know that it is dead, close it: UPDATE its status, or shorten its limit.");
  return pstrdup(
      "It has no time by which it could be judged, so it blocks the scope until its row gets a start "
      "time or another status.");
}

/// ERROR; on a table that is only observed a WARNING.
void refuse_second(const Claim &claim, const Run &holder) {
  const Guarded &g = claim.g;
  const char *since = holder.started ? iso_utc(*holder.started) : "a time that its row does not tell";
  ereport(g.mode == Mode::kObserve ? WARNING : ERROR, errcode(kScopeRunning),
          errmsg("a run of this scope of table %s is running already", pg::sendable(g.name)),
          may_see_others(g)
              ? errdetail("%s", pg::sendable(psprintf("Run %s is %s since %s: %s.%s", holder.key, holder.status, since,
                                                      why_of(holder), describe_lease(holder, claim.question))))
              : 0,
          errhint("%s", hint_for_holder(holder)));
}

/// What is there in the scope beside the run that claims it.
struct Found {
  const Run *holder = nullptr;  ///< the first live one
  List *passed_over = NIL;      ///< keys of the dead ones before it
  bool has_come_back = false;   ///< the holder was dead when it was read
};

/// Looks once. Reads as the table's owner. The dead runs are passed over: they get no more signs of life before they have claimed
/// the scope themselves.
Found look_for_holder(const Claim &claim) {
  const pg::Identity before = read_as_owner(claim.g, ToRead::kJudged);
  const Runs runs = read_runs(claim.g, runs_in_scope(claim), claim.question);
  pg::restore(before);
  Found found;
  for (int i = 0; i < runs.count; ++i) {
    const Run &run = runs.items[i];
    if (run.uncommitted && is_own(*run.memory)) continue;
    if (strcmp(run.key, claim.key) == 0) continue;
    const bool dead = run.judgement.dead();
    if (dead && claim.g.mode == Mode::kObserve) continue;
    if (dead && track_passing_over(claim.g.table, facts_of(run), run.memory)) {
      found.passed_over = lappend(found.passed_over, const_cast<char *>(run.key));
      continue;
    }
    found.holder = &run;
    found.has_come_back = dead;
    break;
  }
  return found;
}

/// The same, again where a dead run gave a sign of life just then.
Found find_holder(const Claim &claim) {
  Found found = look_for_holder(claim);
  for (int i = 0; i < kLooks && found.has_come_back; ++i) found = look_for_holder(claim);
  return found;
}

void note_passed_over(const Guarded &g, const List *keys) {
  auto **items = static_cast<const char **>(palloc(sizeof(char *) * (list_length(keys) + 1)));
  int count = 0;
  ListCell *cell;
  foreach (cell, keys) items[count++] = static_cast<const char *>(lfirst(cell));
  note_passed_over(g, items, count);
}

}  // namespace

char *overlap_condition(const Guarded &g, const core::Scope &scope, const bool *any) {
  return condition_of(g, scope, any, nullptr);
}

void filter_by_overlap(const Guarded &g, const core::Scope &scope, const bool *any, RunFilter *filter) {
  filter->exclusive_statuses = true;
  filter->scope = &scope;
  filter->any = any;
  filter->overlaps = true;
  filter->scope_condition = condition_of(g, scope, any, filter);
  filter->scopes = hashes_of(g, scope, any);
}

void hold_scope(const Guarded &g, const RowFacts &facts) {
  if (g.mode == Mode::kGuard) lock_scope({g, facts.key, facts.scope, question_now(), false});
}

void claim_scope(const Guarded &g, const RowFacts &facts) {
  const bool leases = OidIsValid(pg::lock_extension_table_at_once("leases"));
  if (!leases)
    ereport(WARNING, errcode(ERRCODE_LOCK_NOT_AVAILABLE),
            errmsg("the leases of table %s cannot be read: table sync_guard.leases is locked or changed",
                   pg::sendable(g.name)),
            errdetail("Runs of the exclusive scope are judged by their rows and by what memory knows."));
  const Claim claim{g, facts.key, facts.scope, question_now(), !leases};
  if (g.mode == Mode::kGuard) lock_scope(claim);
  lock_to_look(g);
  // What this statement has written must be seen too: two rows of one INSERT are two runs.
  CommandCounterIncrement();
  // Who may not look is refused: an error below lets the write through.
  pg::restore(read_as_owner(g, ToRead::kJudged));
  Found found;
  const ErrorData *error = pg::try_in_subtransaction([&] { found = find_holder(claim); });
  if (error != nullptr)
    ereport(WARNING, errcode(error->sqlerrcode),
            errmsg("could not check the exclusive scope of table %s: %s", pg::sendable(g.name),
                   pg::sendable(error->message)),
            errdetail("The write is let through unchecked."),
            errhint("The view sync_guard.guard_health says what to do."));
  else if (found.holder != nullptr) refuse_second(claim, *found.holder);
  else note_passed_over(g, found.passed_over);
  (void)track_scope_claimed(g.table, facts);
  // Of an earlier run of this key too.
  forget_passed_over(g, facts.key);
}

bool make_sure_of_scope(const Guarded &g, const RowFacts &facts) {
  int held = 0;
  const auto lock = [&held](uint64 hash) {
    LOCKTAG tag;
    if (!try_atom(hash, &tag)) return false;
    ++held;
    return true;
  };
  // Who starts a run there has the lock until what he notes is committed.
  const bool at_rest = each_atom(g, facts.scope, lock);
  const bool passed_over = is_noted_as_passed_over(g, facts.key);
  if (at_rest && !passed_over) track_scope_known(g.table, facts.key);
  (void)each_atom(g, facts.scope, [&held](uint64 hash) {
    if (held == 0) return false;
    --held;
    LOCKTAG tag;
    make_lock_tag(&tag, LockClass::kScope, hash);
    (void)LockRelease(&tag, ExclusiveLock, false);
    return true;
  });
  return !passed_over;
}

}  // namespace esg
