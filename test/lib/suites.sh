# shellcheck shell=bash
# The suites of test/run. Each runs its tests and counts their cases.
# SOURCE is the copy of the tree that the server's user builds and tests in.

# ---- build ------------------------------------------------------------------
BUILD_PACKAGES="clang cmake"
BUILD_COUNTED="builds"

# The build that everything else uses. Without it the suites cannot run.
build_module() {
    BUILD_FOLDER=$SOURCE
    step_hint() { build_hint; }
    # With the module's assertions, which the suites are to meet. Else as Debian's
    # users get it, with bitcode for the JIT; a run of single suites does without,
    # which halves the time.
    local bitcode=
    wanted build || bitcode=with_llvm=no
    if step "Building with g++ and installing it there" "$WORK/log/build.log" build_with_assertions $bitcode; then
        pass build "g++"
        BUILT=yes
    else
        fail_build "g++" "$WORK/log/build.log"
        BUILT=
    fi
    step_hint() { :; }
}

build_with_assertions() {
    build_and_install "$SOURCE" CXX=g++ ASSERTIONS=yes "$@" || return
    has_assertions "$SOURCE" || { echo "the module has no assertions"; return 1; }
}

# fail_build NAME LOG: shows what the compiler said, without its command lines.
fail_build() {
    grep -vE '^(/[^ ]*/)?([a-z0-9_]+-linux-gnu-)?(g\+\+|gcc|clang(\+\+)?)(-[0-9]+)? ' "$2" | tail -n 80 >"$2.short" || true
    fail build "$1" "$2.short"
}

# The other ways to build, which only have to compile and link.
suite_build() {
    BUILD_FOLDER=$WORK/other_build
    try_build "clang++ with bitcode" build "$BUILD_FOLDER" CXX=clang++
    try_build "without bitcode, as shipped: without assertions" build_without_assertions "$BUILD_FOLDER"
    try_build "CMake, the module too" build_with_cmake "$BUILD_FOLDER"
}

has_assertions() { [ "$(nm -D "$1/emag_sync_guard.so" | grep -c ' U ExceptionalCondition$')" -gt 0 ]; }

# The module that the suites test has them (build_with_assertions); a plain make leaves them out.
build_without_assertions() {
    build "$1" CXX=g++ with_llvm=no || return
    ! has_assertions "$1" || { echo "a plain make builds assertions in"; return 1; }
}

build_with_cmake() {
    cd "$1" && as_server cmake --preset debug -DPG_CONFIG="$PG_CONFIG" -DBUILD_TESTING=OFF &&
        as_server cmake --build --preset debug -j "$JOBS" && test -s build/debug/emag_sync_guard.so
}

# try_build NAME COMMAND...
try_build() {
    local name=$1
    shift
    copy_sources "$BUILD_FOLDER"
    step_hint() { build_hint; }
    if step "Building: $name" "$WORK/log/build_other.log" "$@"; then
        pass build "$name"
    else
        fail_build "$name" "$WORK/log/build_other.log"
    fi
    step_hint() { :; }
    rm -rf "$BUILD_FOLDER"
}

# ---- unit -------------------------------------------------------------------
UNIT_PACKAGES="g++ cmake make libgtest-dev libgmock-dev"
UNIT_COUNTED="GoogleTest cases"

# The core alone: no server, no server headers; under the sanitizers.
suite_unit() {
    local log=$WORK/log/unit.log status=0
    step "Building the core and its unit tests" "$log" build_unit_tests || {
        tail -n 60 "$log" >"$log.tail"
        fail unit "the unit tests do not build" "$log.tail"
        return
    }
    step "Running the unit tests" "$log" unit_tests || status=$?
    count_ctest "$log"
    [ "$status" = 0 ] || [ "$(count failed unit)" -gt 0 ] || fail unit "could not run to its end" "$log"
    expect_some unit
}

build_unit_tests() {
    cd "$SOURCE" && as_server cmake --preset asan && as_server cmake --build --preset asan -j "$JOBS"
}

