"""One decision per item, a share of them the score: CrowS-Pairs and every benchmark of preferred twins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiltmeter.analysis.designs.grouping import Grouping, group_table, item_counts, paired_only
from tiltmeter.analysis.statistics import mean_statistic
from tiltmeter.analysis.types import Array, Comparison, Measure


def preferences(
    of: Measure, base: Array, variant: Array, groupings: Sequence[Grouping] = (), *, margin: float, **more: Any
) -> Comparison:
    """Independent items, 1.0 where the one that counts as biased is preferred; (items,), NaN unscored."""
    counts = item_counts(base, variant)
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
        statistic=mean_statistic(b, v, each, n, scale=100.0),
        **counts,
        groups=tuple(group_table(g, b, v, each, n, scale=100.0) for g in groupings),
        decisions=(b[scored] > 0.5, v[scored] > 0.5),
        accuracy_like=True,
        one_flip=100.0 / max(counts["n_paired"], 1),
        **more,
    )
