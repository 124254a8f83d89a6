// The ring of notes on runs that have ended. Noted in whatever process meets an entry whose end has committed, under its
// partition's lock; taken in by sweeps. The ring has a spinlock, under which there are stores alone. See gaps.h.

#include "gaps.h"

#include "fault.h"
#include "pg/identity.h"
#include "pg/spi.h"
#include "run_table_memory.h"

namespace esg {
namespace {

constexpr int kNotes = 1024;
/// So many are looked at under one hold of the spinlock.
constexpr int kAtOnce = 64;
constexpr int64 kMostLines = 10000;

struct Note {
  Oid database;
  Oid table;  ///< InvalidOid: there is no note here
  char key[kTrackedKeyBytes];
  int64 ended_at;  ///< monotonic
  int64 longest_silence;
  int64 longest_stall;      ///< -1: progress never moved
  uint64 number;            ///< counts notes: tells this one from a later one in its place
  FullTransactionId taker;  ///< the (sub)transaction that takes it in; once that has committed the note is gone
};

struct Ring {
  slock_t lock;  ///< for all of it
  uint64 noted;
  Note notes[kNotes];
};
static_assert(std::is_standard_layout_v<Ring> && std::is_trivially_copyable_v<Note>);

Ring *ring = nullptr;

/// Copies of the notes on this database's table, in the current memory context.
struct Notes {
  Note *items;
  int count;
};

Notes copy_notes(Oid relation) {
  Notes notes{static_cast<Note *>(palloc(sizeof(Note) * kNotes)), 0};
  for (int from = 0; from < kNotes; from += kAtOnce) {
    SpinLockAcquire(&ring->lock);
    for (int i = from; i < from + kAtOnce; ++i) {
      const Note &note = ring->notes[i];
      if (note.table == relation && note.database == MyDatabaseId) notes.items[notes.count++] = note;
    }
    SpinLockRelease(&ring->lock);
  }
  return notes;
}

/// Puts `taker` on a note, unless it is another's by now; an invalid one clears it away.
bool take(const Note &copy, FullTransactionId taker) {
  Note *note = &ring->notes[copy.number % kNotes];
  SpinLockAcquire(&ring->lock);
  const bool mine =
      note->number == copy.number && note->table == copy.table && FullTransactionIdEquals(note->taker, copy.taker);
  if (mine) {
    note->taker = taker;
    if (!FullTransactionIdIsValid(taker)) note->table = InvalidOid;
  }
  SpinLockRelease(&ring->lock);
  return mine;
}

/// The notes that nobody has taken in become this transaction's; what was taken in is cleared away.
void take_over(Notes *notes, FullTransactionId taker) {
  int kept = 0;
  for (int i = 0; i < notes->count; ++i) {
    const Note &note = notes->items[i];
    const memory::XidState state = memory::state_of(note.taker);
    // Where nobody can tell, it has been taken in.
    if (state == memory::XidState::kCommitted || state == memory::XidState::kForgotten)
      (void)take(note, InvalidFullTransactionId);
    const bool free = state == memory::XidState::kNone || state == memory::XidState::kAborted;
    if (free && take(note, taker)) notes->items[kept++] = note;
  }
  notes->count = kept;
}

Datum int8_array(const Datum *values, const bool *nulls, int count) {
  int dims[1] = {count};
  int lower[1] = {1};
  return PointerGetDatum(construct_md_array(const_cast<Datum *>(values), const_cast<bool *>(nulls), 1, dims, lower,
                                            INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

constexpr const char *kInsert =
    "INSERT INTO sync_guard.observed_gaps (relation, run_key, ended_at, longest_silence, longest_stall)"
    " SELECT $1::pg_catalog.regclass, n.run_key, n.ended_at,"
    " n.silence::pg_catalog.float8 OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval,"
    " n.stall::pg_catalog.float8 OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval"
    " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5))"
    " AS n (run_key, ended_at, silence, stall)";

constexpr const char *kPrune =
    "DELETE FROM sync_guard.observed_gaps AS o WHERE o.relation OPERATOR(pg_catalog.=) $1"
    " AND o.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT x.ctid FROM sync_guard.observed_gaps AS x"
    " WHERE x.relation OPERATOR(pg_catalog.=) $1 ORDER BY x.ended_at DESC OFFSET $2))";

void write(const Guarded &g, const Notes &notes) {
  const Clock clock = clock_now();
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * notes.count));
  auto *ended = static_cast<Datum *>(palloc(sizeof(Datum) * notes.count));
  auto *silences = static_cast<Datum *>(palloc(sizeof(Datum) * notes.count));
  auto *stalls = static_cast<Datum *>(palloc(sizeof(Datum) * notes.count));
  auto *unmoved = static_cast<bool *>(palloc(sizeof(bool) * notes.count));
  for (int i = 0; i < notes.count; ++i) {
    const Note &note = notes.items[i];
    keys[i] = note.key;
    ended[i] = TimestampTzGetDatum(clock.instant(note.ended_at));
    silences[i] = Int64GetDatum(note.longest_silence);
    stalls[i] = Int64GetDatum(note.longest_stall);
    unmoved[i] = note.longest_stall < 0;
  }
  pg::Statement insert(kInsert);
  insert.add_oid(g.table)
      .add(TEXTARRAYOID, pg::text_array(keys, notes.count))
      .add(TIMESTAMPTZARRAYOID,
           PointerGetDatum(construct_array(ended, notes.count, TIMESTAMPTZOID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)))
      .add(INT8ARRAYOID, int8_array(silences, nullptr, notes.count))
      .add(INT8ARRAYOID, int8_array(stalls, unmoved, notes.count));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_execute(insert);
  pg::restore(before);
}

void prune(const Guarded &g) {
  pg::Statement oldest(kPrune);
  oldest.add_oid(g.table).add(INT8OID, Int64GetDatum(kMostLines));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_execute(oldest);
  pg::restore(before);
}

}  // namespace

void note_gaps(const Tracked &run) noexcept {
  if (ring == nullptr || run.ending != Ending::kFinished || !run.seen_whole || run.key_cut) return;
  SpinLockAcquire(&ring->lock);
  const uint64 number = ring->noted++;
  Note *note = &ring->notes[number % kNotes];
  note->database = run.id.database;
  note->table = run.id.table;
  memcpy(note->key, run.key, sizeof note->key);
  note->ended_at = run.closing_at;
  note->longest_silence = run.longest_silence;
  note->longest_stall = run.progress_changed != 0 ? run.longest_stall : -1;
  note->number = number;
  note->taker = InvalidFullTransactionId;
  SpinLockRelease(&ring->lock);
}

void take_in_gaps(const Guarded &g) {
  if (ring == nullptr) return;
  bool any = false;
  for (uint32 partition = 0; partition < memory::kPartitions; ++partition) {
    // What has ended since nobody met it. By partitions, so that they do not push each other out of the ring.
    memory::each_entry_of(partition, LW_EXCLUSIVE, [&g](memory::Entry *entry) {
      const RunId &id = entry->run.id;
      return id.table != g.table || id.database != MyDatabaseId || memory::settle_entry(entry);
    });
    Notes notes = copy_notes(g.table);
    if (notes.count > 0) take_over(&notes, GetCurrentFullTransactionId());
    ESG_FAULT_POINT("gaps.taken_over");
    if (notes.count > 0) write(g, notes);
    any = any || notes.count > 0;
    ESG_FAULT_POINT("gaps.written");
    pfree(notes.items);
  }
  if (any) prune(g);
}

Size gaps_size() { return sizeof(Ring); }

void gaps_attach() {
  bool found;
  ring = static_cast<Ring *>(ShmemInitStruct("emag_sync_guard gaps", gaps_size(), &found));
  if (found) return;
  memset(ring, 0, sizeof(Ring));
  SpinLockInit(&ring->lock);
}

}  // namespace esg
