#!/usr/bin/env python3
"""Writes tests/golden/models/: a tiny model of every architecture with what Hugging Face
transformers and PEFT compute on it, so that our model is tested against them without Python.

    build/reference-env/bin/python tools/reference/golden.py [ARCH ...]   rewrites the folders
    build/reference-env/bin/python tools/reference/golden.py --precision  instead prints how far
        the same program in float32 is from the files

Each folder ARCH/ is a model as published (float32) and expected.safetensors, of F32 and I32:

    sample0.ids .labels .pixels   one sample: ids with -200 at the image, labels of the same length
                                  (-100: none), the pixels 0..255 [S, S, 3]; and sample1, shorter.
                                  Both are one micro-batch, padded on the right
    vision_out                    hidden_states[-2] of both images, [2, patches (+ class), width]
    features                      after [:, 1:] and the connector, [2, patches, width]
    hidden.0 ... hidden.L         sample0's rows: the first decoder layer's input, then each
                                  layer's output
    final_norm, logits            of sample0
    loss, loss_sum, tokens        mean and sum over the micro-batch's labels, and their number
    full_norm.NAME                the length of that loss's gradient by each tensor it reaches
    lora.KEY                      PEFT's tensors under the keys of adapter_model.safetensors: r 4,
                                  alpha 8, no dropout, every linear of tower and decoder, A as PEFT
                                  draws it, B random
    lora_loss, lora_logits        with these; the logits' rows that choose the answer and one more
    merged_logits                 the same rows after W + 2 B A
    grad.KEY                      of lora_loss, for LoRA and the connector, which trains in full.
                                  The tower's last layer has LoRA but no part in the loss: no grad
    step.loss                     of 20 steps of AdamW (1e-3, 0.9, 0.999, 1e-8, no decay, no
                                  clipping) on the same micro-batch, each before its update
    after20.KEY                   some tensors after them, and after20_loss
    generated, generated_gap      24 ids chosen greedily after sample0's prompt, with the adapter of
                                  lora.*, and by how much each won

Dropout is off in all of it (Phi's residual dropout too). What only one folder has is in VARIANTS.
All is computed in float64, from the float32 weights, and rounded at the end: so the files are the
same bits wherever they are made, and a test's tolerance is the error of our float32 alone."""

import argparse
import contextlib
import json
import pathlib
import shutil

import torch
from peft import LoraConfig, get_peft_model
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from make_model import ARCHS, make_model
from tinyllava import (IGNORE, IMAGE_ID, generate_greedily, linear_names, load_model, normalise,
                       read_config)

ROOT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "golden" / "models"
RANK, ALPHA = 4, 8
STEPS, RATE = 20, 1e-3
GENERATED, GAP = 24, 1e-3
ADAPTER_ARCH = "openecad_0.89b"  # whose adapter is also saved as files, after the 20 steps

# Of a sample: ids before the image, of the rest of the prompt, of the answer.
SAMPLES = [(5, 7, 11), (3, 4, 6)]
SAMPLE_SEED = 7
TOP_ID = 270         # below the special ids of every tiny vocabulary


def write_expected(result, samples, path):
    """As our reader knows it: tensors of F32 and I32, no scalars."""
    tensors = {}
    for i, (ids, labels, pixels) in enumerate(samples):
        result |= {f"sample{i}.ids": ids, f"sample{i}.labels": labels, f"sample{i}.pixels": pixels}
    for name, value in result.items():
        value = value.detach() if value.dim() else value.detach()[None]
        kind = torch.float32 if value.is_floating_point() else torch.int32
        tensors[name] = value.to(kind).contiguous()
    save_file(tensors, path, {"format": "pt"})


def draw_samples(config, seed, layout, top):
    """Ids from 4 to `top` and labels as the templates lay them out; for pixels noise on a slope."""
    draw = torch.Generator().manual_seed(seed)
    text, side = config.text_config, config.vision_config.image_size
    bos, eos = text.bos_token_id, text.eos_token_id
    samples = []
    for before, prompt, answer in layout:
        ids = torch.randint(4, top, (before + 1 + prompt + answer,), generator=draw)
        if text.model_type != "phi":        # whose tokenizer adds no BOS
            ids[0] = bos
        ids[before], ids[-1] = IMAGE_ID, eos
        labels = ids.clone()
        labels[:-answer] = IGNORE
        slope = torch.linspace(0, 200, side)[:, None, None]
        pixels = (slope + torch.randint(0, 56, (side, side, 3), generator=draw)).int()
        samples.append((ids, labels, pixels))
    return samples


