// Notifications, made and sent, or put into the outbox. Runs in the transaction of a reaping; NOTIFY itself is at its commit.
// Locks: those of rows of the outbox; it waits for none. See announce.h.

#include "announce.h"

#include <cmath>

#include "fault.h"
#include "load.h"
#include "pg/boundary.h"
#include "pg/identity.h"
#include "pg/spi.h"
#include "runs.h"

namespace esg {
namespace {

// ---- the payload -------------------------------------------------------------------------------------------------------------

// What a value may take of a payload as JSON, quotes and escapes included.
constexpr int kNameRoom = 500;
constexpr int kTableRoom = 1000;
constexpr int kKeyRoom = 1500;
constexpr int kTextRoom = 1500;
constexpr int kScopeRoom = 2400;
/// Field names, times, figures and words of the guard's own.
constexpr int kRestRoom = 400;
static_assert(kTableRoom + kKeyRoom + kScopeRoom + kTextRoom + kNameRoom + kRestRoom <= kMaxPayload, "a reaping fits");
static_assert(kTableRoom + kScopeRoom + 2 * kNameRoom + kTextRoom + kRestRoom <= kMaxPayload, "an alert fits");

struct Payload {
  StringInfoData json;
  bool cut = false;
};

constexpr int kMostEscaped = 6;

/// Bytes that a byte takes within a JSON string, at most.
int escaped(char byte) {
  if (byte == '"' || byte == '\\') return 2;
  return static_cast<unsigned char>(byte) < ' ' ? kMostEscaped : 1;
}

/// A JSON string of at most `room` bytes; what does not fit is cut off between two characters. Returns how many it took.
int put_string(Payload *payload, const char *text, int room) {
  const int before = payload->json.len;
  const auto length = static_cast<int>(strlen(text));
  int fits = length <= (room - 2) / kMostEscaped ? length : 0;
  for (int taken = 2; fits < length; ++fits) {
    taken += escaped(text[fits]);
    if (taken > room) break;
  }
  if (fits < length) {
    payload->cut = true;
    text = pnstrdup(text, pg_mbcliplen(text, length, fits));
  }
  escape_json(&payload->json, text);
  return payload->json.len - before;
}

void put_name(Payload *payload, const char *name) {
  if (payload->json.len > 1) appendStringInfoString(&payload->json, ", ");
  appendStringInfoChar(&payload->json, '"');
  appendStringInfoString(&payload->json, name);
  appendStringInfoString(&payload->json, "\": ");
}

void put_text(Payload *payload, const char *name, const char *text, int room) {
  put_name(payload, name);
  if (text == nullptr) appendStringInfoString(&payload->json, "null");
  else (void)put_string(payload, text, room);
}

void put_instant(Payload *payload, const char *name, core::Micros instant) {
  put_text(payload, name, iso_utc(instant), kRestRoom);
}

/// A number; null where JSON has none for it.
void put_number(Payload *payload, const char *name, double number) {
  put_name(payload, name);
  appendStringInfoString(&payload->json, std::isfinite(number)
                                             ? DatumGetCString(DirectFunctionCall1(float8out, Float8GetDatum(number)))
                                             : "null");
}

/// A scope: an object of texts and nulls. Columns with short values leave their room to the next.
void put_scope(Payload *payload, const Jsonb *scope) {
  put_name(payload, "scope");
  if (scope == nullptr || !JB_ROOT_IS_OBJECT(scope)) {
    appendStringInfoString(&payload->json, "null");
    return;
  }
  StringInfo json = &payload->json;
  int room = kScopeRoom - 2;
  int columns = static_cast<int>(JB_ROOT_COUNT(scope));
  int share = 0;
  const char *comma = "";
  appendStringInfoChar(json, '{');
  JsonbIterator *at = JsonbIteratorInit(const_cast<JsonbContainer *>(&scope->root));
  JsonbValue item;
  for (JsonbIteratorToken token; (token = JsonbIteratorNext(&at, &item, true)) != WJB_DONE;) {
    if (token == WJB_KEY) {
      share = room / columns--;
      appendStringInfoString(json, comma);
      const int taken = put_string(payload, pnstrdup(item.val.string.val, item.val.string.len), share / 2) + 4;
      appendStringInfoString(json, ": ");
      comma = ", ";
      share -= taken;
      room -= taken;
    } else if (token == WJB_VALUE) {
      const int before = json->len;
      const char *text = json_scalar_text(item);
      if (text == nullptr) appendStringInfoString(json, "null");
      else (void)put_string(payload, text, share);
      room -= json->len - before;
    }
  }
  appendStringInfoChar(json, '}');
}

Payload begin_payload(const char *event) {
  Payload payload;
  initStringInfo(&payload.json);
  appendStringInfoChar(&payload.json, '{');
  put_text(&payload, "event", event, kRestRoom);
  return payload;
}

const char *end_payload(Payload *payload) {
  if (payload->cut) {
    put_name(payload, "cut");
    appendStringInfoString(&payload->json, "true");
  }
  appendStringInfoChar(&payload->json, '}');
  if (payload->json.len > kMaxPayload) elog(ERROR, "a notification of %d bytes was made", payload->json.len);
  return payload->json.data;
}

/// How the payloads of one call begin.
Payload begin_reaping(const Entry &entry) {
  Payload payload = begin_payload(entry.event == Event::kWouldReap ? "would_reap" : "reaped");
  put_instant(&payload, "at", entry.at);
  put_text(&payload, "table", entry.table->name, kTableRoom);
  return payload;
}

/// One that goes on from what `begun` holds, which is left as it was.
const char *reaping_payload(Payload *begun, const Entry &entry, const Line &line, const char *role) {
  const Payload before = *begun;
  put_text(begun, "key", line.key, kKeyRoom);
  put_scope(begun, line.scope);
  put_text(begun, "verdict", line.verdict, kRestRoom);
  put_text(begun, "reason", line.reason, kTextRoom);
  put_text(begun, "path", entry.path, kRestRoom);
  put_text(begun, "role", role, kNameRoom);
  const char *payload = pstrdup(end_payload(begun));
  begun->json.len = before.json.len;
  begun->cut = before.cut;
  return payload;
}

const char *alert_payload(const AlertNotice &notice) {
  Payload payload = begin_payload(notice.raised ? "alert_raised" : "alert_cleared");
  put_instant(&payload, "at", notice.at);
  put_text(&payload, "rule", notice.rule, kNameRoom);
  put_text(&payload, "severity", notice.severity, kRestRoom);
  put_text(&payload, "table", notice.relation, kTableRoom);
  put_scope(&payload, notice.scope);
  put_text(&payload, "subject", notice.subject, kNameRoom);
  put_number(&payload, "figure", notice.figure);
  put_number(&payload, "threshold", notice.threshold);
  put_text(&payload, "unit", notice.unit, kRestRoom);
  put_text(&payload, "detail", notice.detail, kTextRoom);
  return end_payload(&payload);
}

// ---- sending -----------------------------------------------------------------------------------------------------------------

constexpr int kBatch = 1000;
constexpr int64 kMostWaiting = 10000;

/// The caller may PREPARE this transaction.
bool may_be_prepared = false;

/// What this transaction has to send already, by what it takes of the queue at most.
struct {
  FullTransactionId transaction;
  double bytes;
} pending;

/// The share of the server's queue that is in use, by others.
double share_in_use() { return DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, Datum(0))); }

