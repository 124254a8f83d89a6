// Runs in shared memory: what the triggers, starters and reapers write into it. Runs in whatever process notes something;
// takes one partition's lock at a time, and under it those of the server that tell a transaction's state. run_table_lease.cpp
// has what workers write, run_table_read.cpp the readers' side. See run_table.h.

#include "run_table_memory.h"

namespace esg {
namespace memory {

namespace {

/// A free entry's number; -1 where there is none.
int32 take_free() {
  SpinLockAcquire(&table->lock);
  const int32 number = table->first_free;
  if (number >= 0) {
    table->first_free = entries()[number].next;
    ++table->used;
  }
  SpinLockRelease(&table->lock);
  return number;
}

bool has_free() {
  SpinLockAcquire(&table->lock);
  const bool has = table->first_free >= 0;
  SpinLockRelease(&table->lock);
  return has;
}

/// Gives back the entries of runs that have ended. To look through all of them takes a small part of the time only: where it was
/// done just now, it is not done again. Who comes while another looks waits for what he finds. False: there is no room.
bool make_room() {
  constexpr int64 kPausePerEntry = 10;  // µs; to look at one takes less than 1
  const int64 pause = Min(table->capacity * kPausePerEntry, core::kSecond);
  LWLockAcquire(&table->room_lock.lock, LW_EXCLUSIVE);
  bool room = has_free();
  if (!room && (table->sought == 0 || monotonic_now() - table->sought >= pause)) {
    settle_all();
    table->sought = monotonic_now();
    room = has_free();
  }
  LWLockRelease(&table->room_lock.lock);
  return room;
}

void count_refusal() {
  SpinLockAcquire(&table->lock);
  const int64 now = monotonic_now();
  ++table->refused;
  table->last_refused = now;
  SpinLockRelease(&table->lock);
}

/// Whether a run has found no room in this life of the server.
bool was_ever_full() {
  SpinLockAcquire(&table->lock);
  const bool full = table->refused > 0;
  SpinLockRelease(&table->lock);
  return full;
}

void set_scope(Tracked *run, const core::Scope &scope) {
  run->scope_count = scope.count;
  run->scope_cut = false;
  char *at = run->scope_text;
  char *end = run->scope_text + kTrackedScopeBytes;
  for (int i = 0; i < scope.count; ++i) {
    const core::ScopeValue &value = scope.values[i];
    run->scope_hashes[i] = scope_hash(value);
    run->scope_null[i] = !value;
    const int wanted = value ? static_cast<int>(value->size()) : 0;
    // Each value that follows needs its zero at least.
    const int room = static_cast<int>(end - at) - (scope.count - i);
    int length = wanted;
    if (length > room) length = pg_mbcliplen(value->data(), wanted, Max(room, 0));
    if (length < wanted) run->scope_cut = true;
    if (length > 0) memcpy(at, value->data(), length);
    at += length;
    *at++ = '\0';
  }
}

void copy_text(char *out, int size, const char *text, bool *cut) {
  const int length = static_cast<int>(strlen(text));
  const int fits = length < size ? length : pg_mbcliplen(text, length, size - 1);
  memcpy(out, text, fits);
  out[fits] = '\0';
  if (cut != nullptr) *cut = fits < length;
}

/// Progress has stood still until now; nothing where it has never moved.
void end_stall(Tracked *run, int64 now) {
  if (run->progress_changed != 0 && now - run->progress_changed > run->longest_stall)
    run->longest_stall = now - run->progress_changed;
}

/// The run has been silent until now; nothing where memory knows of no sign before.
void end_silence(Tracked *run, int64 now) {
  if (run->last_sign != 0 && now - run->last_sign > run->longest_silence) run->longest_silence = now - run->last_sign;
}

/// Whether the entry is as it was when it was copied.
bool is_unchanged(const Tracked &run, const Tracked *copy) {
  return copy != nullptr && run.last_sign == copy->last_sign && run.progress_changed == copy->progress_changed &&
         run.token == copy->token;
}

/// What the run was before this transaction took it up again. Where it has done so before, that stays what it goes back to.
void remember_before(Tracked *run) {
  if (run->again) return;
  run->again = true;
  run->before = {run->inserter,  run->closer,      run->leaser,          run->scope_writer,
                 run->token,     run->ttl,         run->session_start,   run->session_pid,
                 run->owner,     run->binding,     run->lease_known,     run->superseded,
                 run->last_sign, run->passed_over, run->has_scope_again, run->scope_known};
}

/// `made`: there was no entry of the run.
void start_again(Tracked *run, const RowFacts &facts, bool made, FullTransactionId xid, int64 now) {
  // A lease that this very statement has taken before its triggers fire is the new run's.
  const bool leased_already = state_of(run->leaser) == XidState::kMine && !FullTransactionIdIsValid(run->closer);
  if (!made && !leased_already) remember_before(run);
  if (!leased_already) drop_lease(run);
  run->lease_known = true;
  run->passed_over = 0;
  run->scope_writer = InvalidFullTransactionId;
  run->has_scope_again = false;
  run->scope_known = true;
  run->has_done = run->has_row_done = run->has_total = false;
  run->progress_changed = 0;
  run->inserter = xid;
  run->closer = InvalidFullTransactionId;
  run->writer_pid = MyProcPid;
  set_row_progress(run, facts, now);
  run->progress_changed = 0;
  run->longest_silence = 0;
  run->longest_stall = 0;
}

/// A start that is told as it happens counts by the clock that does not step. One that lies elsewhere is what the row says.
bool starts_now(const RowFacts &facts) {
  constexpr core::Micros kNow = core::kMinute;
  if (!facts.started) return true;
  const core::Micros ago = GetCurrentTimestamp() - *facts.started;
  return ago < kNow && ago > -kNow;
}

/// 0 where it lies in the future: then it is not this clock's.
core::Micros clock_ahead_at(core::Micros started) {
  const Clock clock = clock_now();
  return started - clock.now > core::kMinute ? 0 : clock.now - clock.monotonic;
}

void warn_of_no_room() {
  static bool warned = false;
  if (warned) return;
  warned = true;
  ereport(WARNING, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
          errmsg("the guard's memory has no room for another run"),
          errdetail("All %d entries are taken; this run is judged by its row and its lease alone.", table->capacity),
          errhint("Raise emag_sync_guard.max_tracked_runs and restart the server."));
}

/// Calls `visit(Tracked *)` for the settled entry of a run, its partition's lock held; not where there is none.
template <typename Visit>
void visit_run(Oid relation, const char *key, const Visit &visit) {
  if (table == nullptr) return;
  const RunId id = run_id(relation, key);
  const uint32 bucket = bucket_of(id);
  LWLock *lock = lock_of_bucket(bucket);
  LWLockAcquire(lock, LW_EXCLUSIVE);
  if (Entry *entry = find(id, bucket); entry != nullptr) visit(&entry->run);
  LWLockRelease(lock);
}

/// The same; makes an entry where there is none, which knows nothing but the row. `visit(Tracked *, bool made)`.
template <typename Visit>
void visit_or_make(Oid relation, const RowFacts &facts, const Visit &visit) {
  if (table == nullptr) return;
  LWLock *lock;
  bool made;
  Entry *entry = find_or_make(run_id(relation, facts.key), &lock, &made);
  if (entry == nullptr) return;
  if (made) set_facts(&entry->run, facts);
  visit(&entry->run, made);
  LWLockRelease(lock);
}

/// The transaction `xid` ends the run. What was told of it until now holds whether or not that commits.
void close(Tracked *run, FullTransactionId xid, Ending ending) {
  const int64 now = monotonic_now();
  end_silence(run, now);
  end_stall(run, now);
  // The guard's own closing is seen by the trigger too.
  if (!FullTransactionIdIsValid(run->closer) || run->ending != Ending::kReaped) run->ending = ending;
  if (!FullTransactionIdEquals(run->closer, xid)) note_ended(run->id);
  run->closer = xid;
  run->closing_at = now;
}

}  // namespace

Entry *find(const RunId &id, uint32 bucket) {
  int32 *link = &heads()[bucket];
  while (*link >= 0) {
    Entry *entry = &entries()[*link];
    const RunId &other = entry->run.id;
    if (other.key_hash == id.key_hash && other.table == id.table && other.database == id.database) {
      if (settle_entry(entry)) return entry;
      const int32 gone = *link;
      *link = entry->next;
      release(gone);
      return nullptr;
    }
    link = &entry->next;
  }
  return nullptr;
}

Entry *find_or_make(const RunId &id, LWLock **lock, bool *made) {
  const uint32 bucket = bucket_of(id);
  *lock = lock_of_bucket(bucket);
  for (int attempt = 0; attempt < 2; ++attempt) {
    LWLockAcquire(*lock, LW_EXCLUSIVE);
    Entry *entry = find(id, bucket);
    *made = entry == nullptr;
    if (entry != nullptr) return entry;
    const int32 number = take_free();
    if (number >= 0) {
      entry = &entries()[number];
      memset(&entry->run, 0, sizeof entry->run);
      entry->run.id = id;
      entry->next = heads()[bucket];
      heads()[bucket] = number;
      return entry;
    }
    LWLockRelease(*lock);
    if (attempt == 0 && !make_room()) break;
  }
  count_refusal();
  return nullptr;
}

void set_facts(Tracked *run, const RowFacts &facts) {
  copy_text(run->key, kTrackedKeyBytes, facts.key, &run->key_cut);
  copy_text(run->status, kTrackedStatusBytes, facts.status == nullptr ? "" : facts.status, nullptr);
  if (facts.started && (!run->has_started || run->started != *facts.started))
    run->clock_ahead = clock_ahead_at(*facts.started);
  run->has_started = facts.started.has_value();
  run->started = facts.started.value_or(0);
  set_scope(run, facts.scope);
}

void set_done(Tracked *run, int64 done, int64 now) {
  if (run->has_done ? done != run->done : done > 0) {
    end_stall(run, now);
    run->progress_changed = now;
  }
  run->has_done = true;
  run->done = done;
}

void set_total(Tracked *run, int64 total) {
  run->has_total = true;
  run->total = total;
}

void set_row_progress(Tracked *run, const RowFacts &facts, int64 now) {
  if (facts.total) set_total(run, *facts.total);
  if (!facts.done || (run->has_row_done && run->row_done == *facts.done)) return;
  run->has_row_done = true;
  run->row_done = *facts.done;
  set_done(run, *facts.done, now);
}

void sign_of_life(Tracked *run, int64 now) {
  if (run->is_passed_over()) return;
  end_silence(run, now);
  run->last_sign = now;
  run->held = false;
}

}  // namespace memory

using namespace memory;

RunId run_id(Oid relation, const char *key) {
  const auto *bytes = reinterpret_cast<const unsigned char *>(key);
  return {MyDatabaseId, relation, hash_bytes_extended(bytes, static_cast<int>(strlen(key)), 0)};
}

uint64 scope_hash(const core::ScopeValue &value) {
  if (!value) return 0x9e3779b97f4a7c15ULL;
  return hash_bytes_extended(reinterpret_cast<const unsigned char *>(value->data()), static_cast<int>(value->size()),
                             1);
}

Told track_start(Oid relation, const RowFacts &facts, bool may_move) {
  const Told in_doubt = may_move ? Told::kGoesOn : Told::kStarts;
  if (table == nullptr) return in_doubt;
  LWLock *lock;
  bool made;
  const FullTransactionId xid = GetCurrentFullTransactionId();
  give_back_ended();
  Entry *entry = find_or_make(run_id(relation, facts.key), &lock, &made);
  if (entry == nullptr) {
    warn_of_no_room();
    return in_doubt;
  }
  Tracked *run = &entry->run;
  const int64 now = monotonic_now();
  const bool moves = !made && may_move && run->ending == Ending::kMoved && state_of(run->closer) == XidState::kMine;
  if (moves && run->is_passed_over()) {
    LWLockRelease(lock);
    return Told::kPassedOver;
  }
  if (moves) {
    run->closer = InvalidFullTransactionId;
    set_row_progress(run, facts, now);
    sign_of_life(run, now);
  } else {
    start_again(run, facts, made, xid, now);
    run->seen_whole = starts_now(facts);
    run->last_sign = run->seen_whole ? now : 0;
    run->held = false;
  }
  set_facts(run, facts);
  list_by_inserter(entry);
  LWLockRelease(lock);
  if (moves) return Told::kGoesOn;
  // There may have been no room for it when its row was taken away.
  return made && may_move && was_ever_full() ? Told::kGoesOn : Told::kStarts;
}

Told track_update(Oid relation, const RowFacts &facts, bool started_anew) {
  const Told told = started_anew ? Told::kStarts : Told::kGoesOn;
  if (table == nullptr) return told;
  LWLock *lock;
  bool made;
  // Asked for before the lock: to make an id may take locks that are waited for.
  const bool may_be_new = started_anew || facts.of_this_xact;
  const FullTransactionId xid = may_be_new ? GetCurrentFullTransactionId() : InvalidFullTransactionId;
  Entry *entry = find_or_make(run_id(relation, facts.key), &lock, &made);
  if (entry == nullptr) {
    warn_of_no_room();
    return told;
  }
  Tracked *run = &entry->run;
  if (run->is_passed_over() && !started_anew) {
    LWLockRelease(lock);
    return Told::kPassedOver;
  }
  const int64 now = monotonic_now();
  if (started_anew) {
    start_again(run, facts, made, xid, now);
    run->seen_whole = starts_now(facts);
    run->last_sign = 0;
  } else {
    set_row_progress(run, facts, now);
    if (made && facts.of_this_xact) {
      run->inserter = xid;
      run->writer_pid = MyProcPid;
    }
  }
  set_facts(run, facts);
  sign_of_life(run, now);
  list_by_inserter(entry);
  LWLockRelease(lock);
  return told;
}

void track_row(Oid relation, const RowFacts &facts) {
  visit_or_make(relation, facts, [](Tracked *, bool) {});
}

Ended track_end(Oid relation, const char *key, Ending ending) {
  Ended ended;
  const FullTransactionId xid = table == nullptr ? InvalidFullTransactionId : GetCurrentFullTransactionId();
  give_back_ended();
  visit_run(relation, key, [&](Tracked *run) {
    close(run, xid, ending);
    ended.may_have_lease = run->token != 0 || !run->lease_known;
    ended.may_be_passed_over = run->is_passed_over() || !run->scope_known;
  });
  return ended;
}

bool track_closing(Oid relation, const char *key, const Tracked *copy) {
  bool still_dead = true;
  const FullTransactionId xid = table == nullptr ? InvalidFullTransactionId : GetCurrentFullTransactionId();
  visit_run(relation, key, [&](Tracked *run) {
    still_dead = is_unchanged(*run, copy);
    if (still_dead) close(run, xid, Ending::kReaped);
  });
  return still_dead;
}

bool track_passing_over(Oid relation, const RowFacts &facts, const Tracked *copy) {
  bool still_dead = true;
  const FullTransactionId xid = table == nullptr ? InvalidFullTransactionId : GetCurrentFullTransactionId();
  visit_or_make(relation, facts, [&](Tracked *run, bool made) {
    still_dead = made || is_unchanged(*run, copy);
    if (!still_dead || run->is_passed_over()) return;
    run->passed_over = monotonic_now();
    run->scope_writer = xid;
    run->has_scope_again = false;
  });
  return still_dead;
}

bool track_scope_claimed(Oid relation, const RowFacts &facts) {
  bool may_be_passed_over = true;
  const FullTransactionId xid = table == nullptr ? InvalidFullTransactionId : GetCurrentFullTransactionId();
  visit_or_make(relation, facts, [&](Tracked *run, bool) {
    may_be_passed_over = run->is_passed_over() || !run->scope_known;
    if (!may_be_passed_over) return;
    // Where memory did not know, a rollback leaves what is safe: the run, which was dead, has no scope.
    if (run->passed_over == 0) run->passed_over = monotonic_now();
    run->scope_writer = xid;
    run->has_scope_again = true;
    run->scope_known = true;
  });
  return may_be_passed_over;
}

void track_scope_known(Oid relation, const char *key) {
  visit_run(relation, key, [](Tracked *run) { run->scope_known = true; });
}

}  // namespace esg
