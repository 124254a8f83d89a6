// The verdict: is a run that says it is live really alive, and by what rule?
//
// One pure function decides for reader, reaper, starter and alert alike. It gets plain values, reads no clock, takes
// no lock, allocates nothing and throws nothing. The rules stand in one table (verdict.cpp) in the order in which they
// are tried; the first that fits decides. docs/verdicts.md and tests quote that table.
#pragma once

#include "core/wall.h"

namespace esg::core {

/// What the evidence says. Everything but kLive, kFenced and kSuspect means: the run is dead.
enum class Verdict : std::uint8_t {
  kLive,
  kFenced,           ///< rule 1: its worker's fenced transaction is open
  kSuspect,          ///< rule 5: no sign of life since the server's start, still within grace
  kOverdue,          ///< rules 2 and 9: older than allowed, whatever the signs of life
  kSessionGone,      ///< rule 3: the session its lease was bound to has ended
  kWorkerRestarted,  ///< rule 4: its worker has announced itself under another incarnation
  kServerRestarted,  ///< rule 5: no sign of life since the server's start, grace is over
  kHeartbeatLost,    ///< rule 6: no sign of life within the lease's ttl
  kStalled,          ///< rule 7: progress has stood still for too long
  kSilent,           ///< rule 8: no sign of life for longer than max_silence
  kPassedOver,       ///< rule 10: another run has its exclusive scope since it was dead
};

/// Limits of one run, as resolved for its scope. Absent means: off.
struct Limits {
  std::optional<Micros> max_silence;
  std::optional<Micros> max_age;
  std::optional<Micros> max_stall;
};

enum class LeaseKind : std::uint8_t { kNone, kHeartbeat, kSessionBound };

/// A run's promise to give signs of life, as far as it is known now.
struct Lease {
  LeaseKind kind = LeaseKind::kNone;
  std::optional<Micros> ttl;   ///< absent only for a session-bound lease
  bool session_ended = false;  ///< its backend ended by client EOF, FATAL or termination in this life of the server
  bool worker_reannounced = false;  ///< another incarnation of its worker has announced itself since
  bool held_as_mass_death = false;  ///< too many leases fell silent together: heartbeat_lost is held back
};

/// What is known about a run at this instant. Absent values are unknown, and what is unknown never kills.
struct Evidence {
  std::optional<Micros> started;           ///< by the clock as it goes now; absent where NULL or infinite
  std::optional<Micros> last_sign;         ///< newest sign of life other than the start
  std::optional<Micros> progress_changed;  ///< when progress last moved; absent where it never did or is not known
  std::optional<Micros> fenced_since;      ///< present while a transaction that fenced the run is open
  /// When a starter of its exclusive scope took it for dead; present until it has claimed the scope itself. From then on nothing
  /// speaks for it: another run may have its place.
  std::optional<Micros> passed_over;
  std::optional<Micros> server_started;  ///< start (crash restarts too) or promotion of this server
  Micros restart_grace = 0;              ///< how long after server_started a lease may stay silent
  Lease lease;
};

/// What the caller asks for.
struct Question {
  Micros now = 0;                    ///< the server's clock, read once per call
  std::optional<Micros> older_than;  ///< replaces max_silence for this call
  bool even_if_alive = false;        ///< with it older_than counts from the start, signs of life do not help
  std::int64_t monotonic = 0;        ///< the monotonic clock, read with it
};

/// The answer, with the figures that made it.
struct Judgement {
  Verdict verdict = Verdict::kLive;
  int rule = 0;                    ///< number of the rule that decided; 0: none fitted, the run is live
  std::optional<Micros> measured;  ///< the span the rule looked at
  std::optional<Micros> limit;     ///< what it was compared with

  [[nodiscard]] bool dead() const noexcept {
    return verdict != Verdict::kLive && verdict != Verdict::kFenced && verdict != Verdict::kSuspect;
  }
};

/// How one rule sees a run; `explain` lists all of them.
struct RuleView {
  int rule;
  const char *evidence;  ///< what the rule looks at, in words
  Verdict verdict;       ///< what it says where it fits
  bool applies;          ///< its evidence is there and its limit is set
  bool fits;             ///< it applies and says so of this run
  std::optional<Micros> measured;
  std::optional<Micros> limit;
};

constexpr int kRuleCount = 10;

/// Judges one run. First rule that fits decides.
[[nodiscard]] Judgement judge(const Evidence &evidence, const Limits &limits, const Question &question) noexcept;

/// Shows how rule `number` (1 to kRuleCount) sees the run, whether or not an earlier one has decided.
[[nodiscard]] RuleView view_rule(int number, const Evidence &evidence, const Limits &limits,
                                 const Question &question) noexcept;

/// The last sign of life: the newest of the start and every later sign, of a leased run the sign alone where one is known;
/// absent where the run has no time at all.
[[nodiscard]] std::optional<Micros> last_sign_of_life(const Evidence &evidence) noexcept;

/// An instant of the server's clock as that clock tells it after it was set forward. `ahead_then`, `ahead_now`: what it was ahead of
/// the monotonic clock when the instant was told, and is now. As it is where the clock was set back, or by a second at most.
[[nodiscard]] Micros moved_with_clock(Micros instant, Micros ahead_then, Micros ahead_now) noexcept;

/// to - from; absent where it is no span that can be told in microseconds: both may be any time that a row can hold.
[[nodiscard]] std::optional<Micros> time_between(Micros from, Micros to) noexcept;

/// The verdict's name as SQL, journal and messages show it: `live`, `fenced`, `silent`, …
[[nodiscard]] const char *verdict_name(Verdict verdict) noexcept;

/// The verdict in words, with its figures, e.g. "silent: no sign of life for 2 h 5 min, limit 1 h".
/// Writes at most `size` bytes with the final zero; returns `out`.
char *describe(const Judgement &judgement, char *out, std::size_t size) noexcept;

/// A span in words for messages, the two largest units that matter: "3 d 4 h", "6 min 11 s", "0.250 s".
char *describe_span(Micros span, char *out, std::size_t size) noexcept;

/// What the text of a reaped run says first (the words of the operators' own cleanup).
[[nodiscard]] const char *default_reason(std::optional<std::int64_t> progress) noexcept;

}  // namespace esg::core
