// Closes locked, dead runs: one UPDATE, which fires the table's triggers, then their journal lines. See reap_close.h. Runs in the
// reaper's transaction, within the subtransaction of a group; takes no locks but what the UPDATE and the guard's own tables take.

#include "reap_close.h"

#include <algorithm>

#include "announce.h"
#include "closing.h"
#include "fault.h"
#include "leases.h"
#include "pg/boundary.h"
#include "pg/spi.h"
#include "token.h"

namespace esg {
namespace {

/// What the guard's triggers are told of the closing UPDATE under way in this session.
struct Closing {
  Oid table;
  uint64 *hashes;  ///< of the keys of runs without an open lease, ascending
  bool *asked;     ///< of each
  int count;
  int judged;  ///< runs of the table that ended meanwhile, by the triggers: less than are closed where they do not fire
  bool set_live;  ///< a row of the table has become live meanwhile
};

/// Null where there is none.
Closing *closing_now = nullptr;

/// Of these runs no lease is open: neither before, nor from here on until the table's own triggers take one.
Closing closing_of(const Guarded &g, const Run *const *runs, int count) {
  Closing closing{};
  closing.table = g.table;
  closing.hashes = static_cast<uint64 *>(palloc(sizeof(uint64) * Max(count, 1)));
  closing.asked = static_cast<bool *>(palloc0(sizeof(bool) * Max(count, 1)));
  for (int i = 0; i < count; ++i) closing.hashes[i] = run_id(g.table, runs[i]->key).key_hash;
  closing.count = count;
  std::sort(closing.hashes, closing.hashes + count);
  return closing;
}

/// The closing UPDATE; parameters: now, then per run ctid, tableoid, message, duration.
char *closing_statement(const Guarded &g) {
  return psprintf(
      "UPDATE %s SET %s"
      " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5))"
      " AS v (ctid, tableoid, message, duration)"
      " WHERE t.ctid OPERATOR(pg_catalog.=) v.ctid AND t.tableoid OPERATOR(pg_catalog.=) v.tableoid"
      " RETURNING %s::pg_catalog.text",
      from_item(g), closing_assignments(g, "$1", "v.message", "v.duration"), column_ref(g.status));
}

/// False: some are locked by others.
bool end_leases_of(const Guarded &g, const Run *const *runs, int count) {
  auto **leased = static_cast<const Run **>(palloc(sizeof(Run *) * Max(count, 1)));
  int leases = 0;
  for (int i = 0; i < count; ++i)
    if (runs[i]->token != 0) leased[leases++] = runs[i];
  return leases == 0 || end_leases(g, keys_of(leased, leases), "reaped") == static_cast<uint64>(leases);
}

/// What the table's trigger has ended as "finished", since it was locked before, was reaped.
void rename_ends_of(const Run *const *runs, int count) {
  auto *tokens = static_cast<int64 *>(palloc(sizeof(int64) * count));
  int leases = 0;
  for (int i = 0; i < count; ++i)
    if (runs[i]->token != 0) tokens[leases++] = runs[i]->token;
  rename_ends(tokens, leases);
}

/// Of the runs just closed, those that the table's own triggers have set back already.
Runs set_back(const Guarded &g, const Run *const *runs, int count) {
  const Datum keys = keys_of(runs, count);
  pg::Statement query(psprintf("SELECT %s::pg_catalog.text FROM %s WHERE %s AND %s", column_ref(g.key), from_item(g),
                               key_condition(g, keys), status_condition(g, g.live, g.live_count)));
  query.add(TEXTARRAYOID, keys);
  Runs found;
  found.items = static_cast<Run *>(palloc(sizeof(Run) * count));
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = work_as(g);
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  for (uint64 i = 0; i < rows; ++i) {
    const char *key = pg::spi_text(i, 1, context);
    for (int n = 0; n < count && key != nullptr; ++n)
      if (strcmp(runs[n]->key, key) == 0) found.items[found.count++] = *runs[n];
  }
  pg::spi_end();
  pg::restore(before);
  return found;
}

/// The trigger that judged that found no reaping to mark: the line of it comes after the UPDATE.
void note_retries(const Guarded &g, const ReapCall &call, const Runs &runs) {
  const Entry entry{&g, Event::kRetried, call.question.now, "trigger", call.role};
  for (int i = 0; i < runs.count; ++i) {
    Line line;
    line.key = runs.items[i].key;
    line.reaping = standing_of(g, line.key).reaping;
    line.scope = scope_json(g, runs.items[i].scope);
    write_journal(entry, &line, 1);
  }
}

/// The closing UPDATE of these runs, as of `now`.
pg::Statement closing_update(const Guarded &g, Run *const *runs, const char *const *reasons, int count,
                             TimestampTz now) {
  auto *ctids = static_cast<Datum *>(palloc(sizeof(Datum) * count));
  auto *tables = static_cast<Datum *>(palloc(sizeof(Datum) * count));
  auto **durations = static_cast<const char **>(palloc0(sizeof(char *) * count));
  for (int i = 0; i < count; ++i) {
    ctids[i] = PointerGetDatum(&runs[i]->ctid);
    tables[i] = ObjectIdGetDatum(runs[i]->tableoid);
    if (g.duration.exists() && runs[i]->started) durations[i] = duration_text(g, now - *runs[i]->started);
  }
  pg::Statement update(closing_statement(g));
  update.fetches = true;
  update.add(TIMESTAMPTZOID, TimestampTzGetDatum(now))
      .add(TIDARRAYOID,
           PointerGetDatum(construct_array(ctids, count, TIDOID, sizeof(ItemPointerData), false, TYPALIGN_SHORT)))
      .add(OIDARRAYOID, PointerGetDatum(construct_array(tables, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT)))
      .add(TEXTARRAYOID, pg::text_array(reasons, count))
      .add(TEXTARRAYOID, pg::text_array(durations, count));
  return update;
}

/// Runs it, with what the guard's triggers are told meanwhile.
void run_update(const Guarded &g, const pg::Statement &update, uint64 count, Closing *closing) {
  const MemoryContext context = CurrentMemoryContext;
  pg::spi_begin();
  uint64 updated = 0;
  closing_now = closing;
  PG_TRY();
  {
    pg::without_exceptions([&] { updated = pg::spi_run(update, pg::Access::kWrite); });
  }
  PG_FINALLY();
  { closing_now = nullptr; }
  PG_END_TRY();
  for (uint64 i = 0; i < updated; ++i) {
    const char *status = pg::spi_text(i, 1, context);
    if (strcmp(status, g.failed) != 0)
      ereport(ERROR, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
              errmsg("a trigger of table %s turned the status of a reaped run into \"%s\"", g.name, status));
  }
  pg::spi_end();
  if (updated != count)
    ereport(ERROR, errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
            errmsg("a trigger of table %s kept a run from being closed", g.name));
}

}  // namespace

Datum keys_of(const Run *const *runs, int count) {
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * Max(count, 1)));
  for (int i = 0; i < count; ++i) keys[i] = runs[i]->key;
  return pg::text_array(keys, count);
}