unit_tests() { cd "$SOURCE" && as_server ctest --preset asan -j "$JOBS"; }

#  12/34 Test #12: Verdict.SilentRunIsDead ...........   Passed    0.00 sec
count_ctest() {
    local name outcome before
    before=$(count failed unit)
    while IFS=$'\t' read -r outcome name; do
        if [ "$outcome" = Passed ]; then pass unit "$name"; else fail unit "$name"; fi
    done < <(sed -nE 's/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: (.*[^ .*]) *\.*[ *]*(Passed|Failed|Exception|Timeout|Not Run|Skipped|SEGFAULT).*/\2\t\1/p' "$1")
    [ "$(count failed unit)" = "$before" ] || indent <"$1"
}

# ---- pg_regress and the isolation tester --------------------------------------
REGRESS_COUNTED="files in test/sql"
ISOLATION_COUNTED="specs in test/specs"

# sql_server CLUSTER TITLE: a server for both, as a user has it: pg_cron preloaded,
# we are not. Its time zone is not UTC, so that a time taken in the wrong zone shows.
sql_server() {
    must "Starting the server $2" "$WORK/log/$1_server.log" make_cluster "$1" \
        "shared_preload_libraries = 'pg_cron'" \
        "cron.database_name = 'contrib_regression'" \
        "cron.host = '$(cluster_folder "$1")'" \
        "timezone = 'Europe/Bucharest'" \
        "max_prepared_transactions = 10"
    use_cluster "$1"
    # It stands before pg_regress comes, since pg_cron's launcher sits in it.
    as_server "$BIN/createdb" contrib_regression
}

regress_server() {
    [ -z "${REGRESS_SERVER:-}" ] || return 0
    sql_server regress "for the SQL tests"
    REGRESS_SERVER=yes
}

# expect_something EXPECTED FOLDER SUFFIX: pg_regress gives up altogether at a
# test without an expected result; with an empty one it fails that test alone.
expect_something() {
    local file
    for file in "$SOURCE/$2"/*"$3"; do
        file=${file##*/}
        [ -e "$SOURCE/$1/${file%"$3"}.out" ] || as_server touch "$SOURCE/$1/${file%"$3"}.out"
    done
}

# What each of the three suites leaves of `make installcheck`. What a test builds itself has assertions too: make takes the
# variable from the environment.
# A step of a spec that hangs is given up after this many seconds, not 360.
installcheck() {
    as_server env ASSERTIONS=yes PGISOLATIONTIMEOUT=60 ${SOAK:+EMAG_SYNC_GUARD_MEMORY=full} make -C "$SOURCE" PG_CONFIG="$PG_CONFIG" installcheck "$@"
}

suite_regress() {
    local log=$WORK/log/regress.log status=0
    regress_server
    as_server mkdir -p "$SOURCE/expected"
    expect_something expected test/sql .sql
    step_hint() { last_test "$1"; }
    step "Running pg_regress" "$log" \
        installcheck ${REGRESS_TESTS:+REGRESS="$REGRESS_TESTS"} ISOLATION= TAP_TESTS= \
        EXTRA_REGRESS_OPTS=--use-existing || status=$?
    step_hint() { :; }
    accept_results "$SOURCE/results" expected
    count_regress regress "$log" "$status" "$SOURCE/regression.diffs"
}

suite_isolation() {
    local log=$WORK/log/isolation.log status=0
    regress_server
    as_server mkdir -p "$SOURCE/test/expected"
    expect_something test/expected test/specs .spec
    step_hint() { last_test "$1"; }
    step "Running the isolation specs" "$log" \
        installcheck REGRESS= ${ISOLATION_TESTS:+ISOLATION="$ISOLATION_TESTS"} TAP_TESTS= || status=$?
    step_hint() { :; }
    accept_results "$SOURCE/output_iso/results" test/expected
    count_regress isolation "$log" "$status" "$SOURCE/output_iso/regression.diffs"
}

