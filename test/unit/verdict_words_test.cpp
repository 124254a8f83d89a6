// The verdict in words: names, spans and sentences exactly as journal, error column and messages show them, and buffers
// that are too small for them.

#include "core/verdict.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "evidence.h"

namespace esg::core {
namespace {

using namespace test;

std::string span_text(Micros span) {
  char out[64];
  EXPECT_EQ(describe_span(span, out, sizeof out), out);
  return out;
}

std::string text(const Judgement &judgement) {
  char out[256];
  EXPECT_EQ(describe(judgement, out, sizeof out), out);
  return out;
}

TEST(VerdictName, IsWhatTheUserReads) {
  EXPECT_STREQ(verdict_name(Verdict::kLive), "live");
  EXPECT_STREQ(verdict_name(Verdict::kFenced), "fenced");
  EXPECT_STREQ(verdict_name(Verdict::kSuspect), "suspect");
  EXPECT_STREQ(verdict_name(Verdict::kOverdue), "overdue");
  EXPECT_STREQ(verdict_name(Verdict::kSessionGone), "session_gone");
  EXPECT_STREQ(verdict_name(Verdict::kWorkerRestarted), "worker_restarted");
  EXPECT_STREQ(verdict_name(Verdict::kServerRestarted), "server_restarted");
  EXPECT_STREQ(verdict_name(Verdict::kHeartbeatLost), "heartbeat_lost");
  EXPECT_STREQ(verdict_name(Verdict::kStalled), "stalled");
  EXPECT_STREQ(verdict_name(Verdict::kSilent), "silent");
  EXPECT_STREQ(verdict_name(Verdict::kPassedOver), "passed_over");
}

TEST(DefaultReason, IsTheOperatorsOwn) {
  EXPECT_STREQ(default_reason(0), "Sync interrupted - no items processed");
  for (const std::optional<std::int64_t> progress :
       {std::optional<std::int64_t>(), std::optional<std::int64_t>(1), std::optional<std::int64_t>(-1),
        std::optional<std::int64_t>(kLatest)})
    EXPECT_STREQ(default_reason(progress), "Sync interrupted by system restart or timeout");
}

struct SpanText {
  Micros span;
  const char *text;
};

class DescribeSpan : public testing::TestWithParam<SpanText> {};

TEST_P(DescribeSpan, SaysTheTwoLargestUnits) { EXPECT_EQ(span_text(GetParam().span), GetParam().text); }

std::string span_name(const testing::TestParamInfo<SpanText> &one) {
  std::string name = std::to_string(one.param.span);
  if (name[0] == '-') name.replace(0, 1, "minus_");
  return name + "_us";
}

INSTANTIATE_TEST_SUITE_P(
    Spans, DescribeSpan,
    testing::Values(SpanText{0, "0 s"}, SpanText{1, "0.000 s"}, SpanText{999, "0.000 s"}, SpanText{1000, "0.001 s"},
                    SpanText{250'000, "0.250 s"}, SpanText{999'999, "0.999 s"}, SpanText{kSecond, "1 s"},
                    SpanText{kSecond + 1, "1.000 s"}, SpanText{1'050'000, "1.050 s"}, SpanText{9 * kSecond, "9 s"},
                    SpanText{10 * kSecond - 1, "9.999 s"}, SpanText{10 * kSecond, "10 s"},
                    SpanText{10 * kSecond + 1, "10 s"}, SpanText{kMinute - 1, "59 s"}, SpanText{kMinute, "1 min"},
                    SpanText{kMinute + kSecond - 1, "1 min"}, SpanText{kMinute + kSecond, "1 min 1 s"},
                    SpanText{6 * kMinute + 11 * kSecond, "6 min 11 s"}, SpanText{kHour - 1, "59 min 59 s"},
                    SpanText{kHour, "1 h"}, SpanText{kHour + kMinute - 1, "1 h"},
                    SpanText{2 * kHour + 5 * kMinute, "2 h 5 min"}, SpanText{kDay - 1, "23 h 59 min"},
                    SpanText{kDay, "1 d"}, SpanText{kDay + kHour - 1, "1 d"},
                    SpanText{3 * kDay + 4 * kHour + 59 * kMinute, "3 d 4 h"}, SpanText{400 * kDay, "400 d"},
                    SpanText{kLatest, "106751991 d 4 h"}),
    span_name);

INSTANTIATE_TEST_SUITE_P(NegativeSpans, DescribeSpan,
                         testing::Values(SpanText{-1, "-0.000 s"}, SpanText{-kSecond, "-1 s"},
                                         SpanText{-90 * kSecond, "-1 min 30 s"}, SpanText{-kHour, "-1 h"},
                                         SpanText{-kDay - kHour, "-1 d 1 h"},
                                         SpanText{kEarliest + 1, "-106751991 d 4 h"},
                                         SpanText{kEarliest, "-106751991 d 4 h"}),
                         span_name);

TEST(Describe, TellsWhyARunIsLive) {
  EXPECT_EQ(text({Verdict::kLive, 0, 5 * kSecond, kHour}), "live: last sign of life 5 s ago, limit 1 h");
  EXPECT_EQ(text({Verdict::kLive, 0, 0, kMinute}), "live: last sign of life 0 s ago, limit 1 min");
  EXPECT_EQ(text({Verdict::kLive, 0, kDay, std::nullopt}), "live: last sign of life 1 d ago, limit none");
  EXPECT_EQ(text({Verdict::kLive, 0, -3 * kHour, kHour}), "live: its last sign of life lies 3 h in the future");
  EXPECT_EQ(text({Verdict::kLive, 0, kEarliest, kHour}),
            "live: its last sign of life lies 106751991 d 4 h in the future");
  EXPECT_EQ(text({Verdict::kLive, 0, std::nullopt, kHour}),
            "live: no time is known of it, so nothing speaks against it");
}

TEST(Describe, TellsWhatSparesARun) {
  EXPECT_EQ(text({Verdict::kFenced, 1, 3 * kSecond, std::nullopt}),
            "fenced: its worker's fenced transaction has been open for 3 s");
  for (const int rule : {5, 8})
    EXPECT_EQ(text({Verdict::kSuspect, rule, 20 * kSecond, kMinute}),
              "suspect: no sign of life since the server started 20 s ago, grace 1 min");
}

TEST(Describe, TellsWhatARunDiedOf) {
  EXPECT_EQ(text({Verdict::kOverdue, 2, 6 * kHour, 4 * kHour}), "overdue: started 6 h ago, limit 4 h");
  EXPECT_EQ(text({Verdict::kOverdue, 9, 6 * kHour, 4 * kHour}), "overdue: started 6 h ago, limit 4 h");
  EXPECT_EQ(text({Verdict::kSessionGone, 3, 7 * kSecond, std::nullopt}),
            "session_gone: the session that held its lease has ended, last sign of life 7 s ago");
  EXPECT_EQ(text({Verdict::kSessionGone, 3, std::nullopt, std::nullopt}),
            "session_gone: the session that held its lease has ended, last sign of life an unknown time ago");
  EXPECT_EQ(text({Verdict::kWorkerRestarted, 4, 2 * kMinute, std::nullopt}),
            "worker_restarted: its worker has started anew, last sign of life 2 min ago");
  EXPECT_EQ(text({Verdict::kServerRestarted, 5, 2 * kMinute, kMinute}),
            "server_restarted: no sign of life since the server started 2 min ago, grace 1 min");
  EXPECT_EQ(text({Verdict::kHeartbeatLost, 6, 61 * kSecond, kMinute}),
            "heartbeat_lost: no heartbeat for 1 min 1 s, ttl 1 min");
  EXPECT_EQ(text({Verdict::kStalled, 7, kHour, 30 * kMinute}), "stalled: no progress for 1 h, limit 30 min");
  EXPECT_EQ(text({Verdict::kSilent, 8, 2 * kHour + 5 * kMinute, kHour}),
            "silent: no sign of life for 2 h 5 min, limit 1 h");
  EXPECT_EQ(text({Verdict::kPassedOver, 10, 2 * kMinute, std::nullopt}),
            "passed_over: it was dead when another run of its scope started 2 min ago");
}

TEST(Describe, TellsTheStoryOfTheIncident) {
  EXPECT_EQ(text(judge(started_ago(26 * kHour), max_silence(kHour), kAsked)),
            "silent: no sign of life for 1 d 2 h, limit 1 h");
}

/// Writes into every size from 0 to more than enough: what is written is the beginning of the whole, ends in a zero,
/// and no byte behind `size` is touched.
template <typename Write>
void expect_truncation(const std::string &whole, Write write) {
  constexpr char kUntouched = '\x7f';
  for (std::size_t size = 0; size <= whole.size() + 2; ++size) {
    std::string buffer(whole.size() + 8, kUntouched);
    EXPECT_EQ(write(buffer.data(), size), buffer.data());
    const std::size_t written = size == 0 ? 0 : std::min(size, whole.size() + 1);
    if (size > 0) {
      EXPECT_EQ(std::string(buffer.c_str()), whole.substr(0, size - 1)) << "size " << size;
    }
    EXPECT_EQ(buffer.find_first_not_of(kUntouched, written), std::string::npos) << "size " << size;
  }
}

TEST(Truncation, KeepsWithinTheBuffer) {
  for (const Micros span :
       {Micros{0}, Micros{250'000}, 12 * kSecond, 6 * kMinute + 11 * kSecond, kHour, kLatest, kEarliest})
    expect_truncation(span_text(span), [span](char *out, std::size_t size) { return describe_span(span, out, size); });
  for (int verdict = 0; verdict <= static_cast<int>(Verdict::kPassedOver); ++verdict)
    for (const std::optional<Micros> figure :
         {std::optional<Micros>(), std::optional<Micros>(kEarliest), std::optional<Micros>(kLatest)}) {
      const Judgement said{static_cast<Verdict>(verdict), 0, figure, figure};
      expect_truncation(text(said), [&said](char *out, std::size_t size) { return describe(said, out, size); });
    }
}

TEST(Truncation, NeedsNoBufferOfNoSize) {
  EXPECT_EQ(describe_span(kHour, nullptr, 0), nullptr);
  EXPECT_EQ(describe({Verdict::kSilent, 8, kDay, kHour}, nullptr, 0), nullptr);
}

TEST(Truncation, TheLongestSentenceFitsInAHundredAndTwentyEightBytes) {
  for (int verdict = 0; verdict <= static_cast<int>(Verdict::kPassedOver); ++verdict)
    for (const std::optional<Micros> figure : {std::optional<Micros>(), std::optional<Micros>(kEarliest)})
      EXPECT_LT(text({static_cast<Verdict>(verdict), 0, figure, figure}).size(), 128u);
}

}  // namespace
}  // namespace esg::core
