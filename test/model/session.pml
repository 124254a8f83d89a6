/* Two runs with session-bound leases: their sessions, the worker on demand, pg_cron's sweep, a reader that asks again. Is a death
 * found, and is nothing else taken for one?
 *
 * A worker of the application (`owner_alive`) lives behind each session; with a pool it may go on while its session is reset
 * or closed. One that lives gives signs within its limit: so a heartbeat lease lapses of the dead alone.
 */
#include "guard.h"

#define seen_death 1
#define seen_worker_closes 2
#define seen_sweep_closes 3
#define seen_pool_reset 4
#define seen_downgraded_and_lives 5
#define seen_worker_refused 6
#define seen_worker_lost 7
#define seen_rescan 8
#define seen_stop 9
#define seen_death_in_transaction 10

#ifndef RUNS
#define RUNS 2
#endif
#ifndef REFUSALS
#define REFUSALS 1
#endif

bool promise_no_false_death, promise_truth_at_once, promise_one_line;

byte status[RUNS];
byte row_lock[RUNS];
byte reaped_lines[RUNS];
/* The entry: bound to a session or a heartbeat lease; its session's end; its limit. */
bool bound[RUNS], session_ended[RUNS], lapsed[RUNS];
/* src/session.cpp: bind_session: a lock of the session, which a pool's reset takes. */
bool canary[RUNS];
bool owner_alive[RUNS];
bool stopping;
/* src/worker_requests.cpp: Slot, of one owner in one database. */
byte requested, served;
bool running, registered, starting;
byte refused, lost;

/* src/liveness.cpp: is_bound, lease_evidence; src/core/verdict.cpp: session_gone, heartbeat_lost */
#ifdef CANARY_GONE_KILLS
#define session_gone(i) (bound[i] && (session_ended[i] || !canary[i]))
#else
#define session_gone(i) (bound[i] && session_ended[i])
#endif
#define dead(i) (status[i] == RUNNING && (session_gone(i) || lapsed[i]))

/* src/reap_runs.cpp: close_group: lock without waiting, judge, close. lease.pml takes it apart. */
inline close(i, closed) {
  atomic {
    if
    :: row_lock[i] == NOBODY && dead(i) ->
      PROMISE(no_false_death, !owner_alive[i]);
      status[i] = FAILED; reaped_lines[i]++;
      PROMISE(one_line, reaped_lines[i] == 1);
      closed = true
    :: else -> closed = false
    fi
  }
}

/* src/worker_requests.cpp: register_worker, which may be refused, or tell of a worker that never starts. */
inline register_it() {
  if
  :: refused < REFUSALS -> refused++; SEEN(seen_worker_refused)
  :: lost < REFUSALS -> lost++; registered = true; SEEN(seen_worker_lost)
  :: registered = true; starting = true
  fi
}

/* src/worker_requests.cpp: request_worker, push */
inline request() {
  atomic {
    requested++;
    if
    :: running || registered -> skip
    :: else -> register_it()
    fi
  }
}

/* src/session.cpp: tell_of_end, src/run_table_lease.cpp: track_session_end */
inline mark(i) {
  atomic { if :: bound[i] -> session_ended[i] = true :: else fi };
  request()
}

