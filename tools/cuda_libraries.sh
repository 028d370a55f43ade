# shellcheck shell=sh
# Where the libraries of CUDA lie that the loader does not find by itself. Read by benchmarks/gpu_check.sh and by the launcher of a
# bundle (tools/bundle_launcher.sh); POSIX sh.

# cuda_libraries PROGRAM: prints the LD_LIBRARY_PATH with which PROGRAM finds all that it is linked to: what is set already, and the
# folders that are missing from it, looked for under /usr/local/cuda* (CADVLM_CUDA_ROOTS names others), then beside PyTorch and where
# python3 keeps packages, in NVIDIA's wheels. Where one is not to be found it says so and fails.
cuda_libraries() {
    cuda_path=${LD_LIBRARY_PATH:-}
    while :; do
        cuda_missing=$(LC_ALL=C LD_LIBRARY_PATH=$cuda_path ldd "$1" 2>/dev/null |
            sed -n 's/^[[:space:]]*\(lib[^ ]*\) => not found.*/\1/p' | head -n 1)
        [ -n "$cuda_missing" ] || break
        cuda_found=$(cuda_folders 2>/dev/null | while read -r cuda_folder; do
            [ -e "$cuda_folder/$cuda_missing" ] || continue
            # Found there before, and yet missing: made for another processor.
            case ":$cuda_path:" in *":$cuda_folder:"*) continue ;; esac
            printf '%s\n' "$cuda_folder"
            break
        done)
        if [ -z "$cuda_found" ]; then
            case $cuda_missing in
                libcublas*) cuda_source="the CUDA toolkit, or pip's nvidia-cublas" ;;
                libnccl*) cuda_source="NVIDIA's package libnccl2, or pip's nvidia-nccl" ;;
                libcudart*) cuda_source="the CUDA toolkit, or pip's nvidia-cuda-runtime" ;;
                *) cuda_source="the package that has it" ;;
            esac
            echo "$(basename "$1"): $cuda_missing was found neither by the loader, nor under ${CADVLM_CUDA_ROOTS:-/usr/local/cuda*}," \
                "nor beside PyTorch: install $cuda_source, or set LD_LIBRARY_PATH" >&2
            return 1
        fi
        cuda_path=$cuda_path${cuda_path:+:}$cuda_found
    done
    printf '%s\n' "$cuda_path"
}

# The folders where they may be, best first, one a line.
cuda_folders() {
    for cuda_root in ${CADVLM_CUDA_ROOTS:-/usr/local/cuda*}; do
        for cuda_folder in "$cuda_root"/lib64 "$cuda_root"/lib "$cuda_root"/targets/*/lib; do printf '%s\n' "$cuda_folder"; done
    done
    python3 -c '
import importlib.util, os, site
try:
    torch = importlib.util.find_spec("torch")
except (ImportError, ValueError):
    torch = None
for folder in (torch and torch.submodule_search_locations) or []:
    print(os.path.dirname(folder))
    print(folder + "/lib")
for folder in [*getattr(site, "getsitepackages", lambda: [])(), site.getusersitepackages()]:
    print(folder)' 2>/dev/null | while read -r cuda_root; do
        for cuda_folder in "$cuda_root"/nvidia/*/lib "$cuda_root"; do printf '%s\n' "$cuda_folder"; done
    done
}
