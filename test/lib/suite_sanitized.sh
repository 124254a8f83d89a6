# shellcheck shell=bash
# The suite sanitized of test/run: the module under AddressSanitizer and UBSan in
# a real server, through pg_regress and the isolation tester. The server is
# Debian's, so what palloc gave is one block to them; stack, globals and what the
# standard library holds they see. In --soak also TAP files, and a server with
# assertions and valgrind (checked_server.sh).
# shellcheck source=test/lib/checked_server.sh
. test/lib/checked_server.sh

# shellcheck disable=SC2034
SANITIZED_PACKAGES="libasan8 libubsan1"
# shellcheck disable=SC2034,SC2153
SANITIZED_SOAK_PACKAGES="$CHECKED_PACKAGES $TAP_PACKAGES"
# shellcheck disable=SC2034
SANITIZED_COUNTED="files and specs, faults planted"

# What a sanitizer must be able to report; the kinds of test/memory/planted.cpp.
PLANTED_FAULTS=("stack-buffer-overflow" "global-buffer-overflow" "heap-use-after-free" "stack-use-after-return"
    "container-overflow" "signed integer overflow")
# What runs with shared memory and the worker on demand, in --soak.
SANITIZED_TAP="046_readers_in_memory 070_session_gone 072_frozen 076_worker_started 078_bound_leases 078_fallbacks
    078_uncommitted 079_beats_write_nothing 090_notify 094_report"

left_out_sanitized() {
    [ -n "${SOAK:-}" ] ||
        echo "sanitized: TAP files, the server with assertions, valgrind (--soak)"
}

suite_sanitized() {
    local BIN=$BIN PG_CONFIG=$PG_CONFIG SOURCE=$WORK/sanitized/source PATH=$PATH PGHOST=${PGHOST:-} PGUSER=${PGUSER:-}
    local log=$WORK/log/sanitized_build.log
    second_server sanitized
    copy_sources "$SOURCE"
    preload_sanitizers
    # shellcheck disable=SC2034
    BUILD_FOLDER=$SOURCE
    step_hint() { build_hint; }
    step "Building the module under sanitizers" "$log" build_sanitized || {
        step_hint() { :; }
        fail sanitized "the module does not build under sanitizers" "$log"
        return
    }
    step_hint() { :; }
    run_sql_suites sanitized "under sanitizers"
    faults_are_reported
    end_cluster sanitized
    [ -z "${SOAK:-}" ] || tap_files "under sanitizers" "stack-buffer-overflow"
    rm -rf "$SOURCE"
    [ -z "${SOAK:-}" ] || checked_server
}

