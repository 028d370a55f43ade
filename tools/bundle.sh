#!/usr/bin/env bash
# A relocatable folder of the programs and the libraries they need, for machines where nothing can be installed.
#
#   bundle.sh [--check-only] [--build FOLDER] [--archive zst|xz] OUT
#
#   --check-only  what benchmarks/gpu_check.sh runs, without the trainer, MPI, HDF5 and the CAD worker: small
#   --build       takes the programs of this folder as they are (configured as below) instead of building build/bundle
#   --archive     also writes OUT.tar.zst, or OUT.tar.xz for machines without zstd (slower); gzip cannot see that the programs share
#                 their kernels, and gives three times as much
#
# Left out, and taken from the machine: glibc (the least version is in OUT/README.txt), CUDA's libraries, the GPU's driver, NCCL. What a
# processor can is found out at run time, so that one bundle serves all x86-64 machines from x86-64-v2. Clusters whose MPI must speak to
# their own network build from source instead, or use the container.
set -eu
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

check_only=0 archive="" build="" out=""
while [ $# -gt 0 ]; do
    case "$1" in
        --check-only) check_only=1 ;;
        --archive) archive=${2:?--archive zst or xz}; shift ;;
        --build) build=${2:?--build FOLDER}; shift ;;
        -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
        -*) echo "bundle.sh: unknown option $1; see --help" >&2; exit 2 ;;
        *) out=$1 ;;
    esac
    shift
done
[ -n "$out" ] || { echo "usage: bundle.sh [--check-only] [--build FOLDER] [--archive zst|xz] OUT" >&2; exit 2; }
case $archive in "" | zst | xz) ;; *) echo "bundle.sh: --archive zst or xz" >&2; exit 2 ;; esac
if [ -e "$out" ] && [ -n "$(ls -A "$out")" ]; then
    if [ ! -e "$out/README.txt" ] || [ ! -d "$out/bin" ]; then echo "bundle.sh: $out is not empty, and no bundle" >&2; exit 1; fi
    rm -rf "$out"
fi

checks="bench_ops bench_step test_ops test_cuda test_cuda_model"
targets=$checks
[ $check_only = 1 ] || targets="$targets cadvlm cadvlm-cad cadvlm_pages"

# RPATH, not RUNPATH: it also holds for what the libraries themselves need, and for Open MPI's plugins.
if [ -z "$build" ]; then
    build=$root/build/bundle
    # shellcheck disable=SC2016  # for the loader, not the shell
    (cd "$root" && cmake --preset release -B "$build" -DCMAKE_BUILD_RPATH='$ORIGIN/../lib' -DCMAKE_INSTALL_RPATH='$ORIGIN/../lib' \
        -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags >&2)
    # shellcheck disable=SC2086  # a list
    cmake --build "$build" --target $targets >&2
fi

mkdir -p "$out/bin" "$out/lib" "$out/share" "$out/benchmarks/peers"
out=$(cd "$out" && pwd)

# ---- programs ----

[ $check_only = 1 ] || cmake --install "$build" --prefix "$out" >/dev/null
for target in $checks; do
    for folder in "$build/tests" "$build/benchmarks"; do
        [ ! -f "$folder/$target" ] || cp "$folder/$target" "$out/bin/"
    done
    [ -f "$out/bin/$target" ] || { echo "bundle.sh: $target was not found in $build" >&2; exit 1; }
done
cp "$root"/benchmarks/gpu_check.sh "$root"/benchmarks/gpu_report.py "$out/benchmarks/"
cp "$root"/benchmarks/peers/torch_gpu.py "$root"/benchmarks/peers/openelm.py "$root"/benchmarks/peers/paired.py "$out/benchmarks/peers/"
for test in test_cuda test_cuda_model; do
    sed -n 's/^TEST(\([a-z0-9_]*\)).*/\1/p' "$root/tests/cuda/$test.c" >"$out/share/$test.tests"
done
cp "$root/tools/cuda_libraries.sh" "$out/share/"
"$root/benchmarks/gpu_check.sh" --kernels >"$out/share/kernels"

