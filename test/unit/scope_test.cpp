// Scopes: which limits hold for a run, and which values of a scope column exclude each other.

#include "core/scope.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <random>
#include <vector>

namespace esg::core {
namespace {

constexpr ScopeValue kNull = std::nullopt;

Scope scope(std::initializer_list<ScopeValue> values) {
  Scope one;
  for (const ScopeValue &value : values) one.values[one.count++] = value;
  return one;
}

struct Named {
  int column;
  ScopeValue value;
};

ScopeLimit limit_for(std::initializer_list<Named> columns, const Limits &limits) {
  ScopeLimit one;
  for (const Named &column : columns) {
    one.named[column.column] = true;
    one.values[column.column] = column.value;
  }
  one.limits = limits;
  return one;
}

Limits silence(Micros span) { return {span, std::nullopt, std::nullopt}; }

/// max_silence of a run in `one` under `limits`; the table's own is an hour.
std::optional<Micros> silence_of(const Scope &one, const std::vector<ScopeLimit> &limits) {
  return resolve_limits(one, silence(kHour), limits.data(), limits.size()).max_silence;
}

// ---- limits ----------------------------------------------------------------------

TEST(ResolveLimits, AreTheTablesOwnWhereNoScopeSetsAny) {
  const Limits own{kHour, kDay, std::nullopt};
  const Limits resolved = resolve_limits(scope({"products", "main"}), own, nullptr, 0);
  EXPECT_EQ(resolved.max_silence, kHour);
  EXPECT_EQ(resolved.max_age, kDay);
  EXPECT_EQ(resolved.max_stall, std::nullopt);
}

TEST(ResolveLimits, HoldForTheNamedValuesOnly) {
  const std::vector<ScopeLimit> limits{limit_for({{0, "products"}}, silence(kMinute))};
  EXPECT_EQ(silence_of(scope({"products", "main"}), limits), kMinute);
  EXPECT_EQ(silence_of(scope({"products", kNull}), limits), kMinute);
  EXPECT_EQ(silence_of(scope({"orders", "main"}), limits), kHour);
  EXPECT_EQ(silence_of(scope({"Products", "main"}), limits), kHour);
  EXPECT_EQ(silence_of(scope({"product", "main"}), limits), kHour);
  EXPECT_EQ(silence_of(scope({kNull, "main"}), limits), kHour);
}

TEST(ResolveLimits, NeedEveryNamedValueToMatch) {
  const std::vector<ScopeLimit> limits{limit_for({{0, "products"}, {1, "main"}}, silence(kMinute))};
  EXPECT_EQ(silence_of(scope({"products", "main"}), limits), kMinute);
  EXPECT_EQ(silence_of(scope({"products", "fbe"}), limits), kHour);
  EXPECT_EQ(silence_of(scope({"orders", "main"}), limits), kHour);
}

TEST(ResolveLimits, OfNullHoldForNullAlone) {
  const std::vector<ScopeLimit> limits{limit_for({{1, kNull}}, silence(kMinute))};
  EXPECT_EQ(silence_of(scope({"products", kNull}), limits), kMinute);
  EXPECT_EQ(silence_of(scope({"products", "main"}), limits), kHour);
  EXPECT_EQ(silence_of(scope({"products", ""}), limits), kHour);
}

TEST(ResolveLimits, OfTheEmptyScopeAreTheTablesOwn) {
  const std::vector<ScopeLimit> limits{limit_for({}, silence(2 * kHour))};
  EXPECT_EQ(silence_of(scope({"products", "main"}), limits), 2 * kHour);
  EXPECT_EQ(silence_of(scope({}), limits), 2 * kHour);
}

TEST(ResolveLimits, ComeFromTheScopeThatNamesMostColumns) {
  std::vector<ScopeLimit> limits{limit_for({}, silence(1)), limit_for({{0, "a"}}, silence(2)),
                                 limit_for({{1, "b"}, {2, "c"}}, silence(3)),
                                 limit_for({{0, "a"}, {1, "b"}, {2, "c"}}, silence(4))};
  do {
    EXPECT_EQ(silence_of(scope({"a", "b", "c"}), limits), 4);
    EXPECT_EQ(silence_of(scope({"x", "b", "c"}), limits), 3);
    EXPECT_EQ(silence_of(scope({"a", "b", "x"}), limits), 2);
    EXPECT_EQ(silence_of(scope({"x", "x", "x"}), limits), 1);
  } while (std::next_permutation(limits.begin(), limits.end(), [](const ScopeLimit &a, const ScopeLimit &b) {
    return *a.limits.max_silence < *b.limits.max_silence;
  }));
}

TEST(ResolveLimits, OfEqualScopesComeFromTheOneThatNamesTheEarlierColumn) {
  const auto expect = [](std::initializer_list<Named> first, std::initializer_list<Named> second) {
    std::vector<ScopeLimit> limits{limit_for(first, silence(1)), limit_for(second, silence(2))};
    const Scope all = scope({"v", "v", "v", "v", "v", "v", "v", "v"});
    EXPECT_EQ(silence_of(all, limits), 1);
    std::swap(limits[0], limits[1]);
    EXPECT_EQ(silence_of(all, limits), 1);
  };
  expect({{0, "v"}}, {{1, "v"}});
  expect({{0, "v"}}, {{7, "v"}});
  expect({{6, "v"}}, {{7, "v"}});
  expect({{0, "v"}, {7, "v"}}, {{1, "v"}, {2, "v"}});
  expect({{0, "v"}, {1, "v"}}, {{0, "v"}, {2, "v"}});
  expect({{1, "v"}, {4, "v"}, {5, "v"}}, {{2, "v"}, {3, "v"}, {4, "v"}});
}

TEST(ResolveLimits, RankTheNumberOfColumnsBeforeTheirPlace) {
  // The last columns of all against the first ones, of which there is one less.
  for (int more = 1; more <= kMaxScopeColumns; ++more) {
    ScopeLimit last = limit_for({}, silence(1));
    ScopeLimit first = limit_for({}, silence(2));
    for (int i = kMaxScopeColumns - more; i < kMaxScopeColumns; ++i) last.named[i] = true;
    for (int i = 0; i < more - 1; ++i) first.named[i] = true;
    Scope nulls;
    nulls.count = kMaxScopeColumns;
    EXPECT_EQ(silence_of(nulls, {last, first}), 1) << more;
    EXPECT_EQ(silence_of(nulls, {first, last}), 1) << more;
  }
}

TEST(ResolveLimits, AreResolvedEachByItself) {
  const Limits own{kHour, std::nullopt, std::nullopt};
  const ScopeLimit limits[] = {limit_for({}, {std::nullopt, 7 * kDay, 6 * kHour}),
                               limit_for({{0, "products"}}, {10 * kMinute, kDay, std::nullopt}),
                               limit_for({{0, "products"}, {1, "main"}}, {std::nullopt, 2 * kDay, std::nullopt})};
  const Limits main = resolve_limits(scope({"products", "main"}), own, limits, std::size(limits));
  EXPECT_EQ(main.max_silence, 10 * kMinute);
  EXPECT_EQ(main.max_age, 2 * kDay);
  EXPECT_EQ(main.max_stall, 6 * kHour);
  const Limits fbe = resolve_limits(scope({"products", "fbe"}), own, limits, std::size(limits));
  EXPECT_EQ(fbe.max_silence, 10 * kMinute);
  EXPECT_EQ(fbe.max_age, kDay);
  EXPECT_EQ(fbe.max_stall, 6 * kHour);
  const Limits orders = resolve_limits(scope({"orders", "main"}), own, limits, std::size(limits));
  EXPECT_EQ(orders.max_silence, kHour);
  EXPECT_EQ(orders.max_age, 7 * kDay);
  EXPECT_EQ(orders.max_stall, 6 * kHour);
}

TEST(ResolveLimits, OfAColumnThatTheScopeLacksHoldForNobody) {
  for (const ScopeValue &value : {ScopeValue("v"), kNull}) {
    const std::vector<ScopeLimit> limits{limit_for({{2, value}}, silence(kMinute))};
    EXPECT_EQ(silence_of(scope({"v", "v"}), limits), kHour);
    EXPECT_EQ(silence_of(scope({}), limits), kHour);
  }
}

// ---- overlaps --------------------------------------------------------------------

constexpr std::string_view kMainAndFbe[] = {"main", "fbe"};
constexpr std::string_view kFbeAndThird[] = {"fbe", "third"};
constexpr std::string_view kThird[] = {"third"};
constexpr std::string_view kItself[] = {"itself", "other"};

/// Column 1 is account_type; `both` stands for main and fbe there.
constexpr Overlap kAccounts[] = {{1, "both", kMainAndFbe, 2},
                                 {1, "new", kFbeAndThird, 2},
                                 {1, "old", kThird, 1},
                                 {1, "itself", kItself, 2},
                                 {1, "nothing", nullptr, 0}};

bool accounts_overlap(const ScopeValue &a, const ScopeValue &b) {
  const bool forth = overlap(1, a, b, kAccounts, std::size(kAccounts));
  EXPECT_EQ(overlap(1, b, a, kAccounts, std::size(kAccounts)), forth);
  return forth;
}

TEST(Overlaps, OfBothAreMainAndFbe) {
  EXPECT_TRUE(accounts_overlap("both", "main"));
  EXPECT_TRUE(accounts_overlap("both", "fbe"));
  EXPECT_FALSE(accounts_overlap("both", "third"));
  EXPECT_FALSE(accounts_overlap("main", "fbe"));
}

TEST(Overlaps, OfEqualValuesAlwaysAre) {
  for (const char *value : {"main", "both", "unheard of", "", "nothing", "itself"})
    EXPECT_TRUE(accounts_overlap(value, value));
}

TEST(Overlaps, AreThereWhereTwoValuesStandForACommonOne) {
  EXPECT_TRUE(accounts_overlap("both", "new"));
  EXPECT_TRUE(accounts_overlap("new", "old"));
  EXPECT_FALSE(accounts_overlap("both", "old"));
}

TEST(Overlaps, MayNameTheValueItself) {
  EXPECT_TRUE(accounts_overlap("itself", "other"));
  EXPECT_FALSE(accounts_overlap("itself", "main"));
}

TEST(Overlaps, OfAValueThatStandsForNothingAreNone) {
  EXPECT_FALSE(accounts_overlap("nothing", "main"));
  EXPECT_FALSE(accounts_overlap("nothing", "both"));
}

TEST(Overlaps, OfNullAreNullAlone) {
  EXPECT_TRUE(accounts_overlap(kNull, kNull));
  for (const char *value : {"", "main", "both", "nothing"}) EXPECT_FALSE(accounts_overlap(kNull, value));
}

TEST(Overlaps, HoldInTheirColumnOnly) {
  EXPECT_FALSE(overlap(0, "both", "main", kAccounts, std::size(kAccounts)));
  EXPECT_FALSE(overlap(2, "main", "both", kAccounts, std::size(kAccounts)));
  EXPECT_TRUE(overlap(0, "both", "both", kAccounts, std::size(kAccounts)));
}

TEST(Overlaps, WithoutAnyAreEquality) {
  EXPECT_TRUE(overlap(0, "main", "main", nullptr, 0));
  EXPECT_FALSE(overlap(0, "both", "main", nullptr, 0));
}

TEST(Overlaps, AreSymmetricWhereOneStandsForAnotherThatStandsForMore) {
  static constexpr std::string_view all[] = {"both"};
  static constexpr Overlap nested[] = {{0, "both", kMainAndFbe, 2}, {0, "all", all, 1}, {0, "main", kThird, 1}};
  for (const auto &[a, b] : {std::pair("all", "both"), std::pair("both", "main")}) {
    EXPECT_TRUE(overlap(0, a, b, nested, std::size(nested))) << a << ' ' << b;
    EXPECT_TRUE(overlap(0, b, a, nested, std::size(nested))) << b << ' ' << a;
  }
}

std::vector<std::string_view> atoms(int column, const ScopeValue &value) {
  std::array<std::string_view, 8> out;
  const std::size_t count = atoms_of(column, value, kAccounts, std::size(kAccounts), out.data(), out.size());
  return {out.begin(), out.begin() + static_cast<std::ptrdiff_t>(count)};
}

TEST(Atoms, AreWhatAValueStandsForOrItself) {
  EXPECT_EQ(atoms(1, "both"), (std::vector<std::string_view>{"main", "fbe"}));
  EXPECT_EQ(atoms(1, "main"), std::vector<std::string_view>{"main"});
  EXPECT_EQ(atoms(1, ""), std::vector<std::string_view>{""});
  EXPECT_EQ(atoms(1, "nothing"), std::vector<std::string_view>{});
  EXPECT_EQ(atoms(0, "both"), std::vector<std::string_view>{"both"});
}

TEST(Atoms, OfNullAreNone) { EXPECT_EQ(atoms(1, kNull), std::vector<std::string_view>{}); }

TEST(Atoms, ThatDoNotFitAreCountedButNotWritten) {
  std::string_view out[2] = {"untouched", "untouched"};
  EXPECT_EQ(atoms_of(1, "both", kAccounts, std::size(kAccounts), out, 1), 2u);
  EXPECT_EQ(out[0], "main");
  EXPECT_EQ(out[1], "untouched");
  EXPECT_EQ(atoms_of(1, "plain", kAccounts, std::size(kAccounts), out, 1), 1u);
  EXPECT_EQ(out[0], "plain");
  EXPECT_EQ(out[1], "untouched");
  EXPECT_EQ(atoms_of(1, "both", kAccounts, std::size(kAccounts), nullptr, 0), 2u);
  EXPECT_EQ(atoms_of(1, "main", kAccounts, std::size(kAccounts), nullptr, 0), 1u);
}

// ---- properties ------------------------------------------------------------------

constexpr std::string_view kWords[] = {"a", "b", "c", "d", "e", "f"};

/// Random overlaps of one column; nested ones (a value that stands for one which stands for others) where allowed.
class RandomOverlaps {
 public:
  RandomOverlaps(std::mt19937_64 &engine, bool nested) {
    // Without nesting the first three words stand for some of the last three.
    for (std::size_t word = 0; word < (nested ? std::size(kWords) : 3); ++word) {
      if (engine() % 3 == 0) continue;
      std::vector<std::string_view> &of = atoms_[word];
      for (std::size_t atom = nested ? 0 : 3; atom < std::size(kWords); ++atom)
        if (engine() % 2 == 0) of.push_back(kWords[atom]);
      overlaps_.push_back({0, kWords[word], of.data(), of.size()});
    }
  }