@contextlib.contextmanager
def no_float32():
    """transformers computes norms, softmax and rotations in float32 whatever the model's type;
    within this, in float64."""
    kept = torch.Tensor.float, torch.float32
    torch.Tensor.float, torch.float32 = torch.Tensor.double, torch.float64
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.Tensor.float, torch.float32 = kept
        torch.set_default_dtype(torch.float32)


class MicroBatch:
    def __init__(self, samples, config, dtype):
        self.ids = [ids for ids, _, _ in samples]
        self.labels = [labels for _, labels, _ in samples]
        pixels = torch.stack([pixels for _, _, pixels in samples])
        self.pixels = normalise(pixels, config.vision_config.model_type).to(dtype)

    def precision(self):
        return no_float32() if self.pixels.dtype == torch.float64 else contextlib.nullcontext()

    def run(self, model):
        with self.precision():
            return model(input_ids=self.ids, labels=self.labels, images=self.pixels)


def forward_of_base(model, batch):
    """Everything of a pass without LoRA."""
    seen = {}
    hooks = [model.decoder_layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.update({0: (args or list(kwargs.values()))[0]}),
        with_kwargs=True)]
    for i, layer in enumerate(model.decoder_layers):
        hooks.append(layer.register_forward_hook(lambda _, __, out, i=i: seen.update(
            {i + 1: out[0] if isinstance(out, tuple) else out})))
    hooks.append(model.final_norm.register_forward_hook(
        lambda _, __, out: seen.update(final_norm=out)))
    with torch.no_grad(), batch.precision():
        out = batch.run(model)
        vision = model.vision_tower(batch.pixels, model.config.vision_feature_layer)
        features = model.encode_images(batch.pixels)
    for hook in hooks:
        hook.remove()
    rows = int(out.lengths[0])
    result = {"vision_out": vision, "features": features}
    result |= {f"hidden.{i}": seen[i][0, :rows] for i in range(len(model.decoder_layers) + 1)}
    return result | {"final_norm": seen["final_norm"][0, :rows], "logits": out.logits[0, :rows],
                     "loss": out.loss, "loss_sum": out.loss * out.tokens, "tokens": out.tokens}


def add_lora(model, seed, **options):
    """The model under PEFT, with B drawn too, and the connector trained in full."""
    torch.manual_seed(seed)
    settings = dict(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                    target_modules=linear_names(model)) | options
    tuned = get_peft_model(model, LoraConfig(**settings))
    for name, value in tuned.named_parameters():
        if "lora_B" in name:
            value.data.copy_(torch.randn(value.shape) * 0.08)    # the same in float64
    model.connector.requires_grad_(True)
    return tuned.eval()


def trained(tuned):
    """The parameters that train, LoRA's by their keys in adapter_model.safetensors."""
    return {name.removeprefix("base_model.model.") if "lora_" not in name
            else name.replace(".default.", "."): value
            for name, value in tuned.named_parameters() if value.requires_grad}


def drop_gradients(tuned):
    for value in tuned.parameters():
        value.grad = None


def gradients(tuned, batch):
    drop_gradients(tuned)
    out = batch.run(tuned)
    out.loss.backward()
    return out, {f"grad.{key}": value.grad.clone() for key, value in trained(tuned).items()
                 if value.grad is not None}


def train(tuned, batch, steps=STEPS, rate=RATE):
    """The losses of some steps, each before its update."""
    drop_gradients(tuned)
    optimiser = torch.optim.AdamW(trained(tuned).values(), lr=rate, betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=0.0)
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = batch.run(tuned).loss
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def norms_of_full(model, batch):
    """How long the gradient of every tensor is if all of them train, without LoRA."""
    model.requires_grad_(True)
    batch.run(model).loss.backward()
    norms = {f"full_norm.{name}": value.grad.norm() for name, value in model.named_parameters()
             if value.grad is not None}
    for value in model.parameters():
        value.grad = None
    return norms


def kept_after(keys):
    """Of the trained tensors those whose values after the steps are kept: the connector, and the
    LoRA of the tower's first layer and of the decoder's last."""
    last = max(int(key.split(".layers.")[1].split(".")[0]) for key in keys
               if "language_model" in key)
    return [key for key in keys if key.startswith("connector")
            or "vision_model.encoder.layers.0." in key
            or "language_model" in key and f".layers.{last}." in key]


