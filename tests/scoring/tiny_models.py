"""Tiny random models of many architectures, and a byte-level tokenizer of 259 entries, for tests without downloads."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.vocabulary import byte_letters

COMMON = {
    "vocab_size": 259,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ABSENT = "absent"  # a setting of COMMON that this architecture has no place for
GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 512, "n_inner": 48}
# name -> (model type, settings beyond COMMON)
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "mistral": ("mistral", {"sliding_window": None}),
    "mistral-window": ("mistral", {"sliding_window": 16}),
    "qwen2": ("qwen2", {}),
    "qwen2-mixed": ("qwen2", {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1}),
    "qwen3": ("qwen3", {}),
    "phi3": ("phi3", {"sliding_window": None, "num_key_value_heads": 4}),
    "gpt2": ("gpt2", GPT2),
    "gpt-neox": ("gpt_neox", {}),
    "opt": ("opt", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    "falcon-rotary": (
        "falcon",
        {"alibi": False, "head_dim": ABSENT, "new_decoder_architecture": True, "num_kv_heads": 2},
    ),
    "mixtral": ("mixtral", {"num_local_experts": 4, "sliding_window": None}),
    "olmo2": ("olmo2", {}),
    "stablelm": ("stablelm", {}),
    "gptj": ("gptj", {**GPT2, "rotary_dim": 4}),
    "gemma2": ("gemma2", {"sliding_window": 16, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 1.0}),
    "gemma3": ("gemma3_text", {"sliding_window": 16, "sliding_window_pattern": 2, "query_pre_attn_scalar": 8}),
    "cohere": ("cohere", {"logit_scale": 0.3}),
    "cohere2": ("cohere2", {"logit_scale": 0.3, "sliding_window": 16, "sliding_window_pattern": 2}),
    "granite": ("granite", {"logits_scaling": 3.0, "attention_multiplier": 0.5}),
    "gpt-neo": (
        "gpt_neo",
        {
            "attention_types": [[["global", "local"], 1]],
            "num_layers": 2,
            "num_hidden_layers": ABSENT,
            "num_heads": 4,
            "window_size": 16,
            "intermediate_size": 48,
        },
    ),
    "mpt": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 512}),
    "bloom": ("bloom", {"n_layer": 2, "n_head": 4}),
    "falcon-alibi": (
        "falcon",
        {"alibi": True, "head_dim": ABSENT, "new_decoder_architecture": False, "multi_query": False},
    ),
    "mamba": ("mamba", {"state_size": 4, "expand": 2, "conv_kernel": 4}),
}


def tiny_model(name: str, seed: int = 0) -> Any:
    """A random model in float32, the same for the same name and seed."""
    kind, settings = ARCHITECTURES[name]
    torch.manual_seed(seed)
    every = {key: value for key, value in {**COMMON, **settings}.items() if value != ABSENT}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **every)).eval()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte after <pad>, <s> and </s>; adds <s>."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, **{letter: 3 + byte for byte, letter in enumerate(byte_letters())}}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def tiny_variant(name: str = "llama", model: Any = None, **settings: Any) -> LoadedVariant:
    """A loaded variant around a tiny model; `settings` replace fields of `LoadedVariant`."""
    fields = {
        "model_name": name,
        "strategy": "none",
        "model": model or tiny_model(name),
        "tokenizer": tiny_tokenizer(),
        "device": "cpu",
        "dtype": "float32",
        "eos_ids": frozenset([2]),
        "max_length": 256,
        "weight_hash": "none",
    }
    return LoadedVariant(**{**fields, **settings})
