// Where the server meets C++: the shell of every SQL-callable function, and the catching of PostgreSQL errors.
//
// Only the shells made by ESG_SQL_FUNCTION face the server. PostgreSQL's errors travel by longjmp through the bodies,
// so nothing in a body that calls the server may own anything by a destructor (STYLE.md). C++ exceptions (bad_alloc,
// in practice) end in the shell: they are recorded in the catch and raised as an ERROR after it.
#pragma once

#include "pg/prelude.h"

namespace esg::pg {

using Body = Datum (*)(FunctionCallInfo fcinfo);

/// Runs a function's body; turns a C++ exception into an ERROR of SQLSTATE XX000 or 53200.
Datum enter(Body body, FunctionCallInfo fcinfo);

/// Calls `work`; a C++ exception in it becomes an ERROR of SQLSTATE XX000 or 53200. For whatever is called within PG_TRY: an
/// exception that passes one by leaves the server's errors a way back into a frame that is gone.
void without_exceptions(void (*work)(const void *argument), const void *argument);
template <typename Work>
void without_exceptions(const Work &work) {
  without_exceptions([](const void *argument) { (*static_cast<const Work *>(argument))(); }, &work);
}

/// The error is for the whole transaction: a cancel, a shutdown, a serialization failure. Told by where it was raised, since
/// a trigger of some table's owner can raise any SQLSTATE, and one table must not end the work on all.
bool is_for_all(const ErrorData &error);

/// Runs `work` in a subtransaction of its own. Returns null when it went well; else everything it did is rolled back and
/// the error comes back as a copy in the caller's memory context. One that is for the whole transaction is passed on.
template <typename Work>
ErrorData *try_in_subtransaction(const Work &work) {
  static_assert(std::is_trivially_destructible_v<Work>, "the work's captures must survive a longjmp");
  const MemoryContext context = CurrentMemoryContext;
  const ResourceOwner owner = CurrentResourceOwner;
  ErrorData *volatile error = nullptr;
  PG_USED_FOR_ASSERTS_ONLY const int level = GetCurrentTransactionNestLevel();
  BeginInternalSubTransaction(nullptr);
  MemoryContextSwitchTo(context);
  PG_TRY();
  {
    without_exceptions(work);
    ReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
  }
  PG_CATCH();
  {
    MemoryContextSwitchTo(context);
    error = CopyErrorData();
    FlushErrorState();
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
  }
  PG_END_TRY();
  Assert(GetCurrentTransactionNestLevel() == level && CurrentMemoryContext == context);
  if (error != nullptr && is_for_all(*error)) ReThrowError(error);
  return error;
}

/// Text for a WARNING in the application's statement: one that the client's encoding cannot express would fail the statement, so
/// characters beyond ASCII are then '?'.
const char *sendable(const char *text);

}  // namespace esg::pg

/// Defines the C symbol emag_sync_guard_<name>, whose body is esg::<name>.
#define ESG_SQL_FUNCTION(name)                                                                              \
  namespace esg {                                                                                           \
  static Datum name(FunctionCallInfo fcinfo);                                                               \
  }                                                                                                         \
  extern "C" {                                                                                              \
  PG_FUNCTION_INFO_V1(emag_sync_guard_##name);                                                              \
  PGDLLEXPORT Datum emag_sync_guard_##name(PG_FUNCTION_ARGS) { return esg::pg::enter(&esg::name, fcinfo); } \
  }                                                                                                         \
  static_assert(true, "swallows the semicolon")
