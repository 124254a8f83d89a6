// Runs once per process when the library is loaded: defines the settings, registers the cache's callbacks.

#include "load.h"

#include "fault.h"
#include "run_table.h"
#include "server_life.h"
#include "session.h"
#include "settings.h"

extern "C" {
ESG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
}

namespace esg {
namespace {

bool enabled = true;
bool is_overturning = false;
bool notify = true;
double queue_limit = 0.5;
int restart_grace_ms = 60000;

enum LateFinishSetting : int { kTable = 0, kKeepSetting, kAcceptSetting, kRejectSetting };
int late_finish = kTable;

const config_enum_entry kLateFinishOptions[] = {{"table", kTable, false},
                                                {"keep", kKeepSetting, false},
                                                {"accept", kAcceptSetting, false},
                                                {"reject", kRejectSetting, false},
                                                {nullptr, 0, false}};

constexpr const char *kOverturning = "emag_sync_guard.overturning";

}  // namespace

bool guard_enabled() { return enabled; }

std::optional<core::LateFinish> late_finish_override() {
  switch (late_finish) {
    case kKeepSetting: return core::LateFinish::kKeep;
    case kAcceptSetting: return core::LateFinish::kAccept;
    case kRejectSetting: return core::LateFinish::kReject;
    default: return std::nullopt;
  }
}

core::Micros restart_grace() { return static_cast<core::Micros>(restart_grace_ms) * 1000; }

bool notify_enabled() { return notify; }

double notify_queue_limit() { return queue_limit; }

bool overturning() { return is_overturning; }

void begin_overturning() {
  (void)set_config_option(kOverturning, "on", PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

}  // namespace esg

void _PG_init(void) {
  using namespace esg;
  DefineCustomBoolVariable("emag_sync_guard.enabled", "Switches the guard on.",
                           "Off, its triggers let every write through and nothing is reaped; no DDL is needed.",
                           &enabled, true, PGC_SUSET, 0, nullptr, nullptr, nullptr);
  DefineCustomEnumVariable("emag_sync_guard.late_finish", "Decides what becomes of a late finish in this session.",
                           "table: as the guarded table's own setting says. For a correction by hand: SET LOCAL.",
                           &late_finish, kTable, kLateFinishOptions, PGC_USERSET, 0, nullptr, nullptr, nullptr);
  DefineCustomBoolVariable(kOverturning, "Is on while overturn_reap() writes its row.", nullptr, &is_overturning, false,
                           PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE, nullptr, nullptr,
                           nullptr);
  DefineCustomBoolVariable("emag_sync_guard.notify", "Lets reapings and alerts be told by NOTIFY.",
                           "Off, those of this session wait in the outbox, until a sweep with it on sends them.",
                           &notify, true, PGC_USERSET, 0, nullptr, nullptr, nullptr);
  DefineCustomRealVariable(
      "emag_sync_guard.notify_queue_limit",
      "Sets how much of the server's notification queue may be in use for notifications to be sent.",
      "Above it they wait in the outbox: a commit fails where the queue is full.", &queue_limit, 0.5, 0, 0.9, PGC_SUSET,
      0, nullptr, nullptr, nullptr);
  DefineCustomIntVariable(
      "emag_sync_guard.restart_grace",
      "Sets how long after a start of the server runs are believed without a new sign of life.",
      "A crash restart and a promotion are such starts. Workers that come back within it keep their runs.",
      &restart_grace_ms, 60000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS, nullptr, nullptr, nullptr);
  run_table_load();
  session_load();
  ESG_LOAD_FAULTS();
  MarkGUCPrefixReserved("emag_sync_guard");
  settings_load();
  server_life_load();
}
