// Faults on purpose: what a sanitizer, valgrind or an assertion must report in a backend, so that their silence means something.
// A module of its own, built by the suite `sanitized` alone and with the flags of the module under test.
//
// Runs at a call of planted_fault(kind) in a throwaway server; the backend does not survive what a sanitizer or an assertion
// finds.

extern "C" {
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;
PG_FUNCTION_INFO_V1(planted_fault);
}

#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace {

/// What the compiler cannot see through.
template <typename Value>
Value hidden(Value value) {
  asm volatile("" : "+r"(value));
  return value;
}

int global[4] = {1, 2, 3, 4};

int beyond_the_stack() {
  int local[4] = {1, 2, 3, 4};
  return hidden(&local[0])[hidden(4)];
}

int beyond_a_global() { return hidden(&global[0])[hidden(4)]; }

int after_free() {
  auto *text = new std::string(100, 'x');
  const char *inside = hidden(text->data());
  delete text;
  return inside[1];
}

__attribute__((noinline)) int *address_of_a_local() {
  int local = 1;
  return hidden(&local);
}

int beyond_a_vector() {
  std::vector<int> numbers;
  numbers.reserve(8);
  numbers.push_back(1);
  return hidden(numbers.data())[hidden(4)];
}

int after_pfree() {
  char *text = static_cast<char *>(palloc(100));
  strcpy(text, "gone");
  pfree(hidden(text));
  return hidden(text)[1];
}

int false_assertion() {
  Assert(hidden(1) == 2);
  return 0;
}

int overflow() { return hidden(std::numeric_limits<int>::max()) + hidden(1); }

}  // namespace

Datum planted_fault(PG_FUNCTION_ARGS) {
  const std::string_view kind = text_to_cstring(PG_GETARG_TEXT_PP(0));
  if (kind == "stack-buffer-overflow") PG_RETURN_INT32(beyond_the_stack());
  if (kind == "global-buffer-overflow") PG_RETURN_INT32(beyond_a_global());
  if (kind == "heap-use-after-free") PG_RETURN_INT32(after_free());
  if (kind == "stack-use-after-return") PG_RETURN_INT32(*address_of_a_local());
  if (kind == "container-overflow") PG_RETURN_INT32(beyond_a_vector());
  if (kind == "signed integer overflow") PG_RETURN_INT32(overflow());
  if (kind == "use after pfree") PG_RETURN_INT32(after_pfree());
  if (kind == "assertion") PG_RETURN_INT32(false_assertion());
  ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("no such fault: %s", kind.data())));
}
