"""Attention of decoding rows over the three parts of their keys at once: what all share, what a slot shares,
their own. The definition; it reads no value on the host, and serves where `decode_kernel` cannot.

Shapes: n active rows, H query heads, K key-value heads, G = H / K, D head size, E size of a value.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tiltmeter.scoring.kernels.attention import Scores

# keys (B, K, room, D) and values (B, K, room, E), the last dimension contiguous; nothing beyond a length is read
Part = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Now:
    """One step's active rows, on the device. Of the keys of a row, in the order of their positions: the first `prefix`
    of the prefix part, `shared[i]` of its slot, `own[i]` of its own part, the new token's among them.

    Attributes:
        rows, slots: where row i stands in the own and in the shared part, int64 (n,).
        prefix: int32 (1,); shared, own: int32 (n,), own at least 1.
    """

    rows: Tensor
    slots: Tensor
    prefix: Tensor
    shared: Tensor
    own: Tensor


def plain(
    query: Tensor,
    own: Part,
    shared: Part | None,
    prefix: Part | None,
    now: Now,
    scores: Scores,
    window: int | None = None,
) -> Tensor:
    """Attention of one new token per row: softmax over the visible keys of all its parts together.

    Args:
        query: (H, n, D).
        prefix: with one row, B = 1; None, like `shared`: there is no such part, and its lengths are 0.
        window: how many positions back a row sees; None: all.
    Returns: (n, H, E), in the dtype of the query.
    """
    n_rows = len(now.rows)
    position = now.prefix + now.shared + now.own - 1  # of the new token, (n,)
    nothing = torch.zeros_like(now.rows)
    parts = [(own, now.rows, now.own, now.prefix + now.shared)]
    if shared is not None:
        parts.append((shared, now.slots, now.shared, now.prefix.expand(n_rows)))
    if prefix is not None:
        parts.append((prefix, nothing, now.prefix.expand(n_rows), nothing))
    products, values = [], []
    for (key, value), rows, length, first in parts:
        kv_heads, size = key.shape[1], key.shape[2]
        column = torch.arange(size, device=query.device)
        hidden = column >= length[:, None]
        if window is not None:
            hidden |= position[:, None] - (first[:, None] + column) >= window
        grouped = query.transpose(0, 1).unflatten(1, (kv_heads, -1))  # (n, K, G, D)
        product = (grouped @ key[rows].transpose(-1, -2)).to(torch.promote_types(query.dtype, torch.float32))
        product = product * scores.scale
        if scores.softcap is not None:
            product = scores.softcap * torch.tanh(product / scores.softcap)
        products.append(product.masked_fill(hidden[:, None, None], -torch.inf))
        values.append(value[rows].masked_fill(hidden[:, None, :, None], 0))  # stale values may be infinite
    shares = torch.cat(products, -1).softmax(-1)
    out = shares.to(query.dtype) @ torch.cat(values, 2)
    return out.flatten(1, 2)
