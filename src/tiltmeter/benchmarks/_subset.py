"""A limited run that keeps a benchmark's balance: whole units, dealt round-robin over strata and their clusters."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tiltmeter.benchmarks.base import Item
from tiltmeter.seeds import seed_for


def dealt(
    items: Sequence[Item],
    limit: int | None,
    *,
    seed: int,
    of: str,
    stratum: Callable[[Item], str],
    unit: Callable[[Item], str],
) -> list[Item]:
    """About `limit` items in file order; None keeps all. One unit of every stratum in turn, and within a stratum one of
    every cluster in turn, both in an order drawn from `seed` and the benchmark's name `of`."""
    if limit is None or limit >= len(items):
        return list(items)
    rng = np.random.default_rng(seed_for(seed, "limit", of))
    strata: dict[str, dict[str, dict[str, list[int]]]] = {}
    for index, item in enumerate(items):
        strata.setdefault(stratum(item), {}).setdefault(item.cluster, {}).setdefault(unit(item), []).append(index)
    queues = [_round_robin([list(units.values()) for units in clusters.values()], rng) for clusters in strata.values()]
    kept: list[int] = []
    for depth in range(max(map(len, queues))):
        for queue in queues:
            if depth < len(queue) and len(kept) < limit:
                kept += queue[depth]
    return [items[index] for index in sorted(kept)]


def _round_robin(clusters: list[list[list[int]]], rng: np.random.Generator) -> list[list[int]]:
    """Units of one stratum: one of every cluster in a random order, then the next of each …"""
    shuffled = [[units[i] for i in rng.permutation(len(units))] for units in clusters]
    order = [shuffled[i] for i in rng.permutation(len(shuffled))]
    return [units[depth] for depth in range(max(map(len, order))) for units in order if depth < len(units)]
