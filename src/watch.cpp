// watch_row, AFTER INSERT, UPDATE and DELETE of live rows. Runs inside the application's statements, as the application's role.
// It tells memory of the run (who started it, its signs of life, its end), ends its lease, and keeps scopes exclusive. After,
// since a BEFORE trigger meets rows that ON CONFLICT or another trigger then drops.
//
//   zzz_emag_sync_guard_watch    AFTER INSERT OR UPDATE, live now
//   zzz_emag_sync_guard_end      AFTER UPDATE, was live and is not
//   zzz_emag_sync_guard_delete   AFTER DELETE, was live

#include "exclusive.h"
#include "fault.h"
#include "leases.h"
#include "liveness.h"
#include "passed_over.h"
#include "pg/boundary.h"
#include "pg/extension_tables.h"
#include "reap_close.h"
#include "row_event.h"

namespace esg {
namespace {

bool excludes(const Guarded &g, const char *status) { return status != nullptr && g.excludes(status); }

std::optional<core::Micros> instant(const RowEvent &event, HeapTuple tuple, const Column &column) {
  if (!column.exists()) return std::nullopt;
  bool is_null;
  const Datum value = event.value(tuple, column, &is_null);
  return instant_of(column, value, is_null, event.table->zone);
}

std::optional<int64> counter(const RowEvent &event, HeapTuple tuple, const Column &column) {
  if (!column.exists()) return std::nullopt;
  bool is_null;
  const Datum value = event.value(tuple, column, &is_null);
  return count_of(column, value, is_null);
}

RowFacts facts_of(const RowEvent &event, HeapTuple tuple, const char *key, const char *status) {
  const Guarded &g = *event.table;
  RowFacts facts;
  facts.key = key;
  facts.status = status;
  facts.started = instant(event, tuple, g.start);
  facts.scope = scope_of(event, tuple);
  facts.done = counter(event, tuple, g.done);
  facts.total = counter(event, tuple, g.total);
  return facts;
}

/// A live run, with the row as given, judged by what is known of it.
Run judged(const RowEvent &event, HeapTuple tuple, const char *key, const Knowledge &knowledge,
           const core::Question &question) {
  const Guarded &g = *event.table;
  Run run{};
  run.key = key;
  run.status = text_of(event, tuple, g.status);
  run.started = instant(event, tuple, g.start);
  run.active = instant(event, tuple, g.activity);
  run.scope = scope_of(event, tuple);
  judge_run(g, knowledge, question, &run);
  return run;
}

/// Whether it would be dead after it, had it its scope: where there is memory for it the write is a sign of life.
bool stays_dead(const RowEvent &event, const char *key, const Knowledge &knowledge, const core::Question &question) {
  Run run = judged(event, event.after, key, knowledge, question);
  run.evidence.passed_over = std::nullopt;
  if (have_memory()) run.evidence.last_sign = question.now;
  return core::judge(run.evidence, run.limits, question).dead();
}

/// Whether this write brings a run back to life that was dead, or would but for something else that speaks against it: another one
/// may have started meanwhile.
bool revives(const RowEvent &event, const char *key) {
  const Guarded &g = *event.table;
  if (!have_memory() && !changed(event, g.start) && !changed(event, g.activity)) return false;
  const core::Question question = question_now();
  Knowledge knowledge = gather_from_memory(g, key, question);
  const Run before = judged(event, event.before, key, knowledge, question);
  const bool passed_over = is_passed_over(g, before);
  if (!passed_over && !before.judgement.dead()) return false;
  // Memory takes any write for a sign of life, and the run for one that has its scope.
  if (passed_over && have_memory()) return true;
  if (knowledge.memory_alone && OidIsValid(pg::lock_extension_table_at_once("leases")))
    knowledge = gather_knowledge(g, pg::text_array(&key, 1), question);
  return !stays_dead(event, key, knowledge, question);
}

/// Whether this write brings a live run into a scope: it starts, it moves to another one, or it was dead and gives a sign of
/// life. Who starts is alive, whatever start he writes. Asked before memory hears of the write.
bool enters_scope(const RowEvent &event, const char *key, const char *status_before, const char *status) {
  const Guarded &g = *event.table;
  if (!excludes(g, status)) return false;
  if (!excludes(g, status_before)) return true;
  // Memory and notes are about the old key.
  if (changed(event, g.key)) return true;
  for (int i = 0; i < g.scope_count; ++i)
    if (changed(event, g.scope[i])) return true;
  return revives(event, key);
}

/// Where somebody has locked the table of leases, the next sweep ends it.
void end_lease(const Guarded &g, const char *key, const char *reason) {
  if (OidIsValid(pg::lock_extension_table_at_once("leases"))) {
    end_leases(g, pg::text_array(&key, 1), reason);
    return;
  }
  ereport(WARNING, errcode(ERRCODE_LOCK_NOT_AVAILABLE),
          errmsg("could not end the lease of a run of table %s: table sync_guard.leases is locked or changed",
                 pg::sendable(g.name)),
          errdetail("The next reap_stale_syncs() ends it."));
}

/// The run has ended: its status says so.
void watch_end(const Guarded &g, const char *key) {
  const Ended ended = track_end(g.table, key);
  const bool has_none = is_closed_without_lease(g, key);
  if (ended.may_have_lease && !has_none) end_lease(g, key, "finished");
  if (g.exclusive && ended.may_be_passed_over) forget_passed_over(g, key);
}

/// No row has this key any more.
void watch_gone(const Guarded &g, const char *key) {
  const Ended ended = track_end(g.table, key, Ending::kGone);
  if (ended.may_have_lease) end_lease(g, key, "deleted");
  if (g.exclusive && ended.may_be_passed_over) forget_passed_over(g, key);
}

/// A row that moves to another partition comes back at once, and with it the run. Where it comes back ended, what else there is of
/// the run is left to the next reaping, which settles all that has no live row.
void watch_move(const RowEvent &event, const char *key) {
  track_row(event.table->table, facts_of(event, event.after, key, text_of(event, event.after, event.table->status)));
  (void)track_end(event.table->table, key, Ending::kMoved);
}

/// Tells memory of a live row that was written.
Told tell(const RowEvent &event, const RowFacts &facts, bool starts) {
  const Guarded &g = *event.table;
  if (event.before == nullptr) return track_start(g.table, facts, g.partitioned);
  return track_update(g.table, facts, starts);
}

/// The same of a run that was passed over: it claims its scope, and then it is told.
void tell_again(const RowEvent &event, const RowFacts &facts) {
  const Guarded &g = *event.table;
  if (excludes(g, facts.status)) claim_scope(g, facts);
  else if (track_scope_claimed(g.table, facts)) forget_passed_over(g, facts.key);
  const Told told PG_USED_FOR_ASSERTS_ONLY = tell(event, facts, false);
  Assert(told != Told::kPassedOver || !excludes(g, facts.status));
}

void watch_live(const RowEvent &event, const char *key, const char *status) {
  const Guarded &g = *event.table;
  const char *status_before = event.before == nullptr ? nullptr : text_of(event, event.before, g.status);
  const bool was_live = status_before != nullptr && g.is_live(status_before);
  const bool enters = g.exclusive && enters_scope(event, key, status_before, status);
  RowFacts facts = facts_of(event, event.after, key, status);
  facts.of_this_xact =
      event.before != nullptr && TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(event.before->t_data));
  const bool renamed = was_live && changed(event, g.key);
  if (renamed) watch_gone(g, key_of(event));
  // What is refused must not leave a sign of life behind; a start that is refused is rolled back from memory too.
  const bool comes_back = was_live && !renamed && event.before != nullptr;
  if (enters && comes_back) claim_scope(g, facts);
  else if (enters) hold_scope(g, facts);
  const Told told = tell(event, facts, !was_live || renamed);
  if (told == Told::kPassedOver) tell_again(event, facts);
  ESG_FAULT_POINT("watch.memory_told");
  // What ended the run before may have left its lease open, or a starter may have passed it over before it saw the end: somebody
  // had locked it, the triggers were off, the table was truncated.
  const bool retried = status_before != nullptr && !renamed;
  if (told == Told::kStarts && has_left_lease(g, key)) end_lease(g, key, retried ? "retried" : "deleted");
  if (!was_live && kind_of(g, status_before) == core::StatusKind::kTerminal && g.exclusive) forget_passed_over(g, key);
  if (enters && !comes_back) claim_scope(g, facts);
  ESG_FAULT_POINT("watch.scope_claimed");
}

// ---- rows that the application's own AFTER triggers write again --------------------------------------------------------
//
// Those that fire first do so before the guard hears of the row, and what they write is told before what they came from. So an
// event tells of the row as it stands when it arrives, and none leaves memory with an older version.

/// Whether this transaction has written the row again, or has taken it away. Locks leave their marks too.
bool is_written_again(HeapTuple tuple) {
  const HeapTupleHeader row = tuple->t_data;
  if ((row->t_infomask & HEAP_XMAX_INVALID) != 0 || HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask)) return false;
  return TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(row));
}

