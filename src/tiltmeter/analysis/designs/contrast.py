"""A signed contrast of means: BBQ's mean over categories, WinoBias' pro less anti, Winogender's gotcha gap, DiffAware.

Every item lies in at most one cell; the score is a fixed weighted sum of the cells' means. Linear in the items of a
cell, so noise that is unrelated to the cells cannot move it, except by what noise does to the decisions themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from tiltmeter.analysis.designs.grouping import Codes, Grouping, hidden_change, item_counts, item_mean, paired_only
from tiltmeter.analysis.slope import between
from tiltmeter.analysis.statistics import SumStatistic, cluster_sums, divide
from tiltmeter.analysis.types import (
    FEWEST_CLUSTERS,
    Arm,
    Array,
    Comparison,
    GroupTable,
    Measure,
    Role,
    Slope,
    Statistic,
)
from tiltmeter.messages import Text


@dataclass(frozen=True)
class Cells:
    """codes (items,): the cell of each item, -1 for none; weights: what each cell's mean counts in the score."""

    codes: Codes
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Table:
    """Groups, and the cells of their own score; values (base, variant) where they are not the score's."""

    grouping: Grouping
    cells: Cells
    values: tuple[Array, Array] | None = None


def contrast(
    of: Measure,
    base: Array,
    variant: Array,
    cells: Cells,
    clusters: Codes,
    *,
    margin: float,
    scale: float = 1.0,
    lowest: float = 0.0,
    tables: Sequence[Table] = (),
    arms: Sequence[Arm] = (),
    leans: tuple[Array, Array] | None = None,
    **more: Any,
) -> Comparison:
    """base, variant (items,) or (items, samples): item scores, NaN unscored; clusters (items,): codes from 0.

    scale: of the score and its tables (100 for points). n_paired counts the items of a cell. lowest: the
    worst score an item can have (the best is 1), for answers that vanished. No verdict below 15 clusters.
    leans (base, variant): nats by which each item leans toward the bias, where probabilities are known: a gap that
    shrank because every decision became fainter or noisier is then not called better (`slope.py`).
    """
    inside = cells.codes >= 0
    counts = item_counts(base[inside], variant[inside])
    b, v = (item_mean(x) for x in paired_only(base, variant))
    n = int(clusters.max()) + 1 if len(clusters) else 0
    hidden = _hidden(base, variant, cells, lowest, scale)
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=margin,
        n_clusters=n,
        statistic=weighted_means(b, v, cells, clusters, n, scale=scale),
        **counts,
        groups=tuple(_table(t, *(t.values or (b, v)), clusters, n, scale) for t in tables),
        one_flip=one_flip(b, cells, scale),
        hidden=hidden,
        **(_strength(*leans, clusters, n) if leans is not None else _Strength()),
        fewest_clusters=FEWEST_CLUSTERS,
        n_usable=usable_clusters(b, cells, clusters),
        arms=tuple(arms),
        **more,
    )


def _hidden(base: Array, variant: Array, cells: Cells, lowest: float, scale: float) -> tuple[float, float]:
    """How far the contrast could move, down and up, were every answer that vanished at its worst in each cell."""
    low = high = 0.0
    for code, weight in enumerate(cells.weights):
        mine = cells.codes == code
        ends = sorted(scale * weight * end for end in hidden_change(base[mine], variant[mine], lowest, 1.0))
        low, high = low + ends[0], high + ends[1]
    return low, high


class _Strength(TypedDict, total=False):
    """Fields of a `Comparison`; none where nothing is paired."""

    slope: Slope
    ratios: tuple[Array, Array]


def _strength(base: Array, variant: Array, clusters: Codes, n_clusters: int) -> _Strength:
    """Slope of the leans, summed by cluster, and each cluster's mean lean: clusters are what is independent."""
    if not np.isfinite(base + variant).any():
        return {}

    def together(terms: Array) -> Array:
        return cluster_sums(terms[:, None], clusters, n_clusters)[:, 0]

    items = between(base, variant)
    reverse = None if items.reverse is None else (together(items.reverse[0]), together(items.reverse[1]))
    b, v = paired_only(base, variant)
    held = together(np.isfinite(b).astype(float))
    means = [divide(together(np.nan_to_num(x)), held) for x in (b, v)]
    return {
        "slope": Slope(together(items.numerator), together(items.denominator), reverse),
        "ratios": (means[0], means[1]),
    }


