// Habits: which names are the same word, and that the lists say what the documentation says.

#include "core/habits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

namespace esg::core {
namespace {

TEST(Habits, CaseAndSeparatorsDoNotMatter) {
  for (const char *name :
       {"started_at", "startedAt", "StartedAt", "STARTED_AT", "started-at", "Started At", "startedat", "_started_at_"})
    EXPECT_TRUE(same_word(name, "started_at")) << name;
  for (const char *name : {"", "_", "started", "started_at2", "restarted_at", "started_a", "at_started", "startéd_at"})
    EXPECT_FALSE(same_word(name, "started_at")) << name;
}

TEST(Habits, AnEmptyNameIsNoWord) {
  EXPECT_FALSE(same_word("", "status"));
  EXPECT_FALSE(ends_in_word("", "status"));
  EXPECT_FALSE(begins_with_word("", "status"));
}

TEST(Habits, EndsInAWordOnlyWhereOneBegins) {
  for (const char *name :
       {"sync_started_at", "syncStartedAt", "SYNC_STARTED_AT", "sync-started-at", "a_b_started_at", "__started_at"})
    EXPECT_TRUE(ends_in_word(name, "started_at")) << name;
  for (const char *name : {"restarted_at", "restartedAt", "started_at", "started_at_all", "SYNCSTARTED_AT"})
    EXPECT_FALSE(ends_in_word(name, "started_at")) << name;
  EXPECT_TRUE(ends_in_word("durationMs", "ms"));
  EXPECT_TRUE(ends_in_word("duration_ms", "ms"));
  EXPECT_FALSE(ends_in_word("items", "ms"));
  EXPECT_TRUE(ends_in_word("duration_s", "s"));
  EXPECT_FALSE(ends_in_word("hours", "s"));
}

TEST(Habits, BeginsWithAWordAndGoesOn) {
  for (const char *name : {"created_items", "createdItems", "CREATED_ITEMS", "created-items"})
    EXPECT_TRUE(begins_with_word(name, "created")) << name;
  for (const char *name : {"created", "createditems", "recreated_items", "creates"})
    EXPECT_FALSE(begins_with_word(name, "created")) << name;
}

TEST(Habits, AWordIsWrittenLikeItsNeighbour) {
  char out[16];
  EXPECT_STREQ(in_style_of("PENDING", "running", out, sizeof out), "RUNNING");
  EXPECT_STREQ(in_style_of("Pending", "running", out, sizeof out), "Running");
  EXPECT_STREQ(in_style_of("pending", "running", out, sizeof out), "running");
  EXPECT_STREQ(in_style_of("In Progress", "failed", out, sizeof out), "Failed");
  EXPECT_STREQ(in_style_of("", "failed", out, sizeof out), "failed");
  EXPECT_STREQ(in_style_of("P", "failed", out, sizeof out), "FAILED");
  EXPECT_STREQ(in_style_of("p", "a_status_too_long_for_it", out, sizeof out), "a_status_too_lo");
}

TEST(Habits, EachWordStandsOnceInItsList) {
  for (const Words &words :
       {key_names(), status_names(), start_names(), end_names(), duration_names(), error_names(), activity_names(),
        updated_names(), done_names(), total_names(), scope_kind_names(), scope_party_names(), operation_names(),
        done_verbs(), working_statuses(), waiting_statuses(), resting_statuses(), failed_statuses()}) {
    EXPECT_GT(words.count, 0U);
    std::set<std::string> seen;
    for (const std::string_view word : words) EXPECT_TRUE(seen.insert(std::string(word)).second) << word;
  }
}

TEST(Habits, NoStatusIsLiveAndFailed) {
  for (const std::string_view failed : failed_statuses())
    for (const Words &live : {working_statuses(), waiting_statuses()})
      for (const std::string_view word : live) EXPECT_FALSE(same_word(word, failed)) << word;
}

TEST(Habits, OfTheLiveStatusesThreeMayBeThoseOfJobsThatWait) {
  std::set<std::string> both;
  for (const std::string_view word : resting_statuses())
    for (const Words &live : {working_statuses(), waiting_statuses()})
      for (const std::string_view other : live)
        if (same_word(word, other)) both.insert(std::string(word));
  EXPECT_EQ(both, (std::set<std::string>{"pending", "queued", "waiting"}));
}

TEST(Habits, AColumnThatMerelyChangesIsNoSignOfLife) {
  for (const std::string_view word : activity_names())
    for (const std::string_view other : updated_names()) EXPECT_FALSE(same_word(word, other)) << word;
}

TEST(Habits, TheApplicationsOwnNamesComeFirst) {
  EXPECT_EQ(*start_names().begin(), "started_at");
  EXPECT_EQ(*end_names().begin(), "completed_at");
  EXPECT_EQ(*duration_names().begin(), "duration_seconds");
  EXPECT_EQ(*error_names().begin(), "errors");
  EXPECT_EQ(*done_names().begin(), "processed_items");
  EXPECT_EQ(*total_names().begin(), "total_items");
  EXPECT_EQ(*scope_kind_names().begin(), "sync_type");
  EXPECT_EQ(*scope_party_names().begin(), "account_type");
  EXPECT_EQ(*operation_names().begin(), "operation");
  EXPECT_EQ(*working_statuses().begin(), "running");
  EXPECT_EQ(*failed_statuses().begin(), "failed");
}

}  // namespace
}  // namespace esg::core
