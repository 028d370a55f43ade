#!/usr/bin/env python3
"""OpenECADv2 0.89B in PyTorch with PEFT's LoRA on the CPU: forward and backward of one sample (728 picture rows and 1,320 of text,
of which 1,250 have labels), the vision tower frozen, r = 128, dropout 0.05. No optimiser: bench_step 089b --no-update does the same.

    torch_cpu_openecad.py [--threads N] [--compile] [--f32-adapters] [--steps N] [--layers N] [--blocks]

It is written for speed where the reference model is not: weights and adapters in bf16 (--f32-adapters: PEFT's own choice),
scaled_dot_product_attention, the tower under no_grad and only the 26 layers that are used, logits and the last norm for the rows
with labels only, no checkpointing. Its best is --compile with an allocator that gives nothing back (MALLOC_MMAP_THRESHOLD_=8000000000
MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=536870912: 6 % faster). Weights are random. Prints a line of JSON: samples/s of the median step; with --blocks it says
{"ready": ...} when warm and then answers each line of its input (paired.py)."""

import argparse
import json
import resource
import statistics
import sys
import time

import peft
import torch
import torch.nn.functional as F
from torch import nn

from openelm import FFN, Q_HEADS

SIZE, PATCH, V_LAYERS, V_WIDTH, V_HEADS, V_MLP = 384, 14, 26, 1152, 16, 4304
SIDE = SIZE // PATCH
WIDTH, HEAD, VOCAB, TEXT, LABELS, RANK = 1536, 64, 32000, 1320, 1250, 128


class VisionLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(V_WIDTH, eps=1e-6), nn.LayerNorm(V_WIDTH, eps=1e-6)
        self.in_proj, self.merge = nn.Linear(V_WIDTH, 3 * V_WIDTH), nn.Linear(V_WIDTH, V_WIDTH)
        self.fc1, self.fc2 = nn.Linear(V_WIDTH, V_MLP), nn.Linear(V_MLP, V_WIDTH)

    def forward(self, h):
        b, p, _ = h.shape
        q, k, v = self.in_proj(self.n1(h)).view(b, p, 3, V_HEADS, -1).permute(2, 0, 3, 1, 4)
        h = h + self.merge(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, p, V_WIDTH))
        return h + self.fc2(F.gelu(self.fc1(self.n2(h)), approximate="tanh"))


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class DecoderLayer(nn.Module):
    def __init__(self, heads, ffn):
        super().__init__()
        self.heads, self.groups = heads, heads // 4
        self.n1, self.n2 = nn.RMSNorm(WIDTH, eps=1e-6), nn.RMSNorm(WIDTH, eps=1e-6)
        self.qn, self.kn = nn.RMSNorm(HEAD, eps=1e-6), nn.RMSNorm(HEAD, eps=1e-6)
        self.qkv_proj = nn.Linear(WIDTH, (heads + 2 * self.groups) * HEAD, bias=False)
        self.out_proj = nn.Linear(heads * HEAD, WIDTH, bias=False)
        self.proj_1, self.proj_2 = nn.Linear(WIDTH, 2 * ffn, bias=False), nn.Linear(ffn, WIDTH, bias=False)

    def forward(self, h, cos, sin):
        b, t, _ = h.shape
        parts = self.qkv_proj(self.n1(h)).view(b, t, -1, HEAD).transpose(1, 2)
        q, k, v = parts.split((self.heads, self.groups, self.groups), 1)
        q, k = rotate(self.qn(q), cos, sin), rotate(self.kn(k), cos, sin)
        k, v = k.repeat_interleave(4, 1), v.repeat_interleave(4, 1)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, -1)
        h = h + self.out_proj(a)
        g, u = self.proj_1(self.n2(h)).chunk(2, -1)
        return h + self.proj_2(F.silu(g) * u)


class Model(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.patch = nn.Linear(3 * PATCH * PATCH, V_WIDTH)
        self.places = nn.Parameter(0.02 * torch.randn(SIDE * SIDE, V_WIDTH))
        self.tower = nn.ModuleList(VisionLayer() for _ in range(V_LAYERS))
        self.connector = nn.Sequential(nn.Linear(V_WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.tokens = nn.Embedding(VOCAB, WIDTH)
        self.layers = nn.ModuleList(DecoderLayer(q, f) for q, f in list(zip(Q_HEADS, FFN))[:layers])
        self.norm = nn.RMSNorm(WIDTH, eps=1e-6)
        angles = torch.outer(torch.arange(2048.0), 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD))
        angles = torch.cat((angles, angles), -1)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, pixels, ids, labels):
        with torch.no_grad():
            edge = SIDE * PATCH
            x = pixels[:, :, :edge, :edge].reshape(1, 3, SIDE, PATCH, SIDE, PATCH).permute(0, 2, 4, 1, 3, 5)
            h = self.patch(x.reshape(1, SIDE * SIDE, -1)) + self.places
            for layer in self.tower:
                h = layer(h)
        h = torch.cat((self.connector(h[:, 1:]), self.tokens(ids)), 1)
        for layer in self.layers:
            h = layer(h, self.cos, self.sin)
        logits = F.linear(self.norm(h[:, -LABELS:]), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, VOCAB), labels)


def build(args):
    torch.manual_seed(1)
    model = Model(args.layers).bfloat16()
    config = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.05, bias="none",
                             target_modules=["qkv_proj", "out_proj", "proj_1", "proj_2"])
    model = peft.get_peft_model(model, config, autocast_adapter_dtype=args.f32_adapters)
    for name, parameter in model.named_parameters():
        if "connector" in name:
            parameter.requires_grad_(True)
        if "lora_B" in name or "tokens" in name:
            nn.init.normal_(parameter, std=0.02)
    return model.train()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--f32-adapters", action="store_true")
    parser.add_argument("--steps", type=int, default=1, help="of a round")
    parser.add_argument("--layers", type=int, default=20, help="of the decoder: the first so many")
    parser.add_argument("--blocks", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = build(args)
    run = torch.compile(model) if args.compile else model
    generator = torch.Generator().manual_seed(2)
    pixels = torch.rand(1, 3, SIZE, SIZE, generator=generator).mul(2).sub(1).bfloat16()
    ids = torch.randint(VOCAB, (1, TEXT), generator=generator)
    labels = torch.randint(VOCAB, (LABELS,), generator=generator)

    def step():
        began = time.perf_counter()
        loss = run(pixels, ids, labels)
        loss.backward()
        model.zero_grad(set_to_none=True)
        return time.perf_counter() - began, loss.item()

    def measure():
        results = [step() for _ in range(args.steps)]
        typical = statistics.median(seconds for seconds, _ in results)
        print(json.dumps({"torch": torch.__version__, "peft": peft.__version__, "threads": args.threads, "compiled": args.compile,
                          "adapters": "f32" if args.f32_adapters else "bf16", "step_ms": round(1e3 * typical, 1),
                          "samples_per_s": round(1 / typical, 4), "loss": round(results[-1][1], 3),
                          "resident_most_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10}), flush=True)

    for _ in range(2):
        step()
    if not args.blocks:
        return measure()
    print(json.dumps({"ready": "torch"}), flush=True)
    for _ in sys.stdin:
        measure()


if __name__ == "__main__":
    main()
