/* An exclusive scope: two starters and a ghost, a run whose worker fell silent and may come back by a heartbeat, an UPDATE, a
 * fence or a late end; and a server that crashes at any moment. How many runs of the scope live at one instant?
 *
 * Runs: 0 the ghost's, 1 and 2 the starters'. What the ghost promises lapses with time; memory may know that limit (a
 * heartbeat lease's ttl) or not (max_silence, max_stall, a bound lease). The starters' runs live until they end.
 *
 * A crash takes all open transactions with their locks, and all memory; what was committed stays. Until the grace after the
 * restart is over the ghost counts as alive then, unless a row says that it was passed over. A starter that is prepared keeps the
 * scope's lock over the crash, and what it has written: its run, and the row that says so.
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
#define seen_claim_rolled_back 21
#define seen_passing_over_rolled_back 22
#define seen_prepared_over_crash 23
#define seen_mark_after_crash 24
#define seen_made_sure 25
#define seen_not_sure 26
#define seen_overdue_and_passed_over 27

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
#ifndef AGES
#define AGES 0
#endif
#ifndef PREPARES
#define PREPARES 0
#endif

/* With -DCOVER some events happen only where they lead to a place that is not reached without: fewer states. */
#ifdef COVER
#define worth(condition) (condition)
#else
#define worth(condition) true
#endif

/* What the ghost's worker does. */
#define BEAT 0
#define UPDATE 1
#define FENCE 2
#define FINISH 3

bool promise_one_live, promise_one_commits, promise_rolled_back_is_void;

/* Committed rows. (Of those of open transactions the scope's lock tells.) `mark`: the ghost's row in sync_guard.passed_over. */
byte status[3];
bool mark;
/* Who holds the lock of the scope's atom (src/exclusive.cpp: try_atom). */
byte scope_lock = NOBODY;
/* Its transaction is prepared. */
bool is_prepared;
byte prepares;
byte ghost_row_lock = NOBODY;
/* The ghost's entry in memory, as src/run_table.h: Tracked has it. */
bool entry = true, memory_knows_limit;
/* A starter has passed the ghost over; `scope_writer`: whose transaction has done so, or given the ghost its scope again, and is
 * open; `scope_known`: `passed_over` tells, else the mark may. */
bool passed_over, has_scope_again, scope_known = true;
byte scope_writer = NOBODY;
byte sign;
/* By its signs of life the ghost is dead; after a crash: the grace is over. */
bool lapsed;
/* By its age it is dead, whatever sign it gives (max_age). */
bool overdue;
/* The ghost's worker holds the fence's lock on its token. */
bool fenced;
/* The server's lives before this one. A session whose transaction began in another one is gone; of those that have not gone yet
 * nothing is seen, so that the others wait until they have: fewer states, none that differs. */
byte life, open, falling;
#define quiet (falling == 0)

/* src/core/verdict.cpp: judge, fenced, passed_over: who was passed over is dead, whatever else is known of him. */
#define is_flagged (passed_over && !(scope_writer != NOBODY && has_scope_again)) /* src/run_table.h: is_passed_over */
#define is_passed_over (is_flagged || (!scope_known && mark))
#ifdef FENCE_ALWAYS_LIVE
#define ghost_lives (status[0] == RUNNING && (fenced || (!lapsed && !overdue && !is_passed_over)))
#else
#define ghost_lives (status[0] == RUNNING && !is_passed_over && (fenced || (!lapsed && !overdue)))
#endif
#define lives(run) (status[run] == RUNNING)

active proctype Time() {
  byte ages;
end:
  do
  :: atomic { quiet && status[0] == RUNNING && ages < AGES && worth(mark && life > 0) -> ages++; overdue = true }
  :: atomic { quiet && status[0] == RUNNING && !lapsed -> lapsed = true }
  od
}

/* src/limits.cpp: set_limit: who was dead is alive by a longer limit. */
active proctype Limits() {
  byte raises;
end:
  do
  :: atomic {
      quiet && raises < RAISES && status[0] == RUNNING && (lapsed || overdue) && worth(is_passed_over && life == 0) ->
      raises++; lapsed = false; overdue = false;
      if :: is_passed_over -> SEEN(seen_limit_raised_for_passed_over) :: else fi
    }
  od
}

