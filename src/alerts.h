// Alerts: the rules of core/alerts asked of the tables and the server. Readers evaluate and write nothing; a sweep records
// in sync_guard.alert_log what has been raised or cleared since the last one, and announces it.
#pragma once

#include "runs.h"

namespace esg {

/// Records the alerts on one table; works as its owner. For sweeps. `live` as in read_table_figures.
void record_alerts(const Guarded &g, const core::Question &question, const Runs *live);

/// The same for the rules that are about no table: jobs, workers, memory, mass death.
void record_server_alerts(const core::Question &question);

/// Deletes the alerts that cleared before, of `tables` (oid[]), or with `all` of every table and about none.
void purge_alerts(core::Micros before, Datum tables, bool all);

}  // namespace esg