/// Whether a notification may be sent, with that share in use by others.
bool may_send(double in_use) {
  if (!notify_enabled() || may_be_prepared) return false;
  const bool counted = FullTransactionIdEquals(pending.transaction, GetTopFullTransactionIdIfAny());
  const double ours = counted ? pending.bytes / BLCKSZ / pg::notify_queue_pages_compat() : 0;
  return in_use + ours <= notify_queue_limit();
}

void send(const char *payload) {
  const FullTransactionId transaction = GetTopFullTransactionId();
  if (!FullTransactionIdEquals(pending.transaction, transaction)) pending = {transaction, 0};
  // No page holds a part of one, so up to half of each may be lost.
  pending.bytes += 2 * static_cast<double>(strlen(payload) + 64);
  Async_Notify(kChannel, payload);
}

void put_into_outbox(const char *const *payloads, int count) {
  pg::Statement insert(
      "INSERT INTO sync_guard.outbox (payload)"
      " SELECT p.payload FROM pg_catalog.unnest($1) WITH ORDINALITY AS p (payload, n) ORDER BY p.n");
  insert.add(TEXTARRAYOID, pg::text_array(payloads, count));
  const pg::Identity before = pg::become_extension_owner();
  pg::spi_execute(insert);
  pg::restore(before);
}

