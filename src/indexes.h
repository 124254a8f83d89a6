// Whether the guard can find live runs, and the newest runs, by an index. Reads the catalogs alone.
#pragma once

#include "settings.h"

namespace esg {

/// What lacks an index: the table itself, or its partitions that do.
struct Lacking {
  List *names = NIL;       ///< C strings, qualified
  int of = 0;              ///< how many were looked at
  BlockNumber blocks = 0;  ///< how large they are together
};

/// Where no valid index serves the condition that finds live runs: neither one that begins with the status column, nor
/// a partial one on these statuses. Partitions that hold no live runs, or nothing else, need none.
Lacking lacking_status_index(const Guarded &g);

/// Where no valid index begins with the start column, by which the newest runs are found.
Lacking lacking_start_index(const Guarded &g);

/// Whether the index's first column is this one of the table, in the column's own collation.
bool index_begins_with(Relation index, Relation table, AttrNumber attno);

/// The statement that would make the one or the other.
char *wanted_status_index(const Guarded &g);
char *wanted_start_index(const Guarded &g);

}  // namespace esg
