#!/usr/bin/env bash
# Installs what cadvlm needs from Debian or Ubuntu packages. Says what it does and does nothing twice.
#
#   launch/setup.sh           install what is missing (as root, or with sudo)
#   launch/setup.sh --check   only report; exit 1 when something is missing
#   launch/setup.sh --dev     also what only those who work on cadvlm need (before --check, to ask for these too)
#
# CUDA and NCCL are used where they are found and never required.
set -eu

# Debian package, what it is for.
PACKAGES="
gcc|C compiler
g++|C++ compiler (only the OpenCASCADE files are C++)
cmake|build
ninja-build|build
pkg-config|build
ccache|faster rebuilds
git|sources
python3|checks of the source tree (never at run time)
openmpi-bin|mpirun
libopenmpi-dev|MPI
libhdf5-dev|HDF5 shards
libyaml-dev|configuration
libdnnl-dev|oneDNN matrix products
libocct-modeling-algorithms-dev|OpenCASCADE: solids and hidden lines
libocct-modeling-data-dev|OpenCASCADE: geometry
libocct-data-exchange-dev|OpenCASCADE: STEP and STL files
libnanoflann-dev|nearest neighbours for Chamfer distances
libcairo2-dev|drawings
libpng-dev|PNG files
libjpeg-dev|JPEG files (libjpeg-turbo)
libwebp-dev|WebP files
libjansson-dev|JSON
libxxhash-dev|checksums
libssl-dev|SHA-256 and SHA-1 of downloads (libcrypto)
libcurl4-openssl-dev|downloads (cadvlm data fetch)
libpcre2-dev|tokenizer patterns
zstd|checks of what nvcc made, and bundles
"

DEV_PACKAGES="
clang-14|the fuzz harnesses (tests/fuzz)
libclang-rt-14-dev|libFuzzer and the sanitizers of clang
clang-format-14|tools/format.sh
debootstrap|the package in a bare system (tests/launch/package.sh)
dpkg-dev|what the package depends on
file|likewise
groff|the man page, looked at
zsh|its completion, tried
"

check_only=0
if [ "${1:-}" = --dev ]; then
    PACKAGES="$PACKAGES$DEV_PACKAGES"
    shift
fi
case "${1:-}" in
    "") ;;
    --check) check_only=1 ;;
    -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "setup.sh: unknown option $1 (there are --dev and --check)" >&2; exit 2 ;;
esac

names() { printf '%s\n' "$PACKAGES" | sed -n 's/|.*//p'; }
purpose() { printf '%s\n' "$PACKAGES" | sed -n "s/^$1|//p"; }

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "setup.sh knows Debian and Ubuntu. On this system please install, under whatever names it has:"
    names | while read -r name; do printf '  %-34s %s\n' "$name" "$(purpose "$name")"; done
    exit $check_only
fi

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
missing=""
for name in $(names); do installed "$name" || missing="$missing $name"; done

if [ -z "$missing" ]; then
    echo "setup: all $(names | wc -l) packages are installed"
elif [ $check_only = 1 ]; then
    echo "setup: missing:"
    for name in $missing; do printf '  %-34s %s\n' "$name" "$(purpose "$name")"; done
else
    root=""
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { echo "setup.sh needs root or sudo to install:$missing" >&2; exit 1; }
        root=sudo
    fi
    echo "setup: installing$missing"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if ! { $root apt-get update && $root apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "setup.sh: apt-get failed; its whole output is in $log" >&2
        exit 1
    fi
    rm -f "$log"
    echo "setup: done"
fi

if command -v nvcc >/dev/null 2>&1; then
    echo "setup: CUDA toolkit: $(nvcc --version | sed -n 's/.*release \([0-9.]*\).*/\1/p') ($(command -v nvcc))"
else
    echo "setup: CUDA toolkit: not found (not needed; the CPU backend is always there)"
fi
[ $check_only = 0 ] || [ -z "$missing" ]
