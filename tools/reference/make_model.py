#!/usr/bin/env python3
"""Writes a model folder as the OpenECAD models are published (config.json, safetensors, tokenizer),
with random weights: of a few thousand parameters for the tests, or at full size.

    build/reference-env/bin/python tools/reference/make_model.py --arch openecad_0.89b OUT
        --size tiny|full      default full
        --dtype f16|bf16|f32  of the weights; default f16, as published
        --seed N              a tensor's values depend on its name, its shape and this alone

The names and shapes come from the model itself, built without memory (torch's meta device); the
values are drawn and written piece by piece, so the largest model needs no more than a few hundred
MB. The tokenizer is a small one trained here on a few lines of CAD code, with the options of the
real one; its ids stay below the model's vocabulary."""

import argparse
import hashlib
import json
import math
import pathlib
import struct

import numpy
import torch

from small_tokenizers import write_tokenizer
from tinyllava import TinyLlava, TinyLlavaConfig, text_config, vision_config

DTYPES = {"f32": (torch.float32, "F32"), "f16": (torch.float16, "F16"),
          "bf16": (torch.bfloat16, "BF16")}
PIECE = 1 << 24          # values drawn at a time
SHARD_BYTES = 5 * 10**9  # transformers' default; "5GB" is decimal

SIGLIP = dict(model_type="siglip_vision_model", hidden_size=1152, intermediate_size=4304,
              num_hidden_layers=27, num_attention_heads=16, image_size=384, patch_size=14)
CLIP = dict(model_type="clip_vision_model", hidden_size=768, intermediate_size=3072,
            num_hidden_layers=12, num_attention_heads=12, image_size=224, patch_size=16)
OPENELM = dict(
    model_type="openelm", architectures=["OpenELMForCausalLM"],
    auto_map={"AutoConfig": "apple/OpenELM-450M-Instruct--configuration_openelm.OpenELMConfig",
              "AutoModelForCausalLM":
                  "apple/OpenELM-450M-Instruct--modeling_openelm.OpenELMForCausalLM"},
    num_transformer_layers=20, model_dim=1536, head_dim=64, num_gqa_groups=4,
    qkv_multipliers=[0.5, 1.0], ffn_multipliers=[0.5, 4.0], ffn_dim_divisor=256,
    normalize_qk_projections=True, share_input_output_layers=True, tie_word_embeddings=True,
    vocab_size=32000)
GEMMA = dict(
    model_type="gemma", architectures=["GemmaForCausalLM"], hidden_size=2048,
    intermediate_size=16384, num_hidden_layers=18, num_attention_heads=8, num_key_value_heads=1,
    head_dim=256, hidden_act="gelu", hidden_activation=None, vocab_size=256000)
PHI = dict(
    model_type="phi", architectures=["PhiForCausalLM"], hidden_size=2560, intermediate_size=10240,
    num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32,
    partial_rotary_factor=0.4, resid_pdrop=0.1, bos_token_id=50256, eos_token_id=50256,
    vocab_size=51200)
LLAMA = dict(
    model_type="llama", architectures=["LlamaForCausalLM"], hidden_size=2048,
    intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4,
    rms_norm_eps=1e-5, vocab_size=32000)

