# shellcheck shell=bash
# The suite hostile of test/run: what attacks do to a guarded database. Every function with every kind of bad argument; queries
# by sqlsmith; calls, statements, cancels and ends of sessions at random. Test cases are printed by the programs in test/hostile.

# shellcheck disable=SC2034
HOSTILE_PACKAGES="python3-psycopg2 sqlsmith"
# shellcheck disable=SC2034
HOSTILE_COUNTED="attacks"

suite_hostile() {
    # HOSTILE_SEED replays a run; the default one is the same every time.
    local seed=${HOSTILE_SEED:-1} queries=300 random_seconds=15 rounds=1 round
    if [ -n "$SOAK" ]; then
        seed=${HOSTILE_SEED:-$(date +%s)} queries=3000 random_seconds=60 rounds=4
    fi
    note "the seed is $seed (HOSTILE_SEED=$seed replays it)"
    local HOSTILE_LOG
    HOSTILE_LOG=$(cluster_folder hostile)/data/log
    must "Starting a server to attack" "$WORK/log/hostile_server.log" hostile_server
    # Other suites' clients keep to their own servers.
    local PGHOST PGUSER PSQLRC PATH=$PATH
    use_cluster hostile
    export HOSTILE_LOG
    hostile_scene
    attack "Calling every function with bad arguments" arguments.py ${SOAK:+soak}
    attack "Planting what the checks must find" planted.py
    hostile_scene smith.sql
    attack "sqlsmith as a superuser" smith.py postgres "$seed" "$queries"
    attack "sqlsmith as a caller" smith.py hostile_caller "$seed" "$queries"
    for round in $(seq "$rounds"); do
        hostile_scene
        attack "Calling at random, seed $((seed + round - 1))" generator.py $((seed + round - 1)) "$random_seconds" "$(cluster_folder hostile)"
    done
    expect_some hostile
    stop_cluster hostile >/dev/null
}

left_out_hostile() {
    [ -n "$SOAK" ] || echo "of the suite hostile: every argument as every role, texts of 10 MB, minutes of sqlsmith and of random calls, seeds of the day"
}

# Everything that fails is in its log, with its SQLSTATE and where it was raised.
hostile_server() {
    make_cluster hostile "shared_preload_libraries = 'emag_sync_guard'" "logging_collector = on" "log_destination = 'jsonlog'" \
        "log_filename = 'hostile.log'" "log_rotation_age = 0" "log_rotation_size = 0" "log_error_verbosity = verbose" \
        "timezone = 'Europe/Bucharest'" "max_prepared_transactions = 10"
}

# hostile_scene [FILE]: the database anew, as scene.sql has it, and with that file too.
hostile_scene() { must "Making the database anew" "$WORK/log/hostile_scene.log" make_hostile_scene "$@"; }

make_hostile_scene() {
    local prepared
    for prepared in $(as_server "$BIN/psql" -XAtqc "SELECT gid FROM pg_prepared_xacts" -d postgres); do
        as_server "$BIN/psql" -Xqc "ROLLBACK PREPARED '$prepared'" -d hostile || return
    done
    as_server "$BIN/psql" -Xq -v ON_ERROR_STOP=1 -d postgres -c "DROP DATABASE IF EXISTS hostile WITH (FORCE)" \
        -c "DROP ROLE IF EXISTS hostile_owner, hostile_caller, hostile_nobody" -c "CREATE DATABASE hostile" || return
    as_server "$BIN/psql" -Xq -v ON_ERROR_STOP=1 -d hostile -v application="$SOURCE/demo/application.sql" -v incident="$SOURCE/demo/incident.sql" \
        -f "$SOURCE/test/hostile/scene.sql" || return
    [ $# = 0 ] || as_server "$BIN/psql" -Xq -v ON_ERROR_STOP=1 -d hostile -f "$SOURCE/test/hostile/$1"
}

# attack TITLE PROGRAM ARGUMENT...: its test cases are lines "ok NAME" and "not ok NAME REASON", with tabs; its figures begin with #.
attack() {
    local title=$1 log status=0 outcome name reason
    log=$WORK/log/hostile_${2%.py}.log
    # shellcheck disable=SC2317
    step_hint() { grep -cE '^(not )?ok' "$1" || true; }
    step "$title" "$log" as_server /usr/bin/python3 -B "$SOURCE/test/hostile/$2" "${@:3}" || status=$?
    # shellcheck disable=SC2317
    step_hint() { :; }
    while IFS=$'\t' read -r outcome name reason; do
        case $outcome in
        ok) pass hostile "$name" ;;
        "not ok")
            fail hostile "$name"
            tr '|' '\n' <<<"$reason" | indent ;;
        "# "*) note "${outcome#\# }" ;;
        esac
    done <"$log"
    grep -qE '^(not )?ok' "$log" || status="$status, and it printed no test case"
    [ "$status" = 0 ] || { tail -n 30 "$log" >"$log.tail"; fail hostile "$title ended badly: status $status" "$log.tail"; }
}
