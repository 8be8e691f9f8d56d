"""Keys and values of sequences that are being decoded side by side, in three parts, each read once per step.

    prefix    tokens that all prompts share                   read once for all rows
    shared    what the rows of a slot have in common          read once for all rows of that slot
    own       the rest of its prompt, and what it has written read by that row

A row attends to the three parts separately; `attention.merge` joins them by their log-sum-exps, which is exact. Where
a card has the kernel of `decode_attention`, it does all of that in one launch, and asks the host for nothing. Which
prompts share a slot is decided in `slots.py`. Buffers (`Room`) are allocated once and written in place, so a step
copies nothing.

Shapes: S slots, M rows per slot, rows = S * M, n of them active; K key-value heads, G query heads per key-value head,
D head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from transformers import Cache

from tiltmeter.scoring.kernels.attention import Scores, merge, partial_attention
from tiltmeter.scoring.kernels.decode_attention import decode_attention
from tiltmeter.scoring.kernels.decode_definition import Now
from tiltmeter.scoring.trees.cache import KV
from tiltmeter.scoring.trees.room import Room, whole_keys

Biases = tuple[Tensor | None, Tensor | None, Tensor | None]  # of the prefix, shared and own parts


@dataclass(frozen=True)
class Kept:
    """Some tokens among the keys and values of a forward: `columns` of `states`. Slices like a sequence of tokens."""

    states: KV
    columns: np.ndarray

    def __getitem__(self, part: slice) -> Kept:
        return Kept(self.states, self.columns[part])


class DecodeStore(Cache):
    """The cache of `slots` slots with up to `width` rows each.

    Args:
        prefix: keys and values of the prefix that all prompts share, per layer, or None.
        shared: longest shared part of a slot in tokens; own: longest own part of a row.
        windows: per layer, how many positions back it sees (None: all).
        like: keys and values of some tokens, for shapes, dtype and device.
        room: the buffers, with what they held before; None: new ones.
        one_kernel: attend by `decode_attention` instead of part by part.
    """

    def __init__(
        self,
        prefix: KV | None,
        slots: int,
        width: int,
        shared: int,
        own: int,
        windows: Sequence[int | None],
        like: KV,
        room: Room | None = None,
        one_kernel: bool = False,
    ) -> None:
        super().__init__(layers=[])
        self.prefix, self.width, self.windows = prefix, width, list(windows)
        self.start = prefix[0][0].shape[2] if prefix else 0
        self._device = like[0][0].device
        self._dtype = like[0][0].dtype
        self._room = room or Room()
        self._room.fit(like, rows=slots * width, own=own, slots=slots, shared=shared, prefix=self.start * one_kernel)
        self._own, self._shared = self._room.own, self._room.shared
        self._one_kernel = one_kernel
        self._now: Now | None = None
        if one_kernel and prefix:
            for buffers, layer in zip(self._room.prefix, prefix, strict=True):
                for buffer, states in zip(buffers, layer, strict=True):
                    buffer[:, :, : self.start] = states
        self.shared_length = np.zeros(slots, dtype=np.int64)  # without the prefix
        self.own_length = np.zeros(slots * width, dtype=np.int64)
        self.calls = 0
        self._admitted: list[tuple[Literal["own", "shared"], int, Kept]] = []

    def admit(self, slot: int, shared: Kept, owns: Sequence[Kept]) -> None:
        """Fill `slot` with what its rows share, and with the rest of each row's prompt; see `settle`."""
        self._fill("shared", slot, shared)
        self.shared_length[slot] = len(shared.columns)
        self.own_length[slot * self.width : (slot + 1) * self.width] = 0
        for row, own in enumerate(owns, slot * self.width):
            self._fill("own", row, own)
            self.own_length[row] = len(own.columns)

    def _fill(self, part: Literal["own", "shared"], row: int, tokens: Kept) -> None:
        if not len(tokens.columns):
            return
        if self._admitted and self._admitted[0][2].states is not tokens.states:
            self.settle()  # one piece's keys and values are kept, not those of all that will be admitted
        self._admitted.append((part, row, tokens))

    def settle(self) -> None:
        """Copy what was admitted into the buffers: all rows of a layer at once, because a card takes longer to be told
        of a copy than to make it. Before every step, and before slots move."""
        admitted, self._admitted = self._admitted, []
        for part, target in (("own", self._own), ("shared", self._shared)):
            chosen = [(row, tokens) for where, row, tokens in admitted if where == part]
            if not chosen:
                continue
            lengths = [len(tokens.columns) for _, tokens in chosen]
            rows, places, nodes = (
                torch.from_numpy(np.concatenate(parts)).to(self._device)
                for parts in (
                    [np.full(length, row) for (row, _), length in zip(chosen, lengths, strict=True)],
                    [np.arange(length) for length in lengths],
                    [tokens.columns for _, tokens in chosen],
                )
            )
            for layer, into in zip(chosen[0][1].states, target, strict=True):
                for states, buffer in zip(layer, into, strict=True):
                    buffer[rows, :, places] = states[0].index_select(1, nodes).transpose(0, 1)  # (tokens, K, D)

    def move(self, source: int, target: int) -> None:
        """Copy slot `source` over slot `target`."""
        self.settle()
        rows_from = slice(source * self.width, (source + 1) * self.width)
        rows_to = slice(target * self.width, (target + 1) * self.width)
        used = int(self.own_length[rows_from].max())
        for pair in self._own:
            for buffer in pair:
                buffer[rows_to, :, :used] = buffer[rows_from, :, :used]
        for pair in self._shared:
            for buffer in pair:
                buffer[target] = buffer[source]
        self.own_length[rows_to] = self.own_length[rows_from]
        self.shared_length[target] = self.shared_length[source]

    def begin_step(self, rows: np.ndarray, slots: int) -> np.ndarray:
        """Prepare one new token for each of the active `rows`, all of them in the first `slots` slots.

        Returns: the positions of the new tokens, shape (n,).
        """
        self.settle()
        positions = self.start + self.shared_length[rows // self.width] + self.own_length[rows]
        self._active_rows = rows
        self._rows = torch.from_numpy(rows).to(self._device)
        self._columns = torch.from_numpy(self.own_length[rows]).to(self._device)
        self._slots = slots
        self._all_rows = slots * self.width
        self._dense = len(rows) == self._all_rows  # then query rows are buffer rows
        self.own_length[rows] += 1
        self._longest_own = whole_keys(int(self.own_length[: self._all_rows].max()), self._device)
        self._longest_shared = whole_keys(int(self.shared_length[:slots].max()), self._device)
        self._positions = positions
        self._biases: dict[int | None, Biases] = {}  # by window, made when the first layer asks
        if self._one_kernel:
            own, shared, slot = (
                torch.from_numpy(part).to(self._device)
                for part in (self.own_length[rows], self.shared_length[rows // self.width], rows // self.width)
            )
            prefix = torch.full((1,), self.start, dtype=torch.int32, device=self._device)
            self._now = Now(self._rows, slot, prefix, shared.int(), own.int())
        return positions

    def begin_on_device(self, now: Now, columns: Tensor) -> None:
        """Prepare one new token for each row of `now`, to be stored in its column of the own part (n,). Whoever calls
        this keeps the lengths up to date; nothing is read on the host."""
        self._now, self._rows, self._columns = now, now.rows, columns

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
        if self._now is not None:
            shared, prefix = (part[layer] if part else None for part in (self._shared, self._room.prefix))
            window = self.windows[layer]
            return decode_attention(query[0], self._own[layer], shared, prefix, self._now, scores, window)[None]
        _, heads, n_rows, size = query.shape
        kv_heads = key.shape[1]
        groups = heads // kv_heads
        prefix_bias, shared_bias, own_bias = self._biases_for(self.windows[layer], groups)
        rows = query[0].transpose(0, 1).reshape(n_rows, kv_heads, groups, size)
        every = rows
        if not self._dense:
            every = rows.new_zeros(self._all_rows, *rows.shape[1:]).index_copy_(0, self._rows, rows)

        own_key, own_value = (b[: self._all_rows, :, : self._longest_own] for b in self._own[layer])
        parts = [self._active(partial_attention(every, own_key, own_value, own_bias, scores))]
        if self._longest_shared:
            shared_key, shared_value = (b[: self._slots, :, : self._longest_shared] for b in self._shared[layer])
            together = every.reshape(self._slots, self.width, kv_heads, groups, size).transpose(1, 2)
            together = together.reshape(self._slots, kv_heads, self.width * groups, size)
            out, logsumexp = partial_attention(together, shared_key, shared_value, shared_bias, scores)
            out = out.reshape(self._slots, kv_heads, self.width, groups, -1).transpose(1, 2)
            logsumexp = logsumexp.reshape(self._slots, kv_heads, self.width, groups).transpose(1, 2)
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
        shared = prefix = None
        if self._longest_shared:
            now = np.zeros(self._all_rows)
            now[self._active_rows] = self._positions
            columns = np.arange(self._longest_shared)
            unused = columns >= np.repeat(self.shared_length[: self._slots], self.width)[:, None]
            hidden = unused | (now[:, None] - (self.start + columns) >= far)
            shared = self._additive(hidden.reshape(self._slots, self.width, -1), groups)
        if self.start and window is not None:
            prefix = self._additive((self._positions[:, None] - np.arange(self.start) >= far)[None], groups)
        self._biases[window] = prefix, shared, own
        return self._biases[window]

    def _additive(self, hidden: np.ndarray, groups: int) -> Tensor | None:
        """hidden (B, Q, columns) -> additive (B, 1, Q * groups, columns), or None where nothing is hidden."""
        if not hidden.any():
            return None
        smallest = torch.finfo(self._dtype).min  # finite: a part that is hidden altogether gets weight 0, not NaN
        bias = np.where(hidden, np.float32(smallest), np.float32(0)).repeat(groups, 1)[:, None]
        return torch.from_numpy(bias).to(self._device, self._dtype)
