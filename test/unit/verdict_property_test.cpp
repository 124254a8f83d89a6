// What holds of the verdict for any evidence: many random runs from fixed seeds, against a second writing of the rules
// in wide integers, and against what must never happen.

#include "core/verdict.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <random>

#include "evidence.h"

namespace esg::core {
namespace {

using namespace test;

constexpr int kTurns = 200'000;

/// Random evidence whose figures meet often: spans and instants come from few values and their neighbours, so that
/// limits are hit exactly, missed by one, and every rule fits many times.
class Dice {
 public:
  explicit Dice(std::uint64_t seed, bool extremes = true) : engine_(seed), extremes_(extremes) {}

  std::uint64_t below(std::uint64_t bound) { return engine_() % bound; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }

  Micros span() {
    constexpr Micros kSpans[] = {0, kSecond, 30 * kSecond, kMinute, 2 * kMinute, 10 * kMinute, kHour, 2 * kHour, kDay};
    const Micros base = kSpans[below(std::size(kSpans))];
    return std::max<Micros>(0, base + static_cast<Micros>(below(3)) - 1);
  }

  /// A limit as the settings allow it: positive.
  Micros limit() {
    if (extremes_ && one_in(50)) return one_in(2) ? kLatest : kLatest - 1;
    return std::max<Micros>(1, span());
  }

  Micros instant() {
    constexpr Micros kEnds[] = {kEarliest, kEarliest + 1, -1, 0, 1, kLatest - 1, kLatest};
    if (extremes_ && one_in(50)) return kEnds[below(std::size(kEnds))];
    return one_in(10) ? kNow + span() : kNow - span();
  }

  template <typename Make>
  std::optional<Micros> maybe(Make make) {
    if (one_in(3)) return std::nullopt;
    return make();
  }

  Evidence evidence() {
    Evidence e;
    e.started = maybe([this] { return instant(); });
    e.last_sign = maybe([this] { return instant(); });
    e.progress_changed = maybe([this] { return instant(); });
    if (one_in(10)) e.fenced_since = instant();
    e.server_started = maybe([this] { return instant(); });
    e.restart_grace = span();
    e.lease.kind = static_cast<LeaseKind>(below(3));
    const bool has_ttl =
        e.lease.kind == LeaseKind::kHeartbeat || (e.lease.kind == LeaseKind::kSessionBound && one_in(2));
    if (has_ttl) e.lease.ttl = limit();
    e.lease.session_ended = one_in(5);
    e.lease.worker_reannounced = one_in(5);
    e.lease.held_as_mass_death = one_in(3);
    if (one_in(10)) e.passed_over = instant();
    return e;
  }

  Limits limits() {
    Limits l;
    l.max_silence = maybe([this] { return limit(); });
    if (one_in(2)) l.max_age = limit();
    if (one_in(2)) l.max_stall = limit();
    return l;
  }

  Question question() {
    Question q;
    q.now = extremes_ && one_in(50) ? instant() : kNow;
    if (one_in(3)) q.older_than = limit();
    q.even_if_alive = one_in(4);
    return q;
  }

