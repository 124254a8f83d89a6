#!/bin/bash
# A sync as a shell script, with psql alone. One psql is kept open as a coprocess, and the lease is bound to its session: when psql
# dies, the run is closed at once. When the script alone is killed with -9, psql comes to the end of its input and says goodbye;
# then it is the ttl that counts. Every other way out goes through the trap.
#
# Connects by the usual PG* variables. Usage: psql_worker.sh [seconds of work | fail]
set -uo pipefail

coproc SESSION { exec psql -XqAt -v ON_ERROR_STOP=0 2>&1; }
# Bash forgets these, and closes the two, when psql dies.
FROM_SESSION=${SESSION[0]} TO_SESSION=${SESSION[1]} SESSION_PROCESS=$SESSION_PID
disown "$SESSION_PROCESS"
trap '' PIPE

# ask STATEMENT: the first line that it answers, in $ANSWER. What an interrupted one left unread is passed over.
ASKED=0
ask() {
    local line
    ANSWER="" ASKED=$((ASKED + 1))
    { printf '\\echo begin %d\n%s\n\\echo end %d\n' "$ASKED" "$1" "$ASKED" >&"$TO_SESSION"; } 2>/dev/null
    while { IFS= read -r line <&"$FROM_SESSION"; } 2>/dev/null; do
        case $line in
            "begin $ASKED") ANSWER= ;;
            "end $ASKED") return 0 ;;
            *) ANSWER=${ANSWER:-$line} ;;
        esac
    done
    ANSWER="the session has ended"
    return 1
}

finish() { ask "SELECT 'ok' FROM sync_guard.finish_sync($TOKEN, '$1', '$2');"; [ "$ANSWER" = ok ]; }

end() {
    local code=$?
    trap - EXIT
    case $code in
        0) finish completed null && echo completed || { echo "stopped: $ANSWER"; code=3; } ;;
        3) echo "stopped: run $KEY was reaped" ;;
        *) finish failed "[\"ended with code $code\"]" && echo "failed: code $code" || echo "stopped: $ANSWER" ;;
    esac
    kill "$SESSION_PROCESS" 2>/dev/null
    exit "$code"
}

ask "SELECT key || ' ' || token FROM sync_guard.start_sync('app.emag_sync_logs',
     '{\"sync_type\": \"products\", \"account_type\": \"main\", \"operation\": \"full_sync\"}', ttl => '3 seconds', bind_session => true);"
read -r KEY TOKEN <<<"$ANSWER"
[[ $TOKEN =~ ^[0-9]+$ ]] || { echo "could not start: $ANSWER"; exit 4; }
trap end EXIT
trap 'exit 2' TERM INT
echo "started $KEY"

# The work.
argument=${1:-1}
[ "$argument" = fail ] && total=1 || total=$((argument * 10))
for ((done = 1; done <= total; done++)); do
    sleep 0.1
    [ "$argument" != fail ] || exit 1
    ask "SELECT sync_guard.heartbeat($TOKEN, $done, $total);" || exit 1
    [ "$ANSWER" = t ] || exit 3
done
