// From rows to runs: one query, one judgement per row. Runs in the caller's process with the rights in force; takes
// ACCESS SHARE on the table (ROW SHARE and row locks with `lock`). See runs.h.

#include "runs.h"

#include "liveness.h"
#include "passed_over.h"
#include "pg/spi.h"
#include "row_json.h"

namespace esg {
namespace {

/// Columns of runs_query, in order.
enum RunColumn : int { kCtid = 1, kTableoid, kKey, kStatus, kStart, kActivity, kDone, kTotal, kRow, kFirstScope };

void append_column(StringInfo sql, const Column &column, const char *cast, const char *if_absent) {
  if (column.exists()) appendStringInfo(sql, ", %s%s", column_ref(column), cast);
  else appendStringInfo(sql, ", NULL::%s", if_absent);
}

std::optional<int64> optional_int(uint64 row, int column) {
  bool is_null;
  const Datum value = pg::spi_datum(row, column, &is_null);
  if (is_null) return std::nullopt;
  return DatumGetInt64(value);
}

/// Row `number` of the result as a run, its strings in `context`.
Run make_run(const Guarded &g, uint64 number, MemoryContext context) {
  Run run{};
  bool is_null;
  const Datum ctid = pg::spi_datum(number, kCtid, &is_null);
  if (is_null) ItemPointerSetInvalid(&run.ctid);
  else run.ctid = *reinterpret_cast<ItemPointer>(DatumGetPointer(ctid));
  run.tableoid = DatumGetObjectId(pg::spi_datum(number, kTableoid, &is_null));
  run.key = pg::spi_text(number, kKey, context);
  run.status = pg::spi_text(number, kStatus, context);
  Datum value = pg::spi_datum(number, kStart, &is_null);
  run.started = instant_of(g.start, value, is_null, g.zone);
  value = pg::spi_datum(number, kActivity, &is_null);
  run.active = instant_of(g.activity, value, is_null, g.zone);
  run.done = optional_int(number, kDone);
  run.total = optional_int(number, kTotal);
  run.row = spi_row(number, kRow, context);
  run.scope.count = g.scope_count;
  for (int i = 0; i < g.scope_count; ++i) {
    const char *text = pg::spi_text(number, kFirstScope + i, context);
    if (text != nullptr) run.scope.values[i] = std::string_view(text);
  }
  return run;
}

// ---- runs that only memory knows ------------------------------------------------------------------------------------

/// The process that wrote the run is still in that transaction: it has not prepared it and gone on. (A subtransaction's id
/// follows that of its transaction, and precedes those of later ones.)
bool is_writing(const Tracked &entry) {
  const PGPROC *process = BackendPidGetProc(entry.writer_pid);
  if (process == nullptr) return false;
  const TransactionId xid = *const_cast<const volatile TransactionId *>(&process->xid);
  return TransactionIdIsValid(xid) && !TransactionIdFollows(xid, XidFromFullTransactionId(entry.inserter));
}

/// A run of an open transaction as memory has it; its strings are those of the entry's copy.
Run run_from_memory(const Tracked &entry) {
  Run run{};
  ItemPointerSetInvalid(&run.ctid);
  run.key = entry.key;
  run.status = entry.status;
  if (entry.has_started) run.started = entry.started;
  if (entry.has_done) run.done = entry.done;
  if (entry.has_total) run.total = entry.total;
  run.scope.count = entry.scope_count;
  const char *text = entry.scope_text;
  for (int i = 0; i < entry.scope_count; ++i) {
    if (!entry.scope_null[i]) run.scope.values[i] = std::string_view(text);
    text += strlen(text) + 1;
  }
  run.uncommitted = true;
  run.writer_pid = is_writing(entry) ? entry.writer_pid : 0;
  run.memory = &entry;
  return run;
}

/// Whether the hash is that of a value which overlaps `asked`: of what it stands for, or of what stands for one of its atoms.
bool overlaps_hash(const Guarded &g, int column, const core::ScopeValue &asked, uint64 hash) {
  if (!asked) return false;
  for (std::size_t i = 0; i < g.overlap_count; ++i) {
    const core::Overlap &line = g.overlaps[i];
    if (line.column != column) continue;
    if (scope_hash(line.value) == hash && core::overlap(column, asked, line.value, g.overlaps, g.overlap_count))
      return true;
    for (std::size_t n = 0; line.value == *asked && n < line.atom_count; ++n)
      if (scope_hash(line.atoms[n]) == hash) return true;
  }
  return false;
}

/// Whether the entry's scope is the one asked for. By hashes: memory may have a value in part only.
bool in_scope(const Guarded &g, const RunFilter &filter, const Tracked &entry) {
  if (filter.scope == nullptr) return true;
  for (int i = 0; i < filter.scope->count && i < entry.scope_count; ++i) {
    if (filter.any != nullptr && filter.any[i]) continue;
    const core::ScopeValue &asked = filter.scope->values[i];
    if (scope_hash(asked) == entry.scope_hashes[i]) continue;
    if (!filter.overlaps || !overlaps_hash(g, i, asked, entry.scope_hashes[i])) return false;
  }
  return true;
}

bool is_wanted_status(const Guarded &g, const RunFilter &filter, const char *status) {
  if (filter.any_status) return true;
  return filter.exclusive_statuses ? g.excludes(status) : g.is_live(status);
}

/// By the key's hash: memory may have the key in part only.
bool is_wanted_key(const Guarded &g, Datum keys, uint64 key_hash) {
  if (keys == 0) return true;
  bool wanted = false;
  pg::each_text(keys,
                [&](Datum key) { wanted = wanted || run_id(g.table, TextDatumGetCString(key)).key_hash == key_hash; });
  return wanted;
}

/// Which entries have a row among the runs.
const bool *with_row(const TrackedRuns &tracked, const Runs &runs) {
  auto *found = static_cast<bool *>(palloc0(sizeof(bool) * Max(tracked.count, 1)));
  for (int i = 0; i < runs.count; ++i)
    if (runs.items[i].memory != nullptr) found[runs.items[i].memory - tracked.items] = true;
  return found;
}

/// Appends the runs whose transactions are open. One that has committed since memory was read, too
/// late for the look at the rows, is what memory says; one that was rolled back is none.
void append_uncommitted(const Guarded &g, const RunFilter &filter, const Knowledge &knowledge,
                        const core::Question &question, Runs *runs) {
  const bool *has_row = with_row(knowledge.tracked, *runs);
  const Size most = static_cast<Size>(runs->count) + knowledge.tracked.count;
  runs->items = static_cast<Run *>(repalloc_huge(runs->items, sizeof(Run) * Max(most, 1)));
  for (int i = 0; i < knowledge.tracked.count; ++i) {
    const Tracked &entry = knowledge.tracked.items[i];
    if (!entry.uncommitted() || has_row[i] || !is_wanted_status(g, filter, entry.status) ||
        !in_scope(g, filter, entry) || !is_wanted_key(g, filter.keys, entry.id.key_hash))
      continue;
    if (Tracked now = entry; !settle_run(&now)) continue;
    Run *run = &runs->items[runs->count++];
    *run = run_from_memory(entry);
    judge_run(g, knowledge, question, run);
  }
}

/// Oldest first; runs without a start come last.
int by_start(const void *a, const void *b) {
  const auto *left = *static_cast<const Run *const *>(a);
  const auto *right = *static_cast<const Run *const *>(b);
  if (left->started.has_value() != right->started.has_value()) return left->started ? -1 : 1;
  if (left->started && *left->started != *right->started) return *left->started < *right->started ? -1 : 1;
  return strcmp(left->key, right->key);
}

/// Sorts pointers: runs are large, and go where they belong in one turn.
void sort_by_start(Runs *runs) {
  const Size size = sizeof(Run *) * Max(runs->count, 1);
  auto **order = static_cast<Run **>(MemoryContextAllocHuge(CurrentMemoryContext, size));
  for (int i = 0; i < runs->count; ++i) order[i] = &runs->items[i];
  qsort(order, runs->count, sizeof(Run *), by_start);
  for (int i = 0; i < runs->count; ++i) {
    if (order[i] == nullptr || order[i] == &runs->items[i]) continue;
    const Run first = runs->items[i];
    int at = i;
    for (Run *from = order[at]; from != &runs->items[i]; from = order[at]) {
      runs->items[at] = *from;
      order[at] = nullptr;
      at = static_cast<int>(from - runs->items);
    }
    runs->items[at] = first;
    order[at] = nullptr;
  }
  pfree(order);
}

const char *type_name(Oid type) { return pg::type_sql(type); }

}  // namespace

RowFacts facts_of(const Run &run) {
  RowFacts facts;
  facts.key = run.key;
  facts.status = run.status;
  facts.started = run.started;
  facts.scope = run.scope;
  facts.done = run.done;
  facts.total = run.total;
  return facts;
}

bool sees_uncommitted(const Guarded &g, Oid caller) { return check_enable_rls(g.table, caller, true) != RLS_ENABLED; }

core::Question question_now() {
  core::Question question;
  const Clock clock = clock_now();
  question.now = clock.now;
  question.monotonic = clock.monotonic;
  // What the primary has done since is not here yet: by the clock a run would seem silent that is not.
  if (RecoveryInProgress())
    if (const TimestampTz replayed = GetLatestXTime(); replayed != 0) question.now = replayed;
  return question;
}

char *from_item(const Guarded &g) { return psprintf("%s%s AS t", g.partitioned ? "" : "ONLY ", g.name); }

char *column_ref(const Column &column) { return psprintf("t.%s", quote_identifier(column.name)); }

char *key_condition(const Guarded &g, Datum keys) {
  const Oid type = g.key.type == VARCHAROID ? TEXTOID : g.key.type;
  const ArrayType *array = DatumGetArrayTypeP(keys);
  const bool one = ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)) == 1;
  return psprintf(one ? "%s OPERATOR(pg_catalog.=) ($1::%s[])[1]" : "%s OPERATOR(pg_catalog.=) ANY ($1::%s[])",
                  column_ref(g.key), type_name(type));
}

