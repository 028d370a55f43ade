#!/usr/bin/env bash
# Builds and runs the tests. The fast tier by default: the cpu preset with every test, those of ops, model and trainer once more on
# what a processor without AVX-512 has, the asan preset for core, config, cad, data and model and for what the trainer reads, the
# CUDA kernels over the emulation (emu), and nvcc for sm_80. --full runs everything: under the sanitizers, the emulation in all its
# builds and thread orders, nvcc for every architecture, the headers of CUDA 12, the Debian package in a bare system (by itself:
# tests/launch/package.sh), a dozen planted faults, ten seconds of each fuzz harness (by itself: tests/fuzz/run.sh), a short demo.
#
# What of CUDA needs NVIDIA's headers or nvcc is left out where they are not, and said.
#
#   tests/run.sh [--full] [--busy] [--no-setup] [-R REGEX]
#
# --busy runs them beside as many busy loops as there are processors: no test may mind. (--full does so with the CAD tests.)
#
# Set CADVLM_SAMPLES to a folder of real sample files to run the tests that use them; else they are skipped and counted.
set -eu
cd "$(dirname "$0")/.."

full=0 busy=0 setup=1 filter=""
while [ $# -gt 0 ]; do
    case "$1" in
        --full) full=1 ;;
        --busy) busy=1 ;;
        --no-setup) setup=0 ;;
        -R) filter="$2"; shift ;;
        -h | --help) sed -n '2,14s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "run.sh: unknown option $1; see --help" >&2; exit 2 ;;
    esac
    shift
done
if [ $setup = 1 ]; then
    [ $full = 0 ] || ./launch/setup.sh --dev || true # a part whose tools are missing says so
    ./launch/setup.sh
fi

started=$(date +%s)
failed=0
summary=""

# configure PRESET [options of cmake]; what was found and what is off is printed
configure() {
    echo "== $1: building"
    mkdir -p "build/$1"
    log=build/$1/configure.log
    cmake --preset "$@" -DCADVLM_WERROR=ON >"$log" 2>&1 || { cat "$log"; exit 1; }
    grep '^--   ' "$log" || true
}

# build PRESET [target…], after configure
build() {
    preset=$1
    shift
    log=build/$preset/build.log
    cmake --build --preset "$preset" ${*:+--target "$@"} >"$log" 2>&1 || { cat "$log"; exit 1; }
}

# run_tests PRESET [ctest options]
run_tests() {
    preset=$1
    shift
    echo "== $preset: testing${CADVLM_CPU_ISA:+ on $CADVLM_CPU_ISA}"
    log=build/$preset/ctest.log
    if ! ctest --preset "$preset" -j "$(nproc)" --progress ${filter:+-R "$filter"} "$@" >"$log" 2>&1; then
        failed=1
        grep -vE '^\s*[0-9]+/[0-9]+ Test .*Passed|^\[[0-9]+/[0-9]+\]' "$log" || true
    fi
    grep -hE '^SKIP ' "build/$preset/Testing/Temporary/LastTest.log" | sort | uniq -c || true
    summary="$summary
$preset${CADVLM_CPU_ISA:+ on $CADVLM_CPU_ISA}: $(grep -E 'tests passed|No tests' "$log" | tail -n 1), $(grep -c 'Skipped$\|(Skipped)' "$log" || true) skipped"
}

loops=""
start_loops() {
    for _ in $(seq "$(nproc)"); do
        (while :; do :; done) &
        loops="$loops $!"
    done
}
stop_loops() {
    [ -z "$loops" ] || kill $loops
    loops=""
}
trap stop_loops EXIT
[ $busy = 0 ] || start_loops

configure cpu
build cpu
run_tests cpu -E '^cuda(_model|_train)?\.' # these run below
export ONEDNN_MAX_CPU_ISA=AVX2 CADVLM_CPU_ISA=avx2
run_tests cpu -L '^(ops|model|trainer)$'
unset ONEDNN_MAX_CPU_ISA CADVLM_CPU_ISA
if [ $full$busy = 10 ]; then
    start_loops
    run_tests cpu -L '^cad$'
    stop_loops
fi
configure asan
build asan
if [ $full = 1 ]; then
    run_tests asan -E '^cuda(_model|_train)?\.'