 private:
  std::mt19937_64 engine_;
  bool extremes_;
};

/// Runs `check` on many random runs; the seed and the turn are in the trace of a failure.
template <typename Check>
void for_many(std::uint64_t seed, bool extremes, Check check) {
  Dice dice(seed, extremes);
  for (int turn = 0; turn < kTurns && !testing::Test::HasFailure(); ++turn) {
    SCOPED_TRACE(testing::Message() << "seed " << seed << ", turn " << turn);
    const Evidence e = dice.evidence();
    const Limits l = dice.limits();
    const Question q = dice.question();
    check(dice, e, l, q);
  }
}

// ---- the rules once more, in wide integers ---------------------------------------

using Wide = __int128;

std::optional<Micros> wide_span(Micros now, const std::optional<Micros> &since) {
  if (!since) return std::nullopt;
  return static_cast<Micros>(std::clamp<Wide>(Wide{now} - *since, kEarliest, kLatest));
}

Judgement expected(const Evidence &e, const Limits &l, const Question &q) {
  const bool leased = e.lease.kind != LeaseKind::kNone;
  std::optional<Micros> sign = e.started;
  if (e.last_sign && (leased || !sign || *e.last_sign > *sign)) sign = e.last_sign;
  const auto age = wide_span(q.now, e.started);
  const auto silence = wide_span(q.now, sign);
  const auto still = wide_span(q.now, e.progress_changed);
  const auto uptime = wide_span(q.now, e.server_started);
  const bool nothing_since = e.server_started && (!sign || *sign < *e.server_started);

  if (e.fenced_since && !e.passed_over) return {Verdict::kFenced, 1, wide_span(q.now, e.fenced_since), std::nullopt};
  if (age && l.max_age && *age > *l.max_age) return {Verdict::kOverdue, 2, age, l.max_age};
  if (e.lease.kind == LeaseKind::kSessionBound && e.lease.session_ended)
    return {Verdict::kSessionGone, 3, silence, std::nullopt};
  if (leased && e.lease.worker_reannounced) return {Verdict::kWorkerRestarted, 4, silence, std::nullopt};
  if (leased && nothing_since) {
    const Micros grace = e.lease.ttl && *e.lease.ttl > e.restart_grace ? *e.lease.ttl : e.restart_grace;
    const bool over = *uptime > grace;
    if (!over && !e.passed_over) return {Verdict::kSuspect, 5, uptime, grace};
    if (over && sign) return {Verdict::kServerRestarted, 5, uptime, grace};
  }
  std::optional<Micros> ttl;
  if (leased && e.lease.ttl)
    ttl = static_cast<Micros>(std::min<Wide>(Wide{*e.lease.ttl} * (e.lease.held_as_mass_death ? 2 : 1), kLatest));
  if (ttl && silence && *silence > *ttl) return {Verdict::kHeartbeatLost, 6, silence, ttl};
  if (still && l.max_stall && *still > *l.max_stall) return {Verdict::kStalled, 7, still, l.max_stall};

  const std::optional<Micros> limit = q.older_than ? q.older_than : l.max_silence;
  const bool by_row = e.lease.kind == LeaseKind::kNone || (e.lease.kind == LeaseKind::kSessionBound && !e.lease.ttl);
  const bool quiet = by_row && silence && limit && *silence > *limit;
  const bool waits = quiet && !leased && !e.passed_over && nothing_since && *uptime <= e.restart_grace;
  if (quiet && !waits) return {Verdict::kSilent, 8, silence, limit};
  if (q.even_if_alive && age && q.older_than && *age > *q.older_than) return {Verdict::kOverdue, 9, age, q.older_than};
  if (e.passed_over) return {Verdict::kPassedOver, 10, wide_span(q.now, e.passed_over), std::nullopt};
  if (waits) return {Verdict::kSuspect, 8, uptime, e.restart_grace};
  return {Verdict::kLive, 0, silence, ttl ? ttl : limit};
}

TEST(AnyEvidence, IsJudgedAsTheRulesSay) {
  std::map<std::pair<Verdict, int>, int> seen;
  for_many(1, true, [&seen](Dice &, const Evidence &e, const Limits &l, const Question &q) {
    const Judgement said = judge(e, l, q);
    ++seen[{said.verdict, said.rule}];
    EXPECT_EQ(said, expected(e, l, q));
  });
  // The dice reach every verdict by every rule, and each of them often.
  const std::pair<Verdict, int> all[] = {{Verdict::kLive, 0},
                                         {Verdict::kFenced, 1},
                                         {Verdict::kOverdue, 2},
                                         {Verdict::kSessionGone, 3},
                                         {Verdict::kWorkerRestarted, 4},
                                         {Verdict::kSuspect, 5},
                                         {Verdict::kServerRestarted, 5},
                                         {Verdict::kHeartbeatLost, 6},
                                         {Verdict::kStalled, 7},
                                         {Verdict::kSilent, 8},
                                         {Verdict::kSuspect, 8},
                                         {Verdict::kOverdue, 9},
                                         {Verdict::kPassedOver, 10}};
  EXPECT_EQ(seen.size(), std::size(all));
  for (const auto &[verdict, rule] : all) EXPECT_GT((seen[{verdict, rule}]), kTurns / 1000) << verdict << ' ' << rule;
}

TEST(AnyEvidence, IsDecidedByTheFirstRuleWhoseViewFits) {
  for_many(2, true, [](Dice &, const Evidence &e, const Limits &l, const Question &q) {
    const Judgement said = judge(e, l, q);
    int first = 0;
    for (int rule = kRuleCount; rule >= 1; --rule) {
      const RuleView view = view_rule(rule, e, l, q);
      EXPECT_EQ(view.rule, rule);
      EXPECT_TRUE(view.applies || !view.fits) << rule;
      if (view.fits) first = rule;
    }
    if (first != 0) {
      const RuleView view = view_rule(first, e, l, q);
      EXPECT_EQ(said, (Judgement{view.verdict, first, view.measured, view.limit}));
    } else {
      EXPECT_FALSE(said.dead());
    }
  });
}

TEST(AnyEvidence, IsJudgedAlikeWhateverTheOriginOfTime) {
  for_many(3, false, [](Dice &dice, Evidence e, const Limits &l, Question q) {
    const Judgement before = judge(e, l, q);
    const Micros shift = dice.one_in(2) ? -kNow - dice.span() : kNow + dice.span();
    for (std::optional<Micros> *time :
         {&e.started, &e.last_sign, &e.progress_changed, &e.fenced_since, &e.passed_over, &e.server_started})
      if (*time) **time += shift;
    q.now += shift;
    EXPECT_EQ(judge(e, l, q), before);
  });
}

// ---- what never kills ------------------------------------------------------------

/// Dead by what is known, not by a mere report: rules 3, 4 and 10 stand on no time of the run's own.
bool dead_by_time(const Judgement &said) {
  return said.dead() && said.verdict != Verdict::kSessionGone && said.verdict != Verdict::kWorkerRestarted &&
         said.verdict != Verdict::kPassedOver;
}

TEST(Missing, NoTimeAtAllNeverKills) {
  for_many(4, true, [](Dice &, Evidence e, const Limits &l, const Question &q) {
    e.started.reset();
    e.last_sign.reset();
    e.progress_changed.reset();
    EXPECT_FALSE(dead_by_time(judge(e, l, q)));
  });
}

TEST(Missing, AnAbsentStartNeverMakesOverdue) {
  for_many(5, true, [](Dice &, Evidence e, const Limits &l, const Question &q) {
    e.started.reset();
    EXPECT_NE(judge(e, l, q).verdict, Verdict::kOverdue);
  });
}

TEST(Missing, AStartInTheFutureNeverMakesOverdue) {
  for_many(6, true, [](Dice &dice, Evidence e, const Limits &l, const Question &q) {
    Micros start = 0;
    if (__builtin_add_overflow(q.now, dice.span(), &start)) start = kLatest;
    e.started = start;
    EXPECT_NE(judge(e, l, q).verdict, Verdict::kOverdue);
  });
}

TEST(Missing, TakingEvidenceAwayNeverKills) {
  for_many(7, true, [](Dice &, const Evidence &e, const Limits &l, const Question &q) {
    if (judge(e, l, q).dead()) return;
    const auto still_alive = [&](const char *without, auto take_away) {
      Evidence less = e;
      Limits fewer = l;
      Question plainer = q;
      take_away(less, fewer, plainer);
      EXPECT_FALSE(judge(less, fewer, plainer).dead()) << "without " << without;
    };
    // The start is the first sign of life: it may go where it is not the newest.
    if (e.last_sign && e.started && (e.lease.kind != LeaseKind::kNone || *e.last_sign >= *e.started))
      still_alive("start", [](Evidence &x, Limits &, Question &) { x.started.reset(); });
    still_alive("progress", [](Evidence &x, Limits &, Question &) { x.progress_changed.reset(); });
    still_alive("session's end", [](Evidence &x, Limits &, Question &) { x.lease.session_ended = false; });
    still_alive("worker's start", [](Evidence &x, Limits &, Question &) { x.lease.worker_reannounced = false; });
    still_alive("max_age", [](Evidence &, Limits &y, Question &) { y.max_age.reset(); });
    still_alive("max_stall", [](Evidence &, Limits &y, Question &) { y.max_stall.reset(); });
    if (!q.older_than) still_alive("max_silence", [](Evidence &, Limits &y, Question &) { y.max_silence.reset(); });
    still_alive("even_if_alive", [](Evidence &, Limits &, Question &z) { z.even_if_alive = false; });
  });
}

TEST(Missing, LosingEveryTimeOfAnUnleasedRunNeverKills) {
  for_many(8, true, [](Dice &, Evidence e, const Limits &l, const Question &q) {
    e.lease = Lease{};
    if (judge(e, l, q).dead()) return;
    e.started.reset();
    e.last_sign.reset();
    EXPECT_FALSE(judge(e, l, q).dead());
  });
}

// ---- what kills whatever else is known -------------------------------------------

TEST(PassedOver, KillsForEveryEvidence) {
  for_many(17, true, [](Dice &dice, Evidence e, const Limits &l, const Question &q) {
    const Judgement before = judge(e, l, q);
    if (!e.passed_over) e.passed_over = dice.instant();
    const Judgement said = judge(e, l, q);
    EXPECT_TRUE(said.dead());
    // Who was dead by his own doing stays so by the same rule. Silence comes before the ninth, and the grace hid it.
    if (before.dead() && before.rule != 9) {
      EXPECT_EQ(said, before);
    }
    // Nothing else is needed: no time, no limit, no lease.
    Evidence bare;
    bare.passed_over = e.passed_over;
    EXPECT_EQ(judge(bare, Limits{}, q).verdict, Verdict::kPassedOver);
  });
}

// ---- what only prolongs ----------------------------------------------------------

/// The later of an instant and a random one.
std::optional<Micros> newer(Dice &dice, const std::optional<Micros> &than) { return std::max(*than, dice.instant()); }

TEST(Prolonging, ANewerSignNeverKills) {
  int prolonged = 0;
  for_many(9, true, [&prolonged](Dice &dice, Evidence e, const Limits &l, const Question &q) {
    if (!e.last_sign) return;
    const Judgement before = judge(e, l, q);
    e.last_sign = newer(dice, e.last_sign);
    const Judgement after = judge(e, l, q);
    // A suspect is spared for want of a sign; the first one since the server's start puts it under the ordinary rules.
    if (!before.dead() && before.verdict != Verdict::kSuspect) {
      EXPECT_FALSE(after.dead());
    }
    if (before.dead() && !after.dead()) ++prolonged;
  });
  EXPECT_GT(prolonged, kTurns / 100);
}

TEST(Prolonging, AFirstSignNeverKillsARunThatHasAStart) {
  for_many(10, true, [](Dice &dice, Evidence e, const Limits &l, const Question &q) {
    if (!e.started) return;
    e.last_sign.reset();
    const Judgement before = judge(e, l, q);
    e.last_sign = dice.instant();
    // A leased run's start stands for a sign only while there is none; what comes first comes after it.
    if (e.lease.kind != LeaseKind::kNone) e.last_sign = std::max(*e.started, *e.last_sign);
    if (!before.dead() && before.verdict != Verdict::kSuspect) {
      EXPECT_FALSE(judge(e, l, q).dead());
    }
  });
}

TEST(Prolonging, ASignThisInstantSavesFromAllButAgeStallAndReports) {
  for_many(11, true, [](Dice &, Evidence e, const Limits &l, const Question &q) {
    e.last_sign = q.now;
    if (e.server_started && *e.server_started > q.now) e.server_started = q.now;
    const Judgement said = judge(e, l, q);
    EXPECT_NE(said.verdict, Verdict::kSuspect);
    EXPECT_NE(said.verdict, Verdict::kServerRestarted);
    EXPECT_NE(said.verdict, Verdict::kHeartbeatLost);
    EXPECT_NE(said.verdict, Verdict::kSilent);
  });
}

TEST(Prolonging, NewerProgressNeverKills) {
  for_many(12, true, [](Dice &dice, Evidence e, const Limits &l, const Question &q) {
    if (!e.progress_changed) return;
    const bool dead = judge(e, l, q).dead();
    e.progress_changed = newer(dice, e.progress_changed);
    if (!dead) {
      EXPECT_FALSE(judge(e, l, q).dead());
    }
  });
}

TEST(Prolonging, ALargerLimitNeverKills) {
  int prolonged = 0;
  for_many(13, true, [&prolonged](Dice &dice, const Evidence &e, const Limits &l, const Question &q) {
    const bool dead = judge(e, l, q).dead();
    const auto with_larger = [&](const char *name, auto pick) {
      Evidence run = e;
      Limits limits = l;
      Question question = q;
      std::optional<Micros> *limit = pick(run, limits, question);
      if (!*limit) return;
      *limit = std::max(**limit, dice.limit());
      const bool after = judge(run, limits, question).dead();
      if (!dead) {
        EXPECT_FALSE(after) << name;
      }
      if (dead && !after) ++prolonged;
    };
    with_larger("max_silence", [](Evidence &, Limits &y, Question &) { return &y.max_silence; });
    with_larger("max_age", [](Evidence &, Limits &y, Question &) { return &y.max_age; });
    with_larger("max_stall", [](Evidence &, Limits &y, Question &) { return &y.max_stall; });
    with_larger("older_than", [](Evidence &, Limits &, Question &z) { return &z.older_than; });
    with_larger("ttl", [](Evidence &x, Limits &, Question &) { return &x.lease.ttl; });
    Evidence run = e;
    run.restart_grace = std::max(run.restart_grace, dice.limit());
    if (!dead) {
      EXPECT_FALSE(judge(run, l, q).dead()) << "restart_grace";
    }
    run = e;
    run.lease.held_as_mass_death = true;
    if (!dead) {
      EXPECT_FALSE(judge(run, l, q).dead()) << "held_as_mass_death";
    }
  });
  EXPECT_GT(prolonged, kTurns / 100);
}

TEST(Prolonging, AnOpenFenceSparesEveryRunThatHasItsScope) {
  for_many(14, true, [](Dice &dice, Evidence e, const Limits &l, const Question &q) {
    e.fenced_since = dice.instant();
    e.passed_over.reset();
    EXPECT_EQ(judge(e, l, q).verdict, Verdict::kFenced);
  });
}

TEST(Prolonging, ARunStartedThisInstantIsLive) {
  for_many(15, true, [](Dice &, Evidence e, const Limits &l, const Question &q) {
    e.started = q.now;
    e.lease = Lease{};
    e.fenced_since.reset();
    e.passed_over.reset();
    // Progress of this run cannot be older than its start.
    if (e.progress_changed && *e.progress_changed < q.now) e.progress_changed = q.now;
    EXPECT_EQ(judge(e, l, q).verdict, Verdict::kLive);
  });
}

TEST(Prolonging, TimeAloneRevivesNobody) {
  for_many(16, true, [](Dice &dice, const Evidence &e, const Limits &l, Question q) {
    const Judgement before = judge(e, l, q);
    if (__builtin_add_overflow(q.now, dice.span(), &q.now)) return;
    if (before.dead()) {
      EXPECT_TRUE(judge(e, l, q).dead());
    }
  });
}

}  // namespace
}  // namespace esg::core
