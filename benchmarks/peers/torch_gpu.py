#!/usr/bin/env python3
"""What bench_ops and bench_step measure on a GPU, in PyTorch: operations, and training steps of the models that OpenECAD trains.

    torch_gpu.py ops  [--rows T] [--calls N]
    torch_gpu.py step [089b|055b] [--way best|authors] [--micro-batch B] [--tokens T] [--steps N] [--blocks]

ops: flash attention (scaled_dot_product_attention), products, norms with the residual's addition, SwiGLU (these compiled), AdamW
(fused), each under the name and pass that bench_ops has for it.

step, best: what a PyTorch user gets at best without kernels of their own. bf16 weights, adapters too; layers compiled one by one;
flash attention or cuDNN's, which is the faster on Hopper: both are timed at the start, at the sizes of the tower and of the decoder,
and the faster is kept for each ("attention" in the result; "attention_tried" holds the times); the vision tower without autograd;
nothing recomputed; logits on the rows that have labels only; fused AdamW on the bf16 adapters (their moments bf16 too, which is less
work than our f32).

step, authors: the settings of the OpenECADv2 scripts on TinyLLaVA Factory (transformers 4.39, PEFT 0.10, DeepSpeed ZeRO-2 on one
GPU). fp16 with a loss scale and f32 master weights; micro-batch 2, two micro-batches a step; every layer recomputed in backward
(reentrant checkpoints); adapters on the tower's linears too, which get no gradient there; softmax of the tower in f32; the decoder's
attention with a mask instead of a flag, which flash attention cannot do; logits and loss on all rows in fp16; AdamW not fused. Not
compiled.

Adapters are as PEFT computes them: y = W x + B (A dropout(x)) alpha / r. PEFT and transformers themselves are not needed. Weights and
data are random; the sizes are those of bench_step. One JSON line a result; --blocks waits for a line on standard input before each
round of steps, as bench_step does. Where memory runs out the micro-batch is halved, and said."""

import argparse
import contextlib
import functools
import json
import statistics
import sys
import time
import warnings

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from openelm import FFN, Q_HEADS

VOCAB, WIDTH, HEAD = 32000, 1536, 64
TOWERS = {  # layers used, width, heads, mlp, image, patch, whether the first patch is dropped, activation
    "089b": (26, 1152, 16, 4304, 384, 14, True, functools.partial(F.gelu, approximate="tanh")),
    "055b": (11, 768, 12, 3072, 224, 16, False, lambda x: x * torch.sigmoid(1.702 * x)),
}
LABELLED = 1250 / 1320  # share of a sample's text rows that have labels

DEVICE = "cuda"


def say(**fields):
    print(json.dumps(fields), flush=True)


class Timer:
    """Seconds between marks: events on a GPU, so that nothing waits between steps."""

    def __init__(self):
        self.marks = []

    def mark(self):
        if DEVICE == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def seconds(self):
        pairs = list(zip(self.marks, self.marks[1:]))
        if DEVICE == "cuda":
            torch.cuda.synchronize()
            return [a.elapsed_time(b) / 1e3 for a, b in pairs]
        return [b - a for a, b in pairs]


# ---- operations ----


def time_of(call, calls):
    for _ in range(3):
        call()
    timer = Timer()
    for _ in range(calls):
        timer.mark()
        call()
    timer.mark()
    return statistics.median(timer.seconds())


def random(*shape, dtype=torch.bfloat16, grad=False):
    return torch.randn(*shape, device=DEVICE, dtype=dtype).requires_grad_(grad)


BACKENDS = {  # of scaled_dot_product_attention; which of them work is found by trying
    "flash": "FLASH_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "math": "MATH",
}


def attention_by(kernel):
    """The context in which attention is computed by that kernel and no other; by any where it is None."""
    return sdpa_kernel(getattr(SDPBackend, BACKENDS[kernel])) if kernel else contextlib.nullcontext()


def try_attention(kernel, batch, rows, hq, hk, d, causal, mask, backward, calls):
    """Seconds of one call as the models make it, forward and, if asked, backward; RuntimeError where the kernel cannot do it."""
    dtype = torch.bfloat16 if mask is None else mask.dtype
    q, k, v = (random(batch, rows, h, d, dtype=dtype).transpose(1, 2).requires_grad_(backward) for h in (hq, hk, hk))

    def forward():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=hq != hk)

    with attention_by(kernel), torch.set_grad_enabled(backward):
        seconds = time_of(forward, calls)
        if backward:
            out = forward()
            d_out = torch.randn_like(out)
            seconds += time_of(lambda: torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True), calls)
    return seconds


