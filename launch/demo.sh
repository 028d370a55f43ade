#!/usr/bin/env bash
# Trains a small model on this machine's CPU, from nothing: makes parts and drawings, trains under mpirun, evaluates on parts it has
# never seen, adapts it to a client's style with LoRA, and shows all of it in a report.
#
# It first measures the machine, says how long it will take to reach the README's figures, and takes that long: from a few minutes
# to well over half an hour, by the processor.
#
#   launch/demo.sh [--minutes M] [--both] [--deepcad DIR] [--ranks N] [--out DIR] [--no-setup]
#
#   --minutes M    how long it may take after installation (as long as the README's figures take)
#   --both         the adaptation too, however few steps it has: fewer than 400 make the model worse, and are left out
#   --deepcad DIR  also train on the DeepCAD files (.json) in DIR
#   --ranks N      MPI ranks (2, or 1 on one processor): a step has two micro-batches, so more have nothing to do; threads fill the rest
#   --out DIR      where everything goes (demo, beside this project's other folders)
#   --no-setup     install nothing
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
minutes=0 deepcad="" ranks=$(nproc) out=$root/demo setup=1 both=0 limits=""
[ "$ranks" -le 2 ] || ranks=2
absolute() { case "$1" in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
usage() { echo "demo.sh: $*; see --help" >&2; exit 2; }
while [ $# -gt 0 ]; do
    case "$1" in
        --minutes | --deepcad | --ranks | --out) [ $# -ge 2 ] || usage "$1 takes a value" ;;
    esac
    case "$1" in
        --minutes) minutes=$2 limits="$limits $2"; shift ;;
        --deepcad) deepcad=$(absolute "$2"); shift ;;
        --ranks) ranks=$2; shift ;;
        --out) out=$(absolute "$2"); shift ;;
        --no-setup) setup=0 ;;
        --both) both=1 ;;
        -h | --help) sed -n '2,15s/^# \{0,1\}//p' "$0"; exit 0 ;;
        *) usage "unknown option $1" ;;
    esac
    shift
done
for value in $limits "$ranks"; do
    case "$value" in *[!0-9]* | "" | 0*) usage "$value: a whole number from 1 is expected" ;; esac
done
[ -z "$deepcad" ] || [ -d "$deepcad" ] || usage "--deepcad $deepcad is no folder"
cd "$root"
out=${out#"$root"/}

[ $setup = 0 ] || ./launch/setup.sh
began=$(date +%s)
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
calculate() { case "$2" in *null*) echo - ;; *) LC_ALL=C awk "BEGIN { printf \"$1\", $2 }" ;; esac; }
# expected SAMPLES: what stage 1 reaches with so many (docs/performance.md), between the measured points by their logarithm.
expected() {
    LC_ALL=C awk -v n="$1" 'BEGIN {
        points = split("16000 0.35 30 32000 0.56 12.5 141000 0.82 3.0 192000 0.92 0.8", p, " ")
        if (n < p[1]) { print "little yet, an IoU below 0.35"; exit }
        for (i = 1; i + 5 < points && n > p[i + 3]; i += 3);
        t = log(n / p[i]) / log(p[i + 3] / p[i]); if (t > 1) t = 1
        printf "an IoU of about %.2f, dimensions off by %.0f %%\n", p[i + 1] + t * (p[i + 4] - p[i + 1]), p[i + 2] + t * (p[i + 5] - p[i + 2])
    }'
}

say "building"
run cmake --preset cpu >/dev/null
run cmake --build --preset cpu --target cadvlm cadvlm-cad
PATH=$PWD/build/cpu:$PATH
mkdir -p "$out"

# ---- the two configs -----------------------------------------------------------------------------------------------------
# Those of the demo, or over the small sets that the machine is measured with.
# stage1_config PARTS: the preset with the data's places; a list of datasets cannot be given on the command line.
stage1_config() {
    sed '/^train_data:/d; /^tokenizer:/d; /^output_dir:/d' config/presets/demo.yaml
    echo "tokenizer: \"$out/tokenizer.json\""
    echo "val_data: \"$1\""
    echo "datasets:"
    echo "  - { name: parts, path: \"$1\", weight: 0.98 }"
}
# stage2_config BASE PARTS CLIENT
stage2_config() {
    cat <<END
base_model: "$1"
val_data: "$3"
datasets:                            # two of three are old drawings, so that those are not forgotten
  - { name: client, path: "$3", weight: 0.35 }
  - { name: parts, path: "$2", weight: 0.65 }
tune: { llm: lora, vision: lora, connector: full }
lora: { r: 16, alpha: 32, dropout: 0 }
training:
  micro_batches: 2
  per_device_batch_size: 16
  learning_rate: $stage2_rate
  adam_beta2: 0.98
  warmup_ratio: 0.05
  min_lr_ratio: 0.05
  max_length: 320
  image_shift: 2
  save_steps: 0
  eval_steps: $stage2_eval_steps
  eval_samples: 256
  load_best_model_at_end: true       # the start included: it never ends worse than it began
seed: 2
END
}
step_samples=32     # two micro-batches of 16
stage2_eval_steps=0
stage2_rate=4.0e-3  # for 400 steps and more; fewer steps take a smaller rate

