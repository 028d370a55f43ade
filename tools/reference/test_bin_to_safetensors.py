#!/usr/bin/env python3
"""Tests tools/bin_to_safetensors.py on what TinyLLaVA and transformers would have saved of a golden
model. Run by hand in the reference environment:

    build/reference-env/bin/python tools/reference/test_bin_to_safetensors.py"""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import torch
from safetensors.torch import load_file

from golden import ROOT, add_lora
from tinyllava import load_model, read_weights

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "bin_to_safetensors.py"


def convert(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *map(str, arguments)], text=True,
                          capture_output=True, timeout=120)


def save(state, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)


def without_lora(module, dtype=torch.float32):
    """What TinyLLaVA's LoRA recipe puts into a part's file."""
    return {name: value.detach().to(dtype) for name, value in module.named_parameters()
            if "lora_" not in name}


class RunsCode:
    """Unpickled by plain pickle, this makes the file `path`."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


class BinToSafetensors(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self.scratch.name)

    def tearDown(self):
        self.scratch.cleanup()

    def save_run(self, arch, dtype=torch.float32):
        model = load_model(ROOT / arch)
        add_lora(model, 1)
        for part, module in (("language_model", model.language_model),
                             ("vision_tower", model.vision_tower._vision_tower),
                             ("connector", model.connector)):
            save(without_lora(module, dtype), self.folder / part / "pytorch_model.bin")

    def test_a_run_gives_the_published_names_and_values_of_every_model(self):
        for path in sorted(ROOT.iterdir()):
            with self.subTest(path.name):
                self.save_run(path.name)
                self.assertEqual(convert("--force", self.folder).returncode, 0)
                made = {}
                for part in ("language_model", "vision_tower", "connector"):
                    made |= load_file(self.folder / part / "model.safetensors")
                wanted = dict(read_weights(path))
                self.assertEqual(made.keys(), wanted.keys())
                for name, value in wanted.items():
                    self.assertTrue(torch.equal(made[name], value), name)

    def test_types_stay_as_they_are(self):
        for dtype in (torch.float16, torch.bfloat16):
            self.save_run("tinyllama", dtype)
            convert("--force", self.folder)
            made = load_file(self.folder / "connector" / "model.safetensors")
            self.assertEqual({value.dtype for value in made.values()}, {dtype})

    def test_a_tied_head_is_left_out_and_an_untied_one_kept(self):
        for arch, kept in (("openecad_2.4b", False), ("tinyllama", True)):
            save(load_model(ROOT / arch).state_dict(), self.folder / "pytorch_model.bin")
            self.assertEqual(convert("--force", self.folder).returncode, 0)
            made = load_file(self.folder / "model.safetensors")
            self.assertEqual("language_model.lm_head.weight" in made, kept)
            self.assertEqual(made.keys(), dict(read_weights(ROOT / arch)).keys())

    def test_shards_and_their_index_stay_apart(self):
        state = load_model(ROOT / "tinyllama").state_dict()
        names = sorted(state)
        where = {name: f"pytorch_model-0000{1 + (i > 60)}-of-00002.bin"
                 for i, name in enumerate(names)}
        for file in set(where.values()):
            save({name: state[name] for name in names if where[name] == file}, self.folder / file)
        index = self.folder / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"metadata": {}, "weight_map": where}))
        self.assertEqual(convert(self.folder).returncode, 0)
        made = dict(read_weights(self.folder))
        self.assertTrue(all(torch.equal(made[name], state[name]) for name in names))
        self.assertEqual(len(made), len(names))
        index.write_text(json.dumps({"weight_map": {"a": "../pytorch_model.bin"}}))
        self.assertIn("plain name", convert("--force", self.folder).stderr)

    def test_an_adapter_keeps_its_keys(self):
        adapter = load_file(ROOT / "openecad_0.89b" / "adapter" / "adapter_model.safetensors")
        save(adapter, self.folder / "adapter_model.bin")
        self.assertEqual(convert(self.folder).returncode, 0)
        made = load_file(self.folder / "adapter_model.safetensors")
        self.assertEqual(made.keys(), adapter.keys())

    def test_code_in_a_file_does_not_run(self):
        trap = self.folder / "ran"
        save({"weight": torch.ones(2), "more": RunsCode(trap)}, self.folder / "pytorch_model.bin")
        result = convert(self.folder)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("not a file of tensors alone", result.stderr)
        self.assertFalse(trap.exists())
        self.assertFalse((self.folder / "model.safetensors").exists())

    def test_bad_files_are_refused_in_a_sentence(self):
        path = self.folder / "pytorch_model.bin"
        cases = {"no state dict": lambda: save([torch.ones(2)], path),
                 "is no tensor": lambda: save({"step": 3}, path),
                 "is torch.int64": lambda: save({"weight": torch.ones(2, dtype=torch.int64)}, path),
                 "adapter's tensor": lambda: save({"q.lora_A.weight": torch.ones(2)}, path),
                 "cut short": lambda: path.write_bytes(path.read_bytes()[:200]),
                 "no pytorch_model.bin": path.unlink}
        for words, make in cases.items():
            with self.subTest(words):
                make()
                result = convert(self.folder)
                self.assertEqual(result.returncode, 1)
                self.assertIn(words, result.stderr)
                self.assertNotIn("Traceback", result.stderr)

    def test_what_is_there_is_left_alone(self):
        save({"a.weight": torch.ones(2)}, self.folder / "pytorch_model.bin")
        (self.folder / "model.safetensors").write_text("mine")
        self.assertIn("already", convert(self.folder).stdout)
        self.assertEqual((self.folder / "model.safetensors").read_text(), "mine")


if __name__ == "__main__":
    unittest.main()