/// The row as it stands now; null where it is gone, or in another partition.
HeapTuple newest_version(const RowEvent &event) {
  Relation relation = event.trigger->tg_relation;
  ItemPointerData tid = event.after->t_self;
  TableScanDesc scan = table_beginscan_tid(relation, SnapshotSelf);
  table_tuple_get_latest_tid(scan, &tid);
  table_endscan(scan);
  TupleTableSlot *slot = table_slot_create(relation, nullptr);
  HeapTuple newest = nullptr;
  if (table_tuple_fetch_row_version(relation, &tid, SnapshotSelf, slot)) newest = ExecCopySlotHeapTuple(slot);
  ExecDropSingleTupleTableSlot(slot);
  return newest;
}

void watch_write(const RowEvent &event) {
  const Guarded &g = *event.table;
  const char *status = text_of(event, event.after, g.status);
  if (status == nullptr || !g.is_live(status)) return watch_end(g, key_of(event));
  if (const char *key = text_of(event, event.after, g.key); key != nullptr) watch_live(event, key, status);
}

/// The same of a row that is gone, of which the event that took it away has told. It had another key by then, or was live no more.
void watch_former(const RowEvent &event) {
  const Guarded &g = *event.table;
  if (event.before == nullptr) return;
  const char *status = text_of(event, event.after, g.status);
  if (status == nullptr || !g.is_live(status) || changed(event, g.key)) watch_end(g, key_of(event));
}

void watch_delete(const RowEvent &event) {
  const Guarded &g = *event.table;
  const char *key = text_of(event, event.after, g.key);
  if (key == nullptr) return;
  if (HeapTupleHeaderIndicatesMovedPartitions(event.after->t_data)) watch_move(event, key);
  else watch_gone(g, key);
}

}  // namespace
}  // namespace esg

/// AFTER INSERT, UPDATE or DELETE trigger of guarded tables, for rows that are or were live.
ESG_SQL_FUNCTION(watch_row);

namespace esg {

static Datum watch_row(FunctionCallInfo fcinfo) {
  auto *trigger = checked_trigger(fcinfo, false);
  const Guarded *g = settings_for(trigger);
  if (g == nullptr) return Datum(0);
  RowEvent event = row_event(trigger, g);
  if (TRIGGER_FIRED_BY_DELETE(trigger->tg_event)) {
    watch_delete(event);
  } else if (!is_written_again(event.after)) {
    watch_write(event);
  } else if (HeapTuple newest = newest_version(event); newest != nullptr) {
    event.after = newest;
    watch_write(event);
  } else {
    watch_former(event);
  }
  return Datum(0);
}

}  // namespace esg
