// The runs of the report's window: what lives now, what ended, what the guard reaped; by lanes, one per table and scope.
//
// Read in the caller's process: live runs as the view running_syncs shows them to him, ended ones from the guarded tables
// with the rights that readers have there (rights.h), reapings from the journal.
#pragma once

#include "core/report_scale.h"

#include "report_page.h"
#include "settings.h"

namespace esg {

/// A line of live_runs().
struct LiveRun {
  const Guarded *table;
  const char *key;
  const char *scope;  ///< as jsonb prints it; empty where the table has none
  const char *status;
  std::optional<core::Micros> started;
  std::optional<core::Micros> last_sign;
  std::optional<int64> done;
  std::optional<int64> total;
  const char *percent;
  bool dead;
  bool listed;  ///< one of the first kMaxListed that are dead, or that are not
  const char *why;
  const char *lease;
  const char *worker;
  std::optional<double> rate;  ///< per second
  std::optional<core::Micros> expected_end;
  const char *expected_by;
  const char *summary;  ///< what it is, by the summary columns: "operation full_sync"; may be null; of listed ones
};

/// A run with its place in time.
struct PastRun {
  const Guarded *table;
  const char *key;
  const char *scope;
  const char *status;
  core::Micros start;
  std::optional<core::Micros> end;  ///< absent: it goes on, or its table does not tell
  core::Outcome outcome;
  bool late;  ///< it began before the window: it is drawn and not counted
};

/// The runs of one table and scope: `count` of them from `first` on, in the order of their start.
struct Lane {
  const Guarded *table;
  const char *label;
  int first;
  int count;
  int counts[core::kOutcomes];
};

struct History {
  MemoryContext context = nullptr;
  LiveRun *live = nullptr;
  int live_count = 0;
  PastRun *runs = nullptr;
  int count = 0;
  int room = 0;
  Lane *lanes = nullptr;  ///< what went wrong first, then what is busiest
  int lane_count = 0;
  List *without_start = NIL;  ///< tables that have no start column
  List *without_end = NIL;    ///< and no end column
  List *cut = NIL;            ///< with more runs than are read
  List *failed = NIL;         ///< that could not be read
};

/// So many live runs of a kind the page lists.
constexpr int kMaxListed = 30;
/// Of one table the newest this many runs are read.
constexpr int kMaxRunsRead = 100000;

/// Reads the window of `page` into the current memory context.
void read_history(const Page &page, List *tables, History *history);

/// The table with this Oid among a List of const Guarded*; null where it is none of them.
const Guarded *table_of(const List *tables, Oid relation);

/// A summary column that tells people what a run is: a text that is none of the columns shown elsewhere.
bool tells_what(const Guarded &g, const Column &column);

/// A scope in words, "products / main"; null scope and table are allowed.
char *scope_label(const Guarded *g, const char *scope);

}  // namespace esg
