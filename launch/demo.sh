#!/usr/bin/env bash
# Trains a small model on this machine's CPU, from nothing: makes parts and drawings, trains under mpirun, evaluates on parts it has
# never seen, adapts it to a client's style with LoRA, and shows all of it in a report.
#
#   launch/demo.sh [--minutes M] [--deepcad DIR] [--ranks N] [--out DIR] [--no-setup]
#
#   --minutes M    how long it may take after installation (15)
#   --deepcad DIR  also train on the DeepCAD files (.json) in DIR
#   --ranks N      MPI ranks (2, or 1 on one processor): a step has two slots, so more have nothing to do; threads fill the rest
#   --out DIR      where everything goes (demo, beside this project's other folders)
#   --no-setup     install nothing
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
minutes=15 deepcad="" ranks=$(nproc) out=$root/demo setup=1
[ "$ranks" -le 2 ] || ranks=2
absolute() { case "$1" in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
usage() { echo "demo.sh: $*; see --help" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case "$1" in
        --minutes | --deepcad | --ranks | --out) [ $# -ge 2 ] || usage "$1 takes a value" ;;
    esac
    case "$1" in
        --minutes) minutes=$2; shift ;;
        --deepcad) deepcad=$(absolute "$2"); shift ;;
        --ranks) ranks=$2; shift ;;
        --out) out=$(absolute "$2"); shift ;;
        --no-setup) setup=0 ;;
        -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) usage "unknown option $1" ;;
    esac
    shift
done
for value in "$minutes" "$ranks"; do
    case "$value" in *[!0-9]* | "" | 0*) usage "$value: a whole number from 1 is expected" ;; esac
done
[ -z "$deepcad" ] || [ -d "$deepcad" ] || usage "--deepcad $deepcad is no folder"
cd "$root"
out=${out#"$root"/}

[ $setup = 0 ] || ./launch/setup.sh
began=$(date +%s)
total=$((minutes * 60))
spent() { echo $(($(date +%s) - began)); }
say() { printf '\n== %s s: %s\n' "$(spent)" "$*"; }

# A signal to this script is passed on to what runs: to mpirun as USR1, so that the ranks save and exit with 75.
child="" pass=TERM stopped=0
exec 3>&2
stop() { stopped=1; [ -z "$child" ] || kill -"$pass" "$child" 2>/dev/null || true; }
trap stop TERM INT
leave_if_stopped() { [ $stopped = 0 ] || { echo "demo.sh: stopped; what is in $out stays" >&3; exit 75; }; }
run() {
    leave_if_stopped
    "$@" </dev/null &
    child=$!
    [ $stopped = 0 ] || stop
    code=0
    wait "$child" || code=$?
    # wait ends early when a signal comes; the child may still be saving.
    while kill -0 "$child" 2>/dev/null; do code=0; wait "$child" || code=$?; done
    child=""
    leave_if_stopped
    return $code
}
run_ranks() {
    pass=USR1
    ended=0
    run mpirun --allow-run-as-root --oversubscribe --bind-to none -n "$ranks" "$@" || ended=$?
    pass=TERM
    return $ended
}
# A number of a JSON file of ours: the first with that name, or null. And arithmetic with it: "-" where there is none.
number() { sed -n "s/.*\"$2\": \([-0-9.e+]*\|null\)[,}].*/\1/p; s/.*\"$2\": \([-0-9.e+]*\|null\)$/\1/p" "$1" | head -n 1; }
calculate() { case "$2" in *null*) echo - ;; *) awk "BEGIN { printf \"$1\", $2 }" ;; esac; }

say "building"
run cmake --preset cpu >/dev/null
run cmake --build --preset cpu --target cadvlm cadvlm-cad
PATH=$PWD/build/cpu:$PATH
mkdir -p "$out"

# ---- data ----------------------------------------------------------------------------------------------------------------
# A part's split follows from what it is: the held-out parts of one set are never in the training part of another.
synth() { # NAME SECONDS COUNT SEED OPTIONS…
    name=$1 seconds=$2 count=$3 seed=$4
    shift 4
    rm -rf "$out/shards/$name"
    run cadvlm data synth "$out/shards/$name" --count "$count" --seconds "$seconds" --seed "$seed" --val 0.03 "$@"
}
mkdir -p "$out/shards"
say "drawing parts (engineering drawings with hidden lines, by OpenCASCADE)"
synth parts $((total * 12 / 100)) 30000 1
say "drawing parts as a client would: first angle, framed, dimensions from the middle"
synth client $((total * 25 / 1000)) 6000 2 --style client --convention centred
run cadvlm data tokenizer "$out/shards/parts" "$out/shards/client" -o "$out/tokenizer.json" --vocab 1280 --numbers 280

# The config of stage 1 is the preset with the data's places; a list of datasets cannot be given on the command line.
{
    sed '/^train_data:/d; /^tokenizer:/d; /^output_dir:/d' config/presets/demo.yaml
    echo "tokenizer: \"$out/tokenizer.json\""
    echo "val_data: \"$out/shards/parts\""
    echo "datasets:"
    echo "  - { name: parts, path: \"$out/shards/parts\", weight: 0.98 }"
} >"$out/stage1.yaml"
if [ -n "$deepcad" ]; then
    say "adding the DeepCAD files of $deepcad"
    rm -rf "$out/shards/deepcad"
    run cadvlm data import deepcad "$deepcad" "$out/shards/deepcad" --val 0
    echo "  - { name: deepcad, path: \"$out/shards/deepcad\", weight: 0.02 }" >>"$out/stage1.yaml"
