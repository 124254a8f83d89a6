// Notifications: every reaping, every alert that is raised or cleared, as JSON on one channel. docs/notifications.md tells what
// is in them, docs/schema/notification.schema.json says it in full.
//
// NOTIFY keeps a transaction from being prepared and makes commits queue, and a commit fails where the server's queue is full:
// only sweeps (reap_stale_syncs) and the worker on demand send. What is reaped on other paths (start_sync, worker_started), by a
// sweep whose transaction may yet be prepared, with emag_sync_guard.notify off, or while the server's queue is filled above
// emag_sync_guard.notify_queue_limit goes to sync_guard.outbox, from where the next sweep sends it.
#pragma once

#include "journal.h"

namespace esg {

constexpr const char *kChannel = "emag_sync_guard";
/// The server refuses payloads of 8000 bytes and more.
constexpr int kMaxPayload = 7900;

/// An alert's notification.
struct AlertNotice {
  bool raised;  ///< else cleared
  const char *rule;
  const char *severity;
  const char *relation;  ///< qualified name; null: about no table
  const Jsonb *scope;    ///< may be null
  const char *subject;   ///< may be null
  core::Micros at;
  double figure;
  double threshold;
  const char *unit;
  const char *detail;
};

/// At the head of a sweep, where it still shows whether the transaction is a block of the caller's own, who may PREPARE it.
void begin_announcing();

/// Announces runs that were reaped (in observe mode: would have been), from what was written to the journal. What fails here is
/// told in the server's log and fails no reaping.
void announce_reaped(const Entry &entry, const Line *lines, int count);

/// Announces an alert; for sweeps. What fails here is told in the server's log.
void announce_alert(const AlertNotice &notice);

/// Sends what waits in the outbox, oldest first; for sweeps. Rows that another sweep sends are left to it. Where more than 10000
/// are left waiting the oldest are dropped.
void send_outbox();

}  // namespace esg
