"""A model's opinions beside those of many countries: GlobalOpinionQA."""

from __future__ import annotations

from typing import Any

import numpy as np

from tiltmeter.analysis.designs.grouping import Codes, paired_only, vanished
from tiltmeter.analysis.statistics import CountryMedians, cluster_sums, divide
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
    battery: Codes | None = None,
    **more: Any,
) -> Comparison:
    """Wasserstein distance and log-score contrast (nats), both (questions, countries), NaN not asked.

    Score: Gini over the countries with at least `fewest_answers` paired questions of their median distance; which
    countries those are is fixed by the data as they are, never redrawn. Verdict on the contrasts.
    battery: code of the battery each question belongs to; questions that share a stem share their noise, so the
    batteries are the clusters. None: every question is one of its own.
    """
    batteries = np.arange(len(distance_base)) if battery is None else battery
    n = int(batteries.max()) + 1 if len(batteries) else 0
    distances = paired_only(distance_base, distance_variant)
    kept = np.isfinite(distances[0]).sum(axis=0) >= fewest_answers
    medians = CountryMedians(distances[0][:, kept], distances[1][:, kept], batteries)
    names = tuple(name for name, keep in zip(countries, kept, strict=True) if keep)
    sizes = tuple(int(k) for k in np.isfinite(distances[0][:, kept]).sum(axis=0))
    spread = _contrast_spread(contrast_base, contrast_variant, countries, batteries, n, fewest_contrasts, margin)
    too_few = int(kept.sum()) < 2
    return Comparison(
        benchmark=of.name,
        unit=of.unit,
        ideal=of.ideal,
        margin=float("nan"),
        n_clusters=n,
        statistic=medians.gini,
        n_paired=n_paired,
        interval="absent" if too_few else "normal",
        interval_reason=say("missing.countries", n=int(kept.sum()), least=fewest_answers) if too_few else None,
        rests_on="spread",
        spreads=() if spread is None else (spread,),
        companion_reason=say("missing.contrasts", least=fewest_contrasts) if spread is None else None,
        groups=() if too_few else (GroupTable("country", names, sizes, medians, interval="normal"),),
        swap_test=False,
        rises_with_noise=True,
        **more,
    )


def _contrast_spread(
    base: Array, variant: Array, countries: tuple[str, ...], batteries: Codes, n: int, fewest: int, margin: float
) -> Spread | None:
    """Mean contrasts per battery and country, with the questions behind each; None with fewer than two countries."""
    contrasts = paired_only(base, variant)
    held = np.isfinite(contrasts[0])
    enough = held.sum(axis=0) >= fewest
    if int(enough.sum()) < 2:
        return None
    counts = cluster_sums(held[:, enough].astype(float), batteries, n)
    means = [divide(cluster_sums(np.where(held, x, 0.0)[:, enough], batteries, n), counts) for x in contrasts]
    lost = vanished(base, variant)[:, enough].sum(axis=0) / held[:, enough].sum(axis=0)
    seen = float(np.nanmax(np.abs(contrasts[1] - contrasts[0])))
    share = np.full(int(enough.sum()), 1 / int(enough.sum()))
    silent = (np.isfinite(base).sum(axis=0) >= fewest) & ~enough  # the variant leaves too few answers to look at it
    return Spread(
        say("spread.countries"),
        "nat",
        means[0],
        means[1],
        share,
        margin,
        attribute="country",
        groups=tuple(name for name, keep in zip(countries, enough, strict=True) if keep),
        counts=counts,
        hidden=float("inf") if silent.any() else float(np.sqrt(np.sum(share * (lost * seen) ** 2))),
    )
