#!/usr/bin/env bash
# What only a machine with a GPU can show: whether the kernels are right there, and how fast. Nine minutes at most.
#
#   gpu_check.sh [--with FILE] [--scale PERCENT] [PART...]
#   gpu_check.sh --kernels
#
# Runs the parts that are named, or all, in the order below: is it right, how fast is it, then the rest. Each part has seconds of its
# own, which no other can use up; what earlier parts leave of theirs goes to the later ones. A part that is out of time is ended. All
# shares together are 540 s, so that everything fits into one command of ten minutes. --scale shrinks them all (for tests).
#
# Programs are those of the bundle that this script lies in (tools/bundle.sh), or of build/release (CADVLM_BUILD names another folder).
# Steps are of the sizes in CADVLM_CHECK_SIZES ("089b 055b"), CADVLM_CHECK_STEPS (20) of each, and CADVLM_CHECK_OPS holds more words for
# bench_ops: for rehearsals over the emulation, which needs hours for what a GPU does in seconds.
#
# Writes into $OUT, by default benchmarks/results/DATE-GPU: PART.log and PART.jsonl while a part runs, so that they are there whatever
# ends it; gpu_check.log, what became of each; gpu_check.json and gpu_check.md, the tables (these need python3). What a killed run left
# becomes tables by gpu_report.py FOLDER. --with FILE takes the parts that are not run now from an earlier gpu_check.json of the same
# machine. A part that fails does not keep the next from running. Exit status: 1 if any failed or there is no GPU, 2 for wrong usage.
#
# compute-sanitizer looks at our kernels alone: cuBLASLt's are NVIDIA's to answer for, and cost most of the time. --kernels lists ours.
set -u
table="\
start-up    25  finds the programs and CUDA's libraries, opens the GPU
match       85  every operation against the reference implementation in f32, bf16, f16; gradients; the optimiser; bits that repeat (test_cuda)
model       50  the whole model, dropout, generation, against the CPU backend (test_cuda_model)
step        60  training steps of the 0.89B and 0.55B sizes
ops         75  every operation at the sizes of OpenECADv2 0.89B against copy bandwidth, a large bf16 product, cuBLASLt's best
sanitizer   75  compute-sanitizer's memcheck, racecheck, synccheck over the operations in bf16; named where it does not work
peers-ops   45  the same as ops in PyTorch, where python3 has it
peers-step 110  the same as step in turns with PyTorch as PEFT computes, at its best and in the settings of OpenECAD's authors
report      15  the tables"
limit=540

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
all_parts=$(printf '%s\n' "$table" | sed -n '/^start-up\|^report/!s/ .*//p' | tr '\n' ' ')
share_of() { printf '%s\n' "$table" | sed -n "s/^$1  *\([0-9]*\) .*/\1/p"; } # seconds
sum=$(printf '%s\n' "$table" | sed 's/^[^ ]* *\([0-9]*\) .*/\1/' | paste -sd+)
[ $((sum)) -le $limit ] || { echo "gpu_check.sh: the parts' shares are $((sum)) s, more than $limit" >&2; exit 2; }

usage() {
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
    printf '\n%s\n' "part         s  what it does
$table"
}

