// What a sweep does beside reaping, for each table and once for the server: takes in what memory observed of ended runs,
// learns rhythms, records alerts, sends what waits. Part of reap_stale_syncs; nothing here fails a reaping.
#pragma once

#include "runs.h"

namespace esg {

/// After the table's dead runs were closed, or left because it is paused. `live`: its live runs, those of open transactions too, where
/// there was none to close and so they are known; null: they are read.
void look_after(const Guarded &g, const core::Question &question, const Runs *live = nullptr);

/// Once per sweep, at its end, for who may reap a table of this database or owns the extension.
void look_after_server(const core::Question &question);

}  // namespace esg
