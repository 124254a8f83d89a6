// The transition table in code. Pure; see statuses.h.

#include "core/statuses.h"

namespace esg::core {
namespace {

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    if (lower(a[i]) != lower(b[i])) return false;
  }
  return true;
}

constexpr std::string_view kFailureWords[] = {"failed", "failure",  "fail",    "error",     "errored", "cancelled", "canceled",
                                              "aborted", "abort",   "crashed", "timeout",   "timed_out", "killed",
                                              "terminated", "stopped", "lost", "skipped", "expired", "rejected"};

}  // namespace

Meaning classify_insert(StatusKind to) noexcept {
  switch (to) {
    case StatusKind::kLive: return Meaning::kStart;
    case StatusKind::kTerminal: return Meaning::kRecord;
    case StatusKind::kUnknown: break;
  }
  return Meaning::kIllegal;
}

Meaning classify(const Change &change) noexcept {
  const bool from_terminal = change.from == StatusKind::kTerminal;
  const bool to_live = change.to == StatusKind::kLive;
  if (change.same_status) {
    const bool late = from_terminal && change.closed_by_guard && change.outcome_changed;
    return late && !change.rule.value_or(false) ? Meaning::kLateFinish : Meaning::kNone;
  }
  if (change.to == StatusKind::kUnknown) return Meaning::kIllegal;
  if (change.rule && !*change.rule) return Meaning::kIllegal;
  if (from_terminal && to_live) return change.rule ? Meaning::kRetry : Meaning::kIllegal;
  if (from_terminal) return change.rule ? Meaning::kNone : Meaning::kLateFinish;
  return to_live ? Meaning::kAdvance : Meaning::kFinish;
}

std::optional<LateFinish> parse_late_finish(std::string_view text) noexcept {
  if (text == "keep") return LateFinish::kKeep;
  if (text == "accept") return LateFinish::kAccept;
  if (text == "reject") return LateFinish::kReject;
  return std::nullopt;
}

bool tells_success(std::string_view status, std::string_view failed_status) noexcept {
  if (status == failed_status) return false;
  for (const std::string_view word : kFailureWords)
    if (equal_ignoring_case(status, word)) return false;
  return true;
}

}  // namespace esg::core
