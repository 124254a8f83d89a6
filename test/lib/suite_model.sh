# shellcheck shell=bash
# The suite model of test/run: the protocol as Promela models, checked by spin; test/model/README.md.

# shellcheck disable=SC2034
MODEL_PACKAGES="gcc libc6-dev perl spin"
# shellcheck disable=SC2034
MODEL_COUNTED="searches by spin; models whose code is named"

left_out_model() { [ -n "$SOAK" ] || echo "the model within larger bounds (--soak)"; }

suite_model() {
    local log=$WORK/log/model.log folder=$WORK/model model
    as_server mkdir "$folder"
    # shellcheck disable=SC2317
    step_hint() { echo "$(find "$WORK/model" -name '*.out' -size +0 | wc -l) searches"; }
    step "Checking the protocol's models" "$log" search_models "$folder" || true
    # shellcheck disable=SC2317
    step_hint() { :; }
    count_searches "$folder"
    for model in "$SOURCE"/test/model/*.pml; do
        model=${model##*/}
        check model "the code that $model names is there" code_is_there "test/model/$model"
    done
    check model "code that is not there is found" gone_code_is_found
    check model "each model has its searches" every_model_is_checked
    expect_some model
}

# The wanted lines of test/model/checks, one search each, as many at a time as there are processors; the large ones of the soak
# one by one, since each may take all the memory.
search_models() {
    local folder=$1 seconds=180 memory=2000 number=0 when kind model arguments
    while read -r when kind model arguments; do
        case $when in
        run) ;;
        soak) [ -n "$SOAK" ] || continue ;;
        *) continue ;;
        esac
        number=$((number + 1))
        echo "$kind $model $arguments" >"$folder/$(printf %03d $number).$when"
    done <"$SOURCE/test/model/checks"
    chmod -R a+rX "$folder"
    find "$folder" -name '*.run' | sort |
        as_server env MODEL_SECONDS=$seconds MODEL_MEMORY=$memory xargs -P "$JOBS" -I '{}' bash -c "$ONE_SEARCH" "$SOURCE" '{}' || true
    find "$folder" -name '*.soak' | sort |
        as_server env MODEL_SECONDS=300 MODEL_MEMORY=7500 MODEL_DEPTH=10000000 xargs -P 1 -I '{}' bash -c "$ONE_SEARCH" "$SOURCE" '{}' || true
    cat "$folder"/*.out
}

# One word after the other of the file's line are the arguments.
# shellcheck disable=SC2016
ONE_SEARCH='read -r -a arguments <"$1"; "$0/test/model/check" "${arguments[@]}" >"$1.out" 2>"$1.err"'

# Counts the searches, and shows a line for each that says something of its own: those that hold, and those that failed.
count_searches() {
    local file kind model arguments result states depth seconds memory found
    printf '    %-6s %-8s %-44s %10s %7s %8s %7s\n' "" model search states depth seconds MB
    for file in "$1"/*.run "$1"/*.soak; do
        [ -e "$file" ] || continue
        read -r kind model arguments <"$file"
        arguments=$(tr -s ' ' <<<"$arguments")
        result=bad states=0 depth=0 seconds=0 memory=0 found="no answer"
        if [ -s "$file.out" ]; then IFS=$'\t' read -r result states depth seconds memory found <"$file.out" || true; fi
        if [ "$kind" = holds ] || [ "$kind" = always ] || [ "$result" != ok ]; then
            printf '    %-6s %-8s %-44s %10s %7s %8s %7.0f\n' "$kind" "$model" "$arguments" "$states" "$depth" "$seconds" "$memory"
        fi
        if [ "$kind" = reaches ]; then
            count_places "$model" "$found"
        elif [ "$result" = ok ]; then
            pass model "$kind $model $arguments"
        else
            fail model "$kind $model $arguments: $found" "$file.err"
        fi
    done
}

# count_places MODEL FOUND: one test case for each place that the model must get to.
count_places() {
    local place places reached=" ${2#reached:} "
    reached=${reached%% -*}
    [[ $2 == reached:* ]] || reached=
    places=$(sed -n 's/^#define seen_\([a-z_]*\) .*/\1/p' "$SOURCE/test/model/$1.pml")
    [ -n "$places" ] || fail model "$1 has no place that it must get to"
    for place in $places; do
        if [[ " $reached " == *" $place "* ]]; then pass model "$1 reaches $place"; else fail model "$1 reaches $place: $2"; fi
    done
}

code_is_there() (cd "$SOURCE" && perl test/model/named_code.pl "$1")

# What a model would be like whose code has gone, or that names none.
gone_code_is_found() (
    local copy=$WORK/model_that_is_wrong.pml
    cd "$SOURCE" || return
    sed 's/: close_group:/: no_such_group:/' test/model/lease.pml >"$copy"
    ! perl test/model/named_code.pl "$copy" || { echo "a function that is not there is overlooked"; return 1; }
    sed 's/reap_runs\.cpp/no_such.cpp/' test/model/lease.pml >"$copy"
    ! perl test/model/named_code.pl "$copy" || { echo "a file that is not there is overlooked"; return 1; }
    sed 's|src/||g' test/model/lease.pml >"$copy"
    ! perl test/model/named_code.pl "$copy" || { echo "a model that names no code is overlooked"; return 1; }
    perl test/model/named_code.pl test/model/lease.pml
)

# Each model is searched for broken promises, and for the places that it must get to.
every_model_is_checked() (
    local model kind wrong=0
    cd "$SOURCE/test/model" || return
    for model in *.pml; do
        for kind in holds breaks reaches; do
            grep -qE "^run +$kind +${model%.pml} " checks || { echo "no line '$kind' of ${model%.pml}"; wrong=1; }
        done
    done
    return $wrong
)
