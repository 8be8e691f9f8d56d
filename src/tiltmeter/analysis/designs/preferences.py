"""One decision per item, a share of them the score: CrowS-Pairs and every benchmark of preferred twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiltmeter.analysis.designs.grouping import Grouping, group_table, hidden_change, item_counts, paired_only
from tiltmeter.analysis.slope import between
from tiltmeter.analysis.statistics import mean_statistic
from tiltmeter.analysis.types import Array, Comparison, Measure

FEWEST = 30  # paired items; fewer give no verdict


def preferences(
    of: Measure,
    base: Array,
    variant: Array,
    groupings: Sequence[Grouping] = (),
    *,
    margin: float,
    ratios: tuple[Array, Array] | None = None,
    **more: Any,
) -> Comparison:
    """Independent items, 1.0 where the one that counts as biased is preferred; (items,), NaN unscored.

    Score: the share of such items, in percent where that is the benchmark's unit. Its interval and p are exact or score
    limits of paired decisions, which hold when few of them turned. ratios: (base, variant) log-ratios behind the
    decisions, where the benchmark has them: their slope says whether decisions became fainter.
    """
    counts = item_counts(base, variant)
    scale = 100.0 if of.unit == "percent" else 1.0
    hidden = tuple(scale * x for x in hidden_change(base, variant, 0.0, 1.0))
    b, v = paired_only(base, variant)
    n = len(b)
    each = np.arange(n)
    scored = np.isfinite(b)
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=margin,
        n_clusters=n,
        statistic=mean_statistic(b, v, each, n, scale=scale),
        **counts,
        interval="score",
        groups=tuple(group_table(g, b, v, each, n, scale=scale) for g in groupings),
        decisions=(b[scored] > 0.5, v[scored] > 0.5),
        minimum_paired=FEWEST,
        accuracy_like=True,
        one_flip=scale / max(counts["n_paired"], 1),
        slope=between(*ratios) if ratios is not None else None,
        ratios=ratios,
        hidden=(hidden[0], hidden[1]),
        **more,
    )
