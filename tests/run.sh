#!/usr/bin/env bash
# Builds and runs the tests. The fast tier by default: the cpu preset with every test, and the asan preset for core, config,
# cad and data. --full runs everything, under the sanitizers too.
#
#   tests/run.sh [--full] [--no-setup] [-R REGEX]
#
# Set CADVLM_SAMPLES to a folder of real sample files to run the tests that use them; else they are skipped and counted.
set -eu
cd "$(dirname "$0")/.."

full=0 setup=1 filter=""
while [ $# -gt 0 ]; do
    case "$1" in
        --full) full=1 ;;
        --no-setup) setup=0 ;;
        -R) filter="$2"; shift ;;
        -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "run.sh: unknown option $1; see --help" >&2; exit 2 ;;
    esac
    shift
done
[ $setup = 0 ] || ./launch/setup.sh

started=$(date +%s)
failed=0
summary=""

# build_and_test PRESET [ctest options]
build_and_test() {
    preset=$1
    shift
    echo "== $preset: building"
    cmake --preset "$preset" -DCADVLM_WERROR=ON >"/tmp/cadvlm-configure-$$.log" 2>&1 || { cat "/tmp/cadvlm-configure-$$.log"; exit 1; }
    grep '^--   ' "/tmp/cadvlm-configure-$$.log" || true
    rm -f "/tmp/cadvlm-configure-$$.log"
    cmake --build --preset "$preset" >"build/$preset/build.log" 2>&1 || { cat "build/$preset/build.log"; exit 1; }
    echo "== $preset: testing"
    log=build/$preset/ctest.log
    if ! ctest --preset "$preset" -j "$(nproc)" --progress ${filter:+-R "$filter"} "$@" >"$log" 2>&1; then
        failed=1
        grep -vE '^\s*[0-9]+/[0-9]+ Test .*Passed|^\[[0-9]+/[0-9]+\]' "$log" || true
    fi
    grep -hE '^SKIP ' "build/$preset/Testing/Temporary/LastTest.log" | sort | uniq -c || true
    summary="$summary
$preset: $(grep -E 'tests passed|No tests' "$log" | tail -n 1), $(grep -c 'Skipped$\|(Skipped)' "$log" || true) skipped"
}

build_and_test cpu
if [ $full = 1 ]; then
    build_and_test asan
else
    build_and_test asan -L 'core|config|cad|data'
fi

# The whole way in little: data, two stages, evaluations, report.
if [ $full = 1 ] && [ -z "$filter" ]; then
    echo "== demo: three minutes"
    if ./launch/demo.sh --no-setup --minutes 3 --out build/demo >build/demo.log 2>&1 &&
        python3 -c 'import json
s = json.load(open("build/demo/summary.json"))
for e in s["stage1"], s["stage1"]["shuffled"], *(s["stage2"][k][w] for k in ("old", "new") for w in ("before", "after")):
    assert e["samples"] >= 20 and 0 <= e["iou_mean"] <= 1, e
assert s["stage1"]["loss"] < s["stage1"]["shuffled"]["loss"]
assert s["stage2"]["new"]["after"]["loss"] < s["stage2"]["new"]["before"]["loss"]'; then
        tail -n 11 build/demo.log
    else
        failed=1
        tail -n 30 build/demo.log
    fi
fi

echo "== $(($(date +%s) - started)) s$summary"
[ $failed = 0 ] || { echo "FAILED"; exit 1; }
echo "all tests passed"
