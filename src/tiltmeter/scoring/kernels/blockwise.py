"""Attention of tree rows in blocks: each attends to the few keys it can see, instead of to all of them.

In depth-first order a block of B rows sees the path to its first row and itself, so the work per row is about
depth + B instead of the whole piece. Which keys those are is known on the host; their bias is made on the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tiltmeter.scoring.kernels.attention import Scores, partial_attention
from tiltmeter.scoring.kernels.visibility import Visibility

MOST_RANGES = 6  # beyond, one gather is cheaper than that many copies
# keys of a block come in multiples of this: memory-efficient attention copies a bias of any other width at every call
KEY_MULTIPLE = {"cpu": 1}  # elsewhere 8

Columns = Tensor | list[slice]
Block = tuple[slice | Tensor, Columns, Tensor]  # rows, the keys they see, and the bias (1, 1, G * B, keys)


class Blockwise:
    """An `attention.Handler` for one forward.

    Args:
        masks: each mask given to the model, (1, 1, Q, N), with what it stands for; their values are not read.
        block: rows per block.

    Attributes:
        rows: the only ones that are read, ascending; the others come out as zeros. None: all.
        calls: how often a layer attended.
    """

    def __init__(self, masks: Sequence[tuple[Tensor, Visibility]], block: int) -> None:
        self._masks = masks
        self._block = block
        self._blocks: dict[tuple[int, bool], list[Block]] = {}
        self.rows: np.ndarray | None = None
        self.calls = 0

    def __call__(self, mask: Tensor, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        self.calls += 1
        _, heads, n_queries, _ = query.shape
        kv_heads = key.shape[1]
        groups = heads // kv_heads
        shape = (1, n_queries, heads, value.shape[-1])
        out = query.new_empty(shape) if self.rows is None else query.new_zeros(shape)
        for rows, columns, bias in self._of(mask, query, groups):
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

    def _of(self, mask: Tensor, query: Tensor, groups: int) -> list[Block]:
        """The blocks of one mask, found when its first layer asks."""
        known = mask.data_ptr(), self.rows is None
        if known not in self._blocks:
            visibility = next((seen for given, seen in self._masks if given.data_ptr() == mask.data_ptr()), None)
            if visibility is None:
                raise NotImplementedError("the model rewrites its attention mask")
            self._blocks[known] = list(_blocks(visibility, self.rows, self._block, query, groups))
        return self._blocks[known]


def _blocks(
    visibility: Visibility, picked: np.ndarray | None, block: int, query: Tensor, groups: int
) -> Sequence[Block]:
    device, dtype = query.device, query.dtype
    begins, ends, keys, rows_at = (
        torch.from_numpy(part).to(device)
        for part in (visibility.begins, visibility.ends, visibility.keys, visibility.rows)
    )
    every = np.arange(len(visibility.rows)) if picked is None else picked
    multiple = KEY_MULTIPLE.get(device.type, 8)
    blocks: list[Block] = []
    for first in range(0, len(every), block):
        host = every[first : first + block]
        seen_by_some = visibility.keys_of(host)
        spare = -len(seen_by_some) % multiple
        columns = torch.from_numpy(np.pad(seen_by_some, (0, spare), mode="edge")).to(device)
        rows = torch.from_numpy(host).to(device)[:, None]
        hidden = (begins[columns] > rows) | (rows >= ends[columns])
        if visibility.window is not None:
            hidden |= rows_at[rows] - keys[columns] >= visibility.window
        if spare:
            hidden[:, -spare:] = True
        bias = torch.zeros(hidden.shape, dtype=dtype, device=device).masked_fill_(hidden, torch.finfo(dtype).min)
        where = slice(first, first + len(host)) if picked is None else rows[:, 0]
        blocks.append(
            (where, columns if spare else _as_ranges(seen_by_some, columns), bias.repeat(groups, 1)[None, None])
        )
    return blocks


def _as_ranges(host: np.ndarray, columns: Tensor) -> Columns:
    """Ascending columns as the ranges they form, where those are few enough to be copied faster than gathered."""
    ends = np.flatnonzero(np.diff(host) > 1)
    if len(ends) >= MOST_RANGES:
        return columns
    firsts, lasts = np.append(0, ends + 1), np.append(ends, len(host) - 1)
    return [slice(int(host[first]), int(host[last]) + 1) for first, last in zip(firsts, lasts, strict=True)]


def _taken(states: Tensor, columns: Columns) -> Tensor:
    """`columns` of keys or values (1, K, N, D)."""
    if isinstance(columns, Tensor):
        return states[:, :, columns]
    parts = [states[:, :, part] for part in columns]
    return parts[0] if len(parts) == 1 else torch.cat(parts, 2)
