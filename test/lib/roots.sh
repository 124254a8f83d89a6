# shellcheck shell=bash
# Debian roots: other releases than this machine's, each in a folder outside the
# tree, made by debootstrap from the mirror that this machine's apt uses.
#
#   make_root trixie gcc make || skipped mysuite "$ROOT_REASON"
#   copy_into_root trixie /src/tree
#   in_root trixie env -C /src/tree test/run --only build
#
# Whatever a root mounts, and whatever runs in it, lives in namespaces of its
# own and ends with the command: nothing is mounted on this machine, and no
# process stays. The packages of who makes roots: ROOT_PACKAGES.

# shellcheck disable=SC2034
ROOT_PACKAGES="debootstrap debian-archive-keyring libeatmydata1 util-linux"
ROOTS=       # the folder of this run's roots; made by the first make_root
ROOT_REASON= # why make_root returned non-zero
declare -A ROOT_FAILED=() # release → why it was not made: it is not tried again
# Seconds for fetching a release, and for installing into it.
ROOT_SECONDS=1800

# The server that a release brings.
root_pg_major() {
    case $1 in bookworm) echo 15 ;; trixie) echo 17 ;; sid) echo 18 ;; esac
}

# root_folder RELEASE: where it lies; root may read and write there from outside.
root_folder() { echo "$ROOTS/$1"; }

