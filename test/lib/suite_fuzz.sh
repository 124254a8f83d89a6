# shellcheck shell=bash
# The suite fuzz of test/run: the core under libFuzzer with AddressSanitizer and
# UBSan. Each target replays its corpus, goes on for a while from a fixed seed, and
# must find, from the corpus alone, a fault that is put into what it tests.

# shellcheck disable=SC2034
FUZZ_PACKAGES="clang cmake libclang-rt-dev make"
# shellcheck disable=SC2034
FUZZ_COUNTED="targets, mutants"

# Given to libFuzzer; another by FUZZ_SEED.
FUZZ_SEED=${FUZZ_SEED:-20261124}
# Seconds of each target beyond its corpus.
FUZZ_SECONDS=3
FUZZ_SOAK_SECONDS=60

left_out_fuzz() {
    [ -n "${SOAK:-}" ] || echo "fuzz: $FUZZ_SOAK_SECONDS seconds of each target instead of $FUZZ_SECONDS (--soak)"
}

suite_fuzz() {
    local log=$WORK/log/fuzz.log FUZZ=$WORK/fuzz seconds=$FUZZ_SECONDS
    [ -z "${SOAK:-}" ] || seconds=$FUZZ_SOAK_SECONDS
    as_server mkdir -p "$FUZZ"
    step "Building the fuzz targets" "$log" build_fuzz || {
        fail fuzz "the fuzz targets do not build" "$log"
        return
    }
    step_hint() { find "$FUZZ" -name '*.ran' | wc -l | sed 's/$/ ran/'; }
    step "Fuzzing the core, $seconds s each, seed $FUZZ_SEED" "$log.ran" each_of fuzz_target "$seconds" "$(targets)" || true
    count_fuzz
    step "Looking for mutants with the corpus" "$log.mutants" each_of hunt_mutant '' "$(mutants)" || true
    step_hint() { :; }
    count_mutants
    expect_some fuzz
}

build_fuzz() {
    cd "$SOURCE" && as_server cmake --preset fuzz && as_server cmake --build --preset fuzz -j "$JOBS"
}

targets() { sed -E 's|.*/(.*)_fuzz\.cpp|\1|' < <(printf '%s\n' "$SOURCE"/test/fuzz/*_fuzz.cpp); }
# Each as TARGET:LINE of the file; a target may have several.
mutants() { sed -nE '/^[^#]/{s/ .*//;p;=}' "$SOURCE/test/fuzz/mutants" | paste -d: - -; }

# each_of FUNCTION ARGUMENT NAMES: as many at once as there are processors.
each_of() {
    local name
    for name in $3; do
        while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n || true; done
        "$1" "$name" "$2" &
    done
    wait
}

# run_target PROGRAM NAME OPTION... FOLDER...
run_target() {
    local program=$1 name=$2 dictionary=$SOURCE/test/fuzz/$2.dict
    shift 2
    [ ! -e "$dictionary" ] || set -- "-dict=$dictionary" "$@"
    as_server "$program" -seed="$FUZZ_SEED" -max_len=512 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$FUZZ/$name-" "$@"
}

# fuzz_target NAME SECONDS: the corpus first, then what comes of it.
fuzz_target() {
    local status=0
    as_server mkdir -p "$FUZZ/$1"
    run_target "$SOURCE/build/fuzz/test/fuzz/$1_fuzz" "$1" -max_total_time="$2" \
        "$FUZZ/$1" "$SOURCE/test/fuzz/corpus/$1" >"$WORK/log/fuzz_$1.log" 2>&1 || status=$?
    echo "$status" >"$FUZZ/$1.ran"
}

# A target has passed where its program ended well and read its whole corpus.
count_fuzz() {
    local name log inputs read executed status
    for name in $(targets); do
        log=$WORK/log/fuzz_$name.log
        inputs=$(find "$SOURCE/test/fuzz/corpus/$name" -type f | wc -l)
        read=$(sed -nE 's/^INFO: +([0-9]+) files found in .*\/corpus\/.*/\1/p' "$log")
        executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        status=$(cat "$FUZZ/$name.ran" 2>/dev/null || echo "that is not known")
        if [ "$status" = 0 ] && [ "$inputs" -gt 0 ] && [ "${read:-0}" = "$inputs" ] && [ "${executed:-0}" -gt "$inputs" ]; then
            note "$(printf '%-13s %4d inputs of the corpus, %8d executed' "$name" "$inputs" "$executed")"
            pass fuzz "$name"
        else
            tail -n 40 "$log" >"$log.tail"
            fail fuzz "$name: status $status, ${read:-0} of $inputs inputs read, ${executed:-0} executed" "$log.tail"
        fi
    done
}

# hunt_mutant TARGET:LINE: the target with one line of the core changed, over its corpus.
hunt_mutant() {
    local name=${1%:*} file expression folder=$FUZZ/mutant_$1 status=0
    read -r _ file expression < <(sed -n "${1#*:}p" "$SOURCE/test/fuzz/mutants")
    as_server mkdir -p "$folder"
    sed -E "$expression" "$SOURCE/src/core/$file" | as_server tee "$folder/$file" >/dev/null
    if cmp -s "$folder/$file" "$SOURCE/src/core/$file"; then
        echo "the expression changes nothing: $expression" >"$folder/log"
        return
    fi
    # Its object comes before the library's, which is then left out.
    as_server clang++ -std=c++17 -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -I"$SOURCE/src" \
        -o "$folder/program" "$folder/$file" "$SOURCE/test/fuzz/${name}_fuzz.cpp" "$SOURCE/build/fuzz/libesg_core.a" \
        >"$folder/log" 2>&1 || return
    run_target "$folder/program" "$name" -runs=0 "$SOURCE/test/fuzz/corpus/$name" >"$folder/log" 2>&1 || status=$?
    echo "$status" >"$folder/status"
}

# A mutant is found where the program ended badly and left the input that did it.
count_mutants() {
    local mutant name folder
    for mutant in $(mutants); do
        name=${mutant%:*} folder=$FUZZ/mutant_$mutant
        if [ "$(cat "$folder/status" 2>/dev/null || echo 0)" != 0 ] && grep -q 'Test unit written to' "$folder/log"; then
            pass fuzz "a mutant of $name is found"
        else
            tail -n 20 "$folder/log" >"$folder/tail"
            fail fuzz "a mutant of $name is not found" "$folder/tail"
        fi
    done
    diff <(targets) <(mutants | sed 's/:.*//' | sort -u) >"$FUZZ/without" || fail fuzz "not every target has a mutant" "$FUZZ/without"
}
