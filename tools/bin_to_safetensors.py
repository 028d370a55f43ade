#!/usr/bin/env python3
"""Converts the pickled .bin files of a model or of a TinyLLaVA run into safetensors beside them,
under the names of the published checkpoints. The trainer itself never opens a pickle.

    pip install torch safetensors
    python3 tools/bin_to_safetensors.py [--force] FOLDER

    FOLDER/language_model/pytorch_model.bin  ->  model.safetensors beside it, language_model.*
    FOLDER/vision_tower/pytorch_model.bin    ->  the same, vision_tower._vision_tower.*
    FOLDER/connector/pytorch_model.bin       ->  the same, connector.*
    FOLDER/pytorch_model.bin                 ->  model.safetensors
    FOLDER/pytorch_model-00001-of-00002.bin  ->  model-00001-of-00002.safetensors, and the index
    FOLDER/adapter_model.bin                 ->  adapter_model.safetensors

Only tensors are read (torch.load(weights_only=True)): a file that holds anything else is refused,
and no code in it runs. Types stay as they are (float16, bfloat16, float32). A head that is the
embedding once more is left out, as published. PEFT's ".base_layer" goes from the names. A file that
is there already is left alone, unless --force."""

import argparse
import json
import os
import pathlib
import pickle
import sys

try:
    import torch
    from safetensors.torch import save_file
except ImportError as missing:
    sys.exit(f"error: {missing.name} is not installed: pip install torch safetensors")

PARTS = ("language_model", "vision_tower", "connector")
FLOATS = (torch.float16, torch.bfloat16, torch.float32)
INDEX = "pytorch_model.bin.index.json"


class Refused(Exception):
    """A sentence for the user: what is wrong with which file, and what to do."""


def published_name(key, part):
    """The name in a published checkpoint of `key` in a part's file (None: the whole model's)."""
    key = key.replace(".base_layer.", ".").removeprefix("base_model.model.")
    if part is None or key.startswith(part + "."):
        return key
    if part == "vision_tower" and not key.startswith("_vision_tower."):
        key = "_vision_tower." + key      # TinyLLaVA saves the tower inside its wrapper
    if part == "connector" and not key.startswith("_connector."):
        key = "_connector." + key
    return f"{part}.{key}"


def read_tensors(path):
    """All tensors of a pickled state dict, without running what else is in the pickle."""
    options = {"map_location": "cpu", "weights_only": True}
    if torch.__version__ >= "2.1":
        options["mmap"] = True            # pages are read as they are written out
    try:
        state = torch.load(str(path), **options)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError) as error:
        if options.pop("mmap", None) is None:
            raise Refused(explain(path, error)) from error
        try:                              # files of torch before 1.6 cannot be mapped
            state = torch.load(str(path), **options)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError) as second:
            raise Refused(explain(path, second)) from second
    if not isinstance(state, dict) or not state:
        raise Refused(f"{path}: no state dict, but {type(state).__name__}; give the file that "
                      "holds the weights")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise Refused(f"{path}: entry {key!r} is no tensor but {type(value).__name__}; give "
                          "the file that holds the weights, not the optimiser's or a whole run's")
    return state


def explain(path, error):
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (f"{path}: not a file of tensors alone, or cut short, so it was not opened "
            f"({line[:160]}). Download it again, or ask its author for safetensors")


def is_same_memory(a, b):
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()


