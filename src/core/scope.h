// Scopes: which runs belong together, which limits hold for a run, which runs exclude each other.
//
// A scope is the list of a run's values in the table's scope columns, in the order of scope_columns. Values are texts;
// NULL is a value of its own. Views here point into memory of the caller; nothing is copied or allocated.
#pragma once

#include "core/verdict.h"

namespace esg::core {

constexpr int kMaxScopeColumns = 8;

/// A run's value in one scope column; absent: NULL.
using ScopeValue = std::optional<std::string_view>;

struct Scope {
  int count = 0;
  ScopeValue values[kMaxScopeColumns];
};

/// The scopes that have these values; a column it does not name matches everything.
struct ScopePattern {
  bool named[kMaxScopeColumns] = {};
  ScopeValue values[kMaxScopeColumns];
};

/// The pattern that this scope alone fits.
[[nodiscard]] ScopePattern pattern_of(const Scope &scope) noexcept;

/// Whether every scope that fits `narrow` fits `wide`.
[[nodiscard]] bool covers(const ScopePattern &wide, const ScopePattern &narrow) noexcept;

/// How specific a pattern is: first by how many columns it names, then by how early they stand.
[[nodiscard]] unsigned specificity(const ScopePattern &pattern) noexcept;

/// Limits set for the runs of these scopes.
struct ScopeLimit : ScopePattern {
  Limits limits;
};

/// The limits of a run: for each limit, the most specific scope that sets it and matches; of equally specific ones that
/// which names the earlier column of scope_columns; else the table's own.
[[nodiscard]] Limits resolve_limits(const Scope &scope, const Limits &of_table, const ScopeLimit *scope_limits,
                                    std::size_t count) noexcept;

/// One line of scope_overlaps: in this column, `value` stands for each of `atoms`.
struct Overlap {
  int column = 0;
  std::string_view value;
  const std::string_view *atoms = nullptr;
  std::size_t atom_count = 0;
};

/// Whether two values of one scope column overlap: they are equal, or one stands for the other, or both stand for a
/// common one. NULL overlaps NULL alone.
[[nodiscard]] bool overlap(int column, const ScopeValue &a, const ScopeValue &b, const Overlap *overlaps,
                           std::size_t count) noexcept;

/// The atoms of a value: what it stands for, or itself. Writes at most `size` views to `out`, returns how many there
/// are. NULL has no atoms (0): the caller treats it as one of its own.
std::size_t atoms_of(int column, const ScopeValue &value, const Overlap *overlaps, std::size_t count,
                     std::string_view *out, std::size_t size) noexcept;

}  // namespace esg::core