inline forget_ghost() {
  entry = false; passed_over = false; has_scope_again = false; scope_writer = NOBODY; scope_known = false;
  sign = 0; lapsed = false
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
      if :: is_prepared -> SEEN(seen_prepared_over_crash) :: else -> scope_lock = NOBODY fi;
      ghost_row_lock = NOBODY; fenced = false;
      forget_ghost()
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

/* src/run_table_memory.cpp: settle_scope: what a transaction has told of the ghost's scope is void where it is rolled back. */
inline settle_scope(committed) {
  if
  :: scope_writer == _pid ->
    if :: committed == has_scope_again -> passed_over = false :: else fi;
    scope_writer = NOBODY; has_scope_again = false
  :: else
  fi
}

/* The end of a transaction gives its locks back. */
inline unlock() { if :: scope_lock == _pid -> scope_lock = NOBODY :: else fi }

/* Whether another run than `me` and the ghost's lives, by the rows as they are committed. */
#define rival_of(me) ((me != 1 && lives(1)) || (me != 2 && lives(2)))

/* src/passed_over.cpp: look_for_passing_over, is_unknown: where memory does not tell. */
#ifdef NO_MARK
#define look_for_mark() skip
#else
#define look_for_mark() if :: !copy_known && mark -> copy_passed = true :: else fi
#endif

/* The ghost's end is committed. src/watch.cpp: watch_end, src/run_table_memory.cpp: settle */
inline end_ghost(how) {
  status[0] = how; mark = false; overdue = false; forget_ghost()
}

inline forget() {
  got = false; there = false; rival = false; notes = false; copy_entry = false; copy_lapsed = false; copy_passed = false;
  copy_known = false; copy_fenced = false; copy_sign = 0; began = 0
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
        if :: !entry || is_flagged
#else
        entry = true;
        if :: is_flagged
#endif
#ifdef FLAG_OUTLIVES_ROLLBACK
        :: else -> passed_over = true
#else
        :: else -> passed_over = true; scope_writer = _pid; has_scope_again = false
#endif
        fi;
        notes = !mark
      fi
#endif
    fi
  fi;
  if :: got && rival -> SEEN(seen_refused_by_row); got = false :: else fi
}

/* PREPARE TRANSACTION: a crash leaves it. Nothing else tells it from one that is open: who prepares does so at once. */
inline prepare() {
  if
  :: got && prepares < PREPARES && worth(notes && me == 1 && life == 0) -> prepares++; is_prepared = true; open--; began = 0
  :: true
  fi
}

/* src/watch.cpp: watch_live for an INSERT, within the application's transaction; src/exclusive.cpp: claim_scope. */
proctype Starter(byte me) {
  bool got, there, rival, notes, copy_entry, copy_lapsed, copy_passed, copy_known, copy_fenced;
  byte copy_sign, turns, began;
  do
  :: quiet && turns < TURNS ->
#ifdef OLD_SNAPSHOT
    atomic { there = lives(0); rival = rival_of(me) };
#endif
    atomic { turns++; lock_scope(); if :: got -> began = life + 1; open++ :: else -> goto over fi };
    {
      /* src/runs.cpp: read_runs: the rows by the latest snapshot, then memory of those found (src/liveness.cpp: add_knowledge), then
       * fences and marks. */
#ifndef OLD_SNAPSHOT
      atomic { there = lives(0); rival = rival_of(me) };
#endif
      atomic {
        copy_entry = entry; copy_lapsed = lapsed || overdue; copy_sign = sign;
        copy_passed = is_flagged; copy_known = scope_known
      };
      atomic { copy_fenced = fenced; look_for_mark() };
      atomic { pass_over(); prepare() };
#ifdef UNLOCKS_EARLY
      unlock();
#endif
      if
      :: atomic {
          /* The commit: of the run, and of what src/passed_over.cpp: note_passed_over has written. */
          got && quiet -> status[me] = RUNNING; is_prepared = false; settle_scope(true); SEEN(seen_start);
#ifndef NO_MARK
          if
          :: notes && status[0] == RUNNING ->
            mark = true;
            if :: life > 0 && !passed_over -> SEEN(seen_mark_after_crash) :: else fi
          :: else
          fi;
#endif
          if :: status[3 - me] == COMPLETED -> SEEN(seen_both_in_turn) :: else fi
        }
      :: atomic {
          quiet -> is_prepared = false; settle_scope(false);
          if :: got -> SEEN(seen_rollback) :: else fi;
          if :: notes && status[0] == RUNNING && !copy_passed -> SEEN(seen_passing_over_rolled_back) :: else fi;
          PROMISE(rolled_back_is_void, !notes || copy_passed || !is_passed_over)
        }
      fi;
      atomic { unlock(); if :: began -> open-- :: else fi; forget() }
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
      /* src/run_table.cpp: track_scope_claimed, void where it is rolled back; src/passed_over.cpp: forget_passed_over. */
      claims = true; entry = true;
      if
#ifdef CLAIM_OUTLIVES_ROLLBACK
      :: is_flagged || !scope_known -> passed_over = false; scope_known = true
#else
      :: is_flagged || !scope_known -> passed_over = true; scope_writer = _pid; has_scope_again = true; scope_known = true
#endif
      :: else
      fi
    fi;
    rival = false
  }
}

/* src/run_table_lease.cpp: track_lease, src/run_table.cpp: track_update: a sign of life, not of a run that was passed over. */
inline tell() {
  atomic {
    if
    :: is_flagged -> got = false
    :: else ->
#ifdef KNOWN_AT_ONCE
      if :: !entry -> scope_known = true :: else fi;
#endif
      entry = true; lapsed = false; sign++; got = true
    fi
  }
}

/* What a fence that succeeds promises: no other run lives. One whose start was prepared before a crash may be committed while the
 * fence is on its way: where that can be, no other lived when it looked. */
#if PREPARES
#define note_alone() alone = !rival_of(0)
#define no_other_commits (!rival_of(0) || (life > 0 && alone))
#else
#define note_alone() skip
#define no_other_commits (!rival_of(0))
#endif

/* src/exclusive.cpp: make_sure_of_scope: under the scope's lock, where nobody has it. */
inline make_sure() {
  if
  :: atomic { !got || how == UPDATE || scope_known -> skip }
  :: atomic {
      else ->
#ifndef SURE_WITHOUT_LOCK
      if :: scope_lock == NOBODY -> scope_lock = _pid :: else -> SEEN(seen_not_sure); goto not_sure fi;
#endif
      if :: mark :: else -> sure = true fi
    };
    atomic {
      if :: sure && entry -> scope_known = true; SEEN(seen_made_sure) :: else fi;
      sure = false; unlock()
    };
not_sure: skip
  fi
}

/* src/run_table_lease.cpp: track_beat */
inline beat() {
  if
#ifndef UNKNOWN_BEATS
  :: !scope_known -> got = false
#endif
  :: !entry || is_flagged || (memory_knows_limit && lapsed) -> got = false
  :: else -> lapsed = false; sign++; got = true
  fi
}

/* A sign of life for which memory alone does not do: src/attach.cpp: sign_of_life, bring_back, src/watch.cpp: watch_live. */
inline come_back() {
  /* src/token.cpp: holding_of, src/watch.cpp: judged: by memory, rows, mark. */
  atomic { copy_known = scope_known; copy_lapsed = lapsed || overdue; copy_passed = is_flagged };
  atomic {
#ifndef BEAT_OVERLOOKS_MARK
    look_for_mark();
#endif
    note_alone();
    if :: how != UPDATE -> beat() :: else fi;
    /* src/attach.cpp: needs_its_scope, src/watch.cpp: revives: its worker's own fence does not speak for it. */
#ifdef OWN_FENCE_COUNTS
    is_dead = (copy_passed || copy_lapsed) && !fenced
#else
    is_dead = copy_passed || copy_lapsed;
    /* src/watch.cpp: stays_dead: what its sign does not bring back to life needs no scope, unless it was passed over. */
#ifdef STAYS_DEAD_IS_TOLD
    if :: how == UPDATE && overdue -> is_dead = false :: else fi
#else
    if
    :: how == UPDATE && overdue && !copy_passed -> is_dead = false
    :: else -> if :: how == UPDATE && overdue -> SEEN(seen_overdue_and_passed_over) :: else fi
    fi
#endif
#endif
  };
  if
  :: got
  :: else ->
    if :: is_dead -> regain() :: else -> got = true fi;
    if :: got -> tell() :: else fi;
    make_sure();
    if
    :: !got && !is_dead -> SEEN(seen_passed_over_while_looking); regain(); if :: got -> tell() :: else fi
    :: else
    fi;
    if
    :: got && is_dead -> SEEN(seen_ghost_comes_back); if :: copy_passed && !copy_known -> SEEN(seen_back_after_crash) :: else fi
    :: got && !is_dead -> if :: life > 0 && !copy_known -> SEEN(seen_spared_after_crash) :: else fi
    :: else ->
      SEEN(seen_ghost_refused);
      if :: copy_passed && !copy_known && !copy_lapsed -> SEEN(seen_mark_keeps_dead) :: else fi
    fi
  fi
}

inline forget_all() {
  got = false; is_dead = false; rival = false; claims = false; sure = false; alone = false;
  copy_known = false; copy_lapsed = false; copy_passed = false; began = 0; how = BEAT
}

proctype Ghost() {
  bool got, is_dead, rival, claims, sure, alone, copy_known, copy_lapsed, copy_passed;
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
        if :: got && how == FENCE -> SEEN(seen_fence_keeps_scope); PROMISE(one_commits, no_other_commits) :: else fi
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
        :: got && claims ->
          if
          :: mark = false; settle_scope(true)
          :: if :: mark -> SEEN(seen_claim_rolled_back) :: else fi;
            settle_scope(false);
            PROMISE(rolled_back_is_void, !copy_passed || is_passed_over)
          fi
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
