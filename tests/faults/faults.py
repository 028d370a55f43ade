#!/usr/bin/env python3
"""Plants the faults of faults.json one by one and says which of them no test notices.

Each is a line of our own code made wrong. It is planted in a copy of the tree (build/faults, which
keeps its build folders, so that only the changed file is compiled again), the tests that it names
are built and run, then those of its module; the first that fails has found it. What was found is kept
in build/faults/state.json: a run that was interrupted goes on where it stopped.

    tests/faults/faults.py                 all that have not been found yet
    tests/faults/faults.py --again         all
    tests/faults/faults.py --module cad    those in cad/
    tests/faults/faults.py -k warm-up      those with these words in file, text or description
    tests/faults/faults.py --some 12       a dozen, another one every day, at least one a module
    tests/faults/faults.py --check         only: does every text still stand once in its file?
    tests/faults/faults.py --compile       only: does every fault compile? (by the commands of build/cpu and build/emu)
    tests/faults/faults.py --table FILE    write what is known into FILE (results.md)

faults.json is a list sorted by file. Of each fault:
    file         where it is planted
    text         a part of one line that stands once in the file
    replacement  what stands there instead; it must compile
    what         what is wrong with it, in words
    tests        a regular expression of ctest: the tests that notice it fastest
    preset       of CMakePresets.json, if it is not "cpu" ("emu" in cuda/)

Ends with 0 when all were found, 1 when one survived, 2 when one cannot be planted (its text is gone
or stands twice, it does not compile) or could not be tried to the end."""

import argparse
import concurrent.futures
import datetime
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
LIST = ROOT / "tests/faults/faults.json"
WORK = ROOT / "build/faults"
TREE = WORK / "tree"
STATE = WORK / "state.json"

# Module -> which tests are run when those that a fault names have passed (options of ctest).
TESTS_OF_MODULE = {
    "core": ["-L", "^(core|data)$"],
    "image": ["-R", "^(image|core|picture|batch_build|drawing)\\."],
    "hub": ["-R", "^(hub|file|cli_fetch|fuzz)\\."],
    "config": ["-R", "^(config(_yaml)?|cli_train|cli_eval|cli_mix)\\."],
    "ops": ["-L", "^(ops|model)$"],
    "cuda": ["-L", "^cuda$", "-LE", "^schedules$"],
    "comm": ["-R", "^(comm|reducer|cli_train)\\."],
    "cad": ["-L", "^cad$"],
    "data": ["-L", "^(data|cad)$"],
    "model": ["-L", "^(model|trainer)$"],
    "checkpoint": ["-L", "^trainer$"],
    "eval": ["-L", "^trainer$"],
    "report": ["-L", "^trainer$"],
    "export": ["-L", "^(trainer|model)$"],
    "trainer": ["-L", "^trainer$"],
    "launch": ["-R", "^(cli_|install\\.)"],
}
FOUND, SURVIVED, STALE, UNBUILT, LATE, ABSENT = (
    "found", "survived", "its text is not found once", "does not build", "out of time", "not here")


class Fault:
    def __init__(self, fields):
        self.file, self.text, self.replacement = fields["file"], fields["text"], fields["replacement"]
        self.what, self.tests = fields["what"], fields["tests"]
        self.module = self.file.split("/")[0]
        self.preset = fields.get("preset", "emu" if self.module == "cuda" else "cpu")
        key = "\0".join((self.file, self.text, self.replacement))
        self.key = hashlib.sha256(key.encode()).hexdigest()[:12]

    def line(self, tree=ROOT):
        """The number of the line on which the text stands, or None unless it stands once."""
        path = tree / self.file
        source = path.read_text(encoding="utf-8") if path.is_file() else ""
        return source[:source.index(self.text)].count("\n") + 1 if source.count(self.text) == 1 else None

    def place(self):
        return f"{self.file}:{self.line() or '?'}"


def read_faults():
    return [Fault(fields) for fields in json.loads(LIST.read_text(encoding="utf-8"))]


# ---- the list itself ----


def test_names():
    """subject.name of every test in the sources, as tests/CMakeLists.txt registers them."""
    for path in sorted((ROOT / "tests").glob("*/test_*.c")):
        for name in re.findall(r"^TEST(?:_RANKS)?\((\w+)", path.read_text(encoding="utf-8"), re.M):
            yield f"{path.stem.removeprefix('test_')}.{name}"
    for path in sorted((ROOT / "tests/fuzz").glob("fuzz_*.c")):
        yield f"fuzz.{path.stem.removeprefix('fuzz_')}"


