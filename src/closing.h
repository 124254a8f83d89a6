// What closing a run writes, as SQL: shared by the reaping and by the proof at adoption that the table will take it.
#pragma once

#include "runs.h"

namespace esg {

/// The error column's value after `message` (an SQL expression of type text) was appended to `current` (an expression of
/// the column's type): what was there stays, an array stays an array, everything else is wrapped into one, a text gets a
/// line. `now` is an SQL expression of type timestamptz.
char *error_sql(const Guarded &g, const char *current, const char *message, const char *now);

/// The SET list of a reaping: status, end, duration, error, updated. Expressions: `now` (timestamptz), `message` (text),
/// `duration` (text, NULL where it does not fit). Columns that nobody may write are left out.
char *closing_assignments(const Guarded &g, const char *now, const char *message, const char *duration);

/// The errors as they were in `row`, a run's row as JSON text (journal): a value of the column's base type, for what takes a
/// reaping back. A JSON null stands for NULL where the column may be that. False where the row does not tell.
bool former_error(const Guarded &g, const char *row, Datum *value, bool *is_null);

}  // namespace esg