char *status_condition(const Guarded &g, const char *const *statuses, int count) {
  const Datum array = pg::text_array(statuses, count);
  const char *literal = OidOutputFunctionCall(F_ARRAY_OUT, array);
  const char *type = type_name(g.status.type == VARCHAROID ? TEXTOID : g.status.type);
  // The operators of enums are polymorphic and do not look through a domain.
  const bool enum_domain = g.status.declared_type != g.status.type && type_is_enum(g.status.type);
  return psprintf("%s%s%s OPERATOR(pg_catalog.=) ANY (%s::%s[])", column_ref(g.status), enum_domain ? "::" : "",
                  enum_domain ? type : "", quote_literal_cstr(literal), type);
}

char *instant_sql(const Guarded &g, const Column &column) {
  if (!column.exists()) return pstrdup("NULL::pg_catalog.timestamptz");
  if (column.type == TIMESTAMPTZOID) return column_ref(column);
  return psprintf("pg_catalog.timezone(%s, %s)", quote_literal_cstr(g.zone_name), column_ref(column));
}

char *newest_first_sql(const Guarded &g, const char *condition) {
  const char *key = column_ref(g.key);
  const char *where = condition == nullptr ? "true" : condition;
  const Column &by = g.start.exists() ? g.start : g.end;
  if (!by.exists()) return psprintf(" WHERE %s ORDER BY %s DESC", where, key);
  return psprintf(" WHERE %s AND %s OPERATOR(pg_catalog.<) 'infinity'::%s ORDER BY %s DESC, %s DESC", where,
                  column_ref(by), type_name(by.type), column_ref(by), key);
}

