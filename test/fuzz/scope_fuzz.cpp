// Patterns are ordered as sets are; each limit of a run comes from the most specific scope that sets it; overlapping is
// having a value in common.

#include "core/scope.h"

#include <algorithm>
#include <vector>

#include "input.h"

namespace {

using namespace esg::core;
using esg::fuzz::Input;

constexpr std::string_view kValues[] = {"", "a", "b", "ab", "all", "products", "offers", "A"};

ScopeValue draw_value(Input &input) {
  const int number = input.below(9);
  if (number == 8) return std::nullopt;
  return kValues[number];
}

ScopePattern draw_pattern(Input &input) {
  ScopePattern pattern;
  const std::uint8_t named = input.byte();
  for (int i = 0; i < kMaxScopeColumns; ++i)
    if ((named >> i & 1) != 0) {
      pattern.named[i] = true;
      pattern.values[i] = draw_value(input);
    }
  return pattern;
}

ScopeLimit draw_limit(Input &input) {
  ScopeLimit limit;
  static_cast<ScopePattern &>(limit) = draw_pattern(input);
  limit.limits.max_silence = input.maybe([&] { return input.span(); });
  limit.limits.max_age = input.maybe([&] { return input.span(); });
  limit.limits.max_stall = input.maybe([&] { return input.span(); });
  return limit;
}

void check_order(const ScopePattern &a, const ScopePattern &b, const ScopePattern &c) {
  CHECK(covers(a, a) && covers(ScopePattern{}, a));
  if (covers(a, b)) CHECK(specificity(a) <= specificity(b));
  if (covers(a, b) && covers(b, c)) CHECK(covers(a, c));
  if (covers(a, b) && covers(b, a)) CHECK(specificity(a) == specificity(b));
}

/// What the limits say of one figure: the last of the most specific that set it.
template <typename Pick>
void check_limit(const Scope &scope, const Limits &of_table, const std::vector<ScopeLimit> &limits, Pick pick) {
  std::optional<Micros> expected = pick(of_table);
  unsigned most = 0;
  for (const ScopeLimit &limit : limits) {
    bool fits = true;
    for (int i = 0; i < kMaxScopeColumns; ++i)
      if (limit.named[i] && (i >= scope.count || limit.values[i] != scope.values[i])) fits = false;
    if (!fits || !pick(limit.limits) || specificity(limit) < most) continue;
    most = specificity(limit);
    expected = pick(limit.limits);
  }
  CHECK(pick(resolve_limits(scope, of_table, limits.data(), limits.size())) == expected);
}

void check_limits(Input &input) {
  Scope scope;
  scope.count = input.below(kMaxScopeColumns + 1);
  for (int i = 0; i < scope.count; ++i) scope.values[i] = draw_value(input);
  const Limits of_table = draw_limit(input).limits;
  std::vector<ScopeLimit> limits;
  for (int i = input.below(8); i > 0; --i) limits.push_back(draw_limit(input));
  check_limit(scope, of_table, limits, [](const Limits &l) { return l.max_silence; });
  check_limit(scope, of_table, limits, [](const Limits &l) { return l.max_age; });
  check_limit(scope, of_table, limits, [](const Limits &l) { return l.max_stall; });
}

struct Overlaps {
  std::vector<std::vector<std::string_view>> atoms;
  std::vector<Overlap> lines;
};

/// At most one line for a column and value, as the table has it.
Overlaps draw_overlaps(Input &input) {
  Overlaps overlaps;
  for (int i = 0; i < 3; ++i) {
    overlaps.atoms.emplace_back();
    for (int n = input.below(4); n > 0; --n) overlaps.atoms.back().push_back(kValues[input.below(8)]);
  }
  for (int i = 0; i < 3; ++i)
    overlaps.lines.push_back(
        {i / 2, kValues[(input.below(4) * 2 + i) % 8], overlaps.atoms[i].data(), overlaps.atoms[i].size()});
  return overlaps;
}

void check_overlaps(Input &input) {
  const Overlaps overlaps = draw_overlaps(input);
  const Overlap *lines = overlaps.lines.data();
  const std::size_t count = overlaps.lines.size();
  const int column = input.below(2);
  const ScopeValue a = draw_value(input);
  const ScopeValue b = draw_value(input);
  CHECK(overlap(column, a, a, lines, count));
  CHECK(overlap(column, a, b, lines, count) == overlap(column, b, a, lines, count));
  std::vector<std::string_view> of_a(4, "?");
  std::vector<std::string_view> of_b(4, "?");
  // Room for fewer than there are: the count is told, and no more is written.
  std::vector<std::string_view> few(static_cast<std::size_t>(input.below(4)));
  const std::size_t a_count = atoms_of(column, a, lines, count, of_a.data(), of_a.size());
  CHECK(a_count <= of_a.size());
  CHECK(atoms_of(column, a, lines, count, few.data(), few.size()) == a_count);
  of_a.resize(a_count);
  of_b.resize(atoms_of(column, b, lines, count, of_b.data(), of_b.size()));
  if (!a || !b) {
    CHECK(overlap(column, a, b, lines, count) == (!a && !b));
    return;
  }
  of_a.push_back(*a);
  of_b.push_back(*b);
  const bool common = std::find_first_of(of_a.begin(), of_a.end(), of_b.begin(), of_b.end()) != of_a.end();
  CHECK(overlap(column, a, b, lines, count) == common);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t *data, std::size_t size) {
  Input input(data, size);
  const ScopePattern a = draw_pattern(input);
  const ScopePattern b = draw_pattern(input);
  check_order(a, b, draw_pattern(input));
  check_overlaps(input);
  check_limits(input);
  return 0;
}
