// Scopes as jsonb, as the guard's own tables hold them and its callers write them, and as the values that core/scope compares.
#pragma once

#include "settings.h"

namespace esg {

/// The position of a scope column of this name; -1 where there is none.
int scope_position(const Guarded &g, const char *name);

/// A scope as callers write it, as it is stored: an object of texts and nulls, each value as its column writes it.
/// `whole_table` gets whether it names no column. ERROR SY006 where it is no scope of the table, or too long to be stored.
Jsonb *canonical_scope(const Guarded &g, Jsonb *scope, bool *whole_table);

/// Whether the scope is short enough for settings of its own: for the keys of the tables that hold them.
bool may_have_settings(const Jsonb *scope);

/// A stored scope as a pattern. False where it names a column that is none of the scope's any more: it then covers nothing.
bool read_scope_pattern(const Guarded &g, const Jsonb *scope, core::ScopePattern *pattern);

/// The scope of a run that was written down earlier, in the table's scope columns of today.
core::Scope present_scope(const Guarded &g, const Jsonb *written);

}  // namespace esg
