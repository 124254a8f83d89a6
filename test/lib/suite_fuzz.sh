# shellcheck shell=bash
# The suite fuzz of test/run.

FUZZ_PACKAGES=""
# shellcheck disable=SC2034
FUZZ_COUNTED="fuzz targets"

suite_fuzz() {
    skipped fuzz "not written yet"
}