  [[nodiscard]] bool overlap_of(std::string_view a, std::string_view b) const {
    return overlap(0, a, b, overlaps_.data(), overlaps_.size());
  }
  [[nodiscard]] std::vector<std::string_view> atoms_of_word(std::string_view word) const {
    std::array<std::string_view, std::size(kWords)> out;
    const std::size_t count = atoms_of(0, word, overlaps_.data(), overlaps_.size(), out.data(), out.size());
    return {out.begin(), out.begin() + static_cast<std::ptrdiff_t>(count)};
  }

 private:
  std::array<std::vector<std::string_view>, std::size(kWords)> atoms_;
  std::vector<Overlap> overlaps_;
};

TEST(Overlaps, AreSymmetricAndReflexiveWhateverIsConfigured) {
  std::mt19937_64 engine(1);
  for (int turn = 0; turn < 20'000 && !HasFailure(); ++turn) {
    const RandomOverlaps random(engine, turn % 2 == 0);
    for (const std::string_view a : kWords) {
      EXPECT_TRUE(random.overlap_of(a, a)) << a;
      for (const std::string_view b : kWords)
        EXPECT_EQ(random.overlap_of(a, b), random.overlap_of(b, a)) << a << ' ' << b;
    }
  }
}

TEST(Overlaps, AreSharedAtomsWhereNoneIsNested) {
  std::mt19937_64 engine(2);
  for (int turn = 0; turn < 20'000 && !HasFailure(); ++turn) {
    const RandomOverlaps random(engine, false);
    for (const std::string_view a : kWords)
      for (const std::string_view b : kWords) {
        const std::vector<std::string_view> of_a = random.atoms_of_word(a);
        const std::vector<std::string_view> of_b = random.atoms_of_word(b);
        const bool shared = std::find_first_of(of_a.begin(), of_a.end(), of_b.begin(), of_b.end()) != of_a.end();
        EXPECT_EQ(random.overlap_of(a, b), shared || a == b) << a << ' ' << b;
      }
  }
}

TEST(ResolveLimits, AreThoseOfTheBestMatchWhateverIsConfigured) {
  std::mt19937_64 engine(3);
  const auto value = [&engine]() -> ScopeValue {
    const std::size_t pick = engine() % 3;
    if (pick == 2) return std::nullopt;
    return kWords[pick];
  };
  for (int turn = 0; turn < 20'000 && !HasFailure(); ++turn) {
    Scope one;
    one.count = 3;
    for (int i = 0; i < one.count; ++i) one.values[i] = value();
    // Distinct scopes, as the settings hold them: one line for each set of named columns and their values.
    std::vector<ScopeLimit> limits;
    for (unsigned columns = 0; columns < 8; ++columns) {
      if (engine() % 2 == 0) continue;
      ScopeLimit limit;
      for (int i = 0; i < 3; ++i) {
        limit.named[i] = (columns >> (2 - i) & 1) != 0;
        if (limit.named[i]) limit.values[i] = engine() % 4 == 0 ? value() : one.values[i];
      }
      for (std::optional<Micros> *span : {&limit.limits.max_silence, &limit.limits.max_age, &limit.limits.max_stall})
        if (engine() % 3 != 0) *span = static_cast<Micros>(engine() % 1000);
      limits.push_back(limit);
    }
    // The sets of columns from the most specific to the least, by hand.
    constexpr unsigned kBestFirst[] = {0b111, 0b110, 0b101, 0b011, 0b100, 0b010, 0b001, 0b000};
    const auto expected = [&](std::optional<Micros> Limits::*member, Micros own) -> std::optional<Micros> {
      for (const unsigned columns : kBestFirst)
        for (const ScopeLimit &limit : limits) {
          bool fits = (limit.limits.*member).has_value();
          for (int i = 0; i < 3; ++i) {
            fits = fits && limit.named[i] == ((columns >> (2 - i) & 1) != 0);
            fits = fits && (!limit.named[i] || limit.values[i] == one.values[i]);
          }
          if (fits) return limit.limits.*member;
        }
      return own;
    };
    std::shuffle(limits.begin(), limits.end(), engine);
    const Limits resolved = resolve_limits(one, {5000, 6000, 7000}, limits.data(), limits.size());
    EXPECT_EQ(resolved.max_silence, expected(&Limits::max_silence, 5000));
    EXPECT_EQ(resolved.max_age, expected(&Limits::max_age, 6000));
    EXPECT_EQ(resolved.max_stall, expected(&Limits::max_stall, 7000));
  }
}

}  // namespace
}  // namespace esg::core
