#!/usr/bin/env bash
# The first hour on a GPU (benchmarks/first_gpu.md), rehearsed over the emulation: gpu_check.sh from start to end on small sizes, then once
# with each thing that may go wrong, which must end in the sentence that the page has for it.
#
#   rehearse_gpu.sh BUILD    a build folder of the emu preset
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${1:?a build folder of the emu preset}
build=$(cd "$build" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export CADVLM_BUILD=$build OUT=$work/out CADVLM_CHECK_SIZES=demo CADVLM_CHECK_STEPS=1 CADVLM_CHECK_OPS="glu --rows 16 --calls 1"

failed=0
# expect WHAT STATUS SENTENCE… -- COMMAND…: what the command says and ends with.
expect() {
    local what=$1 status=$2 rc bad=0
    local -a sentences=()
    shift 2
    while [ "$1" != -- ]; do sentences+=("$1"); shift; done
    shift
    rm -rf "$OUT"
    "$@" >"$work/said" 2>&1
    rc=$?
    cat "$OUT"/*.log >>"$work/said" 2>/dev/null
    if [ $rc != "$status" ]; then
        echo "FAIL $what: status $rc, $status was expected"
        bad=1
    fi
    for sentence in "${sentences[@]}"; do
        if ! grep -qF -- "$sentence" "$work/said"; then
            echo "FAIL $what: \"$sentence\" was not said"
            bad=1
        fi
    done
    if [ $bad = 0 ]; then
        echo "ok $what"
    else
        failed=1
        tail -n 30 "$work/said"
    fi
}

check=("$root/benchmarks/gpu_check.sh" --scale 1000)
step=("$build/benchmarks/bench_step" demo --device cuda --micro-batch 1 --steps 1)
expect "from start to end" 0 "model: ok" "step: ok" "ops: ok" -- "${check[@]}" model step ops
expect "no driver" 1 "no GPU to check: no CUDA driver on this machine, or it is older than this build's CUDA" -- \
    env CADVLM_EMU_DEVICES=-1 "${check[@]}"
expect "no GPU" 1 "no GPU to check: no CUDA-capable device is detected" -- env CADVLM_EMU_DEVICES=0 "${check[@]}"
expect "a failing kernel" 1 "step: FAILED" "an operation before may have failed: CADVLM_CUDA_SYNC=1" -- \
    env CADVLM_EMU_FAIL=norm_bwd "${check[@]}" step
expect "a failing kernel, named" 1 "step: FAILED" "rmsnorm_bwd: an illegal memory access was encountered" -- \
    env CADVLM_EMU_FAIL=norm_bwd CADVLM_CUDA_SYNC=1 "${check[@]}" step
expect "a refused product" 0 "cuBLASLt offers an algorithm for a product" "refuses it: CUBLAS_STATUS_NOT_SUPPORTED" " 0 plain" -- \
    env CADVLM_EMU_REFUSE=1 "${step[@]}"
expect "a product refused every way" 0 " 95 plain" -- env CADVLM_EMU_REFUSE=3 "${step[@]}"
expect "a kernel that hangs" 1 "step: ran out of time" -- env CADVLM_EMU_HANG=adamw "$root/benchmarks/gpu_check.sh" --scale 2 step
for switch in CADVLM_CUDA_ATTENTION=plain CADVLM_CUDA_PRODUCTS=unfused CADVLM_CUDA_PRODUCTS=plain CADVLM_CUDA_SYNC=1; do
    expect "$switch" 0 "mfu" -- env "$switch" "${step[@]}"
done
[ $failed = 0 ] || exit 1
