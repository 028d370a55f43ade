#!/usr/bin/env python3
"""Checks who includes whom: every module may include itself and what stands left of it, and every third-party header is
named in one module only (docs/architecture.md, section 1). Usage: check_includes.py [SOURCE_FOLDER]"""

import pathlib
import re
import sys

# Module -> modules whose headers it may include, beside its own.
ALLOWED = {
    "core": [],
    "image": ["core"],
    "hub": ["core"],
    "config": ["core"],
    "ops": ["core", "config"],
    "cad": ["core", "image"],
    "cuda": ["core", "ops"],
    "comm": ["core"],
    "data": ["core", "image", "config", "cad"],
    "model": ["core", "config", "ops"],
    "checkpoint": ["core", "hub", "config", "ops", "comm", "data", "model"],
    "eval": ["core", "image", "config", "cad", "comm", "data", "model", "checkpoint"],
    "report": ["core", "config"],
    "export": ["core", "ops", "comm", "model", "checkpoint", "eval"],
    "trainer": ["core", "config", "ops", "comm", "data", "model", "checkpoint", "eval"],
    "launch": ["core", "image", "hub", "config", "ops", "cad", "cuda", "comm", "data", "model", "checkpoint", "eval", "report", "export",
               "trainer"],
    "tests": ["core", "image", "hub", "config", "ops", "cad", "cuda", "comm", "data", "model", "checkpoint", "eval",
              "report", "export", "trainer"],
    "benchmarks": ["core", "image", "cad", "cuda", "data", "model"],
}
# Headers a module may see besides: model knows batches, and nothing else of data; benchmarks time the operations of the tests.
EXTRA = {"model": ["data/batch.h"], "benchmarks": ["tests/ops/op_kinds.h"]}

# Third-party header (regular expression) -> the places that may name it.
FOREIGN = {
    r"mpi\.h": ["comm/"],
    r"nccl\.h": ["comm/", "cuda/emu/"],
    r"hdf5(_hl)?\.h": ["data/", "tests/data/test_shard_damage.c"],
    r"pcre2\.h": ["data/"],
    r"yaml\.h": ["config/"],
    r"(oneapi/)?dnnl.*": ["ops/cpu/"],
    r"omp\.h": ["ops/cpu/"],
    r"cuda.*|cublas.*": ["cuda/", "comm/nccl.c", "tests/cuda/test_emu.c"],
    r"cairo.*|nanoflann\.hpp": ["cad/"],
    r"[A-Za-z0-9_]+\.hxx": ["cad/", "tests/cad/known_solids.cpp", "tests/cad/round_solids.cpp"],
    r"jansson\.h|zlib\.h|xxhash\.h|openssl/.*": ["core/"],
    r"png\.h|jpeglib\.h|jerror\.h|webp/.*": ["image/"],
    r"curl/.*": ["hub/", "tests/fuzz/fuzz_http.c"],
}


USED = {module: set() for module in ALLOWED}  # of those, what some file does include


def problems_of(root, path):
    relative = path.relative_to(root).as_posix()
    module = relative.split("/")[0]
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        own = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        foreign = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
        if own:
            target = own.group(1)
            target_module = target.split("/")[0]
            USED[module].add(target_module)
            if "/" not in target:
                yield f"{relative}:{number}: write the path from the top of the tree: {target}"
            elif target_module not in ALLOWED:
                yield f"{relative}:{number}: {target} is in no module"
            elif target_module != module and target_module not in ALLOWED[module] and target not in EXTRA.get(module, []):
                yield f"{relative}:{number}: {module} may not include {target}"
            elif target.startswith("ops/backend.h") and module not in ("ops", "cuda", "tests"):
                yield f"{relative}:{number}: ops/backend.h is for backend authors; include ops/ops.h"
        elif foreign:
            header = foreign.group(1)
            for pattern, places in FOREIGN.items():
                if re.fullmatch(pattern, header) and not any(relative.startswith(p) for p in places):
                    yield f"{relative}:{number}: <{header}> may be named in {', '.join(places)} only"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    count = 0
    found = []
    for module in ALLOWED:
        for path in sorted((root / module).rglob("*")):
            if path.suffix in (".c", ".h", ".cpp", ".hpp", ".cu", ".cuh", ".inc"):
                count += 1
                found += problems_of(root, path)
    found += [f"{module} includes nothing of {other}: take it out of ALLOWED" for module, others in ALLOWED.items()
              for other in others if other not in USED[module]]
    print("\n".join(found) if found else f"{count} files keep the fences")
    return 1 if found or not count else 0


if __name__ == "__main__":
    sys.exit(main())
