# shellcheck shell=bash
# The suite package of test/run.

PACKAGE_PACKAGES=""
# shellcheck disable=SC2034
PACKAGE_COUNTED="package checks"

suite_package() {
    skipped package "not written yet"
}