def chosen_tensors(path, part, adapter):
    """Published name -> tensor of what is written, each with memory of its own."""
    state = read_tensors(path)
    chosen = {}
    for key, value in state.items():
        name = key if adapter else published_name(key, part)
        if name.endswith(".position_ids"):        # old CLIP files store this table of 0, 1, 2 ...
            continue
        if "lora_" in name and not adapter:
            raise Refused(f"{path}: holds the adapter's tensor {key}; convert adapter_model.bin "
                          "for those, or merge the adapter first")
        if value.dtype not in FLOATS:
            raise Refused(f"{path}: {key} is {value.dtype}; float16, bfloat16 and float32 can be "
                          "converted")
        if name in chosen:
            raise Refused(f"{path}: two entries are {name}, the second is {key}")
        chosen[name] = value
    for head in [name for name in chosen if name.endswith("lm_head.weight")]:
        if any(other != head and is_same_memory(chosen[head], chosen[other]) for other in chosen):
            del chosen[head]
    seen = set()
    for name, value in chosen.items():
        storage = value.untyped_storage() if hasattr(value, "untyped_storage") else value.storage()
        again = storage.data_ptr() in seen
        seen.add(storage.data_ptr())
        chosen[name] = value.clone() if again or not value.is_contiguous() else value
    return {name: value.contiguous() for name, value in chosen.items()}


def convert_file(source, target, part=None, adapter=False, force=False):
    """Writes `target` whole or not at all; the names and sizes in bytes of its tensors."""
    if target.exists() and not force:
        print(f"{target}: is there already (--force writes it again)")
        return None
    print(f"{source}: reading", flush=True)
    tensors = chosen_tensors(source, part, adapter)
    sizes = {name: value.numel() * value.element_size() for name, value in tensors.items()}
    partial = target.with_name(target.name + ".partial")
    save_file(tensors, str(partial), {"format": "pt"})
    os.replace(partial, target)
    print(f"{target}: {len(sizes)} tensors, {sum(sizes.values()) / 1e6:,.1f} MB", flush=True)
    return sizes


def convert_shards(folder, force):
    """The shards named by an index, one at a time, and then a new index."""
    path = folder / INDEX
    try:
        files = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise Refused(f"{path}: no weight_map of file names; download it again") from error
    where, total = {}, 0
    for i, file in enumerate(files):
        if not isinstance(file, str) or pathlib.PurePath(file).name != file:
            raise Refused(f"{path}: shard {file!r} is not a file's plain name")
        if not (folder / file).is_file():
            raise Refused(f"{folder / file}: named by the index but not there; download it")
        target = f"model-{i + 1:05}-of-{len(files):05}.safetensors"
        sizes = convert_file(folder / file, folder / target, force=force)
        if sizes is None:
            raise Refused(f"{folder}: some shards were converted before; use --force")
        where.update((name, target) for name in sizes)
        total += sum(sizes.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def convert_folder(folder, force):
    """Everything that can be converted in a folder and its parts; how many files there were."""
    part = folder.name if folder.name in PARTS else None
    found = 0
    if (folder / INDEX).is_file():
        convert_shards(folder, force)
        found += 1
    elif (folder / "pytorch_model.bin").is_file():
        convert_file(folder / "pytorch_model.bin", folder / "model.safetensors", part, force=force)
        found += 1
    if (folder / "adapter_model.bin").is_file():
        convert_file(folder / "adapter_model.bin", folder / "adapter_model.safetensors",
                     adapter=True, force=force)
        found += 1
    if part is None:
        found += sum(convert_folder(folder / name, force) for name in PARTS
                     if (folder / name).is_dir())
    return found


def main():
    parser = argparse.ArgumentParser(
        description="Converts .bin files of a model folder into safetensors beside them.")
    parser.add_argument("folder", metavar="FOLDER", type=pathlib.Path)
    parser.add_argument("--force", action="store_true", help="write again what is there")
    args = parser.parse_args()
    try:
        if not args.folder.is_dir():
            raise Refused(f"{args.folder}: not a folder")
        if convert_folder(args.folder.resolve(), args.force) == 0:
            raise Refused(f"{args.folder}: no pytorch_model.bin, {INDEX} or adapter_model.bin in "
                          f"it or in {', '.join(PARTS)}")
    except (Refused, OSError) as error:
        sys.exit(f"bin_to_safetensors: {error}")


if __name__ == "__main__":
    main()
