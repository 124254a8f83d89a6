// The only try block there is. See boundary.h.

#include "pg/boundary.h"

#include <exception>
#include <new>

namespace esg::pg {
namespace {

enum class Caught { kNothing, kOutOfMemory, kOther };

}  // namespace

bool is_for_all(const ErrorData &error) {
  if (error.funcname != nullptr && strcmp(error.funcname, "ProcessInterrupts") == 0)
    return error.sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE;
  // Below REPEATABLE READ the server raises it nowhere else.
  return error.sqlerrcode == ERRCODE_T_R_SERIALIZATION_FAILURE && IsolationUsesXactSnapshot();
}

void without_exceptions(void (*work)(const void *argument), const void *argument) {
  Caught caught = Caught::kNothing;
  char what[256] = "";
  try {
    work(argument);
    return;
  } catch (const std::bad_alloc &) {
    caught = Caught::kOutOfMemory;
  } catch (const std::exception &e) {
    caught = Caught::kOther;
    strlcpy(what, e.what(), sizeof what);
  } catch (...) {
    caught = Caught::kOther;
    strlcpy(what, "unknown exception", sizeof what);
  }
  if (caught == Caught::kOutOfMemory) ereport(ERROR, errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"));
  ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("unexpected exception in emag_sync_guard: %s", what));
}

Datum enter(Body body, FunctionCallInfo fcinfo) {
  Datum result = 0;
  without_exceptions([&] { result = body(fcinfo); });
  return result;
}

}  // namespace esg::pg
