"""Keys and values of sequences that are being decoded side by side, in three parts, each read once per step.

    prefix    tokens that all prompts share              read once for all rows
    prompt    the rest of each prompt                    read once for all samples of that prompt
    own       what each row has written itself           read by that row

A row attends to the three parts separately; `attention.merge` joins them by their log-sum-exps, which is exact. A
prompt with one sample has no prompt part: its own part begins with the rest of the prompt. Buffers are allocated once
and written in place, so a step copies nothing.

Shapes: S slots (prompts in work), M samples per slot, rows = S * M, n of them active; K key-value heads, G query heads
per key-value head, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from tiltmeter.scoring.attention import Scores, merge, partial_attention
from tiltmeter.scoring.tree_model import KV

ALIGNMENT = 64  # bytes: a cache line, and a vector register at its widest
Biases = tuple[Tensor | None, Tensor | None, Tensor | None]  # of the prefix, prompt and own parts


class DecodeStore(Cache):
    """The cache of `slots` prompts with up to `samples` rows each.

    Args:
        prefix: keys and values of the shared prefix, per layer, or None.
        rest: longest rest of a prompt in tokens; new: longest answer in tokens.
        windows: per layer, how many positions back it sees (None: all).
        like: keys and values of some tokens, for shapes, dtype and device.
    """

    def __init__(
        self, prefix: KV | None, slots: int, samples: int, rest: int, new: int, windows: Sequence[int | None], like: KV
    ) -> None:
        super().__init__(layers=[])
        self.prefix, self.samples, self.windows = prefix, samples, list(windows)
        self.start = prefix[0][0].shape[2] if prefix else 0
        self.single = samples == 1
        own_size = rest + new if self.single else new
        self._own = [_buffers(layer, slots * samples, own_size) for layer in like]
        self._prompt = [] if self.single else [_buffers(layer, slots, rest) for layer in like]
        self.prompt_length = np.zeros(slots, dtype=np.int64)  # without the prefix; stays 0 for single samples
        self.own_length = np.zeros(slots * samples, dtype=np.int64)
        self.calls = 0
        self._device = like[0][0].device
        self._dtype = like[0][0].dtype

    def admit(self, slot: int, kept: KV, columns: np.ndarray) -> None:
        """Fill `slot` with the prompt whose tokens are the `columns` of the keys and values `kept`."""
        nodes = torch.from_numpy(columns).to(self._device)
        target = self._own if self.single else self._prompt
        for (key, value), (key_to, value_to) in zip(kept, target, strict=True):
            key_to[slot, :, : len(columns)] = key[0][:, nodes]
            value_to[slot, :, : len(columns)] = value[0][:, nodes]
        rows = slice(slot * self.samples, (slot + 1) * self.samples)
        self.own_length[rows] = len(columns) if self.single else 0
        self.prompt_length[slot] = 0 if self.single else len(columns)

    def move(self, source: int, target: int) -> None:
        """Copy slot `source` over slot `target`."""
        rows_from = slice(source * self.samples, (source + 1) * self.samples)
        rows_to = slice(target * self.samples, (target + 1) * self.samples)
        used = int(self.own_length[rows_from].max())
        for pair in self._own:
            for buffer in pair:
                buffer[rows_to, :, :used] = buffer[rows_from, :, :used]
        for pair in self._prompt:
            for buffer in pair:
                buffer[target] = buffer[source]
        self.own_length[rows_to] = self.own_length[rows_from]
        self.prompt_length[target] = self.prompt_length[source]

    def begin_step(self, rows: np.ndarray, slots: int) -> np.ndarray:
        """Prepare one new token for each of the active `rows`, all of them in the first `slots` slots.

        Returns: the positions of the new tokens, shape (n,).
        """
        positions = self.start + self.prompt_length[rows // self.samples] + self.own_length[rows]
        self._active_rows = rows
        self._rows = torch.from_numpy(rows).to(self._device)
        self._columns = torch.from_numpy(self.own_length[rows]).to(self._device)
        self._slots = slots
        self._all_rows = slots * self.samples
        self._dense = len(rows) == self._all_rows  # then query rows are buffer rows
        self.own_length[rows] += 1
        self._longest_own = int(self.own_length[: self._all_rows].max())
        self._longest_prompt = int(self.prompt_length[:slots].max())
        self._positions = positions
        self._biases: dict[int | None, Biases] = {}  # by window, made when the first layer asks
        return positions

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        key, value = self._own[layer_idx]
        key[self._rows, :, self._columns] = key_states[0].transpose(0, 1)  # (n, K, D)
        value[self._rows, :, self._columns] = value_states[0].transpose(0, 1)
        self._layer = layer_idx
        return key_states, value_states

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def attend(self, mask: Tensor, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
        """Attention of the active rows (an `attention.Handler`); key and value are those just stored.

        query (1, H, n, D) -> (1, n, H, D)
        """
        self.calls += 1
        layer = self._layer
        _, heads, n_rows, size = query.shape
        kv_heads = key.shape[1]
        groups = heads // kv_heads
        prefix_bias, prompt_bias, own_bias = self._biases_for(self.windows[layer], groups)
        rows = query[0].transpose(0, 1).reshape(n_rows, kv_heads, groups, size)
        every = rows
        if not self._dense:
            every = rows.new_zeros(self._all_rows, *rows.shape[1:]).index_copy_(0, self._rows, rows)

        own_key, own_value = (b[: self._all_rows, :, : self._longest_own] for b in self._own[layer])
        parts = [self._active(partial_attention(every, own_key, own_value, own_bias, scores))]
        if self._longest_prompt:
            prompt_key, prompt_value = (b[: self._slots, :, : self._longest_prompt] for b in self._prompt[layer])
            together = every.reshape(self._slots, self.samples, kv_heads, groups, size).transpose(1, 2)
            together = together.reshape(self._slots, kv_heads, self.samples * groups, size)
            out, logsumexp = partial_attention(together, prompt_key, prompt_value, prompt_bias, scores)
            out = out.reshape(self._slots, kv_heads, self.samples, groups, -1).transpose(1, 2)
            logsumexp = logsumexp.reshape(self._slots, kv_heads, self.samples, groups).transpose(1, 2)
            parts.append(self._active((out.flatten(0, 1), logsumexp.flatten(0, 1))))
        if self.prefix:
            together = rows.transpose(0, 1).reshape(1, kv_heads, n_rows * groups, size)
            out, logsumexp = partial_attention(together, *self.prefix[layer], prefix_bias, scores)
            out = out.reshape(kv_heads, n_rows, groups, -1).transpose(0, 1)
            parts.append((out, logsumexp.reshape(kv_heads, n_rows, groups).transpose(0, 1)))
        return merge(parts).to(query.dtype).reshape(1, n_rows, heads, -1)

    def _active(self, part: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return part if self._dense else (part[0][self._rows], part[1][self._rows])

    def _biases_for(self, window: int | None, groups: int) -> Biases:
        """What each part must hide: unused columns, and keys `window` or more positions back. None: nothing."""
        if window in self._biases:
            return self._biases[window]
        far = np.inf if window is None else window
        columns = np.arange(self._longest_own)
        length = self.own_length[: self._all_rows, None]
        own = self._additive(((columns >= length) | (length - 1 - columns >= far))[:, None], 1)
        prompt = prefix = None
        if self._longest_prompt:
            now = np.zeros(self._all_rows)
            now[self._active_rows] = self._positions
            columns = np.arange(self._longest_prompt)
            unused = columns >= np.repeat(self.prompt_length[: self._slots], self.samples)[:, None]
            hidden = unused | (now[:, None] - (self.start + columns) >= far)
            prompt = self._additive(hidden.reshape(self._slots, self.samples, -1), groups)
        if self.start and window is not None:
            prefix = self._additive((self._positions[:, None] - np.arange(self.start) >= far)[None], groups)
        self._biases[window] = prefix, prompt, own
        return self._biases[window]

    def _additive(self, hidden: np.ndarray, groups: int) -> Tensor | None:
        """hidden (B, Q, columns) -> additive (B, 1, Q * groups, columns), or None where nothing is hidden."""
        if not hidden.any():
            return None
        smallest = torch.finfo(self._dtype).min  # finite: a part that is hidden altogether gets weight 0, not NaN
        bias = np.where(hidden, np.float32(smallest), np.float32(0)).repeat(groups, 1)[:, None]
        return torch.from_numpy(bias).to(self._device, self._dtype)


def _buffers(layer: tuple[Tensor, Tensor], rows: int, size: int) -> tuple[Tensor, Tensor]:
    """Zeros for keys and values (rows, K, size, D) like one layer's (1, K, tokens, D)."""
    key, value = (_zeros(part, (rows, part.shape[1], size, part.shape[3])) for part in layer)
    return key, value


def _zeros(like: Tensor, shape: tuple[int, ...]) -> Tensor:
    """`like.new_zeros(shape)`; on a CPU from calloc, whose pages are made only when they are touched: room for answers
    that end early is never filled."""
    if like.device.type != "cpu":
        return like.new_zeros(shape)
    n_bytes = math.prod(shape) * like.element_size()
    raw = np.zeros(n_bytes + ALIGNMENT, dtype=np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return torch.from_numpy(raw[start : start + n_bytes]).view(like.dtype).view(shape)
