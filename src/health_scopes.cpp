// Live runs that share a scope which is to have one only: those that were there before the scope became exclusive, or
// that came in while nobody looked. For guard_health and for guard_table, which tells of them at once. See health.h.

#include "health.h"

namespace esg {
namespace {

/// Every pair is looked at, of this many runs.
constexpr int kMaxCompared = 500;

bool in_the_way(const Guarded &g, const Run &run) {
  if (run.judgement.dead()) return false;
  for (int i = 0; i < g.exclusive_count; ++i)
    if (strcmp(g.exclusive_statuses[i], run.status) == 0) return true;
  return false;
}

bool share_scope(const Guarded &g, const core::Scope &a, const core::Scope &b) {
  for (int i = 0; i < g.scope_count; ++i)
    if (!core::overlap(i, a.values[i], b.values[i], g.overlaps, g.overlap_count)) return false;
  return true;
}

}  // namespace

SharedScope find_shared_scope(const Guarded &g, const Runs &runs) {
  if (!g.exclusive) return {};
  const Run *seen[kMaxCompared];
  int count = 0;
  for (int i = 0; i < runs.count && count < kMaxCompared; ++i) {
    const Run &run = runs.items[i];
    if (!in_the_way(g, run)) continue;
    CHECK_FOR_INTERRUPTS();
    for (int n = 0; n < count; ++n)
      if (share_scope(g, seen[n]->scope, run.scope)) return {seen[n], &run};
    seen[count++] = &run;
  }
  return {};
}

}  // namespace esg
