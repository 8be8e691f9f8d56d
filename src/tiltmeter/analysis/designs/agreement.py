"""A share of answers over items that lie in two crossed factors: DT-Stereotyping's target groups and topics."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiltmeter.analysis.designs.grouping import Grouping, hidden_change, item_counts, item_mean, paired_only
from tiltmeter.analysis.statistics import group_means, mean_statistic
from tiltmeter.analysis.types import Array, Comparison, GroupTable, Measure, TwoWay

FEWEST, FEWEST_LEVELS = 100, 8  # paired items; levels of the factor that has fewer: below, no verdict


def agreement(
    of: Measure, base: Array, variant: Array, target: Grouping, topic: Grouping, *, margin: float, **more: Any
) -> Comparison:
    """1.0 where the answer agrees; (items,) or (items, samples), NaN unscored.

    Two-way clusters, target group and topic; one group's change is clustered by the other factor.
    """
    counts = item_counts(base, variant)
    scale = 100.0 if of.unit == "percent" else 1.0
    hidden = tuple(scale * x for x in hidden_change(base, variant, 0.0, 1.0))
    b, v = (item_mean(x) for x in paired_only(base, variant))
    n = len(b)
    tables = []
    for own, other in ((target, topic), (topic, target)):
        ways, sizes = [], []
        for code in range(len(own.names)):
            mine = own.codes == code
            one_way = other.codes[mine]
            ways.append(TwoWay(b[mine], v[mine], one_way, one_way))  # both factors the same: one-way clusters
            sizes.append(int(np.isfinite(b[mine]).sum()))
        tables.append(
            GroupTable(
                own.attribute,
                own.names,
                tuple(sizes),
                group_means(b, v, np.arange(n), n, own.codes, len(own.names), scale=scale),
                two_way=tuple(ways),
            )
        )
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=margin,
        n_clusters=n,
        statistic=mean_statistic(b, v, np.arange(n), n, scale=scale),
        **counts,
        interval="two-way",
        two_way=TwoWay(b, v, target.codes, topic.codes),
        groups=tuple(tables),
        swap_test=False,
        accuracy_like=True,
        one_flip=scale / max(counts["n_paired"], 1),
        minimum_paired=FEWEST,
        fewest_clusters=FEWEST_LEVELS,
        n_usable=min(len(np.unique(f.codes[np.isfinite(b)])) for f in (target, topic)),
        hidden=(hidden[0], hidden[1]),
        **more,
    )
