/* An exclusive scope: two starters and a ghost, a run whose worker fell silent and may come back by a heartbeat, an UPDATE, a
 * fence or a late end. How many runs of the scope live at one instant?
 *
 * Runs: 0 the ghost's, 1 and 2 the starters'. What the ghost promises lapses with time; memory may know that limit (a
 * heartbeat lease's ttl) or not (max_silence, max_stall, a bound lease). The starters' runs live until they end.
 */
#include "guard.h"

#define seen_start 1
#define seen_refused_by_lock 2
#define seen_refused_by_row 3
#define seen_ghost_passed_over 4
#define seen_ghost_comes_back 5
#define seen_ghost_refused 6
#define seen_sign_while_judged 7
#define seen_rollback 8
#define seen_both_in_turn 9
#define seen_fence_keeps_scope 10
#define seen_late_end 11
#define seen_ghost_reaped 12

#ifndef TURNS
#define TURNS 1
#endif
#ifndef SIGNS
#define SIGNS 2
#endif

bool promise_one_live, promise_one_commits;

/* Committed rows. (Of those of open transactions the scope's lock tells.) */
byte status[3];
byte ever_started;
/* Who holds the lock of the scope's atom (src/exclusive.cpp: lock_atom). */
byte scope_lock = NOBODY;
byte ghost_row_lock = NOBODY;
/* The ghost's entry in memory. */
bool lapsed, passed_over, memory_knows_limit;
byte sign;
/* The ghost's worker holds the fence's lock on its token. */
bool fenced;

/* src/run_table.cpp: sign_of_life */
#ifndef NO_PASSING_OVER
#define sign_of_life() if :: passed_over -> skip :: else -> lapsed = false; sign++ fi
#else
#define sign_of_life() lapsed = false; sign++
#endif

/* src/core/verdict.cpp: judge, src/liveness.cpp: add_fence: a fence makes no run live that was passed over. */
#ifdef FENCE_ALWAYS_LIVE
#define ghost_lives (status[0] == RUNNING && (!lapsed || fenced))
#else
#define ghost_lives (status[0] == RUNNING && (!lapsed || (fenced && !passed_over)))
#endif
#define lives(run) (status[run] == RUNNING)

active proctype Time() {
end:
  do
  :: atomic { status[0] == RUNNING && !lapsed -> lapsed = true }
  od
}

/* At any instant. */
active proctype Oracle() {
end:
  atomic {
    (ghost_lives && (lives(1) || lives(2))) || (lives(1) && lives(2)) ->
    PROMISE(one_live, false)
  }
}

/* src/exclusive.cpp: claim_scope for run `me`: the lock by a try, then memory, then the rows by the latest snapshot. */
inline claim(me, got) {
#ifndef NO_TRY_LOCK
  atomic {
    if
    :: scope_lock == NOBODY || scope_lock == _pid -> scope_lock = _pid; got = true
    :: else -> SEEN(seen_refused_by_lock); got = false
    fi
  };
#else
  got = true;
#endif
  if
  :: got ->
    /* src/liveness.cpp: gather_knowledge, src/runs.cpp: read_runs, append_uncommitted. */
    atomic { copy_lapsed = lapsed; copy_sign = sign; copy_passed = passed_over };
#ifndef OLD_SNAPSHOT
    atomic { snap[0] = status[0]; snap[1] = status[1]; snap[2] = status[2] };
#endif
    copy_fenced = fenced;
    /* src/exclusive.cpp: find_holder */
    if
    :: (me != 1 && snap[1] == RUNNING) || (me != 2 && snap[2] == RUNNING) -> got = false; SEEN(seen_refused_by_row)
    :: else
    fi;
    if
    :: me != 0 && snap[0] == RUNNING && !(copy_lapsed && (!copy_fenced || copy_passed)) -> got = false
    :: me != 0 && snap[0] == RUNNING && copy_lapsed && (!copy_fenced || copy_passed) ->
#ifndef NO_PASSING_OVER
      /* src/run_table.cpp: track_passing_over: unless a sign of life came meanwhile. */
      atomic {
        if
#ifndef PASSED_OVER_BLINDLY
        :: sign != copy_sign -> SEEN(seen_sign_while_judged); got = false
#endif
        :: else -> SEEN(seen_ghost_passed_over); passed_over = true
        fi
      }
#else
      skip
#endif
    :: else -> skip
    fi
  :: else
  fi;
  /* src/run_table.cpp: track_scope_claimed */
  if :: got && me == 0 -> passed_over = false :: else fi
}

/* The end of a transaction gives its locks back. */
inline unlock() { if :: scope_lock == _pid -> scope_lock = NOBODY :: else fi }

