/* An exclusive scope: two starters and a ghost, a run whose worker fell silent and may come back by a heartbeat, an UPDATE, a
 * fence or a late end; and a server that crashes at any moment. How many runs of the scope live at one instant?
 *
 * Runs: 0 the ghost's, 1 and 2 the starters'. What the ghost promises lapses with time; memory may know that limit (a
 * heartbeat lease's ttl) or not (max_silence, max_stall, a bound lease). The starters' runs live until they end.
 *
 * A crash takes all open transactions with their locks, and all memory; what was committed stays. Until the grace after the
 * restart is over the ghost counts as alive then, unless a row says that it was passed over.
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
#define seen_passed_over_while_looking 13
#define seen_limit_raised_for_passed_over 14
#define seen_crash_with_mark 15
#define seen_crash_before_mark 16
#define seen_mark_keeps_dead 17
#define seen_back_after_crash 18
#define seen_spared_after_crash 19
#define seen_entry_made_by_starter 20
#define seen_mark_outlives_claim 21

#ifndef TURNS
#define TURNS 1
#endif
#ifndef SIGNS
#define SIGNS 2
#endif
#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef RAISES
#define RAISES 0
#endif

/* What the ghost's worker does. */
#define BEAT 0
#define UPDATE 1
#define FENCE 2
#define FINISH 3

bool promise_one_live, promise_one_commits;

/* Committed rows. (Of those of open transactions the scope's lock tells.) `mark`: the ghost's row in sync_guard.passed_over. */
byte status[3];
bool mark;
/* Who holds the lock of the scope's atom (src/exclusive.cpp: try_atom). */
byte scope_lock = NOBODY;
byte ghost_row_lock = NOBODY;
/* The ghost's entry in memory. Where there is one it knows whether the ghost was passed over (Tracked::scope_known). */
bool entry = true, passed_over, memory_knows_limit;
byte sign;
/* By its signs of life the ghost is dead; after a crash: the grace is over. */
bool lapsed;
/* The ghost's worker holds the fence's lock on its token. */
bool fenced;
/* The server's lives before this one. A session whose transaction began in another one is gone; of those that have not gone yet
 * nothing is seen, so that the others wait until they have: fewer states, none that differs. */
byte life, open, falling;
#define quiet (falling == 0)

/* src/core/verdict.cpp: judge, fenced, passed_over: who was passed over is dead, whatever else is known of him. */
#define is_passed_over (passed_over || (!entry && mark))
#ifdef FENCE_ALWAYS_LIVE
#define ghost_lives (status[0] == RUNNING && (fenced || (!lapsed && !is_passed_over)))
#else
#define ghost_lives (status[0] == RUNNING && !is_passed_over && (fenced || !lapsed))
#endif
#define lives(run) (status[run] == RUNNING)

active proctype Time() {
end:
  do
  :: atomic { quiet && status[0] == RUNNING && !lapsed -> lapsed = true }
  od
}

/* src/limits.cpp: set_limit: who was dead is alive by a longer limit. */
active proctype Limits() {
  byte raises;
end:
  do
  :: atomic {
      quiet && raises < RAISES && status[0] == RUNNING && lapsed ->
      raises++; lapsed = false;
      if :: is_passed_over -> SEEN(seen_limit_raised_for_passed_over) :: else fi
    }
  od
}

