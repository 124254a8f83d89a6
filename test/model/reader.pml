/* A reader beside a writer: memory tells of a run before its transaction commits, rows tell of it afterwards. Is a run missed, or
 * one shown that is not there, because the reader looks at both, one after the other?
 *
 * The answer must be true of some instant between the call and its return.
 */
#include "guard.h"

#define seen_running 1
#define seen_not_running 2
#define seen_uncommitted 3
#define seen_commits_meanwhile 4
#define seen_rolled_back_meanwhile 5
#define seen_marked 6
#define seen_reaped_meanwhile 7

#ifndef TURNS
#define TURNS 2
#endif

bool promise_not_missed, promise_truth;

#define NONE 0
#define OPEN 1
#define COMMITTED 2
#define ABORTED 3

byte status = NO_ROW;
/* The writer's transaction, and the statement in it that inserts is over. */
byte inserter = NONE;
bool told;
/* The entry in memory. */
bool entry, session_ended;
/* Was the run alive, was it not, all the time since the reader was called? */
bool alive_since, dead_since;

#define alive (((told && inserter == OPEN) || status == RUNNING) && !session_ended)

inline note_change() {
  if :: alive -> dead_since = false :: else -> alive_since = false fi
}

/* src/watch.cpp: watch_live, src/run_table.cpp: track_start, track_end; src/judge.cpp: judge_update */
active proctype Writer() {
  byte turns;
  do
  :: turns < TURNS ->
    turns++;
    atomic { inserter = OPEN; note_change() };
#ifdef MEMORY_AT_COMMIT
    atomic { told = true; note_change() };
#else
    /* Its session tells memory within the statement. */
    atomic { entry = true; session_ended = false; told = true; note_change() };
#endif
    if
    :: atomic { inserter = COMMITTED; status = RUNNING; note_change() };
#ifdef MEMORY_AT_COMMIT
      atomic { entry = true; session_ended = false; note_change() };
#endif
      if
      :: /* It ends, and the end commits; the entry is settled by whoever meets it. src/run_table_memory.cpp: settle */
        atomic { status = COMPLETED; entry = false; note_change() }
#ifndef NO_DEATHS
      :: /* Its session dies: src/session.cpp: tell_of_end, src/run_table_lease.cpp: track_session_end. Then it is reaped. */
        atomic { session_ended = true; note_change() };
        atomic { status = FAILED; entry = false; note_change() }
#endif
      fi
    :: atomic { inserter = ABORTED; note_change() };
      /* The entry stands there until somebody meets it. */
      atomic { entry = false; inserter = NONE; note_change() }
    fi;
    atomic { told = false; inserter = NONE; status = NO_ROW; session_ended = false; note_change() }
  :: break
  od
}

/* src/asked.cpp: runs_asked_for */
active proctype Reader() {
  bool has_entry, uncommitted, ended, answer;
  byte row;
end:
  do
  :: atomic { alive_since = alive; dead_since = !alive };
#ifdef ROWS_BEFORE_MEMORY
    row = status;
#endif
    /* src/run_table_read.cpp: tracked_runs, settle_copy; src/run_table_memory.cpp: state_of */
    atomic {
      has_entry = entry;
      uncommitted = entry && inserter == OPEN;
      ended = entry && session_ended;
#ifdef NOT_SETTLED
      uncommitted = entry && inserter != COMMITTED;
#endif
      if :: entry && inserter == ABORTED -> has_entry = false :: else fi
    };
#ifndef ROWS_BEFORE_MEMORY
    /* src/runs.cpp: read_rows, by the latest snapshot. */
    row = status;
#endif
    if
    :: row == RUNNING -> answer = !ended; if :: uncommitted -> SEEN(seen_commits_meanwhile) :: else fi
    :: else ->
      /* src/runs.cpp: append_uncommitted: what was rolled back since is none. */
      if
      :: uncommitted && inserter != ABORTED && inserter != NONE -> answer = !ended; SEEN(seen_uncommitted)
#ifdef NOT_SETTLED
      :: uncommitted && (inserter == ABORTED || inserter == NONE) -> answer = true
#else
      :: uncommitted && (inserter == ABORTED || inserter == NONE) -> answer = false; SEEN(seen_rolled_back_meanwhile)
#endif
      :: !uncommitted -> answer = false; if :: has_entry && status == FAILED -> SEEN(seen_reaped_meanwhile) :: else fi
      fi
    fi;
#ifdef MARK_IGNORED
    if :: row == RUNNING -> answer = true :: else fi;
#endif
    if :: ended -> SEEN(seen_marked) :: else fi;
    atomic {
      if :: answer -> SEEN(seen_running) :: else -> SEEN(seen_not_running) fi;
      PROMISE(not_missed, answer || !alive_since);
      PROMISE(truth, !answer || !dead_since);
      has_entry = false; uncommitted = false; ended = false; answer = false; row = NO_ROW
    }
  od
}
