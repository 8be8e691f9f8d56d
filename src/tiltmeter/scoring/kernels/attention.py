"""Attention that computes only what a mask leaves visible, for tree rows and for decoding rows.

`transformers` lets a model's attention function be chosen by name; most architectures dispatch through it. While
`chosen(model, handler)` is open, the model's attention calls `handler` instead of the full-mask kernel. The engine's
self-test proves per loaded model that this gives the same numbers; a model that does not dispatch, or passes an
argument that is not known here (sinks, position biases), keeps its own attention.

Query heads that share a key-value head are laid out as extra query rows of that head, so grouped keys and values are
never copied to every query head.

Shapes: H query heads, K key-value heads, G = H / K, D head size, Q queries, N keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

NAME = "tiltmeter_sparse"
HARMLESS = frozenset({"position_ids", "cache_position", "sliding_window", "layer_idx"})  # the mask holds what they say

MOST_RANGES = 6  # beyond, one gather is cheaper than that many copies

Columns = Tensor | list[slice]
Handler = Callable[[Tensor, Tensor, Tensor, Tensor, "Scores"], Tensor]


@dataclass(frozen=True)
class Scores:
    """How a model turns query-key products into scores: times `scale`, then softcap * tanh(. / softcap) where given."""

    scale: float
    softcap: float | None = None


_active: list[tuple[Handler, bool]] = []  # handler, and whether the model's own attention was the eager one


def _dispatch(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    unknown = [
        name
        for name, given in arguments.items()
        if isinstance(given, int | float | Tensor) and not isinstance(given, bool) and name not in HARMLESS
    ]
    if unknown or dropout:
        raise NotImplementedError(f"attention argument {unknown or 'dropout'}")
    if attention_mask is None:
        raise NotImplementedError("the model drops its attention mask")
    handler, eager = _active[-1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # transformers' sdpa attention leaves soft caps out; what the loaded model computes is the definition
    return handler(attention_mask, query, key, value, Scores(scale, softcap if eager else None)), None


AttentionInterface.register(NAME, _dispatch)


@contextmanager
def chosen(model: PreTrainedModel, handler: Handler) -> Iterator[None]:
    """Inside, `model` attends through ``handler(mask, query (1, H, Q, D), key (1, K, N, D), value, scores)``, which
    returns (1, Q, H, D)."""
    configs = {id(config): config for config in (model.config, model.config.get_text_config(decoder=True))}
    before = {key: config._attn_implementation for key, config in configs.items()}
    _active.append((handler, "eager" in before.values()))
    try:
        for config in configs.values():
            config._attn_implementation_internal = NAME
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]
        _active.pop()


def replaceable(model: PreTrainedModel) -> bool:
    """True where the model uses one of the two standard definitions; a strategy's own attention is left alone."""
    return model.config.get_text_config(decoder=True)._attn_implementation in ("sdpa", "eager")


