// What is usual in a sample is one of its spans, is where its rank says, and is never longer than what counts as long.

#include "core/rhythm.h"

#include "spans.h"

namespace {

using namespace esg::core;
using esg::fuzz::Input;
using esg::fuzz::is_one_of;

void check_shares(const std::vector<Micros> &sorted, Input &input) {
  const double share = input.below(201) / 200.0;
  const auto value = value_at_share(sorted.data(), sorted.size(), share);
  CHECK(value.has_value() == !sorted.empty());
  if (!value) return;
  CHECK(is_one_of(sorted, *value));
  const double n = static_cast<double>(sorted.size());
  CHECK(static_cast<double>(esg::fuzz::count_up_to(sorted, *value)) >= share * n - 1e-5);
  if (*value > sorted.front()) CHECK(static_cast<double>(esg::fuzz::count_up_to(sorted, *value - 1)) < share * n);
}

void check_usual(const Usual &usual, const std::vector<Micros> &sorted) {
  CHECK(usual.usual.has_value() == !sorted.empty() && usual.long_one.has_value() == !sorted.empty());
  if (sorted.empty()) return;
  CHECK(is_one_of(sorted, *usual.usual) && is_one_of(sorted, *usual.long_one));
  CHECK(*usual.usual <= *usual.long_one);
}

void check_gaps(std::vector<Micros> completions) {
  std::sort(completions.begin(), completions.end());
  std::vector<Micros> gaps;
  for (std::size_t i = 1; i < completions.size(); ++i) {
    Micros gap = 0;
    gaps.push_back(__builtin_sub_overflow(completions[i], completions[i - 1], &gap) ? INT64_MAX : gap);
  }
  std::sort(gaps.begin(), gaps.end());
  const Usual usual = usual_of_gaps(completions.data(), completions.size());
  check_usual(usual, gaps);
  if (gaps.empty()) return;
  const auto longer = gaps.size() - esg::fuzz::count_up_to(gaps, *usual.long_one);
  CHECK(longer <= (gaps.size() >= 50 ? 2u : gaps.size() >= 20 ? 1u : 0u));
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Input input(data, size);
  std::vector<Micros> durations = esg::fuzz::draw_sample(input, 0, INT64_MAX);
  const Usual usual = usual_of_durations(durations.data(), durations.size());
  CHECK(std::is_sorted(durations.begin(), durations.end()));
  check_usual(usual, durations);
  check_shares(durations, input);
  // From the first timestamp there is to a day that the server may see: none is later than now.
  check_gaps(esg::fuzz::draw_sample(input, esg::fuzz::kFirstTimestamp, 366 * 100 * kDay));
  return 0;
}