# second_server FOLDER: a copy of the relocated installation, for another build
# of the module; BIN and PG_CONFIG point to it.
second_server() {
    as_server mkdir -p "$WORK/$1" || return
    as_server cp -a "$WORK/root" "$WORK/$1/" || return
    find "$WORK/$1/root" -name 'emag_sync_guard*' -prune -exec rm -rf {} +
    BIN=$WORK/$1${BIN#"$WORK"}
    PG_CONFIG=$BIN/pg_config
}

# run_postgres_as COMMANDS: every server of this installation starts as they say;
# $postgres there is the program itself. (pg_ctl restart starts again what calls
# itself the program, so that is to be this script, where it can.)
run_postgres_as() {
    as_server mv "$BIN/postgres" "$BIN/postgres.itself" || return
    printf '%s\n' "#!/bin/bash" "postgres=$BIN/postgres.itself" "$1" | as_server tee "$BIN/postgres" >/dev/null
    as_server chmod 755 "$BIN/postgres"
}

# The libraries of the sanitizers come first in every server process; that of C++
# beside them, since they look for its functions when they start.
preload_sanitizers() {
    local libraries
    libraries="$(library libasan.so) $WORK/sanitized/initfirst.so $(library libubsan.so) $(library libstdc++.so)"
    as_server gcc -shared -fPIC -fno-builtin -Wl,-z,initfirst -o "$WORK/sanitized/initfirst.so" \
        "$SOURCE/test/memory/initfirst.c"
    run_postgres_as "export LD_PRELOAD='$libraries'
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1:abort_on_error=1
exec -a \"\$0\" \"\$postgres\" \"\$@\""
}

# library NAME: the file that this compiler links.
library() { readlink -f "$(g++ -print-file-name="$1")"; }

build_sanitized() {
    build_with_assertions with_llvm=no SANITIZE=address,undefined &&
        install_planted -fsanitize=address,undefined -fno-sanitize-recover=all -D_GLIBCXX_SANITIZE_VECTOR=1
}

# install_planted FLAG...: the module with the faults on purpose.
install_planted() {
    as_server g++ -std=c++17 -O1 -g -fPIC -shared -fno-omit-frame-pointer "$@" \
        -isystem "$("$PG_CONFIG" --includedir-server)" -isystem "$("$PG_CONFIG" --pkgincludedir)/internal" \
        -o "$("$PG_CONFIG" --pkglibdir)/planted.so" "$SOURCE/test/memory/planted.cpp"
}

# run_sql_suites CLUSTER TITLE: pg_regress and the isolation tester on a server of
# this installation; one test case per file.
run_sql_suites() {
    local log=$WORK/log/$1 status=0
    sql_server "$1" "$2"
    step_hint() { last_test "$1"; }
    step "Running pg_regress $2" "$log.regress" installcheck ISOLATION= TAP_TESTS= \
        ${REGRESS_TESTS:+REGRESS="$REGRESS_TESTS"} EXTRA_REGRESS_OPTS=--use-existing || status=$?
    count_outcomes pg_regress "$2" "$log.regress" "$status" "$SOURCE/regression.diffs"
    status=0
    step "Running the isolation specs $2" "$log.isolation" installcheck REGRESS= TAP_TESTS= \
        ${ISOLATION_TESTS:+ISOLATION="$ISOLATION_TESTS"} || status=$?
    step_hint() { :; }
    count_outcomes "the isolation tester" "$2" "$log.isolation" "$status" "$SOURCE/output_iso/regression.diffs"
    no_reports "pg_regress and the isolation tester $2" "$(cluster_folder "$1")/server.log"
}

# count_outcomes PROGRAM TITLE LOG STATUS DIFFS
count_outcomes() {
    local program=$1 outcome name bad=0
    shift
    while IFS=$'\t' read -r outcome name; do
        if [ "$outcome" = ok ]; then
            pass sanitized "$name $1"
        else
            fail sanitized "$name $1"
            bad=$((bad + 1))
        fi
    done < <(outcomes "$2")
    if ! came_to_its_end "$2" || { [ "$3" != 0 ] && [ "$bad" = 0 ]; }; then
        tail -n 40 "$2" >"$2.tail"
        fail sanitized "$program $1 did not come to its end (status $3)" "$2.tail"
    fi
    [ "$bad" = 0 ] || {
        [ ! -s "$4" ] || head -n 200 "$4" | indent
    }
}

# What sanitizers say in a server's log, and the server's own checks.
REPORTS='ERROR: AddressSanitizer|runtime error: |^TRAP: |PANIC: |terminated by signal (6|11)|WARNING: +(buffer refcount|relcache reference|cache reference|snapshot reference|tupdesc reference|problem in alloc set)'

# reports_of LOG...: each with the stack.
reports_of() { cat "$@" 2>/dev/null | grep -hE -A 25 "$REPORTS" || true; }

# no_reports AFTER-WHAT LOG...: one test case. Every process of a server writes to
# its log, whatever becomes of it. Logs of no server say nothing.
no_reports() {
    local after=$1 found=$WORK/log/sanitized_reports.log number
    shift
    [ "$(cat "$@" 2>/dev/null | grep -c 'LOG:  starting PostgreSQL')" -gt 0 ] || {
        fail sanitized "no server has written a log in $after"
        return
    }
    reports_of "$@" >"$found"
    number=$(grep -cE "$REPORTS" "$found" || true)
    if [ "$number" = 0 ]; then
        pass sanitized "no report after $after"
    else
        fail sanitized "$number reports after $after" "$found"
    fi
}

# The same server, the same flags: each fault on purpose ends its backend and
# leaves a report that names it.
faults_are_reported() {
    local kind log
    log=$(cluster_folder sanitized)/server.log
    say "Planting faults"
    as_server "$BIN/psql" -qXc "CREATE FUNCTION planted_fault(text) RETURNS integer LANGUAGE c STRICT AS 'planted'" contrib_regression
    for kind in "${PLANTED_FAULTS[@]}"; do
        check sanitized "reported when planted: $kind" fault_is_reported "$kind" "$log"
    done
}

# fault_is_reported KIND LOG
fault_is_reported() {
    local lines
    lines=$(wc -l <"$2")
    come_back || return
    ! as_server "$BIN/psql" -qXAtc "SELECT planted_fault('$1')" contrib_regression || { echo "the backend lived on"; return 1; }
    tail -n +$((lines + 1)) "$2" >"$WORK/log/planted.log"
    reports_of "$WORK/log/planted.log" | grep -F "$1" || { echo "no report says $1"; cat "$WORK/log/planted.log"; return 1; }
}

quietly() { "$@" >/dev/null 2>&1; }

# end_cluster NAME: after a crash it must come back first.
end_cluster() {
    come_back || true
    quietly stop_cluster "$1" || {
        tail -n 30 "$(cluster_folder "$1")/server.log" >"$WORK/log/end_cluster.log"
        fail sanitized "the server $1 did not stop in time" "$WORK/log/end_cluster.log"
        quietly as_server "$BIN/pg_ctl" -D "$(cluster_folder "$1")/data" -w -m immediate stop || true
    }
}

# After a crash the server starts anew: waits until it answers.
come_back() {
    local tries
    for tries in $(seq 300); do
        ! quietly as_server "$BIN/psql" -qXc "SELECT 1" postgres || return 0
        sleep 0.1
    done
    echo "the server did not come back after $tries attempts"
    return 1
}

# tap_files TITLE FAULT: each file by itself, so that what is found has a name; and a fault on purpose in such a server.
tap_files() {
    local name log lines reason
    for name in $SANITIZED_TAP; do
        log=$WORK/log/sanitized_$name.log
        if ! step "Running $name $1" "$log" one_tap_file "test/t/$name.pl"; then
            tail -n 60 "$log" >"$log.tail"
            fail sanitized "$name $1" "$log.tail"
            no_reports "$name $1" "$SOURCE"/tmp_check/log/*.log
            continue
        fi
        lines=$(tap_lines "$log")
        sed -n 's/^skip\t//p' <<<"$lines" | while read -r reason; do skipped sanitized "$1: $reason"; done
        # (Where all of it was left out, there was no server either.)
        if grep -q '^ok' <<<"$lines"; then
            pass sanitized "$name $1"
            no_reports "$name $1" "$SOURCE"/tmp_check/log/*.log
        elif [ -z "$lines" ]; then
            fail sanitized "$name $1 ran no test at all"
        fi
    done
    log=$WORK/log/sanitized_planted.log
    PLANTED=$2 step "Planting a fault in a server of a TAP test $1" "$log" one_tap_file test/memory/planted.pl ||
        fail sanitized "a fault cannot be planted in a server of a TAP test $1" "$log"
    check sanitized "reported when planted in a server of a TAP test $1: $2" \
        reported_in_logs "$([ "$2" = assertion ] && echo "TRAP: " || echo "$2")" "$SOURCE"/tmp_check/log/*.log
}

one_tap_file() { installcheck REGRESS= ISOLATION= PROVE_FLAGS="--verbose --timer --merge" PROVE_TESTS="$1"; }

# reported_in_logs TEXT LOG...
reported_in_logs() { reports_of "${@:2}" | grep -F "$1" || { cat "${@:2}"; return 1; }; }