class Blockwise:
    """Tree rows in blocks: each block attends to the few keys it can see, gathered, instead of to all of them.

    In depth-first order a block of B rows sees the path to its first row and itself, so the work per row is about
    depth + B instead of the whole piece.

    Args:
        masks: additive masks (1, 1, Q, N) as given to the model.
        block: rows per block.

    Attributes:
        rows: the only ones that are read, ascending; the others come out as zeros. None: all.
        calls: how often a layer attended.
    """

    def __init__(self, masks: Sequence[Tensor], block: int) -> None:
        self._masks = masks
        self._block = block
        self._pieces: dict[tuple[int, bool], list[tuple[slice | Tensor, Columns, Tensor]]] = {}
        self.rows: Tensor | None = None
        self.calls = 0

    def __call__(self, mask: Tensor, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        self.calls += 1
        _, heads, n_queries, _ = query.shape
        kv_heads = key.shape[1]
        groups = heads // kv_heads
        shape = (1, n_queries, heads, value.shape[-1])
        out = query.new_empty(shape) if self.rows is None else query.new_zeros(shape)
        for rows, columns, bias in self._of(mask, groups):
            block = query[:, :, rows]  # (1, H, B, D)
            size = block.shape[2]
            block = block.reshape(1, kv_heads, groups * size, -1)
            seen = _taken(key, columns), _taken(value, columns)
            if scores.softcap is None:  # (1, K, G * B, D)
                found = torch.nn.functional.scaled_dot_product_attention(
                    block, *seen, attn_mask=bias, scale=scores.scale
                )
            else:
                found = partial_attention(block, *seen, bias, scores)[0].to(query.dtype)
            out[:, rows] = found.reshape(1, heads, size, -1).transpose(1, 2)
        return out

    def _of(self, mask: Tensor, groups: int) -> list[tuple[slice | Tensor, Columns, Tensor]]:
        """Row block, its visible keys, and their bias (1, 1, G * B, keys), found once per mask."""
        known = mask.data_ptr(), self.rows is None
        if known not in self._pieces:
            if not any(mask.data_ptr() == given.data_ptr() for given in self._masks):
                raise NotImplementedError("the model rewrites its attention mask")
            full = mask[0, 0]  # (Q, N)
            pieces = self._pieces[known] = []
            for first in range(0, len(full) if self.rows is None else len(self.rows), self._block):
                part = slice(first, min(first + self._block, len(full)))
                rows = part if self.rows is None else self.rows[part]
                columns = (full[rows] == 0).any(0).nonzero()[:, 0]
                bias = full[rows][:, columns].repeat(groups, 1)[None, None]
                pieces.append((rows, _as_ranges(columns), bias))
        return self._pieces[known]


def _as_ranges(columns: Tensor) -> Columns:
    """Ascending `columns` as the ranges they form, where those are few enough to be copied faster than gathered."""
    ends = (columns.diff() > 1).nonzero()[:, 0].tolist()
    if len(ends) >= MOST_RANGES:
        return columns
    firsts, lasts = [0, *(end + 1 for end in ends)], [*ends, len(columns) - 1]
    return [slice(int(columns[first]), int(columns[last]) + 1) for first, last in zip(firsts, lasts, strict=True)]


def _taken(states: Tensor, columns: Columns) -> Tensor:
    """`columns` of keys or values (1, K, N, D)."""
    if isinstance(columns, Tensor):
        return states[:, :, columns]
    parts = [states[:, :, part] for part in columns]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)


def partial_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scores: Scores
) -> tuple[Tensor, Tensor]:
    """Attention over some of the keys, and its log-sum-exp: what `merge` needs to join it with the rest.

    Args:
        query: (B, K, Q, D); key, value: (B, K, N, D); bias: additive, (B or 1, 1, Q or 1, N), or None.
    Returns: float32 output (B, K, Q, D) and log-sum-exp (B, K, Q).
    """
    if query.device.type == "cpu" and scores.softcap is None and key.shape[-1] == value.shape[-1]:
        out, logsumexp = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, attn_mask=bias, scale=scores.scale
        )
        return out.float(), logsumexp.float()
    products = _float_products(query, key) * scores.scale
    if scores.softcap is not None:
        products = scores.softcap * torch.tanh(products / scores.softcap)
    if bias is not None:
        products = products + bias
    logsumexp = products.logsumexp(-1)
    return ((products - logsumexp[..., None]).exp().to(value.dtype) @ value).float(), logsumexp


def _float_products(query: Tensor, key: Tensor) -> Tensor:
    """query (B, K, Q, D) times key (B, K, N, D) -> float32 (B, K, Q, N); half precision is not rounded on the way."""
    if query.device.type == "cuda" and query.dtype in (torch.bfloat16, torch.float16):
        flat = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2), out_dtype=torch.float32)
        return flat.unflatten(0, query.shape[:2])
    return (query @ key.transpose(-1, -2)).float()


def merge(parts: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Attention over all keys from its parts: outputs (..., D) weighted by exp(log-sum-exp (...))."""
    out, total = parts[0]
    for other, logsumexp in parts[1:]:
        share = torch.sigmoid(logsumexp - total)  # of the mass of both
        out = torch.lerp(out, other, share[..., None])
        total = torch.logaddexp(total, logsumexp)
    return out
