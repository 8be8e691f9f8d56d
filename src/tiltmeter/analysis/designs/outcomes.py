"""Outcomes of any kind: one number per item, in clusters, with groups. For who has arrays and no benchmark.

The score is the mean of the outcomes. What the verdict rests on is said by whoever calls: the distance of that mean
from an ideal, the gaps between groups, or both (a fall of everybody's rate is no change of whom a model favours).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tiltmeter.analysis.designs.grouping import (
    Codes,
    Grouping,
    group_table,
    hidden_change,
    item_counts,
    item_mean,
    paired_only,
    vanished,
)
from tiltmeter.analysis.statistics import cluster_sums, divide, mean_statistic
from tiltmeter.analysis.types import (
    FEWEST_CLUSTERS,
    NAN,
    Array,
    Comparison,
    FlipTable,
    Measure,
    RestsOn,
    Spread,
    Unanswered,
)
from tiltmeter.messages import named, say

FEWEST = 30  # paired items; fewer give no verdict
FEWEST_OF_GROUPS = 30  # clusters, where each lies in one group only


def outcomes(
    of: Measure,
    base: Array,
    variant: Array,
    clusters: Codes,
    groupings: Sequence[Grouping] = (),
    *,
    margin: float = NAN,
    gap_margin: float = NAN,
    span: tuple[float, float] = (0.0, 1.0),
    ids: Sequence[str] = (),
) -> Comparison:
    """base, variant (items,) or (items, samples), NaN unscored; clusters (items,): codes from 0.

    margin: of the mean; NaN: no verdict rests on it. gap_margin: of the gaps between the groups of every attribute,
    likewise. span: lowest and highest outcome an item can have, for what vanished and for what is too rare to be seen.

    Single decisions (each item its own cluster, outcomes at the ends of the span) have score limits and an exact test;
    all else is resampled by cluster. Items that neither all agree nor differ by cluster alone make groups `crossed`
    (compared within clusters) where clusters hold several of them, else `nested` (compared between clusters).
    """
    low, high = span
    width = high - low
    scale = 100.0 if of.unit == "percent" else 1.0
    means = item_mean(base), item_mean(variant)
    counts = item_counts(base, variant)
    b, v = paired_only(base, variant)
    mb, mv = item_mean(b), item_mean(v)
    scored = np.isfinite(mb + mv)
    n = int(clusters.max()) + 1 if len(clusters) else 0
    single = base.ndim == 1 and len(np.unique(clusters)) == len(clusters)
    ends = bool(np.isin(np.concatenate([mb[scored], mv[scored]]), span).all())
    decided = (mb[scored] > (low + high) / 2, mv[scored] > (low + high) / 2)
    exact = single and ends and span == (0.0, 1.0)
    hidden = [scale * x for x in hidden_change(base, variant, low, high)]
    usable = len(np.unique(clusters[scored]))
    asked, lost = (_per_item(x) for x in (np.isfinite(base), vanished(base, variant)))
    spreads = tuple(_gap(g, b, v, clusters, n, gap_margin, width, of.unit, (asked, lost)) for g in groupings)
    mean_counts, gaps_count = bool(np.isfinite(margin)), bool(np.isfinite(gap_margin))
    rests_on: RestsOn = "both" if mean_counts and gaps_count else "score" if mean_counts else "spread"
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=margin,
        n_clusters=n,
        statistic=mean_statistic(b, v, clusters, n, scale=scale),
        **counts,
        interval="score" if exact else "percentile",
        decisions=decided if exact else None,
        rests_on=rests_on,
        spreads=spreads if gaps_count else (),
        groups=tuple(group_table(g, b, v, clusters, n, scale=scale) for g in groupings),
        minimum_paired=FEWEST,
        fewest_clusters=FEWEST_CLUSTERS,
        n_usable=usable,
        ideal_at=_place(of.ideal, scale * low, scale * high),
        one_flip=scale * width / max(counts["n_paired"], 1) if ends else 0.0,
        rare=0.0 if ends else 3 * scale * width / max(usable, 1),
        hidden=(hidden[0], hidden[1]),
        flips=_flips(mb, mv, scored, ids, of.ideal, span, scale) if ends and base.ndim == 1 else None,
        unanswered=_unanswered(means, clusters, groupings, span, scale),
    )


def _place(ideal: float, low: float, high: float) -> Literal["low end", "inside", "high end"]:
    return "low end" if ideal <= low else "high end" if ideal >= high else "inside"


def _gap(
    grouping: Grouping,
    base: Array,
    variant: Array,
    clusters: Codes,
    n: int,
    margin: float,
    width: float,
    unit: str,
    answers: tuple[Array, Array],
) -> Spread:
    """Means of cluster and group (clusters, groups), NaN where a cluster does not hold the group. answers (items,): how
    many the base gave, and how many of them vanished."""
    k = len(grouping.names)
    held = grouping.codes >= 0
    place = clusters[held] * k + grouping.codes[held]
    tables, sizes = [], np.zeros((n, k))
    for x in (base, variant):
        item = item_mean(x)[held]
        scored = np.isfinite(item)
        sums = cluster_sums(np.stack([np.where(scored, item, 0.0), scored], axis=1), place, n * k)
        tables.append(divide(sums[:, 0], sums[:, 1]).reshape(n, k))
        sizes = sums[:, 1].reshape(n, k)
    several = np.isfinite(tables[0]).sum(axis=1) > 1
    shared = bool(several.any())
    kept = several if shared else np.isfinite(tables[0]).any(axis=1)
    rows = [t[kept] for t in tables]
    if shared:
        rows = [t - np.nanmean(t, axis=1, keepdims=True) for t in rows]
        weights = np.full(k, 1 / k)
    else:
        size = np.isfinite(rows[0]).sum(axis=0)
        weights = size / max(size.sum(), 1)
    asked, lost = (np.bincount(grouping.codes[held], x[held], minlength=k).astype(np.float64) for x in answers)
    share = divide(lost, asked)
    silent = (asked > 0) & ~np.isfinite(rows[0]).any(axis=0)  # a group that nobody answers for any more
    return Spread(
        say("spread.of", attribute=named("attribute", grouping.attribute)),
        "share" if unit in ("percent", "fraction", "share") else unit,
        rows[0],
        rows[1],
        weights,
        margin,
        layout="crossed" if shared else "nested",
        attribute=grouping.attribute,
        groups=grouping.names,
        counts=sizes[kept] if shared else None,
        hidden=float("inf") if silent.any() else float(np.sqrt(np.nansum(weights * (width * share) ** 2))),
        fewest_clusters=FEWEST_CLUSTERS if shared else FEWEST_OF_GROUPS,
    )


def _per_item(found: NDArray[np.bool_]) -> Array:
    """How many of an item's samples, (items,)."""
    counts: Array = found.reshape(len(found), -1).sum(axis=1).astype(float)
    return counts


