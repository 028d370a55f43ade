#!/usr/bin/env bash
# Do the sources that include CUDA's headers compile against those of CUDA 12, which drivers from 535 on run? Syntax only: the host
# sources as they are, and the kernels as the emulation compiles them (what nvcc 12 makes of them is not seen here).
#
#   check_cuda12.sh [FOLDER]
#
# FOLDER is a toolkit's, or its include/, or holds NVIDIA's wheels unpacked (nvidia/*/include); NCCL's header is looked for there, too,
# or in NCCL_HOME. Without it the headers of CUDA 12.2 and 12.9 come from NVIDIA's wheels by pip, 1 GB, into build/cuda12, where the
# headers stay (10 MB). Exit status 3: they could not be had.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

# CUDA's version; then what is to be had: the wheels of NVIDIA's, each with its version.
wheels="\
12.2 cuda-runtime 12.2.140 cuda-nvcc 12.2.140 nvtx 12.2.140 cublas 12.2.5.6 nccl 2.18.3
12.9 cuda-runtime 12.9.79 cuda-nvcc 12.9.86 nvtx 12.9.79 cublas 12.9.1.4 nccl 2.27.7"

# fetch VERSION: the headers of its wheels, into build/cuda12/VERSION.
fetch() {
    local folder=$root/build/cuda12/$1 work
    [ ! -d "$folder" ] || return 0
    mkdir -p "$root/build/cuda12"
    work=$(mktemp -d "$root/build/cuda12/part-XXXXXX")
    # shellcheck disable=SC2046  # words
    set -- "$1" $(printf '%s\n' "$wheels" | sed -n "s/^$1 //p")
    echo "check_cuda12.sh: fetching the headers of CUDA $1"
    shift
    while [ $# -gt 0 ]; do
        if ! python3 -m pip download --quiet --no-deps --dest "$work" "nvidia-$1-cu12==$2" >"$work/pip.log" 2>&1; then
            tail -n 3 "$work/pip.log" >&2
            rm -rf "$work"
            echo "check_cuda12.sh: pip could not fetch nvidia-$1-cu12 $2" >&2
            exit 3
        fi
        python3 - "$work" <<'UNPACK'
import pathlib, sys, zipfile

for wheel in pathlib.Path(sys.argv[1]).glob("*.whl"):
    with zipfile.ZipFile(wheel) as file:
        file.extractall(sys.argv[1], [name for name in file.namelist() if "/include/" in name])
    wheel.unlink()
UNPACK
        shift 2
    done
    mv "$work" "$folder"
}

warnings="-Wall -Wextra -Wshadow -Wpointer-arith -Wundef -Wformat=2 -Wcast-align -Wimplicit-fallthrough -Wvla -Wunused -Wdouble-promotion"
warnings_c="-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition" # as in cmake/modules.cmake

# check FOLDER
check() {
    local folder includes=() version failed=0 source count=0
    for folder in "$1" "$1/include" "$1"/nvidia/*/include ${NCCL_HOME:+"$NCCL_HOME/include"}; do
        [ ! -d "$folder" ] || includes+=(-isystem "$folder")
    done
    version=$(echo '#include <cuda_runtime_api.h>
VERSION CUDART_VERSION' | cc -E -P -xc "${includes[@]}" - | sed -n 's/^VERSION //p') || return 1
    if [ $((version / 1000)) != 12 ]; then
        echo "check_cuda12.sh: the headers in $1 are of CUDA $((version / 1000)).$((version % 1000 / 10))" >&2
        return 1
    fi
    for source in cuda/*.c comm/nccl.c; do
        [ "$source" != cuda/backend_absent.c ] || continue
        # shellcheck disable=SC2086  # words
        cc -fsyntax-only -std=gnu2x -D_GNU_SOURCE -I. "${includes[@]}" -fopenmp $warnings $warnings_c -Werror "$source" || failed=1
        count=$((count + 1))
    done
    for source in cuda/*.cu; do
        # shellcheck disable=SC2086  # words
        c++ -fsyntax-only -std=c++17 -D_GNU_SOURCE -DCADVLM_EMU -I. "${includes[@]}" -xc++ $warnings -Wno-unknown-pragmas -Werror \
            "$source" || failed=1
        count=$((count + 1))
    done
    [ $failed = 0 ] || return 1
    echo "check_cuda12.sh: $count sources compile against the headers of CUDA $((version / 1000)).$((version % 1000 / 10))"
}

case "${1:-}" in
    -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    "")
        status=0
        for version in $(printf '%s\n' "$wheels" | sed 's/ .*//'); do
            fetch "$version"
            check "$root/build/cuda12/$version" || status=1
        done
        exit $status ;;
    *)
        [ -d "$1" ] || { echo "check_cuda12.sh: no folder $1" >&2; exit 2; }
        check "$1" ;;
esac
