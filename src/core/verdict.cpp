// The rule table and the function that walks it. Pure; see verdict.h for the contract.

#include "core/verdict.h"

#include <algorithm>
#include <cstdio>
#include <limits>

namespace esg::core {
namespace {

using Span = std::optional<Micros>;

/// now - since without overflow; absent where `since` is.
Span elapsed(Micros now, const std::optional<Micros> &since) noexcept {
  if (!since) return std::nullopt;
  Micros span = 0;
  if (__builtin_sub_overflow(now, *since, &span))
    return *since < 0 ? std::numeric_limits<Micros>::max() : std::numeric_limits<Micros>::min();
  return span;
}

Micros saturating_add(Micros a, Micros b) noexcept {
  Micros sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) return std::numeric_limits<Micros>::max();
  return sum;
}

bool older(const Span &span, const Span &limit) noexcept { return span && limit && *span > *limit; }

bool has_lease(const Evidence &e) noexcept { return e.lease.kind != LeaseKind::kNone; }

/// Signs of life in memory go with the server: a run of which none is known since its start is in doubt.
bool in_doubt_since_start(const Evidence &e) noexcept {
  if (!e.server_started) return false;
  const Span sign = last_sign_of_life(e);
  return !sign || *sign < *e.server_started;
}

/// How long after the server's start a run in doubt is given the benefit of it.
Micros grace_of(const Evidence &e) noexcept { return std::max(e.restart_grace, e.lease.ttl.value_or(0)); }

/// older_than stands in for max_silence where the call gives it.
Span silence_limit(const Limits &l, const Question &q) noexcept { return q.older_than ? q.older_than : l.max_silence; }

// clang-format off
RuleView fenced(const Evidence &e, const Limits &, const Question &q) noexcept {
  const bool open = e.fenced_since && !e.passed_over;
  return {1, "a transaction that fenced the run is open", Verdict::kFenced, open, open, elapsed(q.now, e.fenced_since),
          std::nullopt};
}

RuleView overdue(const Evidence &e, const Limits &l, const Question &q) noexcept {
  const Span age = elapsed(q.now, e.started);
  return {2, "age since the start against max_age", Verdict::kOverdue, age && l.max_age, older(age, l.max_age), age,
          l.max_age};
}

RuleView session_gone(const Evidence &e, const Limits &, const Question &q) noexcept {
  const bool bound = e.lease.kind == LeaseKind::kSessionBound;
  return {3, "the session that the lease is bound to", Verdict::kSessionGone, bound, bound && e.lease.session_ended,
          elapsed(q.now, last_sign_of_life(e)), std::nullopt};
}

RuleView worker_restarted(const Evidence &e, const Limits &, const Question &q) noexcept {
  return {4, "another incarnation of the run's worker", Verdict::kWorkerRestarted, has_lease(e),
          has_lease(e) && e.lease.worker_reannounced, elapsed(q.now, last_sign_of_life(e)), std::nullopt};
}

RuleView server_restarted(const Evidence &e, const Limits &, const Question &q) noexcept {
  const bool applies = has_lease(e) && e.server_started;
  const bool doubt = applies && in_doubt_since_start(e);
  const Span since_start = elapsed(q.now, e.server_started);
  const Span grace = has_lease(e) ? Span(grace_of(e)) : std::nullopt;
  const bool over = doubt && older(since_start, grace);
  // Of a run without any time nobody knows that it was silent since the server's start: doubt passes, never kills.
  return {5,
          "no sign of life since the server's start or promotion",
          over ? Verdict::kServerRestarted : Verdict::kSuspect,
          applies,
          doubt && (over ? last_sign_of_life(e).has_value() : !e.passed_over),
          since_start,
          grace};
}

/// The ttl, twice where mass death holds the verdict back.
Span heartbeat_limit(const Evidence &e) noexcept {
  if (!has_lease(e) || !e.lease.ttl) return std::nullopt;
  return e.lease.held_as_mass_death ? saturating_add(*e.lease.ttl, *e.lease.ttl) : *e.lease.ttl;
}

RuleView heartbeat_lost(const Evidence &e, const Limits &, const Question &q) noexcept {
  const Span silence = elapsed(q.now, last_sign_of_life(e));
  const Span limit = heartbeat_limit(e);
  return {6, "last sign of life against the lease's ttl", Verdict::kHeartbeatLost, silence && limit,
          older(silence, limit), silence, limit};
}

RuleView stalled(const Evidence &e, const Limits &l, const Question &q) noexcept {
  const Span still = elapsed(q.now, e.progress_changed);
  return {7, "time since progress moved against max_stall", Verdict::kStalled, still && l.max_stall,
          older(still, l.max_stall), still, l.max_stall};
}

RuleView silent(const Evidence &e, const Limits &l, const Question &q) noexcept {
  constexpr const char *kEvidence = "last sign of life against max_silence";
  const bool judged_by_silence = !has_lease(e) || (e.lease.kind == LeaseKind::kSessionBound && !e.lease.ttl);
  const Span silence = elapsed(q.now, last_sign_of_life(e));
  const Span limit = silence_limit(l, q);
  const bool applies = judged_by_silence && silence && limit;
  const bool fits = applies && older(silence, limit);
  // Without a lease the row alone tells of silence, but not before the run has had the grace to give a new sign.
  const Span since_start = elapsed(q.now, e.server_started);
  if (fits && !has_lease(e) && !e.passed_over && in_doubt_since_start(e) && !older(since_start, e.restart_grace))
    return {8, kEvidence, Verdict::kSuspect, applies, false, since_start, e.restart_grace};
  return {8, kEvidence, Verdict::kSilent, applies, fits, silence, limit};
}

RuleView overdue_on_request(const Evidence &e, const Limits &, const Question &q) noexcept {
  const Span age = elapsed(q.now, e.started);
  const bool applies = q.even_if_alive && age && q.older_than;
  return {9, "age since the start against older_than (even_if_alive)", Verdict::kOverdue, applies,
          applies && older(age, q.older_than), age, q.older_than};
}

RuleView passed_over(const Evidence &e, const Limits &, const Question &q) noexcept {
  const bool passed = e.passed_over.has_value();
  return {10, "another run that started in its exclusive scope when it was dead", Verdict::kPassedOver, passed, passed,
          elapsed(q.now, e.passed_over), std::nullopt};
}
// clang-format on

using Rule = RuleView (*)(const Evidence &, const Limits &, const Question &) noexcept;

/// The order is the rule: first that fits decides.
constexpr Rule kRules[kRuleCount] = {fenced,         overdue, session_gone, worker_restarted,   server_restarted,
                                     heartbeat_lost, stalled, silent,       overdue_on_request, passed_over};

}  // namespace

