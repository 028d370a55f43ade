#!/usr/bin/env bash
# The demo model's training step here and in PyTorch on the same two cores, in turn: medians of the samples/s, and of the ratio pair
# by pair. PyTorch is run in each of its ways (two processes of one thread, one of two; bf16 or f32) and its best counts.
#
#   torch_demo.sh PYTHON [PAIRS]     PYTHON: an interpreter that has torch (pip install torch); 5 pairs
#
# Two processes do not exchange gradients, on neither side. Not tried: torch.compile (torch_step.py --compile).
set -eu
cd "$(dirname "$0")/../.."
python=${1:?usage: torch_demo.sh PYTHON [PAIRS]}
pairs=${2:-5}
bench=build/cpu/benchmarks/bench_step
[ -x $bench ] || { echo "build first: cmake --build --preset cpu" >&2; exit 1; }
seconds=6

# samples/s of a command's JSON lines, added up: processes that ran side by side.
total() { sed -n 's/.*"samples_per_s": \([0-9.]*\).*/\1/p' | awk '{ s += $1 } END { printf "%.1f", s }'; }
two() { { "$@" & "$@" & wait; } 2>/dev/null | total; }
median() { sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }

ours() { two $bench demo --threads 1 --seconds $seconds --json; }
torch() { # WAY
    case $1 in
        2x1-*) two "$python" benchmarks/peers/torch_step.py --threads 1 --batch 16 --dtype "${1#2x1-}" --seconds $seconds ;;
        1x2-*) "$python" benchmarks/peers/torch_step.py --threads 2 --batch 32 --dtype "${1#1x2-}" --seconds $seconds 2>/dev/null | total ;;
    esac
}

"$python" -c 'import torch; print("PyTorch", torch.__version__)'
best="" most=0
for way in 2x1-bf16 2x1-f32 1x2-bf16 1x2-f32; do
    rate=$(torch $way)
    [ "${rate:-0.0}" != 0.0 ] || { echo "torch_step.py gave nothing; run it by hand to see why" >&2; exit 1; }
    echo "PyTorch, $way: $rate samples/s"
    if awk "BEGIN { exit !($rate > $most) }"; then best=$way most=$rate; fi
done
echo "its best way: $best; now $pairs pairs"
a="" b="" r=""
for i in $(seq "$pairs"); do
    x=$(ours) y=$(torch "$best")
    ratio=$(awk "BEGIN { printf \"%.3f\", $x / $y }")
    echo "  cadvlm $x, PyTorch $y samples/s: ratio $ratio"
    a="$a$x
" b="$b$y
" r="$r$ratio
"
done
printf 'medians of %s pairs: cadvlm %s, PyTorch (%s) %s samples/s, ratio %s\n' "$pairs" "$(printf '%s' "$a" | median)" "$best" \
    "$(printf '%s' "$b" | median)" "$(printf '%s' "$r" | median)"