/* src/server_life.cpp: make_memory: at a crash restart too, all of it anew. */
active proctype Server() {
end:
  do
  :: atomic {
      quiet && life < CRASHES ->
      if
      :: status[0] == RUNNING && mark -> SEEN(seen_crash_with_mark)
      :: status[0] == RUNNING && !mark && passed_over -> SEEN(seen_crash_before_mark)
      :: else
      fi;
      life++; falling = open; open = 0;
      scope_lock = NOBODY; ghost_row_lock = NOBODY; fenced = false;
      entry = false; passed_over = false; sign = 0; lapsed = false
    }
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

/* src/exclusive.cpp: lock_scope: by a try. */
inline lock_scope() {
  if
#ifndef NO_TRY_LOCK
  :: scope_lock == NOBODY || scope_lock == _pid -> scope_lock = _pid; got = true
  :: else -> SEEN(seen_refused_by_lock); got = false
#else
  :: got = true
#endif
  fi
}

/* The end of a transaction gives its locks back. */
inline unlock() { if :: scope_lock == _pid -> scope_lock = NOBODY :: else fi }

/* Whether another run than `me` and the ghost's lives, by the rows as they are committed. */
#define rival_of(me) ((me != 1 && lives(1)) || (me != 2 && lives(2)))

/* src/passed_over.cpp: look_for_passing_over: where memory does not tell. */
#ifdef NO_MARK
#define look_for_mark() skip
#else
#define look_for_mark() if :: !copy_entry && mark -> copy_passed = true :: else fi
#endif

/* The ghost's end is committed. src/watch.cpp: watch_end, src/run_table_memory.cpp: settle */
inline end_ghost(how) {
  status[0] = how; mark = false; entry = false; passed_over = false; sign = 0; lapsed = false
}

inline forget() {
  got = false; there = false; rival = false; notes = false; copy_entry = false; copy_lapsed = false; copy_passed = false;
  copy_fenced = false; copy_sign = 0; began = 0
}

/* src/exclusive.cpp: look_for_holder. The ghost is the oldest: it is met before those who live. */
inline pass_over() {
  if
  :: !there || status[0] != RUNNING -> skip
  :: else ->
    if
    :: !copy_passed && (!copy_lapsed || copy_fenced) -> got = false
    :: else ->
#ifdef NO_PASSING_OVER
      skip
#else
      /* src/run_table.cpp: track_passing_over: unless a sign of life came meanwhile. */
      if
#ifndef PASSED_OVER_BLINDLY
      :: entry != copy_entry || sign != copy_sign -> SEEN(seen_sign_while_judged); got = false
#endif
      :: else ->
        SEEN(seen_ghost_passed_over);
        if :: !entry -> SEEN(seen_entry_made_by_starter) :: else fi;
#ifdef NO_ENTRY_MADE
        passed_over = entry;
#else
        entry = true; passed_over = true;
#endif
        notes = true
      fi
#endif
    fi
  fi;
  if :: got && rival -> SEEN(seen_refused_by_row); got = false :: else fi
}

/* src/watch.cpp: watch_live for an INSERT, within the application's transaction; src/exclusive.cpp: claim_scope. */
proctype Starter(byte me) {
  bool got, there, rival, notes, copy_entry, copy_lapsed, copy_passed, copy_fenced;
  byte copy_sign, turns, began;
  do
  :: quiet && turns < TURNS ->
#ifdef OLD_SNAPSHOT
    atomic { there = lives(0); rival = rival_of(me) };
#endif
    atomic { turns++; lock_scope(); if :: got -> began = life + 1; open++ :: else -> goto over fi };
    {
      /* src/runs.cpp: read_runs: memory, then the rows by the latest snapshot, then fences and marks. */
      atomic { copy_entry = entry; copy_lapsed = lapsed; copy_sign = sign; copy_passed = passed_over };
#ifndef OLD_SNAPSHOT
      atomic { there = lives(0); rival = rival_of(me) };
#endif
      atomic { copy_fenced = fenced; look_for_mark() };
      atomic { pass_over() };
#ifdef UNLOCKS_EARLY
      unlock();
#endif
      if
      :: atomic {
          /* The commit: of the run, and of what src/passed_over.cpp: note_passed_over has written. */
          got -> status[me] = RUNNING; SEEN(seen_start);
#ifndef NO_MARK
          if :: notes && status[0] == RUNNING -> mark = true :: else fi;
#endif
          if :: status[3 - me] == COMPLETED -> SEEN(seen_both_in_turn) :: else fi
        }
      :: if :: got -> SEEN(seen_rollback) :: else fi
      fi;
      atomic { unlock(); open--; forget() }
    } unless { atomic { began && began != life + 1 -> falling--; forget() } };
    if :: status[me] == RUNNING -> status[me] = COMPLETED :: else fi;
over: skip
  :: turns == TURNS -> break
  od
}

/* src/attach.cpp: regain_scope, src/watch.cpp: tell_again, src/exclusive.cpp: claim_scope */
inline regain() {
#ifdef FORGETS_AT_ONCE
  mark = false;
#endif
  atomic { lock_scope() };
  atomic {
#ifndef OLD_SNAPSHOT
    rival = rival_of(0);
#endif
    if
    :: !got
    :: got && rival -> SEEN(seen_refused_by_row); got = false
    :: else ->
      /* src/run_table.cpp: track_scope_claimed, at once; src/passed_over.cpp: forget_passed_over, with the commit. */
      if :: passed_over || !entry -> forgets = true :: else fi;
      passed_over = false
    fi;
    rival = false
  }
}

/* src/run_table_lease.cpp: track_lease, src/run_table.cpp: track_update: a sign of life, not of a run that was passed over. */
inline tell() {
  atomic {
    if
    :: passed_over -> got = false
    :: else -> entry = true; lapsed = false; sign++; got = true
    fi
  }
}

/* src/run_table_lease.cpp: track_beat */
inline beat() {
  if
  :: !entry || passed_over || (memory_knows_limit && lapsed) -> got = false
  :: else -> lapsed = false; sign++; got = true
  fi
}

/* A sign of life for which memory alone does not do: src/attach.cpp: sign_of_life, bring_back, src/watch.cpp: watch_live. */
inline come_back() {
  /* src/token.cpp: holding_of, src/watch.cpp: was_dead: judged by memory, rows, mark. */
  atomic { copy_entry = entry; copy_lapsed = lapsed; copy_passed = passed_over };
  atomic {
#ifndef BEAT_OVERLOOKS_MARK
    look_for_mark();
#endif
    if :: how != UPDATE -> beat() :: else fi;
    /* src/attach.cpp: needs_its_scope, src/watch.cpp: revives: its worker's own fence does not speak for it. */
#ifdef OWN_FENCE_COUNTS
    is_dead = (copy_passed || copy_lapsed) && !fenced
#else
    is_dead = copy_passed || copy_lapsed
#endif
  };
  if
  :: got
  :: else ->
    if :: is_dead -> regain() :: else -> got = true fi;
    if :: got -> tell() :: else fi;
    if
    :: !got && !is_dead -> SEEN(seen_passed_over_while_looking); regain(); if :: got -> tell() :: else fi
    :: else
    fi;
    if
    :: got && is_dead -> SEEN(seen_ghost_comes_back); if :: copy_passed && !copy_entry -> SEEN(seen_back_after_crash) :: else fi
    :: got && !is_dead -> if :: life > 0 && !copy_entry -> SEEN(seen_spared_after_crash) :: else fi
    :: else -> SEEN(seen_ghost_refused); if :: copy_passed && !copy_entry && !copy_lapsed -> SEEN(seen_mark_keeps_dead) :: else fi
    fi
  fi
}

inline forget_all() {
  got = false; is_dead = false; rival = false; forgets = false; copy_entry = false; copy_lapsed = false; copy_passed = false;
  began = 0; how = BEAT
}

proctype Ghost() {
  bool got, is_dead, rival, forgets, copy_entry, copy_lapsed, copy_passed;
  byte turns, began, how;
  do
  :: quiet && turns < SIGNS && status[0] == RUNNING ->
#ifdef OLD_SNAPSHOT
    rival = rival_of(0);
#endif
    atomic {
      turns++;
      if
      :: status[0] != RUNNING -> goto over
      :: else
      fi;
      if
      :: beat(); if :: got -> got = false; goto over :: else fi /* src/lease_calls.cpp: heartbeat, beat_known */
      :: how = UPDATE; ghost_row_lock = _pid
      :: how = FENCE; fenced = true /* src/lease_calls.cpp: fence */
      :: how = FINISH; ghost_row_lock = _pid; fenced = true
      fi;
      began = life + 1; open++
    };
    {
      if
      :: how != FINISH && status[0] == RUNNING ->
        come_back();
        if :: got && how == FENCE -> SEEN(seen_fence_keeps_scope); PROMISE(one_commits, !lives(1) && !lives(2)) :: else fi
      :: else
      fi;
      /* The end of its transaction. */
      atomic {
        if
        :: how == FINISH ->
          /* src/finish_sync.cpp: finish_sync: it asks for no scope: it ends. */
#ifdef FORGETS_AT_ONCE
          mark = false;
#endif
          if
          :: if :: is_passed_over -> SEEN(seen_late_end) :: else fi; end_ghost(COMPLETED)
          :: skip
          fi
        :: got && forgets -> if :: mark = false :: if :: mark -> SEEN(seen_mark_outlives_claim) :: else fi fi
        :: else
        fi;
        ghost_row_lock = NOBODY; fenced = false; unlock(); open--; forget_all()
      }
    } unless { atomic { began && began != life + 1 -> falling--; forget_all() } };
over: skip
  :: turns == SIGNS || status[0] != RUNNING -> break
  od
}

/* A reaping of the ghost, in one step: lease.pml takes it apart. A starter may do it first: src/start_sync.cpp: close_dead_runs. */
active proctype Reaper() {
end:
  atomic {
    quiet && status[0] == RUNNING && !ghost_lives && !fenced && ghost_row_lock == NOBODY ->
    SEEN(seen_ghost_reaped); end_ghost(FAILED)
  }
}

init {
  atomic {
    status[0] = RUNNING;
#ifndef COVER /* Every place is reached without. */
    if :: memory_knows_limit = true :: skip fi;
#endif
    run Ghost();
    run Starter(1);
    run Starter(2)
  }
}

#ifdef LIVENESS
/* The scope does not stay locked: nobody holds it for ever. */
ltl scope_comes_free { [] <> (scope_lock == NOBODY) }
#endif