std::optional<Micros> last_sign_of_life(const Evidence &evidence) noexcept {
  if (!evidence.started) return evidence.last_sign;
  if (!evidence.last_sign) return evidence.started;
  // A lease promises signs of its own: a start in the future must not hide that they have stopped.
  if (has_lease(evidence)) return evidence.last_sign;
  return std::max(*evidence.started, *evidence.last_sign);
}

Micros moved_with_clock(Micros instant, Micros ahead_then, Micros ahead_now) noexcept {
  // The two clocks are not read at quite the same time.
  constexpr Micros kNoStep = kSecond;
  Micros step = 0;
  if (__builtin_sub_overflow(ahead_now, ahead_then, &step) || step <= kNoStep) return instant;
  return saturating_add(instant, step);
}

std::optional<Micros> time_between(Micros from, Micros to) noexcept {
  Micros span = 0;
  if (__builtin_sub_overflow(to, from, &span)) return std::nullopt;
  return span;
}

RuleView view_rule(int number, const Evidence &evidence, const Limits &limits, const Question &question) noexcept {
  return kRules[number - 1](evidence, limits, question);
}

Judgement judge(const Evidence &evidence, const Limits &limits, const Question &question) noexcept {
  for (const Rule rule : kRules) {
    const RuleView view = rule(evidence, limits, question);
    if (view.fits) return {view.verdict, view.rule, view.measured, view.limit};
  }
  const RuleView silence = silent(evidence, limits, question);
  if (silence.verdict == Verdict::kSuspect) return {silence.verdict, silence.rule, silence.measured, silence.limit};
  const Span ttl = heartbeat_limit(evidence);
  return {Verdict::kLive, 0, elapsed(question.now, last_sign_of_life(evidence)),
          ttl ? ttl : silence_limit(limits, question)};
}

