// What a table itself asks of the columns that the guard fills or keeps: its CHECKs, and generated columns that depend on them. Read
// when the settings are (settings.h), asked by the BEFORE trigger for what it is about to fill (filling.h) or to keep (judge.cpp).
#pragma once

#include "settings.h"

namespace esg {

/// Reads those of `relation` into the entry for it.
void load_conditions(Guarded &g, Relation relation);

/// Whether the relation that the entry is for would take the row, as far as `touched` (numbers of columns) may decide it.
bool accepts(const Guarded &g, Relation relation, HeapTuple row, const Bitmapset *touched);

}  // namespace esg