# Tiny towers: SigLIP's image of 30 pixels leaves 2 beside its 4 x 4 patches, as 384 leaves 6.
TINY = {
    "siglip_vision_model": dict(hidden_size=36, intermediate_size=28, num_hidden_layers=3,
                                num_attention_heads=3, image_size=30, patch_size=7),
    "clip_vision_model": dict(hidden_size=32, intermediate_size=40, num_hidden_layers=3,
                              num_attention_heads=2, image_size=28, patch_size=7),
    # 2, 4, 4 query heads; 32, 64, 96 wide
    "openelm": dict(num_transformer_layers=3, model_dim=48, head_dim=16, num_gqa_groups=2,
                    ffn_multipliers=[0.5, 1.25, 2.0], ffn_dim_divisor=16, vocab_size=320),
    # heads x head size is 64, not the width
    "gemma": dict(hidden_size=48, intermediate_size=56, num_hidden_layers=3, head_dim=16,
                  num_attention_heads=4, vocab_size=320),
    # heads of 20, of which 8 turn
    "phi": dict(hidden_size=40, intermediate_size=72, num_hidden_layers=3, num_attention_heads=2,
                num_key_value_heads=2, bos_token_id=273, eos_token_id=273, vocab_size=320),
    "llama": dict(hidden_size=48, intermediate_size=40, num_hidden_layers=3,
                  num_attention_heads=4, num_key_value_heads=2, vocab_size=320),
}

