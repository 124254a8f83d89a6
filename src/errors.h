// The guard's own SQLSTATEs, class SY. docs/reference.md lists them; test/sql/sqlstates.sql raises each.
#pragma once

#include "pg/prelude.h"

namespace esg {

constexpr int kIllegalTransition = MAKE_SQLSTATE('S', 'Y', '0', '0', '1');
constexpr int kScopeRunning = MAKE_SQLSTATE('S', 'Y', '0', '0', '2');
constexpr int kStaleToken = MAKE_SQLSTATE('S', 'Y', '0', '0', '3');
constexpr int kNotGuarded = MAKE_SQLSTATE('S', 'Y', '0', '0', '4');
constexpr int kAmbiguous = MAKE_SQLSTATE('S', 'Y', '0', '0', '5');
constexpr int kBadOption = MAKE_SQLSTATE('S', 'Y', '0', '0', '6');
constexpr int kLateFinishRejected = MAKE_SQLSTATE('S', 'Y', '0', '0', '7');
constexpr int kLockNotAvailable = MAKE_SQLSTATE('S', 'Y', '0', '0', '8');

}  // namespace esg
