#!/usr/bin/env python3
"""Counts the instructions of CUDA kernels that show how they work: tensor-core products, asynchronous copies, spills.

    count_instructions.py [--need RULE]... [--arch N]... [--match REGEX] [--json] FILE...

FILE is whatever holds machine code as nvcc leaves it: a cubin, an object, a library, an executable. One line per kernel:

    HMMA    matrix products by the tensor cores (mma.sync)     LDL, STL  loads and stores of local memory: spilled
    LDSM    ldmatrix                                                     registers and arrays the compiler could not
    LDGSTS  cp.async: global to shared memory, asynchronous              keep in registers
    regs    registers of a thread                              stack     bytes of local memory of a thread

RULE is REGEX:COUNT, for example 'attention_.*_fast:HMMA>0' or 'norm:stack=0'; COUNT is a column, one of < <= = >= >, and a
number. Each kernel whose name the expression finds (as printed: readable where c++filt is there) must keep the rule on every
architecture, and one at least must be found. The exit status is 1 where a rule is broken.

NVIDIA's disassembler is not needed: from compute capability 7.0 an instruction takes 16 bytes and its lowest 12 bits are
the opcode with the kind of its operands. The opcodes below were checked against the counts of the PTX of the same kernels
(mma.sync, ldmatrix, cp.async), and LDL and STL against kernels with and without arrays in local memory."""

import argparse
import collections
import json
import operator
import pathlib
import re
import shutil
import struct
import subprocess
import sys

OPCODES = {0x23C: "HMMA", 0x83B: "LDSM", 0xFAE: "LDGSTS", 0x983: "LDL", 0x387: "STL"}
COLUMNS = ["regs", "stack", "size", *OPCODES.values()]  # size: instructions in all
COMPARE = {"<": operator.lt, "<=": operator.le, "=": operator.eq, ">=": operator.ge, ">": operator.gt}

EM_CUDA = 190
FATBIN = struct.Struct("<IHHQ")  # magic, version, size of this header, bytes that follow
FATBIN_MAGIC = 0xBA55ED50
# What precedes each image: kind (1 PTX, 2 machine code), …, size of this header, bytes that follow, of these compressed, …,
# architecture, …, flags, …, size before compression.
ENTRY = struct.Struct("<HHIQIIHHIIIQQQ")
MACHINE_CODE = 2
LZ4, ZSTD = 0x2000, 0x8000  # flags: how the stored bytes are compressed
FRAME_SIZE, REGISTERS = 0x11, 0x2F  # attributes in .nv.info: (symbol, number)


class Broken(Exception):
    """A file that is not what it should be."""


def unpacked(stored, flags, size):
    """The machine code of an entry; newer nvcc compresses it, as one frame of zstd and a few bytes of padding."""
    if not flags & (LZ4 | ZSTD):
        return stored
    zstd = shutil.which("zstd")
    if flags & LZ4 or not zstd:
        raise Broken("its machine code is compressed: install zstd, or build with nvcc --no-compress")
    code = subprocess.run([zstd, "-dc"], input=stored, capture_output=True, check=False).stdout
    if len(code) != size:
        raise Broken(f"zstd gives {len(code)} of {size} bytes of machine code")
    return code


def images(data):
    """(architecture or None, cubin) of each image of machine code in a file."""
    if data[:4] == b"\x7fELF" and struct.unpack_from("<H", data, 18)[0] == EM_CUDA:
        yield None, data
        return
    at = -1
    while (at := data.find(struct.pack("<I", FATBIN_MAGIC), at + 1)) >= 0:
        if len(data) - at < FATBIN.size:
            return
        _, version, header, size = FATBIN.unpack_from(data, at)
        end = at + header + size
        if version != 1 or header != FATBIN.size or end > len(data):
            continue  # the same four bytes by chance
        entry = at + header
        while entry + ENTRY.size <= end:
            kind, _, head, stored, packed, _, _, _, arch, _, _, flags, _, size = ENTRY.unpack_from(data, entry)
            if kind == MACHINE_CODE:
                yield arch, unpacked(data[entry + head : entry + head + (packed or stored)], flags, size)
            entry += head + stored


