#!/usr/bin/env python3
"""Finds names that stand for different things in different objects of one program.

    doubled_symbols.py FILE_OR_FOLDER...

Functions of templates and inline functions are weak symbols: where several objects define one name, the linker keeps whichever comes
first, without a word. Two headers that define different templates under one name therefore give a program that is silently wrong. At -O2
most of them are inlined, and nothing is seen; in a Debug build, which one makes for a debugger, all of them are there. This tool reads the
objects (of folders: all .o and .a below) of such a build and names weak symbols whose sizes differ. Sizes may differ for good reasons in
optimised code: only compare objects that were compiled alike and without optimisation.

Exit status: 0 none, 1 some, 2 nothing could be read."""

import collections
import pathlib
import shutil
import subprocess
import sys

WEAK = set("WwVvu")


def objects(paths):
    for path in map(pathlib.Path, paths):
        yield from sorted([*path.rglob("*.o"), *path.rglob("*.a")]) if path.is_dir() else [path]


def weak_symbols(path):
    """(name, size, where) of each that is defined; sizes are not known of all."""
    run = subprocess.run(["nm", "-A", "-S", "--defined-only", str(path)], capture_output=True, text=True, check=False)
    if run.returncode:
        sys.exit(f"doubled_symbols.py: {path}: {run.stderr.strip() or 'nm cannot read it'}")
    for line in run.stdout.splitlines():
        where, _, rest = line.rpartition(":")
        fields = rest.split()
        if len(fields) == 4 and fields[2] in WEAK:
            yield fields[3], int(fields[1], 16), where


def main():
    paths = sys.argv[1:]
    if not paths or paths[0] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if paths else 2)
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for path in objects(paths):
        for name, size, where in weak_symbols(path):
            found[name][size].append(where)
    if not found:
        print("doubled_symbols.py: no weak symbols in these files: are they objects?", file=sys.stderr)
        sys.exit(2)
    doubled = {name: sizes for name, sizes in found.items() if len(sizes) > 1}
    readable = shutil.which("c++filt")
    for name, sizes in doubled.items():
        shown = subprocess.run([readable, name], capture_output=True, text=True, check=False).stdout.strip() if readable else name
        print(f"{shown}:")
        for size, wheres in sorted(sizes.items()):
            print(f"  {size} bytes in {wheres[0]}" + (f" and {len(wheres) - 1} more" if len(wheres) > 1 else ""))
    print(f"{len(found)} weak symbols, {len(doubled)} of them stand for different things")
    sys.exit(1 if doubled else 0)


if __name__ == "__main__":
    main()
