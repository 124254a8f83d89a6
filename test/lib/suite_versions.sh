# shellcheck shell=bash
# The suite versions of test/run.

VERSIONS_PACKAGES=""
# shellcheck disable=SC2034
VERSIONS_COUNTED="checks"

suite_versions() {
    skipped versions "not written yet"
}