# Names of our kernels. In a tree they are read from the sources; a bundle brings the list.
kernels() {
    if [ -e "$root/share/kernels" ]; then
        cat "$root/share/kernels"
    else
        cat "$root"/cuda/*.cu "$root"/cuda/*.cuh | tr '\n' ' ' | tr -s ' ' |
            grep -oE '__global__ void __launch_bounds__\([^)]*\) [a-z0-9_]+\(' | sed 's/.* \(.*\)(/\1/' | sort -u
    fi
}

parts="" with="" scale=100
while [ $# -gt 0 ]; do
    case "$1" in
        --with) with=${2:?--with FILE}; shift ;;
        --scale) scale=${2:?--scale PERCENT}; shift ;;
        --kernels) kernels; exit 0 ;;
        -h | --help) usage; exit 0 ;;
        *)
            case " $all_parts " in
                *" $1 "*) parts="$parts $1" ;;
                *) echo "gpu_check.sh: no part $1; parts: $all_parts" >&2; exit 2 ;;
            esac ;;
    esac
    shift
done
case $scale in "" | *[!0-9]* | 0*) echo "gpu_check.sh: --scale $scale: a number of percent" >&2; exit 2 ;; esac
parts=${parts:-$all_parts}

now() { # sets now, in hundredths of a second, without a process
    local up
    read -r up _ </proc/uptime
    now=${up/./}
}
now
began=$now

# ---- the programs, the libraries of CUDA where the loader does not find them, a GPU ----

if [ -x "$root/bin/bench_ops" ]; then
    tests=$root/bin benches=$root/bin lists=$root/share tools=$root/share
else
    build=${CADVLM_BUILD:-$root/build/release}
    build=$(cd "$build" 2>/dev/null && pwd || echo "$build")
    tests=$build/tests benches=$build/benchmarks lists=$root/tests tools=$root/tools
fi
for program in "$tests/test_cuda" "$tests/test_cuda_model" "$benches/bench_ops" "$benches/bench_step"; do
    [ -x "$program" ] || { echo "gpu_check.sh: $program is not there: cmake --build --preset release, or take a bundle" >&2; exit 1; }
done

# shellcheck source=tools/cuda_libraries.sh
. "$tools/cuda_libraries.sh"
libraries=$(cuda_libraries "$tests/test_cuda") || exit 1
ours() { LD_LIBRARY_PATH=$libraries "$@"; } # only for our programs: PyTorch brings libraries of its own

device=$(ours timeout 15 "$benches/bench_step" --device cuda --open 2>&1)
case $? in
    0) ;;
    124) echo "gpu_check.sh: no GPU to check: opening one took more than 15 s" >&2; exit 1 ;;
    *)
        device=${device#*error: }
        echo "gpu_check.sh: no GPU to check: ${device%: set device: cpu}" >&2
        exit 1 ;;
esac
gpu=$(timeout 5 nvidia-smi --query-gpu=name,driver_version,power.limit,clocks.max.sm --format=csv,noheader 2>/dev/null | head -n 1)
if [ -z "$gpu" ]; then
    gpu=${device#*GPU [0-9]: } # cuda (GPU 0: NVIDIA H200, 140 GiB, CUDA 13.0)
    gpu=${gpu%)}
fi
slug=$(echo "${gpu%%,*}" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-')
out=${OUT:-$root/benchmarks/results/$(date +%F)-$slug}
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd)

# ---- the parts: lines of JSON go to PART.jsonl (standard output), what else is said to PART.log (standard error) ----

sizes=${CADVLM_CHECK_SIZES:-089b 055b} steps=${CADVLM_CHECK_STEPS:-20} ops=${CADVLM_CHECK_OPS:-}

# run_tests PROGRAM: its tests one by one, four at a time, so that one that fails does not hide the others. One that does not end is
# found by its line of JSON: only the last of a test counts.
run_tests() {
    if [ -e "$lists/$1.tests" ]; then
        names=$(cat "$lists/$1.tests")
    else
        names=$(sed -n 's/^TEST(\([a-z0-9_]*\)).*/\1/p' "$lists/cuda/$1.c")
    fi
    export program="$tests/$1"
    # shellcheck disable=SC2016  # expanded by the inner shell
    echo "$names" | ours xargs -P 4 -I NAME sh -c '
        printf "{\"test\": \"NAME\", \"how\": \"not ended\"}\n"
        "$program" NAME >&2; rc=$?
        case $rc in 0) how=passed ;; 77) how=skipped ;; *) how=failed ;; esac
        printf "{\"test\": \"NAME\", \"how\": \"%s\"}\n" $how
        [ $rc = 0 ] || [ $rc = 77 ] || { echo "NAME failed ($rc)" >&2; exit 1; }'
}

