"""Assisted decoding, counted: how many guessed tokens did the model accept, overall and for whom?

Rate            accepted / guessed tokens, over all greedy answers of a cell.
Per forward     new tokens / forwards of the model = tokens / (tokens - accepted): the largest speed-up that such
                guessing can give where the guesses cost nothing.
Interval        95 %, by resampling whole clusters of items (percentiles of `DRAWS` draws). Groups of one cluster get
                none.

No text differs from the base's, so no bias score can; but a group whose answers are guessed worse waits longer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tiltmeter.schema.variant import Acceptance
from tiltmeter.seeds import seed_for

DRAWS = 1000


@dataclass(frozen=True)
class Guessed:
    """One item's answers: cluster, groups, and tokens guessed, accepted and written over `answers` answers."""

    cluster: str
    groups: tuple[tuple[str, str], ...]
    answers: int
    guessed: int
    accepted: int
    written: int


def acceptance(items: Iterable[Guessed], seed: int) -> tuple[Acceptance, ...]:
    """Overall first, then each group in the order groups appear; () where nothing was guessed."""
    by_group: dict[tuple[str, str], list[Guessed]] = {("", ""): []}
    for item in items:
        if item.guessed:
            for key in (("", ""), *item.groups):
                by_group.setdefault(key, []).append(item)
    if not by_group["", ""]:
        return ()
    return tuple(_rate(key, members, seed) for key, members in by_group.items())


def _rate(key: tuple[str, str], members: list[Guessed], seed: int) -> Acceptance:
    clusters: dict[str, list[int]] = {}
    for item in members:
        sums = clusters.setdefault(item.cluster, [0, 0])
        sums[0] += item.accepted
        sums[1] += item.guessed
    counts = np.array(list(clusters.values()), dtype=float)  # (clusters, 2): accepted, guessed
    accepted, written = int(counts[:, 0].sum()), sum(item.written for item in members)
    low = high = float("nan")
    if len(counts) > 1:
        rng = np.random.default_rng(seed_for(seed, "acceptance", *key))
        drawn = counts[rng.integers(0, len(counts), size=(DRAWS, len(counts)))].sum(axis=1)
        low, high = (float(each) for each in np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975)))
    return Acceptance(
        attribute=key[0],
        group=key[1],
        answers=sum(item.answers for item in members),
        guessed=int(counts[:, 1].sum()),
        rate=accepted / float(counts[:, 1].sum()),
        low=low,
        high=high,
        tokens_per_forward=written / (written - accepted),
    )
