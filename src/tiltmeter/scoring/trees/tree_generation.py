"""Generation: prompts prefilled as trees, rows decoded side by side, finished rows replaced at once.

Prompts wait in sorted order. Whenever there is room for those of the next slot and their samples, they move into the
`DecodeStore`; when the prefilled ones run out, the next piece of the prompts' tree is prefilled. Only rows that are
still writing go through the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tiltmeter.scoring.trees import prefix_tree
from tiltmeter.scoring.trees.cache import KV
from tiltmeter.scoring.trees.decode_store import DecodeStore, Kept
from tiltmeter.scoring.trees.slots import slots
from tiltmeter.scoring.trees.steps import Active, Sizes, Steps
from tiltmeter.scoring.trees.tree_model import TreeModel, shared_blocks
from tiltmeter.scoring.writing import Writing, extend


@dataclass(frozen=True)
class Prefilled:
    """A prompt that has been computed.

    Attributes:
        writings: the samples asked of it.
        tokens: its keys and values, without the prefix.
        logits: float32 (1, V), after its last token.
    """

    writings: list[Writing]
    tokens: Kept
    logits: Tensor


def write(
    steps: Steps, prompts: Sequence[Sequence[int]], writings: Sequence[list[Writing]], *, rows: int, budget: int
) -> None:
    """Finish all `writings`, `steps` deciding how a token follows another.

    Args:
        prompts: ids, sorted; writings: per prompt, the samples asked of it (at most `rows`).
        rows: sequences decoded side by side; budget: new tokens per prefill.
    """
    model = steps.model
    start = shared_blocks(prompts)  # read once per step for all rows
    longest_answer = max(writing.request.max_new_tokens for group in writings for writing in group)
    layout = slots(prompts, [len(group) for group in writings], start, longest_answer, rows)
    width = max(slot.rows for slot in layout)
    # some rows of a slot finish before others: with a few more slots the forward stays full
    n_slots = min(len(layout), rows if width == 1 else -(-3 * rows // (2 * width)))
    store: DecodeStore | None = None
    working: list[list[Writing]] = []  # by slot
    prefix = model.prefix_of(prompts[0][:start])
    queue = _prefilled(model, prompts, writings, start, prefix, budget)
    waiting = ((slot, [next(queue) for _ in slot.prompts]) for slot in layout)
    upcoming = next(waiting, None)
    while working or upcoming:
        active = sum(not writing.done for slot in working for writing in slot)
        while upcoming and len(working) < n_slots and (active == 0 or active + upcoming[0].rows <= rows):
            slot, found = upcoming
            for prefilled in found:
                extend(prefilled.writings, prefilled.logits.expand(len(prefilled.writings), -1))
            started = sum(not writing.done for prefilled in found for writing in prefilled.writings)
            if started:
                if store is None:
                    shared = max(slot.shared for slot in layout)
                    own = max(slot.own for slot in layout) + longest_answer
                    store = steps.store(prefix, Sizes(n_slots, width, shared, own), found[0].tokens.states)
                store.admit(
                    len(working),
                    found[0].tokens[: slot.shared],
                    [prefilled.tokens[slot.shared :] for prefilled in found for _ in prefilled.writings],
                )
                working.append([writing for prefilled in found for writing in prefilled.writings])
                active += started
            upcoming = next(waiting, None)
        if store is not None and working:
            steps.advance(store, _active(store, working), len(working))
            _close_gaps(store, working)


def _active(store: DecodeStore, working: list[list[Writing]]) -> Active:
    """The rows that are still writing."""
    return [
        (slot * store.width + row, writing)
        for slot, group in enumerate(working)
        for row, writing in enumerate(group)
        if not writing.done
    ]


def _close_gaps(store: DecodeStore, working: list[list[Writing]]) -> None:
    """Move the last slots into those whose writings are all done."""
    for slot in range(len(working) - 1, -1, -1):
        if all(writing.done for writing in working[slot]):
            last = len(working) - 1
            if slot != last:
                store.move(last, slot)
                working[slot] = working[last]
            working.pop()


def _prefilled(
    model: TreeModel,
    prompts: Sequence[Sequence[int]],
    writings: Sequence[list[Writing]],
    start: int,
    prefix: KV | None,
    budget: int,
) -> Iterator[Prefilled]:
    """The prompts in order; their tree is computed piece by piece, each when the first prompt it ends is taken."""
    tree = prefix_tree.build(prompts, start)
    for done in model.over(tree, np.unique(tree.last_nodes), prefix, budget, keep=True):
        for index in range(*np.searchsorted(tree.last_nodes, [done.piece.first, done.piece.stop])):
            row = int(np.searchsorted(done.nodes, tree.last_nodes[index]))
            tokens = Kept(done.kept, done.piece.columns(tree.paths[index]))
            yield Prefilled(writings[index], tokens, done.logits[row : row + 1])
