// What a session does for the leases that are bound to it: the canaries, the options of its socket, what happens at its end.
//
// A canary is a session-level lock of our own class in USER_LOCKMETHOD, keyed by the token: it outlives a rollback and goes
// with the session, pg_advisory_unlock_all or a pool's reset. before_shmem_exit notes which canaries are still there (the
// locks go right after), on_shmem_exit (the transaction is over there) tells memory of the death and asks for the worker.
#pragma once

#include "run_table.h"

namespace esg {

/// Registers the settings; at load.
void session_load();

/// Binds a lease to this session: takes its canary, registers the exit callbacks once, sets the socket's options.
/// False where somebody else holds the canary.
bool bind_session(const RunId &id, int64 token, Oid owner);

/// The lease is no more this session's once the current transaction commits: its canary goes, and with the last one the
/// socket's options are put back. Until then, and where it is rolled back, the lease is bound.
void unbind_session(int64 token);

/// This session has bound the lease and its canary is still there.
bool holds_canary(int64 token);

/// Some session holds the canary. Waits for nothing.
bool canary_is_held(int64 token);

/// At a sign of life: the socket's options are set again where a rollback took them back. Cheap.
void refresh_session();

/// Leases that this session has used, some thousands: from the token to the run, so that a beat needs no look at rows. Forgets old ones.
struct KnownLease {
  int64 token;
  RunId id;
  Oid user;    ///< who was found to have the right to it
  bool bound;  ///< to this session
};
KnownLease *known_lease(int64 token);
void know_lease(const KnownLease &lease);
void forget_lease(int64 token);

}  // namespace esg