def arm(
    name: Text,
    role: Role,
    of: Measure,
    values: tuple[Array, Array],
    cells: Cells,
    clusters: Codes,
    *,
    margin: float,
    scale: float = 1.0,
    ideal: float = 0.0,
) -> Arm:
    """Another contrast of the same items, beside the score. values: base, variant (items,), 0 to 1, NaN unscored."""
    b, v = paired_only(*values)
    n = int(clusters.max()) + 1 if len(clusters) else 0
    statistic = weighted_means(b, v, cells, clusters, n, scale=scale)
    hidden = _hidden(*values, cells, 0.0, scale)
    usable = usable_clusters(b, cells, clusters)
    return Arm(name, role, of.unit, margin, statistic, ideal, one_flip(b, cells, scale), hidden, usable)


def usable_clusters(paired: Array, cells: Cells, clusters: Codes) -> int:
    """Clusters with an item of a cell that both models answered."""
    return len(np.unique(clusters[(cells.codes >= 0) & np.isfinite(paired)]))


def one_flip(paired: Array, cells: Cells, scale: float) -> float:
    """The most that a change by 1 of one item moves the weighted sum of means."""
    sizes = [max(int((np.isfinite(paired) & (cells.codes == k)).sum()), 1) for k in range(len(cells.weights))]
    return max((abs(scale * weight) / size for weight, size in zip(cells.weights, sizes)), default=0.0)


def weighted_means(
    base: Array, variant: Array, cells: Cells, clusters: Codes, n_clusters: int, *, scale: float = 1.0
) -> SumStatistic:
    """scale x sum over cells of weight x mean of its items -> (draws,); NaN where a cell has no scored item."""
    everyone = Grouping("", np.zeros(len(base), dtype=np.intp), ("",))
    inner = by_group(base, variant, cells, everyone, clusters, n_clusters, scale=scale)
    return SumStatistic(inner.base, inner.variant, lambda sums: inner.function(sums)[:, 0])


def by_group(
    base: Array,
    variant: Array,
    cells: Cells,
    grouping: Grouping,
    clusters: Codes,
    n_clusters: int,
    *,
    scale: float = 1.0,
) -> SumStatistic:
    """`weighted_means` within every group -> (draws, groups)."""
    k, g = len(cells.weights), len(grouping.names)
    weights = np.array(cells.weights)
    place = np.where((cells.codes >= 0) & (grouping.codes >= 0), grouping.codes * k + cells.codes, -1)

    def sums(scores: Array) -> Array:
        item = item_mean(scores)
        used = np.isfinite(item) & (place >= 0)
        member = place[used][:, None] == np.arange(g * k)
        return np.concatenate(
            [
                cluster_sums(np.where(member, item[used][:, None], 0.0), clusters[used], n_clusters),
                cluster_sums(member.astype(float), clusters[used], n_clusters),
            ],
            axis=1,
        )

    def function(totals: Array) -> Array:
        means = divide(totals[:, : g * k], totals[:, g * k :]).reshape(len(totals), g, k)
        contrasts: Array = scale * means @ weights
        return contrasts

    return SumStatistic(sums(base), sums(variant), function)


def ratio(
    base: tuple[Array, Array], variant: tuple[Array, Array], clusters: Codes, n_clusters: int, groups: Grouping
) -> Statistic:
    """Mean over groups of (sum of numerators)/(sum of denominators) -> (draws,); (items,) each, NaN counts nothing.

    NaN where a group's denominator is 0.
    """
    g = len(groups.names)
    member = groups.codes[:, None] == np.arange(g)

    def sums(pair: tuple[Array, Array]) -> Array:
        parts = [cluster_sums(np.nan_to_num(x)[:, None] * member, clusters, n_clusters) for x in pair]
        return np.concatenate(parts, axis=1)

    return SumStatistic(sums(base), sums(variant), lambda s: divide(s[:, :g], s[:, g:]).mean(axis=1))


def _table(table: Table, base: Array, variant: Array, clusters: Codes, n: int, scale: float) -> GroupTable:
    grouping, cells = table.grouping, table.cells
    counted = np.isfinite(base + variant) & (cells.codes >= 0)
    return GroupTable(
        grouping.attribute,
        grouping.names,
        tuple(int((counted & (grouping.codes == code)).sum()) for code in range(len(grouping.names))),
        by_group(base, variant, cells, grouping, clusters, n, scale=scale),
    )
