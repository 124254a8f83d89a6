/* One run with a heartbeat lease: its worker, two reapers, and time. May a reaping come between a worker and its word?
 *
 * Memory counts at once; row, lease and journal count at the commit, all in one instant (a transaction's id is committed or
 * not, and memory asks for it). Time is a flag: `lapsed` comes at any moment after the last sign of life, and no sooner.
 */
#include "guard.h"

#define seen_reap 1
#define seen_sign_saves 2
#define seen_fence_wins 3
#define seen_fence_loses 4
#define seen_late_finish 5
#define seen_rollback 6
#define seen_finisher_wins 7
#define seen_two_reapers_meet 8
#define seen_comes_back 9

#ifndef BEATS
#define BEATS 2
#endif
#ifndef FAULTS
#define FAULTS 1
#endif

bool promise_in_time, promise_one_line, promise_no_zombie, promise_stays_reaped, promise_nothing_lost, promise_one_winner;

/* Committed. */
byte status = RUNNING;
bool lease_open = true;
byte reaped_lines, late_lines;
/* Who holds the row's lock; who holds the token's fence: share, and row exclusive. */
byte row_lock = NOBODY;
bool fence_share;
byte fence_closing;
/* The entry in memory. It is there until an end of the run has committed. */
bool entry = true;
bool lapsed;
byte sign;
byte closer = NOBODY;

/* What is so, for the promises. */
bool reaped;
bool finished;
byte late_wishes;
bool worker_gone;
byte rollbacks;

/* src/run_table.cpp: sign_of_life */
inline sign_of_life() {
  lapsed = false;
  if :: sign < 250 -> sign++ :: else fi
}

active proctype Time() {
end:
  do
  :: atomic { entry && !lapsed -> lapsed = true }
  od
}

/* src/lease_writes.cpp: end_leases, src/closing.cpp: closing_assignments, src/journal.cpp: write_journal: one transaction. */
inline commit_reaping() {
  atomic {
    PROMISE(one_winner, !finished);
    status = FAILED; lease_open = false; reaped_lines++; entry = false; closer = NOBODY;
    reaped = true;
    PROMISE(one_line, reaped_lines == 1);
    SEEN(seen_reap)
  }
}

/* src/liveness.cpp: fence_holder: a run that is fenced lives. */
#define dead(copy_entry, copy_lapsed) (status == RUNNING && copy_entry && copy_lapsed && !fence_share)

#ifdef OLD_SNAPSHOT
#define still_running true
#else
#define still_running (status == RUNNING)
#endif

proctype Reaper() {
  bool copy_entry, copy_lapsed, is_dead, mine;
  byte copy_sign;
end:
  do
  :: /* src/runs.cpp: read_runs: memory, then the rows. src/reap.cpp: candidates */
    atomic { copy_entry = entry; copy_lapsed = lapsed; copy_sign = sign };
    is_dead = dead(copy_entry, copy_lapsed);
    if
    :: !is_dead -> skip
    :: else ->
#ifndef NO_ROW_LOCK
      /* src/reap_runs.cpp: close_group: FOR NO KEY UPDATE SKIP LOCKED; what stands under the lock is what is committed. */
      atomic {
        if
        :: row_lock == NOBODY && still_running -> row_lock = _pid; mine = true
        :: else -> SEEN(seen_two_reapers_meet); mine = false
        fi
      };
#else
      mine = true;
#endif
      if
      :: !mine -> skip
      :: else ->
#if !defined(NO_SECOND_LOOK) && !defined(NO_ROW_LOCK) && !defined(OLD_SNAPSHOT)
        /* src/liveness.cpp: gather_knowledge: after the lock memory is read again, and the run is judged again. */
        atomic { copy_entry = entry; copy_lapsed = lapsed; copy_sign = sign };
        is_dead = dead(copy_entry, copy_lapsed);
#endif
#ifndef NO_FENCE_LOCK
        /* src/liveness.cpp: lock_out_fence: tried for, never waited for. */
        atomic {
          if
          :: is_dead && !fence_share -> fence_closing++
          :: is_dead && fence_share -> SEEN(seen_fence_wins); is_dead = false
          :: else -> skip
          fi
        };
#endif
        if
        :: is_dead ->
          /* src/run_table.cpp: track_closing: has a sign of life come since the copy was made? */
          atomic {
            if
#if !defined(NO_SECOND_LOOK) && !defined(NO_WORD_OF_MEMORY)
            :: entry && sign != copy_sign -> SEEN(seen_sign_saves); is_dead = false
#endif
            :: else ->
              PROMISE(in_time, !entry || lapsed);
              closer = _pid
            fi
          };
          if
          :: is_dead ->
            if
            :: commit_reaping()
            :: atomic { rollbacks < FAULTS -> rollbacks++; SEEN(seen_rollback);
                        if :: closer == _pid -> closer = NOBODY :: else fi }
            fi
          :: else
          fi;
#ifndef NO_FENCE_LOCK
          fence_closing--
#endif
        :: else
        fi;
        if :: row_lock == _pid -> row_lock = NOBODY :: else fi
      fi
    fi;
    copy_entry = false; copy_lapsed = false; copy_sign = 0; is_dead = false; mine = false
  od
}

