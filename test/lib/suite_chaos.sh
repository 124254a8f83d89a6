# shellcheck shell=bash
# The suite chaos of test/run: test/chaos, and the tests of its own oracle. CHAOS_SEED repeats the plan of an earlier run;
# --keep leaves its folder (the facts of every process, the tables in the end, the servers' logs).

CHAOS_PACKAGES="pgbouncer python3 python3-asyncpg python3-psycopg2"
# shellcheck disable=SC2034
CHAOS_COUNTED="invariants, each over all runs, held or broken on purpose; tests of the oracle"

suite_chaos() {
    local log=$WORK/log/chaos_oracle.log status=0
    # The oracle must be able to fail: each kind of violation, made up, is found.
    step "Testing the oracle of the chaos" "$log" chaos_program test_oracle.py || status=$?
    count_invariants "$log" "the oracle " "$status"
    if [ -n "$SOAK" ]; then
        chaos_run "a soak of chaos" --seconds 1080 --workers 20 --faults 64
    else
        chaos_run "chaos" --seconds 72 --workers 16 --faults 8
    fi
    # And of a live server whose guard is broken on purpose: which invariants each way breaks stands in test/chaos/control.py.
    chaos_broken "the guard is switched off" 0 off
    chaos_broken "the triggers are disabled" 0 triggers
    chaos_broken "its limits and tables are tampered with" 0 limits tables
    [ -z "$SOAK" ] || chaos_broken "a restarted server has no grace" 3 grace
    expect_some chaos
}

left_out_chaos() {
    [ -n "$SOAK" ] || echo "chaos: the soak of 18 minutes, more than 10 000 runs and 50 faults of the servers; a guard without restart_grace"
}

chaos_program() {
    as_server env PYTHONDONTWRITEBYTECODE=1 /usr/bin/python3 "$SOURCE/test/chaos/$1" "${@:2}"
}

# count_invariants LOG PREFIX STATUS: lines "ok N - NAME" and "not ok N - NAME", the latter with what comes after; as many as the
# line "1..N" has announced.
count_invariants() {
    local planned
    count_lines chaos "$2" "$1"
    planned=$(sed -nE 's/^1\.\.([0-9]+)$/\1/p' "$1")
    if [ "$LINES_SEEN" != "${planned:-none}" ] || { [ "$3" != 0 ] && [ "$LINES_BAD" = 0 ]; }; then
        fail chaos "$2could not run to its end: $LINES_SEEN of ${planned:-an unknown number}" "$1"
    fi
    { grep '^# ' "$1" || true; } | head -n 60 | indent
}

# chaos_run TITLE ARGUMENTS...
chaos_run() {
    local title=$1 folder=$WORK/chaos log=$WORK/log/chaos.log status=0
    shift
    # shellcheck disable=SC2317
    step_hint() { sed -nE 's/^at [0-9]+ s: //p' "$1" | tail -n 1; }
    step "Running $title" "$log" chaos_program run.py --bin "$BIN" --folder "$folder" ${CHAOS_SEED:+--seed "$CHAOS_SEED"} "$@" ||
        status=$?
    step_hint() { :; }
    { grep -vE '^(at [0-9]+ s:|1\.\.|ok |not ok |# |WARNING:|DETAIL:|HINT:|FATAL:)' "$log" || true; } | head -n 60 | indent
    count_invariants "$log" "" "$status"
    if [ "$status" != 0 ]; then
        note "the same decisions again: CHAOS_SEED=$(sed -nE 's/^seed ([0-9]+):.*/\1/p' "$log") test/run --only chaos --keep${SOAK:+ --soak}"
        note "the evidence, where --keep was given: $folder; judged again by test/chaos/run.py --check --folder $folder"
    fi
    [ -n "$KEEP" ] || rm -rf "$folder"
}

# chaos_broken WHAT FAULTS HOW...: the oracle finds each invariant broken that cannot hold then.
chaos_broken() {
    local title="chaos while $1" faults=$2 folder=$WORK/chaos_$3 log=$WORK/log/chaos_$3.log status=0
    shift 2
    # shellcheck disable=SC2317
    step_hint() { sed -nE 's/^at [0-9]+ s: //p' "$1" | tail -n 1; }
    # shellcheck disable=SC2046
    step "Running $title" "$log" chaos_program run.py --bin "$BIN" --folder "$folder" $(printf -- '--break %s ' "$@") \
        --seconds 12 --workers 12 --faults "$faults" ${CHAOS_SEED:+--seed "$CHAOS_SEED"} || status=$?
    step_hint() { :; }
    count_invariants "$log" "the oracle finds it broken: " "$status"
    [ -n "$KEEP" ] || rm -rf "$folder"
}