ARCHS = {
    "openecad_0.55b": dict(text=OPENELM, vision=CLIP, llm="apple/OpenELM-450M-Instruct",
                           tower="openai/clip-vit-base-patch16"),
    "openecad_0.89b": dict(text=OPENELM, vision=SIGLIP, llm="apple/OpenELM-450M-Instruct"),
    "openecad_2.4b": dict(text=GEMMA, vision=SIGLIP, llm="google/gemma-2b-it"),
    "openecad_3.1b": dict(text=PHI, vision=SIGLIP, llm="microsoft/phi-2",
                          tokenizer_model_max_length=3072, pad_token="<|endoftext|>",
                          tiny_shard=150_000),
    "tinyllama": dict(text=LLAMA, vision=SIGLIP, llm="TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
}


def make_config(arch, size, dtype):
    parts = ARCHS[arch]
    text, vision = dict(parts["text"]), dict(parts["vision"])
    if size == "tiny":
        text.update(TINY[text["model_type"]])
        vision.update(TINY[vision["model_type"]])
    kind = str(DTYPES[dtype][0]).removeprefix("torch.")
    text.update(_name_or_path=parts["llm"], torch_dtype=kind)
    pad = parts.get("pad_token", "<unk>")
    config = TinyLlavaConfig(
        text_config(text), vision_config(vision), llm_model_name_or_path=parts["llm"],
        tokenizer_name_or_path="meta-llama/Llama-2-7b-hf" if "OpenELM" in parts["llm"] else None,
        vision_model_name_or_path=parts.get("tower", "google/siglip-so400m-patch14-384"),
        connector_type="mlp2x_gelu", pad_token=pad,
        pad_token_id=text["eos_token_id"] if text["model_type"] == "phi" else
        3 if text["model_type"] == "gemma" else 0,
        tokenizer_model_max_length=parts.get("tokenizer_model_max_length", 2048),
        resampler_hidden_size=768, num_queries=128, num_resampler_layers=3, use_cache=True,
        tune_type_llm="full", tune_type_connector="full", tune_vision_tower_from_layer=0,
        torch_dtype=kind, architectures=["TinyLlavaForConditionalGeneration"])
    return config


def tensor_shapes(config):
    """Name and shape of every stored tensor, in the module's order. A tied head is not stored."""
    with torch.device("meta"):
        state = TinyLlava(config).state_dict()
    if config.text_config.tie_word_embeddings:
        state.pop("language_model.lm_head.weight", None)
    return {name: tuple(value.shape) for name, value in state.items()}


def scale_of(name, shape, config, size):
    """Mean and standard deviation that a tensor's values are drawn with. Tiny models get larger
    ones, so that every layer changes what passes through it and no slip of a formula is lost."""
    tiny = size == "tiny"
    module = name.split(".")[-2]
    if "norm" in module and name.endswith("weight"):
        around_zero = config.text_config.model_type == "gemma" and name.startswith("language_model")
        return (0.0 if around_zero else 1.0), 0.1
    if len(shape) == 1 and name.endswith("bias"):
        return 0.0, 0.1 if tiny else 0.01
    if not tiny:
        return 0.0, 0.02
    if "embed" in name and "patch" not in name or name.endswith("probe"):
        return 0.0, 0.25 if config.text_config.model_type != "gemma" else 0.1
    gain = 1.6 if name.startswith("language_model") else 1.0    # so that what it says varies
    return 0.0, gain * math.prod(shape[1:]) ** -0.5


def values_of(name, shape, config, size, seed):
    """The values of one tensor, float32, PIECE at a time."""
    key = hashlib.sha256(f"{seed}:{name}:{shape}".encode()).digest()[:16]
    draw = numpy.random.Generator(numpy.random.Philox(key=int.from_bytes(key, "little")))
    mean, deviation = scale_of(name, shape, config, size)
    left = math.prod(shape)
    while left:
        count = min(left, PIECE)
        left -= count
        yield draw.standard_normal(count, dtype=numpy.float32) * numpy.float32(deviation) + \
            numpy.float32(mean)


def bytes_of(values, dtype):
    rounded = torch.from_numpy(values).to(DTYPES[dtype][0])
    return (rounded if dtype == "f32" else rounded.view(torch.int16)).numpy().tobytes()


def write_safetensors(path, names, shapes, config, size, dtype, seed):
    width = 4 if dtype == "f32" else 2
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        begin, end = end, end + math.prod(shapes[name]) * width
        header[name] = {"dtype": DTYPES[dtype][1], "shape": list(shapes[name]),
                        "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            for values in values_of(name, shapes[name], config, size, seed):
                file.write(bytes_of(values, dtype))


def split_in_shards(shapes, dtype, limit):
    """Lists of names, filled in the module's order up to `limit` bytes, as transformers does it."""
    width = 4 if dtype == "f32" else 2
    shards, filled = [[]], 0
    for name, shape in shapes.items():
        bytes_ = math.prod(shape) * width
        if shards[-1] and filled + bytes_ > limit:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += bytes_
    return shards


def write_weights(out, config, size, dtype, seed, limit):
    shapes = tensor_shapes(config)
    shards = split_in_shards(shapes, dtype, limit)
    if len(shards) == 1:
        write_safetensors(out / "model.safetensors", sorted(shapes), shapes, config, size, dtype,
                          seed)
        return shapes
    where = {}
    for i, names in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        write_safetensors(out / file, sorted(names), shapes, config, size, dtype, seed)
        where.update((name, file) for name in names)
    total = sum(math.prod(shape) for shape in shapes.values()) * (4 if dtype == "f32" else 2)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    return shapes


def make_model(arch, size, dtype, seed, out):
    """Writes the folder `out`; the count of its parameters."""
    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    config = make_config(arch, size, dtype)
    (out / "config.json").write_text(config.to_json_string())
    text = config.text_config
    generation = {"_from_model_config": True, "bos_token_id": text.bos_token_id,
                  "eos_token_id": text.eos_token_id, "transformers_version": "4.39.3",
                  "use_cache": False}
    (out / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    write_tokenizer(text.model_type, out, config.tokenizer_model_max_length)
    limit = ARCHS[arch].get("tiny_shard", SHARD_BYTES) if size == "tiny" else SHARD_BYTES
    shapes = write_weights(out, config, size, dtype, seed, limit)
    return sum(math.prod(shape) for shape in shapes.values())


def main():
    parser = argparse.ArgumentParser(description="Writes a model folder with random weights.")
    parser.add_argument("--arch", choices=ARCHS, required=True)
    parser.add_argument("--size", choices=("tiny", "full"), default="full")
    parser.add_argument("--dtype", choices=DTYPES, default="f16")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("out", metavar="OUT")
    args = parser.parse_args()
    count = make_model(args.arch, args.size, args.dtype, args.seed, args.out)
    print(f"{args.out}: {args.arch}, {count:,} parameters in {args.dtype}")


if __name__ == "__main__":
    main()