/* src/watch.cpp: watch_live for an INSERT, within the application's transaction. */
proctype Starter(byte me) {
  bool got, copy_lapsed, copy_passed, copy_fenced;
  byte copy_sign, turns, snap[3];
  do
  :: turns < TURNS ->
    turns++;
    /* src/start_sync.cpp: close_dead_runs may close the ghost on the way; a plain INSERT leaves it. */
    if
    :: skip
    :: atomic {
        status[0] == RUNNING && lapsed && !fenced && ghost_row_lock == NOBODY -> SEEN(seen_ghost_reaped); status[0] = FAILED
      }
    fi;
    atomic { snap[0] = status[0]; snap[1] = status[1]; snap[2] = status[2] };
    claim(me, got);
#ifdef UNLOCKS_EARLY
    unlock();
#endif
    if
    :: got ->
      if
      :: atomic {
          status[me] = RUNNING; SEEN(seen_start);
          ever_started = ever_started | me;
          if :: ever_started == 3 -> SEEN(seen_both_in_turn) :: else fi
        }
      :: atomic { SEEN(seen_rollback); got = false }
      fi
    :: else
    fi;
    unlock();
    if
    :: got -> status[me] = COMPLETED
    :: else
    fi;
    atomic { got = false; copy_lapsed = false; copy_passed = false; copy_fenced = false; copy_sign = 0;
             snap[0] = 0; snap[1] = 0; snap[2] = 0 }
  :: break
  od
}

/* src/attach.cpp: sign_of_life, may_come_back: the run is judged as of now; its worker's own fence does not speak for it. */
inline beat_by_row() {
  if
  :: status[0] != RUNNING -> got = false
  :: else ->
#ifdef OWN_FENCE_COUNTS
    is_dead = lapsed && !fenced;
#else
    is_dead = lapsed;
#endif
    if
    :: is_dead -> claim(0, got)
    :: else -> got = true
    fi;
    if
    :: got -> atomic { sign_of_life() }; SEEN(seen_ghost_comes_back)
    :: else -> SEEN(seen_ghost_refused)
    fi
  fi
}

/* src/run_table.cpp: track_beat, src/lease_calls.cpp: beat_known */
inline beat() {
  atomic {
    if
#ifndef NO_PASSING_OVER
    :: passed_over -> got = false
#endif
    :: memory_knows_limit && lapsed -> got = false
    :: else -> sign_of_life(); got = true
    fi
  };
  if :: !got -> beat_by_row() :: else fi
}

proctype Ghost() {
  bool got, is_dead, copy_lapsed, copy_passed, copy_fenced;
  byte copy_sign, turns, snap[3];
  do
  :: turns < SIGNS ->
    turns++;
    if
    :: beat()
    :: /* An UPDATE of the live row. src/watch.cpp: revives, watch_live */
      atomic { ghost_row_lock == NOBODY -> ghost_row_lock = _pid };
      if
      :: status[0] == RUNNING ->
        is_dead = lapsed;
        if :: is_dead -> claim(0, got) :: else -> got = true fi;
        if
        :: got ->
          /* src/run_table.cpp: track_update: not of a run that was passed over meanwhile. */
          atomic {
            if
#ifndef NO_PASSING_OVER
            :: passed_over -> got = false
#endif
            :: else -> sign_of_life()
            fi
          };
          if
          :: !got ->
            claim(0, got);
            if :: got -> atomic { sign_of_life() } :: else fi
          :: else
          fi
        :: else
        fi
      :: else
      fi;
      ghost_row_lock = NOBODY
    :: /* src/lease_calls.cpp: fence. Its lock is not free while a reaping closes the run; here that is one step. */
      fenced = true;
      if
      :: status[0] == RUNNING ->
        beat();
        if :: got -> SEEN(seen_fence_keeps_scope); PROMISE(one_commits, !lives(1) && !lives(2)) :: else fi
      :: else
      fi;
      unlock();
      fenced = false
    :: /* src/finish_sync.cpp: finish_sync: fenced, and asks for no scope: it ends. */
      fenced = true;
      atomic { ghost_row_lock == NOBODY -> ghost_row_lock = _pid };
      atomic {
        if
        :: status[0] == RUNNING -> status[0] = COMPLETED; if :: passed_over -> SEEN(seen_late_end) :: else fi
        :: else
        fi
      };
      ghost_row_lock = NOBODY;
      fenced = false
    fi;
    unlock();
    atomic { got = false; is_dead = false; copy_lapsed = false; copy_passed = false; copy_fenced = false; copy_sign = 0;
             snap[0] = 0; snap[1] = 0; snap[2] = 0 }
  :: break
  od
}

/* A reaping of the ghost, in one step: lease.pml takes it apart. */
active proctype Reaper() {
end:
  atomic {
    status[0] == RUNNING && lapsed && !fenced && ghost_row_lock == NOBODY -> status[0] = FAILED
  }
}

init {
  atomic {
    status[0] = RUNNING;
    if :: memory_knows_limit = true :: memory_knows_limit = false fi;
    run Ghost();
    run Starter(1);
    run Starter(2)
  }
}

#ifdef LIVENESS
/* The scope does not stay locked: nobody holds it for ever. */
ltl scope_comes_free { [] <> (scope_lock == NOBODY) }
#endif
