// Statuses and the transitions between them: what a write that changes a run's status means.
//
// The table is here once; triggers, docs/reference.md and tests quote it.
//
//   from        to          meaning          default
//   (none)      live        start            allowed
//   (none)      terminal    record           allowed
//   (any)       unknown     -                illegal (a status that is NULL)
//   same        same        none             allowed; on a run the guard closed, a changed outcome is a late finish
//   live        live        advance          allowed
//   live        terminal    finish           allowed
//   terminal    live        retry            illegal
//   terminal    terminal    late finish      the late_finish policy decides
//   any         other       advance          allowed; out of a run that the guard closed: late finish
//   other       terminal    finish           allowed
//
// "Other" is a status of which the guard does not know that it is an end (`paused`, or one that the application learnt
// after the table was adopted): nothing is filled or kept on its account.
//
// A rule set by allow_transition comes before the default.
#pragma once

#include "core/wall.h"

namespace esg::core {

enum class StatusKind : std::uint8_t { kUnknown, kLive, kTerminal, kOther };

enum class Meaning : std::uint8_t { kNone, kStart, kRecord, kAdvance, kFinish, kRetry, kLateFinish, kIllegal };

enum class LateFinish : std::uint8_t { kKeep, kAccept, kReject };

/// One change of status.
struct Change {
  StatusKind from = StatusKind::kUnknown;
  StatusKind to = StatusKind::kUnknown;
  bool same_status = false;
  bool outcome_changed = false;  ///< end, duration or errors differ (looked at only where same_status)
  bool closed_by_guard = false;  ///< the guard reaped the run and nothing has undone that since
  std::optional<bool> rule;      ///< what allow_transition says of exactly this pair
};

/// What a change of status means, by the table above. kIllegal stands for a retry that is not allowed, for a pair that
/// allow_transition forbids and for an unknown status.
[[nodiscard]] Meaning classify(const Change &change) noexcept;

/// What an INSERT with this status means.
[[nodiscard]] Meaning classify_insert(StatusKind to) noexcept;

/// Parses `keep`, `accept`, `reject`; absent for anything else.
[[nodiscard]] std::optional<LateFinish> parse_late_finish(std::string_view text) noexcept;

/// True where a status is one of the usual words for the end of a run, good or bad (case is ignored).
[[nodiscard]] bool tells_end(std::string_view status) noexcept;

/// The same of a status that someone looks at before a table is guarded: separators are ignored too, and the words by
/// which adoption finds the failed status count.
[[nodiscard]] bool looks_like_end(std::string_view status) noexcept;

/// True where a terminal status tells of success, so that it speaks against a reaping: it is neither the table's
/// failed status nor one of the usual words for failure (error, cancelled, aborted, …; case is ignored).
[[nodiscard]] bool tells_success(std::string_view status, std::string_view failed_status) noexcept;

}  // namespace esg::core
