// See plans.h. Memory of the session; a few hundred kilobytes where many statements are kept.

#include "pg/plans.h"

namespace esg::pg {
namespace {

/// A sweep over a table with leases runs some twenty statements, an application's start and finish a dozen.
constexpr int kMostPlans = 48;
/// Statements that were run last and are not kept yet, by their hashes. One that is run once only is not worth keeping: those of
/// adoption, or with a value in their text.
constexpr int kRemembered = 64;

KeptPlan kept[kMostPlans];
int kept_count = 0;
uint64 remembered[kRemembered];
int next_remembered = 0;
uint64 uses = 0;

uint64 hash_text(const char *text, uint64 seed) {
  const auto *bytes = reinterpret_cast<const unsigned char *>(text);
  return hash_bytes_extended(bytes, static_cast<int>(strlen(text)), seed);
}

/// Of the search path and the user too: the server makes a plan anew when it is used with others, and they change with each identity
/// that the guard takes on.
uint64 hash_of(const Statement &statement) {
  const auto *types = reinterpret_cast<const unsigned char *>(statement.types);
  const uint64 of_types = hash_bytes_extended(types, static_cast<int>(sizeof(Oid)) * statement.count, GetUserId());
  return hash_text(statement.sql, hash_text(namespace_search_path, of_types));
}

bool is_of(const KeptPlan &plan, const Statement &statement, uint64 hash) {
  return plan.hash == hash && plan.count == statement.count && strcmp(plan.sql, statement.sql) == 0 &&
         memcmp(plan.types, statement.types, sizeof(Oid) * statement.count) == 0;
}

/// Whether it was run before; it was from now on.
bool was_run_before(uint64 hash) {
  for (const uint64 other : remembered)
    if (other == hash) return true;
  remembered[next_remembered] = hash;
  next_remembered = (next_remembered + 1) % kRemembered;
  return false;
}

/// A free place, or that of the one that was used least recently; null where all are running.
KeptPlan *make_place() {
  if (kept_count < kMostPlans) return &kept[kept_count];
  KeptPlan *oldest = nullptr;
  for (KeptPlan &plan : kept)
    if (plan.running == 0 && (oldest == nullptr || plan.used < oldest->used)) oldest = &plan;
  return oldest;
}

void give_back(KeptPlan *plan) {
  if (plan->plan != nullptr) (void)SPI_freeplan(plan->plan);
  if (plan->sql != nullptr) pfree(plan->sql);
  if (plan->types != nullptr) pfree(plan->types);
  *plan = KeptPlan{};
}

}  // namespace

namespace {

SPIPlanPtr prepare(const Statement &statement, int options) {
  auto *types = const_cast<Oid *>(statement.types);
  const SPIPlanPtr plan = SPI_prepare_cursor(statement.sql, statement.count, types, options);
  if (plan == nullptr) elog(ERROR, "SPI_prepare failed: %s", SPI_result_code_string(SPI_result));
  return plan;
}

/// Plans a statement that fetches rows without what reads whole tables. Kept, the plan may outlive the size that the table has now;
/// and arrays, however long, are taken for short ones. Nor are CHECKs of partitions asked, which tell nothing of keys and places.
void plan_fetching(SPIPlanPtr plan, bool is_kept) {
  const int level = NewGUCNestLevel();
  for (const char *name : {"enable_seqscan", "enable_hashjoin", "enable_mergejoin", "constraint_exclusion"})
    (void)set_config_option(name, "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
  CachedPlan *made = SPI_plan_get_cached_plan(plan);
  if (made != nullptr) ReleaseCachedPlan(made, is_kept ? CurrentResourceOwner : nullptr);
  AtEOXact_GUC(false, level);
}

}  // namespace

SPIPlanPtr prepare_plan(const Statement &statement) {
  const SPIPlanPtr plan = prepare(statement, statement.fetches ? CURSOR_OPT_GENERIC_PLAN : 0);
  if (statement.fetches) plan_fetching(plan, false);
  return plan;
}

KeptPlan *find_or_keep_plan(const Statement &statement) {
  const uint64 hash = hash_of(statement);
  for (int i = 0; i < kept_count; ++i)
    if (is_of(kept[i], statement, hash)) {
      kept[i].used = ++uses;
      return &kept[i];
    }
  // What fetches rows does so batch by batch.
  if (!statement.fetches && !was_run_before(hash)) return nullptr;
  // One plan for all values: what a plan would be chosen by (statuses, a scope, a limit) stands in the text.
  const SPIPlanPtr plan = prepare(statement, CURSOR_OPT_GENERIC_PLAN);
  KeptPlan *place = make_place();
  if (place == nullptr) return nullptr;
  give_back(place);
  place->sql = MemoryContextStrdup(TopMemoryContext, statement.sql);
  place->types = static_cast<Oid *>(MemoryContextAlloc(TopMemoryContext, sizeof(Oid) * Max(statement.count, 1)));
  memcpy(place->types, statement.types, sizeof(Oid) * statement.count);
  place->count = statement.count;
  if (SPI_keepplan(plan) != 0) elog(ERROR, "SPI_keepplan failed");
  place->plan = plan;
  place->hash = hash;
  place->used = ++uses;
  place->is_new = true;
  if (place == &kept[kept_count]) ++kept_count;
  return place;
}

void prepare_kept(KeptPlan *plan, const Statement &statement) {
  if (statement.fetches && (plan->is_new || !SPI_plan_is_valid(plan->plan))) plan_fetching(plan->plan, true);
  plan->is_new = false;
}

}  // namespace esg::pg
