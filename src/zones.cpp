// The zone in which a default of now() writes a time without zone. See zones.h.

#include "zones.h"

namespace esg {
namespace {

/// Whether a default writes the session's local time: a cast of a timestamptz to timestamp, or LOCALTIMESTAMP.
bool is_local_time(const Node *expression) {
  // To a column's precision, as timestamp(3).
  if (IsA(expression, FuncExpr) && reinterpret_cast<const FuncExpr *>(expression)->funcid == F_TIMESTAMP_TIMESTAMP_INT4)
    expression = static_cast<const Node *>(linitial(reinterpret_cast<const FuncExpr *>(expression)->args));
  if (IsA(expression, FuncExpr))
    return reinterpret_cast<const FuncExpr *>(expression)->funcid == F_TIMESTAMP_TIMESTAMPTZ;
  if (!IsA(expression, SQLValueFunction)) return false;
  const SQLValueFunctionOp op = reinterpret_cast<const SQLValueFunction *>(expression)->op;
  return op == SVFOP_LOCALTIMESTAMP || op == SVFOP_LOCALTIMESTAMP_N;
}

bool has_local_default(const Column &column, Relation relation) {
  const TupleConstr *constraints = RelationGetDescr(relation)->constr;
  for (int i = 0; constraints != nullptr && i < constraints->num_defval; ++i)
    if (constraints->defval[i].adnum == column.attno)
      return is_local_time(static_cast<const Node *>(stringToNode(constraints->defval[i].adbin)));
  return false;
}

/// Whether the clocks of two zones always show the same, as far as that can be seen: UTC, Etc/UTC and GMT do.
bool same_clock(pg_tz *one, pg_tz *other) {
  if (strcmp(pg_get_timezone_name(one), pg_get_timezone_name(other)) == 0) return true;
  long int offset;
  long int other_offset;
  return pg_get_timezone_offset(one, &offset) && pg_get_timezone_offset(other, &other_offset) && offset == other_offset;
}

}  // namespace

const char *zone_of_local_default(const Guarded &g, Relation relation) {
  if (g.start.type != TIMESTAMPOID || !has_local_default(g.start, relation)) return nullptr;
  const char *name = GetConfigOptionResetString("TimeZone");
  pg_tz *zone = pg_tzset(name);
  return zone != nullptr && same_clock(zone, g.zone) ? nullptr : name;
}

}  // namespace esg