# A part's split follows from what it is: the held-out parts of one set are never in the training part of another.
synth() { # NAME COUNT SEED OPTIONS…
    name=$1 count=$2 seed=$3
    shift 3
    rm -rf "$out/shards/$name"
    run cadvlm data synth "$out/shards/$name" --count "$count" --seed "$seed" --val 0.03 "$@"
}
client_style="--style client --convention centred"

# ---- how fast is this machine ------------------------------------------------------------------------------------------------
# probe_training CONFIG: a short run of it; leaves samples a second in $speed, and the run in $out/probe/run.
probe_training() {
    rm -rf "$out/probe/run"
    run_ranks cadvlm train --config "$1" "output_dir=$out/probe/run" training.max_steps=$probe_steps training.eval_steps=0 \
        training.save_steps=0 training.eval_samples=16 --json >"$out/probe/train.json" 2>"$out/probe/log" || { cat "$out/probe/log" >&2; exit 1; }
    speed=$(number "$out/probe/train.json" samples_per_s)
}
probe_steps=40 probe_parts=480 probe_programs=16 program_tokens=120

say "measuring this machine"
rm -rf "$out/probe"
mkdir -p "$out/probe" "$out/shards"
began_drawing=$(date +%s.%N)
synth probe $probe_parts 3 >/dev/null 2>"$out/probe/log" || { cat "$out/probe/log" >&2; exit 1; }
draws=$(calculate "%.2f" "$probe_parts / ($(date +%s.%N) - $began_drawing)")
run cadvlm data tokenizer "$out/shards/probe" -o "$out/tokenizer.json" --vocab 1280 --numbers 280 >/dev/null
stage1_config "$out/shards/probe" >"$out/probe/stage1.yaml"
probe_training "$out/probe/stage1.yaml"
speed1=$speed
mv "$out/probe/run" "$out/probe/stage1"
began_writing=$(date +%s.%N)
run_ranks cadvlm eval --checkpoint "$out/probe/stage1" --data "$out/shards/probe" --split train --samples $probe_programs \
    --max-tokens $program_tokens --gallery 0 -o "$out/probe/eval.json" >/dev/null 2>"$out/probe/log" || { cat "$out/probe/log" >&2; exit 1; }
writes=$(calculate "%.2f" "$probe_programs / ($(date +%s.%N) - $began_writing)")
stage2_config "$out/probe/stage1" "$out/shards/probe" "$out/shards/probe" >"$out/probe/stage2.yaml"
probe_training "$out/probe/stage2.yaml"
speed2=$speed
rm -rf "$out/probe" "$out/shards/probe"

# Everything follows from the samples of stage 1: 192,000 for the README's figures. A part is then seen six times; stage 2 takes
# a sixth of the samples. Seconds that SAMPLES take, with a tenth for what is not counted; scoring a part costs five drawings.
full_samples=192000
seconds_of() { calculate "%d" "1.1 * ($1 * (1 / $speed1 + 0.16 / $speed2 + 0.2 / $draws) + 5 * $2 * (1 / $writes + 5 / $draws))"; }
samples=200
full_seconds=$(seconds_of $full_samples $samples)
train_samples=$full_samples
if [ "$minutes" != 0 ]; then
    allowed=$((minutes * 60 - $(spent)))
    [ $((allowed / 8)) -ge $samples ] || samples=$((allowed > 160 ? allowed / 8 : 20))
    evaluating="5 * $samples * (1 / $writes + 5 / $draws)"
    train_samples=$(calculate "%d" "($allowed / 1.1 - $evaluating) / (1 / $speed1 + 0.16 / $speed2 + 0.2 / $draws)")
    [ "$train_samples" -le $full_samples ] || train_samples=$full_samples
    [ "$train_samples" -ge $((20 * step_samples)) ] || train_samples=$((20 * step_samples))
fi
steps1=$((train_samples / step_samples))
steps2=$((steps1 * 16 / 100 > 20 ? steps1 * 16 / 100 : 20))
stage2_rate=$(calculate "%.2g" "4.0e-3 * ($steps2 < 400 ? $steps2 / 400 : 1)")
stage2_eval_steps=$((steps2 / 4))
parts=$((train_samples / 6 > 1500 ? train_samples / 6 : 1500))
clients=$((parts / 5))
announced=$(seconds_of $train_samples $samples)
say "this machine draws $(calculate "%.0f" "$draws") parts a second and trains on $(calculate "%.0f" "$speed1") samples a second"
adapts=1
[ $both = 1 ] || [ "$steps2" -ge 400 ] || adapts=0
if [ $adapts = 1 ]; then
    echo "   stage 1: $steps1 steps on $parts parts; stage 2: $steps2 steps"
else
    echo "   stage 1: $steps1 steps on $parts parts; stage 2 is left out: there is time for $steps2 steps, and fewer than 400 make it worse"