def sections(elf):
    """(name, bytes) of each section of a 64-bit little-endian ELF file."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    width, count, names = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", elf, table + width * i) for i in range(count)]
    text = headers[names][4]

    def name(offset):
        return elf[text + offset : elf.index(b"\0", text + offset)].decode()

    nobits = 8
    return [(name(h[0]), elf[h[4] : h[4] + h[5]] if h[1] != nobits else b"") for h in headers]


def attributes(parts):
    """(attribute, name of the function) -> number, from .nv.info."""
    by_name = {name: data for name, data in parts}
    symbols, strings = by_name.get(".symtab", b""), by_name.get(".strtab", b"")
    info, numbers, at = by_name.get(".nv.info", b""), {}, 0
    while at + 4 <= len(info):
        shape, attribute, size = struct.unpack_from("<BBH", info, at)
        if shape == 4 and attribute in (FRAME_SIZE, REGISTERS):  # 4: size bytes follow
            symbol, number = struct.unpack_from("<II", info, at + 4)
            (start,) = struct.unpack_from("<I", symbols, 24 * symbol)
            numbers[attribute, strings[start : strings.index(b"\0", start)].decode()] = number
        at += 4 + (size if shape == 4 else 0)
    return numbers


def kernels(path):
    """One dictionary per kernel and architecture in a file."""
    found = []
    for arch, elf in images(path.read_bytes()):
        if arch is None:  # e_flags of a cubin: the architecture in bits 8-15 since CUDA 13, in bits 0-7 before
            (flags,) = struct.unpack_from("<I", elf, 48)
            arch = flags >> 8 & 0xFF if elf[7] == 0x41 else flags & 0xFF
        parts = sections(elf)
        numbers = attributes(parts)
        for name, code in parts:
            if not name.startswith(".text."):
                continue
            kernel = name[len(".text.") :]
            words = struct.unpack(f"<{len(code) // 16 * 2}Q", code[: len(code) // 16 * 16])[::2]
            counts = collections.Counter(OPCODES.get(word & 0xFFF) for word in words)
            found.append({"file": path.name, "arch": arch, "mangled": kernel, "name": kernel, "regs": numbers.get((REGISTERS, kernel), 0), "stack": numbers.get((FRAME_SIZE, kernel), 0),
                          "size": len(words), **{op: counts[op] for op in OPCODES.values()}})
    if not found:
        raise Broken("no machine code for a GPU in it")
    return found


def demangle(rows):
    """Gives the kernels readable names, where c++filt is there to do it."""
    if rows and (filt := shutil.which("c++filt")):
        mangled = "\n".join(row["mangled"] for row in rows)
        plain = subprocess.run([filt], input=mangled, capture_output=True, text=True, check=True).stdout.splitlines()
        for row, name in zip(rows, plain):
            name = re.sub(r"\(anonymous namespace\)::|^void ", "", name)
            row["name"] = re.sub(r"\([\w: ]+\)(?=-?\w)", "", name).replace(", ", ",").split("(")[0]


def parse_rule(text):
    match = re.fullmatch(r"(.+):(\w+)(<=|>=|<|=|>)(\d+)", text)
    if not match or match[2] not in COLUMNS:
        raise argparse.ArgumentTypeError(f"'{text}' is not REGEX:COUNT, with COUNT like HMMA>0, of {', '.join(COLUMNS)}")
    return match[1], match[2], match[3], int(match[4]), text


def broken_rules(rules, rows):
    for regex, column, sign, number, text in rules:
        subjects = [row for row in rows if re.search(regex, row["name"])]
        if not subjects:
            yield f"{text}: no kernel has such a name"
        for row in subjects:
            if not COMPARE[sign](row[column], number):
                yield f"{text}: {row['name']} for sm_{row['arch']} in {row['file']} has {column} {row[column]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE")
    parser.add_argument("--need", action="append", type=parse_rule, default=[], metavar="RULE")
    parser.add_argument("--arch", action="append", type=int, metavar="N", help="only this one, for example 90")
    parser.add_argument("--match", default="", metavar="REGEX", help="print only the kernels whose name this finds")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    rows = []
    for path in args.files:
        try:
            rows += kernels(path)
        except (OSError, Broken, struct.error, ValueError) as why:
            print(f"{path}: {why}", file=sys.stderr)
            return 2
    rows = [row for row in rows if not args.arch or row["arch"] in args.arch]
    demangle(rows)
    shown = [row for row in rows if re.search(args.match, row["name"])]
    if args.json:
        print(json.dumps(shown, indent=1))
    else:
        print("".join(f"{title:>7}" for title in ["sm", *COLUMNS]) + "  kernel")
        for row in shown:
            print("".join(f"{row[column]:7}" for column in ["arch", *COLUMNS]) + f"  {row['name']}")
    problems = list(broken_rules(args.need, rows))
    print("".join(f"{problem}\n" for problem in problems), end="", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
