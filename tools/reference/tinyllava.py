"""TinyLLaVA as the OpenECAD models are built, composed of transformers' own parts (OpenELM: ours):
vision tower, connector, decoder, with the module names of the published checkpoints.

    pixels -> vision tower -> hidden_states[-2] -> [:, 1:] -> Linear, GELU, Linear
           -> in place of the id -200 among the token embeddings -> decoder -> cross entropy

`[:, 1:]` drops CLIP's class token, and of SigLIP, which has none, the top left patch: the released
weights were trained so. `drop_first_patch=False` keeps every patch of SigLIP."""

import json
import pathlib

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from torch import nn
from transformers import (CLIPVisionConfig, CLIPVisionModel, CONFIG_MAPPING, GemmaForCausalLM,
                          LlamaForCausalLM, PhiForCausalLM, PretrainedConfig, PreTrainedModel,
                          SiglipVisionConfig, SiglipVisionModel)

from openelm import OpenELMConfig, OpenELMForCausalLM

IMAGE_ID = -200
IGNORE = -100

TEXT_MODELS = {"openelm": OpenELMForCausalLM, "gemma": GemmaForCausalLM, "phi": PhiForCausalLM,
               "llama": LlamaForCausalLM}
VISION_MODELS = {"siglip_vision_model": (SiglipVisionConfig, SiglipVisionModel),
                 "clip_vision_model": (CLIPVisionConfig, CLIPVisionModel)}
PIXEL_NORMS = {  # mean, standard deviation of the image processors
    "siglip_vision_model": ([0.5] * 3, [0.5] * 3),
    "clip_vision_model": ([0.48145466, 0.4578275, 0.40821073],
                          [0.26862954, 0.26130258, 0.27577711])}


def text_config(values):
    kind = values["model_type"]
    return (OpenELMConfig if kind == "openelm" else CONFIG_MAPPING[kind]).from_dict(values)


def vision_config(values):
    return VISION_MODELS[values["model_type"]][0].from_dict(values)


class TinyLlavaConfig(PretrainedConfig):
    """Serialised by transformers itself, so that a config.json leaves out what the published ones
    leave out: of the nested configs, values that equal both their own class's default and the
    default config's (llama; CLIP of the sizes below)."""
    model_type = "tinyllava"

    def __init__(self, text_config=None, vision_config=None, llm_model_name_or_path="",
                 tokenizer_name_or_path=None, vision_model_name_or_path="",
                 vision_model_name_or_path2="", connector_type=None, ignore_index=IGNORE,
                 image_token_index=IMAGE_ID, pad_token=None, pad_token_id=None,
                 tokenizer_padding_side="right", tokenizer_model_max_length=2048,
                 vision_feature_layer=-2, vision_feature_select_strategy="patch",
                 image_aspect_ratio="square", resampler_hidden_size=None, num_queries=None,
                 num_resampler_layers=None, use_cache=False, cache_dir=None,
                 tokenizer_use_fast=False, tune_type_llm="frozen", tune_type_connector="frozen",
                 tune_type_vision_tower="frozen", tune_vision_tower_from_layer=-1, **kwargs):
        self.text_config = text_config or CONFIG_MAPPING["llama"]()
        self.vision_config = vision_config or CLIPVisionConfig(
            intermediate_size=4096, hidden_size=1024, patch_size=14, image_size=336,
            num_hidden_layers=24, num_attention_heads=16, vocab_size=32000, projection_dim=768)
        self.llm_model_name_or_path = llm_model_name_or_path
        self.tokenizer_name_or_path = tokenizer_name_or_path or llm_model_name_or_path
        self.vision_model_name_or_path = vision_model_name_or_path
        self.vision_model_name_or_path2 = vision_model_name_or_path2
        self.vision_config.model_name_or_path = vision_model_name_or_path
        self.vision_config.model_name_or_path2 = vision_model_name_or_path2
        self.connector_type = connector_type
        self.ignore_index = ignore_index
        self.image_token_index = image_token_index
        self.pad_token = pad_token
        self.tokenizer_padding_side = tokenizer_padding_side
        self.tokenizer_model_max_length = tokenizer_model_max_length
        self.vision_feature_layer = vision_feature_layer
        self.vision_feature_select_strategy = vision_feature_select_strategy
        self.image_aspect_ratio = image_aspect_ratio
        self.resampler_hidden_size = resampler_hidden_size
        self.num_queries = num_queries
        self.num_resampler_layers = num_resampler_layers
        self.use_cache = use_cache
        self.cache_dir = cache_dir
        self.tokenizer_use_fast = tokenizer_use_fast
        self.tune_type_llm = tune_type_llm
        self.tune_type_connector = tune_type_connector
        self.tune_type_vision_tower = tune_type_vision_tower
        self.tune_vision_tower_from_layer = tune_vision_tower_from_layer
        self.hidden_size = self.text_config.hidden_size
        self.vocab_size = self.text_config.vocab_size
        self.vision_hidden_size = self.vision_config.hidden_size
        kwargs = {k: v for k, v in kwargs.items()
                  if k not in ("hidden_size", "vocab_size", "vision_hidden_size")}
        super().__init__(pad_token_id=pad_token_id, **kwargs)


