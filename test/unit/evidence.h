// What the verdict's tests share: a fixed now, runs to start from, and how a judgement is compared and printed.
#pragma once

#include "core/verdict.h"

#include <limits>
#include <ostream>

namespace esg::core {

inline bool operator==(const Judgement &a, const Judgement &b) {
  return a.verdict == b.verdict && a.rule == b.rule && a.measured == b.measured && a.limit == b.limit;
}

inline std::ostream &operator<<(std::ostream &out, Verdict verdict) { return out << verdict_name(verdict); }

inline std::ostream &operator<<(std::ostream &out, const Judgement &judgement) {
  const auto figure = [&out](const char *name, const std::optional<Micros> &value) {
    out << ", " << name << ' ';
    if (value) out << *value;
    else out << "absent";
  };
  out << judgement.verdict << " by rule " << judgement.rule;
  figure("measured", judgement.measured);
  figure("limit", judgement.limit);
  return out;
}

}  // namespace esg::core

namespace esg::core::test {

constexpr Micros kEarliest = std::numeric_limits<Micros>::min();
constexpr Micros kLatest = std::numeric_limits<Micros>::max();

/// The instant of every question that does not say otherwise.
constexpr Micros kNow = 812'345'678'901'234;

constexpr Question kAsked{kNow, std::nullopt, false};

/// A run without lease, of which only the start is known.
inline Evidence started_ago(Micros age) {
  Evidence evidence;
  evidence.started = kNow - age;
  return evidence;
}

/// A run with a heartbeat lease that started a day ago.
inline Evidence leased(Micros ttl, Micros silence) {
  Evidence evidence = started_ago(kDay);
  evidence.last_sign = kNow - silence;
  evidence.lease.kind = LeaseKind::kHeartbeat;
  evidence.lease.ttl = ttl;
  return evidence;
}

/// A run with a session-bound lease without ttl that started a day ago.
inline Evidence bound(Micros silence) {
  Evidence evidence = started_ago(kDay);
  evidence.last_sign = kNow - silence;
  evidence.lease.kind = LeaseKind::kSessionBound;
  return evidence;
}

inline Limits max_silence(Micros limit) { return {limit, std::nullopt, std::nullopt}; }
inline Limits max_age(Micros limit) { return {std::nullopt, limit, std::nullopt}; }
inline Limits max_stall(Micros limit) { return {std::nullopt, std::nullopt, limit}; }

}  // namespace esg::core::test
