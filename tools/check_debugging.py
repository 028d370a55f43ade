#!/usr/bin/env python3
"""Checks that docs/debugging.md lists what there is: every CADVLM_ variable of the environment that a program or a script reads, with the
files that read it; every CMake option with its default; every preset. And nothing else: no page names a CADVLM_ variable or option that
is in no source. Usage: check_debugging.py [SOURCE_FOLDER]"""

import collections
import json
import os
import pathlib
import re
import sys

PAGE = "docs/debugging.md"
NAME = r"CADVLM_[A-Z0-9_]*[A-Z0-9]"
SKIPPED = {"build", "demo", "runs", "results"}  # folders with what was made, not written
SOURCES = {".c", ".h", ".cpp", ".hpp", ".cu", ".cuh", ".inc"}
# A literal that is a name alone is read, unless it is being set; one that a name begins is a command line, or a variable passed on.
# Tests have names in lists too, of what they set.
C_READS = re.compile(rf'(?<!setenv\()"({NAME})"')
TEST_READS = re.compile(rf'(?<=getenv\()"({NAME})"')
C_SETS = re.compile(rf'setenv\("({NAME})"|"({NAME})=')
SHELL_READS = re.compile(rf"\$\{{?({NAME})")
SHELL_SETS = re.compile(rf"(?<![-\w])({NAME})=")  # not -DCADVLM_…=
PYTHON_READS = re.compile(rf'(?:environ(?:\.get)?|getenv)[\[(]"({NAME})"')
CMAKE_READS = re.compile(rf"ENV\{{({NAME})\}}|\bENV ({NAME})")
CMAKE_SETS = re.compile(rf'[";]({NAME})=')
OPTION = re.compile(rf'^ *option\(({NAME}) "[^"]*" (ON|OFF|\$\{{PROJECT_IS_TOP_LEVEL\}})\)', re.MULTILINE)
CACHED = re.compile(rf'^ *set\(({NAME}) "([^"]*)" CACHE', re.MULTILINE)
FOUND = re.compile(rf"^ *find_(?:program|path|library)\(({NAME}) ", re.MULTILINE)


def files_below(root):
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in SKIPPED and not f.startswith(".")]
        for name in names:
            yield pathlib.Path(folder, name)


def is_shell(path):
    return path.suffix == ".sh"


def is_cmake(path):
    return path.suffix == ".cmake" or path.name == "CMakeLists.txt"


def names_in(pattern, text):
    for match in pattern.finditer(text):
        yield next(group for group in match.groups() if group)


class Tree:
    """What the sources use: variable -> files that read it, that set it; option -> default; presets; name -> pages that say it."""

    def __init__(self, root):
        self.reads, self.sets = collections.defaultdict(set), collections.defaultdict(set)
        self.options, self.said = {}, collections.defaultdict(set)
        self.count = 0
        for path in files_below(root):
            place = path.relative_to(root).as_posix()
            if path.suffix in SOURCES:
                self.take(place, path, TEST_READS if place.startswith("tests/") else C_READS, C_SETS)
            elif is_shell(path):
                self.take(place, path, SHELL_READS, SHELL_SETS)
            elif path.suffix == ".py":
                self.take(place, path, PYTHON_READS, None)
            elif is_cmake(path):
                self.take(place, path, CMAKE_READS, CMAKE_SETS)
                text = path.read_text(encoding="utf-8")
                options = [(name, "ON" if value.startswith("$") else value) for name, value in OPTION.findall(text)]
                self.options.update(options + CACHED.findall(text) + [(name, "") for name in FOUND.findall(text)])
            elif path.suffix == ".md" and path.name != "CHANGELOG.md":  # which may name what is gone
                for name in re.findall(NAME, path.read_text(encoding="utf-8")):
                    self.said[name].add(place)
        presets = json.loads((root / "CMakePresets.json").read_text(encoding="utf-8"))["configurePresets"]
        self.presets = {p["name"] for p in presets if not p.get("hidden")}

    def take(self, place, path, reads, sets):
        text = path.read_text(encoding="utf-8")
        self.count += 1
        for name in names_in(reads, text):
            self.reads[name].add(place)
        for name in names_in(sets, text) if sets else ():
            self.sets[name].add(place)


def tables_of(page):
    """{head of the first column: {name: cells of its row}}; names stand in back quotes at the start of a row."""
    tables, head = collections.defaultdict(dict), None
    for line in page.splitlines():
        if not line.startswith("|"):
            head = None
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))]
        if head is None:
            head = cells[0]
        elif cells[0].startswith("`"):
            name = cells[0].strip("`")
            if name in tables[head]:
                sys.exit(f"{PAGE}: {name} stands there twice")
            tables[head][name] = cells
    return tables


def compare(what, there, documented):
    for name in sorted(there - documented):
        yield f"{PAGE} does not list the {what} {name}"
    for name in sorted(documented - there):
        yield f"{PAGE} lists the {what} {name}, which there is not"


def problems_of(tree, tables):
    variables, options = tables["variable"], tables["option"]
    used = set(tree.reads) | set(tree.sets)
    yield from compare("variable", used, set(variables))
    for name in sorted(used & set(variables)):
        listed = set(re.findall(r"`([^`]+)`", variables[name][-1]))
        if not tree.reads[name]:
            yield f"{name} is set in {', '.join(sorted(tree.sets[name]))} and read nowhere"
        elif listed != tree.reads[name]:
            yield f"{PAGE}: {name} is read in {', '.join(sorted(tree.reads[name]))}, not in {', '.join(sorted(listed)) or 'nothing'}"
    yield from compare("option", set(tree.options), set(options))
    for name in sorted(set(tree.options) & set(options)):
        default = options[name][1].strip("`")
        if default != tree.options[name]:
            yield f"{PAGE}: {name} is {tree.options[name] or 'found'} if nothing is said, not {default}"
    yield from compare("preset", tree.presets, set(tables["preset"]))
    for name in sorted(set(tree.said) - used - set(tree.options)):
        yield f"{', '.join(sorted(tree.said[name]))}: there is no {name}"


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    tree = Tree(root)
    found = list(problems_of(tree, tables_of((root / PAGE).read_text(encoding="utf-8"))))
    counted = f"{len(tree.reads)} variables, {len(tree.options)} options and {len(tree.presets)} presets, as {PAGE} lists them"
    print("\n".join(found) if found else counted)
    return 1 if found or not tree.reads or not tree.options or not tree.presets else 0


if __name__ == "__main__":
    sys.exit(main())
