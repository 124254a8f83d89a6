/* Two takers of leases, a reaper, and a server that crashes at any moment and loses its memory; its clock may stand behind what
 * it was. Do tokens only grow, is a living worker spared after the restart, is a dead one closed, is what was half done undone?
 *
 * Time runs in ticks. A worker that lives keeps its promise: no more than TTL ticks pass between two signs while the server is
 * up, nor from its start to the first sign after it. While it is down time passes freely.
 */
#include "guard.h"

#define seen_crash 1
#define seen_crash_in_reaping 2
#define seen_reap_after_restart 3
#define seen_survives_restart 4
#define seen_clock_back 5
#define seen_token_after_clock_back 6
#define seen_takers_meet 7
#define seen_crash_in_taking 8

#ifndef CRASHES
#define CRASHES 1
#endif
#ifndef CLOCKS
#define CLOCKS 3
#endif
#define TTL 1
#define LATE 2
#define TAKERS 2

bool promise_token_grows, promise_token_unique, promise_in_time, promise_one_line;

/* Committed, and kept over a crash. */
byte status[TAKERS], token[TAKERS], reaped_lines[TAKERS];
byte greatest;
/* Lost in a crash. */
bool up = true;
byte life;
bool known[TAKERS]; /* a sign of life in memory, this many ticks old: */
byte age[TAKERS];
byte taking[TAKERS]; /* the token of an open transaction, whose lock it holds */
byte counter;
/* The clock, and what is counted from it. */
byte clock = 1, since_start = LATE, row_age[TAKERS];
bool alive[TAKERS];

#define older(a) if :: a < LATE -> a++ :: else fi
#define must_beat(i) (alive[i] && up && status[i] == RUNNING && ((known[i] && age[i] >= TTL) || (!known[i] && since_start >= TTL)))

active proctype Clock() {
end:
  do
  :: atomic {
      !must_beat(0) && !must_beat(1) ->
      if :: clock < CLOCKS -> clock++ :: else fi;
      older(age[0]); older(age[1]); older(row_age[0]); older(row_age[1]);
      if :: up -> older(since_start) :: else fi
    }
  od
}

/* src/server_life.cpp: make_memory: at a crash restart too, all of it anew. */
active proctype Server() {
  byte crashes;
end:
  do
  :: atomic {
      crashes < CRASHES ->
      crashes++; SEEN(seen_crash);
      if :: taking[0] || taking[1] -> SEEN(seen_crash_in_taking) :: else fi;
      up = false; life++;
      known[0] = false; known[1] = false; age[0] = 0; age[1] = 0; taking[0] = 0; taking[1] = 0; counter = 0
    };
    if
    :: clock > 1 -> SEEN(seen_clock_back); clock = 1
    :: skip
    fi;
    atomic {
      PROMISE(one_line, (status[0] == FAILED) == (reaped_lines[0] == 1) && (status[1] == FAILED) == (reaped_lines[1] == 1));
      since_start = 0; up = true
    }
  od
}

proctype Worker(byte i) {
  byte mine, last, now_life;
  bool told;
  /* src/attach.cpp: attach, src/lease_writes.cpp: write_lease, next_token, last_token */
taking_it:
  atomic { up -> now_life = life };
#ifdef LOST_COUNTER
  atomic { counter++; mine = counter };
#else
  mine = clock;
  do
  :: atomic {
      if
#ifndef NO_TOKEN_LOCK
      :: taking[1 - i] == mine -> SEEN(seen_takers_meet); told = false
#endif
      :: else -> if :: life == now_life -> taking[i] = mine :: else fi; told = true
      fi
    };
#ifdef CLOCK_ALONE
    last = (token[1 - i] == mine -> mine : 0); /* no number twice, but no greater one either */
#else
    last = greatest;
#endif
    if
    :: life != now_life -> break
    :: life == now_life && told && last < mine -> break
    :: else ->
      if :: last > mine -> mine = last + 1 :: else -> mine = mine + 1 fi
    fi
  od;
#endif
  atomic {
    if
    :: life != now_life || !up -> goto taking_it /* the session died with the server */
    :: else ->
      PROMISE(token_unique, mine != token[0] && mine != token[1]);
      taking[i] = 0
    fi;
    if :: clock < greatest -> SEEN(seen_token_after_clock_back) :: else fi;
    /* Of his own session's starts; between two that meet, who commits first does not matter. */
    token[i] = mine; status[i] = RUNNING; row_age[i] = 0; known[i] = true; age[i] = 0;
    if :: mine > greatest -> greatest = mine :: else fi
  };
  do
  :: /* src/lease_calls.cpp: heartbeat: by memory, or by the rows where memory knows nothing (src/attach.cpp: sign_of_life). */
    atomic {
      up && alive[i] && status[i] == RUNNING && (!known[i] || age[i] > 0) ->
      if :: !known[i] -> SEEN(seen_survives_restart) :: else fi;
      known[i] = true; age[i] = 0
    }
  :: atomic { alive[i] && status[i] == RUNNING -> alive[i] = false }; break
  :: (status[i] != RUNNING) -> alive[i] = false; break
  od
}

/* src/core/verdict.cpp: server_restarted, heartbeat_lost. The grace is the ttl here: rule 5 takes the greater of both. */
#ifdef NO_GRACE
#define dead(i) (status[i] == RUNNING && ((known[i] && age[i] > TTL) || (!known[i] && row_age[i] > TTL)))
#else
#define dead(i) (status[i] == RUNNING && ((known[i] && age[i] > TTL) || (!known[i] && since_start > TTL)))
#endif

inline reap(i) {
  if
#ifdef TWO_TRANSACTIONS
  :: atomic { up && dead(i) -> PROMISE(in_time, !alive[i]); status[i] = FAILED; mine = life };
    atomic { if :: life == mine && up -> reaped_lines[i]++ :: else fi }
#else
  :: atomic { up && dead(i) -> mine = life };
    /* src/reap_close.cpp: close_runs: row, lease and journal in one transaction; a crash before its commit undoes all. */
    atomic {
      if
      :: up && life == mine && dead(i) ->
        PROMISE(in_time, !alive[i]);
        if :: life > 0 -> SEEN(seen_reap_after_restart) :: else fi;
        status[i] = FAILED; reaped_lines[i]++
      :: else -> if :: life != mine -> SEEN(seen_crash_in_reaping) :: else fi
      fi
    }
#endif
  fi;
  mine = 0
}

active proctype Reaper() {
  byte mine;
end:
  do
  :: reap(0)
  :: reap(1)
  od
}

/* src/lease_writes.cpp: next_token: greater than any that was committed when it was asked for. */
active proctype Oracle() {
  byte seen;
end:
  do
  :: seen == 0 && token[0] && !token[1] && !taking[1] -> seen = token[0]
  :: seen && token[1] -> PROMISE(token_grows, token[1] > seen); break
  od
}

init {
  atomic { alive[0] = true; alive[1] = true; run Worker(0); run Worker(1) }
}

#ifdef LIVENESS
/* The dead are closed, over any restart. */
ltl dead_is_closed { [] ((status[0] == RUNNING && !alive[0]) -> <> (status[0] != RUNNING)) }
#endif
