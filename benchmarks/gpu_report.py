#!/usr/bin/env python3
"""Makes gpu_check.json and gpu_check.md of what the parts of gpu_check.sh wrote, whatever ended it.

    gpu_report.py FOLDER [--with FILE]

FOLDER holds parts.tsv (the GPU; part, outcome, seconds: the last line of a part counts) and a PART.jsonl each; parts that did not run
now are taken from FILE, an earlier gpu_check.json. The first table holds the figures that the project wants to reach, with whether
they were; a figure that is missed fails nothing here."""

import argparse
import json
import pathlib

PEAK = 989e12  # bf16 FLOP/s of an H100 or H200 (SXM) without sparsity, NVIDIA's datasheet


def read_lines(path):
    """The lines of a file that are objects of JSON."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue  # a line that was cut off when time ran out, or a library's chatter
    return [line for line in lines if isinstance(line, dict)]


def read_parts(folder):
    """What the GPU is, and the parts."""
    gpu, parts = "unknown GPU", {}
    table = folder / "parts.tsv"
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines() if table.exists() else []:
        cells = line.split("\t")
        if cells[0] == "gpu" and len(cells) == 2:
            gpu = cells[1]
        elif len(cells) == 3:
            parts[cells[0]] = {"outcome": cells[1], "seconds": int(cells[2]) if cells[2].isdigit() else 0}
    for name, part in parts.items():
        if part["outcome"] == "running":
            part["outcome"] = "was running at the end"
        part["lines"] = read_lines(folder / f"{name}.jsonl")
    return gpu, parts


def lines_of(parts, name):
    return parts.get(name, {}).get("lines", [])


def table(title, head, rows):
    if not rows:
        return ""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]

    def line(row):
        return "| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([f"## {title}\n", line(head), rule, *map(line, rows), "", ""])


def work_rate(line):
    if "flops_per_s" in line:
        return f"{line['flops_per_s'] / 1e12:.0f} TFLOP/s"
    return f"{line['bytes_per_s'] / 1e12:.2f} TB/s"


def rate(line):
    return line.get("flops_per_s", line.get("bytes_per_s"))


def figure(name, wanted, values, unit, worst=None):
    """A row of the first table: the smallest of `values`, beside what is wanted."""
    if not values:
        return [name, f">= {wanted:g} {unit}", "not measured", ""]
    found = min(values)
    return [name, f">= {wanted:g} {unit}", f"{found:.3g} {unit}" + (f" ({worst})" if worst else ""), "yes" if found >= wanted else "no"]


def lowest(lines, key):
    return min(lines, key=lambda line: line[key]) if lines else None


def figures(parts):
    ops = [line for line in lines_of(parts, "ops") if "case" in line]
    theirs = {(line["case"], line["pass"]): line for line in lines_of(parts, "peers-ops") if line.get("kernel") == "flash"}
    rows = []

    products = [line for line in ops if "of_best" in line]
    slowest = lowest(products, "of_best")
    rows.append(figure("matrix products, of cuBLASLt's best", 95, [100 * line["of_best"] for line in products], "%",
                       slowest and f"{slowest['case']}, {slowest['pass']}"))

    streamed = ("rmsnorm", "layernorm", "act", "glu", "adamw")
    rows_ops = [line for line in ops if line["case"].split()[0] in streamed]
    slowest = lowest(rows_ops, "share")
    rows.append(figure("norms, activations, AdamW, of copy bandwidth", 85, [100 * line["share"] for line in rows_ops], "%",
                       slowest and f"{slowest['case']}, {slowest['pass']}"))

    attention = [line for line in ops if line["case"].startswith("attention 8 2048 24 6 64 1") and line["pass"] == "both"]
    both = [line["flops_per_s"] / 1e12 for line in attention]
    rows.append(figure("attention forward + backward, 2,048 tokens, D = 64, causal", 100, both, "TFLOP/s"))
    flash = [rate(line) / rate(theirs[key]) for line in attention if (key := (line["case"], "both")) in theirs]
    rows.append(figure("  over PyTorch's flash attention of this run", 1, flash, "x"))

    step = [line for line in lines_of(parts, "step") if line.get("case") == "089b"]
    share = [100 * line["gflops"] * 1e9 / PEAK for line in step]
    rows.append(figure("0.89B step, of 989 TFLOP/s", 32, share, "%"))
    rows.append(figure("  the next goal", 45, share, "%"))
    paired = [line for line in lines_of(parts, "peers-step") if line.get("case") == "089b"]
    best = [line["ratio"] for line in paired if line.get("name") == "best" and "ratio" in line]
    kernel = next((f"attention: {line['attention']}" for line in paired if line.get("name") == "best" and "attention" in line), None)
    authors = [line["ratio"] for line in paired if line.get("name") == "authors" and "ratio" in line]
    rows.append(figure("0.89B step over PyTorch + PEFT at its best", 1.3, best, "x", kernel))
    rows.append(figure("0.89B step over the authors' settings", 2.5, authors, "x"))
    memory = [80 - line["device_mib"] * 2**20 / 1e9 for line in step if line["samples"] >= 8]
    rows.append(["micro-batch 8, nothing recomputed", "<= 80 GB", f"{80 - memory[0]:.1f} GB" if memory else "not measured",
                 ("yes" if memory[0] >= 0 else "no") if memory else ""])
    return rows


def op_rows(parts):
    theirs = {}
    for line in lines_of(parts, "peers-ops"):
        if "case" in line:
            theirs.setdefault((line["case"], line["pass"]), []).append(line)
    rows = []
    for line in lines_of(parts, "ops"):
        if "case" not in line:
            continue
        peers = theirs.get((line["case"], line["pass"]), [])
        rows.append([line["case"], line["pass"], f"{1e6 * line['seconds']:.1f}", work_rate(line), f"{100 * line['share']:.0f} %",
                     f"{100 * line['of_best']:.0f} %" if "of_best" in line else "",
                     ", ".join(f"{rate(line) / rate(peer):.2f} x {peer.get('kernel', 'PyTorch')}" for peer in peers)])
    return rows


def step_rows(lines):
    rows = []
    for line in lines:
        if "step_ms" not in line:
            continue
        rounds = line.get("rounds", [])
        spread = f" ({min(rounds):.1f}-{max(rounds):.1f})" if len(rounds) > 1 else ""
        rows.append([line["case"], line.get("name", "cadvlm"), line.get("micro_batch", line["samples"]), f"{line['step_ms']:.1f}",
                     f"{line['samples_per_s']:.1f}{spread}", f"{line['tokens_per_s']:.0f}", f"{line['gflops'] / 1e3:.0f}",
                     f"{100 * line['gflops'] * 1e9 / PEAK:.1f} %", f"{line['device_mib'] / 1024:.1f}",
                     f"{line['ratio']:.2f} x" if "ratio" in line else "", f"{line['loss']:.2f}", line.get("attention", "our own")])
    return rows


def outcome_rows(parts):
    rows = []
    for name, part in parts.items():
        said = [line for line in part["lines"] if "how" in line]
        tests = {line["test"]: line["how"] for line in said if "test" in line}  # the last of each
        if tests:
            counts = {how: [test for test, h in tests.items() if h == how] for how in ("passed", "failed", "not ended", "skipped")}
            text = f"{len(counts['passed'])} of {len(tests)} tests passed"
            text += "".join(f"; {how}: {', '.join(names)}" for how, names in counts.items() if how != "passed" and names)
        else:
            text = "; ".join(f"{line['tool']}: {line['how']}" for line in said if "tool" in line)
        text = "; ".join(filter(None, [text, *(line["skipped"] for line in part["lines"] if "skipped" in line)]))
        rows.append([name, part["outcome"], f"{part['seconds']} s", text])
    return rows


def report(gpu, parts):
    text = f"# gpu_check: {gpu}\n\n"
    ceilings = next((line for line in lines_of(parts, "ops") if "product_flops_per_s" in line), None)
    if ceilings:
        text += (f"{ceilings['device']}. Ceilings measured in the same run: a bf16 product of 8,192³ "
                 f"{ceilings['product_flops_per_s'] / 1e12:.0f} TFLOP/s, a copy on the device "
                 f"{ceilings['copy_bytes_per_s'] / 1e12:.2f} TB/s.\n\n")
    text += table("Parts", ["part", "outcome", "took", ""], outcome_rows(parts))
    if any(lines_of(parts, name) for name in ("ops", "step", "peers-step")):
        text += table("Figures to reach (stated for an H200)", ["figure", "wanted", "found", "reached"], figures(parts))
    head = ["model", "program", "micro-batch", "step ms", "samples/s", "tokens/s", "TFLOP/s", "of 989", "GiB", "ours over it",
            "loss", "attention"]
    text += table("Steps", head, step_rows(lines_of(parts, "step")))
    text += table("Steps in turns (medians of rounds)", head, step_rows(lines_of(parts, "peers-step")))
    head = ["operation", "pass", "us", "rate", "of the ceiling", "of cuBLASLt's best", "over PyTorch"]
    text += table("Operations", head, op_rows(parts))
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--with", dest="earlier", type=pathlib.Path, help="an earlier gpu_check.json, for the parts not run now")
    args = parser.parse_args()
    parts = json.loads(args.earlier.read_text(encoding="utf-8"))["parts"] if args.earlier else {}
    gpu, run = read_parts(args.folder)
    parts.update(run)
    (args.folder / "gpu_check.json").write_text(json.dumps({"gpu": gpu, "parts": parts}, indent=1) + "\n", encoding="utf-8")
    (args.folder / "gpu_check.md").write_text(report(gpu, parts), encoding="utf-8")


if __name__ == "__main__":
    main()