def variant_rslora(folder, batch, seed):
    """alpha / sqrt(r) in place of alpha / r, with the same tensors."""
    tuned = add_lora(load_model(folder, batch.pixels.dtype), seed, use_rslora=True)
    with torch.no_grad():
        return {"rslora_loss": batch.run(tuned).loss}


def variant_ranks(folder, batch, seed):
    """One kind of linear with rank 2, by a pattern, and one with alpha 16: all of LoRA's tensors
    whose shape differs, and gradients of both kinds in the second decoder layer."""
    tuned = add_lora(load_model(folder, batch.pixels.dtype), seed,
                     rank_pattern={"self_attn.q_proj": 2}, alpha_pattern={"mlp.up_proj": 16})
    out, grads = gradients(tuned, batch)
    lora = {f"ranks.lora.{key}": value.detach() for key, value in trained(tuned).items()
            if key.startswith("base_model")}
    shown = {f"ranks.{key}": value for key, value in grads.items()
             if "layers.1.self_attn.q_proj" in key or "layers.1.mlp.up_proj" in key}
    return lora | shown | {"ranks_loss": out.loss.detach()}


def variant_all_patches(folder, batch, _):
    """SigLIP's features with its first patch kept, and the loss with one more image token."""
    model = load_model(folder, batch.pixels.dtype)
    model.drop_first_patch = False
    with torch.no_grad(), batch.precision():
        return {"all_patches.features": model.encode_images(batch.pixels),
                "all_patches.loss": batch.run(model).loss}


def variant_short(folder, batch, _):
    """tokenizer_model_max_length 33: sample0's answer is cut after the splice."""
    model = load_model(folder, batch.pixels.dtype)
    model.config.tokenizer_model_max_length = 33
    with torch.no_grad():
        out = batch.run(model)
        return {"short.loss": out.loss, "short.tokens": out.tokens}


VARIANTS = {"openecad_0.89b": [variant_rslora, variant_all_patches, variant_short],
            "tinyllama": [variant_ranks]}


def compute(folder, samples, seed, dtype, arch):
    """All that expected.safetensors holds, in the order of the module's text, and the tuned model
    after the last step."""
    model = load_model(folder, dtype)
    batch = MicroBatch(samples, model.config, dtype)
    result = forward_of_base(model, batch) | norms_of_full(model, batch)

    tuned = add_lora(model, seed)
    result |= {f"lora.{key}": value.clone()
               for key, value in get_peft_model_state_dict(tuned).items()}
    out, grads = gradients(tuned, batch)
    end = int(out.lengths[0])
    answer = slice(end - SAMPLES[0][2] - 1, end)
    result |= {"lora_loss": out.loss.detach(), "lora_logits": out.logits[0, answer].detach()}
    result |= grads
    prompt = batch.ids[0][:-SAMPLES[0][2]]
    with batch.precision():
        made, gaps = generate_greedily(tuned, prompt, batch.pixels[:1], GENERATED)
    result |= {"generated": torch.tensor(made), "generated_gap": torch.tensor(gaps)}

    tuned.merge_adapter()
    with torch.no_grad():
        result["merged_logits"] = batch.run(tuned).logits[0, answer]
    tuned = add_lora(load_model(folder, dtype), seed)    # unmerging would leave rounding behind
    result["step.loss"] = train(tuned, batch)
    after = trained(tuned)
    result |= {f"after20.{key}": after[key].detach().clone() for key in kept_after(after)}
    with torch.no_grad():
        result["after20_loss"] = batch.run(tuned).loss
    for variant in VARIANTS.get(arch, []):
        result |= variant(folder, batch, seed)
    return result, tuned


def find_seed(folder, samples, eos):
    """The first seed of LoRA whose generation has no near tie, does not end, and does not only
    repeat itself."""
    for seed in range(1, 200):
        tuned = add_lora(load_model(folder), seed)
        batch = MicroBatch(samples, tuned.config, torch.float32)
        prompt = batch.ids[0][:-SAMPLES[0][2]]
        made, gaps = generate_greedily(tuned, prompt, batch.pixels[:1], GENERATED)
        if min(gaps) > 10 * GAP and eos not in made and len(set(made)) >= GENERATED // 2:
            return seed
    raise SystemExit(f"{folder}: no seed generates without a near tie")


