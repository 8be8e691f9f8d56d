"""GGUF files written for tests: the container by llama.cpp's own writer, blocks and their meaning by hand.

`BLOCKS` holds for each type how its blocks lie in memory and, in plain loops over the published layout
(https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h), what numbers they stand for.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from safetensors.torch import load_file

NAMES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
IN_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def half(block: bytes, at: int) -> float:
    return struct.unpack_from("<e", block, at)[0]


def q8_0(block: bytes) -> list[float]:
    """A scale, 32 signed bytes."""
    return [half(block, 0) * q for q in struct.unpack_from("<32b", block, 2)]


def q4_0(block: bytes) -> list[float]:
    """A scale, 16 bytes: low halves are the first 16 numbers, high halves the last, 8 means 0."""
    d, qs = half(block, 0), block[2:]
    return [d * ((q & 15) - 8) for q in qs] + [d * ((q >> 4) - 8) for q in qs]


def q4_k(block: bytes) -> list[float]:
    """Two scales (of scales, of minima), 8 scales and 8 minima of 6 bits, 8 groups of 32 numbers of 4 bits."""
    d, dmin, packed, qs = half(block, 0), half(block, 2), block[4:16], block[16:]
    numbers = []
    for group in range(8):
        if group < 4:
            scale, least = packed[group] & 63, packed[group + 4] & 63
        else:
            scale = packed[group + 4] & 15 | packed[group - 4] >> 6 << 4
            least = packed[group + 4] >> 4 | packed[group] >> 6 << 4
        for i in range(32):
            q = qs[group // 2 * 32 + i] >> 4 * (group % 2) & 15
            numbers.append(d * scale * q - dmin * least)
    return numbers


def q6_k(block: bytes) -> list[float]:
    """256 numbers of 6 bits (4 low ones, 2 high ones), 16 signed scales, a scale; 32 means 0."""
    ql, qh, scales, d = block[:128], block[128:192], struct.unpack_from("<16b", block, 192), half(block, 208)
    numbers = []
    for i in range(256):
        part, place = divmod(i, 128)
        quarter, j = divmod(place, 32)
        low = ql[part * 64 + j + 32 * (quarter % 2)] >> 4 * (quarter // 2) & 15
        high = qh[part * 32 + j] >> 2 * quarter & 3
        numbers.append(d * scales[i // 16] * ((low | high << 4) - 32))
    return numbers


def random_blocks(kind: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """(n, bytes of a block), every bit random but the scales, which keep the numbers near 1."""
    _, n_bytes, _, scales = BLOCKS[kind]
    blocks = rng.integers(0, 256, (n, n_bytes), dtype=np.uint8)
    for at, largest in scales.items():
        drawn = rng.uniform(0.1 * largest, largest, n).astype(np.float16)
        blocks[:, at : at + 2] = drawn.view(np.uint8).reshape(n, 2)
    return blocks


# numbers in a block, bytes of it, what they stand for, {place of a scale: how large it may be}
BLOCKS = {
    "Q8_0": (32, 34, q8_0, {0: 1e-3}),
    "Q4_0": (32, 18, q4_0, {0: 2e-2}),
    "Q4_K": (256, 144, q4_k, {0: 3e-4, 2: 2e-3}),
    "Q6_K": (256, 210, q6_k, {208: 3e-5}),
}


def stands_for(kind: str, blocks: np.ndarray) -> list[float]:
    return [number for block in blocks for number in BLOCKS[kind][2](block.tobytes())]


def rotary_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of the rows of q and k: the two dimensions that rotate together are neighbours."""
    half_head = weight.shape[0] // heads // 2
    rows = [
        weight[(head * 2 + part) * half_head + i] for head in range(heads) for i in range(half_head) for part in (0, 1)
    ]
    return np.stack(rows)


