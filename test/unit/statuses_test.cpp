// The transition table, every pair of it, and the words that tell success from failure.

#include "core/statuses.h"

#include "core/habits.h"

#include <gtest/gtest.h>

#include <iterator>
#include <ostream>
#include <string>

namespace esg::core {

std::ostream &operator<<(std::ostream &out, Meaning meaning) {
  constexpr const char *kNames[] = {"none", "start", "record", "advance", "finish", "retry", "late finish", "illegal"};
  return out << kNames[static_cast<int>(meaning)];
}

namespace {

constexpr StatusKind kUnknown = StatusKind::kUnknown;
constexpr StatusKind kLive = StatusKind::kLive;
constexpr StatusKind kTerminal = StatusKind::kTerminal;
constexpr StatusKind kOther = StatusKind::kOther;
constexpr StatusKind kKinds[] = {kUnknown, kLive, kTerminal, kOther};

const std::optional<bool> kNoRule;
const std::optional<bool> kAllowed = true;
const std::optional<bool> kForbidden = false;

Change change(StatusKind from, StatusKind to, std::optional<bool> rule = {}) {
  Change one;
  one.from = from;
  one.to = to;
  one.rule = rule;
  return one;
}

Change same(StatusKind kind, bool closed_by_guard, bool outcome_changed, std::optional<bool> rule = {}) {
  Change one = change(kind, kind, rule);
  one.same_status = true;
  one.closed_by_guard = closed_by_guard;
  one.outcome_changed = outcome_changed;
  return one;
}

TEST(Insert, OfALiveStatusStartsARun) { EXPECT_EQ(classify_insert(kLive), Meaning::kStart); }
TEST(Insert, OfATerminalStatusRecordsOne) { EXPECT_EQ(classify_insert(kTerminal), Meaning::kRecord); }
TEST(Insert, OfAnyOtherStatusRecordsOne) { EXPECT_EQ(classify_insert(kOther), Meaning::kRecord); }
TEST(Insert, OfAnUnknownStatusIsIllegal) { EXPECT_EQ(classify_insert(kUnknown), Meaning::kIllegal); }

struct Transition {
  StatusKind from, to;
  Meaning without_rule, allowed, forbidden;
  const char *name;
  std::optional<Meaning> of_a_reaped_run = {};  // without_rule, where it differs for a run that the guard closed
};

/// Every pair of kinds, for statuses that differ, by what allow_transition says of the pair.
constexpr Transition kTable[] = {
    {kLive, kLive, Meaning::kAdvance, Meaning::kAdvance, Meaning::kIllegal, "live_to_live"},
    {kLive, kTerminal, Meaning::kFinish, Meaning::kFinish, Meaning::kIllegal, "live_to_terminal"},
    {kTerminal, kLive, Meaning::kIllegal, Meaning::kRetry, Meaning::kIllegal, "terminal_to_live"},
    {kTerminal, kTerminal, Meaning::kLateFinish, Meaning::kNone, Meaning::kIllegal, "terminal_to_terminal"},
    {kLive, kOther, Meaning::kAdvance, Meaning::kAdvance, Meaning::kIllegal, "live_to_other"},
    {kOther, kLive, Meaning::kAdvance, Meaning::kAdvance, Meaning::kIllegal, "other_to_live"},
    {kOther, kTerminal, Meaning::kFinish, Meaning::kFinish, Meaning::kIllegal, "other_to_terminal"},
    {kOther, kOther, Meaning::kAdvance, Meaning::kAdvance, Meaning::kIllegal, "other_to_other"},
    {kTerminal, kOther, Meaning::kAdvance, Meaning::kNone, Meaning::kIllegal, "terminal_to_other",
     Meaning::kLateFinish},
    {kOther, kUnknown, Meaning::kIllegal, Meaning::kIllegal, Meaning::kIllegal, "other_to_unknown"},
    {kUnknown, kOther, Meaning::kAdvance, Meaning::kAdvance, Meaning::kIllegal, "unknown_to_other"},
    {kLive, kUnknown, Meaning::kIllegal, Meaning::kIllegal, Meaning::kIllegal, "live_to_unknown"},
    {kTerminal, kUnknown, Meaning::kIllegal, Meaning::kIllegal, Meaning::kIllegal, "terminal_to_unknown"},
    {kUnknown, kUnknown, Meaning::kIllegal, Meaning::kIllegal, Meaning::kIllegal, "unknown_to_unknown"},
    {kUnknown, kLive, Meaning::kAdvance, Meaning::kAdvance, Meaning::kIllegal, "unknown_to_live"},
    {kUnknown, kTerminal, Meaning::kFinish, Meaning::kFinish, Meaning::kIllegal, "unknown_to_terminal"},
};

class TransitionTable : public testing::TestWithParam<Transition> {};

TEST_P(TransitionTable, HoldsWhoeverClosedTheRunAndWhateverElseChanged) {
  const Transition &pair = GetParam();
  for (const bool closed_by_guard : {false, true})
    for (const bool outcome_changed : {false, true}) {
      Change one = change(pair.from, pair.to);
      one.closed_by_guard = closed_by_guard;
      one.outcome_changed = outcome_changed;
      EXPECT_EQ(classify(one), closed_by_guard ? pair.of_a_reaped_run.value_or(pair.without_rule) : pair.without_rule);
      one.rule = true;
      EXPECT_EQ(classify(one), pair.allowed);
      one.rule = false;
      EXPECT_EQ(classify(one), pair.forbidden);
    }
}

INSTANTIATE_TEST_SUITE_P(Pairs, TransitionTable, testing::ValuesIn(kTable),
                         [](const auto &one) { return std::string(one.param.name); });

TEST(TransitionTable, LosesNoPair) {
  EXPECT_EQ(std::size(kTable), std::size(kKinds) * std::size(kKinds));
  for (const StatusKind from : kKinds)
    for (const StatusKind to : kKinds) {
      int rows = 0;
      for (const Transition &pair : kTable) rows += pair.from == from && pair.to == to;
      EXPECT_EQ(rows, 1);
    }
}

TEST(SameStatus, PassesWhateverTheRule) {
  for (const StatusKind kind : kKinds)
    for (const auto &rule : {kNoRule, kAllowed, kForbidden})
      for (const bool outcome_changed : {false, true}) {
        EXPECT_EQ(classify(same(kind, false, outcome_changed, rule)), Meaning::kNone);
        EXPECT_EQ(classify(same(kind, true, false, rule)), Meaning::kNone);
      }
}

TEST(SameStatus, IsALateFinishWhereItChangesTheOutcomeOfARunTheGuardClosed) {
  EXPECT_EQ(classify(same(kTerminal, true, true)), Meaning::kLateFinish);
  EXPECT_EQ(classify(same(kTerminal, true, true, kForbidden)), Meaning::kLateFinish);
  EXPECT_EQ(classify(same(kTerminal, true, false)), Meaning::kNone);
  EXPECT_EQ(classify(same(kTerminal, false, true)), Meaning::kNone);
}

TEST(SameStatus, MayChangeTheOutcomeWhereThePairIsAllowed) {
  EXPECT_EQ(classify(same(kTerminal, true, true, kAllowed)), Meaning::kNone);
}

TEST(SameStatus, OfALiveRunIsNoFinish) {
  EXPECT_EQ(classify(same(kLive, true, true)), Meaning::kNone);
  EXPECT_EQ(classify(same(kUnknown, true, true)), Meaning::kNone);
}

TEST(LateFinishPolicy, IsReadFromItsThreeWords) {
  EXPECT_EQ(parse_late_finish("keep"), LateFinish::kKeep);
  EXPECT_EQ(parse_late_finish("accept"), LateFinish::kAccept);
  EXPECT_EQ(parse_late_finish("reject"), LateFinish::kReject);
  for (const char *other : {"", "Keep", "KEEP", "keep ", " keep", "keeps", "kee", "accepted", "refuse"})
    EXPECT_EQ(parse_late_finish(other), std::nullopt) << other;
}

TEST(TellsSuccess, DeniesTheTablesOwnFailedStatusAsItIsSpelled) {
  EXPECT_FALSE(tells_success("kaput", "kaput"));
  EXPECT_TRUE(tells_success("Kaput", "kaput"));
  EXPECT_TRUE(tells_success("kaput", "failed"));
  EXPECT_FALSE(tells_success("completed", "completed"));
}

TEST(TellsSuccess, DeniesTheUsualWordsForFailureInAnyCase) {
  for (const char *word :
       {"failed", "failure", "fail", "error", "errored", "cancelled", "canceled", "aborted", "abort", "crashed",
        "timeout", "timed_out", "killed", "terminated", "stopped", "lost", "skipped", "expired", "rejected"}) {
    EXPECT_FALSE(tells_success(word, "gone")) << word;
    std::string upper = word;
    for (char &c : upper)
      if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
    EXPECT_FALSE(tells_success(upper, "gone")) << upper;
    upper[0] = word[0];
    EXPECT_FALSE(tells_success(upper, "gone")) << upper;
  }
}

TEST(TellsSuccess, TakesEveryOtherWordForSuccess) {
  for (const char *word :
       {"completed", "complete", "success", "succeeded", "ok", "done", "finished", "partial", "", "failed_over",
        "bailed", "no error", "error ", "fai", "terminate@", "TIMED?OUT", "TIMED OUT"})
    EXPECT_TRUE(tells_success(word, "gone")) << word;
}

TEST(TellsEnd, KnowsTheUsualWordsGoodAndBad) {
  for (const char *word : {"completed", "Success", "DONE", "finished", "ok", "partial", "failed", "ERROR", "cancelled"})
    EXPECT_TRUE(tells_end(word)) << word;
  for (const char *word : {"running", "paused", "archived", "retrying", "queued", "", "completed "})
    EXPECT_FALSE(tells_end(word)) << word;
}

TEST(LooksLikeEnd, KnowsTheWordsHoweverTheyAreWritten) {
  for (const char *word : {"completed", "Success", "DONE", "TimedOut", "TIMED OUT", "completed-with-errors",
                           "PartialSuccess", "cancelled", "interrupted", "FAILURE"})
    EXPECT_TRUE(looks_like_end(word)) << word;
  for (const char *word : {"", "C", "archived", "fertig", "running", "not completed", "errors"})
    EXPECT_FALSE(looks_like_end(word)) << word;
}

TEST(LooksLikeEnd, OfNoWordForARunThatWorksWaitsOrPauses) {
  for (const Words &words : {working_statuses(), waiting_statuses(), resting_statuses()})
    for (const std::string_view word : words) EXPECT_FALSE(looks_like_end(word)) << word;
}

TEST(TellsSuccess, ReadsNoFurtherThanTheWord) {
  constexpr std::string_view kLonger = "errors";
  EXPECT_FALSE(tells_success(kLonger.substr(0, 5), "gone"));
  EXPECT_TRUE(tells_success(kLonger, "gone"));
}

}  // namespace
}  // namespace esg::core
