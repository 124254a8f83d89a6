# shellcheck shell=bash
# A private PostgreSQL: a relocated copy of Debian's installation, to build
# against and install into, and throwaway clusters that run from it. The
# system's own installation and clusters are never touched.

JOBS=$(nproc 2>/dev/null || echo 1)

# PostgreSQL finds its folders relative to the program that runs, so programs
# that are copied (a symbolic link would be followed) bring their installation
# along; the rest of it may be links. The copy ends in /usr, as the original
# does, so that /etc moves too.
make_prefix() {
    local major=$1 prefix=$WORK/root/usr
    BIN=$prefix/lib/postgresql/$major/bin
    PG_CONFIG=$BIN/pg_config
    must "Copying PostgreSQL $major into a folder of our own" "$WORK/log/prefix.log" copy_installation "$major" "$prefix"
    [[ $("$PG_CONFIG" --pkglibdir) = "$prefix"/* && $("$PG_CONFIG" --sharedir) = "$prefix"/* ]] ||
        die "PostgreSQL $major does not follow its programs to another folder"
}

copy_installation() {
    local major=$1 prefix=$2 folder
    as_server mkdir -p "$prefix/lib/postgresql/$major" "$prefix/share/postgresql" "$prefix/include" || return
    as_server cp -R "/usr/lib/postgresql/$major/bin" "$prefix/lib/postgresql/$major/" || return
    for folder in "lib/postgresql/$major/lib" "share/postgresql/$major" include/postgresql; do
        as_server cp -Rs "/usr/$folder" "$prefix/$folder" || return
    done
    # An extension installed on this system must not be seen here, nor written to.
    find "$prefix" -name 'emag_sync_guard*' -prune -exec rm -rf {} +
}

# copy_sources FOLDER: what git would commit; the clone itself may lie where
# the server's user cannot read.
copy_sources() {
    as_server mkdir -p "$1"
    list_sources | tar -C "$PROJECT" --null --no-recursion -T - -cf - | as_server tar -C "$1" -xf -
}

list_sources() {
    local file
    cd "$PROJECT" || return
    if [ "$(git -c safe.directory="$PROJECT" rev-parse --show-toplevel 2>/dev/null)" = "$PROJECT" ]; then
        git -c safe.directory="$PROJECT" ls-files -z --cached --others --exclude-standard
    else
        find . \( -name .git -o -path './build*' -o -path ./tmp_check -o -path ./output_iso -o -path ./results \) -prune \
            -o \( -type f -o -type l \) ! -name '*.o' ! -name '*.bc' ! -name '*.so' ! -name '*.d' -print0
    fi | while IFS= read -r -d '' file; do
        [ ! -e "$file" ] || printf '%s\0' "$file"
    done
}

# The version as the tree has it: it stands once, in the control file.
extension_version() { sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" "$SOURCE/emag_sync_guard.control"; }

# build FOLDER MAKE-ARGUMENTS...
build() {
    local folder=$1
    shift
    as_server make -C "$folder" -j"$JOBS" PG_CONFIG="$PG_CONFIG" "$@"
}

# build_and_install FOLDER MAKE-ARGUMENTS...
build_and_install() {
    build "$@" || return
    as_server make -C "$1" PG_CONFIG="$PG_CONFIG" "${@:2}" install
}

# Objects made so far, as the hint of a step that builds in $BUILD_FOLDER.
build_hint() {
    local made all
    made=$(find "$BUILD_FOLDER" -name '*.o' | wc -l)
    all=$(find "$BUILD_FOLDER/src" -name '*.cpp' | wc -l)
    echo "$made of $all files"
}

# ---- clusters ---------------------------------------------------------------
cluster_folder() { echo "$WORK/cluster/$1"; }

# make_cluster NAME [CONFIGURATION-LINE...]: makes it and starts it. It listens
# on a socket in its folder only, so no port of this machine is taken.
make_cluster() {
    local folder
    folder=$(cluster_folder "$1")
    shift
    as_server mkdir -p "$folder" || return
    as_server "$BIN/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync || return
    {
        printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$folder'" \
            "fsync = off" "log_line_prefix = '%m [%p] %q%a %d '" "logging_collector = off"
        printf '%s\n' "$@"
    } | as_server tee -a "$folder/data/postgresql.conf" || return
    as_server "$BIN/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w -t 60 start || {
        cat "$folder/server.log"
        return 1
    }
}

# use_cluster NAME: the clients of this shell talk to it.
use_cluster() {
    PGHOST=$(cluster_folder "$1")
    export PGHOST PGUSER=postgres PSQLRC=/dev/null
    export PATH="$BIN:$PATH"
}

stop_cluster() {
    as_server "$BIN/pg_ctl" -D "$(cluster_folder "$1")/data" -w -m fast stop
}

# Every server whose data lies in the work folder, those of TAP tests too.
stop_all_clusters() {
    local pid_file
    find "$WORK" -path "$WORK/root" -prune -o -name postmaster.pid -print 2>/dev/null |
        while read -r pid_file; do
            as_server "$BIN/pg_ctl" -D "$(dirname "$pid_file")" -w -t 20 -m immediate stop >/dev/null 2>&1 ||
                as_server kill -QUIT "$(head -n 1 "$pid_file")" 2>/dev/null
        done
}

# How to look around in a cluster that was left running, and how to remove it.
say_how_to_look_around() {
    local folder data stop
    folder=$(cluster_folder "$1") data=$(cluster_folder "$1")/data
    stop="$BIN/pg_ctl -D $data -m fast stop"
    [ "$(id -un)" = "$SERVER_USER" ] || stop="su $SERVER_USER -s /bin/sh -c '$stop'"
    say "The server is left running. To look around:"
    note "$BIN/psql -h $folder -U postgres -d $2"
    say "To stop it and remove everything:"
    note "$stop && rm -rf $WORK"
}
