"""Pooled statistics: functions of cluster weights that give a score, its bootstrap and its permutation alike.

`SumStatistic` covers every score that is a smooth function of sums over clusters (a share, a mean error, a mean of
max - min, a largest minus smallest group mean, most minus least chosen). `CountryMedians` is the one that is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.types import Array

MEDIAN_BLOCK = 2_500  # draws walked through at once: the running sums of one country then stay in cache


@dataclass(frozen=True)
class SumStatistic:
    """A score that depends on the data through sums over clusters only.

    base, variant  (clusters, k): each cluster's contribution to the k sums, under each model
    function       sums (draws, k) -> values (draws,) or (draws, groups); NaN where undefined
    """

    base: Array
    variant: Array
    function: Callable[[Array], Array]

    def __call__(self, base_weights: Array | None, variant_weights: Array | None) -> Array:
        given = [
            weights @ table
            for weights, table in ((base_weights, self.base), (variant_weights, self.variant))
            if weights is not None
        ]
        return self.function(sum(given[1:], start=given[0]))


def divide(numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, NaN where the denominator is 0 (nothing to average)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def mean_statistic(
    base: Array, variant: Array, clusters: NDArray[np.intp], n_clusters: int, *, scale: float = 1.0
) -> SumStatistic:
    """scale x mean of item scores. base, variant (items,) or (items, samples); NaN entries are left out of the mean.

    With samples the score is the mean over sample indices of the mean over items, as the study's tables have it.
    """
    sums_b, sums_v = (_sums_and_counts(scores, clusters, n_clusters) for scores in (base, variant))
    samples = sums_b.shape[1] // 2

    def function(sums: Array) -> Array:
        means: Array = divide(sums[:, :samples], sums[:, samples:]).mean(axis=1)
        return scale * means

    return SumStatistic(sums_b, sums_v, function)


def group_means(
    base: Array,
    variant: Array,
    clusters: NDArray[np.intp],
    n_clusters: int,
    groups: NDArray[np.intp],
    n_groups: int,
    *,
    scale: float = 1.0,
) -> SumStatistic:
    """scale x mean of item scores per group -> (draws, groups). groups (items,): codes, -1 for no group.

    base, variant (items,) or (items, samples): an item with samples counts with their mean.
    """
    member = groups[:, None] == np.arange(n_groups)  # (items, groups)

    def sums(scores: Array) -> Array:
        with np.errstate(invalid="ignore"):
            item = scores if scores.ndim == 1 else _row_mean(scores)
        scored = np.isfinite(item)
        values = np.where(scored, item, 0.0)[:, None] * member
        return np.concatenate(
            [
                cluster_sums(values, clusters, n_clusters),
                cluster_sums((member & scored[:, None]).astype(float), clusters, n_clusters),
            ],
            axis=1,
        )

    return SumStatistic(sums(base), sums(variant), lambda s: scale * divide(s[:, :n_groups], s[:, n_groups:]))


def cluster_sums(values: Array, clusters: NDArray[np.intp], n_clusters: int) -> Array:
    """Sum of rows per cluster: values (items, k), clusters (items,) -> (n_clusters, k)."""
    sums = np.zeros((n_clusters, values.shape[1]))
    np.add.at(sums, clusters, values)
    return sums


def largest_minus_smallest(values: Array) -> Array:
    """max - min over the last axis, groups without a value left out; NaN when fewer than two have one."""
    defined = np.isfinite(values)
    high = np.where(defined, values, -np.inf).max(axis=-1, initial=-np.inf)
    low = np.where(defined, values, np.inf).min(axis=-1, initial=np.inf)
    return np.where(defined.sum(axis=-1) >= 2, high - low, np.nan)


def gini(values: Array) -> Array:
    """Gini coefficient over the last axis: half the relative mean absolute difference, all n x n pairs.

    Equal to sum((2 i - n - 1) x_(i)) / (n sum(x)) with x sorted, i from 1. NaN where a value is NaN or all are 0.
    """
    n = values.shape[-1]
    ranks = 2 * np.arange(1, n + 1) - n - 1
    return divide(np.sort(values, axis=-1) @ ranks, n * values.sum(axis=-1))


@dataclass(frozen=True)
class CountryMedians:
    """Weighted median of a distance per country, for integer question weights; (draws, countries).

    base, variant (questions, countries): NaN where the country did not answer. Equals np.median of the distances
    repeated by their weights (of their cluster, where clusters are given). Distances are sorted once; each draw only
    cumulates its weights in that order, so 10,000 draws of 107 countries take a second instead of an hour.
    """

    base: Array
    variant: Array
    clusters: NDArray[np.intp] | None = None  # (questions,): codes of the clusters that weights are given for
    _orders: dict[str, list[tuple[NDArray[np.intp], Array]]] = field(default_factory=dict, repr=False, compare=False)
    _last: dict[str, tuple[Array | None, Array | None, Array]] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, base_weights: Array | None, variant_weights: Array | None) -> Array:
        last = self._last.get("call")  # the Gini and the table of countries ask for the same block in turn
        if last is not None and last[0] is base_weights and last[1] is variant_weights:
            return last[2]
        given = [w for w in (base_weights, variant_weights) if w is not None]
        side = "both" if len(given) == 2 else "base" if variant_weights is None else "variant"
        if self.clusters is not None:
            given = [w[:, self.clusters] for w in given]
        weights = np.concatenate(given, axis=1).T  # (questions or twice as many, draws)
        medians = np.empty((weights.shape[1], self.base.shape[1]))
        for start in range(0, weights.shape[1], MEDIAN_BLOCK):
            block = np.ascontiguousarray(weights[:, start : start + MEDIAN_BLOCK], dtype=np.uint16)
            totals = (self._asked(side) @ weights[:, start : start + MEDIAN_BLOCK]).astype(np.uint16)
            for country, (order, values) in enumerate(self._sorted(side)):
                medians[start : start + MEDIAN_BLOCK, country] = _weighted_median(values, order, block, totals[country])
        self._last["call"] = (base_weights, variant_weights, medians)
        return medians

    def gini(self, base_weights: Array | None, variant_weights: Array | None) -> Array:
        """Gini over countries of the medians, (draws,)."""
        return gini(self(base_weights, variant_weights))

    def _table(self, side: str) -> Array:
        return {"base": self.base, "variant": self.variant}.get(side, np.concatenate([self.base, self.variant]))

    def _asked(self, side: str) -> Array:
        """(countries, questions): 1.0 where the country answered."""
        return np.isfinite(self._table(side)).T.astype(float)

    def _sorted(self, side: str) -> list[tuple[NDArray[np.intp], Array]]:
        if side not in self._orders:
            self._orders[side] = [_order(column) for column in self._table(side).T]
        return self._orders[side]


def _order(column: Array) -> tuple[NDArray[np.intp], Array]:
    order = np.argsort(column, kind="stable")[: int(np.isfinite(column).sum())]  # NaN sorts last
    return order, column[order]


def _weighted_median(
    values: Array, order: NDArray[np.intp], weights: NDArray[np.uint16], total: NDArray[np.uint16]
) -> Array:
    """Median of `values` (n, ascending), each repeated weights[order] times; weights (questions, draws) -> (draws,).

    total (draws,): sum of weights[order]. The running sums stop where every draw has passed its middle; where a draw
    passes it is counted only in the band of rows in which some draws have and some have not.
    """
    n, draws = len(values), weights.shape[1]
    if not n:
        return np.full(draws, np.nan)
    lower_half, upper_half = (total + 1) // 2, total // 2 + 1
    running = np.empty((n, draws), dtype=np.uint16)  # up to 2 x 2,556 answers: no overflow
    running[0] = weights[order[0]]
    stop = n
    for row in range(1, n):
        np.add(running[row - 1], weights[order[row]], out=running[row])
        if row >= n // 2 and row % 8 == 0 and (running[row] >= upper_half).all():
            stop = row + 1
            break
    first, last = 0, stop - 1  # bisection for the first row in which any draw passes its middle
    while first < last:
        middle = (first + last) // 2
        if (running[middle] >= lower_half).any():
            last = middle
        else:
            first = middle + 1
    band = running[first:stop]
    counter = np.uint8 if len(band) < 256 else np.uint16
    rows = [
        first + (band < half).view(np.uint8).sum(axis=0, dtype=counter).astype(np.intp)
        for half in (lower_half, upper_half)
    ]
    lower, upper = (values[np.minimum(row, n - 1)] for row in rows)
    return np.where(total > 0, (lower + upper) / 2, np.nan)


def _sums_and_counts(scores: Array, clusters: NDArray[np.intp], n_clusters: int) -> Array:
    table = scores[:, None] if scores.ndim == 1 else scores
    scored = np.isfinite(table)
    return np.concatenate(
        [
            cluster_sums(np.where(scored, table, 0.0), clusters, n_clusters),
            cluster_sums(scored.astype(float), clusters, n_clusters),
        ],
        axis=1,
    )


def _row_mean(scores: Array) -> Array:
    scored = np.isfinite(scores)
    return divide(np.where(scored, scores, 0.0).sum(axis=1), scored.sum(axis=1).astype(float))