char *scope_sql(const Guarded &g) {
  if (g.scope_count == 0) return pstrdup("NULL::pg_catalog.jsonb");
  StringInfoData sql;
  initStringInfo(&sql);
  appendStringInfoString(&sql, "pg_catalog.jsonb_build_object(");
  for (int i = 0; i < g.scope_count; ++i)
    appendStringInfo(&sql, "%s%s::pg_catalog.text, %s::pg_catalog.text", i == 0 ? "" : ", ",
                     quote_literal_cstr(g.scope[i].name), column_ref(g.scope[i]));
  appendStringInfoChar(&sql, ')');
  return sql.data;
}

char *runs_query(const Guarded &g, const RunFilter &filter) {
  StringInfoData sql;
  initStringInfo(&sql);
  // Who may read the columns alone may not read these two.
  appendStringInfo(&sql, "SELECT %s, %s::pg_catalog.text, %s::pg_catalog.text",
                   filter.lock ? "t.ctid, t.tableoid" : "NULL::pg_catalog.tid, NULL::pg_catalog.oid", column_ref(g.key),
                   column_ref(g.status));
  append_column(&sql, g.start, "", "pg_catalog.timestamptz");
  append_column(&sql, g.activity, "", "pg_catalog.timestamptz");
  append_column(&sql, g.done, "::pg_catalog.int8", "pg_catalog.int8");
  append_column(&sql, g.total, "::pg_catalog.int8", "pg_catalog.int8");
  appendStringInfo(&sql, ", %s", filter.with_row ? row_sql(g) : "NULL::pg_catalog.text");
  for (int i = 0; i < g.scope_count; ++i) append_column(&sql, g.scope[i], "::pg_catalog.text", "pg_catalog.text");
  appendStringInfo(&sql, " FROM %s WHERE ", from_item(g));
  if (filter.any_status) appendStringInfoString(&sql, "true");
  else if (filter.exclusive_statuses)
    appendStringInfoString(&sql, status_condition(g, g.exclusive_statuses, g.exclusive_count));
  else appendStringInfoString(&sql, status_condition(g, g.live, g.live_count));
  if (filter.keys != 0) appendStringInfo(&sql, " AND %s", key_condition(g, filter.keys));
  if (filter.scope_condition != nullptr) appendStringInfo(&sql, " AND %s", filter.scope_condition);
  if (filter.lock) appendStringInfo(&sql, " FOR %sUPDATE OF t SKIP LOCKED", filter.lock_keys ? "" : "NO KEY ");
  return sql.data;
}

