# shellcheck shell=bash
# The suite static of test/run: what can be said without running the guard, but
# for the last part, which installs it, removes it and installs it again.

# shellcheck disable=SC2034
STATIC_PACKAGES="clang-format clang-tidy cmake cppcheck perl pyflakes3 python3 shellcheck libipc-run-perl libjson-pp-perl"
# shellcheck disable=SC2034
STATIC_COUNTED="checks"

suite_static() {
    say "Checking what must agree in the tree and the module"
    cd "$SOURCE" || return
    static_versions
    static_tree
    static_module
    static_scripts
    static_cpp
    check static "each of these checks fails where there are no files for it" none_passes_without_files
    cd "$PROJECT" || return
    static_installs
}

left_out_static() { [ -n "$SOAK" ] || echo "clang-tidy's static analyzer (all other checks of .clang-tidy were made)"; }

# in_step TITLE NAME COMMAND...: a check that takes a while.
in_step() {
    local title=$1 name=$2
    shift 2
    if step "$title" "$WORK/log/static.log" "$@"; then pass static "$name"; else fail static "$name" "$WORK/log/static.log"; fi
}

# some FILE...: what is checked. Over no files every check would pass.
some() { [ -e "${1:-}" ] || { echo "there are no files to check"; return 1; }; }

# Those that go by the names of files, or compare what they read, in a tree that has none.
none_passes_without_files() (
    local name passed=0 SOURCE=$WORK/empty
    as_server mkdir -p "$SOURCE" && cd "$SOURCE" || return
    for name in versions_agree changelog_agrees debian_agrees "lists_agree test/schedule test/sql .sql expected" \
        "only_in prelude postgres" no_long_files "ascii_only sql/parts/*.sql" no_stray_blanks exports_agree fully_relro \
        shellcheck_agrees pyflakes_agrees python_compiles perl_compiles formatted cppcheck_finds_nothing clang_tidy_finds_nothing; do
        # shellcheck disable=SC2086
        ! $name >/dev/null 2>&1 || { echo "without a file it passes: $name"; passed=1; }
    done
    return $passed
)

# ---- versions and lists --------------------------------------------------------
static_versions() {
    check static "META.json tells the control file's version" versions_agree
    check static "CHANGELOG.md begins with the control file's version" changelog_agrees
    check static "debian/changelog begins with the control file's version" debian_agrees
    check static "test/schedule lists every file in test/sql" \
        lists_agree test/schedule test/sql .sql expected
    check static "test/isolation_schedule lists every spec" \
        lists_agree test/isolation_schedule test/specs .spec test/expected
}

changelog_agrees() { extension_version | grep . && diff <(extension_version) <(sed -n 's/^## \([0-9.]*\).*/\1/p' CHANGELOG.md | head -n 1); }

debian_agrees() { extension_version | grep . && diff <(extension_version) <(sed -n '1s/^emag-sync-guard (\(.*\)-[^-]*) .*/\1/p' debian/changelog); }

versions_agree() {
    perl -MJSON::PP -e '
        use strict; use warnings;
        local $/;
        open my $control, "<", "emag_sync_guard.control" or die $!;
        my ($version) = <$control> =~ /^default_version\s*=\s*\x27([^\x27]+)\x27/m or die "no default_version\n";
        open my $json, "<", "META.json" or die $!;
        my $meta = decode_json(<$json>);
        my $provided = $meta->{provides}{emag_sync_guard};
        my %told = (
            "version" => $meta->{version},
            "provides.version" => $provided->{version},
            "provides.file" => $provided->{file} =~ s/.*--(.*)\.sql$/$1/r);
        my @wrong = grep { $told{$_} ne $version } sort keys %told;
        die map { "META.json $_ is $told{$_}, the control file says $version\n" } @wrong if @wrong;
        die "META.json names no docfile that exists\n" unless -e $provided->{docfile};
        $meta->{prereqs}{runtime}{requires}{PostgreSQL} eq "15.0.0" or die "META.json must require PostgreSQL 15.0.0\n";'
}

# lists_agree SCHEDULE FOLDER SUFFIX EXPECTED: listed once each, and with a result.
lists_agree() {
    local listed there name wrong=0
    listed=$(sed -n 's/^test:[[:space:]]*//p' "$1" | tr -s ' \t' '\n' | sed '/^$/d' | sort)
    there=$(find "$2" -maxdepth 1 -name "*$3" -printf '%f\n' | sed "s/\\$3\$//" | sort)
    [ -n "$there" ] || { echo "there is no $2/*$3"; wrong=1; }
    diff <(echo "$listed") <(echo "$there") || wrong=1
    for name in $there; do
        [ -e "$4/$name.out" ] || { echo "there is no $4/$name.out"; wrong=1; }
    done
    return $wrong
}

# ---- the tree ------------------------------------------------------------------
MOST_LINES=450

