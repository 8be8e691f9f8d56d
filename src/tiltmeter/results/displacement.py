"""Do the items whose distributions moved most change most in bias? Rank correlations, per cell; no verdict.

Displacement is not direction: the first tells whether displaced items change at all, the second whether they change
toward the bias; the first may be high where the second is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tiltmeter.benchmarks.base import NAN, Benchmark, Outcome, mean
from tiltmeter.schema.fidelity import Divergence

FEWEST = 10  # items; fewer give no correlation
SIZE, SIGNED, ITEMS = "divergence:rank_of_size", "divergence:rank_of_change", "divergence:items"


def displacement(
    found: Divergence | None, benchmark: Benchmark, base: Sequence[Outcome], variant: Sequence[Outcome]
) -> dict[str, float]:
    """Spearman's correlation of an item's divergence with the size of its change, and with its signed change.

    An item's change is that of its score, or of `Benchmark.strength`. NaN where fewer than 10 items have both, or where
    nothing changed. Empty where no divergence was measured.
    """
    if found is None or not found.items:
        return {}
    of_item = dict(zip(found.items, found.of_item))
    before, after = ({o.item: _lean(benchmark, o) for o in side if o.item in of_item} for side in (base, variant))
    pairs = [
        (of_item[item], after[item] - before[item])
        for item in before
        if item in after and math.isfinite(after[item] - before[item]) and math.isfinite(of_item[item])
    ]
    moved = [(divergence, abs(change)) for divergence, change in pairs]
    return {SIZE: rank_correlation(moved), SIGNED: rank_correlation(pairs), ITEMS: float(len(pairs))}


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float:
    """Spearman's; ties share their mean rank. NaN where either side is constant, or below 10 pairs."""
    from scipy.stats import rankdata  # a second of imports, for what few commands need

    if len(pairs) < FEWEST:
        return NAN
    ranks = rankdata(np.array(pairs), axis=0)
    if (ranks.std(axis=0) == 0).any():
        return NAN
    return float(np.corrcoef(ranks.T)[0, 1])


def _lean(benchmark: Benchmark, outcome: Outcome) -> float:
    if benchmark.strength is None:
        return outcome.score
    return mean([sample.values.get(benchmark.strength, NAN) for sample in outcome.samples])