def save_adapter(tuned, folder, base):
    """PEFT's own save_pretrained, with the targets sorted: PEFT writes a set, in any order."""
    tuned.save_pretrained(folder)
    (folder / "README.md").unlink()
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text()) | {"base_model_name_or_path": base}
    settings["target_modules"].sort()
    path.write_text(json.dumps(settings, indent=2, sort_keys=True))


def write_adapter(folder, tuned):
    """The adapter as PEFT saves it and the connector as TinyLLaVA does; then once more with the
    adapter's name in the keys, as older programs write them. Connectors in safetensors too."""
    adapter = folder / "adapter"
    save_adapter(tuned.float(), adapter, base="..")
    (adapter / "connector").mkdir()
    connector = {name: value.detach().clone()
                 for name, value in tuned.base_model.model.connector.named_parameters()}
    torch.save(connector, adapter / "connector" / "pytorch_model.bin")
    connector = {f"connector.{name}": value for name, value in connector.items()}
    save_file(connector, adapter / "connector" / "model.safetensors", {"format": "pt"})

    other = folder / "adapter_default_keys"
    shutil.copytree(adapter, other)
    (other / "connector" / "pytorch_model.bin").unlink()
    tensors = load_file(adapter / "adapter_model.safetensors")
    save_file({key.replace(".weight", ".default.weight"): value for key, value in tensors.items()},
              other / "adapter_model.safetensors", {"format": "pt"})


def write_golden(arch):
    folder = ROOT / arch
    shutil.rmtree(folder, ignore_errors=True)
    make_model(arch, "tiny", "f32", 1, folder)
    config = read_config(folder)
    samples = draw_samples(config, SAMPLE_SEED, SAMPLES, TOP_ID)
    seed = find_seed(folder, samples, config.text_config.eos_token_id)
    result, tuned = compute(folder, samples, seed, torch.float64, arch)
    result["lora_seed"] = torch.tensor(seed)
    write_expected(result, samples, folder / "expected.safetensors")
    if arch == ADAPTER_ARCH:
        write_adapter(folder, tuned)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{arch}: {size / 1e3:.0f} kB, seed {seed}, loss {float(result['loss']):.6f}, with LoRA "
          f"{float(result['lora_loss']):.6f}, after {STEPS} steps "
          f"{float(result['after20_loss']):.6f}, generated {result['generated'].tolist()}, "
          f"smallest lead {float(result['generated_gap'].min()):.4f}")


def print_precision(archs):
    """By group: the largest value, the largest difference, and the largest difference over its own
    tensor's root mean square (of tensors that are all but zero: a thousandth of the group's)."""
    groups = ["vision_out", "features", "hidden", "final_norm", "logits", "loss", "full_norm",
              "lora_loss", "lora_logits", "merged_logits", "grad", "step.loss", "after20",
              "after20_loss"]
    print(f"{'':30}{'largest':>12}{'max |d|':>12}{'relative':>12}")
    for arch in archs:
        wide = {name: value for name, value in load_file(
            ROOT / arch / "expected.safetensors").items() if not name.startswith("ranks")}
        seed = int(wide.pop("lora_seed"))
        samples = draw_samples(read_config(ROOT / arch), SAMPLE_SEED, SAMPLES, TOP_ID)
        narrow, _ = compute(ROOT / arch, samples, seed, torch.float32, None)
        assert narrow["generated"].tolist() == wide["generated"].tolist()
        for group in groups:
            exact = {name: value.double() for name, value in wide.items()
                     if name == group or name.startswith(group + ".")}
            apart = {name: (narrow[name].double() - value).abs().max()
                     for name, value in exact.items()}
            rms = {name: value.square().mean().sqrt() for name, value in exact.items()}
            floor = max(rms.values()) / 1000
            relative = max(apart[name] / max(rms[name], floor) for name in exact)
            print(f"{arch:15}{group:15}{max(v.abs().max() for v in exact.values()):12.2e}"
                  f"{max(apart.values()):12.2e}{relative:12.2e}")


def main():
    parser = argparse.ArgumentParser(description="Writes or measures the golden models.")
    parser.add_argument("arch", nargs="*", default=list(ARCHS))
    parser.add_argument("--precision", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)     # the same sums on every machine of a kind
    if args.precision:
        print_precision(args.arch)
    else:
        for arch in args.arch:
            write_golden(arch)


if __name__ == "__main__":
    main()