def read_config(folder):
    values = json.loads((pathlib.Path(folder) / "config.json").read_text())
    values["text_config"] = text_config(values["text_config"])
    values["vision_config"] = vision_config(values["vision_config"])
    return TinyLlavaConfig(**values)


class VisionTower(nn.Module):
    def __init__(self, config):
        super().__init__()
        self._vision_tower = VISION_MODELS[config.model_type][1](config)

    def forward(self, pixels, layer):
        return self._vision_tower(pixels, output_hidden_states=True).hidden_states[layer]


class Connector(nn.Module):
    def __init__(self, width_in, width):
        super().__init__()
        self._connector = nn.Sequential(nn.Linear(width_in, width), nn.GELU(),
                                        nn.Linear(width, width))

    def forward(self, x):
        return self._connector(x)


class TinyLlava(PreTrainedModel):
    config_class = TinyLlavaConfig

    def __init__(self, config):
        super().__init__(config)
        # the plain attention, written out: what the tolerances are about
        config.text_config._attn_implementation = "eager"
        self.language_model = TEXT_MODELS[config.text_config.model_type](config.text_config)
        self.vision_tower = VisionTower(config.vision_config)
        self.connector = Connector(config.vision_hidden_size, config.hidden_size)
        self.drop_first_patch = True

    def get_input_embeddings(self):
        return self.language_model.get_input_embeddings()

    def prepare_inputs_for_generation(self, *_, **__):
        raise NotImplementedError("generate_greedily generates; PEFT only asks that this exists")

    @property
    def decoder_layers(self):
        body = getattr(self.language_model, "transformer", None)
        return (self.language_model.model if body is None else body).layers

    @property
    def final_norm(self):
        if hasattr(self.language_model, "transformer"):
            return self.language_model.transformer.norm
        body = self.language_model.model
        return body.norm if hasattr(body, "norm") else body.final_layernorm

    def encode_images(self, pixels):
        seen = self.vision_tower(pixels, self.config.vision_feature_layer)
        return self.connector(seen[:, 1:] if self.drop_first_patch else seen)

    def splice(self, ids, labels, features):
        """One sample: token embeddings with the image's features in place of its id."""
        at = (ids == IMAGE_ID).nonzero().flatten().tolist()
        assert len(at) == 1, f"a sample has one image, not {len(at)}"
        embed = self.get_input_embeddings()
        embeds = torch.cat((embed(ids[:at[0]]), features, embed(ids[at[0] + 1:])))
        masked = torch.full((len(features),), IGNORE)
        labels = torch.cat((labels[:at[0]], masked, labels[at[0] + 1:]))
        limit = self.config.tokenizer_model_max_length
        return embeds[:limit], labels[:limit]

    def forward(self, input_ids, labels, images, **_):
        """input_ids, labels: lists of B vectors of any lengths; images [B, 3, S, S]. The loss is
        the mean over all labels of the B samples. Padding on the right: zero vectors, label -100.
        PEFT passes more arguments, all None."""
        features = self.encode_images(images)
        rows = [self.splice(*sample) for sample in zip(input_ids, labels, features)]
        lengths = torch.tensor([len(embeds) for embeds, _ in rows])
        embeds = nn.utils.rnn.pad_sequence([e for e, _ in rows], batch_first=True)
        spliced = nn.utils.rnn.pad_sequence([l for _, l in rows], batch_first=True,
                                            padding_value=IGNORE)
        mask = torch.arange(embeds.shape[1])[None] < lengths[:, None]
        out = self.language_model(inputs_embeds=embeds, attention_mask=mask.long(), labels=spliced,
                                  use_cache=False)
        out["lengths"] = lengths
        out["tokens"] = (spliced[:, 1:] != IGNORE).sum()
        return out


