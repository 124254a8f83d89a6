// See summary.h.

#include "summary.h"

namespace esg {

const char *summary_value(const Column &column, const char *value, Json json) {
  if (column.type != JSONOID || json == Json::kAsItIs) return value;
  // An escape, an exponent, very many digits.
  return psprintf(
      "CASE WHEN (%s)::pg_catalog.text OPERATOR(pg_catalog.~) E'\\\\\\\\u|[0-9][eE]|[0-9]{200}'"
      " THEN pg_catalog.to_jsonb((%s)::pg_catalog.text) ELSE pg_catalog.to_jsonb(%s) END",
      value, value, value);
}

bool has_json_in_summary(const Guarded &g) {
  for (int i = 0; i < g.summary_count; ++i)
    if (g.summary[i].type == JSONOID) return true;
  return false;
}

}  // namespace esg
