// The worker's own side of its requests; for worker.cpp. See worker.h for who asks.
#pragma once

#include "worker.h"

namespace esg {

/// What a worker has taken on.
struct Job {
  Oid database;
  Oid owner;   ///< InvalidOid: there is nothing to do
  int64 upto;  ///< requests up to this one
  bool sweep;
};

/// A worker begins: it takes what is open in the slot, unless another one has it.
Job begin_job(int number);

/// After a pass. `done`: nothing is left of it. Takes on what was asked for meanwhile. False: it was done and there is nothing
/// more; the worker has given the slot back under the same lock and must go.
bool go_on(int number, Job *job, bool done);

/// The worker goes, with or without having served what it took on; it asks for those that were refused a slot before. Safe in
/// an exit callback.
void end_job(int number, bool served) noexcept;

}  // namespace esg
