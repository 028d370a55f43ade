#!/usr/bin/env python3
"""The demo model's training step in PyTorch, on the CPU: what bench_step measures (forward, backward, AdamW; no exchange of
gradients), written as PyTorch users would at its best (scaled_dot_product_attention, fused AdamW, samples padded to the longest of
their batch, which holds samples of like length).

    torch_step.py [--threads N] [--batch B] [--dtype bf16|f32] [--compile] [--seconds S]

Prints one line of JSON: samples/s, tokens/s (padding not counted), step in milliseconds."""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

SIZE, PATCH, V_LAYERS, V_WIDTH, V_HEADS, V_MLP = 128, 32, 3, 128, 4, 512
LAYERS, WIDTH, HEAD, HQ, HK, FFN, VOCAB = 4, 128, 32, 4, 2, 352, 1280
IMAGE_ROWS = (SIZE // PATCH) ** 2
TEXT_LOW, TEXT_HIGH = 40, 115


class VisionLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(V_WIDTH, eps=1e-6), nn.LayerNorm(V_WIDTH, eps=1e-6)
        self.qkv, self.out = nn.Linear(V_WIDTH, 3 * V_WIDTH), nn.Linear(V_WIDTH, V_WIDTH)
        self.fc1, self.fc2 = nn.Linear(V_WIDTH, V_MLP), nn.Linear(V_MLP, V_WIDTH)

    def forward(self, h):
        b, p, _ = h.shape
        q, k, v = self.qkv(self.n1(h)).view(b, p, 3, V_HEADS, -1).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, p, V_WIDTH)
        h = h + self.out(a)
        return h + self.fc2(F.gelu(self.fc1(self.n2(h)), approximate="tanh"))


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class DecoderLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.RMSNorm(WIDTH, eps=1e-6), nn.RMSNorm(WIDTH, eps=1e-6)
        self.qn, self.kn = nn.RMSNorm(HEAD, eps=1e-6), nn.RMSNorm(HEAD, eps=1e-6)
        self.qkv = nn.Linear(WIDTH, (HQ + 2 * HK) * HEAD, bias=False)
        self.out = nn.Linear(HQ * HEAD, WIDTH, bias=False)
        self.gu, self.down = nn.Linear(WIDTH, 2 * FFN, bias=False), nn.Linear(FFN, WIDTH, bias=False)

    def forward(self, h, cos, sin):
        b, t, _ = h.shape
        q, k, v = self.qkv(self.n1(h)).view(b, t, HQ + 2 * HK, HEAD).transpose(1, 2).split((HQ, HK, HK), 1)
        q, k = rotate(self.qn(q), cos, sin), rotate(self.kn(k), cos, sin)
        k, v = k.repeat_interleave(HQ // HK, 1), v.repeat_interleave(HQ // HK, 1)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, HQ * HEAD)
        h = h + self.out(a)
        g, u = self.gu(self.n2(h)).chunk(2, -1)
        return h + self.down(F.silu(g) * u)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Linear(PATCH * PATCH, V_WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(IMAGE_ROWS, V_WIDTH))
        self.vision = nn.ModuleList(VisionLayer() for _ in range(V_LAYERS))
        self.connector = nn.Sequential(nn.LayerNorm(V_WIDTH), nn.Linear(V_WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.embedding = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(DecoderLayer() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-6)
        angles = torch.outer(torch.arange(512.0), 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD))
        angles = torch.cat((angles, angles), -1)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, pixels, ids, labels):
        b, side = pixels.shape[0], SIZE // PATCH
        x = pixels.view(b, side, PATCH, side, PATCH).transpose(2, 3).reshape(b, IMAGE_ROWS, PATCH * PATCH)
        h = self.patch((x.float() / 255 - 0.92) / 0.333) + self.positions
        for layer in self.vision:
            h = layer(h)
        h = torch.cat((self.connector(h), self.embedding(ids)), 1)
        cos, sin = self.cos[: h.shape[1]], self.sin[: h.shape[1]]
        for layer in self.layers:
            h = layer(h, cos, sin)
        rows = labels >= 0  # logits only where there are labels
        logits = F.linear(self.norm(h[:, IMAGE_ROWS:][rows]), self.embedding.weight)
        return F.cross_entropy(logits.float(), labels[rows])


def make_batches(count, batch, generator):
    lengths = torch.randint(TEXT_LOW, TEXT_HIGH + 1, (count * batch,), generator=generator).sort().values
    batches, tokens = [], []
    for i in range(count):
        own = lengths[i * batch : (i + 1) * batch]
        longest = int(own.max())
        ids = torch.randint(VOCAB, (batch, longest), generator=generator)
        labels = torch.randint(VOCAB, (batch, longest), generator=generator)
        labels[torch.arange(longest)[None] >= own[:, None]] = -1
        pixels = torch.randint(256, (batch, SIZE, SIZE), generator=generator, dtype=torch.uint8)
        batches.append((pixels, ids, labels))
        tokens.append(int(own.sum()) + batch * IMAGE_ROWS)
    return batches, tokens


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--dtype", choices=("bf16", "f32"), default="bf16")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seconds", type=float, default=8)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = Model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=(0.9, 0.98), fused=True)
    run = torch.compile(model, dynamic=True) if args.compile else model
    batches, tokens = make_batches(16, args.batch, torch.Generator().manual_seed(2))

    def step(i):
        with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype == "bf16"):
            loss = run(*batches[i % len(batches)])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for i in range(len(batches)):
        step(i)
    times, count, began = [], 0, time.perf_counter()
    while time.perf_counter() - began < args.seconds or count % len(batches):
        at = time.perf_counter()
        step(count)
        times.append(time.perf_counter() - at)
        count += 1
    whole = sum(times)
    print(json.dumps({"torch": torch.__version__, "threads": args.threads, "batch": args.batch, "dtype": args.dtype,
                      "compiled": args.compile, "step_ms": round(1e3 * statistics.median(times), 3),
                      "samples_per_s": round(args.batch / statistics.median(times), 1),
                      "tokens_per_s": round(sum(tokens[i % len(tokens)] for i in range(count)) / whole)}))


if __name__ == "__main__":
    main()
