// Reading and writing of sync_guard.journal. Runs in the caller's transaction; no locks beyond the table's. See journal.h.

#include "journal.h"

#include "pg/own_table.h"
#include "pg/spi.h"
#include "rights.h"

namespace esg {
namespace {

const char *event_name(Event event) {
  switch (event) {
    case Event::kReaped: return "reaped";
    case Event::kWouldReap: return "would_reap";
    case Event::kLateFinish: return "late_finish";
    case Event::kRetried: return "retried";
    case Event::kOverturned: return "overturned";
  }
  return "reaped";
}

/// Columns, as the install script creates them.
enum JournalColumn : AttrNumber {
  kId = 1,
  kAt,
  kEvent,
  kRelation,
  kRelationName,
  kRunKey,
  kReaping,
  kScope,
  kVerdict,
  kReason,
  kEvidence,
  kPath,
  kRole,
  kSessionRole,
  kRun,
  kWanted,
  kFalsePositive,
  kColumns = kFalsePositive
};
using Row = pg::OwnRow<kColumns>;

constexpr const char *kStanding =
    "SELECT j.id, j.event FROM sync_guard.journal AS j"
    " WHERE j.relation OPERATOR(pg_catalog.=) $1 AND j.run_key OPERATOR(pg_catalog.=) $2"
    " AND j.event OPERATOR(pg_catalog.<>) 'late_finish' ORDER BY j.id DESC LIMIT 1";

constexpr const char *kObserved =
    "SELECT k.n FROM pg_catalog.unnest($2) WITH ORDINALITY AS k (key, n)"
    " WHERE (SELECT j.event FROM sync_guard.journal AS j"
    " WHERE j.relation OPERATOR(pg_catalog.=) $1 AND j.run_key OPERATOR(pg_catalog.=) k.key"
    " AND j.event OPERATOR(pg_catalog.<>) 'late_finish' ORDER BY j.id DESC LIMIT 1) OPERATOR(pg_catalog.=) "
    "'would_reap'";

Datum name_datum(Oid role) {
  auto *name = static_cast<NameData *>(palloc0(sizeof(NameData)));
  namestrcpy(name, GetUserNameFromId(role, false));
  return NameGetDatum(name);
}

/// What the lines of an entry have in common.
Row row_of(const Entry &entry) {
  Row row;
  return row.set(kAt, TimestampTzGetDatum(entry.at))
      .set_text(kEvent, event_name(entry.event))
      .set(kRelation, ObjectIdGetDatum(entry.table->table))
      .set_text(kRelationName, entry.table->name)
      .set_text(kPath, entry.path)
      .set(kRole, name_datum(entry.role))
      .set(kSessionRole, name_datum(GetSessionUserId()));
}

Row &add_line(Row *row, const Line &line) {
  row->set_text(kRunKey, line.key)
      .set_text(kVerdict, line.verdict)
      .set_text(kReason, line.reason)
      .set_pointer(kScope, line.scope)
      .set_pointer(kEvidence, line.evidence)
      .set_pointer(kRun, line.run)
      .set_pointer(kWanted, line.wanted)
      .set(kFalsePositive, BoolGetDatum(line.false_positive));
  return line.reaping == 0 ? *row : row->set(kReaping, Int64GetDatum(line.reaping));
}

}  // namespace

void write_journal(const Entry &entry, const Line *lines, int count) {
  if (count == 0) return;
  const Row common = row_of(entry);
  pg::OwnWriter writer;
  pg::begin_writing(&writer, "journal", CMD_INSERT);
  const Oid ids = pg::identity_sequence(writer.table.relation);
  for (int i = 0; i < count; ++i) {
    CHECK_FOR_INTERRUPTS();
    Row row = common;
    add_line(&row, lines[i]).set(kId, Int64GetDatum(nextval_internal(ids, false)));
    pg::insert_own_row(&writer, row);
  }
  pg::end_writing(&writer);
}

Standing standing_of(const Guarded &g, const char *key) {
  pg::Statement query(kStanding);
  query.add_oid(g.table).add_text(key);
  const MemoryContext context = CurrentMemoryContext;
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  Standing standing;
  if (pg::spi_run(query, pg::Access::kRead) == 1) {
    bool is_null;
    const char *event = pg::spi_text(0, 2, context);
    standing.observed = strcmp(event, "would_reap") == 0;
    if (standing.observed || strcmp(event, "reaped") == 0)
      standing.reaping = DatumGetInt64(pg::spi_datum(0, 1, &is_null));
  }
  pg::spi_end();
  pg::restore(before);
  return standing;
}

Rows rows_of(int64 reaping, const Guarded &g, const char *status) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement query(
      "SELECT j.run::pg_catalog.text, (SELECT l.wanted::pg_catalog.text FROM sync_guard.journal AS l"
      " WHERE l.reaping OPERATOR(pg_catalog.=) j.id AND l.relation OPERATOR(pg_catalog.=) j.relation"
      " AND l.run_key OPERATOR(pg_catalog.=) j.run_key AND l.event OPERATOR(pg_catalog.=) 'late_finish'"
      " AND (l.wanted OPERATOR(pg_catalog.->>) $2) OPERATOR(pg_catalog.=) $3 ORDER BY l.id DESC LIMIT 1)"
      " FROM sync_guard.journal AS j WHERE j.id OPERATOR(pg_catalog.=) $1");
  query.add(INT8OID, Int64GetDatum(reaping)).add_text(g.status.name).add_text(status);
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  Rows rows;
  if (pg::spi_run(query, pg::Access::kRead) == 1) rows = {pg::spi_text(0, 1, context), pg::spi_text(0, 2, context)};
  pg::spi_end();
  pg::restore(before);
  return rows;
}