part_match() { run_tests test_cuda; }
part_model() { run_tests test_cuda_model; }

part_step() {
    failed=0
    for size in $sizes; do ours "$benches/bench_step" "$size" --device cuda --steps "$steps" --json || failed=1; done
    return $failed
}

part_ops() {
    # shellcheck disable=SC2086  # words
    ours "$benches/bench_ops" --device cuda --json $ops
}

# within SECONDS PROGRAM…: timeout(1) in a part; it ends when the part is told to.
within() {
    timeout -k 2 "$@" &
    local inner=$! rc
    # shellcheck disable=SC2064  # this one's number
    trap "kill $inner" TERM
    wait $inner
    rc=$?
    trap : TERM
    return $rc
}

# The filters look for what they are given in the mangled names, where a name has its length before it.
only_ours() {
    only=()
    local filter=--kernel-name name
    "$tool" --help 2>&1 | grep -q -e --kernel-name || filter=--kernel-regex # before CUDA 12.3
    for name in $(kernels); do only+=("$filter" "kns=${#name}$name"); done
}

part_sanitizer() {
    tool=$(PATH=$PATH:/usr/local/cuda/bin command -v compute-sanitizer)
    if [ -z "$tool" ]; then
        echo '{"tool": "compute-sanitizer", "how": "is not installed"}'
        return 0
    fi
    only_ours
    refusals="not supported\|internal sanitizer error\|failed to initialize"
    failed=0
    for check in memcheck racecheck synccheck; do
        echo "$check:" >&2
        before=$(wc -c <"$out/sanitizer.log")
        LD_LIBRARY_PATH=$libraries within $((budget / 3)) "$tool" --tool $check --error-exitcode 9 --print-limit 20 "${only[@]}" \
            "$tests/test_cuda" every_operation_matches_the_reference_in_bf16 >&2
        rc=$?
        case $rc in
            0) how="found nothing" ;;
            9) how="FOUND ERRORS" failed=1 ;;
            124 | 137) how="did not end within $((budget / 3)) s" ;;
            *)
                refusal=$(tail -c +$((before + 1)) "$out/sanitizer.log" | grep -im 1 "$refusals" | tr -d '"\\=' | sed 's/^ *//')
                if [ -n "$refusal" ]; then how="does not work here: $refusal"; else how="the test FAILED under it ($rc)" failed=1; fi ;;
        esac
        printf '{"tool": "%s", "how": "%s"}\n' $check "$how"
    done
    return $failed
}

has_torch() {
    python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && return 0
    echo '{"skipped": "python3 has no PyTorch that sees the GPU"}'
    return 1
}

part_peers_ops() {
    has_torch || return 0
    python3 -W ignore "$root/benchmarks/peers/torch_gpu.py" ops
}

part_peers_step() {
    has_torch || return 0
    printf -v peer 'python3 -W ignore %q step' "$root/benchmarks/peers/torch_gpu.py"
    printf -v mine 'env LD_LIBRARY_PATH=%q %q' "$libraries" "$benches/bench_step"
    failed=0
    local end=$((SECONDS + budget))
    for size in $sizes; do
        left=$((end - SECONDS - 10)) # paired.py needs some to end what it started
        if [ $left -lt 50 ]; then
            echo "{\"skipped\": \"$size: $left s were left\"}"
            continue
        fi
        [ "$size" != 089b ] || left=$((left * 2 / 3))
        python3 "$root/benchmarks/peers/paired.py" --rounds 5 --within $left \
            "cadvlm=$mine $size --device cuda --steps 10 --blocks --json" \
            "authors=$peer $size --way authors --steps 4 --blocks" \
            "best=$peer $size --way best --steps 10 --blocks" || failed=1
    done
    return $failed
}

export root out tests benches lists libraries sizes steps ops
export -f kernels ours run_tests within only_ours has_torch
for part in $all_parts; do export -f "part_${part//-/_}"; done

# ---- run them ----

say() { echo "$*" | tee -a "$out/gpu_check.log"; }

