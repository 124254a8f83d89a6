// The summary columns of a table as JSON, for the status and the views. A jsonb does not hold all that a json holds: not \u0000,
// not half a surrogate pair, not every number. One such value is to hide no run.
#pragma once

#include "pg/boundary.h"
#include "settings.h"

namespace esg {

/// How values that are JSON, or have JSON in them, become part of a jsonb; kAsTextInDoubt: those that it may not hold
/// as a string of their text.
enum class Json { kAsItIs, kAsTextInDoubt };

/// SQL for a column's value as an element of a jsonb, `value` being SQL for the value.
const char *summary_value(const Column &column, const char *value, Json json);

bool has_json_in_summary(const Guarded &g);

/// The fields of JSON objects of which a query reads the values, one column of its result for each.
struct JsonFields {
  List *names = NIL;    ///< const char *
  List *columns = NIL;  ///< char *: SQL of the result's columns
};

/// Appends a column of the table as a field, `value` being SQL for its value.
void add_field(JsonFields *fields, const Column &column, const char *value, Json json);

/// The columns as they stand in a SELECT, each after a comma.
char *columns_of(const JsonFields &fields);

/// The values of row `number` of the result, whose columns from `first` on are those of the fields; in `context`. What they are in
/// a jsonb, as to_jsonb() has it, at a small part of what that costs.
JsonbValue *read_fields(const JsonFields &fields, uint64 number, int first, MemoryContext context);

JsonbValue json_string(const char *text);
JsonbValue json_bool(bool boolean);
JsonbValue json_null();

/// Calls `read(Json)`; once more, with values in doubt as text, where it failed and a value with JSON in it may be why.
template <typename Read>
void read_summaries(const Guarded &g, const Read &read) {
  if (!has_json_in_summary(g)) read(Json::kAsItIs);
  else if (pg::try_in_subtransaction([&read] { read(Json::kAsItIs); }) != nullptr) read(Json::kAsTextInDoubt);
}

}  // namespace esg