const char *verdict_name(Verdict verdict) noexcept {
  switch (verdict) {
    case Verdict::kLive: return "live";
    case Verdict::kFenced: return "fenced";
    case Verdict::kSuspect: return "suspect";
    case Verdict::kOverdue: return "overdue";
    case Verdict::kSessionGone: return "session_gone";
    case Verdict::kWorkerRestarted: return "worker_restarted";
    case Verdict::kServerRestarted: return "server_restarted";
    case Verdict::kHeartbeatLost: return "heartbeat_lost";
    case Verdict::kStalled: return "stalled";
    case Verdict::kSilent: return "silent";
    case Verdict::kPassedOver: return "passed_over";
  }
  return "live";
}

char *describe_span(Micros span, char *out, std::size_t size) noexcept {
  const char *sign = span < 0 ? "-" : "";
  const std::uint64_t us = span < 0 ? 0 - static_cast<std::uint64_t>(span) : static_cast<std::uint64_t>(span);
  const auto unit = [us](Micros of) { return static_cast<unsigned long long>(us / static_cast<std::uint64_t>(of)); };
  const auto rest = [us](Micros of, Micros below) {
    return static_cast<unsigned long long>(us % static_cast<std::uint64_t>(of) / static_cast<std::uint64_t>(below));
  };
  const auto two = [&](Micros big, const char *big_name, Micros small, const char *small_name) {
    const auto tail = rest(big, small);
    if (tail == 0) std::snprintf(out, size, "%s%llu %s", sign, unit(big), big_name);
    else std::snprintf(out, size, "%s%llu %s %llu %s", sign, unit(big), big_name, tail, small_name);
  };
  if (us >= static_cast<std::uint64_t>(kDay)) two(kDay, "d", kHour, "h");
  else if (us >= static_cast<std::uint64_t>(kHour)) two(kHour, "h", kMinute, "min");
  else if (us >= static_cast<std::uint64_t>(kMinute)) two(kMinute, "min", kSecond, "s");
  else if (us >= static_cast<std::uint64_t>(10 * kSecond) || us % kSecond == 0)
    std::snprintf(out, size, "%s%llu s", sign, unit(kSecond));
  else std::snprintf(out, size, "%s%llu.%03llu s", sign, unit(kSecond), rest(kSecond, 1000));
  return out;
}

char *describe(const Judgement &judgement, char *out, std::size_t size) noexcept {
  char measured[48] = "an unknown time";
  char limit[48] = "none";
  if (judgement.measured) describe_span(*judgement.measured, measured, sizeof measured);
  if (judgement.limit) describe_span(*judgement.limit, limit, sizeof limit);
  const char *name = verdict_name(judgement.verdict);
  switch (judgement.verdict) {
    case Verdict::kLive:
      if (!judgement.measured)
        std::snprintf(out, size, "%s: no time is known of it, so nothing speaks against it", name);
      else if (*judgement.measured < 0)
        std::snprintf(out, size, "%s: its last sign of life lies %s in the future", name, measured + 1);
      else std::snprintf(out, size, "%s: last sign of life %s ago, limit %s", name, measured, limit);
      break;
    case Verdict::kFenced:
      std::snprintf(out, size, "%s: its worker's fenced transaction has been open for %s", name, measured);
      break;
    case Verdict::kSuspect:
    case Verdict::kServerRestarted:
      std::snprintf(out, size, "%s: no sign of life since the server started %s ago, grace %s", name, measured, limit);
      break;
    case Verdict::kOverdue: std::snprintf(out, size, "%s: started %s ago, limit %s", name, measured, limit); break;
    case Verdict::kSessionGone:
      std::snprintf(out, size, "%s: the session that held its lease has ended, last sign of life %s ago", name,
                    measured);
      break;
    case Verdict::kWorkerRestarted:
      std::snprintf(out, size, "%s: its worker has started anew, last sign of life %s ago", name, measured);
      break;
    case Verdict::kHeartbeatLost:
      std::snprintf(out, size, "%s: no heartbeat for %s, ttl %s", name, measured, limit);
      break;
    case Verdict::kStalled: std::snprintf(out, size, "%s: no progress for %s, limit %s", name, measured, limit); break;
    case Verdict::kSilent:
      std::snprintf(out, size, "%s: no sign of life for %s, limit %s", name, measured, limit);
      break;
    case Verdict::kPassedOver:
      std::snprintf(out, size, "%s: it was dead when another run of its scope started %s ago", name, measured);
      break;
  }
  return out;
}

const char *default_reason(std::optional<std::int64_t> progress) noexcept {
  return progress && *progress == 0 ? "Sync interrupted - no items processed"
                                    : "Sync interrupted by system restart or timeout";
}

}  // namespace esg::core
