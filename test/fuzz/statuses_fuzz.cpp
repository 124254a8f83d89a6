// What a change of status means, stated once more as what must hold of every change.

#include "core/statuses.h"

#include "input.h"

namespace {

using namespace esg::core;

Change draw_change(esg::fuzz::Input &input) {
  Change change;
  change.from = static_cast<StatusKind>(input.below(4));
  change.to = static_cast<StatusKind>(input.below(4));
  change.same_status = input.flag();
  if (change.same_status) change.to = change.from;
  change.outcome_changed = input.flag();
  change.closed_by_guard = input.flag();
  change.rule = input.maybe([&] { return input.flag(); });
  return change;
}

void check_change(const Change &change) {
  const Meaning meaning = classify(change);
  const bool forbidden = change.rule && !*change.rule;
  CHECK(meaning != Meaning::kStart && meaning != Meaning::kRecord);
  CHECK(meaning != Meaning::kRetry || (change.from == StatusKind::kTerminal && change.to == StatusKind::kLive));
  CHECK(meaning != Meaning::kLateFinish || change.from == StatusKind::kTerminal);
  CHECK(meaning != Meaning::kFinish || (change.from != StatusKind::kTerminal && change.to == StatusKind::kTerminal));
  if (change.same_status) {
    CHECK(meaning == Meaning::kNone ||
          (meaning == Meaning::kLateFinish && change.closed_by_guard && change.outcome_changed));
    return;
  }
  // Nobody revives a run that has ended, and nobody undoes a reaping unseen, but by a rule.
  if (change.to == StatusKind::kUnknown || forbidden) CHECK(meaning == Meaning::kIllegal);
  if (change.from == StatusKind::kTerminal && !change.rule) {
    CHECK(meaning != Meaning::kRetry && meaning != Meaning::kNone);
    if (change.closed_by_guard) CHECK(meaning == Meaning::kLateFinish || meaning == Meaning::kIllegal);
  }
  if (change.to == StatusKind::kTerminal && change.from != StatusKind::kTerminal && !forbidden)
    CHECK(meaning == Meaning::kFinish);
  if (change.rule && *change.rule && change.to != StatusKind::kUnknown) CHECK(meaning != Meaning::kIllegal);
}

void check_words(const std::string &status, const std::string &failed) {
  std::string other = status;
  for (char &c : other)
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) c = static_cast<char>(c ^ 0x20);
  CHECK(tells_end(status) == tells_end(other));
  CHECK(!tells_success(status, status));
  CHECK(tells_success(status, failed) || status == failed || tells_end(status));
  const auto policy = parse_late_finish(status);
  CHECK(policy.has_value() == (status == "keep" || status == "accept" || status == "reject"));
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  esg::fuzz::Input input(data, size);
  check_change(draw_change(input));
  CHECK(classify_insert(StatusKind::kLive) == Meaning::kStart);
  const std::string failed = input.text();
  check_words(std::string(input.rest()), failed);
  return 0;
}
