"""Buffers for the keys and values of decoding rows. Kept from batch to batch where a captured step knows their address.

Shapes: K key-value heads, D head size; per layer keys and values (B, K, keys, D) with B rows, slots or one prefix.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tiltmeter.scoring.trees.cache import KV

KEY_MULTIPLE = {"cpu": 1}  # elsewhere 64: a matrix product over any other number of keys takes slow kernels, other bits
ALIGNMENT = 64  # bytes: a cache line, and a vector register at its widest


class Room:
    """Buffers of a `DecodeStore`.

    Attributes:
        own: a row for each row of the store, and a spare one at the end; shared: one for each slot; prefix: one.
        version: how often they were made; with each, captured steps lose what they point to.
    """

    def __init__(self) -> None:
        self.version = 0
        self.own: KV = []
        self.shared: KV = []
        self.prefix: KV = []
        self._holds: tuple[int, ...] = ()

    @property
    def spare(self) -> int:
        """The row that nobody reads."""
        return self.own[0][0].shape[0] - 1

    def fit(self, like: KV, *, rows: int, own: int, slots: int, shared: int, prefix: int) -> None:
        """Make the buffers anew where they are too small for so many rows and slots of so many keys."""
        needed = (rows, own, slots, shared, prefix)
        if self._holds and all(has >= wants for has, wants in zip(self._holds, needed, strict=True)):
            return
        device = like[0][0].device
        self.drop()
        self.version += 1
        self._holds = needed
        self.own = _buffers(like, rows + 1, whole_keys(own, device))
        self.shared = _buffers(like, slots, whole_keys(shared, device))
        self.prefix = _buffers(like, 1, whole_keys(prefix, device))

    def drop(self) -> None:
        """Give the memory back."""
        self.own, self.shared, self.prefix, self._holds = [], [], [], ()


def whole_keys(keys: int, device: torch.device) -> int:
    """The number of keys that is read where `keys` are used; what is not used is hidden."""
    multiple = KEY_MULTIPLE.get(device.type, 64)
    return -(-keys // multiple) * multiple


def _buffers(like: KV, rows: int, size: int) -> KV:
    """Zeros for the keys and values of `size` tokens in each row, like those of some tokens; [] for no tokens."""
    if not size:
        return []
    key, value = ((rows, part.shape[1], size, part.shape[3]) for part in like[0])
    return [(_zeros(layer[0], key), _zeros(layer[1], value)) for layer in like]


def _zeros(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`like.new_zeros(shape)`; on a CPU from calloc, whose pages are made only when they are touched: room for answers
    that end early is never filled."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    n_bytes = math.prod(shape) * like.element_size()
    raw = np.zeros(n_bytes + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return torch.from_numpy(raw[start : start + n_bytes]).view(like.dtype).view(shape)
