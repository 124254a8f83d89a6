# shellcheck shell=bash
# The suite model of test/run.

MODEL_PACKAGES=""
# shellcheck disable=SC2034
MODEL_COUNTED="model checks"

suite_model() {
    skipped model "not written yet"
}
