// Runs in the caller's process, under the rights that the runs were read with. See expectations.h.

#include "expectations.h"

#include "pg/spi.h"

namespace esg {

Rhythms rhythms_of_runs(const Guarded &g, const Runs &runs) {
  if (runs.count == 0) return Rhythms{};
  auto *scopes = static_cast<Datum *>(palloc_extended(sizeof(Datum) * runs.count, MCXT_ALLOC_HUGE));
  int count = 0;
  for (int i = 0; g.scope_count > 0 && i < runs.count; ++i) {
    if (runs.items[i].judgement.dead()) continue;
    scopes[count++] = PointerGetDatum(scope_json(g, runs.items[i].scope));
  }
  return read_rhythms(g, PointerGetDatum(construct_array(scopes, count, JSONBOID, -1, false, TYPALIGN_INT)));
}

core::Expectation expectation_of(const Guarded &g, const Run &run, const Rhythms &rhythms, core::Micros now) {
  core::ProgressFacts facts;
  facts.now = now;
  facts.started = run.started;
  facts.progress_changed = run.evidence.progress_changed;
  facts.done = run.done;
  facts.total = run.total;
  if (const Rhythm *rhythm = rhythms.of(scope_json(g, run.scope)); rhythm != nullptr) {
    facts.usual_duration = rhythm->usual_duration;
    facts.long_duration = rhythm->long_duration;
  }
  core::Expectation expectation = core::expect(facts);
  if (run.judgement.dead() || run.judgement.verdict == core::Verdict::kSuspect) {
    expectation.end.reset();
    expectation.by = core::ExpectedBy::kNothing;
  }
  return expectation;
}

core::BarStyle bar_style() {
  const bool blocks = GetDatabaseEncoding() == PG_UTF8 && pg_get_client_encoding() == PG_UTF8;
  return blocks ? core::BarStyle::kBlocks : core::BarStyle::kPlain;
}

}  // namespace esg
