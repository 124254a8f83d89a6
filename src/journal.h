// The journal: append-only lines on what the guard did to a run and what became of it. Written as the extension's owner
// from finished values only.
#pragma once

#include "settings.h"

namespace esg {

enum class Event : uint8 { kReaped, kWouldReap, kLateFinish, kRetried, kOverturned };

/// What the lines of one call have in common.
struct Entry {
  const Guarded *table;
  Event event;
  TimestampTz at;
  const char *path;  ///< call, pg_cron, trigger
  Oid role;          ///< who acted
};

/// What differs from run to run. Null pointers become NULL.
struct Line {
  const char *key = nullptr;
  int64 reaping = 0;  ///< the line this one marks; 0: none
  Jsonb *scope = nullptr;
  const char *verdict = nullptr;
  const char *reason = nullptr;
  Jsonb *evidence = nullptr;
  Jsonb *run = nullptr;     ///< rows, see row_json.h
  Jsonb *wanted = nullptr;  ///< the same
  bool false_positive = false;
};

void write_journal(const Entry &entry, const Line *lines, int count);

/// How the guard's dealings with a run stand.
struct Standing {
  int64 reaping = 0;      ///< the open reaped or would_reap line; 0: none
  bool observed = false;  ///< it is a would_reap line
};

/// The run's newest reaping that nothing has undone since.
Standing standing_of(const Guarded &g, const char *key);

/// What the journal has on a reaping, as JSON texts of rows; null where there is none.
struct Rows {
  const char *before = nullptr;  ///< the run as it was before it was reaped
  const char *wanted = nullptr;  ///< as its worker last wanted it with this status, in a late finish
};
Rows rows_of(int64 reaping, const Guarded &g, const char *status);

/// Which of `keys` (text[] of `count`) have an open would_reap as their newest line: a flag for each.
const bool *already_observed(const Guarded &g, Datum keys, int count);

/// By what the guard was called: pg_cron, or call.
const char *calling_path();

}  // namespace esg
