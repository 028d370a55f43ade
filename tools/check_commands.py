#!/usr/bin/env python3
"""Checks that what README.md, CONTRIBUTING.md and docs/ tell to run or to read is there: commands and options of cadvlm (launch/), presets
(config/presets), keys (config/keys.c), test programs and their tests, files of the tree, links. Usage: check_commands.py [SOURCE_FOLDER]"""

import pathlib
import re
import shlex
import sys

LINE = re.compile(r"(?:^|[ /])cadvlm ((?:[a-z]|--).*)")  # from the program's name on
COMMAND = re.compile(r'^    \{"([a-z ]+)",', re.MULTILINE)
OPTION = re.compile(r'"(--[a-z-]+|-[a-z])"')
KEY = re.compile(r'^    (?:TEXT|LINES|NAMES|INT|REAL|BOOL|CHOICE|INTS|RANKS|PATTERNS|REALS)\("([a-z0-9_.]+)"', re.MULTILINE)
ALIAS = re.compile(r'^    \{"([a-z0-9_.]+)", "[a-z0-9_.]+"\},', re.MULTILINE)
TEST = re.compile(r"\btests/(test_[a-z0-9_]+)(?:\s+([a-z0-9]+_[a-z0-9_]+))?")
FILE = re.compile(r"[`(\s](?:\./)?((?:%s)/[\w/.-]*\w)[`\s]")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
MORE = {"docs", "launch", "tools", "config", "cmake"}  # folders of the tree beside those that are built
EVERYWHERE = {"--help", "-h", "--version", "--verbose"}


def command_lines(text):
    """Indented lines, those that a backslash continues joined, without remarks."""
    for number, line in enumerate(re.sub(r" *\\\n +", " ", text).splitlines(), 1):
        found = LINE.search(line) if line.startswith("    ") else None
        if found:
            yield number, re.split(r"  +|\t| # | : | -> | …", found.group(1))[0]


class Tree:
    def __init__(self, root):
        launch = "".join(p.read_text(encoding="utf-8") for p in sorted((root / "launch").glob("*.c")))
        keys = (root / "config/keys.c").read_text(encoding="utf-8")
        self.commands, self.options = set(COMMAND.findall(launch)), set(OPTION.findall(launch)) | EVERYWHERE
        self.keys = set(KEY.findall(keys)) | set(ALIAS.findall(keys))
        self.files = FILE.pattern % "|".join(p.name for p in root.iterdir() if (p / "CMakeLists.txt").exists() or p.name in MORE)
        self.presets = {p.stem for p in (root / "config/presets").glob("*.yaml")}


def problems_of(tree, line):
    words = shlex.split(line)
    if words[0].startswith("-"):
        command, rest = "", words
    else:
        command = next((c for c in (" ".join(words[:2]), words[0]) if c in tree.commands), None)
        if command is None:
            yield f"there is no command {' '.join(words[:2])}"
            return
        rest = words[len(command.split()):]
    for before, word in zip([""] + rest, rest):
        if word.startswith("-") and word not in tree.options:
            yield f"{command} has no option {word}"
        elif before in ("--config", "-c") and command == "train" and not word.endswith(".yaml") and word not in tree.presets:
            if word.islower():  # FILE is any
                yield f"there is no preset {word}"
        elif command == "train" and "=" in word and not before.startswith("-") and word.split("=")[0] not in tree.keys:
            yield f"there is no key {word.split('=')[0]}"


def is_there(root, file):
    """A file, a folder, or a program by the name of its source; those of tests are looked at by is_test."""
    return file.startswith("tests/test_") or (root / file).exists() or (root / f"{file}.c").exists()


def is_test(root, program, name):
    sources = list((root / "tests").glob(f"*/{program}.c"))
    return bool(sources) and (not name or re.search(rf"^TEST(_RANKS)?\({name}\b", sources[0].read_text(encoding="utf-8"), re.MULTILINE))


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".").resolve()
    tree = Tree(root)
    found, lines = [], 0
    for page in [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").glob("*.md"))]:
        place, text = page.relative_to(root).as_posix(), page.read_text(encoding="utf-8")
        for number, line in command_lines(text):
            lines += 1
            found += [f"{place}:{number}: {problem}" for problem in problems_of(tree, line)]
        found += [f"{place}: there is no {f}" for f in re.findall(tree.files, text) if not is_there(root, f)]
        found += [f"{place}: there is no test {' '.join(t)}" for t in TEST.findall(text) if not is_test(root, *t)]
        found += [f"{place}: there is no {t}" for t in LINK.findall(text) if not (page.parent / t).exists()]
    print("\n".join(found) if found else f"{lines} command lines, of {len(tree.commands)} commands and {len(tree.keys)} keys")
    return 1 if found or not lines or not tree.commands or not tree.keys else 0


if __name__ == "__main__":
    sys.exit(main())
