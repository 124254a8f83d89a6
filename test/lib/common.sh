# shellcheck shell=bash
# What every command of this project shares: one line per step with progress,
# a work folder that goes away, and an end that leaves nothing running.
#
# A command sources this file first and then calls `begin NAME`.

PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=          # the work folder; made by make_work
KEEP=${KEEP:-} # set by --keep: leave the folder and what runs in it
STEP_PID=      # the process group of the step that runs now
# shellcheck disable=SC2034
VERBOSE=${VERBOSE:-}

say() { printf '%s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() { printf '\n%s: %s\n' "$COMMAND" "$*" >&2; exit 1; }
indent() { sed 's/^/    /'; }

# begin NAME: a clean environment and the traps.
begin() {
    COMMAND=$1
    local variable
    # The caller's own connection settings must not lead us to his servers.
    for variable in "${!PG@}"; do
        case $variable in PG_MAJOR) ;; *) unset "$variable" ;; esac
    done
    unset MAKEFLAGS MAKELEVEL MFLAGS CDPATH GREP_OPTIONS
    export LC_ALL=C.UTF-8 LANG=C.UTF-8 TZ=UTC
    umask 022
    trap cleanup EXIT
    set -E
    trap 'die "unexpected end at ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND"' ERR
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

# Ends what this command started, and nothing else: the step's own process
# group, then the servers whose data lies in the work folder.
cleanup() {
    local status=$?
    trap - EXIT
    trap '' HUP INT TERM
    set +e
    [ -z "$STEP_PID" ] || end_step
    [ -z "${INSTALLING:-}" ] || let_services_start
    [ -z "${APT_LOG:-}" ] || rm -f "$APT_LOG"
    if [ -n "${ROOTS:-}" ]; then
        if [ -z "$KEEP" ]; then remove_roots; else say_where_roots_are; fi
    fi
    if [ -n "$WORK" ] && [ -d "$WORK" ]; then
        if [ -z "$KEEP" ]; then
            stop_all_clusters
            rm -rf --one-file-system "$WORK"
        elif [ "$status" != 0 ]; then
            say "Everything is left in $WORK, with what runs in it"
        fi
    fi
    exit "$status"
}

# What a step has started through sudo is root's, and only root may signal it.
end_step() {
    local tries
    signal_step -TERM
    for tries in $(seq 50); do
        signal_step -0 || return 0
        [ "$tries" -lt 50 ] || signal_step -KILL
        sleep 0.2
    done
}

# signal_step SIGNAL: to whoever is left of the step; non-zero where nobody is.
signal_step() {
    local status=1
    ! kill "$1" -- "-$STEP_PID" 2>/dev/null || status=0
    # shellcheck disable=SC2016
    [ "$(id -u)" = 0 ] || ! sudo -n bash -c 'kill "$1" -- "-$2"' kill "$1" "$STEP_PID" 2>/dev/null || status=0
    return $status
}

# The work folder belongs to the user who will run the server: PostgreSQL
# refuses root. It is closed to others, since the servers in it trust everybody
# who reaches their socket.
make_work() {
    SERVER_USER=$(id -un)
    if [ "$(id -u)" = 0 ] && id postgres >/dev/null 2>&1; then SERVER_USER=postgres; fi
    local parent
    # A socket's path may have no more than about 100 bytes.
    for parent in "${TMPDIR:-/tmp}" /tmp; do
        [ ${#parent} -le 40 ] || continue
        WORK=$(mktemp -d "$parent/emag_sync_guard.XXXXXX" 2>/dev/null) || continue
        [ "$(id -un)" = "$SERVER_USER" ] || chown "$SERVER_USER": "$WORK"
        if as_server test -w "$WORK"; then
            as_server mkdir "$WORK/log" "$WORK/tmp"
            return
        fi
        rm -rf "$WORK"
    done
    WORK=
    die "found no folder for temporary files that $SERVER_USER can write to"
}

# as_server COMMAND...: as the user who runs the server, in a folder he can read.
as_server() (
    case $PWD/ in "$WORK"/*) ;; *) cd "$WORK" || return ;; esac
    # What is left behind by a program that was killed goes with the folder.
    set -- env HOME="$WORK" TMPDIR="$WORK/tmp" USER="$SERVER_USER" LOGNAME="$SERVER_USER" "$@"
    [ "$(id -un)" = "$SERVER_USER" ] ||
        set -- setpriv --reuid="$SERVER_USER" --regid="$SERVER_USER" --init-groups "$@"
    exec "$@"
)

# step TITLE LOG COMMAND...: runs it with its output in the log; one line on the
# terminal, with the seconds (and what step_hint has to say) while it goes on.
# Returns the command's status.
step() {
    local title=$1 log=$2 status=0 begun=$SECONDS next=5 hint
    shift 2
    printf '%s ...' "$title"
    # With job control the step has a process group of its own, which can be
    # ended as a whole; and our traps run at once, since we only wait.
    set -m
    ("$@") </dev/null >"$log" 2>&1 &
    STEP_PID=$!
    set +m
    while kill -0 "$STEP_PID" 2>/dev/null; do
        sleep 0.2
        if [ $((SECONDS - begun)) -ge "$next" ]; then
            hint=$(step_hint "$log")
            printf ' %ds%s' $((SECONDS - begun)) "${hint:+ ($hint)}"
            next=$((next < 30 ? next * 2 : next + 30))
        fi
    done
    wait "$STEP_PID" || status=$?
    STEP_PID=
    if [ "$status" = 0 ]; then
        printf ' done (%d s)\n' $((SECONDS - begun))
    else
        printf ' FAILED (%d s)\n' $((SECONDS - begun))
    fi
    [ -z "$VERBOSE" ] || indent <"$log"
    return "$status"
}

# How far a step has come, from its log; a command may define its own.
step_hint() { :; }

# must TITLE LOG COMMAND...: a step without which nothing goes on.
must() {
    step "$@" || {
        tail -n 40 "$2" | indent >&2
        die "failed: $1"
    }
}
