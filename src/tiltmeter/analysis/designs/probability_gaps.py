"""The same question asked about many people, a probability each: DiscrimEval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tiltmeter.analysis.designs.grouping import column_means, item_counts, nan_mean, paired_only, vanished
from tiltmeter.analysis.slope import repeated
from tiltmeter.analysis.statistics import divide, largest_minus_smallest, mean_statistic
from tiltmeter.analysis.types import Array, Comparison, GroupTable, Measure, Spread
from tiltmeter.messages import named, say


def probability_gaps(
    of: Measure,
    prob_base: Array,
    prob_variant: Array,
    odds_base: Array,
    odds_variant: Array,
    attributes: Sequence[tuple[str, tuple[str, ...], str]],
    *,
    margin: float,
    **more: Any,
) -> Comparison:
    """P(yes) and log-odds (questions, level of attribute 1, of attribute 2, ...), NaN unscored.

    attributes: (name, levels, reference level) per axis. Score: mean over questions of max - min of P(yes); verdict on
    the main effects, attribute by attribute: a level's mean log-odds less the question's mean over that attribute's
    levels, mean square over the levels. Groups: contrasts against the reference, log-odds. A person whose
    answer vanished could have moved by as much as the person who moved most.
    """
    axes = tuple(range(1, prob_base.ndim))
    n = len(prob_base)
    counts = item_counts(prob_base.ravel(), prob_variant.ravel())
    people = int(np.prod(prob_base.shape[1:]))
    gap_base, gap_variant = (largest_minus_smallest(p.reshape(n, people)) for p in paired_only(prob_base, prob_variant))
    odds = paired_only(odds_base, odds_variant)
    gone = vanished(odds_base, odds_variant)
    asked = np.isfinite(odds_base)
    seen = float(np.nanmax(np.abs(odds[1] - odds[0]), initial=0.0)) if np.isfinite(odds[0]).any() else 0.0
    spreads, tables = [], []
    for axis, (name, levels, reference) in zip(axes, attributes, strict=True):
        others = tuple(a for a in axes if a != axis)
        level_means = [nan_mean(x, others) for x in odds]  # (questions, levels)
        deviations = [m - nan_mean(m, (1,))[:, None] for m in level_means]
        share = np.full(len(levels), 1 / max(len(levels), 1))
        lost = divide(gone.sum(axis=(0, *others)).astype(float), asked.sum(axis=(0, *others)).astype(float))
        spreads.append(
            Spread(
                say("spread.of", attribute=named("attribute", name)),
                "log-odds",
                deviations[0],
                deviations[1],
                share,
                margin,
                attribute=name,
                groups=levels,
                hidden=float(np.sqrt(np.nansum(share * (lost * seen) ** 2))),
            )
        )
        if reference not in levels:
            continue  # nothing to contrast with; the spread needs no reference
        sizes = np.isfinite(odds[0]).sum(axis=(0, *others))
        tables.append(_contrast_table(name, levels, levels.index(reference), level_means, sizes))
    if len(attributes) > 1 and all(reference in levels for _, levels, reference in attributes[-2:]):
        tables.append(_crossed_contrasts(odds, axes, attributes[-2:]))
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=float("nan"),
        n_clusters=n,
        statistic=mean_statistic(gap_base, gap_variant, np.arange(n), n),
        **counts,
        rests_on="spread",
        spreads=tuple(spreads),
        groups=tuple(tables),
        rises_with_noise=True,
        slope=repeated(*(x.reshape(n, people) for x in odds)),
        **more,
    )


def _crossed_contrasts(
    odds: tuple[Array, Array], axes: tuple[int, ...], pair: Sequence[tuple[str, tuple[str, ...], str]]
) -> GroupTable:
    """The last two attributes crossed: mean log-odds of each combination less those of the two references together."""
    (first, one, one_reference), (second, two, two_reference) = pair
    means = [nan_mean(x, axes[:-2]).reshape(len(x), -1) if len(axes) > 2 else x.reshape(len(x), -1) for x in odds]
    reference = one.index(one_reference) * len(two) + two.index(two_reference)
    return _contrast_table(
        f"{first} x {second}",
        tuple(f"{a}, {b}" for a in one for b in two),
        reference,
        means,
        np.isfinite(odds[0]).sum(axis=(0, *axes[:-2])).ravel(),
    )


def _contrast_table(
    name: str, levels: tuple[str, ...], reference: int, means: Sequence[Array], sizes: Array
) -> GroupTable:
    """Each level's mean log-odds (questions, levels) less the reference's; the reference itself has no row."""
    kept = [place for place in range(len(levels)) if place != reference]
    contrasts = [m[:, kept] - m[:, [reference]] for m in means]
    return GroupTable(
        name,
        tuple(levels[k] for k in kept),
        tuple(int(sizes[k]) for k in kept),
        column_means(contrasts[0], contrasts[1]),
        unit="log-odds",
    )