# accept_results FOLDER EXPECTED: for --accept. This run still counts as it went.
accept_results() {
    local result
    [ -n "$ACCEPT" ] || return 0
    mkdir -p "$PROJECT/$2"
    for result in "$1"/*.out; do
        [ -e "$result" ] || continue
        cmp -s "$result" "$PROJECT/$2/${result##*/}" && continue
        # Not copied with its owner: the tree is the caller's.
        cat "$result" >"$PROJECT/$2/${result##*/}"
        note "accepted: $2/${result##*/}"
    done
}

# PostgreSQL 15:  test name   ... ok    12 ms     (parallel groups are indented)
# from 16:        ok 1   - name   12 ms           (+ in parallel groups)
outcomes() {
    sed -nE -e 's/^(test| {4,}) *([A-Za-z0-9_-]+) +\.\.\. ok .*/ok\t\2/p' \
        -e 's/^(test| {4,}) *([A-Za-z0-9_-]+) +\.\.\. FAILED.*/bad\t\2/p' \
        -e 's/^ok +[0-9]+ +[-+] +([A-Za-z0-9_-]+) .*/ok\t\1/p' \
        -e 's/^not ok +[0-9]+ +[-+] +([A-Za-z0-9_-]+) .*/bad\t\1/p' "$1"
}

last_test() { outcomes "$1" | tail -n 1 | cut -f 2; }

# came_to_its_end LOG: pg_regress says at its end how many tests there were; so many were seen, and it was more than none.
# "All 44 tests passed.", "1 of 44 tests failed."
came_to_its_end() {
    local all
    all=$(sed -nE 's/.*(All|of) ([0-9]+) tests (passed|failed).*/\2/p' "$1" | tail -n 1)
    [ "${all:-0}" -gt 0 ] && [ "$all" = "$(outcomes "$1" | wc -l)" ]
}

# count_regress SUITE LOG STATUS DIFFS
count_regress() {
    local suite=$1 log=$2 status=$3 diffs=$4 outcome name bad=0
    while IFS=$'\t' read -r outcome name; do
        if [ "$outcome" = ok ]; then pass "$suite" "$name"; else fail "$suite" "$name"; bad=1; fi
    done < <(outcomes "$log")
    came_to_its_end "$log" || [ "$status" = 0 ] || bad=
    if [ "$bad" = 1 ]; then
        [ ! -s "$diffs" ] || head -n 400 "$diffs" | indent
        [ ! -s "$diffs" ] || grep -E '^[-+]' "$diffs" | cut -c 1-200 | sed -n 1,20p >>"$WORK/differed"
        grep -E 'PANIC|TRAP|terminated by signal' "$(cluster_folder regress)/server.log" | tail -n 20 | indent || true
    elif [ "$status" != 0 ]; then
        fail "$suite" "could not run to its end" "$log"
    fi
    expect_some "$suite"
}

# ---- TAP --------------------------------------------------------------------
TAP_PACKAGES="chromium chromium-driver fonts-dejavu-core iproute2 libfaketime libipc-run-perl perl pgbouncer procps prometheus
    prometheus-postgres-exporter python3-asyncpg python3-celery python3-greenlet python3-jsonschema python3-psycopg2
    python3-selenium python3-sqlalchemy"
TAP_COUNTED="TAP assertions"

suite_tap() {
    local log=$WORK/log/tap.log status=0
    # shellcheck disable=SC2317
    step_hint() { grep -oE 'test/t/[A-Za-z0-9_]+\.pl \.' "$1" | sed 's|.*/||; s| .*||' | tail -n 1; }
    step "Running the TAP tests" "$log" installcheck REGRESS= ISOLATION= \
        PROVE_FLAGS="--verbose --timer --merge" ${PROVE_TESTS:+PROVE_TESTS="$PROVE_TESTS"} || status=$?
    step_hint() { :; }
    count_tap "$log" "$status"
    [ ! -d "$SOURCE/tmp_check/fault_build" ] ||
        check tap "the module with points to fail at has the assertions that the module has" fault_build_has_assertions
    [ -n "${PROVE_TESTS:-}" ] || without_pg_cron
}