def source_of(name):
    """Of a test's executable, below tests/."""
    subject, claim = name.split(".")[:2]
    if subject == "fuzz":
        return f"fuzz/fuzz_{claim}.c"
    return next((ROOT / "tests").glob(f"*/test_{subject}.c")).relative_to(ROOT / "tests").as_posix()


def problems(faults):
    names, seen = list(test_names()), set()
    for before, fault in zip([None] + faults, faults):
        where = f"{fault.file}: \"{fault.text}\""
        if fault.line() is None:
            yield f"{where} does not stand exactly once in the file"
        if "\n" in fault.text or "\n" in fault.replacement or fault.text == fault.replacement:
            yield f"{where}: text and replacement are one line each, and differ"
        if fault.module not in TESTS_OF_MODULE:
            yield f"{where}: the file is in no module that has tests"
        if not any(re.search(fault.tests, name) for name in names):
            yield f"{where}: no test is called {fault.tests}"
        if before and before.file > fault.file:
            yield f"{where}: the list is sorted by file, and {before.file} stands before it"
        if fault.key in seen:
            yield f"{where}: the same fault stands twice"
        seen.add(fault.key)


# ---- whether they compile ----


def compile_commands():
    """(cpu or emu, file) -> (folder, command that only checks the text on standard input)."""
    commands = {}
    for preset in ("cpu", "emu"):
        path = ROOT / "build" / preset / "compile_commands.json"
        for entry in json.loads(path.read_text(encoding="utf-8")) if path.is_file() else ():
            file = pathlib.Path(os.path.normpath(os.path.join(entry["directory"], entry["file"])))
            words, command = iter(shlex.split(entry["command"])), []
            for word in words:
                if word in ("-o", "-c", "-MF", "-MT"):
                    next(words)
                elif word != "-MD" and not word.endswith("ccache"):
                    command.append(word)
            language = "c" if file.suffix == ".c" else "c++"
            commands.setdefault((preset, file.relative_to(ROOT).as_posix()),
                                (entry["directory"], [*command, "-x", language, "-fsyntax-only", "-w", "-"]))
    return commands


def compile_problem(fault, commands):
    """Why a fault does not compile, or None. Headers are compiled with whatever includes them: not here."""
    known = commands.get((fault.preset.split("-")[0], fault.file))
    if not known:
        return None if not fault.file.endswith((".c", ".cpp", ".cu")) else f"{fault.place()}: not built"
    folder, command = known
    source = (ROOT / fault.file).read_text(encoding="utf-8").replace(fault.text, fault.replacement)
    done = subprocess.run(command, input=source, text=True, capture_output=True, cwd=folder, check=False)
    return f"{fault.place()}: {fault.replacement}\n{done.stderr[:400]}" if done.returncode else None


def compile_problems(faults, jobs):
    commands = compile_commands()
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return [problem for problem in pool.map(lambda f: compile_problem(f, commands), faults) if problem]


# ---- the copy ----


