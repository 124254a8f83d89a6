# shellcheck shell=bash
# The suite versions of test/run: other PostgreSQLs than this machine's, each as
# a Debian release brings it, in a root of that release (roots.sh). This very
# test/run runs there; its results are counted here as VERSION/SUITE.
#
# With --matrix it runs every suite there but those that make roots themselves, on a
# bookworm of its own too, carries a guarded database from version to version
# (test/versions), and compiles against the next PostgreSQL.

# shellcheck disable=SC2034,SC2153
VERSIONS_PACKAGES="$ROOT_PACKAGES"
# shellcheck disable=SC2034
VERSIONS_COUNTED="checks of what crosses versions"

VERSIONS_RELEASES="bookworm trixie sid"
# In every run; with --matrix all that test/run has, but what makes roots itself.
VERSIONS_SUITES="regress isolation"
NOT_IN_A_ROOT=" package versions "
# Whose linters the code is written for: others find other things, and format otherwise. The builds warn on all.
LINTED_RELEASE=bookworm
TREE_IN_ROOT=/src/emag_sync_guard

suite_versions() {
    local release suites=$VERSIONS_SUITES
    for release in $(releases_to_test); do
        [ -z "$MATRIX" ] || suites=$(suites_in_a_root "$release")
        # shellcheck disable=SC2086
        run_in_release "$release" $suites
    done
    [ -n "$MATRIX" ] || return 0
    cross_versions
    compile_against_next
}

left_out_versions() {
    local release versions=()
    [ -z "$MATRIX" ] || { echo "the linters of other releases than $LINTED_RELEASE"; return 0; }
    for release in $(releases_to_test); do versions+=("$(root_pg_major "$release")"); done
    echo "on PostgreSQL ${versions[*]}: all suites but the build, ${VERSIONS_SUITES// /, }"
    echo "a guarded database carried from version to version by dump and by pg_upgrade; compiling against the next PostgreSQL"
}

# suites_in_a_root RELEASE
suites_in_a_root() {
    local suite
    for suite in "${SUITES[@]}"; do
        [[ $NOT_IN_A_ROOT == *" $suite "* || ($suite = static && $1 != "$LINTED_RELEASE") ]] || echo "$suite"
    done
}

# Without --matrix, those whose PostgreSQL the rest of this run is not about.
releases_to_test() {
    local release
    for release in $VERSIONS_RELEASES; do
        [[ -z $MATRIX && $(root_pg_major "$release") = "$PG_MAJOR" ]] || echo "$release"
    done
}