def _flips(
    base: Array,
    variant: Array,
    scored: NDArray[np.bool_],
    ids: Sequence[str],
    ideal: float,
    span: tuple[float, float],
    scale: float,
) -> FlipTable:
    places = np.flatnonzero(scored)
    moved = np.sign(variant[places] - base[places])
    toward = -moved if ideal >= scale * span[1] else moved  # away from the ideal; up, where it lies inside
    return FlipTable(
        ids=tuple(ids[int(i)] if ids else str(i) for i in places),
        base=tuple(f"{x:g}" for x in base[places]),
        variant=tuple(f"{x:g}" for x in variant[places]),
        toward=toward.astype(np.int8),
        uncertainty=np.full(len(places), NAN),
        shift=variant[places] - base[places],
        n_unscored=len(base) - len(places),
    )


def _unanswered(
    means: tuple[Array, Array], clusters: Codes, groupings: Sequence[Grouping], span: tuple[float, float], scale: float
) -> Unanswered | None:
    """Who is answered, where any item of either model has no outcome."""
    silent = [~np.isfinite(x) for x in means]
    if not (silent[0].any() or silent[1].any()):
        return None
    bounds = [[scale * float(np.where(gone, end, x).mean()) for end in span] for gone, x in zip(silent, means)]
    constant = [
        (g.attribute, g.codes, g.names)
        for g in groupings
        if len({(int(c), int(k)) for c, k in zip(clusters, g.codes)}) == len(np.unique(clusters))
        and len({int(k) for k in g.codes if k >= 0}) > 1
    ]
    return Unanswered(
        silent[0].astype(float),
        silent[1].astype(float),
        clusters,
        (bounds[0][0], bounds[0][1]),
        (bounds[1][0], bounds[1][1]),
        tuple(constant),
    )
