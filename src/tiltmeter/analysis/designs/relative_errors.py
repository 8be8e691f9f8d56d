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
    item_counts,
    item_mean,
    paired_only,
)
from tiltmeter.analysis.statistics import cluster_sums, divide, mean_statistic
from tiltmeter.analysis.types import Array, Comparison, Measure, Spread
from tiltmeter.messages import named, say


def relative_errors(
    of: Measure,
    base: Array,
    variant: Array,
    country: Codes,
    groupings: Sequence[Grouping],
    *,
    margin: float,
    **more: Any,
) -> Comparison:
    """Absolute relative error per item (items,) or (items, samples), clustered by country.

    Verdict on the mean error. The disparities between regions and income groups are spreads of country means, each
    country counting once, weighted by a group's share of the countries.
    """
    counts = item_counts(base, variant)
    b, v = paired_only(base, variant)
    n = int(country.max()) + 1 if len(country) else 0
    spreads = tuple(_disparity(g, item_mean(b), item_mean(v), country, n) for g in groupings)
    shown = (*groupings, crossed(*groupings)) if len(groupings) == 2 else tuple(groupings)
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=margin,
        n_clusters=n,
        statistic=mean_statistic(b, v, country, n),
        **counts,
        spreads=spreads,
        groups=tuple(group_table(g, b, v, country, n) for g in shown),
        accuracy_like=True,
        **more,
    )


def _disparity(grouping: Grouping, base: Array, variant: Array, country: Codes, n: int) -> Spread:
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
    return Spread(
        say("spread.disparity", attribute=named("attribute", grouping.attribute)),
        "fraction",
        tables[0],
        tables[1],
        size[present] / max(size.sum(), 1),
        float("nan"),
        layout="nested",
    )
