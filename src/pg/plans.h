// Plans that a session keeps of the statements it runs again and again: to parse and plan one costs more than most of them do.
// The server itself makes a kept plan anew where a table, a type, the search path or row security has changed under it.
#pragma once

#include "pg/spi.h"

namespace esg::pg {

/// A plan that is kept. Not given back while it is `running`.
struct KeptPlan {
  uint64 hash;
  char *sql;
  Oid *types;
  int count;
  SPIPlanPtr plan;
  uint64 used;  ///< the later, the higher
  int running;  ///< executions under way
  bool is_new;  ///< it is not planned yet
};

/// The kept plan of a statement, between spi_begin and spi_end. Null where it is not kept: it has not been run just before, or all
/// that are kept are being executed. The caller counts himself as `running` before he does anything else.
KeptPlan *find_or_keep_plan(const Statement &statement);

/// Plans it where it is to be planned in a way of its own (Statement::fetches). While it is `running`: planning may run functions of a
/// table's owner, and they may call the guard, which keeps other plans meanwhile.
void prepare_kept(KeptPlan *plan, const Statement &statement);

/// A plan for this execution; ends with spi_end.
SPIPlanPtr prepare_plan(const Statement &statement);

}  // namespace esg::pg
