"""How far a variant's next-token distributions lie from its base's, position by position.

    KL(base || variant) = sum_t p_base(t) (log p_base(t) - log p_variant(t))      nats, over the whole vocabulary

in float64 from float32 logits, in blocks over the vocabulary: memory for one block of a few positions, whatever the
vocabulary. Tokens that the base gives no probability add nothing. It is exactly 0 for equal logits. A shortcut over the
base's most probable tokens is too low: 100 of 49,152 give 0.68 of 0.79 nats (4-bit weights, a 135M model).

Beside it: whether both find the same token most probable (the lower id of equals), and log p of the token that came.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache

from tiltmeter.models.variant import LoadedVariant
from tiltmeter.scoring.reference import prompt_cache
from tiltmeter.scoring.trees.prefix_tree import common_prefix
from tiltmeter.scoring.trees.tree_model import layer_kinds

BLOCK = 8_192  # tokens of the vocabulary at a time
ROWS = 64  # positions at a time


@dataclass(frozen=True)
class Divergence:
    """Arrays over positions (positions,).

    kl: nats; same_top: whether the most probable token is the same; base_next, variant_next: log p of the token that
    came next, nats; NaN at the last position of a text.
    """

    kl: np.ndarray
    same_top: np.ndarray
    base_next: np.ndarray
    variant_next: np.ndarray


def divergence(
    base: np.ndarray | torch.Tensor, variant: np.ndarray | torch.Tensor, following: np.ndarray, *, block: int = BLOCK
) -> Divergence:
    """Logits (positions, vocabulary), float32; following (positions,): id of the next token, -1 for none.

    Raises ValueError where the shapes differ.
    """
    if tuple(base.shape) != tuple(variant.shape):
        raise ValueError(f"logits of other shapes: {tuple(base.shape)}, {tuple(variant.shape)}")
    b, v = torch.as_tensor(base), torch.as_tensor(variant)
    parts = []
    for start in range(0, len(b), ROWS):
        rows = slice(start, start + ROWS)
        parts.append(_rows(b[rows], v[rows], following[rows], block))
    names = ("kl", "same_top", "base_next", "variant_next")
    empty = [np.zeros(0)] * 4
    return Divergence(**{name: np.concatenate([p[n] for p in parts] or empty[:1]) for n, name in enumerate(names)})


def _rows(base: torch.Tensor, variant: torch.Tensor, following: np.ndarray, block: int) -> tuple[np.ndarray, ...]:
    base, variant = base.cpu(), variant.cpu()
    log_z = [_log_sum(x, block) for x in (base, variant)]
    total = torch.zeros(len(base), dtype=torch.float64)
    for start in range(0, base.shape[1], block):
        log_b, log_v = (
            x[:, start : start + block].double() - z[:, None] for x, z in zip((base, variant), log_z)
        )  # (rows, block)
        p = log_b.exp()
        total += torch.where(p > 0, p * (log_b - log_v), 0.0).sum(1)
    ids = torch.as_tensor(np.maximum(following, 0), dtype=torch.long)[:, None]
    none = torch.as_tensor(following < 0)
    following_logp = [
        torch.where(none, torch.nan, x.gather(1, ids)[:, 0].double() - z) for x, z in zip((base, variant), log_z)
    ]
    same = base.argmax(1) == variant.argmax(1)
    return total.numpy(), same.numpy(), *(x.numpy() for x in following_logp)


def _log_sum(logits: torch.Tensor, block: int) -> torch.Tensor:
    """log sum exp over the vocabulary, (rows,) in float64."""
    top = logits.max(1).values.double()
    total = torch.zeros(len(logits), dtype=torch.float64)
    for start in range(0, logits.shape[1], block):
        total += (logits[:, start : start + block].double() - top[:, None]).exp().sum(1)
    return top + total.log()


def logits_at(variant: LoadedVariant, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Iterator[torch.Tensor]:
    """For every (token ids, rising positions): logits at those positions (positions, vocabulary), float32 on the CPU.

    One text a forward, with the cache that the strategy asks for, as `reference` does. What a text's beginning shares
    with the text before it is not computed again, so sorted texts cost least: its keys and values are kept, where every
    layer reads all of them and the strategy lets prefixes be shared. Arithmetic that depends on what shares a forward
    (`int8`, `dynamic-int8`) therefore sees the rest of a text without its beginning. Only the rows that are read go
    through the output layer, where the model's forward can leave the others out.
    """
    chooses = "logits_to_keep" in inspect.signature(variant.model.forward).parameters
    shares = variant.share_prefixes and variant.new_cache is None and _reads_everything(variant)
    before: Sequence[int] = ()
    cache: dict[str, Any] = {}
    for tokens, positions in texts:
        start = min(common_prefix(before, tokens), positions[0]) if shares else 0
        if start:
            cache["past_key_values"].crop(start)
        else:
            cache = {"past_key_values": DynamicCache(), "use_cache": True} if shares else prompt_cache(variant)
        before = tokens
        with torch.inference_mode():
            ids = torch.tensor([list(tokens[start:])], device=variant.device)
            rows = torch.tensor(list(positions), device=variant.device) - start
            keep = {"logits_to_keep": rows} if chooses else {}
            logits = variant.model(ids, **cache, **keep).logits[0]  # (positions or T - start, V)
            yield (logits if chooses else logits[rows]).float().cpu()


def _reads_everything(variant: LoadedVariant) -> bool:
    """Whether every layer is attention to all that came before: only then can a cache be cut back to a prefix."""
    try:
        return set(layer_kinds(variant.model.config).values()) == {None}
    except NotImplementedError:
        return False
