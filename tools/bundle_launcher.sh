#!/bin/sh
# cadvlm, or with mpirun as the first word: mpirun of this folder (./cadvlm mpirun -n 2 ./cadvlm train …). Copied into bundles by
# tools/bundle.sh.
here=$(cd "$(dirname "$0")" && pwd)
export OPAL_PREFIX="$here" OPAL_BINDIR="$here/bin" OPAL_LIBDIR="$here/lib" OPAL_PKGLIBDIR="$here/lib/openmpi" \
    OPAL_PKGDATADIR="$here/share/openmpi" OPAL_SYSCONFDIR="$here/etc" PMIX_PKGLIBDIR="$here/lib/pmix"
# PMIx and Open MPI's own programs have no folder of libraries written into them.
export LD_LIBRARY_PATH="$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
# Without ssh there is only this machine.
command -v ssh >/dev/null || command -v rsh >/dev/null || export OMPI_MCA_plm=isolated
if [ "${1:-}" = mpirun ]; then shift; exec "$here/bin/mpirun" "$@"; fi
# cuBLAS and NCCL are not in the bundle: the machine's, or PyTorch's.
# shellcheck source=tools/cuda_libraries.sh
. "$here/share/cuda_libraries.sh"
LD_LIBRARY_PATH=$(cuda_libraries "$here/bin/cadvlm") || exit 1
exec "$here/bin/cadvlm" "$@"