else
    run_tests asan -L 'core|config|cad|data|model'
    [ -n "$filter" ] || run_tests asan -R '^(card|evaluate|report)\.|^cli_train\.(damaged|full_disk|truncated)|^cli_published\.what_does_not_fit'
fi

# The CUDA kernels without a GPU.
skip() { echo "SKIPPED $1: $2"; summary="$summary
$1: skipped: $2"; }
emu_presets=emu
[ $full = 0 ] || emu_presets="emu emu-asan emu-race"
for preset in $emu_presets; do
    configure $preset
    if grep -q 'not emulated' build/$preset/configure.log; then
        skip $preset "$(grep -o 'not emulated.*' build/$preset/configure.log | head -n 1)"
        continue
    fi
    build $preset cuda_tests
    if [ $full = 1 ]; then run_tests $preset -L cuda; else run_tests $preset -L cuda -LE schedules; fi
done

# The same kernels by nvcc: no warnings, no spills and tensor cores where they belong; and a program that starts without a driver.
if command -v nvcc >/dev/null 2>&1; then
    configure cuda
    build cuda test_cuda
    python3 tools/count_instructions.py --need 'attention_(fwd|bwd)_kernel:HMMA>0' --need 'attention_(fwd|bwd)_kernel:stack=0' \
        --need '(down|grad_a|grad_x)_kernel:HMMA>0' --need '(down|grad_a|grad_x)_kernel:stack=0' \
        build/cuda/cuda/libcadvlm_cuda.a >build/cuda/instructions.txt || { tail -n 5 build/cuda/instructions.txt; failed=1; }
    run_tests cuda -R '^cuda\.'
    # Every architecture; and as one builds for a debugger, where nothing is inlined and names that stand for two things show.
    if [ $full = 1 ]; then
        every="-DCADVLM_CUDA_ARCHS=80;86;89;90;100;120"
        configure release "$every"
        build release
        ./build/release/cadvlm --version || failed=1
        configure cuda-debug "$every"
        build cuda-debug cadvlm_cuda
        python3 tools/doubled_symbols.py build/cuda-debug/cuda || failed=1
    fi
else
    skip cuda "nvcc was not found"
fi

# CUDA 12, for drivers that are older than 13: what includes its headers compiles with them.
if [ $full = 1 ] && [ -z "$filter" ]; then
    echo "== cuda12: the headers of CUDA 12"
    checked=0
    tools/check_cuda12.sh || checked=$?
    case $checked in
        0) ;;
        3) skip cuda12 "NVIDIA's headers could not be fetched" ;;
        *) failed=1 ;;
    esac
fi

# The package in a bare system; an installation with zsh's completion.
if [ $full = 1 ] && [ -z "$filter" ]; then
    echo "== package: in a bare system"
    packaged=0
    tests/launch/package.sh || packaged=$?
    case $packaged in
        0) tests/launch/installation.sh --build build/cpu --zsh || failed=1 ;;
        3) skip package "see above" ;;
        *) failed=1 ;;
    esac
fi

# A dozen faults planted in a copy of the tree, other ones every day: does a test notice each?
if [ $full = 1 ] && [ -z "$filter" ]; then
    echo "== faults: all compile, a dozen are planted"
    python3 tests/faults/faults.py --compile || failed=1
    python3 tests/faults/faults.py --some 12 || failed=1
fi

# Each parser against inputs that nobody thought of; longer by tests/fuzz/run.sh.
if [ $full = 1 ] && [ -z "$filter" ]; then
    echo "== fuzz: ten seconds each"
    fuzzed=0
    tests/fuzz/run.sh --seconds 10 --jobs "$(nproc)" || fuzzed=$?
    case $fuzzed in
        0) ;;
        3) skip fuzz "clang is missing (launch/setup.sh --dev)" ;;
        *) failed=1 ;;
    esac
fi

# The whole way in little: data, two stages, evaluations, report.
if [ $full = 1 ] && [ -z "$filter" ]; then
    echo "== demo: three minutes"
    if ./launch/demo.sh --no-setup --minutes 3 --both --out build/demo >build/demo.log 2>&1 &&
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
