// Runs as JSON and in words: for the journal, for APIs and for people. See runs.h.

#include "runs.h"

namespace esg {
namespace {

/// A jsonb object that is being put together.
class Object {
 public:
  Object() { push(WJB_BEGIN_OBJECT, nullptr); }

  Object &add_null(const char *name) {
    JsonbValue value;
    value.type = jbvNull;
    return add(name, &value);
  }
  Object &add_text(const char *name, const char *text) { return add_text(name, text, strlen(text)); }
  Object &add_text(const char *name, const char *text, std::size_t length) {
    JsonbValue value;
    value.type = jbvString;
    value.val.string.val = const_cast<char *>(text);
    value.val.string.len = static_cast<int>(length);
    return add(name, &value);
  }
  Object &add_number(const char *name, int64 number) { return add_numeric(name, int64_to_numeric(number)); }
  Object &add_number(const char *name, const std::optional<int64> &number) {
    return number ? add_number(name, *number) : add_null(name);
  }
  Object &add_instant(const char *name, const std::optional<core::Micros> &instant) {
    return instant ? add_text(name, iso_utc(*instant)) : add_null(name);
  }
  /// A span in seconds, to the millisecond.
  Object &add_seconds(const char *name, const std::optional<core::Micros> &span) {
    return span ? add_numeric(name, int64_div_fast_to_numeric(*span / 1000, 3)) : add_null(name);
  }

  Jsonb *finish() {
    push(WJB_END_OBJECT, nullptr);
    return JsonbValueToJsonb(state_.result);
  }

 private:
  pg::JsonbInStateCompat state_{};

  void push(JsonbIteratorToken token, JsonbValue *value) { pg::push_jsonb_value_compat(&state_, token, value); }
  Object &add(const char *name, JsonbValue *value) {
    JsonbValue key;
    key.type = jbvString;
    key.val.string.val = const_cast<char *>(name);
    key.val.string.len = static_cast<int>(strlen(name));
    push(WJB_KEY, &key);
    push(WJB_VALUE, value);
    return *this;
  }
  Object &add_numeric(const char *name, Numeric number) {
    JsonbValue value;
    value.type = jbvNumeric;
    value.val.numeric = number;
    return add(name, &value);
  }
};

/// Writes `value` with so many digits; returns behind them.
char *put_digits(char *out, int value, int digits) {
  for (int i = digits - 1; i >= 0; --i, value /= 10) out[i] = static_cast<char>('0' + value % 10);
  return out + digits;
}

}  // namespace

char *iso_utc(core::Micros instant) {
  struct pg_tm tm;
  fsec_t fsec;
  if (timestamp2tm(instant, nullptr, &tm, &fsec, nullptr, nullptr) != 0) return pstrdup("out of range");
  const bool usual = tm.tm_year >= 0 && tm.tm_year <= 9999;
  char *text = usual ? static_cast<char *>(palloc(sizeof "2000-01-01T00:00:00.000000+00:00")) : nullptr;
  if (!usual)
    return psprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06d+00:00", tm.tm_year, tm.tm_mon, tm.tm_mday, tm.tm_hour,
                    tm.tm_min, tm.tm_sec, static_cast<int>(fsec));
  char *at = put_digits(text, tm.tm_year, 4);
  const struct {
    char before;
    int value;
  } parts[] = {{'-', tm.tm_mon}, {'-', tm.tm_mday}, {'T', tm.tm_hour}, {':', tm.tm_min}, {':', tm.tm_sec}};
  for (const auto &part : parts) {
    *at++ = part.before;
    at = put_digits(at, part.value, 2);
  }
  *at++ = '.';
  static constexpr char kUtc[] = "+00:00";
  memcpy(put_digits(at, static_cast<int>(fsec), 6), kUtc, sizeof kUtc);
  return text;
}

Jsonb *scope_json(const Guarded &g, const core::Scope &scope) {
  if (g.scope_count == 0) return nullptr;
  Object object;
  for (int i = 0; i < g.scope_count; ++i) {
    const core::ScopeValue &value = scope.values[i];
    if (value) object.add_text(g.scope[i].name, value->data(), value->size());
    else object.add_null(g.scope[i].name);
  }
  return object.finish();
}

Jsonb *evidence_json(const Guarded &g, const Run &run, const core::Question &question) {
  const auto since = [&question](const std::optional<core::Micros> &instant) -> std::optional<core::Micros> {
    if (!instant) return std::nullopt;
    return question.now - *instant;
  };
  const core::Evidence &evidence = run.evidence;
  const auto last_sign = core::last_sign_of_life(evidence);
  const bool leased = run.token != 0;
  const bool lease_in_memory = leased && run.memory != nullptr && run.memory->token == run.token;
  // In the order in which jsonb keeps them, by the lengths of their names: that saves the sorting.
  Object object;
  if (g.done.exists()) object.add_number("done", run.done);
  object.add_number("rule", run.judgement.rule);
  if (leased)
    object.add_text("lease", evidence.lease.kind == core::LeaseKind::kSessionBound ? "session" : "heartbeat")
        .add_number("token", run.token);
  if (g.total.exists()) object.add_number("total", run.total);
  object.add_text("status", run.status);
  if (leased && run.worker != nullptr) object.add_text("worker", run.worker);
  object.add_instant("judged_at", question.now)
      .add_instant("started_at", run.started)
      .add_seconds("age_seconds", since(run.started));
  if (lease_in_memory) object.add_number("session_pid", run.memory->session_pid);
  if (leased) object.add_seconds("ttl_seconds", evidence.lease.ttl);
  if (leased && run.fence_pid > 0) object.add_number("fenced_by_pid", run.fence_pid);
  object.add_seconds("limit_seconds", run.judgement.limit);
  if (evidence.passed_over) object.add_instant("passed_over_at", evidence.passed_over);
  if (evidence.server_started) object.add_instant("server_started", evidence.server_started);
  object.add_seconds("silence_seconds", since(last_sign)).add_seconds("measured_seconds", run.judgement.measured);
  if (evidence.progress_changed) object.add_instant("progress_changed", evidence.progress_changed);
  object.add_instant("last_sign_of_life", last_sign);
  return object.finish();
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
