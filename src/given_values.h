// Column values that a worker gives as one jsonb object: {"column": value, ...}.
#pragma once

#include "settings.h"

namespace esg {

struct GivenValues {
  Jsonb *json = nullptr;  ///< null: none were given
  int count = 0;
  Column *columns = nullptr;

  [[nodiscard]] bool has(const Column &column) const;
  /// A column's value; null where it was not given.
  [[nodiscard]] const JsonbValue *value(const Column &column) const;
};

/// Resolves the names against the table, which it locks as a query does. `argument` is what the caller knows the object by.
/// ERROR SY006: no object, a column that the table does not have; 42P01: the table is gone.
GivenValues given_values(const Guarded &g, Jsonb *json, const char *argument);

/// A FROM item with the values under alias r, each in its column's type, made by whoever runs the statement; `json` is an SQL
/// expression of type jsonb. At least one value must be there.
char *given_sql(const GivenValues &given, const char *json);

/// r."column"
char *given_ref(const Column &column);

/// ERROR SY006: a column that cannot be given here; `why` is a sentence.
[[noreturn]] void refuse_given(const Guarded &g, const char *argument, const Column &column, const char *why);

}  // namespace esg
