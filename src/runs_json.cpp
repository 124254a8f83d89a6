// Runs as JSON and in words: for the journal, for APIs and for people. See runs.h.

#include "runs.h"

namespace esg {
namespace {

void append_json_field(StringInfo json, const char *name) {
  if (json->len > 1) appendStringInfoString(json, ", ");
  escape_json(json, name);
  appendStringInfoString(json, ": ");
}

void append_instant(StringInfo json, const char *name, const std::optional<core::Micros> &instant) {
  append_json_field(json, name);
  if (instant) escape_json(json, iso_utc(*instant));
  else appendStringInfoString(json, "null");
}

int64 absolute(int64 value) { return value < 0 ? -value : value; }

/// A span in seconds, to the millisecond.
void append_seconds(StringInfo json, const char *name, const std::optional<core::Micros> &span) {
  append_json_field(json, name);
  if (!span) return appendStringInfoString(json, "null");
  const int64 ms = *span / 1000;
  appendStringInfo(json, "%s" INT64_FORMAT ".%03d", ms < 0 ? "-" : "", absolute(ms / 1000),
                   static_cast<int>(absolute(ms % 1000)));
}

Jsonb *parse_jsonb(const char *text) { return DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(text))); }

void append_number(StringInfo json, const char *name, int64 value) {
  append_json_field(json, name);
  appendStringInfo(json, INT64_FORMAT, value);
}

void append_string(StringInfo json, const char *name, const char *value) {
  append_json_field(json, name);
  escape_json(json, value);
}

/// What is known of the run beside its row.
void append_lease(StringInfo json, const Run &run) {
  const core::Evidence &evidence = run.evidence;
  if (evidence.progress_changed) append_instant(json, "progress_changed", evidence.progress_changed);
  if (run.token == 0) return;
  append_number(json, "token", run.token);
  append_string(json, "lease", evidence.lease.kind == core::LeaseKind::kSessionBound ? "session" : "heartbeat");
  append_seconds(json, "ttl_seconds", evidence.lease.ttl);
  if (run.worker != nullptr) append_string(json, "worker", run.worker);
  if (run.memory != nullptr && run.memory->token == run.token)
    append_number(json, "session_pid", run.memory->session_pid);
  if (run.fence_pid > 0) append_number(json, "fenced_by_pid", run.fence_pid);
}

}  // namespace

char *iso_utc(core::Micros instant) {
  struct pg_tm tm;
  fsec_t fsec;
  int offset;
  if (timestamp2tm(instant, &offset, &tm, &fsec, nullptr, pg_tzset("UTC")) != 0) return pstrdup("out of range");
  return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06d+00:00", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min,
                  tm.tm_sec, static_cast<int>(fsec));
}

Jsonb *scope_json(const Guarded &g, const core::Scope &scope) {
  if (g.scope_count == 0) return nullptr;
  StringInfoData json;
  initStringInfo(&json);
  appendStringInfoChar(&json, '{');
  for (int i = 0; i < g.scope_count; ++i) {
    append_json_field(&json, g.scope[i].name);
    if (scope.values[i]) escape_json(&json, scope.values[i]->data());
    else appendStringInfoString(&json, "null");
  }
  appendStringInfoChar(&json, '}');
  return parse_jsonb(json.data);
}

Jsonb *evidence_json(const Guarded &g, const Run &run, const core::Question &question) {
  const auto since = [&question](const std::optional<core::Micros> &instant) -> std::optional<core::Micros> {
    if (!instant) return std::nullopt;
    return question.now - *instant;
  };
  const auto last_sign = core::last_sign_of_life(run.evidence);
  StringInfoData json;
  initStringInfo(&json);
  appendStringInfoChar(&json, '{');
  append_json_field(&json, "status");
  escape_json(&json, run.status);
  append_instant(&json, "judged_at", question.now);
  append_instant(&json, "started_at", run.started);
  append_seconds(&json, "age_seconds", since(run.started));
  append_instant(&json, "last_sign_of_life", last_sign);
  append_seconds(&json, "silence_seconds", since(last_sign));
  if (g.done.exists()) {
    append_json_field(&json, "done");
    if (run.done) appendStringInfo(&json, INT64_FORMAT, *run.done);
    else appendStringInfoString(&json, "null");
  }
  if (g.total.exists()) {
    append_json_field(&json, "total");
    if (run.total) appendStringInfo(&json, INT64_FORMAT, *run.total);
    else appendStringInfoString(&json, "null");
  }
  append_lease(&json, run);
  if (run.evidence.passed_over) append_instant(&json, "passed_over_at", run.evidence.passed_over);
  if (run.evidence.server_started) append_instant(&json, "server_started", run.evidence.server_started);
  append_json_field(&json, "rule");
  appendStringInfo(&json, "%d", run.judgement.rule);
  append_seconds(&json, "measured_seconds", run.judgement.measured);
  append_seconds(&json, "limit_seconds", run.judgement.limit);
  appendStringInfoChar(&json, '}');
  return parse_jsonb(json.data);
}

char *why_of(const Run &run) {
  char words[160];
  core::describe(run.judgement, words, sizeof words);
  const char *note = note_on(run);
  if (note == nullptr) return pstrdup(words);
  return psprintf(run.judgement.verdict == core::Verdict::kFenced ? "%s (%s)" : "%s; %s", words, note);
}

char *note_on(const Run &run) {
  if (run.judgement.verdict == core::Verdict::kFenced)
    return run.fence_pid > 0 ? psprintf("pid %d", run.fence_pid) : pstrdup("a prepared transaction");
  if (run.lease_unknown)
    return pstrdup("this is a standby: the signs of life of its lease are known to the primary only");
  if (!run.uncommitted) return nullptr;
  const char *whose =
      run.writer_pid > 0 ? psprintf("the transaction of pid %d", run.writer_pid) : "a prepared transaction";
  return psprintf(run.judgement.dead() ? "abandoned: %s is still open, and until it ends nobody can close the run"
                                       : "not committed yet by %s",
                  whose);
}

char *reason_of(const Guarded &g, const Run &run) {
  char words[160];
  core::describe(run.judgement, words, sizeof words);
  // What heartbeats told of it may be lost, with memory or between two beats that were written: its 0 proves nothing.
  const bool beats_lost = run.token != 0 && run.memory == nullptr;
  return psprintf("%s: %s", core::default_reason(g.done.exists() && !beats_lost ? run.done : std::nullopt), words);
}

}  // namespace esg
