// The alert rules as they hold: the library's defaults and what set_alert_rule changed, which is kept in
// sync_guard.alert_settings.
#pragma once

#include "core/alerts.h"
#include "settings.h"

namespace esg {

/// What was changed, as far as it is about one table, or about none.
struct AlertRules {
  core::AlertOverride *items = nullptr;
  Jsonb **scopes = nullptr;  ///< of each item, as it is stored
  std::size_t count = 0;
  bool of_table = false;

  /// What holds for a scope of the table.
  [[nodiscard]] core::AlertLimits of(core::AlertRule rule, const core::ScopePattern &scope) const {
    return core::resolve_alert_limits(rule, of_table, scope, items, count);
  }
  /// What holds where no scope says otherwise.
  [[nodiscard]] core::AlertLimits of(core::AlertRule rule) const { return of(rule, core::ScopePattern{}); }

  /// Whether the rule is enabled in any scope.
  [[nodiscard]] bool asks(core::AlertRule rule) const;
};

/// The rules for a table (null: those about no table, and what holds for all tables). Reads as the extension's owner.
AlertRules read_alert_rules(const Guarded *g);

}  // namespace esg
