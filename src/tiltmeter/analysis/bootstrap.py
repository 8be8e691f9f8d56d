"""Paired cluster bootstrap and swap permutation of pooled statistics, in blocks of bounded memory.

Whole clusters are drawn; the same draw serves both models, so what makes a question hard or easy cancels. A draw is a
row of integer weights (how often each cluster came up), never a list of items: means become matrix products.

Source: Davison & Hinkley 1997, Bootstrap Methods and their Application, 2.4 and 4.3 (resampling clusters, tests).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.change import Interval
from tiltmeter.analysis.distributions import norm, student
from tiltmeter.analysis.types import Array, Statistic
from tiltmeter.messages import Message, say

BLOCK_CELLS = 4_000_000  # weights held at once: 32 MB of float64
UNDEFINED_SHARE = 0.05  # more draws without a value than this: no interval
TIE = 1e-9  # relative; a permuted value this close to the observed one counts as reaching it


def bootstrap_weights(n_clusters: int, draws: int, seed: int) -> Iterator[Array]:
    """Blocks (block, clusters) of multinomial weights; every row sums to n_clusters."""
    start = 0
    weights = _all_weights(n_clusters, draws, seed)
    for size in _blocks(n_clusters, draws):
        yield weights[start : start + size].astype(np.float64)
        start += size


@lru_cache(maxsize=4)
def _all_weights(n_clusters: int, draws: int, seed: int) -> NDArray[np.uint8]:
    """(draws, clusters), 25 MB for 10,000 draws of 2,556 questions; kept because every strategy of a run uses the same.

    No cluster comes up 256 times: with n of n that has a probability below 1e-300.
    """
    rng = np.random.default_rng(seed)
    weights = np.empty((draws, n_clusters), dtype=np.uint8)
    start = 0
    for size in _blocks(n_clusters, draws):
        picked = rng.integers(0, n_clusters, size=(size, n_clusters), dtype=np.int32)
        picked += np.arange(size, dtype=np.int32)[:, None] * n_clusters  # one bincount serves the whole block
        weights[start : start + size] = np.bincount(picked.ravel(), minlength=size * n_clusters).reshape(
            size, n_clusters
        )
        start += size
    return weights


def swap_weights(n_clusters: int, draws: int, seed: int) -> Iterator[Array]:
    """Blocks (block, clusters) of fair coins: 1.0 where the cluster's two models change places."""
    rng = np.random.default_rng(seed)
    for size in _blocks(n_clusters, draws):
        words = rng.integers(0, 2**64, size=(size, (n_clusters + 63) // 64), dtype=np.uint64)
        yield np.unpackbits(words.view(np.uint8), axis=1, count=n_clusters).astype(np.float64)


def bootstrap(
    statistics: Sequence[Statistic], n_clusters: int, *, seed: int, draws: int = 10_000
) -> list[tuple[Array, Array]]:
    """(base, variant) values per statistic, each (draws,) or (draws, k), all from the same draws."""
    collected: list[tuple[list[Array], list[Array]]] = [([], []) for _ in statistics]
    for weights in bootstrap_weights(n_clusters, draws, seed):
        for statistic, (base, variant) in zip(statistics, collected, strict=True):
            base.append(statistic(weights, None))
            variant.append(statistic(None, weights))
    return [(np.concatenate(base), np.concatenate(variant)) for base, variant in collected]


def swap_test(statistics: Sequence[Statistic], n_clusters: int, *, seed: int, draws: int = 10_000) -> list[Array]:
    """Two-sided p of each statistic's change, shape () or (k,): (1 + #{|change*| >= |change|}) / (1 + draws).

    Exact under the null that base and variant are exchangeable cluster by cluster. A permuted change that is undefined
    counts as reaching the observed one (conservative). NaN where the observed change is undefined.
    """
    ones = np.ones((1, n_clusters))
    observed = [(s(None, ones) - s(ones, None))[0] for s in statistics]
    reached = [np.zeros(np.shape(value)) for value in observed]
    for swapped in swap_weights(n_clusters, draws, seed):
        kept = 1.0 - swapped
        for place, statistic in enumerate(statistics):
            permuted = statistic(swapped, kept) - statistic(kept, swapped)
            threshold = np.abs(observed[place]) * (1 - TIE)
            reached[place] += np.sum(~(np.abs(permuted) < threshold), axis=0)
    return [
        np.where(np.isfinite(value), (1 + count) / (1 + draws), np.nan)
        for value, count in zip(observed, reached, strict=True)
    ]


def sign_flip_test(contributions: Array, *, seed: int, draws: int = 10_000) -> float:
    """Two-sided p of sum(contributions), shape (clusters,), when each one's sign is a fair coin under the null."""
    observed = abs(float(contributions.sum()))
    if not np.isfinite(observed) or len(contributions) < 2:
        return float("nan")
    reached = 0
    for swapped in swap_weights(len(contributions), draws, seed):
        reached += int(np.sum(np.abs((1 - 2 * swapped) @ contributions) >= observed * (1 - TIE)))
    return (1 + reached) / (1 + draws)


def percentile_interval(values: Array, n_clusters: int, level: float = 0.95) -> Interval:
    """Middle of the draws (draws,); none when over 5 % of them are undefined.

    Expanded percentile: the tail is Phi(-t sqrt(n / (n - 1))), t with n - 1 df, instead of (1 - level) / 2, because
    draws from n clusters are too narrow by sqrt((n - 1) / n) and know nothing of t. At 70 clusters
    2.2 % a tail, not 2.5. Source: Hesterberg 2015, What Teachers Should Know About the Bootstrap, 3.3.
    """
    reason = undefined_reason(values)
    if reason:
        return Interval(np.nan, np.nan, level, reason)
    tail = norm.cdf(-student.ppf((1 + level) / 2, n_clusters - 1) * np.sqrt(n_clusters / (n_clusters - 1)))
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high), level)


def normal_interval(estimate: float, values: Array, level: float = 0.95) -> Interval:
    """estimate +- z bootstrap standard deviations: what held for the Gini, whose draws are shifted by their ties."""
    reason = undefined_reason(values) or (None if np.isfinite(estimate) else say("missing.score"))
    if reason:
        return Interval(np.nan, np.nan, level, reason)
    half = float(norm.ppf((1 + level) / 2) * np.nanstd(values, ddof=1))
    return Interval(estimate - half, estimate + half, level)


def undefined_reason(values: Array) -> Message | None:
    """Why these draws give no interval, or None."""
    share = float(np.mean(~np.isfinite(values))) if values.size else 1.0
    if share > UNDEFINED_SHARE:
        return say("missing.draws", share=f"{100 * share:.0f}", most=f"{100 * UNDEFINED_SHARE:.0f}")
    return None


def _blocks(n_clusters: int, draws: int) -> Iterator[int]:
    size = int(np.clip(BLOCK_CELLS // max(n_clusters, 1), 1, draws))
    for start in range(0, draws, size):
        yield min(size, draws - start)
