// Taking a lease and coming back to one: its row, its entry in memory, its session. Shared by start_sync, take_lease and by
// what a sign of life finds when this session does not know its token yet.
#pragma once

#include "session.h"
#include "token.h"

namespace esg {

/// What a caller promises, and under whose name.
struct Terms {
  std::optional<core::Micros> ttl;
  bool bind_session = false;
  const char *worker = nullptr;
  const char *incarnation = nullptr;
};

/// Checks the arguments ttl, bind_session, worker and incarnation, which follow each other from `first` on.
/// ERROR SY006: a ttl that is zero, negative, infinite or beyond all measure; an empty name; an incarnation of nobody.
Terms terms_arguments(FunctionCallInfo fcinfo, int first);

/// Takes the lease of a live run whose row is this transaction's or locked by it; with `held`, comes back to that one, on these
/// terms. Returns its token. Where the session cannot be bound it becomes a heartbeat lease, with a NOTICE.
/// ERROR 55P03 where another transaction has the lease's row locked.
int64 attach(const Guarded &g, const RowFacts &facts, const Terms &terms, const Lease *held);

/// Whether a run that gives a sign of life comes back to life: it is dead by the evidence that was read (the fence of who asks
/// does not speak for it). Another run may have its place by now.
bool needs_its_scope(const Run &run);

/// Gives such a run its scope. ERROR SY002 where another one has it.
void regain_scope(const Guarded &g, const RowFacts &facts);

/// A sign of life of a live run, by its lease's row: for a session that does not know the token. From then on it does.
/// False: the run has ended meanwhile.
bool sign_of_life(const Holding &holding, const int64 *done, const int64 *total);

/// The lease is bound to its session no more: a heartbeat lease from here on.
void unbind(KnownLease *known);

}  // namespace esg
