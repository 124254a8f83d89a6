// Who may see and who may reap a guarded table, and as whom the guard then works on it.
#pragma once

#include "pg/boundary.h"
#include "pg/identity.h"
#include "pg/spi.h"
#include "settings.h"

namespace esg {

/// The caller may read what the guard shows of the table: USAGE on its schema, and SELECT on it or on every column the
/// guard knows of.
bool may_read(const Guarded &g);

/// The caller may reap: may_read, and UPDATE on the table or on every column that a reaping writes.
bool may_reap(const Guarded &g);

/// The caller owns the table (or is superuser): may change its settings.
bool owns(const Guarded &g);

/// Row security applies to the caller.
bool row_security_applies(const Guarded &g);

/// Becomes who the guard works as on this table, for a caller who has the right to: the caller himself where he owns the
/// table or where row security applies to him, else its owner in a security-restricted operation, with FORCE ROW LEVEL
/// SECURITY not hiding rows. To read is to be in a read-only transaction and a security-restricted operation meanwhile: a
/// cast or a policy that is met on the way writes nothing, in nobody's name. Undo with pg::restore.
/// Locks the table (ACCESS SHARE) to the end of the transaction: its owner stays who he is. ERROR 42501 for writing where
/// row security applies to a caller who is not the owner; 55000 where the session's temporary objects or a partition of
/// another owner would let someone else act as the owner.
pg::Identity work_as(const Guarded &g, pg::Access access = pg::Access::kRead);

/// Whether a value of the type (a domain's base type) becomes text or JSON by a function that someone has made.
bool is_cast_by_code(Oid type);

/// What is read of a table.
enum class ToRead { kAll, kJudged };

/// Becomes the table's owner for reading, whoever the caller is; the same lock and limits. kJudged: none but those of the
/// key, the status, the scope, times and counters.
pg::Identity read_as_owner(const Guarded &g, ToRead to_read = ToRead::kAll);

/// The argument `relation`: InvalidOid for NULL, all tables. ERROR 42P01 for the number 0, which is no NULL.
Oid relation_argument(FunctionCallInfo fcinfo, int argument);

/// What to do with a table that others have locked against reading: wait, or leave it out with a NOTICE.
enum class IfLocked { kWait, kSkip };

/// A table that the caller may read and that could not be asked, and why.
struct LeftOut {
  const char *table;
  int sqlstate;
  const char *reason;
};

/// The guarded tables a call is about: the one named (ERROR where it is not guarded, may not be read, or its settings do not
/// fit it any more), or, for an invalid Oid, all that the caller may read, with a NOTICE of how many were skipped when
/// `notice`, and a WARNING of each whose settings do not fit; the latter are appended to `left_out` (LeftOut*; null: not).
/// Returns a List of const Guarded*.
List *readable_tables(Oid relation, bool notice, IfLocked if_locked = IfLocked::kWait, List **left_out = nullptr);

/// The WARNING that a table which failed is skipped.
void warn_of_skipped(const Guarded &g, const ErrorData *error);

/// Appends the table to `left_out`; null: does nothing.
void leave_out(List **left_out, const Guarded &g, int sqlstate, const char *reason);

/// ERROR where tables were left out, with the first one's SQLSTATE: for who would have to say no, which would be a guess.
void refuse_to_guess(const List *left_out);

/// Does `work` on each of the tables that readable_tables gave for `relation`. A table that was named may raise; of several,
/// one that fails is skipped with a WARNING and does not stand in the way of the others; where all fail, the last one raises,
/// unless `left_out` is there to get those that fail. `work` returns false to stop.
template <typename Work>
void each_table(Oid relation, const List *tables, List **left_out, const Work &work) {
  int failed = 0;
  ListCell *cell;
  foreach (cell, tables) {
    const auto &g = *static_cast<const Guarded *>(lfirst(cell));
    bool go_on = true;
    if (OidIsValid(relation) || list_length(tables) == 1) {
      if (!work(g)) return;
      continue;
    }
    ErrorData *error = pg::try_in_subtransaction([&] { go_on = work(g); });
    if (error != nullptr && ++failed == list_length(tables) && left_out == nullptr) ReThrowError(error);
    if (error != nullptr) {
      warn_of_skipped(g, error);
      leave_out(left_out, g, error->sqlerrcode, error->message);
    }
    if (!go_on) return;
  }
}

template <typename Work>
void each_table(Oid relation, const List *tables, const Work &work) {
  each_table(relation, tables, nullptr, work);
}

}  // namespace esg
