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

namespace {

/// Whether the server can send the text to this client. Asked without an error, for an error report may be under way.
bool can_send(const char *text, int length, int client) {
  const int server = GetDatabaseEncoding();
  if (client == server || client == PG_SQL_ASCII) return true;
  if (server == PG_SQL_ASCII) return pg_verify_mbstr(client, text, length, true);
  const Oid conversion = FindDefaultConversionProc(server, client);
  if (!OidIsValid(conversion)) return true;
  const int room = length * MAX_CONVERSION_GROWTH + 1;
  auto *bytes = reinterpret_cast<unsigned char *>(const_cast<char *>(text));
  auto *converted = static_cast<unsigned char *>(palloc(room));
  return pg_do_encoding_conversion_buf(conversion, server, client, bytes, length, converted, room, true) == length;
}

}  // namespace

const char *sendable(const char *text) {
  if (text == nullptr || pg_is_ascii(text)) return text;
  const auto length = static_cast<int>(strlen(text));
  if (can_send(text, length, pg_get_client_encoding())) return text;
  char *shown = pstrdup(text);
  char *end = shown;
  for (int at = 0; at < length; ++end) {
    *end = IS_HIGHBIT_SET(text[at]) ? '?' : text[at];
    at += IS_HIGHBIT_SET(text[at]) ? pg_mblen(text + at) : 1;
  }
  *end = '\0';
  return shown;
}

}  // namespace esg::pg