def choose_attention(part, kernels, shapes, calls=5):
    """The fastest of the kernels for a part of the model, None if none of them can; and what was found of each, in ms or as the
    reason. shapes: how often a call occurs, and the arguments of try_attention that follow the kernel's name."""
    found = {}
    for kernel in kernels:
        with warnings.catch_warnings(record=True) as said:  # why a kernel cannot, PyTorch says in warnings
            warnings.simplefilter("always")
            try:
                found[kernel] = round(1e3 * sum(times * try_attention(kernel, *shape, calls) for times, *shape in shapes), 3)
            except torch.OutOfMemoryError:
                raise
            except (AttributeError, RuntimeError) as why:
                reasons = [str(w.message).splitlines()[0] for w in said if kernel in str(w.message).lower()]
                found[kernel] = "; ".join(reasons) or str(why).splitlines()[0]
        print(f"attention of the {part}, {kernel}: {found[kernel]}", file=sys.stderr)
    times = {kernel: ms for kernel, ms in found.items() if isinstance(ms, float)}
    return min(times, key=times.get) if times else None, found


def attention_ops(rows, calls):
    kernels = [("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)]
    for sequences, longest, hq, hk, d, causal in (
        (8, 2048, 24, 6, 64, 1),
        (8, 2048, 12, 3, 64, 1),
        (8, 729, 16, 16, 72, 0),
        (8, 2048, 32, 32, 80, 1),
        (8, 2048, 16, 4, 128, 1),
        (8, 2048, 8, 1, 256, 1),
    ):
        longest = max(1, longest * rows // 16384)
        q = random(sequences, hq, longest, d, grad=True)
        k, v = (random(sequences, hk, longest, d, grad=True) for _ in range(2))
        d_out = random(sequences, hq, longest, d)
        pairs = sequences * (longest * (longest + 1) // 2 if causal else longest * longest)
        flops = 4 * pairs * hq * d
        name = f"attention {sequences} {longest} {hq} {hk} {d} {causal} bf16"
        for kernel, backend in kernels if DEVICE == "cuda" else [("math", SDPBackend.MATH)]:

            def forward():
                with sdpa_kernel(backend):
                    return F.scaled_dot_product_attention(q, k, v, is_causal=bool(causal), enable_gqa=hq != hk)

            try:
                ahead = time_of(forward, calls)
                out = forward()
                back = time_of(lambda: torch.autograd.grad(out, (q, k, v), d_out, retain_graph=True), calls)
            except RuntimeError as why:  # this kernel does not do this head size
                print(f"{name}, {kernel}: {str(why).splitlines()[0]}", file=sys.stderr)
                continue
            for which, seconds, factor in (("forward", ahead, 1), ("backward", back, 2.5), ("both", ahead + back, 3.5)):
                say(peer="torch", case=name, **{"pass": which}, kernel=kernel, seconds=seconds, flops_per_s=factor * flops / seconds)
        del q, k, v, d_out


def product_ops(rows, calls):
    side = rows // 2
    shapes = [(side, side, side)] + [(rows, n, k) for n, k in ((1152, 1536), (1920, 1536), (2304, 1536), (1536, 768), (1536, 1536),
                                                               (7168, 1536), (12288, 1536), (1536, 3584), (1536, 6144))]
    for t, n, k in shapes:
        x, w = random(t, k), random(n, k)
        seconds = time_of(lambda: F.linear(x, w), calls)
        name = "product" if t == side else f"linear {t} {n} {k} 0 0 0 bf16"
        say(peer="torch", case=name, **{"pass": "forward"}, seconds=seconds, flops_per_s=2 * t * n * k / seconds)


def row_ops(rows, calls):
    compiled = torch.compile if DEVICE == "cuda" else lambda f: f

    @compiled
    def add_rms_norm(h, delta, w):
        total = h + delta
        return F.rms_norm(total, (total.shape[-1],), w, 1e-6), total

    @compiled
    def add_layer_norm(h, delta, w, b):
        total = h + delta
        return F.layer_norm(total, (total.shape[-1],), w, b, 1e-6), total

    @compiled
    def swiglu(x):
        gate, up = x.chunk(2, -1)
        return F.silu(gate) * up

    patches = 8 * 729 * rows // 16384
    for name, t, c, function, inputs, traffic, back_traffic in (
        ("rmsnorm {} {} 1 0 0 0 bf16", rows, 1536, add_rms_norm, "hdw", 4, 4),
        ("layernorm {} {} 1 0 0 0 bf16", patches, 1152, add_layer_norm, "hdwb", 4, 4),
        ("glu {} {} 3 0 0 0 bf16", rows, 6144, swiglu, "x", 3, 5),
    ):
        shapes = {"h": (t, c), "d": (t, c), "w": (c,), "b": (c,), "x": (t, 2 * c)}
        operands = [random(*shapes[i], grad=i in "hdx") for i in inputs]
        ahead = time_of(lambda: function(*operands), calls)
        out = function(*operands)
        outs = out if isinstance(out, tuple) else (out,)
        d_outs = [torch.randn_like(o) for o in outs]
        wanted = [o for o in operands if o.requires_grad]
        back = time_of(lambda: torch.autograd.grad(outs, wanted, d_outs, retain_graph=True), calls)
        name = name.format(t, c)
        say(peer="torch", case=name, **{"pass": "forward"}, seconds=ahead, bytes_per_s=2.0 * t * c * traffic / ahead)
        frozen = "backward" if name.startswith("glu") else "frozen"
        say(peer="torch", case=name, **{"pass": frozen}, seconds=back, bytes_per_s=2.0 * t * c * back_traffic / back)

    count = 35072 * rows // 16384
    parameter = nn.Parameter(random(count, 1536, dtype=torch.float32))
    parameter.grad = random(count, 1536, dtype=torch.float32)
    optimizer = torch.optim.AdamW([parameter], lr=1e-6, fused=True)
    seconds = time_of(optimizer.step, calls)
    say(peer="torch", case=f"adamw {count} 1536 0 0 0 0 bf16", **{"pass": "forward"}, seconds=seconds,
        bytes_per_s=28.0 * count * 1536 / seconds)


# ---- models ----


class Linear(nn.Linear):
    """A frozen linear, and an adapter beside it where r > 0."""

    def __init__(self, n_in, n_out, r=0, bias=False, dropout=0.0):
        super().__init__(n_in, n_out, bias=bias)
        self.requires_grad_(False)
        self.r, self.dropout = r, nn.Dropout(dropout)
        if r:
            self.a, self.b = nn.Linear(n_in, r, bias=False), nn.Linear(r, n_out, bias=False)

    def forward(self, x):
        y = super().forward(x)
        return y + self.b(self.a(self.dropout(x))) * 2.0 if self.r else y  # alpha = 2 r


class VisionLayer(nn.Module):
    def __init__(self, width, heads, mlp, activation, eager, r):
        super().__init__()
        self.heads, self.activation, self.eager = heads, activation, eager
        self.n1, self.n2 = (nn.LayerNorm(width, eps=1e-6).requires_grad_(False) for _ in range(2))
        self.q, self.k, self.v, self.out = (Linear(width, width, r, True, 0.05) for _ in range(4))
        self.fc1, self.fc2 = Linear(width, mlp, r, True, 0.05), Linear(mlp, width, r, True, 0.05)

    def forward(self, h):
        b, p, width = h.shape
        x = self.n1(h)
        q, k, v = (f(x).view(b, p, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.eager:
            scores = torch.matmul(q, k.transpose(2, 3)) * q.shape[-1] ** -0.5
            a = torch.matmul(F.softmax(scores, -1, dtype=torch.float32).to(q.dtype), v)
        else:
            a = F.scaled_dot_product_attention(q, k, v)
        h = h + self.out(a.transpose(1, 2).reshape(b, p, width))
        return h + self.fc2(self.activation(self.fc1(self.n2(h))))


class RMSNorm(nn.Module):
    """OpenELM's: rounded before the weight is multiplied."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width), requires_grad=False)

    def forward(self, x):
        f = x.float()
        return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x) * self.weight


def rotate(x, cos, sin):
    f = x.float()
    a, b = f.chunk(2, -1)
    return (f * cos + torch.cat((-b, a), -1) * sin).type_as(x)


class DecoderLayer(nn.Module):
    def __init__(self, index, r, dropout):
        super().__init__()
        self.hq, self.hk = Q_HEADS[index], Q_HEADS[index] // 4
        ffn = FFN[index]
        self.n1, self.n2, self.qn, self.kn = RMSNorm(WIDTH), RMSNorm(WIDTH), RMSNorm(HEAD), RMSNorm(HEAD)
        self.qkv = Linear(WIDTH, (self.hq + 2 * self.hk) * HEAD, r, dropout=dropout)
        self.out = Linear(self.hq * HEAD, WIDTH, r, dropout=dropout)
        self.gu, self.down = Linear(WIDTH, 2 * ffn, r, dropout=dropout), Linear(ffn, WIDTH, r, dropout=dropout)

    def forward(self, h, cos, sin, mask=None):
        b, t, _ = h.shape
        qkv = self.qkv(self.n1(h)).view(b, t, self.hq + 2 * self.hk, HEAD).transpose(1, 2)
        q, k, v = qkv.split((self.hq, self.hk, self.hk), 1)
        q, k = rotate(self.qn(q), cos, sin), rotate(self.kn(k), cos, sin)
        if mask is None:
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            k, v = (x.repeat_interleave(self.hq // self.hk, 1) for x in (k, v))
            a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        h = h + self.out(a.transpose(1, 2).reshape(b, t, -1))
        gate, up = self.gu(self.n2(h)).chunk(2, -1)
        return h + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, args):
        super().__init__()
        layers, width, heads, mlp, size, patch, self.drop, activation = TOWERS[args.model]
        layers = min(layers, args.vision_layers or layers)
        self.authors = args.way == "authors"
        self.patch = nn.Conv2d(3, width, patch, patch).requires_grad_(False)
        self.positions = nn.Parameter(torch.zeros((size // patch) ** 2, width), requires_grad=False)
        self.vision = nn.ModuleList(
            VisionLayer(width, heads, mlp, activation, self.authors, args.lora_r if self.authors else 0) for _ in range(layers)
        )
        self.connector = nn.Sequential(nn.Linear(width, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH))
        self.embedding = nn.Embedding(VOCAB, WIDTH).requires_grad_(False)
        self.layers = nn.ModuleList(DecoderLayer(i, args.lora_r, args.dropout) for i in range(args.layers or len(FFN)))
        self.norm = RMSNorm(WIDTH)
        angles = torch.outer(torch.arange(float(args.tokens)), 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD)).repeat(1, 2)
        self.tables = [angles.cos().to(DEVICE), angles.sin().to(DEVICE)]  # f32 whatever the model is
        self.tower_attention = self.decoder_attention = None  # a kernel, or whichever PyTorch takes

    def features(self, pixels):
        h = self.patch((pixels.to(self.positions.dtype) / 255 - 0.5) / 0.5).flatten(2).transpose(1, 2) + self.positions
        for layer in self.vision:
            h = checkpoint(layer, h, use_reentrant=True) if self.authors else layer(h)
        return h[:, 1:] if self.drop else h

    def forward(self, pixels, ids, rows, targets):
        with attention_by(self.tower_attention), torch.set_grad_enabled(self.authors):
            seen = self.features(pixels)
        h = torch.cat((self.connector(seen), self.embedding(ids)), 1)
        mask = None
        if self.authors:
            t = h.shape[1]
            mask = torch.full((t, t), torch.finfo(h.dtype).min, device=h.device, dtype=h.dtype).triu(1)[None, None].expand(len(h), 1, t, t)
        with attention_by(self.decoder_attention):
            for layer in self.layers:
                h = checkpoint(layer, h, *self.tables, mask, use_reentrant=True) if self.authors else layer(h, *self.tables, mask)
        if self.authors:  # all rows; where there is no label the target is -100
            labels = torch.full((h.shape[0] * h.shape[1],), -100, device=h.device).index_copy(0, rows, targets).view(h.shape[:2])
            logits = F.linear(self.norm(h), self.embedding.weight)
            # a row's label is the next row's token: shifted as transformers does
            return F.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), labels[:, :-1].reshape(-1))
        return self.loss(h.flatten(0, 1)[rows], targets)

    def loss(self, h, targets):
        return F.cross_entropy(F.linear(self.norm(h), self.embedding.weight).float(), targets)


def image_rows(model):
    _, _, _, _, size, patch, drop, _ = TOWERS[model]
    return (size // patch) ** 2 - drop


def make_batch(args, samples):
    size, seen = TOWERS[args.model][4], image_rows(args.model)
    text = args.tokens - seen
    first = seen + round((1 - LABELLED) * text)
    generator = torch.Generator().manual_seed(samples)
    pixels = torch.randint(256, (samples, 3, size, size), generator=generator, dtype=torch.uint8)
    ids = torch.randint(VOCAB, (samples, text), generator=generator)
    rows = (torch.arange(samples)[:, None] * args.tokens + torch.arange(first, args.tokens)[None]).flatten()
    targets = torch.randint(VOCAB, (len(rows),), generator=generator)
    return [x.to(DEVICE) for x in (pixels, ids, rows, targets)]


def sample_flops(args):
    """Matrix FLOPs of a sample, counted as in model_flops of ours: vision forward; decoder forward and its input's gradient; adapters
    and connector with their weights' gradients; attention over visible pairs, backward two and a half times forward; logits of label
    rows. Nothing that is recomputed, no adapters that get no gradient. The last decoder layer counts with all its rows, which PyTorch
    computes; ours counts, and computes, only those that labels depend on: 2 to 3 % less."""
    layers, width, _, mlp, size, patch, _, _ = TOWERS[args.model]
    layers = min(layers, args.vision_layers or layers)
    p, seen, t = (size // patch) ** 2, image_rows(args.model), args.tokens
    labels = t - seen - round((1 - LABELLED) * (t - seen))
    total = 2 * p * width * 3 * patch**2 + layers * (2 * p * (4 * width * width + 2 * width * mlp) + 4 * p * p * width)
    total += 2 * seen * (2 * width * WIDTH + 3 * WIDTH * WIDTH)  # nothing below the connector needs a gradient
    for q, f in list(zip(Q_HEADS, FFN))[: args.layers or len(FFN)]:
        for n_in, n_out in ((WIDTH, (q + q // 2) * HEAD), (q * HEAD, WIDTH), (WIDTH, 2 * f), (f, WIDTH)):
            total += 2 * t * (2 * n_in * n_out + 3 * args.lora_r * (n_in + n_out))
        total += 3.5 * 4 * (t * (t + 1) / 2) * q * HEAD
    return total + 2 * 2 * labels * WIDTH * VOCAB


def decoder_shapes(args, samples, mask):
    """The decoder's calls of attention in a step, for choose_attention: layers with as many heads together. With a mask, keys and
    values have been repeated."""
    heads = Q_HEADS[: args.layers or len(FFN)]
    return [(heads.count(q), samples, args.tokens, q, q if mask is not None else q // 4, HEAD, mask is None, mask, True)
            for q in sorted(set(heads))]


def attention_text(tower, decoder):
    return tower if tower == decoder else f"{decoder}, tower {tower}"


class Best:
    def __init__(self, args, samples):
        kernels = ("flash", "cudnn") if DEVICE == "cuda" else ("flash", "math")
        layers, width, heads, _, size, patch, _, _ = TOWERS[args.model]
        patches = (size // patch) ** 2
        tower, of_tower = choose_attention("tower", kernels, [(args.vision_layers or layers, samples, patches, heads, heads,
                                                               width // heads, False, None, False)])
        decoder, of_decoder = choose_attention("decoder", kernels, decoder_shapes(args, samples, None))
        self.attention = attention_text(tower or "PyTorch's choice", decoder or "PyTorch's choice")
        self.attention_tried = {"tower": of_tower, "decoder": of_decoder}
        self.model = build(args, torch.bfloat16)
        self.model.tower_attention, self.model.decoder_attention = tower, decoder
        self.optimizer = torch.optim.AdamW(trained(self.model), lr=1e-6, fused=DEVICE == "cuda")
        if args.compile:
            torch._dynamo.config.recompile_limit = 64  # each decoder layer has its own sizes
            for layer in [*self.model.vision, *self.model.layers]:
                layer.compile()
            self.model.loss = torch.compile(self.model.loss)

    def step(self, batch):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.model(*batch)
        loss.backward()
        self.optimizer.step()
        return loss


class Authors:
    """DeepSpeed's part is written out: loss scale, f32 master weights, two micro-batches a step."""

    MICRO_BATCHES, SCALE = 2, 1024.0

    def __init__(self, args, samples):
        # A mask is what flash attention cannot do, and cuDNN's was not there yet: it is the memory-efficient kernel that they get.
        mask = torch.zeros(args.tokens, args.tokens, device=DEVICE, dtype=torch.float16).expand(samples, 1, -1, -1)
        kernels = ("efficient", "math") if DEVICE == "cuda" else ("math",)
        decoder, found = choose_attention("decoder", kernels, decoder_shapes(args, samples, mask))
        self.attention = attention_text("eager", decoder or "PyTorch's choice")
        self.attention_tried = {"decoder": found}
        self.model = build(args, torch.float16)
        self.model.decoder_attention = decoder
        self.half = trained(self.model)
        self.master = [nn.Parameter(p.detach().float()) for p in self.half]
        self.optimizer = torch.optim.AdamW(self.master, lr=1e-6)

    def step(self, batch):
        with attention_by(self.model.decoder_attention):  # backward computes it again
            for _ in range(self.MICRO_BATCHES):
                loss = self.model(*batch)
                (loss * (self.SCALE / self.MICRO_BATCHES)).backward()
        for master, half in zip(self.master, self.half):
            if half.grad is not None:  # the tower's adapters have none
                master.grad = half.grad.float() / self.SCALE
                half.grad = None
        norm = torch.linalg.vector_norm(torch.stack([m.grad.norm() for m in self.master if m.grad is not None]))
        if torch.isfinite(norm):
            self.optimizer.step()
            with torch.no_grad():
                torch._foreach_copy_(self.half, self.master)
        return loss


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def build(args, dtype):
    torch.manual_seed(1)
    with torch.device(DEVICE):
        model = Model(args)
        for name, p in model.named_parameters():
            if p.dim() > 1:
                nn.init.normal_(p, std=0.02)
    if args.way == "authors":  # enable_input_require_grads: or reentrant checkpoints would give no gradients
        model.embedding.register_forward_hook(lambda module, inputs, out: out.requires_grad_(True))
    return model.to(DEVICE, dtype).train()


def prepare(args):
    """The runner and its batch, warm; with fewer samples where memory runs out."""
    samples = args.micro_batch
    while True:
        try:
            runner = (Best if args.way == "best" else Authors)(args, samples)
            batch = make_batch(args, samples)
            for _ in range(3):
                runner.step(batch)
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            return runner, batch, samples
        except torch.OutOfMemoryError:
            if samples == 1:
                raise
        runner = batch = None
        torch.cuda.empty_cache()
        samples //= 2


def steps(args):
    runner, batch, samples = prepare(args)
    per_step = samples * (Authors.MICRO_BATCHES if args.way == "authors" else 1)
    if args.blocks:
        say(ready=args.model)
    while not args.blocks or sys.stdin.readline():
        timer = Timer()
        for _ in range(args.steps):
            timer.mark()
            loss = runner.step(batch)
        timer.mark()
        typical = statistics.median(timer.seconds())
        rate = per_step / typical
        say(case=args.model, peer="torch", way=args.way, torch=torch.__version__, compiled=args.way == "best" and args.compile,
            attention=runner.attention, attention_tried=runner.attention_tried,
            samples=per_step, micro_batch=samples, longest=args.tokens, lora_r=args.lora_r, dropout=args.dropout, steps=args.steps,
            step_ms=round(1e3 * typical, 3), samples_per_s=round(rate, 2), tokens_per_s=round(rate * args.tokens),
            sample_tflop=round(sample_flops(args) / 1e12, 4), gflops=round(rate * sample_flops(args) / 1e9, 1),
            mfu=round(rate * sample_flops(args) / (args.peak * 1e12), 4), loss=round(float(loss), 4),
            device_mib=torch.cuda.max_memory_allocated() >> 20 if DEVICE == "cuda" else 0)
        if not args.blocks:
            return


def main():
    global DEVICE
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("what", choices=("ops", "step"))
    parser.add_argument("model", nargs="?", choices=tuple(TOWERS), default="089b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--way", choices=("best", "authors"), default="best")
    parser.add_argument("--rows", type=int, default=16384)
    parser.add_argument("--calls", type=int, default=21)
    parser.add_argument("--micro-batch", type=int, help="8; authors: 2")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--lora-r", type=int, default=128)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--layers", type=int, default=0, help="of the decoder; 0: all")
    parser.add_argument("--vision-layers", type=int, default=0)
    parser.add_argument("--peak", type=float, default=989, help="TFLOP/s")
    parser.add_argument("--no-compile", dest="compile", action="store_false")
    parser.add_argument("--blocks", action="store_true")
    args = parser.parse_args()
    DEVICE = args.device
    if DEVICE == "cuda" and not torch.cuda.is_available():
        sys.exit("torch_gpu.py: PyTorch sees no GPU")
    if DEVICE == "cpu":
        args.compile = False
    args.micro_batch = args.micro_batch or (8 if args.way == "best" else 2)
    if args.what == "step":
        steps(args)
        return
    for part in (product_ops, attention_ops, row_ops):
        part(args.rows, args.calls)


if __name__ == "__main__":
    main()
