#!/usr/bin/env bash
# What only a machine with a GPU can tell: whether the kernels are right there, and how fast. Under nine minutes.
#
#   gpu_check.sh [--with FILE] [PART...]
#
# Parts, in this order; all where none is named:
#   match      every operation against the plain loops in f32, bf16, f16; gradients; the optimiser; bits that repeat (test_cuda)
#   model      the whole model, dropout, generation, against the CPU backend (test_cuda_model)
#   sanitizer  compute-sanitizer's memcheck, racecheck, synccheck over the operations in bf16; named where it does not work
#   ops        every operation at the sizes of OpenECADv2 0.89B against copy bandwidth, a large bf16 product, cuBLASLt's best
#   peers-ops  the same in PyTorch, where python3 has it
#   step       training steps of the 0.55B and 0.89B sizes
#   peers-step the same in turns with PyTorch as PEFT computes, at its best and in the settings of OpenECAD's authors: paired medians
#
# Looks for the programs in the bundle that this script lies in (tools/bundle.sh), or in build/release (CADVLM_BUILD names another
# folder). Writes gpu_check.json, gpu_check.md and gpu_check.log into $OUT, by default benchmarks/results/DATE-GPU. --with FILE takes
# the parts that are not run now from an earlier gpu_check.json of the same machine. A part that fails does not keep the next from
# running; the exit status is 1 if any failed. With PyTorch's peers it needs python3; without python3 there is the log alone.
set -u
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
all_parts="match model sanitizer ops peers-ops step peers-step"
limit=525 # seconds for everything: what peers-step may use of it is what the others have left

parts="" with=""
while [ $# -gt 0 ]; do
    case "$1" in
        --with) with=${2:?--with FILE}; shift ;;
        -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        *)
            case " $all_parts " in
                *" $1 "*) parts="$parts $1" ;;
                *) echo "gpu_check.sh: there is no part $1; there are: $all_parts" >&2; exit 2 ;;
            esac ;;
    esac
    shift
done
parts=${parts:-$all_parts}

# ---- the programs, and the libraries of CUDA where the loader does not find them ----

if [ -x "$root/bin/bench_ops" ]; then
    tests=$root/bin benches=$root/bin lists=$root/share tools=$root/share
else
    build=${CADVLM_BUILD:-$root/build/release}
    tests=$build/tests benches=$build/benchmarks lists=$root/tests tools=$root/tools
fi
for program in "$tests/test_cuda" "$tests/test_cuda_model" "$benches/bench_ops" "$benches/bench_step"; do
    [ -x "$program" ] || { echo "gpu_check.sh: $program is not there: cmake --build --preset release, or take a bundle" >&2; exit 1; }
done

# shellcheck source=tools/cuda_libraries.sh
. "$tools/cuda_libraries.sh"
# Only for our programs: PyTorch brings libraries of its own.
libraries=$(cuda_libraries "$tests/test_cuda") || exit 1
ours=(env "LD_LIBRARY_PATH=$libraries")

if ! reason=$("${ours[@]}" "$benches/bench_step" demo --device cuda --micro-batch 1 --steps 1 2>&1); then
    reason=${reason#*error: }
    echo "gpu_check.sh: there is no GPU to check: ${reason%: set device: cpu}" >&2
    exit 1
fi

gpu=$(nvidia-smi --query-gpu=name,driver_version,power.limit,clocks.max.sm --format=csv,noheader 2>/dev/null | head -n 1)
gpu=${gpu:-unknown GPU}
slug=$(echo "${gpu%%,*}" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
out=${OUT:-$root/benchmarks/results/$(date +%F)-$slug}
mkdir -p "$out" || exit 1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
log=$out/gpu_check.log
echo "gpu_check.sh on $gpu: $parts" | tee "$log"

# ---- the parts: each writes lines of JSON to its standard output, says what it has to say on standard error ----

# run_tests PROGRAM: its tests one by one, four at a time, so that one that fails does not hide the others.
run_tests() {
    if [ -e "$lists/$1.tests" ]; then
        names=$(cat "$lists/$1.tests")
    else
        names=$(sed -n 's/^TEST(\([a-z0-9_]*\)).*/\1/p' "$lists/$1.c")
    fi
    export program="$tests/$1"
    # shellcheck disable=SC2016  # expanded by the inner shell
    echo "$names" | "${ours[@]}" xargs -P 4 -I NAME sh -c '
        text=$("$program" NAME 2>&1); rc=$?
        case $rc in 0) how=passed ;; 77) how=skipped ;; *) how=failed ;; esac
        printf "%s\n" "$text" >&2
        printf "{\"test\": \"%s\", \"how\": \"%s\"}\n" NAME $how
        [ $rc = 0 ] || [ $rc = 77 ] || exit 1'
}

part_match() { run_tests test_cuda; }
part_model() { run_tests test_cuda_model; }