def gguf_name(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module in NAMES:
        return f"{NAMES[module]}.{kind}"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{IN_LAYER[rest]}.{kind}"


def write_gguf(
    base: Path,
    file: Path,
    *,
    kinds: dict[str, str] | None = None,
    seed: int = 0,
    drop: tuple = (),
    extra: dict[str, np.ndarray] | None = None,
    tokens: list[str] | None = None,
    **metadata,
) -> dict[str, torch.Tensor]:
    """Writes Llama `base` as a GGUF file; returns the weights that the file stands for, under the base's names.

    kinds: start of a tensor's name in the base -> type; such tensors are made of random blocks. Others stay F32.
    metadata: overrides of what the file says ("rope.freq_base": …, keys with "llama" or "tokenizer" in full).
    """
    config, weights = json.loads((base / "config.json").read_text()), load_file(base / "model.safetensors")
    if "model.embed_tokens.weight" not in weights:  # tied, and saved under its other name
        weights["model.embed_tokens.weight"] = weights.pop("lm_head.weight")
    rng, stands = np.random.default_rng(seed), {}
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(file, metadata.pop("architecture", "llama"))
    for key, value in said(config, base, tokens, metadata).items():
        put(writer, key, value)
    for name, tensor in weights.items():
        if name in drop:
            continue
        plain, stored = tensor.float().numpy(), gguf_name(name)
        n_heads = heads.get(stored.split(".")[-2])
        kind = next((kind for start, kind in (kinds or {}).items() if name.startswith(start)), None)
        if kind:
            size, n_bytes, *_ = BLOCKS[kind]
            rows, columns = plain.shape
            blocks = random_blocks(kind, rng, rows * columns // size)
            writer.add_tensor(
                stored, blocks.reshape(rows, columns // size * n_bytes), raw_dtype=GGMLQuantizationType[kind]
            )
            numbers = torch.tensor(stands_for(kind, blocks), dtype=torch.float64).float().reshape(rows, columns)
            where = rotary_rows(np.arange(rows)[:, None], n_heads)[:, 0] if n_heads else np.arange(rows)
            stands[name] = torch.empty_like(numbers)
            stands[name][where] = numbers  # row r of the file is row where[r] of the model
        else:
            writer.add_tensor(stored, rotary_rows(plain, n_heads) if n_heads else plain)
            stands[name] = tensor.float()
    for name, array in (extra or {}).items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return stands


def said(config: dict, base: Path, tokens: list[str] | None, overrides: dict) -> dict:
    """The metadata of a Llama file, as convert_hf_to_gguf.py writes them; an override of None leaves a key out."""
    vocabulary = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    head = config["hidden_size"] // config["num_attention_heads"]
    rope = config.get("rope_parameters") or {}
    found = {
        "llama.context_length": config["max_position_embeddings"],
        "llama.embedding_length": config["hidden_size"],
        "llama.block_count": config["num_hidden_layers"],
        "llama.feed_forward_length": config["intermediate_size"],
        "llama.attention.head_count": config["num_attention_heads"],
        "llama.attention.head_count_kv": config["num_key_value_heads"],
        "llama.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "llama.rope.dimension_count": head,
        "llama.rope.freq_base": float(rope.get("rope_theta", 10000.0)),
        "llama.vocab_size": config["vocab_size"],
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens or sorted(vocabulary, key=vocabulary.get),
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.add_bos_token": True,
    }
    found |= {
        key if "." in key and key.split(".")[0] in ("llama", "tokenizer", "general", "split") else f"llama.{key}": value
        for key, value in overrides.items()
    }
    return {key: value for key, value in found.items() if value is not None}


def put(writer: GGUFWriter, key: str, value) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    else:
        writer.add_string(key, value)


def llama(folder: Path, tokenizer_from: Path, **settings) -> Path:
    """A random Llama of one layer, wide enough for blocks of 256, with a tokenizer of 2048 tokens."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        settings.pop("model_type", "llama"),
        **{
            "hidden_size": 256,
            "intermediate_size": 256,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "vocab_size": 2048,
            "max_position_embeddings": 256,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "initializer_range": 0.2,
            "tie_word_embeddings": False,
            "dtype": "float32",
        }
        | settings,
    )
    AutoModelForCausalLM.from_config(config).to(config.dtype).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(tokenizer_from / name, folder / name)
    return folder


def write_other(base: Path, file: Path) -> None:
    """A model of another architecture in F32: names by llama.cpp's own table, what its converters change by hand."""
    import gguf
    from transformers import AutoConfig

    config, weights = AutoConfig.from_pretrained(base), load_file(base / "model.safetensors")
    architecture = config.model_type.removesuffix("_text")
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    table = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    vocabulary = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    writer = GGUFWriter(file, architecture)
    epsilon = {"stablelm": "layer_norm_eps", "starcoder2": "norm_epsilon"}.get(architecture)
    norm = "layer_norm_epsilon" if epsilon else "layer_norm_rms_epsilon"
    said = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        f"attention.{norm}": float(getattr(config, epsilon or "rms_norm_eps")),
    }
    if architecture.startswith("gemma"):
        said |= {"attention.key_length": config.head_dim, "attention.sliding_window": config.sliding_window}
    for key, value in said.items():
        put(writer, f"{architecture}.{key}", value)
    put(writer, "tokenizer.ggml.tokens", sorted(vocabulary, key=vocabulary.get))
    for name, tensor in weights.items():
        stored = table.get_name(name, try_suffixes=(".weight", ".bias"))
        offset = 1.0 if architecture.startswith("gemma") and name.endswith("norm.weight") else 0.0
        writer.add_tensor(stored, tensor.float().numpy() + np.float32(offset))  # Gemma's norms are stored as w + 1
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_qwen35(base: Path, file: Path) -> None:
    """Qwen3.5 in F32, with what llama.cpp's converter does to it by hand: norms as w + 1 (but ssm_norm), A_log as
    -exp, conv1d without its middle dimension, value heads ordered by their place within a key head first."""
    import gguf

    config, weights = json.loads((base / "config.json").read_text()), load_file(base / "model.safetensors")
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN35, config["num_hidden_layers"])
    keys, values, size = (config[f"linear_{name}"] for name in ("num_key_heads", "num_value_heads", "value_head_dim"))
    each = values // keys
    order = [key * each + i for i in range(each) for key in range(keys)]  # of heads, in the file
    rows = [head * size + row for head in order for row in range(size)]  # of the value dimension
    before = 2 * config["linear_key_head_dim"] * keys  # rows of queries and keys
    whole = list(range(before)) + [before + row for row in rows]
    turned = {
        "A_log": order,
        "dt_bias": order,
        "in_proj_a.weight": order,
        "in_proj_b.weight": order,
        "in_proj_z.weight": rows,
        "in_proj_qkv.weight": whole,
        "conv1d.weight": whole,
    }
    writer = GGUFWriter(file, "qwen35")
    said = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.key_length": config["head_dim"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "full_attention_interval": 2,
        "ssm.conv_kernel": config["linear_conv_kernel_dim"],
        "ssm.state_size": config["linear_key_head_dim"],
        "ssm.group_count": keys,
        "ssm.time_step_rank": values,
        "ssm.inner_size": values * size,
        "rope.freq_base": 10000.0,
        "rope.dimension_count": config["head_dim"] // 4,
        "rope.dimension_sections": [3, 3, 2, 0],
    }
    for key, value in said.items():
        put(writer, f"qwen35.{key}", value)
    vocabulary = json.loads((base / "tokenizer.json").read_text())["model"]["vocab"]
    put(writer, "tokenizer.ggml.tokens", sorted(vocabulary, key=vocabulary.get))
    for name, tensor in weights.items():
        array, part = tensor.float().numpy(), name.partition(".linear_attn.")[2]
        stored = table.get_name(name.replace("dt_bias", "dt_proj.bias"), try_suffixes=(".weight", ".bias"))
        if part in turned:
            array = array[turned[part]]
        if part == "out_proj.weight":
            array = array[:, rows]
        if part == "A_log":
            array = -np.exp(array)
        if part == "conv1d.weight":
            array = array[:, 0]
        if name.endswith("norm.weight") and not part:
            array = array + np.float32(1)
        writer.add_tensor(stored, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
