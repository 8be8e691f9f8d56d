"""Which prompts share a slot of the `DecodeStore`: what their beginnings have in common is then read once per step.

A decoding step reads all keys and values of its rows. Rows of a slot read one part together: the whole prompt, where
they are samples of it, or the beginning that several prompts share. Every slot has as many rows, and the rows of a
slot are replaced together, so a slot is not worth having for a few tokens or for many rows.

Cost rule   Keys that a step reads: slots * (longest shared part + rows per slot * longest part of a row's own).
            k rows that share s tokens, and one more that has c of them: apart s + c keys, together c + k * (s - c),
            so they join where c > (k - 1) * (s - c). The layout with joined prompts is taken where it reads less
            than the one without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tiltmeter.scoring.trees.prefix_tree import common_prefix

SHORTEST_SHARED = 64  # tokens: reading fewer is not worth a part of attention of its own
MOST_ROWS = 8  # of joined prompts: a row that has ended waits for the others of its slot


@dataclass(frozen=True)
class Slot:
    """Neighbouring prompts whose rows go side by side.

    Attributes:
        prompts: their numbers; rows: how many texts they are asked for together.
        shared: tokens, after the prefix that all prompts share, that these have in common and read together.
        own: most tokens that one of them has beyond.
    """

    prompts: range
    rows: int
    shared: int
    own: int


def slots(prompts: Sequence[Sequence[int]], rows: Sequence[int], start: int, new: int, most: int) -> list[Slot]:
    """Slots for sorted `prompts`, in their order.

    Args:
        prompts: ids; rows: per prompt, how many texts are asked of it.
        start: tokens that all share and keep elsewhere.
        new: longest answer in tokens.
        most: rows that may be decoded side by side.
    """
    most = min(most, MOST_ROWS)
    several = max(rows) > 1
    rests = [len(prompt) - start for prompt in prompts]
    apart = [
        Slot(range(index, index + 1), count, *((rest, 0) if several else (0, rest)))
        for index, (count, rest) in enumerate(zip(rows, rests, strict=True))
    ]
    together: list[Slot] = []
    for index, (count, rest) in enumerate(zip(rows, rests, strict=True)):
        if together:
            last = together[-1]
            common = common_prefix(prompts[last.prompts[0]], prompts[index]) - start
            if (
                common >= SHORTEST_SHARED
                and last.rows + count <= most
                and common > (last.rows - 1) * (last.shared - common)
            ):
                own = max(last.own + last.shared, rest) - common
                together[-1] = Slot(range(last.prompts[0], index + 1), last.rows + count, common, own)
                continue
        together.append(Slot(range(index, index + 1), count, rest, 0))
    return min(apart, together, key=lambda layout: keys_read(layout, new))


def keys_read(layout: Sequence[Slot], new: int) -> float:
    """Keys that one step reads on average, without the prefix that all rows share: half of each answer is there."""
    per_slot = max(slot.rows for slot in layout) * (max(slot.own for slot in layout) + new / 2)
    return len(layout) * (max(slot.shared for slot in layout) + per_slot)
