# shellcheck shell=bash
# Installs what is missing from Debian's own packages, and only then.

# What every build needs.
COMPILER_PACKAGES="g++ make"

# server_packages MAJOR
server_packages() {
    echo "postgresql-$1 postgresql-client-$1 postgresql-server-dev-$1 postgresql-$1-cron util-linux"
}

# Sets PG_MAJOR: as the caller asked, else the newest server installed, else
# what this Debian calls `postgresql`.
choose_pg_major() {
    [ -z "${PG_MAJOR:-}" ] || return 0
    local postgres
    for postgres in $(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V); do
        [ -x "$postgres" ] || continue
        postgres=${postgres%/bin/postgres}
        PG_MAJOR=${postgres##*/}
    done
    if [ -z "${PG_MAJOR:-}" ]; then
        MISSING="a PostgreSQL server"
        need_apt
        need_root
        refresh_package_lists
        PG_MAJOR=$(apt-cache depends postgresql 2>/dev/null | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
    fi
    [ -n "$PG_MAJOR" ] || die "no PostgreSQL server is installed and the package mirror offers none"
    [ "$PG_MAJOR" -ge 15 ] || die "needs PostgreSQL 15 or later, found $PG_MAJOR (PG_MAJOR=... names another)"
}

need_apt() {
    command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
        die "installs what it needs through apt-get, and this is no Debian; see README.md for a build by hand"
}

missing_packages() {
    local package installed
    # Some are virtual on some releases: what provides them counts.
    installed=$(dpkg-query -W -f '${db:Status-Status} ${Package} ${Provides}\n' | sed -n 's/^installed //p')
    for package in "$@"; do
        grep -Eq "^(.* )?${package//+/\\+}([ ,].*)?\$" <<<"$installed" || echo "$package"
    done
}

# Never asks: in a step nobody could answer.
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n -- "$@"; fi; }

# Asks for the password now, at the terminal, where sudo wants one.
need_root() {
    [ "$(id -u)" != 0 ] || return 0
    command -v sudo >/dev/null || die "neither am I root nor is there sudo, and this is missing: $MISSING"
    sudo -n true 2>/dev/null || sudo -v || die "sudo refused, and this is missing: $MISSING"
}

# A mirror that says nothing is given up after half a minute, three times; another apt that is at work is waited for.
APT_PATIENCE=(-o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 -o Acquire::Retries=2 -o DPkg::Lock::Timeout=300)
# Seconds that asking for lists, and an install, may take in all: what only trickles would go on for ever.
LISTS_SECONDS=600
INSTALL_SECONDS=3600

refresh_package_lists() {
    [ -z "${LISTS_ARE_FRESH:-}" ] || return 0
    # Not in the work folder, whose owner comes with a package.
    APT_LOG=$(mktemp "${TMPDIR:-/tmp}/emag_sync_guard_apt.XXXXXX")
    # One source of many that does not answer is no reason to give up: the
    # install will tell.
    step "Asking the package mirror for its lists" "$APT_LOG" \
        as_root timeout --foreground -k 30 "$LISTS_SECONDS" apt-get -q "${APT_PATIENCE[@]}" update || {
        grep -E '^(E|W):' "$APT_LOG" | indent
        note "going on with the lists that are there"
    }
    LISTS_ARE_FRESH=1
}

# need_packages NAME...
need_packages() {
    need_apt
    MISSING=$(missing_packages "$@" | sort -u | tr '\n' ' ')
    [ -n "${MISSING// /}" ] || return 0
    need_root
    refresh_package_lists
    # shellcheck disable=SC2086
    INSTALLING=yes # cleanup asks
    must "Installing ${MISSING% }" "$APT_LOG" install_packages $MISSING
    let_services_start
    INSTALLING=
}

# Debian's packages start what they install: the server a cluster that it makes
# first, pgbouncer and Prometheus themselves. The ways to stop that which change no file of the
# administrator's are two files that lie there for the time of the install only:
# a drop-in that createcluster.conf includes, and the policy that dpkg's scripts
# ask. (No variable reaches those scripts.) Both say whose they are, so that what a
# run leaves which nothing could end in order is taken away by the next one.
CLUSTER_DROP_IN=/etc/postgresql-common/createcluster.d/emag_sync_guard_installs.conf
SERVICE_POLICY=/usr/sbin/policy-rc.d
OURS_FOR_AN_INSTALL="# of emag_sync_guard's test/run or demo/run, for the time of an install"

let_no_service_start() {
    as_root mkdir -p "${CLUSTER_DROP_IN%/*}" || return
    printf '%s\n' "$OURS_FOR_AN_INSTALL" "create_main_cluster = false" | as_root tee "$CLUSTER_DROP_IN" >/dev/null || return
    [ ! -e "$SERVICE_POLICY" ] || return 0
    printf '%s\n' '#!/bin/sh' "$OURS_FOR_AN_INSTALL" 'case $1 in postgresql*|pgbouncer*|prometheus*) exit 101 ;; esac' |
        as_root tee "$SERVICE_POLICY" >/dev/null && as_root chmod 755 "$SERVICE_POLICY"
}

# After an install, and where a command is ended in the midst of one: takes both away, if they are there and ours.
let_services_start() {
    local file
    for file in "$CLUSTER_DROP_IN" "$SERVICE_POLICY"; do
        ! grep -qsxF "$OURS_FOR_AN_INSTALL" "$file" || as_root rm -f "$file"
    done
    # (A folder that has been made for it; the package removes it too, where it is empty.)
    [ ! -d "${CLUSTER_DROP_IN%/*}" ] || [ -n "$(ls -A "${CLUSTER_DROP_IN%/*}")" ] || dpkg-query -S "${CLUSTER_DROP_IN%/*}" >/dev/null 2>&1 ||
        as_root rmdir -p --ignore-fail-on-non-empty "${CLUSTER_DROP_IN%/*}"
}

install_packages() {
    local status=0
    let_no_service_start || return
    as_root env DEBIAN_FRONTEND=noninteractive timeout --foreground -k 60 "$INSTALL_SECONDS" \
        apt-get -q -y --no-install-recommends "${APT_PATIENCE[@]}" -o Dpkg::Use-Pty=0 install "$@" || status=$?
    # Nor shall it start with the machine because a test wanted the program.
    local service
    for service in pgbouncer prometheus prometheus-node-exporter prometheus-postgres-exporter; do
        case " $* " in *" $service "*)
            ! command -v systemctl >/dev/null || as_root systemctl disable "$service" || true ;;
        esac
    done
    return "$status"
}

# ---- Node.js ----------------------------------------------------------------
has_node_pg() { command -v node >/dev/null && NODE_PATH=$1 node -e 'require("pg")' 2>/dev/null; }

# need_node_pg: sets NODE_PATH to a folder with the client `pg`. Debian's own
# where it can be installed; a node from elsewhere often keeps it out, and then
# npm fetches it into the work folder.
need_node_pg() {
    NODE_PATH=/usr/share/nodejs:/usr/lib/nodejs
    if ! has_node_pg "$NODE_PATH"; then
        need_apt
        if ! command -v npm >/dev/null || apt-get -s install --no-install-recommends nodejs node-pg >/dev/null 2>&1; then
            need_packages nodejs node-pg
        else
            NODE_PATH=$WORK/node/node_modules
            must "Fetching the client pg for Node.js" "$WORK/log/npm.log" \
                as_server env HOME="$WORK" npm install --prefix "$WORK/node" --no-audit --no-fund pg
        fi
    fi
    has_node_pg "$NODE_PATH" || die "node finds no module pg"
    export NODE_PATH
}
