#!/usr/bin/env python3
"""What transformers and PEFT compute on a model folder of full size, for one comparison by hand:

    build/reference-env/bin/python tools/reference/full_check.py FOLDER OUT
        --text N       ids beside the image's, default 100, of which a third is the answer
        --rank N       of LoRA on every linear of tower and decoder, default 8; alpha is twice that
        --steps N      also that many steps of AdamW, rate 1e-4 (default 0)
        --generate N   also that many ids, chosen greedily (default 0)
        --bf16         compute in bfloat16 too; else in float32, whatever the weights are stored in

OUT/adapter/ holds the adapter (B is random) as PEFT saves it, to be loaded with FOLDER, and
OUT/expected.safetensors, with the names of golden.py: sample0.*, vision_out and features and
hidden.i and final_norm (every 29th row), logits (the last 4 rows), loss, lora_loss, lora_logits,
grad.KEY of every tensor that trains, step.loss, after.KEY, generated. In float32 a linear's weight
is widened only while it is used, and layers are computed again in the backward pass."""

import argparse
import ctypes
import pathlib
import resource
import time
import types

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

import golden
from tinyllava import generate_greedily, load_model

EVERY = 29     # of hidden states every so many rows are kept
LAST = 4       # of the logits the last so many


def wide_linear(self, x):
    return functional.linear(x, self.weight.to(x.dtype),
                             None if self.bias is None else self.bias.to(x.dtype))


def wide_embedding(self, ids):
    return functional.embedding(ids, self.weight).float()


def compute_in_float32(model):
    """Leaves the large weights as they are stored and widens them where they are used."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.startswith("language_model"):
            module.forward = types.MethodType(wide_embedding, module)
        elif isinstance(module, nn.Linear) and (".layers." in name or name.endswith("lm_head")):
            module.forward = types.MethodType(wide_linear, module)
        else:
            for value in module.parameters(recurse=False):
                value.data = value.data.float()


def give_back_memory():
    """Has glibc return every freed block over a megabyte at once. It would keep those below 32 MB,
    the size of many a widened weight: 3.1B would need 16.6 GB and not 8.2. It costs no time."""
    ctypes.CDLL(None).mallopt(ctypes.c_int(-3), ctypes.c_int(1 << 20))    # M_MMAP_THRESHOLD


def compute_again(layer):
    """Keeps of a layer only its input for the backward pass."""
    forward = layer.forward
    layer.forward = lambda *args, **kwargs: checkpoint(forward, *args, use_reentrant=False,
                                                       **kwargs)


def prepare(folder, bf16):
    model = load_model(folder, torch.bfloat16 if bf16 else None)
    if not bf16:
        compute_in_float32(model)
    tower = model.vision_tower._vision_tower.vision_model
    for layer in [*model.decoder_layers, *tower.encoder.layers]:
        compute_again(layer)
    return model.requires_grad_(False)


def add_lora(model, rank, bf16):
    tuned = golden.add_lora(model, seed=1, r=rank, lora_alpha=2 * rank)
    if not bf16:
        for name, value in tuned.named_parameters():
            if "lora_" in name:
                value.data = value.data.float()
    return tuned


def thinned(result):
    rows = {"vision_out": 1, "features": 1, "final_norm": 0, "hidden": 0}    # the rows' dimension
    for name, value in result.items():
        at = rows.get(name.split(".")[0])
        if at is not None:
            value = value[:, ::EVERY] if at else value[::EVERY]
        yield name, value[-LAST:].clone() if name == "logits" else value.clone()


class Stopwatch:
    def __init__(self):
        self.start = time.monotonic()

    def tell(self, what):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{time.monotonic() - self.start:7.1f} s, peak {peak:5.2f} GB: {what}", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Computes what a full-size model should give.")
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("out", metavar="OUT", type=pathlib.Path)
    parser.add_argument("--text", type=int, default=100)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--generate", type=int, default=0)
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    if args.bf16 and args.steps:
        parser.error("--steps needs float32: bfloat16 weights round AdamW's steps away")

    give_back_memory()
    watch = Stopwatch()
    model = prepare(args.folder, args.bf16)
    watch.tell("weights loaded")
    answer = args.text // 3
    layout = [(args.text // 3, args.text - 1 - 2 * (args.text // 3), answer)]
    samples = golden.draw_samples(model.config, 7, layout, model.config.vocab_size)
    batch = golden.MicroBatch(samples, model.config,
                              torch.bfloat16 if args.bf16 else torch.float32)
    result = dict(thinned(golden.forward_of_base(model, batch)))
    watch.tell(f"forward, loss {float(result['loss']):.6f}")

    tuned = add_lora(model, args.rank, args.bf16)
    args.out.mkdir(parents=True, exist_ok=True)
    golden.save_adapter(tuned, args.out / "adapter", base=args.folder)
    out, grads = golden.gradients(tuned, batch)
    result |= grads | {"lora_loss": out.loss.detach(),
                       "lora_logits": out.logits[0, -LAST:].detach().clone()}
    del out
    watch.tell(f"backward with LoRA, loss {float(result['lora_loss']):.6f}")
    if args.generate:
        made, gaps = generate_greedily(tuned, batch.ids[0][:-answer], batch.pixels, args.generate)
        result |= {"generated": torch.tensor(made), "generated_gap": torch.tensor(gaps)}
        watch.tell(f"generated {made}, smallest lead {min(gaps):.5f}")
    if args.steps:
        result["step.loss"] = golden.train(tuned, batch, args.steps, rate=1e-4)
        result |= {f"after.{key}": value.detach()
                   for key, value in golden.trained(tuned).items()}
        watch.tell(f"{args.steps} steps, losses {result['step.loss'].tolist()}")
    golden.write_expected(result, samples, args.out / "expected.safetensors")
    watch.tell(f"{args.out / 'expected.safetensors'} written")


if __name__ == "__main__":
    main()
