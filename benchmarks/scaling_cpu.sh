#!/usr/bin/env bash
# Training samples/s of two ranks with one thread each beside one rank with one thread: the demo's model, a micro-batch of 16 samples a rank.
# In turn, so that the machine's moods fall on both; medians, and the ratio pair by pair.
#
#   scaling_cpu.sh [PAIRS] [STEPS]     5 pairs of 120 steps
set -eu
cd "$(dirname "$0")/.."
pairs=${1:-5}
steps=${2:-120}
cadvlm=$PWD/build/cpu/cadvlm
[ -x "$cadvlm" ] || { echo "build first: cmake --build --preset cpu" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$cadvlm" data synth "$folder/shards" --count 2000 >&2
"$cadvlm" data tokenizer "$folder/shards" -o "$folder/tokenizer.json" --vocab 1280 --numbers 280 >/dev/null

rate() { # RANKS
    rm -rf "$folder/run"
    mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$1" "$cadvlm" train --config demo \
        train_data="$folder/shards" tokenizer="$folder/tokenizer.json" output_dir="$folder/run" threads=1 training.micro_batches="$1" \
        training.max_steps="$steps" training.eval_steps=0 training.eval_samples=16 training.save_steps=0 --json </dev/null 2>"$folder/log" |
        sed -n 's/.*"samples_per_s": \([0-9.]*\).*/\1/p'
}
median() { sort -g | awk '{ x[NR] = $1 } END { print x[int((NR + 1) / 2)] }'; }

one="" two="" ratios=""
for i in $(seq "$pairs"); do
    a=$(rate 1) b=$(rate 2)
    [ -n "$a" ] && [ -n "$b" ] || { cat "$folder/log" >&2; exit 1; }
    r=$(awk "BEGIN { printf \"%.3f\", $b / $a }")
    echo "  one rank $a, two ranks $b samples/s: ratio $r"
    one="$one$a
" two="$two$b
" ratios="$ratios$r
"
done
printf 'medians of %s pairs: one rank %s, two ranks %s samples/s, ratio %s\n' "$pairs" "$(printf '%s' "$one" | median)" \
    "$(printf '%s' "$two" | median)" "$(printf '%s' "$ratios" | median)"
