// In which zone times without one are written: told by the default of the start column. Reads catalogs.
#pragma once

#include "settings.h"

namespace esg {

/// Where the start column has no time zone and its default is the session's local time (DEFAULT now()): the zone that
/// sessions work in unless they say otherwise, as guard_table() would take it, if it is another one than the table's times
/// are read in. Else null.
const char *zone_of_local_default(const Guarded &g, Relation relation);

}  // namespace esg
