"""Attention of our own in a model's place, and attention in parts that are joined afterwards.

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
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

NAME = "tiltmeter_sparse"
HARMLESS = frozenset({"position_ids", "cache_position", "sliding_window", "layer_idx"})  # the mask holds what they say

FUSED_WITH_LOGSUMEXP = frozenset({"cpu"})  # devices whose attention kernel for any shape also gives the log-sum-exp
ROUNDS_PRODUCTS = frozenset({"cpu"})  # devices without a product from half precision to float32

Handler = Callable[[Tensor, Tensor, Tensor, Tensor, "Scores"], Tensor]


@dataclass(frozen=True)
class Scores:
    """How a model turns query-key products into scores: times `scale`, then softcap * tanh(. / softcap) where given."""

    scale: float
    softcap: float | None = None


# handler, and whether the model's own attention was the eager one; each thread and task has its own
_active: ContextVar[tuple[Handler, bool]] = ContextVar("the attention in use")


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
    handler, eager = _active.get()
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
    token = _active.set((handler, "eager" in before.values()))
    try:
        for config in configs.values():
            config._attn_implementation_internal = NAME
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation_internal = before[key]
        _active.reset(token)


def replaceable(model: PreTrainedModel) -> bool:
    """True where the model uses one of the two standard definitions; a strategy's own attention is left alone."""
    return model.config.get_text_config(decoder=True)._attn_implementation in ("sdpa", "eager")


def partial_attention(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scores: Scores
) -> tuple[Tensor, Tensor]:
    """Attention over some of the keys, and its log-sum-exp: what `merge` needs to join it with the rest.

    Args:
        query: (B, K, Q, D); key, value: (B, K, N, D); bias: additive, (B or 1, 1, Q or 1, N), or None.
    Returns: float32 output (B, K, Q, D) and log-sum-exp (B, K, Q).
    """
    if query.device.type in FUSED_WITH_LOGSUMEXP and scores.softcap is None and key.shape[-1] == value.shape[-1]:
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
    if query.device.type not in ROUNDS_PRODUCTS and query.dtype in (torch.bfloat16, torch.float16):
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
