"""The keys and values of a prefix tree's nodes, as the cache that a model writes to and reads from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import Cache

if TYPE_CHECKING:
    pass


KV = list[tuple[Tensor, Tensor]]  # per layer: keys and values, (1, K, tokens, D) each


class TreeCache(Cache):
    """Hands the model the keys and values of what stands before its own, and keeps its own when asked."""

    def __init__(self, before: Sequence[KV], keep: bool) -> None:
        super().__init__(layers=[])
        self._before, self._keep = before, keep
        self.new: KV = []

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        if self._keep:
            if layer_idx != len(self.new):
                raise NotImplementedError("the model's layers do not fill their cache one by one")
            self.new.append((key_states, value_states))
        if self._before:
            keys, values = zip(*(part[layer_idx] for part in self._before), strict=True)
            return torch.cat([*keys, key_states], 2), torch.cat([*values, value_states], 2)
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return sum(part[0][0].shape[2] for part in self._before)
