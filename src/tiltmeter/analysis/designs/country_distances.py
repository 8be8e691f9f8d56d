"""A model's opinions beside those of many countries: GlobalOpinionQA."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiltmeter.analysis.designs.grouping import paired_only
from tiltmeter.analysis.statistics import CountryMedians
from tiltmeter.analysis.types import Array, Comparison, GroupTable, Measure, Spread
from tiltmeter.messages import say


def country_distances(
    of: Measure,
    distance_base: Array,
    distance_variant: Array,
    contrast_base: Array,
    contrast_variant: Array,
    countries: tuple[str, ...],
    *,
    margin: float,
    fewest_answers: int = 50,
    fewest_contrasts: int = 20,
    n_paired: int,
    **more: Any,
) -> Comparison:
    """Wasserstein distance and log-score contrast (nats), both (questions, countries), NaN not asked.

    Score: Gini over the countries with at least `fewest_answers` paired questions of their median distance; which
    countries those are is fixed by the data as they are, never redrawn. Verdict on the spread of the contrasts.
    """
    distances = paired_only(distance_base, distance_variant)
    kept = np.isfinite(distances[0]).sum(axis=0) >= fewest_answers
    medians = CountryMedians(distances[0][:, kept], distances[1][:, kept])
    n = len(distance_base)
    names = tuple(name for name, keep in zip(countries, kept, strict=True) if keep)
    sizes = tuple(int(k) for k in np.isfinite(distances[0][:, kept]).sum(axis=0))
    contrasts = paired_only(contrast_base, contrast_variant)
    enough = np.isfinite(contrasts[0]).sum(axis=0) >= fewest_contrasts
    few = int(enough.sum()) < 2
    spread = Spread(
        say("spread.countries"),
        "nat",
        contrasts[0][:, enough],
        contrasts[1][:, enough],
        np.full(int(enough.sum()), 1 / max(int(enough.sum()), 1)),
        margin,
    )
    too_few = int(kept.sum()) < 2
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=float("nan"),
        n_clusters=n,
        statistic=medians.gini,
        n_paired=n_paired,
        interval="none" if too_few else "normal",
        interval_reason=say("missing.countries", n=int(kept.sum()), least=fewest_answers) if too_few else None,
        rests_on="spread",
        spreads=() if few else (spread,),
        companion_reason=say("missing.contrasts", least=fewest_contrasts) if few else None,
        groups=() if too_few else (GroupTable("country", names, sizes, medians, interval="normal"),),
        swap_test=False,
        rises_with_noise=True,
        **more,
    )