# Object by object: who calls what a false assertion calls.
fault_build_has_assertions() {
    objects_with_assertions "$SOURCE" | grep . && diff <(objects_with_assertions "$SOURCE") <(objects_with_assertions "$SOURCE/tmp_check/fault_build/source")
}

objects_with_assertions() { (cd "$1" && nm -A src/*.o src/*/*.o | sed -n 's/:.* U ExceptionalCondition$//p' | sort -u); }

# The one file that tells of a server where pg_cron is not installed runs again,
# where it is not.
without_pg_cron() {
    local log=$WORK/log/tap_without_pg_cron.log status=0
    mkdir "$WORK/pg_cron"
    mv "$("$PG_CONFIG" --pkglibdir)/pg_cron.so" "$("$PG_CONFIG" --sharedir)"/extension/pg_cron* "$WORK/pg_cron/"
    step "Running one of them without pg_cron" "$log" installcheck REGRESS= ISOLATION= \
        PROVE_FLAGS="--verbose --timer --merge" PROVE_TESTS=test/t/031_cron_missing.pl || status=$?
    mv "$WORK/pg_cron/pg_cron.so" "$("$PG_CONFIG" --pkglibdir)/"
    mv "$WORK/pg_cron"/* "$("$PG_CONFIG" --sharedir)/extension/"
    count_tap "$log" "$status"
}

# tap_output LOG FILE: what one file printed.
tap_output() {
    awk -v f="test/t/$2" '/^\[?[0-9:]*\]? ?test\/t\/[A-Za-z0-9_]+\.pl \.+/ { on = index($0, f " ") } /^Test Summary Report/ { on = 0 } on' "$1"
}

# tap_lines LOG: "ok", "bad", "skip" or "badly" and what it is about, parted by a tab: the assertions at the top level of each
# file (a subtest is one), and one for a file that ended badly without a failed assertion.
tap_lines() {
    awk -v OFS='\t' '
        /^\[?[0-9:]*\]? ?test\/[a-z]+\/[A-Za-z0-9_]+\.pl \.+/ { match($0, /[A-Za-z0-9_]+\.pl \./); file = substr($0, RSTART, RLENGTH - 2) }
        /^Test Summary Report/ { report = 1 }
        report && /^test\/t\/.*Wstat: [1-9].*Failed: 0\)/ { print "badly", substr($1, 8); next }
        report { next }
        /^1\.\.0 # SKIP/ { sub(/^1\.\.0 # SKIP ?/, ""); print "skip", file ": all of it: " $0; next }
        /^ok [0-9]+.*# skip/ { sub(/^ok .*# skip ?/, ""); print "skip", file ": " $0; next }
        /^not ok [0-9]+.*# TODO/ { next }
        /^ok [0-9]+/ { sub(/^ok [0-9]+( - )?/, ""); print "ok", file ": " $0 }
        /^not ok [0-9]+/ { sub(/^not ok [0-9]+( - )?/, ""); print "bad", file ": " $0 }' "$1"
}

count_tap() {
    local log=$1 status=$2 outcome name bad=0
    while IFS=$'\t' read -r outcome name; do
        case $outcome in
        ok) pass tap "$name" ;;
        skip) skipped tap "$name" ;;
        bad) fail tap "$name"; bad=1 ;;
        badly)
            { tap_output "$log" "$name"; cat "$SOURCE/tmp_check/log/regress_log_${name%.pl}" 2>/dev/null || true; } |
                tail -n 40 >"$log.short"
            fail tap "$name ended badly" "$log.short"
            bad=1 ;;
        esac
    done < <(tap_lines "$log")
    if [ "$bad" = 1 ]; then
        { grep -nE -A 12 '^not ok ' "$log" || true; } | head -n 200 | indent
        sed -n '/^Test Summary Report/,$p' "$log" | indent
    elif [ "$status" != 0 ]; then
        fail tap "could not run to its end" "$log"
    fi
    expect_some tap
}
