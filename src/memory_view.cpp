// Behind the views tracked_runs and guard_memory, for those who watch the server. They run in the caller's process and hold
// one partition's lock at a time.

#include "pg/boundary.h"
#include "pg/rows.h"
#include "run_table.h"
#include "worker.h"

/// tracked_run_entries(): every entry in shared memory, of every database.
ESG_SQL_FUNCTION(tracked_run_entries);

/// guard_memory_state(): one row on the memory and the workers on demand.
ESG_SQL_FUNCTION(guard_memory_state);

namespace esg {
namespace {

struct Copies {
  Tracked *items;
  int count;
  int room;
};

void copy(const Tracked &run, void *context) {
  auto *copies = static_cast<Copies *>(context);
  if (copies->count < copies->room) copies->items[copies->count++] = run;
}

const char *binding_name(const Tracked &run) {
  if (run.token == 0) return nullptr;
  return run.binding == Binding::kSession ? "session" : "heartbeat";
}

std::optional<core::Micros> instant(const Clock &clock, int64 reading) {
  if (reading == 0) return std::nullopt;
  return clock.instant(reading);
}

void put_entry(pg::Rows &rows, const Clock &clock, const Tracked &run) {
  const int pid = run.token != 0 ? run.session_pid : run.writer_pid;
  rows.add_oid(run.id.database).add_oid(run.id.table).add_text(run.key).add_text(run.status);
  rows.add_instant(run.has_started ? std::optional<core::Micros>(run.started) : std::nullopt);
  rows.add_instant(instant(clock, run.last_sign));
  rows.add_int64(run.has_done ? std::optional<int64>(run.done) : std::nullopt);
  rows.add_int64(run.has_total ? std::optional<int64>(run.total) : std::nullopt);
  rows.add_instant(instant(clock, run.progress_changed)).add_bool(run.uncommitted());
  rows.add_int64(run.token != 0 ? std::optional<int64>(run.token) : std::nullopt).add_text(binding_name(run));
  rows.add_span(run.ttl > 0 ? std::optional<core::Micros>(run.ttl) : std::nullopt).add(Int32GetDatum(pid), pid == 0);
  rows.add_instant(run.session_ended ? instant(clock, run.ended_at) : std::nullopt).add_bool(run.held).put();
}

}  // namespace

static Datum tracked_run_entries(FunctionCallInfo fcinfo) {
  pg::Rows rows(fcinfo);
  const int room = run_table_state().capacity;
  if (room == 0) return 0;
  Copies copies{static_cast<Tracked *>(MemoryContextAllocHuge(CurrentMemoryContext, sizeof(Tracked) * room)), 0, room};
  each_tracked(copy, &copies);
  const Clock clock = clock_now();
  for (int i = 0; i < copies.count; ++i)
    if (settle_run(&copies.items[i])) put_entry(rows, clock, copies.items[i]);
  return 0;
}

static Datum guard_memory_state(FunctionCallInfo fcinfo) {
  TupleDesc desc;
  if (get_call_result_type(fcinfo, nullptr, &desc) != TYPEFUNC_COMPOSITE) elog(ERROR, "return type must be a row type");
  const Clock clock = clock_now();
  settle_all();
  const RunTableState runs = run_table_state();
  const WorkerState workers = worker_state();
  const auto began = have_memory() ? life_began(clock) : std::nullopt;
  const bool mass_death = runs.mass_death_at != 0 && runs.mass_death_database == MyDatabaseId;
  const Datum values[12] = {
      Int32GetDatum(runs.capacity),         Int32GetDatum(runs.used),
      Int64GetDatum(runs.refused),          Int64GetDatum(runs.bytes),
      Int32GetDatum(runs.bytes_per_entry),  TimestampTzGetDatum(began.value_or(0)),
      Int64GetDatum(workers.requested),     Int64GetDatum(workers.started),
      Int64GetDatum(workers.refused),       Int32GetDatum(workers.open),
      Int32GetDatum(runs.mass_death_count), TimestampTzGetDatum(mass_death ? clock.instant(runs.mass_death_at) : 0)};
  const bool nulls[12] = {false, false, false, false, false,       !began,
                          false, false, false, false, !mass_death, !mass_death};
  PG_RETURN_DATUM(
      HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), const_cast<Datum *>(values), const_cast<bool *>(nulls))));
}

}  // namespace esg
