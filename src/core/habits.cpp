// The words and their comparison. Pure; see habits.h.

#include "core/habits.h"

#include <algorithm>

namespace esg::core {
namespace {

template <std::size_t N>
constexpr Words words(const std::string_view (&items)[N]) noexcept {
  return {items, N};
}

constexpr std::string_view kKey[] = {"id", "run_id", "sync_id", "job_id", "runid", "key", "uuid", "guid", "pk"};
constexpr std::string_view kStatus[] = {"status", "state", "sync_status", "run_status", "job_status"};
constexpr std::string_view kStart[] = {"started_at", "start_time", "started",    "start_at",   "started_on",
                                       "begun_at",   "began_at",   "begin_time", "start_date", "created_at",
                                       "created_on", "created",    "inserted_at"};
constexpr std::string_view kEnd[] = {"completed_at", "finished_at", "ended_at",     "end_time",    "finish_time",
                                     "end_at",       "stopped_at",  "completed_on", "finished_on", "ended_on",
                                     "completed",    "finished",    "ended",        "end_date",    "done_at"};
constexpr std::string_view kDuration[] = {
    "duration_seconds",      "duration_secs", "duration_sec",    "duration_s", "duration_ms",
    "duration_milliseconds", "duration",      "elapsed_seconds", "elapsed_ms", "elapsed",
    "runtime_seconds",       "runtime_ms",    "runtime",         "run_time",   "execution_time_ms",
    "execution_time",        "took_ms"};
constexpr std::string_view kError[] = {"errors",     "error_message", "error",          "error_messages", "error_msg",
                                       "error_text", "error_details", "error_detail",   "error_info",     "error_log",
                                       "last_error", "error_sample",  "failure_reason", "return_message"};
constexpr std::string_view kActivity[] = {"heartbeat_at", "last_heartbeat_at", "last_heartbeat", "heartbeat",
                                          "last_beat_at", "last_beat",         "last_seen_at",   "last_seen",
                                          "last_ping_at", "last_ping",         "last_alive_at",  "alive_at"};
constexpr std::string_view kUpdated[] = {"updated_at",   "modified_at",   "last_updated_at", "last_modified_at",
                                         "last_updated", "last_modified", "updated_on",      "modified_on",
                                         "updated",      "modified",      "date_modified",   "changed_at"};
constexpr std::string_view kDone[] = {"processed_items", "items_processed",   "processed",         "processed_rows",
                                      "rows_processed",  "processed_records", "records_processed", "processed_count",
                                      "done_items",      "items_done",        "completed_items",   "done"};
constexpr std::string_view kTotal[] = {"total_items",   "items_total", "total_rows",     "rows_total", "total_records",
                                       "records_total", "total_count", "expected_items", "total"};
constexpr std::string_view kScopeKind[] = {"sync_type", "import_type",  "export_type", "job_type",    "task_type",
                                           "run_type",  "etl_type",     "job_name",    "task_name",   "pipeline_name",
                                           "pipeline",  "dataset_name", "dataset",     "source_name", "data_source",
                                           "source",    "jobid",        "job_id",      "schedule_id"};
constexpr std::string_view kScopeParty[] = {"account_type",    "account_id", "account", "tenant_id",
                                            "tenant",          "store_id",   "shop_id", "merchant_id",
                                            "organization_id", "customer_id"};
constexpr std::string_view kOperation[] = {"operation", "operation_type", "sync_mode",   "mode",
                                           "action",    "command",        "import_type", "sync_type",
                                           "job_name",  "task_name",      "source_name", "name"};
constexpr std::string_view kDoneVerbs[] = {"processed", "done", "fetched", "synced", "imported", "exported", "handled"};
constexpr std::string_view kWorking[] = {"running", "in_progress", "processing", "started",   "working", "executing",
                                         "active",  "syncing",     "importing",  "exporting", "ongoing", "busy"};
constexpr std::string_view kWaiting[] = {"starting", "initializing", "connecting", "sending", "retrying", "finishing",
                                         "stopping", "cancelling",   "canceling",  "pending", "queued",   "waiting"};
constexpr std::string_view kResting[] = {
    "pending",     "queued",    "waiting",     "scheduled",   "received",  "retry",       "paused",     "suspended",
    "on_hold",     "held",      "hold",        "blocked",     "new",       "created",     "draft",      "ready",
    "planned",     "submitted", "accepted",    "deferred",    "delayed",   "enqueued",    "requested",  "assigned",
    "unassigned",  "reserved",  "claimed",     "idle",        "open",      "todo",        "initial",    "init",
    "initialized", "initiated", "registered",  "prepared",    "preparing", "prioritized", "dispatched", "postponed",
    "throttled",   "sleeping",  "stalled",     "pausing",     "resuming",  "resumed",     "restarting", "retryable",
    "rescheduled", "available", "not_started", "up_for_retry"};
constexpr std::string_view kFailed[] = {"failed",  "error",       "failure", "fail",      "errored",
                                        "crashed", "interrupted", "aborted", "timed_out", "timeout"};

constexpr char lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
constexpr bool is_upper(char c) noexcept { return c >= 'A' && c <= 'Z'; }
constexpr bool is_lower(char c) noexcept { return c >= 'a' && c <= 'z'; }
constexpr bool separates(char c) noexcept { return c == '_' || c == '-' || c == ' '; }

std::size_t skip_separators(std::string_view text, std::size_t at) noexcept {
  while (at < text.size() && separates(text[at])) ++at;
  return at;
}

/// How much of `name` is needed to spell the whole of `word`; npos where it does not begin with it.
std::size_t spell(std::string_view name, std::string_view word) noexcept {
  std::size_t at = 0;
  for (std::size_t i = skip_separators(word, 0); i < word.size(); i = skip_separators(word, i + 1)) {
    at = skip_separators(name, at);
    if (at == name.size() || lower(name[at]) != lower(word[i])) return std::string_view::npos;
    ++at;
  }
  return at;
}

/// Whether a new word begins at `at`, which is inside `name`.
bool word_begins(std::string_view name, std::size_t at) noexcept {
  return separates(name[at]) || separates(name[at - 1]) || (is_upper(name[at]) && !is_upper(name[at - 1]));
}

}  // namespace

Words key_names() noexcept { return words(kKey); }
Words status_names() noexcept { return words(kStatus); }
Words start_names() noexcept { return words(kStart); }
Words end_names() noexcept { return words(kEnd); }
Words duration_names() noexcept { return words(kDuration); }
Words error_names() noexcept { return words(kError); }
Words activity_names() noexcept { return words(kActivity); }
Words updated_names() noexcept { return words(kUpdated); }
Words done_names() noexcept { return words(kDone); }
Words total_names() noexcept { return words(kTotal); }
Words scope_kind_names() noexcept { return words(kScopeKind); }
Words scope_party_names() noexcept { return words(kScopeParty); }
Words operation_names() noexcept { return words(kOperation); }
Words done_verbs() noexcept { return words(kDoneVerbs); }
Words working_statuses() noexcept { return words(kWorking); }
Words waiting_statuses() noexcept { return words(kWaiting); }
Words resting_statuses() noexcept { return words(kResting); }
Words failed_statuses() noexcept { return words(kFailed); }

bool same_word(std::string_view name, std::string_view word) noexcept {
  const std::size_t used = spell(name, word);
  return used != std::string_view::npos && skip_separators(name, used) == name.size();
}

bool is_word_of(std::string_view name, Words words) noexcept {
  return std::any_of(words.begin(), words.end(), [name](std::string_view word) { return same_word(name, word); });
}

bool ends_in_word(std::string_view name, std::string_view word) noexcept {
  for (std::size_t at = 1; at < name.size(); ++at)
    if (word_begins(name, at) && same_word(name.substr(at), word)) return true;
  return false;
}

bool begins_with_word(std::string_view name, std::string_view word) noexcept {
  const std::size_t used = spell(name, word);
  return used != std::string_view::npos && used > 0 && used < name.size() && word_begins(name, used);
}

char *in_style_of(std::string_view sample, std::string_view word, char *out, std::size_t size) noexcept {
  bool any_lower = false;
  bool any_upper = false;
  for (const char c : sample) {
    any_lower = any_lower || is_lower(c);
    any_upper = any_upper || is_upper(c);
  }
  const bool capital = !sample.empty() && is_upper(sample[0]);
  std::size_t length = 0;
  for (; length < word.size() && length + 1 < size; ++length) {
    const char c = word[length];
    const bool raise = is_lower(c) && (length == 0 ? capital : any_upper && !any_lower);
    out[length] = raise ? static_cast<char>(c - 'a' + 'A') : c;
  }
  if (size > 0) out[length] = '\0';
  return out;
}

}  // namespace esg::core