# make_root RELEASE [PACKAGE...]: bookworm, trixie or sid, with these packages
# in it. Once per run: a root that is there only gets the packages that it lacks.
# Non-zero, with the reason in ROOT_REASON, where that cannot be: no root's
# rights, a mirror that does not answer, a package that cannot be installed.
make_root() {
    local release=$1 log=$WORK/log/root_$1.log
    shift
    ROOT_REASON=
    if [ -z "$ROOTS" ] || ! as_root test -e "$(root_folder "$release").made"; then
        ROOT_REASON=${ROOT_FAILED[$release]:-}
        [ -z "$ROOT_REASON" ] || return 1
        roots_are_possible && mirror_answers "$release" || { ROOT_FAILED[$release]=$ROOT_REASON; return 1; }
        step "Making a root of Debian $release" "$log" bootstrap_root "$release" || {
            root_failed "making a root of $release from $DEBIAN_MIRROR failed" "$log"
            ROOT_FAILED[$release]=$ROOT_REASON
            return 1
        }
        as_root touch "$(root_folder "$release").made"
    fi
    [ $# -gt 0 ] || return 0
    step "Installing what is to be tested with in $release" "$log" install_into_root "$release" "$@" || {
        root_failed "$release does not install what it needs" "$log"
        return 1
    }
}

# root_failed REASON LOG
root_failed() {
    local said
    said=$(grep -E '^(E|W):|dpkg: error|No space left' "$2" | head -n 3 | tr '\n' ' ')
    ROOT_REASON="$1: ${said:-$(tail -n 1 "$2")}"
    tail -n 15 "$2" | indent
}

# Sets DEBIAN_MIRROR, and ROOTS: a folder that only root enters, since what runs
# in a root trusts everybody who reaches its sockets.
roots_are_possible() {
    [ -z "$ROOTS" ] || return 0
    if ! as_root true 2>/dev/null; then
        ROOT_REASON="a root of another release needs root's rights, and sudo gives them not"
        return 1
    fi
    if ! as_root unshare --mount --pid --fork --propagation private true 2>/dev/null; then
        ROOT_REASON="no namespaces may be made here"
        return 1
    fi
    DEBIAN_MIRROR=$(mirror_of_this_machine)
    ROOTS=$(as_root mktemp -d "${TMPDIR:-/var/tmp}/emag_sync_guard_roots.XXXXXX") || {
        ROOT_REASON="no folder for roots can be made in ${TMPDIR:-/var/tmp}"
        return 1
    }
}

# What this machine's apt has Debian itself from (a mirror list, a disc and the
# like are of no use to debootstrap).
mirror_of_this_machine() {
    local uri
    uri=$(source_of_this_machine Debian)
    echo "${uri:-http://deb.debian.org/debian}"
}

# source_of_this_machine LABEL: Debian or Debian-Security.
source_of_this_machine() {
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(ORIGIN) $(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk -v label="$1" '$1 == "Debian" && $2 == label && $3 ~ /^https?:/ { sub(/\/$/, "", $3); print $3; exit }' || true
}

# Asked as apt would, through the proxy that it has.
mirror_answers() {
    local url=$DEBIAN_MIRROR/dists/$1/InRelease
    # (Into a folder that apt's own user cannot write to: it goes on as root, with a warning.)
    as_root timeout --foreground 60 /usr/lib/apt/apt-helper -o Acquire::Retries=1 download-file "$url" "$ROOTS/answer" >"$WORK/log/mirror.log" 2>&1 || {
        ROOT_REASON="$url does not answer: $(grep -E '^E:' "$WORK/log/mirror.log" | head -n 1)"
        return 1
    }
    as_root rm -f "$ROOTS/answer"
}

# The first half makes the files, the second one runs in the root; between them
# the root learns not to write every file through to the disk, which is most of
# the time. (debootstrap's wget would wait 15 minutes for each answer, 20 times.)
bootstrap_root() {
    local folder keyring=/usr/share/keyrings/debian-archive-keyring.gpg sync proxy status=0
    folder=$(root_folder "$1")
    sync=$(dpkg -L libeatmydata1 | grep '/libeatmydata\.so$') || return
    proxy=$(apt-config shell p Acquire::http::Proxy | sed "s/^p='\(.*\)'\$/\1/")
    printf '%s\n' 'timeout = 30' 'tries = 2' | as_root tee "$ROOTS/wgetrc" >/dev/null || return
    as_root env LD_PRELOAD=libeatmydata.so WGETRC="$ROOTS/wgetrc" ${proxy:+http_proxy="$proxy"} \
        timeout --foreground -k 10 "$ROOT_SECONDS" unshare --mount --pid --fork --kill-child --propagation private \
        debootstrap --foreign --variant=minbase --keyring="$keyring" "$1" "$folder" "$DEBIAN_MIRROR" || status=$?
    in_time "$status" || return
    as_root cp -L "$sync" "$folder$sync" || return
    as_root unshare --mount --pid --fork --kill-child --propagation private \
        env LD_PRELOAD=libeatmydata.so chroot "$folder" /debootstrap/debootstrap --second-stage || return
    set_root_up "$1" "$folder"
}

# in_time STATUS: that of `timeout`, with a word where it was that which ended the command.
in_time() {
    case $1 in 124 | 137) echo "E: it took longer than $ROOT_SECONDS s" ;; esac
    return "$1"
}

# set_root_up RELEASE FOLDER: names, sources, apt's settings of this machine; no
# package starts a server.
set_root_up() {
    local release=$1 folder=$2
    write_in_root() { as_root tee "$folder$1" >/dev/null; }
    printf '%s\n' '127.0.0.1 localhost' '::1 localhost ip6-localhost' "127.0.1.1 $(uname -n)" | write_in_root /etc/hosts &&
        uname -n | write_in_root /etc/hostname &&
        write_in_root /etc/resolv.conf </etc/resolv.conf &&
        sources_of "$release" | write_in_root /etc/apt/sources.list &&
        { apt-config dump | grep -E '^Acquire::(http|https|Check)[-A-Za-z:]* "[^"]' || true; } | write_in_root /etc/apt/apt.conf.d/90host &&
        printf '%s\n' 'APT::Install-Recommends "false";' 'Acquire::Languages "none";' 'Acquire::Retries "2";' \
            'Acquire::http::Timeout "30";' 'Acquire::https::Timeout "30";' 'Dpkg::Use-Pty "false";' |
        write_in_root /etc/apt/apt.conf.d/91root &&
        echo force-unsafe-io | write_in_root /etc/dpkg/dpkg.cfg.d/unsafe-io &&
        printf '%s\n' '#!/bin/sh' 'exit 101' | write_in_root /usr/sbin/policy-rc.d &&
        as_root chmod 755 "$folder/usr/sbin/policy-rc.d" &&
        as_root mkdir -p "$folder/etc/postgresql-common/createcluster.d" &&
        echo "create_main_cluster = false" | write_in_root /etc/postgresql-common/createcluster.d/no_cluster.conf || {
        echo "E: what makes a root of it cannot be written"
        return 1
    }
}

# sources_of RELEASE: with its security updates, as its users have them, where this machine has such.
sources_of() {
    local security
    echo "deb $DEBIAN_MIRROR $1 main"
    security=$(source_of_this_machine Debian-Security)
    case $1 in sid | experimental) ;; *) [ -z "$security" ] || echo "deb $security $1-security main" ;; esac
}

