"""AWQ and GPTQ checkpoints written by hand, from the published layouts and nothing else: plain loops, bit by bit.

A weight (out, in) is kept as integers q (in, out), zeros z (groups, out), scales s (groups, out) and the group of
each input; what it stands for is (q - z) * s. Words are int32, the first value in the lowest bits.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

HIDDEN, INNER = 64, 96  # both multiples of 32, and no power of two apart
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # which of 8 neighbouring outputs lies at the i-th place of a word


@dataclass(frozen=True)
class Layer:
    q: np.ndarray  # (in, out)
    z: np.ndarray  # (groups, out)
    s: np.ndarray  # (groups, out), float16
    group: np.ndarray  # (in)

    def weight(self) -> torch.Tensor:
        """(q - z) * s, (out, in). The product of an integer below 512 and a float16 is exact in float32."""
        n_in, n_out = self.q.shape
        plain = np.empty((n_out, n_in), dtype=np.float32)
        for i in range(n_in):
            g = self.group[i]
            plain[:, i] = (self.q[i] - self.z[g]).astype(np.float32) * self.s[g].astype(np.float32)
        return torch.from_numpy(plain)


def draw_layer(
    rng: np.random.Generator,
    n_out: int,
    n_in: int,
    *,
    bits: int,
    group_size: int,
    symmetric: bool = False,
    lowest_zero: int = 0,
    act_order: bool = False,
) -> Layer:
    """Random integers, zeros from `lowest_zero` up (symmetric: the middle), scales, and groups in order or shuffled."""
    size = group_size if group_size > 0 else n_in
    groups = -(-n_in // size)
    group = np.arange(n_in) // size
    if act_order:
        group = group[rng.permutation(n_in)]
    z = np.full((groups, n_out), 2 ** (bits - 1)) if symmetric else rng.integers(lowest_zero, 2**bits, (groups, n_out))
    s = rng.uniform(0.01, 0.03, (groups, n_out)).astype(np.float16)
    return Layer(rng.integers(0, 2**bits, (n_in, n_out)), z, s, group)


def words(values: list[int], bits: int) -> list[int]:
    """Values of `bits` bits each in 32-bit words, set bit by bit."""
    packed = [0] * (len(values) * bits // 32)
    for place, value in enumerate(values):
        for bit in range(bits):
            if value >> bit & 1:
                at = place * bits + bit
                packed[at // 32] |= 1 << at % 32
    return packed


def int32(table: list[list[int]]) -> torch.Tensor:
    return torch.from_numpy(np.array(table, dtype=np.uint32).view(np.int32).copy())


def gptq_tensors(layer: Layer, bits: int, *, v1: bool, g_idx: bool = True) -> dict[str, torch.Tensor]:
    """qweight packed along the inputs, qzeros along the outputs; the first format subtracts 1 from every field of a
    word at once, so that a 0 borrows from the next field."""
    columns = [words([int(v) for v in column], bits) for column in layer.q.T]  # (out, words)
    zeros = [words([int(v) for v in row], bits) for row in layer.z]
    if v1:
        ones = sum(1 << at for at in range(0, 32, bits))
        zeros = [[(word - ones) % 2**32 for word in row] for row in zeros]
    tensors = {"qweight": int32(columns).T.contiguous(), "qzeros": int32(zeros), "scales": torch.from_numpy(layer.s)}
    return tensors | ({"g_idx": torch.from_numpy(layer.group.astype(np.int32))} if g_idx else {})


def awq_tensors(layer: Layer, *, zeros: bool = True) -> dict[str, torch.Tensor]:
    """Both packed along the outputs, 8 to a word, in AWQ_ORDER."""

    def rows(table: np.ndarray) -> torch.Tensor:
        n = table.shape[1]
        ordered = [[int(row[start + place]) for start in range(0, n, 8) for place in AWQ_ORDER] for row in table]
        return int32([words(row, 4) for row in ordered])

    tensors = {"qweight": rows(layer.q), "scales": torch.from_numpy(layer.s)}
    return tensors | ({"qzeros": rows(layer.z)} if zeros else {})


def base_model(folder: Path, tokenizer_from: Path) -> Path:
    """A random Llama of one layer in float16, with a tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=2048,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.2,
        tie_word_embeddings=False,
        dtype="float16",
    )
    LlamaForCausalLM(config).to(torch.float16).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copyfile(tokenizer_from / name, folder / name)
    return folder


def linear_names(base: Path) -> dict[str, tuple[int, int]]:
    """Name -> (out, in) of the layers inside the decoder block."""
    return {
        name.removesuffix(".weight"): tuple(tensor.shape)
        for name, tensor in load_file(base / "model.safetensors").items()
        if "_proj" in name
    }


def write(
    base: Path, folder: Path, layers: dict[str, Layer], tensors: dict[str, dict[str, torch.Tensor]], settings: dict
) -> Path:
    """The base with its linear layers replaced, and its dense twin beside it: folder, folder-dense."""
    twin = folder.with_name(folder.name + "-dense")
    for place in (folder, twin):
        shutil.copytree(base, place)
    plain = load_file(base / "model.safetensors")
    rest = {name: tensor for name, tensor in plain.items() if name.removesuffix(".weight") not in layers}
    packed = {f"{name}.{kind}": tensor for name, kinds in tensors.items() for kind, tensor in kinds.items()}
    save_file({**rest, **packed}, folder / "model.safetensors", metadata={"format": "pt"})
    dense = {f"{name}.weight": layer.weight() for name, layer in layers.items()}
    save_file({**rest, **dense}, twin / "model.safetensors", metadata={"format": "pt"})
    edit(folder, quantization_config=settings)
    return folder


def write_awq(base: Path, folder: Path, *, group_size: int = 32, zeros: bool = True, seed: int = 0, **settings) -> Path:
    rng = np.random.default_rng(seed)
    layers = {
        name: draw_layer(rng, *shape, bits=4, group_size=group_size, symmetric=not zeros)
        for name, shape in linear_names(base).items()
    }
    tensors = {name: awq_tensors(layer, zeros=zeros) for name, layer in layers.items()}
    given = {"quant_method": "awq", "bits": 4, "group_size": group_size, "zero_point": zeros, "version": "gemm"}
    return write(base, folder, layers, tensors, given | settings)


def write_gptq(
    base: Path,
    folder: Path,
    *,
    bits: int = 4,
    group_size: int = 32,
    symmetric: bool = False,
    layout: str = "gptq_v2",
    act_order: bool = False,
    lowest_zero: int = 0,
    g_idx: bool = True,
    seed: int = 0,
    **settings,
) -> Path:
    rng = np.random.default_rng(seed)
    layers = {
        name: draw_layer(
            rng,
            *shape,
            bits=bits,
            group_size=group_size,
            symmetric=symmetric,
            lowest_zero=lowest_zero,
            act_order=act_order,
        )
        for name, shape in linear_names(base).items()
    }
    tensors = {name: gptq_tensors(layer, bits, v1=layout == "gptq", g_idx=g_idx) for name, layer in layers.items()}
    given = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group_size,
        "sym": symmetric,
        "desc_act": act_order,
        "checkpoint_format": layout,
    }
    return write(base, folder, layers, tensors, given | settings)


def edit(folder: Path, file: str = "config.json", **values) -> None:
    content = json.loads((folder / file).read_text()) | values
    (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