# note PART HOW SECONDS: the last line of a part counts.
note() { printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$out/parts.tsv"; }

# Sets budget, in hundredths of a second: what is left of the limit but for the report and the parts after this one. Not less than
# its share, should the start have taken longer than it may.
set_budget() {
    local later=0 after=0 part
    for part in $all_parts; do
        case " $parts " in *" $part "*) ;; *) continue ;; esac
        [ $after = 0 ] || later=$((later + $(share_of "$part")))
        [ "$part" != "$1" ] || after=1
    done
    now
    budget=$((began + (limit - $(share_of report) - later) * scale - now))
    [ $budget -ge $(($(share_of "$1") * scale)) ] || budget=$(($(share_of "$1") * scale))
}

running="" runner=""
run_part() {
    running=$1
    local how rc start took grace=$((3 * scale)) text
    set_budget "$1"
    now
    start=$now
    note "$1" running 0
    echo "$1: began, $((budget / 100)) s at most" >>"$out/gpu_check.log"
    : >"$out/$1.log"
    # timeout(1) is the head of a process group and outlives this script, so that a part ends in time even where this was killed. Told
    # to end, a part may say what it has: its shell waits for the program (trap).
    printf -v text '%d.%02d %d.%02d' $(((budget - grace) / 100)) $(((budget - grace) % 100)) $((grace / 100)) $((grace % 100))
    budget=$(((budget - grace) / 100)) timeout -k "${text#* }" "${text% *}" "$BASH" -c "trap : TERM; part_${1//-/_}" \
        >"$out/$1.jsonl" 2>>"$out/$1.log" </dev/null &
    runner=$!
    wait $runner 2>/dev/null
    rc=$?
    kill -KILL -- -$runner 2>/dev/null # whatever it left
    runner=""
    now
    took=$(((now - start + 50) / 100))
    case $rc in
        0) how=ok ;;
        124) how="ran out of time" ;;
        137) if [ $((now - start)) -ge $((budget - grace)) ]; then how="ran out of time"; else how=FAILED; fi ;;
        *) how=FAILED ;;
    esac
    note "$1" "$how" $took
    say "$1: $how, $took s"
    if [ $rc != 0 ]; then
        failed="$failed $1"
        tail -n 15 "$out/$1.log" | sed 's/^/    /' | tee -a "$out/gpu_check.log" >&2
    fi
    running=""
}

report() {
    if ! command -v python3 >/dev/null; then
        echo "gpu_check.sh: no python3 to make tables: the lines are in $out" >&2
        return 0
    fi
    timeout "$(share_of report)" python3 "$root/benchmarks/gpu_report.py" "$out" ${with:+--with "$with"} || failed="$failed report"
    [ ! -s "$out/gpu_check.md" ] || cat "$out/gpu_check.md"
}

stop() { # SIGNAL NUMBER
    trap '' INT TERM HUP
    if [ -n "$runner" ]; then
        kill "$runner" 2>/dev/null
        wait "$runner" 2>/dev/null
        kill -KILL -- "-$runner" 2>/dev/null
    fi
    [ -z "$running" ] || note "$running" "stopped by $1" 0
    say "gpu_check.sh: stopped by $1${running:+ while $running ran}; what is there is in $out"
    report
    exit $((128 + $2))
}

failed=""
printf 'gpu\t%s\n' "$gpu" >"$out/parts.tsv"
rm -f "$out/gpu_check.md"
trap 'stop INT 2' INT
trap 'stop TERM 15' TERM
trap 'stop HUP 1' HUP
echo "gpu_check.sh on $gpu: $parts" | tee "$out/gpu_check.log"
for part in $all_parts; do
    case " $parts " in *" $part "*) run_part "$part" ;; esac
done
report
now
if [ -n "$failed" ]; then
    echo "gpu_check.sh: failed:$failed (PART.log in $out)" >&2
    exit 1
fi
echo "gpu_check.sh: everything passed in $(((now - began) / 100)) s"
