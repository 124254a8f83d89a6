// The promises of the verdict, for every evidence: the first rule that fits decides, what is missing never kills, what is
// newer or larger never kills, an open fence spares, a run that was passed over is dead, and time alone revives nobody.

#include "core/verdict.h"

#include <algorithm>

#include "input.h"

namespace {

using namespace esg::core;
using esg::fuzz::Input;

struct Case {
  Evidence evidence;
  Limits limits;
  Question question;

  [[nodiscard]] Judgement judged() const { return judge(evidence, limits, question); }
  [[nodiscard]] bool dead() const { return judged().dead(); }
};

Case draw_case(Input &input) {
  Case c;
  // Often a while ago, as far back as there are instants.
  const auto instant = [&] {
    Micros instant = input.micros();
    if (instant >= 0 && __builtin_sub_overflow(c.question.now, instant, &instant)) instant = INT64_MIN;
    return instant;
  };
  const auto span = [&] { return input.span(); };
  c.question.now = input.in(-kDay, INT64_MAX);
  c.evidence.started = input.maybe(instant);
  c.evidence.last_sign = input.maybe(instant);
  c.evidence.progress_changed = input.maybe(instant);
  if (input.below(8) == 7) c.evidence.fenced_since = instant();
  c.evidence.server_started = input.maybe(instant);
  c.evidence.restart_grace = input.span();
  c.evidence.lease.kind = static_cast<LeaseKind>(input.below(3));
  if (c.evidence.lease.kind == LeaseKind::kHeartbeat || input.flag()) c.evidence.lease.ttl = input.span();
  if (c.evidence.lease.kind == LeaseKind::kNone) c.evidence.lease.ttl.reset();
  c.evidence.lease.session_ended = input.flag();
  c.evidence.lease.worker_reannounced = input.flag();
  c.evidence.lease.held_as_mass_death = input.flag();
  c.limits.max_silence = input.maybe(span);
  c.limits.max_age = input.maybe(span);
  c.limits.max_stall = input.maybe(span);
  c.question.older_than = input.maybe(span);
  c.question.even_if_alive = input.flag();
  if (input.below(9) == 8) c.evidence.passed_over = instant();
  return c;
}

void check_rules(const Case &c) {
  const Judgement said = c.judged();
  int first = 0;
  for (int rule = kRuleCount; rule >= 1; --rule) {
    const RuleView view = view_rule(rule, c.evidence, c.limits, c.question);
    CHECK(view.rule == rule && (view.applies || !view.fits));
    if (view.fits) first = rule;
  }
  if (first == 0) CHECK(!said.dead());
  else CHECK(said.rule == first && said.verdict == view_rule(first, c.evidence, c.limits, c.question).verdict);
  // Who died of a limit was beyond it.
  if (said.dead() && said.limit) CHECK(said.measured && *said.measured > *said.limit);
  if (c.evidence.passed_over) CHECK(said.dead());
  else if (c.evidence.fenced_since) CHECK(said.verdict == Verdict::kFenced);
}

/// A run that was passed over is dead for every evidence: of what it would be dead of without a fence and without the grace after
/// a start of the server, else of having been passed over.
void check_passed_over(const Case &c) {
  Case passed = c;
  if (!passed.evidence.passed_over) passed.evidence.passed_over = c.question.now;
  const Judgement said = passed.judged();
  CHECK(said.dead());
  Case plain = c;
  plain.evidence.passed_over.reset();
  plain.evidence.fenced_since.reset();
  if (view_rule(5, plain.evidence, plain.limits, plain.question).verdict == Verdict::kSuspect)
    plain.evidence.server_started.reset();
  const Judgement otherwise = plain.judged();
  if (!otherwise.dead()) CHECK(said.verdict == Verdict::kPassedOver && said.rule == 10 && !said.limit);
  else CHECK(said.rule == otherwise.rule && said.measured == otherwise.measured && said.limit == otherwise.limit);
}

/// Takes one thing away from a run that is not dead: it must not be dead then.
template <typename Change>
void check_lives_on(const Case &c, Change change) {
  Case other = c;
  change(other);
  CHECK(!other.dead());
}

void check_missing_never_kills(const Case &c) {
  Case timeless = c;
  timeless.evidence.started.reset();
  timeless.evidence.last_sign.reset();
  timeless.evidence.progress_changed.reset();
  const Verdict verdict = timeless.judged().verdict;
  const bool by_report = verdict == Verdict::kSessionGone || verdict == Verdict::kWorkerRestarted;
  CHECK(!timeless.dead() || by_report || (verdict == Verdict::kPassedOver && c.evidence.passed_over));
  if (c.dead()) return;
  check_lives_on(c, [](Case &o) { o.evidence.progress_changed.reset(); });
  check_lives_on(c, [](Case &o) { o.evidence.lease.session_ended = false; });
  check_lives_on(c, [](Case &o) { o.evidence.lease.worker_reannounced = false; });
  check_lives_on(c, [](Case &o) { o.limits.max_age.reset(); });
  check_lives_on(c, [](Case &o) { o.limits.max_stall.reset(); });
  check_lives_on(c, [](Case &o) { o.question.even_if_alive = false; });
  if (!c.question.older_than) check_lives_on(c, [](Case &o) { o.limits.max_silence.reset(); });
}

/// Raises a value that is there by a span, as far as it goes.
void raise(std::optional<Micros> &value, Micros by) {
  if (value && __builtin_add_overflow(*value, by, &*value)) value = INT64_MAX;
}

void check_more_never_kills(const Case &c, Micros more) {
  const Judgement said = c.judged();
  if (said.dead()) return;
  check_lives_on(c, [=](Case &o) { raise(o.limits.max_silence, more); });
  check_lives_on(c, [=](Case &o) { raise(o.limits.max_age, more); });
  check_lives_on(c, [=](Case &o) { raise(o.limits.max_stall, more); });
  check_lives_on(c, [=](Case &o) { raise(o.question.older_than, more); });
  check_lives_on(c, [=](Case &o) { raise(o.evidence.lease.ttl, more); });
  check_lives_on(c, [=](Case &o) { raise(o.evidence.progress_changed, more); });
  check_lives_on(c, [](Case &o) { o.evidence.lease.held_as_mass_death = true; });
  // A suspect is spared for want of a sign; the first one puts it under the ordinary rules.
  if (said.verdict != Verdict::kSuspect) check_lives_on(c, [=](Case &o) { raise(o.evidence.last_sign, more); });
}

void check_time_revives_nobody(const Case &c, Micros more) {
  Case later = c;
  if (__builtin_add_overflow(c.question.now, more, &later.question.now)) return;
  if (c.dead()) CHECK(later.dead());
}

void check_words(const Case &c, std::size_t size) {
  const Judgement said = c.judged();
  const auto words = [&](char *out, std::size_t room) { return describe(said, out, room); };
  CHECK(esg::fuzz::is_printable_ascii(esg::fuzz::written(size, words)));
  const std::string whole = esg::fuzz::written(256, words);
  CHECK(whole.rfind(verdict_name(said.verdict), 0) == 0);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Input input(data, size);
  const Micros more = input.span();
  const auto room = static_cast<std::size_t>(input.below(200));
  const Case c = draw_case(input);
  check_rules(c);
  check_passed_over(c);
  check_missing_never_kills(c);
  check_more_never_kills(c, more);
  check_time_revives_nobody(c, more);
  check_words(c, room);
  return 0;
}
