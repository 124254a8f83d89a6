// judge_row, BEFORE INSERT and BEFORE UPDATE. Runs inside the application's statements, as the application's role; the
// triggers' WHEN lets only changes of status and writes to failed rows come here. It judges the change of status, fills what
// the writer left open, keeps a reaped run reaped. A configuration that does not fit lets the write through.

#include "closing.h"
#include "conditions.h"
#include "errors.h"
#include "fault.h"
#include "filling.h"
#include "journal.h"
#include "load.h"
#include "pg/boundary.h"
#include "pg/extension_tables.h"
#include "reap_close.h"
#include "row_event.h"
#include "row_json.h"

namespace esg {
namespace {

char *row_json(const RowEvent &event, HeapTuple tuple) {
  const Datum row = heap_copy_tuple_as_datum(tuple, event.desc);
  return TextDatumGetCString(DirectFunctionCall1(row_to_json, row));
}

/// NULL for a span that is not known or has no room.
Datum duration_datum(const Guarded &g, const std::optional<core::Micros> &span, bool *is_null) {
  const char *value = span ? duration_text(g, *span) : nullptr;
  *is_null = value == nullptr;
  if (*is_null) return Datum(0);
  Oid input;
  Oid io_parameter;
  getTypeInputInfo(g.duration.type, &input, &io_parameter);
  return OidInputFunctionCall(input, const_cast<char *>(value), io_parameter, g.duration.typmod);
}

/// On the way to a live status: the start where the writer left it NULL.
HeapTuple fill_start(const RowEvent &event) {
  const Guarded &g = *event.table;
  if (!g.start.writable) return event.after;
  bool is_null;
  (void)event.new_value(g.start, &is_null);
  Filling filling;
  if (is_null) filling.add(g.start, time_datum(g.start, GetCurrentTimestamp(), g.zone));
  return filling.apply(event);
}

/// Whether the writer left a column of the outcome to the guard: it is NULL or, after a reaping, as that had set it.
bool is_left_open(const RowEvent &event, const Column &column, bool reaped) {
  bool is_null;
  (void)event.new_value(column, &is_null);
  return is_null || (reaped && column.writable && !changed(event, column));
}

/// On the way to an end, which is now: end and duration where the writer left them open.
HeapTuple fill_finish(const RowEvent &event, TimestampTz now, bool reaped = false) {
  const Guarded &g = *event.table;
  Filling filling;
  std::optional<core::Micros> end = now;
  bool is_null;
  if (g.end.exists()) {
    Datum value = event.new_value(g.end, &is_null);
    if (is_left_open(event, g.end, reaped)) {
      value = time_datum(g.end, now, g.zone);
      filling.add(g.end, value);
    }
    end = instant_of(g.end, value, false, g.zone);
  }
  if (g.duration.writable && g.start.exists() && end && is_left_open(event, g.duration, reaped)) {
    const Datum start = event.new_value(g.start, &is_null);
    const auto started = instant_of(g.start, start, is_null, g.zone);
    if (started) {
      const Datum duration = duration_datum(g, core::time_between(*started, *end), &is_null);
      // One that has no room leaves none, rather than the one of the reaping.
      if (!is_null || reaped) filling.add_dependent(g.duration, duration, is_null, g.end, reaped);
    }
  }
  return filling.apply(event);
}

/// A run that starts again: where the writer left the start as it was, it starts now; where he left the end, it has none.
HeapTuple restart(const RowEvent &event) {
  const Guarded &g = *event.table;
  Filling filling;
  if (g.start.exists() && !changed(event, g.start))
    filling.add(g.start, time_datum(g.start, GetCurrentTimestamp(), g.zone));
  for (const Column *column : {&g.end, &g.duration})
    if (column->exists() && !changed(event, *column)) filling.add(*column, Datum(0), true);
  return filling.apply(event);
}

/// The row as its late writer wants it, after a reaping: errors that he left as they were lose what the guard had added.
HeapTuple without_added_error(const RowEvent &event, const Standing &standing, const char *to) {
  const Guarded &g = *event.table;
  Datum value = 0;
  bool is_null = true;
  if (standing.reaping == 0 || changed(event, g.error) || !g.error.writable ||
      !former_error(g, rows_of(standing.reaping, g, to).before, &value, &is_null))
    return event.after;
  Filling filling;
  filling.add(g.error, value, is_null);
  return filling.apply(event);
}

/// The row as written, with the outcome that it had: status, end, duration, errors. Where the table takes no such mixture (a
/// `CHECK ((result IS NOT NULL) = (status = 'completed'))`), as it was.
HeapTuple keep_outcome(const RowEvent &event) {
  const Guarded &g = *event.table;
  Bitmapset *kept = nullptr;
  int count = 0;
  int columns[4];
  Datum values[4];
  bool nulls[4];
  for (const Column *column : {&g.status, &g.end, &g.duration, &g.error}) {
    if (!column->exists() || column->generated) continue;
    columns[count] = column->attno;
    values[count] = event.old_value(*column, &nulls[count]);
    kept = bms_add_member(kept, column->attno);
    ++count;
  }
  HeapTuple row = heap_modify_tuple_by_cols(event.after, event.desc, count, columns, values, nulls);
  return accepts(g, event.trigger->tg_relation, row, kept) ? row : event.before;
}

/// The journal's lines, in an application's statement: it waits for nobody.
void write_lines_at_once(const Entry &entry, const Line &line) {
  if (!OidIsValid(pg::lock_extension_table_at_once("journal")))
    ereport(ERROR, errcode(ERRCODE_LOCK_NOT_AVAILABLE), errmsg("table sync_guard.journal is locked or changed"));
  write_journal(entry, &line, 1);
}

/// What the journal says of the run; absent where it is locked.
std::optional<Standing> standing_at_once(const Guarded &g, const char *key) {
  if (!OidIsValid(pg::lock_extension_table_at_once("journal"))) return std::nullopt;
  return standing_of(g, key);
}

/// What cannot be noted in full, as where a row is too large for a JSON value, is noted in short: the application's statement is not
/// to fail for it. `wanted`: the row as its writer wants it, as JSON; null: not known.
bool note_without_rows(const Entry &entry, Line line, const char *wanted, const ErrorData &error) {
  line.run = nullptr;
  line.wanted = nullptr;
  const ErrorData *again = pg::try_in_subtransaction([&] { write_lines_at_once(entry, line); });
  ereport(WARNING, errcode(error.sqlerrcode),
          errmsg("could not write the rows of run %s of table %s into the journal: %s", pg::sendable(line.key),
                 pg::sendable(entry.table->name), pg::sendable(error.message)),
          errdetail("%s", again == nullptr ? "The line tells of it without them." : "There is no line of it."),
          again == nullptr || wanted == nullptr
              ? 0
              : errdetail_log("There is no line of it. Its writer wanted %s.", wanted));
  return again == nullptr;
}

/// Whether there is a line of it now.
bool note(const RowEvent &event, Event what, const Standing &standing, const char *wanted_status, bool with_row,
          TimestampTz at = GetCurrentTimestamp()) {
  const Guarded &g = *event.table;
  Line line;
  line.key = key_of(event);
  line.reaping = standing.reaping;
  line.scope = scope_json(g, scope_of(event, event.before));
  line.reason = wanted_status == nullptr ? nullptr : psprintf("the writer wanted status \"%s\"", wanted_status);
  line.false_positive = standing.reaping != 0 && what != Event::kRetried && wanted_status != nullptr &&
                        core::tells_success(wanted_status, g.failed);
  const Entry entry{&g, what, at, "trigger", GetUserId()};
  const char *wanted = nullptr;
  const ErrorData *error = pg::try_in_subtransaction([&] {
    if (with_row) {
      wanted = row_json(event, event.after);
      line.wanted = as_journaled(wanted);
      line.run = as_journaled(row_json(event, event.before));
    }
    write_lines_at_once(entry, line);
  });
  const bool noted = error == nullptr || note_without_rows(entry, line, wanted, *error);
  ESG_FAULT_POINT("judge.noted");
  return noted;
}

HeapTuple late_finish(const RowEvent &written, const Standing &standing, const char *from, const char *to) {
  const Guarded &g = *written.table;
  const TimestampTz now = GetCurrentTimestamp();
  const auto policy = late_finish_override().value_or(g.late_finish);
  // Accepted now or, by overturn_reap(), from the journal: it is the same row.
  RowEvent event = written;
  // (Of who corrects what a run says of its end, and not how it ended, the end is none.)
  if (policy != core::LateFinish::kReject && standing.reaping != 0 && !same_text(from, to) &&
      kind_of(g, to) == core::StatusKind::kTerminal)
    event.after = fill_finish(written, now, true);
  const char *by_whom = standing.reaping != 0 ? "the guard had closed it" : "it had ended already";
  switch (policy) {
    case core::LateFinish::kReject:
      ereport(ERROR, errcode(kLateFinishRejected),
              same_text(from, to)
                  ? errmsg("the outcome of run %s of table %s cannot be changed", shown(event, key_of(event)),
                           pg::sendable(g.name))
                  : errmsg("run %s of table %s cannot finish as \"%s\": it is \"%s\"", shown(event, key_of(event)),
                           pg::sendable(g.name), pg::sendable(to), shown(event, from)),
              errdetail("It is a late finish: %s.", by_whom),
              errhint("To overrule: SET LOCAL emag_sync_guard.late_finish = 'accept';%s",
                      standing.reaping != 0 ? " or sync_guard.overturn_reap()." : ""));
      break;
    case core::LateFinish::kAccept:
      note(event, standing.reaping != 0 ? Event::kOverturned : Event::kLateFinish, standing, to, true, now);
      return without_added_error(event, standing, to);
    case core::LateFinish::kKeep: break;
  }
  const bool noted = note(event, Event::kLateFinish, standing, to, true, now);
  const HeapTuple row = keep_outcome(event);
  const char *name = pg::sendable(g.name);
  ereport(
      WARNING, errcode(ERRCODE_WARNING),
      errmsg("late finish of run %s of table %s: it stays \"%s\"", shown(event, key_of(event)), name,
             shown(event, from)),
      errdetail("Its writer wanted \"%s\", but %s. %s; what it wanted is in the %s.", pg::sendable(to), by_whom,
                row != event.before
                    ? "Other columns are written"
                    : "The table takes its other columns with that outcome alone, so the row stays as it is",
                noted ? "journal" : "server's log"),
      standing.reaping != 0 && core::tells_success(to, g.failed)
          ? errhint("If the run did succeed: SELECT sync_guard.overturn_reap(%s, %s, %s);", quote_literal_cstr(name),
                    quote_literal_cstr(shown(event, key_of(event))), quote_literal_cstr(pg::sendable(to)))
          : errhint("To write it all the same: SET LOCAL emag_sync_guard.late_finish = 'accept';"));
  return row;
}

std::optional<bool> rule_for(const Guarded &g, const char *from, const char *to) {
  for (int i = 0; i < g.rule_count; ++i)
    if (same_text(g.rules[i].from, from) && same_text(g.rules[i].to, to)) return g.rules[i].allowed;
  return std::nullopt;
}

/// A change of status that the transitions do not allow.
void refuse(const RowEvent &event, const char *from, const char *to) {
  const Guarded &g = *event.table;
  const bool enforce = g.transitions == Transitions::kEnforce && g.mode == Mode::kGuard;
  const char *shown_from = from == nullptr ? "(new)" : psprintf("\"%s\"", shown(event, from));
  const char *shown_to = to == nullptr ? "NULL" : psprintf("\"%s\"", pg::sendable(to));
  const char *name = pg::sendable(g.name);
  ereport(enforce ? ERROR : WARNING, errcode(kIllegalTransition),
          errmsg("illegal transition of run %s of table %s: %s to %s", shown(event, key_of(event)), name, shown_from,
                 shown_to),
          to == nullptr           ? errdetail("A run must have a status.")
          : rule_for(g, from, to) ? errdetail("A rule set with allow_transition() forbids it.")
                                  : errdetail("A run that has ended does not start again."),
          to == nullptr || from == nullptr
              ? 0
              : errhint("Start a new run, or allow it: SELECT sync_guard.allow_transition(%s, %s, %s);",
                        quote_literal_cstr(name), quote_literal_cstr(shown(event, from)),
                        quote_literal_cstr(pg::sendable(to))));
}

HeapTuple judge_insert(const RowEvent &event) {
  const Guarded &g = *event.table;
  const char *status = text_of(event, event.after, g.status);
  const core::StatusKind kind = kind_of(g, status);
  const core::Meaning meaning = core::classify_insert(kind);
  note_judged(g, core::StatusKind::kUnknown, kind);
  if (meaning == core::Meaning::kIllegal) refuse(event, nullptr, status);
  return meaning != core::Meaning::kStart || g.mode == Mode::kObserve ? event.after : fill_start(event);
}

/// Observing: nothing is filled, refused or kept; what would have been is warned of, and a success after a verdict counts
/// as the guard's mistake. A run that was reaped before the table was only observed is no longer so when it changes.
HeapTuple observe_update(const RowEvent &event, const core::Change &change, const Standing &standing, const char *from,
                         const char *to) {
  const core::Meaning meaning = core::classify(change);
  if (meaning == core::Meaning::kIllegal) refuse(event, from, to);
  if (meaning == core::Meaning::kLateFinish)
    ereport(WARNING, errcode(ERRCODE_WARNING),
            errmsg("late finish of run %s of table %s, from \"%s\" to \"%s\": let through, the table is only observed",
                   shown(event, key_of(event)), pg::sendable(event.table->name), shown(event, from), pg::sendable(to)));
  if (standing.reaping == 0) return event.after;
  if (change.to == core::StatusKind::kTerminal)
    note(event, standing.observed ? Event::kLateFinish : Event::kOverturned, standing, to, true);
  else if (change.from == core::StatusKind::kTerminal) note(event, Event::kRetried, standing, nullptr, false);
  return event.after;
}

HeapTuple judge_update(const RowEvent &event) {
  const Guarded &g = *event.table;
  const char *from = text_of(event, event.before, g.status);
  const char *to = text_of(event, event.after, g.status);
  core::Change change;
  change.from = kind_of(g, from);
  change.to = kind_of(g, to);
  change.same_status = same_text(from, to);
  note_judged(g, change.from, change.to);
  change.outcome_changed = changed(event, g.end) || changed(event, g.duration) || changed(event, g.error);
  if (change.same_status && (!change.outcome_changed || change.from != core::StatusKind::kTerminal)) return event.after;
  const bool observing = g.mode == Mode::kObserve;
  Standing standing;
  if (change.from == core::StatusKind::kTerminal || observing) {
    const auto known = standing_at_once(g, key_of(event));
    // A failed run of which nobody can tell: what the guard has closed stays closed.
    change.closed_by_guard = known ? known->reaping != 0 && !known->observed : same_text(from, g.failed);
    standing = known.value_or(Standing{});
  }
  if (!change.same_status) change.rule = rule_for(g, from, to);

  if (observing) return observe_update(event, change, standing, from, to);
  const core::Meaning meaning = core::classify(change);
  switch (meaning) {
    case core::Meaning::kFinish: return fill_finish(event, GetCurrentTimestamp());
    case core::Meaning::kLateFinish:
      return late_finish(event, change.closed_by_guard ? standing : Standing{}, from, to);
    case core::Meaning::kIllegal: refuse(event, from, to); break;  // returns where transitions only warn
    case core::Meaning::kRetry: break;
    default:
      // allow_transition lets the pair through: where the guard had closed the run, it was overruled.
      if (change.closed_by_guard && !change.same_status) note(event, Event::kOverturned, standing, to, true);
      return change.to == core::StatusKind::kLive ? fill_start(event) : event.after;
  }
  const bool restarts = change.from == core::StatusKind::kTerminal && change.to == core::StatusKind::kLive;
  if (restarts) {
    if (change.closed_by_guard) note(event, Event::kRetried, standing, nullptr, false);
    return restart(event);
  }
  if (change.closed_by_guard) note(event, Event::kOverturned, standing, to, true);
  switch (change.to) {
    case core::StatusKind::kLive: return fill_start(event);
    case core::StatusKind::kTerminal: return fill_finish(event, GetCurrentTimestamp());
    default: return event.after;
  }
}

}  // namespace
}  // namespace esg

/// BEFORE INSERT OR UPDATE trigger of guarded tables.
ESG_SQL_FUNCTION(judge_row);

namespace esg {

static Datum judge_row(FunctionCallInfo fcinfo) {
  auto *trigger = checked_trigger(fcinfo, true);
  const bool update = TRIGGER_FIRED_BY_UPDATE(trigger->tg_event);
  const HeapTuple untouched = update ? trigger->tg_newtuple : trigger->tg_trigtuple;
  if (!update && !TRIGGER_FIRED_BY_INSERT(trigger->tg_event)) return PointerGetDatum(trigger->tg_trigtuple);
  const Guarded *g = overturning() ? nullptr : settings_for(trigger);
  if (g == nullptr) return PointerGetDatum(untouched);
  const RowEvent event = row_event(trigger, g);
  return PointerGetDatum(update ? judge_update(event) : judge_insert(event));
}

}  // namespace esg