part_sanitizer() {
    tool=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)
    if [ -z "$tool" ]; then
        echo '{"tool": "compute-sanitizer", "how": "is not installed"}'
        return 0
    fi
    refusals="not supported\|internal sanitizer error\|failed to initialize"
    failed=0
    for check in memcheck racecheck synccheck; do
        text=$("${ours[@]}" timeout 40 "$tool" --tool $check --error-exitcode 9 "$tests/test_cuda" \
            every_operation_matches_the_plain_loops_in_bf16 2>&1)
        rc=$?
        printf '%s\n' "$text" | tail -n 40 >&2
        case $rc in
            0) how="found nothing" ;;
            124) how="did not end within 40 s" ;;
            *) if printf '%s' "$text" | grep -qi "$refusals"; then
                    how="does not work here: $(printf '%s' "$text" | grep -im 1 "$refusals" | tr -d '"\\=' | sed 's/^ *//')"
                else
                    how="FOUND ERRORS" failed=1
                fi ;;
        esac
        printf '{"tool": "%s", "how": "%s"}\n' $check "$how"
    done
    return $failed
}

part_ops() { "${ours[@]}" "$benches/bench_ops" --device cuda --json; }

has_torch() {
    python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && return 0
    echo '{"skipped": "python3 has no PyTorch that sees the GPU"}'
    return 1
}

part_peers_ops() {
    has_torch || return 0
    python3 -W ignore "$root/benchmarks/peers/torch_gpu.py" ops
}

part_step() {
    failed=0
    for size in 089b 055b; do "${ours[@]}" "$benches/bench_step" $size --device cuda --steps 20 --json || failed=1; done
    return $failed
}

part_peers_step() {
    has_torch || return 0
    peer="python3 -W ignore $root/benchmarks/peers/torch_gpu.py step"
    failed=0
    for size in 089b 055b; do
        left=$((limit - SECONDS))
        if [ $left -lt 60 ]; then
            echo "{\"skipped\": \"$size: $left s were left\"}"
            continue
        fi
        [ $size = 055b ] || left=$((left * 2 / 3))
        python3 "$root/benchmarks/peers/paired.py" --rounds 5 --within $left \
            "cadvlm=${ours[*]} $benches/bench_step $size --device cuda --steps 10 --blocks --json" \
            "authors=$peer $size --way authors --steps 4 --blocks" \
            "best=$peer $size --way best --steps 10 --blocks" || failed=1
    done
    return $failed
}

# ---- run them ----

budget_of() { # seconds
    case $1 in
        match | ops | peers-ops) echo 90 ;;
        model | step) echo 60 ;;
        sanitizer) echo 125 ;;
        *) echo $limit ;;
    esac
}

# Runs a function with a time limit, in a process group of its own (set -m), so that what it started ends with it. timeout(1) takes
# programs only.
limited() { # SECONDS FUNCTION
    set -m
    "$2" &
    local pid=$! waited=0
    set +m
    while kill -0 $pid 2>/dev/null; do
        if [ $waited -ge $(($1 * 5)) ]; then
            kill -- -$pid 2>/dev/null
            wait $pid 2>/dev/null
            return 124
        fi
        sleep 0.2
        waited=$((waited + 1))
    done
    wait $pid
}

failed=""
for part in $all_parts; do
    case " $parts " in *" $part "*) ;; *) continue ;; esac
    began=$SECONDS budget=$(budget_of "$part")
    [ $((limit - SECONDS)) -ge "$budget" ] || budget=$((limit - SECONDS))
    if [ "$budget" -lt 5 ]; then
        rc=124
        : >"$work/$part.jsonl"
    else
        limited "$budget" "part_${part/-/_}" >"$work/$part.jsonl" 2>"$work/$part.err"
        rc=$?
    fi
    case $rc in 0) how=ok ;; 124) how="ran out of time" ;; *) how=FAILED ;; esac
    [ $rc = 0 ] || failed="$failed $part"
    printf '%s\t%s\t%s\n' "$part" "$how" $((SECONDS - began)) >>"$work/parts.tsv"
    echo "$part: $how, $((SECONDS - began)) s" | tee -a "$log"
    { cat "$work/$part.err" "$work/$part.jsonl" 2>/dev/null; } >>"$log"
    [ $rc = 0 ] || tail -n 15 "$work/$part.err" >&2
done

if command -v python3 >/dev/null; then
    python3 "$root/benchmarks/gpu_report.py" "$work" "$out" --gpu "$gpu" ${with:+--with "$with"} || failed="$failed report"
    [ -s "$out/gpu_check.md" ] && cat "$out/gpu_check.md"
else
    echo "gpu_check.sh: there is no python3 to make a table: the lines are in $log" >&2
fi
if [ -n "$failed" ]; then
    echo "gpu_check.sh: failed:$failed ($log)" >&2
    exit 1
fi
echo "gpu_check.sh: everything passed in $SECONDS s"
