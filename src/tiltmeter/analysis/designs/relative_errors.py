"""An error per fact about a country, countries lying in regions and income groups: WorldBench."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiltmeter.analysis.designs.grouping import (
    Codes,
    Grouping,
    crossed,
    group_table,
    hidden_change,
    item_counts,
    item_mean,
    paired_only,
    vanished,
)
from tiltmeter.analysis.statistics import cluster_sums, divide, mean_statistic
from tiltmeter.analysis.types import Array, Comparison, Measure, Spread, TwoWay
from tiltmeter.messages import named, say

FEWEST, FEWEST_COUNTRIES = 150, 30  # paired items and countries; below, no verdict


def relative_errors(
    of: Measure,
    base: Array,
    variant: Array,
    country: Codes,
    groupings: Sequence[Grouping],
    *,
    margin: float,
    statistic: Codes | None = None,
    **more: Any,
) -> Comparison:
    """Absolute relative error per item (items,) or (items, samples), a fraction; each item belongs to one country.

    Score: the mean error, with two-way clusters (country and statistic, where the latter is given). Verdict on the
    disparities: spreads of country means between the groups of each attribute, each country counting once, weighted by
    a group's share of the countries. What a statistic has in common over all countries is taken off first, so that a
    country that lacks one is not judged by it. An error that vanished could have been 0 or 1.
    """
    counts = item_counts(base, variant)
    errors = item_mean(base), item_mean(variant)
    hidden = hidden_change(base, variant, 0.0, 1.0)
    b, v = paired_only(base, variant)
    n = int(country.max()) + 1 if len(country) else 0
    lost = _lost_share(base, variant, country, n)
    centred = [_less_statistic(x, statistic) for x in paired_only(*errors)]
    spreads = tuple(_disparity(g, centred[0], centred[1], country, n, lost, margin) for g in groupings)
    shown = (*groupings, crossed(*groupings)) if len(groupings) == 2 else tuple(groupings)
    two_way = statistic is not None and len(np.unique(statistic[np.isfinite(errors[0] + errors[1])])) > 1
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=margin,
        n_clusters=n,
        statistic=mean_statistic(b, v, country, n),
        **counts,
        interval="two-way" if two_way else "percentile",
        two_way=TwoWay(*paired_only(*errors), country, statistic) if two_way and statistic is not None else None,
        rests_on="spread",
        spreads=spreads,
        groups=tuple(group_table(g, b, v, country, n) for g in shown),
        minimum_paired=FEWEST,
        accuracy_like=True,
        hidden=hidden,
        **more,
    )


def _less_statistic(errors: Array, statistic: Codes | None) -> Array:
    """Errors (items,) less their statistic's mean over all countries, plus the overall mean."""
    scored = np.isfinite(errors)
    if statistic is None or not scored.any():
        return errors
    n = int(statistic.max()) + 1
    sums = cluster_sums(np.stack([np.where(scored, errors, 0.0), scored], axis=1), statistic, n)
    centred: Array = errors - divide(sums[:, 0], sums[:, 1])[statistic] + errors[scored].mean()
    return centred


def _lost_share(base: Array, variant: Array, country: Codes, n: int) -> Array:
    """(countries,): by how much the country's mean could have moved through errors (items,[ samples]) that vanished."""
    worst = np.where(vanished(base, variant), np.maximum(base, 1 - base), 0.0)
    asked = np.isfinite(base)
    per_item = [x if x.ndim == 1 else x.sum(axis=1) for x in (worst, asked.astype(float))]
    sums = cluster_sums(np.stack(per_item, axis=1), country, n)
    return divide(sums[:, 0], sums[:, 1])


def _disparity(
    grouping: Grouping, base: Array, variant: Array, country: Codes, n: int, lost: Array, margin: float
) -> Spread:
    """Country means (countries, groups) for the countries that have a group and a paired item."""
    own = np.full(n, -1)
    own[country] = grouping.codes
    means = []
    for x in (base, variant):
        scored = np.isfinite(x)
        sums = cluster_sums(np.stack([np.where(scored, x, 0.0), scored], axis=1), country, n)
        means.append(divide(sums[:, 0], sums[:, 1]))
    used = (own >= 0) & np.isfinite(means[0])
    held = own[used][:, None] == np.arange(len(grouping.names))
    size = held.sum(axis=0)
    present = size > 0
    tables = [np.where(held, m[used][:, None], np.nan)[:, present] for m in means]
    weights = size[present] / max(size.sum(), 1)
    asked = (own >= 0) & np.isfinite(lost)
    by_group = np.bincount(own[asked], lost[asked], len(grouping.names)) / np.maximum(
        np.bincount(own[asked], minlength=len(grouping.names)), 1
    )
    silent = ~present & (np.bincount(own[asked], minlength=len(grouping.names)) > 0)  # a group nobody answers for
    return Spread(
        say("spread.disparity", attribute=named("attribute", grouping.attribute)),
        "fraction",
        tables[0],
        tables[1],
        weights,
        margin,
        layout="nested",
        attribute=grouping.attribute,
        groups=tuple(name for name, kept in zip(grouping.names, present, strict=True) if kept),
        hidden=float("inf") if silent.any() else float(np.sqrt(np.sum(weights * by_group[present] ** 2))),
        fewest_clusters=FEWEST_COUNTRIES,
    )
