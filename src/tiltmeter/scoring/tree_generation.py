"""Generation: prompts prefilled as trees, rows decoded side by side, finished rows replaced at once.

Prompts wait in sorted order. Whenever there is room for the next prompt and its samples, it moves into a slot of the
`DecodeStore`; when the prefilled ones run out, the next piece of the prompts' tree is prefilled. Only rows that are
still writing go through the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tiltmeter.scoring import prefix_tree
from tiltmeter.scoring.decode_store import DecodeStore
from tiltmeter.scoring.tree_model import KV, TreeModel, shared_blocks, windows_of_layers
from tiltmeter.scoring.writing import Writing, extend


@dataclass(frozen=True)
class Prefilled:
    """A prompt that has been computed.

    Attributes:
        writings: the samples asked of it.
        kept: keys and values of the piece that ends it; columns: where its tokens are there, without the prefix.
        logits: float32 (1, V), after its last token.
    """

    writings: list[Writing]
    kept: KV
    columns: np.ndarray
    logits: Tensor


def write(
    model: TreeModel, prompts: Sequence[Sequence[int]], writings: Sequence[list[Writing]], *, rows: int, budget: int
) -> None:
    """Finish all `writings`.

    Args:
        prompts: ids, sorted; writings: per prompt, the samples asked of it (at most `rows`).
        rows: sequences decoded side by side; budget: new tokens per prefill.
    """
    start = shared_blocks(prompts)  # read once per step for all rows
    samples = max(map(len, writings))
    # some rows of a slot finish before others: with a few more slots the forward stays full
    n_slots = min(len(prompts), rows if samples == 1 else -(-3 * rows // (2 * samples)))
    store: DecodeStore | None = None
    slots: list[list[Writing]] = []
    prefix = model.prefix_of(prompts[0][:start])
    queue = _prefilled(model, prompts, writings, start, prefix, budget)
    upcoming = next(queue, None)
    while slots or upcoming:
        active = sum(not writing.done for slot in slots for writing in slot)
        while upcoming and len(slots) < n_slots and (active == 0 or active + len(upcoming.writings) <= rows):
            extend(upcoming.writings, upcoming.logits.expand(len(upcoming.writings), -1))
            started = sum(not writing.done for writing in upcoming.writings)
            if started:
                if store is None:
                    store = DecodeStore(
                        prefix, n_slots, samples, max(map(len, prompts)) - start,
                        max(writing.request.max_new_tokens for group in writings for writing in group),
                        windows_of_layers(model.variant.model.config), upcoming.kept,
                    )
                store.admit(len(slots), upcoming.kept, upcoming.columns)
                slots.append(upcoming.writings)
                active += started
            upcoming = next(queue, None)
        if store is not None and slots:
            _step(model, store, slots)
            _close_gaps(store, slots)


def _step(model: TreeModel, store: DecodeStore, slots: list[list[Writing]]) -> None:
    """One more token for every row that is still writing."""
    active = [
        (slot * store.samples + sample, writing)
        for slot, group in enumerate(slots) for sample, writing in enumerate(group) if not writing.done
    ]
    rows = np.array([row for row, _ in active])
    logits = model.step([writing.ids[-1] for _, writing in active], store, rows, len(slots))
    extend([writing for _, writing in active], logits)


def _close_gaps(store: DecodeStore, slots: list[list[Writing]]) -> None:
    """Move the last slots into those whose writings are all done."""
    for slot in range(len(slots) - 1, -1, -1):
        if all(writing.done for writing in slots[slot]):
            last = len(slots) - 1
            if slot != last:
                store.move(last, slot)
                slots[slot] = slots[last]
            slots.pop()


def _prefilled(
    model: TreeModel, prompts: Sequence[Sequence[int]], writings: Sequence[list[Writing]], start: int,
    prefix: KV | None, budget: int,
) -> Iterator[Prefilled]:
    """The prompts in order; their tree is computed piece by piece, each when the first prompt it ends is taken."""
    tree = prefix_tree.build(prompts, start)
    for done in model.over(tree, np.unique(tree.last_nodes), prefix, budget, keep=True):
        for index in range(*np.searchsorted(tree.last_nodes, [done.piece.first, done.piece.stop])):
            row = int(np.searchsorted(done.nodes, tree.last_nodes[index]))
            columns = done.piece.columns(tree.paths[index])
            yield Prefilled(writings[index], done.kept, columns, done.logits[row : row + 1])
