"""OpenELM in plain torch, written from the published description of the architecture: transformers
4.39 has no OpenELM of its own. Module names are the tensor names of the published checkpoints.

What is odd about it: every layer has its own number of heads and its own feed-forward width; q, k
and v are one matrix with the rows [all q heads | all k heads | all v heads]; q and k are normalised
per head before the rotation; RMSNorm rounds to the activations' type before it multiplies by the
weight; the output head is the embedding."""

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig
from transformers.modeling_outputs import CausalLMOutput


def make_divisible(value, divisor):
    """The multiple of `divisor` nearest to `value`, one more if that loses over a tenth."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * value else rounded + divisor


def spread(ends, count):
    """`count` multipliers from ends[0] to ends[1], to two places, as the published lists are."""
    low, high = ends
    step = (high - low) / max(count - 1, 1)
    return [round(low + step * i, 2) for i in range(count)]


class OpenELMConfig(PretrainedConfig):
    model_type = "openelm"

    def __init__(self, vocab_size=32000, max_context_length=2048, num_transformer_layers=12,
                 model_dim=2048, head_dim=128, qkv_multipliers=1.0, num_query_heads=None,
                 num_gqa_groups=1, ffn_multipliers=4.0, ffn_with_glu=True, ffn_dim_divisor=256,
                 activation_fn_name="swish", normalization_layer_name="rms_norm",
                 normalize_qk_projections=False, share_input_output_layers=False,
                 rope_freq_constant=10000, rope_max_length=4096, initializer_range=0.02,
                 use_cache=True, bos_token_id=1, eos_token_id=2, **kwargs):
        layers = num_transformer_layers
        self.vocab_size = vocab_size
        self.max_context_length = max_context_length
        self.num_transformer_layers = layers
        self.model_dim = model_dim
        self.head_dim = head_dim
        self.qkv_multipliers = qkv_multipliers
        self.num_gqa_groups = num_gqa_groups
        self.ffn_with_glu = ffn_with_glu
        self.ffn_dim_divisor = ffn_dim_divisor
        self.activation_fn_name = activation_fn_name
        self.normalization_layer_name = normalization_layer_name
        self.normalize_qk_projections = normalize_qk_projections
        self.share_input_output_layers = share_input_output_layers
        self.rope_freq_constant = rope_freq_constant
        self.rope_max_length = rope_max_length
        self.initializer_range = initializer_range
        self.use_cache = use_cache

        if isinstance(qkv_multipliers, (int, float)):
            qkv_multipliers = (qkv_multipliers, qkv_multipliers)
        if isinstance(ffn_multipliers, (int, float)):
            ffn_multipliers = (ffn_multipliers, ffn_multipliers)
        # apple's own file gives the two ends, a saved one the list of all layers
        if len(ffn_multipliers) == 2 != layers:
            ffn_multipliers = spread(ffn_multipliers, layers)
        self.ffn_multipliers = list(ffn_multipliers)
        self.num_query_heads = num_query_heads or [
            make_divisible(model_dim * m, head_dim * num_gqa_groups) // head_dim
            for m in spread(qkv_multipliers, layers)]
        self.num_kv_heads = [q // num_gqa_groups for q in self.num_query_heads]
        super().__init__(bos_token_id=bos_token_id, eos_token_id=eos_token_id, **kwargs)

    @property
    def hidden_size(self):
        return self.model_dim

    def ffn_width(self, layer):
        return make_divisible(self.ffn_multipliers[layer] * self.model_dim, self.ffn_dim_divisor)


class OpenELMRMSNorm(nn.Module):
    def __init__(self, width, eps=1e-6):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        wide = x.float()
        normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return normed.type_as(x) * self.weight


def rotate(x, theta):
    """RoPE over the whole head in float32, halves paired (i, i + d/2). x: [B, H, T, d]."""
    tokens, head = x.shape[-2:]
    frequency = theta ** -(torch.arange(0, head, 2).float() / head)
    angle = torch.outer(torch.arange(tokens).float(), frequency)
    cos, sin = angle.cos(), angle.sin()
    low, high = x.float().chunk(2, dim=-1)
    return torch.cat((low * cos - high * sin, high * cos + low * sin), dim=-1).type_as(x)


class OpenELMAttention(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.heads_q = config.num_query_heads[layer]
        self.heads_kv = config.num_kv_heads[layer]
        self.head = config.head_dim
        self.theta = config.rope_freq_constant
        rows = (self.heads_q + 2 * self.heads_kv) * self.head
        self.qkv_proj = nn.Linear(config.model_dim, rows, bias=False)
        self.q_norm = OpenELMRMSNorm(self.head)
        self.k_norm = OpenELMRMSNorm(self.head)
        self.out_proj = nn.Linear(self.heads_q * self.head, config.model_dim, bias=False)

    def forward(self, x, mask):
        batch, tokens, _ = x.shape
        heads = [self.heads_q, self.heads_kv, self.heads_kv]
        qkv = self.qkv_proj(x).view(batch, tokens, sum(heads), self.head).transpose(1, 2)
        q, k, v = qkv.split(heads, dim=1)
        q = rotate(self.q_norm(q), self.theta)
        k = rotate(self.k_norm(k), self.theta)
        shared = self.heads_q // self.heads_kv      # query head h reads kv head h / shared
        k = k.repeat_interleave(shared, dim=1)
        v = v.repeat_interleave(shared, dim=1)
        out = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(out.transpose(1, 2).reshape(batch, tokens, -1))


class OpenELMFeedForward(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        width = config.ffn_width(layer)
        self.proj_1 = nn.Linear(config.model_dim, 2 * width, bias=False)
        self.proj_2 = nn.Linear(width, config.model_dim, bias=False)

    def forward(self, x):
        gate, up = self.proj_1(x).chunk(2, dim=-1)
        return self.proj_2(functional.silu(gate) * up)


class OpenELMLayer(nn.Module):
    def __init__(self, config, layer):
        super().__init__()
        self.attn = OpenELMAttention(config, layer)
        self.ffn = OpenELMFeedForward(config, layer)
        self.ffn_norm = OpenELMRMSNorm(config.model_dim)
        self.attn_norm = OpenELMRMSNorm(config.model_dim)

    def forward(self, x, mask):
        x = x + self.attn(self.attn_norm(x), mask)
        return x + self.ffn(self.ffn_norm(x))


class OpenELMModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.token_embeddings = nn.Embedding(config.vocab_size, config.model_dim)
        self.layers = nn.ModuleList(
            OpenELMLayer(config, i) for i in range(config.num_transformer_layers))
        self.norm = OpenELMRMSNorm(config.model_dim)

    def forward(self, x, attention_mask):
        tokens = x.shape[1]
        mask = torch.full((tokens, tokens), torch.finfo(x.dtype).min, dtype=x.dtype).triu(1)
        if attention_mask is not None:
            padding = torch.zeros_like(attention_mask, dtype=x.dtype)
            padding = padding.masked_fill(~attention_mask.bool(), torch.finfo(x.dtype).min)
            mask = torch.minimum(mask, padding[:, None, None, :])
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class OpenELMForCausalLM(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.transformer = OpenELMModel(config)

    def get_input_embeddings(self):
        return self.transformer.token_embeddings

    def forward(self, inputs_embeds, attention_mask=None, labels=None, **_):
        hidden = self.transformer(inputs_embeds, attention_mask)
        head = self.transformer.token_embeddings.weight.to(hidden.dtype)
        logits = functional.linear(hidden, head)
        loss = None
        if labels is not None:
            loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutput(loss=loss, logits=logits)
