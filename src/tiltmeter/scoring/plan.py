"""Which requests are answered together: a pure function of the requests, a token budget and a salt. No torch.

A batch is the unit of commit and resume, so its make-up must not depend on the clock, the machine or what is already
done. Requests are sorted so that shared prefixes stand together, then cut into batches of bounded work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tiltmeter.scoring.prefix_tree import common_prefix
from tiltmeter.scoring.requests import Generation, Request

PACKS_PER_BATCH = 8  # forwards of one scoring batch: enough to share prefixes, little enough to lose when killed
TOKENS_PER_ROW = 4  # a decoding step runs batch_tokens / 4 rows: 128 where a forward takes 512 tokens
ROWS_PER_BATCH = 2  # times the decoding width: how many generations make a batch, so that finished rows are refilled


@dataclass(frozen=True)
class Widths:
    """What a token budget means for each kind of work.

    Attributes:
        pack_tokens: new tokens in one forward.
        rows: sequences decoded side by side.
    """

    pack_tokens: int
    rows: int


def widths(batch_tokens: int) -> Widths:
    """The sizes that follow from `batch_tokens`, the number of tokens in one forward."""
    return Widths(max(1, batch_tokens), max(1, batch_tokens // TOKENS_PER_ROW))


def plan(
    requests: Sequence[Request], tokens: Sequence[Sequence[int]], batch_tokens: int, salt: str = ""
) -> list[list[int]]:
    """Batches of indices into `requests`; every index comes once.

    Without a salt, requests of a kind are sorted by their token ids: neighbours share prefixes, samples of one prompt
    stay together. With one, prompts are shuffled by it instead (samples still together) and the batches are a
    different size: the composition differs, the questions do not.

    Args:
        tokens: the ids of each request's text.
        batch_tokens: tokens in one forward.
        salt: names another composition.
    """
    kinds: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        kinds.setdefault(type(request).__name__, []).append(index)
    batches = []
    for kind in sorted(kinds):
        indices = sorted(kinds[kind], key=lambda index: (_place(tokens[index], salt), index))
        batches += _cut(indices, requests, tokens, widths(batch_tokens), salt)
    return batches


def _place(ids: Sequence[int], salt: str) -> bytes:
    """Sort key: the ids as big-endian bytes sort as the ids do, in a tenth of a tuple's memory."""
    if not salt:
        return np.asarray(ids, dtype=">u4").tobytes()
    return hashlib.sha256(repr((salt, tuple(ids))).encode()).digest()


def _cut(
    indices: list[int], requests: Sequence[Request], tokens: Sequence[Sequence[int]], size: Widths, salt: str
) -> list[list[int]]:
    """Cut sorted `indices` where the next prompt would exceed the batch's work; equal prompts are never parted."""
    generates = isinstance(requests[indices[0]], Generation)
    limit = size.rows * ROWS_PER_BATCH if generates else size.pack_tokens * PACKS_PER_BATCH
    costs = [1 if generates else len(tokens[index]) - common_prefix(tokens[index], before)
             for index, before in zip(indices, [(), *(tokens[index] for index in indices)], strict=False)]
    if salt:  # another size too, and never everything together again
        limit = min(int(0.75 * limit), int(0.6 * sum(costs)))
    batches: list[list[int]] = []
    used = 0
    for index, cost in zip(indices, costs, strict=True):
        repeats = bool(batches) and list(tokens[index]) == list(tokens[batches[-1][-1]])
        if not batches or (used + cost > limit and not repeats):
            batches.append([])
            used = 0
        batches[-1].append(index)
        used += cost
    return batches
