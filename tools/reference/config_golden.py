#!/usr/bin/env python3
"""Writes what transformers' configuration classes write, whole, for the parts that config.json can describe.

    python3 config_golden.py OUT.json     (adds the installed version; run it once for each)

tests/golden/transformers_configs.json was made with 4.39.3, 4.57.1 and 5.24.0.
"""
import json
import sys

import transformers
from transformers import CLIPVisionConfig, GemmaConfig, LlamaConfig, PhiConfig, SiglipVisionConfig

try:
    with open(sys.argv[1]) as file:
        versions = json.load(file)
except FileNotFoundError:
    versions = {}
versions[transformers.__version__] = {
    kind.model_type: kind().to_dict() for kind in (LlamaConfig, GemmaConfig, PhiConfig, CLIPVisionConfig, SiglipVisionConfig)
}
with open(sys.argv[1], "w") as file:
    json.dump(versions, file, indent=0, sort_keys=True)
    file.write("\n")