# ---- test/run in a root -----------------------------------------------------
# run_in_release RELEASE SUITE...
run_in_release() {
    local release=$1 major suite only=()
    major=$(root_pg_major "$1")
    shift
    # shellcheck disable=SC2046
    make_root "$release" $COMPILER_PACKAGES $(server_packages "$major") || {
        skipped versions "PostgreSQL $major: $ROOT_REASON"
        return 0
    }
    for suite in "$@"; do
        if install_suite "$release" "$suite"; then
            only+=(--only "$suite")
        else
            skipped "$major/$suite" "$ROOT_REASON"
        fi
    done
    [ ${#only[@]} -gt 0 ] || return 0
    copy_into_root "$release" "$TREE_IN_ROOT"
    run_nested "$release" "$major" "${only[@]}"
}

# install_suite RELEASE SUITE
install_suite() {
    local packages
    packages=$(packages_of "$2")
    [ "$2" != tap ] || packages+=" nodejs node-pg"
    # shellcheck disable=SC2086
    [ -z "${packages//[[:space:]]/}" ] || make_root "$1" $packages
}

# What test/run --help lists, as far as it is set here, for the clean environment of a root.
HANDED_ON="REGRESS_TESTS ISOLATION_TESTS PROVE_TESTS EMAG_SYNC_GUARD_ROUNDS EMAG_SYNC_GUARD_MEMORY POOL_SECONDS CHAOS_SEED FUZZ_SEED HOSTILE_SEED"

# run_nested RELEASE MAJOR --only SUITE...
run_nested() {
    local release=$1 major=$2 log status=0 results results_there=/src/results suite name handed_on=()
    shift 2
    for name in $HANDED_ON; do [ -z "${!name:-}" ] || handed_on+=("$name=${!name}"); done
    log=$WORK/log/nested_$major.log
    results=$(root_folder "$release")$results_there
    # shellcheck disable=SC2317
    step_hint() { { grep -oE '^[A-Z][^.]* \.\.\.' "$1" || true; } | tail -n 1; }
    as_root rm -f "$results"
    step "Running test/run on PostgreSQL $major in $release" "$log" \
        in_root "$release" env PG_MAJOR="$major" RESULTS_TO="$results_there" "${handed_on[@]}" \
        "$TREE_IN_ROOT/test/run" "$@" ${SOAK:+--soak} || status=$?
    step_hint() { :; }
    { grep -E '^    skipped: ' "$log" || true; } | sed "s|^    skipped: |    skipped: $major/|"
    if as_root test -s "$results"; then
        count_nested "$major" "$results" "$log" "$status"
    else
        fail versions "PostgreSQL $major: test/run did not come to its end (status $status)" "$log"
        return 0
    fi
    for suite in "$@"; do
        [ "$suite" = --only ] || [ "$(count skipped "$major/$suite")" -gt 0 ] || expect_some "$major/$suite"
    done
}

# count_nested MAJOR RESULTS LOG STATUS: its failures with what it showed of them.
count_nested() {
    local failures
    failures=$(as_root awk -F '\t' '$1 == "failed"' "$2" | wc -l)
    as_root awk -F '\t' -v OFS='\t' -v major="$1" '{ $2 = major "/" $2; print }' "$2" >>"$WORK/results"
    if [ "$failures" != 0 ]; then
        head -n 800 "$3" | indent
    elif [ "$4" != 0 ]; then
        fail versions "PostgreSQL $1: test/run ended with status $4" "$3"
    fi
}

# ---- from version to version ------------------------------------------------
# One root has the servers of all the releases.
CROSSING_RELEASE=sid
CROSSINGS="15-17 17-18 15-18"

cross_versions() {
    local major crossing old new
    make_root "$CROSSING_RELEASE" libipc-run-perl perl || { skipped versions "dumps and upgrades: $ROOT_REASON"; return 0; }
    add_source_to_root "$CROSSING_RELEASE" bookworm
    add_source_to_root "$CROSSING_RELEASE" trixie
    copy_into_root "$CROSSING_RELEASE" "$TREE_IN_ROOT"
    for major in 15 17 18; do
        # shellcheck disable=SC2046
        make_root "$CROSSING_RELEASE" $COMPILER_PACKAGES $(server_packages "$major") || {
            skipped versions "dumps and upgrades from or to $major: $ROOT_REASON"
            continue
        }
        install_module_in_root "$major" || fail versions "the module is not installed for $major" "$WORK/log/module_$major.log"
    done
    for crossing in $CROSSINGS; do
        old=${crossing%-*} new=${crossing#*-}
        if in_root "$CROSSING_RELEASE" test -x "/usr/lib/postgresql/$old/bin/postgres" -a -x "/usr/lib/postgresql/$new/bin/postgres"; then
            cross "$old" "$new"
        else
            skipped versions "from $old to $new: both servers do not stand in one root"
        fi
    done
}

install_module_in_root() {
    local pg_config=/usr/lib/postgresql/$1/bin/pg_config
    # shellcheck disable=SC2016
    step "Building the module for PostgreSQL $1 and installing it in $CROSSING_RELEASE" "$WORK/log/module_$1.log" \
        in_root "$CROSSING_RELEASE" bash -c 'cd "$1" && make clean PG_CONFIG="$2" && make -j"$3" PG_CONFIG="$2" with_llvm=no ASSERTIONS=yes && make install PG_CONFIG="$2" with_llvm=no ASSERTIONS=yes' in_root \
        "$TREE_IN_ROOT" "$pg_config" "$JOBS"
}

# cross OLD NEW: test/versions/crossing.pl, as the user postgres.
cross() {
    local log=$WORK/log/crossing_$1_$2.log status=0 name
    step "Carrying a guarded database from PostgreSQL $1 to $2" "$log" \
        in_root "$CROSSING_RELEASE" "$TREE_IN_ROOT/test/versions/cross" "$1" "$2" || status=$?
    count_lines versions "$1 to $2: " "$log"
    sed -n 's/^# skipped: //p' "$log" | while read -r name; do skipped versions "$name"; done
    [ "$status" = 0 ] || fail versions "from $1 to $2: ended with status $status" "$log"
}

# ---- the next PostgreSQL ----------------------------------------------------
NEXT_MAJOR=19

# What the compiler said of it.
without_command_lines() { grep -vE '^[a-z0-9_-]*(g\+\+|gcc) ' "$1" | tail -n 80 || true; }

# Debian's experimental brings it before sid does. The last thing done in this root.
compile_against_next() {
    local log=$WORK/log/next.log offered
    make_root "$CROSSING_RELEASE" $COMPILER_PACKAGES || { skipped versions "PostgreSQL $NEXT_MAJOR: $ROOT_REASON"; return 0; }
    add_source_to_root "$CROSSING_RELEASE" experimental
    make_root "$CROSSING_RELEASE" -t experimental "postgresql-server-dev-$NEXT_MAJOR" || {
        offered=$(in_root "$CROSSING_RELEASE" apt-cache pkgnames postgresql-server-dev- | sort -V | tr '\n' ' ')
        skipped versions "PostgreSQL $NEXT_MAJOR is not compiled against: $ROOT_REASON (the mirror offers $offered)"
        return 0
    }
    copy_into_root "$CROSSING_RELEASE" "$TREE_IN_ROOT"
    # shellcheck disable=SC2016
    if step "Compiling against PostgreSQL $NEXT_MAJOR" "$log" in_root "$CROSSING_RELEASE" \
        make -C "$TREE_IN_ROOT" -j"$JOBS" PG_CONFIG="/usr/lib/postgresql/$NEXT_MAJOR/bin/pg_config" with_llvm=no; then
        pass versions "compiles against PostgreSQL $NEXT_MAJOR: $(in_root "$CROSSING_RELEASE" dpkg-query -W -f '${Version}' "postgresql-server-dev-$NEXT_MAJOR")"
    else
        without_command_lines "$log" >"$log.short"
        fail versions "compiles against PostgreSQL $NEXT_MAJOR" "$log.short"
    fi
}