proctype Worker() {
  byte beats;
  bool ours, told;
  do
  :: beats < BEATS ->
    /* src/run_table_lease.cpp: track_beat. A beat whose limit is over asks the rows: src/token.cpp: holding_of, src/attach.cpp:
     * sign_of_life, src/run_table_lease.cpp: track_lease. */
    beats++;
    atomic {
      if
      :: entry && !lapsed -> sign_of_life(); told = true
      :: else -> told = false
      fi
    };
    if
    :: told -> skip
    :: else ->
      ours = lease_open && status == RUNNING;
      atomic {
        if
        :: ours && entry -> SEEN(seen_comes_back); sign_of_life()
        :: else -> skip
        fi
      }
    fi
  :: /* src/lease_calls.cpp: fence, the last statement before COMMIT. src/token.cpp: lock_token: waits for a closing. */
#ifdef FENCE_READS_FIRST
    ours = lease_open && status == RUNNING;
#endif
#ifndef NO_FENCE_LOCK
    atomic { fence_closing == 0 -> fence_share = true };
#endif
#ifndef FENCE_READS_FIRST
    /* src/token.cpp: look_at_lease, look_at_run: with the latest snapshot. */
    ours = lease_open && status == RUNNING;
#endif
    if
    :: ours ->
      /* src/run_table_lease.cpp: track_fence */
      atomic { if :: entry -> sign_of_life() :: else fi };
      /* The products commit. */
      PROMISE(no_zombie, !reaped)
    :: else -> SEEN(seen_fence_loses)
    fi;
    fence_share = false;
    if :: goto gone :: beats < BEATS -> beats++ fi
  :: /* A finish by the application's own UPDATE; it waits for the row. src/judge.cpp: judge_update, src/watch.cpp: watch_end */
    atomic { row_lock == NOBODY -> row_lock = _pid };
    if
    :: status == RUNNING ->
      /* src/run_table.cpp: track_end */
      closer = _pid;
      if
      :: atomic {
          PROMISE(one_winner, !reaped);
          SEEN(seen_finisher_wins);
          status = COMPLETED; lease_open = false; entry = false; finished = true; closer = NOBODY
        }
      :: atomic { rollbacks < FAULTS -> rollbacks++; closer = NOBODY }
      fi
    :: else ->
      if
      :: status == FAILED ->
        /* src/core/statuses.cpp: classify, src/judge.cpp: late_finish, keep_outcome */
        atomic {
          SEEN(seen_late_finish);
          late_wishes++;
#ifdef LATE_OVERWRITES
          status = COMPLETED;
#endif
#ifndef LATE_IS_LOST
          late_lines++;
#endif
          PROMISE(stays_reaped, !reaped || status == FAILED);
          PROMISE(nothing_lost, late_wishes == late_lines)
        }
      :: else
      fi
    fi;
    row_lock = NOBODY;
    goto gone
  :: /* src/finish_sync.cpp: finish_sync: the fence's lock, then the row. */
    atomic { fence_closing == 0 -> fence_share = true };
    ours = lease_open && status == RUNNING;
    if
    :: ours ->
      atomic { row_lock == NOBODY -> row_lock = _pid };
      if
      :: status == RUNNING ->
        closer = _pid;
        atomic {
          PROMISE(one_winner, !reaped);
          status = COMPLETED; lease_open = false; entry = false; finished = true; closer = NOBODY
        }
      :: else
      fi;
      row_lock = NOBODY
    :: else
    fi;
    fence_share = false;
    goto gone
  :: goto gone /* it dies, or stops to give signs */
  od;
gone:
  worker_gone = true
}

init {
  atomic {
    run Worker();
    run Reaper()
#ifndef ONE_REAPER
    ;
    run Reaper()
#endif
#ifdef THREE_REAPERS
    ;
    run Reaper()
#endif
  }
}

#ifdef LIVENESS
/* A run that has no worker any more ends. */
ltl dead_is_closed { [] (worker_gone -> <> (status != RUNNING)) }
#endif
