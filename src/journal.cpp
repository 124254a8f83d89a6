// Reading and writing of sync_guard.journal. Runs in the caller's transaction; no locks beyond the table's. See journal.h.

#include "journal.h"

#include "pg/identity.h"
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

/// An array of one field of every line.
template <typename Make>
Datum array_of(const Line *lines, int count, Oid type, int16 length, bool by_value, char align, const Make &make) {
  auto *values = static_cast<Datum *>(palloc(sizeof(Datum) * count));
  auto *nulls = static_cast<bool *>(palloc(sizeof(bool) * count));
  for (int i = 0; i < count; ++i) nulls[i] = !make(lines[i], &values[i]);
  int dims[1] = {count};
  int lower[1] = {1};
  return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lower, type, length, by_value, align));
}

Datum text_field(const Line *lines, int count, const char *Line::*field) {
  return array_of(lines, count, TEXTOID, -1, false, TYPALIGN_INT, [field](const Line &line, Datum *value) {
    if (line.*field == nullptr) return false;
    *value = CStringGetTextDatum(line.*field);
    return true;
  });
}

Datum jsonb_field(const Line *lines, int count, Jsonb *Line::*field) {
  return array_of(lines, count, JSONBOID, -1, false, TYPALIGN_INT, [field](const Line &line, Datum *value) {
    *value = PointerGetDatum(line.*field);
    return line.*field != nullptr;
  });
}

constexpr const char *kInsert =
    "INSERT INTO sync_guard.journal (at, event, relation, relation_name, path, role, session_role,"
    " run_key, reaping, scope, verdict, reason, evidence, run, wanted, false_positive)"
    " SELECT $1, $2, $3::pg_catalog.regclass, $4, $5, $6, $7,"
    " l.run_key, l.reaping, l.scope, l.verdict, l.reason, l.evidence, l.run, l.wanted, l.false_positive"
    " FROM ROWS FROM (pg_catalog.unnest($8), pg_catalog.unnest($9), pg_catalog.unnest($10), pg_catalog.unnest($11),"
    " pg_catalog.unnest($12), pg_catalog.unnest($13), pg_catalog.unnest($14), pg_catalog.unnest($15),"
    " pg_catalog.unnest($16)) AS l (run_key, reaping, scope, verdict, reason, evidence, run, wanted, false_positive)";

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

}  // namespace

void write_journal(const Entry &entry, const Line *lines, int count) {
  if (count == 0) return;
  pg::Statement insert(kInsert);
  insert.add(TIMESTAMPTZOID, TimestampTzGetDatum(entry.at))
      .add_text(event_name(entry.event))
      .add_oid(entry.table->table)
      .add_text(entry.table->name)
      .add_text(entry.path)
      .add(NAMEOID, name_datum(entry.role))
      .add(NAMEOID, name_datum(GetSessionUserId()))
      .add(TEXTARRAYOID, text_field(lines, count, &Line::key))
      .add(INT8ARRAYOID, array_of(lines, count, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
                                  [](const Line &line, Datum *value) {
                                    *value = Int64GetDatum(line.reaping);
                                    return line.reaping != 0;
                                  }))
      .add(JSONBARRAYOID, jsonb_field(lines, count, &Line::scope))
      .add(TEXTARRAYOID, text_field(lines, count, &Line::verdict))
      .add(TEXTARRAYOID, text_field(lines, count, &Line::reason))
      .add(JSONBARRAYOID, jsonb_field(lines, count, &Line::evidence))
      .add(JSONBARRAYOID, jsonb_field(lines, count, &Line::run))
      .add(JSONBARRAYOID, jsonb_field(lines, count, &Line::wanted))
      .add(BOOLARRAYOID, array_of(lines, count, BOOLOID, 1, true, TYPALIGN_CHAR, [](const Line &line, Datum *value) {
             *value = BoolGetDatum(line.false_positive);
             return true;
           }));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_execute(insert);
  pg::restore(before);
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
