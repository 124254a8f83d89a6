// A row of a guarded table as the journal keeps it: jsonb.
#pragma once

#include "settings.h"

namespace esg {

/// Whether each value of the type has a jsonb: none is JSON of others, which may hold what jsonb does not take.
bool fits_jsonb(Oid type);

/// SQL for the row t, to be read with spi_row(). Runs the output functions and casts of its columns' types.
char *row_sql(const Guarded &g);

/// Column `column` of the result's row `number`, made by row_sql(), in `context`; null where NULL.
Jsonb *spi_row(uint64 number, int column, MemoryContext context);

/// JSON as the journal keeps it: as it is or, where jsonb does not take it, as a string of it.
Jsonb *as_journaled(const char *json);

}  // namespace esg