# install_into_root RELEASE APT-ARGUMENTS...
install_into_root() {
    local release=$1 lists_are_fresh
    lists_are_fresh=$(root_folder "$release").lists
    shift
    if ! as_root test -e "$lists_are_fresh"; then
        ENDS_AFTER=$ROOT_SECONDS in_root "$release" apt-get -q update || { in_time $? || return; }
        as_root touch "$lists_are_fresh"
    fi
    ENDS_AFTER=$ROOT_SECONDS in_root "$release" env LD_PRELOAD=libeatmydata.so \
        apt-get -q -y --no-install-recommends install "$@" || in_time $?
}

# add_source_to_root RELEASE OTHER: OTHER's packages beside its own. Where both
# have one, the newer wins, so take a newer OTHER's only for the last thing done there.
add_source_to_root() {
    sources_of "$2" | as_root tee "$(root_folder "$1")/etc/apt/sources.list.d/$2.list" >/dev/null
    as_root rm -f "$(root_folder "$1").lists"
}

# Becomes the root of its mount namespace, not a chroot: that forbids users to
# make namespaces of their own, which tests of a cut network do.
# shellcheck disable=SC2016
ENTER_ROOT='
    set -e
    mount --bind "$1" "$1"
    cd "$1"
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
    mkdir -p dev/shm
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    pivot_root . mnt
    cd /
    umount -l /mnt
    shift
    exec "$@"'

# in_root RELEASE COMMAND...: as root there, with a clean environment (env NAME=VALUE
# COMMAND... gives it more). What it starts ends with it. ENDS_AFTER: in so many seconds, if it has not ended by then.
in_root() {
    local folder
    folder=$(root_folder "$1")
    shift
    as_root ${ENDS_AFTER:+timeout --foreground -k 10 "$ENDS_AFTER"} \
        unshare --mount --pid --ipc --fork --kill-child --propagation private \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
        LC_ALL=C.UTF-8 TZ=UTC DEBIAN_FRONTEND=noninteractive \
        bash -c "$ENTER_ROOT" in_root "$folder" "$@"
}

# copy_into_root RELEASE FOLDER: the tree's sources, what git would commit, new
# there; root's own.
copy_into_root() {
    local folder
    folder=$(root_folder "$1")$2
    as_root rm -rf --one-file-system "$folder"
    as_root mkdir -p "$folder"
    list_sources | tar -C "$PROJECT" --null --no-recursion -T - -cf - |
        as_root tar -C "$folder" --no-same-owner -xf -
}

# At the end of the command (common.sh calls one of them, where there are any). Nothing is mounted there.
remove_roots() { as_root rm -rf --one-file-system "$ROOTS"; }

say_where_roots_are() {
    say "The roots of other releases are left in $ROOTS (chroot $ROOTS/RELEASE looks around in one). To remove them:"
    note "rm -rf --one-file-system $ROOTS"
}