static_tree() {
    check static "only src/pg/prelude.h includes postgres.h" only_in 'src/pg/prelude\.h' 'include *[<"]postgres\.h'
    check static "only src/pg/prelude.h and compat.h ask for the server's version" \
        only_in 'src/pg/(prelude|compat)\.h' 'PG_VERSION_NUM'
    check static "no file of source or test has more than $MOST_LINES lines" no_long_files
    check static "the parts of the install script are ASCII" ascii_only sql/parts/*.sql
    check static "no tab and no blank at the end of a line in source, SQL and shell" no_stray_blanks
}

only_in() {
    local files found
    mapfile -t files < <(find src -name '*.cpp' -o -name '*.h')
    some "${files[@]}" || return
    # (At least the files that may have it do.)
    grep -lE "$2" "${files[@]}" | grep -xE "$1" >/dev/null || { echo "no file has it"; return 1; }
    found=$(grep -lE "$2" "${files[@]}" | grep -vxE "$1") || return 0
    echo "$found"
    return 1
}

# Expected results are as long as they are; a test of test/sql is read from above to below.
no_long_files() {
    local files
    mapfile -t files < <(find src test dist debian demo -type f \( -name '*.cpp' -o -name '*.h' -o -name '*.sh' -o -name '*.pl' -o -name '*.pm' \
        -o -name '*.py' -o -path test/run -o -path demo/run \))
    some "${files[@]}" || return
    wc -l "${files[@]}" |
        awk -v most="$MOST_LINES" '$2 != "total" && $1 > most { print; found = 1 } END { exit found }'
}

ascii_only() {
    local found
    some "$@" || return
    found=$(LC_ALL=C grep -nP '[^\x00-\x7F]' "$@") || return 0
    echo "$found"
    return 1
}

# Perl is indented by tabs, as PostgreSQL's own; make wants them, and COPY in test/sql.
no_stray_blanks() {
    local files without_tabs found
    mapfile -t without_tabs < <(find src sql/parts test/lib test/unit \( -name '*.cpp' -o -name '*.h' -o -name '*.sql' -o -name '*.sh' \))
    mapfile -t files < <(find src sql/parts test/lib test/sql test/specs test/unit debian/tests dist cmake \
        \( -name '*.cpp' -o -name '*.h' -o -name '*.sql' -o -name '*.sh' -o -name '*.cmake' \)
        find test/t test/perl test/clients demo docs examples monitoring \( -name '*.p[lmy]' -o -name '*.md' -o -name '*.y*ml' -o -name '*.sql' \))
    some "${files[@]}" && some "${without_tabs[@]}" || return
    found=$(grep -nP '[ \t]+$' "${files[@]}"
        grep -nP '\t' "${without_tabs[@]}") || true
    [ -z "$found" ] || { echo "$found"; return 1; }
}

# ---- the module ----------------------------------------------------------------
static_module() {
    if [ -z "$BUILT" ]; then
        fail static "no module was built"
        return 0
    fi
    check static "the module exports what src/exports.txt lists" exports_agree
    check static "the module is linked with full RELRO" fully_relro
}

exports_agree() {
    grep -q '^[^#]' src/exports.txt || { echo "src/exports.txt lists nothing"; return 1; }
    diff <(sed '/^#/d; /^$/d' src/exports.txt | sort) \
        <(nm -D --defined-only emag_sync_guard.so | awk '{ print $3 }' | sort)
}

fully_relro() {
    readelf -Wl emag_sync_guard.so | grep -q GNU_RELRO || { echo "no GNU_RELRO"; return 1; }
    readelf -Wd emag_sync_guard.so | grep -Eq 'BIND_NOW|FLAGS.* NOW' || { echo "no BIND_NOW"; return 1; }
}

# ---- scripts -------------------------------------------------------------------
static_scripts() {
    local shell python
    shell=$(shell_scripts | wc -l) python=$(python_scripts | wc -l)
    in_step "shellcheck over $shell scripts" "shellcheck has nothing to say of $shell shell scripts" shellcheck_agrees
    check static "pyflakes3 has nothing to say of $python Python files" pyflakes_agrees
    check static "Python compiles them" python_compiles
    in_step "Perl compiles its scripts" "Perl compiles all its scripts and modules" perl_compiles
}

shell_scripts() { scripts_of sh 'sh|bash'; }
python_scripts() { scripts_of py 'python3'; }

# over_all LIST COMMAND...: the command, with the files that LIST prints.
over_all() {
    local files
    mapfile -t files < <("$1")
    shift
    some "${files[@]}" && as_server "$@" "${files[@]}"
}

shellcheck_agrees() { over_all shell_scripts shellcheck -x -S warning; }
pyflakes_agrees() { over_all python_scripts pyflakes3; }
python_compiles() { over_all python_scripts /usr/bin/python3 -m py_compile; }

# scripts_of SUFFIX INTERPRETERS: by name, or by the first line.
scripts_of() {
    { find . -path ./build -prune -o -type f -name "*.$1" -print
        grep -rlIE --exclude-dir=build "^#!.*[/ ]($2)\$" . | while IFS= read -r file; do
            [ "$(grep -nE -m 1 "^#!.*[/ ]($2)\$" "$file" | cut -d : -f 1)" != 1 ] || echo "$file"
        done; } | sort -u
}

perl_compiles() {
    local file files wrong=0 modules
    mapfile -t files < <(find . -path ./build -prune -o \( -name '*.pl' -o -name '*.pm' \) -print)
    some "${files[@]}" || return
    modules=$(dirname "$("$PG_CONFIG" --pgxs)")/../test/perl
    for file in "${files[@]}"; do
        as_server perl -I "$modules" -I test/perl -c "$file" 2>"$WORK/log/perl.log" || { cat "$WORK/log/perl.log"; wrong=1; }
    done
    return $wrong
}

# ---- C++ -----------------------------------------------------------------------
static_cpp() {
    in_step "clang-format over the source" "clang-format would change nothing" formatted
    in_step "cppcheck over the source" "cppcheck finds nothing" cppcheck_finds_nothing
    step_hint() { [ ! -e "$WORK/tidied" ] || echo "$(wc -l <"$WORK/tidied") files"; }
    in_step "clang-tidy over the source" "clang-tidy finds nothing${SOAK:+, its analyzer neither}" clang_tidy_finds_nothing
    step_hint() { :; }
}

formatted() { over_all cpp_and_headers clang-format --dry-run -Werror; }
cpp_and_headers() { find src test/unit test/fuzz \( -name '*.cpp' -o -name '*.h' \); }

cppcheck_finds_nothing() {
    as_server cppcheck -j "$JOBS" --quiet --std=c++17 --language=c++ --enable=warning,performance,portability --inline-suppr -Isrc \
        --include=test/static/cppcheck_macros.h --suppressions-list=test/static/cppcheck_suppressions \
        --template='{file}:{line}: {severity}: {message} [{id}]' --error-exitcode=1 src
}

# The analyzer takes three times as long as all the rest. A file with a warning leaves its name.
clang_tidy_finds_nothing() {
    local folder=$WORK/tidy status=0
    some src/*.cpp || return
    as_server cmake -S . -B "$folder" -DCMAKE_CXX_COMPILER=clang++ -DPG_CONFIG="$PG_CONFIG" -DBUILD_TESTING=OFF || return
    # shellcheck disable=SC2016
    find src -name '*.cpp' -print0 | as_server xargs -0 -n 1 -P "$JOBS" \
        sh -c 'clang-tidy --quiet --warnings-as-errors="*" -p "$0" ${1:+"$1"} "$3"; status=$?; echo "$3" >>"$2"; exit $status' \
        "$folder" "$([ -n "$SOAK" ] || echo "--checks=-clang-analyzer-*")" "$WORK/tidied" >"$WORK/log/tidy.log" 2>&1 || status=$?
    # What it found comes first: of each file it says how many warnings of the server's headers it keeps back.
    { grep -E ': (error|warning): ' "$WORK/log/tidy.log" | sort -u; grep -vE '^[0-9]+ warnings? ' "$WORK/log/tidy.log"; } || true
    return $status
}

# ---- CREATE EXTENSION, twice in a row --------------------------------------------
static_installs() {
    if [ -z "$BUILT" ]; then return 0; fi
    in_step "Starting a server to install on" "a server starts" make_cluster static
    check static "CREATE EXTENSION works in two databases of one server" install_in_two
    check static "CREATE EXTENSION, DROP EXTENSION and CREATE EXTENSION leave the same objects" install_again
    check static "a second CREATE EXTENSION is refused with 42710" install_twice
    as_server "$BIN/pg_ctl" -D "$(cluster_folder static)/data" -w -m immediate stop >"$WORK/log/static.log" 2>&1 || true
}

static_psql() {
    local database=$1
    shift
    as_server "$BIN/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$(cluster_folder static)" -U postgres -d "$database" "$@"
}

# What the extension consists of, by name.
static_objects() {
    static_psql "$1" -c "SELECT pg_describe_object(classid, objid, objsubid) COLLATE \"C\" AS object FROM pg_depend
        WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e'
            AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'emag_sync_guard') ORDER BY object"
}

install_in_two() {
    local database
    for database in one two; do
        static_psql postgres -c "CREATE DATABASE $database" && static_psql "$database" -c "CREATE EXTENSION emag_sync_guard" &&
            static_objects "$database" >"$WORK/log/objects_$database" || return
    done
    grep '^function sync_guard.reap_stale_syncs(' "$WORK/log/objects_one" && diff "$WORK/log/objects_one" "$WORK/log/objects_two"
}

install_again() {
    static_psql one -c "DROP EXTENSION emag_sync_guard" && static_objects one >"$WORK/log/objects_after" &&
        [ ! -s "$WORK/log/objects_after" ] && static_psql one -c "CREATE EXTENSION emag_sync_guard" &&
        static_objects one >"$WORK/log/objects_after" && diff "$WORK/log/objects_one" "$WORK/log/objects_after"
}

# psql ends with 1, as it shall.
install_twice() {
    local said
    said=$(static_psql one -v VERBOSITY=sqlstate -c "CREATE EXTENSION emag_sync_guard" 2>&1) && return 1
    diff <(echo "ERROR:  42710") <(echo "$said")
}
