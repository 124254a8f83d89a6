// The answer that most questions need: a run of the scope is alive, or there is none in a live status. By the status's index
// and the entries in memory of the first rows it finds, without a query. Whatever is not that simple is left to read_runs().
#pragma once

#include "asked.h"

namespace esg {

/// Whether a run of those asked for is alive; absent where it takes a whole look.
std::optional<bool> quick_look(const Guarded &g, const Asked &asked, const core::Question &question);

}  // namespace esg
