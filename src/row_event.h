// A row that the application writes, as the guard's triggers see it: shared by judge.cpp (before) and watch.cpp (after).
#pragma once

#include "runs.h"
#include "texts.h"

namespace esg {

/// One row event as the guard sees it.
struct RowEvent {
  TriggerData *trigger;
  TupleDesc desc;
  HeapTuple before;  ///< null on INSERT
  HeapTuple after;
  const Guarded *table;

  /// Of a row that the server has in a slot, it is taken apart once, and as far as is asked for.
  Datum value(HeapTuple tuple, const Column &column, bool *is_null) const {
    if (tuple == trigger->tg_trigtuple) return slot_getattr(trigger->tg_trigslot, column.attno, is_null);
    if (tuple == trigger->tg_newtuple) return slot_getattr(trigger->tg_newslot, column.attno, is_null);
    return heap_getattr(tuple, column.attno, desc, is_null);
  }
  Datum old_value(const Column &column, bool *is_null) const { return value(before, column, is_null); }
  Datum new_value(const Column &column, bool *is_null) const { return value(after, column, is_null); }
};

/// The trigger that called; ERROR where it is not one that guard_table() creates.
TriggerData *checked_trigger(FunctionCallInfo fcinfo, bool before);

/// The settings to judge the row by; null where there are none, where they do not fit (one WARNING per session and table), or
/// where the guard is switched off.
const Guarded *settings_for(const TriggerData *trigger);

RowEvent row_event(TriggerData *trigger, const Guarded *g);

/// A column's value as text, the one that a cast to text gives (runs are read so); null where NULL.
char *text_of(const RowEvent &event, HeapTuple tuple, const Column &column);

/// The run's key, the one it had; "(NULL)" where there is none.
const char *key_of(const RowEvent &event);

/// For messages: the key or a status that the row had. A writer may be someone who may not read.
const char *shown(const RowEvent &event, const char *text);

core::StatusKind kind_of(const Guarded &g, const char *status);

/// Whether the writer changed a column.
bool changed(const RowEvent &event, const Column &column);

core::Scope scope_of(const RowEvent &event, HeapTuple tuple);

}  // namespace esg
