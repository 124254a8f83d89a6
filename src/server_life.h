// This life of the server: since when it runs, the clock that does not step, whether it is stopping; and the shared memory
// that lives as long.
//
// A life begins at the server's start, at a crash restart (the shared memory is made anew) and at a promotion. What memory
// knew of signs of life before is gone.
#pragma once

#include "pg/prelude.h"

namespace esg {

/// At load, while libraries are preloaded: asks for the shared memory of every object and registers the hooks.
void server_life_load();

/// There is shared memory: the library is in shared_preload_libraries.
bool have_memory() noexcept;

/// The monotonic clock, in microseconds: it stands still for no step of the server's clock and goes with none.
int64 monotonic_now() noexcept;

/// Two readings taken together, to turn monotonic readings into instants. Taken once per call: where one is older than the other,
/// as by a sweep's work on the tables before, the start of this life moves against what rows and leases say.
struct Clock {
  core::Micros now;
  int64 monotonic;

  /// The instant of a monotonic reading, as seen from now: one that was taken since is of now.
  [[nodiscard]] core::Micros instant(int64 reading) const noexcept { return now - Max(monotonic - reading, 0); }
};

/// Both clocks, read now.
Clock clock_now() noexcept;

/// When this life began, seen from the clock; absent on a standby (nothing was lost yet: see RecoveryInProgress). Without
/// shared memory: the start of the postmaster.
std::optional<core::Micros> life_began(const Clock &clock);

/// The server has been told to stop (smart or fast), by its own status file: the ends of sessions tell nothing then. Safe in
/// an exit callback: no allocation, no error.
bool server_is_stopping() noexcept;

}  // namespace esg
