#!/usr/bin/env bash
# One sample of OpenECADv2 0.89B, forward and backward on two cores, here and in PyTorch with PEFT, in turns: at its best (compiled,
# an allocator that gives nothing back) and as it is. A paragraph a pair, medians and ratios of seven rounds.
#
#   torch_openecad_cpu.sh [build folder]     PYTHON: where torch and peft are (pip install torch peft)
set -euo pipefail
here=$(dirname "$0")
build=${1:-$here/../../build/cpu}
python=${PYTHON:-python3}
ours="$build/benchmarks/bench_step 089b --micro-batch 1 --steps 1 --threads 2 --no-update --blocks --json"
torch="$python $here/torch_cpu_openecad.py --blocks"
keep="env MALLOC_MMAP_THRESHOLD_=8000000000 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=536870912"

uptime
python3 "$here/paired.py" --rounds 7 --within 1200 --patience 120 "cadvlm=$ours" "torch-compiled=$keep $torch --compile"
uptime
python3 "$here/paired.py" --rounds 7 --within 1200 --patience 120 "cadvlm=$ours" "torch=$torch"
uptime
