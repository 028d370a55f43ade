#!/usr/bin/env python3
"""What a training step of OpenECADv2 0.89B must move and compute, kernel by kernel, and the time that takes at given rates.

    gpu_floor.py [--samples N] [--dropout] [--gpu a100|h200]...

Counts follow cuda/*.cu (each file says its floor) and model/*.c: frozen SigLIP-so400m (26 layers), connector trained, OpenELM-450M
with LoRA r = 128; packed samples of 2,048 rows, 728 of them of the picture, 1,250 with a label. Bytes over bandwidth and FLOPs over
the rate of large products give two times; a kernel takes the larger. Rates: copies at 85 % of the datasheet's bandwidth, products
at what cuBLAS is known to reach (700 TFLOP/s on an H200, 250 on an A100; not measured here), attention at FlashAttention-2's rate
(232 and 140 TFLOP/s, peers' plots). Nothing printed here has been measured: it is what measurements are to be held against."""

import argparse
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent / "peers"))
from openelm import FFN, Q_HEADS  # noqa: E402

GPUS = {"h200": (0.85 * 4.8e12, 700e12, 232e12, 989e12), "a100": (0.85 * 2.0e12, 250e12, 140e12, 312e12)}
T, IMAGE, LABELS, R, V, D, LAYERS = 2048, 728, 1250, 128, 32000, 1536, 20
W, MLP, VHEADS, VLAYERS, PATCHES = 1152, 4304, 16, 26, 729


def kernels(dropout):
    """(group, name, bytes, flops) of one sample; 16-bit elements are 2 bytes."""
    rows, e = PATCHES, 2
    for _ in range(VLAYERS):
        yield "vision", "layernorm", 2 * 4 * rows * W * e, 0
        for n, k in ((3 * W, W), (W, W), (MLP, W), (W, MLP)):
            yield "vision", "products", (rows * (n + k) + n * k) * e, 2 * rows * n * k
        yield "vision", "attention", 4 * rows * W * e, 4 * rows * rows * W
    yield "connector", "products", 0, 2 * IMAGE * (W * D + D * D) * 2.6
    pairs = T * (T + 1) / 2
    for i in range(LAYERS):
        last = i == LAYERS - 1
        q, kv = Q_HEADS[i] * 64, Q_HEADS[i] // 4 * 64
        qkv, behind = q + 2 * kv, LABELS if last else T
        yield "decoder", "norms", (4 + 4) * (T + behind) * D * e, 0  # forward with the residual, backward accumulating
        yield "decoder", "qk norm, rope", 5 * T * (q + kv) * e, 0
        yield "decoder", "swiglu", (3 + 5) * behind * FFN[i] * e, 0
        seen = pairs if not last else LABELS * (T - LABELS) + LABELS * (LABELS + 1) / 2
        yield "decoder", "attention", (4 + 8) * behind * q * e, 3.5 * 4 * seen * q
        for n, k, m in ((qkv, D, T), (D, q, behind), (2 * FFN[i], D, behind), (D, FFN[i], behind)):
            yield "decoder", "products", 2 * (m * (n + k) + n * k) * e, 2 * 2 * m * n * k
            # x·Aᵀ, B beside W; g = dy·B, dB, dA, dx: with dropout dx is read and written once more.
            yield "decoder", "lora", (m * (2 * k + 2 * n) + (2 * m * k if dropout else 0)) * e, 6 * m * R * (n + k)
    yield "decoder", "classifier", (2 * LABELS * V + 2 * V * D) * e, 0
    yield "decoder", "products", 0, 2 * 2 * LABELS * V * D
    yield "decoder", "embedding", 4 * T * D * e, 0


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--samples", type=int, default=8)
    options.add_argument("--dropout", action="store_true")
    options.add_argument("--gpu", action="append", choices=GPUS)
    args = options.parse_args()
    table = {}
    for group, name, moved, flops in kernels(args.dropout):
        row = table.setdefault((group, name), [0, 0])
        row[0] += args.samples * moved
        row[1] += args.samples * flops
    trained = sum(R * ((Q_HEADS[i] * 96 + D) + (D + Q_HEADS[i] * 64) + 3 * FFN[i] + 2 * D) for i in range(LAYERS)) + 4.1e6
    table["update", "norm, AdamW"] = [34 * trained, 0]
    gpus = args.gpu or list(GPUS)
    print(f"{args.samples} samples of {T} rows, {trained / 1e6:.1f} M parameters trained, dropout {'on' if args.dropout else 'off'}\n")
    print("| part | kernels | GB | TFLOP | " + " | ".join(f"{g.upper()}, ms" for g in gpus) + " |")
    print("|---|---|---|---|" + "---|" * len(gpus))
    total = [0.0] * len(gpus)
    for (group, name), (moved, flops) in table.items():
        times = []
        for at, gpu in enumerate(gpus):
            bandwidth, product, attention, _ = GPUS[gpu]
            times.append(1e3 * max(moved / bandwidth, flops / (attention if name == "attention" else product)))
            total[at] += times[-1]
        print(f"| {group} | {name} | {moved / 1e9:.2f} | {flops / 1e12:.2f} | " + " | ".join(f"{t:.2f}" for t in times) + " |")
    work = sum(flops for _, flops in table.values())
    print(f"| **all** | | {sum(m for m, _ in table.values()) / 1e9:.1f} | {work / 1e12:.1f} | "
          + " | ".join(f"**{t:.1f}**" for t in total) + " |")
    for at, gpu in enumerate(gpus):
        rate = work / total[at] * 1e3
        print(f"\n{gpu.upper()}: {args.samples * 1e3 / total[at]:.0f} samples/s, {rate / 1e12:.0f} TFLOP/s, "
              f"{100 * rate / GPUS[gpu][3]:.0f} % of the datasheet's peak")


if __name__ == "__main__":
    main()