if [ $check_only = 0 ]; then
    # Open MPI: the launcher, its daemon, the plugins, the texts of its messages; the wrapper says where they are.
    plugins=$(ompi_info --path pkglibdir | sed -n 's/.*Pkglibdir: *//p')
    texts=$(ompi_info --path pkgdatadir | sed -n 's/.*Pkgdatadir: *//p')
    mkdir -p "$out/lib/openmpi" "$out/lib/pmix" "$out/share/openmpi" "$out/etc"
    cp -L "$plugins"/mca_*.so "$out/lib/openmpi/"
    # PMIx apart from Open MPI, as Debian has it.
    pmix=$(ldd "$plugins/mca_pmix_ext3x.so" 2>/dev/null | sed -n 's/.*libpmix[^ ]* => \([^ ]*\) .*/\1/p')
    if [ -n "$pmix" ]; then cp -L "$(dirname "$(readlink -f "$pmix")")"/pmix/*.so "$out/lib/pmix/"; fi
    cp -Lr "$texts"/. "$out/share/openmpi/"
    for program in mpirun orted; do cp -L "$(command -v $program)" "$out/bin/$program"; done
    cp "$root/tools/bundle_launcher.sh" "$out/cadvlm"
    chmod +x "$out/cadvlm"
fi

# ---- libraries ----

# Not ours to bring: glibc's own, CUDA's, the driver's.
is_left_out() {
    case "$1" in
        ld-linux* | libc.so* | libm.so* | libpthread.so* | libdl.so* | librt.so* | libresolv.so*) ;;
        libutil.so* | libnsl.so* | libanl.so* | libmvec.so*) ;;
        libcuda.so* | libcudart.so* | libcublas* | libnccl* | libnv*) ;;
        *) return 1 ;;
    esac
}

find "$out/bin" "$out/lib" -type f | while read -r file; do ldd "$file" 2>/dev/null || true; done |
    sed -n 's/^[[:space:]]*\([^ ]*\) => \(\/[^ ]*\) .*/\1 \2/p' | sort -u | while read -r name path; do
        if ! is_left_out "$name" && [ ! -e "$out/lib/$name" ]; then cp -L "$path" "$out/lib/$name"; fi
    done
chmod -R u+w "$out"
find "$out/bin" "$out/lib" -type f -exec strip --strip-unneeded {} + 2>/dev/null || true

# Nothing may come from this machine but what is left out on purpose.
outside=$(find "$out/bin" -type f | while read -r file; do
    env -u LD_LIBRARY_PATH ldd "$file" | sed -n 's/^[[:space:]]*\([^ ]*\) => \([^(]*\).*/\1 \2/p'
done | sort -u | while read -r name path; do
    case "$path" in "$out"/* | "$out"/bin/../lib/*) ;; *) is_left_out "$name" || echo "  $name from $path" ;; esac
done)
case $outside in
    "") ;;
    # Open MPI's own programs find theirs through the wrapper
    *) if [ $check_only = 1 ]; then printf 'bundle.sh: these are not in the bundle:\n%s\n' "$outside" >&2; exit 1; fi ;;
esac

# ---- what it is ----

glibc=$(find "$out/bin" "$out/lib" -type f -exec objdump -T {} + 2>/dev/null |
    sed -n 's/.*GLIBC_\([0-9.]*\).*/\1/p' | sort -Vu | tail -n 1)
cuda=$(objdump -p "$out/bin/test_cuda" | sed -n 's/.*NEEDED *\(libcu[^ ]*\|libnccl[^ ]*\)/\1/p' | tr '\n' ' ')
nccl=""
[ $check_only = 1 ] || nccl=$(objdump -p "$out/bin/cadvlm" | sed -n 's/.*NEEDED *\(libnccl[^ ]*\)/\1/p')
toolkit=$(sed -n 's/^set(CMAKE_CUDA_COMPILER_VERSION "\(.*\)").*/\1/p' "$build"/CMakeFiles/*/CMakeCUDACompiler.cmake 2>/dev/null | head -n 1)
archs=$(sed -n 's/^CADVLM_CUDA_ARCHS:[A-Z]*=//p' "$build/CMakeCache.txt")
version=$(sed -n 's/^project(cadvlm VERSION \([0-9.]*\).*/\1/p' "$root/CMakeLists.txt")
commit=$(git -C "$root" describe --always --dirty 2>/dev/null || echo "unknown commit")
{
    echo "cadvlm $version ($commit), x86-64"
    echo
    echo "Needs of the machine:"
    echo "  glibc $glibc or newer"
    if [ -n "$cuda$nccl" ]; then
        echo "  for GPUs: a driver of NVIDIA's for CUDA $toolkit; compute capabilities $archs, and later ones by PTX"
        echo "  of NVIDIA's libraries: $cuda$nccl"
        echo "  (of the CUDA toolkit and the package libnccl2: looked for by the loader, under /usr/local/cuda*, beside PyTorch)"
    fi
    echo
    echo "What is here:"
    [ $check_only = 1 ] || echo "  ./cadvlm …                         the trainer; ./cadvlm mpirun -n 4 ./cadvlm train … on several GPUs of a machine"
    echo "  benchmarks/gpu_check.sh [PART…]    whether all is right on this machine's GPU, and how fast: nine minutes at most; --help"
    echo "  bin/, lib/, share/                 programs and their libraries; may be moved together"
} >"$out/README.txt"
cat "$out/README.txt"
echo
du -sh "$out" | cut -f 1 | sed 's/$/ unpacked/'
case $archive in
    "") ;;
    zst) tar -C "$(dirname "$out")" -cf - "$(basename "$out")" | zstd -q -12 --long=27 -T0 -f -o "$out.tar.zst" ;;
    xz) tar -C "$(dirname "$out")" -cf - "$(basename "$out")" | xz --lzma2=preset=3,dict=128MiB >"$out.tar.xz" ;;
esac
[ -z "$archive" ] || du -h "$out.tar.$archive"