@torch.no_grad()
def generate_greedily(model, ids, pixels, count):
    """The `count` most likely ids after the prompt `ids`, each by a full pass without a cache, and
    by how much the first logit is over the second at each step."""
    ids, made, gaps = ids.clone(), [], []
    for _ in range(count):
        out = model(input_ids=[ids], labels=[torch.full_like(ids, IGNORE)], images=pixels)
        logits = out.logits[0, -1].float()
        best = logits.topk(2)
        made.append(int(best.indices[0]))
        gaps.append(float(best.values[0] - best.values[1]))
        ids = torch.cat((ids, best.indices[:1]))
    return made, gaps


def normalise(pixels, kind):
    """uint8 values [..., S, S, 3] to the [..., 3, S, S] float32 that the image processor makes."""
    mean, std = (torch.tensor(v) for v in PIXEL_NORMS[kind])
    unit = (pixels.double() * (1 / 255)).float()
    return ((unit - mean) / std).movedim(-1, -3).contiguous()


def read_weights(folder):
    """The tensors of a model folder one by one, from one file or from the shards of an index."""
    folder = pathlib.Path(folder)
    index = folder / "model.safetensors.index.json"
    files = ["model.safetensors"]
    if index.exists():
        files = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    for file in files:
        with safe_open(folder / file, framework="pt") as tensors:
            for name in tensors.keys():
                yield name, tensors.get_tensor(name)


def load_model(folder, dtype=torch.float32):
    """The model of a published folder, every tensor of it used and none missing. Without a dtype
    the weights stay as stored. No memory but the weights' own is needed."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype or default)      # of tables that are computed, as Phi's rotation
    try:
        with init_empty_weights():
            model = TinyLlava(read_config(folder))
    finally:
        torch.set_default_dtype(default)
    for name, value in read_weights(folder):
        module, _, leaf = name.rpartition(".")
        module = model.get_submodule(module)
        assert module._parameters[leaf].shape == value.shape, name
        module._parameters[leaf] = nn.Parameter(value.to(dtype or value.dtype))
    if model.config.text_config.tie_word_embeddings and hasattr(model.language_model, "lm_head"):
        model.language_model.tie_weights()
    missing = [name for name, value in model.named_parameters() if value.is_meta]
    assert not missing, f"{folder} lacks {missing}"
    return model.eval()


def linear_names(model, skip=("connector",)):
    """TinyLLaVA's rule for LoRA's targets: every nn.Linear outside skipped parts and any head."""
    return sorted(name for name, module in model.named_modules()
                  if isinstance(module, nn.Linear)
                  and not any(word in name for word in (*skip, "lm_head", "output_layer", "head")))