fi
echo "   it will take about $(((announced + 59) / 60)) more minutes; expected: $(expected $train_samples)"
[ "$train_samples" = $full_samples ] || echo "   (the README's figures would take about $(((full_seconds + 59) / 60)) minutes: leave --minutes out)"
announced=$((announced + $(spent)))

# ---- data ----------------------------------------------------------------------------------------------------------------
say "drawing parts (engineering drawings with hidden lines, by OpenCASCADE)"
synth parts $parts 1
say "drawing parts as a client would: first angle, framed, dimensions from the middle"
synth client $clients 2 $client_style
run cadvlm data tokenizer "$out/shards/parts" "$out/shards/client" -o "$out/tokenizer.json" --vocab 1280 --numbers 280
stage1_config "$out/shards/parts" >"$out/stage1.yaml"
if [ -n "$deepcad" ]; then
    say "adding the DeepCAD files of $deepcad"
    rm -rf "$out/shards/deepcad"
    run cadvlm data import deepcad "$deepcad" "$out/shards/deepcad" --val 0
    echo "  - { name: deepcad, path: \"$out/shards/deepcad\", weight: 0.02 }" >>"$out/stage1.yaml"
fi

# evaluate RUN DATASET NAME OPTIONS…: leaves the path of the numbers in $result.
evaluate() {
    run=$1 set=$2 name=$3
    shift 3
    run_ranks cadvlm eval --checkpoint "$run" --data "$set=$out/shards/$set" --samples "$samples" --name "$name" "$@"
    for result in "$run"/eval/step-*-"$name".json; do :; done
}

# ---- stage 1: a small model from scratch ---------------------------------------------------------------------------------
say "stage 1: training a small model from scratch on $ranks ranks"
rm -rf "$out/stage1"
run_ranks cadvlm train --config "$out/stage1.yaml" "output_dir=$out/stage1" "training.max_steps=$steps1" \
    "training.image_shift_steps=$((steps1 / 2))" # shifts grow over half of them
say "evaluating it on parts that it has never seen, and with pictures exchanged"
evaluate "$out/stage1" parts old --shuffled
old_before=$result
evaluate "$out/stage1" client new
new_before=$result

# ---- stage 2: LoRA to the client's conventions ---------------------------------------------------------------------------
runs=("$out/stage1")
rm -rf "$out/stage2"
if [ $adapts = 1 ]; then
    say "stage 2: adapting it to the client's drawings with LoRA"
    stage2_config "$out/stage1" "$out/shards/parts" "$out/shards/client" >"$out/stage2.yaml"
    run_ranks cadvlm train --config "$out/stage2.yaml" "output_dir=$out/stage2" "training.max_steps=$steps2"
    say "evaluating it on both sets"
    evaluate "$out/stage2" parts old
    old_after=$result
    evaluate "$out/stage2" client new
    new_after=$result
    runs+=("$out/stage2")
fi

# ---- what was reached ----------------------------------------------------------------------------------------------------
run cadvlm report "${runs[@]}" -o "$out/report.html" --title "cadvlm demo"
seconds=$(spent)
{
    echo "{\"seconds\": $seconds, \"announced_seconds\": $announced, \"stage1_samples\": $((steps1 * step_samples)), \"stage1\":"
    cat "$old_before"
    if [ $adapts = 1 ]; then
        echo ", \"stage2\": {\"old\": {\"before\":"
        cat "$old_before"
        echo ", \"after\":"
        cat "$old_after"
        echo "}, \"new\": {\"before\":"
        cat "$new_before"
        echo ", \"after\":"
        cat "$new_after"
        echo "}}}"
    else
        echo ", \"stage2\": null}"
    fi
} >"$out/summary.json.part"
mv "$out/summary.json.part" "$out/summary.json"

percent() { calculate "%.1f %%" "100 * $(number "$1" "$2")"; }
score() { calculate "%.2f" "$(number "$1" iou_mean)"; }
sed -n '/"shuffled"/,$p' "$old_before" >"$out/shuffled.part"
adapted="Stage 2 was left out: --minutes gives it too few steps"
[ $adapts = 0 ] || adapted="Stage 2, LoRA to a client's drawings: IoU
  the client's          $(score "$new_before") -> $(score "$new_after")
  the first kind        $(score "$old_before") -> $(score "$old_after")"
cat <<END

== done in $((seconds / 60)) min $((seconds % 60)) s on $ranks ranks (announced: $((announced / 60)) min $((announced % 60)) s)
Stage 1, $(number "$old_before" samples) drawings of parts that were never trained on (in brackets: with pictures exchanged)
  code parses           $(percent "$old_before" syntax)
  code executes         $(percent "$old_before" executes)
  IoU with the part     $(score "$old_before")   ($(score "$out/shuffled.part"))
  dimensions off by     $(percent "$old_before" dims_rel_error)   ($(percent "$out/shuffled.part" dims_rel_error))
$adapted
Look at $out/report.html. The models are ${runs[*]}, the numbers $out/summary.json. Try one:
  build/cpu/cadvlm generate --checkpoint $out/stage1 $(ls -d "$out"/stage1/eval/*-old-gallery/*/drawing.png | head -n 1) -o $out/try
END
rm -f "$out/shuffled.part"
