// Whatever a run says of its progress: an end that is expected lies ahead, and what is drawn and written fits its room.

#include "core/progress.h"

#include <cmath>

#include "input.h"

namespace {

using namespace esg::core;
using esg::fuzz::Input;
using esg::fuzz::written;

void check_expectation(Input &input) {
  ProgressFacts facts;
  // The server's clock; the run's times are anything.
  facts.now = input.in(0, 100 * 366 * kDay);
  facts.started = input.maybe([&] { return input.instant(); });
  facts.progress_changed = input.maybe([&] { return input.instant(); });
  facts.done = input.maybe([&] { return input.micros(); });
  facts.total = input.maybe([&] { return input.micros(); });
  facts.usual_duration = input.maybe([&] { return input.span(); });
  facts.long_duration = input.maybe([&] { return input.span(); });
  const Expectation expected = expect(facts);
  CHECK(!expected.end || (*expected.end >= facts.now && *expected.end - facts.now <= 3651 * kDay));
  CHECK(!expected.rate || (*expected.rate > 0 && std::isfinite(*expected.rate)));
  CHECK(expected.end.has_value() == (expected.by != ExpectedBy::kNothing));
  CHECK((expected_by_name(expected.by) == nullptr) == (expected.by == ExpectedBy::kNothing));
  if (expected.by == ExpectedBy::kOwnRate) CHECK(expected.rate && *facts.done > 0 && *facts.done < *facts.total);
  if (!facts.started) CHECK(!expected.end && !expected.rate);
  if (expected.rate) CHECK(rate_digits(*expected.rate) >= 0 && rate_digits(*expected.rate) <= 12);
  const auto share = share_done(facts.done, facts.total);
  CHECK(!share || std::isfinite(*share));
}

std::size_t cells_of(const std::string &bar, BarStyle style) {
  if (style == BarStyle::kPlain) return bar.size();
  CHECK(bar.size() % 3 == 0);
  return bar.size() / 3;
}

void check_bar(Input &input) {
  const double share = input.flag() ? input.below(201) / 200.0 : input.number();
  const int cells = input.below(80);
  const auto style = input.flag() ? BarStyle::kBlocks : BarStyle::kPlain;
  const auto size = static_cast<std::size_t>(input.below(256));
  const auto draw = [&](char *out, std::size_t room) { return draw_bar(share, cells, style, out, room); };
  CHECK(cells_of(written(size, draw), style) <= static_cast<std::size_t>(cells));
  const std::string bar = written(3 * 80 + 1, draw);
  CHECK(cells_of(bar, style) == static_cast<std::size_t>(cells));
  if (cells == 0) return;
  const std::string last = bar.substr(bar.size() - (style == BarStyle::kBlocks ? 3 : 1));
  CHECK((last == "█" || last == "#") == (share >= 1));
  const std::string first = bar.substr(0, style == BarStyle::kBlocks ? 3 : 1);
  if (style == BarStyle::kBlocks) CHECK((first == "░") == !(share > 0));
}

void check_words(Input &input) {
  const Micros span = input.micros();
  const int width = 4 + input.below(20);
  const auto zeros = input.flag() ? Zeros::kShow : Zeros::kDrop;
  const auto size = static_cast<std::size_t>(input.below(32));
  const auto short_one = [&](char *out, std::size_t room) { return short_span(span, width, zeros, out, room); };
  written(size, short_one);
  const std::string text = written(64, short_one);
  CHECK(!text.empty() && text.size() <= static_cast<std::size_t>(width));
  const double number = input.number();
  const std::string count = written(64, [&](char *out, std::size_t room) { return short_count(number, out, room); });
  CHECK(!count.empty() && count.size() <= (number < 0 ? 5 : 4));
  if (number > 0 && std::isfinite(number))
    CHECK(written(64, [&](char *out, std::size_t room) { return short_rate(number, out, room); }).size() <= 6);
  const std::string percent =
      written(64, [&](char *out, std::size_t room) { return short_percent(number, out, room); });
  CHECK(percent.size() <= 4 && (percent == "100%") == (number >= 1 - 1e-11));
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Input input(data, size);
  check_expectation(input);
  check_bar(input);
  check_words(input);
  return 0;
}