fi

# ---- stage 1: a small model from scratch ---------------------------------------------------------------------------------
# train CONFIG OUTPUT SECONDS GROWING: as many steps as fit, by the speed of a short run; shifts grow over GROWING percent of them.
train() {
    config=$1 output=$2 seconds=$3 growing=$4
    rm -rf "$output" "$out/probe"
    run_ranks cadvlm train --config "$config" "output_dir=$out/probe" training.max_steps=$probe_steps training.eval_steps=0 \
        training.save_steps=0 training.eval_samples=16 --json >"$out/probe.json" 2>"$out/probe.log" || { cat "$out/probe.log" >&2; exit 1; }
    steps=$(calculate "%d" "$seconds * $(number "$out/probe.json" samples_per_s) / 32") # two slots of 16 samples a step
    [ "$steps" -ge 20 ] || steps=20
    rm -rf "$out/probe" "$out/probe.json" "$out/probe.log"
    run_ranks cadvlm train --config "$config" "output_dir=$output" "training.max_steps=$steps" \
        "training.image_shift_steps=$((steps * growing / 100))"
}
probe_steps=60
samples=$((total / 4 > 200 ? 200 : total / 4))

# evaluate RUN DATASET NAME OPTIONS…: leaves the path of the numbers in $result.
evaluate() {
    run=$1 set=$2 name=$3
    shift 3
    run_ranks cadvlm eval --checkpoint "$run" --data "$set=$out/shards/$set" --samples "$samples" --name "$name" "$@"
    for result in "$run"/eval/step-*-"$name".json; do :; done
}

say "stage 1: training a small model from scratch on $ranks ranks"
train "$out/stage1.yaml" "$out/stage1" $((total * 73 / 100 - $(spent))) 50
say "evaluating it on parts that it has never seen, and with pictures exchanged"
evaluate "$out/stage1" parts old --shuffled
old_before=$result
evaluate "$out/stage1" client new
new_before=$result

# ---- stage 2: LoRA to the client's conventions ---------------------------------------------------------------------------
say "stage 2: adapting it to the client's drawings with LoRA"
cat >"$out/stage2.yaml" <<END
base_model: "$out/stage1"
val_data: "$out/shards/client"
datasets:                            # half of them old drawings, so that those are not forgotten
  - { name: client, path: "$out/shards/client", weight: 0.5 }
  - { name: parts, path: "$out/shards/parts", weight: 0.5 }
tune: { llm: lora, vision: lora, connector: full }
lora: { r: 16, alpha: 32, dropout: 0 }
training:
  slots: 2
  per_device_batch_size: 16
  learning_rate: 4.0e-3
  adam_beta2: 0.98
  warmup_steps: 20
  min_lr_ratio: 0.05
  max_length: 320
  image_shift: 2
  save_steps: 0
  eval_steps: 0
  eval_samples: 256
seed: 2
END
train "$out/stage2.yaml" "$out/stage2" $((total * 91 / 100 - $(spent))) 0
say "evaluating it on both sets"
evaluate "$out/stage2" parts old
old_after=$result
evaluate "$out/stage2" client new
new_after=$result

# ---- what was reached ----------------------------------------------------------------------------------------------------
run cadvlm report "$out/stage1" "$out/stage2" -o "$out/report.html" --title "cadvlm demo"
seconds=$(spent)
{
    echo "{\"seconds\": $seconds, \"stage1\":"
    cat "$old_before"
    echo ", \"stage2\": {\"old\": {\"before\":"
    cat "$old_before"
    echo ", \"after\":"
    cat "$old_after"
    echo "}, \"new\": {\"before\":"
    cat "$new_before"
    echo ", \"after\":"
    cat "$new_after"
    echo "}}}"
} >"$out/summary.json.part"
mv "$out/summary.json.part" "$out/summary.json"

percent() { calculate "%.1f %%" "100 * $(number "$1" "$2")"; }
score() { calculate "%.2f" "$(number "$1" iou_mean)"; }
sed -n '/"shuffled"/,$p' "$old_before" >"$out/shuffled.part"
cat <<END

== done in $((seconds / 60)) min $((seconds % 60)) s on $ranks ranks
Stage 1, $(number "$old_before" samples) drawings of parts that were never trained on (in brackets: with pictures exchanged)
  code parses           $(percent "$old_before" syntax)
  code executes         $(percent "$old_before" executes)
  IoU with the part     $(score "$old_before")   ($(score "$out/shuffled.part"))
  dimensions off by     $(percent "$old_before" dims_rel_error)   ($(percent "$out/shuffled.part" dims_rel_error))
Stage 2, LoRA to a client's drawings: IoU
  the client's          $(score "$new_before") -> $(score "$new_after")
  the first kind        $(score "$old_before") -> $(score "$old_after")
Look at $out/report.html. The models are $out/stage1 and $out/stage2, the numbers $out/summary.json. Try one:
  build/cpu/cadvlm generate --checkpoint $out/stage1 $(ls -d "$out"/stage1/eval/*-old-gallery/*/drawing.png | head -n 1) -o $out/try
END
rm -f "$out/shuffled.part"
