// Settings of the server that the guard reads, and what runs when the library is loaded.
#pragma once

#include "pg/prelude.h"

namespace esg {

/// emag_sync_guard.enabled: off, the triggers let every write through and nothing is reaped.
bool guard_enabled();

/// emag_sync_guard.late_finish of this session or transaction, which stands in for the tables' own; absent: not set.
std::optional<core::LateFinish> late_finish_override();

/// emag_sync_guard.restart_grace: how long after a start of the server what was known before it is believed.
core::Micros restart_grace();

/// emag_sync_guard.notify: off, notifications of this session wait in the outbox.
bool notify_enabled();

/// emag_sync_guard.notify_queue_limit: the share of the server's notification queue in use above which they wait there too.
double notify_queue_limit();

/// True while overturn_reap writes its row: the triggers then let the status through.
bool overturning();

/// Sets overturning() until the enclosing GUC nest level ends (pg::restore, or an error).
void begin_overturning();

}  // namespace esg