def copy_tree():
    """Makes the copy equal to this tree; what is equal keeps its time, and with it what was built."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            check=True, capture_output=True).stdout.decode().split("\0")
    wanted = {name for name in listed if name and (ROOT / name).is_file()}
    TREE.mkdir(parents=True, exist_ok=True)
    for path in TREE.rglob("*"):
        name = path.relative_to(TREE).as_posix()
        if not name.startswith("build/") and path.is_file() and name not in wanted:
            path.unlink()
    for name in wanted:
        ours, theirs = (ROOT / name).read_bytes(), TREE / name
        if not theirs.is_file() or theirs.read_bytes() != ours:
            theirs.parent.mkdir(parents=True, exist_ok=True)
            theirs.write_bytes(ours)
            shutil.copymode(ROOT / name, theirs)


def run(command, seconds):
    """Exit code and output; None when the time was over (the whole group of processes is ended)."""
    process = subprocess.Popen([str(word) for word in command], cwd=TREE, text=True, errors="replace",
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=seconds)
        return process.returncode, output
    except BaseException as error:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        if isinstance(error, subprocess.TimeoutExpired):
            return None, ""
        raise


class Build:
    """One build folder of the copy."""

    def __init__(self, preset, jobs, limit):
        self.folder, self.jobs, self.limit = TREE / "build" / preset, jobs, limit
        self.passing, self.failing = set(), set()      # without any fault
        code, output = run(["cmake", "--preset", preset, "-DCADVLM_WERROR=OFF"], limit)
        self.usable = code == 0 and not (preset.startswith("emu") and "not emulated" in output)
        if code != 0:
            print(output)

    def ctest(self, options):
        return ["ctest", "--test-dir", self.folder, *options]

    def tests(self, options):
        """Name -> target (None: none needed) of the tests that these options choose, built or not."""
        code, output = run(self.ctest([*options, "--show-only=json-v1"]), self.limit)
        if code != 0:
            raise RuntimeError(output[-3000:])
        names = [test["name"] for test in json.loads(output)["tests"]]
        sources = {name: TREE / "tests" / source_of(name) for name in names}
        return {name: source.stem if source.is_file() else None for name, source in sources.items()}

    def make(self, targets):
        """True, False (does not compile) or None (out of time)."""
        targets = sorted(t for t in targets if t)
        if not targets:
            return True
        code, output = run(["cmake", "--build", self.folder, "-j", self.jobs, "--target", *targets], self.limit)
        if code not in (0, None):
            print(output[-3000:])
        return None if code is None else code == 0

    def first_failure(self, options):
        """The test that fails first, "" when all pass, None when time was over."""
        code, output = run(self.ctest([*options, "-j", self.jobs, "--stop-on-failure"]), self.limit)
        if code is None:
            return None
        failed = re.findall(r"^\s*\d+ - (\S+) \((?!Not Run|Skipped|Disabled)", output, re.M)
        if code and not failed:
            raise RuntimeError(output[-3000:])
        return failed[0] if failed else ""

    def passes_without(self, name, target):
        """Whether the test passes in the copy as it stands now: without a fault."""
        if name not in self.passing | self.failing:
            options = ["-R", f"^{re.escape(name)}$"]
            sound = self.make({target}) and self.first_failure(options) == ""
            (self.passing if sound else self.failing).add(name)
        return name in self.passing


# ---- one fault ----


def first_notice(build, options, fault, source):
    """(status, test) of the tests that these options choose, with the fault planted."""
    path = TREE / fault.file
    while True:
        known = "|".join(re.escape(name) for name in build.failing)
        chosen = [*options, "-E", f"^({known})$"] if known else options
        tests = build.tests(chosen)
        if not tests:
            return SURVIVED, ""
        path.write_text(source.replace(fault.text, fault.replacement), encoding="utf-8")
        try:
            made = build.make(set(tests.values()))
            if not made:
                return (LATE if made is None else UNBUILT), ""
            name = build.first_failure(chosen)
        finally:
            path.write_text(source, encoding="utf-8")
        if name is None:
            return LATE, ""
        if not name:
            return SURVIVED, ""
        if build.passes_without(name, tests[name]):
            return FOUND, name
        print(f"    {name} fails without any fault: left out")


def try_fault(build, fault, named):
    if not build.usable:
        return ABSENT, ""
    if fault.line(TREE) is None:
        return STALE, ""
    source = (TREE / fault.file).read_text(encoding="utf-8")
    runs = [["-R", fault.tests, "-LE", "^schedules$"], TESTS_OF_MODULE[fault.module]]
    for options in runs[:1] if named else runs:
        status, name = first_notice(build, options, fault, source)
        if status != SURVIVED:
            break
    return status, name


# ---- many ----


def some(faults, count, turn):
    """A choice that is another one every day: one of every module first, then from all over."""
    order = sorted(faults, key=lambda f: f.key)
    order = order[turn * count % len(order):] + order[:turn * count % len(order)]
    modules = {}
    for fault in order:
        modules.setdefault(fault.module, fault)
    first = list(modules.values())
    return (first + [f for f in order if f not in first])[:count]


def read_state():
    return json.loads(STATE.read_text(encoding="utf-8")) if STATE.is_file() else {}


def write_state(state):
    STATE.with_suffix(".new").write_text(json.dumps(state, indent=1), encoding="utf-8")
    STATE.with_suffix(".new").replace(STATE)


def plant(faults, state, jobs, limit, named):
    copy_tree()
    builds, statuses = {}, []
    for number, fault in enumerate(faults, 1):
        if fault.preset not in builds:
            builds[fault.preset] = Build(fault.preset, jobs, limit)
        began = time.monotonic()
        status, by = try_fault(builds[fault.preset], fault, named)
        seconds = time.monotonic() - began
        print(f"{number}/{len(faults)} {status}: {fault.place()}: {fault.what}"
              f"{' (' + by + ')' if by else ''}, {seconds:.0f} s", flush=True)
        state[fault.key] = {"status": status, "by": by, "date": datetime.date.today().isoformat()}
        write_state(state)
        statuses.append(status)
    return statuses


def processor():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return "unknown"
    model = re.search(r"^model name\s*: (.*)$", text, re.M)
    flags = re.search(r"^flags\s*: (.*)$", text, re.M)
    sets = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flags and name in flags[1].split()]
    return f"{model[1] if model else 'unknown'} ({', '.join(sets)})"


def write_table(path, faults, state):
    known = [(fault, state[fault.key]) for fault in faults if fault.key in state]
    found = sum(result["status"] == FOUND for _, result in known)
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    lines = ["# Faults planted, and the tests that noticed", "",
             f"Written by `tests/faults/faults.py --table`, {datetime.date.today()}, commit {commit.stdout.strip()},",
             f"{processor()}.", "",
             f"**{found} of {len(known)} found**; {len(faults) - len(known)} of the list not tried.", ""]
    reasons = path.with_name("survivors.json")
    reasons = json.loads(reasons.read_text(encoding="utf-8")) if reasons.is_file() else {}
    for fault, result in known:
        if result["status"] != FOUND:
            lines.append(f"- {result['status']}: {fault.file}: {fault.what}. {reasons.get(fault.what, '')}".rstrip())
    lines += ["", "| file | fault | first noticed by |", "| --- | --- | --- |"]
    for fault, result in known:
        lines.append(f"| `{fault.file}` | {fault.what} | {result['by'] or '**' + result['status'] + '**'} |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--list", action="store_true", help="show the chosen faults, and plant none")
    parser.add_argument("--module", action="append", choices=sorted(TESTS_OF_MODULE))
    parser.add_argument("-k", metavar="WORDS", default="")
    parser.add_argument("--some", type=int, metavar="N")
    parser.add_argument("--turn", type=int, default=datetime.date.today().toordinal(),
                        help="of --some: which choice; default: the number of this day")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--named", action="store_true", help="run the tests that a fault names, and not those of its module")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=int, default=1800, metavar="SECONDS", help="of each build and each run of tests")
    parser.add_argument("--table", type=pathlib.Path, metavar="FILE")
    return parser.parse_args()


def choose(faults, state, arguments):
    chosen = [f for f in faults if (not arguments.module or f.module in arguments.module)
              and arguments.k.lower() in f"{f.file} {f.text} {f.what}".lower()]
    if arguments.some:
        return some(chosen, arguments.some, arguments.turn)
    if arguments.again or arguments.list:
        return chosen
    return [f for f in chosen if state.get(f.key, {}).get("status") != FOUND]


def main():
    arguments = parse_arguments()
    faults = read_faults()
    wrong = list(problems(faults))
    if arguments.compile and not wrong:
        wrong = compile_problems(faults, arguments.jobs)
    if arguments.check or arguments.compile or wrong:
        print("\n".join(wrong) if wrong else f"{len(faults)} faults, each {'compiles' if arguments.compile else 'stands where it stood'}")
        return 2 if wrong else 0
    state = read_state()
    if arguments.table:
        write_table(arguments.table, faults, state)
        return 0
    chosen = choose(faults, state, arguments)
    if arguments.list:
        print("\n".join(f"{f.place()}: {f.what} ({state.get(f.key, {}).get('status', 'not tried')})" for f in chosen))
        return 0
    statuses = plant(chosen, state, arguments.jobs, arguments.limit, arguments.named)
    for status in sorted(set(statuses)):
        print(f"{statuses.count(status)} {status}")
    return 2 if set(statuses) & {STALE, UNBUILT, LATE} else 1 if SURVIVED in statuses else 0


if __name__ == "__main__":
    sys.exit(main())
