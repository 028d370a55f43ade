#!/usr/bin/env python3
"""Lets programs take turns on one machine, so that its moods fall on all of them: medians, and ratios round by round.

    paired.py [--rounds N] [--within S] [--patience S] NAME=COMMAND NAME=COMMAND...

Each command is started once, says {"ready": …} when it is warm, answers every line of its input with a line of JSON that has
samples_per_s, and ends with its input (bench_step and torch_gpu.py with --blocks). Printed: one JSON line per program, its
median round with "rounds", and "ratio": the median over rounds of the first program's samples/s over its own. A command that fails
is named on standard error and left out; the exit status is then 1. After S seconds no further round begins, and who is not warm by
then is left out. Told to end (TERM), it prints what it has."""

import argparse
import json
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time


class Stopped(Exception):
    """By a signal."""


def stop(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Stopped


class Program:
    def __init__(self, text):
        self.name, _, command = text.partition("=")
        self.results = []
        self.process = subprocess.Popen(shlex.split(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(self, seconds):
        """The next line that is JSON; None where there is none, or not in time."""
        watchdog = threading.Timer(seconds, self.process.kill)
        watchdog.start()
        try:
            for line in self.process.stdout:
                if line.startswith("{"):
                    return json.loads(line)
            return None
        finally:
            watchdog.cancel()

    def ask(self, seconds):
        try:
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return None
        return self.answer(seconds)

    def end(self, patience=20):
        try:
            self.process.stdin.close()
            self.process.wait(patience)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            self.process.kill()


def measure(args, everyone):
    """Starts the programs, into `everyone`, and lets them take turns. Whether any failed."""
    ready, failed, end = [], False, time.monotonic() + args.within
    for text in args.programs:  # one after the other: compilers and first steps want the machine for themselves
        program = Program(text)
        everyone.append(program)
        if (program.answer(max(1, end - time.monotonic() - 15)) or {}).get("ready"):  # 15 s for the rounds
            ready.append(program)
        else:
            print(f"{program.name} did not become ready", file=sys.stderr)
            program.end()
            failed = True
    for turn in range(args.rounds):
        if turn > 0 and time.monotonic() > end - 5:
            break
        for program in list(ready):
            result = program.ask(args.patience)
            if result:
                program.results.append(result)
            else:
                print(f"{program.name} ended before its time", file=sys.stderr)
                ready.remove(program)
                failed = True
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--within", type=float, default=600, help="seconds for everything")
    parser.add_argument("--patience", type=float, default=60, help="seconds for a round of one program")
    parser.add_argument("programs", nargs="+", metavar="NAME=COMMAND")
    args = parser.parse_args()

    everyone, failed = [], True
    signal.signal(signal.SIGTERM, stop)
    try:
        failed = measure(args, everyone)
    except Stopped:
        print("paired.py: stopped", file=sys.stderr)
        for program in everyone:
            program.end(0.2)
    for program in everyone:
        program.end()
    programs = [program for program in everyone if program.results]
    first = [r["samples_per_s"] for p in programs if p.name == args.programs[0].partition("=")[0] for r in p.results]
    for program in programs:
        rates = [r["samples_per_s"] for r in program.results]
        typical = dict(sorted(program.results, key=lambda r: r["samples_per_s"])[len(rates) // 2])
        typical.update(name=program.name, rounds=rates)
        if first and program.name != args.programs[0].partition("=")[0]:
            typical["ratio"] = round(statistics.median(a / b for a, b in zip(first, rates)), 3)
        print(json.dumps(typical), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
