"""A share of answers over items that lie in two crossed factors: DT-Stereotyping's target groups and topics."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiltmeter.analysis.designs.grouping import Grouping, item_counts, item_mean, paired_only
from tiltmeter.analysis.statistics import group_means, mean_statistic
from tiltmeter.analysis.types import Array, Comparison, GroupTable, Measure, TwoWay


def agreement(
    of: Measure, base: Array, variant: Array, target: Grouping, topic: Grouping, *, margin: float, **more: Any
) -> Comparison:
    """1.0 where the answer agrees; (items,) or (items, samples), NaN unscored.

    Two-way clusters, target group and topic; one group's change is clustered by the other factor.
    """
    counts = item_counts(base, variant)
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
                group_means(b, v, np.arange(n), n, own.codes, len(own.names), scale=100.0),
                two_way=tuple(ways),
            )
        )
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=margin,
        n_clusters=n,
        statistic=mean_statistic(b, v, np.arange(n), n, scale=100.0),
        **counts,
        interval="two-way",
        two_way=TwoWay(b, v, target.codes, topic.codes),
        groups=tuple(tables),
        swap_test=False,
        accuracy_like=True,
        one_flip=100.0 / max(counts["n_paired"], 1),
        **more,
    )
