# shellcheck shell=bash
# A server that checks itself, built once from Debian's own source package, with
# assertions and what valgrind needs to know palloc: the SQL suites on it, and
# valgrind over the triggers and the reaper. Part of the suite sanitized, in --soak.

CHECKED_PACKAGES="bison dpkg-dev flex valgrind"

checked_server() {
    local FOLDER=$WORK/checked log=$WORK/log/checked
    local BIN=$FOLDER/postgresql/bin PG_CONFIG=$FOLDER/postgresql/bin/pg_config SOURCE=$FOLDER/source
    as_server mkdir -p "$FOLDER"
    step "Fetching the source of PostgreSQL $PG_MAJOR" "$log.fetch" fetch_server || {
        skipped sanitized "the server with assertions, valgrind: no source package of PostgreSQL $PG_MAJOR was to be had"
        tail -n 3 "$log.fetch" | indent
        return
    }
    step_hint() { find "$FOLDER/server/src" -name '*.o' | wc -l | sed 's/$/ files/'; }
    step "Building $(cat "$FOLDER/version") with assertions" "$log.server" build_server || {
        step_hint() { :; }
        tail -n 40 "$log.server" >"$log.tail"
        fail sanitized "the server with assertions does not build" "$log.tail"
        return
    }
    step_hint() { :; }
    copy_sources "$SOURCE"
    step "Building the module for it" "$log.module" build_checked || {
        fail sanitized "the module does not build for a server with assertions" "$log.module"
        return
    }
    run_sql_suites checked "with assertions"
    assertion_is_reported
    end_cluster checked
    tap_files "with assertions" assertion
    valgrind_server
}

# A private configuration of apt: the system has often no deb-src lines, and its
# own must stay as they are. Of the versions that the lists name, the newest that
# the mirror really has.
fetch_server() {
    local apt=$FOLDER/apt suite version mirror security
    # shellcheck source=/dev/null
    suite=$(. /etc/os-release && [ "$ID" = debian ] && echo "$VERSION_CODENAME") || { echo "this is no Debian"; return 1; }
    as_server mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" || return
    mirror=$(mirror_of_this_machine) security=$(source_of_this_machine Debian-Security)
    printf 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s main\n' \
        "$mirror $suite" "$mirror $suite-updates" ${security:+"$security $suite-security"} | as_server tee "$apt/sources.list" || return
    # One of them that does not answer is no reason to give up: what comes next will tell.
    private_apt apt-get -q update || true
    for version in $(private_apt apt-cache showsrc "postgresql-$PG_MAJOR" | sed -n 's/^Version: //p' | sort -Vru); do
        cd "$FOLDER" && private_apt apt-get -q source --download-only "postgresql-$PG_MAJOR=$version" || continue
        echo "postgresql-$PG_MAJOR $version" | as_server tee "$FOLDER/version"
        as_server dpkg-source -x "$FOLDER/postgresql-${PG_MAJOR}_${version#*:}.dsc" "$FOLDER/server"
        return
    done
    return 1
}

private_apt() {
    local program=$1 apt=$FOLDER/apt
    shift
    as_server timeout --foreground -k 30 "$LISTS_SECONDS" "$program" "${APT_PATIENCE[@]}" -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" "$@"
}

# Debian's patches put everything under /usr, but for a prefix that says postgresql.
build_server() {
    cd "$FOLDER/server" || return
    as_server ./configure --prefix="$FOLDER/postgresql" --enable-cassert --enable-debug --enable-tap-tests \
        --without-readline --without-zlib --without-icu CFLAGS="-O1 -g -fno-omit-frame-pointer" CPPFLAGS=-DUSE_VALGRIND || return
    as_server make -s -j"$JOBS" -C src && as_server make -s -C src install
}

# pg_cron is Debian's own build: one without assertions runs in a server with them.
build_checked() {
    build_with_assertions with_llvm=no &&
        as_server cp "/usr/lib/postgresql/$PG_MAJOR/lib/pg_cron.so" "$("$PG_CONFIG" --pkglibdir)" &&
        as_server cp "/usr/share/postgresql/$PG_MAJOR"/extension/pg_cron* "$("$PG_CONFIG" --sharedir)/extension" &&
        install_planted
}

assertion_is_reported() {
    as_server "$BIN/psql" -qXc "CREATE FUNCTION planted_fault(text) RETURNS integer LANGUAGE c STRICT AS 'planted'" contrib_regression
    quietly as_server "$BIN/psql" -qXc "SELECT planted_fault('assertion')" contrib_regression || true
    check sanitized "reported when planted: assertion" grep -F 'TRAP: ' "$(cluster_folder checked)/server.log"
}

# ---- valgrind ---------------------------------------------------------------
# The whole server under memcheck, with its own suppressions; a log per process.
valgrind_server() {
    local logs=$FOLDER/valgrind log=$WORK/log/valgrind kind
    as_server mkdir -p "$logs"
    run_postgres_as "exec valgrind --quiet --leak-check=no --track-origins=yes --error-limit=no --num-callers=30 \\
    --suppressions=$FOLDER/server/src/tools/valgrind.supp --log-file=$logs/%p.log \"\$postgres\" \"\$@\""
    use_cluster valgrind
    step "Triggers and reaper under valgrind" "$log" under_valgrind || fail sanitized "test/memory/valgrind.sql failed" "$log"
    if find "$logs" -name '*.log' -size +0 -exec cat {} + | grep -E . >"$log.found"; then
        fail sanitized "valgrind complained" "$log.found"
    elif [ "$(find "$logs" -name '*.log' | wc -l)" -lt 5 ]; then
        fail sanitized "valgrind watched no server"
    else
        pass sanitized "valgrind has nothing to say of the triggers and the reaper"
    fi
    for kind in "use after pfree" "heap-use-after-free"; do
        find "$logs" -name '*.log' -exec truncate -s 0 {} +
        quietly as_server "$BIN/psql" -qXAtc "SELECT planted_fault('$kind')" postgres || true
        check sanitized "reported by valgrind when planted: $kind" grep -r "Invalid read" "$logs"
    done
    end_cluster valgrind
}

# The cluster is made without valgrind, which would take minutes for nothing.
under_valgrind() {
    local folder
    folder=$(cluster_folder valgrind)
    as_server mkdir -p "$folder" || return
    as_server env PATH="$PATH" "$BIN/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync || return
    printf '%s\n' "listen_addresses = ''" "unix_socket_directories = '$folder'" "fsync = off" "autovacuum = off" \
        "shared_preload_libraries = 'emag_sync_guard'" "emag_sync_guard.restart_grace = 0" |
        as_server tee -a "$folder/data/postgresql.conf" >/dev/null || return
    as_server "$BIN/pg_ctl" -D "$folder/data" -l "$folder/server.log" -w -t 300 start || return
    as_server "$BIN/psql" -qXAt -v ON_ERROR_STOP=1 -f "$SOURCE/test/memory/valgrind.sql" postgres
}
