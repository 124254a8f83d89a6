# shellcheck shell=bash
# Counts what the suites find. One line per test case in $WORK/results:
# passed|failed|skipped, suite, name. A failure may point at a file that explains it.

pass() { printf 'passed\t%s\t%s\n' "$1" "$2" >>"$WORK/results"; }

# fail SUITE NAME [FILE]
fail() {
    printf 'failed\t%s\t%s\n' "$1" "$2" >>"$WORK/results"
    printf '    failed: %s: %s\n' "$1" "$2"
    [ -z "${3:-}" ] || [ ! -s "$3" ] || head -n 200 "$3" | indent
}

# skipped SUITE REASON: shown now and at the end, never counted as passed.
skipped() {
    printf 'skipped\t%s\t%s\n' "$1" "$2" >>"$WORK/results"
    printf '    skipped: %s: %s\n' "$1" "$2"
}

count() { awk -F '\t' -v r="$1" -v s="${2:-}" '$1 == r && (s == "" || $2 == s)' "$WORK/results" | wc -l; }

# check SUITE NAME COMMAND...: one test case that is a command.
check() {
    local suite=$1 name=$2
    shift 2
    if "$@" >"$WORK/log/check.log" 2>&1; then pass "$suite" "$name"; else fail "$suite" "$name" "$WORK/log/check.log"; fi
}

# count_lines SUITE PREFIX LOG: one test case for each line "ok NAME" or "not ok NAME" that a program printed, with a number
# before the name or without. LINES_SEEN and LINES_BAD say how many there were, and how many of them failed.
count_lines() {
    local outcome name
    LINES_SEEN=0 LINES_BAD=0
    while IFS=$'\t' read -r outcome name; do
        LINES_SEEN=$((LINES_SEEN + 1))
        if [ "$outcome" = ok ]; then pass "$1" "$2$name"; else fail "$1" "$2$name"; LINES_BAD=$((LINES_BAD + 1)); fi
    done < <(sed -nE 's/^(ok|not ok) ([0-9]+ - )?(.*)/\1\t\3/p' "$3")
}

# A suite that ran nothing has failed, whatever its exit status says.
expect_some() {
    [ $(($(count passed "$1") + $(count failed "$1"))) -gt 0 ] || fail "$1" "ran no test at all"
}

# What one test case is, in a suite; parts of another PostgreSQL are named VERSION/SUITE.
unit_of() {
    local counted=${1##*/}
    counted=${counted^^}_COUNTED
    echo "${!counted:-}"
}

# The table, the failures by name with what differed from what was expected (a record may keep only the end), and the one
# line at the end.
summary() {
    local suite
    printf '\n%-14s %7s %7s   %s\n' suite passed failed "counted are"
    for suite in $(cut -f 2 "$WORK/results" | awk '!seen[$0]++'); do
        printf '%-14s %7d %7d   %s\n' "$suite" "$(count passed "$suite")" "$(count failed "$suite")" "$(unit_of "$suite")"
    done
    awk -F '\t' '$1 == "failed" { printf "FAILED %s: %s\n", $2, $3 }' "$WORK/results"
    [ ! -s "$WORK/differed" ] || indent <"$WORK/differed"
    printf '\n%d passed, %d failed\n' "$(count passed)" "$(count failed)"
    [ "$(count failed)" = 0 ] && [ "$(count passed)" -gt 0 ]
}
