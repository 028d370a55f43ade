#!/usr/bin/env bash
# Trains a small model on this machine's CPU, from nothing: makes parts and drawings, trains under mpirun, evaluates on parts it has
# never seen, adapts it to a client's style with LoRA, and shows all of it in a report.
#
#   launch/demo.sh [--minutes M] [--deepcad DIR] [--ranks N] [--out DIR] [--no-setup]
#
#   --minutes M    how long it may take after installation (15)
#   --deepcad DIR  also train on the DeepCAD files (.json) in DIR
#   --ranks N      MPI ranks, one thread each (one for each processor)
#   --out DIR      where everything goes (demo)
set -eu
cd "$(dirname "$0")/.."

minutes=15 deepcad="" ranks=$(nproc) out=demo setup=1
while [ $# -gt 0 ]; do
    case "$1" in
        --minutes) minutes=$2; shift ;;
        --deepcad) deepcad=$2; shift ;;
        --ranks) ranks=$2; shift ;;
        --out) out=$2; shift ;;
        --no-setup) setup=0 ;;
        -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) echo "demo.sh: unknown option $1; see --help" >&2; exit 2 ;;
    esac
    shift
done
case "$minutes" in *[!0-9]* | "" | 0) echo "demo.sh: --minutes $minutes: a whole number is expected" >&2; exit 2 ;; esac
case "$ranks" in *[!0-9]* | "" | 0) echo "demo.sh: --ranks $ranks: a whole number is expected" >&2; exit 2 ;; esac

[ $setup = 0 ] || ./launch/setup.sh
began=$(date +%s)
total=$((minutes * 60))
spent() { echo $(($(date +%s) - began)); }
say() { printf '\n== %s s: %s\n' "$(spent)" "$*"; }

# A signal to this script is passed on to mpirun as USR1, so that the ranks save and exit with 75.
child=""
stop() { [ -z "$child" ] || kill -USR1 "$child" 2>/dev/null || true; stopped=1; }
stopped=0
trap stop TERM INT
run_ranks() {
    mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$ranks" "$@" &
    child=$!
    code=0
    wait "$child" || code=$?
    # wait ends early when a signal comes; the ranks may still be saving.
    while kill -0 "$child" 2>/dev/null; do code=0; wait "$child" || code=$?; done
    child=""
    [ $stopped = 0 ] || exit 75
    return $code
}
number() { sed -n "s/.*\"$2\": \([-0-9.e+]*\).*/\1/p" "$1" | head -n 1; }

say "building"
cmake --preset cpu >/dev/null
cmake --build --preset cpu --target cadvlm cadvlm-cad -- --quiet
PATH=$PWD/build/cpu:$PATH
mkdir -p "$out"

# ---- data ----------------------------------------------------------------------------------------------------------------
# A part's split follows from what it is: the held-out parts of one set are never in the training part of another.
synth() { # NAME SECONDS COUNT SEED OPTIONS…
    name=$1 seconds=$2 count=$3 seed=$4
    shift 4
    rm -rf "$out/shards/$name"
    cadvlm data synth "$out/shards/$name" --count "$count" --seconds "$seconds" --seed "$seed" --val 0.03 "$@"
}
mkdir -p "$out/shards"
say "drawing parts (engineering drawings with hidden lines, by OpenCASCADE)"
synth parts $((total * 27 / 100)) 60000 1
say "drawing parts as a client would: first angle, framed, dimensions from the middle"
synth client $((total * 5 / 100)) 6000 2 --style client --convention centred
cadvlm data tokenizer "$out/shards/parts" "$out/shards/client" -o "$out/tokenizer.json" --vocab 768 --numbers 300

data="train_data=$out/shards/parts"
if [ -n "$deepcad" ]; then
    say "adding the DeepCAD files of $deepcad"
    rm -rf "$out/shards/deepcad"
    cadvlm data import deepcad "$deepcad" "$out/shards/deepcad" --val 0
    # A mix of two datasets is a list, so it goes through a config of its own.
    sed '/^train_data:/d' config/presets/demo.yaml >"$out/demo_mix.yaml"
    printf 'datasets:\n  - { name: parts, path: %s/shards/parts, weight: 0.98 }\n  - { name: deepcad, path: %s/shards/deepcad, weight: 0.02 }\nval_data: %s/shards/parts\n' \
        "$out" "$out" "$out" >>"$out/demo_mix.yaml"
    data="" preset="$out/demo_mix.yaml"
fi