/// Sends these, or leaves them to a sweep.
void deliver(const char *const *payloads, int count, bool at_once) {
  const double in_use = at_once ? share_in_use() : 1;
  int sent = 0;
  while (at_once && sent < count && may_send(in_use)) send(payloads[sent++]);
  if (sent < count) put_into_outbox(payloads + sent, count - sent);
}

/// Runs `work`, whose failure is nobody's but its own.
template <typename Work>
void attempt(const Work &work) {
  const ErrorData *error = pg::try_in_subtransaction(work);
  if (error == nullptr) return;
  ereport(LOG, errcode(error->sqlerrcode), errmsg("could not announce what happened to runs: %s", error->message));
}

/// The payloads that wait, at most kBatch, locked; their ids too.
struct Waiting {
  const char **payloads;
  Datum *ids;
  int count;
};

Waiting lock_waiting() {
  const pg::Statement query(
      "SELECT o.id, o.payload FROM sync_guard.outbox AS o ORDER BY o.id LIMIT 1000 FOR UPDATE SKIP LOCKED");
  const MemoryContext context = CurrentMemoryContext;
  Waiting waiting{static_cast<const char **>(palloc(sizeof(char *) * kBatch)),
                  static_cast<Datum *>(palloc(sizeof(Datum) * kBatch)), 0};
  pg::spi_begin();
  const uint64 rows = pg::spi_run(query, pg::Access::kWrite, kBatch);
  for (uint64 i = 0; i < rows; ++i) {
    bool is_null;
    waiting.ids[i] = Int64GetDatum(DatumGetInt64(pg::spi_datum(i, 1, &is_null)));
    waiting.payloads[i] = pg::spi_text(i, 2, context);
  }
  waiting.count = static_cast<int>(rows);
  pg::spi_end();
  return waiting;
}

/// Sends a batch of what waits. False: there is no more, or no more may be sent.
bool send_batch() {
  const double in_use = share_in_use();
  if (!may_send(in_use)) return false;
  Waiting waiting = lock_waiting();
  int sent = 0;
  while (sent < waiting.count && may_send(in_use)) send(waiting.payloads[sent++]);
  if (sent == 0) return false;
  ESG_FAULT_POINT("announce.outbox_sent");
  pg::Statement forget("DELETE FROM sync_guard.outbox AS o WHERE o.id OPERATOR(pg_catalog.=) ANY ($1)");
  forget.add(INT8ARRAYOID,
             PointerGetDatum(construct_array(waiting.ids, sent, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE)));
  pg::spi_execute(forget);
  return sent == kBatch;
}

void drop_oldest() {
  pg::Statement drop(
      "DELETE FROM sync_guard.outbox AS o WHERE o.id OPERATOR(pg_catalog.<=) (SELECT x.id FROM sync_guard.outbox AS x"
      " ORDER BY x.id DESC OFFSET $1 LIMIT 1)");
  drop.add(INT8OID, Int64GetDatum(kMostWaiting));
  const uint64 dropped = pg::spi_execute(drop);
  if (dropped > 0)
    ereport(LOG, errmsg("dropped the oldest " UINT64_FORMAT " notifications of the outbox", dropped),
            errdetail("More than " INT64_FORMAT " were waiting to be sent.", kMostWaiting),
            errhint("Sweeps send them unless emag_sync_guard.notify is off. The journal has every reaping."));
}

}  // namespace

void begin_announcing() { may_be_prepared = IsTransactionBlock() && max_prepared_xacts > 0; }

void announce_reaped(const Entry &entry, const Line *lines, int count) {
  if (count == 0) return;
  bool at_once = false;
  for (const char *path : {"call", "pg_cron", "worker"}) at_once = at_once || strcmp(entry.path, path) == 0;
  attempt([&] {
    auto **payloads = static_cast<const char **>(palloc(sizeof(char *) * count));
    Payload begun = begin_reaping(entry);
    const char *role = GetUserNameFromId(entry.role, false);
    for (int i = 0; i < count; ++i) payloads[i] = reaping_payload(&begun, entry, lines[i], role);
    ESG_FAULT_POINT("announce.payloads_made");
    deliver(payloads, count, at_once);
  });
}

void announce_alert(const AlertNotice &notice) {
  attempt([&] {
    const char *payload = alert_payload(notice);
    deliver(&payload, 1, true);
  });
}

void send_outbox() {
  const pg::Identity before = pg::become_extension_owner();
  while (send_batch()) CHECK_FOR_INTERRUPTS();
  drop_oldest();
  pg::restore(before);
}

}  // namespace esg
