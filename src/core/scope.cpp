// Matching of scopes, by value. Pure; see scope.h.

#include "core/scope.h"

#include <algorithm>

namespace esg::core {
namespace {

const Overlap *find(int column, std::string_view value, const Overlap *overlaps, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i)
    if (overlaps[i].column == column && overlaps[i].value == value) return &overlaps[i];
  return nullptr;
}

/// Whether `atom` is among what `value` stands for.
bool stands_for(const Overlap *of, std::string_view value, std::string_view atom) noexcept {
  if (of == nullptr) return value == atom;
  return std::find(of->atoms, of->atoms + of->atom_count, atom) != of->atoms + of->atom_count;
}

}  // namespace

ScopePattern pattern_of(const Scope &scope) noexcept {
  ScopePattern pattern;
  for (int i = 0; i < scope.count; ++i) {
    pattern.named[i] = true;
    pattern.values[i] = scope.values[i];
  }
  return pattern;
}

bool covers(const ScopePattern &wide, const ScopePattern &narrow) noexcept {
  for (int i = 0; i < kMaxScopeColumns; ++i)
    if (wide.named[i] && (!narrow.named[i] || wide.values[i] != narrow.values[i])) return false;
  return true;
}

unsigned specificity(const ScopePattern &pattern) noexcept {
  unsigned columns = 0;
  unsigned order = 0;
  for (int i = 0; i < kMaxScopeColumns; ++i) {
    order <<= 1;
    if (!pattern.named[i]) continue;
    ++columns;
    order |= 1;
  }
  return columns << kMaxScopeColumns | order;
}

Limits resolve_limits(const Scope &scope, const Limits &of_table, const ScopeLimit *scope_limits,
                      std::size_t count) noexcept {
  Limits result = of_table;
  if (count == 0) return result;
  const ScopePattern own = pattern_of(scope);
  unsigned best[3] = {0, 0, 0};
  const auto take = [](unsigned rank, unsigned &so_far, const std::optional<Micros> &value,
                       std::optional<Micros> &target) {
    if (!value || rank < so_far) return;
    so_far = rank;
    target = value;
  };
  for (std::size_t i = 0; i < count; ++i) {
    const ScopeLimit &limit = scope_limits[i];
    if (!covers(limit, own)) continue;
    const unsigned rank = specificity(limit);
    take(rank, best[0], limit.limits.max_silence, result.max_silence);
    take(rank, best[1], limit.limits.max_age, result.max_age);
    take(rank, best[2], limit.limits.max_stall, result.max_stall);
  }
  return result;
}

bool overlap(int column, const ScopeValue &a, const ScopeValue &b, const Overlap *overlaps,
             std::size_t count) noexcept {
  if (!a || !b) return !a && !b;
  if (*a == *b) return true;
  const Overlap *of_a = find(column, *a, overlaps, count);
  const Overlap *of_b = find(column, *b, overlaps, count);
  if (stands_for(of_a, *a, *b) || stands_for(of_b, *b, *a)) return true;
  for (std::size_t i = 0; of_a != nullptr && i < of_a->atom_count; ++i)
    if (stands_for(of_b, *b, of_a->atoms[i])) return true;
  return false;
}

std::size_t atoms_of(int column, const ScopeValue &value, const Overlap *overlaps, std::size_t count,
                     std::string_view *out, std::size_t size) noexcept {
  if (!value) return 0;
  const Overlap *of = find(column, *value, overlaps, count);
  if (of == nullptr) {
    if (size > 0) out[0] = *value;
    return 1;
  }
  for (std::size_t i = 0; i < of->atom_count && i < size; ++i) out[i] = of->atoms[i];
  return of->atom_count;
}

}  // namespace esg::core
