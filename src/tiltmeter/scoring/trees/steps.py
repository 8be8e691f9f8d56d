"""How decoding goes from one token to the next, the slow way: a forward, then the choice on the host, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tiltmeter.messages import Text
from tiltmeter.scoring.trees.cache import KV
from tiltmeter.scoring.trees.decode_store import DecodeStore
from tiltmeter.scoring.trees.tree_model import TreeModel, windows_of_layers
from tiltmeter.scoring.writing import Writing, extend

Active = Sequence[tuple[int, Writing]]  # rows of the store that are still writing, ascending


@dataclass(frozen=True)
class Sizes:
    """What a `DecodeStore` must hold; `shared` and `own`: tokens of the longest such part."""

    slots: int
    width: int
    shared: int
    own: int


class Steps:
    """One step at a time.

    Args:
        one_kernel: attend by the kernel of `decode_attention`.
    """

    notes: Sequence[Text] = ()

    def __init__(self, model: TreeModel, *, one_kernel: bool) -> None:
        self.model = model
        self._one_kernel = one_kernel

    def store(self, prefix: KV | None, sizes: Sizes, like: KV) -> DecodeStore:
        """An empty store; `like` as there."""
        windows = windows_of_layers(self.model.variant.model.config)
        return DecodeStore(
            prefix, sizes.slots, sizes.width, sizes.shared, sizes.own, windows, like, one_kernel=self._one_kernel
        )

    def advance(self, store: DecodeStore, active: Active, slots: int) -> None:
        """At least one more token for each of the `active` rows, all of them in the first `slots` slots."""
        rows = np.array([row for row, _ in active])
        positions = store.begin_step(rows, slots)
        device = self.model.variant.device
        ids = torch.tensor([writing.ids[-1] for _, writing in active], device=device)
        self.model.tokens_computed += len(rows)
        logits = self.model.step(ids, torch.from_numpy(positions).to(device), store)
        extend([writing for _, writing in active], logits)

    def drop(self) -> None:
        """Give back what was kept from batch to batch."""
