#!/usr/bin/env python3
"""Loads what `cadvlm export` wrote with PEFT, transformers and safetensors, and prints its loss
on a sample: the proof that others can load it.

    build/reference-env/bin/python tools/reference/check_export.py --sample FILE EXPORT
        --base FOLDER     the model an adapter (--format peft) belongs to; not for --format merged
        --sample FILE     sample0.ids, .labels, .pixels (and sample1 ...) as golden.py writes them
        --loss X          the loss that it should have; if it is further away than --within, exit 1
        --within X        default 1e-4
        --logits FILE     also writes the logits of sample0, [rows, vocabulary], as safetensors

An adapter must have exactly the tensors that PEFT makes from its adapter_config.json, and the
connector in connector/model.safetensors, connector.safetensors or connector/pytorch_model.bin; a
merged folder exactly those of a published one."""

import argparse
import pathlib
import sys

import torch
from peft import PeftModel
from peft.utils.save_and_load import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from golden import MicroBatch
from tinyllava import load_model


def read_samples(path):
    tensors = load_file(path)
    count = sum(name.endswith(".ids") and name.startswith("sample") for name in tensors)
    return [(tensors[f"sample{i}.ids"].long(), tensors[f"sample{i}.labels"].long(),
             tensors[f"sample{i}.pixels"]) for i in range(count)]


def read_connector(folder):
    """The connector beside an adapter under its published names; None if there is none."""
    for file in ("connector/model.safetensors", "connector.safetensors"):
        if (folder / file).is_file():
            return load_file(folder / file)
    pickled = folder / "connector" / "pytorch_model.bin"
    if pickled.is_file():
        state = torch.load(pickled, weights_only=True)
        return {f"connector.{name}": value for name, value in state.items()}
    return None


def load_connector(model, folder):
    state = read_connector(folder)
    if state is None:
        print("connector: none beside the adapter, the base's own is used")
        return
    wanted = {name for name, _ in model.named_parameters() if name.startswith("connector.")}
    if state.keys() != wanted:
        sys.exit(f"connector: has {sorted(state)}, PEFT's model wants {sorted(wanted)}")
    model.load_state_dict(state, strict=False)
    print(f"connector: {len(state)} tensors")


def load_adapter(base, folder):
    """The base with the adapter on it; PEFT itself would pass over keys it does not know."""
    model = load_model(base)
    load_connector(model, folder)
    tuned = PeftModel.from_pretrained(model, folder).eval()
    stored = load_file(folder / "adapter_model.safetensors")
    loaded = get_peft_model_state_dict(tuned)
    if stored.keys() != loaded.keys():
        sys.exit(f"adapter: keys not known to PEFT {sorted(stored.keys() - loaded.keys())[:4]}, "
                 f"not in the file {sorted(loaded.keys() - stored.keys())[:4]}")
    wrong = [key for key in stored if not torch.equal(stored[key].float(), loaded[key].float())]
    if wrong:
        sys.exit(f"adapter: PEFT holds other values than the file for {wrong[:4]}")
    config = tuned.peft_config["default"]
    print(f"adapter: {len(stored)} tensors, r {config.r}, alpha {config.lora_alpha}, dropout "
          f"{config.lora_dropout}, rsLoRA {config.use_rslora}, patterns {config.rank_pattern} "
          f"{config.alpha_pattern}")
    return tuned


def main():
    parser = argparse.ArgumentParser(description="Loads an exported folder and prints its loss.")
    parser.add_argument("export", metavar="EXPORT", type=pathlib.Path)
    parser.add_argument("--sample", required=True)
    parser.add_argument("--base")
    parser.add_argument("--loss", type=float)
    parser.add_argument("--within", type=float, default=1e-4)
    parser.add_argument("--logits")
    args = parser.parse_args()

    if (args.export / "adapter_config.json").is_file():
        if args.base is None:
            parser.error(f"{args.export} is an adapter: name the model it belongs to with --base")
        model = load_adapter(args.base, args.export)
        config = model.get_base_model().config
    else:
        model = load_model(args.export)
        config = model.config
    samples = read_samples(args.sample)
    with torch.no_grad():
        out = MicroBatch(samples, config, torch.float32).run(model)
    loss = float(out.loss)
    print(f"loss {loss:.7f} over {int(out.tokens)} labels of {len(samples)} samples")
    if args.logits:
        save_file({"logits": out.logits[0, :int(out.lengths[0])].contiguous()}, args.logits)
    if args.loss is not None and not abs(loss - args.loss) <= args.within:
        sys.exit(f"loss {loss:.7f} is {abs(loss - args.loss):.2g} from {args.loss:.7f}, more than "
                 f"{args.within:.2g}")


if __name__ == "__main__":
    main()
