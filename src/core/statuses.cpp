// The transition table in code. Pure; see statuses.h.

#include "core/statuses.h"

#include <iterator>

#include "core/habits.h"

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

constexpr std::string_view kFailureWords[] = {
    "failed",  "failure",   "fail",   "error",      "errored", "cancelled", "canceled", "aborted", "abort",   "crashed",
    "timeout", "timed_out", "killed", "terminated", "stopped", "lost",      "skipped",  "expired", "rejected"};

constexpr std::string_view kSuccessWords[] = {"completed",
                                              "complete",
                                              "success",
                                              "succeeded",
                                              "successful",
                                              "done",
                                              "finished",
                                              "finish",
                                              "ended",
                                              "ok",
                                              "partial",
                                              "passed",
                                              "completed_with_errors",
                                              "partially_completed",
                                              "partial_success"};

template <std::size_t N>
bool is_among(const std::string_view (&words)[N], std::string_view status) noexcept {
  for (const std::string_view word : words)
    if (equal_ignoring_case(status, word)) return true;
  return false;
}

}  // namespace

Meaning classify_insert(StatusKind to) noexcept {
  switch (to) {
    case StatusKind::kLive: return Meaning::kStart;
    case StatusKind::kTerminal:
    case StatusKind::kOther: return Meaning::kRecord;
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
  if (from_terminal && change.rule) return Meaning::kNone;
  if (from_terminal && (change.to == StatusKind::kTerminal || change.closed_by_guard)) return Meaning::kLateFinish;
  return change.to == StatusKind::kTerminal ? Meaning::kFinish : Meaning::kAdvance;
}

std::optional<LateFinish> parse_late_finish(std::string_view text) noexcept {
  if (text == "keep") return LateFinish::kKeep;
  if (text == "accept") return LateFinish::kAccept;
  if (text == "reject") return LateFinish::kReject;
  return std::nullopt;
}

bool tells_end(std::string_view status) noexcept {
  return is_among(kSuccessWords, status) || is_among(kFailureWords, status);
}

bool looks_like_end(std::string_view status) noexcept {
  return is_word_of(status, {kSuccessWords, std::size(kSuccessWords)}) ||
         is_word_of(status, {kFailureWords, std::size(kFailureWords)}) || is_word_of(status, failed_statuses());
}

bool tells_success(std::string_view status, std::string_view failed_status) noexcept {
  return status != failed_status && !is_among(kFailureWords, status);
}

}  // namespace esg::core