namespace {

/// Room for this many runs.
Run *allocate_runs(MemoryContext context, uint64 count) {
  static_assert(std::is_trivially_copyable_v<Run>, "a run is written over what is there");
  return static_cast<Run *>(MemoryContextAllocHuge(context, Max(count, 1) * sizeof(Run)));
}

/// The rows that the filter finds, not judged yet.
Runs read_rows(const Guarded &g, const RunFilter &filter) {
  const MemoryContext context = CurrentMemoryContext;
  pg::Statement statement(runs_query(g, filter));
  if (filter.keys != 0 || filter.scope_value_count > 0) statement.add(TEXTARRAYOID, filter.keys, filter.keys == 0);
  for (int i = 0; i < filter.scope_value_count; ++i) statement.add(TEXTARRAYOID, filter.scope_values[i]);
  statement.fetches = filter.keys != 0;
  if (filter.snapshot != nullptr) *filter.snapshot = statement.snapshot = RegisterSnapshot(GetLatestSnapshot());
  pg::spi_begin();
  const uint64 rows = pg::spi_run(statement, filter.lock ? pg::Access::kWrite : pg::Access::kRead);
  Runs runs;
  runs.items = allocate_runs(context, rows);
  for (uint64 i = 0; i < rows; ++i) {
    CHECK_FOR_INTERRUPTS();
    runs.items[runs.count] = make_run(g, i, context);
    // A row without a key is no run: nothing could name it.
    if (runs.items[runs.count].key != nullptr) ++runs.count;
  }
  pg::spi_end();
  return runs;
}

const char *const *keys_of(const Runs &runs) {
  auto **keys = static_cast<const char **>(palloc(sizeof(char *) * Max(runs.count, 1)));
  for (int i = 0; i < runs.count; ++i) keys[i] = runs.items[i].key;
  return keys;
}

}  // namespace

Runs uncommitted_runs(const Guarded &g, const RunFilter &filter, const core::Question &question) {
  Knowledge knowledge = gather_of_scopes(g, *filter.scopes, question);
  knowledge.memory_alone = true;
  Runs runs;
  runs.items = allocate_runs(CurrentMemoryContext, 0);
  append_uncommitted(g, filter, knowledge, question, &runs);
  sort_by_start(&runs);
  return runs;
}

Runs read_runs(const Guarded &g, const RunFilter &filter, const core::Question &question) {
  Knowledge knowledge;
  // Readers look into memory before they take the rows' snapshot, so that a run which commits meanwhile is seen in one of the
  // two. Who locks rows looks after it: what came before his lock must count.
  const bool of_scopes = filter.scopes != nullptr && !filter.lock;
  if (of_scopes) knowledge = gather_of_scopes(g, *filter.scopes, question);
  else if (!filter.lock) knowledge = gather_knowledge(g, filter.keys, question, filter.without_leases);
  const bool uncommitted = filter.uncommitted && !filter.lock;
  Runs runs = read_rows(g, filter);
  if (filter.lock) knowledge = gather_knowledge(g, filter.keys, question, filter.without_leases);
  if (of_scopes) add_knowledge(g, keys_of(runs), runs.count, filter.without_leases, &knowledge);
  for (int i = 0; i < runs.count; ++i) judge_run(g, knowledge, question, &runs.items[i]);
  look_for_passing_over(g, question, runs.items, runs.count);
  if (uncommitted) append_uncommitted(g, filter, knowledge, question, &runs);
  sort_by_start(&runs);
  if (filter.tracked != nullptr) *filter.tracked = knowledge.tracked;
  return runs;
}

}  // namespace esg