const bool *already_observed(const Guarded &g, Datum keys, int count) {
  pg::Statement query(kObserved);
  query.add_oid(g.table).add(TEXTARRAYOID, keys);
  auto *observed = static_cast<bool *>(palloc0(sizeof(bool) * Max(count, 1)));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kRead);
  for (uint64 i = 0; i < rows; ++i) {
    bool is_null;
    observed[DatumGetInt64(pg::spi_datum(i, 1, &is_null)) - 1] = true;
  }
  pg::spi_end();
  pg::restore(before);
  return observed;
}

const char *calling_path() {
  const bool own_worker = MyBgworkerEntry != nullptr && strcmp(MyBgworkerEntry->bgw_library_name, "pg_cron") == 0;
  return own_worker || strcmp(application_name, "pg_cron") == 0 ? "pg_cron" : "call";
}

}  // namespace esg

/// purge_journal(older_than interval): deletes journal lines of the tables that the caller owns (all lines, for a
/// superuser) that are older, and with them leases of theirs that ended and alerts on them that cleared before that (for a
/// superuser, those about no table too). Returns how many lines of the journal. ERROR SY006 where the interval is NULL,
/// negative or infinite.
ESG_SQL_FUNCTION(purge_journal);

#include "alerts.h"
#include "errors.h"
#include "leases.h"

namespace esg {

static Datum purge_journal(FunctionCallInfo fcinfo) {
  const char *example = "For example: SELECT sync_guard.purge_journal('90 days');";
  if (PG_ARGISNULL(0))
    ereport(ERROR, errcode(kBadOption), errmsg("older_than must not be NULL"),
            errdetail("It says how old the lines are that go."), errhint("%s", example));
  const Interval *older_than = PG_GETARG_INTERVAL_P(0);
  if (pg::interval_is_infinite_compat(older_than) || micros_of(older_than) < 0)
    ereport(ERROR, errcode(kBadOption), errmsg("older_than must be a finite interval of at least zero"),
            errdetail("It says how old the lines are that go, and was given as %s.",
                      DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(older_than)))),
            errhint("%s", example));
  List *owned = NIL;
  ListCell *cell;
  foreach (cell, all_guarded())
    if (owns(*static_cast<Guarded *>(lfirst(cell))))
      owned = lappend_oid(owned, static_cast<Guarded *>(lfirst(cell))->table);
  auto *ids = static_cast<Datum *>(palloc(sizeof(Datum) * (list_length(owned) + 1)));
  int count = 0;
  foreach (cell, owned) ids[count++] = ObjectIdGetDatum(lfirst_oid(cell));
  pg::Statement purge(
      "DELETE FROM sync_guard.journal AS j WHERE j.at OPERATOR(pg_catalog.<) $1"
      " AND ($2 OR j.relation::pg_catalog.oid OPERATOR(pg_catalog.=) ANY ($3))");
  const TimestampTz limit = GetCurrentTimestamp() - micros_of(older_than);
  const bool all = superuser();
  const Datum tables = PointerGetDatum(construct_array(ids, count, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
  purge.add(TIMESTAMPTZOID, TimestampTzGetDatum(limit)).add(BOOLOID, BoolGetDatum(all)).add(OIDARRAYOID, tables);
  const pg::Identity before = pg::become_extension_owner();
  const uint64 purged = pg::spi_execute(purge);
  pg::restore(before);
  purge_leases(limit, tables, all);
  purge_alerts(limit, tables, all);
  PG_RETURN_INT64(static_cast<int64>(purged));
}

}  // namespace esg