Line line_of(const Guarded &g, const Run &run, const core::Question &question, const char *reason) {
  Line line;
  line.key = run.key;
  line.scope = scope_json(g, run.scope);
  line.verdict = core::verdict_name(run.judgement.verdict);
  line.reason = reason;
  line.evidence = evidence_json(g, run, question);
  line.run = run.row;
  return line;
}

void close_runs(const Guarded &g, const ReapCall &call, Run *const *runs, int count) {
  // Not when the call began: in a long sweep a run may have started since.
  const TimestampTz now = GetCurrentTimestamp();
  auto **reasons = static_cast<const char **>(palloc(sizeof(char *) * count));
  for (int i = 0; i < count; ++i) reasons[i] = reason_of(g, *runs[i]);
  const pg::Statement update = closing_update(g, runs, reasons, count, now);

  const bool leases_ended = end_leases_of(g, runs, count);
  ESG_FAULT_POINT("reap.leases_ended");
  // Where others had one locked, the triggers try again.
  Closing closing = closing_of(g, runs, leases_ended ? count : 0);
  const pg::Identity before = work_as(g, pg::Access::kWrite);
  run_update(g, update, static_cast<uint64>(count), &closing);
  pg::restore(before);
  if (!leases_ended) rename_ends_of(runs, count);
  ESG_FAULT_POINT("reap.rows_closed");

  auto *lines = static_cast<Line *>(palloc(sizeof(Line) * count));
  for (int i = 0; i < count; ++i) lines[i] = line_of(g, *runs[i], call.question, reasons[i]);
  const Entry entry{&g, Event::kReaped, now, call.path, call.role};
  write_journal(entry, lines, count);
  if (closing.set_live || closing.judged < count) note_retries(g, call, set_back(g, runs, count));
  ESG_FAULT_POINT("reap.journal_written");
  announce_reaped(entry, lines, count);
  ESG_FAULT_POINT("reap.announced");
}

bool is_closed_without_lease(const Guarded &g, const char *key) {
  if (closing_now == nullptr || closing_now->table != g.table) return false;
  const uint64 hash = run_id(g.table, key).key_hash;
  const uint64 *end = closing_now->hashes + closing_now->count;
  const uint64 *found = std::lower_bound(closing_now->hashes, const_cast<uint64 *>(end), hash);
  if (found == end || *found != hash) return false;
  bool *asked = &closing_now->asked[found - closing_now->hashes];
  if (*asked) return false;
  return *asked = true;
}

void note_judged(const Guarded &g, core::StatusKind from, core::StatusKind to) {
  if (closing_now == nullptr || closing_now->table != g.table) return;
  if (from == core::StatusKind::kLive && to == core::StatusKind::kTerminal) ++closing_now->judged;
  if (from != core::StatusKind::kLive && to == core::StatusKind::kLive) closing_now->set_live = true;
}

}  // namespace esg