proctype Session(byte i) {
  bool noted, died;
  if
  :: row_lock[i] = _pid
  :: skip
  :: /* The pool resets it: pg_advisory_unlock_all, DISCARD ALL. Its client goes on through another session, by heartbeats. */
    SEEN(seen_pool_reset);
    canary[i] = false;
    /* The first beat from there: src/lease_calls.cpp: beat_known, src/run_table_lease.cpp: track_downgrade. It may come late. */
    if :: bound[i] = false :: skip fi
  fi;
  if
  :: /* Its client is gone (src/session.cpp: has_died); behind a pool that has reset it, it is the pool's connection that is. */
    died = true;
    if :: canary[i] -> owner_alive[i] = false; SEEN(seen_death) :: else fi
  :: died = false /* closed in order: a pool does so while its client goes on */
#ifdef WITH_STOP
  :: (stopping); died = true
#endif
  fi;
  /* src/session.cpp: note_canaries, at before_shmem_exit. */
  noted = canary[i];
#ifdef RESET_IS_DEATH
  noted = true;
#endif
#ifdef MARKS_EARLY
  if :: died && noted && !stopping -> mark(i) :: else fi;
#endif
  /* The transaction is over, the locks are given back: the row's, the canary. */
  if :: row_lock[i] == _pid -> row_lock[i] = NOBODY; if :: died -> SEEN(seen_death_in_transaction) :: else fi :: else fi;
  canary[i] = false;
  /* on_shmem_exit. src/server_life.cpp: server_is_stopping */
  if
#ifndef STOP_IS_DEATH
  :: died && stopping -> SEEN(seen_stop)
#endif
  :: !died || !noted -> atomic { bound[i] = false; session_ended[i] = false };
    if :: owner_alive[i] -> SEEN(seen_downgraded_and_lives) :: else fi
#ifdef STOP_IS_DEATH
  :: died && noted ->
#else
  :: died && noted && !stopping ->
#endif
#ifndef MARKS_EARLY
    mark(i);
#endif
    PROMISE(truth_at_once, status[i] != RUNNING || !bound[i] || dead(i))
  fi
}

/* The owner of a run may die whenever he likes; nobody is told of that but by his silence. */
active proctype Time() {
  byte i;
end:
  do
  :: atomic { status[0] == RUNNING && !bound[0] && owner_alive[0] -> owner_alive[0] = false }
  :: atomic { status[0] == RUNNING && !bound[0] && !owner_alive[0] && !lapsed[0] -> lapsed[0] = true }
#ifdef WITH_STOP
  :: atomic { !stopping -> stopping = true }
#endif
  od
}

/* src/worker.cpp: serve, close_ended; src/worker_requests.cpp: begin_job, go_on */
active proctype Worker() {
  byte i, upto, left;
  bool closed, more, done;
end:
  do
  :: atomic { starting -> starting = false; running = true; upto = requested };
    do
    :: left = 0;
      i = 0;
      do
      :: i < RUNS ->
        if
        :: session_ended[i] && status[i] == RUNNING && !stopping ->
          close(i, closed);
          if :: closed -> SEEN(seen_worker_closes) :: else -> left++ fi
        :: else
        fi;
        i++
      :: else -> break
      od;
      /* What others hold is tried again for a while, then left to the sweep. */
      if :: left == 0 -> done = true :: left > 0 -> done = true :: left > 0 -> done = false fi;
      atomic {
        more = requested > upto;
#ifdef NO_RESCAN
        more = false;
#endif
        if :: done -> if :: served < upto -> served = upto :: else fi :: else fi;
        upto = requested;
        if :: done && !more -> running = false; registered = false; done = false; upto = 0; break
           :: else -> if :: more -> SEEN(seen_rescan) :: else fi
        fi
      }
    od;
    closed = false; i = 0; left = 0; more = false
  od
}

#ifndef NO_SWEEP
/* src/reap.cpp: reap_stale_syncs, called by pg_cron */
active proctype Sweep() {
  bool closed;
end:
  do
  :: dead(0) -> close(0, closed); if :: closed -> SEEN(seen_sweep_closes) :: else fi; closed = false
#if RUNS > 1
  :: dead(1) -> close(1, closed); closed = false
#endif
  od
}
#endif

#ifndef NO_READER
/* src/worker_requests.cpp: ask_again: a request that nobody has come for is asked for again by whoever reads. */
active proctype Reader() {
end:
  do
#ifdef RECEIPT_IS_TRUSTED
  :: atomic { requested > served && !running && !registered -> register_it() }
#else
  :: atomic { requested > served && !running && !starting -> register_it() }
#endif
  od
}
#endif

init {
  byte i;
  atomic {
    i = 0;
    do
    :: i < RUNS ->
      status[i] = RUNNING; row_lock[i] = NOBODY; bound[i] = true; canary[i] = true; owner_alive[i] = true;
      run Session(i);
      i++
    :: else -> break
    od
  }
}

#ifdef LIVENESS
ltl death_is_closed { [] (session_ended[0] -> <> (status[0] != RUNNING)) }
#endif
