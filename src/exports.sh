#!/bin/sh
# The exported symbols stand in one list, src/exports.txt, in two sections:
# what the server calls without SQL naming it (kept by hand), and what SQL
# names (derived from the install script's parts).
#
#   exports.sh check LIST PART.sql...   fails if the list is not what SQL needs
#   exports.sh write LIST PART.sql...   brings the second section up to date
set -eu

action=$1 list=$2
shift 2
marker='# Named by SQL (make exports)'

# The C functions of all parts, each with its pg_finfo_ companion.
named_by_sql() {
    [ $# -gt 0 ] || return 0
    cat "$@" | tr '\n' ' ' |
        grep -o "'MODULE_PATHNAME' *, *'[A-Za-z0-9_]*'" |
        sed "s/.*'\([A-Za-z0-9_]*\)'\$/\1/" | LC_ALL=C sort -u |
        while read -r name; do printf '%s\npg_finfo_%s\n' "$name" "$name"; done
}

wanted() {
    sed "/^$marker\$/,\$d" "$list"
    echo "$marker"
    named_by_sql "$@"
}

case $action in
check)
    wanted "$@" | cmp -s - "$list" || {
        echo "$list is not what the SQL functions need; run: make exports" >&2
        wanted "$@" | diff "$list" - >&2 || true
        exit 1
    } ;;
write)
    wanted "$@" > "$list.new"
    mv "$list.new" "$list" ;;
*)
    echo "usage: exports.sh check|write LIST PART.sql..." >&2
    exit 2 ;;
esac
